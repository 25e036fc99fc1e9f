//! The locations of a server, and the conditions by which the first rule that fits is that of the
//! location nginx would choose (ngx_http_core_find_location of src/http/ngx_http_core_module.c):
//! the exact one; else the longest prefix, if it is `^~`; else the first expression; else that
//! prefix.

use regex::Regex;

use super::context::{Context, Levels};
use super::pattern::{self, Of};
use super::syntax::Directive;
use crate::import::Weight;
use crate::import::write::When;

/// Which paths a location is for.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// `= /path`
    Exact(String),
    /// `/path`, or `^~ /path`, which keeps expressions away.
    Prefix { path: String, strong: bool },
    /// `~` and `~*`; within a prefix if it stands there.
    Expression { text: String, within: Option<String> },
    /// `@name`: only other directives lead there.
    Named(String),
}

/// A location.
#[derive(Clone, Debug)]
pub(super) struct Location<'t> {
    /// Notes on it have this number.
    pub(super) owner: usize,
    pub(super) directive: Option<&'t Directive>,
    pub(super) way: Way,
    pub(super) levels: Levels<'t>,
}

impl Location<'_> {
    /// What its rules are called.
    pub(super) fn name(&self) -> String {
        let text = match &self.way {
            Way::Exact(path) | Way::Prefix { path, .. } => path,
            Way::Expression { text, .. } => text,
            Way::Named(name) => name,
        };
        let name = super::context::name(text);
        if name.is_empty() { "root".to_owned() } else { name }
    }

    /// Whether files answer in it.
    pub(super) fn is_files(&self) -> bool {
        let own = self.levels.own();
        let other = |directive: &Directive| {
            let name = directive.name.as_str();
            let elsewhere = || directive.arguments.last().is_some_and(|last| last.starts_with('@'));
            name.ends_with("_pass") || name == "return" || name == "try_files" && elsewhere()
        };
        let rooted = self.levels.one("root").is_some() || own.iter().any(|inner| inner.name == "alias");
        rooted && !matches!(self.way, Way::Named(_)) && !own.iter().any(other)
    }

    /// The prefix that `proxy_pass` with a path replaces, or the whole path.
    pub(super) fn prefix(&self) -> Option<&str> {
        match &self.way {
            Way::Exact(path) | Way::Prefix { path, .. } => Some(path),
            Way::Expression { .. } | Way::Named(_) => None,
        }
    }
}

/// All locations of a server.
pub(super) struct Site<'t> {
    pub(super) all: Vec<Location<'t>>,
}

impl<'t> Site<'t> {
    /// The locations in `levels`, which end with a server's block. If none is for all paths, the
    /// server itself is.
    pub(super) fn of(cx: &mut Context<'t>, server: usize, levels: &Levels<'t>) -> Self {
        let mut site = Self { all: Vec::new() };
        site.gather(cx, levels, None);
        let all = |location: &Location<'_>| matches!(&location.way, Way::Prefix { path, .. } if path == "/");
        if !site.all.iter().any(all) {
            site.all.push(Location {
                owner: server,
                directive: None,
                way: Way::Prefix {
                    path: "/".to_owned(),
                    strong: false,
                },
                levels: levels.clone(),
            });
        }
        site
    }

