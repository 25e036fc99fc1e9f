//! Penalties, keys and the clock in the kernel: what the gate feeds. `node` hands it the gate's
//! changes (this room does not know the gate). Penalties are written through the table's memory:
//! no system call each.
//!
//! The maps are the store: they are pinned, so penalties stay in force while no daemon runs, and
//! the next one finds them. In a full table the weakest of six goes, as [`table`](super::table)
//! says; a penalty that is written can therefore be gone later, never refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use edge_common::lockdown::Lockdown;
use edge_common::maps;
use edge_common::penalty::{
    self, BLOCKED, DEFERRED, HOLD, OPERATOR, SOME_BARRED, SOME_NETWORKS, address_key, address_prefix, network_key,
    site_key,
};
use edge_common::table::{self, Bucket, END_UNIT, Front, Kind};
use edge_common::token::{KEYS, Prefix, TokenKey};
use ipnet::IpNet;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::time::{ClockId, clock_gettime};

use super::error::Error;
use super::memory::{Memory, Single};
use super::table::{Table, is_client, is_penalty};
use crate::base::penalty::{Origin, Subject};

/// Bits of a site's IPv6 network.
const SITE: u8 = 48;
/// Buckets of the table that are looked at without letting go of it: some 100 microseconds.
const PIECE: u32 = 4_096;

/// The gate's maps in the kernel.
pub struct Penalties {
    maps: Mutex<Maps>,
    table: Mutex<Table<Memory<Bucket>, Single<Front>>>,
    /// Another daemon writes them.
    released: AtomicBool,
    /// At the last count.
    addresses: AtomicU64,
    clients: AtomicU64,
    /// Penalties that there is room for.
    capacity: u32,
}

struct Maps {
    barred: Array<MapData, u32>,
    keys: Array<MapData, TokenKey>,
    clock: Array<MapData, u64>,
    lockdown: Array<MapData, Lockdown>,
    alive: Array<MapData, u64>,
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// So many attempts pass in a second. Of a QUIC connection each Initial counts, so some three
    /// of them.
    Deferred(u16),
    /// None passes.
    Blocked,
}

