//! What is kept of one URL: its stored responses, told apart by `Vary` (RFC 9111 section 4.1), without their content. `handler`
//! makes and asks them, `store` keeps them, `record` writes them to disk. Pure.

use http::header::{self, HeaderMap, HeaderName};
use http::{StatusCode, request};

use super::directives::{Directives, FOREVER};
use super::worth::Worth;
use crate::base::clock::UnixTime;
use crate::http::forwarded::{self, Written};
use crate::http::message::Exchange;

/// Responses kept of one URL. With more, the oldest goes: a client that makes up field values must not grow the store.
pub(super) const MOST_VARIANTS: usize = 16;
/// Fields that `Vary` may name; with more, the response is not stored.
const MOST_NAMES: usize = 16;
/// Purge tags of a response; with more, the rest is ignored.
pub(super) const MOST_TAGS: usize = 64;

/// Names a resource: zone, scheme, authority, path and query. Two zones never share one, whatever their hosts.
pub(super) fn key(exchange: &Exchange, head: &request::Parts) -> String {
    let scheme = if exchange.peer.handshake.is_some() {
        "https"
    } else {
        "http"
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    url_key(&exchange.zone.name, scheme, &exchange.host, target)
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

/// One stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// Status.
    pub(super) status: StatusCode,
    /// End-to-end fields, `Age` left out.
    pub(super) fields: HeaderMap,
    /// What `Vary` names, with the values of the request that got this.
    pub(super) vary: Vec<(HeaderName, Option<Vec<u8>>)>,
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
    /// The variant that answers a request with `fields`: of those that match the one with the latest `Date`, as far as that
    /// is known from the order of arrival.
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

    /// Updated by a 304 or a HEAD (RFC 9111 sections 3.2 and 4.3.4): what it sends replaces what is stored, but for what
    /// belongs to the stored content. `worth` is then to be judged anew.
    pub(super) fn updated(&self, by: &HeaderMap) -> HeaderMap {
        let mut fields = self.fields.clone();
        for name in by.keys() {
            if !CONTENTS.contains(name) {
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

/// Fields that are never stored (RFC 9111 section 3.1). What `Connection` names is gone before a response gets here.
const CONNECTIONS: [&str; 11] = [
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
];

/// Takes out what must not be stored: of the connection, and what `no-cache` or `private` name.
pub(super) fn strip(fields: &mut HeaderMap, directives: &Directives) {
    for name in CONNECTIONS {
        fields.remove(name);
    }
    for name in &directives.withheld {
        fields.remove(name);
    }
}

/// What of a request decides which variant answers it: the names of the response's `Vary` with the request's values. `None`:
/// not to be stored.
pub(super) fn selectors(response: &HeaderMap, request: &HeaderMap) -> Option<Vec<(HeaderName, Option<Vec<u8>>)>> {
    let mut names: Vec<HeaderName> = Vec::new();
    for line in response.get_all(header::VARY) {
        for name in line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if name.is_empty() {
                continue;
            }
            let name = HeaderName::from_bytes(name).ok()?;
            match forwarded::written(&name) {
                // It is in the key.
                Some(Written::ByAddress) => continue,
                // What the origin saw is not what the next client will have written.
                Some(Written::BySender) => return None,
                None => {}
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
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

/// A selecting field's value in the form in which it is compared: lines joined, space around commas taken out.
fn selecting(fields: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
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
    }

    /// What the origin varies by is what it was told, and of some fields that is not what the client wrote: stored by the latter, one
    /// client's answer would be everybody's.
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

    /// Another zone's resource under the same URL is another tenant's.
    #[test]
    fn keys() {
        assert_ne!(url_key("a", "https", "h", "/"), url_key("b", "https", "h", "/"));
        assert_ne!(url_key("a", "https", "h", "/?a"), url_key("a", "https", "h", "/?b"));
        assert_eq!(url_key("a", "https", "h:443", "/"), url_key("a", "https", "h", "/"));
    }
}
