//! Whether a response is worth keeping, and for how long it is fresh (RFC 9111 sections 3 and 4.2).
//! Pure; `handler` asks it once for each response that may be stored or refreshed, and what it says
//! is kept as numbers.
//!
//! The judge is `http-cache-semantics`. What it gets wrong is mended around it: it reads directives
//! and dates by lenient parsers (it gets them written anew), takes `proxy-revalidate` for zero
//! freshness (it never sees that one), knows a fixed list of statuses (others with explicit
//! freshness are shown to it as 200, section 3), adds an `Age` without a bound, which would
//! overflow, and leaves apparent age and response delay out (section 4.2.3; done here).

use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};

use super::directives::{Directives, FOREVER, seconds};
use crate::base::clock::UnixTime;
use crate::http::codings::{self, Accepted};
use crate::http::fields;

/// Statuses whose meaning for caches we implement (`must-understand`, RFC 9111 section 5.2.2.3).
/// 206 is not among them: partial responses are not stored.
const UNDERSTOOD: [u16; 26] = [
    200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 408, 410, 414, 429, 451, 500, 501, 502,
    503, 504, 511,
];

/// A response as a cache sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Fields of the request that was sent.
    pub(super) request: &'a HeaderMap,
    /// Status of the final response.
    pub(super) status: StatusCode,
    /// Its fields.
    pub(super) fields: &'a HeaderMap,
    /// When the request was sent.
    pub(super) asked: UnixTime,
    /// When the head had come.
    pub(super) came: UnixTime,
}

/// What is worth keeping of how a response may be reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worth {
    /// Seconds of freshness, counted from `came` less `age`.
    pub(super) lifetime: u64,
    /// Corrected age when it came, seconds (RFC 9111 section 4.2.3).
    pub(super) age: u64,
    /// Its own directives.
    pub(super) directives: Directives,
    /// May answer requests with `Authorization` (section 3.5).
    pub(super) for_authorized: bool,
    /// By the operator's word, not the origin's.
    pub(super) granted: bool,
    /// It was purged softly: it is stale since then, and answers for a while all the same. Not kept
    /// with the response; whoever finds it asks the purges in force.
    pub(super) purged: bool,
}

/// Heuristic freshness (RFC 9111 section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heuristic {
    /// Of the time since `Last-Modified`.
    pub(super) percent: u8,
    /// At most, seconds.
    pub(super) most: u64,
}

/// Freshness by the operator's word (`ttl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Seconds from its arrival on.
    pub(super) ttl: u64,
    /// Whatever the response says; otherwise only if it says nothing.
    pub(super) forced: bool,
    /// It is for everybody, also if the response says `private`.
    pub(super) public: bool,
}

impl Granted {
    /// Whether it holds for a response that says this. `explicit`: how long it is fresh, too.
    fn holds(&self, said: &Directives, explicit: bool) -> bool {
        match self.forced {
            true => !said.private || self.public,
            false => !explicit && !said.no_store && !said.no_cache && !said.private,
        }
    }

    /// What counts in place of `said`. Fields that `private` or `no-cache` name stay out.
    fn over(&self, said: &Directives) -> Directives {
        Directives {
            max_age: Some(self.ttl),
            public: self.public,
            stale_while_revalidate: said.stale_while_revalidate,
            stale_if_error: said.stale_if_error,
            immutable: said.immutable,
            no_transform: said.no_transform,
            withheld: said.withheld.clone(),
            // `Expires` and `Pragma` do not count.
            targeted: true,
            ..Directives::default()
        }
    }
}

/// What the operator says of freshness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Policy {
    pub(super) heuristic: Heuristic,
    /// Of responses with this status; `None`: nothing, or not to this request.
    pub(super) granted: Option<Granted>,
    /// `Set-Cookie` is taken off, for everybody.
    pub(super) strips_cookies: bool,
}

