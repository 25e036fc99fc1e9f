//! The gate's penalties into the kernel's maps: the two rooms do not know each other, so the gate's
//! news become what the maps hold here. The gate's feeding thread calls it, `dataplane` does
//! the writing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::base::penalty::{Level, Subject};
use crate::dataplane::{Penalties, Penalty, Severity};
use crate::gate::feed::{FeedError, KernelFeed};
use crate::gate::penalty::PenaltyChange;

/// The kernel, as the gate's thread feeds it.
#[derive(Debug)]
pub(crate) struct Kernel(pub(crate) Arc<Penalties>);

impl KernelFeed for Kernel {
    fn apply(&mut self, now: Duration, changes: &[PenaltyChange]) -> Result<(), FeedError> {
        let (written, lifted) = translate(now, changes);
        self.0.remove(&lifted);
        self.0
            .write(&written)
            .map_err(|error| FeedError(io::Error::other(error)))
    }

    fn held(&mut self) -> Result<Vec<Subject>, FeedError> {
        Ok(self
            .0
            .list()
            .iter()
            .map(|penalty| heard(Duration::ZERO, penalty).key)
            .collect())
    }
}

fn translate(now: Duration, changes: &[PenaltyChange]) -> (Vec<Penalty>, Vec<Subject>) {
    let mut written = Vec::with_capacity(changes.len());
    let mut lifted = Vec::new();
    for change in changes {
        let severity = match change.level {
            Some(Level::Deferred) => Severity::Deferred(change.syn_budget),
            Some(Level::Blocked) => Severity::Blocked,
            None => {
                lifted.push(change.key);
                continue;
            }
        };
        // What has ended while it waited to be fed ends here, too: it replaces one that would go
        // on.
        written.push(Penalty {
            who: change.key,
            origin: change.origin,
            severity,
            remaining: change.until.saturating_sub(now),
            probation: change.probation,
        });
    }
    (written, lifted)
}

/// A penalty of the kernel's in the gate's words; `now` is the gate's steady clock.
pub(super) fn heard(now: Duration, penalty: &Penalty) -> PenaltyChange {
    let (level, syn_budget) = match penalty.severity {
        Severity::Deferred(budget) => (Level::Deferred, budget),
        Severity::Blocked => (Level::Blocked, 0),
    };
    PenaltyChange {
        key: penalty.who,
        origin: penalty.origin,
        level: Some(level),
        until: now.saturating_add(penalty.remaining),
        syn_budget,
        probation: penalty.probation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::penalty::Origin;

    /// A penalty read as another would block who is deferred, or never end.
    #[test]
    fn every_change_arrives_as_it_was_meant() {
        let change = |key, level| PenaltyChange {
            key,
            origin: Origin::Gate,
            level,
            until: Duration::from_secs(15),
            syn_budget: 6,
            probation: Duration::from_secs(60),
        };
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        let network = "2001:db8:1::/48".parse().unwrap();
        let changes = [
            change(Subject::Address(address), Some(Level::Deferred)),
            change(Subject::Client(7), Some(Level::Blocked)),
            change(Subject::Client(8), None),
            change(Subject::Network(network), None),
        ];
        let (written, lifted) = translate(Duration::from_secs(5), &changes);
        let (remaining, probation) = (Duration::from_secs(10), Duration::from_secs(60));
        assert_eq!(
            written,
            [
                Penalty {
                    who: Subject::Address(address),
                    origin: Origin::Gate,
                    severity: Severity::Deferred(6),
                    remaining,
                    probation
                },
                Penalty {
                    who: Subject::Client(7),
                    origin: Origin::Gate,
                    severity: Severity::Blocked,
                    remaining,
                    probation
                },
            ]
        );
        assert_eq!(lifted, [Subject::Client(8), Subject::Network(network)]);
        assert!(translate(Duration::from_secs(20), &changes).0[0].remaining.is_zero());
    }

    /// A restart would make an operator's word of the gate's, a stranger of a shared address, or a
    /// penalty of a wait.
    #[test]
    fn what_was_written_is_heard_as_it_was_meant() {
        let now = Duration::from_secs(5);
        let network = |text: &str| Subject::Network(text.parse().unwrap());
        for (key, origin, level, syn_budget) in [
            (Subject::Client(7), Origin::Gate, Level::Deferred, 52),
            (Subject::Client(7), Origin::Operator, Level::Blocked, 0),
            (Subject::Client(7), Origin::Hold, Level::Deferred, 0),
            (network("2001:db8:1:200::/56"), Origin::Gate, Level::Blocked, 0),
            (network("192.0.2.0/24"), Origin::Gate, Level::Deferred, 68),
        ] {
            let change = PenaltyChange {
                key,
                origin,
                level: Some(level),
                until: Duration::from_secs(65),
                syn_budget,
                probation: Duration::from_secs(600),
            };
            let (written, _) = translate(now, &[change]);
            assert_eq!(written.iter().map(|p| heard(now, p)).collect::<Vec<_>>(), [change]);
        }
    }
}
