//! The far end as a process: `edge far-end`. Near ends come in over mutual TLS, meet the room
//! `delta`, and behind it the origins.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::{process, threads};
use crate::admin::access::NodeLogs;
use crate::admin::{Control, ControlError, OriginOrder};
use crate::base::clock::UnixTime;
use crate::base::service::{self, Asked, Signals};
use crate::base::shutdown::{self, Phase, Shutdown, Trigger};
use crate::config::Mistakes;
use crate::config::far::{FarConfig, FarFixed};
use crate::dataplane::Lists;
use crate::delta::versions::{OnDisk, Versions};
use crate::delta::{Far, Metrics, far};
use crate::gate::keys::{Epochs, Secret};
use crate::gate::token::Tokens;
use crate::gate::verdict::Ungated;
use crate::http::handler::{Front, Handler};
use crate::origin::{self, Fleet, Origin};
use crate::route::gated::Open;
use crate::zones::{self, Zones};
use crate::{admin, http, tls};

/// Runs a far end until a signal ends it.
///
/// # Errors
/// What keeps it from starting, with the mend.
pub(crate) fn run(file: PathBuf) -> anyhow::Result<()> {
    let config = FarConfig::read(&file)?;
    let certificates = tls::certificates::load_one(&config.identity)?;
    let logs = NodeLogs::start(&config.log)?;
    process::prepare(&config.limits);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()?;
    runtime.block_on(async {
        let (trigger, shutdown) = shutdown::channel();
        let endpoint = Endpoint::bind(&config.admin).await?;
        let mut registry = Registry::default();
        admin::metrics::register(&mut registry, logs.dropped());
        for warning in &certificates.warnings {
            tracing::warn!(target: "edge::tls", "{warning}");
        }
        let sockets = threads::Sockets::bind(&config.server)?;
        let zones: zones::Current = Arc::new(ArcSwap::from_pointee(Zones::new(&config.zones)));
        let front = tls::Front::new(
            config.serving(),
            certificates,
            tokens()?,
            None,
            Arc::new(Lists::none()),
            &mut registry,
        )?;
        let ledger = super::ledger::start(config.serving(), &mut registry);
        let http = http::Shared::new(
            config.serving(),
            &[],
            zones.clone(),
            (ledger, logs.lines()),
            &mut registry,
        );
        let fleet = Fleet::new(&zones.load(), origin::Metrics::register(&mut registry))?;
        let shared = store(&config, &mut registry)?;
        let redirect = Arc::new(http::Redirect::new(zones.clone(), config.server.redirect_port));
        let ungated = Ungated::of(&config.zones).context("a far end's zone has a gate")?;
        let open = sockets.open().clone();
        let running = sockets.start(false, || {
            // Right to left, behind the door: far(origin).
            let origin: Arc<dyn Handler> = Arc::new(Origin::new(fleet.clone()));
            let far: Arc<dyn Handler> = Arc::new(Far::new(shared.clone(), origin));
            let handler: Arc<dyn Front> = Arc::new(Open::new(ungated, far));
            threads::Worker {
                front: front.clone(),
                quic: None,
                generation: 0,
                steered: false,
                server: http::Server::new(http.clone(), handler, shutdown.clone()),
                redirect: http::Server::new(http.clone(), redirect.clone(), shutdown.clone()),
                clock: None,
                warmer: None,
                shutdown: shutdown.clone(),
            }
        })?;
        let end = Arc::new(End {
            file,
            started: Instant::now(),
            open,
            fixed: config.fixed.clone(),
            config: ArcSwap::from_pointee(config),
            zones,
            front,
            http,
            fleet,
            ready: AtomicBool::new(false),
            logs,
            shutdown,
        });
        end.serve(endpoint, Arc::new(registry), running, &trigger).await
    })
}

/// Checks what `run` would check before it binds anything.
///
/// # Errors
/// The mistakes.
pub(crate) fn check(config: &FarConfig) -> anyhow::Result<()> {
    let loaded = tls::certificates::load_one(&config.identity)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let mut registry = Registry::default();
    Fleet::new(&Zones::new(&config.zones), origin::Metrics::register(&mut registry))?;
    tls::Front::new(
        config.serving(),
        loaded,
        tokens()?,
        None,
        Arc::new(Lists::none()),
        &mut registry,
    )?;
    Ok(())
}

/// No client has a ticket here; keys that end with the process will do.
fn tokens() -> anyhow::Result<Arc<Tokens>> {
    let secret = Secret::random().context("the system has no random numbers")?;
    Ok(Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now())))
}

