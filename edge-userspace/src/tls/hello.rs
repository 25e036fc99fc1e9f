//! Reads a ClientHello: as rustls understands it, and its bytes, for what rustls does not tell.
//! `accept` calls it before any cryptography is spent, and shows the gate the tickets of a client
//! that comes from a penalised address.

use std::io;
use std::time::Duration;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{Error, PeerIncompatible};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client_hello::{self, Tickets};
use super::closed::Closed;
#[cfg(feature = "legacy-rsa")]
use super::static_rsa;
use crate::gate::door::{Door, Entry, Penalised, Refusal};

/// The longest message that rustls takes.
const LONGEST: usize = 0xffff;
/// Bytes of a ClientHello with its records: a client that cuts it into very small ones is refused
/// before.
const LIMIT: usize = LONGEST + 1024;
/// Bytes read at once, at most.
const PIECE: usize = 4096;
/// The header of a record (RFC 8446 section 5.1).
const RECORD: usize = 5;
/// Alerts (RFC 8446 section 6), with what they are for.
const UNEXPECTED_MESSAGE: u8 = 10;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;

/// A ClientHello.
pub(super) struct Hello {
    /// As rustls understands it, with all that came behind it; or why it does not want it, where
    /// another might.
    pub(super) accepted: Result<Accepted, (Error, AcceptedAlert)>,
    /// All that was read, as records.
    pub(super) bytes: Vec<u8>,
}

/// Reads the ClientHello of `stream`, and nothing after it. It is the caller's to bound the time.
///
/// # Errors
/// It is none, or of no use to anybody, or too long (the alert has been sent), or the connection
/// broke.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Hello, Closed> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::with_capacity(2_048);
    let mut records = Records::default();
    loop {
        let before = bytes.len();
        // Not beyond the record: what follows the hello is not the acceptor's.
        let piece = records.wanted(&bytes).min(PIECE);
        if before.saturating_add(piece) > LIMIT || too_long(&bytes) {
            return Err(dismiss(stream, DECODE_ERROR, Closed::HelloTooLong).await);
        }
        let read = (&mut *stream).take(piece as u64).read_buf(&mut bytes).await;
        if read.map_err(Closed::Io)? == 0 {
            return Err(Closed::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        // rustls takes as much as it has room for, and makes room by looking at it.
        let mut new = bytes.get(before..).unwrap_or_default();
        while !new.is_empty() {
            if !matches!(acceptor.read_tls(&mut new), Ok(1..)) {
                return Err(dismiss(stream, DECODE_ERROR, Closed::HelloTooLong).await);
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    return Ok(Hello {
                        accepted: Ok(accepted),
                        bytes,
                    });
                }
                // Without the extension, clients of TLS 1.2 take SHA-1 (RFC 5246 section
                // 7.4.1.4.1), which rustls does not sign with. Nothing is signed with static RSA.
                Err(refused @ (Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired), _)) => {
                    return Ok(Hello {
                        accepted: Err(refused),
                        bytes,
                    });
                }
                Err(refused) => return Err(refuse(stream, &bytes, refused).await),
            }
        }
    }
}

/// Where the records in what was read end.
#[derive(Default)]
struct Records {
    /// Of the last one that has begun.
    end: usize,
    /// Its header has been read.
    known: bool,
}

impl Records {
    /// How many bytes are missing to the end of the present record, or of its header.
    fn wanted(&mut self, bytes: &[u8]) -> usize {
        if !self.known
            && let Some(&[_, _, _, high, low]) = bytes.get(self.end..).and_then(|rest| rest.first_chunk())
        {
            self.end = self
                .end
                .saturating_add(RECORD)
                .saturating_add(usize::from(u16::from_be_bytes([high, low])));
            self.known = true;
        }
        if self.known && bytes.len() >= self.end {
            self.known = false;
        }
        match self.known {
            true => self.end.saturating_sub(bytes.len()),
            false => self.end.saturating_add(RECORD).saturating_sub(bytes.len()),
        }
    }
}

/// Whether the message that `bytes` begin with says that it is longer than any that is taken.
fn too_long(bytes: &[u8]) -> bool {
    match bytes.get(RECORD..).and_then(|rest| rest.first_chunk()) {
        Some(&[1, high, middle, low]) => {
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            length > LONGEST
        }
        _ => false,
    }
}

/// Ends a connection whose first bytes are neither a handshake record nor text (RFC 8446 section
/// 5).
pub(super) async fn not_tls(stream: &mut TcpStream) -> Closed {
    dismiss(stream, UNEXPECTED_MESSAGE, Closed::NotTls).await
}

/// Ends a connection to a name that no zone has. rustls would say access_denied; this is what RFC
/// 6066 section 3 asks for.
pub(super) async fn no_name(stream: &mut TcpStream) -> Closed {
    dismiss(stream, UNRECOGNIZED_NAME, Closed::NoCertificate).await
}

/// Sends a fatal alert in the clear: nothing is encrypted yet.
async fn dismiss(stream: &mut TcpStream, alert: u8, closed: Closed) -> Closed {
    let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
    leave(stream).await;
    closed
}

