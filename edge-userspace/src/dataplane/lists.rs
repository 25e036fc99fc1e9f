//! The operator's lists: allow and deny from the configuration, deny from `edge deny`. The kernel's tables are the only
//! store: each entry carries who wants it, so that a reload leaves run-time entries alone, a restart finds them again, and
//! an entry that left the configuration goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use edge_common::{
    ALLOW, ALLOW_CONFIGURED, Config, DENY, DENY_CONFIGURED, DENY_RUNTIME, Entry, Ports, V4_BUCKETS, v4_length,
};
use ipnet::{IpNet, Ipv6Net};

use super::error::Error;
use super::pins::{Lock, Pins};
use super::tables::{Kind, Tables, buckets};
use crate::config;

/// The lists in the kernel. Every operation holds the pin directory's lock, so that a daemon and an `edge deny` beside it
/// do not undo each other's work.
#[derive(Debug)]
pub struct Lists {
    tables: Mutex<Tables>,
    pins: Option<Pins>,
    /// Deny entries at the last change through this value; for metrics.
    denied: AtomicU64,
}

/// An entry of the deny list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What is denied.
    pub network: IpNet,
    /// By the configuration file.
    pub configured: bool,
    /// By `edge deny add`.
    pub runtime: bool,
    /// Without effect: the allow list covers it.
    pub allowed: bool,
}

/// What adding an entry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Its attempts are dropped from now on.
    Denied,
    /// It was denied at run time before.
    Already,
    /// It is on the list, but without effect: the allow list covers it.
    Allowed,
}

impl Lists {
    pub(super) const fn new(tables: Tables, pins: Option<Pins>) -> Self {
        Self {
            tables: Mutex::new(tables),
            pins,
            denied: AtomicU64::new(0),
        }
    }

    /// The lists pinned under `pin_directory`, whether or not a daemon runs.
    ///
    /// # Errors
    /// [`Error::NotPinned`] if none are.
    pub fn open(pin_directory: &Path) -> Result<Self, Error> {
        let pins = Pins::existing(pin_directory)?;
        let tables = Tables::open(pins.maps())?;
        let lists = Self::new(tables, Some(pins));
        lists.count(&lists.tables().entries()?);
        Ok(lists)
    }

