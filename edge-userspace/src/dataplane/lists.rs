//! The operator's lists: allow and deny from the configuration, deny from `edge deny`. The daemon
//! asks them itself ([`Lists::is_denied`]): for every client that it accepts, and for the one that
//! a PROXY protocol header names, whether or not XDP runs. XDP is a filter in front of that.
//!
//! Each entry carries who wants it, so that a reload leaves run-time entries alone, a restart finds
//! them again (in the kernel's tables, and after a reboot in the state directory), and an entry
//! that left the configuration goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use edge_common::{
    ALLOW, ALLOW_CONFIGURED, BARE_DEVICES, Config, DENY, DENY_CONFIGURED, DENY_RUNTIME, Entry, Homes, Ports,
    V4_BUCKETS, v4_length,
};
use ipnet::{IpNet, Ipv6Net};

use super::error::Error;
use super::groups::Compiled;
use super::pins::{Lock, Pins};
use super::record::{Change, Record};
use super::tables::{Kind, Tables, buckets};
use crate::config;

/// The lists, and the kernel's tables that follow them where XDP runs.
#[derive(Debug)]
pub struct Lists {
    /// What every connection is judged by.
    entries: RwLock<Entries>,
    /// Networks of the groups that the file names, as the databases were when they were read.
    groups: Mutex<Arc<Compiled>>,
    /// Held through each change.
    writer: Mutex<Writer>,
    /// Its lock orders the changes of daemons that follow each other.
    pins: Option<Pins>,
    /// Deny entries; for metrics.
    denied: AtomicU64,
}

/// What a change is carried out on.
#[derive(Debug)]
struct Writer {
    tables: Option<Tables>,
    /// Where run-time entries outlive a reboot.
    record: Option<Record>,
    /// Entries of one kind at most.
    capacity: u32,
}

/// Every entry with its effective verdict: the longest match decides.
#[derive(Debug, Default)]
struct Entries {
    all: BTreeMap<IpNet, Entry>,
    /// Prefix lengths that occur, with how many entries have them, by IP version.
    v4: BTreeMap<u8, usize>,
    v6: BTreeMap<u8, usize>,
}

impl Entries {
    fn of(all: BTreeMap<IpNet, Entry>) -> Self {
        let mut this = Self::default();
        for (network, entry) in all {
            this.insert(network, entry);
        }
        this
    }

