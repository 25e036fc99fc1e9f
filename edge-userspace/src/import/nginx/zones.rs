//! Zones: the hosts of all servers, each with the server that nginx has answer for it without TLS
//! and the one with TLS.

use super::context::{self, Context, Levels, bytes, size, span, time};
use super::draft::Draft;
use super::limits;
use super::listen::{Server, Transport, default, find};
use super::rules;
use super::stored;
use super::syntax::Directive;
use super::text::Known;
use crate::config::value::HostPattern;
use crate::import::Weight;
use crate::import::write::{Entry, When, Zone, list, quoted};

/// What is to be known of the node for its zones.
pub(super) struct Node {
    /// There are listeners with TLS.
    pub(super) tls: bool,
    /// Zones are served without TLS, too.
    pub(super) plain: bool,
    /// Directories with the answers to ACME's challenges, of servers that only redirect.
    pub(super) challenges: Option<String>,
}

/// The servers that answer for a zone's hosts, by their places: without TLS, with TLS.
type Pair = (Option<usize>, Option<usize>);

/// All zones of `servers`.
pub(super) fn zones<'t>(cx: &mut Context<'t>, servers: &[Server<'t>], node: &Node) -> Vec<Zone> {
    let rejects = |at: &usize| {
        servers
            .get(*at)
            .is_some_and(|server| server.levels.says("ssl_reject_handshake", "on"))
    };
    let pair = |find: &dyn Fn(Transport) -> Option<usize>| -> Pair {
        let plain = node.plain.then(|| find(Transport::Plain)).flatten();
        let tls = node.tls.then(|| find(Transport::Tls)).flatten();
        (plain, tls.filter(|at| !rejects(at)))
    };
    let mut groups: Vec<(Pair, Vec<String>)> = Vec::new();
    for server in servers {
        for host in &server.names {
            let pair = pair(&|transport| find(servers, transport, host));
            if pair == (None, None) {
                continue;
            }
            let host = host.to_string();
            match groups.iter_mut().find(|(known, _)| *known == pair) {
                Some((_, hosts)) if hosts.contains(&host) => {}
                Some((_, hosts)) => hosts.push(host),
                None => groups.push((pair, vec![host])),
            }
        }
    }
    let others = pair(&|transport| default(servers, transport));
    if others != (None, None) && !groups.iter().any(|(known, _)| *known == others) {
        groups.push((others, Vec::new()));
    }
    let mut zones: Vec<Zone> = Vec::new();
    for (pair, hosts) in groups {
        let name = match hosts.first() {
            Some(host) => context::name(&host.replace("*.", "")),
            None => "default".to_owned(),
        };
        let name = context::unlike(&name, |name| zones.iter().any(|zone| zone.name == name));
        let mut draft = Draft::default();
        draft.zone.name = name;
        draft.zone.keys.push(("hosts".to_owned(), list(&hosts)));
        if pair == others {
            draft.zone.keys.push(("default".to_owned(), "true".to_owned()));
        }
        zone(cx, &mut draft, servers, pair, node);
        zones.push(draft.zone);
    }
    for server in servers {
        let answers = |zone: &Zone| zone.owners.contains(&server.directive.id);
        if !zones.iter().any(answers) && !cx.is_redirect(server.directive) {
            cx.tell(
                server.directive,
                Weight::Missing,
                "no host leads to this server: another one has its names, or it has none",
            );
            cx.cover(server.directive);
        }
    }
    zones
}

