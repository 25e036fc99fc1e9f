//! WebSockets of a script (RFC 6455): messages in and out over a connection that `outside`
//! switched. `traffic` keeps them and reads from them; nothing moves on a socket while the script
//! does not wait for it.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::code::Code;
use super::outside::{Doing, Wire};
use crate::isolate::memory::Held;

/// Bytes of one message, in or out.
pub(super) const MESSAGE: usize = 1 << 20;
/// Bytes that the host keeps for an open socket: a message that comes in pieces, and buffers.
pub(super) const OPEN: usize = MESSAGE + (64 << 10);
/// How long the other side takes to end the connection after both have said that it ends.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes read at once.
const BUFFER: usize = 8 << 10;
/// The connection broke off (RFC 6455 section 7.4.1); never sent.
const ABNORMAL: u16 = 1006;
/// The other side ended it without saying why.
const NO_STATUS: u16 = 1005;

/// The script's side of messages that go out; each is on its account until it was sent.
pub(super) type Outgoing = mpsc::UnboundedSender<(Message, Held)>;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Text(Bytes),
    Binary(Bytes),
    /// The end: its code, its reason, and whether both sides agreed to it.
    Closed(u16, String, bool),
}

/// A socket.
pub(super) struct Socket {
    line: Line,
    /// What the other side said of the end.
    closed: Option<(u16, String)>,
    _held: Held,
}

enum Line {
    Opening(Doing<Box<dyn Wire>>, Role, mpsc::UnboundedReceiver<(Message, Held)>),
    Open {
        reader: SplitStream<WebSocketStream<Box<dyn Wire>>>,
        /// Sends what the script has given; `None` when there will be no more.
        writer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    },
    Broken,
}

impl Socket {
    /// Over the connection that comes of `opening`; `held` are [`OPEN`] bytes of the script's
    /// account.
    pub(super) fn new(opening: Doing<Box<dyn Wire>>, role: Role, held: Held) -> (Self, Outgoing) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let socket = Self {
            line: Line::Opening(opening, role, receiver),
            closed: None,
            _held: held,
        };
        (socket, sender)
    }

    /// The next message, while what the script sends goes out.
    pub(super) async fn next(&mut self) -> Incoming {
        if let Line::Opening(..) = self.line {
            self.line = match std::mem::replace(&mut self.line, Line::Broken) {
                Line::Opening(opening, role, outgoing) => open(opening, role, outgoing).await,
                other => other,
            };
        }
        loop {
            let Line::Open { reader, writer } = &mut self.line else {
                return broken();
            };
            let sends = async {
                match writer {
                    Some(sending) => sending.await,
                    None => std::future::pending().await,
                }
            };
            let reads = async {
                match &self.closed {
                    None => reader.next().await,
                    Some(_) => tokio::time::timeout(LINGER, reader.next()).await.unwrap_or(None),
                }
            };
            let message = tokio::select! {
                biased;
                () = sends => {
                    *writer = None;
                    continue;
                }
                message = reads => message,
            };
            match message {
                Some(Ok(Message::Text(text))) => return Incoming::Text(text.into()),
                Some(Ok(Message::Binary(bytes))) => return Incoming::Binary(bytes),
                Some(Ok(Message::Close(frame))) => {
                    // Answered by the library; its end follows.
                    self.closed = Some(frame.map_or((NO_STATUS, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    }));
                }
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                ended => {
                    self.line = Line::Broken;
                    return match (self.closed.take(), ended) {
                        (Some((code, reason)), _) => Incoming::Closed(code, reason, true),
                        (None, Some(Err(Error::Capacity(_)))) => Incoming::Closed(1009, String::new(), false),
                        (None, Some(Err(Error::Utf8(_)))) => Incoming::Closed(1007, String::new(), false),
                        (None, Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)))) => broken(),
                        (None, Some(Err(Error::Protocol(_)))) => Incoming::Closed(1002, String::new(), false),
                        (None, _) => broken(),
                    };
                }
            }
        }
    }
}

fn broken() -> Incoming {
    Incoming::Closed(ABNORMAL, String::new(), false)
}

async fn open(
    opening: Doing<Box<dyn Wire>>,
    role: Role,
    mut outgoing: mpsc::UnboundedReceiver<(Message, Held)>,
) -> Line {
    let Ok(wire) = opening.await else { return Line::Broken };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE)
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE));
    let stream = WebSocketStream::from_raw_socket(wire, role, Some(config)).await;
    let (mut sink, reader) = stream.split();
    let writer = Box::pin(async move {
        while let Some((message, _held)) = outgoing.recv().await {
            // The reader finds out why.
            if sink.send(message).await.is_err() {
                return;
            }
        }
    });
    Line::Open {
        reader,
        writer: Some(writer),
    }
}

