//! What may be sent to an address that has proven nothing: three times the bytes that came from it
//! (RFC 9000 section 8.1). quinn counts too, but as long as a byte is left it sends a whole
//! datagram more. `tap` counts what comes and asks before it sends; `session` opens a [`Budget`]
//! for a connection of such an address and closes it when a packet under Handshake keys was opened.
//! What is beyond the budget is held, not dropped: quinn waits as it does for a full socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use quinn::udp::Transmit;

use super::initial::{self, Cid, LEAST};

/// RFC 9000 section 8.1.
const TIMES: u64 = 3;
/// Addresses whose bytes are known before a connection of theirs is accepted, per socket: half of
/// them are younger than the other half. A flood that pushes one out leaves it with the bytes of
/// one datagram. 8,192 entries of 48 bytes.
const MOST: usize = 8_192;
/// How long an attempt may take from the socket to [`Budgets::open`], at least.
const LIFE: Duration = Duration::from_secs(3);

/// The budgets of one socket.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    /// Addresses with an open budget: while there are none, sending asks nothing more.
    open: AtomicUsize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    young: HashMap<SocketAddr, u64>,
    old: HashMap<SocketAddr, u64>,
    since: Option<Instant>,
    /// At most one for each handshake that has proven nothing, which the node bounds.
    accounts: HashMap<SocketAddr, Account>,
}

/// One address's.
#[derive(Debug, Default)]
struct Account {
    came: u64,
    went: u64,
    connections: Vec<Held>,
    waiting: Vec<Waker>,
}

/// One connection to it.
#[derive(Debug)]
struct Held {
    number: usize,
    /// Our connection id, which its packets with long headers have as their source; `None` before
    /// quinn has chosen it.
    id: Option<Cid>,
    /// Bytes of the present transmit that have been sent.
    sent: usize,
    /// Bytes that have to be free before it is tried again.
    needs: u64,
    /// The address is proven: only the rest of the present transmit is left to be told apart.
    proven: bool,
}

/// A connection's share of its address's budget; dropped, the connection is gone.
#[derive(Debug)]
pub(super) struct Budget {
    budgets: Arc<Budgets>,
    address: SocketAddr,
    number: usize,
}

/// A transmit that a budget bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bounded {
    /// Whose it is.
    pub(super) of: (SocketAddr, Cid),
    /// The part of its content that may be sent now.
    pub(super) part: Range<usize>,
    /// More follows when the budget allows it.
    pub(super) more: bool,
}

impl Budgets {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A datagram with an Initial packet, of `length` bytes, has come `from` there.
    pub(super) fn came(&self, now: Instant, from: SocketAddr, length: usize) {
        let length = length as u64;
        let mut books = self.books();
        if let Some(account) = books.accounts.get_mut(&from) {
            account.came = account.came.saturating_add(length);
            account.wake();
            return;
        }
        let old = books
            .since
            .is_none_or(|since| now.saturating_duration_since(since) > LIFE);
        if books.young.len() >= MOST / 2 || old {
            books.old = std::mem::take(&mut books.young);
            books.since = Some(now);
        }
        let sum = books.young.entry(from).or_default();
        *sum = sum.saturating_add(length);
    }

    /// Opens the budget of a connection of `address`, the attempt of which has come.
    pub(super) fn open(self: &Arc<Self>, address: SocketAddr) -> Budget {
        let mut books = self.books();
        let known = [books.young.remove(&address), books.old.remove(&address)];
        let came = known.into_iter().flatten().fold(0, u64::saturating_add);
        let account = books.accounts.entry(address).or_insert_with(|| {
            self.open.fetch_add(1, Ordering::Relaxed);
            Account {
                // quinn takes no shorter one.
                came: (LEAST as u64).max(came),
                ..Account::default()
            }
        });
        let number = account
            .connections
            .iter()
            .map(|held| held.number)
            .max()
            .map_or(0, |last| last.wrapping_add(1));
        account.connections.push(Held {
            number,
            id: None,
            sent: 0,
            needs: 0,
            proven: false,
        });
        Budget {
            budgets: self.clone(),
            address,
            number,
        }
    }

