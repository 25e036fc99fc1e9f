//! A node's part in its fleet: takes newer manifests, hears events, says what it has done, and
//! issues events of its own. Holds no request up; ends no node. What it does to the node goes
//! through [`Host`].

mod events;
mod manifests;
#[cfg(test)]
mod tests;
mod tickets;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::carrier::{self, Arrival, Carrier, Channel, Engine, Log};
use super::event::Action;
use super::head::{Trust, Trusted};
use super::index::{Index, Standing};
use super::journal::{Journal, Mark};
use super::key::{self, Identity};
use super::metrics::Metrics;
use super::receipt::Receipt;
use super::signed::{self, Unchecked};
use super::store::{self, Held, Store};
use super::tickets::{TicketKey, Tickets};
use crate::base::clock::UnixTime;
use crate::base::shutdown::{Phase, Shutdown};

pub use events::{IssueError, Report};

/// Between two tries to connect, at first and at most; a random half of it is added.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// Between two looks at what the engine holds, whether or not anything arrived.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A manifest that could not be prepared is tried again after this.
const PREPARE_AGAIN: Duration = Duration::from_secs(30);
/// Events that wait for the engine, at most: 16 KiB each.
const MOST_OUTBOX: usize = 1_024;
/// Answers to the roll in one second at most: anybody who reaches the engine may ask.
const MOST_ANSWERS: u64 = 20;

/// What a manifest and an event do to a node.
pub trait Host: Send + Sync + 'static {
    /// Prepares the files in `tree` as a reload does. Called on a thread that may block; changes
    /// nothing.
    ///
    /// # Errors
    /// Why the node cannot, in words for the operator.
    fn prepare(&self, tree: &Path) -> Result<Install, String>;

    /// Carries an event out, at once; short. `ours`: it was issued here, so that what means nothing
    /// is told.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn apply(&self, action: &Action, ours: bool) -> Result<(), String>;

    /// Voids all that is stored: events were missed.
    fn void(&self);

    /// How long the node's session tickets live; `None`: it shares no keys for them.
    fn ticket_life(&self) -> Option<Duration> {
        None
    }

    /// Session tickets are sealed by these keys of the fleet's, the newest first, instead of those
    /// before; by the node's own if none is young enough.
    fn share(&self, _keys: &[TicketKey]) {}

    /// Requests since the start, and those of them that failed by the edge's or an origin's fault.
    fn health(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// Puts what was prepared into force; cannot fail.
pub type Install = Box<dyn FnOnce() + Send>;

/// What an agent is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Its keys.
    pub identity: Arc<Identity>,
    /// The fleet's name and deploy keys.
    pub trust: Trust,
    /// Where manifests and the journal are.
    pub directory: PathBuf,
    /// Bytes of a manifest's files at most.
    pub most: u64,
}

