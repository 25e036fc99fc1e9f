//! Shows a zone's own pages (`[[zone.error_page]]`) in place of the edge's phrases for failures,
//! which `service` does, and of what origins say, which the room `rules` does. A page is never
//! asked for: it was read with the configuration, so that none can fail or lead to another.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED, TRAILER, VARY,
};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};

use super::answer;
use super::body::{Body, BodyError};
use super::message::{Exchange, Response};
use crate::base::id::RequestId;
use crate::config::error_page::{Form, Hole, Page, Piece, choose};
use crate::zones::Zone;

/// What is said of the content, and of no other one: RFC 9110 sections 8 and 14, RFC 9530, and
/// signatures over it (RFC 9421).
const OF_CONTENT: [HeaderName; 16] = [
    ACCEPT_RANGES,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    ETAG,
    LAST_MODIFIED,
    TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("signature"),
    HeaderName::from_static("signature-input"),
];

/// A request of a zone that has pages.
#[derive(Clone, Debug)]
pub struct Asked {
    zone: Arc<Zone>,
    host: Arc<str>,
    request: RequestId,
    /// What the client would read.
    accept: Option<HeaderValue>,
}

impl Asked {
    /// `None`: its zone has no pages.
    pub fn of(exchange: &Exchange, headers: &HeaderMap) -> Option<Self> {
        exchange.zone.error_pages.as_ref()?;
        Some(Self {
            zone: exchange.zone.clone(),
            host: exchange.host.clone(),
            request: exchange.id,
            accept: headers.get(ACCEPT).cloned(),
        })
    }

    /// Puts the page for its status in place of what `response` says, if there is one; `of_origin`:
    /// it is an origin's or a worker's, and not every page is for those.
    pub fn show(&self, response: &mut Response, of_origin: bool) {
        let status = response.head.status;
        if !status.is_client_error() && !status.is_server_error() {
            return;
        }
        let pages = self.zone.error_pages.as_deref().unwrap_or_default();
        let json = answer::wants_json(self.accept.as_ref());
        let Some(page) = choose(pages, status, json, of_origin) else {
            return;
        };
        let headers = &mut response.head.headers;
        for name in OF_CONTENT {
            headers.remove(name);
        }
        headers.insert(CONTENT_TYPE, page.media_type.clone());
        headers.append(VARY, HeaderValue::from_static("accept"));
        response.head.extensions.clear();
        response.body = self.filled(page, status);
    }

    fn filled(&self, page: &Page, status: StatusCode) -> Body {
        if let [Piece::Text(text)] = page.pieces.as_slice() {
            return text.clone().into();
        }
        let pieces = page.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Hole(hole) => {
                let value = match hole {
                    Hole::Status => status.as_str().to_owned(),
                    Hole::Title => status.canonical_reason().unwrap_or("Error").to_owned(),
                    Hole::Request => self.request.to_string(),
                    Hole::Host => self.host.to_string(),
                    Hole::Zone => self.zone.name.to_string(),
                };
                Bytes::from(escaped(&value, page.form))
            }
        });
        Body::boxed(Pieces(pieces.filter(|piece| !piece.is_empty()).collect()))
    }
}

fn escaped(value: &str, form: Form) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        // Writing to a String cannot fail.
        let _ = match (form, c) {
            (Form::Markup, '&' | '<' | '>' | '"' | '\'') => write!(text, "&#{};", u32::from(c)),
            (Form::Json, '"' | '\\') => write!(text, "\\{c}"),
            (Form::Json, c) if c < ' ' => write!(text, "\\u{:04x}", u32::from(c)),
            (_, c) => write!(text, "{c}"),
        };
    }
    text
}

/// Content in pieces that are shared with the page: a client that reads slowly holds no copy.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client has chosen to be called would become markup, or break a program's JSON.
    #[test]
    fn values_are_escaped_for_their_page() {
        assert_eq!(escaped("a<'&\">", Form::Markup), "a&#60;&#39;&#38;&#34;&#62;");
        assert_eq!(escaped("a\"\\\n<", Form::Json), "a\\\"\\\\\\u000a<");
        assert_eq!(escaped("a<\"", Form::Plain), "a<\"");
    }
}
