//! The UDP front door: what all workers share and the accept loop each of them runs. `node` makes
//! one and gives it the sockets; connections go to what implements [`Serve`].

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use quinn::{Endpoint, Incoming, ServerConfig, TokioRuntime};
use tokio::sync::mpsc;

use super::accept::{self, Attempt, Met};
use super::cid::{Generator, IdKey};
use super::ids::Ids;
use super::metrics::Metrics;
use super::prepare::Preparation;
use super::reset::Resets;
use super::session::{Opening, Terms, Unproven};
use super::socket::Datagrams;
use super::strangers::Strangers;
use super::tap::{Finds, Tap};
use super::token::TokenKey;
use super::{Error, Serve, settings};
use crate::base::clock::UnixTime;
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::Serving;
use crate::dataplane::Lists;
use crate::gate;
use crate::gate::token::{Carrier, ClientId, Tokens};
use crate::tls;
use crate::tls::limits::{Limiter, Permit};
use crate::tls::sessions::Sessions;
use crate::tls::tickets::Tickets;

/// Shared by all workers.
#[derive(Debug)]
pub struct Front {
    settings: ArcSwap<Settings>,
    limiter: Arc<Limiter>,
    lists: Arc<Lists>,
    tokens: Arc<Tokens>,
    gate: Option<Arc<gate::door::Door>>,
    metrics: Metrics,
    ids: IdKey,
    /// Initial packets are kept until they are decided on.
    keep: Arc<AtomicBool>,
    /// Unproven addresses get a Retry first, however few handshakes are under way.
    locked_down: AtomicBool,
    /// Attempts so far that proved nothing.
    unproven: AtomicU64,
    /// Handshakes with addresses that have proven nothing: beyond their bound an attempt gets a
    /// Retry first, so that a spoofed flood costs a packet each and holds no memory (RFC 9000
    /// section 8.1.2).
    strangers: Arc<Strangers>,
}

/// Which worker of which daemon: what its connections' ids say.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Counts the daemons, modulo [`GENERATIONS`](edge_common::cid::GENERATIONS).
    pub generation: u16,
    /// Counts the workers.
    pub worker: usize,
    /// The kernel gives each worker the datagrams of its own connections, and none of a daemon
    /// before that still has them.
    pub steered: bool,
}

#[derive(Debug)]
struct Settings {
    /// What all connections' configurations are made of.
    quic: ServerConfig,
    terms: Arc<Terms>,
    handshake_timeout: Duration,
    promised: (u32, usize),
}

/// A configuration that was checked and can be put into force.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    /// Initial packets are kept until they are decided on.
    keep: bool,
}

impl Settings {
    /// `server` and `tickets` are those that `tcp` has, or will have.
    fn new(
        config: Serving<'_>,
        tcp: &tls::Front,
        (server, tickets): (&rustls::ServerConfig, Tickets),
        tokens: &Arc<Tokens>,
        sessions: Arc<Sessions>,
    ) -> Result<Self, Error> {
        let tls = settings::tls(server);
        let (stock, initial) = settings::crypto(&tls)?;
        Ok(Self {
            quic: settings::server(stock.clone(), TokenKey::new(tokens.clone()), config.limits),
            terms: Arc::new(Terms {
                tls,
                certificates: tcp.certificates().clone(),
                tickets,
                sessions,
                keyless: tcp.keyless().clone(),
                initial,
                stock,
            }),
            handshake_timeout: config.tls.handshake_timeout,
            promised: promised(config),
        })
    }
}

/// What a client remembers of a session's connection and relies on in early data: these values must
/// not have become smaller when the session is taken up again (RFC 9000 section 7.4.1, RFC 9114
/// section 7.2.4.2).
fn promised(config: Serving<'_>) -> (u32, usize) {
    (config.limits.streams_per_connection, config.limits.header_bytes)
}

/// Whether any zone's key is elsewhere.
fn keyless(tcp: &tls::Front) -> bool {
    let certificates = tcp.certificates().snapshot();
    certificates.entries().any(|entry| entry.route().is_some())
}

