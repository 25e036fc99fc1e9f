//! The kernel half of the edge, seen from the daemon: loads the XDP program, attaches it, tells it
//! ports, lists and penalties, reads its counters and samples. `node` starts it and hands it new
//! configurations; it hands on nothing but metrics and log lines. All of aya is in here.
//!
//! What it leaves in the kernel outlives it: maps and links are pinned under one directory
//! (`pins`), so that a daemon that is killed leaves its verdicts standing, and the next one takes
//! them over without a gap.

mod attach;
mod bare;
mod capabilities;
mod cookies;
mod counters;
mod error;
mod events;
mod groups;
mod homes;
mod links;
mod lists;
mod memory;
mod metrics;
mod netlink;
mod object;
mod penalties;
mod pins;
mod record;
mod steering;
mod table;
mod tables;
mod top;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use edge_common::{ACKS_CHECKED, COUNT_SYN, GATE_ON, LOCKDOWN_ON};

use crate::config;

pub use attach::{Interface, Mode};
pub use cookies::{Cookies, Offer};
pub use counters::{Count, Counters};
pub use error::Error;
pub use events::{Events, name as reason};
pub use links::{LinkMetrics, Links, Open};
pub use lists::{Added, Denied, Lists};
pub use metrics::Metrics;
pub use penalties::{Penalties, Penalty, Severity, clock_offset};
pub use pins::detach;
pub use top::{TopSource, TopSources};

use bare::Bare;
use homes::Local;
use netlink::{Header, Netlink};
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
    shared: Arc<Shared>,
    penalties: Arc<Penalties>,
    counters: Arc<Counters>,
    cookies: Cookies,
    events: Mutex<Option<Events>>,
    top: Arc<TopSources>,
    steering: Mutex<Steering>,
    /// Keeps a second daemon away from our pins; `None` when nothing is pinned, or not any more
    /// ours.
    owner: Mutex<Option<Owner>>,
}

/// What the thread that watches interfaces and addresses has in hand, too.
#[derive(Debug)]
struct Shared {
    /// Holds the program open.
    ebpf: Mutex<Ebpf>,
    lists: Arc<Lists>,
    local: Local,
    bare: Bare,
    links: Arc<Links>,
    /// `None` when nothing is pinned.
    pins: Option<Pins>,
    /// Which directory that is: another one of the same name is another daemon's.
    identity: Option<(u64, u64)>,
    /// Interfaces, mode and addresses are those of the start.
    config: config::Dataplane,
    /// Another daemon may take the pins over: nothing is to be changed any more.
    released: AtomicBool,
}

impl Shared {
    /// Tells the program which addresses are the node's.
    fn locate(&self, netlink: &Netlink) -> Result<(), Error> {
        let listening = &self.config.addresses;
        let locals = match listening.iter().any(|address| address.to_canonical().is_unspecified()) {
            true => netlink.locals().map_err(Error::Netlink)?,
            false => Vec::new(),
        };
        let ours = homes::ours(listening, &locals);
        self.local.write(&ours)?;
        self.lists.set_homes(homes::homes(&ours))
    }

    /// Attaches the program to each interface that lacks it.
    fn settle(&self, netlink: &Netlink, pins: &Pins, fatal: impl Fn(&Error) -> bool) -> Result<(), Error> {
        let mut ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        let program = object::loaded(&mut ebpf)?;
        let id = program.info().map_err(Error::program)?.id();
        self.links.settle(netlink, id, fatal, |name, link| {
            // Before the first packet: it would be taken for one with an Ethernet header, and pass.
            if self.bare.set(link.index, link.header == Header::Bare)? {
                self.lists.set_bare()?;
            }
            attach::interface(program, name, link, self.config.mode, pins)
        })
    }
}

impl links::Kept for Shared {
    fn look(&self, netlink: &Netlink) -> bool {
        let Some(pins) = &self.pins else { return false };
        let looked = || {
            let taken = || pins.identity().ok() != self.identity;
            // Asked again under the lock: whoever had it may have taken all away.
            let lock = if taken() { None } else { Some(pins.lock()?) };
            if lock.is_none() || taken() {
                self.links
                    .close("`edge detach --force` has taken the program off; start the daemon again to attach it");
                return Ok(!self.released.load(Ordering::Acquire));
            }
            if self.released.load(Ordering::Acquire) {
                return Ok(false);
            }
            self.locate(netlink)?;
            let before = self.links.attached();
            self.settle(netlink, pins, |_| false)?;
            let after = self.links.attached();
            if before != after {
                attach::release(&after, pins)?;
            }
            Ok::<bool, Error>(true)
        };
        looked().unwrap_or_else(|error| {
            tracing::warn!(target: "edge::dataplane", %error, "interfaces and addresses cannot be looked after");
            true
        })
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shared.released.store(true, Ordering::Release);
    }
}

