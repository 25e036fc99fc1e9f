//! What is stored of a location's answers, and for which clients: proxy_cache and its kin as
//! `cache` of a rule. What nginx keeps apart and edge could not is not stored at all: nobody gets
//! another one's answer because of an import.

use std::collections::BTreeMap;
use std::time::Duration;

use super::condition;
use super::context::{Context, Levels, span, time};
use super::maps;
use super::syntax::Directive;
use super::text::{Known, Piece, Text};
use crate::config::rule::is_ours;
use crate::import::Weight;
use crate::import::write::{Entry, When, list};

/// The longest time that something is fresh.
const MOST: Duration = Duration::from_secs(365 * 86_400);
/// How long a stale response answers where nginx names no end.
const STALE: &str = "\"1d\"";

/// How a location's answers are stored.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// `cache = { … }`
    pub(super) entry: Option<Entry>,
    /// Conditions of requests that pass the cache by.
    pub(super) by: Vec<When>,
}

/// What is stored of the answers of a location; `None`: nothing, which is told of if nginx would.
pub(super) fn stored<'t>(cx: &mut Context<'t>, levels: &Levels<'t>, known: &Known) -> Option<Stored> {
    let directive = levels.one("proxy_cache")?;
    cx.take(directive);
    if directive.argument(0) == "off" {
        return None;
    }
    let nothing = |cx: &mut Context<'t>, at: &Directive, why: String| {
        cx.tell(
            at,
            Weight::Missing,
            format!("{why}: it would mix up answers. Nothing is stored"),
        );
        cx.tell(
            directive,
            Weight::Missing,
            format!("not stored, because of {}", at.name),
        );
        None
    };
    let key = match levels.one("proxy_cache_key") {
        Some(at) => match key(cx, at) {
            Ok(key) => key,
            Err(why) => return nothing(cx, at, why),
        },
        None => Vec::new(),
    };
    let mut stored = Stored::default();
    for name in ["proxy_cache_bypass", "proxy_no_cache"] {
        for at in levels.all(name) {
            match passed_by(cx, at, known) {
                Ok(by) => stored.by.extend(by),
                Err(why) => return nothing(cx, at, why),
            }
            let beside = if name == "proxy_no_cache" {
                "proxy_cache_bypass"
            } else {
                "proxy_no_cache"
            };
            let same = levels.all(beside).iter().any(|other| other.arguments == at.arguments);
            match same {
                true => cx.take(at),
                false => cx.tell(
                    at,
                    Weight::Different,
                    "such requests are neither answered from the cache, nor is their answer stored",
                ),
            }
        }
    }
    stored.by.dedup();
    let mut parts = times(cx, levels);
    parts.extend(ignored(cx, levels, parts.iter().any(|part| part.starts_with("ttl"))));
    parts.extend(stale(cx, levels));
    if !key.is_empty() {
        parts.push(format!("key = {{ {} }}", key.join(", ")));
    }
    tuned(cx, levels);
    let why = "stored by what responses say (RFC 9111), without X-Accel-Expires, up to 8 MiB each ([zone.cache] object_bytes); \
               what somebody got by credentials is stored only if the response allows it (docs/cache.md)";
    cx.tell(directive, Weight::Different, why);
    stored.entry = (!parts.is_empty()).then(|| ("cache".to_owned(), format!("{{ {} }}", parts.join(", "))));
    Some(stored)
}