    fn lengths(&mut self, network: &IpNet) -> &mut BTreeMap<u8, usize> {
        match network {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }

    fn insert(&mut self, network: IpNet, entry: Entry) {
        if self.all.insert(network, entry).is_none() {
            *self.lengths(&network).entry(network.prefix_len()).or_default() += 1;
        }
    }

    fn remove(&mut self, network: &IpNet) {
        if self.all.remove(network).is_some() {
            let lengths = self.lengths(network);
            if let Some(count) = lengths.get_mut(&network.prefix_len()) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&network.prefix_len());
                }
            }
        }
    }

    /// The entry of the longest network of at most `length` bits that `address` is in.
    fn longest(&self, address: IpAddr, length: u8) -> Option<Entry> {
        let lengths = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let covering = |length: &u8| self.all.get(&IpNet::new(address, *length).ok()?.trunc()).copied();
        lengths.range(..=length).rev().find_map(|(length, _)| covering(length))
    }
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
    /// Whether the databases that the file names can be read; nothing is kept.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn check(file: &config::Dataplane) -> Result<(), Error> {
        Compiled::read(&file.groups).map(drop)
    }

    /// Those of a node without XDP.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::ListFull`].
    pub fn alone(config: &config::Dataplane) -> Result<Self, Error> {
        let this = Self::new(None, None, capacity(config));
        this.start(config, &[])?;
        Ok(this)
    }

    /// Without an entry, for who has no operator's lists.
    pub fn none() -> Self {
        Self::new(None, None, 1)
    }

    pub(super) fn new(tables: Option<Tables>, pins: Option<Pins>, capacity: u32) -> Self {
        Self {
            entries: RwLock::default(),
            groups: Mutex::default(),
            writer: Mutex::new(Writer {
                tables,
                record: None,
                capacity,
            }),
            pins,
            denied: AtomicU64::new(0),
        }
    }

    /// Whether attempts from this address are refused.
    pub fn is_denied(&self, address: IpAddr) -> bool {
        let entry = self.entries().longest(address.to_canonical(), u8::MAX);
        entry.is_some_and(|entry| entry.verdict == DENY)
    }

    /// Denies a network until it is deleted, restarts of the daemon included. Host bits are
    /// ignored.
    ///
    /// # Errors
    /// [`Error::ListFull`], [`Error::Map`], [`Error::State`]: nothing is changed then.
    pub fn add(&self, network: IpNet) -> Result<Added, Error> {
        let network = network.trunc();
        let _lock = self.lock()?;
        let mut writer = self.writer();
        let (old, covered) = {
            let entries = self.entries();
            // The longest prefix above knows whether the allow list covers it, and so this network.
            let covered = entries.longest(network.addr(), network.prefix_len());
            (entries.all.get(&network).copied(), covered)
        };
        let entry = Entry {
            verdict: covered.map_or(DENY, |entry| entry.verdict),
            origin: old.map_or(0, |entry| entry.origin) | DENY_RUNTIME,
        };
        if old == Some(entry) {
            return Ok(Added::Already);
        }
        if old.is_none() {
            self.has_room(&network, writer.capacity)?;
        }
        writer.note(Change::Added, network)?;
        if let Err(error) = writer.put(&network, entry) {
            if old.is_none_or(|old| old.origin & DENY_RUNTIME == 0) {
                writer.note(Change::Deleted, network)?;
            }
            return Err(error);
        }
        self.entries_mut().insert(network, entry);
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
    /// [`Error::NotDenied`] if the network as written (host bits aside) is not on the list;
    /// [`Error::Configured`] if it is the configuration file that denies it.
    pub fn delete(&self, network: IpNet) -> Result<(), Error> {
        let network = network.trunc();
        let _lock = self.lock()?;
        let mut writer = self.writer();
        let entry = self.entries().all.get(&network).copied();
        let entry = entry.ok_or(Error::NotDenied(network))?;
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
        writer.note(Change::Deleted, network)?;
        // The filter's bits stay until the next reload: they cost a look-up, not a verdict.
        let taken = match &mut writer.tables {
            Some(tables) if entry.origin == 0 => tables.erase(&network),
            Some(tables) => tables.write(&network, entry),
            None => Ok(()),
        };
        if let Err(error) = taken {
            writer.note(Change::Added, network)?;
            return Err(error);
        }
        let mut entries = self.entries_mut();
        if entry.origin == 0 {
            entries.remove(&network);
        } else {
            entries.insert(network, entry);
        }
        if !denies(&entry) {
            self.denied.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The deny list, sorted.
    pub fn list(&self) -> Vec<Denied> {
        let entries = self.entries();
        let denied = entries.all.iter().filter(|(_, entry)| denies(entry));
        denied
            .map(|(network, entry)| Denied {
                network: *network,
                configured: entry.origin & DENY_CONFIGURED != 0,
                runtime: entry.origin & DENY_RUNTIME != 0,
                allowed: entry.verdict == ALLOW,
            })
            .collect()
    }

    /// Entries of the deny list.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Sets a flag of [`Config`], or clears it.
    pub(super) fn switch(&self, flag: u32, on: bool) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.configure(|config| config.flags = config.flags & !flag | if on { flag } else { 0 })
    }

    /// Tells the program some of the node's addresses; under the caller's lock.
    pub(super) fn set_homes(&self, homes: Homes) -> Result<(), Error> {
        self.configure(|config| config.homes = homes)
    }

    /// Tells the program that an interface has no Ethernet header; under the caller's lock.
    pub(super) fn set_bare(&self) -> Result<(), Error> {
        self.configure(|config| config.flags |= BARE_DEVICES)
    }

    fn configure(&self, change: impl FnOnce(&mut Config)) -> Result<(), Error> {
        let mut writer = self.writer();
        let Some(tables) = &mut writer.tables else {
            return Ok(());
        };
        let mut config = tables.config()?;
        let before = (config.flags, config.homes);
        change(&mut config);
        if before == (config.flags, config.homes) {
            return Ok(());
        }
        tables.set_config(&config)
    }

    /// Makes the lists what the file says, plus run-time entries, which are kept.
    ///
    /// # Errors
    /// [`Error::ListFull`] before anything is changed; [`Error::Map`] if the kernel refuses, with
    /// its tables partly changed.
    pub fn reload(&self, config: &config::Dataplane) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.apply(config)
    }

    /// Whether there is room for what the file says, beside run-time entries.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn fits(&self, file: &config::Dataplane) -> Result<(), Error> {
        let (allow, deny) = self.networks(file)?;
        let writer = self.writer();
        let entries = self.entries();
        let runtime = entries.all.iter().filter(|(_, entry)| entry.origin & DENY_RUNTIME != 0);
        let new = plan(&allow, &deny, runtime.map(|(network, _)| *network));
        fits(&new, writer.capacity)
    }

    /// Whether a database that the file names has changed since it was read.
    pub fn are_stale(&self, file: &config::Dataplane) -> bool {
        !self.compiled().is_current(&file.groups)
    }

    /// What is allowed and what is denied by the file, groups included. Reads databases if they are
    /// not those that were read last.
    fn networks(&self, file: &config::Dataplane) -> Result<(Vec<IpNet>, Vec<IpNet>), Error> {
        let mut compiled = self.compiled();
        if !compiled.is_current(&file.groups) {
            *compiled = Arc::new(Compiled::read(&file.groups)?);
        }
        let both = |networks: &[IpNet], groups: &[IpNet]| networks.iter().chain(groups).copied().collect();
        Ok((both(&file.allow, &compiled.allow), both(&file.deny, &compiled.deny)))
    }

    /// Begins with what the kernel's tables hold, further run-time entries (of tables that are
    /// being replaced), what the state directory holds, and the file; under the caller's lock.
    pub(super) fn start(&self, file: &config::Dataplane, runtime: &[IpNet]) -> Result<(), Error> {
        let mut writer = self.writer();
        let mut entries = match &writer.tables {
            Some(tables) => tables.entries()?,
            None => BTreeMap::new(),
        };
        let (record, recorded) = match &file.state_directory {
            Some(directory) => {
                let (record, recorded) = Record::open(directory)?;
                (Some(record), recorded)
            }
            None => (None, Vec::new()),
        };
        for network in runtime.iter().chain(&recorded) {
            let entry = entries.entry(*network).or_insert(Entry {
                // Worked out anew in a moment.
                verdict: 0,
                origin: 0,
            });
            entry.origin |= DENY_RUNTIME;
        }
        writer.record = record;
        *self.entries_mut() = Entries::of(entries);
        drop(writer);
        self.apply(file)?;
        let mut writer = self.writer();
        if let Some(record) = &mut writer.record {
            let entries = self.entries();
            let runtime = entries.all.iter().filter(|(_, entry)| entry.origin & DENY_RUNTIME != 0);
            record.replace(runtime.map(|(network, _)| *network))?;
        }
        Ok(())
    }

    fn apply(&self, file: &config::Dataplane) -> Result<(), Error> {
        let (allow, deny) = self.networks(file)?;
        let mut writer = self.writer();
        let old = self.entries().all.clone();
        let runtime = old.iter().filter(|(_, entry)| entry.origin & DENY_RUNTIME != 0);
        let new = plan(&allow, &deny, runtime.map(|(network, _)| *network));
        fits(&new, writer.capacity)?;
        if let Some(tables) = &mut writer.tables {
            follow(tables, file, &new)?;
        }
        self.denied.store(
            new.values()
                .filter(|entry| denies(entry))
                .count()
                .try_into()
                .unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        let new = Entries::of(new);
        *self.entries_mut() = new;
        Ok(())
    }

    fn has_room(&self, network: &IpNet, capacity: u32) -> Result<(), Error> {
        let kind = Kind::of(network);
        let entries = self.entries();
        let counts = match network {
            IpNet::V4(_) => entries.v4.values().sum(),
            IpNet::V6(_) if kind == Kind::V6Exact => entries.v6.get(&128).copied().unwrap_or_default(),
            IpNet::V6(_) => entries.v6.range(..128).map(|(_, count)| count).sum::<usize>(),
        };
        full(kind, counts.saturating_add(1), capacity)
    }

    fn compiled(&self) -> MutexGuard<'_, Arc<Compiled>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> Result<Option<Lock>, Error> {
        self.pins.as_ref().map(Pins::lock).transpose()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic between two writes leaves tables that the next reload mends.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Where there is a state directory, it knows first: what cannot be kept is not done.
    fn note(&mut self, change: Change, network: IpNet) -> Result<(), Error> {
        match &mut self.record {
            Some(record) => record.note(change, network),
            None => Ok(()),
        }
    }

    fn put(&mut self, network: &IpNet, entry: Entry) -> Result<(), Error> {
        let Some(tables) = &mut self.tables else { return Ok(()) };
        match network {
            IpNet::V4(network) => tables.add_length(network)?,
            IpNet::V6(v6) => {
                let mut config = tables.config()?;
                near(&mut config, v6);
                tables.set_config(&config)?;
            }
        }
        tables.write(network, entry)
    }
}

