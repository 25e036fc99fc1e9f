//! `ttl = { "200" = "10m", "4xx" = "30s" }`: how long responses are fresh, by their status. Written
//! for a zone's cache and for zone rules.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use crate::config::checker::Checker;
use crate::config::kind::{Kind, Unbounded};
use crate::config::value::Time;

/// As the file has it.
pub(in crate::config) type Written = BTreeMap<Spanned<String>, Spanned<Time>>;

/// Statuses of answers to one request alone: to its range, its conditions, its credentials, its
/// being early (RFC 9110 sections 15.3.7, 15.4.5, 15.5; RFC 8470 section 5.2). No time is given to
/// them.
const OF_ONE_REQUEST: [u16; 7] = [206, 304, 401, 407, 412, 416, 425];
/// The longest time.
const MOST: Duration = Duration::from_secs(365 * 86_400);

/// Times by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ttls {
    /// Of one status.
    exact: Vec<(u16, u64)>,
    /// Of all that begin with a digit.
    classes: Vec<(u16, u64)>,
}

impl Ttls {
    /// Seconds that a response with `status` is fresh; `None`: nothing is said of it. A status that
    /// is written out counts before its class.
    pub fn of(&self, status: u16) -> Option<u64> {
        if OF_ONE_REQUEST.contains(&status) {
            return None;
        }
        let find = |list: &[(u16, u64)], wanted: u16| {
            let mut known = list.iter().filter(|(known, _)| *known == wanted);
            known.next().map(|(_, seconds)| *seconds)
        };
        find(&self.exact, status).or_else(|| find(&self.classes, status / 100))
    }

    /// Reads what is written; `wrong` is told what, and the mend.
    pub(in crate::config) fn read(written: &Written, mut wrong: impl FnMut(Range<usize>, String, String)) -> Self {
        let mut this = Self::default();
        for (key, time) in written {
            let text = key.get_ref().as_str();
            let class = text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok());
            let class = class.filter(|class| (2..=5).contains(class) && text.len() == 3);
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let status = text.parse::<u16>().ok().filter(|_| digits);
            if time.get_ref().0 > MOST {
                let what = format!("{} is longer than anything is kept", time.get_ref());
                wrong(time.span(), what, "write 0s to 365d".to_owned());
            }
            let seconds = time.get_ref().0.as_secs();
            match (class, status) {
                (Some(class), _) => this.classes.push((class, seconds)),
                (None, Some(status)) if OF_ONE_REQUEST.contains(&status) => {
                    let what = format!("{status} is the answer to one request alone");
                    wrong(key.span(), what, "leave it out; it is never stored".to_owned());
                }
                (None, Some(status)) if (200..=599).contains(&status) => this.exact.push((status, seconds)),
                _ => {
                    let what = format!("\"{text}\" is not a status");
                    wrong(
                        key.span(),
                        what,
                        "write \"200\" to \"599\", or \"2xx\" to \"5xx\"".to_owned(),
                    );
                }
            }
        }
        this
    }
}

/// The kind of such a key.
pub struct ByStatus;

impl Kind for ByStatus {
    type Written = Written;
    type Checked = Ttls;
    type Bound = Unbounded;

    fn text(_: &Written) -> String {
        String::new()
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(written: &Spanned<Written>, _: Option<(Unbounded, Unbounded)>, checker: &mut Checker<'_>) -> Ttls {
        Ttls::read(written.get_ref(), |span, what, mend| checker.mistake(span, what, mend))
    }
}
