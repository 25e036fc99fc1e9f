//! Which rules a request is judged by.

use http::{HeaderMap, Method};

use crate::config::gate::{Field, Matches};
use crate::zones::path::Path;

/// Whether a request is one of `matches`: everything that is written must hold, and nothing that is
/// excluded. A path that servers read differently is excluded by none: whoever writes it so would
/// be spared by the reading that the origin does not take.
pub(super) fn matches(
    matches: &Matches,
    method: &Method,
    path: &Path<'_>,
    (headers, crawler): (&HeaderMap, Option<&str>),
) -> bool {
    let of = |names: &[String]| crawler.is_some_and(|crawler| names.iter().any(|name| name == crawler));
    let has = |(name, value): &Field| match value {
        None => headers.contains_key(name),
        Some(value) => headers.get_all(name).iter().any(|v| v == value),
    };
    let excluded = |pattern: &String| !path.is_ambiguous() && path.matches(pattern);
    (matches.methods.is_empty() || matches.methods.contains(method))
        && !matches.not_methods.contains(method)
        && matches.path.as_ref().is_none_or(|pattern| path.matches(pattern))
        && !matches.not_path.iter().any(excluded)
        && matches.header.as_ref().is_none_or(has)
        && !matches.not_header.as_ref().is_some_and(has)
        && (matches.crawlers.is_empty() || of(&matches.crawlers))
        && !of(&matches.not_crawlers)
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
            ..Matches::default()
        };
        let mut headers = HeaderMap::new();
        let root = Path::of("/");
        assert!(!matches(&free, &Method::POST, &root, (&headers, None)));
        headers.append("x-plan", "paid".parse().unwrap());
        headers.append("x-plan", "free".parse().unwrap());
        let fits = |method| matches(&free, &method, &root, (&headers, None));
        assert!(fits(Method::POST) && !fits(Method::GET));
        let limited = Matches {
            crawlers: vec!["bot".to_owned()],
            ..Matches::default()
        };
        let others = Matches {
            not_crawlers: vec!["bot".to_owned()],
            ..Matches::default()
        };
        for (crawler, is) in [(Some("bot"), true), (Some("other"), false), (None, false)] {
            let fits = |of| matches(of, &Method::GET, &root, (&headers, crawler));
            assert_eq!((fits(&limited), fits(&others)), (is, !is), "{crawler:?}");
        }
    }

    /// Who is exempt would be judged, or the rule void for all.
    #[test]
    fn what_is_excluded() {
        let but = Matches {
            path: Some("/api/".to_owned()),
            not_path: vec!["/api/health".to_owned(), "*.txt".to_owned()],
            not_methods: vec![Method::OPTIONS],
            not_header: Some((http::HeaderName::from_static("x-plan"), Some("paid".parse().unwrap()))),
            ..Matches::default()
        };
        let (none, mut paid) = (HeaderMap::new(), HeaderMap::new());
        paid.insert("x-plan", "paid".parse().unwrap());
        for (method, path, headers, hit) in [
            (Method::GET, "/api/x", &none, true),
            (Method::GET, "/api/healthz", &none, false),
            (Method::GET, "/api/health%2F..%2Forders", &none, true),
            (Method::GET, "/api/robots.txt", &none, false),
            (Method::OPTIONS, "/api/x", &none, false),
            (Method::GET, "/api/x", &paid, false),
            (Method::GET, "/x", &none, false),
        ] {
            assert_eq!(
                matches(&but, &method, &Path::of(path), (headers, None)),
                hit,
                "{method} {path}"
            );
        }
    }
}