impl Policy {
    /// Of an operator who leaves it to the origin.
    pub(super) fn plain(heuristic: Heuristic) -> Self {
        Self {
            heuristic,
            granted: None,
            strips_cookies: false,
        }
    }
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Status,
    VariesOnAll,
    VariesBySender,
    Coding,
    SetCookie,
    Cookie,
    Private,
    NoStore,
    Credentials,
    Silent,
    TooLong,
}

impl Why {
    /// In words for an operator.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Status => "its status is not one that is stored",
            Self::VariesOnAll => "it says Vary: *",
            Self::VariesBySender => "it varies by too many fields, or by one that differs for each client",
            Self::Coding => "it is in a coding that the request did not list, or that is not known",
            Self::SetCookie => "it has Set-Cookie, without public, s-maxage or strip_set_cookie",
            Self::Cookie => "it says nothing of its freshness, and the request has a Cookie",
            Self::Private => "it says private",
            Self::NoStore => "it says no-store",
            Self::Credentials => "the request has Authorization, and it is not for all",
            Self::Silent => "it says nothing of its freshness, and has no validator",
            Self::TooLong => "it is longer than object_bytes",
        }
    }
}

/// Judges a response to GET.
///
/// # Errors
/// It must not be stored, or there is no use in it.
pub(super) fn judge(seen: &Seen<'_>, policy: &Policy) -> Result<Worth, Why> {
    let mut said = Directives::of(seen.fields);
    let status = seen.status.as_u16();
    let expires = seen.fields.contains_key(header::EXPIRES) && !said.targeted;
    let explicit = said.max_age.is_some() || said.s_maxage.is_some() || expires;
    let granted = policy.granted.filter(|granted| granted.holds(&said, explicit));
    if said.must_understand && !granted.is_some_and(|granted| granted.forced) {
        if !UNDERSTOOD.contains(&status) {
            return Err(Why::Status);
        }
        said.no_store = false;
    }
    if seen.status.is_informational() || matches!(status, 206 | 304) {
        return Err(Why::Status);
    }
    if varies_on_all(seen.fields) {
        return Err(Why::VariesOnAll);
    }
    // Noise to who takes over the request's part: in a coding that it did not list, or one that
    // variants are not told apart by.
    let varies = fields::has(seen.fields, header::VARY, "accept-encoding");
    if !Accepted::of(seen.request).admits(seen.fields) || varies && !codings::known(seen.fields) {
        return Err(Why::Coding);
    }
    // With a cookie it is one client's, unless the origin says that it is for all. The cookie
    // itself is never stored.
    let shown = said.public || said.s_maxage.is_some() || policy.strips_cookies;
    if seen.fields.contains_key(header::SET_COOKIE) && !shown {
        return Err(Why::SetCookie);
    }
    let directives = granted.map_or_else(|| said.clone(), |granted| granted.over(&said));
    // With a cookie it may be one client's; nothing but a guess would make it everybody's.
    let forced = granted.is_some_and(|granted| granted.forced);
    let silent = !explicit && !directives.public && !directives.private && !directives.no_store;
    if silent && !forced && seen.request.contains_key(header::COOKIE) {
        return Err(Why::Cookie);
    }
    let explicit = explicit || granted.is_some();
    let judged = request(seen.request).zip(response(seen, &directives, explicit));
    let (request, response) = judged.ok_or(Why::Silent)?;
    let library = CachePolicy::new_options(
        &request,
        &response,
        SystemTime::from(seen.came),
        CacheOptions {
            shared: true,
            cache_heuristic: f32::from(policy.heuristic.percent) / 100.0,
            // `immutable` without a lifetime promises nothing (RFC 8246 section 2).
            immutable_min_time_to_live: std::time::Duration::ZERO,
            ignore_cargo_cult: false,
        },
    );
    if !library.is_storable() {
        return Err(match &directives {
            said if said.no_store => Why::NoStore,
            said if said.private => Why::Private,
            _ if seen.request.contains_key(header::AUTHORIZATION) => Why::Credentials,
            _ => Why::Silent,
        });
    }
    let age = age(seen);
    let lifetime = match granted {
        // From its arrival on, however long it was on its way.
        Some(granted) => granted.ttl.saturating_add(age).min(FOREVER),
        None => {
            // Asked at its arrival, with no Age among the fields: the whole lifetime.
            let lifetime = library.time_to_live(seen.came.into()).as_secs().min(FOREVER);
            if explicit {
                lifetime
            } else {
                lifetime.min(policy.heuristic.most)
            }
        }
    };
    let this = Worth {
        lifetime,
        age,
        for_authorized: directives.public || directives.must_revalidate || directives.s_maxage.is_some(),
        directives,
        granted: granted.is_some(),
        purged: false,
    };
    // Neither fresh nor to be validated: it would only take room.
    let validators = seen.fields.contains_key(header::ETAG) || seen.fields.contains_key(header::LAST_MODIFIED);
    match this.lifetime > 0 || validators {
        true => Ok(this),
        false => Err(Why::Silent),
    }
}

