//! What is kept of one URL: its stored responses, told apart by `Vary` (RFC 9111 section 4.1),
//! without their content. `handler` makes and asks them, `store` keeps them, `record` writes them
//! to disk. Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri, request};

use super::directives::{Directives, FOREVER};
use super::worth::{Worth, single_date};
use crate::base::clock::UnixTime;
use crate::base::digest::Digest;
use crate::config::cache::Key;
use crate::gate::cookie;
use crate::http::codings::Accepted;
use crate::http::fields;
use crate::http::forwarded::{self, Written};
use crate::http::message::Exchange;

/// Responses kept of one URL. With more, the oldest goes: a client that makes up field values must
/// not grow the store.
pub(super) const MOST_VARIANTS: usize = 16;
/// Fields that `Vary` may name; with more, the response is not stored.
const MOST_NAMES: usize = 16;
/// Purge tags of a response; with more, the rest is ignored.
pub(super) const MOST_TAGS: usize = 64;

/// Names a resource: zone, scheme, authority, path and query, and what `rule` adds. Two zones never
/// share one, whatever their hosts.
pub(super) fn key(exchange: &Exchange, head: &request::Parts, rule: Option<&Key>) -> String {
    let scheme = exchange.peer.scheme();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let key = url_key(&exchange.zone.name, scheme, &exchange.host, target);
    let parts = rule.and_then(|rule| parts(rule, &head.headers));
    // What one pool answers is not another's. No target has a `#` in it (RFC 9112 section 3.2), nor
    // has a pool's name.
    match (&exchange.zone.pool, parts) {
        (None, None) => key,
        (Some(pool), None) => format!("{key}#{pool}"),
        (pool, Some(parts)) => format!("{key}#{}#{parts}", pool.as_deref().unwrap_or_default()),
    }
}

/// What `rule` tells requests apart by beside their URLs; `None`: nothing. A digest of names and
/// values with their lengths, so that no two lists of them run together, none makes a key long, and
/// none stands in a log. All values of a name count, as they were written: nobody knows by which of
/// them an origin goes. Those of `Accept-Encoding` count as they do for `Vary`.
fn parts(rule: &Key, fields: &HeaderMap) -> Option<Digest> {
    if rule.headers.is_empty() && rule.cookies.is_empty() {
        return None;
    }
    let mut text = Vec::new();
    let mut part = |kind: u8, name: &str, values: &[&[u8]]| {
        text.push(kind);
        text.extend_from_slice(&(values.len() as u64).to_be_bytes());
        for bytes in std::iter::once(name.as_bytes()).chain(values.iter().copied()) {
            text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            text.extend_from_slice(bytes);
        }
    };
    for name in &rule.headers {
        let normal = (*name == header::ACCEPT_ENCODING)
            .then(|| selecting(fields, name))
            .flatten();
        match &normal {
            Some(normal) => part(b'h', name.as_str(), &[normal]),
            None => {
                let values: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                part(b'h', name.as_str(), &values);
            }
        }
    }
    for name in &rule.cookies {
        let values: Vec<_> = cookie::pairs(fields)
            .filter_map(|pair| cookie::value(pair, name))
            .collect();
        part(b'c', name, &values);
    }
    Some(Digest::of(&text))
}

/// The key of a resource's URL, whichever pool answers for it.
pub(super) fn url_of(key: &str) -> &str {
    key.split_once('#').map_or(key, |(url, _)| url)
}

/// `key` with another target, whichever pool answers for it.
pub(super) fn with_target(key: &str, target: &Uri) -> String {
    let url = url_of(key);
    let path = url
        .find("://")
        .and_then(|at| Some(at + 3 + url.get(at + 3..)?.find('/')?));
    format!("{}{target}", path.and_then(|path| url.get(..path)).unwrap_or(url))
}

/// As [`key`], of parts. A zone's name has no space in it.
pub(super) fn url_key(zone: &str, scheme: &str, authority: &str, target: &str) -> String {
    let port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    format!("{zone} {scheme}://{authority}{target}")
}

/// Names a body: random, so that no two zones share one and none is taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BodyId(pub(super) u128);