fn zone<'t>(cx: &mut Context<'t>, draft: &mut Draft, servers: &[Server<'t>], (plain, tls): Pair, node: &Node) {
    let at = |at: Option<usize>| at.and_then(|at| servers.get(at));
    let (plain, tls) = (at(plain), at(tls));
    let mut sides: Vec<(&Server<'t>, Option<bool>)> = Vec::new();
    let same = plain
        .zip(tls)
        .is_some_and(|(plain, tls)| plain.directive.id == tls.directive.id);
    let split = node.plain && node.tls && !same;
    // The one with TLS first: its answer to all other paths is the zone's origin.
    sides.extend(tls.map(|server| (server, split.then_some(true))));
    if !same {
        sides.extend(plain.map(|server| (server, split.then_some(false))));
    }
    draft
        .zone
        .owners
        .extend(sides.iter().map(|(server, _)| server.directive.id));
    if node.tls {
        // A zone needs a certificate, also one that is asked without TLS alone.
        let any = servers
            .iter()
            .find(|server| !server.levels.all("ssl_certificate").is_empty());
        if let Some(server) = tls.or(any) {
            certificates(cx, draft, &server.levels);
        }
    }
    if let Some(server) = tls {
        clients(cx, draft, server);
    }
    let levels: Vec<&Levels<'t>> = sides.iter().map(|(server, _)| &server.levels).collect();
    bounds(cx, draft, &levels, &sides);
    coding(cx, draft, &levels);
    cache(draft, &sides);
    if levels.iter().any(|levels| levels.says("underscores_in_headers", "on")) {
        let keys = vec![("underscores".to_owned(), "true".to_owned())];
        draft.zone.tables.push(("requests".to_owned(), keys));
    }
    for levels in &levels {
        if let Some(directive) = levels.one("underscores_in_headers") {
            cx.take(directive);
        }
    }
    for (at, (server, secure)) in sides.iter().enumerate() {
        let base = When {
            secure: *secure,
            ..When::default()
        };
        let known = Known {
            server_name: server.names.first().map(ToString::to_string).unwrap_or_default(),
            ..Known::default()
        };
        limits::limits(cx, draft, server.directive.id, &server.levels);
        rules::server(
            cx,
            draft,
            (server.directive.id, &server.levels),
            (&base, &known),
            at == 0,
        );
    }
    // Where nginx has no server for the host, nobody answers.
    for (transport, side) in [(false, plain), (true, tls)] {
        if split && side.is_none() {
            let when = When {
                secure: Some(transport),
                ..When::default()
            };
            let act = vec![("respond".to_owned(), "{ status = 421 }".to_owned())];
            draft.rule(super::context::WHOLE, "misdirected", when, act, false);
        }
    }
    if let Some(directory) = &node.challenges {
        draft.route("/.well-known/acme-challenge/", directory);
    }
    if draft.zone.origin.is_empty() && draft.zone.rules.is_empty() && draft.zone.routes.is_empty() {
        let act = vec![("respond".to_owned(), "{ status = 404 }".to_owned())];
        draft.rule(super::context::WHOLE, "nothing", When::default(), act, false);
    }
}

/// A key of a file, if its name does not depend on variables and is not the content itself.
fn file(cx: &mut Context<'_>, directive: &Directive) -> Option<String> {
    let name = directive.argument(0);
    if name.contains('$') || name.starts_with("data:") || name.starts_with("engine:") {
        cx.tell(directive, Weight::Missing, "not the name of a file");
        return None;
    }
    cx.take(directive);
    Some(quoted(&cx.path(name)))
}

fn certificates(cx: &mut Context<'_>, draft: &mut Draft, levels: &Levels<'_>) {
    let read = |cx: &mut Context<'_>, name: &str| -> Vec<String> {
        let all = levels.all(name);
        all.into_iter().filter_map(|directive| file(cx, directive)).collect()
    };
    let (certificates, keys) = (read(cx, "ssl_certificate"), read(cx, "ssl_certificate_key"));
    let mut pairs = certificates.into_iter().zip(keys);
    if let Some((certificate, key)) = pairs.next() {
        draft.zone.keys.push(("certificate".to_owned(), certificate));
        draft.zone.keys.push(("key".to_owned(), key));
    }
    let more: Vec<String> = pairs
        .map(|(certificate, key)| format!("{{ certificate = {certificate}, key = {key} }}"))
        .collect();
    if !more.is_empty() {
        draft
            .zone
            .keys
            .push(("more_certificates".to_owned(), format!("[{}]", more.join(", "))));
    }
    if let Some(directive) = levels.one("ssl_protocols") {
        let has = |version: &str| directive.arguments.iter().any(|word| word == version);
        if has("TLSv1") || has("TLSv1.1") || has("SSLv3") {
            cx.tell(directive, Weight::Different, "versions before 1.2 are not spoken");
        } else {
            cx.take(directive);
        }
        if has("TLSv1.3") && !has("TLSv1.2") {
            draft.zone.keys.push(("min_version".to_owned(), quoted("1.3")));
        }
    }
    if let Some(directive) = levels.one("ssl_password_file") {
        cx.tell(
            directive,
            Weight::Missing,
            "keys are read without passwords: openssl pkey -in KEY -out PLAIN, mode 0600",
        );
    }
}

