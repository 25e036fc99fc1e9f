//! The addresses of one server's name, as all workers know them: asked for while they are used,
//! dealt in turns, left for a while after a failure, and given up when answers no longer have them.
//! `pool` and `connect` ask.
//!
//! The system's resolver tells no TTL, so that a short one is assumed; our own does (`resolver`).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ConnectError;
use super::public::public;
use super::resolver::{Found, Resolver};
use crate::config::value::OriginAddress;

/// How long addresses are used before the name is asked again, if the answer does not say, and how
/// long they serve when it then has no answer.
const FRESH: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(600);
/// An address that was in no answer for this long is given up: two answers, so that a resolver that
/// gives some of many addresses at a time does not end connections at each.
const LOST: Duration = Duration::from_secs(20);
/// How long an address that could not be connected to is passed over.
const SHUNNED: Duration = Duration::from_secs(10);
/// Addresses that are remembered. Names have fewer; an answer that has more is cut.
const MOST: usize = 64;

/// What is known of one server's name.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: Mutex<Known>,
    turn: AtomicUsize,
    /// Somebody asks.
    asking: AtomicBool,
    public_only: bool,
    whom: Whom,
}

/// Who is asked for addresses.
#[derive(Debug, Default)]
pub(super) enum Whom {
    /// The system's resolver.
    #[default]
    System,
    /// Name servers, for those of the host.
    Host(Resolver),
    /// Name servers, for those of a service's servers.
    Service(Resolver),
}

#[derive(Debug, Default)]
struct Known {
    /// When the last answer came.
    at: Option<Instant>,
    /// How long it holds.
    holds: Duration,
    /// The last answer.
    latest: Arc<[SocketAddr]>,
    /// Those that connections may be at.
    addresses: Vec<Address>,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    at: SocketAddr,
    /// When an answer last had it.
    seen: Instant,
    /// When connecting to it failed.
    failed: Option<Instant>,
}

/// The addresses that connections may be at, now.
#[derive(Debug)]
pub(super) struct Valid(Option<Vec<SocketAddr>>);

impl Valid {
    /// Any address will do.
    pub(super) fn any() -> Self {
        Self(None)
    }

    /// Whether `address` is one of them.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.0.as_ref().is_none_or(|all| all.contains(&address))
    }
}

impl Names {
    /// Nothing known yet. `public_only` leaves out addresses that are not of the public Internet.
    pub(super) fn new(public_only: bool, whom: Whom) -> Self {
        Self {
            public_only,
            whom,
            ..Self::default()
        }
    }

    /// The addresses of `server`, in the resolver's order; asked for if what is known is too old.
    ///
    /// # Errors
    /// No answer, or none but addresses that may not be connected to.
    pub(super) async fn resolve(&self, server: &OriginAddress) -> Result<Arc<[SocketAddr]>, ConnectError> {
        {
            let known = self.lock();
            if known.at.is_some_and(|at| at.elapsed() < known.holds) && !known.latest.is_empty() {
                return Ok(known.latest.clone());
            }
        }
        self.ask(server).await
    }

    async fn ask(&self, server: &OriginAddress) -> Result<Arc<[SocketAddr]>, ConnectError> {
        let Found { addresses, holds } = match &self.whom {
            Whom::Host(resolver) => resolver.host(&server.host, server.port).await,
            Whom::Service(resolver) => resolver.service(&server.host).await,
            Whom::System => Found {
                addresses: match tokio::net::lookup_host((server.host.as_str(), server.port)).await {
                    Ok(found) => found.collect(),
                    Err(_) => Vec::new(),
                },
                holds: FRESH,
            },
        };
        self.learn(addresses, holds, Instant::now())
    }

    /// Takes an answer of the resolver.
    fn learn(
        &self,
        mut found: Vec<SocketAddr>,
        holds: Duration,
        now: Instant,
    ) -> Result<Arc<[SocketAddr]>, ConnectError> {
        let mut known = self.lock();
        if found.is_empty() {
            let usable = known.at.is_some_and(|at| now.duration_since(at) < STALE) && !known.latest.is_empty();
            return usable.then(|| known.latest.clone()).ok_or(ConnectError::Resolve);
        }
        if self.public_only {
            // Judged here, between the one answer of the resolver and the connections to what it
            // named: a name that is asked twice can be answered twice (DNS rebinding).
            found.retain(|address| public(address.ip()));
            if found.is_empty() {
                return Err(ConnectError::Private);
            }
        }
        found.truncate(MOST);
        for address in &found {
            match known.addresses.iter_mut().find(|known| known.at == *address) {
                Some(known) => known.seen = now,
                None => known.addresses.push(Address {
                    at: *address,
                    seen: now,
                    failed: None,
                }),
            }
        }
        known
            .addresses
            .retain(|address| now.duration_since(address.seen) < LOST);
        known.at = Some(now);
        known.holds = holds;
        known.latest = found.into();
        Ok(known.latest.clone())
    }

    /// Connecting to `address` failed.
    pub(super) fn failed(&self, address: SocketAddr) {
        let mut known = self.lock();
        if let Some(known) = known.addresses.iter_mut().find(|known| known.at == address) {
            known.failed = Some(Instant::now());
        }
    }

