//! The front door: what all workers share (settings, certificates, limits, counters) and the accept
//! loop each of them runs. `node` makes one and gives it the sockets; connections go to what
//! implements [`Serve`].

use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::accept::{self, Connection, Terms};
use super::certificates::{Loaded, Snapshot, Store};
use super::closed::Closed;
use super::keyless::Keyless;
use super::limits::Limiter;
use super::metrics::Metrics;
use super::remote::KeyServers;
use super::remote::survey::survey;
use super::sealing::Sealing;
use super::tickets::Tickets;
use super::{Error, listener, settings};
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::{self, Serving};
use crate::dataplane::Lists;
use crate::gate::door::Door;
use crate::gate::token::Tokens;

/// How often memory is given back; a burst's stacks stay for the next one so long.
const SWEEP: Duration = Duration::from_secs(5);

/// What serves connections; cloned per connection.
pub trait Serve: Clone + Send + 'static {
    /// Serves `connection` to its end.
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send;
}

/// What a listening socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// TLS.
    Tls,
    /// Plain HTTP/1, whoever asks.
    Plain,
    /// Plain HTTP/1 for this machine, and for those whom the operator lets ask so.
    Private,
}

/// Shared by all workers.
#[derive(Debug)]
pub struct Front {
    settings: ArcSwap<Settings>,
    certificates: Arc<Store>,
    key_servers: ArcSwap<KeyServers>,
    keyless: Arc<Keyless>,
    limiter: Arc<Limiter>,
    tokens: Arc<Tokens>,
    /// Seals session tickets.
    sealing: Arc<Sealing>,
    door: Option<Arc<Door>>,
    lists: Arc<Lists>,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Settings {
    tls: Arc<ServerConfig>,
    tickets: Tickets,
    handshake_timeout: Duration,
    proxies: Vec<IpNet>,
    near_ends: bool,
    /// Who may ask on plain listeners beside this machine.
    plain_from: Vec<IpNet>,
}

/// A configuration that was checked and can be put into force.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    snapshot: Snapshot,
    key_servers: KeyServers,
    tls: config::Tls,
    /// At most, in all and per address.
    connections: (usize, usize),
    /// Proxies that name their clients.
    trusted: Vec<IpNet>,
}

impl Plan {
    /// rustls's configuration for new connections.
    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.settings.tls
    }

    /// What makes their session tickets.
    pub const fn tickets(&self) -> &Tickets {
        &self.settings.tickets
    }

    /// Whether any zone's key is elsewhere.
    pub fn is_keyless(&self) -> bool {
        self.snapshot.entries().any(|entry| entry.route().is_some())
    }
}

fn plan(
    config: Serving<'_>,
    loaded: Loaded,
    certificates: &Arc<Store>,
    (tokens, sealing): (&Arc<Tokens>, &Arc<Sealing>),
) -> Result<Plan, Error> {
    arm(&loaded.snapshot, config)?;
    Ok(Plan {
        settings: Settings::new(config, certificates.clone(), tokens.clone(), sealing.clone())?,
        snapshot: loaded.snapshot,
        key_servers: loaded.key_servers,
        tls: config.tls.clone(),
        connections: (config.limits.connections, config.limits.connections_per_address),
        trusted: config.server.trusted().to_vec(),
    })
}

