//! Locations that are answered from files: root, alias, and `[zone.files]`, which holds for all of
//! them: index, try_files, autoindex, gzip_static, brotli_static.

use super::context::Context;
use super::draft::Draft;
use super::location::{Location, Site, Way};
use super::pages;
use super::syntax::Directive;
use crate::import::Weight;
use crate::import::write::{Entry, When, list, quoted};

/// The directory of the location for all other paths, if it is answered from files.
pub(super) fn main(ordered: &[(&Location<'_>, When)]) -> Option<String> {
    let (location, _) = ordered.last()?;
    let other = |directive: &Directive| {
        let name = directive.name.as_str();
        name.ends_with("_pass")
            || name == "return"
            || name == "alias"
            || directive.arguments.last().is_some_and(|last| last.starts_with('@'))
    };
    let root = location.levels.one("root")?.argument(0);
    let plain = !location.levels.own().iter().any(other);
    plain.then(|| root.to_owned())
}

/// What `[zone.files]` says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Served {
    index: Vec<String>,
    tried: Vec<String>,
    listing: bool,
    precompressed: Vec<&'static str>,
}

impl Served {
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        if !self.index.is_empty() && self.index != ["index.html"] {
            entries.push(("index".to_owned(), list(&self.index)));
        }
        if !self.tried.is_empty() {
            entries.push(("try".to_owned(), list(&self.tried)));
        }
        if self.listing {
            entries.push(("listing".to_owned(), "true".to_owned()));
        }
        if !self.precompressed.is_empty() {
            let names: Vec<String> = self.precompressed.iter().map(|name| (*name).to_owned()).collect();
            entries.push(("precompressed".to_owned(), list(&names)));
        }
        entries
    }
}

/// Adds `[zone.files]`, which holds for all files of the zone: as the location for all other paths
/// has it, if that one is answered from files, else as the first one that is.
pub(super) fn table<'t>(cx: &mut Context<'t>, draft: &mut Draft, site: &Site<'t>, ordered: &[(&Location<'t>, When)]) {
    let all = ordered
        .iter()
        .map(|(location, _)| *location)
        .filter(|location| location.is_files());
    let mut all: Vec<&Location<'t>> = all.collect();
    // The last one first.
    if all.last().is_some_and(|last| last.prefix() == Some("/")) {
        all.rotate_right(1);
    }
    let mut served: Option<Served> = None;
    for location in all {
        let mut own = of(cx, site, location);
        match &mut served {
            None => served = Some(own),
            Some(first) => {
                // Forms that are there already do no harm elsewhere.
                first.precompressed.extend(
                    own.precompressed
                        .iter()
                        .filter(|name| !first.precompressed.contains(name))
                        .copied()
                        .collect::<Vec<_>>(),
                );
                own.precompressed = first.precompressed.clone();
                differing(cx, first, &own, location);
                first.listing &= own.listing;
            }
        }
    }
    let Some(mut served) = served else { return };
    served.precompressed.sort_unstable();
    let entries = served.entries();
    let known = draft.zone.tables.iter().find(|(name, _)| name == "files");
    match known {
        Some((_, known)) if *known != entries => {
            if let Some(directive) = ordered.last().and_then(|(location, _)| location.directive) {
                let why =
                    "files are served as by the server with TLS: index, try, listing and precompressed are the zone's";
                cx.tell(directive, Weight::Different, why);
            }
        }
        None if !entries.is_empty() => draft.zone.tables.push(("files".to_owned(), entries)),
        _ => {}
    }
}

