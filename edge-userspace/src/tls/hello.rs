//! Reads a ClientHello: as rustls understands it, and its bytes, for what rustls does not tell. `accept` calls it before any
//! cryptography is spent, and shows the gate the tickets of a client that comes from a penalised address.

use std::io;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::accept::Closed;
use super::client_hello::{self, Tickets};
use crate::gate::door::{Door, Entry, Penalised, Refusal};

/// Bytes of a ClientHello with its records: rustls takes no message above 65,535 bytes.
const LIMIT: usize = (1 << 16) + 1024;
/// Bytes read at once: what rustls takes in one piece (its `READ_SIZE`), so that nothing is left between the two.
const PIECE: u64 = 4096;

/// A ClientHello.
pub(super) struct Hello {
    /// As rustls understands it, with all that came behind it.
    pub(super) accepted: Accepted,
    /// All that was read, as records.
    bytes: Vec<u8>,
}

/// Reads the ClientHello of `stream`. It is the caller's to bound the time.
///
/// # Errors
/// It is none (the alert has been sent), it is too long, or the connection broke.
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
            Ok(Some(accepted)) => return Ok(Hello { accepted, bytes }),
            Err((error, mut alert)) => {
                let mut answer = Vec::new();
                if alert.write(&mut answer).is_ok() {
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                }
                return Err(Closed::Handshake(error));
            }
        }
    }
}

impl Hello {
    /// Whether one who says this hello, from a penalised address, may go on.
    pub(super) fn judge(&self, door: &Door, penalised: Penalised) -> Result<Entry, Refusal> {
        // What rustls has understood and this does not, is a hello without tickets.
        let message = client_hello::reassemble(&self.bytes).ok().flatten().unwrap_or_default();
        let tickets = Tickets::find(&message).unwrap_or_default();
        door.judge(penalised, tickets.iter())
    }
}
