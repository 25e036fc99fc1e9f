//! From an accepted socket to a client that is let in: the lobby first, then the TLS handshake
//! under a deadline, ALPN, the access list, and a place among the connections. What passes becomes
//! a [`Connection`]; what does not leaves a line in the audit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::Connection;
use super::lobby::Guest;
use super::shared::{Place, Shared};
use super::wire;
use crate::base::clock::UnixTime;
use crate::base::peer::client_prefix;
use crate::base::shutdown::{Phase, Shutdown};
use crate::base::validity;

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
    let period = chain.first().and_then(|leaf| validity::period(leaf));
    if let Some(period) = period {
        shared.came(&client.name, period);
    }
    let place = shared.enter(&client.name).map_err(|reason| ("crowded", reason))?;
    let connection = Connection {
        number: shared.next.fetch_add(1, Ordering::Relaxed),
        client,
        version: rules.version,
        peer,
        chain,
        ends: period.map(|(_, until)| UnixTime::from_secs(u64::try_from(until).unwrap_or(0))),
        shared: shared.clone(),
    };
    Ok((connection, io, place))
}