    /// What of `transmit` may be sent now; `None`: all of it, for it is of no connection that is
    /// bounded.
    pub(super) fn bound(&self, transmit: &Transmit<'_>) -> Option<Bounded> {
        if self.open.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // Before the address is proven, the session gives quinn no keys for packets with short
        // headers.
        let id = initial::long_source(transmit.contents)?;
        let mut books = self.books();
        let account = books.accounts.get_mut(&transmit.destination)?;
        let left = TIMES.saturating_mul(account.came).saturating_sub(account.went);
        let held = account.connections.iter_mut().find(|held| held.id == Some(id))?;
        let whole = transmit.contents.len();
        let rest = whole.saturating_sub(held.sent);
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let segment = transmit.segment_size.unwrap_or(whole).max(1);
        let now = match held.proven || rest <= most {
            true => rest,
            false => most / segment * segment,
        };
        held.needs = segment.min(rest.saturating_sub(now)) as u64;
        Some(Bounded {
            of: (transmit.destination, id),
            part: held.sent..held.sent.saturating_add(now),
            more: now < rest,
        })
    }

    /// That part has been sent.
    pub(super) fn sent(&self, bounded: &Bounded) {
        let mut books = self.books();
        let Some(account) = books.accounts.get_mut(&bounded.of.0) else {
            return;
        };
        account.went = account.went.saturating_add(bounded.part.len() as u64);
        let Some(at) = account
            .connections
            .iter()
            .position(|held| held.id == Some(bounded.of.1))
        else {
            return;
        };
        if let Some(held) = account.connections.get_mut(at) {
            held.sent = if bounded.more { bounded.part.end } else { 0 };
            if held.proven && !bounded.more {
                account.connections.swap_remove(at);
            }
        }
        self.close(&mut books, bounded.of.0);
    }

    /// Whether the connection can send more; if not, `waker` is told when that may have changed.
    pub(super) fn ready(&self, (address, id): (SocketAddr, Cid), waker: &Waker) -> bool {
        let mut books = self.books();
        let Some(account) = books.accounts.get_mut(&address) else {
            return true;
        };
        let left = TIMES.saturating_mul(account.came).saturating_sub(account.went);
        let Some(held) = account.connections.iter().find(|held| held.id == Some(id)) else {
            return true;
        };
        if held.proven || held.needs <= left {
            return true;
        }
        if !account.waiting.iter().any(|one| one.will_wake(waker)) {
            account.waiting.push(waker.clone());
        }
        false
    }

