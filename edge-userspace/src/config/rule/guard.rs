//! A rule's `auth`: passwords, tokens and who is asked, checked as the file is read. Read by
//! `file`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::COOKIE;
use serde::Deserialize;
use toml::Spanned;

use super::checker::{ANSWER_BYTES, Checker, LIST_BYTES};
use super::forward::RawForward;
use super::jwt::{self, Jwt, KeyFile, KeyServer, Source};
use super::{Basic, Hash};
use crate::config::value::Time;

/// After this time keys are asked for again, if the file does not say.
const REFRESH: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    #[serde(default)]
    pub(super) basic: Option<RawBasic>,
    #[serde(default)]
    pub(super) jwt: Option<RawJwt>,
    #[serde(default)]
    pub(super) forward: Option<RawForward>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJwt {
    #[serde(default)]
    pub(super) keys: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) keys_from: Option<RawKeysFrom>,
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
pub(super) struct RawKeysFrom {
    origin: Spanned<String>,
    #[serde(default)]
    path: Option<Spanned<String>>,
    #[serde(default)]
    refresh: Option<Spanned<Time>>,
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
        self.basic.is_none() && self.jwt.is_none() && self.forward.is_none()
    }
}

impl Checker<'_> {
    pub(super) fn basic(&mut self, raw: &RawBasic) -> Basic {
        let users = self.users(&raw.file);
        let realm = self.realm(raw.realm.as_ref());
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        Basic {
            users,
            challenge: challenge.unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"restricted\"")),
            forward: raw.forward,
        }
    }

    /// The users of a file; with none nobody passes.
    fn users(&mut self, file: &Spanned<PathBuf>) -> HashMap<Box<str>, Hash> {
        let Some(content) = self.read(file, LIST_BYTES) else {
            return HashMap::new();
        };
        let text = std::str::from_utf8(&content).unwrap_or_default();
        let what = match super::users(text) {
            Ok(users) if !users.is_empty() => return users,
            Ok(_) => format!("{} has no users", file.get_ref().display()),
            Err((line, what)) => format!("{}:{line}: {what}", file.get_ref().display()),
        };
        self.fault(
            file.span(),
            what,
            "write lines NAME:HASH, made by htpasswd -B or openssl passwd -6; nobody could pass",
        );
        HashMap::new()
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

    /// Where the keys of `raw` are from; `at` is the rule's name.
    fn keys(&mut self, raw: &RawJwt, at: &Spanned<String>) -> Option<Source> {
        match (&raw.keys, &raw.keys_from) {
            (Some(file), None) => {
                let content = self.read(file, ANSWER_BYTES);
                let keys = content.map_or_else(|| Ok(Vec::new()), |content| jwt::keys(&content));
                let keys = keys.unwrap_or_else(|what| {
                    let what = format!("{}: {what}", file.get_ref().display());
                    let mend = "write the JWKS document of who signs, as its jwks_uri gives it";
                    self.fault(file.span(), what, mend);
                    Vec::new()
                });
                Some(Source::File(KeyFile::new(self.source.path(file), keys)))
            }
            (None, Some(server)) => {
                let refresh = server.refresh.as_ref().map_or(REFRESH, |time| time.get_ref().0);
                let sound = (Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&refresh);
                if let Some(time) = server.refresh.as_ref().filter(|_| !sound) {
                    self.mistake(
                        time.span(),
                        "keys are not asked for so often, or so seldom",
                        "write 10s to 1d",
                    );
                }
                let target = self.target(server.path.as_ref());
                Some(Source::Server(KeyServer {
                    from: self.pool(&server.origin)?,
                    target: target?,
                    refresh,
                }))
            }
            (file, _) => {
                let what = match file {
                    None => "a `jwt` without keys",
                    Some(_) => "both `keys` and `keys_from`",
                };
                let mend = "write keys = \"jwks.json\", or keys_from = { origin = \"id\", path = \"/jwks.json\" }";
                self.mistake(at.span(), what, mend);
                None
            }
        }
    }

    /// `None`: nobody knows its keys.
    pub(super) fn jwt(&mut self, raw: &RawJwt, at: &Spanned<String>) -> Option<Jwt> {
        let source = self.keys(raw, at);
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
        Some(Jwt {
            source: source?,
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
        })
    }
}
