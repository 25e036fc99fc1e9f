//! Requests that ask some origins for something else than they say: for another method, or another
//! path. No key of a cache covers these fields, so that the answer to one such request, stored,
//! would be everybody's. `cache` and `delta` keep away from them; origins still get them. Pure.

use http::HeaderMap;

/// Known to frameworks and servers: other methods (Symfony, Laravel, Rails, Google's APIs), other
/// targets (IIS's URL Rewrite, Symfony, Zend), other hosts.
const FIELDS: [&str; 7] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
];

/// Whether a request with `headers` may mean something else than its method, host and target say.
pub fn disguised(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        // CGI makes the same variable of both spellings (RFC 3875 section 4.1.18).
        name.starts_with('x')
            && FIELDS.iter().any(|field| {
                name.len() == field.len()
                    && name
                        .bytes()
                        .zip(field.bytes())
                        .all(|(a, b)| a == b || a == b'_' && b == b'-')
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One answer to `X-Original-Url: /admin` in the cache would be the front page for all.
    #[test]
    fn known_ones() {
        let with = |name: &'static str| {
            disguised(&HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static("x"),
            )]))
        };
        assert!(with("x-original-url") && with("x_rewrite_url") && with("x-http_method-override"));
        assert!(!with("x-requested-with") && !with("accept"));
    }
}
