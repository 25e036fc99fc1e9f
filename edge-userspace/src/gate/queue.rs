//! The waiting room: so many visitors active, the others first come, first served. A waiter's place
//! is its arrival, carried in its token; the node keeps counts (`census`), the seats of the active
//! visitors, and, for as long as a wait lasts, when each waiter was told to come, so that asking
//! again and again changes nothing.
//!
//! A waiter may enter when fewer wait ahead of it than there is room: the horizon of places let in
//! moves on as visitors leave. Exact on one node to the width of a bin (128 ms while the queue
//! spans two minutes, growing with it). Nodes that share nothing but tokens each admit their own
//! `active`, in the order of the places that came to them: a waiter who moves to another node keeps
//! its place there, but may overtake those who wait only at the other.
//!
//! There are never more seats than `active`. A seat is named by one number: that of the client who
//! waited for it, or one that all share who come from one address and did not have to wait. A pass
//! that names a seat which is not there (it ended, it is another node's, or it is from before a
//! restart) goes by when the seat was taken: before everybody who came later.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::census::Census;
use super::clock::Now;

/// Places are reckoned on the steady clock, this many milliseconds on, so that those of before the
/// start have a number, too: a wall clock that jumps changes nobody's order.
const ORIGIN: u64 = 1 << 44;
/// What two readings of the two clocks may differ by.
const JITTER: u64 = 1_000;
/// Waiters whose wait is remembered, by one queue: 40 bytes each, as they come. One beyond is told
/// all the same, and counted by what its token says.
const TOLD: usize = 65_536;

/// How a queue works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Visitors at once.
    pub active: usize,
    /// Of them from one site (IPv6 /48, IPv4 /24).
    pub per_network: usize,
    /// A visitor counts as active for so long after its last request.
    pub session: Duration,
    /// Nobody new enters.
    pub paused: bool,
    /// The longest time between two visits of a waiter.
    pub poll: Duration,
}

/// What a visitor's pass says of the waiting room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    #[default]
    None,
    /// It has a place (milliseconds since the epoch) and was told to come at `due` (seconds since
    /// the epoch).
    Place {
        /// Its place.
        place: u64,
        /// When it was told to come.
        due: u32,
    },
    /// It took a seat at that time, milliseconds since the epoch.
    Seat {
        /// When.
        since: u64,
    },
}

/// Who asks to enter.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The client, or the seat, that its pass names.
    pub known: Option<u64>,
    /// It has waited, here or under another rule: the seat it takes is its own. Otherwise it is its
    /// address's.
    pub waited: bool,
    /// What a token for it will name.
    pub name: u64,
    /// The number for its address.
    pub address: u64,
    /// Its site.
    pub site: u32,
    /// What its pass says.
    pub claim: Claim,
    /// It is counted among those who wait.
    pub counts: bool,
}

/// What a visitor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is active now.
    Enter {
        /// The number that names its seat.
        seat: u64,
    },
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

/// Times are milliseconds on the steady clock; of places see [`ORIGIN`].
#[derive(Debug)]
struct State {
    census: Census,
    seats: HashMap<u64, Seat>,
    /// The seats that addresses have without a wait.
    by_address: HashMap<u64, u64>,
    by_site: HashMap<u32, usize>,
    /// Seats by their end, refreshed lazily: an entry may be stale, the map decides.
    ends: BTreeMap<u64, Vec<u64>>,
    told: HashMap<u64, Told>,
    /// Visitors that leave per second, smoothed over a minute.
    leaving: f64,
    left: u64,
    swept: u64,
    forgotten: u64,
    /// When this queue began.
    began: Option<u64>,
    /// Somebody waited before that: it was full, and those who were inside come back first.
    resumes: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    end: u64,
    /// The address that shares it; `None`: it was waited for.
    address: Option<u64>,
    site: u32,
}

/// What a waiter was told last.
#[derive(Clone, Copy, Debug)]
struct Told {
    due: u64,
    /// Milliseconds since the epoch, as the wall clock was then.
    place: u64,
    /// The same as the census has it.
    line: u64,
    /// It is in the census.
    counted: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new(terms: Terms) -> Self {
        let session = terms.session.as_secs_f64().max(1.0);
        Self {
            state: Mutex::new(State {
                census: Census::new(millis(terms.poll)),
                seats: HashMap::new(),
                by_address: HashMap::new(),
                by_site: HashMap::new(),
                ends: BTreeMap::new(),
                told: HashMap::new(),
                leaving: terms.active as f64 / session,
                left: 0,
                swept: 0,
                forgotten: 0,
                began: None,
                resumes: false,
            }),
            terms,
        }
    }