/// Clients' certificates.
fn clients(cx: &mut Context<'_>, draft: &mut Draft, server: &Server<'_>) {
    let levels = &server.levels;
    let Some(verify) = levels
        .one("ssl_verify_client")
        .filter(|verify| verify.argument(0) != "off")
    else {
        for name in ["ssl_verify_client", "ssl_client_certificate", "ssl_crl"] {
            if let Some(directive) = levels.one(name) {
                cx.tell(directive, Weight::Idle, "nothing asks for clients' certificates");
            }
        }
        return;
    };
    let authority = levels
        .one("ssl_client_certificate")
        .or_else(|| levels.one("ssl_trusted_certificate"));
    let required = match verify.argument(0) {
        "on" => Some(true),
        "optional" => Some(false),
        _ => None,
    };
    let authority = authority.and_then(|authority| file(cx, authority));
    let (Some(authority), Some(required)) = (authority, required) else {
        let why = "certificates that no authority here has signed, or of no authority that is named. The zone is closed instead (403): write \
                   client_certificates into it (docs/tls.md), then remove the rule closed";
        cx.tell(verify, Weight::Protection, why);
        let act = vec![("respond".to_owned(), "{ status = 403 }".to_owned())];
        draft.rule(server.directive.id, "closed", When::default(), act, false);
        return;
    };
    cx.take(verify);
    let revoked = levels.one("ssl_crl").and_then(|revoked| file(cx, revoked));
    let revoked = revoked.map_or(String::new(), |revoked| format!(", revoked = [{revoked}]"));
    let value = format!("{{ ca = {authority}, required = {required}{revoked} }}");
    draft.zone.keys.push(("client_certificates".to_owned(), value));
}

