//! Why a connection ended before it could be served, and whose fault that is. Every step from
//! `accept` to the handshake ends with it; `metrics` counts it by its label.

use std::io;

use super::{proxy_protocol, remote};
use crate::gate::door::Refusal;

/// Why a connection ended before it could be served.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The client's: too slow.
    #[error("no handshake within the limit")]
    Timeout,
    /// The client's, mostly: no common version, cipher or protocol, a bad message, or an alert it
    /// sent.
    #[error("{0}")]
    Handshake(#[source] rustls::Error),
    /// The client's: plain HTTP or garbage on a TLS port.
    #[error("not TLS")]
    NotTls,
    /// The client's: a ClientHello above 65,535 bytes, or in very many records.
    #[error("the ClientHello is too long")]
    HelloTooLong,
    /// The client's: no zone has the server name it asks for.
    #[error("no certificate for the name asked for")]
    NoCertificate,
    /// The proxy's or the operator's.
    #[error("{0}")]
    ProxyHeader(#[source] proxy_protocol::Malformed),
    /// The client's: its address is under a penalty, and it has no ticket that says it is another
    /// one's.
    #[error("from a penalised address: {}", .0.label())]
    Penalised(Refusal),
    /// A limit of ours.
    #[error("too many connections from one address")]
    Crowded,
    /// The client's: the operator's deny list covers the address that the PROXY protocol header
    /// names.
    #[error("from a denied address")]
    Denied,
    /// Nobody's: an ACME server has seen the certificate that it asked for.
    #[error("an ACME challenge was answered")]
    Challenge,
    /// The key server's, the network's to it, or a limit of ours.
    #[error("{0}")]
    KeyServer(#[source] remote::Refusal),
    /// The connection broke.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl Closed {
    /// The label in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Handshake(_) => "alert",
            Self::NotTls => "not_tls",
            Self::HelloTooLong => "hello_too_long",
            Self::NoCertificate => "no_certificate",
            Self::ProxyHeader(_) => "proxy_header",
            Self::Penalised(refusal) => refusal.label(),
            Self::Crowded => "address_limit",
            Self::Denied => "denied",
            Self::Challenge => "acme",
            Self::KeyServer(remote::Refusal::Shed | remote::Refusal::NoStack) => "shed",
            Self::KeyServer(_) => "key_server",
            Self::Io(_) => "io",
        }
    }
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => match error.downcast::<rustls::Error>() {
                Ok(rustls) => Self::Handshake(rustls),
                Err(error) => Self::Io(error),
            },
            Some(inner) => match inner.downcast_ref::<proxy_protocol::Malformed>() {
                Some(malformed) => Self::ProxyHeader(*malformed),
                None => Self::Io(error),
            },
            None => Self::Io(error),
        }
    }
}
