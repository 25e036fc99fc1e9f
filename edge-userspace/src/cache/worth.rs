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
}

/// Heuristic freshness (RFC 9111 section 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heuristic {
    /// Of the time since `Last-Modified`.
    pub(super) percent: u8,
    /// At most, seconds.
    pub(super) most: u64,
}

/// Judges a response to GET; `None`: it must not be stored, or there is no use in it.
pub(super) fn judge(seen: &Seen<'_>, heuristic: Heuristic) -> Option<Worth> {
    let mut directives = Directives::of(seen.fields);
    let status = seen.status.as_u16();
    if directives.must_understand {
        if !UNDERSTOOD.contains(&status) {
            return None;
        }
        directives.no_store = false;
    }
    if seen.status.is_informational() || matches!(status, 206 | 304) || varies_on_all(seen.fields) {
        return None;
    }
    // Noise to who takes over the request's part: in a coding that it did not list, or one that
    // variants are not told apart by.
    let varies = fields::has(seen.fields, header::VARY, "accept-encoding");
    if !Accepted::of(seen.request).admits(seen.fields) || varies && !codings::known(seen.fields) {
        return None;
    }
    // With a cookie it is one client's, unless the origin says that it is for all. The cookie
    // itself is never stored.
    if seen.fields.contains_key(header::SET_COOKIE) && !directives.public && directives.s_maxage.is_none() {
        return None;
    }
    let expires = seen.fields.contains_key(header::EXPIRES) && !directives.targeted;
    let explicit = directives.max_age.is_some() || directives.s_maxage.is_some() || expires;
    // With a cookie it may be one client's; nothing but a guess would make it everybody's.
    if !explicit && !directives.public && seen.request.contains_key(header::COOKIE) {
        return None;
    }
    let policy = CachePolicy::new_options(
        &request(seen.request)?,
        &response(seen, &directives, explicit)?,
        SystemTime::from(seen.came),
        CacheOptions {
            shared: true,
            cache_heuristic: f32::from(heuristic.percent) / 100.0,
            // `immutable` without a lifetime promises nothing (RFC 8246 section 2).
            immutable_min_time_to_live: std::time::Duration::ZERO,
            ignore_cargo_cult: false,
        },
    );
    if !policy.is_storable() {
        return None;
    }
    // Asked at its arrival, with no Age among the fields: the whole lifetime.
    let mut lifetime = policy.time_to_live(seen.came.into()).as_secs().min(FOREVER);
    if !explicit {
        lifetime = lifetime.min(heuristic.most);
    }
    let this = Worth {
        lifetime,
        age: age(seen),
        for_authorized: directives.public || directives.must_revalidate || directives.s_maxage.is_some(),
        directives,
    };
    // Neither fresh nor to be validated: it would only take room.
    let validators = seen.fields.contains_key(header::ETAG) || seen.fields.contains_key(header::LAST_MODIFIED);
    (this.lifetime > 0 || validators).then_some(this)
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
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const HEURISTIC: Heuristic = Heuristic {
        percent: 10,
        most: 86_400,
    };

    fn judged(status: u16, request: &[(&'static str, &str)], fields: &[(&'static str, &str)]) -> Option<Worth> {
        let map = |fields: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, value.parse().unwrap());
            }
            map
        };
        let seen = Seen {
            request: &map(request),
            status: StatusCode::from_u16(status).unwrap(),
            fields: &map(fields),
            asked: UnixTime::from_secs(NOW - 2),
            came: UnixTime::from_secs(NOW),
        };
        judge(&seen, HEURISTIC)
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
}
