//! What `proxy_pass` and `grpc_pass` lead to: an `[[origin]]` for each way in which an upstream, or
//! a server, is asked.

use std::time::Duration;

use super::context::{self, Context, Levels, span, time};
use super::fields::{HostField, Request};
use super::syntax::Directive;
use super::text::{Known, Text};
use crate::config::value::OriginAddress;
use crate::import::Weight;
use crate::import::write::{Pool, quoted};

/// Where a location's requests go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The pool's name.
    pub(super) pool: String,
    /// What stands after the host, if anything does.
    pub(super) uri: Option<Text>,
}

/// A target as written, in its parts.
struct Parts {
    tls: bool,
    grpc: bool,
    /// `host:port`, an upstream's name, or `unix:/path`.
    authority: String,
    uri: Option<Text>,
}

fn parts(pass: &Directive, known: &Known) -> Result<Parts, String> {
    let mut text = Text::of(pass.argument(0), known)?;
    let grpc = pass.name == "grpc_pass";
    let head = text.head().to_owned();
    let (scheme, rest) = match head.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
        None if grpc => ("grpc".to_owned(), head.clone()),
        None => return Err("where it leads depends on variables".to_owned()),
    };
    let tls = match scheme.as_str() {
        "http" | "grpc" => false,
        "https" | "grpcs" => true,
        other => return Err(format!("{other}: is not a scheme of origins")),
    };
    let (authority, after) = match rest.strip_prefix("unix:") {
        Some(path) => match path.split_once(':') {
            Some((path, uri)) => (format!("unix:{path}"), Some(uri.to_owned())),
            None => (format!("unix:{path}"), None),
        },
        None => match rest.find(['/', '?']) {
            Some(at) => {
                let (authority, uri) = rest.split_at(at);
                (authority.to_owned(), Some(uri.to_owned()))
            }
            None => (rest, None),
        },
    };
    if let Some(first) = text.0.first_mut() {
        *first = super::text::Piece::Text(after.clone().unwrap_or_default());
    }
    if after.is_none()
        && text.0.len() > 1
        && !matches!(text.0.get(1), Some(super::text::Piece::Variable(name)) if is_target(name))
    {
        return Err("where it leads depends on variables".to_owned());
    }
    let uri = (after.is_some() || text.0.len() > 1).then(|| {
        text.0
            .retain(|piece| !matches!(piece, super::text::Piece::Text(text) if text.is_empty()));
        text
    });
    Ok(Parts {
        tls,
        grpc,
        authority,
        uri,
    })
}

/// Variables that begin with a `/`, so that the host ends in front of them.
fn is_target(name: &str) -> bool {
    matches!(name, "request_uri" | "uri" | "document_uri")
}

/// The target of `pass`, a pool made for it if there is none like it yet.
///
/// # Errors
/// Why edge cannot ask there.
pub(super) fn target(
    cx: &mut Context<'_>,
    pass: &Directive,
    levels: &Levels<'_>,
    request: &Request,
    known: &Known,
) -> Result<Target, String> {
    let parts = parts(pass, known)?;
    let upstream = cx.upstreams.get(parts.authority.as_str()).copied();
    let mut pool = Pool {
        owner: upstream.map(|upstream| upstream.id),
        ..Pool::default()
    };
    if parts.grpc {
        let version = if parts.tls { "auto" } else { "2" };
        pool.keys.push(("http".to_owned(), quoted(version)));
    }
    match upstream {
        Some(upstream) => servers(cx, upstream, parts.tls, &mut pool),
        None => pool.servers.push(format!(
            "{{ address = {} }}",
            quoted(&address(&parts.authority, parts.tls)?)
        )),
    }
    if pool.servers.is_empty() {
        return Err("no server is left of its upstream".to_owned());
    }
    match request.host {
        HostField::Server => {
            pool.keys.push(("preserve_host".to_owned(), "false".to_owned()));
            if let Some(upstream) = upstream {
                let why = "without proxy_set_header Host, nginx sends the upstream's name in Host, edge the server's own name";
                cx.tell(upstream, Weight::Different, why);
            }
        }
        HostField::Client => {}
    }
    if !request.upgrades && !parts.grpc {
        pool.keys.push(("upgrades".to_owned(), "false".to_owned()));
    }
    let prefix = if parts.grpc { "grpc" } else { "proxy" };
    times(cx, levels, prefix, &mut pool);
    next_upstream(cx, levels, prefix, &mut pool);
    if parts.tls {
        tls(cx, pass, levels, prefix, &mut pool);
    }
    let base = match upstream {
        Some(_) => context::name(&parts.authority),
        None => context::name(parts.authority.trim_start_matches("unix:")),
    };
    let same = |known: &&Pool| {
        known.servers == pool.servers
            && known.keys == pool.keys
            && known.passive == pool.passive
            && known.owner == pool.owner
    };
    let name = match cx.pools.iter().find(same) {
        Some(known) => known.name.clone(),
        None => {
            pool.name = context::unlike(&base, |name| cx.pools.iter().any(|known| known.name == name));
            let name = pool.name.clone();
            cx.pools.push(pool);
            name
        }
    };
    Ok(Target {
        pool: name,
        uri: parts.uri,
    })
}

