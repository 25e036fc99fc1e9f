//! Fields of requests and responses: add_header, expires, proxy_hide_header, proxy_set_header, with
//! nginx's inheritance: those of an outer block count only if the inner one has none.

use std::collections::BTreeMap;

use super::context::{Context, Levels, time};
use super::syntax::Directive;
use super::text::{Known, Text};
use crate::config::rule::is_ours;
use crate::import::Weight;
use crate::import::write::{self, Entry};

/// `part = { … }` of a rule: the fields that it takes out, sets and adds.
fn entry(
    part: &str,
    remove: &[String],
    set: &BTreeMap<String, String>,
    add: &BTreeMap<String, String>,
) -> Option<Entry> {
    let mut parts = Vec::new();
    if !remove.is_empty() {
        parts.push(format!("remove = {}", write::list(remove)));
    }
    for (name, fields) in [("set", set), ("add", add)] {
        if !fields.is_empty() {
            parts.push(format!("{name} = {}", write::table(fields)));
        }
    }
    (!parts.is_empty()).then(|| (part.to_owned(), format!("{{ {} }}", parts.join(", "))))
}

/// What happens to a response's fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Response {
    set: BTreeMap<String, String>,
    add: BTreeMap<String, String>,
    remove: Vec<String>,
    /// Fields of a name that `add` has already: a rule of their own each.
    pub(super) again: Vec<(String, String)>,
}

impl Response {
    /// `response = { … }`
    pub(super) fn entry(&self) -> Option<Entry> {
        entry("response", &self.remove, &self.set, &self.add)
    }
}

/// Which of a location's fields a response gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All.
    All,
    /// Those of refusals, too (`add_header … always`).
    Always,
    /// All but those, which another rule adds.
    Others,
}

/// The fields that responses get.
pub(super) fn response(cx: &mut Context<'_>, levels: &Levels<'_>, known: &Known, which: Which) -> Response {
    let mut response = Response::default();
    for directive in levels.all("add_header") {
        let is_always = directive.argument(2) == "always";
        if which == Which::Always && !is_always || which == Which::Others && is_always {
            continue;
        }
        let name = directive.argument(0);
        if answered(directive.argument(1), known) {
            // `asked` has taken it, or told of it.
            continue;
        }
        if directive.argument(1) == "$upstream_cache_status" {
            cx.tell(
                directive,
                Weight::Different,
                "edge says in Cache-Status how its cache answered (RFC 9211)",
            );
            continue;
        }
        if !usable(cx, directive, name) {
            continue;
        }
        let value = Text::of(directive.argument(1), known).and_then(|text| text.template(known));
        match value {
            Err(why) => cx.tell(directive, Weight::Missing, why),
            Ok(value) if value.is_empty() => cx.take(directive),
            Ok(value) => {
                let scope = match is_always {
                    true => "not in edge's own failures: a file that is not there, an origin that does not answer",
                    false => {
                        "nginx adds it to 200, 201, 204, 206, 301 to 304, 307 and 308 alone, edge to whatever an origin answers"
                    }
                };
                cx.tell(directive, Weight::Different, scope);
                if response.add.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                    response.again.push((name.to_owned(), value));
                } else {
                    response.add.insert(name.to_owned(), value);
                }
            }
        }
    }
    if which == Which::Always {
        return response;
    }
    for directive in levels.all("expires") {
        expires(cx, directive, &mut response);
    }
    for directive in levels
        .all("proxy_hide_header")
        .into_iter()
        .chain(levels.all("grpc_hide_header"))
    {
        let name = directive.argument(0);
        if usable(cx, directive, name) {
            cx.take(directive);
            response.remove.push(name.to_owned());
        }
    }
    response
}

/// Whether a value is one that the answer of a service gives (`auth_request_set`).
fn answered(value: &str, known: &Known) -> bool {
    let name = value
        .strip_prefix('$')
        .map(|name| name.trim_matches(['{', '}']).to_ascii_lowercase());
    name.is_some_and(|name| known.answered.contains_key(&name))
}

/// Whether a rule may change the field; told of, if not.
fn usable(cx: &mut Context<'_>, directive: &Directive, name: &str) -> bool {
    let sound = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !sound || is_ours(&name.to_ascii_lowercase()) {
        cx.tell(
            directive,
            Weight::Missing,
            "a field that rules may not change: edge writes it itself",
        );
        return false;
    }
    true
}

