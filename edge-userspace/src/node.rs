//! The only assembly: builds every room from the configuration in the order in which a request meets them, and connects
//! what travels back. Knows everybody; nobody knows it but the command line.

mod cache;
mod coding;
mod control;
mod delta;
pub(crate) mod far;
mod feed;
mod gates;
mod lockdown;
mod process;
mod worker;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::log::Logs;
use crate::base::clock::UnixTime;
use crate::base::shutdown::{self, Phase, Shutdown, Trigger};
use crate::cli::{LogFormat, Run, Xdp};
use crate::config::{self, Config, XdpMode};
use crate::dataplane::Dataplane;
use crate::delta::{Near, near};
use crate::gate::sealed;
use crate::gate::token::Tokens;
use crate::http::handler::Handler;
use crate::isolate::handler::Isolated;
use crate::isolate::isolates::Isolates;
use crate::origin::{self, Fleet, Origin};
use crate::route::gated::Gated;
use crate::route::routed::Routed;
use crate::zones::Zones;
use crate::{admin, http, quic, tls, zones};

/// Runs a node until a signal ends it.
///
/// # Errors
/// What keeps the node from starting, with the mend. Nothing that happens later ends it.
pub(crate) fn run(run: &Run) -> anyhow::Result<()> {
    let config = configuration(run)?;
    let certificates = tls::certificates::load(&config, None)?;
    let logs = admin::log::start(&config.log)?;
    process::prepare(&config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()?;
    runtime.block_on(async {
        let (trigger, shutdown) = shutdown::channel();
        // Before a worker accepts: a node that cannot be controlled must not take connections and drop them.
        let listen = &config.admin.listen;
        let admin = admin::server::bind(listen)
            .await
            .with_context(|| format!("the admin endpoint cannot listen on {listen}; write another [admin] listen"))?;
        let node = Node::start(run, config, certificates, logs, shutdown)?;
        node.serve(admin, &trigger).await
    })
}

/// Checks what `edge run` would check before it binds or attaches anything.
///
/// # Errors
/// The mistakes.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    let loaded = tls::certificates::load(config, None)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Fleet::new(
        &delta::with_far_ends(config),
        origin::Metrics::register(&mut Registry::default()),
    )?;
    Ok(())
}

/// The file, with what the command line says instead.
fn configuration(run: &Run) -> Result<Config, config::Mistakes> {
    let mut config = Config::read(&run.config)?;
    if !run.interface.is_empty() {
        config.dataplane.interfaces.clone_from(&run.interface);
        if config.dataplane.mode == XdpMode::Off {
            config.dataplane.mode = XdpMode::Auto;
        }
    }
    let mode = if run.no_xdp { Some(Xdp::Off) } else { run.xdp };
    match mode {
        Some(Xdp::Off) => config.dataplane.mode = XdpMode::Off,
        _ if config.dataplane.interfaces.is_empty() => config.dataplane.mode = XdpMode::Off,
        Some(Xdp::Auto) => config.dataplane.mode = XdpMode::Auto,
        Some(Xdp::Native) => config.dataplane.mode = XdpMode::Native,
        Some(Xdp::Generic) => config.dataplane.mode = XdpMode::Generic,
        None => {}
    }
    match run.log_format {
        Some(LogFormat::Human) => config.log.format = config::LogFormat::Human,
        Some(LogFormat::Json) => config.log.format = config::LogFormat::Json,
        None => {}
    }
    Ok(config)
}

/// A running node.
struct Node {
    /// How it was started; a reload applies the command line again.
    config_file: PathBuf,
    overrides: Run,
    started: Instant,
    config: ArcSwap<Config>,
    zones: zones::Current,
    dataplane: Option<Dataplane>,
    /// What wait tokens and session tickets are made with.
    tokens: Arc<Tokens>,
    gates: Option<gates::Gates>,
    cache: Option<Arc<crate::cache::Shared>>,
    coding: Arc<crate::delta::browser::Shared>,
    front: Arc<tls::Front>,
    quic: Option<Arc<quic::Front>>,
    /// Where QUIC is spoken.
    lockdowns: Option<lockdown::Lockdowns>,
    http: Arc<http::Shared>,
    redirect: Arc<http::Redirect>,
    near: Arc<near::Shared>,
    isolates: Option<Arc<Isolates>>,
    fleet: Arc<Fleet>,
    ready: AtomicBool,
    logs: Logs,
    shutdown: Shutdown,
    /// Ends the admin endpoint.
    endpoint: Trigger,
}

