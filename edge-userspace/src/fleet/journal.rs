//! What a node has heard: how far it has read the engine's log, and which number of each issuer
//! came last. It tells replays, and what is missing whatever the engine says. Pure but for
//! [`Journal::open`] and [`Journal::write`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::event::{self, Action, Event, Genuine, Order, Refused};
use crate::base::clock::UnixTime;
use crate::base::file;

/// Numbers of one issuer that may still come late, at most.
const MOST_MISSING: usize = 1_024;
/// Issuers at most: as many as a fleet has nodes, and those that it had.
const MOST_ISSUERS: usize = 32_768;

/// How far an issuer has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// When it began to count.
    pub series: u64,
    /// Its last number; 0: none yet.
    pub number: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Issuer {
    mark: Mark,
    /// Numbers up to the mark that have not come. What was stored before they were missed is void.
    missing: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// This node's own.
    own: Mark,
    /// The engine's log that was read, and the last entry of it.
    log: String,
    entry: u64,
    issuers: BTreeMap<String, Issuer>,
    /// The time of the last order by operator's key.
    orders: BTreeMap<String, u64>,
}

/// What an event means for who has heard those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Others were missed before it: what was stored until now has to go.
    pub gap: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    state: State,
    path: PathBuf,
    changed: bool,
    /// Times of penalties that issuers gave by themselves, the oldest first.
    penalties: BTreeMap<String, VecDeque<UnixTime>>,
}

