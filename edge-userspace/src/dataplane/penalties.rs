//! Penalties, token keys and the clock: what the gate feeds to the program. `node` hands it the gate's changes (this room
//! does not know the gate); it hands them to the kernel, one system call for each, so not from a request's path.
//!
//! The maps are the store: they are pinned, so penalties stay in force while no daemon runs, and the next one finds them.
//! A full map evicts, as `edge-ebpf/gate` says; a penalty that is written can therefore be gone later, never refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapError};
use edge_common::lockdown::Lockdown;
use edge_common::maps;
use edge_common::penalty::{self, BLOCKED, DEFERRED, HOLD, OPERATOR, address_key, address_prefix};
use edge_common::token::{KEYS, Prefix, TokenKey};
use rustix::time::{ClockId, clock_gettime};

use super::error::Error;
use super::pins::Pins;

/// The maps of clients, one entry for each, in no order that matters.
pub(super) const TABLES: [&str; 2] = [maps::PENALTY_ADDRESS, maps::PENALTY_CLIENT];

type Table = HashMap<MapData, u64, penalty::Penalty>;

/// The gate's maps in the kernel.
pub struct Penalties {
    maps: Mutex<Maps>,
    /// Of each map, at the last count.
    addresses: AtomicU64,
    clients: AtomicU64,
    /// Entries that each map has room for.
    capacity: u32,
}

struct Maps {
    address: Table,
    client: Table,
    barred: Array<MapData, u32>,
    keys: Array<MapData, TokenKey>,
    clock: Array<MapData, u64>,
    lockdown: Array<MapData, Lockdown>,
    alive: Array<MapData, u64>,
}

/// Who is penalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Penalised {
    /// A validated address: all of an IPv4 address, the /64 of an IPv6 one. A spoofed one here locks out its owner.
    Address(IpAddr),
    /// A client id, out of a token.
    Client(u64),
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// So many attempts pass in a second. Of a QUIC connection each Initial counts, so some three of them.
    Deferred(u16),
    /// None passes.
    Blocked,
}

/// Whose word a penalty is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The gate's: tokens pass an address's.
    Gate,
    /// An operator's: nobody passes it.
    Operator,
    /// None: a client was told to wait, and nothing is held against it.
    Hold,
}

/// A penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// Who.
    pub who: Penalised,
    /// Whose word it is.
    pub origin: Origin,
    /// How hard.
    pub severity: Severity,
    /// How much longer, from the moment of the call. At least zero: over.
    pub remaining: Duration,
    /// How long after it more than the budget passes, but not everything: whole seconds, 18 hours at most.
    pub probation: Duration,
}

impl fmt::Debug for Penalties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Penalties")
            .field("addresses", &self.addresses)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