/// An address as `[[origin]]` has it.
fn address(authority: &str, tls: bool) -> Result<String, String> {
    let text = match authority.starts_with("unix:") {
        true if tls => return Err("TLS over a Unix socket".to_owned()),
        true => authority.to_owned(),
        false => format!("{}://{authority}", if tls { "https" } else { "http" }),
    };
    let address: OriginAddress = text.parse()?;
    Ok(address.to_string())
}

fn servers(cx: &mut Context<'_>, upstream: &Directive, tls: bool, pool: &mut Pool) {
    cx.take(upstream);
    let (mut failures, mut cooldown) = (1_u32, Duration::from_secs(10));
    for directive in upstream.inner() {
        match directive.name.as_str() {
            "server" => {
                if let Some((fails, time)) = server(cx, directive, tls, pool) {
                    (failures, cooldown) = (fails, time);
                }
            }
            _ => balance(cx, directive, pool),
        }
    }
    if pool.servers.len() > 1 {
        pool.passive.push(("failures".to_owned(), failures.to_string()));
        pool.passive.push(("cooldown".to_owned(), span(cooldown)));
        pool.passive.push(("status".to_owned(), "[]".to_owned()));
    }
}

/// Adds a server; its own numbers of failures and the time it is out.
fn server(cx: &mut Context<'_>, directive: &Directive, tls: bool, pool: &mut Pool) -> Option<(u32, Duration)> {
    cx.take(directive);
    let written = directive.argument(0);
    // Without a port it is 80, with TLS too.
    let bare = |text: &str| text.rsplit_once(':').is_none_or(|(_, port)| port.contains(']'));
    let authority = match written.starts_with("unix:") || !bare(written) {
        true => written.to_owned(),
        false => format!("{written}:80"),
    };
    let address = match address(&authority, tls) {
        Ok(address) => address,
        Err(why) => {
            cx.tell(directive, Weight::Missing, why);
            return None;
        }
    };
    let mut server = format!("{{ address = {}", quoted(&address));
    let mut numbers = None;
    for word in directive.arguments.iter().skip(1) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("weight", Ok(weight)) => server += &format!(", weight = {}", weight.clamp(1, 65_535)),
            ("backup", _) => server += ", priority = 1",
            ("max_fails", Ok(fails)) => {
                numbers = Some((fails, numbers.map_or(Duration::from_secs(10), |(_, time)| time)))
            }
            ("fail_timeout", _) => match time(value) {
                Some(time) => numbers = Some((numbers.map_or(1, |(fails, _)| fails), time)),
                None => cx.tell(directive, Weight::Missing, format!("{word}: not a time")),
            },
            ("down", _) => {
                cx.tell(
                    directive,
                    Weight::Different,
                    "it is down, and left out: `edge origin drain` takes one out of a running node",
                );
                return None;
            }
            ("slow_start", _) if time(value).is_some() => {
                let time = time(value).unwrap_or_default();
                if !pool.keys.iter().any(|(key, _)| key == "slow_start") {
                    pool.keys.push(("slow_start".to_owned(), span(time)));
                }
            }
            ("resolve", _) => {}
            _ => cx.tell(
                directive,
                Weight::Missing,
                format!("{word}: a server of a pool has no such option"),
            ),
        }
    }
    pool.servers.push(server + " }");
    if numbers.is_some() && pool.passive.is_empty() {
        let why = "max_fails and fail_timeout hold for the whole pool, and failures count in a row";
        cx.tell(directive, Weight::Different, why);
    }
    numbers
}

/// How the next server is chosen, and how connections are kept.
fn balance(cx: &mut Context<'_>, directive: &Directive, pool: &mut Pool) {
    let mut push = |key: &str, value: String| pool.keys.push((key.to_owned(), value));
    let number = directive.argument(0).parse::<u64>();
    match (directive.name.as_str(), directive.argument(0)) {
        ("ip_hash", _) => {
            push("balance", quoted("hash"));
            push("hash", quoted("client"));
            cx.tell(
                directive,
                Weight::Different,
                "by the whole address; nginx goes by the first three parts of an IPv4 address",
            );
        }
        ("least_conn", _) => {
            push("balance", quoted("least-loaded"));
            cx.take(directive);
        }
        ("random", "two") => {
            push("balance", quoted("least-loaded"));
            cx.tell(
                directive,
                Weight::Different,
                "the least loaded of all servers, not of two",
            );
        }
        ("random", _) => cx.tell(directive, Weight::Different, "in turns, not by chance"),
        ("hash", key) => match hash_key(key) {
            Some(by) => {
                push("balance", quoted("hash"));
                push("hash", quoted(&by));
                if directive.argument(1) == "consistent" {
                    cx.take(directive);
                } else {
                    cx.tell(
                        directive,
                        Weight::Different,
                        "consistent: few keys move when servers change",
                    );
                }
            }
            None => cx.tell(
                directive,
                Weight::Missing,
                "servers are chosen by client, path, header:NAME or cookie:NAME",
            ),
        },
        ("keepalive", _) if number.is_ok() => {
            push("idle_connections", number.unwrap_or(64).to_string());
            cx.take(directive);
        }
        ("keepalive_requests", _) if number.is_ok() => {
            push("connection_requests", number.unwrap_or(10_000).to_string());
            cx.take(directive);
        }
        ("keepalive_timeout", text) if time(text).is_some() => {
            push("idle_timeout", span(time(text).unwrap_or_default()));
            cx.take(directive);
        }
        ("keepalive_time", text) if time(text).is_some() => {
            push("connection_age", span(time(text).unwrap_or_default()));
            cx.take(directive);
        }
        _ => {}
    }
}