    /// Forgets an address without connections.
    fn close(&self, books: &mut Books, address: SocketAddr) {
        if books
            .accounts
            .get(&address)
            .is_some_and(|account| account.connections.is_empty())
        {
            books.accounts.remove(&address);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Account {
    fn wake(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }
}

impl Budget {
    /// The connection's packets have this source id.
    pub(super) fn name(&self, id: Cid) {
        self.with(|held| held.id = Some(id));
    }

    /// The address is proven: the connection sends what it likes.
    pub(super) fn prove(&self) {
        self.with(|held| held.proven = true);
        let mut books = self.budgets.books();
        if let Some(account) = books.accounts.get_mut(&self.address) {
            // One of which half a transmit is sent stays until the other half is.
            account
                .connections
                .retain(|held| held.number != self.number || held.sent > 0);
            account.wake();
        }
        self.budgets.close(&mut books, self.address);
    }

    fn with(&self, change: impl FnOnce(&mut Held)) {
        let mut books = self.budgets.books();
        let account = books.accounts.get_mut(&self.address);
        let held = account.and_then(|account| {
            let mut connections = account.connections.iter_mut();
            connections.find(|held| held.number == self.number)
        });
        if let Some(held) = held {
            change(held);
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let mut books = self.budgets.books();
        if let Some(account) = books.accounts.get_mut(&self.address) {
            account.connections.retain(|held| held.number != self.number);
            account.wake();
        }
        self.budgets.close(&mut books, self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 8] = [7; 8];

    fn address() -> SocketAddr {
        "192.0.2.1:4433".parse().unwrap()
    }

    /// What a server sends: long headers, ours the source id.
    fn packets(length: usize) -> Vec<u8> {
        let mut packet = vec![0xc0, 0, 0, 0, 1, 2, 9, 9, 8];
        packet.extend(ID);
        packet.resize(length, 1);
        packet
    }

    fn transmit(contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
        Transmit {
            destination: address(),
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        }
    }

    /// How much of `length` bytes goes out now.
    fn send(budgets: &Budgets, length: usize, segment: usize) -> Option<usize> {
        let packets = packets(length);
        let bounded = budgets.bound(&transmit(&packets, Some(segment)))?;
        if !bounded.part.is_empty() {
            budgets.sent(&bounded);
        }
        Some(bounded.part.len())
    }

    /// Whoever spoofs an address would have this node send its owner more than three times what he
    /// sent himself.
    #[test]
    fn three_times_what_came_and_not_a_datagram_more() {
        let budgets = Arc::new(Budgets::default());
        let now = Instant::now();
        budgets.came(now, address(), 1_200);
        let budget = budgets.open(address());
        budget.name(Cid::new(&ID).unwrap());
        assert_eq!(send(&budgets, 1_100, 1_200), Some(1_100));
        assert_eq!(send(&budgets, 2_400, 1_200), Some(2_400));
        // 100 bytes are left: no datagram, and nothing beyond.
        assert_eq!(send(&budgets, 1_200, 1_200), Some(0));
        assert_eq!(send(&budgets, 100, 1_200), Some(100));
        assert_eq!(send(&budgets, 40, 40), Some(0));
        let waker = Waker::noop();
        assert!(!budgets.ready((address(), Cid::new(&ID).unwrap()), waker));
        // What comes gives more, and what was begun goes on where it was.
        budgets.came(now, address(), 1_200);
        assert!(budgets.ready((address(), Cid::new(&ID).unwrap()), waker));
        let packets = packets(6_000);
        let first = budgets.bound(&transmit(&packets, Some(1_200))).unwrap();
        assert_eq!((first.part.clone(), first.more), (0..3_600, true));
        budgets.sent(&first);
        budget.prove();
        let rest = budgets.bound(&transmit(&packets, Some(1_200))).unwrap();
        assert_eq!((rest.part.clone(), rest.more), (3_600..6_000, false));
        budgets.sent(&rest);
        assert_eq!(send(&budgets, 60_000, 1_200), None, "proven");
        drop(budget);
        assert_eq!(budgets.open.load(Ordering::Relaxed), 0);
    }

    /// A connection that lives behind the same address and port would stall when somebody else's
    /// attempt is spoofed from there.
    #[test]
    fn other_connections_of_the_address_are_not_bounded() {
        let budgets = Arc::new(Budgets::default());
        let budget = budgets.open(address());
        budget.name(Cid::new(&[1; 8]).unwrap());
        assert_eq!(send(&budgets, 60_000, 1_200), None);
        let short = [0x40; 1_200];
        assert_eq!(budgets.bound(&transmit(&short, None)), None);
        budget.name(Cid::new(&ID).unwrap());
        assert_eq!(send(&budgets, 60_000, 1_200), Some(3_600));
        // Two attempts of one address share what came from it.
        let other = budgets.open(address());
        drop(budget);
        other.name(Cid::new(&ID).unwrap());
        assert_eq!(send(&budgets, 1_200, 1_200), Some(0));
        drop(other);
        assert!(budgets.books().accounts.is_empty());
    }

    /// A flood would fill the memory.
    #[test]
    fn what_is_known_of_attempts_is_bounded() {
        let budgets = Budgets::default();
        for port in 0..30_000 {
            budgets.came(Instant::now(), SocketAddr::new(address().ip(), port), 1_200);
        }
        let books = budgets.books();
        assert!(books.young.len() + books.old.len() <= MOST);
    }
}
