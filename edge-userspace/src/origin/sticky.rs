//! Cookies that lead clients back to the server that they met (`sticky`). What a cookie says is
//! sealed (AES-256-GCM), so that nobody can choose a server, or learn how many there are. Pure but
//! for chance; `exchange` asks.

use std::fmt;
use std::sync::{Arc, OnceLock};

use data_encoding::BASE64URL_NOPAD;
use http::header::{CACHE_CONTROL, EXPIRES, HeaderMap, HeaderValue, SET_COOKIE};
use http::{StatusCode, response};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::maglev;
use crate::config::{self, gate::SameSite};
use crate::http::fields::{self, CDN_CACHE_CONTROL, SURROGATE_CONTROL};

/// Salt, the server's name hashed, tag.
const SALT: usize = 16;
const SEALED: usize = SALT + 8 + 16;
/// Cookies of the name that are looked at.
const MOST: usize = 4;

/// What cookies are sealed with.
#[derive(Default)]
pub(super) struct Seal(OnceLock<Option<hmac::Key>>);

impl fmt::Debug for Seal {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// With this key, unless there is one already.
    pub(super) fn set(&self, key: &[u8; 16]) {
        self.0.get_or_init(|| Some(hmac::Key::new(hmac::HMAC_SHA256, key)));
    }

    /// The key of one cookie, which seals no other: random salts of 16 bytes do not meet, as nonces
    /// of 12 under one key for years would (NIST SP 800-38D section 8.3).
    fn key(&self, salt: &[u8; SALT]) -> Option<LessSafeKey> {
        let key = self
            .0
            .get_or_init(|| hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok());
        let key = hmac::sign(key.as_ref()?, salt);
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?))
    }

    /// `server`, sealed for `home`; `None`: the system gives no randomness.
    fn seal(&self, home: &str, server: u64) -> Option<String> {
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).ok()?;
        let mut sealed = server.to_be_bytes().to_vec();
        let (key, nonce) = (self.key(&salt)?, Nonce::assume_unique_for_key([0; 12]));
        key.seal_in_place_append_tag(nonce, Aad::from(home), &mut sealed).ok()?;
        sealed.splice(..0, salt);
        Some(BASE64URL_NOPAD.encode(&sealed))
    }

    /// What was sealed for `home`; `None` for anything else.
    fn open(&self, home: &str, text: &str) -> Option<u64> {
        if text.len() != BASE64URL_NOPAD.encode_len(SEALED) {
            return None;
        }
        let mut sealed = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (salt, sealed) = sealed.split_first_chunk_mut::<SALT>()?;
        let (key, nonce) = (self.key(salt)?, Nonce::assume_unique_for_key([0; 12]));
        let opened = key.open_in_place(nonce, Aad::from(home), sealed).ok()?;
        Some(u64::from_be_bytes(opened.try_into().ok()?))
    }
}

/// The cookie of one zone's servers, or a pool's.
#[derive(Debug)]
pub(super) struct Sticky {
    cookie: Arc<str>,
    /// After the value.
    attributes: String,
    /// Whose servers they are: a cookie of others does not open.
    home: Arc<str>,
    /// The servers' names, hashed.
    servers: Vec<u64>,
    seal: Arc<Seal>,
}

impl Sticky {
    pub(super) fn new<'a>(
        terms: &config::Sticky,
        home: &Arc<str>,
        servers: impl Iterator<Item = &'a str>,
        seal: Arc<Seal>,
    ) -> Self {
        let same_site = match terms.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let life = terms.max_age.map(|life| format!("; Max-Age={}", life.as_secs()));
        Self {
            cookie: terms.cookie.clone(),
            attributes: format!(
                "; Path=/; Secure; HttpOnly; SameSite={same_site}{}",
                life.unwrap_or_default()
            ),
            home: home.clone(),
            servers: servers.map(|name| maglev::key(name.as_bytes())).collect(),
            seal,
        }
    }

    /// Takes the cookie out of `headers`. The place of the server that it leads to; `None`: it does
    /// not open, or there is no such server any more.
    pub(super) fn take(&self, headers: &mut HeaderMap) -> Option<usize> {
        let led = fields::cookies(headers, &self.cookie).take(MOST).find_map(|text| {
            let server = self.seal.open(&self.home, text)?;
            self.servers.iter().position(|known| *known == server)
        });
        fields::remove_cookie(headers, &self.cookie);
        led
    }

    /// Leads the client to the server at `at`, whose answer `head` is. Not by answers that say that
    /// it cannot serve, nor by what refreshes a stored one, which is not this client's.
    pub(super) fn lead(&self, head: &mut response::Parts, at: usize) {
        if head.status.is_server_error() || head.status == StatusCode::NOT_MODIFIED {
            return;
        }
        let sealed = self
            .servers
            .get(at)
            .and_then(|server| self.seal.seal(&self.home, *server));
        let Some(sealed) = sealed else { return };
        let cookie = format!("{}={sealed}{}", self.cookie, self.attributes);
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            head.headers.append(SET_COOKIE, cookie);
            private(&mut head.headers);
        }
    }
}

