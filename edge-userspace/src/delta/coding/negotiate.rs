//! Which coding a client takes, and which responses may be coded. Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};

use crate::config::coding::Coding;

/// Whether a response is one whose coding may be chosen: it has content that a coding can be
/// applied to, of a kind that shrinks.
pub(in super::super) fn codable(head: &response::Parts, zone: &Coding) -> bool {
    let status = head.status;
    let content = !(status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        ));
    content
        && !head.headers.contains_key(header::CONTENT_ENCODING)
        && !head.headers.contains_key(header::CONTENT_RANGE)
        && !says(&head.headers, "no-transform")
        && shrinks(&head.headers, zone)
}

/// Whether the content's type is one that is coded.
pub(in super::super) fn shrinks(headers: &HeaderMap, zone: &Coding) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Events must not wait for a coding's buffer, not even where `text/*` is written.
    kind != "text/event-stream"
        && zone.types.iter().any(|known| match known.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => *known == kind,
        })
}

/// Whether `Cache-Control` has a directive of this name.
pub(in super::super) fn says(headers: &HeaderMap, directive: &str) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|line| {
        line.as_bytes().split(|b| *b == b',').any(|part| {
            let name = part.split(|b| *b == b'=').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(directive.as_bytes())
        })
    })
}

/// Adds names to `Vary`, each once.
pub(in super::super) fn vary(headers: &mut HeaderMap, names: &[&'static str]) {
    for name in names {
        let known = headers.get_all(header::VARY).iter().any(|line| {
            line.as_bytes()
                .split(|b| *b == b',')
                .map(<[u8]>::trim_ascii)
                .any(|known| known == b"*" || known.eq_ignore_ascii_case(name.as_bytes()))
        });
        if !known {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
    }
}

/// Marks the response as coded: other bytes under the same name. The entity tag gets weak (RFC 9110
/// section 8.8.3.3), and what told of the old bytes goes.
pub(in super::super) fn mark(headers: &mut HeaderMap, coding: &'static str) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    for name in [
        header::CONTENT_LENGTH,
        header::ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
        HeaderName::from_static("digest"),
    ] {
        headers.remove(name);
    }
    weaken(headers);
}

/// Makes a strong entity tag weak.
pub(in super::super) fn weaken(headers: &mut HeaderMap) {
    if let Some(etag) = headers.get(header::ETAG)
        && !etag.as_bytes().starts_with(b"W/")
    {
        let weak = [b"W/", etag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            headers.insert(header::ETAG, weak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges of one coding joined to those of another make a broken file: tags of coded content
    /// are weak.
    #[test]
    fn marks() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, "\"a\"".parse().unwrap());
        headers.insert(header::CONTENT_LENGTH, 5.into());
        headers.insert(header::VARY, "Accept-Encoding, x".parse().unwrap());
        mark(&mut headers, "br");
        vary(&mut headers, &["accept-encoding", "available-dictionary"]);
        assert_eq!(headers[header::ETAG], "W/\"a\"");
        assert!(!headers.contains_key(header::CONTENT_LENGTH));
        assert_eq!(headers.get_all(header::VARY).iter().count(), 2);
        weaken(&mut headers);
        assert_eq!(headers[header::ETAG], "W/\"a\"");
    }
}
