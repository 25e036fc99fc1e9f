//! Memory that is held for somebody, on four accounts at once: the connection it is held for, that
//! one's client (IPv4 address or IPv6 /64), the zone, and the node. Whoever holds bytes for a
//! client charges them here before it takes them, and gives them back by dropping the [`Charge`].
//!
//! Rules. The node's sum stays below `limits.memory`, a client's below `limits.memory_per_address`.
//! Up to half of the node's, clients and zones may have what they need; beyond, none gets more than
//! its equal part. What does not fit is not taken: whoever asked reads on later (back-pressure), or
//! does without. When that helps nobody, the connection of the same account that has been still for
//! the longest time is ended (`Holder::poll_cut`), never a neighbour's.
//!
//! Bounds are stated where they are charged; docs/limits.md has their products, and a test adds
//! them up.

mod machine;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::peer::client_prefix;

pub use machine::memory as of_machine;

/// Enough that threads rarely meet at one lock.
const SHARDS: usize = 64;
/// A connection that moved a byte within this time is not still.
const STILL: Duration = Duration::from_secs(2);
/// Who is to be ended is looked for at most once in this time, per client and for the node: it
/// takes a walk over their connections.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What bytes are held for: a label of `edge_memory_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Kind {
    /// A connection's own state and buffers.
    Connections,
    /// Requests under way: heads, and the copies that are kept to ask once more.
    Requests,
    /// Content of requests that nobody has read yet.
    Uploads,
    /// Content of responses that clients have not taken: read ahead from origins, and handed over
    /// to be sent.
    Responses,
    /// QUIC: sent, and not acknowledged.
    Quic,
    /// Responses on their way into the cache.
    Fills,
    /// Responses gathered whole, to be coded against a dictionary or to become one.
    Dictionaries,
    /// What a guest has the host keep.
    Guests,
}

impl Kind {
    /// All, in the order of their labels.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Requests,
        Self::Uploads,
        Self::Responses,
        Self::Quic,
        Self::Fills,
        Self::Dictionaries,
        Self::Guests,
    ];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Uploads => "uploads",
            Self::Responses => "responses",
            Self::Quic => "quic",
            Self::Fills => "fills",
            Self::Dictionaries => "dictionaries",
            Self::Guests => "guests",
        }
    }
}

/// The node's account book. One per process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    epoch: Instant,
    most: AtomicU64,
    most_per_client: AtomicU64,
    total: AtomicU64,
    kinds: [AtomicU64; Kind::ALL.len()],
    /// Keyed by an unguessable hash, so that a client cannot fill one shard.
    hasher: RandomState,
    clients: [Mutex<HashMap<IpAddr, Arc<Client>>>; SHARDS],
    client_count: AtomicUsize,
    zones: Mutex<HashMap<Arc<str>, Arc<Zone>>>,
    /// Zones that hold something.
    zone_count: AtomicUsize,
    looked: AtomicU64,
    refused: AtomicU64,
    ended: AtomicU64,
    /// Proxies that speak for many clients.
    trusted: RwLock<Vec<IpNet>>,
}

/// One client prefix.
#[derive(Debug, Default)]
struct Client {
    /// It is a proxy's: the node's bound alone holds for it; its clients have accounts of their own
    /// for their requests.
    trusted: bool,
    used: AtomicU64,
    holders: Mutex<Vec<Weak<Holder>>>,
    looked: AtomicU64,
}

/// One zone's account.
#[derive(Debug, Default)]
pub struct Zone {
    used: AtomicU64,
}

/// One connection's account.
#[derive(Debug)]
pub struct Holder {
    ledger: Ledger,
    prefix: IpAddr,
    /// The client's whole address: `prefix` is what bytes are counted by.
    address: IpAddr,
    client: Arc<Client>,
    used: AtomicU64,
    /// When the client last took or sent something, milliseconds since the ledger's epoch.
    moved: AtomicU64,
    /// 0, or a [`Cut`].
    cut: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// Why a connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// Memory is short, and of its client's connections it has been still the longest.
    Memory = 1,
    /// An operator has denied its client's network and asked for this.
    Denied = 2,
}

impl Cut {
    /// A word for labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Denied => "denied",
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Memory),
            2 => Some(Self::Denied),
            _ => None,
        }
    }
}

