//! The only assembly: builds every room from the configuration in the order in which a request
//! meets them, and connects what travels back. Knows everybody; nobody knows it but the command
//! line.

mod acme;
mod cache;
mod coding;
mod control;
mod delta;
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

use anyhow::Context;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::access::NodeLogs;
use crate::admin::server::Rights;
use crate::base::clock::UnixTime;
use crate::base::ledger::Ledger;
use crate::base::shutdown::{self, Phase, Shutdown, Trigger};
use crate::config::{self, Config, Mistake, XdpMode};
use crate::dataplane::{Dataplane, Links, Lists};
use crate::delta::{Near, near};
use crate::gate::sealed;
use crate::gate::token::Tokens;
use crate::gate::verdict::Ungated;
use crate::http::handler::{Front, Handler};
use crate::isolate::handler::Isolated;
use crate::isolate::isolates::Isolates;
use crate::origin::{self, Fleet, Origin};
use crate::route::gated::{Gated, Open};
use crate::route::ready::Ready;
use crate::route::routed::Routed;
use crate::rules::{self, Ruled};
use crate::zones::Zones;
use crate::{admin, http, quic, tls, zones};

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
    process::prepare(&config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()?;
    runtime.block_on(async {
        let (trigger, shutdown) = shutdown::channel();
        // Before a thread accepts: a node that cannot be controlled must not take connections and
        // drop them.
        let listen = &config.admin.listen;
        let admin = admin::server::bind(listen)
            .await
            .with_context(|| format!("the admin endpoint cannot listen on {listen}; write another [admin] listen"))?;
        let reading = reading(&config.admin).await?;
        let membership = fleet::begin(&config).await?;
        let node = Node::start(run, config, logs, shutdown, membership)?;
        // With workers, now that their engine has opened what it reads of the process.
        if let Err(error) = process::close() {
            tracing::warn!(%error, "other processes of this user may look into the memory, with private keys in it");
        }
        node.serve((admin, reading), &trigger).await
    })
}