impl Dataplane {
    /// Loads the program, takes over what an earlier daemon pinned (maps with their contents, links
    /// with their interfaces), and attaches to every interface of `config`. Existing links get the
    /// new program atomically: there is no packet that neither the old nor the new one judges. From
    /// then on a thread keeps to it: see [`Links`].
    ///
    /// # Errors
    /// [`Error::Off`] if the mode is off; else what the kernel, the machine or the build lacks.
    /// Links that were pinned before stay as they were. In mode `auto` an interface that refuses is
    /// no error, but [open](Links::missing).
    pub fn start(config: &config::Dataplane) -> Result<Self, Error> {
        if config.mode == config::XdpMode::Off {
            return Err(Error::Off);
        }
        let pins = Pins::prepare(&config.pin_directory)?;
        let owner = pins.own(pins::ENDING)?;
        let lock = pins.lock()?;
        let capacity = lists::capacity(config);
        let kept = pins.salvage(capacity, config.penalty_entries)?;
        let mut ebpf = object::load(Some(&kept.paths), capacity, config)?;
        let lists = Lists::new(Some(Tables::take(&mut ebpf, capacity)?), Some(pins.clone()), capacity);
        lists.start(config, &kept.runtime)?;
        object::program(&mut ebpf)?;
        let this = Self::assemble(ebpf, lists, config, Some((pins.clone(), owner)))?;
        this.penalties.write(&kept.penalties)?;
        let netlink = Netlink::open().map_err(Error::Netlink)?;
        this.shared.locate(&netlink)?;
        let tolerant = config.mode == config::XdpMode::Auto;
        let fatal = |error: &Error| !(tolerant && error.is_refusal());
        this.shared.settle(&netlink, &pins, fatal)?;
        attach::release(&this.shared.links.attached(), &pins)?;
        pins.settle(&kept)?;
        drop(lock);
        links::watch(Arc::downgrade(&this.shared))?;
        Ok(this)
    }

