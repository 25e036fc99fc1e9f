//! What holds for the whole node: listeners, trusted proxies, timeouts, logs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::context::{Context, Levels, bytes, size, span, time};
use super::limits::is_by_address;
use super::listen::{Listener, Server, Transport};
use super::syntax::Directive;
use super::zones::{Node, is_named};
use crate::config::value::{HostPattern, Network};
use crate::import::Weight;
use crate::import::write::{Entry, File, list, quoted};

/// Reads the node's own keys into `file`; what zones must know of the node.
pub(super) fn node<'t>(
    cx: &mut Context<'t>,
    file: &mut File,
    main: &'t [Directive],
    http: &Levels<'t>,
    servers: &[Server<'t>],
) -> Node {
    let tls = servers.iter().any(|server| server.speaks(Transport::Tls));
    let plain: Vec<&Server<'t>> = servers
        .iter()
        .filter(|server| server.speaks(Transport::Plain))
        .collect();
    let redirects = tls && !plain.is_empty() && plain.iter().all(|server| redirects(server, servers));
    let mut challenges = None;
    if redirects {
        for server in &plain {
            challenges = redirected(cx, server).or(challenges);
        }
    }
    let listeners: Vec<&Listener> = servers.iter().flat_map(|server| &server.listeners).collect();
    let of = |transport: Transport| {
        addresses(
            listeners
                .iter()
                .filter(|listener| listener.transport == transport)
                .map(|l| l.address),
        )
    };
    let mut keys: Vec<Entry> = Vec::new();
    let mut push = |key: &str, value: String| keys.push((key.to_owned(), value));
    let (https, http_addresses) = (of(Transport::Tls), of(Transport::Plain));
    if !https.is_empty() {
        push("https", list(&https));
        if !listeners.iter().any(|listener| listener.quic) {
            push("http3", "false".to_owned());
        }
    }
    if redirects {
        push("http", list(&http_addresses));
    } else if !http_addresses.is_empty() {
        push("plain", list(&http_addresses));
        let reached = http_addresses
            .iter()
            .filter_map(|address| address.parse::<SocketAddr>().ok());
        if reached.into_iter().any(|address| !address.ip().is_loopback()) {
            push("plain_from", "[\"0.0.0.0/0\", \"::/0\"]".to_owned());
        }
    }
    if let Some(directive) = main.iter().find(|directive| directive.name == "worker_processes") {
        if let Ok(workers @ 1..=1024) = directive.argument(0).parse::<u16>() {
            push("workers", workers.to_string());
        }
        cx.take(directive);
    }
    keys.extend(clients(cx, http, servers, &listeners));
    file.tables.push(("server".to_owned(), keys));
    limits(cx, file, http, servers);
    let keys = log(cx, http, servers);
    file.tables.push(("log".to_owned(), keys));
    Node {
        tls,
        plain: !redirects && !plain.is_empty(),
        challenges,
    }
}

/// Each address once; one that all addresses of its family include is left out.
fn addresses(all: impl Iterator<Item = SocketAddr>) -> Vec<String> {
    let all: BTreeSet<SocketAddr> = all.collect();
    let wide = |address: &SocketAddr| match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port())),
    };
    let kept = all
        .iter()
        .filter(|address| wide(address) == **address || !all.contains(&wide(address)));
    kept.map(ToString::to_string).collect()
}

/// Directives of a server that only redirects, beside what redirects.
const HARMLESS: &[&str] = &[
    "listen",
    "server_name",
    "access_log",
    "error_log",
    "server_tokens",
    "root",
    "index",
    "charset",
    "add_header",
];