impl Journal {
    /// Reads the file in `directory`. One that is not there, or damaged, is an empty journal:
    /// everything is a gap then.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(directory: &Path, now: UnixTime) -> io::Result<Self> {
        let path = directory.join("journal");
        let state = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut state: State = state.unwrap_or_default();
        if state.own.series == 0 {
            state.own = Mark {
                series: now.millis().max(1),
                number: 0,
            };
        }
        Ok(Self {
            state,
            path,
            changed: true,
            penalties: BTreeMap::new(),
        })
    }

    /// Writes the file if something has changed; on the disk when this returns.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        file::replace(&self.path, &serde_json::to_vec(&self.state)?)?;
        if let Some(directory) = self.path.parent() {
            file::sync(directory)?;
        }
        self.changed = false;
        Ok(())
    }

    /// The next number of this node's own, on the disk when this returns: none is given twice, also
    /// after a crash.
    ///
    /// # Errors
    /// The disk; then there is none.
    pub fn number(&mut self) -> io::Result<Mark> {
        self.state.own.number = self.state.own.number.saturating_add(1);
        self.changed = true;
        self.write()?;
        Ok(self.state.own)
    }

    /// This node's own last number.
    pub const fn own(&self) -> Mark {
        self.state.own
    }

    /// The engine's log that was read, and its last entry; `None`: none yet.
    pub fn position(&self) -> Option<(&str, u64)> {
        (!self.state.log.is_empty()).then_some((self.state.log.as_str(), self.state.entry))
    }

    /// Everything up to `entry` of the log was read.
    pub fn read_to(&mut self, log: &str, entry: u64) {
        log.clone_into(&mut self.state.log);
        self.state.entry = entry;
        self.changed = true;
    }

    /// What has come of an issuer.
    pub fn mark(&self, issuer: &str) -> Mark {
        self.state
            .issuers
            .get(issuer)
            .map_or(Mark::default(), |known| known.mark)
    }

    /// Takes an event: whether it is new, and whether others are missing before it.
    ///
    /// # Errors
    /// It was taken before, or is one penalty too many.
    pub fn take(&mut self, genuine: &Genuine, now: UnixTime) -> Result<Taken, Refused> {
        let Genuine { issuer, event } = genuine;
        let known = self.state.issuers.get(issuer);
        let late =
            known.is_some_and(|known| known.mark.series == event.series && known.missing.contains(&event.number));
        let mark = known.map_or(Mark::default(), |known| known.mark);
        let said = Mark {
            series: event.series,
            number: event.number,
        };
        if !late && said <= mark {
            return Err(Refused::Replayed);
        }
        if known.is_none() && self.state.issuers.len() >= MOST_ISSUERS {
            return Err(Refused::TooMany);
        }
        self.allow(issuer, event, now)?;
        self.changed = true;
        let gap = !late && self.reach(issuer, said, true);
        if late && let Some(known) = self.state.issuers.get_mut(issuer) {
            known.missing.remove(&event.number);
        }
        Ok(Taken { gap })
    }

    /// An issuer has counted up to `mark`, as it says itself, and what is missing will not come.
    /// Whether anything is.
    pub fn give_up(&mut self, issuer: &str, mark: Mark) -> bool {
        if mark <= self.mark(issuer) || self.state.issuers.len() >= MOST_ISSUERS {
            return false;
        }
        self.changed = true;
        self.reach(issuer, mark, false)
    }

    /// Moves an issuer's mark, and remembers what was passed over. `with`: the event of that number
    /// is here.
    fn reach(&mut self, issuer: &str, to: Mark, with: bool) -> bool {
        let known = self.state.issuers.entry(issuer.to_owned()).or_default();
        if known.mark.series != to.series {
            known.missing.clear();
            known.mark = Mark {
                series: to.series,
                number: 0,
            };
        }
        let last = if with { to.number.saturating_sub(1) } else { to.number };
        let first = known.mark.number.saturating_add(1);
        let gap = first <= last;
        // The oldest go first: they are the least likely to come.
        let from = first.max(last.saturating_sub(MOST_MISSING as u64 - 1));
        known.missing.extend(from..=last);
        while known.missing.len() > MOST_MISSING {
            known.missing.pop_first();
        }
        known.mark = to;
        gap
    }

    /// Takes an operator's order: of one key only later ones than those that were taken.
    ///
    /// # Errors
    /// It is not later.
    pub fn order(&mut self, order: &Order) -> Result<(), Refused> {
        let last = self.state.orders.entry(order.key.to_string()).or_default();
        if order.time <= *last {
            return Err(Refused::Replayed);
        }
        *last = order.time;
        self.changed = true;
        Ok(())
    }

    /// Orders are taken once and in their order, penalties of nodes up to a bound.
    fn allow(&mut self, issuer: &str, event: &Event, now: UnixTime) -> Result<(), Refused> {
        if let Some(order) = &event.order {
            return self.order(order);
        }
        let Action::Penalise { until, .. } = &event.action else {
            return Ok(());
        };
        // By our own clock, whatever the issuer's says; one that goes ahead by less than half of it
        // is believed.
        if UnixTime::from_millis(*until) > now.after(event::LONGEST * 3 / 2) {
            return Err(Refused::Unordered);
        }
        let given = self.penalties.entry(issuer.to_owned()).or_default();
        while given.front().is_some_and(|time| now.since(*time) > event::LONGEST) {
            given.pop_front();
        }
        if given.len() >= event::MOST_PENALTIES {
            return Err(Refused::TooMany);
        }
        given.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::key::Signer;

    fn event(series: u64, number: u64) -> Genuine {
        Genuine {
            issuer: "a".to_owned(),
            event: Event {
                series,
                number,
                time: 1,
                action: Action::PurgeAll,
                order: None,
            },
        }
    }

    fn now() -> UnixTime {
        UnixTime::from_secs(1_000_000)
    }

    fn journal(directory: &Path) -> Journal {
        Journal::open(directory, now()).unwrap()
    }

    /// A purge that the engine withheld would leave the old page in the cache for good; a replay
    /// would undo what came later.
    #[test]
    fn what_is_missing_is_seen_and_what_was_taken_is_not_taken_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let take =
            |journal: &mut Journal, series, number| journal.take(&event(series, number), now()).map(|taken| taken.gap);
        assert_eq!(take(&mut journal, 5, 1), Ok(false));
        assert_eq!(take(&mut journal, 5, 2), Ok(false));
        for replay in [1, 2] {
            assert_eq!(take(&mut journal, 5, replay), Err(Refused::Replayed));
        }
        assert_eq!(take(&mut journal, 5, 5), Ok(true), "3 and 4 were withheld");
        assert_eq!(take(&mut journal, 5, 4), Ok(false), "and come late: they are taken");
        assert_eq!(take(&mut journal, 5, 4), Err(Refused::Replayed), "once");
        assert_eq!(take(&mut journal, 5, 6), Ok(false));
        assert_eq!(take(&mut journal, 4, 7), Err(Refused::Replayed), "of an earlier life");
        assert_eq!(take(&mut journal, 9, 1), Ok(false), "a later life begins anew");
        assert_eq!(
            take(&mut journal, 9, u64::MAX),
            Ok(true),
            "whatever number comes, memory is bounded"
        );
        assert!(journal.state.issuers["a"].missing.len() <= MOST_MISSING);
        // Over a restart.
        journal.read_to("log", 17);
        journal.write().unwrap();
        let mut again = self::journal(directory.path());
        assert_eq!(again.position(), Some(("log", 17)));
        assert_eq!(take(&mut again, 9, 1), Err(Refused::Replayed));
        // An issuer that nothing was heard of has said something before.
        let other = tempfile::tempdir().unwrap();
        assert_eq!(take(&mut self::journal(other.path()), 5, 3), Ok(true));
    }

    /// The last event of an issuer would be withheld unseen.
    #[test]
    fn an_issuers_word_tells_of_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let mark = |number| Mark { series: 5, number };
        journal.take(&event(5, 1), now()).unwrap();
        assert!(!journal.give_up("a", mark(1)));
        assert!(journal.give_up("a", mark(2)));
        assert!(!journal.give_up("a", mark(2)), "once");
        assert_eq!(journal.take(&event(5, 2), now()), Ok(Taken { gap: false }), "late");
        assert_eq!(journal.take(&event(5, 3), now()), Ok(Taken { gap: false }));
    }

    /// A number given twice is a purge that peers take for a replay.
    #[test]
    fn own_numbers_are_given_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = journal(directory.path());
        let one = first.number().unwrap();
        let mut crashed = journal(directory.path());
        let two = crashed.number().unwrap();
        assert_eq!((one.number, two.number, one.series), (1, 2, two.series));
        std::fs::write(directory.path().join("journal"), "{").unwrap();
        let later = UnixTime::from_secs(1_000_001);
        let mut damaged = Journal::open(directory.path(), later).unwrap();
        assert!(damaged.number().unwrap() > two, "a life of its own");
    }

    /// A stolen node would fill the table of penalties, or say an operator's old order again.
    #[test]
    fn a_stolen_node_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let penalty = |number, until: UnixTime| {
            let mut event = event(5, number);
            event.event.action = Action::Penalise {
                subject: "192.0.2.1".to_owned(),
                blocked: true,
                until: until.millis(),
            };
            event
        };
        let far = now().after(event::LONGEST * 2);
        assert_eq!(
            journal.take(&penalty(1, far), now()),
            Err(Refused::Unordered),
            "its clock is ahead"
        );
        for number in 1..=event::MOST_PENALTIES as u64 {
            assert!(journal.take(&penalty(number, now()), now()).is_ok());
        }
        let one_more = penalty(event::MOST_PENALTIES as u64 + 1, now());
        assert_eq!(journal.take(&one_more, now()), Err(Refused::TooMany));
        let later = now().after(event::LONGEST * 2);
        assert!(journal.take(&one_more, later).is_ok());

        let operator = Signer::generate().unwrap();
        let ordered = |number, at: u64| {
            let mut event = event(6, number);
            event.event.action = Action::Deny("192.0.2.0/24".parse().unwrap());
            let order = Order::new("shop", &event.event.action, UnixTime::from_secs(at), &operator);
            event.event.order = Some(order);
            event
        };
        assert!(journal.take(&ordered(1, 10), now()).is_ok() && journal.take(&ordered(2, 11), now()).is_ok());
        assert_eq!(journal.take(&ordered(3, 11), now()), Err(Refused::Replayed));
        assert_eq!(journal.take(&ordered(3, 10), now()), Err(Refused::Replayed));
    }
}
