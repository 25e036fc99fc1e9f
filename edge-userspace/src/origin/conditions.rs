//! Which part of a resource a request wants, and whether at all: conditions (RFC 9110 section 13)
//! and ranges (section 14). Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What tells one version of a file from another.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// Strong, of modification time in nanoseconds and size, so that ranges can be resumed. A file
    /// that is written in place twice within a tick of the file system's clock, to the same size,
    /// is not told apart; replace files by renaming.
    pub(super) etag: HeaderValue,
    pub(super) last_modified: HeaderValue,
    /// Whole seconds, as HTTP's dates are.
    modified: SystemTime,
}

/// Bytes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) length: u64,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200.
    Whole,
    /// 206; at least one byte.
    Part(Span),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

impl Validators {
    /// Of a file, or of its form in a `coding`: each has a tag of its own.
    pub(super) fn new(size: u64, modified: SystemTime, coding: Option<&str>) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let coding = coding.map_or_else(String::new, |coding| format!("-{coding}"));
        let etag = format!("\"{:x}-{size:x}{coding}\"", since.as_nanos());
        // HTTP's dates end with the year 9999, and httpdate panics beyond.
        let modified = UNIX_EPOCH + Duration::from_secs(since.as_secs().min(253_402_300_799));
        let date = httpdate::fmt_http_date(modified);
        Self {
            etag: HeaderValue::from_str(&etag).unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
            last_modified: HeaderValue::from_str(&date)
                .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT")),
            modified,
        }
    }

    /// Whether `list` names this version; `weakly` also by a weak tag (RFC 9110 section 8.8.3.2).
    fn listed(&self, headers: &HeaderMap, name: &HeaderName, weakly: bool) -> bool {
        headers.get_all(name).iter().any(|list| {
            list.as_bytes().split(|b| *b == b',').any(|tag| {
                let tag = tag.trim_ascii();
                let tag = if weakly {
                    tag.strip_prefix(b"W/").unwrap_or(tag)
                } else {
                    tag
                };
                tag == b"*" || tag == self.etag.as_bytes()
            })
        })
    }
}

/// In the order of RFC 9110 section 13.2.2, for GET and HEAD of a resource that exists.
pub(super) fn judge(method: &Method, headers: &HeaderMap, validators: &Validators, size: u64) -> Verdict {
    if headers.contains_key(header::IF_MATCH) {
        if !validators.listed(headers, &header::IF_MATCH, false) {
            return Verdict::Failed;
        }
    } else if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|date| validators.modified > date) {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if validators.listed(headers, &header::IF_NONE_MATCH, true) {
            return Verdict::NotModified;
        }
    } else if date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|date| validators.modified <= date) {
        return Verdict::NotModified;
    }
    match headers.get(header::RANGE) {
        Some(range) if *method == Method::GET && if_range(headers, validators) => part(range.as_bytes(), size),
        _ => Verdict::Whole,
    }
}

/// A date that is not one is ignored (RFC 9110 section 13.1.3).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// A range of a version that is gone would be mixed with this one's (RFC 9110 section 13.1.5). A
/// date is a strong validator only when it is old enough, so it is compared exactly.
fn if_range(headers: &HeaderMap, validators: &Validators) -> bool {
    match headers.get(header::IF_RANGE) {
        None => true,
        Some(tag) if tag.as_bytes().contains(&b'"') => tag == validators.etag,
        Some(_) => date(headers, &header::IF_RANGE) == Some(validators.modified),
    }
}

/// One range; several get the whole, as RFC 9110 section 14.2 allows, and so does what is not
/// understood.
fn part(range: &[u8], size: u64) -> Verdict {
    let Some((first, last)) = std::str::from_utf8(range).ok().and_then(|range| {
        let range = range
            .get(..6)
            .filter(|unit| unit.eq_ignore_ascii_case("bytes="))
            .and_then(|_| range.get(6..))?;
        range.trim().split_once('-')
    }) else {
        return Verdict::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More than a u64 is beyond every file all the same.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (from, end) = match (number(first), number(last)) {
        (Some(from), Some(last)) if from <= last => (from, last.saturating_add(1).min(size)),
        (Some(from), None) if last.is_empty() => (from, size),
        (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return Verdict::Whole,
    };
    match end.checked_sub(from) {
        Some(length) if length > 0 => Verdict::Part(Span { from, length }),
        _ => Verdict::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong range is a corrupt download.
    #[test]
    fn ranges() {
        let span = |from, length| Verdict::Part(Span { from, length });
        for (range, verdict) in [
            ("bytes=0-0", span(0, 1)),
            ("bytes=2-5", span(2, 4)),
            ("Bytes=5-", span(5, 5)),
            ("bytes=-3", span(7, 3)),
            ("bytes=-99", span(0, 10)),
            ("bytes=0-99999999999999999999999", span(0, 10)),
            ("bytes=10-", Verdict::Unsatisfiable),
            ("bytes=99999999999999999999999-", Verdict::Unsatisfiable),
            ("bytes=-0", Verdict::Unsatisfiable),
            ("bytes=5-2", Verdict::Whole),
            ("bytes=0-1,3-4", Verdict::Whole),
            ("bytes=-", Verdict::Whole),
            ("bytes=+1-2", Verdict::Whole),
            ("lines=1-2", Verdict::Whole),
            ("byt\u{e9}s", Verdict::Whole),
        ] {
            assert_eq!(part(range.as_bytes(), 10), verdict, "{range}");
        }
        assert_eq!(part(b"bytes=0-", 0), Verdict::Unsatisfiable);
    }

    /// A cache that is told "not modified" wrongly keeps the old version for ever.
    #[test]
    fn precedence() {
        let at = UNIX_EPOCH + Duration::new(1_000_000_000, 5);
        let validators = Validators::new(10, at, None);
        let etag = validators.etag.to_str().unwrap().to_owned();
        let weak = format!("\"x\", W/{etag}");
        let (now, before, after) = (
            "Sun, 09 Sep 2001 01:46:40 GMT",
            "Sun, 09 Sep 2001 01:46:39 GMT",
            "Sun, 09 Sep 2001 01:46:41 GMT",
        );
        assert_eq!(validators.last_modified, now);
        let (range, part) = (("range", "bytes=0-1"), Verdict::Part(Span { from: 0, length: 2 }));
        for (fields, verdict) in [
            (&[][..], Verdict::Whole),
            (&[("if-none-match", weak.as_str())], Verdict::NotModified),
            (&[("if-none-match", "*")], Verdict::NotModified),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", after)],
                Verdict::Whole,
            ),
            (&[("if-modified-since", now)], Verdict::NotModified),
            (&[("if-modified-since", before)], Verdict::Whole),
            (&[("if-modified-since", "yesterday")], Verdict::Whole),
            (&[("if-match", weak.as_str())], Verdict::Failed),
            (
                &[("if-match", etag.as_str()), ("if-unmodified-since", before)],
                Verdict::Whole,
            ),
            (&[("if-unmodified-since", before)], Verdict::Failed),
            (&[range], part),
            (&[range, ("if-range", etag.as_str())], part),
            (&[range, ("if-range", "\"x\"")], Verdict::Whole),
            (&[range, ("if-range", now)], part),
            (&[range, ("if-range", after)], Verdict::Whole),
            (&[range, ("if-none-match", etag.as_str())], Verdict::NotModified),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| {
                    (
                        name.parse::<HeaderName>().unwrap(),
                        value.parse::<HeaderValue>().unwrap(),
                    )
                })
                .collect();
            assert_eq!(judge(&Method::GET, &headers, &validators, 10), verdict, "{fields:?}");
        }
    }
}
