//! The key server's assembly: the process is closed first, then the rooms' parts are built in the
//! order in which a query meets them; signals reload and drain.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::lane::Lane;
use super::metrics::Metrics;
use super::rules::{self, Rules};
use super::serve;
use super::shared::{Shared, TOLD_EVERY};
use super::store::{Directory, Look, StoreError};
use super::{endpoint, process};
use crate::admin::log::{self, Logs};
use crate::admin::metrics as process_metrics;
use crate::base::clock::UnixTime;
use crate::base::generator;
use crate::base::service::{self, Asked, Signals};
use crate::base::shutdown::{self, Phase, Shutdown, Trigger};
use crate::base::watched::{Sight, Watched};
use crate::config::LogFormat;
use crate::config::keyserver::Config;

/// Runs the key server until a signal ends it.
///
/// # Errors
/// What keeps it from starting, with the mend. Nothing that happens later ends it.
pub(super) fn run(file: &Path, format: Option<LogFormat>) -> anyhow::Result<()> {
    process::seal()?;
    let mut config = Config::read(file)?;
    config.log.format = format.unwrap_or(config.log.format);
    let watched = Watched::default();
    watched.watch(Sight::before_reading(rules::files(&config)));
    let rules = Rules::load(&config, None)?;
    let listeners = bind(&config)?;
    let mut warnings: Vec<String> = process::descriptors(&config).into_iter().collect();
    warnings.extend(process::lock_memory(config.process.lock_memory)?);
    // Before any other thread: each has a user of its own.
    process::become_user(config.process.user.as_ref())?;

    let logs = log::start(&config.log)?;
    for warning in warnings {
        tracing::warn!(target: "edge::keyserver", "{warning}");
    }
    let mut registry = Registry::default();
    process_metrics::register(&mut registry, logs.dropped());
    let metrics = Arc::new(Metrics::register(&mut registry));
    let mut directory = Directory::new(config.keys.directory.0.clone());
    let look = directory.look().map_err(|error| {
        let place = &config.keys.directory.1;
        place.mistake(error.to_string(), "name it in [keys] directory")
    });
    tell(&Ok(look.map_err(anyhow::Error::msg)?), &metrics, &directory);
    let lane = Arc::new(Lane::new(config.limits.queue));
    lane.start(config.server.workers, &metrics)?;
    let shared = Arc::new(Shared::new(
        rules,
        directory.current(),
        lane,
        config.limits.clone(),
        metrics,
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.server.workers)
        .enable_all()
        .thread_name("serve")
        .on_thread_start(generator::warm)
        .build()?;
    runtime.block_on(async {
        let (trigger, shutdown) = shutdown::channel();
        let listen = config.admin.clone();
        let admin = endpoint::bind(&listen)
            .await
            .with_context(|| format!("the admin endpoint cannot listen on {listen}; write another [admin] listen"))?;
        let server = Server {
            file: file.to_owned(),
            format,
            watched,
            told: HashMap::new(),
            config,
            logs,
            directory,
            shared,
            shutdown,
        };
        server.serve(listeners, admin, registry, &trigger).await
    })
}

/// Checks what `run` would check before it serves. Gives warnings about single keys.
pub(super) fn check(file: &Path) -> anyhow::Result<(Config, Directory, Look)> {
    let config = Config::read(file)?;
    let rules = Rules::load(&config, None)?;
    let now = i64::try_from(UnixTime::now().secs()).unwrap_or(i64::MAX);
    for (_, warning) in rules.ending(now) {
        eprintln!("warning: {warning}");
    }
    let (path, place) = config.keys.directory.clone();
    let mut directory = Directory::new(path);
    let look = directory
        .look()
        .map_err(|error| anyhow::Error::msg(place.mistake(error.to_string(), "name it in [keys] directory")))?;
    Ok((config, directory, look))
}

fn bind(config: &Config) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let bind = |address: &std::net::SocketAddr| {
        let listener = std::net::TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address}; write another [server] listen"))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    config.server.listen.iter().map(bind).collect()
}

/// Logs and counts what a look at the key directory found.
fn tell(look: &Result<Look, StoreError>, metrics: &Metrics, directory: &Directory) {
    match look {
        Ok(look) => {
            for error in &look.errors {
                tracing::error!(target: "edge::keyserver", %error, "a key is of no use");
            }
            for key in &look.added {
                tracing::info!(target: "edge::keyserver", name = &*key.name, kind = %key.kind, id = %key.id, "key in force");
            }
            for key in &look.removed {
                tracing::info!(target: "edge::keyserver", name = &*key.name, id = %key.id, "key removed");
            }
            metrics.key_errors.set(i64::try_from(look.bad).unwrap_or(i64::MAX));
        }
        Err(error) => {
            // Told when it begins, not every time it is looked for.
            if metrics.key_errors.get() == 0 {
                tracing::error!(target: "edge::keyserver", %error, "the keys stay as they are");
            }
            metrics.key_errors.set(1);
        }
    }
    let keys = directory.current().load().len();
    metrics.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
}

/// A running key server.
struct Server {
    file: PathBuf,
    format: Option<LogFormat>,
    config: Config,
    logs: Logs,
    directory: Directory,
    shared: Arc<Shared>,
    shutdown: Shutdown,
    /// The files of the rules.
    watched: Watched,
    /// When it was told of each file that it ends.
    told: HashMap<PathBuf, Instant>,
}