    /// How it works.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Lets `visitor` in or says when to come again. Asking again before that says the same again,
    /// and changes nothing.
    pub fn visit(&self, now: Now, visitor: Visitor) -> Turn {
        let (at, unix) = (millis(now.mono), now.unix_ms());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(at, millis(self.terms.poll));
        let end = at.saturating_add(millis(self.terms.session));
        let key = visitor.known.unwrap_or(visitor.name);
        let told = state.told.get(&key).copied();
        let place = match (visitor.claim, told) {
            (Claim::Place { place, .. } | Claim::Seat { since: place }, _) => place.min(unix),
            (Claim::None, Some(told)) => told.place_at(at, unix),
            (Claim::None, None) => unix,
        };
        let known = told.map(|told| told.line);
        let line = known
            .filter(|line| line.abs_diff(line_of(place, at, unix)) <= JITTER)
            .unwrap_or_else(|| line_of(place, at, unix));
        // Its own count is not ahead of it.
        let counted = match (told, visitor.claim) {
            (Some(told), _) => told.counted.then_some(told.due),
            (None, Claim::Place { due, .. }) => Some(on_steady(u64::from(due) * 1_000, at, unix)),
            (None, _) => None,
        };
        if let Some(due) = counted {
            state.census.remove(known.unwrap_or(line), due);
        }
        if let Some(seat) = state.seat_of(&visitor) {
            state.told.remove(&key);
            state.refresh(seat, end, self.terms.session);
            return Turn::Enter { seat };
        }
        let ahead = state.census.ahead(line);
        let free = self.terms.active.saturating_sub(state.seats.len()) as u64;
        let of_site = state.by_site.get(&visitor.site).copied().unwrap_or(0);
        let fits = of_site < self.terms.per_network || self.terms.per_network >= self.terms.active;
        if fits && self.may_enter(&mut state, at, (visitor.claim, line), ahead, free) {
            state.told.remove(&key);
            state.take(&visitor, key, end);
            return Turn::Enter { seat: key };
        }
        let turns = (ahead + 1).saturating_sub(free) as f64;
        let seconds = (turns / state.leaving.max(1e-3)).clamp(1.0, 86_400.0);
        let estimate = Duration::from_secs_f64(seconds).max(state.holds_for(at, millis(self.terms.poll)));
        let due = match told.filter(|told| told.due > at) {
            Some(told) => u32::try_from((told.due - at + unix + 500) / 1_000).unwrap_or(u32::MAX),
            None => now.second_after(estimate.min(self.terms.poll)),
        };
        if visitor.counts || counted.is_some() {
            let due = told
                .filter(|told| told.due > at)
                .map_or_else(|| on_steady(u64::from(due) * 1_000, at, unix), |told| told.due);
            // Who cannot enter, whatever room there is, keeps nobody behind it from entering.
            if fits {
                state.census.add(line, due);
            }
            state.remember(
                key,
                Told {
                    due,
                    place,
                    line,
                    counted: fits,
                },
            );
        }
        Turn::Wait {
            due,
            place,
            ahead,
            estimate,
        }
    }

    fn may_enter(&self, state: &mut State, at: u64, (claim, line): (Claim, u64), ahead: u64, free: u64) -> bool {
        let began = *state.began.get_or_insert(at);
        let before = line < began.saturating_add(ORIGIN);
        let begins = at < began.saturating_add(2 * millis(self.terms.poll));
        match claim {
            // They were inside, and are not new: for the first two polls they come before all that
            // wait.
            Claim::Seat { .. } => free > 0 && (ahead < free || begins && before),
            Claim::Place { .. } | Claim::None => {
                if let Claim::Place { .. } = claim {
                    state.resumes |= begins && before;
                }
                let held = self.terms.paused || begins && state.resumes;
                !held && ahead < free
            }
        }
    }

