//! Which failures of visitors a fault explains. A wrong byte is explained by none.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::faults::Kind;

/// After a fault's end: reconnecting, cool-downs, and answers to what was asked in its last moment.
const GRACE_MS: u64 = 5_000;

/// Visitors of this zone do not wait as told: their connections are ended and their attempts
/// dropped, as they should be.
const GATED: &str = "gated";

/// What a visitor met, as the load prints it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Failure {
    began_ms: u64,
    ended_ms: u64,
    zone: String,
    version: String,
    /// wrong, refused, broken.
    kind: String,
    asked: String,
    words: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            began_ms,
            ended_ms,
            zone,
            version,
            kind,
            asked,
            words,
        } = self;
        let took = ended_ms.saturating_sub(*began_ms);
        write!(f, "{began_ms} +{took} ms {zone} {version} {kind} {asked}: {words}")
    }
}

#[derive(Deserialize)]
struct Sum {
    right: BTreeMap<String, u64>,
}

/// A fault, from its beginning until everything was seen to work again.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Injected {
    pub(super) kind: Kind,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

/// All failures, by what they are.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Failures by the kind that explains them.
    pub(super) explained: BTreeMap<String, u64>,
    pub(super) wrong: Vec<Failure>,
    pub(super) unexplained: Vec<Failure>,
}

/// What the load printed: right answers, and failures.
///
/// # Errors
/// It did not come to its end.
pub(super) fn read(logs: &[String]) -> Result<(BTreeMap<String, u64>, Vec<Failure>)> {
    let (mut all, mut failures) = (BTreeMap::new(), Vec::new());
    for log in logs {
        let mut right = None;
        for line in log.lines() {
            if let Ok(sum) = serde_json::from_str::<Sum>(line) {
                right = Some(sum.right);
            } else if let Ok(failure) = serde_json::from_str::<Failure>(line) {
                failures.push(failure);
            } else {
                anyhow::bail!("the visitors say: {line}");
            }
        }
        all.extend(right.context("the visitors ended without a word")?);
    }
    Ok((all, failures))
}

impl Verdict {
    /// Sorts them.
    pub(super) fn of(failures: Vec<Failure>, injected: &[Injected]) -> Self {
        let mut verdict = Self::default();
        for failure in failures {
            if failure.kind == "wrong" {
                verdict.wrong.push(failure);
                continue;
            }
            if failure.zone == GATED {
                *verdict.explained.entry("the gate".to_owned()).or_default() += 1;
                continue;
            }
            let reason = injected.iter().find(|fault| {
                fault.kind.touches(&failure.zone)
                    && fault.from_ms <= failure.ended_ms
                    && failure.began_ms <= fault.to_ms + GRACE_MS
            });
            match reason {
                Some(fault) => *verdict.explained.entry(fault.kind.name().to_owned()).or_default() += 1,
                None => verdict.unexplained.push(failure),
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(began_ms: u64, ended_ms: u64, zone: &str, kind: &str) -> Failure {
        Failure {
            began_ms,
            ended_ms,
            zone: zone.to_owned(),
            version: "h2".to_owned(),
            kind: kind.to_owned(),
            asked: "/".to_owned(),
            words: String::new(),
        }
    }

    /// A soak that explains everything away finds nothing.
    #[test]
    fn a_fault_explains_what_it_touches_and_no_wrong_byte() {
        let injected = [Injected {
            kind: Kind::KillKeyServer,
            from_ms: 10_000,
            to_ms: 12_000,
        }];
        let failures = vec![
            failure(9_000, 9_900, "keys", "broken"),
            failure(9_000, 10_100, "keys", "broken"),
            failure(16_900, 17_000, "keys", "refused"),
            failure(17_100, 17_200, "keys", "refused"),
            failure(11_000, 11_100, "plain", "broken"),
            failure(11_000, 11_100, "keys", "wrong"),
            failure(1, 2, "gated", "broken"),
            failure(1, 2, "gated", "wrong"),
        ];
        let verdict = Verdict::of(failures, &injected);
        assert_eq!(verdict.explained.values().sum::<u64>(), 3);
        assert_eq!(verdict.wrong.len(), 2);
        let left: Vec<u64> = verdict.unexplained.iter().map(|failure| failure.began_ms).collect();
        assert_eq!(left, [9_000, 17_100, 11_000]);
    }

    #[test]
    fn a_load_that_dies_is_no_success() {
        let read = |text: &str| read(&[text.to_owned()]);
        assert!(read("").is_err());
        assert!(read("thread main panicked").is_err());
        let (right, failures) = read("{\"right\":{\"plain h1\":3},\"failed\":0}\n").unwrap();
        assert_eq!((right.len(), failures.len()), (1, 0));
    }
}