/// Bytes on the accounts of a connection and, if it is known, of a zone; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    holder: Arc<Holder>,
    zone: Option<Arc<Zone>>,
    kind: Kind,
    bytes: u64,
}

/// Bytes of the node alone, held for everybody: see [`Ledger::common`].
#[derive(Debug)]
pub struct Common {
    ledger: Ledger,
    kind: Kind,
    bytes: u64,
}

/// What is told of the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Bytes by kind, in the order of [`Kind::ALL`].
    pub kinds: [u64; Kind::ALL.len()],
    /// `limits.memory`.
    pub most: u64,
    /// Charges refused so far.
    pub refused: u64,
    /// Connections ended for standing still so far.
    pub ended: u64,
}

impl Ledger {
    /// With room for `most` bytes in all and `most_per_client` for one client.
    pub fn new(most: u64, most_per_client: u64) -> Self {
        Self(Arc::new(Inner {
            epoch: Instant::now(),
            most: AtomicU64::new(most),
            most_per_client: AtomicU64::new(most_per_client),
            total: AtomicU64::new(0),
            kinds: std::array::from_fn(|_| AtomicU64::new(0)),
            hasher: RandomState::new(),
            clients: std::array::from_fn(|_| Mutex::default()),
            client_count: AtomicUsize::new(0),
            zones: Mutex::default(),
            zone_count: AtomicUsize::new(0),
            looked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            trusted: RwLock::default(),
        }))
    }

    /// Other bounds from now on; what is held stays.
    pub fn adjust(&self, most: u64, most_per_client: u64) {
        self.0.most.store(most, Relaxed);
        self.0.most_per_client.store(most_per_client, Relaxed);
    }

    /// Has connections of these networks, opened from now on, held to no client's bound: they are
    /// of proxies.
    pub fn trust(&self, networks: Vec<IpNet>) {
        *self.0.trusted.write().unwrap_or_else(PoisonError::into_inner) = networks;
    }

    fn trusts(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let trusted = self.0.trusted.read().unwrap_or_else(PoisonError::into_inner);
        trusted.iter().any(|network| network.contains(&client))
    }

    /// Opens the account of a connection of `client`, or of a request that a proxy hands on for it.
    pub fn open(&self, client: IpAddr) -> Arc<Holder> {
        let trusted = self.trusts(client);
        let prefix = client_prefix(client);
        let mut shard = self.shard(&prefix);
        let account = shard.entry(prefix).or_insert_with(|| {
            self.0.client_count.fetch_add(1, Relaxed);
            Arc::new(Client {
                trusted,
                ..Client::default()
            })
        });
        let holder = Arc::new(Holder {
            ledger: self.clone(),
            prefix,
            address: client.to_canonical(),
            client: account.clone(),
            used: AtomicU64::new(0),
            moved: AtomicU64::new(self.now()),
            cut: AtomicU8::new(0),
            waker: Mutex::new(None),
        });
        lock(&account.holders).push(Arc::downgrade(&holder));
        holder
    }

    /// Ends every connection whose client's address is one of these; how many those are.
    pub fn cut(&self, one: impl Fn(IpAddr) -> bool) -> usize {
        let mut count = 0;
        for shard in &self.0.clients {
            // Apart from the lock: a holder that is dropped here takes it.
            let clients: Vec<Arc<Client>> = lock(shard).values().cloned().collect();
            for client in clients {
                let holders: Vec<Arc<Holder>> = lock(&client.holders).iter().filter_map(Weak::upgrade).collect();
                for holder in holders.iter().filter(|holder| one(holder.address)) {
                    count += usize::from(holder.end(Cut::Denied));
                }
            }
        }
        count
    }

    /// The account of the zone called `name`. Zones of the configuration, so that there are not
    /// many.
    pub fn zone(&self, name: &Arc<str>) -> Arc<Zone> {
        let mut zones = lock(&self.0.zones);
        zones.entry(name.clone()).or_default().clone()
    }

    /// An empty account of the node's own.
    pub fn common(&self, kind: Kind) -> Common {
        Common {
            ledger: self.clone(),
            kind,
            bytes: 0,
        }
    }

    /// What is told.
    pub fn figures(&self) -> Figures {
        Figures {
            kinds: std::array::from_fn(|n| self.0.kinds.get(n).map_or(0, |kind| kind.load(Relaxed))),
            most: self.0.most.load(Relaxed),
            refused: self.0.refused.load(Relaxed),
            ended: self.0.ended.load(Relaxed),
        }
    }

