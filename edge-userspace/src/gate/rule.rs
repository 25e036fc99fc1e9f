//! Which rules a request is judged by.

use http::{HeaderMap, Method};

use crate::config::gate::Matches;
use crate::zones::path::Path;

/// Whether a request is one of `matches`: everything that is written must hold.
pub(super) fn matches(matches: &Matches, method: &Method, path: &Path<'_>, headers: &HeaderMap) -> bool {
    (matches.methods.is_empty() || matches.methods.contains(method))
        && matches.path.as_ref().is_none_or(|pattern| path.matches(pattern))
        && matches.header.as_ref().is_none_or(|(name, value)| match value {
            None => headers.contains_key(name),
            Some(value) => headers.get_all(name).iter().any(|v| v == value),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wrong requests would be judged, or none.
    #[test]
    fn methods_and_fields() {
        let free = Matches {
            header: Some((http::HeaderName::from_static("x-plan"), Some("free".parse().unwrap()))),
            methods: vec![Method::POST],
            path: None,
        };
        let mut headers = HeaderMap::new();
        let root = Path::of("/");
        assert!(!matches(&free, &Method::POST, &root, &headers));
        headers.append("x-plan", "paid".parse().unwrap());
        headers.append("x-plan", "free".parse().unwrap());
        assert!(matches(&free, &Method::POST, &root, &headers) && !matches(&free, &Method::GET, &root, &headers));
    }
}
