//! Which trailers go on: one filter for requests and responses, for every version and for guests. A
//! trailer is read after all that was decided by the head, and many servers merge the two; so only
//! fields go on that are known to stand there, and never those that frame, route, authenticate or
//! claim anything (RFC 9110 section 6.5.1).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};

use super::body::{Body, BodyError};
use super::fields::HOP_BY_HOP;
use crate::config::requests::Requests;

/// Never trailers, whatever a zone says: framing and routing, control data, authentication, what
/// the content is, where it is from.
const NEVER: &[&str] = &[
    "accept-encoding",
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "age",
    "alt-svc",
    "authentication-info",
    "authorization",
    "cache-control",
    "cdn-loop",
    "clear-site-data",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "early-data",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy",
    "proxy-authentication-info",
    "range",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "trailer",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

/// What decides about a message's trailers.
#[derive(Clone, Debug)]
pub struct Filter {
    requests: Arc<Requests>,
    /// A response of gRPC, whose metadata may have any name (its specification, "Responses").
    any: bool,
}

impl Filter {
    /// For a request of a zone.
    pub fn request(requests: Arc<Requests>) -> Self {
        Self { requests, any: false }
    }

    /// For a response with these fields.
    pub fn response(requests: Arc<Requests>, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        let any = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        Self { requests, any }
    }

    /// Takes out of `trailers` what does not go on.
    pub fn apply(&self, trailers: &mut HeaderMap) {
        let goes: Vec<HeaderName> = trailers.keys().filter(|name| !self.lets(name)).cloned().collect();
        for name in goes {
            trailers.remove(name);
        }
    }

    /// The same for a frame of content; `None` if nothing is left of it.
    pub fn frame(&self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                self.apply(&mut trailers);
                (!trailers.is_empty()).then(|| Frame::trailers(trailers))
            }
            Err(frame) => Some(frame),
        }
    }

    fn lets(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        let known = self.any || self.requests.trailers.has(text);
        let claims = text.starts_with("x-forwarded-") || text.starts_with("edge-") || text.contains('_');
        known && !claims && !NEVER.contains(&text) && !HOP_BY_HOP.contains(name) && !self.requests.drops(text)
    }
}

/// Content whose trailers pass a [`Filter`].
pub struct Filtered {
    body: Body,
    filter: Filter,
}

impl Filtered {
    /// Around `body`; what has no trailers stays as it is.
    pub fn around(body: Body, filter: Filter) -> Body {
        match body {
            Body::Empty | Body::Full(_) => body,
            body => Body::boxed(Self { body, filter }),
        }
    }
}

impl http_body::Body for Filtered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            // Trailers are the last frame.
            Some(Ok(frame)) => Poll::Ready(self.filter.frame(frame).map(Ok)),
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn left(filter: &Filter, names: &[&str]) -> Vec<String> {
        let mut trailers: HeaderMap = names
            .iter()
            .map(|name| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("1")))
            .collect();
        filter.apply(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort_unstable();
        left
    }

    const NAMES: [&str; 22] = [
        "grpc-status",
        "content-digest",
        "x-checked",
        "x-forwarded-for",
        "x-forwarded-anything",
        "forwarded",
        "x-real-ip",
        "client-cert",
        "x-ssl-verify",
        "cookie",
        "set-cookie",
        "authorization",
        "host",
        "transfer-encoding",
        "transfer_encoding",
        "content-length",
        "connection",
        "te",
        "proxy",
        "edge-delta",
        "cdn-loop",
        "content-type",
    ];

    /// An origin that merges trailers would believe a client's claims; a client would take a cookie
    /// that no head announced.
    #[test]
    fn nothing_that_decides_is_a_trailer() {
        let requests = Arc::new(Requests::default());
        let grpc: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"))]
            .into_iter()
            .collect();
        let known = ["content-digest", "grpc-status"];
        assert_eq!(left(&Filter::request(requests.clone()), &NAMES), known);
        assert_eq!(
            left(&Filter::response(requests.clone(), &HeaderMap::new()), &NAMES),
            known
        );
        let metadata = ["content-digest", "grpc-status", "x-checked"];
        assert_eq!(left(&Filter::response(requests, &grpc), &NAMES), metadata);
        let all = "trailers = [\"x-*\", \"c*\", \"host\", \"te\", \"edge-*\", \"transfer*\", \"set-*\", \"a*\", \"f*\", \"p*\"]";
        let all: Arc<Requests> = Arc::new(toml::from_str(all).unwrap());
        assert_eq!(left(&Filter::request(all), &NAMES), ["content-digest", "x-checked"]);
    }
}
