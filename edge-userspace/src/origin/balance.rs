//! Which server next: smooth weighted round robin, or the least loaded. Pure; `exchange` asks, one
//! balancer per worker.

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
}

/// The turn of one worker.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: Balance,
    /// Smooth round robin's credit of each server.
    credit: Vec<i64>,
}

impl Balancer {
    /// A balancer for `servers` servers; `first` moves the start, so that workers do not all begin
    /// with one server.
    pub(super) fn new(policy: Balance, servers: usize, first: usize) -> Self {
        let mut credit = vec![0; servers];
        if let Some(start) = first.checked_rem(servers).and_then(|at| credit.get_mut(at)) {
            *start = 1;
        }
        Self { policy, credit }
    }

    /// The next server that is not in `tried`; among those `Up`, else among the `Suspect`; `None`
    /// when none may be asked. Of each the turn is kept among the servers in question only, so one
    /// that comes back is not flooded.
    pub(super) fn choose<S: Candidate>(&mut self, servers: &[S], tried: &[usize]) -> Option<usize> {
        if let [only] = servers {
            return (tried.is_empty() && only.standing() != Standing::Down).then_some(0);
        }
        [Standing::Up, Standing::Suspect].into_iter().find_map(|standing| {
            self.among(servers, |at, server| {
                server.standing() == standing && !tried.contains(&at)
            })
        })
    }

    /// As [`Balancer::choose`], among those `Up` alone.
    pub(super) fn choose_up<S: Candidate>(&mut self, servers: &[S], tried: &[usize]) -> Option<usize> {
        self.among(servers, |at, server| {
            server.standing() == Standing::Up && !tried.contains(&at)
        })
    }

    fn among<S: Candidate>(&mut self, servers: &[S], eligible: impl Fn(usize, &S) -> bool) -> Option<usize> {
        let least = match self.policy {
            Balance::RoundRobin => None,
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
    }

    fn turns(policy: Balance, servers: &[Fake], n: usize) -> String {
        let mut balancer = Balancer::new(policy, servers.len(), 0);
        (0..n)
            .map(|_| {
                balancer
                    .choose(servers, &[])
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
        let mut balancer = Balancer::new(Balance::RoundRobin, 3, 0);
        assert_eq!(balancer.choose(&servers, &[2]), Some(1));
        assert_eq!(balancer.choose(&servers, &[2, 1]), None);
        assert_eq!(balancer.choose_up(&servers, &[]), Some(2));
        assert_eq!(balancer.choose_up(&servers, &[2]), None);
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