/// Tells what of a location is as the zone has it, and not as its own block says.
fn differing(cx: &mut Context<'_>, zone: &Served, own: &Served, location: &Location<'_>) {
    let mut told = |name: &str, why: &str, weight| {
        if let Some(directive) = location.levels.one(name).or(location.directive) {
            cx.tell(directive, weight, why);
        }
    };
    if zone.index != own.index {
        told(
            "index",
            "the names of the index are the same in the whole zone",
            Weight::Missing,
        );
    }
    if zone.tried != own.tried {
        let why = "what answers where there is no file is the same in the whole zone ([zone.files] try)";
        told(
            "try_files",
            why,
            if own.tried.is_empty() {
                Weight::Different
            } else {
                Weight::Missing
            },
        );
    }
    if zone.listing != own.listing {
        told(
            "autoindex",
            "directories are listed in the whole zone, or nowhere: nowhere",
            Weight::Missing,
        );
    }
}

/// What a location's own block says.
fn of<'t>(cx: &mut Context<'t>, site: &Site<'t>, location: &Location<'t>) -> Served {
    let levels = &location.levels;
    let mut served = Served {
        index: Vec::new(),
        tried: tried(cx, site, location),
        listing: levels.says("autoindex", "on"),
        precompressed: Vec::new(),
    };
    for directive in levels.all("index") {
        cx.take(directive);
        for name in &directive.arguments {
            let plain = !name.starts_with('.') && !name.contains(['/', '$']);
            let program = site
                .find(&format!("/{name}"), true)
                .is_some_and(|location| !location.is_files());
            match plain && !program && served.index.len() < 16 {
                true => served.index.push(name.clone()),
                false => {
                    let why = format!("{name}: an index is a file of the directory, and no program's");
                    cx.tell(directive, Weight::Missing, why);
                }
            }
        }
    }
    if served.index.is_empty() {
        served.index.push("index.html".to_owned());
    }
    if let Some(directive) = levels.one("autoindex") {
        cx.take(directive);
        if served.listing {
            let why = "names that begin with a dot are not in a list, and at most 1,000 are (docs/files.md)";
            cx.tell(directive, Weight::Different, why);
        }
    }
    if let Some(directive) = levels.one("autoindex_format") {
        match directive.argument(0) {
            "html" => cx.take(directive),
            _ => cx.tell(directive, Weight::Missing, "a list is a page of HTML"),
        }
    }
    for (name, coding) in [("brotli_static", "br"), ("gzip_static", "gzip")] {
        let Some(directive) = levels.one(name) else { continue };
        match directive.argument(0) {
            "off" => cx.take(directive),
            "on" => {
                cx.take(directive);
                served.precompressed.push(coding);
            }
            _ => {
                cx.tell(
                    directive,
                    Weight::Different,
                    "only for clients that take it, and beside the file itself",
                );
                served.precompressed.push(coding);
            }
        }
    }
    served
}

/// Has `location` answered from files; `main`: as the zone's origin.
pub(super) fn files<'t>(
    cx: &mut Context<'t>,
    draft: &mut Draft,
    location: &Location<'t>,
    act: &mut Vec<Entry>,
    main: bool,
) {
    let alias = location.levels.own_one("alias");
    let Some(root) = alias.or_else(|| location.levels.one("root")) else {
        // Beside an origin, its requests would go there.
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        if let Some(directive) = location.directive {
            cx.tell(
                directive,
                Weight::Different,
                "nothing answers it: nginx looks in a directory of its own, edge says 404",
            );
        }
        return;
    };
    cx.take(root);
    let directory = root.argument(0);
    if directory.contains('$') {
        cx.tell(
            root,
            Weight::Missing,
            "a directory that depends on variables. Answered 501 instead",
        );
        act.push(("respond".to_owned(), "{ status = 501 }".to_owned()));
        return;
    }
    let directory = cx.path(directory);
    if alias.is_some() {
        self::alias(cx, draft, location, (root, &directory), act);
        return;
    }
    if main && draft.zone.origin.is_empty() {
        draft.zone.origin.push(("directory".to_owned(), quoted(&directory)));
        return;
    }
    if draft.files.as_ref().is_some_and(|files| cx.path(files) == directory) {
        return;
    }
    let alone = match &location.way {
        // A route holds for all of the zone, and so for what another server of it answers.
        Way::Prefix { path, .. } if path.contains('*') || path == "/" => false,
        Way::Prefix { path, .. } => draft.route(path, &directory),
        Way::Exact(path) => {
            cx.tell(
                root,
                Weight::Different,
                "paths that continue this one are looked for there, too",
            );
            draft.route(path, &directory)
        }
        Way::Expression { text, .. } => match endings(text) {
            Some(globs) => globs.iter().all(|glob| draft.route(glob, &directory)),
            None => false,
        },
        Way::Named(_) => false,
    };
    if !alone {
        cx.tell(
            root,
            Weight::Missing,
            "no [[zone.route]] leads to this directory for these paths alone. Answered 404 instead",
        );
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
    }
}

