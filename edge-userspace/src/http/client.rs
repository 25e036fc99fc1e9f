//! Whose a request is that a trusted proxy hands on (`[server] client_address`): the one place
//! where a peer's address becomes the client's. `service` asks before the door; gate, limits, logs,
//! lists and rules go by what comes out.
//!
//! A field of addresses is read from its end, since each proxy appends what it has seen itself (RFC
//! 7239 section 5.2): what stands in front of the first address that is not trusted may be the
//! client's own invention, and is told to nobody.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, request};

use crate::base::field::outside_quotes;
use crate::base::peer::{Peer, Via};
use crate::config::client_address::ClientAddress;

/// Proxies that a chain may have: some hundred bytes for each request.
const MOST_PROXIES: usize = 16;

/// One step of a chain.
#[derive(Debug, Default)]
struct Hop {
    /// `None`: unknown, hidden, or no address.
    address: Option<IpAddr>,
    secure: Option<bool>,
}

/// Who asks with `head`, that came from `peer`. From peers that are not trusted the field does not
/// go on.
pub fn of(rule: &ClientAddress, peer: &Arc<Peer>, head: &mut request::Parts) -> Arc<Peer> {
    let Some((client, via)) = named(rule, peer.client.ip(), &head.headers) else {
        head.headers.remove(&rule.from);
        return peer.clone();
    };
    let known = client == peer.client.ip();
    Arc::new(Peer {
        client: if known { peer.client } else { SocketAddr::new(client, 0) },
        local: peer.local,
        accepted: peer.accepted,
        handshake: peer.handshake.clone(),
        early: peer.early.clone(),
        via: Some(via),
    })
}

/// The client that `peer` names in `headers`, and what it says of it; `None` if `peer` is not
/// trusted. What names nobody is the nearest proxy's own.
pub fn named(rule: &ClientAddress, peer: IpAddr, headers: &HeaderMap) -> Option<(IpAddr, Via)> {
    if !rule.trusts(peer) {
        return None;
    }
    let mut client = peer.to_canonical();
    let mut proxies = Vec::new();
    let mut secure = None;
    let hops = match rule.is_forwarded() {
        true => forwarded(headers),
        false => list(headers, rule),
    };
    let most = rule.depth.map_or(MOST_PROXIES, |depth| depth.get().into());
    for hop in hops.into_iter().rev().take(most) {
        let Some(address) = hop.address else { break };
        proxies.push(client);
        client = address;
        secure = hop.secure;
        if rule.depth.is_none() && !rule.trusts(address) {
            break;
        }
    }
    if let Some(field) = rule.scheme.as_ref().filter(|_| !rule.is_forwarded()) {
        let last = headers.get_all(field).iter().next_back();
        let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        secure = last.and_then(is_secure);
    }
    if proxies.is_empty() {
        proxies.push(client);
    }
    // Found from the nearest on.
    proxies.reverse();
    let proxies = proxies.into_boxed_slice();
    Some((client, Via { proxies, secure }))
}

fn is_secure(scheme: &str) -> Option<bool> {
    match scheme.trim().to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// The addresses of a field that is a list of them, over all its lines.
fn list(headers: &HeaderMap, rule: &ClientAddress) -> Vec<Hop> {
    let lines = headers.get_all(&rule.from).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(|text| Hop {
            address: address(text),
            secure: None,
        })
        .collect()
}

/// The elements of `Forwarded` (RFC 7239 section 4), over all its lines. One that cannot be read
/// ends the search: whatever is in front of it is not believed.
fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let mut hops = Vec::new();
    for line in headers.get_all(http::header::FORWARDED) {
        let line = line.to_str().unwrap_or("?");
        for element in line.split(outside_quotes(',')) {
            let mut hop = Hop::default();
            for pair in element.split(outside_quotes(';')) {
                let Some((name, value)) = pair.split_once('=') else {
                    continue;
                };
                let value = value.trim();
                let value = value
                    .strip_prefix('"')
                    .and_then(|v| v.strip_suffix('"'))
                    .unwrap_or(value);
                match name.trim() {
                    name if name.eq_ignore_ascii_case("for") => hop.address = address(value),
                    name if name.eq_ignore_ascii_case("proto") => hop.secure = is_secure(value),
                    _ => {}
                }
            }
            hops.push(hop);
        }
    }
    hops
}

