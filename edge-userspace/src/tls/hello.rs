//! Reads a ClientHello: as rustls understands it, and its bytes, for what rustls does not tell. `accept` calls it before any
//! cryptography is spent, and shows the gate the tickets of a client that comes from a penalised address.

use std::io;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{Error, PeerIncompatible};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::accept::Closed;
use super::client_hello::{self, Tickets};
#[cfg(feature = "legacy-rsa")]
use super::static_rsa;
use crate::gate::door::{Door, Entry, Penalised, Refusal};

/// Bytes of a ClientHello with its records: rustls takes no message above 65,535 bytes.
const LIMIT: usize = (1 << 16) + 1024;
/// Bytes read at once: what rustls takes in one piece (its `READ_SIZE`), so that nothing is left between the two.
const PIECE: u64 = 4096;

/// A ClientHello.
pub(super) struct Hello {
    /// As rustls understands it, with all that came behind it; or why it does not want it, where another might.
    pub(super) accepted: Result<Accepted, (Error, AcceptedAlert)>,
    /// All that was read, as records.
    bytes: Vec<u8>,
}

/// Reads the ClientHello of `stream`. It is the caller's to bound the time.
///
/// # Errors
/// It is none, or of no use to anybody (the alert has been sent), it is too long, or the connection broke.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Hello, Closed> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::with_capacity(2_048);
    loop {
        let before = bytes.len();
        if before >= LIMIT {
            return Err(Closed::Io(io::ErrorKind::FileTooLarge.into()));
        }
        if (&mut *stream)
            .take(PIECE)
            .read_buf(&mut bytes)
            .await
            .map_err(Closed::Io)?
            == 0
        {
            return Err(Closed::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut new = bytes.get(before..).unwrap_or_default();
        acceptor.read_tls(&mut new).map_err(Closed::Io)?;
        if !new.is_empty() {
            return Err(Closed::Io(io::ErrorKind::InvalidData.into()));
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                return Ok(Hello {
                    accepted: Ok(accepted),
                    bytes,
                });
            }
            // Without the extension, clients of TLS 1.2 take SHA-1 (RFC 5246 section 7.4.1.4.1), which rustls does not sign with.
            // Nothing is signed with static RSA.
            Err(refused @ (Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired), _)) => {
                return Ok(Hello {
                    accepted: Err(refused),
                    bytes,
                });
            }
            Err(refused) => return Err(refuse(stream, refused).await),
        }
    }
}

/// Sends rustls's alert.
pub(super) async fn refuse(stream: &mut TcpStream, (error, mut alert): (Error, AcceptedAlert)) -> Closed {
    let mut answer = Vec::new();
    if alert.write(&mut answer).is_ok() {
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
    Closed::Handshake(error)
}

impl Hello {
    /// Whether one who says this hello, from a penalised address, may go on.
    pub(super) fn judge(&self, door: &Door, penalised: Penalised) -> Result<Entry, Refusal> {
        let message = self.message();
        let tickets = Tickets::find(&message).unwrap_or_default();
        door.judge(penalised, tickets.iter())
    }

    /// The message by itself. What rustls has understood and this does not, has nothing in it.
    fn message(&self) -> Vec<u8> {
        client_hello::reassemble(&self.bytes).ok().flatten().unwrap_or_default()
    }

    /// All that was read, as records, with what they offer a zone that has an RSA key, if this is nothing but static RSA; `ours`
    /// are the suites of rustls.
    #[cfg(feature = "legacy-rsa")]
    pub(super) fn static_rsa(&self, ours: &[rustls::SupportedCipherSuite]) -> Option<OldHello> {
        // Nearly everybody: no need to look at the bytes again.
        if let Ok(accepted) = &self.accepted
            && !static_rsa::only(accepted.client_hello().cipher_suites().iter().copied(), ours)
        {
            return None;
        }
        let message = self.message();
        let offer = client_hello::Offer::find(&message).ok()?;
        static_rsa::only(offer.suites(), ours).then(|| OldHello {
            version: offer.version,
            server_name: offer.server_name.map(|name| super::certificates::normal(name).into()),
            bytes: self.bytes.clone(),
        })
    }
}

/// The hello of a client that knows no key exchange but RSA's.
#[cfg(feature = "legacy-rsa")]
pub(super) struct OldHello {
    /// Of TLS, which its premaster repeats.
    pub(super) version: u16,
    /// As the maps of certificates have it.
    pub(super) server_name: Option<std::sync::Arc<str>>,
    /// All that was read, as records.
    pub(super) bytes: Vec<u8>,
}
