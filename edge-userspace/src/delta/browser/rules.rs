//! When a response is a dictionary, when one may be used, and how that is said (RFC 9842). Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::super::coding::negotiate::says;
use crate::config::coding::{Coding, Rule};

/// RFC 9842 section 2.1.
pub(super) const USE_AS_DICTIONARY: HeaderName = HeaderName::from_static("use-as-dictionary");
/// RFC 9842 section 2.3.
pub(super) const DICTIONARY_ID: HeaderName = HeaderName::from_static("dictionary-id");

/// Whether `pattern` covers `path`; `*` stands for any characters. Takes time in proportion to both
/// lengths at most.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The rule that makes the resource under `path` a dictionary.
pub(super) fn source<'a>(zone: &'a Coding, path: &str) -> Option<&'a Rule> {
    zone.dictionaries.iter().find(|rule| covers(&rule.path, path))
}

/// The rules whose dictionaries are for `path`.
pub(super) fn uses<'a>(zone: &'a Coding, path: &'a str) -> impl Iterator<Item = &'a Rule> {
    zone.dictionaries.iter().filter(move |rule| covers(&rule.matches, path))
}

/// `Use-As-Dictionary` for a dictionary of `rule`.
pub(super) fn announcement(rule: &Rule) -> Option<HeaderValue> {
    let mut text = format!("match=\"{}\"", rule.matches);
    if !rule.destinations.is_empty() {
        let list: Vec<String> = rule.destinations.iter().map(|name| format!("\"{name}\"")).collect();
        text.push_str(&format!(", match-dest=({})", list.join(" ")));
    }
    if let Some(id) = &rule.id {
        text.push_str(&format!(", id=\"{id}\""));
    }
    HeaderValue::from_str(&text).ok()
}

/// `Link` to the dictionary of `rule` (RFC 9842 section 3).
pub(super) fn link(rule: &Rule) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("<{}>; rel=\"compression-dictionary\"", rule.path)).ok()
}

/// The `Dictionary-ID` of a request: a string (RFC 9651 section 3.3.3).
pub(super) fn id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(DICTIONARY_ID)?.to_str().ok()?;
    text.trim().strip_prefix('"')?.strip_suffix('"')
}

/// Whether a response is one client's. With a cookie in the request it may be, unless it was made
/// for all.
pub(super) fn private(request: &HeaderMap, response: &HeaderMap, shared: bool) -> bool {
    let said = says(response, "private") || says(response, "no-store");
    let for_all = shared || says(response, "public") || says(response, "s-maxage");
    said || response.contains_key(header::SET_COOKIE)
        || request.contains_key(header::AUTHORIZATION) && !for_all
        || request.contains_key(header::COOKIE) && !for_all
}

/// Whether a browser would keep the response as a dictionary: it must be fresh, and usable without
/// asking (RFC 9842 section 2.1.1; browsers take `must-revalidate` for "not usable").
pub(super) fn keepable(response: &HeaderMap) -> bool {
    let forbidden = ["no-store", "no-cache", "must-revalidate"];
    if forbidden.iter().any(|name| says(response, name)) {
        return false;
    }
    let age = response
        .get(header::AGE)
        .and_then(|age| age.to_str().ok()?.parse::<u64>().ok());
    let max_age = response.get_all(header::CACHE_CONTROL).iter().find_map(|line| {
        let line = line.to_str().ok()?.to_ascii_lowercase();
        let (_, value) = line.split(',').find_map(|part| {
            let (name, value) = part.split_once('=')?;
            (name.trim() == "max-age").then(|| (name.to_owned(), value.trim().trim_matches('"').to_owned()))
        })?;
        value.parse::<u64>().ok()
    });
    match max_age {
        Some(seconds) => seconds > age.unwrap_or(0),
        None => response.contains_key(header::EXPIRES),
    }
}