/// What answers where nothing is under a path: of `try_files`, and of an `error_page` that makes a
/// page of what is not there.
fn tried<'t>(cx: &mut Context<'t>, site: &Site<'t>, location: &Location<'t>) -> Vec<String> {
    let mut tries = Vec::new();
    if let Some(tried) = location.levels.own_one("try_files") {
        let Some((last, first)) = tried.arguments.split_last() else {
            return tries;
        };
        cx.take(tried);
        for word in first {
            match word.strip_prefix("$uri") {
                Some("" | "/" | "/index.html") => {}
                Some(ending) if plain(ending) => tries.push(format!("${{path}}{ending}")),
                None if word.starts_with('/') && plain(word) => tries.push(word.clone()),
                _ => {
                    let why =
                        format!("{word}: tried are the path, the path with an ending, and files of the directory");
                    cx.tell(tried, Weight::Missing, why);
                }
            }
        }
        match last.strip_prefix('=') {
            Some("404") => {}
            Some(_) => cx.tell(tried, Weight::Different, "what is not there is answered 404"),
            None => tries.extend(last_tried(cx, site, location, tried, last)),
        }
    }
    if tries.is_empty()
        && let Some((directive, page)) = pages::first(&location.levels, |page| {
            page.statuses.as_slice() == [404] && matches!(page.instead, Some("" | "200")) && page.to.starts_with('/')
        })
    {
        tries.extend(last_tried(cx, site, location, directive, page.to));
    }
    tries.truncate(16);
    tries
}

/// The file that answers in place of what is not there, if it is one of the same directory.
fn last_tried<'t>(
    cx: &mut Context<'t>,
    site: &Site<'t>,
    location: &Location<'t>,
    directive: &'t Directive,
    last: &str,
) -> Option<String> {
    let path = last.split(['?', '$']).next().unwrap_or_default();
    let of_files = site
        .find(path, true)
        .filter(|to| path.starts_with('/') && plain(path) && to.is_files());
    let root = |location: &Location<'_>| location.levels.one("root").map(|root| root.argument(0).to_owned());
    let Some(to) = of_files.filter(|to| root(to).is_some() && root(to) == root(location)) else {
        cx.tell(
            directive,
            Weight::Missing,
            "what is not there is answered 404: nothing but a file of the same directory is tried after it",
        );
        return None;
    };
    let own = to.owner == location.owner || to.levels.own().iter().all(|inner| inner.name == "root");
    match own {
        true => cx.take(directive),
        false => cx.tell(
            directive,
            Weight::Different,
            format!("{path} is answered with the fields of the path that was asked for"),
        ),
    }
    Some(path.to_owned())
}

/// Whether it is a name, or its end, without variables.
fn plain(text: &str) -> bool {
    let segment = |segment: &str| !segment.is_empty() && !segment.starts_with('.');
    !text.is_empty()
        && text.is_ascii()
        && !text.contains(['$', '*', '?', '#', '\\'])
        && text.split('/').skip(1).all(segment)
}

