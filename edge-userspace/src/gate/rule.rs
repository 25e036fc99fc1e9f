//! Which rules a request is judged by.

use http::{HeaderMap, Method};

use crate::config::gate::Matches;

/// Whether a request is one of `matches`: everything that is written must hold.
pub(super) fn matches(matches: &Matches, method: &Method, path: &str, headers: &HeaderMap) -> bool {
    (matches.methods.is_empty() || matches.methods.contains(method))
        && matches.path.as_ref().is_none_or(|pattern| path_matches(pattern, path))
        && matches.header.as_ref().is_none_or(|(name, value)| match value {
            None => headers.contains_key(name),
            Some(value) => headers.get_all(name).iter().any(|v| v == value),
        })
}

/// Without `*` a prefix; with it the whole path, each `*` any characters. Linear in the path per `*`: the leftmost fit of
/// each literal is never worse than a later one.
fn path_matches(pattern: &str, path: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return path.starts_with(pattern);
    };
    let Some(mut path) = path.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for literal in middle.split('*') {
        match path.find(literal) {
            Some(at) => path = path.get(at + literal.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    path.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wrong requests would be judged, or none.
    #[test]
    fn patterns_and_fields() {
        for (pattern, path, hit) in [
            ("/api/", "/api/x", true),
            ("/api/", "/apix", false),
            ("/*/export", "/a/b/export", true),
            ("/*/export", "/a/export/", false),
            ("*.php", "/x.php", true),
            ("*.php", "/x.phpx", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/a-c-b", false),
            ("/ab*ba", "/aba", false),
            ("*", "/anything", true),
        ] {
            assert_eq!(path_matches(pattern, path), hit, "{pattern} {path}");
        }
        let free = Matches {
            header: Some((http::HeaderName::from_static("x-plan"), Some("free".parse().unwrap()))),
            methods: vec![Method::POST],
            path: None,
        };
        let mut headers = HeaderMap::new();
        assert!(!matches(&free, &Method::POST, "/", &headers));
        headers.append("x-plan", "paid".parse().unwrap());
        headers.append("x-plan", "free".parse().unwrap());
        assert!(matches(&free, &Method::POST, "/", &headers) && !matches(&free, &Method::GET, "/", &headers));
    }
}
