//! A rule's `auth`: passwords, checked as the file is read. Read by `file`.

use std::collections::HashMap;
use std::path::PathBuf;

use http::HeaderValue;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::Basic;
use super::checker::{Checker, LIST_BYTES};

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    pub(super) basic: RawBasic,
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
}
