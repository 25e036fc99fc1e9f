//! From hyper's request to a sound one: one host, a target in origin form, a zone that serves both the host and the
//! connection's certificate. `service` calls it; what it refuses never reaches a handler.

use std::net::Ipv6Addr;
use std::sync::Arc;

use http::header::{EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri, Version, request};

use super::connection;
use super::handler::{Failure, Reason};
use crate::base::peer::Peer;
use crate::zones::{Zone, Zones};

/// The host a request names, sound.
#[derive(Clone, Debug)]
pub struct Host {
    /// As the client wrote it, lower case, without a trailing dot: name or literal, and the port where there is one that is not
    /// the scheme's own (RFC 9110 section 4.2.3): caches, origins and rules are told one name of one host.
    pub authority: Arc<str>,
    /// Its zone.
    pub zone: Arc<Zone>,
}

/// A connection's last host: nearly always the next request's as well, which saves parsing, a lookup and an allocation.
#[derive(Debug, Default)]
pub struct Recent {
    raw: Vec<u8>,
    zones: Option<Arc<Zones>>,
    host: Option<Host>,
}

fn malformed(what: &'static str) -> Failure {
    Failure::new(Reason::Malformed, what)
}

/// Checks all of `head` but its framing, and rewrites its target to origin form.
///
/// # Errors
/// What the client is to be told.
pub fn sound(head: &mut request::Parts, peer: &Peer, zones: &Arc<Zones>, recent: &mut Recent) -> Result<Host, Failure> {
    let extended = head.extensions.get::<hyper::ext::Protocol>().is_some();
    if head.method == Method::TRACE || head.method == Method::CONNECT && !extended {
        // No proxy for whoever asks; TRACE would show a script what only the browser should see.
        return Err(Failure::new(Reason::Method, "CONNECT or TRACE"));
    }
    let host = host(head, peer, zones, recent)?;
    target(head, extended)?;
    connection::strip_named(&mut head.headers);
    expectation(&head.headers, head.version)?;
    Ok(host)
}

fn host(head: &request::Parts, peer: &Peer, zones: &Arc<Zones>, recent: &mut Recent) -> Result<Host, Failure> {
    let field = single_host(&head.headers)?;
    let target = head.uri.authority().map(|a| a.as_str().as_bytes());
    let raw = match (target, field) {
        (Some(target), Some(field)) => {
            // RFC 9113 section 8.3.1, RFC 9112 section 3.2.2: whoever believes the other one would route it elsewhere.
            if !same(target, field) {
                return Err(malformed("Host and target name different hosts"));
            }
            target
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) if head.version >= Version::HTTP_11 => return Err(malformed("no host")),
        (None, None) => b"",
    };
    if let (Some(known), Some(host)) = (&recent.zones, &recent.host)
        && recent.raw == raw
        && Arc::ptr_eq(known, zones)
    {
        return Ok(host.clone());
    }
    let (authority, name) = if raw.is_empty() {
        (String::new(), String::new())
    } else {
        let (mut authority, name) = authority(raw).ok_or_else(|| malformed("host against the grammar"))?;
        let own = if peer.handshake.is_some() { ":443" } else { ":80" };
        if authority.ends_with(own) {
            authority.truncate(authority.len() - own.len());
        }
        (authority, name)
    };
    let unknown = || Failure::new(Reason::UnknownHost, "no zone for the host");
    let zone = zones.find(&name).ok_or_else(unknown)?.clone();
    if let Some(handshake) = &peer.handshake {
        // The certificate shown was that of the name's zone, or of the default zone (RFC 9110 section 7.4). By name: a
        // reload makes new zones.
        let shown = zones.find(handshake.server_name.as_deref().unwrap_or_default());
        if shown.is_none_or(|shown| shown.name != zone.name) {
            return Err(Failure::new(
                Reason::Misdirected,
                "the host's zone is not the certificate's",
            ));
        }
    }
    let host = Host {
        authority: authority.into(),
        zone,
    };
    recent.raw.clear();
    recent.raw.extend_from_slice(raw);
    recent.zones = Some(zones.clone());
    recent.host = Some(host.clone());
    Ok(host)
}

fn single_host(headers: &HeaderMap) -> Result<Option<&[u8]>, Failure> {
    let mut fields = headers.get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => Ok(Some(field.as_bytes())),
        _ => Err(malformed("several Host fields")),
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    // The grammar is checked on one of them, and equal bytes are equally sound.
    a.eq_ignore_ascii_case(b)
}