fn store(config: &FarConfig, registry: &mut Registry) -> anyhow::Result<Arc<far::Shared>> {
    let store = &config.store;
    let metrics = Metrics::far(registry);
    let disk = store.disk.as_ref().map(|(bytes, directory)| OnDisk {
        directory,
        bytes: *bytes,
    });
    let versions = Versions::open(store.memory, disk, metrics.clone()).map_err(|error| {
        let mend = "make it writable for this user, or write disk = \"0B\"";
        Mistakes(vec![store.directory_place.mistake(error.to_string(), mend)])
    })?;
    far::Shared::new(versions, store.encodings, store.object_bytes, metrics)
        .context("cannot start the encoder's thread")
}

/// A running far end.
struct End {
    file: PathBuf,
    started: Instant,
    /// What it listens on.
    open: threads::Open,
    /// What the file said at the start in keys that a reload does not carry out.
    fixed: FarFixed,
    config: ArcSwap<FarConfig>,
    zones: zones::Current,
    front: Arc<tls::Front>,
    http: Arc<http::Shared>,
    fleet: Arc<Fleet>,
    ready: AtomicBool,
    logs: NodeLogs,
    shutdown: Shutdown,
}

impl End {
    async fn serve(
        self: Arc<Self>,
        endpoint: Endpoint,
        registry: Arc<Registry>,
        threads: threads::Threads,
        trigger: &Trigger,
    ) -> anyhow::Result<()> {
        let admin = endpoint.serve(registry, self.clone(), self.shutdown.clone());
        let health = tokio::spawn(self.fleet.clone().watch(self.shutdown.clone()));
        let mut signals = Signals::catch()?;
        threads.ready().await?;
        self.ready.store(true, Ordering::Release);
        service::notify_ready();
        {
            let config = self.config.load();
            let (listen, zones) = (&config.server.https, config.zones.len());
            tracing::info!(?listen, zones, admin = %config.admin.listen, "serving near ends");
        }
        let watchdog = tokio::spawn(service::watchdog());
        while signals.next().await == Asked::Reload {
            self.reload();
        }
        self.ready.store(false, Ordering::Release);
        service::notify_stopping();
        trigger.advance(Phase::Draining);
        let time = self.config.load().server.drain;
        threads.drain(time, &mut signals, || self.front.connections()).await;
        trigger.advance(Phase::Stopped);
        watchdog.abort();
        // What these tasks hold (a socket's file, for one) is let go before the process ends.
        let _ = admin.await;
        let _ = health.await;
        threads.join().await;
        tracing::info!("stopped");
        Ok(())
    }

    /// SIGHUP: swaps zones, origins, certificates, limits and logs; on any mistake everything stays
    /// as it was.
    fn reload(&self) {
        service::notify_reloading();
        match self.try_reload() {
            Ok(()) => tracing::info!(file = %self.file.display(), "reloaded"),
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    tracing::error!("not reloaded: {line}");
                }
            }
        }
        service::notify_ready();
    }

    fn try_reload(&self) -> anyhow::Result<()> {
        let new = FarConfig::read(&self.file)?;
        let loaded = tls::certificates::load_one(&new.identity)?;
        let zones = Zones::new(&new.zones);
        let plan = self.fleet.plan(&zones)?;
        let tls = self.front.plan(new.serving(), loaded)?;
        for key in self.fixed.that_differ(&new.fixed) {
            tracing::warn!("{key} is not what the far end was started with; that takes a restart");
        }
        self.front.install(tls);
        self.fleet.install(plan);
        self.zones.store(Arc::new(zones));
        self.http.reload(new.serving(), &[]);
        self.logs.apply(&new.log);
        self.config.store(Arc::new(new));
        Ok(())
    }
}

impl Control for End {
    fn status(&self) -> Value {
        let config = self.config.load();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "role": "far end",
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "config": self.file.display().to_string(),
            "threads": self.open.threads,
            "listeners": self.open.https,
            "connections": self.front.connections(),
            "zones": config.zones.iter().map(|zone| &*zone.name).collect::<Vec<_>>(),
            "origins": self.fleet.status(),
        })
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn origin(&self, order: &OriginOrder) -> Result<(), ControlError> {
        super::control::origin(&self.fleet, order)
    }

    fn leave(&self) -> Result<(), ControlError> {
        Err(ControlError("a far end has no successor beside it".to_owned()))
    }
}
