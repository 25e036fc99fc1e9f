//! Responses as they leave: the edge's own for failures, and the last touch on those of handlers.
//! No `Server` field (it helps attackers more than anyone); `Date` is hyper's; `X-Request-Id` only
//! on failures, for the user to quote.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, response};

use super::body::Body;
use super::handler::Reason;
use super::message::Response;
use crate::base::id::RequestId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the client gets for a failure: JSON if its `accept` asks for that first, else a line of
/// text. Nothing of the request is repeated in it.
pub(super) fn failure(reason: Reason, id: RequestId, accept: Option<&HeaderValue>) -> Response {
    let status = reason.status();
    let phrase = status.canonical_reason().unwrap_or("Error");
    let (kind, text) = if wants_json(accept) {
        let text = format!(
            "{{\"status\":{},\"title\":\"{phrase}\",\"reason\":\"{}\",\"request\":\"{id}\"}}\n",
            status.as_u16(),
            reason.label()
        );
        ("application/json", text)
    } else {
        (
            "text/plain; charset=utf-8",
            format!("{} {phrase}\nrequest {id}\n", status.as_u16()),
        )
    };
    let mut response = Response::new(status, text);
    let headers = &mut response.head.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_bytes(&id.hex()) {
        headers.insert(REQUEST_ID, id);
    }
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

/// Whether `Accept` names JSON before anything a human reads.
pub(super) fn wants_json(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|accept| accept.to_str().ok()) else {
        return false;
    };
    let accept = accept.to_ascii_lowercase();
    let place = |what| accept.find(what).unwrap_or(usize::MAX);
    place("json") < place("text/").min(place("*/*"))
}

/// Takes away content where there must be none (RFC 9110 sections 9.3.2, 15.3.5, 15.4.5), and keeps
/// HEAD's `Content-Length`, which tells what GET would give. hyper does so for HTTP/1 but not for
/// HTTP/2.
pub(super) fn without_content(head: &mut response::Parts, body: Body, method: &Method) -> Body {
    let none = *method == Method::HEAD
        || head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED
        || head.status.is_informational();
    if !none {
        return body;
    }
    if *method == Method::HEAD
        && let Some(length) = http_body::Body::size_hint(&body).exact().filter(|length| *length > 0)
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Body::Empty
}

/// Ends an HTTP/1 connection with this response.
pub(super) fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// A response of fixed text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(status, Bytes::from_static(text.as_bytes()));
    response
        .head
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