impl Node {
    /// Builds the rooms from left to right, then starts the workers.
    fn start(
        run: &Run,
        config: Config,
        certificates: tls::certificates::Loaded,
        logs: Logs,
        shutdown: Shutdown,
    ) -> anyhow::Result<Running> {
        let mut registry = Registry::default();
        admin::metrics::register(&mut registry, Some(logs.dropped()));
        for warning in &certificates.warnings {
            tracing::warn!(target: "edge::tls", "{warning}");
        }

        // Sockets first: a port that is taken must not cost an attached program.
        let sockets = worker::Sockets::bind(&config)?;
        let zones: zones::Current = Arc::new(ArcSwap::from_pointee(Zones::new(&config.zones)));

        // 1 dataplane
        let mut dataplane = match config.dataplane.mode {
            XdpMode::Off => None,
            _ => Some(Dataplane::start(&config.dataplane)?),
        };
        if let Some(dataplane) = &dataplane {
            registry.register_collector(Box::new(dataplane.metrics()));
        }

        // 2 gate
        let tokens = sealed::tokens(&config.gate, gates::wanted(&config), UnixTime::now())
            .map_err(|mistake| config::Mistakes(vec![mistake]))?;
        let gates = gates::Gates::start(&config, dataplane.as_ref(), &tokens, &mut registry)?;

        // 3 tls
        let door = gates.as_ref().map(|gates| gates.door(&tokens));
        let front = tls::Front::new(&config, certificates, tokens.clone(), door, &mut registry)?;

        // 4 quic
        let quic = match config.server.http3 && !config.server.https.is_empty() {
            true => {
                let lasts = sealed::lasts(&config.gate, gates::wanted(&config));
                let ids = lockdown::ids(&tokens, lasts, dataplane.as_ref())?;
                let front = quic::Front::new(&config, &front, tokens.clone(), ids.clone(), &mut registry)?;
                Some((front, ids))
            }
            false => None,
        };
        let lockdowns = match &quic {
            Some((front, ids)) => {
                steer(&config, dataplane.as_mut(), &sockets);
                let (front, ids, tokens) = (front.clone(), ids.clone(), tokens.clone());
                Some(lockdown::Lockdowns::start(
                    &config,
                    front,
                    ids,
                    tokens,
                    dataplane.as_ref(),
                )?)
            }
            None => None,
        };
        let quic = quic.map(|(front, _)| front);

        // 5 http
        let http = http::Shared::new(&config, zones.clone(), &mut registry);
        let redirect = Arc::new(http::Redirect::new(zones.clone(), config.server.redirect_port));

        // 7 isolate
        let isolates = workers::start(&config, zones.clone(), &mut registry)?;

        // 8 cache
        let cache = cache::start(&config, &mut registry)?;

        // 9 delta
        let coding = coding::start(&config, &mut registry);
        let near = delta::start(&config, &mut registry);

        // 10 origin, and the far ends, which it connects to like to origins
        let with_far_ends = delta::with_far_ends(&config);
        let fleet = Fleet::new(&with_far_ends, origin::Metrics::register(&mut registry))?;
        delta::install(&near, &config, &with_far_ends);

        let (endpoint, endpoint_ends) = shutdown::channel();
        let node = Arc::new(Self {
            config_file: run.config.clone(),
            overrides: run.clone(),
            started: Instant::now(),
            zones: zones.clone(),
            dataplane,
            tokens,
            gates,
            cache,
            coding,
            front: front.clone(),
            quic: quic.clone(),
            lockdowns,
            http: http.clone(),
            redirect: redirect.clone(),
            near: near.clone(),
            isolates,
            fleet: fleet.clone(),
            ready: AtomicBool::new(false),
            logs,
            shutdown: shutdown.clone(),
            endpoint,
            config: ArcSwap::from_pointee(config),
        });
        let config = node.config.load();
        let workers = sockets.start(config.server.workers, node.isolates.is_some(), || {
            // Right to left: gate(route(isolate | coding(cache(near(origin))))).
            let mut handler: Arc<dyn Handler> = Arc::new(Origin::new(fleet.clone()));
            handler = Arc::new(Near::new(near.clone(), handler));
            handler = cache::around(node.cache.as_ref(), handler);
            handler = coding::around(&node.coding, handler);
            if let Some(isolates) = &node.isolates {
                let isolated = Arc::new(Isolated::new(isolates.clone(), handler.clone()));
                handler = Arc::new(Routed::new(isolated.clone(), handler));
                // What workers ask of other zones travels back to where their own requests came from.
                isolated.join(Arc::downgrade(&handler));
            }
            if let Some(gates) = &node.gates {
                handler = Arc::new(Gated::new(gates.gate.clone(), handler));
            }
            worker::Worker {
                front: front.clone(),
                quic: quic.clone(),
                generation: node.dataplane.as_ref().map_or(0, Dataplane::generation),
                server: http::Server::new(http.clone(), handler, shutdown.clone()),
                redirect: http::Server::new(http.clone(), redirect.clone(), shutdown.clone()),
                shutdown: shutdown.clone(),
            }
        })?;
        Ok(Running {
            node,
            workers,
            registry: Arc::new(registry),
            endpoint_ends,
        })
    }
}

/// Has the kernel give each worker the datagrams of its own QUIC connections. Without that they go by the hash of addresses and
/// ports, which a client that moves to another network changes.
fn steer(config: &Config, dataplane: Option<&mut Dataplane>, sockets: &worker::Sockets) {
    match dataplane {
        Some(dataplane) => {
            if let Err(error) = dataplane.steer(&sockets.of_quic(config)) {
                tracing::warn!(
                    target: "edge::quic",
                    %error,
                    "datagrams are not steered: QUIC clients that change their address lose their connection, and a \
                     restart ends those that there are"
                );
            }
        }
        None if config.server.workers > 1 => tracing::warn!(
            target: "edge::quic",
            workers = config.server.workers,
            "without XDP datagrams are not steered: QUIC clients that change their address may lose their connection"
        ),
        None => {}
    }
}

