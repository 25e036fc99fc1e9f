//! A stored response as a client gets it: whole, in parts, or only "not modified"; with `Age` and
//! `Cache-Status`. Pure but for the random boundary; `handler` chooses what is sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, request};
use http_body::{Frame, SizeHint};

use super::conditions::{self, Span, Verdict};
use super::directives::Directives;
use super::fill::{Fill, Reader};
use super::metrics::Outcome;
use super::resource::Variant;
use crate::base::clock::UnixTime;
use crate::http::body::{Body, BodyError};
use crate::http::message::{ContentName, Response};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Where content comes from.
pub(super) enum Content {
    /// The store.
    Stored(Bytes),
    /// A response on its way; `first`: this client's request brought it.
    Streamed {
        /// It.
        fill: Arc<Fill>,
        /// As above.
        first: bool,
        /// `Content-Length` was announced.
        announced: bool,
    },
    /// None is wanted: HEAD.
    None,
}

/// Why a request went to the origin (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forward {
    /// The cache does not handle it.
    Bypass,
    /// Of a method that is not answered from a store.
    Method,
    /// Nothing is stored under the URL.
    UriMiss,
    /// What is stored was selected by other field values.
    VaryMiss,
    /// What is stored is stale.
    Stale,
    /// The request asks for it.
    Request,
}

impl Forward {
    fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

/// What `Cache-Status` tells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Why it went to the origin; `None`: it is a hit.
    pub(super) forward: Option<Forward>,
    /// The origin's status.
    pub(super) status: Option<StatusCode>,
    /// Seconds of freshness left; negative when stale.
    pub(super) ttl: Option<i64>,
    /// It is being stored.
    pub(super) stored: bool,
    /// Another request's response answered.
    pub(super) collapsed: bool,
}

impl Told {
    /// Adds the field (RFC 9211 section 2), behind those of caches nearer to the origin.
    pub(super) fn write(&self, fields: &mut HeaderMap) {
        use std::fmt::Write as _;
        let mut text = String::from("edge");
        // Writing to a String cannot fail.
        let _ = match self.forward {
            None => write!(text, "; hit"),
            Some(forward) => write!(text, "; fwd={}", forward.token()),
        };
        if let Some(status) = self.status {
            let _ = write!(text, "; fwd-status={}", status.as_u16());
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(text, "; ttl={ttl}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Ok(value) = HeaderValue::from_str(&text) {
            fields.append(CACHE_STATUS, value);
        }
    }
}

/// Seconds of freshness left at `now`.
pub(super) fn ttl(variant: &Variant, now: UnixTime) -> i64 {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    signed(variant.worth.lifetime).saturating_sub(signed(variant.age(now)))
}

/// The answer to `request` made of `variant`.
pub(super) fn answer(
    request: &request::Parts,
    variant: &Variant,
    content: Content,
    now: UnixTime,
    outcome: Outcome,
) -> Response {
    let mut verdict = conditions::judge(
        &request.method,
        &request.headers,
        variant.status,
        &variant.fields,
        variant.length,
    );
    if let (Content::Streamed { announced, .. }, Verdict::Parts(spans)) = (&content, &verdict)
        && (spans.len() > 1 || !announced)
    {
        verdict = Verdict::Whole;
    }
    let mut fields = variant.fields.clone();
    fields.insert(header::AGE, HeaderValue::from(variant.age(now)));
    let mut response = Response::new(variant.status, Body::Empty);
    response.report.cache = Some(outcome.label());
    match verdict {
        Verdict::Whole => {
            response.body = match content {
                Content::Stored(bytes) => {
                    response.head.extensions.insert(ContentName(variant.body.0));
                    if !fields.contains_key(header::CONTENT_LENGTH) && !bytes.is_empty() {
                        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                    }
                    bytes.into()
                }
                Content::Streamed { fill, first, announced } => {
                    Body::boxed(Reader::new(fill, first, announced.then_some(variant.length)))
                }
                Content::None => {
                    if variant.length > 0 {
                        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(variant.length));
                    }
                    Body::Empty
                }
            };
        }
        Verdict::NotModified => {
            response.head.status = StatusCode::NOT_MODIFIED;
            without_content(&mut fields);
        }
        Verdict::Failed => {
            response.head.status = StatusCode::PRECONDITION_FAILED;
            without_content(&mut fields);
        }
        Verdict::Unsatisfiable => {
            response.head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            without_content(&mut fields);
            if let Ok(range) = HeaderValue::from_str(&format!("bytes */{}", variant.length)) {
                fields.insert(header::CONTENT_RANGE, range);
            }
        }
        Verdict::Parts(spans) => {
            response.head.status = StatusCode::PARTIAL_CONTENT;
            response.body = parts(&mut fields, &spans, variant.length, content);
        }
    }
    response.head.headers = fields;
    response
}