impl Penalties {
    /// Those of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Self::build(|name| ebpf.take_map(name).ok_or(Error::Missing("map for penalties or keys")))
    }

    /// The penalties pinned under `pin_directory`, whether or not a daemon runs.
    ///
    /// # Errors
    /// [`Error::NotPinned`] if none are.
    pub fn open(pin_directory: &Path) -> Result<Self, Error> {
        let pins = Pins::existing(pin_directory)?;
        Self::build(|name| {
            let data = MapData::from_pin(pins.maps().join(name)).map_err(Error::map(name))?;
            Map::from_map_data(data).map_err(Error::map(name))
        })
    }

    fn build(mut map: impl FnMut(&'static str) -> Result<Map, Error>) -> Result<Self, Error> {
        let maps = Maps {
            address: map(maps::PENALTY_ADDRESS)?
                .try_into()
                .map_err(Error::map(maps::PENALTY_ADDRESS))?,
            client: map(maps::PENALTY_CLIENT)?
                .try_into()
                .map_err(Error::map(maps::PENALTY_CLIENT))?,
            barred: map(maps::BARRED)?.try_into().map_err(Error::map(maps::BARRED))?,
            alive: map(maps::ALIVE)?.try_into().map_err(Error::map(maps::ALIVE))?,
            keys: map(maps::KEYS)?.try_into().map_err(Error::map(maps::KEYS))?,
            clock: map(maps::CLOCK)?.try_into().map_err(Error::map(maps::CLOCK))?,
            lockdown: map(maps::LOCKDOWN)?.try_into().map_err(Error::map(maps::LOCKDOWN))?,
        };
        let info = maps.address.map().info().map_err(Error::map(maps::PENALTY_ADDRESS))?;
        Ok(Self {
            capacity: info.max_entries(),
            maps: Mutex::new(maps),
            addresses: AtomicU64::new(0),
            clients: AtomicU64::new(0),
        })
    }

    /// Puts penalties in force, or replaces those there are; what is used up of a budget stays used up. Two system calls each, about
    /// a microsecond.
    ///
    /// # Errors
    /// [`Error::Map`]; those before the one that failed are in force. Writing them again does no harm.
    pub fn write(&self, penalties: &[Penalty]) -> Result<(), Error> {
        let now = monotonic();
        let mut maps = self.maps();
        for penalty in penalties {
            let (level, budget) = match penalty.severity {
                Severity::Deferred(budget) => (DEFERRED, budget),
                Severity::Blocked => (BLOCKED, 0),
            };
            let origin = match penalty.origin {
                Origin::Gate => 0,
                Origin::Operator => OPERATOR,
                Origin::Hold => HOLD,
            };
            if penalty.origin == Origin::Operator && matches!(penalty.who, Penalised::Address(_)) {
                // Before the first one, and from then on: it costs a look-up, not a verdict.
                maps.barred.set(0, 1, 0).map_err(Error::map(maps::BARRED))?;
            }
            let (table, key, name) = maps.table(penalty.who);
            let window = match table.get(&key, 0) {
                // What packets use up between this and the write is given once more: some microseconds' worth.
                Ok(old) => old.window,
                Err(MapError::KeyNotFound) => 0,
                Err(error) => return Err(Error::map(name)(error)),
            };
            let value = penalty::Penalty {
                until: now.saturating_add(nanoseconds(penalty.remaining)),
                window,
                step: penalty::Penalty::step(budget),
                level: level | origin,
                probation: u16::try_from(penalty.probation.as_secs()).unwrap_or(u16::MAX),
            };
            table.insert(key, value, 0).map_err(Error::map(name))?;
        }
        Ok(())
    }

    /// Lifts penalties; who has none, has none after.
    ///
    /// # Errors
    /// [`Error::Map`]; those before the one that failed are lifted.
    pub fn remove(&self, who: &[Penalised]) -> Result<(), Error> {
        let mut maps = self.maps();
        for who in who {
            let (table, key, name) = maps.table(*who);
            removed(table.remove(&key)).map_err(Error::map(name))?;
        }
        Ok(())
    }

    /// Every penalty in force and every hold, in no order; an IPv6 /64 by its first address. Counts them for the metrics. Two system calls
    /// each: some 100 ms for 100,000, so not for every scrape. Reading does not keep an entry from being evicted.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn list(&self) -> Result<Vec<Penalty>, Error> {
        let now = monotonic();
        let maps = self.maps();
        let mut all = Vec::new();
        let addresses = collect(&maps.address, maps::PENALTY_ADDRESS, now, &mut all, |key| {
            Penalised::Address(address(address_prefix(key)))
        })?;
        let clients = collect(&maps.client, maps::PENALTY_CLIENT, now, &mut all, Penalised::Client)?;
        self.addresses.store(addresses, Ordering::Relaxed);
        self.clients.store(clients, Ordering::Relaxed);
        Ok(all)
    }

    /// Penalties of addresses and of clients in force when they were last [listed](Self::list).
    pub fn counted(&self) -> (u64, u64) {
        (
            self.addresses.load(Ordering::Relaxed),
            self.clients.load(Ordering::Relaxed),
        )
    }

    /// Penalties of addresses that there is room for, and as many of clients.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Publishes the keys that tokens are checked with, by epoch modulo four. The new key must be here before any token is
    /// minted under it.
    ///
    /// # Errors
    /// [`Error::Map`]; the others may have been published.
    pub fn set_keys(&self, keys: &[TokenKey; KEYS]) -> Result<(), Error> {
        let mut maps = self.maps();
        for (index, key) in (0..).zip(keys) {
            // A reader between two words of an element meets a key that is neither: one token may be refused as if it
            // had none. So only what changes is written.
            if maps.keys.get(&index, 0).map_err(Error::map(maps::KEYS))? != *key {
                maps.keys.set(index, key, 0).map_err(Error::map(maps::KEYS))?;
            }
        }
        Ok(())
    }

    /// Tells the program the wall clock: nanoseconds to add to `CLOCK_MONOTONIC`, see [`clock_offset`]. To be called every
    /// second or so.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_clock(&self, offset: u64) -> Result<(), Error> {
        self.maps().clock.set(0, offset, 0).map_err(Error::map(maps::CLOCK))
    }

    /// Tells the program what to do with QUIC Initials that prove nothing. A Retry token is minted with the key that the
    /// id names, so [`set_keys`](Self::set_keys) comes first.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_lockdown(&self, lockdown: Lockdown) -> Result<(), Error> {
        let mut maps = self.maps();
        maps.lockdown.set(0, lockdown, 0).map_err(Error::map(maps::LOCKDOWN))
    }

    /// Tells the program which daemons' connection ids are those of connections: a bit for each generation (see
    /// [`cid::lives`](edge_common::cid::lives)).
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_alive(&self, generations: u64) -> Result<(), Error> {
        self.maps()
            .alive
            .set(0, generations, 0)
            .map_err(Error::map(maps::ALIVE))
    }

    /// What the program was told last of that.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn alive(&self) -> Result<u64, Error> {
        self.maps().alive.get(&0, 0).map_err(Error::map(maps::ALIVE))
    }

    /// What the program was told last, by whatever daemon.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn lockdown(&self) -> Result<Lockdown, Error> {
        self.maps().lockdown.get(&0, 0).map_err(Error::map(maps::LOCKDOWN))
    }

    /// Lifts every penalty, and ends every probation.
    ///
    /// # Errors
    /// [`Error::Map`]; some may have been lifted.
    pub fn clear(&self) -> Result<(), Error> {
        let maps = &mut *self.maps();
        for (table, name) in [
            (&mut maps.address, maps::PENALTY_ADDRESS),
            (&mut maps.client, maps::PENALTY_CLIENT),
        ] {
            let keys: Vec<u64> = table.keys().filter_map(Result::ok).collect();
            for key in keys {
                removed(table.remove(&key)).map_err(Error::map(name))?;
            }
        }
        Ok(())
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // A panic between two writes leaves maps that are whole entry by entry.
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    const fn table(&mut self, who: Penalised) -> (&mut Table, u64, &'static str) {
        match who {
            Penalised::Address(address) => (
                &mut self.address,
                address_key(Prefix::of(address)),
                maps::PENALTY_ADDRESS,
            ),
            Penalised::Client(id) => (&mut self.client, id, maps::PENALTY_CLIENT),
        }
    }
}

