//! What a zone rule says of caching: `cache` of `[[zone.rule]]`, checked. `config::rule` reads it,
//! the room `rules` finds the one of a request, the room `cache` goes by it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{After, Cache, Ttls};
use crate::config::rule::Rules;

/// Caching of the requests of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheRule {
    /// How long their responses are fresh.
    pub ttl: Ttls,
    /// Whatever the responses say; otherwise only if they say nothing.
    pub force: bool,
    /// They are the same for everybody: also what requests with credentials got, and what says
    /// `private`.
    pub public: bool,
    /// What is stored loses its `Set-Cookie`, for who asked, too.
    pub strip_set_cookie: bool,
    /// In place of the zone's.
    pub stale_while_revalidate: Option<Duration>,
    /// In place of the zone's.
    pub stale_if_error: Option<Duration>,
    /// Bytes of the ranges in which they are asked for and stored; `None`: whole.
    pub slice: Option<u64>,
    /// What tells them apart beside their URLs.
    pub key: Key,
}

/// What responses are told apart by, beside what always counts: zone, scheme, host, path, pool, and
/// what they vary by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// What of the query is left; `None`: all, as it was written.
    pub query: Option<Query>,
    /// Fields whose values count.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values count.
    pub cookies: Vec<Box<str>>,
}

/// What is left of a query: for the key and for the origin alike, so that nothing reaches the
/// origin that is not part of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only parameters with these names; `None`: all.
    pub keep: Option<Vec<Box<str>>>,
    /// None with these names; globs.
    pub drop: Vec<Box<str>>,
    /// In the order of their names.
    pub sort: bool,
}

impl CacheRule {
    /// `zone` as it is for the rule's requests.
    pub fn within(&self, zone: &Arc<Cache>) -> Arc<Cache> {
        if self.stale_while_revalidate.is_none() && self.stale_if_error.is_none() {
            return zone.clone();
        }
        Arc::new(Cache {
            stale_while_revalidate: self.stale_while_revalidate.unwrap_or(zone.stale_while_revalidate),
            stale_if_error: self.stale_if_error.unwrap_or(zone.stale_if_error),
            ..Cache::clone(zone)
        })
    }
}

/// What the rules of a zone make of keys: who voids a URL must find all that is stored for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Each way in which a query is changed, once; at most [`MOST_QUERIES`].
    pub queries: Vec<Query>,
    /// Some keys are of more than a URL.
    pub parts: bool,
}

/// Ways in which the rules of one zone may change queries: a purge of a URL is one for each.
pub const MOST_QUERIES: usize = 16;

impl Keys {
    /// Of a zone's.
    pub fn of_zone(rules: Option<&Rules>, cache: Option<&Cache>) -> Self {
        let mut this = rules.map(Self::of).unwrap_or_default();
        // What a worker made is kept beside what its origin did.
        this.parts |= cache.is_some_and(|cache| cache.after == After::Worker);
        this
    }

    /// Of `rules`.
    pub fn of(rules: &Rules) -> Self {
        let mut this = Self::default();
        for rule in rules.all.iter().filter_map(|rule| rule.act.cache.as_ref()) {
            let key = &rule.key;
            this.parts |= !key.headers.is_empty() || !key.cookies.is_empty() || rule.slice.is_some();
            if let Some(query) = key.query.as_ref().filter(|query| !this.queries.contains(query)) {
                this.queries.push(query.clone());
            }
        }
        this
    }
}