fn expires(cx: &mut Context<'_>, directive: &Directive, response: &mut Response) {
    let value = match (directive.argument(0), directive.arguments.len()) {
        ("off", 1) => return cx.take(directive),
        ("epoch" | "-1", 1) => "no-cache".to_owned(),
        ("max", 1) => "max-age=315360000".to_owned(),
        (text, 1) => match (text.starts_with('-'), time(text.trim_start_matches(['-', '+']))) {
            (true, Some(_)) => "no-cache".to_owned(),
            (false, Some(time)) => format!("max-age={}", time.as_secs()),
            (_, None) => return cx.tell(directive, Weight::Missing, "a time that depends on variables"),
        },
        _ => return cx.tell(directive, Weight::Missing, "a time after the file's own"),
    };
    cx.tell(
        directive,
        Weight::Different,
        "Cache-Control alone; Expires is not written",
    );
    response.set.insert("Cache-Control".to_owned(), value);
}

/// What the origin gets in `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostField {
    /// The client's.
    Client,
    /// The server's own name.
    Server,
}

/// What happens to a request's fields.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) host: HostField,
    /// Upgrades are passed on.
    pub(super) upgrades: bool,
    set: BTreeMap<String, String>,
    remove: Vec<String>,
}

impl Request {
    /// Fields with their values, as templates.
    pub(super) fn set(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    /// `request = { … }`
    pub(super) fn entry(&self) -> Option<Entry> {
        entry("request", &self.remove, &self.set, &BTreeMap::new())
    }
}

/// Whom a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    /// An origin.
    Origin,
    /// An origin that speaks gRPC.
    Grpc,
    /// A service that is asked about another request.
    Service,
}

/// The fields that an origin gets, or a service.
pub(super) fn request(cx: &mut Context<'_>, levels: &Levels<'_>, known: &Known, towards: Towards) -> Request {
    let mut request = Request {
        host: HostField::Server,
        upgrades: false,
        set: BTreeMap::new(),
        remove: Vec::new(),
    };
    let name = match towards {
        Towards::Grpc => "grpc_set_header",
        Towards::Origin | Towards::Service => "proxy_set_header",
    };
    for directive in levels.all(name) {
        field(cx, directive, known, towards, &mut request);
    }
    request
}

fn field(cx: &mut Context<'_>, directive: &Directive, known: &Known, towards: Towards, request: &mut Request) {
    let (name, value) = (directive.argument(0), directive.argument(1));
    let bare = value.replace(['{', '}'], "").to_ascii_lowercase();
    match (name.to_ascii_lowercase().as_str(), bare.as_str()) {
        ("host", "$host" | "$http_host") => {
            request.host = HostField::Client;
            match bare == "$host" {
                true => cx.tell(
                    directive,
                    Weight::Different,
                    "with the port that the client names, as $http_host",
                ),
                false => cx.take(directive),
            }
        }
        ("host", "$proxy_host") => cx.take(directive),
        ("host", _) => {
            let why = "origins get the client's Host (preserve_host = true) or their own name, no other";
            cx.tell(directive, Weight::Missing, why);
        }
        ("upgrade", "$http_upgrade") => {
            request.upgrades = true;
            cx.take(directive);
        }
        ("connection", _)
        | ("content-length", "")
        | ("x-forwarded-proto", "$scheme")
        | ("x-forwarded-host", "$host" | "$http_host")
        | ("x-real-ip", "$remote_addr" | "$realip_remote_addr") => cx.take(directive),
        ("x-forwarded-uri", "$request_uri") | ("x-forwarded-method", "$request_method")
            if towards == Towards::Service =>
        {
            cx.take(directive);
        }
        _ if answered(value, known) => {}
        ("x-forwarded-for", "$proxy_add_x_forwarded_for" | "$remote_addr") => {
            let why = "edge writes it itself, and drops what a client claims; proxies in front: [server] client_address (docs/proxies.md)";
            cx.tell(directive, Weight::Different, why);
        }
        ("x-real-ip", _) => {
            let why = "edge writes the client's address there, and nothing else";
            cx.tell(directive, Weight::Missing, why);
        }
        _ if !usable(cx, directive, name) => {}
        _ => match Text::of(value, known).and_then(|text| text.template(known)) {
            Err(why) => cx.tell(directive, Weight::Missing, why),
            Ok(value) => {
                cx.take(directive);
                match value.is_empty() {
                    true => request.remove.push(name.to_owned()),
                    false => drop(request.set.insert(name.to_owned(), value)),
                }
            }
        },
    }
}
