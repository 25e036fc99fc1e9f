//! Which server next: smooth weighted round robin, the least loaded, or the one that a key belongs
//! to. Pure; `exchange` asks, one balancer per worker.

use std::sync::Arc;

use super::maglev::{self, Table};
use crate::config::Balance;

/// Whether a server may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing speaks against it.
    Up,
    /// It failed requests lately (passive check). A guess, so it is still tried when no server is
    /// `Up`.
    Suspect,
    /// Its active checks fail. Never chosen: the operator asked for the check, and a server that
    /// starts up again is spared the traffic.
    Down,
}

/// What the choice depends on.
pub(super) trait Candidate {
    /// Share of the requests, at least 1.
    fn weight(&self) -> u32;
    /// Requests under way.
    fn load(&self) -> usize;
    /// Whether it may be chosen.
    fn standing(&self) -> Standing;
    /// Servers of a greater one are asked only while none of a lesser one may be.
    fn priority(&self) -> u8;
}

/// The turn of one worker.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: Balance,
    /// Smooth round robin's credit of each server.
    credit: Vec<i64>,
    /// Where keys belong, with [`Balance::Hash`].
    table: Option<Arc<Table>>,
}

impl Balancer {
    /// A balancer for `servers` servers; `first` moves the start, so that workers do not all begin
    /// with one server.
    pub(super) fn new(policy: Balance, servers: usize, first: usize, table: Option<Arc<Table>>) -> Self {
        let mut credit = vec![0; servers];
        if let Some(start) = first.checked_rem(servers).and_then(|at| credit.get_mut(at)) {
            *start = 1;
        }
        Self { policy, credit, table }
    }

    /// The next server that is not in `tried`; among those `Up`, else among the `Suspect`; `None`
    /// when none may be asked. Of each the turn is kept among the servers in question only, so one
    /// that comes back is not flooded. With a table, a request with a `key` goes to that key's
    /// server.
    pub(super) fn choose<S: Candidate>(&mut self, servers: &[S], tried: &[usize], key: Option<u64>) -> Option<usize> {
        if let [only] = servers {
            return (tried.is_empty() && only.standing() != Standing::Down).then_some(0);
        }
        [Standing::Up, Standing::Suspect]
            .into_iter()
            .find_map(|standing| self.standing(servers, standing, tried, key))
    }

    /// As [`Balancer::choose`], among those `Up` alone.
    pub(super) fn choose_up<S: Candidate>(
        &mut self,
        servers: &[S],
        tried: &[usize],
        key: Option<u64>,
    ) -> Option<usize> {
        self.standing(servers, Standing::Up, tried, key)
    }

    /// Among the servers of that standing that come first by priority.
    fn standing<S: Candidate>(
        &mut self,
        servers: &[S],
        standing: Standing,
        tried: &[usize],
        key: Option<u64>,
    ) -> Option<usize> {
        let may = |at: usize, server: &S| server.standing() == standing && !tried.contains(&at);
        let first = servers
            .iter()
            .enumerate()
            .filter(|(at, server)| may(*at, server))
            .map(|(_, server)| server.priority())
            .min()?;
        let eligible = |at, server: &S| may(at, server) && server.priority() == first;
        if let (Some(table), Some(key)) = (self.table.clone(), key)
            && let Some(at) = hashed(&table, key, servers, eligible)
        {
            return Some(at);
        }
        self.among(servers, eligible)
    }

    fn among<S: Candidate>(&mut self, servers: &[S], eligible: impl Fn(usize, &S) -> bool) -> Option<usize> {
        let least = match self.policy {
            Balance::RoundRobin | Balance::Hash => None,
            Balance::LeastLoaded => servers
                .iter()
                .enumerate()
                .filter(|(at, server)| eligible(*at, server))
                .map(|(_, server)| (server.load(), server.weight()))
                .reduce(|a, b| if lighter(b, a) { b } else { a }),
        };
        // Among servers equally good the weights decide by turn (nginx's smooth weighted round
        // robin, commit 52327e0): each gains its weight, the richest is chosen and pays the sum.
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (at, (server, credit)) in servers.iter().zip(&mut self.credit).enumerate() {
            if !eligible(at, server) || least.is_some_and(|least| lighter(least, (server.load(), server.weight()))) {
                continue;
            }
            let weight = i64::from(server.weight());
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((at, *credit));
            }
        }
        let (at, _) = best?;
        if let Some(credit) = self.credit.get_mut(at) {
            *credit -= total;
        }
        Some(at)
    }
}

/// The server of `key` among those `eligible`, or the next one that is not far above its share of
/// what is under way.
fn hashed<S: Candidate>(table: &Table, key: u64, servers: &[S], eligible: impl Fn(usize, &S) -> bool) -> Option<usize> {
    let mut load = 0usize;
    let mut weight = 0u64;
    let takes: Vec<bool> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| {
            let takes = eligible(at, server);
            if takes {
                load = load.saturating_add(server.load());
                weight = weight.saturating_add(u64::from(server.weight()));
            }
            takes
        })
        .collect();
    table.find(key, |at| {
        let server = servers.get(at).filter(|_| takes.get(at) == Some(&true));
        server.is_some_and(|server| maglev::has_room(server.load(), load, server.weight(), weight))
    })
}

