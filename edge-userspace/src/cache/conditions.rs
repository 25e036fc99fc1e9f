//! Which part of a stored response a client wants, and whether at all: conditions (RFC 9110 section
//! 13) and ranges (section 14). Pure; `serve` asks it.

use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};

use super::worth::single_date;

/// Ranges answered in one response. More are a client's mistake or an attack (RFC 9110 section
/// 17.15): the whole is sent.
const MOST_RANGES: usize = 16;

/// Bytes of a representation: `from` up to, without, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub from: u64,
    /// Behind the last byte; more than `from`.
    pub to: u64,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As stored.
    Whole,
    /// 206 with one range, or with several as multipart/byteranges, in the order asked for.
    Parts(Vec<Span>),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

/// Judges a request for a stored response with `status`, `fields` and `length` bytes, in the order
/// of RFC 9110 section 13.2.2.
pub(super) fn judge(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    fields: &HeaderMap,
    length: u64,
) -> Verdict {
    // Conditions are about what a 200 would say (section 13.2.1).
    if status != StatusCode::OK {
        return Verdict::Whole;
    }
    let modified = single_date(fields, &header::LAST_MODIFIED);
    if request.contains_key(header::IF_MATCH) {
        if !listed(request, &header::IF_MATCH, fields, false) {
            return Verdict::Failed;
        }
    } else if let (Some(date), Some(modified)) = (single_date(request, &header::IF_UNMODIFIED_SINCE), modified)
        && modified > date
    {
        return Verdict::Failed;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        if listed(request, &header::IF_NONE_MATCH, fields, true) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = single_date(request, &header::IF_MODIFIED_SINCE) {
        // RFC 9111 section 4.3.2: without Last-Modified, its Date.
        let modified = modified.or_else(|| single_date(fields, &header::DATE));
        if modified.is_some_and(|modified| modified <= since) {
            return Verdict::NotModified;
        }
    }
    match request.get(header::RANGE) {
        Some(range) if *method == Method::GET && if_range(request, fields, modified) => {
            let one = request.get_all(header::RANGE).iter().count() == 1;
            if one {
                ranges(range.as_bytes(), length)
            } else {
                Verdict::Whole
            }
        }
        _ => Verdict::Whole,
    }
}

/// Whether the list names the stored entity tag, by weak or strong comparison (RFC 9110 section
/// 8.8.3.2).
fn listed(request: &HeaderMap, name: &HeaderName, fields: &HeaderMap, weakly: bool) -> bool {
    let stored = fields.get(header::ETAG).map(|etag| etag.as_bytes().trim_ascii());
    let opaque = |tag: &'_ [u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    request.get_all(name).iter().any(|line| {
        tags(line.as_bytes()).any(|tag| {
            tag == b"*"
                || stored.is_some_and(|stored| {
                    if weakly {
                        opaque(tag) == opaque(stored)
                    } else {
                        tag == stored && !stored.starts_with(b"W/")
                    }
                })
        })
    })
}

/// The entity tags of a list; a comma within quotes belongs to the tag.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|tag| !tag.is_empty())
}

/// RFC 9110 section 13.1.5: strong comparison, and a date only where it is exact.
fn if_range(request: &HeaderMap, fields: &HeaderMap, modified: Option<SystemTime>) -> bool {
    let Some(validator) = request.get(header::IF_RANGE) else {
        return true;
    };
    let validator = validator.as_bytes().trim_ascii();
    if validator.contains(&b'"') {
        let stored = fields.get(header::ETAG).map(|etag| etag.as_bytes().trim_ascii());
        return stored == Some(validator) && !validator.starts_with(b"W/");
    }
    let date = single_date(request, &header::IF_RANGE);
    // A date is a strong validator only if the response was made at least a second later (section
    // 8.8.2.2).
    let made = single_date(fields, &header::DATE);
    date.is_some() && date == modified && made > modified
}

/// `bytes=…`; what is not understood gets the whole (RFC 9110 section 14.2).
pub fn ranges(field: &[u8], length: u64) -> Verdict {
    let Some(set) = std::str::from_utf8(field).ok().and_then(|field| {
        let (unit, set) = field.trim().split_once('=')?;
        unit.eq_ignore_ascii_case("bytes").then_some(set)
    }) else {
        return Verdict::Whole;
    };
    let mut spans: Vec<Span> = Vec::new();
    for (count, spec) in set.split(',').enumerate() {
        let Some(span) = one(spec.trim(), length).filter(|_| count < MOST_RANGES) else {
            return Verdict::Whole;
        };
        if let Some(span) = span {
            // Overlapping ranges would send bytes twice: an attack, or a mistake (section 17.15).
            if spans.iter().any(|known| known.from < span.to && span.from < known.to) {
                return Verdict::Whole;
            }
            spans.push(span);
        }
    }
    if spans.is_empty() {
        Verdict::Unsatisfiable
    } else {
        Verdict::Parts(spans)
    }
}