/// What is gone already need not be removed.
fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Adds what of a table is in force, and says how much.
fn collect(
    table: &Table,
    name: &'static str,
    now: u64,
    all: &mut Vec<Penalty>,
    who: impl Fn(u64) -> Penalised,
) -> Result<u64, Error> {
    let mut count = 0;
    for item in table.iter() {
        let (key, value) = match item {
            Ok(found) => found,
            // Evicted since its key was read.
            Err(MapError::KeyNotFound) => continue,
            Err(error) => return Err(Error::map(name)(error)),
        };
        if value.until <= now {
            continue;
        }
        count += u64::from(value.level & HOLD == 0);
        all.push(Penalty {
            who: who(key),
            origin: match value.level {
                level if level & OPERATOR != 0 => Origin::Operator,
                level if level & HOLD != 0 => Origin::Hold,
                _ => Origin::Gate,
            },
            severity: if value.is_deferred() {
                Severity::Deferred(u16::try_from(value.budget()).unwrap_or(u16::MAX))
            } else {
                Severity::Blocked
            },
            remaining: Duration::from_nanos(value.until - now),
            probation: Duration::from_secs(value.probation.into()),
        });
    }
    Ok(count)
}

/// Nanoseconds to add to `CLOCK_MONOTONIC` now to get the time since 1970.
pub fn clock_offset() -> u64 {
    let real = clock_gettime(ClockId::Realtime);
    nanoseconds_of(real.tv_sec, real.tv_nsec).saturating_sub(monotonic())
}

/// The clock of penalties.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    nanoseconds_of(now.tv_sec, now.tv_nsec)
}

fn nanoseconds_of(seconds: i64, nanoseconds: i64) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    seconds
        .saturating_mul(penalty::SECOND)
        .saturating_add(u64::try_from(nanoseconds).unwrap_or_default())
}

/// 584 years, then it saturates.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn address(prefix: Prefix) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = prefix.word.to_le_bytes();
    if prefix.family == 4 {
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        Ipv6Addr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]).into()
    }
}
