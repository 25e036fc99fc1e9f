//! A request's head on its way to an origin. Pure. `prepare` does once what no server changes,
//! `for_h1` and `for_h2` what the connection's version asks for; both may be done again on a head
//! they have made.
//!
//! The edge is the trust boundary: `Forwarded`, `X-Forwarded-*`, `X-Real-Ip` and `X-Request-Id` of
//! clients are dropped and written anew from the connection. `Via` and `CDN-Loop` are lists of who
//! passed a message on, and are added to.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Version, request};

use crate::config::Origin;
use crate::http::door::Meant;
use crate::http::fields::{self, CDN_LOOP, PSEUDONYM};
use crate::http::forwarded;
use crate::http::interim::Interims;
use crate::http::message::{About, Exchange};

/// So often may a request have passed an edge before it is refused: chained nodes are legitimate, a
/// loop is endless.
const MOST_PASSES: usize = 4;

/// The request has passed too many edges (RFC 8586 section 2): 508.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Looped;

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// The `Host`: the client's or the server's own.
    pub(super) host: HeaderValue,
    /// `http` or `https`, of the connection to the origin.
    pub(super) scheme: &'a Scheme,
}

/// What the content's length is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// No content.
    None,
    /// So many bytes.
    Exact(u64),
    /// Unknown before its end.
    Streamed,
}

impl Length {
    /// Of `body`.
    pub(super) fn of(body: &impl http_body::Body) -> Self {
        if body.is_end_stream() {
            Self::None
        } else {
            body.size_hint().exact().map_or(Self::Streamed, Self::Exact)
        }
    }
}

/// Makes a head in normal form ours: all that does not depend on the server or on the version
/// spoken to it. What of the connection is `meant` for the next one is said again.
///
/// What the origin may say before its response goes to the interims that are returned.
///
/// # Errors
/// [`Looped`] when the request has passed too many edges.
pub(super) fn prepare(
    head: &mut request::Parts,
    meant: &Meant,
    exchange: &Exchange,
) -> Result<Option<Interims>, Looped> {
    let interims = head.extensions.remove::<Interims>();
    let about = head.extensions.remove::<About>();
    // Extensions are hyper's and of this side only.
    head.extensions.clear();
    let headers = &mut head.headers;
    if fields::passes(headers) >= MOST_PASSES {
        return Err(Looped);
    }
    if meant.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if meant.waits {
        headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    headers.append(CDN_LOOP, HeaderValue::from_static(PSEUDONYM));
    // A server that is no part of the zone learns of the visitor what a worker tells it (RFC 7239
    // section 8.3).
    if !matches!(&exchange.zone.origin, Origin::Servers(upstream) if !upstream.names_visitor) {
        headers.append(header::VIA, via(head.version));
        forwarded::rewrite(headers, exchange);
        if let Some(about) = about {
            forwarded::about(headers, &about);
        }
    }
    Ok(interims)
}

/// The `Via` entry for a message received in `version`.
pub(super) fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 edge",
        Version::HTTP_3 => "3.0 edge",
        Version::HTTP_10 => "1.0 edge",
        _ => "1.1 edge",
    })
}

/// The `Host` to send: the client's, unless the zone wants the server's own or the client named
/// none.
pub(super) fn host(headers: &HeaderMap, exchange: &Exchange, own: &HeaderValue, preserve: bool) -> HeaderValue {
    if !preserve || exchange.host.is_empty() {
        return own.clone();
    }
    // What the client wrote spares an allocation, where it is what the request was routed and
    // cached by. In other letters it would be the same host to us, and perhaps another one to the
    // origin.
    match headers.get(header::HOST) {
        Some(host) if host.as_bytes() == exchange.host.as_bytes() => host.clone(),
        _ => HeaderValue::from_str(&exchange.host).unwrap_or_else(|_| own.clone()),
    }
}

/// For an HTTP/1.1 connection: target in origin form, `Host`, and framing decided by the content
/// alone (RFC 9112 sections 3.2.1 and 6), so that nothing the client wrote about it survives.
pub(super) fn for_h1(head: &mut request::Parts, target: &Target<'_>, length: Length) {
    head.version = Version::HTTP_11;
    if head.uri.authority().is_some() {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path(&head.uri));
        head.uri = Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"));
    }
    head.headers.insert(header::HOST, target.host.clone());
    if head.headers.contains_key(header::TE) {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    match length {
        Length::Streamed => {
            head.headers.remove(header::CONTENT_LENGTH);
            // Said here, because hyper assumes that a GET has no content.
            head.headers
                .insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        length => content_length(head, length),
    }
}

/// For an HTTP/2 connection: pseudo-fields by an absolute target, no `Host` (RFC 9113 section
/// 8.3.1), nothing of HTTP/1.1.
pub(super) fn for_h2(head: &mut request::Parts, target: &Target<'_>, length: Length) {
    head.version = Version::HTTP_2;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path(&head.uri));
    parts.scheme = Some(target.scheme.clone());
    parts.authority = Authority::try_from(target.host.as_bytes()).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        head.uri = uri;
        head.headers.remove(header::HOST);
    }
    head.headers.remove(header::CONNECTION);
    head.headers.remove(header::TRANSFER_ENCODING);
    // The gate for 100 (Continue) is HTTP/1.1's; on HTTP/2 a refusal resets the stream, and costs
    // no connection.
    head.headers.remove(header::EXPECT);
    match length {
        Length::Streamed => drop(head.headers.remove(header::CONTENT_LENGTH)),
        length => content_length(head, length),
    }
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Zero is said only where content would be expected (RFC 9110 section 8.6).
fn content_length(head: &mut request::Parts, length: Length) {
    let n = match length {
        Length::Exact(n) => Some(n),
        _ => matches!(head.method, Method::POST | Method::PUT | Method::PATCH).then_some(0),
    };
    match n {
        None => drop(head.headers.remove(header::CONTENT_LENGTH)),
        Some(n) => drop(head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(n))),
    }
}

/// Whether a request with `method` may be sent twice (RFC 9110 section 9.2.2).
pub(super) fn idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
