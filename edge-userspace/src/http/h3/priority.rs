//! Priorities (RFC 9218): what clients and origins say of the order in which answers are wanted,
//! and the order in which quinn sends. Pure.

use crate::base::field::outside_quotes;

/// Request streams that their urgency leaves alike are told apart by their number up to this many.
const STREAMS: i32 = 1 << 26;

/// How an answer is wanted (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// 0, the most urgent, to 7.
    urgency: u8,
    /// It is of use in parts, so that it may share with others of its urgency.
    incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            urgency: 3,
            incremental: false,
        }
    }
}

impl Priority {
    /// With what a Priority field's value says (section 5); parameters that are not there, not
    /// known or not valid change nothing.
    #[must_use]
    pub fn with(mut self, value: &[u8]) -> Self {
        let Ok(value) = std::str::from_utf8(value) else {
            return self;
        };
        for member in value.split(outside_quotes(',')) {
            let item = member.split(outside_quotes(';')).next().unwrap_or_default();
            let item = item.trim_matches([' ', '\t']);
            match item.split_once('=').unwrap_or((item, "?1")) {
                ("u", number) => {
                    if let Ok(urgency @ 0..=7) = number.parse() {
                        self.urgency = urgency;
                    }
                }
                ("i", "?1") => self.incremental = true,
                ("i", "?0") => self.incremental = false,
                _ => {}
            }
        }
        self
    }

    /// For quinn, which sends what is higher first and lets equals share: by urgency, then those
    /// that are of use only whole in the order of their requests (section 10).
    pub(super) fn level(self, stream: u64) -> i32 {
        let place = i32::try_from(stream / 4).unwrap_or(STREAMS).min(STREAMS - 1);
        let whole = if self.incremental { 0 } else { STREAMS - place };
        // At most 4 x 2^27 either way.
        (3 - i32::from(self.urgency)) * (STREAMS * 2) + whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> (u8, bool) {
        let Priority { urgency, incremental } = Priority::default().with(value.as_bytes());
        (urgency, incremental)
    }

    /// A page's images would come before its styles.
    #[test]
    fn fields() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=0", 0, false),
            ("u=5, i", 5, true),
            ("i;x=1 ,\tu=1;q=2", 1, true),
            ("i=?1, u=7, i=?0", 7, false),
            ("u=8", 3, false),
            ("u=-1, i=1", 3, false),
            ("u=\"1\", x=\"a, u=1\"", 3, false),
            ("x=(1 2);u=1, ui", 3, false),
        ] {
            assert_eq!(read(value), (urgency, incremental), "{value}");
        }
        let asked = Priority::default().with(b"u=5");
        assert_eq!(
            asked.with(b"i"),
            Priority {
                urgency: 5,
                incremental: true
            },
            "an origin adds"
        );
        assert_eq!(asked.with(&[0xff]), asked);
    }

    /// What is urgent comes first, and what is whole in the order in which it was asked for.
    #[test]
    fn levels() {
        let level = |value: &str, stream| Priority::default().with(value.as_bytes()).level(stream);
        assert!(level("u=2", 400) > level("u=3", 0));
        assert!(level("u=2, i", 400) > level("u=3", 0));
        assert!(level("u=3", 0) > level("u=3", 4));
        assert!(level("u=3", 1 << 40) > level("u=3, i", 0));
        assert_eq!(level("u=3, i", 0), level("u=3, i", 4));
        assert!(level("u=0", 0) > 0 && level("u=7, i", 0) < 0);
    }
}
