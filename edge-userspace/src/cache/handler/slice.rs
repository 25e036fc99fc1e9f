//! One slice of a large object: which bytes it is, how it is asked for, and what of the origin's
//! answer is stored of it. Pure; `sliced` puts slices together.

use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, response};

use crate::http::handler::{Failure, Reason};

/// One slice of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// Bytes of each, but for the last.
    size: u64,
    number: u64,
}

impl Slice {
    /// Number `number`, from 0 on, of those of `size` bytes.
    pub(super) fn new(size: u64, number: u64) -> Self {
        Self { size, number }
    }

    /// The first says what the object is.
    pub(super) fn is_first(self) -> bool {
        self.number == 0
    }

    /// What tells its key from the object's: no target has a `#` in it (RFC 9112 section 3.2).
    pub(super) fn key(self, object: &str) -> String {
        format!("{object}#{}/{}", self.size, self.number)
    }

    /// Its first byte.
    pub(super) fn from(self) -> u64 {
        self.size.saturating_mul(self.number)
    }

    /// After its last byte, unless the object ends before.
    pub(super) fn to(self) -> u64 {
        self.from().saturating_add(self.size)
    }

    /// Makes the request one for it.
    pub(super) fn ask(self, fields: &mut HeaderMap) {
        let range = format!("bytes={}-{}", self.from(), self.to().saturating_sub(1));
        if let Ok(range) = HeaderValue::try_from(range) {
            fields.insert(header::RANGE, range);
        }
    }

    /// Makes the origin's answer what is stored of it: a 200 that says by `Content-Range` which
    /// part it is. What else comes in place of the first slice stays as it is.
    ///
    /// # Errors
    /// The origin's: another range than was asked for; or none, of a later slice.
    pub(super) fn take(self, head: &mut response::Parts) -> Result<(), Failure> {
        let wrong = |what: &str| Err(Failure::new(Reason::OriginMalformed, what));
        match head.status {
            StatusCode::PARTIAL_CONTENT if self.length(&head.headers).is_some() => head.status = StatusCode::OK,
            StatusCode::PARTIAL_CONTENT => return wrong("another range than the slice that was asked for"),
            StatusCode::NOT_MODIFIED => {}
            _ if self.is_first() => drop(head.headers.remove(header::CONTENT_RANGE)),
            _ => return wrong("a slice was asked for, and its answer is not one"),
        }
        Ok(())
    }

    /// The whole object's length, if `fields` are of this slice and no other.
    pub(super) fn length(self, fields: &HeaderMap) -> Option<u64> {
        let mut all = fields.get_all(header::CONTENT_RANGE).iter();
        let (range, None) = (all.next()?, all.next()) else {
            return None;
        };
        let (span, length) = range.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let (from, last) = span.split_once('-')?;
        let [from, last, length] = [from, last, length].map(|text| text.trim().parse::<u64>().ok());
        let (from, last, length) = (from?, last?, length?);
        let to = last.checked_add(1)?;
        let mine = from == self.from() && from < to && to == self.to().min(length);
        let field = fields.get(header::CONTENT_LENGTH);
        let announced = field.map(|field| field.to_str().ok()?.parse().ok());
        (mine && announced.is_none_or(|announced| announced == Some(to - from))).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::tests::headers;
    use super::*;

    /// Bytes of another place, or of another version, would be in the middle of a file.
    #[test]
    fn what_is_a_slice() {
        let slice = |number| Slice::new(10, number);
        for (number, range, length, whole) in [
            (0, "bytes 0-9/25", "10", Some(25)),
            (2, "bytes 20-24/25", "5", Some(25)),
            (0, "bytes 0-4/5", "5", Some(5)),
            (1, "bytes 0-9/25", "10", None),
            (0, "bytes 0-8/25", "9", None),
            (2, "bytes 20-29/25", "10", None),
            (0, "bytes 0-9/25", "9", None),
            (0, "bytes 0-9/*", "10", None),
            (0, "bytes */25", "10", None),
            (0, "items 0-9/25", "10", None),
            (0, "bytes 9-0/25", "10", None),
        ] {
            let fields = headers(&[("content-range", range), ("content-length", length)]);
            assert_eq!(slice(number).length(&fields), whole, "{number} {range}");
        }
        let mut twice = headers(&[("content-range", "bytes 0-9/25")]);
        assert_eq!(slice(0).length(&twice), Some(25));
        twice.append("content-range", "bytes 10-19/25".parse().unwrap());
        assert_eq!(slice(0).length(&twice), None);
        assert_eq!(slice(u64::MAX).to(), u64::MAX);
        let mut asked = HeaderMap::new();
        slice(2).ask(&mut asked);
        assert_eq!(asked["range"], "bytes=20-29");
    }
}
