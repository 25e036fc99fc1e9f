//! The waiting room: so many visitors active, the others first come, first served. A waiter's place is its arrival, carried in
//! its token; the node keeps counts (`census`) and the active visitors, never a waiter.
//!
//! A waiter may enter when fewer wait ahead of it than there is room: the horizon of places let in moves on as visitors
//! leave. Exact on one node to the width of a bin (128 ms while the queue spans two minutes, growing with it). Nodes that
//! share nothing but tokens each admit their own `active`, in the order of the places that came to them: a waiter who moves
//! to another node keeps its place there, but may overtake those who wait only at the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::census::Census;
use super::clock::Now;

/// How a queue works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Visitors at once.
    pub active: usize,
    /// A visitor counts as active for so long after its last request.
    pub session: Duration,
    /// Nobody new enters.
    pub paused: bool,
    /// The longest time between two visits of a waiter.
    pub poll: Duration,
}

/// Who asks to enter.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The proven client, else a number for the address: clients of one address that prove nothing are one visitor.
    pub key: u64,
    /// The number for its address, whose entry it takes over when it proves itself later.
    pub address: u64,
    /// It has a session pass.
    pub session: bool,
    /// Place and `not_before` (seconds) of its wait token; a place of 0 is none.
    pub waited: Option<(u64, u32)>,
}

/// What a visitor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is active now.
    Enter,
    /// Not yet.
    Wait {
        /// When to come back, seconds since the epoch.
        due: u32,
        /// Its place, for the token.
        place: u64,
        /// How many wait ahead of it.
        ahead: u64,
        /// When it will probably enter.
        estimate: Duration,
    },
}

/// One zone's queue.
#[derive(Debug)]
pub struct Queue {
    terms: Terms,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    census: Census,
    /// Visitor to the end of its session, milliseconds since the epoch.
    active: HashMap<u64, u64>,
    /// The same by end, refreshed lazily: an entry may be stale, the map decides.
    ends: BTreeMap<u64, Vec<u64>>,
    /// Visitors that leave per second, smoothed over a minute.
    leaving: f64,
    left: u64,
    swept: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(terms: Terms) -> Self {
        let session = terms.session.as_secs_f64().max(1.0);
        Self {
            state: Mutex::new(State {
                census: Census::new(u64::try_from(terms.poll.as_millis()).unwrap_or(u64::MAX)),
                active: HashMap::new(),
                ends: BTreeMap::new(),
                leaving: terms.active as f64 / session,
                left: 0,
                swept: 0,
            }),
            terms,
        }
    }

    /// How it works.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Lets `visitor` in or says when to come again. A wait token counts once: the caller has spent it.
    pub fn visit(&self, now: Now, visitor: Visitor) -> Turn {
        let at = now.unix_ms();
        let end = at.saturating_add(u64::try_from(self.terms.session.as_millis()).unwrap_or(u64::MAX));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(at);
        let waited = visitor.waited.filter(|(place, _)| *place > 0);
        if let Some((place, due)) = waited {
            state.census.remove(place, u64::from(due) * 1_000);
        }
        if state.active.contains_key(&visitor.key) || visitor.session {
            if visitor.key != visitor.address && !state.active.contains_key(&visitor.key) {
                state.active.remove(&visitor.address);
            }
            state.refresh(visitor.key, end, self.terms.session);
            return Turn::Enter;
        }
        let place = waited.map_or(at, |(place, _)| place.min(at));
        let ahead = state.census.ahead(place);
        let free = self.terms.active.saturating_sub(state.active.len()) as u64;
        if !self.terms.paused && ahead < free {
            state.refresh(visitor.key, end, self.terms.session);
            return Turn::Enter;
        }
        let turns = (ahead + 1).saturating_sub(free) as f64;
        let seconds = (turns / state.leaving.max(1e-3)).clamp(1.0, 86_400.0);
        let estimate = Duration::from_secs_f64(seconds);
        let due = now.second_after(estimate.min(self.terms.poll));
        state.census.add(place, u64::from(due) * 1_000);
        Turn::Wait {
            due,
            place,
            ahead,
            estimate,
        }
    }

    /// Who waits, who is active, and the place let in up to, at this moment.
    pub fn lengths(&self, now: Now) -> (u64, usize, u64) {
        let at = now.unix_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(at);
        let free = self.terms.active.saturating_sub(state.active.len()) as u64;
        (state.census.total(), state.active.len(), state.census.horizon(free, at))
    }
}

impl State {
    /// Ends sessions and forgets waiters who stayed away.
    fn sweep(&mut self, at: u64) {
        if self.swept == 0 {
            self.swept = at;
        }
        while let Some(entry) = self.ends.first_entry() {
            if *entry.key() > at {
                break;
            }
            for key in entry.remove() {
                if self.active.get(&key).is_some_and(|end| *end <= at) {
                    self.active.remove(&key);
                    self.left += 1;
                }
            }
        }
        let past = at.saturating_sub(self.swept);
        if past >= 1_000 {
            self.census.sweep(at);
            let past = past as f64 / 1_000.0;
            // Nobody leaves a queue that is not full; then the first guess stands.
            if self.left > 0 || self.census.total() > 0 {
                let weight = 1.0 - (-past / 60.0).exp();
                self.leaving += (self.left as f64 / past - self.leaving) * weight;
            }
            self.left = 0;
            self.swept = at;
        }
    }