/// An agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its journal.
    #[error("the fleet's journal cannot be read: {0}")]
    Journal(#[from] io::Error),
    /// No key can be made that others seal to.
    #[error(transparent)]
    Key(#[from] key::Error),
}

/// A newer manifest that could not be put into force.
#[derive(Clone, Debug)]
struct Unprepared {
    counter: u64,
    why: String,
    tried: Instant,
}

/// See the module.
pub struct Agent {
    settings: Settings,
    engine: Arc<dyn Engine>,
    host: Arc<dyn Host>,
    store: Store,
    metrics: Metrics,
    held: Mutex<Option<Held>>,
    journal: Mutex<Journal>,
    /// The connection, if there is one.
    link: Mutex<Option<Arc<dyn Carrier>>>,
    /// Events issued and not yet at the engine, in order.
    outbox: AsyncMutex<VecDeque<Bytes>>,
    /// Who waits for receipts.
    waits: Mutex<Vec<events::Wait>>,
    /// The newest head that was believed.
    newest: watch::Sender<Option<Trusted>>,
    fetched: AtomicU64,
    prepared_millis: AtomicU64,
    unprepared: Mutex<Option<Unprepared>>,
    /// Issuers that say they have issued more than has come, and since when.
    behind: Mutex<BTreeMap<String, (Mark, Instant)>>,
    /// When this node issued something last.
    issued: Mutex<Option<Instant>>,
    tickets: Mutex<Tickets>,
}

/// What `/status` says of the fleet.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Its name.
    pub fleet: String,
    /// This node's name.
    pub node: String,
    /// Whether the engine is connected.
    pub connected: bool,
    /// The counter of the manifest in force; 0: none yet.
    pub counter: u64,
    /// When it was signed, in milliseconds since 1970.
    pub signed: u64,
    /// This node's standing in it.
    pub standing: Option<Standing>,
    /// A newer one that could not be put into force, and why.
    pub refused: Option<(u64, String)>,
    /// How many nodes the manifest names.
    pub nodes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    /// Opens what is on the disk.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn open(
        settings: Settings,
        engine: Arc<dyn Engine>,
        host: Arc<dyn Host>,
        metrics: Metrics,
    ) -> Result<Arc<Self>, Error> {
        let Settings {
            node,
            identity,
            trust,
            directory,
            most,
        } = settings.clone();
        let tickets = Tickets::new(&trust.fleet, &node)?;
        let (store, held) = Store::open(&directory, trust, &node, identity, most)?;
        let journal = Journal::open(&directory, UnixTime::now())?;
        let counter = held.as_ref().map_or(0, |held| held.head.said().counter);
        if let Some(held) = &held {
            metrics.in_force(counter, held.head.said().time.secs());
        }
        Ok(Arc::new(Self {
            settings,
            engine,
            host,
            store,
            metrics,
            held: Mutex::new(held),
            journal: Mutex::new(journal),
            link: Mutex::default(),
            outbox: AsyncMutex::default(),
            waits: Mutex::default(),
            newest: watch::channel(None).0,
            fetched: AtomicU64::new(counter),
            prepared_millis: AtomicU64::new(0),
            unprepared: Mutex::default(),
            behind: Mutex::default(),
            issued: Mutex::default(),
            tickets: Mutex::new(tickets),
        }))
    }

    fn held(&self) -> Option<Held> {
        lock(&self.held).clone()
    }

    fn index(&self) -> Option<Arc<Index>> {
        lock(&self.held).as_ref().map(|held| held.index.clone())
    }

    fn link(&self) -> Option<Arc<dyn Carrier>> {
        lock(&self.link).clone()
    }

    /// What a node of `index` said in a message of this kind; `None`, and counted, unless it did.
    fn genuine<'a, T: DeserializeOwned>(
        &self,
        index: &Index,
        (kind, label): (signed::Kind, &'static str),
        bytes: &'a [u8],
    ) -> Option<(Unchecked<'a>, T)> {
        let read = || {
            let message = signed::parse(kind, bytes)?;
            let key = &index.member(message.by)?.key;
            let said = serde_json::from_slice(message.check(kind, self.fleet(), key)?).ok()?;
            Some((message, said))
        };
        let genuine = read();
        if genuine.is_none() {
            self.metrics.rejected(label, "forged");
        }
        genuine
    }

    fn fleet(&self) -> &str {
        &self.settings.trust.fleet
    }

    /// The counter of the manifest in force; 0: none yet.
    pub fn counter(&self) -> u64 {
        lock(&self.held).as_ref().map_or(0, |held| held.head.said().counter)
    }

    /// For `/status`.
    pub fn view(&self) -> View {
        let held = self.held();
        let said = held.as_ref().map(|held| held.head.said());
        let index = held.as_ref().map(|held| &held.index);
        let member = index.and_then(|index| index.member(&self.settings.node));
        let refused = lock(&self.unprepared).clone();
        View {
            fleet: self.fleet().to_owned(),
            node: self.settings.node.clone(),
            connected: self.link().is_some(),
            counter: said.map_or(0, |said| said.counter),
            signed: said.map_or(0, |said| said.time.millis()),
            standing: member.map(|member| member.state),
            refused: refused.map(|unprepared| (unprepared.counter, unprepared.why)),
            nodes: index.map_or(0, |index| index.nodes.len()),
        }
    }

    /// Whether clients may be sent here, as far as the fleet knows: there is a manifest, and it
    /// does not say that this node is drained.
    pub fn is_ready(&self) -> bool {
        let held = self.held();
        held.is_some_and(|held| {
            let member = held.index.member(&self.settings.node);
            member.is_none_or(|member| member.state != Standing::Drained)
        })
    }

    /// Hears what was issued while this node was away, before it serves what it stored: within
    /// `patience`, or all of it is void.
    pub async fn wake(&self, patience: Duration) {
        let heard = tokio::time::timeout(patience, async {
            let carrier = self.engine.connect().await?;
            self.catch_up(&*carrier).await
        });
        if !matches!(heard.await, Ok(Ok(()))) {
            tracing::warn!(
                target: "edge::fleet",
                "the engine is away, so what was purged meanwhile is not known: all that is stored is void"
            );
            self.host.void();
        }
    }

    /// Takes part until the node drains.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        let manifests = tokio::spawn(self.clone().follow_heads());
        let drain = shutdown.reached(Phase::Draining);
        tokio::pin!(drain);
        let mut delay = RETRY;
        let mut told = false;
        loop {
            let ended = tokio::select! {
                () = &mut drain => break,
                ended = self.attend(&mut delay) => ended,
            };
            *lock(&self.link) = None;
            self.metrics.connected(false);
            self.expire_tickets();
            if let Err(error) = ended
                && !std::mem::replace(&mut told, delay > RETRY)
            {
                tracing::warn!(target: "edge::fleet", %error, "without the engine; what is here goes on");
            }
            let pause = delay + delay.mul_f64(f64::from(u8::from_ne_bytes(super::random().unwrap_or([128]))) / 512.0);
            delay = (delay * 2).min(RETRY_MOST);
            tokio::select! {
                () = &mut drain => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        manifests.abort();
        *lock(&self.link) = None;
        if let Err(error) = lock(&self.journal).write() {
            tracing::warn!(target: "edge::fleet", %error, "the journal cannot be written");
        }
    }

    /// One connection's life.
    async fn attend(&self, delay: &mut Duration) -> Result<(), carrier::Error> {
        let carrier: Arc<dyn Carrier> = self.engine.connect().await?.into();
        let receipts = Channel::Receipts(self.settings.node.clone());
        let tickets = [None, Some(self.settings.node.clone())].map(Channel::Tickets);
        for channel in [&Channel::Tails, &Channel::Roll, &receipts].into_iter().chain(&tickets) {
            carrier.listen(channel).await?;
        }
        self.catch_up(&*carrier).await?;
        self.look(&*carrier).await?;
        *lock(&self.link) = Some(carrier.clone());
        self.metrics.connected(true);
        self.flush().await?;
        tracing::info!(target: "edge::fleet", fleet = self.fleet(), "connected to the engine");
        *delay = RETRY;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        // Nodes that started together do not look together.
        let mut looked =
            Instant::now() - LOOK_EVERY.mul_f64(f64::from(self.settings.identity.signer.public().spread()));
        let mut answers = 0;
        loop {
            tokio::select! {
                arrival = carrier.arrival() => self.arrived(&*carrier, arrival?, &mut answers).await?,
                _ = second.tick() => {
                    answers = 0;
                    self.tend(&*carrier).await?;
                    self.tend_tickets(&*carrier).await?;
                    if looked.elapsed() >= LOOK_EVERY {
                        looked = Instant::now();
                        self.catch_up(&*carrier).await?;
                        self.look(&*carrier).await?;
                    }
                }
            }
        }
    }

    async fn arrived(&self, carrier: &dyn Carrier, arrival: Arrival, answers: &mut u64) -> Result<(), carrier::Error> {
        match arrival {
            Arrival::Entry {
                log: Log::Heads, bytes, ..
            } => self.heard_of(&bytes),
            Arrival::Entry {
                log: Log::Events,
                number,
                bytes,
            } => self.entry(carrier, number, &bytes).await?,
            Arrival::Message { channel, bytes } => match channel {
                Channel::Tails => self.tail(carrier, &bytes).await?,
                Channel::Receipts(_) => self.receipt(&bytes),
                Channel::Tickets(_) => self.heard_tickets(carrier, &bytes).await?,
                Channel::Roll => {
                    *answers += 1;
                    let to = std::str::from_utf8(&bytes).ok().filter(|to| super::is_name(to));
                    if let Some(to) = to.filter(|_| *answers <= MOST_ANSWERS) {
                        self.say_receipt(carrier, to, Mark::default(), None).await?;
                    }
                }
            },
        }
        Ok(())
    }

    /// Tells `to` what holds here.
    async fn say_receipt(
        &self,
        carrier: &dyn Carrier,
        to: &str,
        applied: Mark,
        failed: Option<String>,
    ) -> Result<(), carrier::Error> {
        let (requests, failures) = self.host.health();
        let refused = lock(&self.unprepared).clone();
        let receipt = Receipt {
            to: to.to_owned(),
            applied,
            failed,
            counter: self.counter(),
            fetched: self.fetched.load(Ordering::Acquire),
            refused: refused.map(|unprepared| (unprepared.counter, unprepared.why)),
            prepared_millis: self.prepared_millis.load(Ordering::Relaxed),
            requests,
            failures,
            time: UnixTime::now().millis(),
        };
        let bytes = receipt.write(self.fleet(), &self.settings.node, &self.settings.identity.signer);
        carrier.say(&Channel::Receipts(to.to_owned()), bytes.into()).await
    }
}
