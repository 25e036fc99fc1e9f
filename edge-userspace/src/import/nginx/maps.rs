//! `map`, `geo` and `split_clients`: variables made of others. Their values as conditions of rules,
//! in the order in which nginx looks them up (ngx_http_map_find of src/http/ngx_http_variables.c):
//! texts, then expressions in the file's order, then the default. Asked by `rules` and `stored`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::condition;
use super::context::Context;
use super::networks::access;
use super::syntax::Directive;
use super::text::{Known, Piece, Text};
use crate::config::rule::{LIST, RULES};
use crate::config::value::Network;
use crate::import::write::{When, quoted};

/// A value that a variable has for requests that fulfil a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) when: When,
    pub(super) value: String,
}

/// The values of a variable: that of the first case that fits, or the default.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cases {
    pub(super) all: Vec<Case>,
    /// The first N of them never fit the same request.
    apart: usize,
    pub(super) default: String,
}

/// The `map`, `geo` or `split_clients` that `text` has a variable of, and that variable's name.
pub(super) fn within<'t>(cx: &Context<'t>, text: &Text) -> Option<(String, &'t Directive)> {
    text.0.iter().find_map(|piece| match piece {
        Piece::Variable(name) => Some((name.clone(), *cx.made.get(name)?)),
        Piece::Text(_) => None,
    })
}

/// Whether nginx takes a value for yes.
pub(super) fn is_true(value: &str) -> bool {
    !value.is_empty() && value != "0"
}

/// The values of the variable that `directive` makes.
///
/// # Errors
/// Why rules cannot say when it has which.
pub(super) fn cases(directive: &Directive) -> Result<Cases, String> {
    if directive.inner().len() > RULES {
        return Err(format!("more than {RULES} values"));
    }
    match directive.name.as_str() {
        "map" => of_map(directive),
        "geo" => of_geo(directive),
        _ => Err("a variable that goes by chance".to_owned()),
    }
}

fn of_map(directive: &Directive) -> Result<Cases, String> {
    let source = match Text::of(directive.argument(0), &Known::default())?.0.as_slice() {
        [Piece::Variable(name)] => name.clone(),
        _ => return Err("it is made of more than one variable".to_owned()),
    };
    let (mut texts, mut expressions, mut default) = (Vec::new(), Vec::new(), String::new());
    for entry in directive.inner() {
        let (key, value) = (entry.name.as_str(), entry.argument(0).to_owned());
        match (key, entry.arguments.len()) {
            ("hostnames" | "volatile", 0) => continue,
            ("default", 1) => default = value,
            (_, 1) if key.starts_with('~') => {
                let (expression, caseless) = match key.strip_prefix("~*") {
                    Some(expression) => (expression, true),
                    None => (key.trim_start_matches('~'), false),
                };
                let when = condition::fits(of_path(&source, expression)?, expression, caseless)?;
                expressions.push(Case { when, value });
            }
            (_, 1) => {
                let when = equal(&source, key.strip_prefix('\\').unwrap_or(key))?;
                texts.push(Case { when, value });
            }
            _ => return Err(format!("\"{}\" is not a value of it", entry.shown())),
        }
    }
    let apart = texts.len();
    texts.append(&mut expressions);
    Ok(Cases {
        all: texts,
        apart,
        default,
    })
}

/// `$request_uri` is compared as the path: what it has of a query cannot be told by a rule.
fn of_path<'s>(source: &'s str, text: &str) -> Result<&'s str, String> {
    match source {
        "request_uri" if text.contains('?') => Err("it looks at path and query together".to_owned()),
        "request_uri" => Ok("uri"),
        other => Ok(other),
    }
}

/// Texts are compared without regard to their case.
fn equal(source: &str, key: &str) -> Result<When, String> {
    match source.split_once('_') {
        Some((kind @ ("http" | "cookie" | "arg"), _))
            if !key.is_empty() && (kind != "http" || source != "http_host") =>
        {
            condition::fits(source, &format!("^{}$", regex::escape(key)), true)
        }
        _ => condition::equal(of_path(source, key)?, key),
    }
}

