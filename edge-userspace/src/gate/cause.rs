//! Who caused a request: the visitor, or a page of another site that its browser shows. What the
//! browser says of it (Fetch Metadata, the W3C's `Sec-Fetch-*`; `Origin`, RFC 6454) decides two
//! things: whether it may be held against the visitor's address, and whether our cookie would have
//! come with it, so that its absence says something.

use http::header::{HeaderMap, HeaderName, ORIGIN, REFERER};
use http::uri::Authority;
use http::{Method, Uri};

use crate::config::gate::SameSite;
use crate::zones::path::Path;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const REQUESTED_METHOD: HeaderName = HeaderName::from_static("access-control-request-method");
/// Where an ACME server looks for the answer to its challenge (RFC 8555 section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// What caused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// No other site made the browser send it: coming too early with it is the client's own doing.
    pub(super) own: bool,
    /// It is what the visitor looks at: somebody followed a link, wherever that was.
    pub(super) document: bool,
    /// Our cookie would have come with it, if the client had one: so one may be set without taking
    /// another's place.
    pub(super) carries_cookies: bool,
}

/// What caused a request with these fields, to the host `host` of a zone whose cookie is
/// `same_site`.
pub(super) fn cause(method: &Method, headers: &HeaderMap, host: &str, same_site: SameSite) -> Cause {
    let says = |name: &HeaderName, what: &str| headers.get(name).is_some_and(|value| value == what);
    let preflight = is_preflight(method, headers);
    let cross_site = says(&SITE, "cross-site");
    let foreign = cross_site || !headers.contains_key(SITE) && is_of_another_origin(headers, host);
    let document = says(&MODE, "navigate") && says(&DEST, "document");
    Cause {
        own: !cross_site && !preflight,
        document: !preflight && (document || !headers.contains_key(MODE)),
        carries_cookies: !preflight
            && match same_site {
                SameSite::None => true,
                // Top-level and safe (RFC 6265bis section 5.6.7.1).
                SameSite::Lax => !foreign || document && method.is_safe(),
                SameSite::Strict => !foreign,
            },
    }
}

/// A CORS preflight: it never has credentials (Fetch standard, "CORS-preflight fetch").
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(REQUESTED_METHOD)
}

/// Whether nobody is told to wait for a request: it cannot show a token, and something else depends
/// on its answer. `pass` are the patterns of paths that the zone exempts.
pub(super) fn is_exempt(method: &Method, path: &Path<'_>, headers: &HeaderMap, pass: &[String]) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let passes = || !path.is_ambiguous() && pass.iter().any(|pattern| path.matches(pattern));
    is_preflight(method, headers) || reads && (is_challenge(path) || passes())
}

/// Whether `path` is that of an ACME challenge, whose last segment is base64url (RFC 8555 section
/// 8.3).
pub fn is_challenge(path: &Path<'_>) -> bool {
    let token = path.plain().and_then(|path| path.strip_prefix(CHALLENGES));
    token.is_some_and(|token| {
        !token.is_empty()
            && token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    })
}

/// Whether `Origin` names another host than `host`, or is opaque.
fn is_of_another_origin(headers: &HeaderMap, host: &str) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| {
        let named = origin.to_str().ok().and_then(|text| text.split_once("://"));
        named.is_none_or(|(_, authority)| name(authority) != name(host))
    })
}

/// The host that the page is of which a request belongs to, as the request says.
pub(super) fn page_host(headers: &HeaderMap) -> Option<String> {
    let referer = headers.get(REFERER)?.to_str().ok()?.parse::<Uri>().ok()?;
    Some(name(referer.authority()?.as_str()))
}

/// The host of an authority, lower case.
pub(super) fn name(authority: &str) -> String {
    let parsed = authority.parse::<Authority>();
    let host = parsed.as_ref().map_or(authority, |authority| authority.host());
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn of(method: Method, list: &[(&'static str, &'static str)], same_site: SameSite) -> (bool, bool, bool) {
        let cause = cause(&method, &fields(list), "shop.example", same_site);
        (cause.own, cause.document, cause.carries_cookies)
    }

    /// A page of another site would get its visitors struck; or a visitor's cookie would be
    /// overwritten by one that is worth less.
    #[test]
    fn who_caused_it() {
        let (lax, none, strict) = (SameSite::Lax, SameSite::None, SameSite::Strict);
        let cross = ("sec-fetch-site", "cross-site");
        let navigates = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(of(Method::GET, &[], lax), (true, true, true));
        let image = [cross, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
        assert_eq!(of(Method::GET, &image, lax), (false, false, false));
        assert_eq!(of(Method::GET, &image, none), (false, false, true));
        let link = [cross, navigates[0], navigates[1]];
        assert_eq!(of(Method::GET, &link, lax), (false, true, true));
        assert_eq!(of(Method::GET, &link, strict), (false, true, false));
        // Back from the bank, by browsers with and without Fetch Metadata.
        assert_eq!(of(Method::POST, &link, lax), (false, true, false));
        for origin in ["https://bank.example", "null"] {
            assert_eq!(of(Method::POST, &[("origin", origin)], lax), (true, true, false));
        }
        assert_eq!(
            of(Method::POST, &[("origin", "https://Shop.example:8443")], lax),
            (true, true, true)
        );
        let preflight = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "PUT"),
        ];
        assert_eq!(of(Method::OPTIONS, &preflight, none), (false, false, false));
        let same = [("sec-fetch-site", "same-site"), ("origin", "https://app.shop.example")];
        assert_eq!(of(Method::POST, &same, lax), (true, true, true));
    }

    /// A certificate could not be renewed while a zone waits; or anything could be had under the
    /// name of a challenge.
    #[test]
    fn what_nobody_waits_for() {
        let none = HeaderMap::new();
        let pass = ["/robots.txt".to_owned(), "/health*".to_owned()];
        let exempt = |method, path: &str| is_exempt(&method, &Path::of(path), &none, &pass);
        assert!(exempt(Method::GET, "/.well-known/acme-challenge/a-_9"));
        for path in ["", "a/b", "..", "a%2fb", "a?b"] {
            let path = format!("{CHALLENGES}{path}");
            assert!(!exempt(Method::GET, &path), "{path}");
        }
        assert!(!exempt(Method::POST, "/.well-known/acme-challenge/a"));
        assert!(exempt(Method::HEAD, "/robots.txt") && exempt(Method::GET, "/healthz"));
        assert!(!exempt(Method::GET, "/x/..;/healthz") && !exempt(Method::GET, "/healthz%2F..%2Fadmin"));
        assert!(!exempt(Method::GET, "/x/robots.txt") && !exempt(Method::POST, "/healthz"));
        let page = fields(&[("referer", "https://WWW.Example:8443/a?b")]);
        assert_eq!(page_host(&page).as_deref(), Some("www.example"));
    }
}