/// Makes the kernel's tables and configuration what the file says and `new` holds.
fn follow(tables: &mut Tables, file: &config::Dataplane, new: &BTreeMap<IpNet, Entry>) -> Result<(), Error> {
    let old = tables.entries()?;
    // Nothing may be looked up less while old entries are still to be found: filters for both
    // first, for the new ones last.
    let before = tables.config()?;
    let (both, both_lengths) = filters(file, &before, old.keys().chain(new.keys()));
    let now = tables.lengths()?;
    tables.set_lengths(&now, &both_lengths)?;
    tables.set_config(&both)?;
    // What is allowed first and taken away last, so that no allowed client meets a half-written
    // list.
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
    let (config, lengths) = filters(file, &before, new.keys());
    tables.set_config(&config)?;
    tables.set_lengths(&both_lengths, &lengths)
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
    counts
        .into_iter()
        .try_for_each(|(kind, entries)| full(kind, entries, capacity))
}

fn full(kind: Kind, entries: usize, capacity: u32) -> Result<(), Error> {
    if entries > usize::try_from(capacity).unwrap_or(usize::MAX) {
        return Err(Error::ListFull {
            kind: kind.plural(),
            entries,
            capacity,
        });
    }
    Ok(())
}

/// The program's configuration before any list entry; what others have written of it stays.
fn base(file: &config::Dataplane, before: &Config) -> Config {
    let ports = |list: &[u16]| {
        list.iter().fold(Ports::EMPTY, |mut ports, port| {
            ports.insert(*port);
            ports
        })
    };
    Config {
        event_sample: file.event_sample,
        flags: before.flags,
        homes: before.homes,
        tcp_ports: ports(&file.tcp_ports),
        udp_ports: ports(&file.udp_ports),
        ..Config::EMPTY
    }
}

