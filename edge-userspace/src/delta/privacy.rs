//! Who may share a version, by what request and response say (RFC 9111 sections 3, 3.5 and 5.2).
//! Pure. A version that is kept is never served as an answer without the origin's word; it is only
//! referred to. Even so, one client's content is never referred to in what another one gets:
//! lengths would tell.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};

use crate::http::forwarded::{self, Written};

/// Where a version may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// For everybody who asks for the resource.
    Shared,
    /// For who shows the same credentials.
    Apart,
    /// Nowhere.
    Not,
}

/// What a response's fields say of its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    no_store: bool,
    no_cache: bool,
    private: bool,
    public: bool,
    sets_cookie: bool,
    validated: bool,
    varies_on_all: bool,
    /// Varies by what is the sender's alone.
    varies_by_sender: bool,
    must_validate: bool,
    fresh: Option<Duration>,
    stale_if_error: Duration,
}

/// What a request shows of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    authorization: bool,
    cookie: bool,
}

impl Shown {
    /// By `headers`.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        Self {
            authorization: headers.contains_key(header::AUTHORIZATION),
            cookie: headers.contains_key(header::COOKIE),
        }
    }

    /// Any credentials.
    pub(super) fn any(self) -> bool {
        self.authorization || self.cookie
    }
}

impl Terms {
    /// Of a response with `headers`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut this = Self {
            sets_cookie: headers.contains_key(header::SET_COOKIE),
            validated: headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED),
            ..Self::default()
        };
        let varies = headers.get_all(header::VARY).iter();
        for name in varies
            .flat_map(|vary| vary.as_bytes().split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
        {
            this.varies_on_all |= name == b"*";
            let written = HeaderName::from_bytes(name)
                .ok()
                .and_then(|name| forwarded::written(&name));
            this.varies_by_sender |= written == Some(Written::BySender);
        }
        if headers.contains_key(header::EXPIRES) && !headers.contains_key(header::CACHE_CONTROL) {
            this.fresh = Some(Duration::ZERO);
        }
        let mut shared = None;
        for field in headers.get_all(header::CACHE_CONTROL) {
            for directive in field.as_bytes().split(|b| *b == b',') {
                let mut halves = directive.splitn(2, |b| *b == b'=');
                let name = halves.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
                let seconds = || {
                    let digits = halves.next()?.trim_ascii();
                    let digits = digits.strip_prefix(b"\"").unwrap_or(digits);
                    let digits = digits.strip_suffix(b"\"").unwrap_or(digits);
                    let seconds: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
                    Some(Duration::from_secs(seconds.into()))
                };
                match &*name {
                    b"no-store" => this.no_store = true,
                    b"no-cache" => this.no_cache = true,
                    // With a list of fields as well: stricter than it need be.
                    b"private" => this.private = true,
                    b"public" => this.public = true,
                    b"must-revalidate" | b"proxy-revalidate" => this.must_validate = true,
                    b"max-age" => this.fresh = seconds_of(seconds),
                    b"s-maxage" => shared = seconds_of(seconds),
                    b"stale-if-error" => this.stale_if_error = seconds_of(seconds).unwrap_or_default(),
                    _ => {}
                }
            }
        }
        if shared.is_some() {
            this.fresh = shared;
            this.public = true;
            // RFC 9111 section 5.2.2.10: it says proxy-revalidate, too.
            this.must_validate = true;
        }
        this
    }

    /// Where content of this response to a request that `shown` may be kept.
    pub(super) fn keep(&self, shown: Shown, no_store_too: bool) -> Keep {
        let for_all = !self.private && !self.no_store && !self.sets_cookie;
        if self.no_store && !no_store_too {
            Keep::Not
        } else if for_all && (!shown.any() || self.public) {
            Keep::Shared
        } else if for_all && !shown.authorization && !self.no_cache && self.fresh.is_some_and(|fresh| !fresh.is_zero())
        {
            // A cookie alone does not make a response private (RFC 9111 section 7.3), and assets
            // come with cookies.
            Keep::Shared
        } else if shown.any() {
            Keep::Apart
        } else {
            Keep::Not
        }
    }

    /// Content that must not outlive the process on a disk.
    pub(super) fn personal(&self, shown: Shown) -> bool {
        self.private || self.no_store || self.sets_cookie || (shown.any() && !self.public)
    }

    /// Content that does not change on every request, as far as its fields tell.
    pub(super) fn lasting(&self) -> bool {
        self.validated || self.fresh.is_some_and(|fresh| !fresh.is_zero())
    }

    /// One answer may serve several requests that are under way at once.
    pub(super) fn collapsible(&self) -> bool {
        !self.private
            && !self.no_store
            && !self.no_cache
            && !self.sets_cookie
            && !self.varies_on_all
            && !self.varies_by_sender
            && self.fresh.is_some_and(|fresh| !fresh.is_zero())
    }

    /// Whether content may be given to who shows `Authorization`, and may expect a page of their
    /// own (RFC 9111 section 3.5).
    pub(super) fn for_authorized(&self) -> bool {
        self.public
    }

    /// How long after it came content may be given when nobody can be asked (RFC 5861 section 4);
    /// `None`: never. What forbids stale answers wins (RFC 9111 section 4.2.4), and it must be
    /// known for whom it is.
    pub(super) fn stale_if_error(&self) -> Option<Duration> {
        let forbidden = self.private || self.no_store || self.no_cache || self.must_validate || self.sets_cookie;
        let unclear = self.varies_on_all || self.varies_by_sender;
        let may = !forbidden && !unclear && !self.stale_if_error.is_zero();
        may.then(|| self.fresh.unwrap_or_default().saturating_add(self.stale_if_error))
    }
}

