//! Checks names and passwords (RFC 7617) against hashes that are slow on purpose: on other threads,
//! few at a time, and once for the same credentials in a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderMap};
use ring::hmac;
use ring::rand::SystemRandom;
use sha_crypt::ShaCrypt;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::rule::{Basic, Scheme};
use crate::http::handler::{Failure, Reason};

/// Hashes under way at once, of the node. Each may take 100 ms of a processor and, with argon2, 64
/// MiB.
const AT_ONCE: usize = 2;
/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Verdicts that are kept; the eldest go first. 48 bytes each.
const KEPT: usize = 8_192;
/// How long: right ones, and wrong ones.
const RIGHT: Duration = Duration::from_secs(600);
const WRONG: Duration = Duration::from_secs(10);
/// Bytes of `Authorization`.
const LONGEST: usize = 1_024;

/// Verdicts on credentials, of the whole node. A verdict is kept under a MAC of the hash and the
/// password by a key of this process, so that neither stands in memory.
pub(super) struct Doorman {
    key: hmac::Key,
    known: Mutex<HashMap<[u8; 32], (Instant, bool)>>,
    turns: Arc<Semaphore>,
}

/// What a request says of itself.
pub(super) struct Credentials {
    user: String,
    password: Zeroizing<String>,
}

impl Credentials {
    /// Those in `headers`; `None` without any that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return None;
        };
        let (scheme, encoded) = field.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > LONGEST {
            return None;
        }
        let decoded = Zeroizing::new(BASE64.decode(encoded.trim().as_bytes()).ok()?);
        let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        })
    }
}

impl Doorman {
    /// One that knows nobody.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new() -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            known: Mutex::new(HashMap::new()),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// What is known of `credentials` already; `None`: they must be checked.
    pub(super) fn known(&self, basic: &Basic, credentials: &Credentials, now: Instant) -> Option<bool> {
        let name = self.name(basic, credentials);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, right) = *known.get(&name)?;
        (now < until).then_some(right)
    }

    /// Checks them. An unknown name takes as long as a known one.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn check(&self, basic: &Arc<Basic>, credentials: &Arc<Credentials>) -> Result<(), Failure> {
        let overload = || Failure::new(Reason::Overload, "too many passwords are being checked");
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| overload())?.map_err(|_| overload())?;
        let (file, given) = (basic.clone(), credentials.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let right = right(&file, &given);
            drop(turn);
            right
        });
        let right = checked
            .await
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        let until = Instant::now() + if right { RIGHT } else { WRONG };
        let name = self.name(basic, credentials);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            let now = Instant::now();
            known.retain(|_, (until, right)| *right && now < *until);
            if known.len() >= KEPT {
                known.clear();
            }
        }
        known.insert(name, (until, right));
        Ok(())
    }

    fn name(&self, basic: &Basic, credentials: &Credentials) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.key);
        let hash = basic.users.get(&*credentials.user).map_or("", |hash| &hash.text);
        for part in [hash, &credentials.user, &credentials.password] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let mut name = [0; 32];
        let tag = mac.sign();
        for (to, from) in name.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        name
    }
}

/// The name of the user of `basic` that `credentials` are of, if they were found right.
pub(super) fn user<'a>(basic: &'a Basic, credentials: &Credentials) -> &'a str {
    basic
        .users
        .get_key_value(&*credentials.user)
        .map_or("", |(name, _)| name)
}

/// Whether the password is the user's. Takes what the hash takes.
pub(super) fn right(basic: &Basic, credentials: &Credentials) -> bool {
    let known = basic.users.get(&*credentials.user);
    // Somebody's hash is tried for nobody, so that time does not tell which names there are.
    let Some(hash) = known.or_else(|| basic.users.values().next()) else {
        return false;
    };
    let password = credentials.password.as_bytes();
    let fits = match hash.scheme {
        Scheme::Bcrypt => bcrypt::verify(password, &hash.text).unwrap_or(false),
        Scheme::Argon2 => PasswordHash::new(&hash.text)
            .is_ok_and(|parsed| Argon2::default().verify_password(password, &parsed).is_ok()),
        Scheme::Sha => PasswordVerifier::<str>::verify_password(&ShaCrypt::default(), password, &hash.text).is_ok(),
    };
    fits && known.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rule;

    /// The password of each is `secret`: by OpenSSL, and by the reference implementations of bcrypt
    /// and argon2.
    const FILE: &str = "sha256:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\n\
        sha512:$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1\n\
        bcrypt:$2b$05$N.7qj1zKdpOwq0KnV42ynucNy8xf7Y6B3DPMItu8.EIm4L9FV8ZBq\n\
        argon2:$argon2id$v=19$m=64,t=1,p=1$tviMYuEk1PiyHoj236bVuQ$O7cQqXOQCb/rCijfH956a8TGI+1fj53qWKq5QsHHC8w\n";

    fn basic() -> Arc<Basic> {
        Arc::new(Basic {
            users: rule::users(FILE).unwrap(),
            challenge: http::HeaderValue::from_static("Basic"),
            forward: false,
        })
    }

    fn credentials(user: &str, password: &str) -> Credentials {
        let text = BASE64.encode(format!("{user}:{password}").as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("bAsic {text}").parse().unwrap());
        Credentials::of(&headers).unwrap()
    }

    /// Who has the password would be kept out, or who has not let in.
    #[test]
    fn each_kind_of_hash_is_checked() {
        let basic = basic();
        for user in ["sha256", "sha512", "bcrypt", "argon2"] {
            assert!(right(&basic, &credentials(user, "secret")), "{user}");
            assert!(!right(&basic, &credentials(user, "Secret")), "{user}");
            assert!(!right(&basic, &credentials(user, "")), "{user}");
        }
        assert!(!right(&basic, &credentials("nobody", "secret")));
    }

    /// Each request would cost a hash, or a wrong password be right for as long as a right one.
    #[tokio::test]
    async fn verdicts_are_kept_for_their_time() {
        let (basic, doorman) = (basic(), Doorman::new().unwrap());
        for (password, verdict, kept) in [("secret", true, RIGHT), ("wrong", false, WRONG)] {
            let credentials = Arc::new(credentials("bcrypt", password));
            assert_eq!(doorman.known(&basic, &credentials, Instant::now()), None);
            doorman.check(&basic, &credentials).await.unwrap();
            assert_eq!(doorman.known(&basic, &credentials, Instant::now()), Some(verdict));
            let after = Instant::now() + kept + Duration::from_secs(1);
            assert_eq!(doorman.known(&basic, &credentials, after), None);
        }
        let other = credentials("sha256", "secret");
        assert_eq!(doorman.known(&basic, &other, Instant::now()), None, "each user's own");
    }

    /// Two fields would be read by one and the other by whoever comes after.
    #[test]
    fn what_cannot_be_read_is_nothing() {
        for fields in [
            &["Basic !!!"][..],
            &["Bearer abc"],
            &["Basic"],
            &["Basic YQ=="],
            &["Basic YTpi", "Basic YTpi"],
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, field.parse().unwrap());
            }
            assert!(Credentials::of(&headers).is_none(), "{fields:?}");
        }
    }
}