impl Front {
    /// Sets up from a configuration; certificates, tickets and limits are those of `tcp`, the other
    /// front door.
    ///
    /// # Errors
    /// rustls cannot be set up for QUIC.
    pub fn new(
        config: Serving<'_>,
        tcp: &tls::Front,
        tokens: Arc<Tokens>,
        ids: IdKey,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, Error> {
        let server = tcp.server_config();
        let settings = Settings::new(config, tcp, (&server, tcp.tickets()), &tokens, Arc::default())?;
        Ok(Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            limiter: tcp.limiter().clone(),
            lists: tcp.lists().clone(),
            tokens,
            gate: tcp.door(),
            metrics: Metrics::register(registry),
            ids,
            keep: Arc::new(AtomicBool::new(keyless(tcp))),
            locked_down: AtomicBool::new(false),
            unproven: AtomicU64::new(0),
            strangers: Arc::default(),
        }))
    }

    /// Begins to answer attempts that prove nothing with a Retry, or stops to.
    pub fn lock_down(&self, on: bool) {
        self.locked_down.store(on, Ordering::Relaxed);
        self.metrics.lockdown.set(on.into());
    }

    /// Attempts so far that reached the daemon and proved nothing.
    pub fn unproven(&self) -> u64 {
        self.unproven.load(Ordering::Relaxed)
    }

    /// What the room counts.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Everything of `config` that can fail, for connections to come; `planned` is what `tcp` will
    /// have in force then.
    ///
    /// # Errors
    /// rustls cannot be set up.
    pub fn plan(&self, config: Serving<'_>, tcp: &tls::Front, planned: &tls::front::Plan) -> Result<Plan, Error> {
        let old = self.settings.load();
        let sessions = if old.promised == promised(config) {
            old.terms.sessions.clone()
        } else {
            Arc::default()
        };
        let of_tcp = (&**planned.server_config(), planned.tickets().clone());
        Ok(Plan {
            settings: Settings::new(config, tcp, of_tcp, &self.tokens, sessions)?,
            keep: planned.is_keyless(),
        })
    }

    /// Puts `plan` into force for connections to come, after the other front door's.
    pub fn install(&self, plan: Plan) {
        self.settings.store(Arc::new(plan.settings));
        self.keep.store(plan.keep, Ordering::Relaxed);
    }

    /// Serves `socket` (from [`super::socket::bind`]) within the worker's runtime until draining;
    /// returns when every connection taken here has ended or the process is to stop.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub async fn run<S: Serve>(
        self: Arc<Self>,
        socket: UdpSocket,
        place: Place,
        serve: S,
        mut shutdown: Shutdown,
    ) -> Result<(), Error> {
        let generator = Generator::new(self.ids.clone(), place.generation, place.worker);
        let listener = accept::canonical(socket.local_addr().map_err(Error::Adopt)?);
        let finds = Finds {
            hints: Arc::default(),
            kept: Arc::default(),
            keep: self.keep.clone(),
            key: TokenKey::new(self.tokens.clone()),
            budgets: Arc::default(),
        };
        let socket = Datagrams::new(socket).map_err(Error::Adopt)?;
        let resets = Resets::new(self.ids.clone(), listener, &generator, place.steered);
        let ids = Ids::new(Box::new(generator));
        let config = settings::endpoint(resets, &ids);
        let endpoint = Endpoint::new_with_abstract_socket(
            config.clone(),
            Some(self.settings.load().quic.clone()),
            Tap::new(socket, finds.clone()),
            Arc::new(TokioRuntime),
        )
        .map_err(Error::Adopt)?;
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let door = Door {
            listener,
            finds,
            preparation: Preparation {
                endpoint: Arc::new(config),
                ids,
            },
        };
        let mut sweeps = tokio::time::interval(SWEEP);
        let mut draining = shutdown.clone();
        let stop = draining.reached(Phase::Draining);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.take(incoming, &door, &serve, &alive),
                    None => break,
                },
                _ = sweeps.tick() => door.finds.kept.sweep(Instant::now()),
            }
        }
        // From here on, an attempt gets a stateless reset at most, which no client takes for an
        // answer: it repeats the attempt.
        endpoint.set_server_config(None);
        drop(alive);
        tokio::select! {
            // Nothing is ever sent: this ends when the last connection has dropped its sender.
            _ = ended.recv() => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
        endpoint.close(NO_ERROR, b"");
        // The last CONNECTION_CLOSE leaves by the endpoint's own task.
        let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
        Ok(())
    }

    /// Takes an attempt, turns it away, or asks it to prove its address first.
    fn take<S: Serve>(&self, incoming: Incoming, door: &Door, serve: &S, alive: &mpsc::Sender<()>) {
        self.metrics.incoming.inc();
        if self.is_unwelcome(incoming.remote_address().ip()) {
            // Without an answer, as the kernel would: a spoofed one would go to whoever is denied.
            return incoming.ignore();
        }
        match self.admit(&incoming, door) {
            Admission::Admitted { permit, unproven } => {
                let settings = self.settings.load();
                let limit = settings.handshake_timeout;
                let attempt = self.attempt(incoming, door, &settings, permit, unproven);
                tokio::spawn(carry(
                    attempt,
                    limit,
                    self.metrics.clone(),
                    serve.clone(),
                    alive.clone(),
                ));
            }
            Admission::Full => incoming.refuse(),
            Admission::Unproven => {
                self.metrics.retries.inc();
                // May fail only for one that brings a Retry's token, and is proven.
                let _ = incoming.retry();
            }
        }
    }

    /// Whether an operator has said that nothing is to come from `ip`; before anything is answered,
    /// kept or computed. A token says who comes; an operator's word holds for who it is, too.
    fn is_unwelcome(&self, ip: IpAddr) -> bool {
        if self.gate.as_ref().is_some_and(|gate| gate.is_barred(ip)) {
            self.metrics.refused_operator.inc();
            return true;
        }
        let denied = self.lists.is_denied(ip);
        if denied {
            self.metrics.refused_denied.inc();
        }
        denied
    }

    /// Whether there is a place for an attempt: a proven address takes one of a connection, another
    /// one of the few for strangers.
    fn admit(&self, incoming: &Incoming, door: &Door) -> Admission {
        let remote = incoming.remote_address();
        if incoming.remote_address_validated() {
            return match accept::place(&self.limiter, remote) {
                Ok(permit) => Admission::Admitted {
                    permit: Some(permit),
                    unproven: None,
                },
                Err(closed) => {
                    self.metrics.told(remote, &closed);
                    Admission::Full
                }
            };
        }
        self.unproven.fetch_add(1, Ordering::Relaxed);
        let place = match self.locked_down.load(Ordering::Relaxed) {
            true => None,
            false => self.strangers.admit(remote.ip().to_canonical()),
        };
        let Some(place) = place else {
            return Admission::Unproven;
        };
        let budget = door.finds.budgets.open(remote);
        Admission::Admitted {
            permit: None,
            unproven: Some(Unproven { place, budget }),
        }
    }

    /// The client's id in the token that an attempt came with, if it was genuine.
    fn known(&self, incoming: &Incoming, door: &Door) -> Option<ClientId> {
        if !incoming.remote_address_validated() {
            return None;
        }
        // quinn says that the address is valid, not by which token: what the hint says has to be
        // genuine itself.
        let remote = incoming.remote_address();
        let front = door.finds.hints.take(remote, &incoming.orig_dst_cid())?;
        let address = remote.ip().to_canonical();
        let checked = self.tokens.check(UnixTime::now(), address, Carrier::Quic, &front);
        Some(ClientId(checked.ok()?.header.client))
    }

    /// What a handshake begins with.
    fn attempt(
        &self,
        incoming: Incoming,
        door: &Door,
        settings: &Settings,
        permit: Option<Permit>,
        unproven: Option<Unproven>,
    ) -> Attempt {
        let remote = incoming.remote_address();
        let client = self.known(&incoming, door);
        let id = client.unwrap_or_else(ClientId::fresh);
        let mut config = settings.quic.clone();
        config.token_key(TokenKey::of(self.tokens.clone(), id));
        let keyless = self.keep.load(Ordering::Relaxed);
        let kept = &door.finds.kept;
        Attempt {
            config,
            opening: Opening::new(settings.terms.clone(), remote.ip().to_canonical(), id, unproven),
            keyless,
            claim: match keyless {
                true => kept.claim(remote, &incoming.orig_dst_cid(), !incoming.may_retry()),
                false => None,
            },
            preparation: door.preparation.clone(),
            incoming,
            listener: door.listener,
            permit,
            limiter: self.limiter.clone(),
            known: client.is_some(),
        }
    }
}