/// What makes the program look these entries up: its configuration, and the prefix lengths by IPv4
/// bucket.
fn filters<'a>(
    file: &config::Dataplane,
    before: &Config,
    networks: impl Iterator<Item = &'a IpNet>,
) -> (Config, Vec<u64>) {
    let mut config = base(file, before);
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

    /// The program takes the longest match alone: every address must get "allow before deny" out of
    /// that.
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

    /// A denied client would be served where XDP does not look, or an allowed one refused.
    #[test]
    fn the_daemon_asks_as_the_program_does() {
        let entries = plan(
            &nets(&["10.1.0.0/16", "2001:db8:1::/48"]),
            &nets(&["10.0.0.0/8", "10.1.2.3/32", "192.0.2.7/32", "2001:db8::/32", "::/0"]),
            nets(&["198.51.100.0/24"]).into_iter(),
        );
        let lists = Lists::none();
        *lists.entries_mut() = Entries::of(entries);
        for (address, denied) in [
            ("10.9.9.9", true),
            ("10.1.2.3", false),
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.200", true),
            ("2001:db8:1:2::1", false),
            ("2001:db8:2::1", true),
            ("fe80::1", true),
        ] {
            assert_eq!(lists.is_denied(address.parse().unwrap()), denied, "{address}");
        }
    }

    /// Denials must be changed one by one without XDP, too, and outlive a reboot where there is a
    /// place for them.
    #[test]
    fn lists_without_xdp_change_and_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let file = config::Dataplane {
            allow: nets(&["192.0.2.0/28"]),
            deny: nets(&["203.0.113.0/24"]),
            deny_entries: 3,
            state_directory: Some(directory.path().join("state")),
            ..config::Dataplane::none()
        };
        let lists = Lists::alone(&file).unwrap();
        assert_eq!(lists.add(net("198.51.100.1/24")).unwrap(), Added::Denied);
        assert_eq!(lists.add(net("198.51.100.0/24")).unwrap(), Added::Already);
        assert!(matches!(lists.add(net("192.0.2.1/32")), Err(Error::ListFull { .. })));
        lists.delete(net("198.51.100.0/24")).unwrap();
        assert_eq!(lists.add(net("192.0.2.1/32")).unwrap(), Added::Allowed);
        lists.delete(net("192.0.2.1/32")).unwrap();
        lists.add(net("198.51.100.0/24")).unwrap();
        assert!(matches!(lists.delete(net("203.0.113.0/24")), Err(Error::Configured(_))));
        assert!(matches!(lists.delete(net("192.0.2.0/28")), Err(Error::NotDenied(_))));
        lists.reload(&file).unwrap();
        drop(lists);
        let again = Lists::alone(&file).unwrap();
        assert!(again.is_denied("198.51.100.9".parse().unwrap()) && again.is_denied("203.0.113.9".parse().unwrap()));
        assert!(!again.is_denied("192.0.2.1".parse().unwrap()));
        let runtime = again.list().into_iter().filter(|denied| denied.runtime).count();
        assert_eq!((runtime, again.denied()), (1, 2));
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
