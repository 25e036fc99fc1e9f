//! Whether a stored response may answer a request (RFC 9111 section 4, RFC 5861). Pure; `handler`
//! asks it at each request.

use http::header::{self, HeaderMap};

use super::directives::Wishes;
use super::resource::Variant;
use crate::base::clock::UnixTime;
use crate::config::cache::Cache;

/// What may be done with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// It answers.
    Fresh,
    /// It answers, stale: because the client takes that.
    Stale,
    /// It answers, stale, and is validated behind the client's back.
    Revalidating,
    /// It answers only once it is validated.
    Validate,
    /// It is not for this client at all.
    Never,
}

/// What was purged softly answers at least this long after the purge, in seconds, while it is
/// validated.
const SOFTLY: u64 = 60;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The request's fields.
    pub(super) fields: &'a HeaderMap,
    /// It shows who it is, by `Authorization` or by a certificate.
    pub(super) personal: bool,
    pub(super) wishes: &'a Wishes,
}

/// Judges `variant`, which matches the request, at `now`.
pub(super) fn judge(variant: &Variant, asker: Asker<'_>, zone: &Cache, now: UnixTime) -> Reuse {
    let (worth, wishes) = (&variant.worth, asker.wishes);
    // Who shows credentials may expect a page of their own; only what is meant for all is given to
    // them. That a page is for all who show none was the operator's word, not the origin's.
    let credentials = asker.fields.contains_key(header::AUTHORIZATION) || worth.granted && asker.personal;
    if credentials && !worth.for_authorized {
        return Reuse::Never;
    }
    if wishes.no_cache || worth.directives.no_cache {
        return Reuse::Validate;
    }
    let age = variant.age(now);
    if wishes.max_age.is_some_and(|most| age > most) {
        return Reuse::Validate;
    }
    let fresh_for = worth.lifetime.saturating_sub(age);
    if wishes.min_fresh.is_some_and(|least| fresh_for < least) {
        return Reuse::Validate;
    }
    if fresh_for > 0 {
        return Reuse::Fresh;
    }
    if worth.directives.forbids_stale() {
        return Reuse::Validate;
    }
    let staleness = age.saturating_sub(worth.lifetime);
    let window = worth.directives.stale_while_revalidate;
    let window = window.unwrap_or(zone.stale_while_revalidate.as_secs());
    let window = if worth.purged { window.max(SOFTLY) } else { window };
    if staleness < window {
        return Reuse::Revalidating;
    }
    if wishes.max_stale.is_some_and(|most| staleness <= most) {
        return Reuse::Stale;
    }
    Reuse::Validate
}