fn hash_key(key: &str) -> Option<String> {
    let name = key.strip_prefix('$')?.trim_matches(['{', '}']);
    Some(match name {
        "remote_addr" | "binary_remote_addr" => "client".to_owned(),
        "uri" | "request_uri" | "document_uri" => "path".to_owned(),
        _ => match name.split_once('_')? {
            ("cookie", name) if !name.is_empty() => format!("cookie:{name}"),
            ("http", name) if !name.is_empty() => format!("header:{}", name.replace('_', "-")),
            _ => return None,
        },
    })
}

fn times(cx: &mut Context<'_>, levels: &Levels<'_>, prefix: &str, pool: &mut Pool) {
    let keys = [
        ("connect_timeout", &["connect_timeout"][..]),
        ("read_timeout", &["response_timeout", "body_timeout"]),
    ];
    for (name, keys) in keys {
        let Some(directive) = levels.one(&format!("{prefix}_{name}")) else {
            continue;
        };
        match time(directive.argument(0)) {
            Some(time) => {
                cx.take(directive);
                pool.keys.extend(keys.iter().map(|key| ((*key).to_owned(), span(time))));
            }
            None => cx.tell(directive, Weight::Missing, "not a time"),
        }
    }
    if let Some(directive) = levels.one(&format!("{prefix}_send_timeout")) {
        let why = "uploads go on while either side moves: body_timeout of the zone, and of its origin";
        cx.tell(directive, Weight::Different, why);
    }
}

/// What is asked again elsewhere. nginx does so after errors and timeouts alone, if nothing is
/// said.
fn next_upstream(cx: &mut Context<'_>, levels: &Levels<'_>, prefix: &str, pool: &mut Pool) {
    let (mut statuses, mut retries) = (Vec::new(), pool.servers.len().saturating_sub(1).min(10));
    if let Some(directive) = levels.one(&format!("{prefix}_next_upstream")) {
        cx.take(directive);
        for word in &directive.arguments {
            match word.as_str() {
                "error" | "timeout" | "invalid_header" => {}
                "off" => retries = 0,
                other => match other
                    .strip_prefix("http_")
                    .and_then(|status| status.parse::<u16>().ok())
                {
                    Some(status @ 500..=599) => statuses.push(status.to_string()),
                    _ => cx.tell(
                        directive,
                        Weight::Missing,
                        format!("{other}: no reason to ask another server"),
                    ),
                },
            }
        }
    }
    if let Some(directive) = levels.one(&format!("{prefix}_next_upstream_tries")) {
        cx.take(directive);
        if let Ok(tries @ 1..) = directive.argument(0).parse::<usize>() {
            retries = retries.min(tries - 1);
        }
    }
    if pool.servers.len() > 1 {
        if retries != 1 {
            pool.keys.push(("retries".to_owned(), retries.to_string()));
        }
        pool.keys
            .push(("retry_status".to_owned(), format!("[{}]", statuses.join(", "))));
    }
}

fn tls(cx: &mut Context<'_>, pass: &Directive, levels: &Levels<'_>, prefix: &str, pool: &mut Pool) {
    let names = [
        ("ssl_trusted_certificate", "ca"),
        ("ssl_certificate", "certificate"),
        ("ssl_certificate_key", "key"),
        ("ssl_name", "server_name"),
    ];
    for (name, key) in names {
        let Some(directive) = levels.one(&format!("{prefix}_{name}")) else {
            continue;
        };
        let value = directive.argument(0);
        if value.contains('$') {
            cx.tell(directive, Weight::Missing, "a name that depends on variables");
            continue;
        }
        cx.take(directive);
        let value = if key == "server_name" {
            value.to_owned()
        } else {
            cx.path(value)
        };
        pool.keys.push((key.to_owned(), quoted(&value)));
    }
    if !levels.says(&format!("{prefix}_ssl_verify"), "on") {
        let why =
            "edge verifies the server's certificate: by the system's roots, or write ca = \"…\" into its [[origin]]";
        cx.tell(pass, Weight::Different, why);
    } else if let Some(directive) = levels.one(&format!("{prefix}_ssl_verify")) {
        cx.take(directive);
    }
}