/// The admin endpoint for those who read, where there is one apart from that for commands.
async fn reading(admin: &config::Admin) -> anyhow::Result<Option<admin::server::Listener>> {
    let Some(address) = admin.read else { return Ok(None) };
    let bound = admin::server::bind_reading(address).await;
    let words = || format!("the admin endpoint cannot listen on {address}; write another [admin] read");
    Ok(Some(bound.with_context(words)?))
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
    watched: crate::base::watched::Watched,
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
        let mut registry = Registry::default();
        if let Some(membership) = &membership {
            membership.register(&mut registry);
        }
        admin::metrics::register(&mut registry, logs.dropped());
        let metrics = metrics::Metrics::register(&mut registry);

        // Sockets first: a port that is taken must not cost an attached program.
        let sockets = threads::Sockets::bind(&config)?;
        let fixed = config.clone();
        let zones: zones::Current = Arc::default();
        let ledger = ledger::start(&config, &mut registry);
        let isolates = isolates::start(&config, zones.clone(), &ledger, &mut registry)?;
        let fleet = Fleet::empty(origin::Metrics::register(&mut registry));
        let mut gathered = reload::gather_first(config, &reload::Rooms::empty(&fleet, isolates.as_deref()))?;
        gathered.tell();
        let config = gathered.state.config.clone();
        zones.store(Arc::new(gathered.zones()));

        // 1 dataplane
        let (dataplane, links) = attach(&config)?;
        registry.register_collector(Box::new(links.metrics()));
        let listed = match &dataplane {
            Some(dataplane) => {
                registry.register_collector(Box::new(dataplane.metrics()));
                dataplane.lists().clone()
            }
            None => Arc::new(Lists::alone(&config.dataplane)?),
        };

        // 2 gate
        let tokens = sealed::tokens(&config.gate, gates::lasting(&config), UnixTime::now())
            .map_err(|mistake| config::Mistakes(vec![mistake]))?;
        fleet.seal(&tokens.derive(b"cookies that lead to servers"));
        let gates = gates::Gates::start(&config, dataplane.as_ref(), &tokens, &mut registry)?;
        if let Some(gates) = &gates {
            gates
                .gate
                .install(&config.zones, std::mem::take(&mut gathered.pages), |_| false);
        }

        // 3 tls
        let door = gates.as_ref().map(|gates| gates.door(&tokens));
        let loaded = std::mem::take(&mut gathered.loaded);
        let front = tls::Front::new(&config, loaded, tokens.clone(), door, listed.clone(), &mut registry)?;

        // certificates that are ordered for zones
        let acme = config
            .acme
            .is_on()
            .then(|| acme::start(&config, front.certificates(), &mut registry));

        // 4 quic
        let quic = match sockets.open().quic.is_empty() {
            false => {
                let lasts = sealed::lasts(&config.gate, gates::lasting(&config));
                let ids = lockdown::ids(&tokens, lasts, dataplane.as_ref())?;
                let front = quic::Front::new(&config, &front, tokens.clone(), ids.clone(), &mut registry)?;
                Some((front, ids))
            }
            true => None,
        };
        let steered = quic.is_some() && steer(dataplane.as_ref(), &sockets);
        let lockdowns = match quic.is_some() || dataplane.is_some() {
            true => {
                let (front, tokens) = (front.clone(), tokens.clone());
                let dataplane = dataplane.as_ref();
                Some(lockdown::Lockdowns::start(
                    &config,
                    quic.clone(),
                    front,
                    tokens,
                    dataplane,
                )?)
            }
            false => None,
        };
        let quic = quic.map(|(front, _)| front);

        // 5 http, and the accounts of what is held for its clients
        let advertised = sockets.open().advertised(&config);
        let http = http::Shared::new(
            &config,
            &advertised,
            zones.clone(),
            (ledger.clone(), logs.lines()),
            &mut registry,
        );
        http.keep_to(listed.clone());
        let redirect = Arc::new(http::Redirect::new(zones.clone(), config.server.redirect_port));

        // 6 rules
        let rules =
            rules::Shared::new(&mut registry).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;

        // 7 isolate
        if let (Some(isolates), Some(plan)) = (&isolates, gathered.isolates.take()) {
            isolates.install(plan, |_| false, |zone| gathered.state.is_out(zone));
        }

        // 8 cache
        let cache = cache::start(&config, &ledger, &mut registry)?;

        // 9 delta
        let coding = coding::start(&config, &mut registry);
        let near = delta::start(&config, &mut registry);

        // 10 origin, and the far ends, which it connects to like to origins
        gathered.install_fleet(&fleet, &near);

        let (endpoint, endpoint_ends) = shutdown::channel();
        let node = Arc::new(Self {
            overrides: run.clone(),
            fixed,
            open: sockets.open().clone(),
            watched: crate::base::watched::Watched::default(),
            lists: lists::KernelLists::default(),
            started: Instant::now(),
            zones: zones.clone(),
            dataplane,
            links,
            listed,
            tokens,
            gates,
            cache,
            warming: cache::Warming::new(),
            coding,
            front: front.clone(),
            quic: quic.clone(),
            lockdowns,
            ledger,
            http: http.clone(),
            redirect: redirect.clone(),
            near: near.clone(),
            isolates,
            fleet: fleet.clone(),
            membership,
            changes: fleet::Changes::default(),
            reload_asked: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            logs,
            shutdown: shutdown.clone(),
            endpoint,
            metrics,
            state: ArcSwap::from_pointee(gathered.state),
        });
        node.metrics.zones(&node.state.load());
        node.watched.watch(gathered.sight);
        if let Some(membership) = &node.membership {
            // Before a thread serves what is stored.
            membership.seat(&node);
        }
        let entry = match &node.gates {
            Some(gates) => Ok(gates.gate.clone()),
            None => Err(Ungated::of(&config.zones).context("a zone has a gate, and the node has none")?),
        };
        let threads = sockets.start(node.isolates.is_some(), || {
            // Right to left, behind the door: gate(rules(route(coding(isolate) |
            // coding(cache(near(origin)))))).
            let mut handler: Arc<dyn Handler> = Arc::new(Origin::new(fleet.clone()));
            handler = Arc::new(Near::new(near.clone(), handler));
            handler = cache::around(node.cache.as_ref(), handler);
            handler = coding::around(&node.coding, handler);
            let isolated = node.isolates.as_ref();
            let isolated = isolated.map(|isolates| Arc::new(Isolated::new(isolates.clone(), handler.clone())));
            // What a worker makes is coded as what comes from the origin.
            let worker = isolated.clone().map(|isolated| coding::around(&node.coding, isolated));
            handler = Arc::new(Routed::new(worker, handler));
            handler = Arc::new(Ready::new(handler));
            handler = Arc::new(Ruled::new(handler, rules.clone()));
            if let Some(isolated) = &isolated {
                // What workers ask of other zones travels back to where their own requests came
                // from.
                isolated.join(Arc::downgrade(&handler));
            }
            let warmer = node.warming.warmer(&handler, &zones);
            let handler: Arc<dyn Front> = match &entry {
                Ok(gate) => Arc::new(Gated::new(gate.clone(), handler)),
                Err(ungated) => Arc::new(Open::new(*ungated, handler)),
            };
            threads::Worker {
                front: front.clone(),
                quic: quic.clone(),
                generation: node.dataplane.as_ref().map_or(0, Dataplane::generation),
                steered,
                server: http::Server::new(http.clone(), handler.clone(), shutdown.clone()),
                redirect: http::Server::new(http.clone(), plain(&redirect, &front, handler), shutdown.clone()),
                shutdown: shutdown.clone(),
                clock: isolated,
                warmer,
            }
        })?;
        Ok(Running {
            node,
            threads,
            registry: Arc::new(registry),
            endpoint_ends,
            acme,
        })
    }
}

