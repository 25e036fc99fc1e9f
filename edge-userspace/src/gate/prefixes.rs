//! The networks around a client's prefix. An IPv4 address and an IPv6 /64 stand for a client;
//! whoever has a site has 256 of them or 65,536, and whoever allocates has thousands of sites. What
//! counts and what is remembered by a client's prefix is bounded by these networks, too, so that
//! nobody gets more by coming from many places of one network.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::pass::mix;

/// A network wider than a client's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Names it in tables that are keyed by addresses; no client's prefix is written so.
    pub(super) key: IpAddr,
    /// The network itself.
    pub(super) net: IpNet,
    /// How many of its addresses may be struck, within the time in which each is counted once,
    /// before the network is, while nobody there has proven anything.
    pub(super) offenders: u32,
    /// How many newcomers may be told to wait there, and not come back as they were told, at once
    /// and in a minute. `None`: a provider may have many behind it who have nothing to do with each
    /// other.
    pub(super) unkept: Option<u32>,
    /// How many clients' share its newcomers have together before anybody there has proven
    /// anything.
    pub(super) clients: u32,
}

/// The networks that clients of one customer come from: IPv6 /56 and /48, IPv4 /24.
pub(super) fn around(prefix: IpAddr) -> impl Iterator<Item = Network> {
    // Bits, clients, offenders, and who may not come back.
    let networks: &'static [(u8, u32, u32, Option<u32>)] = match prefix {
        IpAddr::V4(_) => &[(24, 32, 64, None)],
        IpAddr::V6(_) => &[(56, 8, 64, Some(256)), (48, 32, 128, Some(1_024))],
    };
    networks
        .iter()
        .map(move |(length, clients, offenders, unkept)| Network {
            key: network(prefix, (*length).into()),
            net: whole(prefix, *length),
            clients: *clients,
            offenders: *offenders,
            unkept: *unkept,
        })
}

/// The same network as addresses are written.
fn whole(prefix: IpAddr, length: u8) -> IpNet {
    // No length here is beyond its version's bits.
    IpNet::new(prefix, length).map_or_else(|_| IpNet::from(prefix), |net| net.trunc())
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
        for prefix in ["2001:db8:1:203::", "192.0.2.7"].map(of) {
            for network in around(prefix) {
                assert!(network.net.contains(&prefix) && network.net == network.net.trunc());
            }
        }
    }
}
