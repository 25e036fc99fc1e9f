//! `limit_req` and `limit_conn`: rates, and requests at once, of the zone's gate.

use super::context::{Context, Levels};
use super::draft::Draft;
use super::pattern;
use super::syntax::Directive;
use crate::import::Weight;
use crate::import::write::{Entry, quoted};

/// Adds the limits of a server and of its locations.
pub(super) fn limits<'t>(cx: &mut Context<'t>, draft: &mut Draft, _server: usize, levels: &Levels<'t>) {
    for directive in levels.all("limit_req") {
        limit(cx, draft, directive, None, levels);
    }
    for directive in levels.all("limit_conn") {
        crowd(cx, draft, directive, None, levels);
    }
    locations(cx, draft, levels);
}

/// Whether a `limit_conn` is for each address: the node's listeners count those.
pub(super) fn is_by_address(cx: &Context<'_>, directive: &Directive) -> bool {
    let key = cx
        .crowds
        .get(directive.argument(0))
        .map(|zone| zone.argument(0).replace(['{', '}'], ""));
    matches!(key.as_deref(), Some("$binary_remote_addr" | "$remote_addr"))
}

/// `limit_conn`: at most N requests at once at the origin.
fn crowd(cx: &mut Context<'_>, draft: &mut Draft, directive: &Directive, path: Option<&str>, levels: &Levels<'_>) {
    if path.is_none() && is_by_address(cx, directive) {
        // `node` reads it.
        return;
    }
    let write = "write a [[zone.gate.rule]] (docs/gate.md), or connections_per_address in [limits]";
    let Some(zone) = cx.crowds.get(directive.argument(0)).copied() else {
        return cx.tell(
            directive,
            Weight::Protection,
            format!("there is no such limit_conn_zone: {write}"),
        );
    };
    let key = zone.argument(0).replace(['{', '}'], "");
    let most = directive.argument(1).parse::<u32>().ok().filter(|most| *most > 0);
    let (Some(most), "$server_name" | "$host" | "$http_host") = (most, key.as_str()) else {
        let why = format!("requests at once are not counted by {key} for single paths: {write}");
        return cx.tell(directive, Weight::Protection, why);
    };
    cx.take(zone);
    let why =
        "requests at once at the origin, for the whole zone; who is beyond it is told to wait (429, with Retry-After)";
    cx.tell(directive, Weight::Different, why);
    answers(cx, levels);
    let mut keys = named(draft, path);
    keys.push(("concurrency".to_owned(), most.to_string()));
    draft.zone.limits.push(keys);
}

/// What `limit_conn` answers.
pub(super) fn answers(cx: &mut Context<'_>, levels: &Levels<'_>) {
    for name in ["limit_conn_status", "limit_conn_log_level"] {
        if let Some(directive) = levels.one(name) {
            cx.tell(directive, Weight::Different, "the answer is 429, and metrics count it");
        }
    }
}

/// Name and path of a rule of the gate.
fn named(draft: &Draft, path: Option<&str>) -> Vec<Entry> {
    let number = draft.zone.limits.len() + 1;
    let mut keys: Vec<Entry> = vec![("name".to_owned(), quoted(&format!("limit-{number}")))];
    if let Some(path) = path.filter(|path| *path != "/") {
        keys.push(("path".to_owned(), quoted(path)));
    }
    keys
}

fn locations<'t>(cx: &mut Context<'t>, draft: &mut Draft, levels: &Levels<'t>) {
    for location in levels.own().iter().filter(|directive| directive.name == "location") {
        let inner = levels.within(location.inner());
        let path = match location.arguments.as_slice() {
            [path] if path.starts_with('/') => Some(pattern::normal(path)),
            [sign, path] if matches!(sign.as_str(), "=" | "^~") && path.starts_with('/') => Some(pattern::normal(path)),
            _ => None,
        };
        for directive in location
            .inner()
            .iter()
            .filter(|directive| matches!(directive.name.as_str(), "limit_req" | "limit_conn"))
        {
            match path.as_deref().filter(|path| !path.contains('*')) {
                Some(path) if directive.name == "limit_conn" => crowd(cx, draft, directive, Some(path), &inner),
                Some(path) => limit(cx, draft, directive, Some(path), &inner),
                None => {
                    let why = "limits are for prefixes and globs of paths: write a [[zone.gate.rule]] (docs/gate.md)";
                    cx.tell(directive, Weight::Protection, why);
                }
            }
        }
        locations(cx, draft, &inner);
    }
}

fn limit(cx: &mut Context<'_>, draft: &mut Draft, directive: &Directive, path: Option<&str>, levels: &Levels<'_>) {
    match rate(cx, directive) {
        Err(why) => cx.tell(
            directive,
            Weight::Protection,
            format!("{why}: write a [[zone.gate.rule]] (docs/gate.md)"),
        ),
        Ok(rate) => {
            let why = "who is beyond it is told to wait (429, with Retry-After), not kept waiting; it counts before locations are told apart";
            cx.tell(directive, Weight::Different, why);
            for name in ["limit_req_status", "limit_req_log_level"] {
                if let Some(directive) = levels.one(name) {
                    cx.tell(directive, Weight::Different, "the answer is 429, and metrics count it");
                }
            }
            let mut keys = named(draft, path);
            if let Some(dry) = levels.one("limit_req_dry_run") {
                cx.take(dry);
                keys.push(("dry_run".to_owned(), (dry.argument(0) == "on").to_string()));
            }
            keys.push(("rate".to_owned(), rate));
            draft.zone.limits.push(keys);
        }
    }
}

/// `rate = { … }`
fn rate(cx: &mut Context<'_>, directive: &Directive) -> Result<String, String> {
    let option = |directive: &Directive, name: &str| {
        let found = directive.arguments.iter().find_map(|word| word.strip_prefix(name));
        found.map(str::to_owned)
    };
    let name = option(directive, "zone=").ok_or("it names no zone")?;
    let zone = *cx.limits.get(name.as_str()).ok_or("there is no such limit_req_zone")?;
    cx.take(zone);
    let key = match zone.argument(0).replace(['{', '}'], "").as_str() {
        "$binary_remote_addr" | "$remote_addr" => "address".to_owned(),
        other => match other.trim_start_matches('$').split_once('_') {
            Some(("http", name)) => format!("header:{}", name.replace('_', "-")),
            Some(("cookie", name)) => format!("cookie:{name}"),
            _ => return Err(format!("rates are not counted by {other}")),
        },
    };
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_');
    if !key.bytes().all(sound) {
        return Err(format!("rates are not counted by {key}"));
    }
    let rate = option(zone, "rate=").ok_or("its zone has no rate")?;
    let (number, per) = match (rate.strip_suffix("r/s"), rate.strip_suffix("r/m")) {
        (Some(number), _) => (number, "1s"),
        (_, Some(number)) => (number, "1m"),
        _ => return Err(format!("{rate} is not a rate")),
    };
    let number: u32 = number
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{rate} is not a rate"))?;
    let burst: u32 = match option(directive, "burst=") {
        Some(burst) => burst.parse().map_err(|_| format!("{burst} is not a number"))?,
        None => 0,
    };
    let burst = burst.saturating_add(1);
    Ok(format!(
        "{{ requests = {number}, per = \"{per}\", burst = {burst}, key = {} }}",
        quoted(&key)
    ))
}