fn seconds_of(read: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
    // What cannot be read is stale (RFC 9111 section 4.2.1).
    Some(read().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    /// One client's content in what another one gets: what must never be.
    #[test]
    fn who_may_share() {
        let nobody = &[][..];
        let cookie = &[("cookie", "a=1")][..];
        let bearer = &[("authorization", "Bearer x")][..];
        let cases: &[(&[_], &[_], Keep)] = &[
            (nobody, &[], Keep::Shared),
            (nobody, &[("cache-control", "no-cache")], Keep::Shared),
            (nobody, &[("cache-control", "private")], Keep::Not),
            (nobody, &[("cache-control", "max-age=60, no-store")], Keep::Not),
            (nobody, &[("set-cookie", "a=1")], Keep::Not),
            (cookie, &[], Keep::Apart),
            (cookie, &[("cache-control", "no-cache")], Keep::Apart),
            (cookie, &[("cache-control", "max-age=0")], Keep::Apart),
            (cookie, &[("cache-control", "max-age=60")], Keep::Shared),
            (
                cookie,
                &[("cache-control", "Max-Age=60"), ("cache-control", "PRIVATE")],
                Keep::Apart,
            ),
            (
                cookie,
                &[("cache-control", "max-age=60"), ("set-cookie", "a=2")],
                Keep::Apart,
            ),
            (cookie, &[("cache-control", "public, no-store")], Keep::Not),
            (bearer, &[("cache-control", "max-age=60")], Keep::Apart),
            (bearer, &[("cache-control", "s-maxage=60")], Keep::Shared),
            (bearer, &[("cache-control", "public")], Keep::Shared),
            (bearer, &[("cache-control", "public, private=\"x\"")], Keep::Apart),
        ];
        for (request, response, keep) in cases {
            let terms = Terms::of(&map(response));
            assert_eq!(
                terms.keep(Shown::by(&map(request)), false),
                *keep,
                "{request:?} {response:?}"
            );
        }
        let secret = Terms::of(&map(&[("cache-control", "no-store")]));
        assert_eq!(secret.keep(Shown::by(&map(cookie)), true), Keep::Apart);
        assert_eq!(secret.keep(Shown::by(&map(nobody)), true), Keep::Not);
        assert!(secret.personal(Shown::by(&map(nobody))));
    }

    /// Stale content where the origin did not allow it would be a lie.
    #[test]
    fn stale_only_where_allowed() {
        let stale = |value| Terms::of(&map(&[("cache-control", value)])).stale_if_error();
        assert_eq!(stale("max-age=5"), None);
        assert_eq!(stale("private, stale-if-error=60"), None);
        for forbids in [
            "no-cache",
            "must-revalidate",
            "proxy-revalidate",
            "s-maxage=5",
            "no-store",
        ] {
            assert_eq!(
                stale(Box::leak(format!("{forbids}, stale-if-error=60").into_boxed_str())),
                None,
                "{forbids}"
            );
        }
        assert_eq!(stale("max-age=0, stale-if-error=60"), Some(Duration::from_secs(60)));
        for varies in ["*", "accept, X-Forwarded-For"] {
            let terms = Terms::of(&map(&[
                ("cache-control", "max-age=5, stale-if-error=60"),
                ("vary", varies),
            ]));
            assert!(terms.stale_if_error().is_none() && !terms.collapsible(), "{varies}");
        }
        assert_eq!(stale("max-age=\"5\", stale-if-error=60"), Some(Duration::from_secs(65)));
        assert!(!Terms::of(&map(&[("cache-control", "max-age=60"), ("vary", "a, *")])).collapsible());
        assert!(Terms::of(&map(&[("cache-control", "max-age=60"), ("vary", "a")])).collapsible());
    }
}