/// The responses of one URL, the one that came last first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resource {
    /// At most [`MOST_VARIANTS`].
    pub(super) variants: Vec<Variant>,
}

/// The names of a response's `Vary`, each with the value of the request that got it; `None`: the
/// request had no such field.
pub(super) type Selectors = Vec<(HeaderName, Option<Vec<u8>>)>;

/// One stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// Status.
    pub(super) status: StatusCode,
    /// End-to-end fields, `Age` left out.
    pub(super) fields: HeaderMap,
    /// What `Vary` names, with the values of the request that got this.
    pub(super) vary: Selectors,
    /// Its content.
    pub(super) body: BodyId,
    /// The content's length.
    pub(super) length: u64,
    /// When the request that got or last validated it was sent: purges later than that void it.
    pub(super) asked: UnixTime,
    /// When its head, or the last validation, had come.
    pub(super) came: UnixTime,
    /// How it may be reused.
    pub(super) worth: Worth,
}

impl Resource {
    /// The variant that answers a request with `fields`: of those that match the one with the
    /// latest `Date`, as far as that is known from the order of arrival.
    pub(super) fn select(&self, fields: &HeaderMap) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.matches(fields))
    }

    /// With `fresh` in front, in place of what answered the same requests.
    pub(super) fn with(&self, fresh: Variant) -> Self {
        let others = self.variants.iter().filter(|known| known.vary != fresh.vary).cloned();
        let mut variants: Vec<Variant> = std::iter::once(fresh.clone()).chain(others).collect();
        variants.truncate(MOST_VARIANTS);
        Self { variants }
    }

    /// Without the variant whose content is `body`.
    pub(super) fn without(&self, body: BodyId) -> Self {
        let kept = self.variants.iter().filter(|known| known.body != body).cloned();
        Self {
            variants: kept.collect(),
        }
    }
}

impl Variant {
    /// Whether it answers requests with `fields` (RFC 9111 section 4.1).
    pub(super) fn matches(&self, fields: &HeaderMap) -> bool {
        self.vary.iter().all(|(name, value)| selecting(fields, name) == *value)
    }

    /// Its age at `now`, seconds (RFC 9111 section 4.2.3).
    pub(super) fn age(&self, now: UnixTime) -> u64 {
        self.worth
            .age
            .saturating_add(now.since(self.came).as_secs())
            .min(FOREVER)
    }

    /// As it is after a soft purge at `time`: stale since then, if it was not before.
    pub(super) fn softly(&mut self, time: UnixTime) {
        self.worth.lifetime = self.worth.lifetime.min(self.age(time));
        self.worth.purged = true;
    }

    /// Purge tags: of `Cache-Tag` and `Surrogate-Key`.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        let split = |name: &'static str, separators: &'static [char]| {
            self.fields
                .get_all(name)
                .iter()
                .filter_map(|line| line.to_str().ok())
                .flat_map(move |line| line.split(separators))
        };
        split("cache-tag", &[','])
            .chain(split("surrogate-key", &[' ', ',']))
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .take(MOST_TAGS)
    }

    /// Whether a 304, or the answer to a HEAD, with the fields `by` is about this response (RFC
    /// 9111 section 4.3.4): its entity tag is the stored one's, and it varies by the same fields.
    /// One with another tag has its meaning for another representation: put to this one, it would
    /// join the parts of two, or give an old one the name of the new.
    ///
    /// Servers that compress make a tag weak, and forget that in a 304: `"a"` confirms `W/"a"`,
    /// which stays as it is. Without tags `Last-Modified` takes their place.
    pub(super) fn confirmed(&self, by: &HeaderMap) -> bool {
        let tag = |fields: &HeaderMap| fields.get(header::ETAG).map(|tag| tag.as_bytes().trim_ascii().to_vec());
        let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        let same = match (tag(&self.fields), tag(by)) {
            (Some(stored), Some(said)) => opaque(&stored) == opaque(&said),
            // It has not got what the condition named.
            (None, Some(_)) => false,
            (Some(_), None) => true,
            (None, None) => {
                let modified = |fields: &HeaderMap| single_date(fields, &header::LAST_MODIFIED);
                modified(by).is_none_or(|said| modified(&self.fields) == Some(said))
            }
        };
        same && (!by.contains_key(header::VARY)
            || selectors(by, &HeaderMap::new()).is_some_and(|said| {
                let names = said.iter().map(|(name, _)| name);
                names.eq(self.vary.iter().map(|(name, _)| name))
            }))
    }

    /// Updated by a 304 or a HEAD (RFC 9111 sections 3.2 and 4.3.4): what it sends replaces what is
    /// stored, but for what belongs to the stored content. `worth` is then to be judged anew.
    pub(super) fn updated(&self, by: &HeaderMap) -> HeaderMap {
        let mut fields = self.fields.clone();
        for name in by.keys() {
            let tagged = name == header::ETAG && fields.contains_key(header::ETAG);
            if !CONTENTS.contains(name) && !tagged {
                fields.remove(name);
                for value in by.get_all(name) {
                    fields.append(name.clone(), value.clone());
                }
            }
        }
        strip(&mut fields, &Directives::of(by));
        fields
    }
}