/// Bounds on requests: those of the server, and of its locations where they are wider.
fn bounds(cx: &mut Context<'_>, draft: &mut Draft, levels: &[&Levels<'_>], sides: &[(&Server<'_>, Option<bool>)]) {
    // nginx's own, where nothing is written.
    let mut most = 1_u64 << 20;
    let mut written = Vec::new();
    for levels in levels {
        written.extend(levels.one("client_max_body_size").map(|directive| (directive, true)));
    }
    for (server, _) in sides {
        inner(server.directive, "client_max_body_size", &mut written);
    }
    let of_server: Vec<u64> = written
        .iter()
        .filter(|(_, own)| *own)
        .filter_map(|(directive, _)| size(directive.argument(0)))
        .collect();
    if let Some(largest) = of_server
        .iter()
        .map(|size| if *size == 0 { u64::MAX } else { *size })
        .max()
    {
        most = largest;
    }
    for (directive, own) in written {
        match size(directive.argument(0)) {
            None => cx.tell(directive, Weight::Protection, "not a size"),
            Some(_) if own => cx.take(directive),
            Some(size) => {
                let size = if size == 0 { u64::MAX } else { size };
                let wider = size > most;
                most = most.max(size);
                let why = match wider {
                    true => "the bound holds for the whole zone",
                    false => "the zone's bound is wider: bounds of single paths are not known",
                };
                cx.tell(
                    directive,
                    if wider { Weight::Different } else { Weight::Protection },
                    why,
                );
            }
        }
    }
    draft
        .zone
        .keys
        .push(("body_bytes".to_owned(), bytes(if most == u64::MAX { 0 } else { most })));
    let timeout = levels.iter().find_map(|levels| levels.one("client_body_timeout"));
    if let Some(directive) = timeout {
        match time(directive.argument(0)) {
            Some(time) => {
                cx.take(directive);
                draft.zone.keys.push(("body_timeout".to_owned(), span(time)));
            }
            None => cx.tell(directive, Weight::Missing, "not a time"),
        }
    }
}

/// Directives of this name in the blocks within `block`.
fn inner<'t>(block: &'t Directive, name: &str, into: &mut Vec<(&'t Directive, bool)>) {
    for directive in block.inner() {
        let blocks = directive.inner().iter().filter(|inner| inner.name == name);
        into.extend(blocks.map(|found| (found, false)));
        inner(directive, name, into);
    }
}

fn coding(cx: &mut Context<'_>, draft: &mut Draft, levels: &[&Levels<'_>]) {
    let Some(levels) = levels.iter().find(|levels| levels.says("gzip", "on")) else {
        for levels in levels {
            for name in ["gzip", "gzip_types", "gzip_min_length"] {
                if let Some(directive) = levels.one(name) {
                    cx.tell(directive, Weight::Idle, "nothing is coded");
                }
            }
        }
        return;
    };
    let mut keys: Vec<Entry> = vec![("encodings".to_owned(), "[\"gzip\"]".to_owned())];
    let mut types = vec!["text/html".to_owned()];
    for name in ["gzip", "gzip_types", "gzip_min_length"] {
        let Some(directive) = levels.one(name) else { continue };
        cx.take(directive);
        match name {
            "gzip_types" => {
                for word in &directive.arguments {
                    let sound = word
                        .split_once('/')
                        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
                    if !sound {
                        let why = if word == "*" {
                            "all types: name those that are worth it"
                        } else {
                            "not a media type"
                        };
                        cx.tell(directive, Weight::Missing, format!("{word}: {why}"));
                    } else if !types.contains(word) {
                        types.push(word.clone());
                    }
                }
            }
            "gzip_min_length" => match size(directive.argument(0)) {
                Some(least) => keys.push(("min_bytes".to_owned(), bytes(least.min(1 << 30)))),
                None => cx.tell(directive, Weight::Missing, "not a size"),
            },
            _ => {}
        }
    }
    if !keys.iter().any(|(key, _)| key == "min_bytes") {
        keys.push(("min_bytes".to_owned(), bytes(20)));
    }
    keys.push(("types".to_owned(), list(&types)));
    draft.zone.tables.push(("coding".to_owned(), keys));
}

/// `[zone.cache]`, if some location has a cache. What is stored, rules say (`stored`).
fn cache(draft: &mut Draft, sides: &[(&Server<'_>, Option<bool>)]) {
    let mut found: Vec<(&Directive, bool)> = Vec::new();
    for (server, _) in sides {
        found.extend(server.levels.one("proxy_cache").map(|directive| (directive, true)));
        inner(server.directive, "proxy_cache", &mut found);
    }
    if found.iter().any(|(directive, _)| directive.argument(0) != "off") {
        draft.cached = true;
        draft.zone.tables.push(("cache".to_owned(), stored::table()));
    }
}

/// Hosts that the servers of `transport` have names for.
pub(super) fn is_named(servers: &[Server<'_>], transport: Transport, host: &HostPattern) -> bool {
    servers
        .iter()
        .any(|server| server.speaks(transport) && server.names.contains(host))
}