/// An address, with or without brackets and port, as proxies write them.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse().ok();
    ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn rule(from: &str, depth: Option<u8>) -> ClientAddress {
        ClientAddress {
            from: from.parse().unwrap(),
            trusted: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            depth: depth.and_then(std::num::NonZeroU8::new),
            scheme: Some(HeaderName::from_static("x-forwarded-proto")),
        }
    }

    fn ask(
        rule: &ClientAddress,
        peer: &str,
        fields: &[(&'static str, &'static str)],
    ) -> Option<(String, Option<bool>)> {
        let headers = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        let (client, via) = named(rule, peer.parse().unwrap(), &headers)?;
        let proxies: Vec<_> = via.proxies.iter().map(ToString::to_string).collect();
        Some((format!("{client} by {}", proxies.join(" ")), via.secure))
    }

    /// A client that writes the field itself would be whoever it likes: banned for another, or
    /// never.
    #[test]
    fn only_what_trusted_proxies_have_seen_counts() {
        let rule = rule("x-forwarded-for", None);
        let says = |peer: &str, value: &'static str| ask(&rule, peer, &[("x-forwarded-for", value)]).map(|said| said.0);
        assert_eq!(says("192.0.2.1", "203.0.113.9"), None, "a stranger is not believed");
        for (value, client) in [
            ("203.0.113.9", "203.0.113.9 by 10.0.0.1"),
            // Invented by the client; what the proxy saw is the last one.
            ("1.1.1.1, 203.0.113.9", "203.0.113.9 by 10.0.0.1"),
            ("1.1.1.1, 203.0.113.9, 10.9.9.9", "203.0.113.9 by 10.9.9.9 10.0.0.1"),
            ("203.0.113.9:4711,[fd00::7]:80", "203.0.113.9 by fd00::7 10.0.0.1"),
            ("2001:db8::9 ,  ::ffff:10.0.0.2", "2001:db8::9 by 10.0.0.2 10.0.0.1"),
            // All trusted: a client of the operator's own network.
            ("10.1.1.1, 10.2.2.2", "10.1.1.1 by 10.2.2.2 10.0.0.1"),
            // Nobody knows who it is: the nearest who is known.
            ("203.0.113.9, unknown", "10.0.0.1 by 10.0.0.1"),
            ("203.0.113.9, unknown, 10.2.2.2", "10.2.2.2 by 10.0.0.1"),
            ("", "10.0.0.1 by 10.0.0.1"),
        ] {
            assert_eq!(says("10.0.0.1", value).as_deref(), Some(client), "{value}");
            assert_eq!(says("::ffff:10.0.0.1", value).as_deref(), Some(client), "{value}");
        }
        // Two lines are one list (RFC 9110 section 5.3).
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(ask(&rule, "10.0.0.1", &lines).unwrap().0, "203.0.113.9 by 10.0.0.1");
        let none = ask(&rule, "10.0.0.1", &[]).unwrap();
        assert_eq!(none, ("10.0.0.1 by 10.0.0.1".to_owned(), None));
    }

    /// An operator who counts proxies instead of naming them would get a proxy's address, or the
    /// client's invention.
    #[test]
    fn depth_counts_from_the_end() {
        let two = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 198.51.100.2")];
        for (depth, client) in [(1, "198.51.100.2"), (2, "203.0.113.9"), (9, "1.1.1.1")] {
            let said = ask(&rule("x-forwarded-for", Some(depth)), "10.0.0.1", &two).unwrap().0;
            assert!(said.starts_with(client), "{depth}: {said}");
        }
    }

    /// Pages would be cached, redirected or given HSTS by a scheme that is not the client's.
    #[test]
    fn the_scheme_is_the_nearest_proxys_word() {
        let list = rule("x-forwarded-for", None);
        for (value, secure) in [
            ("https", Some(true)),
            ("HTTP", Some(false)),
            ("http, https", Some(true)),
            ("gopher", None),
        ] {
            let fields = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", value)];
            assert_eq!(ask(&list, "10.0.0.1", &fields).unwrap().1, secure, "{value}");
        }
        let silent = ClientAddress { scheme: None, ..list };
        assert_eq!(
            ask(&silent, "10.0.0.1", &[("x-forwarded-proto", "https")]).unwrap().1,
            None
        );
    }

    /// What stands in quotes is one value: a client would otherwise end an element early and write
    /// the next itself.
    #[test]
    fn forwarded_is_read_by_its_grammar() {
        let rule = rule("forwarded", None);
        for (value, said) in [
            ("for=203.0.113.9;proto=https", ("203.0.113.9 by 10.0.0.1", Some(true))),
            (
                "for=1.1.1.1, For=\"[2001:db8::9]:4711\";PROTO=http",
                ("2001:db8::9 by 10.0.0.1", Some(false)),
            ),
            (
                "for=203.0.113.9;proto=https, for=10.3.3.3;proto=http",
                ("203.0.113.9 by 10.3.3.3 10.0.0.1", Some(true)),
            ),
            ("for=203.0.113.9, for=_hidden", ("10.0.0.1 by 10.0.0.1", None)),
            (
                "for=1.1.1.1;by=\"x\\\", for=2.2.2.2\";host=a, for=203.0.113.9",
                ("203.0.113.9 by 10.0.0.1", None),
            ),
            ("for=\"1.1.1.1, for=203.0.113.9", ("10.0.0.1 by 10.0.0.1", None)),
        ] {
            let (client, secure) = ask(&rule, "10.0.0.1", &[("forwarded", value)]).unwrap();
            assert_eq!((client.as_str(), secure), said, "{value}");
        }
    }

    /// A chain as long as a head may be would cost its length in every log line and upstream field.
    #[test]
    fn chains_end() {
        let many: &'static str = Box::leak(vec!["10.0.0.2"; 3_000].join(",").into_boxed_str());
        let headers = [("x-forwarded-for", many)];
        let (said, _) = ask(&rule("x-forwarded-for", None), "10.0.0.1", &headers).unwrap();
        assert_eq!(said.split(' ').count(), 2 + MOST_PROXIES);
    }
}