/// Sends rustls's alert about the hello in `bytes`.
pub(super) async fn refuse(stream: &mut TcpStream, bytes: &[u8], (error, mut alert): (Error, AcceptedAlert)) -> Closed {
    let message = client_hello::reassemble(bytes).ok().flatten().unwrap_or_default();
    if too_old(&message) {
        return dismiss(stream, PROTOCOL_VERSION, Closed::Handshake(error)).await;
    }
    let mut answer = Vec::new();
    if alert.write(&mut answer).is_ok() {
        let _ = stream.write_all(&answer).await;
    }
    leave(stream).await;
    Closed::Handshake(error)
}

/// Whether a hello is of TLS 1.1 or before, and of nothing else: rustls misses an extension first
/// that those do not have. Such a client is told that it is the version (RFC 8446 appendix D.2).
fn too_old(message: &[u8]) -> bool {
    client_hello::Offer::find(message).is_ok_and(|offer| offer.version < 0x0303 && !offer.versions)
}

/// Ends the connection so that the client reads what was sent last: what it still sends is read for
/// a moment, or the kernel's reset would overtake the alert.
pub(super) async fn leave(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut sink = [0; PIECE];
    let drain = async {
        for _ in 0..32 {
            if !matches!(stream.read(&mut sink).await, Ok(1..)) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
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

    /// All that was read, as records, with what they offer a zone that has an RSA key, if this is
    /// nothing but static RSA; `ours` are the suites of rustls.
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
            server_name: offer.server_name.map(|name| super::names::normal(name).into()),
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A hello of a body of this many bytes, in records of at most `size`; of TLS 1.3 with what
    /// rustls wants, or of this older version.
    fn hello(total: usize, size: usize, version: [u8; 2]) -> Vec<u8> {
        let extension = |kind: u16, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap();
            [&kind.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
        };
        let mut extensions = extension(10, &[0, 2, 0, 0x1d]);
        if version == [3, 3] {
            extensions.extend(extension(13, &[0, 2, 4, 3]));
            extensions.extend(extension(43, &[2, 3, 4]));
            extensions.extend(extension(51, &[&[0, 0x24, 0, 0x1d, 0, 0x20][..], &[9; 32]].concat()));
        }
        let front = [&version[..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
        let rest = total.saturating_sub(front.len() + 2 + extensions.len() + 4);
        extensions.extend(extension(21, &vec![0; rest]));
        let length = u16::try_from(extensions.len()).unwrap();
        let body = [&front[..], &length.to_be_bytes(), &extensions].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        let record = |piece: &[u8]| {
            [
                &[22, 3, 1][..],
                &u16::try_from(piece.len()).unwrap().to_be_bytes(),
                piece,
            ]
            .concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    /// What the hello in these bytes comes to, and what the client reads.
    async fn told(bytes: Vec<u8>, at_once: bool) -> (Result<Hello, Closed>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.set_nodelay(true).unwrap();
            for piece in bytes.chunks(if at_once { bytes.len().max(1) } else { 1_000 }) {
                if client.write_all(piece).await.is_err() {
                    break;
                }
            }
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            answer
        });
        let (mut server, _) = listener.accept().await.unwrap();
        let read = read(&mut server).await;
        drop(server);
        (read, client.await.unwrap())
    }

    /// Clients with post-quantum shares or long lists would see a connection that merely ends, now
    /// and then.
    #[tokio::test]
    async fn hellos_of_every_length_are_taken_or_told() {
        for total in [
            200, 4_096, 16_383, 16_390, 17_000, 18_500, 20_000, 40_000, 60_000, 65_000,
        ] {
            for size in [16_384, 4_000] {
                for at_once in [true, false] {
                    let bytes = hello(total, size, [3, 3]);
                    let (read, _) = told(bytes.clone(), at_once).await;
                    let read = read.unwrap_or_else(|closed| panic!("{total} in {size}: {closed}"));
                    assert!(read.accepted.is_ok());
                    assert_eq!(read.bytes, bytes, "{total} in {size}");
                }
            }
        }
    }

    /// What comes behind the hello in the same packet is the session's.
    #[tokio::test]
    async fn nothing_behind_the_hello_is_read() {
        for total in [200, 16_390] {
            let bytes = hello(total, 16_384, [3, 3]);
            let (read, _) = told([&bytes[..], &[20, 3, 3, 0, 1, 1]].concat(), true).await;
            assert_eq!(read.unwrap_or_else(|closed| panic!("{closed}")).bytes, bytes);
        }
    }

    /// The client would not know whether to come again, or how.
    #[tokio::test]
    async fn what_is_refused_gets_its_alert() {
        let long = [&[22, 3, 1, 0x40, 0, 1, 1, 0, 0][..], &[0; 16_380]].concat();
        let (read, answer) = told(long, true).await;
        assert!(matches!(read, Err(Closed::HelloTooLong)));
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, DECODE_ERROR]);
        // One byte a record: more headers than message.
        let (read, answer) = told(hello(60_000, 1, [3, 3]), true).await;
        assert!(matches!(read, Err(Closed::HelloTooLong)));
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, DECODE_ERROR]);
        for version in [[3, 1], [3, 2]] {
            let (read, _) = told(hello(200, 16_384, version), true).await;
            let mut read = read.unwrap_or_else(|closed| panic!("{closed}"));
            assert!(read.accepted.is_err() && too_old(&read.message()), "{version:?}");
            read.bytes.clear();
        }
        assert!(!too_old(&[]));
    }
}
