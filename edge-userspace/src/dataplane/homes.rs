//! The node's own addresses, for the program: what is for another one passes, because the machine
//! may route, bridge or host others. `links` looks at them again whenever the kernel says that
//! something has changed.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use edge_common::{HOMES, Homes, LOCALS, mapped, maps};
use ipnet::IpNet;

use super::error::Error;

/// Bits in front of an IPv4 address in the map's keys.
const MAPPED: u8 = 96;

/// The map `LOCAL`.
pub(super) struct Local {
    trie: Mutex<LpmTrie<MapData, [u32; 4], u32>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// That of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = ebpf.take_map(maps::LOCAL).ok_or(Error::Missing("map LOCAL"))?;
        Ok(Self {
            trie: Mutex::new(map.try_into().map_err(Error::map(maps::LOCAL))?),
        })
    }

    /// Makes these the node's, and no others. New ones first, so that none is missed in between.
    pub(super) fn write(&self, ours: &[IpNet]) -> Result<(), Error> {
        let mut trie = self.trie();
        let old: Vec<_> = trie
            .keys()
            .filter_map(Result::ok)
            .map(|key| (key.prefix_len(), key.data()))
            .collect();
        let new: Vec<_> = ours
            .iter()
            .map(key)
            .take(usize::try_from(LOCALS).unwrap_or(usize::MAX))
            .collect();
        if ours.len() > new.len() {
            tracing::warn!(
                addresses = ours.len(),
                judged = new.len(),
                "this machine has more addresses than the program holds: what is for the others is not judged by it"
            );
        }
        for (length, data) in new.iter().filter(|key| !old.contains(key)) {
            trie.insert(&Key::new(*length, *data), 1, 0)
                .map_err(Error::map(maps::LOCAL))?;
        }
        for (length, data) in old.iter().filter(|key| !new.contains(key)) {
            gone(trie.remove(&Key::new(*length, *data))).map_err(Error::map(maps::LOCAL))?;
        }
        Ok(())
    }

    fn trie(&self) -> MutexGuard<'_, LpmTrie<MapData, [u32; 4], u32>> {
        self.trie.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// The networks that are the node's: of the addresses it listens on those that are one address, and
/// for each wildcard what of that version this machine has.
pub(super) fn ours(listening: &[IpAddr], locals: &[IpNet]) -> Vec<IpNet> {
    let mut ours: Vec<IpNet> = Vec::new();
    for address in listening.iter().map(IpAddr::to_canonical) {
        if address.is_unspecified() {
            ours.extend(locals.iter().filter(|net| net.addr().is_ipv4() == address.is_ipv4()));
        } else {
            ours.push(address.into());
        }
    }
    ours.sort();
    ours.dedup();
    ours
}

/// Those of them that the program compares before it asks the map: single addresses that clients
/// may come to.
pub(super) fn homes(ours: &[IpNet]) -> Homes {
    let mut homes = Homes::NONE;
    let single = ours
        .iter()
        .filter(|net| net.prefix_len() == net.max_prefix_len() && !net.addr().is_loopback());
    let mut found = (0, 0);
    for network in single {
        match network {
            IpNet::V4(v4) if found.0 < HOMES => {
                if let Some(home) = homes.v4.get_mut(found.0) {
                    *home = u32::from_ne_bytes(v4.addr().octets());
                    found.0 += 1;
                }
            }
            IpNet::V6(v6) if found.1 < HOMES && !v6.addr().is_unicast_link_local() => {
                if let Some(home) = homes.v6.get_mut(found.1) {
                    *home = words(v6.addr().octets());
                    found.1 += 1;
                }
            }
            _ => {}
        }
    }
    homes
}

fn key(network: &IpNet) -> (u32, [u32; 4]) {
    match network {
        IpNet::V4(v4) => (
            (MAPPED + v4.prefix_len()).into(),
            mapped(u32::from_ne_bytes(v4.network().octets())),
        ),
        IpNet::V6(v6) => (v6.prefix_len().into(), words(v6.network().octets())),
    }
}

fn words(octets: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Another's address taken for ours ends its QUIC in a lockdown; one of ours missed is judged
    /// by the daemon alone.
    #[test]
    fn a_wildcard_is_what_the_machine_has_and_an_address_is_itself() {
        let locals = nets(&[
            "127.0.0.0/8",
            "192.0.2.1/32",
            "::1/128",
            "2001:db8::1/128",
            "fe80::1/128",
        ]);
        assert_eq!(
            ours(&addresses(&["0.0.0.0", "192.0.2.1"]), &locals),
            nets(&["127.0.0.0/8", "192.0.2.1/32"])
        );
        assert_eq!(
            ours(&addresses(&["::", "198.51.100.7"]), &locals),
            nets(&["198.51.100.7/32", "::1/128", "2001:db8::1/128", "fe80::1/128"])
        );
        // An address that is not there yet (a floating one) is ours as soon as somebody listens on
        // it.
        assert_eq!(
            ours(&addresses(&["::ffff:203.0.113.9"]), &locals),
            nets(&["203.0.113.9/32"])
        );
    }

    /// Keys of the two families that meet would make an IPv6 address ours for an IPv4 one's sake.
    #[test]
    fn keys_and_homes() {
        let [v4, net, v6] = ["192.0.2.1/32", "127.0.0.0/8", "2001:db8::1/128"].map(|text| key(&text.parse().unwrap()));
        assert_eq!(v4.0, 128);
        assert_eq!(v4.1.map(u32::from_be), [0, 0, 0xffff, 0xc000_0201]);
        assert_eq!((net.0, net.1.map(u32::from_be)), (104, [0, 0, 0xffff, 0x7f00_0000]));
        assert_eq!((v6.0, v6.1.map(u32::from_be)), (128, [0x2001_0db8, 0, 0, 1]));
        let homes = homes(&nets(&[
            "127.0.0.0/8",
            "192.0.2.1/32",
            "::1/128",
            "2001:db8::1/128",
            "fe80::1/128",
        ]));
        assert!(homes.has_v4(u32::from_ne_bytes([192, 0, 2, 1])) && homes.has_v6(v6.1));
        assert_eq!(
            (homes.v4[1], homes.v6[1]),
            (0, [0; 4]),
            "loopback and link-local ones wait for the map"
        );
    }
}
