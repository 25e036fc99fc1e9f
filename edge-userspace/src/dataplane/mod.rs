//! The kernel half of the edge, seen from the daemon: loads the XDP program, attaches it, tells it ports, lists and
//! penalties, reads its counters and samples. `node` starts it and hands it new configurations; it hands on nothing but metrics and log
//! lines. All of aya is in here.
//!
//! What it leaves in the kernel outlives it: maps and links are pinned under one directory (`pins`), so that a daemon
//! that is killed leaves its verdicts standing, and the next one takes them over without a gap.

mod attach;
mod counters;
mod error;
mod events;
mod lists;
mod metrics;
mod object;
mod penalties;
mod pins;
mod steering;
mod tables;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use edge_common::{GATE_ON, LOCKDOWN_ON};

use crate::config;

pub use attach::{Interface, Mode};
pub use counters::{Count, Counters};
pub use error::Error;
pub use events::Events;
pub use lists::{Added, Denied, Lists};
pub use metrics::Metrics;
pub use penalties::{Penalised, Penalties, Penalty, Severity, clock_offset};
pub use pins::detach;

use pins::{Owner, Pins};
use steering::Steering;
use tables::Tables;

/// Whether this build can run XDP: the eBPF object had been built when the daemon was.
pub const fn object_embedded() -> bool {
    object::built()
}

/// The running data plane of this process.
#[derive(Debug)]
pub struct Dataplane {
    /// Holds the program open.
    ebpf: Ebpf,
    lists: Arc<Lists>,
    penalties: Arc<Penalties>,
    counters: Arc<Counters>,
    interfaces: Arc<[Interface]>,
    events: Mutex<Option<Events>>,
    steering: Mutex<Steering>,
    /// Keeps a second daemon away from our pins; `None` when nothing is pinned, or not any more ours.
    owner: Mutex<Option<Owner>>,
}

impl Dataplane {
    /// Loads the program, takes over what an earlier daemon pinned (maps with their contents, links with their
    /// interfaces), and attaches to every interface of `config`. Existing links get the new program atomically:
    /// there is no packet that neither the old nor the new one judges.
    ///
    /// # Errors
    /// [`Error::Off`] if the mode is off; else what the kernel, the machine or the build lacks. Links that were
    /// pinned before stay as they were.
    pub fn start(config: &config::Dataplane) -> Result<Self, Error> {
        if config.mode == config::XdpMode::Off {
            return Err(Error::Off);
        }
        let pins = Pins::prepare(&config.pin_directory)?;
        let owner = pins.own()?;
        let lock = pins.lock()?;
        let capacity = lists::capacity(config);
        let kept = pins.salvage(capacity, config.penalty_entries)?;
        let mut ebpf = object::load(Some(&kept.paths), capacity, config.penalty_entries)?;
        let lists = Lists::new(Tables::take(&mut ebpf, capacity)?, Some(pins.clone()));
        lists.apply(config, &kept.runtime)?;
        let program = object::program(&mut ebpf)?;
        let interfaces = attach::all(program, config, &pins)?;
        pins.settle(&kept)?;
        drop(lock);
        Self::assemble(ebpf, lists, interfaces, Some(owner))
    }