    /// Denies a network until it is deleted, restarts of the daemon included. Host bits are ignored.
    ///
    /// # Errors
    /// [`Error::ListFull`], [`Error::Map`].
    pub fn add(&self, network: IpNet) -> Result<Added, Error> {
        let network = network.trunc();
        let _lock = self.lock()?;
        let mut tables = self.tables();
        let old = tables.get(&network)?;
        // The longest prefix above knows whether the allow list covers it, and so this network.
        let covered = match old {
            Some(entry) => Some(entry),
            None => tables.covering(&network)?,
        };
        let entry = Entry {
            verdict: covered.map_or(DENY, |entry| entry.verdict),
            origin: old.map_or(0, |entry| entry.origin) | DENY_RUNTIME,
        };
        if old == Some(entry) {
            return Ok(Added::Already);
        }
        match &network {
            IpNet::V4(network) => tables.add_length(network)?,
            IpNet::V6(v6) => {
                let mut config = tables.config()?;
                near(&mut config, v6);
                tables.set_config(&config)?;
            }
        }
        tables.write(&network, entry)?;
        if old.is_none_or(|entry| !denies(&entry)) {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
        Ok(if entry.verdict == ALLOW {
            Added::Allowed
        } else {
            Added::Denied
        })
    }

    /// Takes back what [`add`](Self::add) did.
    ///
    /// # Errors
    /// [`Error::NotDenied`] if the network as written (host bits aside) is not on the list; [`Error::Configured`] if it is
    /// the configuration file that denies it.
    pub fn delete(&self, network: IpNet) -> Result<(), Error> {
        let network = network.trunc();
        let _lock = self.lock()?;
        let mut tables = self.tables();
        let entry = tables.get(&network)?.ok_or(Error::NotDenied(network))?;
        if entry.origin & DENY_RUNTIME == 0 {
            return Err(if denies(&entry) {
                Error::Configured(network)
            } else {
                Error::NotDenied(network)
            });
        }
        let entry = Entry {
            origin: entry.origin & !DENY_RUNTIME,
            ..entry
        };
        // The filter's bits stay until the next reload: they cost a look-up, not a verdict.
        if entry.origin == 0 {
            tables.erase(&network)?;
        } else {
            tables.write(&network, entry)?;
        }
        if !denies(&entry) {
            self.denied.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The deny list, sorted.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn list(&self) -> Result<Vec<Denied>, Error> {
        let _lock = self.lock()?;
        let entries = self.tables().entries()?;
        Ok(entries
            .into_iter()
            .filter(|(_, entry)| denies(entry))
            .map(|(network, entry)| Denied {
                network,
                configured: entry.origin & DENY_CONFIGURED != 0,
                runtime: entry.origin & DENY_RUNTIME != 0,
                allowed: entry.verdict == ALLOW,
            })
            .collect())
    }

    /// Entries of the deny list, as far as this process has seen them change.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Sets a flag of [`Config`], or clears it.
    pub(super) fn switch(&self, flag: u32, on: bool) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut tables = self.tables();
        let mut config = tables.config()?;
        let flags = config.flags & !flag | if on { flag } else { 0 };
        if config.flags == flags {
            return Ok(());
        }
        config.flags = flags;
        tables.set_config(&config)
    }

    /// Makes the kernel's tables and configuration what the file says, plus run-time entries, which are kept.
    pub(super) fn reload(&self, config: &config::Dataplane) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.apply(config, &[])
    }

    /// Whether there is room for what the file says, beside run-time entries.
    pub(super) fn fits(&self, file: &config::Dataplane) -> Result<(), Error> {
        let _lock = self.lock()?;
        let tables = self.tables();
        let old = tables.entries()?;
        let kept = old
            .iter()
            .filter(|(_, entry)| entry.origin & DENY_RUNTIME != 0)
            .map(|(network, _)| *network);
        fits(&plan(&file.allow, &file.deny, kept), tables.capacity())
    }

    /// As `reload`, under the caller's lock, with further run-time entries (from tables that are being replaced).
    pub(super) fn apply(&self, file: &config::Dataplane, runtime: &[IpNet]) -> Result<(), Error> {
        let mut tables = self.tables();
        let old = tables.entries()?;
        let kept = old
            .iter()
            .filter(|(_, entry)| entry.origin & DENY_RUNTIME != 0)
            .map(|(network, _)| *network);
        let new = plan(&file.allow, &file.deny, kept.chain(runtime.iter().copied()));
        fits(&new, tables.capacity())?;

        // Nothing may be looked up less while old entries are still to be found: filters for both first, for the new
        // ones last.
        let flags = tables.config()?.flags;
        let (both, both_lengths) = filters(file, flags, old.keys().chain(new.keys()));
        let now = tables.lengths()?;
        tables.set_lengths(&now, &both_lengths)?;
        tables.set_config(&both)?;
        // What is allowed first and taken away last, so that no allowed client meets a half-written list.
        let changed = |verdict| {
            let old = &old;
            new.iter()
                .filter(move |(network, entry)| entry.verdict == verdict && old.get(*network) != Some(*entry))
        };
        for (network, entry) in changed(ALLOW).chain(changed(DENY)) {
            tables.write(network, *entry)?;
        }
        for network in old.keys().filter(|network| !new.contains_key(*network)) {
            tables.erase(network)?;
        }
        let (config, lengths) = filters(file, flags, new.keys());
        tables.set_config(&config)?;
        tables.set_lengths(&both_lengths, &lengths)?;
        self.count(&new);
        Ok(())
    }

    fn count(&self, entries: &BTreeMap<IpNet, Entry>) {
        let denied = entries.values().filter(|entry| denies(entry)).count();
        self.denied
            .store(denied.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn lock(&self) -> Result<Option<Lock>, Error> {
        self.pins.as_ref().map(Pins::lock).transpose()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic between two writes leaves tables that the next reload mends.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries that each table must hold.
pub(super) fn capacity(file: &config::Dataplane) -> u32 {
    let configured = file.allow.len().saturating_add(file.deny.len());
    file.deny_entries
        .max(u32::try_from(configured).unwrap_or(u32::MAX))
        .max(1)
}

const fn denies(entry: &Entry) -> bool {
    entry.origin & (DENY_CONFIGURED | DENY_RUNTIME) != 0
}

/// Every entry that there should be, with its effective verdict.
fn plan(allow: &[IpNet], deny: &[IpNet], runtime: impl Iterator<Item = IpNet>) -> BTreeMap<IpNet, Entry> {
    let mut origins: BTreeMap<IpNet, u32> = BTreeMap::new();
    let configured = allow.iter().map(|network| (*network, ALLOW_CONFIGURED));
    let denied = deny.iter().map(|network| (*network, DENY_CONFIGURED));
    for (network, origin) in configured
        .chain(denied)
        .chain(runtime.map(|network| (network, DENY_RUNTIME)))
    {
        *origins.entry(network.trunc()).or_default() |= origin;
    }
    let allowed: BTreeSet<IpNet> = allow.iter().map(IpNet::trunc).collect();
    let lengths: BTreeSet<u8> = allowed.iter().map(IpNet::prefix_len).collect();
    let covered = |network: &IpNet| {
        lengths
            .iter()
            .take_while(|length| **length <= network.prefix_len())
            .any(|length| IpNet::new(network.addr(), *length).is_ok_and(|above| allowed.contains(&above.trunc())))
    };
    origins
        .into_iter()
        .map(|(network, origin)| {
            (
                network,
                Entry {
                    verdict: if covered(&network) { ALLOW } else { DENY },
                    origin,
                },
            )
        })
        .collect()
}

fn fits(entries: &BTreeMap<IpNet, Entry>, capacity: u32) -> Result<(), Error> {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for network in entries.keys() {
        let count = counts.entry(Kind::of(network)).or_default();
        *count = count.saturating_add(1);
    }
    for (kind, entries) in counts {
        if entries > usize::try_from(capacity).unwrap_or(usize::MAX) {
            return Err(Error::ListFull {
                kind: kind.plural(),
                entries,
                capacity,
            });
        }
    }
    Ok(())
}

/// The program's configuration before any list entry.
fn base(file: &config::Dataplane, flags: u32) -> Config {
    let ports = |list: &[u16]| {
        list.iter().fold(Ports::EMPTY, |mut ports, port| {
            ports.insert(*port);
            ports
        })
    };
    Config {
        event_sample: file.event_sample,
        flags,
        tcp_ports: ports(&file.tcp_ports),
        udp_ports: ports(&file.udp_ports),
        ..Config::EMPTY
    }
}

/// What makes the program look these entries up: its configuration, and the prefix lengths by IPv4 bucket.
fn filters<'a>(file: &config::Dataplane, flags: u32, networks: impl Iterator<Item = &'a IpNet>) -> (Config, Vec<u64>) {
    let mut config = base(file, flags);
    let mut lengths = vec![0; usize::try_from(V4_BUCKETS).unwrap_or_default()];
    for network in networks {
        match network {
            IpNet::V4(network) => {
                let (first, last) = buckets(network).into_inner();
                let range = usize::try_from(first).unwrap_or_default()..=usize::try_from(last).unwrap_or_default();
                for bucket in lengths.get_mut(range).unwrap_or_default() {
                    *bucket |= v4_length(network.prefix_len());
                }
            }
            IpNet::V6(network) => near(&mut config, network),
        }
    }
    (config, lengths)
}

fn near(config: &mut Config, network: &Ipv6Net) {
    let [a, b, c, d, e, f, g, h] = network.addr().segments().map(u32::from);
    let words @ [high, ..] = [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h];
    if network.prefix_len() == 128 {
        config.near_v6_exact.insert_v6_address(words);
    } else {
        config.near_v6_prefix.insert_v6(high, network.prefix_len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| net(text)).collect()
    }

    /// The program takes the longest match alone: every address must get "allow before deny" out of that.
    #[test]
    fn the_longest_match_says_allow_wherever_any_allow_entry_matches() {
        let allow = nets(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8:1::/48", "203.0.113.0/25"]);
        let deny = nets(&[
            "10.1.0.0/16",
            "10.1.2.3/32",
            "192.0.2.0/24",
            "2001:db8::/32",
            "2001:db8:1:2::/64",
            "203.0.113.0/24",
        ]);
        let entries = plan(&allow, &deny, nets(&["10.9.9.9/32", "198.51.100.0/24"]).into_iter());
        for (address, verdict) in [
            ("10.1.2.3", Some(ALLOW)),
            ("10.1.9.9", Some(ALLOW)),
            ("10.9.9.9", Some(ALLOW)),
            ("10.200.0.1", Some(ALLOW)),
            ("192.0.2.7", Some(ALLOW)),
            ("192.0.2.8", Some(DENY)),
            ("198.51.100.77", Some(DENY)),
            ("203.0.113.1", Some(ALLOW)),
            ("203.0.113.200", Some(DENY)),
            ("2001:db8:1:2::9", Some(ALLOW)),
            ("2001:db8:2::9", Some(DENY)),
            ("8.8.8.8", None),
        ] {
            let address: std::net::IpAddr = address.parse().unwrap();
            let longest = entries
                .iter()
                .filter(|(network, _)| network.contains(&address))
                .max_by_key(|(network, _)| network.prefix_len());
            assert_eq!(longest.map(|(_, entry)| entry.verdict), verdict, "{address}");
        }
    }

    #[test]
    fn an_entry_remembers_everyone_who_wants_it() {
        let entries = plan(&[], &nets(&["192.0.2.9/24"]), nets(&["192.0.2.0/24"]).into_iter());
        let entry = entries.get(&net("192.0.2.0/24")).unwrap();
        assert_eq!(entry.origin, DENY_CONFIGURED | DENY_RUNTIME);
        assert_eq!(entries.len(), 1, "host bits make no second entry");
    }

    #[test]
    fn a_list_too_long_is_refused_by_kind() {
        let entries = plan(
            &[],
            &nets(&["192.0.2.1/32", "192.0.2.2/32", "10.0.0.0/8"]),
            std::iter::empty(),
        );
        assert!(fits(&entries, 3).is_ok());
        let error = fits(&entries, 2).unwrap_err().to_string();
        assert!(
            error.contains("3 IPv4 networks") && error.contains("`deny_entries`"),
            "{error}"
        );
    }
}
