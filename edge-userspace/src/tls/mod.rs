//! Room 3: TLS over TCP. Listens, bounds the number of clients, reads PROXY protocol headers,
//! shakes hands by SNI with keys that are here or at key servers, and hands each connection with
//! its [`Peer`](crate::base::peer::Peer) to what serves it: `http`, by the trait [`Serve`].

pub mod accept;
pub mod certificates;
pub mod challenge;
pub mod client_hello;
pub mod clients;
mod closed;
mod compression;
pub mod flights;
pub mod front;
mod hello;
pub mod keyless;
#[cfg(feature = "keylog")]
mod keylog;
#[cfg(feature = "legacy-rsa")]
pub mod legacy;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod names;
pub(crate) mod pem_file;
pub mod policy;
pub mod proxy_protocol;
pub mod remote;
pub mod sealing;
pub mod sessions;
pub mod settings;
pub mod shown;
mod signed;
mod staple;
#[cfg(any(feature = "legacy-rsa", test))]
mod static_rsa;
pub mod suspend;
pub mod tickets;
pub mod trust;

pub use accept::{Connection, Io, Protocol};
pub use front::{Front, Serve, Socket};

use std::io;
use std::net::SocketAddr;

/// What keeps the room from working. The operator's mistakes in certificates are
/// [`Mistake`](crate::config::Mistake)s.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's: the address is taken, not ours, or a privileged port.
    #[error("cannot listen on {address}: {source}; {}", mend(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Ours: a socket that was handed over cannot be used.
    #[error("the socket handed over by the service manager cannot be used: {0}")]
    Adopt(#[source] io::Error),
    /// The operator's: a file that the settings name.
    #[error("{0}")]
    Mistake(#[source] crate::config::Mistakes),
    /// Ours: rustls refused the settings or had no randomness.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or write another port",
        io::ErrorKind::AddrNotAvailable => "write an address of this host, or 0.0.0.0 or [::] for all",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE or socket activation",
        _ => "see the system's message",
    }
}
