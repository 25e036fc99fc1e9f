//! The fields that a message's `Connection` names (RFC 9110 section 7.6.1). `request` takes them out of requests before any
//! handler sees them, `origin` out of what passes on. Pure.

use http::header::{self, HeaderMap, HeaderName};

/// Fields that a `Connection` option cannot name: they are meant for the last recipient (the section forbids such options), and a
/// client must not be able to strip what was decided by them, or set.
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
    HeaderName::from_static("cdn-loop"),
];

/// Fields of the connection that are still needed, and taken out where the message leaves.
const NEEDED: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRANSFER_ENCODING,
];

/// Removes what `Connection` names, and leaves `Connection` itself. Before a cache this must be done: a field that it takes for
/// part of the request, and the origin never sees, would store one answer as another one's.
pub fn strip_named(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| !END_TO_END.contains(name) && !NEEDED.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client calls a matter of its connection must not reach one reader and miss another; what is nobody's to drop
    /// must stay.
    #[test]
    fn what_is_named_goes() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Accept-Language, upgrade, te"),
            ("connection", "x-mine,, @, Cookie, range, connection"),
            ("accept-language", "de"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("x-mine", "1"),
            ("cookie", "a=b"),
            ("range", "bytes=0-1"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        strip_named(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "cookie", "range", "te", "upgrade"]);
    }
}