fn of_geo(directive: &Directive) -> Result<Cases, String> {
    if let [address, _] = directive.arguments.as_slice()
        && !matches!(
            address.as_str(),
            "$remote_addr" | "$binary_remote_addr" | "$realip_remote_addr"
        )
    {
        return Err(format!("it goes by {address}"));
    }
    let (mut networks, mut default) = (Vec::new(), String::new());
    for entry in directive.inner() {
        let value = entry.argument(0).to_owned();
        match (entry.name.as_str(), entry.arguments.len()) {
            ("default", 1) => default = value,
            ("ranges" | "proxy" | "proxy_recursive" | "delete", _) => {
                return Err(format!("\"{}\" in it", entry.shown()));
            }
            (network, 1) => networks.push((network.parse::<Network>()?.0, value)),
            _ => return Err(format!("\"{}\" is not a network with a value", entry.shown())),
        }
    }
    // The longest network that has the address decides: the first of them in this order.
    networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
    let mut values: Vec<&String> = networks.iter().map(|(_, value)| value).collect();
    values.sort();
    values.dedup();
    let mut all = Vec::new();
    for value in values.into_iter().filter(|value| **value != default) {
        let lines = networks.iter().map(|(network, of)| (of == value, Some(*network)));
        let mut lines: Vec<(bool, Option<IpNet>)> = lines.collect();
        lines.push((false, None));
        let networks = access(&lines).allowed;
        if networks.len() > LIST {
            return Err("more networks than a rule may have".to_owned());
        }
        let when = When {
            networks: networks.iter().map(ToString::to_string).collect(),
            ..When::default()
        };
        if !networks.is_empty() {
            let value = value.clone();
            all.push(Case { when, value });
        }
    }
    let apart = all.len();
    Ok(Cases { all, apart, default })
}

impl Cases {
    /// Conditions, each with the value that the variable has then, under which `fits` holds for the
    /// value: they overlap at most where the first of them counts.
    ///
    /// # Errors
    /// A rule cannot say it.
    pub(super) fn with(&self, fits: impl Fn(&str) -> bool) -> Result<Vec<Case>, String> {
        let others = |cases: &[Case]| -> Result<Option<When>, String> {
            let others: Vec<&When> = cases
                .iter()
                .filter(|case| !fits(&case.value))
                .map(|case| &case.when)
                .collect();
            match others.as_slice() {
                [] => Ok(None),
                others => any(others)
                    .map(Some)
                    .ok_or_else(|| "values that rules cannot tell apart".to_owned()),
            }
        };
        let mut found = Vec::new();
        for (at, case) in self.all.iter().enumerate().filter(|(_, case)| fits(&case.value)) {
            // Two texts are never the same; an expression may fit what stands before it.
            let before = if at < self.apart {
                &[][..]
            } else {
                self.all.get(..at).unwrap_or_default()
            };
            let not = others(before)?;
            found.push(match not {
                None => case.clone(),
                Some(_) if case.when.not.is_some() => return Err("values that rules cannot tell apart".to_owned()),
                Some(not) => Case {
                    when: When {
                        not: Some(Box::new(not)),
                        ..case.when.clone()
                    },
                    value: case.value.clone(),
                },
            });
        }
        if !fits(&self.default) {
            return Ok(found);
        }
        let all = self.all.iter().map(|case| &case.when).collect::<Vec<_>>();
        let when = match all.as_slice() {
            [] => When::default(),
            all => any(all).ok_or("values that rules cannot tell apart")?.negated(),
        };
        found.push(Case {
            when,
            value: self.default.clone(),
        });
        Ok(found)
    }
}

