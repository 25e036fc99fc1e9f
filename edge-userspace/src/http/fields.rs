//! Facts about fields that several rooms need: lists, what is of one connection, who has passed a
//! message on. Pure.

use http::header::{self, AsHeaderName, HeaderMap, HeaderName, HeaderValue};

use crate::base::field::outside_quotes;
use crate::gate::cookie;

/// The values of the cookie `name`, the first one first; values that are not ASCII are left out.
pub fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    cookie::pairs(headers)
        .filter_map(move |pair| cookie::value(pair, name))
        .filter_map(|value| std::str::from_utf8(value).ok())
        .filter(|value| value.is_ascii())
}

/// Takes out all cookies of that name, and leaves the others as they are written.
pub fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    if !cookie::pairs(headers).any(|pair| cookie::value(pair, name).is_some()) {
        return;
    }
    let others = cookie::pairs(headers).filter(|pair| cookie::value(pair, name).is_none());
    let others: Vec<_> = others.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect();
    match HeaderValue::from_bytes(&others.join(&b"; "[..])) {
        Ok(others) if !others.is_empty() => drop(headers.insert(header::COOKIE, others)),
        Ok(_) | Err(_) => drop(headers.remove(header::COOKIE)),
    }
}

/// RFC 8586.
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// The targeted field for caches of content delivery networks (RFC 9213).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// What came before it (Edge Architecture Specification 1.0).
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Our name in `Via` and `CDN-Loop` (RFC 9110 section 7.6.3, RFC 8586).
pub const PSEUDONYM: &str = "edge";

/// Fields of one connection (RFC 9110 section 7.6.1), and credentials for a proxy, which are for
/// us, who ask for none.
pub const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Fields that a `Connection` option cannot name: they are meant for the last recipient (the
/// section forbids such options), and a sender must not be able to strip what was decided by them,
/// or set.
const END_TO_END: [HeaderName; 13] = [
    header::HOST,
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::RANGE,
    header::DATE,
    header::VARY,
    CDN_LOOP,
];

/// The members of the lists in all lines of a field (RFC 9110 section 5.6.1): trimmed, none empty.
/// A comma within quotes is part of its member.
pub fn list(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().flat_map(members)
}

/// The members of the list in one line.
pub fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let mut ends = outside_quotes(',');
    let split = line.as_bytes().split(move |byte| ends(char::from(*byte)));
    split.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether a list of tokens has `token`, in any case.
pub fn has(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    list(headers, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// How often a request has passed an edge (RFC 8586 section 2).
pub fn passes(headers: &HeaderMap) -> usize {
    let id = |member: &[u8]| {
        member
            .split(|b| *b == b';')
            .next()
            .is_some_and(|id| id.trim_ascii() == PSEUDONYM.as_bytes())
    };
    list(headers, CDN_LOOP).filter(|member| id(member)).count()
}

/// What a field line takes beside its name and value, in the size of a field section (RFC 9113
/// section 6.5.2, RFC 9114 section 4.2.2).
pub const OVERHEAD: u64 = 32;

/// The size of a field section (the same sections), without pseudo-header fields.
pub fn size(headers: &HeaderMap) -> u64 {
    let lines = headers
        .iter()
        .map(|(name, value)| (name.as_str().len() as u64).saturating_add(value.len() as u64));
    lines.fold(0, |sum, line| sum.saturating_add(line).saturating_add(OVERHEAD))
}

/// A number of digits alone: `u64`'s own parser would take a sign.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Removes what is for one connection only, and what `Connection` names besides (RFC 9110 section
/// 7.6.1), of a request or a response. What is added afterwards cannot be named any more.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = list(headers, header::CONNECTION)
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether `name` is a field of framing but for `_` in place of `-`: servers that take one for the
/// other would see another end of the message than everybody else (RFC 9112 section 11.2).
pub fn looks_like_framing(name: &str) -> bool {
    let like = |known: &str| {
        name.len() == known.len()
            && name.contains('_')
            && known
                .bytes()
                .zip(name.bytes())
                .all(|(k, n)| k == n || k == b'-' && n == b'_')
    };
    like("content-length") || like("transfer-encoding")
}

/// HTTP/2 and HTTP/3 let clients send a cookie in crumbs, which are one field (RFC 9113 section
/// 8.2.3, RFC 9114 section 4.2.1).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut whole = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !whole.is_empty() {
            whole.extend_from_slice(b"; ");
        }
        whole.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(whole) = HeaderValue::from_maybe_shared(bytes::Bytes::from(whole)) {
        headers.insert(header::COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    /// A member that one reader sees and the next one does not decides what is cached, counted or
    /// passed on.
    #[test]
    fn lists_are_read_over_lines_and_around_quotes() {
        let headers = fields(&[("x", "a, ,b ,"), ("x", "\"c,d\";p=\"\\\",\\\\\", e"), ("x", "\"f,g")]);
        let read: Vec<_> = list(&headers, "x").map(|m| std::str::from_utf8(m).unwrap()).collect();
        assert_eq!(read, ["a", "b", "\"c,d\";p=\"\\\",\\\\\"", "e", "\"f,g"]);
        assert!(has(&headers, "x", "B") && !has(&headers, "x", "c") && !has(&headers, "y", "a"));
    }

    /// Requests would go round for ever, or a foreign name in a parameter end them.
    #[test]
    fn passes_are_counted() {
        let headers = fields(&[
            ("cdn-loop", "other;x=\"edge, edge\", edge"),
            ("cdn-loop", "edge;n=2 ,Edge, edges"),
        ]);
        assert_eq!(passes(&headers), 2);
    }

    /// What a client calls a matter of its connection must not reach one reader and miss another;
    /// what is nobody's to drop must stay.
    #[test]
    fn what_is_of_the_connection_goes() {
        let mut headers = fields(&[
            ("connection", "Accept-Language, upgrade, te"),
            ("connection", "x-mine,, @, Cookie, range, connection"),
            ("accept-language", "de"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("x-mine", "1"),
            ("cookie", "a=b"),
            ("range", "bytes=0-1"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic eDp5"),
            ("http2-settings", "AAAA"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "range", "trailer"]);
    }

    /// Many sites' logins are in a cookie that is not the first.
    #[test]
    fn crumbs_are_one_cookie() {
        let mut headers = fields(&[("cookie", "a=1"), ("cookie", "b=2"), ("accept", "x"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        let whole: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(whole, ["a=1; b=2; c=3"]);
    }

    /// Request smuggling at origins that take `_` for `-`.
    #[test]
    fn look_alikes() {
        for name in ["content_length", "transfer_encoding"] {
            assert!(looks_like_framing(name), "{name}");
        }
        for name in [
            "content-length",
            "transfer-encoding",
            "content_lengths",
            "content.length",
            "content_type",
        ] {
            assert!(!looks_like_framing(name), "{name}");
        }
    }
}