/// A penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// Who.
    pub who: Subject,
    /// Whose word it is.
    pub origin: Origin,
    /// How hard.
    pub severity: Severity,
    /// How much longer, from the moment of the call. At least zero: over.
    pub remaining: Duration,
    /// How long after it more than the budget passes, but not everything: whole seconds, 18 hours
    /// at most.
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

    /// Of the maps that `map` gives by their names.
    pub(super) fn build(mut map: impl FnMut(&'static str) -> Result<Map, Error>) -> Result<Self, Error> {
        let maps = Maps {
            barred: map(maps::BARRED)?.try_into().map_err(Error::map(maps::BARRED))?,
            alive: map(maps::ALIVE)?.try_into().map_err(Error::map(maps::ALIVE))?,
            keys: map(maps::KEYS)?.try_into().map_err(Error::map(maps::KEYS))?,
            clock: map(maps::CLOCK)?.try_into().map_err(Error::map(maps::CLOCK))?,
            lockdown: map(maps::LOCKDOWN)?.try_into().map_err(Error::map(maps::LOCKDOWN))?,
        };
        let buckets = data(map(maps::PENALTIES)?)?;
        let front = data(map(maps::PENALTY_FRONT)?)?;
        let count = buckets.info().map_err(Error::map(maps::PENALTIES))?.max_entries();
        let table = Table::new(
            Memory::of(maps::PENALTIES, &buckets)?,
            Single(Memory::of(maps::PENALTY_FRONT, &front)?),
            random()?,
        );
        Ok(Self {
            // Half as many buckets as penalties: see `edge_common::table::buckets`.
            capacity: count.saturating_mul(2),
            maps: Mutex::new(maps),
            table: Mutex::new(table),
            released: AtomicBool::new(false),
            addresses: AtomicU64::new(0),
            clients: AtomicU64::new(0),
        })
    }

    /// Puts penalties in force, or replaces those there are; what is used up of a budget stays used
    /// up. A fraction of a microsecond each, without a system call.
    ///
    /// # Errors
    /// [`Error::Map`] if an operator's penalty of an address, or one of a network, cannot be
    /// announced: those before it are in force. Writing them again does no harm.
    pub fn write(&self, penalties: &[Penalty]) -> Result<(), Error> {
        let now = monotonic();
        for piece in penalties.chunks(PIECE as usize) {
            let sort = |penalty: &Penalty| match penalty.who {
                Subject::Address(_) if penalty.origin == Origin::Operator => SOME_BARRED,
                Subject::Network(_) => SOME_NETWORKS,
                Subject::Address(_) | Subject::Client(_) => 0,
            };
            // Before the first one, and from then on: it costs a look-up, not a verdict.
            self.announce(piece.iter().fold(0, |sorts, penalty| sorts | sort(penalty)))?;
            let mut table = self.table();
            if self.is_released() {
                return Ok(());
            }
            for penalty in piece {
                table.put(subject(penalty.who), &packed(penalty, now), now);
            }
        }
        Ok(())
    }

    /// Has the program look for penalties of these sorts, too.
    fn announce(&self, sorts: u32) -> Result<(), Error> {
        if sorts == 0 {
            return Ok(());
        }
        let mut maps = self.maps();
        let known = maps.barred.get(&0, 0).map_err(Error::map(maps::BARRED))?;
        if known & sorts != sorts {
            maps.barred.set(0, known | sorts, 0).map_err(Error::map(maps::BARRED))?;
        }
        Ok(())
    }

    /// Lifts penalties; who has none, has none after.
    pub fn remove(&self, who: &[Subject]) {
        for piece in who.chunks(PIECE as usize) {
            let mut table = self.table();
            if self.is_released() {
                return;
            }
            for who in piece {
                table.remove(subject(*who));
            }
        }
    }

    /// Every penalty in force and every hold, in no order; an IPv6 /64 by its first address. A
    /// network counts as an address. Counts
    /// them for the metrics. 10 ms for a million, and the memory of the list.
    pub fn list(&self) -> Vec<Penalty> {
        let mut all = Vec::new();
        self.count(|subject, penalty, now| {
            if penalty.until > now {
                all.push(unpacked(subject, &penalty, now));
            }
        });
        all
    }

    /// Takes out what is over, and counts the others for the metrics: to be called every few
    /// seconds, and not on a thread that serves: it reads the whole table, 100 ms for the largest.
    pub fn sweep(&self) {
        self.pieces(|table, piece| table.sweep(piece, monotonic()));
        self.count(|_, _, _| ());
    }

    fn count(&self, mut each: impl FnMut(table::Subject, penalty::Penalty, u64)) {
        let (mut addresses, mut clients) = (0_u64, 0_u64);
        self.pieces(|table, piece| {
            let now = monotonic();
            table.each(piece, now, |subject, penalty| {
                if is_penalty(&penalty, now) {
                    *(if is_client(subject) {
                        &mut clients
                    } else {
                        &mut addresses
                    }) += 1;
                }
                each(subject, penalty, now);
            });
        });
        self.addresses.store(addresses, Ordering::Relaxed);
        self.clients.store(clients, Ordering::Relaxed);
    }

    /// Goes through the table, and lets others at it in between.
    fn pieces(&self, mut look: impl FnMut(&mut Table<Memory<Bucket>, Single<Front>>, std::ops::Range<u32>)) {
        let mut first = 0;
        loop {
            let mut table = self.table();
            let count = table.count();
            if first >= count || self.is_released() {
                return;
            }
            let end = first.saturating_add(PIECE).min(count);
            look(&mut table, first..end);
            first = end;
        }
    }

    /// Leaves the table to another daemon: nothing is written from now on.
    pub(super) fn release(&self) {
        let _table = self.table();
        self.released.store(true, Ordering::Release);
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Penalties of addresses and of clients in force when they were last [swept](Self::sweep) or
    /// [listed](Self::list).
    pub fn counted(&self) -> (u64, u64) {
        (
            self.addresses.load(Ordering::Relaxed),
            self.clients.load(Ordering::Relaxed),
        )
    }

    /// Penalties that there is room for, of addresses and clients together.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Publishes the keys that tokens are checked with, by epoch modulo four. The new key must be
    /// here before any token is minted under it.
    ///
    /// # Errors
    /// [`Error::Map`]; the others may have been published.
    pub fn set_keys(&self, keys: &[TokenKey; KEYS]) -> Result<(), Error> {
        let mut maps = self.maps();
        for (index, key) in (0..).zip(keys) {
            // A reader between two words of an element meets a key that is neither: one token may
            // be refused as if it had none. So only what changes is written.
            if maps.keys.get(&index, 0).map_err(Error::map(maps::KEYS))? != *key {
                maps.keys.set(index, key, 0).map_err(Error::map(maps::KEYS))?;
            }
        }
        Ok(())
    }

    /// Tells the program the wall clock: nanoseconds to add to `CLOCK_MONOTONIC`, see
    /// [`clock_offset`]. To be called every second or so.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_clock(&self, offset: u64) -> Result<(), Error> {
        self.maps().clock.set(0, offset, 0).map_err(Error::map(maps::CLOCK))
    }

    /// Tells the program what to do with QUIC Initials that prove nothing. A Retry token is minted
    /// with the key that the id names, so [`set_keys`](Self::set_keys) comes first.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_lockdown(&self, lockdown: Lockdown) -> Result<(), Error> {
        let mut maps = self.maps();
        maps.lockdown.set(0, lockdown, 0).map_err(Error::map(maps::LOCKDOWN))
    }

    /// Tells the program which daemons' connection ids are those of connections: a bit for each
    /// generation (see [`cid::lives`](edge_common::cid::lives)).
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
    pub fn clear(&self) {
        self.pieces(|table, piece| table.clear_all(piece));
    }

    fn table(&self) -> MutexGuard<'_, Table<Memory<Bucket>, Single<Front>>> {
        // A panic between two writes leaves a table that is whole entry by entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // A panic between two writes leaves maps that are whole entry by entry.
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is behind a map of whatever kind.
fn data(map: Map) -> Result<MapData, Error> {
    match map {
        Map::Array(data) => Ok(data),
        _ => Err(Error::Missing("array for penalties")),
    }
}