impl Server {
    async fn serve(
        mut self,
        listeners: Vec<std::net::TcpListener>,
        admin: endpoint::Listener,
        registry: Registry,
        trigger: &Trigger,
    ) -> anyhow::Result<()> {
        let mut signals = Signals::catch()?;
        let draining = Arc::new(AtomicBool::new(false));
        let shown = endpoint::Shown {
            registry,
            unready: unready(&self.shared, &draining),
        };
        let admin = tokio::spawn(endpoint::serve(admin, Arc::new(shown), self.shutdown.clone()));
        let mut tasks = JoinSet::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(serve::serve(listener, self.shared.clone(), self.shutdown.clone()));
        }
        if self.config.process.seccomp {
            // All threads are there.
            process::filter()?;
        }
        let listen = &self.config.server.listen;
        tracing::info!(target: "edge::keyserver", ?listen, keys = self.shared.metrics.keys.get(), "ready");
        service::notify_ready();

        self.tell_ends();
        let mut poll = tokio::time::interval(self.config.keys.poll);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    self.look();
                    if !self.watched.changed().is_empty() {
                        self.renew();
                    }
                    self.tell_ends();
                }
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload(),
                    Asked::End => break,
                },
            }
        }

        let drain = self.config.server.drain;
        tracing::info!(target: "edge::keyserver", ?drain, "draining");
        service::notify_stopping();
        draining.store(true, Ordering::Release);
        trigger.advance(Phase::Draining);
        let ended = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(drain) => {
                let left = self.shared.metrics.connections.get();
                tracing::warn!(target: "edge::keyserver", left, "connections are cut: they took longer than server.drain");
            }
            // Whoever asks twice does not want to wait.
            () = signals.end() => {}
        }
        trigger.advance(Phase::Stopped);
        self.shared.lane.stop();
        // Its socket file goes with it.
        let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
        tracing::info!(target: "edge::keyserver", "stopped");
        Ok(())
    }

    fn look(&mut self) {
        let look = self.directory.look();
        tell(&look, &self.shared.metrics, &self.directory);
        let waiting = self.shared.lane.len();
        self.shared
            .metrics
            .rsa_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn reload(&mut self) {
        service::notify_reloading();
        let loaded = Config::read(&self.file).and_then(|mut config| {
            config.log.format = self.format.unwrap_or(config.log.format);
            let sight = Sight::before_reading(rules::files(&config));
            let rules = Rules::load(&config, Some(&self.shared.rules.load()))?;
            Ok((config, rules, sight))
        });
        match loaded {
            Ok((config, rules, sight)) => {
                let mut keys = self.config.fixed.that_differ(&config.fixed);
                // The command line speaks for it.
                keys.retain(|key| self.format.is_none() || key != "log.format");
                if !keys.is_empty() {
                    tracing::warn!(target: "edge::keyserver", keys = keys.join(", "), "these keep their old values until a restart");
                }
                self.logs.apply(&config.log);
                self.shared.replace(rules);
                self.config.clients = config.clients;
                let server = &mut self.config.server;
                server.client_ca = config.server.client_ca;
                server.revoked = config.server.revoked;
                server.revoked_must_be_current = config.server.revoked_must_be_current;
                server.certificate = config.server.certificate;
                self.watched.watch(sight);
                self.tell_ends();
                tracing::info!(target: "edge::keyserver", clients = self.config.clients.len(), "reloaded");
            }
            Err(mistakes) => {
                self.shared.metrics.reload_errors.inc();
                for mistake in mistakes.0 {
                    tracing::error!(target: "edge::keyserver", %mistake, "not reloaded; the old configuration stays");
                }
            }
        }
        self.look();
        service::notify_ready();
    }
}

impl Server {
    /// Reads the files of the rules again, and nothing else: the configuration stays as it was
    /// read.
    fn renew(&mut self) {
        match Rules::load(&self.config, Some(&self.shared.rules.load())) {
            Ok(rules) => {
                self.shared.replace(rules);
                tracing::info!(target: "edge::keyserver", "certificates or revocation lists were changed and are read again");
                self.tell_ends();
            }
            Err(mistakes) => {
                self.shared.metrics.reload_errors.inc();
                for mistake in mistakes.0 {
                    tracing::error!(target: "edge::keyserver", %mistake, "not renewed; what was read before stays");
                }
            }
        }
    }

    /// Tells what of the rules has ended or soon will: when that begins, and twice a day.
    fn tell_ends(&mut self) {
        let rules = self.shared.rules.load();
        let due = rules.lists_due().unwrap_or(0);
        self.shared.metrics.lists_due.set(due);
        let now = i64::try_from(UnixTime::now().secs()).unwrap_or(i64::MAX);
        let ending = rules.ending(now);
        self.told.retain(|path, _| ending.iter().any(|(ends, _)| ends == path));
        for (path, warning) in ending {
            if self.told.get(&path).is_none_or(|last| last.elapsed() >= TOLD_EVERY) {
                self.told.insert(path, Instant::now());
                tracing::warn!(target: "edge::keyserver", "{warning}");
            }
        }
    }
}

/// Why queries are not answered now, if they are not.
fn unready(
    shared: &Arc<Shared>,
    draining: &Arc<AtomicBool>,
) -> impl Fn() -> Option<&'static str> + Send + Sync + use<> {
    let (shared, draining) = (shared.clone(), draining.clone());
    move || {
        if draining.load(Ordering::Acquire) {
            Some("draining")
        } else if shared.keys.load().is_empty() {
            Some("no keys")
        } else {
            None
        }
    }
}