impl Front {
    /// Sets up from a configuration and the certificates loaded for it. Session tickets are made
    /// with `tokens`; whom the operator's `lists` deny is reset at once, and clients of penalised
    /// addresses are judged by `door`.
    ///
    /// # Errors
    /// rustls cannot be set up.
    pub fn new(
        config: Serving<'_>,
        loaded: Loaded,
        tokens: Arc<Tokens>,
        door: Option<Arc<Door>>,
        lists: Arc<Lists>,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, Error> {
        let metrics = Metrics::register(registry);
        let certificates = Arc::new(Store::default());
        let sealing = Sealing::new(config.tls.ticket_rotation, Instant::now());
        let plan = plan(config, loaded, &certificates, (&tokens, &sealing))?;
        plan.key_servers.metrics().register(registry);
        let limits = config.limits;
        let this = Arc::new(Self {
            settings: ArcSwap::from_pointee(plan.settings.clone()),
            sealing,
            certificates,
            key_servers: ArcSwap::from_pointee(KeyServers::default()),
            keyless: Arc::new(Keyless::new(config.tls, registry)),
            limiter: Limiter::new(
                limits.connections,
                limits.connections_per_address,
                metrics.connections.clone(),
            ),
            tokens,
            door,
            lists,
            metrics,
        });
        this.install(plan);
        Ok(this)
    }

    /// Everything of `config` that can fail, for connections to come; [`install`](Self::install)
    /// puts it into force. Listeners are not changed by it.
    ///
    /// # Errors
    /// rustls cannot be set up.
    pub fn plan(&self, config: Serving<'_>, loaded: Loaded) -> Result<Plan, Error> {
        plan(config, loaded, &self.certificates, (&self.tokens, &self.sealing))
    }

    /// Puts `plan` into force for connections to come; those that exist are judged by their zone's
    /// new policy at their next request.
    pub fn install(&self, plan: Plan) {
        self.metrics.expire(plan.snapshot.ends(), plan.snapshot.responses_end());
        self.certificates.swap(plan.snapshot);
        self.key_servers.store(Arc::new(plan.key_servers));
        self.keyless.adjust(&plan.tls);
        self.sealing.adjust(plan.settings.tickets.life());
        self.settings.store(Arc::new(plan.settings));
        let (all, per_address) = plan.connections;
        self.limiter.adjust(all, per_address);
        self.limiter.trust(plan.trusted);
    }

    /// [`plan`](Self::plan) and [`install`](Self::install).
    ///
    /// # Errors
    /// As `plan`; nothing is changed then.
    pub fn reload(&self, config: Serving<'_>, loaded: Loaded) -> Result<(), Error> {
        self.install(self.plan(config, loaded)?);
        Ok(())
    }

    /// rustls's configuration for new connections, for whoever speaks TLS over something else than
    /// TCP.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.settings.load().tls.clone()
    }

    /// What makes their session tickets.
    pub fn tickets(&self) -> Tickets {
        self.settings.load().tickets.clone()
    }

    /// What seals session tickets.
    pub const fn sealing(&self) -> &Arc<Sealing> {
        &self.sealing
    }

    /// The certificates in force, by server name.
    pub fn certificates(&self) -> &Arc<Store> {
        &self.certificates
    }

    /// The places that all clients share, by whatever transport they come.
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// The operator's lists, which hold for all clients, by whatever transport they come.
    pub const fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    /// What the zones' keys that are elsewhere lead to.
    pub fn key_servers(&self) -> Arc<KeyServers> {
        self.key_servers.load_full()
    }

    /// What judges clients of penalised addresses.
    pub fn door(&self) -> Option<Arc<Door>> {
        self.door.clone()
    }

    /// What all suspended handshakes share.
    pub fn keyless(&self) -> &Arc<Keyless> {
        &self.keyless
    }