/// Whether `a` has fewer requests for its weight than `b`: load a / weight a < load b / weight b,
/// without the division.
fn lighter(a: (usize, u32), b: (usize, u32)) -> bool {
    (a.0 as u128) * u128::from(b.1) < (b.0 as u128) * u128::from(a.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(u32, usize, Standing);

    impl Candidate for Fake {
        fn weight(&self) -> u32 {
            self.0
        }
        fn load(&self) -> usize {
            self.1
        }
        fn standing(&self) -> Standing {
            self.2
        }
        fn priority(&self) -> u8 {
            0
        }
    }

    /// One with a priority.
    struct Reserve(Fake, u8);

    impl Candidate for Reserve {
        fn weight(&self) -> u32 {
            self.0.weight()
        }
        fn load(&self) -> usize {
            self.0.load()
        }
        fn standing(&self) -> Standing {
            self.0.standing()
        }
        fn priority(&self) -> u8 {
            self.1
        }
    }

    /// Spare servers would serve while the others can, or stand idle when these cannot.
    #[test]
    fn reserves_wait_for_their_turn() {
        let servers = |first, second| {
            [
                Reserve(Fake(1, 0, first), 0),
                Reserve(Fake(1, 0, second), 1),
                Reserve(Fake(9, 0, Standing::Up), 2),
            ]
        };
        let choose = |servers: &[Reserve]| Balancer::new(Balance::RoundRobin, 3, 0, None).choose(servers, &[], None);
        assert_eq!(choose(&servers(Standing::Up, Standing::Up)), Some(0));
        assert_eq!(choose(&servers(Standing::Down, Standing::Up)), Some(1));
        // One that failed lately is guessed to be away: a reserve that stands is better.
        assert_eq!(choose(&servers(Standing::Suspect, Standing::Down)), Some(2));
    }

    /// A visitor would lose the session that its server keeps; or a server that is down would keep
    /// its visitors.
    #[test]
    fn keys_stay_with_their_server() {
        let table = || Some(Arc::new(Table::new([("a", 1), ("b", 1), ("c", 1)].into_iter())));
        let all = [
            Fake(1, 0, Standing::Up),
            Fake(1, 0, Standing::Up),
            Fake(1, 0, Standing::Up),
        ];
        let mut balancer = Balancer::new(Balance::Hash, 3, 0, table());
        let mut other = Balancer::new(Balance::Hash, 3, 2, table());
        let mut counts = [0; 3];
        for n in 0..300u64 {
            let key = Some(maglev::key(&n.to_le_bytes()));
            let at = balancer.choose(&all, &[], key).unwrap();
            assert_eq!(other.choose(&all, &[], key), Some(at), "every worker finds the same");
            assert_ne!(balancer.choose(&all, &[at], key), Some(at), "a retry goes elsewhere");
            counts[at] += 1;
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
        let down = [
            Fake(1, 0, Standing::Up),
            Fake(1, 0, Standing::Down),
            Fake(1, 0, Standing::Up),
        ];
        assert!((0..100u64).all(|n| balancer.choose(&down, &[], Some(maglev::key(&n.to_le_bytes()))) != Some(1)));
        // Without a key the turn decides.
        assert_eq!(balancer.choose(&all, &[], None).into_iter().count(), 1);
    }

    fn turns(policy: Balance, servers: &[Fake], n: usize) -> String {
        let mut balancer = Balancer::new(policy, servers.len(), 0, None);
        (0..n)
            .map(|_| {
                balancer
                    .choose(servers, &[], None)
                    .map_or('-', |at| char::from(b'a' + u8::try_from(at).unwrap()))
            })
            .collect()
    }

    /// Otherwise a heavy server gets its share in bursts.
    #[test]
    fn round_robin_is_smooth() {
        let servers = [
            Fake(5, 0, Standing::Up),
            Fake(1, 0, Standing::Up),
            Fake(1, 0, Standing::Up),
        ];
        let turns = turns(Balance::RoundRobin, &servers, 7);
        assert_eq!(turns.matches('a').count(), 5);
        assert!(!turns.contains("aaaa"), "{turns}");
    }

    /// Traffic to a server that is down is lost; a guess must not take the whole zone down.
    #[test]
    fn standing_decides() {
        let servers = [
            Fake(1, 0, Standing::Down),
            Fake(1, 0, Standing::Suspect),
            Fake(1, 0, Standing::Up),
        ];
        assert_eq!(turns(Balance::RoundRobin, &servers, 3), "ccc");
        assert_eq!(turns(Balance::RoundRobin, &servers[..2], 3), "bbb");
        assert_eq!(turns(Balance::RoundRobin, &servers[..1], 1), "-");
        let mut balancer = Balancer::new(Balance::RoundRobin, 3, 0, None);
        assert_eq!(balancer.choose(&servers, &[2], None), Some(1));
        assert_eq!(balancer.choose(&servers, &[2, 1], None), None);
        assert_eq!(balancer.choose_up(&servers, &[], None), Some(2));
        assert_eq!(balancer.choose_up(&servers, &[2], None), None);
    }

    /// A slow server would collect requests.
    #[test]
    fn least_loaded_weighs_and_takes_turns() {
        let servers = [Fake(1, 2, Standing::Up), Fake(4, 7, Standing::Up)];
        assert_eq!(turns(Balance::LeastLoaded, &servers, 2), "bb");
        let even = [
            Fake(1, 1, Standing::Up),
            Fake(1, 1, Standing::Up),
            Fake(1, 9, Standing::Up),
        ];
        let turns = turns(Balance::LeastLoaded, &even, 4);
        assert_eq!(
            (turns.matches('a').count(), turns.matches('b').count()),
            (2, 2),
            "{turns}"
        );
    }
}