/// The key of a fresh table.
fn random() -> Result<[u64; 2], Error> {
    let mut bytes = [[0; 8]; 2];
    let random = SystemRandom::new();
    for half in &mut bytes {
        random
            .fill(half)
            .map_err(|_| Error::Missing("random bytes from the system"))?;
    }
    Ok(bytes.map(u64::from_ne_bytes))
}

fn subject(who: Subject) -> table::Subject {
    match who {
        Subject::Address(address) => table::Subject {
            kind: Kind::Address,
            key: address_key(Prefix::of(address)),
        },
        Subject::Network(network) => {
            let key = address_key(Prefix::of(network.network()));
            // An IPv4 network has no site around it.
            match network {
                IpNet::V6(v6) if v6.prefix_len() <= SITE => table::Subject {
                    kind: Kind::Site,
                    key: site_key(key),
                },
                IpNet::V4(_) | IpNet::V6(_) => table::Subject {
                    kind: Kind::Network,
                    key: network_key(key),
                },
            }
        }
        Subject::Client(key) => table::Subject {
            kind: Kind::Client,
            key,
        },
    }
}

fn packed(penalty: &Penalty, now: u64) -> penalty::Penalty {
    let (level, budget) = match penalty.severity {
        Severity::Deferred(budget) => (DEFERRED, budget),
        Severity::Blocked => (BLOCKED, 0),
    };
    let origin = match penalty.origin {
        Origin::Gate => 0,
        Origin::Operator => OPERATOR,
        Origin::Hold => HOLD,
    };
    // The table rounds up: what is over is not to go on for the rest of a unit.
    let until = match nanoseconds(penalty.remaining) {
        0 => now.saturating_sub(END_UNIT),
        more => now.saturating_add(more),
    };
    penalty::Penalty {
        until,
        // None of the budget is used up, by the program's clock either, which lags.
        window: now.saturating_sub(penalty::SECOND),
        budget,
        level: level | origin,
        probation: u16::try_from(penalty.probation.as_secs()).unwrap_or(u16::MAX),
    }
}

fn unpacked(subject: table::Subject, penalty: &penalty::Penalty, now: u64) -> Penalty {
    Penalty {
        who: match subject.kind {
            Kind::Client => Subject::Client(subject.key),
            Kind::Address => Subject::Address(address(address_prefix(subject.key))),
            Kind::Network => Subject::Network(network(address_prefix(subject.key), (24, 56))),
            Kind::Site => Subject::Network(network(address_prefix(subject.key), (24, SITE))),
        },
        origin: match penalty.level {
            level if level & OPERATOR != 0 => Origin::Operator,
            level if level & HOLD != 0 => Origin::Hold,
            _ => Origin::Gate,
        },
        severity: if penalty.is_deferred() {
            Severity::Deferred(penalty.budget)
        } else {
            Severity::Blocked
        },
        remaining: Duration::from_nanos(penalty.until.saturating_sub(now)),
        probation: Duration::from_secs(penalty.probation.into()),
    }
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

/// The network of this many bits, by IP version, that a key stands for.
fn network(prefix: Prefix, (v4, v6): (u8, u8)) -> IpNet {
    let address = address(prefix);
    let length = if address.is_ipv4() { v4 } else { v6 };
    // No length is beyond its version's bits.
    IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address))
}

fn address(prefix: Prefix) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = prefix.word.to_le_bytes();
    if prefix.family == 4 {
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        Ipv6Addr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]).into()
    }
}