    /// The control thread's part until the process stops: gives back memory that handshakes do not
    /// need any more, replaces ticket keys, and tells the operator of keys that no key server has.
    pub async fn tend(self: Arc<Self>, mut shutdown: Shutdown) {
        let sweeps = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.keyless.sweep();
                self.sealing.tidy(Instant::now());
            }
        };
        let surveys = async {
            let mut surveyed = None;
            loop {
                // Looked at again with each reload.
                let certificates = self.certificates.snapshot();
                if !surveyed.as_ref().is_some_and(|old| Arc::ptr_eq(old, &certificates)) {
                    survey(
                        certificates
                            .entries()
                            .flat_map(|entry| entry.credentials())
                            .filter_map(|credential| credential.route.clone())
                            .collect(),
                    )
                    .await;
                    surveyed = Some(certificates);
                }
                tokio::time::sleep(SWEEP).await;
            }
        };
        tokio::select! {
            () = sweeps => {}
            () = surveys => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
    }

    /// TCP connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.metrics.accepted.get()
    }

    /// Client connections now.
    pub fn connections(&self) -> usize {
        self.limiter.connections()
    }

    /// Accepts on `listener` (from [`listener::bind`] or [`listener::adopt`]) within the worker's
    /// runtime until draining, then takes what waits in the backlog, closes the socket, and returns
    /// when every connection taken here has ended or the process is to stop.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub async fn run<S: Serve>(
        self: Arc<Self>,
        listener: TcpListener,
        socket: Socket,
        serve: S,
        mut shutdown: Shutdown,
    ) -> Result<(), Error> {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Adopt)?;
        // On this worker's runtime: its first handshakes find them made.
        self.key_servers.load().connect();
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let mut draining = shutdown.clone();
        let stop = draining.reached(Phase::Draining);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                (stream, remote) = listener::accept(&listener, &self.metrics) => {
                    self.take(stream, remote, socket, &serve, &alive);
                }
            }
        }
        while let Some((stream, remote)) = listener::waiting(&listener) {
            self.take(stream, remote, socket, &serve, &alive);
        }
        drop((listener, alive));
        tokio::select! {
            // Nothing is ever sent: this ends when the last connection has dropped its sender.
            _ = ended.recv() => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
        Ok(())
    }

    fn take<S: Serve>(
        self: &Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        socket: Socket,
        serve: &S,
        alive: &mpsc::Sender<()>,
    ) {
        self.metrics.accepted.inc();
        let ip = remote.ip().to_canonical();
        if self.lists.is_denied(ip) {
            self.metrics.refused_denied.inc();
            return listener::reset(stream);
        }
        let Some(permit) = self.limiter.enter() else {
            self.metrics.refused_total.inc();
            return listener::reset(stream);
        };
        let settings = self.settings.load();
        // What is not encrypted is for those alone to whom the operator has said so.
        if socket == Socket::Private && !settings.serves_plainly(ip) {
            self.metrics.refused_denied.inc();
            return listener::reset(stream);
        }
        let terms = Terms {
            tls: (socket == Socket::Tls).then(|| (settings.tls.clone(), settings.tickets.clone())),
            door: self.door.clone(),
            lists: self.lists.clone(),
            certificates: self.certificates.clone(),
            keyless: self.keyless.clone(),
            timeout: settings.handshake_timeout,
            proxied: settings.proxies.iter().any(|net| net.contains(&ip)),
            near_end: settings.near_ends,
        };
        let (serve, alive, metrics) = (serve.clone(), alive.clone(), self.metrics.clone());
        tokio::spawn(async move {
            // Boxed apart: the handshake's state is large and short-lived, the connection's task is
            // long-lived.
            match Box::pin(accept::accept(stream, remote, permit, terms)).await {
                Ok(connection) => {
                    if let Some(handshake) = &connection.peer.handshake {
                        metrics.key_exchange(connection.io.key_exchange());
                        metrics.handshake(handshake.version, handshake.resumed, handshake.duration.as_secs_f64());
                    }
                    serve.serve(connection).await;
                }
                Err((closed @ (Closed::Crowded | Closed::Denied), stream)) => {
                    match closed {
                        Closed::Denied => metrics.refused_denied.inc(),
                        _ => metrics.refused_address.inc(),
                    };
                    if let Some(stream) = stream {
                        listener::reset(stream);
                    }
                }
                Err((closed, stream)) => {
                    metrics.failure(&closed);
                    if let Some(stream) = stream {
                        listener::reset(stream);
                    }
                    tracing::debug!(client = %remote, reason = closed.label(), detail = %closed, "no connection");
                }
            }
            drop(alive);
        });
    }
}

/// Gives zones that need it a configuration of their own.
fn arm(snapshot: &Snapshot, config: Serving<'_>) -> Result<(), Error> {
    for entry in snapshot.entries().filter(|entry| entry.is_special()) {
        if entry.config.get().is_none() {
            // Set here and nowhere else.
            let _ = entry.config.set(settings::special(config.tls, entry)?);
        }
    }
    Ok(())
}

impl Settings {
    fn new(
        config: Serving<'_>,
        certificates: Arc<Store>,
        tokens: Arc<Tokens>,
        sealing: Arc<Sealing>,
    ) -> Result<Self, Error> {
        Ok(Self {
            tls: settings::server(config.tls, certificates)?,
            tickets: Tickets::new(tokens, sealing, config.tls.ticket_rotation, config.tls.ticket_roaming),
            handshake_timeout: config.tls.handshake_timeout,
            proxies: config.server.proxy_protocol_from.clone(),
            near_ends: config.tls.near_ends.is_some(),
            plain_from: config.server.plain_from.clone(),
        })
    }

    /// Whether a peer of that address is served without TLS.
    fn serves_plainly(&self, peer: IpAddr) -> bool {
        peer.is_loopback() || self.plain_from.iter().any(|network| network.contains(&peer))
    }
}