    /// Loads the program and fills its maps, but attaches and pins nothing: for tests and benches
    /// that run the program on packets of their own (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn unattached(config: &config::Dataplane) -> Result<Self, Error> {
        let capacity = lists::capacity(config);
        let mut ebpf = object::load(None, capacity, config)?;
        let lists = Lists::new(Some(Tables::take(&mut ebpf, capacity)?), None, capacity);
        lists.start(config, &[])?;
        object::program(&mut ebpf)?;
        let this = Self::assemble(ebpf, lists, config, None)?;
        this.shared.locate(&Netlink::open().map_err(Error::Netlink)?)?;
        Ok(this)
    }

    fn assemble(
        mut ebpf: Ebpf,
        lists: Lists,
        config: &config::Dataplane,
        pinned: Option<(Pins, Owner)>,
    ) -> Result<Self, Error> {
        let counters = Counters::take(&mut ebpf)?;
        let top = Arc::new(TopSources::default());
        let events = Events::take(&mut ebpf, top.clone())?;
        let penalties = Penalties::take(&mut ebpf)?;
        let steering = Steering::take(&mut ebpf)?;
        let cookies = Cookies::take(&mut ebpf)?;
        let local = Local::take(&mut ebpf)?;
        let bare = Bare::take(&mut ebpf)?;
        let (pins, owner) = pinned.unzip();
        Ok(Self {
            shared: Arc::new(Shared {
                ebpf: Mutex::new(ebpf),
                lists: Arc::new(lists),
                local,
                bare,
                links: Links::open(&config.interfaces, "not yet"),
                identity: pins.as_ref().and_then(|pins| pins.identity().ok()),
                pins,
                config: config.clone(),
                released: AtomicBool::new(false),
            }),
            penalties: Arc::new(penalties),
            counters: Arc::new(counters),
            cookies,
            events: Mutex::new(Some(events)),
            top,
            steering: Mutex::new(steering),
            owner: Mutex::new(owner),
        })
    }

    /// Whether the kernel's lists have room for what `config` says, beside the entries denied at
    /// run time; nothing is changed.
    ///
    /// # Errors
    /// [`Error::ListFull`], or [`Error::Map`] if the kernel cannot be asked.
    pub fn fits(&self, config: &config::Dataplane) -> Result<(), Error> {
        self.shared.lists.fits(config)
    }

    /// Takes over what a reload may change: ports, lists, sample rate. Entries denied at run time
    /// stay. Interfaces, mode, pin directory and capacity take a restart.
    ///
    /// # Errors
    /// [`Error::ListFull`] before anything is changed; [`Error::Map`] if the kernel refuses, with
    /// the lists partly changed.
    pub fn apply(&self, config: &config::Dataplane) -> Result<(), Error> {
        self.shared.lists.reload(config)
    }

    /// The operator's lists: what `edge deny` changes.
    pub fn lists(&self) -> &Arc<Lists> {
        &self.shared.lists
    }

    /// Penalties, token keys and the clock: what the gate feeds.
    pub fn penalties(&self) -> &Arc<Penalties> {
        &self.penalties
    }

    /// Makes the program judge attempts by penalties and tokens, or stop it. It goes on as it was
    /// through reloads and restarts; what is in the maps stays either way.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Pin`].
    pub fn switch_gate(&self, on: bool) -> Result<(), Error> {
        self.shared.lists.switch(GATE_ON, on)
    }

    /// Makes the program judge attempts while the node is locked down, gate or not, or stop it.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Pin`].
    pub fn switch_lockdown(&self, on: bool) -> Result<(), Error> {
        self.shared.lists.switch(LOCKDOWN_ON, on)
    }

    /// Makes the program judge TCP segments that start no connection, because of a flood of them,
    /// or stop it.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Pin`].
    pub fn switch_acks(&self, on: bool) -> Result<(), Error> {
        self.shared.lists.switch(ACKS_CHECKED, on)
    }

    /// The lockdown of TCP.
    pub const fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// TCP SYNs that were let through as attempts, since the maps were made.
    ///
    /// # Errors
    /// [`Error::Map`] if the kernel refuses to read.
    pub fn syns(&self) -> Result<u64, Error> {
        self.counters.one(COUNT_SYN)
    }

    /// Which of the daemons that follow each other this one is, for its connection ids.
    pub fn generation(&self) -> u16 {
        self.steering().generation()
    }

    /// Has the kernel give the datagrams of QUIC connections to the sockets of the workers that
    /// hold them: for each address the sockets bound to it, by worker. They get those of
    /// connections with this daemon's ids at once, new connections only after
    /// [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// The kernel does not take the program, or there are too many sockets. The kernel's hash goes
    /// on as it was.
    pub fn steer(&self, listening: &[(SocketAddr, Vec<&UdpSocket>)]) -> Result<(), Error> {
        let mut ebpf = self.shared.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        self.steering().place(&mut ebpf, listening)
    }

    /// New QUIC connections are this daemon's from now on, those of a daemon before stay where they
    /// are.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn take_over(&self) -> Result<(), Error> {
        self.steering().take_over()
    }

    /// Lets another daemon take over the pins: for one that only finishes what it has.
    pub fn release(&self) {
        // Under the lock: the thread that watches either has done with the pins or leaves them
        // alone.
        let _lock = self.shared.pins.as_ref().and_then(|pins| pins.lock().ok());
        self.shared.released.store(true, Ordering::Release);
        self.penalties.release();
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

    /// Where the program is attached now.
    pub fn interfaces(&self) -> Vec<Interface> {
        self.shared.links.attached()
    }

    /// What has become of the configured interfaces.
    pub fn links(&self) -> &Arc<Links> {
        &self.shared.links
    }

    /// The kernel's id of the program.
    ///
    /// # Errors
    /// [`Error::Program`] if the kernel does not say.
    pub fn program_id(&self) -> Result<u32, Error> {
        object::info(&self.shared.ebpf.lock().unwrap_or_else(PoisonError::into_inner)).map(|info| info.id())
    }

    /// Instructions that the kernel's verifier looked at, of the million that it does at most.
    /// `None` before Linux 5.16.
    ///
    /// # Errors
    /// [`Error::Program`] if the kernel does not say.
    pub fn verified(&self) -> Result<Option<u32>, Error> {
        let ebpf = self.shared.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(object::info(&ebpf)?.verified_instruction_count())
    }

    /// The samples of dropped packets: run it in a task of its own. `None` after the first call.
    pub fn events(&self) -> Option<Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whom dropped packets come from, by the samples that are logged.
    pub fn top_sources(&self) -> &TopSources {
        &self.top
    }

    /// For the metrics registry.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(
            Arc::clone(&self.counters),
            Arc::clone(&self.shared.lists),
            Arc::clone(&self.penalties),
        )
    }
}