/// What plain listeners answer: a redirect, but for challenges of ACME servers, which go where all
/// requests of the zone go.
fn plain(redirect: &Arc<http::Redirect>, tls: &tls::Front, next: Arc<dyn Front>) -> Arc<dyn Front> {
    let challenges = tls.certificates().challenges().clone();
    Arc::new(http::redirect::Plain::new(redirect.clone(), challenges, next))
}

/// The program on its interfaces. In mode `auto` a kernel, machine or device that refuses leaves
/// the node without XDP, and says so.
///
/// # Errors
/// A mistake of the operator's, or another daemon in the way; in the other modes any refusal.
fn attach(config: &Config) -> anyhow::Result<(Option<Dataplane>, Arc<Links>)> {
    let interfaces = &config.dataplane.interfaces;
    if config.dataplane.mode == XdpMode::Off {
        return Ok((None, Links::open(&[], "")));
    }
    match Dataplane::start(&config.dataplane) {
        Ok(dataplane) => {
            let links = dataplane.links().clone();
            Ok((Some(dataplane), links))
        }
        Err(error) if config.dataplane.mode == XdpMode::Auto && error.is_refusal() => {
            let reason = error.to_string();
            tracing::warn!(
                target: "edge::dataplane",
                reason,
                ?interfaces,
                "this node runs WITHOUT XDP: no packet is judged in the kernel (xdp = \"off\" says that this is meant)"
            );
            Ok((None, Links::open(interfaces, &reason)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel give each worker the datagrams of its own QUIC connections. Without that they go
/// by the hash of addresses and ports, which a client that moves to another network changes.
/// Whether it does.
fn steer(dataplane: Option<&Dataplane>, sockets: &threads::Sockets) -> bool {
    match dataplane {
        Some(dataplane) => match dataplane.steer(&sockets.of_quic()) {
            Ok(()) => return true,
            Err(error) => {
                tracing::warn!(
                    target: "edge::quic",
                    %error,
                    "datagrams are not steered: QUIC clients that change their address lose their connection, and a \
                     restart ends those that there are"
                );
            }
        },
        None if sockets.open().threads > 1 => tracing::warn!(
            target: "edge::quic",
            threads = sockets.open().threads,
            "without XDP datagrams are not steered: QUIC clients that change their address may lose their connection"
        ),
        None => {}
    }
    false
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
    async fn serve(
        self,
        (listener, reading): (admin::server::Listener, Option<admin::server::Listener>),
        trigger: &Trigger,
    ) -> anyhow::Result<()> {
        let Self {
            node,
            threads,
            registry,
            endpoint_ends,
            acme,
        } = self;
        let shutdown = node.shutdown.clone();
        let admin = tokio::spawn(admin::server::serve(
            listener,
            Rights::Command,
            registry.clone(),
            node.clone(),
            endpoint_ends.clone(),
        ));
        if let Some(reading) = reading {
            let node = node.clone();
            tokio::spawn(admin::server::serve(
                reading,
                Rights::Read,
                registry,
                node,
                endpoint_ends,
            ));
        }
        tokio::spawn(node.front.clone().tend(shutdown.clone()));
        let health = tokio::spawn(node.fleet.clone().watch(shutdown.clone()));
        if let Some(events) = node.dataplane.as_ref().and_then(Dataplane::events) {
            tokio::spawn(async move {
                if let Err(error) = events.log().await {
                    tracing::warn!(target: "edge::dataplane", %error, "samples of dropped packets are not logged");
                }
            });
        }
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        threads.ready().await?;
        if let Some(dataplane) = node.dataplane.as_ref().filter(|_| node.quic.is_some()) {
            dataplane.take_over()?;
        }
        node.ready.store(true, Ordering::Release);
        process::notify_ready();
        tracing::info!(
            https = ?node.open.https,
            http = ?node.open.http,
            plain = ?node.open.plain,
            zones = node.state.load().config.zones.len(),
            threads = node.open.threads,
            admin = %node.fixed.admin.listen,
            "serving"
        );
        let watchdog = tokio::spawn(process::watchdog());
        let ticking = tokio::spawn(gates::tick(node.clone()));
        let measuring = [
            tokio::spawn(cache::tick(node.cache.clone())),
            tokio::spawn(coding::tick(node.coding.clone())),
        ];
        let sweeping = tokio::spawn(isolates::tick(node.clone()));
        tokio::spawn(lockdown::watch(node.clone()));
        tokio::spawn(watch::tend(node.clone()));
        if let Some(acme) = acme {
            tokio::spawn(acme::tend(node.clone(), acme));
        }
        tokio::spawn(lists::tend(node.clone()));
        if let Some(membership) = &node.membership {
            tokio::spawn(membership.agent.clone().run(shutdown.clone()));
        }
        loop {
            tokio::select! {
                _ = hangup.recv() => node.reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        node.ready.store(false, Ordering::Release);
        process::notify_stopping();
        tracing::info!(connections = node.front.connections(), "draining");
        trigger.advance(Phase::Draining);
        // From here on a successor may start beside this daemon: pins, keys and clock are its own,
        // and the kernel gives it what is new, while the packets of the connections that there are
        // still come here.
        ticking.abort();
        if let Some(dataplane) = &node.dataplane {
            dataplane.release();
        }
        let drain = node.state.load().config.server.drain;
        tokio::select! {
            () = threads.ended() => {}
            () = tokio::time::sleep(drain) => {
                tracing::warn!(connections = node.front.connections(), "the drain time is over; what is left is cut");
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        trigger.advance(Phase::Stopped);
        node.endpoint.advance(Phase::Stopped);
        watchdog.abort();
        measuring.iter().for_each(tokio::task::JoinHandle::abort);
        sweeping.abort();
        // What these tasks hold (a socket's file, for one) is let go before the process ends.
        let _ = admin.await;
        let _ = health.await;
        threads.join().await;
        tracing::info!("stopped");
        Ok(())
    }
}
