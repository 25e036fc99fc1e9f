//! `[[zone.rule]]`: which requests a rule is for, and what it does with them. Read and checked by
//! `file`; the room `rules` asks the checked form for each request.

mod auth;
mod cached;
mod checker;
pub(super) mod file;
mod forward;
mod guard;
mod index;
pub mod jwt;
mod list;
mod pattern;
mod template;
mod ways;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use ipnet::IpNet;

pub use auth::{Basic, Hash, Scheme, users};
pub use checker::is_ours;
#[cfg(feature = "node")]
pub(crate) use file::{LIST, RULES};
pub use forward::{Copied, Forward, Vouched, alike};
pub use index::Index;
pub use list::List;
pub use pattern::Pattern;
pub use template::{Piece, Template, Variable};

use super::cache::CacheRule;
use super::pool::{Mirror, Split};
use super::value::HostPattern;

/// A zone's rules in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Each rule.
    pub all: Vec<Rule>,
    /// Which of them may apply to a path.
    pub index: Index,
    /// Fields that rules copy from who was asked: no request of the zone goes on with a client's.
    pub vouched: Vouched,
}

impl Rules {
    /// The pools that rules name, each once.
    pub fn pools(&self) -> std::collections::BTreeSet<Arc<str>> {
        let acts = self.all.iter().map(|rule| &rule.act);
        acts.flat_map(|act| {
            let split = act.split.iter().flat_map(|split| split.to.iter().map(|(name, _)| name));
            let mirror = act.mirror.iter().map(|mirror| &mirror.to);
            act.origin.iter().chain(split).chain(mirror).cloned()
        })
        .chain(self.asked().cloned())
        .collect()
    }

    /// The pools that are asked about requests, and for keys.
    pub fn asked(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.iter().flat_map(|rule| {
            let keys = rule.act.jwt.as_ref().and_then(|jwt| match &jwt.source {
                jwt::Source::Server(server) => Some(&server.from),
                jwt::Source::File(_) => None,
            });
            rule.act
                .forward
                .as_ref()
                .map(|forward| &forward.to)
                .into_iter()
                .chain(keys)
        })
    }

    /// The files of keys that its rules check tokens with.
    pub fn key_files(&self) -> impl Iterator<Item = &jwt::KeyFile> {
        let jwts = self.all.iter().filter_map(|rule| rule.act.jwt.as_ref());
        jwts.filter_map(|jwt| match &jwt.source {
            jwt::Source::File(file) => Some(file),
            jwt::Source::Server(_) => None,
        })
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        // The index is made of the rules.
        self.all == other.all
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names it in logs, metrics and explanations.
    pub name: Arc<str>,
    /// What a request must fulfil.
    pub when: When,
    /// What it must not fulfil altogether.
    pub not: Option<When>,
    /// What is done.
    pub act: Act,
    /// Later rules are not asked.
    pub last: bool,
}

/// Conditions: each list that is not empty must have one that fits, each map must fit whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// Of the path in its normal form.
    pub paths: Vec<Pattern>,
    /// Of the host without its port.
    pub hosts: Vec<HostPattern>,
    /// The method.
    pub methods: Vec<Method>,
    /// Of fields: one of a field's values must fit.
    pub headers: Vec<(HeaderName, Pattern)>,
    /// Of cookies, by name.
    pub cookies: Vec<(Box<str>, Pattern)>,
    /// Of parameters of the query, by name, as the client wrote them.
    pub query: Vec<(Box<str>, Pattern)>,
    /// The client's address is in one of them.
    pub networks: Vec<IpNet>,
    /// The version spoken by the client.
    pub protocols: Vec<Protocol>,
    /// The connection is encrypted (`https`) or not.
    pub secure: Option<bool>,
    /// Whether the client showed a certificate that was verified.
    pub certificate: Option<bool>,
    /// Of the subject of the client's certificate.
    pub subjects: Vec<Pattern>,
    /// Of its issuer.
    pub issuers: Vec<Pattern>,
    /// Of one of its alternative names with its kind, such as `DNS:shop.example`.
    pub alternative_names: Vec<Pattern>,
    /// Its public key's SHA-256, in lower-case hexadecimal.
    pub spki: Vec<Box<str>>,
}

