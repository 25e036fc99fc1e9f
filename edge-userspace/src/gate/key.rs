//! What a rate rule counts by: the client, its address or its network, or what a request says (a
//! field, a cookie, a claim, a segment of the path), alone or together.
//!
//! What a request says costs nothing to say, so each key's bucket stands behind one of the address:
//! whatever keys an address invents, it gets no more than the rate of `clients_per_address` of
//! them, and what it asks beyond a key's rate is counted there, too. A request that does not say
//! all parts of a key, or one of them twice, is counted as its client.

use std::net::IpAddr;

use http::HeaderMap;

use super::verdict::Attempt;
use super::{cookie, prefixes};
use crate::base::field;
use crate::config::gate::KeyPart;
use crate::zones::path::Path;

/// What has the bucket that a request is counted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The client.
    Client,
    /// The address, whatever it proves.
    Address,
    /// These values together, in the order of the key's parts.
    Values(Vec<Value>),
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// As the request says it.
    Said(Box<[u8]>),
    /// A client's number, or a network's.
    Number(u64),
    /// An address prefix.
    Prefix(IpAddr),
    /// To be filled in by whoever verifies the claim of this name.
    Claim(String),
}

/// What `attempt` is counted by under a rule with this `key`; `client` is who it has proven to be.
pub(super) fn counted(key: &[KeyPart], attempt: &Attempt<'_>, prefix: IpAddr, client: Option<u64>) -> Counted {
    match key {
        [KeyPart::Client] | [] => return Counted::Client,
        [KeyPart::Address] => return Counted::Address,
        _ => {}
    }
    let values = key.iter().map(|part| match part {
        KeyPart::Client => Some(client.map_or(Value::Prefix(prefix), Value::Number)),
        KeyPart::Address => Some(Value::Prefix(prefix)),
        KeyPart::Network => Some(Value::Number(prefixes::site(prefix).into())),
        KeyPart::Header(name) => said(field::alone(attempt.headers, name)?.as_bytes()),
        KeyPart::Cookie(name) => said(cookie(attempt.headers, name)?),
        KeyPart::Segment(n) => said(segment(attempt.path, *n)?.as_bytes()),
        KeyPart::Claim(name) => Some(Value::Claim(name.clone())),
    });
    values.collect::<Option<_>>().map_or(Counted::Client, Counted::Values)
}

fn said(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.trim_ascii();
    (!bytes.is_empty()).then(|| Value::Said(bytes.into()))
}

/// The cookie's value, if there is one of that name and no other.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = cookie::pairs(headers).filter_map(|pair| cookie::value(pair, name));
    values.next().filter(|_| values.next().is_none())
}

/// The segment of a path that all servers read alike.
fn segment<'a>(path: &'a Path<'_>, n: usize) -> Option<&'a str> {
    path.plain()?.split('/').nth(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Method};

    fn by(key: &[&str], path: &str, fields: &[(&str, &str)]) -> Counted {
        let parts: Vec<KeyPart> = key.iter().map(|part| part.parse().unwrap()).collect();
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let attempt = Attempt {
            address,
            validated: true,
            relayed: false,
            opens: true,
            host: "a.example",
            scheme: "https",
            target: "/",
            crawler: None,
            method: &Method::GET,
            path: &Path::of(path),
            headers: &headers,
            tokens: &[],
            work: None,
            named: None,
            quic: false,
        };
        counted(&parts, &attempt, address, None)
    }

    /// One customer's requests would be counted for another, or for nobody, if it writes them so.
    #[test]
    fn values_of_requests() {
        let said = |text: &str| Value::Said(text.as_bytes().into());
        let one = |value| Counted::Values(vec![value]);
        let api = ["header:X-Api-Key"];
        assert_eq!(by(&api, "/", &[("x-api-key", " k1 ")]), one(said("k1")));
        assert_eq!(
            by(&["cookie:sid"], "/", &[("cookie", "a=b; sid=7; c=d")]),
            one(said("7"))
        );
        assert_eq!(by(&["segment:2"], "/t/%61cme/x", &[]), one(said("acme")));
        assert_eq!(by(&["network"], "/", &[]), by(&["network"], "/x", &[]));
        assert_eq!(
            by(&["header:X-Api-Key", "segment:1"], "/a/b", &[("x-api-key", "k")]),
            Counted::Values(vec![said("k"), said("a")])
        );
        assert_eq!(by(&["claim:sub"], "/", &[]), one(Value::Claim("sub".to_owned())));
        // What is not said, or said twice, or read differently by servers, is the client's.
        for (key, path, fields) in [
            (&["client"][..], "/", &[][..]),
            (&api, "/", &[]),
            (&api, "/", &[("x-api-key", "")]),
            (&api, "/", &[("x-api-key", "a"), ("x-api-key", "b")]),
            (&["cookie:sid"], "/", &[("cookie", "xsid=7")]),
            (&["cookie:sid"], "/", &[("cookie", "sid=7; sid=8")]),
            (&["cookie:sid"], "/", &[("cookie", "sid=7"), ("cookie", "sid=8")]),
            (&["segment:2"], "/t", &[]),
            (&["segment:2"], "/t/a;b", &[]),
            (&["header:X-Api-Key", "segment:1"], "/a/b", &[]),
        ] {
            assert_eq!(by(key, path, fields), Counted::Client, "{key:?} {path} {fields:?}");
        }
        assert_eq!(by(&["address"], "/", &[]), Counted::Address);
    }
}
