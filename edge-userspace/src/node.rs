//! The only assembly: has every room built from the configuration in the order in which a request
//! meets them ([`assembly`]), connects what travels back, and lives the node's life: start,
//! reloads, draining. Knows everybody; nobody knows it but the command line.

mod acme;
mod assembly;
mod cache;
mod coding;
mod control;
mod delta;
mod endpoint;
pub(crate) mod far;
mod feed;
pub(crate) mod fleet;
mod gates;
mod isolates;
mod ledger;
mod lists;
mod lockdown;
mod metrics;
mod overrides;
mod process;
mod reload;
mod state;
mod threads;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;

use crate::admin::access::NodeLogs;
use crate::base::ledger::Ledger;
use crate::base::peer;
use crate::base::service::{self, Asked, KeptReload, Signals};
use crate::base::shutdown::{self, Phase, Shutdown, Trigger};
use crate::base::watched::Watched;
use crate::config::{Config, Mistake};
use crate::dataplane::{Dataplane, Links, Lists};
use crate::delta::near;
use crate::gate::token::Tokens;
use crate::isolate::isolates::Isolates;
use crate::origin::Fleet;
use crate::rules;
use crate::zones::{self, Zones};
use crate::{admin, http, quic, tls};

use assembly::{Chain, Entrance, Ground, Inside};
use endpoint::Endpoint;
use state::State;

pub(crate) use overrides::{LogFormat, Run};

/// Runs a node until a signal ends it.
///
/// # Errors
/// What keeps the node from starting, with the mend. Nothing that happens later ends it.
pub(crate) fn run(run: &Run) -> anyhow::Result<()> {
    let config = run.configuration()?;
    // Before a key is read.
    let refused = process::seal(isolates::wanted(&config));
    let logs = NodeLogs::start(&config.log)?;
    if let Some(error) = refused {
        tracing::warn!(%error, "core dumps, with private keys in them, cannot be forbidden");
    }
    process::prepare(&config.limits);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()?;
    runtime.block_on(async {
        let kept = KeptReload::begin()?;
        let (trigger, shutdown) = shutdown::channel();
        let endpoint = Endpoint::bind(&config.admin).await?;
        let membership = fleet::begin(&config).await?;
        let node = Node::start(run, config, logs, shutdown, membership)?;
        // With workers, now that their engine has opened what it reads of the process.
        if let Err(error) = process::close() {
            tracing::warn!(%error, "other processes of this user may look into the memory, with private keys in it");
        }
        node.serve(endpoint, &trigger, kept).await
    })
}

/// Checks what `edge run` would check before it binds or attaches anything, and returns warnings.
///
/// # Errors
/// The mistakes, all of them.
pub(crate) fn check(config: Config) -> anyhow::Result<Vec<Mistake>> {
    reload::check(config)
}

/// Which rules of `config` fit `request`, and what comes out.
///
/// # Errors
/// No zone serves its host.
pub(crate) fn explain(config: &Config, request: &crate::base::invented::Invented) -> anyhow::Result<String> {
    let named = config.server.client_address.as_deref();
    Ok(rules::explain::explain(&Zones::new(&config.zones), named, request)?)
}

/// A running node.
struct Node {
    /// How it was started; a reload applies the command line again.
    overrides: Run,
    started: Instant,
    /// What it was started with, for the keys that only a start carries out.
    fixed: Config,
    /// What it listens on.
    open: threads::Open,
    state: ArcSwap<State>,
    metrics: metrics::Metrics,
    watched: Watched,
    lists: lists::KernelLists,
    zones: zones::Current,
    dataplane: Option<Dataplane>,
    /// What has become of the configured interfaces.
    links: Arc<Links>,
    /// The operator's lists, with and without XDP.
    listed: Arc<Lists>,
    /// What wait tokens and session tickets are made with.
    tokens: Arc<Tokens>,
    gates: Option<gates::Gates>,
    cache: Option<Arc<crate::cache::Shared>>,
    /// How operators have it filled.
    warming: cache::Warming,
    coding: Arc<crate::delta::browser::Shared>,
    front: Arc<tls::Front>,
    quic: Option<Arc<quic::Front>>,
    /// `None` if the node neither speaks QUIC nor has XDP.
    lockdowns: Option<lockdown::Lockdowns>,
    /// What is held for clients.
    ledger: Ledger,
    http: Arc<http::Shared>,
    redirect: Arc<http::Redirect>,
    near: Arc<near::Shared>,
    isolates: Option<Arc<Isolates>>,
    fleet: Arc<Fleet>,
    /// The node's place among others; `None`: it is alone.
    membership: Option<fleet::Membership>,
    /// Held by who puts a configuration into force.
    changes: fleet::Changes,
    /// A reload was asked for meanwhile.
    reload_asked: AtomicBool,
    ready: AtomicBool,
    logs: NodeLogs,
    shutdown: Shutdown,
    /// Ends the admin endpoint.
    endpoint: Trigger,
}