/// Reads `uri-host [ ":" port ]` (RFC 9110 section 7.2): the authority in lower case, and the name in it, literals without
/// brackets. No user information, no empty or zero port, no percent-encoding, none of the characters that only some
/// parsers take for the name's end.
pub fn authority(raw: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= 253 + 1 + 6)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let (literal, rest) = literal.split_once(']')?;
            let address: Ipv6Addr = literal.parse().ok()?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (address.to_string(), port)
        }
        None => {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            let name = name.strip_suffix('.').unwrap_or(name);
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            if name.len() > 253 || !name.split('.').all(label) {
                return None;
            }
            (name.to_ascii_lowercase(), port)
        }
    };
    let bracketed = if name.contains(':') {
        format!("[{name}]")
    } else {
        name.clone()
    };
    match port {
        None => Some((bracketed, name)),
        Some(digits) => {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let port: u16 = plain.then(|| digits.parse().ok()).flatten().filter(|port| *port > 0)?;
            Some((format!("{bracketed}:{port}"), name))
        }
    }
}

/// Leaves path and query, or `*`.
fn target(head: &mut request::Parts, extended: bool) -> Result<(), Failure> {
    let path = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if !(path.starts_with('/') || path == "*" && head.method == Method::OPTIONS) {
        return Err(malformed("target in a form that does not fit the method"));
    }
    if head.uri.authority().is_none() && head.uri.scheme().is_none() {
        return Ok(());
    }
    if !matches!(head.uri.scheme_str(), Some("http" | "https")) && !extended {
        return Err(malformed("target with another scheme"));
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = std::mem::take(&mut head.uri).into_parts().path_and_query;
    head.uri = Uri::from_parts(parts).map_err(|_| malformed("target against the grammar"))?;
    Ok(())
}

/// RFC 9110 section 10.1.1: the only expectation there is.
fn expectation(headers: &HeaderMap, version: Version) -> Result<(), Failure> {
    let known = headers
        .get_all(EXPECT)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if known || version < Version::HTTP_11 {
        Ok(())
    } else {
        Err(Failure::new(
            Reason::Expectation,
            "an expectation other than 100-continue",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_zone() -> Arc<Zones> {
        let text = "[server]\nhttp=[\"127.0.0.1:80\"]\n[[zone]]\nname=\"z\"\nhosts=[\"a.example\"]\n\
                    [zone.origin]\nservers=[{address=\"http://127.0.0.1:1\"}]";
        let config = crate::config::Config::parse(std::path::Path::new("t.toml"), text).unwrap();
        Arc::new(Zones::new(&config.zones))
    }

    fn peer(secure: bool) -> Peer {
        Peer {
            client: "192.0.2.7:5".parse().unwrap(),
            local: "192.0.2.1:443".parse().unwrap(),
            accepted: std::time::Instant::now(),
            handshake: secure.then(|| crate::base::peer::Handshake {
                duration: std::time::Duration::ZERO,
                server_name: Some("a.example".into()),
                version: "TLSv1.3",
                resumed: false,
                client: 0,
                known: false,
                certificate: None,
            }),
            early: None,
        }
    }

    /// One host under several names would be stored, limited and told to the origin as several; and what the origin makes of
    /// an odd spelling would be stored for those who write it plainly.
    #[test]
    fn one_name_for_one_host() {
        let zones = one_zone();
        for (secure, written, read) in [
            (true, "A.Example:443", "a.example"),
            (true, "a.example.:80", "a.example:80"),
            (false, "a.example:80", "a.example"),
            (false, "a.example:443", "a.example:443"),
        ] {
            let request = http::Request::builder().uri("/x").header(HOST, written);
            let mut head = request.body(()).unwrap().into_parts().0;
            let host = sound(&mut head, &peer(secure), &zones, &mut Recent::default()).unwrap();
            assert_eq!(&*host.authority, read, "{written}");
        }
    }

    /// A host read in two ways is routed by one reading and answered by the other.
    #[test]
    fn authorities() {
        let read = |text: &str| authority(text.as_bytes());
        let owned = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(read("A.Example"), owned("a.example", "a.example"));
        assert_eq!(read("a.example.:8443"), owned("a.example:8443", "a.example"));
        assert_eq!(read("[2001:DB8::1]:443"), owned("[2001:db8::1]:443", "2001:db8::1"));
        assert_eq!(read("192.0.2.1"), owned("192.0.2.1", "192.0.2.1"));
        for wrong in [
            "",
            ".",
            "a..b",
            "a.example:",
            "a.example:0",
            "a.example:99999",
            "a.example:+1",
            "a.example:80:80",
            "user@a.example",
            "a.example/x",
            "a.example?x",
            "a.example#x",
            "a example",
            "a.example\t",
            "a%2eexample",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[v1.x]",
            "[fe80::1%25eth0]",
            "ä.example",
            "a,b",
            "a\\b",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(&"a".repeat(64)), None);
        assert_eq!(read(&["a"; 200].join(".")), None);
    }
}