/// Whether `server` does nothing but to send its clients to the same place with TLS, for hosts that
/// have a server there.
fn redirects(server: &Server<'_>, servers: &[Server<'_>]) -> bool {
    let named = server.names.iter().all(|host| is_named(servers, Transport::Tls, host));
    let mut led = false;
    let other = server
        .directive
        .inner()
        .iter()
        .any(|directive| match directive.name.as_str() {
            name if HARMLESS.contains(&name) => false,
            "return" | "rewrite" => {
                led |= to_tls(directive, server);
                // What certbot leaves at the end, for hosts that it has not asked about before.
                !(to_tls(directive, server) || directive.argument(0) == "404" && led)
            }
            "if" => {
                let same = directive.arguments.first().is_some_and(|word| word == "($host");
                let all = same && directive.inner().iter().all(|inner| to_tls(inner, server));
                led |= all;
                !all
            }
            "location" if is_challenge(directive) => false,
            "location" => {
                let (all, rest): (Vec<_>, Vec<_>) = directive.inner().iter().partition(|inner| to_tls(inner, server));
                led |= !all.is_empty();
                directive.arguments.as_slice() != ["/"] || !rest.is_empty()
            }
            _ => true,
        });
    named && led && !other && !server.speaks(Transport::Tls)
}

/// Whether a directive leads to the same host and path with TLS.
fn to_tls(directive: &Directive, server: &Server<'_>) -> bool {
    let hosts = |text: &str| {
        let host = text.strip_prefix("https://")?;
        let known = |name: &&HostPattern| host.starts_with(&name.to_string());
        let name = server
            .names
            .iter()
            .find(known)
            .filter(|_| server.names.len() == 1)
            .map(ToString::to_string);
        let own = name.as_deref().unwrap_or("$host");
        ["$host", "$http_host", "$server_name", own]
            .iter()
            .find_map(|host_| host.strip_prefix(host_))
            .map(str::to_owned)
    };
    let argument = |n| directive.argument(n);
    match directive.name.as_str() {
        "return" => {
            let status = matches!(argument(0), "301" | "302" | "307" | "308");
            status && hosts(argument(1)).is_some_and(|rest| rest == "$request_uri" || rest == "$uri$is_args$args")
        }
        "rewrite" => {
            let rest = hosts(argument(1));
            let rest = rest.as_deref();
            match argument(0) {
                "^" => rest == Some("$request_uri?"),
                "^(.*)" | "^(.*)$" | "(.*)" => matches!(rest, Some("$1" | "$request_uri?")),
                "^/(.*)$" | "^/(.*)" => matches!(rest, Some("/$1" | "$request_uri?")),
                _ => false,
            }
        }
        _ => false,
    }
}

fn is_challenge(location: &Directive) -> bool {
    let path = location.arguments.last().map(String::as_str).unwrap_or_default();
    let files = location.inner().iter().all(|inner| {
        matches!(
            inner.name.as_str(),
            "root" | "default_type" | "allow" | "try_files" | "auth_basic"
        )
    });
    path.trim_end_matches('/') == "/.well-known/acme-challenge" && files
}

/// Takes a server that only redirects; the directory of its ACME challenges, if it has one.
fn redirected(cx: &mut Context<'_>, server: &Server<'_>) -> Option<String> {
    cx.redirect(server.directive);
    let mut directory = None;
    for directive in server.directive.inner() {
        match directive.name.as_str() {
            "return" | "rewrite" | "if" => {
                cx.take(directive);
                cx.cover(directive);
                let why = "[server] http: every host that a zone has is redirected to https, with 308";
                cx.tell(directive, Weight::Different, why);
            }
            "location" => {
                cx.take(directive);
                cx.cover(directive);
                let root = directive.inner().iter().find(|inner| inner.name == "root");
                let root = root
                    .or_else(|| server.levels.one("root"))
                    .filter(|_| is_challenge(directive));
                directory = root.map(|root| cx.path(root.argument(0))).or(directory);
            }
            _ => cx.take(directive),
        }
    }
    directory
}