/// A message of the script's: 1 text, 2 bytes, 3 the end, whose code is `code` (0: none) and whose
/// reason are the bytes.
///
/// # Errors
/// It is longer than [`MESSAGE`], or text that is none.
pub(super) fn message(kind: i32, code: i32, bytes: &[u8]) -> Result<Message, Code> {
    if bytes.len() > MESSAGE {
        return Err(Code::TooLarge);
    }
    let text = || Utf8Bytes::try_from(Bytes::copy_from_slice(bytes)).map_err(|_| Code::Malformed);
    Ok(match kind {
        1 => Message::Text(text()?),
        2 => Message::Binary(Bytes::copy_from_slice(bytes)),
        3 if code == 0 => Message::Close(None),
        3 => {
            let code = u16::try_from(code).map_err(|_| Code::Malformed)?;
            let code = CloseCode::from(code);
            if !code.is_allowed() || bytes.len() > 123 {
                return Err(Code::Malformed);
            }
            Message::Close(Some(CloseFrame { code, reason: text()? }))
        }
        _ => return Err(Code::Malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::memory::Account;

    fn socket(wire: tokio::io::DuplexStream, role: Role) -> (Socket, Outgoing) {
        let held = Account::alone(OPEN).hold(OPEN).unwrap();
        let opening: Doing<Box<dyn Wire>> = Box::pin(async move {
            let wire: Box<dyn Wire> = Box::new(wire);
            Ok(wire)
        });
        Socket::new(opening, role, held)
    }

    fn send(to: &Outgoing, kind: i32, code: i32, bytes: &[u8]) {
        let held = Account::alone(MESSAGE).hold(bytes.len()).unwrap();
        to.send((message(kind, code, bytes).unwrap(), held)).unwrap();
    }

    /// Messages would be lost, or their kinds; or a socket that both sides end would look as if it
    /// broke off.
    #[tokio::test]
    async fn messages_cross_and_the_end_is_agreed_on() {
        let (one, other) = tokio::io::duplex(4 << 10);
        let (mut server, to_client) = socket(one, Role::Server);
        let (mut client, to_server) = socket(other, Role::Client);
        send(&to_server, 1, 0, "grüße".as_bytes());
        send(&to_server, 2, 0, &[7; 300]);
        send(&to_client, 1, 0, b"welcome");
        let (got, welcome) = tokio::join!(async { [server.next().await, server.next().await] }, client.next());
        assert_eq!(
            got,
            [
                Incoming::Text("grüße".as_bytes().into()),
                Incoming::Binary(vec![7; 300].into())
            ]
        );
        assert_eq!(welcome, Incoming::Text(Bytes::from_static(b"welcome")));
        send(&to_server, 3, 4000, b"done");
        drop(to_server);
        let (at_server, at_client) = tokio::join!(
            async {
                let end = server.next().await;
                drop(server);
                end
            },
            client.next()
        );
        assert_eq!(at_server, Incoming::Closed(4000, "done".to_owned(), true));
        assert_eq!(at_client, Incoming::Closed(4000, "done".to_owned(), true));
    }

    /// A client that goes would leave the script waiting, or one that sends without end would fill
    /// the host's memory.
    #[tokio::test]
    async fn a_broken_or_excessive_connection_is_an_end() {
        let (one, other) = tokio::io::duplex(64);
        let (mut server, _to_client) = socket(one, Role::Server);
        drop(other);
        assert_eq!(server.next().await, broken());
        assert_eq!(server.next().await, broken());
        let (one, mut other) = tokio::io::duplex(1 << 20);
        let (mut server, _to_client) = socket(one, Role::Server);
        // A masked binary frame of 2 MiB (RFC 6455 section 5.2), whose content need not come.
        let head = [0x82, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4];
        tokio::io::AsyncWriteExt::write_all(&mut other, &head).await.unwrap();
        assert_eq!(server.next().await, Incoming::Closed(1009, String::new(), false));
        assert_eq!(message(1, 0, &vec![0; MESSAGE + 1]).unwrap_err(), Code::TooLarge);
        for (kind, code, bytes) in [
            (3, 1006, &b""[..]),
            (3, 70_000, b""),
            (3, 1000, &[b'x'; 124]),
            (1, 0, b"\xff"),
            (9, 0, b""),
        ] {
            assert!(message(kind, code, bytes).is_err(), "{kind} {code}");
        }
    }
}