impl When {
    /// Whether one of `networks` has `address`, or none is written.
    pub fn network_fits(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&address))
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    #[serde(rename = "h1")]
    V1,
    /// HTTP/2.
    #[serde(rename = "h2")]
    V2,
    /// HTTP/3.
    #[serde(rename = "h3")]
    V3,
}

impl Protocol {
    /// The one that `version` is of.
    pub fn of(version: Version) -> Self {
        match version {
            Version::HTTP_3 => Self::V3,
            Version::HTTP_2 => Self::V2,
            _ => Self::V1,
        }
    }
}

/// What a rule does; all of it at once. At most one of `redirect`, `list` and `respond` answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Act {
    /// Asks for a name and a password first; who has none of the file's gets 401 and nothing else
    /// of the rule.
    pub auth: Option<Arc<Basic>>,
    /// Asks for a signed token first; who has none that passes gets 401 and nothing else of the
    /// rule.
    pub jwt: Option<Arc<jwt::Jwt>>,
    /// Asks a pool whether the request may pass; who may not gets its answer and nothing else of
    /// the rule.
    pub forward: Option<Arc<Forward>>,
    /// Passes the cache by: nothing stored answers, and nothing is stored.
    pub uncached: bool,
    /// How what is stored of its requests is; the last rule that says so counts.
    pub cache: Option<Arc<CacheRule>>,
    /// The pool that answers.
    pub origin: Option<Arc<str>>,
    /// Pools that answer parts of the requests.
    pub split: Option<Split>,
    /// A pool that gets copies.
    pub mirror: Option<Mirror>,
    /// Sends the client elsewhere.
    pub redirect: Option<Redirect>,
    /// Sends the client where a list says, if its path is on the list.
    pub list: Option<Listed>,
    /// Answers.
    pub respond: Option<Respond>,
    /// Gives later rooms another path.
    pub rewrite: Option<Rewrite>,
    /// Changes the request's fields.
    pub request: Fields,
    /// Changes the fields of the response, whoever made it.
    pub response: Fields,
    /// Adds the usual fields of browsers' safety, where the response has none of its own.
    pub security: bool,
    /// Answers preflights, and lets pages of other origins read responses (Fetch standard, "CORS
    /// protocol").
    pub cors: Option<Cors>,
}

/// Sends the client elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// An absolute URL, or a path on the same host.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Whether the request's query is added.
    pub keep_query: bool,
}

/// Redirects from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// From paths to places.
    pub list: Arc<List>,
    /// Of those that say none of their own.
    pub status: StatusCode,
    /// Whether the request's query is added.
    pub keep_query: bool,
}

impl Listed {
    /// Where the first of `paths` that is on the list leads.
    pub fn find<'a>(&self, mut paths: impl Iterator<Item = &'a str>) -> Option<(&str, Option<StatusCode>)> {
        paths.find_map(|path| self.list.find(path))
    }
}

/// An answer of the rule's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its content.
    pub content: Content,
    /// Its media type.
    pub media_type: HeaderValue,
}

/// Content of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Filled in for each request. Values are escaped if the answer is HTML.
    Text(Template),
    /// A file's, as it was when the configuration was read.
    File(Bytes),
}

/// Another path, and perhaps another query.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The path.
    pub path: Repath,
    /// The query without `?`, in place of the request's; an empty one takes it away.
    pub query: Option<Template>,
}

/// How a path is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Repath {
    /// Leave `strip` out at the front, if it is there up to the end or a `/`, then put `add` in
    /// front.
    Front {
        /// Without a `/` at its end.
        strip: Box<str>,
        /// Without a `/` at its end.
        add: Box<str>,
    },
    /// This one.
    To(Template),
}

/// Changes of fields, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    /// Taken out.
    pub remove: Vec<HeaderName>,
    /// One field with this value, whatever there was; an empty value takes the field out.
    pub set: Vec<(HeaderName, Template)>,
    /// One more field.
    pub add: Vec<(HeaderName, Template)>,
}

impl Fields {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Who may read responses from pages of other origins.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Origins; globs over their text.
    pub origins: Vec<Pattern>,
    /// All origins, told as `*`: the answer does not depend on who asks.
    pub any: bool,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`; `None`: those that the preflight asks for.
    pub headers: Option<HeaderValue>,
    /// `Access-Control-Expose-Headers`.
    pub expose: Option<HeaderValue>,
    /// Whether cookies and credentials are sent along.
    pub credentials: bool,
    /// How long browsers keep a preflight's answer.
    pub max_age: Duration,
}
