//! The networks around a client's prefix. An IPv4 address and an IPv6 /64 stand for a client;
//! whoever has a site has 256 of them or 65,536, and whoever allocates has thousands of sites. What
//! counts and what is remembered by a client's prefix is bounded by these networks, too, so that
//! nobody gets more by coming from many places of one network.

use std::net::{IpAddr, Ipv6Addr};

use super::pass::mix;

/// A network wider than a client's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Names it in tables that are keyed by addresses; no client's prefix is written so.
    pub(super) key: IpAddr,
    /// How many clients' share its newcomers have together before anybody there has proven
    /// anything.
    pub(super) clients: u32,
}

/// The networks that clients of one customer come from: IPv6 /56 and /48, IPv4 /24.
pub(super) fn around(prefix: IpAddr) -> impl Iterator<Item = Network> {
    let networks: [Option<(u32, u32)>; 2] = match prefix {
        IpAddr::V4(_) => [Some((24, 32)), None],
        IpAddr::V6(_) => [Some((56, 8)), Some((48, 32))],
    };
    networks.into_iter().flatten().map(move |(length, clients)| Network {
        key: network(prefix, length),
        clients,
    })
}

/// The site that a prefix is of: IPv6 /48, IPv4 /24.
pub(super) fn site(prefix: IpAddr) -> u32 {
    number(network(prefix, if prefix.is_ipv4() { 24 } else { 48 }))
}

/// Whose entries make room for whose in a full table: the allocation that a prefix is of (IPv6 /29,
/// the default allocation of a registry; IPv4 /16), and its site.
pub(super) fn owners(prefix: IpAddr) -> [u32; 2] {
    [
        number(network(prefix, if prefix.is_ipv4() { 16 } else { 29 })),
        site(prefix),
    ]
}

/// The first `length` bits of an address, with the length in the lowest: a key that no /64 and no
/// IPv4 address has.
fn network(prefix: IpAddr, length: u32) -> IpAddr {
    let (bits, family) = match prefix {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 4),
        IpAddr::V6(v6) => (u128::from(v6), 6),
    };
    let kept = bits & !(u128::MAX >> length.min(127));
    IpAddr::V6(Ipv6Addr::from(kept | family << 8 | u128::from(length)))
}

/// 32 bits of it, the same in each run and on each node. Who finds two networks of one number gains
/// that they share.
fn number(network: IpAddr) -> u32 {
    let bits = match network {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    (mix(high ^ mix(low)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::peer::client_prefix;

    fn of(text: &str) -> IpAddr {
        client_prefix(text.parse().unwrap())
    }

    /// A site would count as many, or two sites as one; or a network would be taken for a client of
    /// its own.
    #[test]
    fn sites_and_networks() {
        for (one, other, same) in [
            ("2001:db8:1:2::1", "2001:db8:1:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:2:2::1", false),
            ("192.0.2.1", "192.0.2.255", true),
            ("192.0.2.1", "192.0.3.1", false),
        ] {
            assert_eq!(site(of(one)) == site(of(other)), same, "{one} {other}");
        }
        assert_eq!(owners(of("2001:db8::1"))[0], owners(of("2001:dbf:ffff::1"))[0]);
        assert_ne!(owners(of("2001:db8::1"))[0], owners(of("2001:dc0::1"))[0]);
        for text in ["2001:db8::", "192.0.2.0", "::"] {
            let prefix = of(text);
            let keys: Vec<_> = around(prefix).map(|network| network.key).collect();
            assert!(
                keys.iter().all(|key| *key != prefix && client_prefix(*key) != *key),
                "{keys:?}"
            );
        }
        let keys = |text| around(of(text)).map(|network| network.key).collect::<Vec<_>>();
        assert_eq!(keys("2001:db8:1:200::")[1], keys("2001:db8:1:300::")[1]);
        assert_ne!(keys("2001:db8:1:200::")[0], keys("2001:db8:1:300::")[0]);
    }
}
