//! The token on its way in and out: the cookie `__Host-edge-wait` and the field `Edge-Wait`. Neither reaches an origin.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

/// The cookie's name; the prefix binds it to the host, to `Path=/` and to TLS (RFC 6265bis section 4.1.3.2).
pub const COOKIE_NAME: &str = "__Host-edge-wait";
/// The field's name, for clients without cookies.
pub const FIELD: HeaderName = HeaderName::from_static("edge-wait");
/// Longer text is no token of ours.
const LONGEST: usize = 512;

/// The token a request brought; the field before the cookie, of several cookies the first.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let field = headers.get(FIELD).and_then(|value| value.to_str().ok()).map(str::trim);
    let cookie = || {
        let pairs = headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b';'));
        let ours = pairs.filter_map(own).next()?;
        std::str::from_utf8(ours).ok()
    };
    field
        .or_else(cookie)
        .filter(|text| !text.is_empty() && text.len() <= LONGEST)
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

/// `Set-Cookie` for `token`, kept for `life`; an empty token takes the cookie away.
pub(super) fn set(token: &str, life: Duration) -> Option<HeaderValue> {
    let seconds = life.as_secs();
    let text = format!("{COOKIE_NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    HeaderValue::try_from(text).ok()
}

/// The value of a pair that is ours.
fn own(pair: &[u8]) -> Option<&[u8]> {
    pair.trim_ascii()
        .strip_prefix(COOKIE_NAME.as_bytes())?
        .strip_prefix(b"=")
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
        assert_eq!(token(&mixed), Some("tok"));
        mixed.append(FIELD, "field".parse().unwrap());
        assert_eq!(token(&mixed), Some("field"));
        strip(&mut mixed);
        let left: Vec<&[u8]> = mixed.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(left, [&b"a=1; b=\xff2"[..], b"x__Host-edge-wait=3"]);
        assert_eq!((token(&mixed), mixed.contains_key(FIELD)), (None, false));
        let mut others = headers(&[b"a=1;b=2"]);
        strip(&mut others);
        assert_eq!(others.get(COOKIE).unwrap(), "a=1;b=2", "untouched without ours");
        assert_eq!(
            token(&headers(&[&[b"__Host-edge-wait=".to_vec(), vec![b'a'; 600]].concat()])),
            None
        );
    }
}
