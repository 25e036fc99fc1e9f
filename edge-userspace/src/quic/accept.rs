//! From an attempt to a connection that can be served, under one deadline. `front` calls it for each `Incoming`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, Incoming, ServerConfig, TransportErrorCode};

use super::Connection;
use crate::base::peer::{Handshake, Peer};
use crate::tls::certificates;
use crate::tls::limits::Permit;
use crate::tls::tickets::Ticketer;

/// Why an attempt ended before it could be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// The client's: too slow, or gone.
    #[error("no handshake within the limit")]
    Timeout,
    /// The client's, mostly: no certificate for the name, no common protocol, a bad message.
    #[error("{0}")]
    Handshake(#[source] ConnectionError),
    /// The client's: it closed or reset the connection.
    #[error("the client left: {0}")]
    Left(#[source] ConnectionError),
    /// The client's: packets against the protocol.
    #[error("{0}")]
    Transport(#[source] ConnectionError),
}

impl Closed {
    /// The label in metrics and logs.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Handshake(_) => "alert",
            Self::Left(_) => "left",
            Self::Transport(_) => "transport",
        }
    }
}

/// The crypto errors, one per TLS alert (RFC 9001 section 4.8).
const CRYPTO: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::TimedOut => Self::Timeout,
            ConnectionError::TransportError(e) if CRYPTO.contains(&code(e.code)) => Self::Handshake(error),
            ConnectionError::ConnectionClosed(e) if CRYPTO.contains(&code(e.error_code)) => Self::Handshake(error),
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::LocallyClosed => Self::Left(error),
            _ => Self::Transport(error),
        }
    }
}

fn code(code: TransportErrorCode) -> u64 {
    code.into()
}

/// Shakes hands with a client whose attempt was let in.
pub(super) async fn accept(
    incoming: Incoming,
    config: Arc<ServerConfig>,
    listener: SocketAddr,
    permit: Permit,
    limit: Duration,
    (ticketer, known): (Arc<Ticketer>, bool),
) -> Result<Connection, Closed> {
    let accepted = Instant::now();
    let client = canonical(incoming.remote_address());
    let local = canonical(SocketAddr::new(
        incoming.local_ip().unwrap_or(listener.ip()),
        listener.port(),
    ));
    let connecting = incoming.accept_with(config)?;
    let quic = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| Closed::Timeout)??;
    let data = quic
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    let (id, resumed) = ticketer.client();
    let handshake = Handshake {
        duration: accepted.elapsed(),
        server_name: data
            .and_then(|data| data.server_name)
            .map(|name| certificates::normal(&name).into()),
        version: "TLSv1.3",
        resumed,
        client: id.0,
        known: known || resumed,
        certificate: None,
    };
    let peer = Arc::new(Peer {
        client,
        local,
        accepted,
        handshake: Some(handshake),
    });
    Ok(Connection { quic, peer, permit })
}

/// IPv4-mapped addresses as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
