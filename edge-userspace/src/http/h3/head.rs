//! What RFC 9114 section 4.2 forbids in a message head, and h3 lets through.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, request};

use crate::http::framing::Refusal;

/// Fields that belong to a connection of HTTP/1.
const OF_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Finds a head malformed (RFC 9114 section 4.1.2), or what its `Content-Length` says.
///
/// # Errors
/// What is wrong; the stream ends with H3_MESSAGE_ERROR.
pub(super) fn check(head: &request::Parts) -> Result<Option<u64>, Refusal> {
    let fields = &head.headers;
    if OF_CONNECTION.iter().any(|name| fields.contains_key(name)) {
        return Err(Refusal::TransferEncoding);
    }
    if fields.get_all(TE).iter().any(|te| te.as_bytes() != b"trailers") {
        return Err(Refusal::TransferEncoding);
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(one), None) => Some(number(one.as_bytes()).ok_or(Refusal::ContentLength)?),
        (Some(_), Some(_)) => return Err(Refusal::ContentLength),
    };
    Ok(length)
}

/// Digits alone: no sign, no list, no space.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether the client waits for 100 before it sends content.
pub(super) fn expects_continue(head: &request::Parts) -> bool {
    head.headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Takes away what a response of HTTP/1 may carry and one of HTTP/3 must not.
pub(super) fn strip(fields: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> request::Parts {
        let mut builder = http::Request::builder();
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    /// An origin that reads them otherwise than we do could be made to see another request.
    #[test]
    fn framing_of_another_version_is_refused() {
        for fields in [
            &[("transfer-encoding", "chunked")][..],
            &[("connection", "close")],
            &[("upgrade", "websocket")],
            &[("keep-alive", "1")],
            &[("te", "gzip")],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
        ] {
            assert!(check(&head(fields)).is_err(), "{fields:?}");
        }
        assert_eq!(
            check(&head(&[("te", "trailers"), ("content-length", "5")])),
            Ok(Some(5))
        );
        assert_eq!(check(&head(&[])), Ok(None));
    }
}
