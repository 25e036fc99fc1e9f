//! `auth.forward`: a pool that is asked about each request whether it may pass. Read by `file`; the
//! room `rules` asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::uri::PathAndQuery;
use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::{Rule, Template};
use crate::config::value::Time;

/// Names in one list.
const NAMES: usize = 32;
/// How long an answer may take, if the file does not say.
const PATIENCE: Duration = Duration::from_secs(5);
/// And at most.
const LONGEST: Duration = Duration::from_secs(60);

/// A pool that is asked, and what goes between the two.
#[derive(Debug, PartialEq)]
pub struct Forward {
    /// Which.
    pub to: Arc<str>,
    /// What is asked for: GET, without content.
    pub target: PathAndQuery,
    /// The client's fields that it gets.
    pub send: Vec<HeaderName>,
    /// Fields that it gets beside them, in place of the client's of these names; an empty value
    /// leaves the field out.
    pub set: Vec<(HeaderName, Template)>,
    /// Fields of its answer that the request goes on with, in place of those of the client.
    pub to_origin: Vec<Copied>,
    /// Fields of its answer that the client gets with the response.
    pub to_client: Vec<HeaderName>,
    /// Where a client is sent (302) that the service does not know (401); `None`: it gets the
    /// service's answer.
    pub login: Option<Template>,
    /// Until the whole answer is there.
    pub timeout: Duration,
}

/// A field of an answer that a request goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What the service calls it.
    pub from: HeaderName,
    /// What the origin reads.
    pub to: HeaderName,
}

/// Names of fields that are the word of who was asked, in all spellings that a server may take for
/// one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vouched(Vec<HeaderName>);

impl Vouched {
    /// Those that `rules` copy from answers, but for the ones that carry a client's own proof: no
    /// server believes them for being there.
    pub(super) fn of(rules: &[Rule]) -> Self {
        let asked = rules.iter().filter_map(|rule| rule.act.forward.as_ref());
        let mut names: Vec<_> = asked
            .flat_map(|forward| &forward.to_origin)
            .map(|copied| &copied.to)
            .filter(|name| **name != AUTHORIZATION && **name != COOKIE)
            .cloned()
            .collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self(names)
    }

    /// Whether `name` may be taken for one of them.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|known| alike(known, name))
    }
}

/// Whether a server may take a field of the one name for one of the other: CGI and its successors
/// know letters and digits alone, and write all else alike (RFC 3875 section 4.1.18).
pub fn alike(one: &HeaderName, other: &HeaderName) -> bool {
    let (one, other) = (one.as_str().as_bytes(), other.as_str().as_bytes());
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| a == b || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric())
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawForward {
    to: Spanned<String>,
    #[serde(default)]
    path: Option<Spanned<String>>,
    #[serde(default)]
    send: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    set: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    to_origin: Option<Spanned<RawCopied>>,
    #[serde(default)]
    to_client: Vec<Spanned<String>>,
    #[serde(default)]
    login: Option<Spanned<String>>,
    #[serde(default)]
    timeout: Option<Spanned<Time>>,
}

/// Names of fields, or names and what the service calls them.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum RawCopied {
    /// The same on both sides.
    Same(Vec<String>),
    /// Another one for the origin: `{ X-User = "Remote-User" }`.
    Renamed(BTreeMap<String, String>),
}

/// The client's fields that are sent, if the file does not say: what tells who asks, and what they
/// can read.
const USUAL: [&str; 6] = [
    "accept",
    "accept-language",
    "authorization",
    "cookie",
    "user-agent",
    "x-requested-with",
];

/// What a response says of its own content: it cannot have another one's.
const OF_CONTENT: [&str; 6] = ["etag", "last-modified", "age", "date", "expires", "accept-ranges"];