/// What [`Front::admit`] says.
enum Admission {
    /// There is a place.
    Admitted {
        /// That of a connection, for an address that is proven.
        permit: Option<Permit>,
        /// That of a stranger.
        unproven: Option<Unproven>,
    },
    /// There is none for a connection.
    Full,
    /// There is none for strangers: the address is to be proven.
    Unproven,
}

/// Carries an attempt through its handshake, and serves the connection that comes of it.
async fn carry<S: Serve>(attempt: Attempt, limit: Duration, metrics: Metrics, serve: S, alive: mpsc::Sender<()>) {
    let remote = attempt.incoming.remote_address();
    let opening = attempt.opening.clone();
    let result = Box::pin(accept::accept(attempt, limit)).await;
    if let Some(taken) = opening.early_data() {
        metrics.early_data(taken);
    }
    drop(opening);
    match result {
        Ok(Met { connection, rest }) => {
            match rest {
                None => metrics.shook(&connection.peer),
                Some(rest) => {
                    let peer = connection.peer.clone();
                    tokio::spawn(async move {
                        match rest.run().await {
                            Ok(()) => metrics.shook(&peer),
                            Err(closed) => metrics.told(remote, &closed),
                        }
                    });
                }
            }
            serve.serve_quic(connection).await;
        }
        Err(closed) => metrics.told(remote, &closed),
    }
    drop(alive);
}

/// What one endpoint's attempts share.
struct Door {
    listener: SocketAddr,
    finds: Finds,
    preparation: Preparation,
}

/// How often packets that nobody has claimed are looked after.
const SWEEP: Duration = Duration::from_secs(2);
/// RFC 9000 section 20.1: nothing is wrong.
const NO_ERROR: quinn::VarInt = quinn::VarInt::from_u32(0);
/// How long the last packets may take to leave.
const FAREWELL: Duration = Duration::from_millis(500);