fn varies_on_all(fields: &HeaderMap) -> bool {
    fields::list(fields, header::VARY).any(|name| name == b"*")
}

fn request(fields: &HeaderMap) -> Option<Request<()>> {
    let mut request = Request::builder().method(Method::GET).uri("/").body(()).ok()?;
    if let Some(authorization) = fields.get(header::AUTHORIZATION) {
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, authorization.clone());
    }
    Some(request)
}

/// The response with only what the library is to judge by, written so that it cannot be misread.
fn response(seen: &Seen<'_>, directives: &Directives, explicit: bool) -> Option<Response<()>> {
    let known = matches!(seen.status.as_u16(), 200..=204 | 300..=303 | 307 | 308 | 404 | 405 | 410 | 414 | 501);
    let status = if explicit && !known {
        StatusCode::OK
    } else {
        seen.status
    };
    let mut response = Response::builder().status(status).body(()).ok()?;
    let fields = response.headers_mut();
    if let Some(directives) = directives.plainly() {
        fields.insert(header::CACHE_CONTROL, directives);
    }
    let date = single_date(seen.fields, &header::DATE);
    let write = |time: SystemTime| HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok();
    if let Some(date) = date.and_then(write) {
        fields.insert(header::DATE, date);
    }
    if !directives.targeted && seen.fields.contains_key(header::EXPIRES) {
        // RFC 9111 section 5.3: what is no date is a time in the past.
        let expires = single_date(seen.fields, &header::EXPIRES).and_then(write);
        fields.insert(
            header::EXPIRES,
            expires.unwrap_or_else(|| HeaderValue::from_static("0")),
        );
    }
    if let Some(modified) = single_date(seen.fields, &header::LAST_MODIFIED).and_then(write) {
        fields.insert(header::LAST_MODIFIED, modified);
    }
    Some(response)
}

/// A date in one of the three forms of RFC 9110 section 5.6.7, and in no other: the library below
/// forgives what other caches would take for no date, and then one of two would be wrong.
pub(super) fn single_date(fields: &HeaderMap, name: &header::HeaderName) -> Option<SystemTime> {
    let mut lines = fields.get_all(name).iter();
    let (line, more) = (lines.next()?, lines.next());
    let text = line.to_str().ok().filter(|_| more.is_none())?;
    let time = httpdate::parse_http_date(text).ok()?;
    let long_days = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let sound = match text.split_once(", ") {
        None => text.len() == "Sun Nov  6 08:49:37 1994".len(),
        Some((day, rest)) if rest.contains('-') => {
            long_days.contains(&day) && rest.len() == "06-Nov-94 08:49:37 GMT".len() && rest.ends_with(" GMT")
        }
        Some(_) => httpdate::fmt_http_date(time) == text,
    };
    sound.then_some(time)
}