    /// Loads the program and fills its maps, but attaches and pins nothing: for tests and benches that run the program
    /// on packets of their own (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn unattached(config: &config::Dataplane) -> Result<Self, Error> {
        let capacity = lists::capacity(config);
        let mut ebpf = object::load(None, capacity, config.penalty_entries)?;
        let lists = Lists::new(Tables::take(&mut ebpf, capacity)?, None);
        lists.apply(config, &[])?;
        object::program(&mut ebpf)?;
        Self::assemble(ebpf, lists, Vec::new(), None)
    }

    fn assemble(mut ebpf: Ebpf, lists: Lists, interfaces: Vec<Interface>, owner: Option<Owner>) -> Result<Self, Error> {
        let counters = Counters::take(&mut ebpf)?;
        let events = Events::take(&mut ebpf)?;
        let penalties = Penalties::take(&mut ebpf)?;
        let steering = Steering::take(&mut ebpf)?;
        Ok(Self {
            ebpf,
            lists: Arc::new(lists),
            penalties: Arc::new(penalties),
            counters: Arc::new(counters),
            interfaces: interfaces.into(),
            events: Mutex::new(Some(events)),
            steering: Mutex::new(steering),
            owner: Mutex::new(owner),
        })
    }

    /// Whether the kernel's lists have room for what `config` says, beside the entries denied at run time; nothing is changed.
    ///
    /// # Errors
    /// [`Error::ListFull`], or [`Error::Map`] if the kernel cannot be asked.
    pub fn fits(&self, config: &config::Dataplane) -> Result<(), Error> {
        self.lists.fits(config)
    }

    /// Takes over what a reload may change: ports, lists, sample rate. Entries denied at run time stay. Interfaces,
    /// mode, pin directory and capacity take a restart.
    ///
    /// # Errors
    /// [`Error::ListFull`] before anything is changed; [`Error::Map`] if the kernel refuses, with the lists partly
    /// changed.
    pub fn apply(&self, config: &config::Dataplane) -> Result<(), Error> {
        self.lists.reload(config)
    }

    /// The operator's lists: what `edge deny` changes.
    pub fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    /// Penalties, token keys and the clock: what the gate feeds.
    pub fn penalties(&self) -> &Arc<Penalties> {
        &self.penalties
    }

    /// Makes the program judge attempts by penalties and tokens, or stop it. It goes on as it was through reloads and
    /// restarts; what is in the maps stays either way.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Pin`].
    pub fn switch_gate(&self, on: bool) -> Result<(), Error> {
        self.lists.switch(GATE_ON, on)
    }

    /// Makes the program judge attempts while the node is locked down, gate or not, or stop it.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Pin`].
    pub fn switch_lockdown(&self, on: bool) -> Result<(), Error> {
        self.lists.switch(LOCKDOWN_ON, on)
    }

    /// Which of the daemons that follow each other this one is, for its connection ids.
    pub fn generation(&self) -> u16 {
        self.steering().generation()
    }

    /// Has the kernel give the datagrams of QUIC connections to the sockets of the workers that hold them: for each address the
    /// sockets bound to it, by worker. They get those of connections with this daemon's ids at once, new connections
    /// only after [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// The kernel does not take the program, or there are too many sockets. The kernel's hash goes on as it was.
    pub fn steer(&mut self, listening: &[(SocketAddr, Vec<&UdpSocket>)]) -> Result<(), Error> {
        let Self { ebpf, steering, .. } = self;
        let steering = steering.get_mut().unwrap_or_else(PoisonError::into_inner);
        steering.place(ebpf, listening)
    }

    /// New QUIC connections are this daemon's from now on, those of a daemon before stay where they are.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn take_over(&self) -> Result<(), Error> {
        self.steering().take_over()
    }

    /// Lets another daemon take over the pins: for one that only finishes what it has.
    pub fn release(&self) {
        drop(self.owner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn steering(&self) -> MutexGuard<'_, Steering> {
        self.steering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packets counted since the maps were made, by reason, over all CPUs and interfaces.
    ///
    /// # Errors
    /// [`Error::Map`] if the kernel refuses to read.
    pub fn counters(&self) -> Result<Vec<Count>, Error> {
        self.counters.read()
    }

    /// Where the program is attached.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The kernel's id of the program.
    ///
    /// # Errors
    /// [`Error::Program`] if the kernel does not say.
    pub fn program_id(&self) -> Result<u32, Error> {
        object::info(&self.ebpf).map(|info| info.id())
    }

    /// The samples of dropped packets: run it in a task of its own. `None` after the first call.
    pub fn events(&self) -> Option<Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// For the metrics registry.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(
            Arc::clone(&self.counters),
            Arc::clone(&self.lists),
            Arc::clone(&self.penalties),
            Arc::clone(&self.interfaces),
        )
    }
}