/// A directory in place of the location's path.
fn alias(
    cx: &mut Context<'_>,
    draft: &mut Draft,
    location: &Location<'_>,
    (root, directory): (&Directive, &str),
    act: &mut Vec<Entry>,
) {
    let Way::Prefix { path, .. } = &location.way else {
        cx.tell(
            root,
            Weight::Missing,
            "an alias of paths that are no prefix. Answered 404 instead",
        );
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        return;
    };
    let (front, target) = (path.trim_end_matches('/'), directory.trim_end_matches('/'));
    if path.ends_with('/') != directory.ends_with('/') {
        cx.tell(
            root,
            Weight::Different,
            "the path is replaced at a `/`, as if both ended in one",
        );
    }
    // `/static/` at `/srv/static/` is the root `/srv`.
    if let Some(parent) = target
        .strip_suffix(front)
        .filter(|parent| !parent.is_empty() && !front.is_empty())
    {
        if draft.files.as_ref().is_some_and(|files| cx.path(files) == parent) {
            return;
        }
        if draft.route(path, parent) {
            return;
        }
    }
    let Some((parent, name)) = target
        .rsplit_once('/')
        .filter(|(parent, name)| !parent.is_empty() && !name.is_empty())
    else {
        cx.tell(root, Weight::Missing, "no directory above it. Answered 404 instead");
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        return;
    };
    let there = format!("/{}/", super::pattern::normal(name));
    if there.contains('*') || !draft.route(&there, parent) {
        cx.tell(
            root,
            Weight::Missing,
            "another directory is at that path already. Answered 404 instead",
        );
        act.push(("respond".to_owned(), "{ status = 404 }".to_owned()));
        return;
    }
    let why =
        format!("its files are looked for as {there} of the directory above, and who asks for that path gets 404");
    cx.tell(root, Weight::Different, why);
    draft.hide(location.owner, &there);
    let strip = match front {
        "" => String::new(),
        front => format!("strip = {}, ", quoted(front)),
    };
    act.retain(|(key, _)| key != "rewrite");
    act.push((
        "rewrite".to_owned(),
        format!("{{ {strip}add = {} }}", quoted(there.trim_end_matches('/'))),
    ));
}

/// The globs of an expression such as `\.(css|js)$`.
fn endings(expression: &str) -> Option<Vec<String>> {
    let bare = expression.strip_prefix("(?i)").unwrap_or(expression);
    let words = bare.strip_prefix("\\.")?.strip_suffix('$')?;
    let words = match words.strip_prefix('(') {
        Some(inner) => inner.strip_suffix(')')?.trim_start_matches("?:"),
        None => words,
    };
    let mut globs = Vec::new();
    for word in words.split('|') {
        // `jpe?g` is two words.
        let word = match word.split_once('?') {
            Some((before, after)) => {
                let mut shorter = before.to_owned();
                shorter.pop()?;
                globs.push(format!("*.{shorter}{after}"));
                format!("{before}{after}")
            }
            None => word.to_owned(),
        };
        globs.push(format!("*.{word}"));
    }
    let plain =
        |glob: &String| glob.trim_start_matches("*.").bytes().all(|b| b.is_ascii_alphanumeric()) && glob.len() > 2;
    globs.iter().all(plain).then_some(globs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files would be asked of the origin, or others' paths be taken for files.
    #[test]
    fn endings_of_names() {
        let globs = |text: &str| endings(text).map(|globs| globs.join(" "));
        assert_eq!(globs("(?i)\\.(css|js)$").unwrap(), "*.css *.js");
        assert_eq!(globs("\\.(?:jpe?g|png)$").unwrap(), "*.jpg *.jpeg *.png");
        assert_eq!(globs("\\.php$").unwrap(), "*.php");
        for text in ["\\.ph.$", "\\.(a|b", "^/x\\.php$", "\\.$", "\\.(a|)$"] {
            assert_eq!(globs(text), None, "{text}");
        }
    }
}
