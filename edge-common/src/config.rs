//! What the daemon tells the program while it runs: the edge's ports, and filters that keep the
//! list look-ups off the path of most packets. One array element, because then one look-up finds it
//! all.

/// A set of ports, one bit each: bit `port % 64` of word `port / 64`, port in host order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ports {
    words: [u64; 1024],
}

impl Ports {
    /// No port.
    pub const EMPTY: Self = Self { words: [0; 1024] };

    /// Adds a port (host order).
    pub const fn insert(&mut self, port: u16) {
        self.words[(port >> 6) as usize] |= 1 << (port & 63);
    }

    /// Whether the port (host order) is in the set.
    #[inline(always)]
    pub const fn contains(&self, port: u16) -> bool {
        // At most 1023 whatever the port: in bounds without a check at run time.
        self.words[(port >> 6) as usize] >> (port & 63) & 1 != 0
    }
}

/// A filter in front of one IPv6 list: 65,536 bits, one for each bucket of addresses. A bit that is
/// off says that no entry of the list covers any address of the bucket, so most clean clients cost
/// one load and no look-up, and an empty list is never looked up. A bit that is on says nothing.
/// Bits must be set before the entries they stand for.
///
/// The list of single addresses hashes the whole address to its bucket, the list of prefixes the
/// first 32 bits (a provider's allocation: /32 or shorter, RIPE-738). IPv4 has `v4_bucket` instead.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Near {
    words: [u64; 1024],
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4): the upper half of the
/// product.
#[inline(always)]
const fn bucket(word: u32) -> u16 {
    (word.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

/// Four words to one. Only addresses that an operator listed are ever found by it, so that nobody
/// gains by a collision.
#[inline(always)]
const fn fold(words: [u32; 4]) -> u32 {
    let [a, b, c, d] = words;
    a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d.rotate_left(24)
}

impl Near {
    /// No bucket: no look-up is ever made.
    pub const EMPTY: Self = Self { words: [0; 1024] };

    #[inline(always)]
    const fn contains(&self, bucket: u16) -> bool {
        // At most 1023, as in `Ports`.
        self.words[(bucket >> 6) as usize] >> (bucket & 63) & 1 != 0
    }

    const fn insert(&mut self, bucket: u16) {
        self.words[(bucket >> 6) as usize] |= 1 << (bucket & 63);
    }

    /// Whether the list may hold this IPv6 address (words in host order, the first one first).
    #[inline(always)]
    pub const fn contains_v6_address(&self, address: [u32; 4]) -> bool {
        self.contains(bucket(fold(address)))
    }

    /// Whether a prefix of the list may cover an IPv6 address with these first 32 bits (host
    /// order).
    #[inline(always)]
    pub const fn contains_v6(&self, high: u32) -> bool {
        self.contains(bucket(high))
    }

    /// Covers one IPv6 address (words in host order, the first one first).
    pub const fn insert_v6_address(&mut self, address: [u32; 4]) {
        self.insert(bucket(fold(address)));
    }

    /// Covers an IPv6 prefix with these first 32 bits (host order). Below /16 every bucket is in
    /// reach, and all are set.
    pub fn insert_v6(&mut self, high: u32, length: u8) {
        let free = 32_u8.saturating_sub(length);
        if free > 16 {
            self.words = [u64::MAX; 1024];
            return;
        }
        let first = high & !((1_u32 << free) - 1);
        for offset in 0..1_u32 << free {
            self.insert(bucket(first | offset));
        }
    }
}

/// Flag of [`Config`]: attempts on no list are judged by penalties and tokens.
pub const GATE_ON: u32 = 1;
/// Flag of [`Config`]: attempts on no list are judged because of the [`lockdown`](crate::lockdown),
/// whether or not any zone has a gate.
pub const LOCKDOWN_ON: u32 = 2;
/// Flag of [`Config`]: some interface has no Ethernet header (TUN, WireGuard, PPP, IPIP, GRE); the
/// map `BARE` names them.
pub const BARE_DEVICES: u32 = 4;

/// Flag of [`Config`]: TCP segments that start no connection are judged, because of a flood of
/// them.
pub const ACKS_CHECKED: u32 = 8;

/// Addresses and prefixes that the map `LOCAL` holds; what is for one beyond them passes unjudged.
pub const LOCALS: u32 = 4_096;
/// Interfaces that the map `BARE` holds.
pub const BARES: u32 = 256;

/// Addresses of each IP version that [`Homes`] holds.
pub const HOMES: usize = 4;

/// The addresses that clients mostly connect to, compared before the map `LOCAL` is asked: most
/// nodes have one or two. All zeros is no entry: neither 0.0.0.0 nor `::` is anybody's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Homes {
    /// IPv4, network order.
    pub v4: [u32; HOMES],
    /// IPv6, network order.
    pub v6: [[u32; 4]; HOMES],
}

impl Homes {
    /// None: the map is always asked.
    pub const NONE: Self = Self {
        v4: [0; HOMES],
        v6: [[0; 4]; HOMES],
    };

    /// Whether this IPv4 address (network order) is among them.
    #[inline(always)]
    pub const fn has_v4(&self, address: u32) -> bool {
        let [a, b, c, d] = self.v4;
        address != 0 && (a == address || b == address || c == address || d == address)
    }

    /// Whether this IPv6 address (network order) is among them.
    #[inline(always)]
    pub const fn has_v6(&self, address: [u32; 4]) -> bool {
        let [a, b, c, d] = &self.v6;
        let some = address[0] | address[1] | address[2] | address[3];
        some != 0 && (same(a, address) || same(b, address) || same(c, address) || same(d, address))
    }
}

#[inline(always)]
const fn same(home: &[u32; 4], address: [u32; 4]) -> bool {
    (home[0] ^ address[0]) | (home[1] ^ address[1]) | (home[2] ^ address[2]) | (home[3] ^ address[3]) == 0
}

/// Key of the map `LOCAL` for an IPv4 address (network order): the IPv4-mapped IPv6 address, whose
/// first 96 bits every IPv4 prefix of the map begins with.
#[inline(always)]
pub const fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// The one element of the map `CONFIG`. All zeros, as a fresh map has it, passes everything.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    /// Sends an event for one in so many drops of a reason on a CPU; 0 sends none.
    pub event_sample: u32,
    /// [`GATE_ON`], [`LOCKDOWN_ON`], [`BARE_DEVICES`], [`ACKS_CHECKED`].
    pub flags: u32,
    /// Some of the node's addresses; the map `LOCAL` has them all.
    pub homes: Homes,
    /// Ports whose TCP SYNs are attempts on the edge.
    pub tcp_ports: Ports,
    /// Ports whose UDP datagrams are QUIC for the edge.
    pub udp_ports: Ports,
    /// Filter in front of `V6_EXACT`.
    pub near_v6_exact: Near,
    /// Filter in front of `V6_PREFIX`.
    pub near_v6_prefix: Near,
}