/// Proxies that name their clients.
fn clients(cx: &mut Context<'_>, http: &Levels<'_>, servers: &[Server<'_>], listeners: &[&Listener]) -> Vec<Entry> {
    let mut keys = Vec::new();
    let levels: Vec<&Levels<'_>> = std::iter::once(http)
        .chain(servers.iter().map(|server| &server.levels))
        .collect();
    let mut networks: Vec<String> = Vec::new();
    for directive in levels.iter().flat_map(|levels| levels.all("set_real_ip_from")) {
        match directive.argument(0).parse::<Network>() {
            Ok(network) => {
                cx.take(directive);
                let network = network.0.to_string();
                if !networks.contains(&network) {
                    networks.push(network);
                }
            }
            Err(why) => cx.tell(directive, Weight::Missing, why),
        }
    }
    let mut from: Option<&Directive> = None;
    for directive in levels.iter().filter_map(|levels| levels.one("real_ip_header")) {
        match from {
            Some(first) if first.argument(0) != directive.argument(0) => {
                cx.tell(
                    directive,
                    Weight::Missing,
                    "one field names the clients of the whole node",
                );
            }
            _ => {
                cx.take(directive);
                from = Some(directive);
            }
        }
    }
    let recursive = levels.iter().find_map(|levels| levels.one("real_ip_recursive"));
    if let Some(directive) = recursive {
        cx.take(directive);
    }
    let recursive = recursive.is_some_and(|directive| directive.argument(0) == "on");
    let field = from.map_or("X-Real-IP", |directive| directive.argument(0));
    if field == "proxy_protocol" || listeners.iter().any(|listener| listener.proxy_protocol) {
        if networks.is_empty() {
            for server in servers
                .iter()
                .filter(|server| server.listeners.iter().any(|listener| listener.proxy_protocol))
            {
                let why = "proxy_protocol: name the balancer's networks in [server] proxy_protocol_from: from all others the header is refused";
                cx.tell(server.directive, Weight::Missing, why);
            }
        } else {
            keys.push(("proxy_protocol_from".to_owned(), list(&networks)));
        }
    } else if !networks.is_empty() {
        // Without recursion nginx takes the last address of the field.
        let depth = if recursive { "" } else { ", depth = 1" };
        let value = format!("{{ from = {}, trusted = {}{depth} }}", quoted(field), list(&networks));
        keys.push(("client_address".to_owned(), value));
        if let Some(from) = from {
            cx.tell(
                from,
                Weight::Different,
                "trusted by all zones; X-Forwarded-Proto of these proxies is believed, too (docs/proxies.md)",
            );
        }
    }
    keys
}

/// Where access lines go: one file for the node.
fn log(cx: &mut Context<'_>, http: &Levels<'_>, servers: &[Server<'_>]) -> Vec<Entry> {
    let served = servers.iter().filter(|server| !cx.is_redirect(server.directive));
    let levels: Vec<&Levels<'_>> = std::iter::once(http)
        .chain(served.map(|server| &server.levels))
        .collect();
    let mut all: Vec<&Directive> = levels.iter().flat_map(|levels| levels.all("access_log")).collect();
    all.dedup_by_key(|directive| directive.id);
    for levels in &levels {
        let locations = levels.own().iter().filter(|inner| inner.name == "location");
        locations.for_each(|location| logs(location, &mut all));
    }
    let is_file = |directive: &&&Directive| {
        let to = directive.argument(0);
        !matches!(to, "off" | "/dev/stdout" | "/dev/stderr") && !to.starts_with("syslog:") && !to.contains('$')
    };
    let first = all.iter().find(is_file).copied();
    let none = !all.is_empty() && all.iter().all(|directive| directive.argument(0) == "off");
    for directive in &all {
        let to = directive.argument(0);
        match first {
            _ if none && http.one("access_log").is_some() => cx.take(directive),
            _ if to == "off" => cx.tell(directive, Weight::Different, "lines are of all requests, or of none"),
            _ if to.contains('$') => cx.tell(directive, Weight::Missing, "one file holds the lines of the node"),
            Some(first) if to == first.argument(0) && directive.arguments.len() < 2 => cx.tell(
                directive,
                Weight::Different,
                "lines are JSON with fields of their own (docs/logs.md)",
            ),
            Some(first) if to == first.argument(0) => cx.tell(
                directive,
                Weight::Different,
                "lines are JSON with fields of their own, of all requests, written at once (docs/logs.md)",
            ),
            Some(_) => cx.tell(
                directive,
                Weight::Different,
                "one file holds the lines of the node, each with its zone",
            ),
            None => cx.tell(
                directive,
                Weight::Idle,
                "lines go to standard error, which the journal keeps (docs/logs.md)",
            ),
        }
    }
    match first {
        Some(first) => vec![("access_file".to_owned(), quoted(&cx.path(first.argument(0))))],
        None if none && http.one("access_log").is_some() => vec![("access".to_owned(), "false".to_owned())],
        None => Vec::new(),
    }
}

/// `access_log` of a location and of those within it.
fn logs<'t>(location: &'t Directive, into: &mut Vec<&'t Directive>) {
    for inner in location.inner() {
        match inner.name.as_str() {
            "access_log" => into.push(inner),
            _ => logs(inner, into),
        }
    }
}

fn limits(cx: &mut Context<'_>, file: &mut File, http: &Levels<'_>, servers: &[Server<'_>]) {
    let mut keys: Vec<Entry> = Vec::new();
    let times = [
        ("client_header_timeout", "header_timeout"),
        ("send_timeout", "write_timeout"),
        ("keepalive_timeout", "idle_timeout"),
    ];
    let all = |name: &str| -> Vec<&Directive> {
        let levels = std::iter::once(http).chain(servers.iter().map(|server| &server.levels));
        let mut found: Vec<&Directive> = levels.flat_map(|levels| levels.all(name)).collect();
        found.dedup_by_key(|directive| directive.id);
        found
    };
    let mut one = |cx: &mut Context<'_>, name: &str, key: &str, value: &dyn Fn(&Directive) -> Option<String>| {
        let mut first: Option<String> = None;
        for directive in all(name) {
            match (value(directive), &first) {
                (None, _) => cx.tell(directive, Weight::Missing, "not a value that is known"),
                (Some(value), Some(known)) if value != *known => {
                    cx.tell(
                        directive,
                        Weight::Different,
                        format!("{key} holds for the whole node: {known}"),
                    );
                }
                (Some(value), _) => {
                    cx.take(directive);
                    first = Some(value);
                }
            }
        }
        keys.extend(first.map(|value| (key.to_owned(), value)));
    };
    for (name, key) in times {
        one(cx, name, key, &|directive| time(directive.argument(0)).map(span));
    }
    one(cx, "keepalive_requests", "requests_per_connection", &|directive| {
        directive
            .argument(0)
            .parse::<u64>()
            .ok()
            .map(|number| number.to_string())
    });
    one(cx, "large_client_header_buffers", "header_bytes", &|directive| {
        let all = directive
            .argument(0)
            .parse::<u64>()
            .ok()?
            .checked_mul(size(directive.argument(1))?)?;
        Some(bytes(all.clamp(8 << 10, 1 << 20)))
    });
    let crowds: Vec<&Directive> = all("limit_conn")
        .into_iter()
        .filter(|directive| is_by_address(cx, directive))
        .collect();
    let most = crowds
        .iter()
        .filter_map(|directive| directive.argument(1).parse::<u32>().ok())
        .max();
    if let Some(most) = most.filter(|most| *most > 0) {
        for directive in crowds {
            let why =
                "connections of one address to the whole node, whatever they carry: [limits] connections_per_address";
            cx.tell(directive, Weight::Different, why);
            if let Some(zone) = cx.crowds.get(directive.argument(0)).copied() {
                cx.take(zone);
            }
        }
        for server in servers {
            super::limits::answers(cx, &server.levels);
        }
        keys.push(("connections_per_address".to_owned(), most.to_string()));
    }
    if let Some(directive) = http.one("client_header_buffer_size") {
        cx.take(directive);
    }
    file.tables.push(("limits".to_owned(), keys));
}