/// Whether a stale `variant` stands in for an origin that fails (RFC 5861 section 4).
pub(super) fn instead_of_error(variant: &Variant, wishes: &Wishes, zone: &Cache, now: UnixTime) -> bool {
    let directives = &variant.worth.directives;
    if directives.forbids_stale() || wishes.no_cache {
        return false;
    }
    let staleness = variant.age(now).saturating_sub(variant.worth.lifetime);
    let window = directives.stale_if_error.or(wishes.stale_if_error);
    staleness <= window.unwrap_or(zone.stale_if_error.as_secs())
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::{headers, variant};
    use super::*;
    use std::time::Duration;

    fn judged(cc: &str, request: &[(&'static str, &str)], age: u64) -> Reuse {
        let variant = variant(&[], &[("cache-control", cc)], 1);
        let request = headers(request);
        let now = UnixTime::from_secs(100 + age);
        let asker = Asker {
            fields: &request,
            personal: false,
            wishes: &Wishes::of(&request),
        };
        judge(&variant, asker, &Cache::default(), now)
    }

    /// The variant of these tests is fresh for 60 s.
    #[test]
    fn requests_decide_too() {
        let cc = |value: &'static str| [("cache-control", value)];
        assert_eq!(judged("", &[], 59), Reuse::Fresh);
        assert_eq!(judged("", &[], 60), Reuse::Validate);
        assert_eq!(judged("", &cc("no-cache"), 1), Reuse::Validate);
        assert_eq!(judged("", &cc("max-age=5"), 5), Reuse::Fresh);
        assert_eq!(judged("", &cc("max-age=5"), 6), Reuse::Validate);
        assert_eq!(judged("", &cc("min-fresh=50"), 11), Reuse::Validate);
        assert_eq!(judged("", &cc("max-stale=10"), 70), Reuse::Stale);
        assert_eq!(judged("", &cc("max-stale=10"), 71), Reuse::Validate);
        assert_eq!(judged("", &cc("max-stale"), 9_999), Reuse::Stale);
        assert_eq!(judged("", &[("pragma", "no-cache")], 1), Reuse::Validate);
        assert_eq!(
            judged("", &[("authorization", "x")], 1),
            Reuse::Never,
            "RFC 9111 section 3.5"
        );
        assert_eq!(judged("no-cache", &[], 1), Reuse::Validate);
    }

    /// What forbids a stale answer wins over all that allows one (section 4.2.4).
    #[test]
    fn stale_answers() {
        let stale = [("cache-control", "max-stale")];
        assert_eq!(judged("stale-while-revalidate=10", &[], 69), Reuse::Revalidating);
        assert_eq!(judged("stale-while-revalidate=10", &[], 70), Reuse::Validate);
        for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
            let cc = format!("{forbids}, stale-while-revalidate=99, stale-if-error=99");
            assert_eq!(judged(&cc, &stale, 61), Reuse::Validate, "{forbids}");
            let variant = variant(&[], &[("cache-control", &cc)], 1);
            let now = UnixTime::from_secs(161);
            assert!(!instead_of_error(&variant, &Wishes::default(), &Cache::default(), now));
        }
    }

    /// RFC 5861 section 4.
    #[test]
    fn errors() {
        let told = variant(&[], &[("cache-control", "stale-if-error=10")], 1);
        let at = |variant: &Variant, age: u64, zone: &Cache| {
            instead_of_error(variant, &Wishes::default(), zone, UnixTime::from_secs(100 + age))
        };
        let plain = Cache::default();
        assert!(at(&told, 70, &plain) && !at(&told, 71, &plain));
        let zone = Cache {
            stale_if_error: Duration::from_secs(5),
            ..Cache::default()
        };
        let silent = variant(&[], &[], 1);
        assert!(at(&silent, 65, &zone) && !at(&silent, 66, &zone) && !at(&silent, 66, &plain));
    }

    /// Who shows a certificate would get what the operator, not the origin, called a page for all;
    /// or what an origin calls so no more.
    #[test]
    fn what_the_operator_granted_is_not_for_who_shows_who_it_is() {
        let judged = |granted: bool, public: bool, personal: bool| {
            let mut variant = variant(&[], &[], 1);
            (variant.worth.granted, variant.worth.for_authorized) = (granted, public);
            let asker = Asker {
                fields: &HeaderMap::new(),
                personal,
                wishes: &Wishes::default(),
            };
            judge(&variant, asker, &Cache::default(), UnixTime::from_secs(101))
        };
        assert_eq!(judged(true, false, true), Reuse::Never);
        assert_eq!(judged(true, false, false), Reuse::Fresh);
        assert_eq!(judged(true, true, true), Reuse::Fresh);
        assert_eq!(judged(false, false, true), Reuse::Fresh, "the origin's word");
    }

    /// After a soft purge either everybody would wait for the origin, or the old page answer for
    /// ever.
    #[test]
    fn softly_purged_pages_answer_for_a_minute() {
        let judged = |cc: &str, age: u64| {
            let mut variant = variant(&[], &[("cache-control", cc)], 1);
            variant.softly(UnixTime::from_secs(110));
            let asker = Asker {
                fields: &HeaderMap::new(),
                personal: false,
                wishes: &Wishes::default(),
            };
            judge(&variant, asker, &Cache::default(), UnixTime::from_secs(100 + age))
        };
        assert_eq!(judged("", 11), Reuse::Revalidating, "it would have been fresh");
        assert_eq!(judged("", 69), Reuse::Revalidating);
        assert_eq!(judged("", 70), Reuse::Validate);
        assert_eq!(judged("stale-while-revalidate=90", 99), Reuse::Revalidating);
        assert_eq!(judged("must-revalidate", 11), Reuse::Validate);
    }
}
