//! The maps that the daemon writes: the tables of list entries and the configuration. One home for
//! the knowledge of which network lives in which table.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::Path;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use edge_common::{Config, Entry, V4_BUCKETS, maps, v4_bucket, v4_key, v4_length, v4_prefix};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::error::Error;

/// The maps that carry entries, in no order that matters.
pub(super) const TABLES: [&str; 3] = [maps::V4, maps::V6_EXACT, maps::V6_PREFIX];

/// The maps that the daemon writes.
pub(super) struct Tables {
    v4: HashMap<MapData, u64, Entry>,
    v4_lengths: Array<MapData, u64>,
    v6_exact: HashMap<MapData, [u8; 16], Entry>,
    v6_prefix: LpmTrie<MapData, [u8; 16], Entry>,
    config: Array<MapData, Config>,
    /// Entries that each table holds at most.
    capacity: u32,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Which table a network lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    V4,
    V6Exact,
    V6Prefix,
}

impl Kind {
    pub(super) fn of(network: &IpNet) -> Self {
        match network {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(network) if network.prefix_len() == 128 => Self::V6Exact,
            IpNet::V6(_) => Self::V6Prefix,
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::V4 => "IPv4 networks",
            Self::V6Exact => "IPv6 addresses",
            Self::V6Prefix => "IPv6 networks",
        }
    }

    const fn map(self) -> &'static str {
        match self {
            Self::V4 => maps::V4,
            Self::V6Exact => maps::V6_EXACT,
            Self::V6Prefix => maps::V6_PREFIX,
        }
    }
}