    /// Milliseconds since the epoch; never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.0.epoch.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn shard(&self, prefix: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, Arc<Client>>> {
        let hash = self.0.hasher.hash_one(prefix);
        // The remainder is below the array's length.
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        lock(&self.0.clients[hash as usize % SHARDS])
    }

    /// What one of `count` may hold beside the others, while the node holds `total`: all, or its
    /// equal part.
    fn share(&self, total: u64, count: usize) -> u64 {
        let most = self.0.most.load(Relaxed);
        if total <= most / 2 {
            return most;
        }
        most / u64::try_from(count).unwrap_or(u64::MAX).max(1)
    }

    fn add(&self, kind: Kind, bytes: u64) {
        self.0.total.fetch_add(bytes, Relaxed);
        if let Some(sum) = self.0.kinds.get(kind as usize) {
            sum.fetch_add(bytes, Relaxed);
        }
    }

    fn take(&self, kind: Kind, bytes: u64) {
        self.0.total.fetch_sub(bytes, Relaxed);
        if let Some(sum) = self.0.kinds.get(kind as usize) {
            sum.fetch_sub(bytes, Relaxed);
        }
    }

    /// Ends the stillest connection of the client that holds the most. Whether there was one.
    fn relieve_node(&self) -> bool {
        if !self.turn(&self.0.looked) {
            return false;
        }
        let mut largest: Option<Arc<Client>> = None;
        for shard in &self.0.clients {
            for client in lock(shard).values() {
                let more = |known: &Arc<Client>| client.used.load(Relaxed) > known.used.load(Relaxed);
                if largest.as_ref().is_none_or(more) {
                    largest = Some(client.clone());
                }
            }
        }
        largest.is_some_and(|client| self.end_stillest(&client))
    }

    fn relieve_client(&self, client: &Client) -> bool {
        self.turn(&client.looked) && self.end_stillest(client)
    }

    /// Whether it is time to look again.
    fn turn(&self, looked: &AtomicU64) -> bool {
        let (now, before) = (self.now(), looked.load(Relaxed));
        let wait = u64::try_from(LOOK_AGAIN.as_millis()).unwrap_or(u64::MAX);
        (before == 0 || now.saturating_sub(before) >= wait)
            && looked.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
    }

    fn end_stillest(&self, client: &Client) -> bool {
        let still = u64::try_from(STILL.as_millis()).unwrap_or(u64::MAX);
        let now = self.now();
        let holders: Vec<Arc<Holder>> = lock(&client.holders).iter().filter_map(Weak::upgrade).collect();
        let stillest = holders
            .iter()
            .filter(|holder| holder.used.load(Relaxed) > 0 && holder.cut.load(Relaxed) == 0)
            .filter(|holder| now.saturating_sub(holder.moved.load(Relaxed)) >= still)
            .min_by_key(|holder| holder.moved.load(Relaxed));
        let Some(holder) = stillest else { return false };
        self.0.ended.fetch_add(1, Relaxed);
        holder.end(Cut::Memory);
        true
    }
}

impl Holder {
    /// Charges `bytes` of `kind`, for `zone` if it is known. `None`: they must not be taken, now;
    /// [`Holder::must`] tells of what is held already.
    pub fn charge(self: &Arc<Self>, kind: Kind, zone: Option<&Arc<Zone>>, bytes: u64) -> Option<Charge> {
        let mut charge = Charge {
            holder: self.clone(),
            zone: zone.cloned(),
            kind,
            bytes: 0,
        };
        charge.set(bytes).then_some(charge)
    }

    /// As [`Holder::charge`], of what is held whether there is room or not.
    pub fn must(self: &Arc<Self>, kind: Kind, zone: Option<&Arc<Zone>>, bytes: u64) -> Charge {
        let mut charge = Charge {
            holder: self.clone(),
            zone: zone.cloned(),
            kind,
            bytes: 0,
        };
        charge.move_to(bytes);
        charge
    }

    /// The client has taken or sent something.
    pub fn moved(&self) {
        self.moved.store(self.ledger.now(), Relaxed);
    }