/// Fields that describe the stored content, which a 304 does not change.
const CONTENTS: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
];

/// Fields that are never stored: of the connection (RFC 9111 section 3.1), of other caches, and
/// cookies, which are one client's whatever is said of the rest. What `Connection` names is gone
/// before a response gets here.
const UNSTORED: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "age",
    "cache-status",
    "set-cookie",
];

/// Gives a response without `Date` the one when it came: otherwise each answer from the store would
/// get the date of its own (RFC 9110 section 6.6.1).
pub(super) fn date(fields: &mut HeaderMap, came: UnixTime) {
    if !fields.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(came.into()))
    {
        fields.insert(header::DATE, date);
    }
}

/// Takes out what must not be stored, and what `no-cache` or `private` name.
pub(super) fn strip(fields: &mut HeaderMap, directives: &Directives) {
    for name in UNSTORED {
        fields.remove(name);
    }
    for name in &directives.withheld {
        fields.remove(name);
    }
}

/// What of a request decides which variant answers it: the names of the response's `Vary` with the
/// request's values. `None`: not to be stored.
pub(super) fn selectors(response: &HeaderMap, request: &HeaderMap) -> Option<Selectors> {
    let mut distinct: Vec<HeaderName> = Vec::new();
    for name in fields::list(response, header::VARY) {
        let name = HeaderName::from_bytes(name).ok()?;
        match forwarded::written(&name) {
            // It is in the key.
            Some(Written::ByAddress) => continue,
            // What the origin saw is not what the next client will have written.
            Some(Written::BySender) => return None,
            None => {}
        }
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    let mut names = distinct;
    if names.len() > MOST_NAMES {
        return None;
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    Some(
        names
            .into_iter()
            .map(|name| {
                let value = selecting(request, &name);
                (name, value)
            })
            .collect(),
    )
}

/// A selecting field's value in the form in which it is compared: lines joined, space around commas
/// taken out. Of `Accept-Encoding` the codings that it accepts count, in whatever spelling (RFC
/// 9111 section 4.1 allows what has the same meaning).
fn selecting(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    if name == header::ACCEPT_ENCODING {
        return Accepted::of(fields).normal();
    }
    let mut whole: Option<Vec<u8>> = None;
    for line in fields.get_all(name) {
        for part in line.as_bytes().split(|b| *b == b',') {
            match &mut whole {
                None => whole = Some(part.trim_ascii().to_vec()),
                Some(whole) => {
                    whole.push(b',');
                    whole.extend_from_slice(part.trim_ascii());
                }
            }
        }
    }
    whole
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    pub(in super::super) fn variant(
        request: &[(&'static str, &str)],
        fields: &[(&'static str, &str)],
        id: u128,
    ) -> Variant {
        let fields = headers(fields);
        Variant {
            status: StatusCode::OK,
            vary: selectors(&fields, &headers(request)).unwrap(),
            body: BodyId(id),
            length: 3,
            asked: UnixTime::from_secs(100),
            came: UnixTime::from_secs(100),
            worth: Worth {
                lifetime: 60,
                age: 0,
                directives: Directives::of(&fields),
                for_authorized: false,
                granted: false,
                purged: false,
            },
            fields,
        }
    }

    /// A variant chosen wrongly is a page in another language, or another user's.
    #[test]
    fn variants() {
        let vary = ("vary", "Accept-Language, x-a");
        let de = variant(&[("accept-language", "de,en")], &[vary], 1);
        let fr = variant(&[("accept-language", "fr")], &[vary], 2);
        let resource = Resource::default().with(de.clone()).with(fr);
        let body = |fields: &[(&'static str, &str)]| resource.select(&headers(fields)).map(|v| v.body.0);
        assert_eq!(body(&[("accept-language", "fr")]), Some(2));
        assert_eq!(body(&[("accept-language", "de"), ("accept-language", " en")]), Some(1));
        assert_eq!(body(&[("accept-language", "en")]), None);
        assert_eq!(body(&[]), None);
        assert_eq!(body(&[("accept-language", "fr"), ("x-a", "1")]), None);
        let again = resource.with(Variant { body: BodyId(3), ..de });
        assert_eq!(again.variants.iter().map(|v| v.body.0).collect::<Vec<_>>(), [3, 2]);
        // Browsers write the same codings in different ways.
        let vary = ("vary", "Accept-Encoding");
        let coded = Resource::default().with(variant(&[("accept-encoding", "gzip, br")], &[vary], 1));
        let body = |accept: &str| coded.select(&headers(&[("accept-encoding", accept)])).map(|v| v.body.0);
        assert_eq!((body("br;q=1.0, gzip;q=0.8"), body("gzip")), (Some(1), None));
    }

    /// What the origin varies by is what it was told, and of some fields that is not what the
    /// client wrote: stored by the latter, one client's answer would be everybody's.
    #[test]
    fn fields_written_anew() {
        let by = |vary: &str| {
            selectors(
                &headers(&[("vary", vary)]),
                &headers(&[("x-forwarded-proto", "gopher")]),
            )
        };
        assert_eq!(by("X-Forwarded-Proto, Host, X-Forwarded-Host"), Some(Vec::new()));
        for name in [
            "X-Forwarded-For",
            "Forwarded",
            "X-Real-IP",
            "X-Request-Id",
            "x_forwarded_for",
        ] {
            assert_eq!(by(name), None, "{name}");
        }
    }

    /// A client that makes up values must not fill the store.
    #[test]
    fn bounded() {
        let vary = ("vary", "x-a");
        let mut resource = Resource::default();
        for n in 0..100_u8 {
            resource = resource.with(variant(&[("x-a", &n.to_string())], &[vary], u128::from(n)));
        }
        assert_eq!(resource.variants.len(), MOST_VARIANTS);
        let many: String = (0..40).map(|n| format!("a{n},")).collect();
        assert!(selectors(&headers(&[("vary", &many)]), &HeaderMap::new()).is_none());
    }

    /// RFC 9111 section 3.2.
    #[test]
    fn updates() {
        let stored = variant(&[], &[("content-length", "3"), ("x-a", "1"), ("etag", "\"a\"")], 1);
        let by = headers(&[("content-length", "0"), ("x-a", "2"), ("x-b", "3"), ("age", "9")]);
        let fields = stored.updated(&by);
        assert_eq!(fields["content-length"], "3");
        assert_eq!(
            (&fields["x-a"], &fields["x-b"]),
            (&"2".parse().unwrap(), &"3".parse().unwrap())
        );
        assert!(!fields.contains_key("age") && fields.contains_key("etag"));
    }

    /// RFC 9111 section 4.3.4: a 304 about another representation would give this one's bytes its
    /// name.
    #[test]
    fn confirmations() {
        let by = |stored: &[(&'static str, &str)], said: &[(&'static str, &str)]| {
            variant(&[], stored, 1).confirmed(&headers(said))
        };
        let (strong, weak) = ([("etag", "\"a\"")], [("etag", "W/\"a\"")]);
        for (stored, said, confirmed) in [
            (&strong[..], &strong[..], true),
            (&strong, &[], true),
            (&weak, &strong, true),
            (&strong, &weak, true),
            (&strong, &[("etag", "\"b\"")], false),
            (&weak, &[("etag", "W/\"b\"")], false),
            (&[], &strong, false),
            (&[], &[], true),
        ] {
            assert_eq!(by(stored, said), confirmed, "{stored:?} {said:?}");
        }
        let (old, new) = ("Sun, 09 Sep 2001 01:46:39 GMT", "Sun, 09 Sep 2001 01:46:40 GMT");
        assert!(by(&[("last-modified", old)], &[("last-modified", old)]));
        assert!(!by(&[("last-modified", old)], &[("last-modified", new)]));
        let vary = |text: &'static str| [("etag", "\"a\""), ("vary", text)];
        assert!(by(&vary("Accept, x-a"), &vary("X-A, accept")));
        for other in ["x-a", "accept, x-a, x-b", "*", "x-forwarded-for"] {
            assert!(!by(&vary("accept, x-a"), &vary(other)), "{other}");
        }
        let stored = variant(&[], &[("etag", "W/\"a\"")], 1);
        assert_eq!(
            stored.updated(&headers(&strong))["etag"],
            "W/\"a\"",
            "never stronger than it was"
        );
    }

    /// Another zone's resource under the same URL is another tenant's.
    #[test]
    fn keys() {
        assert_ne!(url_key("a", "https", "h", "/"), url_key("b", "https", "h", "/"));
        assert_ne!(url_key("a", "https", "h", "/?a"), url_key("a", "https", "h", "/?b"));
        assert_eq!(url_key("a", "https", "h:443", "/"), url_key("a", "https", "h", "/"));
        let target = Uri::from_static("/x?c=1");
        for key in ["a https://h:1/a/b?c", "a https://h:1/#pool", "a https://h:1/?x##digest"] {
            assert_eq!(with_target(key, &target), "a https://h:1/x?c=1");
        }
    }

    /// One visitor would get what is another's, told apart by what the operator named: lists that
    /// run together, a cookie that is there twice, a field that is empty and one that is not there.
    #[test]
    fn parts_of_keys_do_not_run_together() {
        let rule = |headers: &[&'static str], cookies: &[&str]| Key {
            query: None,
            headers: headers.iter().map(|name| HeaderName::from_static(name)).collect(),
            cookies: cookies.iter().map(|name| (*name).into()).collect(),
        };
        let key = |rule: &Key, fields: &[(&'static str, &str)]| parts(rule, &headers(fields));
        let by = rule(&["x-a", "x-b"], &["c", "d"]);
        let asked: [&[(&'static str, &str)]; 14] = [
            &[],
            &[("x-a", "")],
            &[("x-b", "")],
            &[("x-a", "1")],
            &[("x-b", "1")],
            &[("x-a", "1"), ("x-b", "1")],
            &[("x-a", "1"), ("x-a", "1")],
            &[("x-a", "1,1")],
            &[("cookie", "c=1")],
            &[("cookie", "d=1")],
            &[("cookie", "c=1; c=2")],
            &[("cookie", "c=2; c=1")],
            &[("cookie", "c=1; d=2")],
            &[("cookie", "c=")],
        ];
        let keys: std::collections::HashSet<_> = asked.iter().map(|fields| key(&by, fields).unwrap()).collect();
        assert_eq!(keys.len(), asked.len());
        assert_eq!(
            key(&by, &[("cookie", "x=1; c=1")]),
            key(&by, &[("cookie", "c=1"), ("x-c", "1")])
        );
        assert_ne!(
            key(&rule(&["x-a"], &[]), &[("x-a", "1")]),
            key(&rule(&["x-b"], &[]), &[("x-b", "1")])
        );
        assert_ne!(
            key(&rule(&["c"], &[]), &[("c", "1")]),
            key(&rule(&[], &["c"]), &[("cookie", "c=1")])
        );
        let coding = rule(&["accept-encoding"], &[]);
        let of = |value: &str| key(&coding, &[("accept-encoding", value)]);
        assert_eq!(of("gzip, br"), of("br;q=0.5,gzip"));
        assert_ne!(of("gzip"), of("br"));
        assert_eq!(key(&Key::default(), &[("x-a", "1")]), None);
    }
}