impl Checker<'_> {
    /// `None`: it names no pool, or asks for nothing.
    /// `groups`: of the rule's expressions.
    pub(super) fn forward(&mut self, raw: &RawForward, groups: &[String]) -> Option<Forward> {
        let target = self.target(raw.path.as_ref());
        let send = match &raw.send {
            None => USUAL.into_iter().map(HeaderName::from_static).collect(),
            Some(names) => self.names(names),
        };
        let to_client = self.names(&raw.to_client);
        for (name, written) in to_client.iter().zip(&raw.to_client) {
            if name.as_str().starts_with("content-") || OF_CONTENT.contains(&name.as_str()) {
                let what = format!("{name} says something of the content, which is another one's");
                self.mistake(written.span(), what, "leave it out");
            }
        }
        let timeout = raw.timeout.as_ref().map_or(PATIENCE, |time| time.get_ref().0);
        if let Some(time) = raw.timeout.as_ref().filter(|_| timeout.is_zero() || timeout > LONGEST) {
            self.mistake(time.span(), "a request cannot wait so long", "write 1ms to 60s");
        }
        if let Some((over, _)) = raw.set.iter().nth(NAMES) {
            self.mistake(over.span(), "too many fields", format!("write at most {NAMES}"));
        }
        Some(Forward {
            set: self.valued(&raw.set, groups),
            to_origin: raw.to_origin.as_ref().map_or_else(Vec::new, |names| self.copied(names)),
            login: raw.login.as_ref().map(|place| self.place(place, groups)),
            to: self.pool(&raw.to)?,
            target: target?,
            send,
            to_client,
            timeout,
        })
    }

    /// What the request goes on with.
    fn copied(&mut self, written: &Spanned<RawCopied>) -> Vec<Copied> {
        let pairs: Vec<(&str, &str)> = match written.get_ref() {
            RawCopied::Same(names) => names.iter().map(|name| (name.as_str(), name.as_str())).collect(),
            RawCopied::Renamed(names) => names.iter().map(|(to, from)| (to.as_str(), from.as_str())).collect(),
        };
        if pairs.len() > NAMES {
            self.mistake(written.span(), "too many fields", format!("write at most {NAMES}"));
        }
        let mut copied = Vec::new();
        for (to, from) in pairs {
            let at = |name: &str| Spanned::new(written.span(), name.to_owned());
            if let (Some(to), Some(from)) = (self.own_field(&at(to)), self.field_name(&at(from))) {
                copied.push(Copied { from, to });
            }
        }
        copied
    }

    /// What is asked for: a path, perhaps with a query.
    pub(super) fn target(&mut self, written: Option<&Spanned<String>>) -> Option<PathAndQuery> {
        let Some(written) = written else {
            return Some(PathAndQuery::from_static("/"));
        };
        let text = written.get_ref();
        let target = text.parse().ok().filter(|_| text.starts_with('/') && text.is_ascii());
        if target.is_none() {
            let what = format!("\"{text}\" is not a valid path");
            self.mistake(written.span(), what, "write one that begins with /, without variables");
        }
        target
    }

    fn names(&mut self, written: &[Spanned<String>]) -> Vec<HeaderName> {
        if let Some(over) = written.get(NAMES) {
            self.mistake(over.span(), "too many fields", format!("write at most {NAMES}"));
        }
        written.iter().filter_map(|name| self.own_field(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client could speak in the place of who was asked, to a server that reads `_` as `-`.
    #[test]
    fn a_name_in_all_its_spellings() {
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).unwrap();
        let vouched = Vouched(vec![name("remote-user"), name("x_group")]);
        for text in [
            "Remote-User",
            "remote_user",
            "REMOTE.USER",
            "remote~user",
            "X-Group",
            "x!group",
        ] {
            assert!(vouched.has(&name(text)), "{text}");
        }
        for text in ["remoteuser", "remote-users", "remote-use", "x-groups", "remote-usex"] {
            assert!(!vouched.has(&name(text)), "{text}");
        }
    }
}