    /// Bytes on this account.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Has the connection ended, if that is news; whether it is.
    fn end(&self, why: Cut) -> bool {
        let news = self.cut.compare_exchange(0, why as u8, Relaxed, Relaxed).is_ok();
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
        news
    }

    /// Ready when the connection is to be ended.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Cut> {
        // Kept first: the end may come between the two.
        let mut waker = lock(&self.waker);
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(waker);
        Cut::of(self.cut.load(Relaxed)).map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether `more` bytes fit on all accounts.
    fn fits(&self, zone: Option<&Zone>, more: u64) -> Result<(), Short> {
        let ledger = &self.ledger.0;
        let total = ledger.total.load(Relaxed).saturating_add(more);
        let of_client = self.client.used.load(Relaxed).saturating_add(more);
        let own = ledger.most_per_client.load(Relaxed);
        let part = self.ledger.share(total, ledger.client_count.load(Relaxed));
        if !self.client.trusted && of_client > own.min(part) {
            return Err(Short::Client);
        }
        if total > ledger.most.load(Relaxed) {
            return Err(Short::Node);
        }
        if let Some(zone) = zone
            && zone.used.load(Relaxed).saturating_add(more) > self.ledger.share(total, ledger.zone_count.load(Relaxed))
        {
            return Err(Short::Zone);
        }
        Ok(())
    }
}

/// Which account is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    Client,
    Zone,
    Node,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut shard = self.ledger.shard(&self.prefix);
        let mut holders = lock(&self.client.holders);
        holders.retain(|holder| holder.strong_count() > 0);
        let last = holders.is_empty();
        drop(holders);
        if last && shard.remove(&self.prefix).is_some() {
            self.ledger.0.client_count.fetch_sub(1, Relaxed);
        }
    }
}

impl Charge {
    /// Charges `bytes` in place of what was charged. Less is always taken; more, if it fits. When
    /// an account is full, its stillest connection is ended, and this is refused all the same:
    /// memory comes back a moment later.
    pub fn set(&mut self, bytes: u64) -> bool {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0)
            && let Err(short) = self.holder.fits(self.zone.as_deref(), more)
        {
            let ledger = &self.holder.ledger;
            ledger.0.refused.fetch_add(1, Relaxed);
            match short {
                // Of a zone's clients it is the one that asks for more whose connections are looked
                // at.
                Short::Client | Short::Zone => ledger.relieve_client(&self.holder.client),
                Short::Node => ledger.relieve_node(),
            };
            return false;
        }
        self.move_to(bytes);
        true
    }

    /// Charges `bytes` in place of what was charged, whether they fit or not: they are held
    /// already.
    pub fn move_to(&mut self, bytes: u64) {
        let ledger = &self.holder.ledger;
        if bytes >= self.bytes {
            let more = bytes - self.bytes;
            ledger.add(self.kind, more);
            self.holder.client.used.fetch_add(more, Relaxed);
            self.holder.used.fetch_add(more, Relaxed);
            if let Some(zone) = &self.zone
                && zone.used.fetch_add(more, Relaxed) == 0
                && more > 0
            {
                ledger.0.zone_count.fetch_add(1, Relaxed);
            }
        } else {
            let less = self.bytes - bytes;
            ledger.take(self.kind, less);
            self.holder.client.used.fetch_sub(less, Relaxed);
            self.holder.used.fetch_sub(less, Relaxed);
            if let Some(zone) = &self.zone
                && zone.used.fetch_sub(less, Relaxed) == less
            {
                ledger.0.zone_count.fetch_sub(1, Relaxed);
            }
        }
        self.bytes = bytes;
    }

    /// Bytes charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The zone it is for.
    pub fn zone(&self) -> Option<&Arc<Zone>> {
        self.zone.as_ref()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.move_to(0);
    }
}

impl Common {
    /// Charges `bytes` in place of what was charged; more, if it fits.
    pub fn set(&mut self, bytes: u64) -> bool {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            let ledger = &self.ledger.0;
            if more > 0 && ledger.total.load(Relaxed).saturating_add(more) > ledger.most.load(Relaxed) {
                ledger.refused.fetch_add(1, Relaxed);
                self.ledger.relieve_node();
                return false;
            }
            self.ledger.add(self.kind, more);
        } else {
            self.ledger.take(self.kind, self.bytes - bytes);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        self.ledger.take(self.kind, self.bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