    fn gather(&mut self, cx: &mut Context<'t>, levels: &Levels<'t>, parent: Option<(&str, bool)>) {
        for directive in levels.own().iter().filter(|directive| directive.name == "location") {
            cx.take(directive);
            let way = match way(directive, parent) {
                Ok(way) => way,
                Err(why) => {
                    let weight = if guards(directive) {
                        Weight::Protection
                    } else {
                        Weight::Missing
                    };
                    cx.tell(directive, weight, format!("{why}; its requests go to another location"));
                    cx.cover(directive);
                    continue;
                }
            };
            let same = |other: &Location<'_>| match (&other.way, &way) {
                (Way::Exact(a), Way::Exact(b)) => a == b,
                (Way::Prefix { path: a, .. }, Way::Prefix { path: b, .. }) => a == b,
                _ => false,
            };
            if self.all.iter().any(same) {
                cx.tell(directive, Weight::Missing, "a location of this path is there already");
                cx.cover(directive);
                continue;
            }
            let inner = levels.within(directive.inner());
            self.all.push(Location {
                owner: directive.id,
                directive: Some(directive),
                way: way.clone(),
                levels: inner.clone(),
            });
            match &way {
                Way::Prefix { path, strong } => self.gather(cx, &inner, Some((path, *strong))),
                _ => {
                    for nested in directive.inner().iter().filter(|nested| nested.name == "location") {
                        let weight = if guards(nested) {
                            Weight::Protection
                        } else {
                            Weight::Missing
                        };
                        cx.tell(nested, weight, "a location within one that is not a prefix");
                        cx.cover(nested);
                    }
                }
            }
        }
    }

    /// The locations in the order of their rules, each with its condition. A location whose
    /// condition no rule can say is told of, and left out.
    pub(super) fn ordered(&self, cx: &mut Context<'t>) -> Vec<(&Location<'t>, When)> {
        let mut ordered = Vec::new();
        let paths = |paths: Vec<String>| When {
            paths,
            ..When::default()
        };
        let prefixes: Vec<(&str, bool)> = self.all.iter().filter_map(prefix_of).collect();
        let longer = |path: &str, strong: Option<bool>| -> Vec<&str> {
            let longer = |other: &&(&str, bool)| other.0.len() > path.len() && other.0.starts_with(path);
            let wanted = |other: &&(&str, bool)| strong.is_none_or(|strong| strong == other.1);
            prefixes
                .iter()
                .filter(longer)
                .filter(wanted)
                .map(|other| other.0)
                .collect()
        };
        for location in &self.all {
            if let Way::Exact(path) = &location.way {
                ordered.push((location, paths(vec![format!("={path}")])));
            }
        }
        for location in &self.all {
            let Way::Expression {
                text,
                within: Some(prefix),
            } = &location.way
            else {
                continue;
            };
            match within(text, prefix, &longer(prefix, None)) {
                Some(when) => ordered.push((location, when)),
                None => too_long(cx, location),
            }
        }
        let mut by_length: Vec<&Location<'t>> = self
            .all
            .iter()
            .filter(|location| prefix_of(location).is_some())
            .collect();
        by_length.sort_by_key(|location| std::cmp::Reverse(location.prefix().map_or(0, str::len)));
        for location in &by_length {
            let Some((path, true)) = prefix_of(location) else {
                continue;
            };
            // What a longer prefix without `^~` would get is left to the expressions.
            match pattern::prefix(path, &longer(path, Some(false))) {
                Some(pattern) => ordered.push((*location, paths(vec![pattern]))),
                None => too_long(cx, location),
            }
        }
        for location in &self.all {
            if let Way::Expression { text, within: None } = &location.way {
                ordered.push((location, paths(vec![format!("~{text}")])));
            }
        }
        for location in &by_length {
            match prefix_of(location) {
                Some(("/", false)) => ordered.push((*location, When::default())),
                Some((path, false)) => match pattern::prefix(path, &[]) {
                    Some(pattern) => ordered.push((*location, paths(vec![pattern]))),
                    None => too_long(cx, location),
                },
                _ => {}
            }
        }
        ordered
    }

    /// The location of each path that begins with `head`; `exact`: of that path. `None`: it is not
    /// the same for all of them.
    pub(super) fn find(&self, head: &str, exact: bool) -> Option<&Location<'t>> {
        let begins = |location: &&Location<'_>| {
            let longer = location
                .prefix()
                .is_some_and(|path| path.len() > head.len() && path.starts_with(head));
            longer || matches!(&location.way, Way::Exact(path) if path == head)
        };
        if exact {
            let same = |location: &&Location<'_>| matches!(&location.way, Way::Exact(path) if path == head);
            if let Some(location) = self.all.iter().find(same) {
                return Some(location);
            }
        } else if self.all.iter().any(|location| begins(&location)) {
            return None;
        }
        let fits = |location: &&Location<'_>| prefix_of(location).is_some_and(|(path, _)| head.starts_with(path));
        let longest = self
            .all
            .iter()
            .filter(fits)
            .max_by_key(|location| location.prefix().map_or(0, str::len))?;
        let strong = matches!(longest.way, Way::Prefix { strong: true, .. });
        for location in &self.all {
            let Way::Expression { text, within } = &location.way else {
                continue;
            };
            let applies = match within {
                Some(prefix) => longest.prefix() == Some(prefix),
                None => !strong,
            };
            if !applies {
                continue;
            }
            if !exact {
                return None;
            }
            if Regex::new(text).is_ok_and(|regex| regex.is_match(head)) {
                return Some(location);
            }
        }
        Some(longest)
    }

    /// `@name`.
    pub(super) fn named(&self, name: &str) -> Option<&Location<'t>> {
        self.all
            .iter()
            .find(|location| matches!(&location.way, Way::Named(known) if known == name))
    }
}