/// What of a key tells more apart than edge's does, or less.
///
/// # Errors
/// What rules cannot tell apart.
fn key(cx: &mut Context<'_>, directive: &Directive) -> Result<Vec<String>, String> {
    let text = Text::of(&directive.arguments.concat(), &Known::default())?;
    let (mut headers, mut cookies, mut keep) = (Vec::new(), Vec::new(), Vec::new());
    let mut query = false;
    for piece in text.0 {
        let Piece::Variable(name) = piece else { continue };
        match name.as_str() {
            "request_uri" | "args" | "query_string" => query = true,
            "scheme" | "https" | "proxy_host" | "host" | "http_host" | "uri" | "document_uri" | "is_args"
            | "request_method" | "server_name" | "server_port" | "proxy_port" | "hostname" => {}
            other => match other.split_once('_') {
                Some(("cookie", name)) if !name.is_empty() => cookies.push(name.to_owned()),
                Some(("arg", name)) if !name.is_empty() => keep.push(name.to_owned()),
                Some(("http", name)) if !name.is_empty() => {
                    let name = name.replace('_', "-");
                    if matches!(name.as_str(), "authorization" | "cookie") || is_ours(&name) {
                        return Err(format!("a key with ${other}"));
                    }
                    headers.push(name);
                }
                _ => return Err(format!("a key with ${other}")),
            },
        }
    }
    let mut parts = Vec::new();
    if query || !keep.is_empty() {
        cx.take(directive);
    }
    if !query {
        parts.push(format!("query = {{ keep = {} }}", list(&keep)));
        let why = "what of the query is no part of the key does not reach the origin either";
        cx.tell(directive, Weight::Different, why);
    }
    for (name, names) in [("headers", headers), ("cookies", cookies)] {
        if !names.is_empty() {
            parts.push(format!("{name} = {}", list(&names)));
        }
    }
    Ok(parts)
}

/// The conditions under which one of the directive's values is neither empty nor 0.
///
/// # Errors
/// A rule cannot say them.
fn passed_by<'t>(cx: &mut Context<'t>, directive: &'t Directive, known: &Known) -> Result<Vec<When>, String> {
    let mut by = Vec::new();
    for word in &directive.arguments {
        by.extend(truths(cx, word, known)?);
    }
    Ok(by)
}

/// The conditions under which `word` is neither empty nor 0: one of them has to hold.
///
/// # Errors
/// A rule cannot say them.
pub(super) fn truths(cx: &mut Context<'_>, word: &str, known: &Known) -> Result<Vec<When>, String> {
    let bare = word
        .trim_start_matches('$')
        .trim_matches(['{', '}'])
        .to_ascii_lowercase();
    if let Some(flags) = known.flags.get(&bare).filter(|_| word.starts_with('$')) {
        return Ok(flags.clone());
    }
    let mut found = Vec::new();
    for piece in Text::of(word, known)?.0 {
        match piece {
            Piece::Text(text) if maps::is_true(&text) => found.push(When::default()),
            Piece::Text(_) => {}
            Piece::Variable(name) => match cx.made.get(&name).copied() {
                Some(made) => {
                    let cases = maps::cases(made)?.with(maps::is_true)?;
                    cx.take(made);
                    cx.cover(made);
                    found.extend(cases.into_iter().map(|case| case.when));
                }
                None => found.push(condition::truth(&name)?),
            },
        }
    }
    Ok(found)
}

/// `ttl = { … }`
fn times(cx: &mut Context<'_>, levels: &Levels<'_>) -> Vec<String> {
    let mut times: BTreeMap<String, String> = BTreeMap::new();
    for directive in levels.all("proxy_cache_valid") {
        let Some((last, statuses)) = directive.arguments.split_last() else {
            continue;
        };
        let Some(life) = time(last) else {
            cx.tell(directive, Weight::Missing, "not a time");
            continue;
        };
        let life = span(life.min(MOST)).trim_matches('"').to_owned();
        let statuses: Vec<&str> = match statuses {
            [] => vec!["200", "301", "302"],
            some => some.iter().map(String::as_str).collect(),
        };
        for status in statuses {
            match status {
                "any" => {
                    for class in ["2xx", "3xx", "4xx", "5xx"] {
                        times.entry(class.to_owned()).or_insert_with(|| life.clone());
                    }
                }
                // They answer one request alone.
                "206" | "304" | "401" | "407" | "412" | "416" | "425" => {
                    cx.tell(directive, Weight::Missing, format!("{status} is never stored"));
                }
                other if other.len() == 3 && other.bytes().all(|b| b.is_ascii_digit()) => {
                    times.entry(other.to_owned()).or_insert_with(|| life.clone());
                }
                other => cx.tell(directive, Weight::Missing, format!("{other} is not a status")),
            }
        }
        let why = "for answers that say nothing themselves, as in nginx, to requests without cookies and credentials: \
                   force = true is for those with cookies, too";
        cx.tell(directive, Weight::Different, why);
    }
    match times.is_empty() {
        true => Vec::new(),
        false => {
            let pairs = times.iter().map(|(status, life)| format!("\"{status}\" = \"{life}\""));
            vec![format!("ttl = {{ {} }}", pairs.collect::<Vec<_>>().join(", "))]
        }
    }
}