/// Whether whoever made the request may read the response: otherwise its length, which tells what
/// it has in common with a dictionary, would be all that an attacker needs (RFC 9842 section
/// 9.3.2).
pub(super) fn readable(request: &HeaderMap, response: &HeaderMap) -> bool {
    let value = |name: &'static str| request.get(name).and_then(|value| value.to_str().ok());
    // Who does not send the field is no browser, or has no other origins to keep apart.
    let Some(site) = value("sec-fetch-site") else {
        return true;
    };
    let mode = value("sec-fetch-mode").unwrap_or_default();
    if site == "same-origin" || matches!(mode, "navigate" | "same-origin") {
        return true;
    }
    if mode != "cors" {
        return false;
    }
    let allowed = response.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    allowed.is_some_and(|allowed| allowed == "*" || request.get(header::ORIGIN) == Some(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    /// A pattern read otherwise than the browser does makes it send names of dictionaries nobody
    /// knows.
    #[test]
    fn patterns() {
        for (pattern, path, covered) in [
            ("/app.js", "/app.js", true),
            ("/app.js", "/app.jsx", false),
            ("/app*.js", "/app.1.js", true),
            ("/app*.js", "/app.js", true),
            ("/app*.js", "/app.js.map", false),
            ("/*/a*b*c", "/x/a__b__c", true),
            ("/*/a*b*c", "/x/a__c", false),
            ("/ab*ba", "/aba", false),
            ("/*", "/", true),
        ] {
            assert_eq!(covers(pattern, path), covered, "{pattern} {path}");
        }
    }

    /// RFC 9842 section 9.3.2: lengths of what cannot be read tell what it says.
    #[test]
    fn who_may_read() {
        let site = |site, mode| {
            map(&[
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("origin", "https://a"),
            ])
        };
        let open = |origin| map(&[("access-control-allow-origin", origin)]);
        assert!(readable(&map(&[]), &map(&[])));
        assert!(readable(&site("same-origin", "no-cors"), &map(&[])));
        assert!(readable(&site("cross-site", "navigate"), &map(&[])));
        assert!(!readable(&site("cross-site", "no-cors"), &open("*")));
        assert!(!readable(&site("cross-site", "cors"), &map(&[])));
        assert!(!readable(&site("same-site", "cors"), &open("https://b")));
        assert!(
            readable(&site("same-site", "cors"), &open("https://a"))
                && readable(&site("cross-site", "cors"), &open("*"))
        );
    }

    /// One client's page must not be measured against what another one knows.
    #[test]
    fn private_responses() {
        let cookie = map(&[("cookie", "a=b")]);
        assert!(private(&cookie, &map(&[("cache-control", "max-age=5")]), false));
        assert!(!private(&cookie, &map(&[("cache-control", "max-age=5")]), true));
        assert!(!private(
            &cookie,
            &map(&[("cache-control", "public, max-age=5")]),
            false
        ));
        assert!(private(&map(&[]), &map(&[("cache-control", "Private")]), true));
        assert!(private(&map(&[]), &map(&[("set-cookie", "a")]), true));
        assert!(private(&map(&[("authorization", "a")]), &map(&[]), false));
        assert!(!private(&map(&[]), &map(&[]), false));
    }

    /// A dictionary announced in vain costs the browser a digest and the edge memory.
    #[test]
    fn worth_keeping() {
        let kept = |cc: &str| keepable(&map(&[("cache-control", cc), ("age", "5")]));
        assert!(kept("public, max-age=6") && !kept("max-age=5"));
        for not in [
            "no-cache, max-age=60",
            "max-age=60, must-revalidate",
            "no-store",
            "s-maxage=60",
            "",
        ] {
            assert!(!kept(not), "{not}");
        }
        let rule = Rule {
            path: "/app.js".into(),
            matches: "/app*.js".into(),
            destinations: vec!["script".into(), "style".into()],
            id: Some("app".into()),
            link_from: None,
            private: false,
        };
        assert_eq!(
            announcement(&rule).unwrap(),
            "match=\"/app*.js\", match-dest=(\"script\" \"style\"), id=\"app\""
        );
        assert_eq!(link(&rule).unwrap(), "</app.js>; rel=\"compression-dictionary\"");
        assert_eq!(id(&map(&[("dictionary-id", "\"app\"")])), Some("app"));
    }
}