/// One range: `None` against the grammar, `Some(None)` beyond the content.
fn one(spec: &str, length: u64) -> Option<Option<Span>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let span = match (number(first), number(last)) {
        (Some(from), Some(last)) if from <= last => Span {
            from,
            to: last.saturating_add(1).min(length),
        },
        (Some(from), None) if last.is_empty() => Span { from, to: length },
        (None, Some(suffix)) if first.is_empty() => Span {
            from: length.saturating_sub(suffix),
            to: length,
        },
        _ => return None,
    };
    Some((span.from < span.to).then_some(span))
}

#[cfg(test)]
mod tests {
    use super::super::resource::tests::headers;
    use super::*;

    /// A wrong range is a corrupt download.
    #[test]
    fn byte_ranges() {
        let parts = |spans: &[(u64, u64)]| Verdict::Parts(spans.iter().map(|&(from, to)| Span { from, to }).collect());
        for (range, verdict) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=2-99", parts(&[(2, 10)])),
            ("Bytes=5-", parts(&[(5, 10)])),
            ("bytes=-3", parts(&[(7, 10)])),
            ("bytes=0-1, 4-5,-1", parts(&[(0, 2), (4, 6), (9, 10)])),
            ("bytes=0-1,20-", parts(&[(0, 2)])),
            ("bytes=20-", Verdict::Unsatisfiable),
            ("bytes=-0", Verdict::Unsatisfiable),
            ("bytes=0-5,3-7", Verdict::Whole),
            ("bytes=3-2", Verdict::Whole),
            ("bytes=", Verdict::Whole),
            ("bytes=+1-2", Verdict::Whole),
            ("lines=1-2", Verdict::Whole),
        ] {
            assert_eq!(ranges(range.as_bytes(), 10), verdict, "{range}");
        }
        assert_eq!(
            ranges(format!("bytes={}", "1-1,".repeat(99)).as_bytes(), 10),
            Verdict::Whole
        );
    }

    /// "Not modified" said wrongly keeps an old version in a client for ever.
    #[test]
    fn precedence() {
        let (before, at, after) = (
            "Sun, 09 Sep 2001 01:46:39 GMT",
            "Sun, 09 Sep 2001 01:46:40 GMT",
            "Sun, 09 Sep 2001 01:46:41 GMT",
        );
        let stored = [("etag", "\"a,b\""), ("last-modified", at), ("date", after)];
        let range = ("range", "bytes=0-1");
        let part = Verdict::Parts(vec![Span { from: 0, to: 2 }]);
        for (fields, verdict) in [
            (&[][..], Verdict::Whole),
            (&[("if-none-match", "\"x\", W/\"a,b\"")], Verdict::NotModified),
            (&[("if-none-match", "*")], Verdict::NotModified),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", after)],
                Verdict::Whole,
            ),
            (&[("if-modified-since", at)], Verdict::NotModified),
            (&[("if-modified-since", before)], Verdict::Whole),
            (&[("if-match", "W/\"a,b\"")], Verdict::Failed),
            (
                &[("if-match", "\"a,b\""), ("if-unmodified-since", before)],
                Verdict::Whole,
            ),
            (&[("if-unmodified-since", before)], Verdict::Failed),
            (&[range], part.clone()),
            (&[range, ("if-range", "\"a,b\"")], part.clone()),
            (&[range, ("if-range", "W/\"a,b\"")], Verdict::Whole),
            (&[range, ("if-range", at)], part.clone()),
            (&[range, ("if-range", after)], Verdict::Whole),
            (&[range, range], Verdict::Whole),
        ] {
            let found = judge(&Method::GET, &headers(fields), StatusCode::OK, &headers(&stored), 10);
            assert_eq!(found, verdict, "{fields:?}");
        }
        let found = judge(
            &Method::GET,
            &headers(&[range]),
            StatusCode::NOT_FOUND,
            &headers(&stored),
            10,
        );
        assert_eq!(found, Verdict::Whole);
    }
}
