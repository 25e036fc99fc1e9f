//! Who has been let in after a wait: so that a client which cannot show its token for once is known
//! all the same, and one whose network changes need not wait again.
//!
//! A client is known by the name that its TLS session or its connection has. Its address vouches
//! for it where a browser sends no cookie though it holds one: coming back from another site
//! (SameSite), or to another host of the zone. And its token, written for one prefix, is good in
//! [`MOVES`] other sites (IPv6 /48, IPv4 /24), and in no more: shared among many networks, it is
//! worth nothing in the next one.

use std::net::IpAddr;
use std::time::Duration;

use super::clock::nanos;
use super::prefixes;
use super::table::{Table, Worth};

/// Sites in which a token is good, besides the one that it was written for, on one node.
pub(super) const MOVES: usize = 16;
/// An address vouches for so long after its client was seen.
const VOUCHED: Duration = Duration::from_secs(600);

/// The clients inside, of all zones of a node.
#[derive(Debug)]
pub(super) struct Inside {
    names: Table<u64, Known>,
    addresses: Table<u64, Known>,
    moved: Table<u64, Moved>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    client: u64,
    until: Duration,
    owners: [u32; 2],
}

impl Worth for Known {
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        nanos(self.until.saturating_sub(now))
    }

    fn owners(&self) -> [u32; 2] {
        self.owners
    }
}

/// Where a client's token has been shown.
#[derive(Clone, Copy, Debug)]
struct Moved {
    sites: [u32; MOVES],
    many: u8,
    until: Duration,
    /// The token is of somebody who has waited: what else is shown elsewhere costs one request.
    waited: bool,
    owners: [u32; 2],
}

impl Worth for Moved {
    /// In a full set one goes of whoever has most there. So nobody keeps others from moving by
    /// showing tokens elsewhere, and to have one of its own forgotten, which would be good in as
    /// many networks again, somebody has to fill the table with waits that it kept.
    const KEEPS: bool = false;

    fn worth(&self, now: Duration) -> u64 {
        match (self.until > now, self.waited) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => nanos(self.until).max(2),
        }
    }

    fn owners(&self) -> [u32; 2] {
        self.owners
    }
}

impl Moved {
    fn sites(&self) -> &[u32] {
        self.sites.get(..self.many.into()).unwrap_or_default()
    }
}

impl Inside {
    /// Tables for so many `clients`.
    pub(super) fn new(clients: usize) -> Self {
        Self {
            names: Table::new(clients / 4),
            addresses: Table::new(clients / 8),
            moved: Table::new(clients / 16),
        }
    }

    /// `client`, which has waited, is let in by `zone` until `until` at least. It comes from
    /// `prefix`, by a connection that has this `name`.
    pub(super) fn admit(
        &self,
        now: Duration,
        zone: u64,
        client: u64,
        name: Option<u64>,
        prefix: IpAddr,
        until: Duration,
    ) {
        let owners = prefixes::owners(prefix);
        let known = |until| Known { client, until, owners };
        let names = std::iter::once(client).chain(name.filter(|name| *name != client));
        for name in names {
            let key = self.names.hash((zone, name));
            self.names.update(key, now, || known(until), |old| *old = known(until));
        }
        let until = until.min(now + VOUCHED);
        let key = self.addresses.hash((zone, prefix));
        self.addresses
            .update(key, now, || known(until), |old| *old = known(until));
    }

    /// The client whose session or connection, or which itself, has this `name`.
    pub(super) fn named(&self, now: Duration, zone: u64, name: u64) -> Option<u64> {
        let known = self.names.find(self.names.hash((zone, name)));
        known.filter(|known| known.until > now).map(|known| known.client)
    }

    /// The client that was let in last from `prefix`.
    pub(super) fn behind(&self, now: Duration, zone: u64, prefix: IpAddr) -> Option<u64> {
        let known = self.addresses.find(self.addresses.hash((zone, prefix)));
        known.filter(|known| known.until > now).map(|known| known.client)
    }

    /// Whether the token of `client`, which ends at `until` and is not of this `prefix`, is good
    /// there: the first sites it is shown in are remembered. Its bearer has `waited`.
    pub(super) fn moves(
        &self,
        now: Duration,
        zone: u64,
        (client, waited): (u64, bool),
        prefix: IpAddr,
        until: Duration,
    ) -> bool {
        let (key, site) = (self.moved.hash((zone, client)), prefixes::site(prefix));
        // What was waited for goes last, from whichever site of it.
        let [allocation, _] = prefixes::owners(prefix);
        let none = || Moved {
            sites: [0; MOVES],
            many: 0,
            until,
            waited,
            owners: [allocation; 2],
        };
        self.moved.update(key, now, none, |moved| {
            moved.until = moved.until.max(until);
            moved.waited |= waited;
            if !moved.sites().contains(&site)
                && let Some(free) = moved.sites.get_mut(usize::from(moved.many))
            {
                *free = site;
                moved.many += 1;
            }
            moved.sites().contains(&site)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One wait would let in as many machines as share its token.
    #[test]
    fn a_token_is_good_in_few_networks() {
        let inside = Inside::new(4_096);
        let (now, until) = (Duration::from_secs(1), Duration::from_secs(3_600));
        let moves = |n: u8, host| inside.moves(now, 1, (7, true), IpAddr::from([10, n, 0, host]), until);
        assert_eq!((0..100).filter(|n| moves(*n, 1)).count(), MOVES);
        assert!(moves(0, 1) && moves(15, 200) && !moves(16, 1));
        assert!(
            inside.moves(now, 2, (7, true), IpAddr::from([10, 99, 0, 1]), until),
            "of another zone"
        );
    }

    /// Whoever has two addresses would fill the table with tokens that cost a request each; then
    /// nobody with two address families would be let in any more, or a token be good everywhere
    /// again.
    #[test]
    fn a_flood_of_moves_costs_itself_its_places() {
        let (now, until) = (Duration::from_secs(1), Duration::from_secs(3_600));
        let small = Inside::new(1);
        let bot = |n: u64| IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
        let moves = |client: u64, waited, prefix: IpAddr, until| small.moves(now, 1, (client, waited), prefix, until);
        for n in 0..MOVES as u8 {
            assert!(moves(7, true, IpAddr::from([10, 1, n, 1]), until));
        }
        for client in 1_000..100_000 {
            moves(client, false, bot(client), until * 2);
        }
        let homes = |n: u64| IpAddr::from([100, n as u8, 0, 1]);
        assert!(
            (0..100).all(|n| moves(200_000 + n, false, homes(n), until)),
            "others move"
        );
        assert!(
            !moves(7, true, IpAddr::from([10, 99, 0, 1]), until),
            "and no more often"
        );
    }

    /// A visitor would be taken for another one, or be let in for ever.
    #[test]
    fn names_and_addresses() {
        let inside = Inside::new(4_096);
        let (at, home) = (Duration::from_secs, IpAddr::from([10, 1, 0, 1]));
        inside.admit(at(0), 1, 7, Some(70), home, at(3_600));
        assert_eq!(
            [7, 70, 8].map(|name| inside.named(at(1), 1, name)),
            [Some(7), Some(7), None]
        );
        assert_eq!((inside.named(at(1), 2, 7), inside.named(at(3_600), 1, 7)), (None, None));
        assert_eq!(inside.behind(at(599), 1, home), Some(7));
        assert_eq!(
            (inside.behind(at(600), 1, home), inside.behind(at(1), 2, home)),
            (None, None)
        );
    }
}