/// A node with its threads.
struct Running {
    node: Arc<Node>,
    workers: worker::Workers,
    registry: Arc<Registry>,
    endpoint_ends: Shutdown,
}

impl Running {
    /// The control thread's life: admin, events, health, signals, and the way down.
    async fn serve(self, listener: admin::server::Listener, trigger: &Trigger) -> anyhow::Result<()> {
        let Self {
            node,
            workers,
            registry,
            endpoint_ends,
        } = self;
        let shutdown = node.shutdown.clone();
        let config = node.config.load_full();
        let admin = tokio::spawn(admin::server::serve(listener, registry, node.clone(), endpoint_ends));
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
        workers.ready().await?;
        if let Some(dataplane) = node.dataplane.as_ref().filter(|_| node.quic.is_some()) {
            dataplane.take_over()?;
        }
        node.ready.store(true, Ordering::Release);
        process::notify_ready();
        tracing::info!(
            https = ?config.server.https,
            http = ?config.server.http,
            zones = config.zones.len(),
            workers = config.server.workers,
            admin = %config.admin.listen,
            "serving"
        );
        let watchdog = tokio::spawn(process::watchdog());
        let ticking = tokio::spawn(gates::tick(node.clone()));
        let measuring = [
            tokio::spawn(cache::tick(node.cache.clone())),
            tokio::spawn(coding::tick(node.coding.clone())),
        ];
        let sweeping = tokio::spawn(workers::tick(node.clone()));
        tokio::spawn(lockdown::watch(node.clone()));
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
        // From here on a successor may start beside this daemon: pins, keys and clock are its own, and the kernel gives it what
        // is new, while the packets of the connections that there are still come here.
        ticking.abort();
        if let Some(dataplane) = &node.dataplane {
            dataplane.release();
        }
        let drain = node.config.load().server.drain;
        tokio::select! {
            () = workers.ended() => {}
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
        workers.join().await;
        tracing::info!("stopped");
        Ok(())
    }
}

impl Node {
    /// SIGHUP: swaps zones, certificates, lists, limits and logs; on any mistake everything stays as it was.
    fn reload(&self) {
        process::notify_reloading();
        match self.try_reload() {
            Ok(()) => {
                tracing::info!(file = %self.config_file.display(), zones = self.config.load().zones.len(), "reloaded")
            }
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    tracing::error!("not reloaded: {line}");
                }
            }
        }
        process::notify_ready();
    }

    fn try_reload(&self) -> anyhow::Result<()> {
        let new = configuration(&self.overrides)?;
        let loaded = tls::certificates::load(&new, Some(&self.front.key_servers()))?;
        let old = self.config.load();
        for key in control::needs_restart(&old, &new) {
            tracing::warn!("{key} was changed; that takes a restart");
        }
        if let Some(dataplane) = &self.dataplane {
            let mut lists = new.dataplane.clone();
            // The listeners are still the old ones.
            lists.tcp_ports.clone_from(&old.dataplane.tcp_ports);
            lists.udp_ports.clone_from(&old.dataplane.udp_ports);
            dataplane.apply(&lists)?;
        }
        for warning in &loaded.warnings {
            tracing::warn!(target: "edge::tls", "{warning}");
        }
        let zones = Zones::new(&new.zones);
        let with_far_ends = delta::with_far_ends(&new);
        let plan = self.fleet.plan(&with_far_ends)?;
        match &self.gates {
            Some(gates) => gates.gate.reload(&new.zones)?,
            None if gates::wanted(&new) => {
                tracing::warn!("[zone.gate] appeared for the first time; that takes a restart")
            }
            None => {}
        }
        if self.cache.is_none() && cache::wanted(&new) {
            tracing::warn!("[zone.cache] appeared for the first time; that takes a restart");
        }
        let workers = match &self.isolates {
            Some(isolates) => Some((isolates, isolates.plan(&new.zones)?)),
            None if workers::wanted(&new) => {
                tracing::warn!("[zone.worker] appeared for the first time; that takes a restart");
                None
            }
            None => None,
        };
        self.front.reload(&new, loaded)?;
        if let Some(quic) = &self.quic {
            quic.reload(&new, &self.front)?;
        }
        if let Some(lockdowns) = &self.lockdowns {
            lockdowns.reload(&new);
        }
        self.fleet.install(plan);
        delta::install(&self.near, &new, &with_far_ends);
        if let Some((isolates, plan)) = workers {
            isolates.install(plan);
        }
        self.zones.store(Arc::new(zones));
        self.http.reload(&new);
        self.redirect.adjust(new.server.redirect_port);
        self.logs.apply(&new.log);
        self.config.store(Arc::new(new));
        Ok(())
    }
}
