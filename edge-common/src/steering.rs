//! Which socket of a QUIC listener a datagram goes to: by the connection id that the daemon gave
//! out ([`cid`](crate::cid)), so that a client whose address changes stays with its worker, and a
//! daemon that is being replaced keeps its connections. Several sockets are bound to one address
//! (SO_REUSEPORT); the program `steer` picks one of them, by its slot.

use crate::cid::Route;

/// Addresses that can be steered at once.
pub const LISTENERS: u32 = 8;
/// Workers of a daemon that can be steered to.
pub const WORKERS: u32 = 256;
/// Daemons that are told apart: all that ids name.
pub const GENERATIONS: u32 = crate::cid::GENERATIONS as u32;
/// Entries of the map of sockets.
pub const SLOTS: u32 = LISTENERS * WORKERS * GENERATIONS;

/// The slot of a socket; `None` beyond the bounds.
#[inline(always)]
pub const fn slot(listener: u32, route: Route) -> Option<u32> {
    let (generation, worker) = (route.generation as u32, route.worker as u32);
    if listener >= LISTENERS || worker >= WORKERS || generation >= GENERATIONS {
        return None;
    }
    Some((listener * GENERATIONS + generation) * WORKERS + worker)
}

/// The one element of the map `STEERING`: where a datagram goes that names no socket of ours. All
/// zeros, as a fresh map has it, leaves that to the kernel's hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// The daemon that takes new connections, modulo [`GENERATIONS`].
    pub generation: u32,
    /// Its workers, of which the hash of addresses and ports picks one; 0 leaves it to the kernel.
    pub workers: u32,
}

/// The address that a socket is bound to: the key of the map `LISTENERS`, whose value is the
/// listener's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Four or sixteen bytes in network order, then zeros.
    pub address: [u32; 4],
    /// In host order.
    pub port: u32,
    /// 4 or 6.
    pub family: u32,
}

const _: () = {
    assert!(size_of::<Steering>() == 8);
    assert!(size_of::<Listener>() == 24);
};

// SAFETY: `repr(C)`, only integers and arrays of them, no padding (the size asserted above is the
// sum of the fields).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Steering {}
// SAFETY: as for `Steering`.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Listener {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets in one slot are a worker that never hears of its connections.
    #[test]
    fn slots_are_apart_and_within_the_map() {
        let route = |generation, worker| Route { generation, worker };
        assert_eq!(slot(0, route(0, 0)), Some(0));
        assert_eq!(slot(LISTENERS - 1, route(63, 255)), Some(SLOTS - 1));
        assert_eq!(slot(0, route(0, 255)).map(|slot| slot + 1), slot(0, route(1, 0)));
        assert_eq!(slot(0, route(63, 255)).map(|slot| slot + 1), slot(1, route(0, 0)));
        assert_eq!(slot(LISTENERS, route(0, 0)), None);
        assert_eq!(slot(0, route(0, 256)), None);
    }
}