impl Tables {
    /// Those of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf, capacity: u32) -> Result<Self, Error> {
        Self::build(capacity, |name| {
            ebpf.take_map(name)
                .ok_or(Error::Missing("map for lists or configuration"))
        })
    }

    /// Those pinned in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let pinned = |name| MapData::from_pin(directory.join(name)).map_err(Error::map(name));
        let info = pinned(maps::V4)?.info().map_err(Error::map(maps::V4))?;
        Self::build(info.max_entries(), |name| {
            Map::from_map_data(pinned(name)?).map_err(Error::map(name))
        })
    }

    fn build(capacity: u32, mut map: impl FnMut(&'static str) -> Result<Map, Error>) -> Result<Self, Error> {
        Ok(Self {
            v4: map(maps::V4)?.try_into().map_err(Error::map(maps::V4))?,
            v4_lengths: map(maps::V4_LENGTHS)?
                .try_into()
                .map_err(Error::map(maps::V4_LENGTHS))?,
            v6_exact: map(maps::V6_EXACT)?.try_into().map_err(Error::map(maps::V6_EXACT))?,
            v6_prefix: map(maps::V6_PREFIX)?.try_into().map_err(Error::map(maps::V6_PREFIX))?,
            config: map(maps::CONFIG)?.try_into().map_err(Error::map(maps::CONFIG))?,
            capacity,
        })
    }

    /// Every entry of every table. Two system calls each.
    pub(super) fn entries(&self) -> Result<BTreeMap<IpNet, Entry>, Error> {
        let mut entries = BTreeMap::new();
        for item in self.v4.iter() {
            let (key, entry) = item.map_err(Error::map(maps::V4))?;
            if let Some(network) = v4_prefix(key).and_then(|(bits, length)| Ipv4Net::new(bits.into(), length).ok()) {
                entries.insert(network.into(), entry);
            }
        }
        for item in self.v6_exact.iter() {
            let (address, entry) = item.map_err(Error::map(maps::V6_EXACT))?;
            entries.insert(Ipv6Net::from(Ipv6Addr::from(address)).into(), entry);
        }
        for item in self.v6_prefix.iter() {
            let (key, entry) = item.map_err(Error::map(maps::V6_PREFIX))?;
            let length = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
            if let Ok(network) = Ipv6Net::new(Ipv6Addr::from(key.data()), length) {
                entries.insert(network.into(), entry);
            }
        }
        Ok(entries)
    }

    /// Which prefix lengths the program looks for, one word for each bucket. A system call each:
    /// some 20 ms.
    pub(super) fn lengths(&self) -> Result<Vec<u64>, Error> {
        (0..V4_BUCKETS).map(|bucket| self.length(bucket)).collect()
    }

    /// Makes the program look for prefixes of these lengths, where it looks for others now.
    pub(super) fn set_lengths(&mut self, now: &[u64], wanted: &[u64]) -> Result<(), Error> {
        for (bucket, (now, wanted)) in (0..V4_BUCKETS).zip(now.iter().zip(wanted)) {
            if now != wanted {
                self.v4_lengths
                    .set(bucket, wanted, 0)
                    .map_err(Error::map(maps::V4_LENGTHS))?;
            }
        }
        Ok(())
    }

    /// Makes the program look for this prefix too.
    pub(super) fn add_length(&mut self, network: &Ipv4Net) -> Result<(), Error> {
        for bucket in buckets(network) {
            let lengths = self.length(bucket)? | v4_length(network.prefix_len());
            self.v4_lengths
                .set(bucket, lengths, 0)
                .map_err(Error::map(maps::V4_LENGTHS))?;
        }
        Ok(())
    }

    fn length(&self, bucket: u32) -> Result<u64, Error> {
        self.v4_lengths.get(&bucket, 0).map_err(Error::map(maps::V4_LENGTHS))
    }

    /// Adds or replaces an entry.
    pub(super) fn write(&mut self, network: &IpNet, entry: Entry) -> Result<(), Error> {
        let kind = Kind::of(network);
        let written = match (network, kind) {
            (IpNet::V4(n), _) => self.v4.insert(key(n), entry, 0),
            (IpNet::V6(n), Kind::V6Exact) => self.v6_exact.insert(n.addr().octets(), entry, 0),
            (IpNet::V6(n), _) => self.v6_prefix.insert(&v6_key(n), entry, 0),
        };
        match written {
            Err(MapError::SyscallError(error))
                if matches!(error.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) =>
            {
                let entries = usize::try_from(self.capacity).unwrap_or(usize::MAX).saturating_add(1);
                Err(Error::ListFull {
                    kind: kind.plural(),
                    entries,
                    capacity: self.capacity,
                })
            }
            other => other.map_err(Error::map(kind.map())),
        }
    }

    /// Removes an entry that is there.
    pub(super) fn erase(&mut self, network: &IpNet) -> Result<(), Error> {
        let kind = Kind::of(network);
        match (network, kind) {
            (IpNet::V4(n), _) => self.v4.remove(&key(n)),
            (IpNet::V6(n), Kind::V6Exact) => self.v6_exact.remove(&n.addr().octets()),
            (IpNet::V6(n), _) => self.v6_prefix.remove(&v6_key(n)),
        }
        .map_err(Error::map(kind.map()))
    }

    /// The configuration as the program sees it.
    pub(super) fn config(&self) -> Result<Config, Error> {
        self.config.get(&0, 0).map_err(Error::map(maps::CONFIG))
    }

    /// Replaces it. Word by word under the program's eyes: each bit changes at once, all of them do
    /// not.
    pub(super) fn set_config(&mut self, config: &Config) -> Result<(), Error> {
        self.config.set(0, config, 0).map_err(Error::map(maps::CONFIG))
    }
}

fn key(network: &Ipv4Net) -> u64 {
    v4_key(network.addr().to_bits(), v4_length(network.prefix_len()))
}

/// The buckets that a prefix reaches into.
pub(super) fn buckets(network: &Ipv4Net) -> RangeInclusive<u32> {
    v4_bucket(network.network().to_bits())..=v4_bucket(network.broadcast().to_bits())
}

fn v6_key(network: &Ipv6Net) -> Key<[u8; 16]> {
    Key::new(u32::from(network.prefix_len()), network.addr().octets())
}
