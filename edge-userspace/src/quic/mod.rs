//! Room 4: QUIC. One endpoint per worker and address; bounds the number of clients, shakes hands by
//! SNI, and hands each connection with its [`Peer`] to what serves it: `http`, by the trait
//! [`Serve`].

mod accept;
mod budget;
mod cid;
mod front;
pub mod hello;
mod ids;
pub mod initial;
pub mod keep;
pub mod lockdown;
pub mod metrics;
mod parameters;
mod prepare;
mod reset;
mod session;
mod settings;
pub mod shadow;
pub mod socket;
mod strangers;
mod tap;
pub mod token;

pub use cid::IdKey;
pub use front::{Front, Place, Plan};
pub use settings::{CONNECTION_WINDOW, STREAM_WINDOW};

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::peer::Peer;
use crate::tls::limits::Permit;

/// A connection ready for HTTP/3.
#[derive(Debug)]
pub struct Connection {
    /// Its streams.
    pub quic: quinn::Connection,
    /// Who is at the other end, as of the handshake; the address may change by migration (RFC 9000
    /// section 9).
    pub peer: Arc<Peer>,
    /// Its place among the connections; to be dropped with `quic`, not before.
    pub permit: Permit,
}

/// What serves connections; cloned per connection.
pub trait Serve: Clone + Send + 'static {
    /// Serves `connection` to its end.
    fn serve_quic(&self, connection: Connection) -> impl Future<Output = ()> + Send;
}

/// What keeps the room from working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's: the address is taken, not ours, or a privileged port.
    #[error("cannot listen on UDP {address}: {source}; {}", mend(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Ours: the socket cannot be registered with the runtime.
    #[error("the UDP socket cannot be used: {0}")]
    Adopt(#[source] io::Error),
    /// Ours: rustls refused the settings.
    #[error("TLS for QUIC cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Ours: no cipher suite that RFC 9001 section 5.2 needs for Initial packets.
    #[error("QUIC has no cipher suite for Initial packets")]
    NoInitialSuite,
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or write [server] http3 = false",
        io::ErrorKind::AddrNotAvailable => "write an address of this host, or 0.0.0.0 or [::] for all",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "see the system's message",
    }
}

#[cfg(test)]
mod tests;
