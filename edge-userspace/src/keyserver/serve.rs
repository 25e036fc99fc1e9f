//! From an accepted socket to a client that is let in: the lobby first, then the TLS handshake under a deadline, ALPN, the access
//! list, and a place among the connections. What passes becomes a [`Connection`]; what does not leaves a line in the audit.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::audit::Audit;
use super::connection::Connection;
use super::lane::Lane;
use super::lobby::{Guest, Lobby};
use super::metrics::Metrics;
use super::rules::Rules;
use super::store;
use super::wire;
use crate::base::peer::client_prefix;
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::keyserver::Limits;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: ArcSwap<Rules>,
    /// Told when `rules` is replaced.
    pub(super) changed: watch::Sender<u64>,
    pub(super) keys: store::Current,
    pub(super) lane: Arc<Lane>,
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<Metrics>,
    /// Lines about those that are no clients, and about broken framing.
    audit: Mutex<Audit>,
    lobby: Arc<Lobby>,
    connections: AtomicUsize,
    by_client: Mutex<HashMap<Arc<str>, usize>>,
    next: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        rules: Rules,
        keys: store::Current,
        lane: Arc<Lane>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            changed: watch::Sender::new(rules.version),
            rules: ArcSwap::from_pointee(rules),
            keys,
            lane,
            limits: Arc::new(limits),
            metrics,
            audit: Mutex::new(Audit::new(Instant::now())),
            lobby: Arc::default(),
            connections: AtomicUsize::new(0),
            by_client: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// Puts new rules in force; every connection is judged anew.
    pub(super) fn replace(&self, rules: Rules) {
        let version = rules.version;
        self.rules.store(Arc::new(rules));
        self.changed.send_replace(version);
    }

    /// A line in the audit about a connection.
    pub(super) fn refuse(&self, peer: SocketAddr, reason: &str) {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.connection(Instant::now(), &self.metrics, peer, reason);
    }

    /// A place for a connection of `client`, who has shown who it is.
    fn enter(self: &Arc<Self>, client: &Arc<str>) -> Result<Place, String> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut place = Place {
            shared: self.clone(),
            client: None,
        };
        self.metrics.connections.inc();
        if before >= self.limits.connections {
            return Err("too many connections".to_owned());
        }
        match place.of(client) {
            true => Ok(place),
            false => Err(format!("too many connections of {client}")),
        }
    }
}

/// A connection's place among all, and among its client's.
struct Place {
    shared: Arc<Shared>,
    client: Option<Arc<str>>,
}

impl Place {
    /// Counts it as this client's, unless that has too many.
    fn of(&mut self, client: &Arc<str>) -> bool {
        let mut counts = self.shared.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client.clone()).or_default();
        if *count >= self.shared.limits.connections_per_client {
            return false;
        }
        *count += 1;
        self.client = Some(client.clone());
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.connections.dec();
        if let Some(client) = &self.client {
            let mut counts = self.shared.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get_mut(client) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(client);
                }
            }
        }
    }
}

/// Accepts until draining begins, then waits for the connections to end.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut shutdown: Shutdown) {
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.reached(Phase::Draining) => break,
            accepted = listener.accept() => accepted,
            // So that what ended is not kept.
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((tcp, peer)) => {
                shared.metrics.accepted.inc();
                let guest = shared.lobby.enter(client_prefix(peer.ip()));
                tasks.spawn(one(tcp, peer, guest, shared.clone(), shutdown.clone()));
            }
            Err(error) => {
                shared.metrics.accept_errors.inc();
                tracing::warn!(target: "edge::keyserver", %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn one(tcp: TcpStream, peer: SocketAddr, mut guest: Guest, shared: Arc<Shared>, mut shutdown: Shutdown) {
    let stop = shutdown.clone();
    let admitted = tokio::select! {
        biased;
        admitted = admit(tcp, peer, &shared) => admitted,
        () = guest.sent_away() => Err(("crowded", "newer connections need its place".to_owned())),
        () = shutdown.reached(Phase::Draining) => Err(("drained", String::new())),
    };
    drop(guest);
    let ended = match admitted {
        Ok((connection, io, place)) => {
            let client = connection.client.name.clone();
            tracing::debug!(target: "edge::keyserver", %client, %peer, "connected");
            let end = connection.serve(io, stop).await;
            tracing::debug!(target: "edge::keyserver", %client, %peer, end = end.label(), "disconnected");
            drop(place);
            end.label()
        }
        Err((label, reason)) => {
            if !reason.is_empty() {
                shared.refuse(peer, &reason);
            }
            label
        }
    };
    shared.metrics.closed(ended);
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

/// The handshake and what follows from it; an error is a label and a line.
async fn admit(
    tcp: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> Result<(Connection, Tls, Place), (&'static str, String)> {
    // Queries are small, and somebody's handshake waits for each.
    let _ = tcp.set_nodelay(true);
    let rules = shared.rules.load_full();
    let shake = TlsAcceptor::from(rules.tls.clone()).accept(tcp);
    let io = match tokio::time::timeout(shared.limits.handshake_timeout, shake).await {
        Err(_) => return Err(("handshake", "no handshake within the limit".to_owned())),
        Ok(Err(error)) => return Err(("handshake", format!("handshake: {error}"))),
        Ok(Ok(io)) => io,
    };
    let (_, session) = io.get_ref();
    if session.alpn_protocol() != Some(wire::ALPN) {
        return Err(("alpn", "it does not ask for ALPN edge-keyless/1".to_owned()));
    }
    let chain: Vec<_> = session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let client = rules
        .client(&chain)
        .map_err(|stranger| ("unlisted", stranger.to_string()))?;
    let place = shared.enter(&client.name).map_err(|reason| ("crowded", reason))?;
    let connection = Connection {
        number: shared.next.fetch_add(1, Ordering::Relaxed),
        client,
        version: rules.version,
        peer,
        chain,
        shared: shared.clone(),
    };
    Ok((connection, io, place))
}
