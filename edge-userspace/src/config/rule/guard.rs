//! A rule's `auth`: passwords and tokens, checked as the file is read. Read by `file`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::COOKIE;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::Basic;
use super::checker::{ANSWER_BYTES, Checker, LIST_BYTES};
use super::jwt::{self, Jwt};
use crate::config::value::Time;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    #[serde(default)]
    pub(super) basic: Option<RawBasic>,
    #[serde(default)]
    pub(super) jwt: Option<RawJwt>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJwt {
    pub(super) keys: Spanned<PathBuf>,
    #[serde(default)]
    pub(super) issuer: Option<String>,
    #[serde(default)]
    pub(super) audience: Vec<String>,
    #[serde(default)]
    pub(super) leeway: Option<Spanned<Time>>,
    #[serde(default)]
    pub(super) header: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) cookie: Option<String>,
    #[serde(default)]
    pub(super) claims: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) forward: bool,
    #[serde(default)]
    pub(super) realm: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBasic {
    pub(super) file: Spanned<PathBuf>,
    #[serde(default)]
    pub(super) realm: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) forward: bool,
}

impl RawAuth {
    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.basic.is_none() && self.jwt.is_none()
    }
}

impl Checker<'_> {
    pub(super) fn basic(&mut self, raw: &RawBasic) -> Basic {
        let content = Zeroizing::new(self.read(&raw.file, LIST_BYTES));
        let text = std::str::from_utf8(&content).unwrap_or_default();
        let users = super::users(text).unwrap_or_else(|(line, what)| {
            let what = format!("{}:{line}: {what}", raw.file.get_ref().display());
            self.mistake(
                raw.file.span(),
                what,
                "make its lines by htpasswd -B, or openssl passwd -6",
            );
            HashMap::new()
        });
        if users.is_empty() {
            let what = format!("{} has no users", raw.file.get_ref().display());
            self.mistake(raw.file.span(), what, "write lines NAME:HASH; nobody could pass");
        }
        let realm = self.realm(raw.realm.as_ref());
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        Basic {
            users,
            challenge: challenge.unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"restricted\"")),
            forward: raw.forward,
        }
    }

    /// A realm that can stand in quotes.
    pub(super) fn realm<'r>(&mut self, written: Option<&'r Spanned<String>>) -> &'r str {
        let Some(written) = written else { return "restricted" };
        let realm = written.get_ref();
        let sound = |b: u8| (b == b' ' || b.is_ascii_graphic()) && b != b'"' && b != b'\\';
        if !realm.bytes().all(sound) {
            let what = format!("\"{}\" is not a valid realm", realm.escape_debug());
            self.mistake(
                written.span(),
                what,
                "write visible ASCII without quotes and backslashes",
            );
            return "restricted";
        }
        realm
    }

    pub(super) fn jwt(&mut self, raw: &RawJwt) -> Jwt {
        let content = Zeroizing::new(self.read(&raw.keys, ANSWER_BYTES));
        let keys = jwt::keys(&content).unwrap_or_else(|what| {
            let what = format!("{}: {what}", raw.keys.get_ref().display());
            let mend = "write the JWKS document of who signs, as its jwks_uri gives it";
            self.mistake(raw.keys.span(), what, mend);
            Vec::new()
        });
        let leeway = raw
            .leeway
            .as_ref()
            .map_or(Duration::from_secs(60), |time| time.get_ref().0);
        if let Some(time) = raw.leeway.as_ref().filter(|_| leeway > Duration::from_secs(600)) {
            self.mistake(time.span(), "clocks are not this far apart", "write 0s to 10m");
        }
        let header = raw.header.as_ref().and_then(|name| self.own_field(name));
        if let Some(name) = raw.header.as_ref().filter(|_| header == Some(COOKIE)) {
            self.mistake(name.span(), "the field of all cookies", "write cookie = \"NAME\"");
        }
        let realm = self.realm(raw.realm.as_ref());
        let challenges = ["", ", error=\"invalid_token\""].map(|more| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{more}"))
                .unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
        });
        Jwt {
            keys,
            issuer: raw.issuer.clone(),
            audience: raw.audience.clone(),
            leeway,
            header: header.unwrap_or(http::header::AUTHORIZATION),
            cookie: raw.cookie.as_deref().map(Into::into),
            claims: raw
                .claims
                .iter()
                .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
                .collect(),
            forward: raw.forward,
            challenges,
        }
    }
}