/// Says that a response is one client's: no store that clients share keeps it (RFC 9111 section
/// 5.2.2.7); what it allows the client's own stays.
fn private(headers: &mut HeaderMap) {
    // For shared stores alone (RFC 9213).
    headers.remove(CDN_CACHE_CONTROL);
    headers.remove(SURROGATE_CONTROL);
    let mut said = b"private".to_vec();
    for directive in fields::list(headers, CACHE_CONTROL) {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name = name.trim_ascii();
        if ["public", "s-maxage", "private"]
            .iter()
            .any(|shared| name.eq_ignore_ascii_case(shared.as_bytes()))
        {
            continue;
        }
        said.extend_from_slice(b", ");
        said.extend_from_slice(directive);
    }
    match HeaderValue::from_bytes(&said) {
        Ok(said) => drop(headers.insert(CACHE_CONTROL, said)),
        Err(_) => drop(headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"))),
    }
    // Of those who know no `Cache-Control`.
    if headers.contains_key(EXPIRES) {
        headers.insert(EXPIRES, HeaderValue::from_static("0"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::COOKIE;

    use super::*;

    fn sticky(seal: &Arc<Seal>, home: &str, servers: &[&str]) -> Sticky {
        let terms = config::Sticky {
            cookie: "server".into(),
            same_site: SameSite::Strict,
            max_age: Some(Duration::from_secs(60)),
        };
        Sticky::new(&terms, &home.into(), servers.iter().copied(), seal.clone())
    }

    fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    /// The value of the cookie that leads to `at`.
    fn led(sticky: &Sticky, at: usize) -> String {
        let mut head = head(200, &[]);
        sticky.lead(&mut head, at);
        let cookie = head.headers[SET_COOKIE].to_str().unwrap();
        let (value, attributes) = cookie.strip_prefix("server=").unwrap().split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=60");
        value.to_owned()
    }

    fn take(sticky: &Sticky, cookies: &str) -> (Option<usize>, Option<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookies.parse().unwrap());
        let led = sticky.take(&mut headers);
        (led, headers.get(COOKIE).map(|left| left.to_str().unwrap().to_owned()))
    }

    /// A client could choose its server, learn which there are, or take a session to another pool;
    /// or a reload and a second node would lose sessions.
    #[test]
    fn a_cookie_leads_where_it_was_made_and_nobody_else_makes_one() {
        let seal = Arc::new(Seal::default());
        seal.set(&[7; 16]);
        let this = sticky(&seal, "shop", &["http://10.0.0.1", "http://10.0.0.2"]);
        let value = led(&this, 1);
        assert_eq!(
            take(&this, &format!("a=1; server={value}; b=2")),
            (Some(1), Some("a=1; b=2".to_owned()))
        );
        assert_eq!(take(&this, &format!("server=old; server={value}")), (Some(1), None));
        assert_ne!(led(&this, 1), value, "two clients of one server have nothing in common");
        // Servers move and go; another node has the same secret.
        let other = Arc::new(Seal::default());
        other.set(&[7; 16]);
        let moved = sticky(
            &other,
            "shop",
            &["http://10.0.0.3", "http://10.0.0.2", "http://10.0.0.1"],
        );
        assert_eq!(take(&moved, &format!("server={value}")).0, Some(1));
        assert_eq!(
            take(&sticky(&seal, "shop", &["http://10.0.0.1"]), &format!("server={value}")).0,
            None
        );
        assert_eq!(
            take(
                &sticky(&seal, "blog", &["http://10.0.0.1", "http://10.0.0.2"]),
                &format!("server={value}")
            )
            .0,
            None
        );
        let stranger = Arc::new(Seal::default());
        assert_eq!(
            take(
                &sticky(&stranger, "shop", &["http://10.0.0.2"]),
                &format!("server={value}")
            )
            .0,
            None
        );
        for at in 0..value.len() {
            let mut forged = value.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(take(&this, &format!("server={forged}")), (None, None), "{at}");
        }
        for forged in [
            "",
            "0",
            "http://10.0.0.2",
            &value[1..],
            &"A".repeat(54),
            &"A".repeat(10_000),
        ] {
            assert_eq!(take(&this, &format!("server={forged}")), (None, None));
        }
    }

    /// A shared store would give one client's cookie, and server, to others.
    #[test]
    fn an_answer_that_leads_is_one_clients() {
        let seal = Arc::new(Seal::default());
        let this = sticky(&seal, "shop", &["http://10.0.0.1"]);
        let said = |fields: &[(&str, &str)]| {
            let mut head = head(200, fields);
            this.lead(&mut head, 0);
            assert!(!head.headers.contains_key("cdn-cache-control"));
            head.headers[CACHE_CONTROL].to_str().unwrap().to_owned()
        };
        assert_eq!(said(&[]), "private");
        assert_eq!(
            said(&[
                ("cache-control", "Public, max-age=60"),
                ("cache-control", "S-MaxAge=9, immutable")
            ]),
            "private, max-age=60, immutable"
        );
        assert_eq!(
            said(&[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")]),
            "private, no-store"
        );
        let mut expires = head(200, &[("expires", "Thu, 01 Jan 2099 00:00:00 GMT")]);
        this.lead(&mut expires, 0);
        assert_eq!(expires.headers[EXPIRES], "0");
        for status in [304, 500, 503] {
            let mut head = head(status, &[("cache-control", "public")]);
            this.lead(&mut head, 0);
            assert!(!head.headers.contains_key(SET_COOKIE), "{status}");
            assert_eq!(head.headers[CACHE_CONTROL], "public");
        }
    }
}