/// One condition that holds if one of `all` does, which are of one kind; `None`: a rule cannot say
/// it.
pub(super) fn any(all: &[&When]) -> Option<When> {
    let first = *all.first()?;
    if all.len() == 1 {
        return Some(first.clone());
    }
    let bare =
        |when: &&&When| kinds(when) == 1 && when.not.is_none() && when.secure.is_none() && when.certificate.is_none();
    if !all.iter().all(|when| bare(&when)) {
        return None;
    }
    let mut joined = When::default();
    let lists: [Part<Vec<String>>; 4] = [
        (|when| &when.paths, |when| &mut when.paths),
        (|when| &when.hosts, |when| &mut when.hosts),
        (|when| &when.methods, |when| &mut when.methods),
        (|when| &when.networks, |when| &mut when.networks),
    ];
    for (of, into) in lists {
        if !of(first).is_empty() {
            let texts: Vec<String> = all.iter().flat_map(|when| of(when)).cloned().collect();
            let whole = all.iter().all(|when| !of(when).is_empty()) && texts.len() <= LIST;
            *into(&mut joined) = texts;
            return whole.then_some(joined);
        }
    }
    let tables: [Part<BTreeMap<String, String>>; 3] = [
        (|when| &when.headers, |when| &mut when.headers),
        (|when| &when.cookies, |when| &mut when.cookies),
        (|when| &when.query, |when| &mut when.query),
    ];
    for (of, into) in tables {
        let Some(name) = of(first).keys().next() else { continue };
        let expressions = all.iter().map(|when| of(when).get(name)?.strip_prefix('~'));
        let expressions: Option<Vec<String>> = expressions.map(|text| Some(format!("(?:{})", text?))).collect();
        let text = format!("~{}", expressions?.join("|"));
        // What an expression of a rule may be long.
        let short = text.len() < 2_000;
        into(&mut joined).insert(name.clone(), text);
        return short.then_some(joined);
    }
    None
}

/// A part of a condition, to be read and to be written.
type Part<T> = (fn(&When) -> &T, fn(&mut When) -> &mut T);

/// How many kinds of conditions it has.
fn kinds(when: &When) -> usize {
    let lists = [&when.paths, &when.hosts, &when.methods, &when.networks];
    let tables = [&when.headers, &when.cookies, &when.query];
    let lists = lists.into_iter().filter(|list| !list.is_empty()).count();
    lists + tables.into_iter().map(|table| table.len()).sum::<usize>()
}

/// The parts of `split_clients`: what they go by, each value with its share in percent, and the
/// value of the rest.
#[derive(Debug, PartialEq)]
pub(super) struct Parts {
    pub(super) by: &'static str,
    pub(super) named: Option<String>,
    pub(super) parts: Vec<(String, String)>,
    pub(super) rest: String,
}

impl Parts {
    /// As `by` of a rule's `split`.
    pub(super) fn by(&self) -> String {
        match &self.named {
            Some(name) => quoted(&format!("{}:{name}", self.by)),
            None => quoted(self.by),
        }
    }
}

