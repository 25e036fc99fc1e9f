//! Who asked, by which name and how, as fields for those behind the edge. The edge is the trust
//! boundary: what clients claim is dropped, and written anew from the connection. Origins and
//! workers are told the same.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::BytesMut;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::message::{About, Exchange};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// The client's certificate, where its zone has verified one (RFC 9440).
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// Those above it, where the client has sent some.
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// The client's address alone, as nginx's configurations commonly have it.
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Drops `Forwarded`, `X-Forwarded-*`, `X-Real-Ip`, `X-Request-Id`, `Client-Cert` and
/// `Client-Cert-Chain` as they came, and writes what is true.
pub fn rewrite(headers: &mut HeaderMap, exchange: &Exchange) {
    let mut claims: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        // Those set below are overwritten anyway.
        if (text.starts_with("x-forwarded-") && text != "x-forwarded-for" && text != "x-forwarded-proto")
            || spelt_with_underscore(text)
        {
            claims.push(name.clone());
        }
    }
    for name in claims {
        headers.remove(name);
    }
    forwarded(headers, exchange);
}

/// Says which request this one asks about, as servers that judge requests for others read it.
pub fn about(headers: &mut HeaderMap, about: &About) {
    for (name, value) in [
        (X_FORWARDED_METHOD, about.method.as_str()),
        (X_FORWARDED_URI, about.target.as_str()),
    ] {
        match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => drop(headers.insert(name, value)),
            Err(_) => drop(headers.remove(name)),
        }
    }
}

/// What of a request decides the value of a field that is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Its scheme and host.
    ByAddress,
    /// Who sent it, or when: no two requests need have the same.
    BySender,
}

/// Whether `name` is a field whose value an origin gets from here, whatever the client wrote, and
/// what decides it. `None`: the client's.
pub fn written(name: &HeaderName) -> Option<Written> {
    let text = name.as_str();
    if *name == http::header::HOST || text == "x-forwarded-proto" || text == "x-forwarded-host" {
        return Some(Written::ByAddress);
    }
    let ours = *name == FORWARDED
        || *name == X_REQUEST_ID
        || *name == CLIENT_CERT
        || *name == CLIENT_CERT_CHAIN
        || text == "x-real-ip"
        || text.starts_with("x-forwarded-");
    (ours || spelt_with_underscore(text)).then_some(Written::BySender)
}

/// Who asked, by which name and how: RFC 7239, and the fields that came before it. One buffer for
/// all values. Proxies that the operator trusts are named after the client, the nearest last, as
/// each would have appended what it saw.
fn forwarded(headers: &mut HeaderMap, exchange: &Exchange) {
    let proto = exchange.peer.scheme();
    let ip = exchange.peer.client.ip();
    let via = exchange.peer.via.as_ref();
    // Of a request that names nobody the proxy itself is the client.
    let proxies = via
        .map_or(&[][..], |via| &via.proxies)
        .iter()
        .filter(|proxy| **proxy != ip);
    let host = Some(&*exchange.host).filter(|host| !host.is_empty() && !host.contains(['"', '\\']));
    let mut text = BytesMut::with_capacity(128 + exchange.host.len());
    // Writing to BytesMut cannot fail.
    let _ = text.write_str("for=");
    let ip_range = element(&mut text, ip);
    let mut host_range = None;
    if let Some(host) = host {
        let _ = text.write_str(";host=\"");
        host_range = Some(text.len()..text.len() + host.len());
        let _ = text.write_str(host);
        let _ = text.write_str("\"");
    }
    let _ = text.write_str(";proto=");
    let _ = text.write_str(proto);
    for proxy in proxies.clone() {
        let _ = text.write_str(", for=");
        element(&mut text, *proxy);
    }
    let end = text.len();
    text.extend_from_slice(&exchange.id.hex());
    let chain = text.len();
    let (alone, mut ip_range) = (ip_range.clone(), ip_range);
    if via.is_some() {
        let _ = write!(text, "{ip}");
        for proxy in proxies {
            let _ = write!(text, ", {proxy}");
        }
        ip_range = chain..text.len();
    }
    let text = text.freeze();
    let mut set = |name, range: std::ops::Range<usize>| match HeaderValue::from_maybe_shared(text.slice(range)) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    };
    set(FORWARDED, 0..end);
    set(X_FORWARDED_FOR, ip_range);
    set(X_REAL_IP, alone);
    set(X_REQUEST_ID, end..chain);
    if let Some(range) = host_range {
        set(X_FORWARDED_HOST, range);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    let handshake = exchange.peer.handshake.as_ref();
    let identity = handshake.and_then(|handshake| handshake.certificate.as_deref());
    let fields = [
        (CLIENT_CERT, identity.map(|identity| &identity.field)),
        // Never without the other one (RFC 9440 section 2.3).
        (CLIENT_CERT_CHAIN, identity.and_then(|identity| identity.chain.as_ref())),
    ];
    for (name, value) in fields {
        match value {
            Some(value) => drop(headers.insert(name, value.clone())),
            None => drop(headers.remove(name)),
        }
    }
}

/// Writes `ip` as a node of RFC 7239 section 6; where in `text` the address alone is.
fn element(text: &mut BytesMut, ip: IpAddr) -> std::ops::Range<usize> {
    // Writing to BytesMut cannot fail.
    let _ = text.write_str(if ip.is_ipv6() { "\"[" } else { "" });
    let start = text.len();
    let _ = write!(text, "{ip}");
    let end = text.len();
    let _ = text.write_str(if ip.is_ipv6() { "]\"" } else { "" });
    start..end
}

/// Whether a field is one that we set, but for underscores in place of hyphens: CGI and its
/// successors give both the same variable (RFC 3875 section 4.1.18), so that a client could speak
/// in our place.
fn spelt_with_underscore(name: &str) -> bool {
    name.contains('_') && {
        let name = name.replace('_', "-");
        name.starts_with("x-forwarded-")
            || matches!(
                &*name,
                "x-real-ip" | "x-request-id" | "cdn-loop" | "client-cert" | "client-cert-chain"
            )
    }
}