impl Node {
    /// Binds, prepares, builds the rooms from left to right, installs, then starts the threads.
    fn start(
        run: &Run,
        config: Config,
        logs: NodeLogs,
        shutdown: Shutdown,
        membership: Option<fleet::Membership>,
    ) -> anyhow::Result<Running> {
        peer::translators(&config.server.nat64);
        let mut registry = Registry::default();
        if let Some(membership) = &membership {
            membership.register(&mut registry);
        }
        admin::metrics::register(&mut registry, logs.dropped());
        let metrics = metrics::Metrics::register(&mut registry);

        let fixed = config.clone();
        let mut ground = Ground::lay(config, &mut registry)?;
        let entrance = Entrance::build(&mut ground, &mut registry)?;
        let inside = Inside::build(&mut ground, &entrance, &logs, &mut registry)?;

        let (endpoint, endpoint_ends) = shutdown::channel();
        let node = Arc::new(Self {
            overrides: run.clone(),
            fixed,
            open: ground.sockets.open().clone(),
            watched: Watched::default(),
            lists: lists::KernelLists::default(),
            started: Instant::now(),
            zones: ground.zones,
            dataplane: entrance.dataplane,
            links: entrance.links,
            listed: entrance.listed,
            tokens: entrance.tokens,
            gates: entrance.gates,
            cache: inside.cache,
            warming: cache::Warming::new(),
            coding: inside.coding,
            front: entrance.front,
            quic: entrance.quic,
            lockdowns: entrance.lockdowns,
            ledger: ground.ledger,
            http: inside.http,
            redirect: inside.redirect,
            near: inside.near,
            isolates: ground.isolates,
            fleet: ground.fleet,
            membership,
            changes: fleet::Changes::default(),
            reload_asked: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            logs,
            shutdown,
            endpoint,
            metrics,
            state: ArcSwap::from_pointee(ground.gathered.state),
        });
        node.metrics.zones(&node.state.load());
        node.watched.watch(ground.gathered.sight);
        if let Some(membership) = &node.membership {
            // Before a thread serves what is stored.
            membership.seat(&node);
        }
        let chain = Chain::new(node.clone(), inside.rules, entrance.steered)?;
        let threads = ground.sockets.start(node.isolates.is_some(), || chain.thread())?;
        Ok(Running {
            node,
            threads,
            registry: Arc::new(registry),
            endpoint_ends,
            acme: entrance.acme,
        })
    }

    /// Says that the node serves, to whoever waits for it.
    ///
    /// # Errors
    /// The kernel does not give this daemon new connections of QUIC.
    fn announce(&self) -> anyhow::Result<()> {
        if let Some(dataplane) = self.dataplane.as_ref().filter(|_| self.quic.is_some()) {
            dataplane.take_over()?;
        }
        self.ready.store(true, Ordering::Release);
        service::notify_ready();
        tracing::info!(
            https = ?self.open.https,
            http = ?self.open.http,
            plain = ?self.open.plain,
            zones = self.state.load().config.zones.len(),
            threads = self.open.threads,
            admin = %self.fixed.admin.listen,
            "serving"
        );
        Ok(())
    }
}

/// A node with its threads.
struct Running {
    node: Arc<Node>,
    threads: threads::Threads,
    registry: Arc<Registry>,
    endpoint_ends: Shutdown,
    acme: Option<crate::acme::Acme>,
}

impl Running {
    /// The control thread's life: admin, events, health, signals, and the way down.
    async fn serve(self, endpoint: Endpoint, trigger: &Trigger, kept: KeptReload) -> anyhow::Result<()> {
        let Self {
            node,
            threads,
            registry,
            endpoint_ends,
            acme,
        } = self;
        let admin = endpoint.serve(registry, node.clone(), endpoint_ends);
        tokio::spawn(node.front.clone().tend(node.shutdown.clone()));
        let health = tokio::spawn(node.fleet.clone().watch(node.shutdown.clone()));
        if let Some(events) = node.dataplane.as_ref().and_then(Dataplane::events) {
            tokio::spawn(async move {
                if let Err(error) = events.log().await {
                    tracing::warn!(target: "edge::dataplane", %error, "samples of dropped packets are not logged");
                }
            });
        }
        let mut signals = Signals::catch_after(kept)?;
        threads.ready().await?;
        node.announce()?;
        let upkeep = Upkeep::begin(&node, acme);
        while signals.next().await == Asked::Reload {
            node.reload();
        }

        node.ready.store(false, Ordering::Release);
        service::notify_stopping();
        tracing::info!(connections = node.front.connections(), "draining");
        trigger.advance(Phase::Draining);
        // From here on a successor may start beside this daemon: pins, keys and clock are its own,
        // and the kernel gives it what is new, while the packets of the connections that there are
        // still come here.
        upkeep.of_the_kernel.abort();
        if let Some(dataplane) = &node.dataplane {
            dataplane.release();
        }
        let time = node.state.load().config.server.drain;
        threads.drain(time, &mut signals, || node.front.connections()).await;

        trigger.advance(Phase::Stopped);
        node.endpoint.advance(Phase::Stopped);
        upkeep.of_the_node.iter().for_each(JoinHandle::abort);
        // What these tasks hold (a socket's file, for one) is let go before the process ends.
        let _ = admin.await;
        let _ = health.await;
        threads.join().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Tasks of the control thread that keep a serving node current. Those that are not here end by
/// themselves when it drains.
struct Upkeep {
    /// Keeps clock and keys of the kernel: its successor's, once the node drains.
    of_the_kernel: JoinHandle<()>,
    /// Go on until it stops.
    of_the_node: Vec<JoinHandle<()>>,
}

impl Upkeep {
    fn begin(node: &Arc<Node>, acme: Option<crate::acme::Acme>) -> Self {
        tokio::spawn(lockdown::watch(node.clone()));
        tokio::spawn(watch::tend(node.clone()));
        if let Some(acme) = acme {
            tokio::spawn(acme::tend(node.clone(), acme));
        }
        tokio::spawn(lists::tend(node.clone()));
        if let Some(membership) = &node.membership {
            tokio::spawn(membership.agent.clone().run(node.shutdown.clone()));
        }
        Self {
            of_the_kernel: tokio::spawn(gates::tick(node.clone())),
            of_the_node: vec![
                tokio::spawn(service::watchdog()),
                tokio::spawn(cache::tick(node.cache.clone())),
                tokio::spawn(coding::tick(node.coding.clone())),
                tokio::spawn(isolates::tick(node.clone())),
            ],
        }
    }
}