impl Config {
    /// No port is the edge's: every packet passes as not ours.
    pub const EMPTY: Self = Self {
        event_sample: 0,
        flags: 0,
        homes: Homes::NONE,
        tcp_ports: Ports::EMPTY,
        udp_ports: Ports::EMPTY,
        near_v6_exact: Near::EMPTY,
        near_v6_prefix: Near::EMPTY,
    };
}

const _: () = {
    assert!(size_of::<Ports>() == 8192);
    assert!(size_of::<Near>() == 8192);
    assert!(size_of::<Homes>() == 80);
    assert!(size_of::<Config>() == 88 + 4 * 8192);
    assert!(core::mem::offset_of!(Config, homes) == 8);
    assert!(core::mem::offset_of!(Config, tcp_ports) == 88);
    assert!(core::mem::offset_of!(Config, near_v6_exact) == 88 + 2 * 8192);
    assert!(core::mem::offset_of!(Config, near_v6_prefix) == 88 + 3 * 8192);
};

// SAFETY: `repr(C)`, only integers and arrays of them, no padding (the size asserted above is the
// sum of the fields).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Config {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_set_holds_its_ports_and_no_neighbour() {
        let mut ports = Ports::EMPTY;
        for port in [0, 443, 65535] {
            ports.insert(port);
        }
        for port in 0..=u16::MAX {
            assert_eq!(ports.contains(port), matches!(port, 0 | 443 | 65535), "{port}");
        }
    }

    /// Attempts on the node's own address would pass as somebody else's, or a stranger's be judged.
    #[test]
    fn homes_are_whole_addresses_and_zeros_are_none() {
        let mut homes = Homes::NONE;
        assert!(!homes.has_v4(0) && !homes.has_v6([0; 4]));
        homes.v4[3] = 7;
        homes.v6[2] = [1, 2, 3, 4];
        assert!(homes.has_v4(7) && !homes.has_v4(8) && !homes.has_v4(0));
        assert!(homes.has_v6([1, 2, 3, 4]) && !homes.has_v6([1, 2, 3, 5]) && !homes.has_v6([0; 4]));
    }

    /// A bucket missed here would let a denied client in.
    #[test]
    fn the_filter_covers_every_address_of_a_prefix() {
        for length in 0..=32_u8 {
            let mut near = Near::EMPTY;
            let network = 0xc633_6428_u32 & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let last = network | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            near.insert_v6(network, length);
            for address in [network, last, network | (last & 0x5555_5555)] {
                assert!(near.contains_v6(address), "{address:x}/{length}");
            }
        }
    }
}
