//! The token on its way in and out: the zone's cookie and the field `Edge-Wait`. Neither reaches an
//! origin.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::config::gate::{Cookie, SameSite};

/// The cookie's name where it is of one host; the prefix binds it to the host, to `Path=/` and to
/// TLS (RFC 6265bis section 4.1.3.2).
pub const COOKIE_NAME: &str = "__Host-edge-wait";
/// The cookie's name where the hosts of a domain share it; the prefix binds it to TLS (section
/// 4.1.3.1).
pub const SHARED_NAME: &str = "__Secure-edge-wait";
/// The field's name, for clients without cookies.
pub const FIELD: HeaderName = HeaderName::from_static("edge-wait");
/// The cookie that the challenge page's script sets, and the field for clients without cookies: the
/// answer to a challenge.
pub const WORK_COOKIE: &str = "__Host-edge-work";
/// The field for it.
pub const WORK_FIELD: HeaderName = HeaderName::from_static("edge-work");
/// Longer text is no token of ours.
const LONGEST: usize = 512;
/// Tokens of one request that are looked at.
const MOST: usize = 4;

/// The tokens a request brought, the field's before those of cookies, at most four: which of them
/// is good is seen when they are opened. A browser may hold several cookies of the name, and a
/// program may send an empty or foreign field beside them.
pub fn tokens(headers: &HeaderMap) -> Vec<&str> {
    let fields = headers.get_all(FIELD).iter().filter_map(|value| value.to_str().ok());
    let cookies = pairs(headers).filter_map(|pair| std::str::from_utf8(own(pair)?).ok());
    fields
        .chain(cookies)
        .map(str::trim)
        .filter(|text| !text.is_empty() && text.len() <= LONGEST)
        .take(MOST)
        .collect()
}

/// The answer to a challenge that a request brought: the field's, else the first cookie's.
pub fn work(headers: &HeaderMap) -> Option<&str> {
    let field = headers.get(WORK_FIELD).and_then(|value| value.to_str().ok());
    let cookie = || pairs(headers).find_map(|pair| std::str::from_utf8(value(pair, WORK_COOKIE)?).ok());
    let answer = field.or_else(cookie)?.trim();
    (!answer.is_empty() && answer.len() <= LONGEST).then_some(answer)
}

/// By what the client keeps its token: a cookie, unless it sends a field of ours and no cookie.
pub fn keeps_by_field(headers: &HeaderMap) -> bool {
    headers.contains_key(FIELD) && !pairs(headers).any(|pair| own(pair).is_some())
}

/// Removes both, and leaves other cookies as they were.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(FIELD);
    headers.remove(WORK_FIELD);
    if !pairs(headers).any(is_own) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| {
            let others: Vec<&[u8]> = pairs_of(value)
                .filter(|pair| !is_own(pair))
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

/// `Set-Cookie` for `token`, kept for `life`, as the zone's `terms` say; an empty token takes the
/// cookie away.
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
    [COOKIE_NAME, SHARED_NAME]
        .into_iter()
        .find_map(|name| value(pair, name))
}

/// Whether a pair is none of the origin's business.
fn is_own(pair: &[u8]) -> bool {
    own(pair).is_some() || value(pair, WORK_COOKIE).is_some()
}

/// The cookies of a request as they are written, each with its name.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(COOKIE).iter().flat_map(pairs_of)
}

fn pairs_of(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|b| *b == b';')
}

/// The value of the cookie, if it has this name.
pub fn value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
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
        let mut answered = headers(&[b"a=1; __Host-edge-work=tok.7; b=2"]);
        assert_eq!((work(&answered), tokens(&answered).len()), (Some("tok.7"), 0));
        answered.append(WORK_FIELD, "tok.8".parse().unwrap());
        assert_eq!(work(&answered), Some("tok.8"));
        strip(&mut answered);
        assert_eq!(
            (answered.get(COOKIE).unwrap(), work(&answered)),
            (&HeaderValue::from_static("a=1; b=2"), None)
        );
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