fn prefix_of<'a>(location: &'a Location<'_>) -> Option<(&'a str, bool)> {
    match &location.way {
        Way::Prefix { path, strong } => Some((path, *strong)),
        _ => None,
    }
}

fn too_long(cx: &mut Context<'_>, location: &Location<'_>) {
    if let Some(directive) = location.directive {
        let weight = if guards(directive) {
            Weight::Protection
        } else {
            Weight::Missing
        };
        cx.tell(
            directive,
            weight,
            "its condition is too long for a rule; its requests go to another location",
        );
    }
}

/// The condition of an expression within a prefix, if the paths of `longer` prefixes are others'.
fn within(expression: &str, prefix: &str, longer: &[&str]) -> Option<When> {
    let mut not: Vec<String> = longer
        .iter()
        .map(|path| pattern::prefix(path, &[]))
        .collect::<Option<_>>()?;
    if prefix != "/" && !pattern::head(expression).starts_with(prefix) {
        not.push(pattern::not_prefix(prefix)?);
    }
    Some(When {
        paths: vec![format!("~{expression}")],
        not: (!not.is_empty()).then(|| {
            Box::new(When {
                paths: not,
                ..When::default()
            })
        }),
        ..When::default()
    })
}

/// Whether a block has anything that keeps somebody out.
pub(super) fn guards(directive: &Directive) -> bool {
    directive.inner().iter().any(|inner| {
        let refuses = inner.name == "return" && inner.argument(0).starts_with('4');
        refuses || super::told::reason(&inner.name).0 == Weight::Protection || guards(inner)
    })
}

fn way(directive: &Directive, parent: Option<(&str, bool)>) -> Result<Way, String> {
    let path = |text: &str| match text.starts_with('/') {
        true => Ok(pattern::normal(text)),
        false => Err(format!("no path begins with \"{text}\"")),
    };
    let expression = |text: &str, caseless| {
        let text = pattern::regex(text, caseless, Of::Path)?;
        let within = parent.map(|(path, _)| path.to_owned());
        Ok(Way::Expression { text, within })
    };
    let inherited = parent.is_some_and(|(_, strong)| strong);
    let prefix = |text: &str, strong| {
        let path = path(text)?;
        if parent.is_some_and(|(parent, _)| !path.starts_with(parent)) {
            return Err("it is outside of the location that it stands in".to_owned());
        }
        let strong = if parent.is_some() { inherited } else { strong };
        Ok(Way::Prefix { path, strong })
    };
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    // The sign may stand right in front of the path.
    let (sign, text) = match arguments.as_slice() {
        [sign, text] => (*sign, *text),
        [text] => ["^~", "~*", "~", "="]
            .iter()
            .find_map(|sign| Some((*sign, text.strip_prefix(sign)?)))
            .unwrap_or(("", *text)),
        _ => return Err("a location has a path".to_owned()),
    };
    match sign {
        "=" => Ok(Way::Exact(path(text)?)),
        "^~" => prefix(text, true),
        "~" => expression(text, false),
        "~*" => expression(text, true),
        "" if text.starts_with('@') => Ok(Way::Named(text.to_owned())),
        "" => prefix(text, false),
        other => Err(format!("\"{other}\" is not known in front of a path")),
    }
}