/// What `split_clients` says.
///
/// # Errors
/// Rules cannot split so.
pub(super) fn parts(directive: &Directive) -> Result<Parts, String> {
    let text = Text::of(directive.argument(0), &Known::default())?;
    let names = text.0.iter().filter_map(|piece| match piece {
        Piece::Variable(name) => Some(name.as_str()),
        Piece::Text(_) => None,
    });
    let names: Vec<&str> = names.collect();
    let by_chance = |name: &&str| {
        matches!(
            *name,
            "request_id" | "msec" | "date_gmt" | "connection" | "time_iso8601"
        )
    };
    let (by, named) = match names.as_slice() {
        names if names.iter().any(by_chance) => ("random", None),
        ["remote_addr" | "binary_remote_addr"] => ("client", None),
        ["uri" | "request_uri"] => ("path", None),
        [name] => match name.split_once('_') {
            Some(("cookie", name)) if !name.is_empty() => ("cookie", Some(name.to_owned())),
            Some(("http", name)) if !name.is_empty() => ("header", Some(name.replace('_', "-"))),
            _ => return Err(format!("requests are not split by ${name}")),
        },
        names if names.contains(&"remote_addr") => ("client", None),
        _ => return Err("requests are split by client, path, a field or a cookie".to_owned()),
    };
    let (mut parts, mut rest) = (Vec::new(), None);
    for entry in directive.inner() {
        let value = entry.argument(0).to_owned();
        match entry.name.strip_suffix('%').map(str::parse::<f64>) {
            Some(Ok(percent)) if (0.01..=100.0).contains(&percent) => {
                parts.push((value, entry.name.trim_end_matches('%').to_owned()));
            }
            None if entry.name == "*" => rest = Some(value),
            _ => return Err(format!("\"{}\" is not a share", entry.shown())),
        }
    }
    Ok(Parts {
        by,
        named,
        parts,
        rest: rest.ok_or("no value for the rest")?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::files::Nowhere;
    use super::super::syntax::Parser;
    use super::*;

    fn read(text: &str) -> Directive {
        let mut tree = Parser::new(&Nowhere, Path::new("/"))
            .text(Path::new("/a"), text)
            .unwrap();
        tree.remove(0)
    }

    fn agents(pattern: &str) -> When {
        let mut when = When::default();
        when.headers.insert("user-agent".to_owned(), pattern.to_owned());
        when
    }

    /// A client that the map keeps out would be let in, or the other way round.
    #[test]
    fn the_first_value_that_fits_counts() {
        let map = read("map $http_user_agent $bad { default 0; ~*good 0; ~*bot 1; \"Scraper\" yes; }");
        let cases = cases(&map).unwrap();
        let yes = cases.with(is_true).unwrap();
        let mut bot = agents("~(?i)bot");
        bot.not = Some(Box::new(agents("~(?i)good")));
        assert_eq!(
            yes,
            [
                Case {
                    when: agents("~(?i)^Scraper$"),
                    value: "yes".to_owned()
                },
                Case {
                    when: bot,
                    value: "1".to_owned()
                },
            ]
        );
        // What is neither is the opposite of all of them.
        let no = cases.with(|value| !is_true(value)).unwrap();
        assert_eq!(no.len(), 2);
        assert!(no[1].when.not.is_some(), "{no:?}");
        let all = [agents("~a"), agents("~b|c"), agents("~d")];
        let all: Vec<&When> = all.iter().collect();
        assert_eq!(any(&all), Some(agents("~(?:a)|(?:b|c)|(?:d)")));
        for text in [
            "map $a$b $c { x y; }",
            "map $http_a $c { ~(?=x) y; }",
            "map $request_uri $c { ~a\\?b y; }",
            "map $nothing $c { x y; }",
            "geo $c { ranges; 10.0.0.0-10.0.0.9 1; }",
            "geo $http_x $c { 10.0.0.0/8 1; }",
            "split_clients $remote_addr $c { 5% a; * b; }",
        ] {
            assert!(super::cases(&read(text)).is_err(), "{text}");
        }
    }

    /// The longest network counts, in whatever order they are written.
    #[test]
    fn networks_of_geo() {
        let geo = read("geo $office { default 0; 10.0.0.0/8 1; 10.1.0.0/16 0; 10.1.2.3 1; }");
        let yes = cases(&geo).unwrap().with(is_true).unwrap();
        let [case] = yes.as_slice() else { panic!("{yes:?}") };
        let networks: Vec<IpNet> = case.when.networks.iter().map(|text| text.parse().unwrap()).collect();
        for (address, inside) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("11.0.0.1", false),
        ] {
            let address: std::net::IpAddr = address.parse().unwrap();
            assert_eq!(
                networks.iter().any(|network| network.contains(&address)),
                inside,
                "{address}"
            );
        }
    }

    /// A canary would get another part of the visitors.
    #[test]
    fn parts_of_clients() {
        let split = read("split_clients \"${remote_addr}AAA\" $to { 0.5% one; 10% two; * three; }");
        let parts = parts(&split).unwrap();
        assert_eq!((parts.by(), parts.rest.as_str()), ("\"client\"".to_owned(), "three"));
        let two = [("one", "0.5"), ("two", "10")].map(|(value, share)| (value.to_owned(), share.to_owned()));
        assert_eq!(parts.parts, two);
        let by = |text: &str| super::parts(&read(text)).map(|parts| parts.by());
        assert_eq!(
            by("split_clients $cookie_sid $to { 1% a; * b; }"),
            Ok("\"cookie:sid\"".to_owned())
        );
        assert_eq!(
            by("split_clients $remote_addr$request_id $to { 1% a; * b; }"),
            Ok("\"random\"".to_owned())
        );
        for text in [
            "split_clients $args $to { 1% a; * b; }",
            "split_clients $remote_addr $to { 1% a; }",
        ] {
            assert!(by(text).is_err(), "{text}");
        }
    }
}