/// What of responses is not heard.
fn ignored(cx: &mut Context<'_>, levels: &Levels<'_>, timed: bool) -> Vec<String> {
    let Some(directive) = levels.one("proxy_ignore_headers") else {
        return Vec::new();
    };
    let named = |name: &str| directive.arguments.iter().any(|word| word.eq_ignore_ascii_case(name));
    let mut parts = Vec::new();
    cx.take(directive);
    match (
        named("Cache-Control") && named("Expires"),
        named("Cache-Control") || named("Expires"),
    ) {
        (true, _) if timed => parts.push("force = true".to_owned()),
        (_, true) => cx.tell(
            directive,
            Weight::Missing,
            "Cache-Control and Expires are not heard together, and where proxy_cache_valid gives a time: force = true",
        ),
        _ => {}
    }
    if named("Set-Cookie") {
        parts.push("strip_set_cookie = true".to_owned());
        let hidden = levels.all("proxy_hide_header");
        if !hidden
            .iter()
            .any(|hidden| hidden.argument(0).eq_ignore_ascii_case("Set-Cookie"))
        {
            let why = "the cookie is taken out of what is stored, for who asked, too: nginx would give it to everybody";
            cx.tell(directive, Weight::Different, why);
        }
    }
    if named("Vary") {
        cx.tell(directive, Weight::Missing, "Vary always counts");
    }
    parts
}

/// `stale_if_error`, `stale_while_revalidate`
fn stale(cx: &mut Context<'_>, levels: &Levels<'_>) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(directive) = levels.one("proxy_cache_use_stale").filter(|at| at.argument(0) != "off") {
        let named = |word: &str| directive.arguments.iter().any(|known| known == word);
        if named("updating") {
            parts.push(format!("stale_while_revalidate = {STALE}"));
        }
        if directive
            .arguments
            .iter()
            .any(|word| word == "error" || word == "timeout" || word.starts_with("http_5"))
        {
            parts.push(format!("stale_if_error = {STALE}"));
        }
        cx.tell(
            directive,
            Weight::Different,
            "for a day at most, in nginx as long as it is kept",
        );
        if let Some(other) = directive.arguments.iter().find(|word| word.starts_with("http_4")) {
            cx.tell(directive, Weight::Missing, format!("{other}: such answers are answers"));
        }
    } else if let Some(directive) = levels.one("proxy_cache_use_stale") {
        cx.take(directive);
    }
    parts
}

/// What edge does by itself.
fn tuned(cx: &mut Context<'_>, levels: &Levels<'_>) {
    for name in [
        "proxy_cache_lock",
        "proxy_cache_lock_timeout",
        "proxy_cache_lock_age",
        "proxy_cache_revalidate",
        "proxy_cache_background_update",
        "proxy_cache_max_range_offset",
        "proxy_cache_convert_head",
    ] {
        if let Some(directive) = levels.one(name) {
            cx.tell(directive, Weight::Idle, "edge does this by itself");
        }
    }
    if let Some(directive) = levels.one("proxy_cache_methods") {
        match directive.arguments.iter().all(|word| word == "GET" || word == "HEAD") {
            true => cx.take(directive),
            false => cx.tell(directive, Weight::Missing, "answers to GET and HEAD alone are stored"),
        }
    }
    if let Some(directive) = levels.one("proxy_cache_min_uses") {
        match directive.argument(0) {
            "1" => cx.take(directive),
            _ => cx.tell(directive, Weight::Different, "stored when it is asked for first"),
        }
    }
}

/// `cache = false`
pub(super) fn never() -> Entry {
    ("cache".to_owned(), "false".to_owned())
}

/// `[zone.cache]`: nginx guesses no freshness.
pub(super) fn table() -> Vec<Entry> {
    vec![("heuristic_percent".to_owned(), "0".to_owned())]
}
