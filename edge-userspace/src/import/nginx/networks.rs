//! What a list of `allow` and `deny` comes to, in which the first line that fits decides: the
//! networks that may pass, or those that may not. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// Who may pass by a list, and who may not: every address is in one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) allowed: Vec<IpNet>,
    pub(super) denied: Vec<IpNet>,
}

/// Addresses from the first number to the last one.
type Range = (u128, u128);

/// One family's addresses.
#[derive(Clone, Copy)]
struct Family {
    last: u128,
    subnets: fn(Range) -> Vec<IpNet>,
}

const V4: Family = Family {
    last: u32::MAX as u128,
    subnets: |(from, to)| {
        let address = |n: u128| Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX));
        Ipv4Subnets::new(address(from), address(to), 0).map(IpNet::V4).collect()
    },
};
const V6: Family = Family {
    last: u128::MAX,
    subnets: |(from, to)| {
        Ipv6Subnets::new(Ipv6Addr::from(from), Ipv6Addr::from(to), 0)
            .map(IpNet::V6)
            .collect()
    },
};

/// What `lines` come to; each says whether it allows, and which network (`None`: all).
pub(super) fn access(lines: &[(bool, Option<IpNet>)]) -> Access {
    let mut access = Access::default();
    for family in [V4, V6] {
        let (mut open, mut passes, mut fails) = (vec![(0, family.last)], Vec::new(), Vec::new());
        for (allows, network) in lines {
            let range = match network {
                None => (0, family.last),
                Some(network) if (family.last == V4.last) == matches!(network, IpNet::V4(_)) => range(network),
                Some(_) => continue,
            };
            let (within, rest) = divided(&open, range);
            open = rest;
            if *allows { &mut passes } else { &mut fails }.extend(within);
        }
        passes.extend(open);
        access
            .allowed
            .extend(joined(passes).into_iter().flat_map(family.subnets));
        access.denied.extend(joined(fails).into_iter().flat_map(family.subnets));
    }
    access
}

fn range(network: &IpNet) -> Range {
    match network {
        IpNet::V4(v4) => (u32::from(v4.network()).into(), u32::from(v4.broadcast()).into()),
        IpNet::V6(v6) => (u128::from(v6.network()), u128::from(v6.broadcast())),
    }
}

/// The parts of `open` within `range`, and those outside of it.
fn divided(open: &[Range], (from, to): Range) -> (Vec<Range>, Vec<Range>) {
    let (mut within, mut rest) = (Vec::new(), Vec::new());
    for &(first, last) in open {
        if last < from || first > to {
            rest.push((first, last));
            continue;
        }
        within.push((first.max(from), last.min(to)));
        if first < from {
            rest.push((first, from - 1));
        }
        if last > to {
            rest.push((to + 1, last));
        }
    }
    (within, rest)
}

/// Ranges side by side as one.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(from) => last.1 = to,
            _ => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn lines(text: &str) -> Vec<(bool, Option<IpNet>)> {
        let line = |line: &str| {
            let (word, who) = line.split_once(' ').unwrap();
            let network = || {
                who.parse()
                    .ok()
                    .or_else(|| who.parse::<IpAddr>().ok().map(IpNet::from))
                    .unwrap()
            };
            (word == "allow", (who != "all").then(network))
        };
        text.split(';').map(line).collect()
    }

    /// Somebody would be let in who was kept out by nginx.
    #[test]
    fn the_first_line_that_fits_decides() {
        let addresses = [
            "192.168.1.1",
            "192.168.1.2",
            "192.168.2.1",
            "10.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "2001:db8::1",
            "::",
            "2001:db9::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        for text in [
            "deny all",
            "allow all",
            "deny 192.168.1.1",
            "allow 192.168.1.0/24;deny all",
            "deny 192.168.1.1;allow 192.168.1.0/24;allow 10.1.1.0/16;allow 2001:db8::/32;deny all",
            "allow 192.168.1.2;deny 192.168.1.0/24",
            "deny 0.0.0.0/0",
            "allow 10.0.0.1;deny 0.0.0.0/0;allow ::1",
            "allow 0.0.0.0/1;deny 128.0.0.0/1;deny ::/0",
            "deny 10.0.0.0/8;allow all;deny all",
        ] {
            let lines = lines(text);
            let access = access(&lines);
            for address in addresses {
                let address: IpAddr = address.parse().unwrap();
                let first = lines
                    .iter()
                    .find(|(_, network)| network.is_none_or(|network| network.contains(&address)));
                let passes = first.is_none_or(|(allows, _)| *allows);
                let among = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
                assert_eq!(among(&access.allowed), passes, "{text}: {address}: {access:?}");
                assert_eq!(among(&access.denied), !passes, "{text}: {address}: {access:?}");
            }
        }
        assert!(access(&[]).denied.is_empty());
        assert!(access(&lines("deny all")).allowed.is_empty());
        let few = access(&lines("allow 192.168.1.0/24;deny all"));
        assert_eq!(few.allowed, ["192.168.1.0/24".parse::<IpNet>().unwrap()]);
        let one = access(&lines("deny 192.168.1.1"));
        assert_eq!(one.denied, ["192.168.1.1/32".parse::<IpNet>().unwrap()]);
    }
}