    /// Waiters whose wait is remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).told.len()
    }

    /// Who waits, who is active, and the place let in up to, at this moment.
    pub fn lengths(&self, now: Now) -> (u64, usize, u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = millis(now.mono);
        state.sweep(at, millis(self.terms.poll));
        let free = self.terms.active.saturating_sub(state.seats.len()) as u64;
        (
            state.census.total(),
            state.seats.len(),
            place_of(state.census.horizon(free, at.saturating_add(ORIGIN)), at, now.unix_ms()),
        )
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time since the epoch on the steady clock, which says `at` when the other one says `unix`.
fn on_steady(time: u64, at: u64, unix: u64) -> u64 {
    at.saturating_add(time).saturating_sub(unix)
}

/// A place since the epoch on the steady clock, which says `at` when the wall's says `unix`.
fn line_of(place: u64, at: u64, unix: u64) -> u64 {
    at.saturating_add(ORIGIN).saturating_add(place).saturating_sub(unix)
}

/// The other way.
fn place_of(line: u64, at: u64, unix: u64) -> u64 {
    line.saturating_add(unix).saturating_sub(at.saturating_add(ORIGIN))
}

impl Told {
    /// The place as the wall clock says it now: it may have jumped since.
    fn place_at(&self, at: u64, unix: u64) -> u64 {
        match self.line.abs_diff(line_of(self.place, at, unix)) <= JITTER {
            true => self.place,
            false => place_of(self.line, at, unix),
        }
    }
}

impl State {
    /// The seat that a visitor has: its own, or its address's.
    fn seat_of(&self, visitor: &Visitor) -> Option<u64> {
        let own = visitor.known.filter(|known| self.seats.contains_key(known));
        own.or_else(|| self.by_address.get(&visitor.address).copied())
    }

    /// How long only those who were inside enter.
    fn holds_for(&self, at: u64, poll: u64) -> Duration {
        let end = self.began.map_or(0, |began| began.saturating_add(2 * poll));
        Duration::from_millis(if self.resumes { end.saturating_sub(at) } else { 0 })
    }

    fn take(&mut self, visitor: &Visitor, key: u64, end: u64) {
        let address = (!visitor.waited).then_some(visitor.address);
        if let Some(address) = address {
            self.by_address.insert(address, key);
        }
        *self.by_site.entry(visitor.site).or_default() += 1;
        self.seats.insert(
            key,
            Seat {
                end,
                address,
                site: visitor.site,
            },
        );
        self.ends.entry(end).or_default().push(key);
    }

    /// Makes a seat last until `end`, give or take an eighth, so that few stale ends pile up.
    fn refresh(&mut self, key: u64, end: u64, session: Duration) {
        let slack = millis(session) / 8;
        if let Some(seat) = self.seats.get_mut(&key)
            && end > seat.end.saturating_add(slack)
        {
            seat.end = end;
            self.ends.entry(end).or_default().push(key);
        }
    }

    fn remember(&mut self, key: u64, told: Told) {
        let full = self.told.len() >= TOLD;
        match self.told.entry(key) {
            Entry::Occupied(mut held) => *held.get_mut() = told,
            Entry::Vacant(_) if full => {}
            Entry::Vacant(free) => drop(free.insert(told)),
        }
    }

    /// Ends sessions and forgets waiters who stayed away.
    fn sweep(&mut self, at: u64, poll: u64) {
        if self.swept == 0 {
            self.swept = at;
        }
        while let Some(entry) = self.ends.first_entry() {
            if *entry.key() > at {
                break;
            }
            for key in entry.remove() {
                self.leave(key, at);
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
        if at.saturating_sub(self.forgotten) >= poll {
            // The census has let go of them.
            self.told
                .retain(|_, told| told.due.saturating_add(2 * poll.max(1_000)) > at);
            self.forgotten = at;
        }
    }

    fn leave(&mut self, key: u64, at: u64) {
        let Entry::Occupied(held) = self.seats.entry(key) else {
            return;
        };
        if held.get().end > at {
            return;
        }
        let seat = held.remove();
        self.left += 1;
        if let Some(address) = seat.address
            && self.by_address.get(&address) == Some(&key)
        {
            self.by_address.remove(&address);
        }
        if let Entry::Occupied(mut count) = self.by_site.entry(seat.site) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;
    const TERMS: Terms = Terms {
        active: 2,
        per_network: 2,
        session: Duration::from_secs(30),
        paused: false,
        poll: Duration::from_secs(10),
    };

    fn at(ms: u64) -> Now {
        Now {
            ahead: [0; 2],
            mono: Duration::from_millis(ms),
            unix: Duration::from_millis(START + ms),
        }
    }

    fn newcomer(key: u64) -> Visitor {
        Visitor {
            known: None,
            waited: false,
            name: key,
            address: key,
            site: key as u32,
            claim: Claim::None,
            counts: true,
        }
    }

    /// With a pass of a kept wait.
    fn waiter(key: u64, place: u64, due: u32) -> Visitor {
        Visitor {
            known: Some(key),
            waited: true,
            claim: Claim::Place { place, due },
            ..newcomer(key)
        }
    }

    /// With a session's pass.
    fn session(key: u64, since: u64) -> Visitor {
        Visitor {
            known: Some(key),
            waited: true,
            claim: Claim::Seat { since },
            ..newcomer(key)
        }
    }

    fn enters(turn: Turn) -> bool {
        matches!(turn, Turn::Enter { .. })
    }

    /// Waiters hold nothing but (place, due); they come back when told. Gives the order in which
    /// they entered.
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
                Turn::Enter { .. } => entered.push(visitor.name),
                Turn::Wait { due, place, .. } => {
                    visitor = waiter(visitor.name, place, due);
                    // The next visit goes to the other node, if there is one.
                    let back = u64::from(due) * 1_000 - START;
                    agenda.push((back + visitor.name % 7, visitor, (node + 1) % queues.len()));
                }
            }
        }
        entered
    }

    /// Somebody who came later would be served earlier, or the origin would get more than it can
    /// bear.
    #[test]
    fn first_come_first_served_and_bounded() {
        let queue = Queue::new(TERMS);
        let arrivals: Vec<_> = (0..20).map(|n| (n * 500, n, 0)).collect();
        let entered = play(std::slice::from_ref(&queue), &arrivals, 600_000);
        assert_eq!(entered, (0..20).collect::<Vec<_>>());
        let (_, active, _) = queue.lengths(at(600_000));
        assert!(active <= 2);
    }

    /// Two nodes that share only tokens: everybody gets in, and nobody is overtaken by more than
    /// one round of visits.
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
        assert!(enters(queue.visit(at(45_000), newcomer(100))));
    }

    /// The switch that holds everybody must not throw out those inside, and one address without a
    /// cookie is one visitor.
    #[test]
    fn paused_and_one_seat_an_address() {
        let queue = Queue::new(TERMS);
        assert_eq!(queue.visit(at(0), newcomer(1)), Turn::Enter { seat: 1 });
        let again = Visitor { name: 8, ..newcomer(1) };
        assert_eq!(
            queue.visit(at(1), again),
            Turn::Enter { seat: 1 },
            "it is the address's"
        );
        let named = Visitor {
            known: Some(1),
            claim: Claim::Seat { since: START },
            ..again
        };
        assert_eq!(queue.visit(at(2), named), Turn::Enter { seat: 1 });
        assert_eq!(queue.lengths(at(3)).1, 1);
        let paused = Queue::new(Terms { paused: true, ..TERMS });
        assert!(!enters(paused.visit(at(0), newcomer(1))));
        assert!(enters(paused.visit(at(0), session(77, START - 5_000))));
    }

    /// Passes of sessions, however many somebody has, would be as many seats; or who is inside
    /// would be thrown out by a restart.
    #[test]
    fn sessions_are_bounded_and_come_first_after_a_restart() {
        let queue = Queue::new(TERMS);
        let before = START - 60_000;
        let inside = (0..40)
            .filter(|n| enters(queue.visit(at(*n), session(1_000 + n, before))))
            .count();
        assert_eq!((inside, queue.lengths(at(50)).1), (2, 2));
        // Those of the session passes that found no room go by when they took their seats.
        let Turn::Wait { place, .. } = queue.visit(at(60), session(2_000, before + 7)) else {
            panic!("entered a full room");
        };
        assert_eq!(place, before + 7);
        // After a restart somebody who waits is first; those who were inside are let in all the
        // same.
        let queue = Queue::new(TERMS);
        assert!(!enters(
            queue.visit(at(0), waiter(1, before + 5_000, (START / 1_000) as u32))
        ));
        assert!(!enters(queue.visit(at(10), newcomer(2))));
        assert!(enters(queue.visit(at(5_000), session(3, before))));
        let Turn::Wait { place, due, .. } = queue.visit(at(10_000), waiter(1, before + 5_000, (START / 1_000) as u32))
        else {
            panic!("the first two polls are for those who were inside");
        };
        assert!(enters(queue.visit(at(20_000), waiter(1, place, due))));
        assert!(!enters(queue.visit(at(20_001), newcomer(9))));
    }

    /// Who asks again and again would stand in the way of all that came later, as many times as it
    /// asks.
    #[test]
    fn asking_again_changes_nothing() {
        let queue = Queue::new(TERMS);
        for n in 0..2 {
            assert!(enters(queue.visit(at(n), newcomer(n))));
        }
        let Turn::Wait { place, due, .. } = queue.visit(at(100), newcomer(7)) else {
            panic!("entered a full room");
        };
        let first = waiter(7, place, due);
        let told: Vec<_> = (0..50).map(|n| queue.visit(at(12_000 + n), first)).collect();
        let dues: Vec<_> = told
            .iter()
            .map(|turn| match turn {
                Turn::Wait {
                    place, due, ahead: 0, ..
                } => (*place, *due),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(dues.iter().all(|told| *told == dues[0] && told.0 == place), "{dues:?}");
        assert_eq!(queue.lengths(at(13_000)).0, 1);
        // A pass that names a seat and found no room asks as often as it likes, too.
        for n in 0..50 {
            assert!(!enters(queue.visit(at(13_000 + n), session(99, START))));
        }
        assert_eq!(queue.lengths(at(14_000)).0, 2);
        // One that is told and not counted leaves no trace.
        let foreign = Visitor {
            counts: false,
            ..newcomer(55)
        };
        for n in 0..50 {
            assert!(!enters(queue.visit(at(14_000 + n), foreign)));
        }
        assert_eq!(queue.lengths(at(15_000)).0, 2);
    }

    /// Who waits would lose its place to whoever comes later, because the wall clock was set.
    #[test]
    fn a_clock_that_jumps_changes_no_order() {
        const DAYS: i64 = 3 * 86_400_000;
        for ahead in [DAYS, -DAYS] {
            let queue = Queue::new(TERMS);
            let wrong = |ms: u64| Now {
                unix: Duration::from_millis((START + ms).saturating_add_signed(ahead)),
                ..at(ms)
            };
            assert!((0..2).all(|n| enters(queue.visit(wrong(n), newcomer(n)))));
            let told: Vec<_> = (10..30)
                .map(|n| match queue.visit(wrong(n * 300), newcomer(n)) {
                    Turn::Wait { place, due, .. } => (n, place, due),
                    Turn::Enter { .. } => panic!("entered a full room"),
                })
                .collect();
            // Set right; their passes are read as `sealed` moves them.
            let mut entered = Vec::new();
            let mut waiting: Vec<_> = told
                .into_iter()
                .map(|(n, place, due)| {
                    let moved = place.saturating_add_signed(-ahead);
                    (n, moved, (i64::from(due) - ahead / 1_000) as u32)
                })
                .collect();
            waiting.extend(
                (40..45).map(|n| match queue.visit(at(10_000 + (n - 40) * 300), newcomer(n)) {
                    Turn::Wait { place, due, .. } => (n, place, due),
                    Turn::Enter { .. } => panic!("overtook all"),
                }),
            );
            for ms in (12_000..500_000).step_by(500) {
                // Whoever came last asks first.
                for (n, place, due) in waiting.iter_mut().rev() {
                    if u64::from(*due) * 1_000 > START + ms {
                        continue;
                    }
                    match queue.visit(at(ms), waiter(*n, *place, *due)) {
                        Turn::Enter { .. } => {
                            entered.push(*n);
                            *due = u32::MAX;
                        }
                        Turn::Wait { due: later, .. } => *due = later,
                    }
                }
            }
            assert_eq!(entered.len(), 25, "{ahead}");
            for (position, n) in entered.iter().enumerate() {
                let own = if *n < 30 { *n - 10 } else { *n - 20 };
                assert!((position as u64).abs_diff(own) <= 2, "{ahead}: {entered:?}");
            }
        }
    }

    /// One network would hold the whole room, or those of it who wait in vain would keep the seats
    /// empty for all.
    #[test]
    fn a_site_has_its_share() {
        let queue = Queue::new(Terms {
            active: 10,
            per_network: 4,
            ..TERMS
        });
        let of_site = |n| Visitor { site: 1, ..newcomer(n) };
        assert_eq!((0..100).filter(|n| enters(queue.visit(at(*n), of_site(*n)))).count(), 4);
        assert_eq!(
            (200..300).filter(|n| enters(queue.visit(at(*n), newcomer(*n)))).count(),
            6
        );
        assert_eq!(queue.lengths(at(300)).1, 10);
    }
}