    /// The address that the next request is for, if the name has several: each in turn, and those
    /// that failed lately only if all did.
    pub(super) fn turn(&self, now: Instant) -> Option<SocketAddr> {
        let known = self.lock();
        if known.latest.len() < 2 {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let shunned = |address: &SocketAddr| {
            let known = known.addresses.iter().find(|known| known.at == *address);
            known
                .and_then(|known| known.failed)
                .is_some_and(|at| now.duration_since(at) < SHUNNED)
        };
        let good = known.latest.iter().filter(|address| !shunned(address)).count();
        let nth = turn.checked_rem(good)?;
        known
            .latest
            .iter()
            .filter(|address| !shunned(address))
            .nth(nth)
            .copied()
    }

    /// The addresses that connections may be at. All, while nothing is known.
    pub(super) fn valid(&self, now: Instant) -> Valid {
        let known = self.lock();
        if known.at.is_none() {
            return Valid::any();
        }
        let valid = known
            .addresses
            .iter()
            .filter(|address| now.duration_since(address.seen) < LOST || known.latest.contains(&address.at));
        Valid(Some(valid.map(|address| address.at).collect()))
    }

    /// Whether the name is to be asked again, by the caller and nobody else: [`Names::ask_again`].
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let known = self.lock();
        let due = known.at.is_some_and(|at| now.duration_since(at) >= known.holds);
        drop(known);
        due && !self.asking.swap(true, Ordering::Relaxed)
    }

    /// Asks once more, after [`Names::is_due`].
    pub(super) async fn ask_again(&self, server: &OriginAddress) {
        let _asking = Asking(&self.asking);
        if self.ask(server).await.is_err() {
            // Not again for each request; what is known goes on to serve.
            tokio::time::sleep(FRESH / 10).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Asking<'a>(&'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// `addresses` in the order in which they are tried: `first`, then the families in turn (RFC 8305
/// section 4), each in the resolver's order.
pub(super) fn ordered(addresses: &[SocketAddr], first: Option<SocketAddr>) -> Vec<SocketAddr> {
    let first = first
        .filter(|first| addresses.contains(first))
        .or_else(|| addresses.first().copied());
    let Some(first) = first else {
        return Vec::new();
    };
    let others = |same: bool| {
        addresses
            .iter()
            .copied()
            .filter(move |a| *a != first && (a.is_ipv6() == first.is_ipv6()) == same)
    };
    let (mut other, mut same) = (others(false), others(true));
    let mut all = vec![first];
    loop {
        let before = all.len();
        all.extend(other.next());
        all.extend(same.next());
        if all.len() == before {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// All requests would go to one of several machines, or on to one that cannot be reached.
    #[test]
    fn addresses_take_turns() {
        let names = Names::new(false, Whom::System);
        let now = Instant::now();
        assert_eq!(names.turn(now), None);
        let three = ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"].map(at);
        names.learn(three.to_vec(), FRESH, now).unwrap();
        let turns: Vec<_> = (0..6).filter_map(|_| names.turn(now)).collect();
        assert_eq!(turns, [three, three].concat());
        names.failed(three[1]);
        let turns: Vec<_> = (0..4).filter_map(|_| names.turn(now)).collect();
        assert!(!turns.contains(&three[1]) && turns.contains(&three[0]) && turns.contains(&three[2]));
        assert!((0..3).any(|_| names.turn(now + SHUNNED + FRESH) == Some(three[1])));
        three.iter().for_each(|address| names.failed(*address));
        assert_eq!(names.turn(now), None, "the resolver's order, then");
    }

    /// Connections would stay at a machine that was given up, or be ended by a resolver that gives
    /// some addresses at a time.
    #[test]
    fn lost_addresses_are_given_up() {
        let names = Names::new(false, Whom::System);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (old, new) = (at("127.0.0.1:1"), at("127.0.0.2:1"));
        assert!(names.valid(start).has(old), "nothing is known yet");
        names.learn(vec![old], FRESH, start).unwrap();
        names.learn(vec![new], FRESH, after(10)).unwrap();
        assert!(names.valid(after(11)).has(old) && names.valid(after(11)).has(new));
        names.learn(vec![new], FRESH, after(20)).unwrap();
        assert!(!names.valid(after(20)).has(old) && names.valid(after(20)).has(new));
        // No answer is no loss.
        assert_eq!(*names.learn(Vec::new(), FRESH, after(300)).unwrap(), [new]);
        assert!(names.valid(after(300)).has(new));
        assert!(names.learn(Vec::new(), FRESH, after(700)).is_err());
    }

    /// A worker's name that is pointed into the operator's network.
    #[test]
    fn private_addresses_are_left_out() {
        let names = Names::new(true, Whom::System);
        let now = Instant::now();
        let answer = vec![at("10.0.0.1:80"), at("8.8.8.8:80")];
        assert_eq!(*names.learn(answer, FRESH, now).unwrap(), [at("8.8.8.8:80")]);
        let private = names.learn(vec![at("10.0.0.1:80")], FRESH, now);
        assert!(matches!(private, Err(ConnectError::Private)));
        assert!(!names.valid(now).has(at("10.0.0.1:80")));
    }

    /// A family that does not work would cost every connection its head start over and over.
    #[test]
    fn families_alternate() {
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"].map(at);
        assert_eq!(ordered(&all, None), [all[0], all[3], all[1], all[4], all[2]]);
        assert_eq!(ordered(&all, Some(all[4])), [all[4], all[0], all[3], all[1], all[2]]);
        assert_eq!(ordered(&all, Some(at("9.9.9.9:9")))[0], all[0]);
        assert!(ordered(&[], None).is_empty());
    }
}