    /// Makes `key` active until `end`, give or take an eighth, so that few stale ends pile up.
    fn refresh(&mut self, key: u64, end: u64, session: Duration) {
        let slack = u64::try_from(session.as_millis()).unwrap_or(u64::MAX) / 8;
        let known = self.active.get(&key).copied().unwrap_or(0);
        if end > known.saturating_add(slack) {
            self.active.insert(key, end);
            self.ends.entry(end).or_default().push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;
    const TERMS: Terms = Terms {
        active: 2,
        session: Duration::from_secs(30),
        paused: false,
        poll: Duration::from_secs(10),
    };

    fn at(ms: u64) -> Now {
        Now {
            mono: Duration::from_millis(ms),
            unix: Duration::from_millis(START + ms),
        }
    }

    fn newcomer(key: u64) -> Visitor {
        Visitor {
            key,
            address: key,
            session: false,
            waited: None,
        }
    }

    /// Waiters hold nothing but (place, due); they come back when told. Gives the order in which they entered.
    fn play(queues: &[Queue], arrivals: &[(u64, u64, usize)], until: u64) -> Vec<u64> {
        let mut agenda: Vec<(u64, Visitor, usize)> = arrivals
            .iter()
            .map(|(ms, key, node)| (*ms, newcomer(*key), *node))
            .collect();
        let mut entered = Vec::new();
        while let Some(next) = (0..agenda.len()).min_by_key(|i| agenda[*i].0) {
            let (ms, mut visitor, node) = agenda.swap_remove(next);
            if ms > until {
                break;
            }
            match queues[node].visit(at(ms), visitor) {
                Turn::Enter => entered.push(visitor.key),
                Turn::Wait { due, place, .. } => {
                    visitor.waited = Some((place, due));
                    // The next visit goes to the other node, if there is one.
                    let back = u64::from(due) * 1_000 - START;
                    agenda.push((back + visitor.key % 7, visitor, (node + 1) % queues.len()));
                }
            }
        }
        entered
    }

    /// Somebody who came later would be served earlier, or the origin would get more than it can bear.
    #[test]
    fn first_come_first_served_and_bounded() {
        let queue = Queue::new(TERMS);
        let arrivals: Vec<_> = (0..20).map(|n| (n * 500, n, 0)).collect();
        let entered = play(std::slice::from_ref(&queue), &arrivals, 600_000);
        assert_eq!(entered, (0..20).collect::<Vec<_>>());
        let (_, active, _) = queue.lengths(at(600_000));
        assert!(active <= 2);
    }

    /// Two nodes that share only tokens: everybody gets in, and nobody is overtaken by more than one round of visits.
    #[test]
    fn two_nodes_keep_places() {
        let nodes = [Queue::new(TERMS), Queue::new(TERMS)];
        let arrivals: Vec<_> = (0..40).map(|n| (n * 500, n, (n % 2) as usize)).collect();
        let entered = play(&nodes, &arrivals, 1_200_000);
        assert_eq!(entered.len(), 40);
        for (position, key) in entered.iter().enumerate() {
            assert!(
                (position as u64).abs_diff(*key) <= 4,
                "{key} entered as number {position}"
            );
        }
    }

    /// Slots would stay empty for those who gave up, and the estimate would be a lie.
    #[test]
    fn absent_waiters_are_forgotten() {
        let queue = Queue::new(TERMS);
        for n in 0..10 {
            queue.visit(at(n * 200), newcomer(n));
        }
        assert_eq!(queue.lengths(at(2_000)).0, 8);
        let Turn::Wait { ahead, estimate, .. } = queue.visit(at(2_500), newcomer(99)) else {
            panic!("entered a full room");
        };
        assert!(ahead == 8 && (60..=200).contains(&estimate.as_secs()), "{estimate:?}");
        assert_eq!(queue.lengths(at(45_000)).0, 0);
        assert_eq!(queue.visit(at(45_000), newcomer(100)), Turn::Enter);
    }

    /// The switch that holds everybody must not throw out those inside, and one address without a cookie is one visitor.
    #[test]
    fn paused_and_promoted() {
        let queue = Queue::new(TERMS);
        assert_eq!(queue.visit(at(0), newcomer(1)), Turn::Enter);
        assert_eq!(queue.visit(at(1), newcomer(1)), Turn::Enter);
        let proven = Visitor {
            key: 77,
            address: 1,
            session: true,
            waited: None,
        };
        assert_eq!(queue.visit(at(2), proven), Turn::Enter);
        assert_eq!(
            queue.lengths(at(3)).1,
            1,
            "the proven client took its address's entry over"
        );
        let paused = Queue::new(Terms { paused: true, ..TERMS });
        assert!(matches!(paused.visit(at(0), newcomer(1)), Turn::Wait { .. }));
        assert_eq!(paused.visit(at(0), proven), Turn::Enter);
    }
}
