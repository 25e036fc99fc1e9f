//! The connection ids that the daemon gives out: 8 bytes that look random to everybody else, and
//! tell whoever has the key that they are ours and which worker of which daemon holds the
//! connection.
//!
//! | bytes | | |
//! |---|---|---|
//! | 0..4 | nonce | random |
//! | 4..6 | route | little-endian, xor bits 0..16 of SipHash-2-4 over the nonce |
//! | 6..8 | mark | bits 16..32 of the same |
//!
//! RFC 9000 section 5.1: nothing may let an observer link two ids of one connection; nonce, masked
//! route and mark of two ids are unrelated without the key. A forged mark is right once in 65,536
//! times, and a route can be changed by who knows an id: both only choose which worker refuses the
//! packet.

use crate::siphash::{self, Key, Rounds};

/// Bytes of an id.
pub const LENGTH: usize = 8;
/// Bits of a route that name the worker; the others name the daemon.
pub const WORKER_BITS: u32 = 10;
/// Workers at most.
pub const WORKERS: u16 = 1 << WORKER_BITS;
/// Daemons at once: the present one, and those before it that still have connections.
pub const GENERATIONS: u16 = 1 << (16 - WORKER_BITS);

/// Where a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Counts the daemons, modulo [`GENERATIONS`].
    pub generation: u16,
    /// Below [`WORKERS`].
    pub worker: u16,
}

impl Route {
    const fn bits(self) -> u16 {
        (self.generation % GENERATIONS) << WORKER_BITS | (self.worker % WORKERS)
    }

    const fn of(bits: u16) -> Self {
        Self {
            generation: bits >> WORKER_BITS,
            worker: bits % WORKERS,
        }
    }
}

/// An id, as the little-endian reading of its bytes. `nonce` must be random for each.
#[inline(always)]
pub const fn encode(key: Key, nonce: u32, route: Route) -> u64 {
    let mask = siphash::words(Rounds::Two4, key, [nonce as u64]);
    nonce as u64 | ((route.bits() ^ mask as u16) as u64) << 32 | ((mask >> 16) as u16 as u64) << 48
}

/// Where the connection of this id is held; `None` if it is none of ours.
#[inline(always)]
pub const fn decode(key: Key, id: u64) -> Option<Route> {
    match open(key, id) {
        Some((route, _)) => Some(route),
        None => None,
    }
}

/// The same, with a number that the id is counted by: a keyed hash of its nonce. Who knows an id
/// can change its route, so the id itself would be 65,536 names for one.
#[inline(always)]
pub const fn open(key: Key, id: u64) -> Option<(Route, u64)> {
    let mask = siphash::words(Rounds::Two4, key, [id as u32 as u64]);
    if (id >> 48) as u16 != (mask >> 16) as u16 {
        return None;
    }
    Some((Route::of((id >> 32) as u16 ^ mask as u16), mask))
}

/// Whether the daemon of this generation may still have connections. `alive` has a bit for each one
/// that may; 0 is all.
#[inline(always)]
pub const fn lives(alive: u64, route: Route) -> bool {
    alive == 0 || alive >> (route.generation % GENERATIONS) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(3, 4);

    /// A packet that goes to another worker is a connection lost.
    #[test]
    fn routes_come_back() {
        for generation in [0, 1, GENERATIONS - 1] {
            for worker in [0, 1, WORKERS - 1] {
                let route = Route { generation, worker };
                for nonce in [0, 1, 0xdead_beef, u32::MAX] {
                    assert_eq!(decode(KEY, encode(KEY, nonce, route)), Some(route));
                }
            }
        }
    }

    /// One known id would pass a lockdown as often as there are routes; or a dead daemon's ids
    /// would for ever.
    #[test]
    fn an_id_with_another_route_is_counted_as_the_same() {
        let route = Route::of(77);
        let id = encode(KEY, 9, route);
        let (found, counted) = open(KEY, id).unwrap();
        assert_eq!(found, route);
        let (other, again) = open(KEY, id ^ 5 << 42).unwrap();
        assert_ne!(other, route);
        assert_eq!(again, counted);
        assert_ne!(open(KEY, encode(KEY, 10, route)).unwrap().1, counted);
        let of = |generation| Route { generation, worker: 1 };
        assert!(lives(0, of(5)), "nobody has said who is dead");
        assert!(lives(1 << 63, of(63)) && !lives(1 << 63, of(0)));
    }

    /// In lockdown an id of ours passes without a token.
    #[test]
    fn strangers_ids_are_none_of_ours() {
        let mut id = 1_u64;
        let taken = (0..1_000_000)
            .filter(|_| {
                id = id
                    .wrapping_mul(0x5851_f42d_4c95_7f2d)
                    .wrapping_add(0x1405_7b7e_f767_814f);
                decode(KEY, id).is_some()
            })
            .count();
        assert!((1..60).contains(&taken), "{taken} of a million; 15 are expected");
        assert_eq!(decode(Key(4, 4), encode(KEY, 7, Route::of(5))), None);
    }
}