/// Corrected initial age (RFC 9111 section 4.2.3). Of several `Age` values the first counts
/// (section 5.1).
fn age(seen: &Seen<'_>) -> u64 {
    let came = SystemTime::from(seen.came);
    let apparent = single_date(seen.fields, &header::DATE)
        .and_then(|date| came.duration_since(date).ok())
        .map_or(0, |age| age.as_secs());
    let told = seen
        .fields
        .get(header::AGE)
        .and_then(|age| age.to_str().ok())
        .and_then(|age| seconds(age.split(',').next().unwrap_or_default().trim()))
        .unwrap_or(0);
    let delay = seen.came.since(seen.asked).as_secs();
    apparent.max(told.saturating_add(delay)).min(FOREVER)
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::headers;
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const HEURISTIC: Heuristic = Heuristic {
        percent: 10,
        most: 86_400,
    };

    fn judged(status: u16, request: &[(&'static str, &str)], fields: &[(&'static str, &str)]) -> Option<Worth> {
        let seen = Seen {
            request: &headers(request),
            status: StatusCode::from_u16(status).unwrap(),
            fields: &headers(fields),
            asked: UnixTime::from_secs(NOW - 2),
            came: UnixTime::from_secs(NOW),
        };
        judge(&seen, &Policy::plain(HEURISTIC)).ok()
    }

    fn lifetime(status: u16, fields: &[(&'static str, &str)]) -> Option<u64> {
        judged(status, &[], fields).map(|worth| worth.lifetime)
    }

    /// RFC 9111 section 4.2.1: which of several lifetimes counts.
    #[test]
    fn lifetimes() {
        let cc = |value: &'static str| ("cache-control", value);
        let expires = ("expires", "Tue, 14 Nov 2023 22:14:20 GMT");
        assert_eq!(lifetime(200, &[cc("max-age=60, s-maxage=5")]), Some(5));
        assert_eq!(lifetime(200, &[cc("max-age=60"), ("expires", "0")]), Some(60));
        assert_eq!(lifetime(200, &[("date", DATE), expires]), Some(60));
        for obsolete in ["Tuesday, 14-Nov-23 22:14:20 GMT", "Tue Nov 14 22:14:20 2023"] {
            assert_eq!(lifetime(200, &[("expires", obsolete)]), Some(60), "{obsolete}");
        }
        assert_eq!(
            lifetime(200, &[expires]),
            Some(60),
            "without Date the time of arrival counts"
        );
        assert_eq!(lifetime(200, &[cc("max-age=60, proxy-revalidate")]), Some(60));
        assert_eq!(
            lifetime(200, &[cc("max-age=60, immutable"), ("etag", "\"a\"")]),
            Some(60)
        );
        for wrong in [
            "0",
            "Tue, 14 Nov 2023 22:14:20 UTC",
            "Tue, 14 Nov 23 22:14:20 GMT",
            "Tue 14 Nov 2023 22:14:20 GMT",
            "Tue, 14 Nov 2023  22:14:20 GMT",
            "Tue, 14-Nov-2023 22:14:20 GMT",
            "Tue, 14 Nov 2023 22.14.20 GMT",
        ] {
            assert_eq!(
                lifetime(200, &[("expires", wrong), ("etag", "\"a\"")]),
                Some(0),
                "{wrong}"
            );
        }
        assert_eq!(lifetime(200, &[cc("no-cache, max-age=9"), ("etag", "\"a\"")]), Some(0));
        assert_eq!(
            lifetime(200, &[cc("max-age=9"), ("cdn-cache-control", "max-age=7")]),
            Some(7)
        );
        assert_eq!(lifetime(200, &[("cdn-cache-control", "no-cache"), expires]), None);
    }

    /// Section 4.2.2: only statuses that are defined so, and never for long.
    #[test]
    fn heuristics() {
        let old = ("last-modified", "Tue, 14 Nov 2023 21:57:00 GMT");
        let ancient = ("last-modified", "Tue, 14 Nov 2000 21:57:00 GMT");
        assert_eq!(lifetime(200, &[("date", DATE), old]), Some(98));
        assert_eq!(lifetime(200, &[("date", DATE), ancient]), Some(86_400));
        for status in [201, 202, 403, 502, 503, 504, 599] {
            assert_eq!(lifetime(status, &[("date", DATE), old]).unwrap_or(0), 0, "{status}");
        }
        assert_eq!(lifetime(200, &[]), None, "neither fresh nor to be validated");
        let with_cookie = |fields: &[(&'static str, &str)]| judged(200, &[("cookie", "id=1")], fields);
        assert_eq!(
            with_cookie(&[("date", DATE), old]),
            None,
            "a page of one's own, guessed to be for all"
        );
        assert!(
            with_cookie(&[("cache-control", "max-age=9")]).is_some()
                && with_cookie(&[old, ("cache-control", "public")]).is_some()
        );
    }

    /// What is stored against this goes to somebody else (sections 3, 3.5, 5.2.2).
    #[test]
    fn never_stored() {
        let fresh = ("cache-control", "max-age=60");
        for fields in [
            &[("cache-control", "private, max-age=60")][..],
            &[("cache-control", "No-Store, max-age=60")],
            &[fresh, ("vary", "accept, *")],
            &[fresh, ("set-cookie", "a=b")],
            &[fresh, ("content-encoding", "dcz")],
            &[fresh, ("content-encoding", "made-up"), ("vary", "Accept-Encoding")],
            &[("cache-control", "max-age=60"), ("cdn-cache-control", "private")],
        ] {
            assert_eq!(judged(200, &[], fields), None, "{fields:?}");
        }
        let coded = |accepts: &str| {
            judged(
                200,
                &[("accept-encoding", accepts)],
                &[fresh, ("content-encoding", "gzip")],
            )
        };
        assert!(coded("br").is_none() && coded("br, gzip").is_some());
        assert_eq!(judged(206, &[], &[fresh]), None);
        assert_eq!(judged(304, &[], &[fresh]), None);
        assert_eq!(judged(200, &[("authorization", "x")], &[fresh]), None);
        assert!(
            judged(
                200,
                &[("authorization", "x")],
                &[("cache-control", "max-age=60, public")]
            )
            .is_some()
        );
        assert!(
            judged(
                200,
                &[],
                &[("cache-control", "max-age=60, public"), ("set-cookie", "a=b")]
            )
            .is_some()
        );
        assert_eq!(
            judged(599, &[], &[("cache-control", "max-age=9, no-store, must-understand")]),
            None
        );
        assert!(judged(200, &[], &[("cache-control", "max-age=9, no-store, must-understand")]).is_some());
        assert!(
            judged(599, &[], &[fresh]).is_some(),
            "any final status with explicit freshness"
        );
    }

    /// Section 4.2.3: an age that is too small serves what another cache has kept for long already.
    #[test]
    fn ages() {
        let age = |fields: &[(&'static str, &str)]| {
            let mut all = vec![("cache-control", "max-age=60")];
            all.extend(fields);
            judged(200, &[], &all).unwrap().age
        };
        assert_eq!(age(&[]), 2, "response delay");
        assert_eq!(age(&[("age", "7")]), 9);
        assert_eq!(age(&[("age", "7, 9")]), 9);
        assert_eq!(age(&[("age", "old, 5")]), 2);
        assert_eq!(age(&[("age", "-5")]), 2);
        assert_eq!(age(&[("age", "18446744073709551615")]), FOREVER);
        assert_eq!(age(&[("date", "Tue, 14 Nov 2023 22:03:20 GMT")]), 600, "apparent age");
    }

    /// What an operator grants to responses, by status or against the origin's word.
    fn granted(
        policy: (bool, bool, bool),
        request: &[(&'static str, &str)],
        fields: &[(&'static str, &str)],
    ) -> Result<Worth, Why> {
        let (forced, public, strips_cookies) = policy;
        let seen = Seen {
            request: &headers(request),
            status: StatusCode::OK,
            fields: &headers(fields),
            asked: UnixTime::from_secs(NOW),
            came: UnixTime::from_secs(NOW),
        };
        let granted = Granted {
            ttl: 600,
            forced,
            public,
        };
        let policy = Policy {
            heuristic: HEURISTIC,
            granted: Some(granted),
            strips_cookies,
        };
        judge(&seen, &policy)
    }

    /// Pages would be stored against the word of who made them, or for longer than the operator
    /// said.
    #[test]
    fn a_time_by_status_is_for_what_says_nothing() {
        let given = |request: &[(&'static str, &str)], fields: &[(&'static str, &str)]| {
            granted((false, false, false), request, fields)
        };
        let worth = given(&[], &[]).unwrap();
        assert!((worth.lifetime, worth.granted, worth.for_authorized) == (600, true, false));
        let own = given(&[], &[("cache-control", "max-age=5")]).unwrap();
        assert_eq!((own.lifetime, own.granted), (5, false), "it says so itself");
        for (fields, why) in [
            (("cache-control", "no-store"), Why::NoStore),
            (("cache-control", "private"), Why::Private),
            (("cache-control", "no-cache"), Why::Silent),
            (("pragma", "no-cache"), Why::Silent),
            (("expires", "0"), Why::Silent),
            (("vary", "*"), Why::VariesOnAll),
            (("set-cookie", "a=b"), Why::SetCookie),
        ] {
            assert_eq!(given(&[], &[fields]), Err(why), "{fields:?}");
        }
        assert_eq!(given(&[("cookie", "id=1")], &[]), Err(Why::Cookie));
        assert_eq!(given(&[("authorization", "x")], &[]), Err(Why::Credentials));
    }

    /// One visitor's cookie, or what one may see, would be everybody's; or the operator's word come
    /// to nothing.
    #[test]
    fn force_is_against_the_origins_word_and_within_bounds() {
        let forced = |fields: &[(&'static str, &str)]| granted((true, false, false), &[("cookie", "id=1")], fields);
        for said in [
            "no-store",
            "no-cache, max-age=0, must-revalidate",
            "max-age=5",
            "s-maxage=1",
            "no-store, must-understand",
        ] {
            let worth = forced(&[("cache-control", said), ("pragma", "no-cache"), ("expires", "0")]).unwrap();
            assert_eq!((worth.lifetime, worth.granted), (600, true), "{said}");
            assert!(!worth.for_authorized && !worth.directives.forbids_stale(), "{said}");
        }
        let old = forced(&[("age", "1000"), ("cache-control", "max-age=10")]).unwrap();
        assert_eq!((old.lifetime, old.age), (1_600, 1_000), "ten minutes from now on");
        assert_eq!(forced(&[("set-cookie", "a=b")]), Err(Why::SetCookie));
        assert_eq!(forced(&[("cache-control", "private")]), Err(Why::Private));
        assert_eq!(forced(&[("vary", "*")]), Err(Why::VariesOnAll));
        let named = forced(&[("cache-control", "private=\"x-me\", no-store")]).unwrap();
        assert_eq!(named.directives.withheld, ["x-me"], "one client's field all the same");
        let public = |request: &[(&'static str, &str)], fields: &[(&'static str, &str)]| {
            granted((true, true, false), request, fields)
        };
        assert!(public(&[], &[("cache-control", "private")]).unwrap().for_authorized);
        assert!(public(&[("authorization", "x")], &[]).is_ok());
        assert_eq!(public(&[], &[("set-cookie", "a=b")]), Err(Why::SetCookie));
        assert!(granted((true, false, true), &[], &[("set-cookie", "a=b")]).is_ok());
    }
}
