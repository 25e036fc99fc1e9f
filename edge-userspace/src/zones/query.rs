//! What zone rules leave of a request's query (`cache.key.query`). Names are compared in the normal
//! form of paths ([`super::path`]); what is left stands as the client wrote it, so that an origin
//! reads the same in it. Pure.

use http::Uri;
use http::uri::PathAndQuery;

use super::path::decoded;
use crate::base::glob;
use crate::config::cache::Query;

/// `query`, without its `?`, as `rule` leaves it; empty if nothing is left.
pub fn left(rule: &Query, query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, &str)> = pairs
        .map(|pair| (name(pair), pair))
        .filter(|(name, _)| {
            let kept = rule.keep.as_ref().is_none_or(|names| listed(names, name));
            kept && !listed(&rule.drop, name)
        })
        .collect();
    if rule.sort {
        // Those of one name stay in their order: to many servers it says which of them counts.
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    let left: Vec<&str> = pairs.into_iter().map(|(_, pair)| pair).collect();
    left.join("&")
}

/// `uri`, in origin form, with what `rule` leaves of its query; `None`: it stays as it is.
pub fn target(rule: &Query, uri: &Uri) -> Option<Uri> {
    let written = uri.query()?;
    let left = left(rule, written);
    if left == written {
        return None;
    }
    let target = match left.as_str() {
        "" => PathAndQuery::try_from(uri.path()),
        left => PathAndQuery::try_from(format!("{}?{left}", uri.path())),
    };
    let mut parts = http::uri::Parts::default();
    // Parts of a target in the order of another one are a target.
    parts.path_and_query = Some(target.ok()?);
    Uri::from_parts(parts).ok()
}

/// The name of a pair: `%61` is `a`, `+` and `%20` are one (the form encoding of the URL standard).
fn name(pair: &str) -> String {
    let name = pair.split('=').next().unwrap_or_default();
    decoded(&name.replace('+', "%20"))
}

fn listed(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|known| glob::fits(known, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    /// A visitor would get the page of other parameters, or each campaign its own copy of a page.
    #[test]
    fn what_is_left_of_a_query() {
        let keep = |list: &[&str], sort| Query {
            keep: Some(names(list)),
            drop: Vec::new(),
            sort,
        };
        let drop = |list: &[&str], sort| Query {
            keep: None,
            drop: names(list),
            sort,
        };
        for (rule, query, expected) in [
            (keep(&["page"], false), "page=2&x=1&page=3", "page=2&page=3"),
            (keep(&["page"], false), "%70age=2&pages=1&page", "%70age=2&page"),
            (keep(&[], false), "a=1&b", ""),
            (keep(&["a*"], false), "ab=1&b=2&a", "ab=1&a"),
            (
                drop(&["utm_*", "gclid"], false),
                "a=1&utm_source=x&gclid=y&b=2",
                "a=1&b=2",
            ),
            (drop(&["utm_*"], false), "utm%5Fsource=x&%75tm_a=1&a=1", "a=1"),
            (drop(&["a b"], false), "a+b=1&a%20b=2&c=3", "a+b=1&a%20b=2&c=3"),
            (drop(&["a%20b"], false), "a+b=1&a%20b=2&c=3", "c=3"),
            // What one server takes for a second pair is part of the first for the key and for the
            // origin: neither sees what the other does not.
            (drop(&["utm_*"], false), "utm_a=1;page=evil&page=1", "page=1"),
            (drop(&[], true), "b=2&a=2&b=1&a=1&&%61=0", "a=2&a=1&%61=0&b=2&b=1"),
            (drop(&["x"], true), "b&x=1&a", "a&b"),
        ] {
            assert_eq!(left(&rule, query), expected, "{query}");
            assert_eq!(left(&rule, expected), expected, "once is enough: {query}");
        }
    }

    /// An origin would be asked for another path, or with a `?` that the client had not written.
    #[test]
    fn targets() {
        let rule = Query {
            keep: Some(names(&["a"])),
            ..Query::default()
        };
        let target = |uri: &'static str| target(&rule, &Uri::from_static(uri)).map(|uri| uri.to_string());
        assert_eq!(target("/x/../y?b=1&a=2").as_deref(), Some("/x/../y?a=2"));
        assert_eq!(target("/x?b=1").as_deref(), Some("/x"));
        assert_eq!(target("/x?").as_deref(), None);
        assert_eq!(target("/x?a=1"), None);
        assert_eq!(target("/x"), None);
    }
}