/// Takes out what describes content that is not sent (RFC 9110 section 15.4.5).
pub(super) fn without_content(fields: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
    ] {
        fields.remove(name);
    }
}

/// The value of `Content-Range` (RFC 9110 section 14.4).
pub(super) fn content_range(span: Span, length: u64) -> String {
    format!("bytes {}-{}/{length}", span.from, span.to.saturating_sub(1))
}

fn slice(bytes: &Bytes, span: Span) -> Bytes {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(span.from)..at(span.to).max(at(span.from)))
}

fn parts(fields: &mut HeaderMap, spans: &[Span], length: u64, content: Content) -> Body {
    let text = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    if let [span] = spans {
        fields.insert(header::CONTENT_RANGE, text(&content_range(*span, length)));
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(span.to - span.from));
        return match content {
            Content::Stored(bytes) => slice(&bytes, *span).into(),
            Content::Streamed { fill, first, .. } => {
                Body::boxed(Reader::part(fill, first, span.from, span.to - span.from))
            }
            Content::None => Body::Empty,
        };
    }
    let Content::Stored(bytes) = content else {
        return Body::Empty;
    };
    // Unforeseeable, so that content cannot contain it (RFC 2046 section 5.1.1).
    let boundary = format!("{:032x}", super::random());
    let kind = fields.get(header::CONTENT_TYPE).cloned();
    let mut pieces = Pieces::default();
    for span in spans {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if let Some(kind) = &kind {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(kind.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(*span, length)).as_bytes());
        pieces.push(head.into());
        pieces.push(slice(&bytes, *span));
    }
    pieces.push(format!("\r\n--{boundary}--\r\n").into());
    fields.insert(
        header::CONTENT_TYPE,
        text(&format!("multipart/byteranges; boundary={boundary}")),
    );
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(pieces.length));
    Body::boxed(pieces)
}

/// Content in pieces, none of them a copy of what is stored: an answer with several ranges takes no
/// more memory than its heads, however much of it the client leaves where it is.
#[derive(Default)]
struct Pieces {
    left: VecDeque<Bytes>,
    /// Of all that is left.
    length: u64,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.length = self.length.saturating_add(piece.len() as u64);
        self.left.push_back(piece);
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let piece = this.left.pop_front();
        if let Some(piece) = &piece {
            this.length = this.length.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// The request that asks whether `variant` is still right (RFC 9111 section 4.3.1). The client's
/// own conditions are answered from what comes of it.
///
/// Without one, the request for the whole, whatever the client knows.
pub(super) fn validation(head: &mut request::Parts, variant: Option<&Variant>) {
    head.method = Method::GET;
    for name in [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
    ] {
        head.headers.remove(name);
    }
    let Some(variant) = variant else { return };
    if let Some(etag) = variant.fields.get(header::ETAG) {
        head.headers.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = variant.fields.get(header::LAST_MODIFIED) {
        head.headers.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// How long a URL that turned out not to be storable is asked for without waiting for one another.
pub(super) const REFUSAL: Duration = Duration::from_secs(60);
/// As [`REFUSAL`], if the origin says that its answers are not for others.
const PERSONAL: Duration = Duration::from_secs(600);

/// How long nobody waits for a URL whose response with `fields` could not be stored. What says so
/// of itself is not likely to say otherwise soon; should it, the first response that is stored ends
/// the time.
pub(super) fn refusal(fields: &HeaderMap) -> Duration {
    let directives = Directives::of(fields);
    if directives.private || directives.no_store {
        PERSONAL
    } else {
        REFUSAL
    }
}
