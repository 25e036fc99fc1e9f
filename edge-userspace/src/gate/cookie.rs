//! The token on its way in and out: the zone's cookie and the field `Edge-Wait`. Neither reaches an origin.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::config::gate::{Cookie, SameSite};

/// The cookie's name where it is of one host; the prefix binds it to the host, to `Path=/` and to TLS (RFC 6265bis section
/// 4.1.3.2).
pub const COOKIE_NAME: &str = "__Host-edge-wait";
/// The cookie's name where the hosts of a domain share it; the prefix binds it to TLS (section 4.1.3.1).
pub const SHARED_NAME: &str = "__Secure-edge-wait";
/// The field's name, for clients without cookies.
pub const FIELD: HeaderName = HeaderName::from_static("edge-wait");
/// Longer text is no token of ours.
const LONGEST: usize = 512;
/// Tokens of one request that are looked at.
const MOST: usize = 4;

/// The tokens a request brought, the field's before those of cookies, at most four: which of them is good is seen when they are
/// opened. A browser may hold several cookies of the name, and a program may send an empty or foreign field beside them.
pub fn tokens(headers: &HeaderMap) -> Vec<&str> {
    let fields = headers.get_all(FIELD).iter().filter_map(|value| value.to_str().ok());
    let pairs = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    let cookies = pairs.filter_map(|pair| std::str::from_utf8(own(pair)?).ok());
    fields
        .chain(cookies)
        .map(str::trim)
        .filter(|text| !text.is_empty() && text.len() <= LONGEST)
        .take(MOST)
        .collect()
}

/// By what the client keeps its token: a cookie, unless it sends a field of ours and no cookie.
pub fn keeps_by_field(headers: &HeaderMap) -> bool {
    let cookies = headers.get_all(COOKIE).iter();
    headers.contains_key(FIELD)
        && !cookies
            .flat_map(|value| value.as_bytes().split(|b| *b == b';'))
            .any(|pair| own(pair).is_some())
}

/// Removes both, and leaves other cookies as they were.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(FIELD);
    let has_own = |value: &HeaderValue| value.as_bytes().split(|b| *b == b';').any(|pair| own(pair).is_some());
    if !headers.get_all(COOKIE).iter().any(has_own) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| {
            let others: Vec<&[u8]> = value
                .as_bytes()
                .split(|b| *b == b';')
                .filter(|pair| own(pair).is_none())
                .map(<[u8]>::trim_ascii)
                .filter(|pair| !pair.is_empty())
                .collect();
            HeaderValue::from_bytes(&others.join(&b"; "[..]))
                .ok()
                .filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

/// `Set-Cookie` for `token`, kept for `life`, as the zone's `terms` say; an empty token takes the cookie away.
pub(super) fn set(token: &str, life: Duration, terms: &Cookie) -> Option<HeaderValue> {
    let seconds = life.as_secs();
    let (name, domain) = match &terms.domain {
        Some(domain) => (SHARED_NAME, format!("; Domain={domain}")),
        None => (COOKIE_NAME, String::new()),
    };
    let same_site = match terms.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let partitioned = if terms.partitioned { "; Partitioned" } else { "" };
    let text = format!(
        "{name}={token}; Path=/{domain}; Secure; HttpOnly; SameSite={same_site}; Max-Age={seconds}{partitioned}"
    );
    HeaderValue::try_from(text).ok()
}

/// The value of a pair that is ours.
fn own(pair: &[u8]) -> Option<&[u8]> {
    let pair = pair.trim_ascii();
    [COOKIE_NAME, SHARED_NAME]
        .into_iter()
        .find_map(|name| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&[u8]]) -> HeaderMap {
        let value = |bytes: &&[u8]| (COOKIE, HeaderValue::from_bytes(bytes).unwrap());
        cookies.iter().map(value).collect()
    }

    /// A token would leak to the origin, or a visitor's own cookies would be lost on the way.
    #[test]
    fn read_and_stripped() {
        let mut mixed = headers(&[
            b"a=1; __Host-edge-wait=tok; b=\xff2",
            b"__Host-edge-wait=two",
            b"x__Host-edge-wait=3",
        ]);
        assert_eq!(tokens(&mixed), ["tok", "two"]);
        assert!(!keeps_by_field(&mixed));
        mixed.append(FIELD, "field".parse().unwrap());
        assert_eq!(tokens(&mixed), ["field", "tok", "two"]);
        assert!(!keeps_by_field(&mixed));
        strip(&mut mixed);
        let left: Vec<&[u8]> = mixed.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(left, [&b"a=1; b=\xff2"[..], b"x__Host-edge-wait=3"]);
        assert_eq!((tokens(&mixed).len(), mixed.contains_key(FIELD)), (0, false));
        let mut others = headers(&[b"a=1;b=2"]);
        strip(&mut others);
        assert_eq!(others.get(COOKIE).unwrap(), "a=1;b=2", "untouched without ours");
        let long = [b"__Host-edge-wait=".to_vec(), vec![b'a'; 600]].concat();
        assert_eq!(tokens(&headers(&[&long])), [""; 0]);
        // A field that says nothing hides no cookie, and of several cookies each is looked at.
        let mut several = headers(&[b"__Host-edge-wait=; __Host-edge-wait=old", b"__Secure-edge-wait=shared"]);
        several.append(FIELD, "".parse().unwrap());
        assert_eq!(tokens(&several), ["old", "shared"]);
        let mut alone = headers(&[b"a=1"]);
        alone.append(FIELD, "field".parse().unwrap());
        assert!(keeps_by_field(&alone));
    }

    /// A browser would refuse the cookie, or send it where it should not go.
    #[test]
    fn attributes() {
        let set = |terms: &Cookie| {
            set("t", Duration::from_secs(9), terms)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            set(&Cookie::default()),
            "__Host-edge-wait=t; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=9"
        );
        let shared = Cookie {
            same_site: SameSite::None,
            domain: Some("example.com".to_owned()),
            partitioned: true,
        };
        assert_eq!(
            set(&shared),
            "__Secure-edge-wait=t; Path=/; Domain=example.com; Secure; HttpOnly; SameSite=None; Max-Age=9; Partitioned"
        );
    }
}
