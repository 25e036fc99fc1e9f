//! A rule's `cache`: whether its requests pass the cache by, or how their responses are stored.
//! Read by `file`.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::checker::{Checker, is_ours};
use crate::config::cache::{CacheRule, Key, MOST_OBJECT, Query, Ttls, ttl};
use crate::config::value::{Size, Time};

/// Bytes of a slice, at least: smaller ones are more requests than bytes.
const LEAST_SLICE: u64 = 16 << 10;
/// Names in one list.
const MOST: usize = 64;

/// `cache = false`, or a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RawCache {
    Word(bool),
    Table(Box<RawCacheRule>),
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCacheRule {
    ttl: ttl::Written,
    force: Option<Spanned<bool>>,
    public: bool,
    strip_set_cookie: bool,
    stale_while_revalidate: Option<Spanned<Time>>,
    stale_if_error: Option<Spanned<Time>>,
    slice: Option<Spanned<Size>>,
    key: RawKey,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct RawKey {
    query: Option<Spanned<RawQuery>>,
    headers: Vec<Spanned<String>>,
    cookies: Vec<Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct RawQuery {
    keep: Option<Vec<Spanned<String>>>,
    drop: Vec<Spanned<String>>,
    sort: bool,
}

impl<'de> Deserialize<'de> for RawCache {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawCache;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("false, or a table such as { ttl = { \"200\" = \"10m\" } }")
            }

            fn visit_bool<E>(self, word: bool) -> Result<RawCache, E> {
                Ok(RawCache::Word(word))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCache, A::Error> {
                let table = RawCacheRule::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawCache::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Checker<'_> {
    /// Whether the cache is passed by, and how responses are stored if it is not.
    pub(super) fn cache(&mut self, written: Option<&Spanned<RawCache>>) -> (bool, Option<CacheRule>) {
        let Some(spanned) = written else {
            return (false, None);
        };
        match spanned.get_ref() {
            RawCache::Word(false) => (true, None),
            RawCache::Word(true) => {
                let mend =
                    "write `cache = false` for what passes the cache by, or `cache = { ttl = { \"200\" = \"10m\" } }`";
                self.mistake(spanned.span(), "`cache = true` changes nothing", mend);
                (false, None)
            }
            RawCache::Table(raw) => {
                if **raw == RawCacheRule::default() {
                    let mend = "write `ttl`, `force`, `public`, `strip_set_cookie`, `stale_while_revalidate`, \
                                `stale_if_error`, `slice` or `key`";
                    self.mistake(spanned.span(), "a `cache` that says nothing", mend);
                }
                (false, Some(self.cache_rule(raw)))
            }
        }
    }

    fn cache_rule(&mut self, raw: &RawCacheRule) -> CacheRule {
        let ttl = Ttls::read(&raw.ttl, |span, what, mend| {
            let mistake = self.source.place(span).mistake(what, mend);
            self.mistakes.push(mistake);
        });
        let force = raw.force.as_ref().filter(|force| *force.get_ref());
        if let Some(force) = force.filter(|_| raw.ttl.is_empty()) {
            let mend =
                "write ttl = { \"200\" = \"10m\" }: only statuses with a time are stored against the origin's word";
            self.mistake(force.span(), "`force` without `ttl`", mend);
        }
        let slice = raw.slice.as_ref().map(|slice| {
            let bytes = slice.get_ref().0;
            if !(LEAST_SLICE..=MOST_OBJECT).contains(&bytes) {
                let what = format!("slices of {} are out of bounds", slice.get_ref());
                self.mistake(
                    slice.span(),
                    what,
                    format!("write {} to {}", Size(LEAST_SLICE), Size(MOST_OBJECT)),
                );
            }
            bytes
        });
        let mut stale = |time: Option<&Spanned<Time>>| {
            let time = time?;
            if time.get_ref().0.as_secs() > 30 * 86_400 {
                let what = format!("{} is out of bounds", time.get_ref());
                self.mistake(time.span(), what, "write 0s to 30d");
            }
            Some(time.get_ref().0)
        };
        CacheRule {
            slice,
            stale_while_revalidate: stale(raw.stale_while_revalidate.as_ref()),
            stale_if_error: stale(raw.stale_if_error.as_ref()),
            force: force.is_some(),
            public: raw.public,
            strip_set_cookie: raw.strip_set_cookie,
            key: self.key(&raw.key),
            ttl,
        }
    }

    fn key(&mut self, raw: &RawKey) -> Key {
        if let Some(over) = raw.headers.get(MOST) {
            self.mistake(over.span(), "too many names", format!("write at most {MOST}"));
        }
        let mut headers: Vec<HeaderName> = Vec::new();
        for written in &raw.headers {
            let Some(name) = self.field_name(written) else { continue };
            if name == AUTHORIZATION {
                let mend = "leave it out; answers to such requests are stored only with `public`, as the same for all";
                self.mistake(
                    written.span(),
                    "what somebody gets by credentials is nobody else's",
                    mend,
                );
            } else if name == COOKIE {
                let mend = "write cookies = [\"NAME\"], or cache = false for requests with one";
                self.mistake(written.span(), "the field of all cookies", mend);
            } else if is_ours(name.as_str()) {
                let mend = "leave it out; scheme and host are in each key already";
                self.mistake(written.span(), format!("the edge writes {name} itself"), mend);
            } else if !headers.contains(&name) {
                headers.push(name);
            }
        }
        Key {
            query: raw.query.as_ref().map(|query| self.query(query)),
            headers,
            cookies: self.plain_names(&raw.cookies),
        }
    }

    fn query(&mut self, spanned: &Spanned<RawQuery>) -> Query {
        let raw = spanned.get_ref();
        if raw.keep.is_some() && !raw.drop.is_empty() {
            self.mistake(spanned.span(), "both `keep` and `drop`", "keep one of them");
        }
        if *raw == RawQuery::default() {
            let mend = "write keep = [\"page\"], drop = [\"utm_*\"] or sort = true; keep = [] leaves nothing";
            self.mistake(spanned.span(), "a `query` that changes nothing", mend);
        }
        Query {
            keep: raw.keep.as_ref().map(|names| self.plain_names(names)),
            drop: self.plain_names(&raw.drop),
            sort: raw.sort,
        }
    }

    /// Names of cookies or parameters.
    fn plain_names(&mut self, written: &[Spanned<String>]) -> Vec<Box<str>> {
        if let Some(over) = written.get(MOST) {
            self.mistake(over.span(), "too many names", format!("write at most {MOST}"));
        }
        let mut names: Vec<Box<str>> = Vec::new();
        for name in written {
            let text = name.get_ref();
            let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'&' | b'=' | b'#' | b';');
            if text.is_empty() || text.len() > 256 || !text.bytes().all(plain) {
                let what = format!("\"{}\" is not a valid name", text.escape_debug());
                self.mistake(name.span(), what, "write visible ASCII without & = # ;");
            } else if !names.iter().any(|known| **known == **text) {
                names.push(text.as_str().into());
            }
        }
        names
    }
}
