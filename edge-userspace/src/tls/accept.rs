//! From an accepted socket to a connection that can be served: PROXY header, first look,
//! ClientHello, handshake. All of it under one deadline. `front` calls it; the ClientHello is seen
//! before any cryptography is spent on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::certificates::{Entry, Store};
use super::challenge;
use super::clients;
use super::closed::Closed;
use super::hello::{self, Hello};
use super::keyless::{Keyless, Whose};
#[cfg(feature = "legacy-rsa")]
use super::legacy;
use super::limits::Permit;
use super::metrics::KeyExchange;
use super::names;
use super::proxy_protocol::{self, Header};
use super::shown::Shown;
use super::tickets::{Ticketer, Tickets};
use crate::base::peer::{Handshake, Peer};
use crate::dataplane::Lists;
use crate::gate::door::{Door, Refusal};
#[cfg(feature = "legacy-rsa")]
use crate::gate::token::ClientId;

/// A connection ready for requests.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes, decrypted.
    pub io: Io,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its place among the connections; to be dropped with `io`, not before.
    pub permit: Permit,
}

/// What a connection speaks, by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or 1.0.
    H1,
    /// HTTP/2.
    H2,
}

/// Bytes of a client.
#[derive(Debug)]
pub enum Io {
    /// As they are on the wire.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Through TLS 1.2 with static RSA.
    #[cfg(feature = "legacy-rsa")]
    Legacy(Box<legacy::Stream>),
}

/// How to accept, from the snapshot in force when the connection came.
pub(super) struct Terms {
    /// `None` on a plain listener.
    pub(super) tls: Option<(Arc<ServerConfig>, Tickets)>,
    /// Judges clients of penalised addresses; `None` where there is no gate.
    pub(super) door: Option<Arc<Door>>,
    /// The peer's own address has been looked up; of whom it speaks for it has not.
    pub(super) lists: Arc<Lists>,
    pub(super) certificates: Arc<Store>,
    pub(super) keyless: Arc<Keyless>,
    pub(super) timeout: Duration,
    /// The peer speaks the PROXY protocol.
    pub(super) proxied: bool,
    /// The peer is a near end: it has shown its certificate, and speaks for clients of all zones.
    pub(super) near_end: bool,
}

/// Makes a connection of `stream`; on `Crowded`, `Denied` and `Penalised` the stream comes back, to
/// be reset.
pub(super) async fn accept(
    stream: TcpStream,
    remote: SocketAddr,
    permit: Permit,
    terms: Terms,
) -> Result<Connection, (Closed, Option<TcpStream>)> {
    let accepted = Instant::now();
    let deadline = tokio::time::Instant::from_std(accepted + terms.timeout);
    match tokio::time::timeout_at(deadline, shake(stream, remote, permit, terms, accepted)).await {
        Ok(result) => result,
        Err(_) => Err((Closed::Timeout, None)),
    }
}

async fn shake(
    mut stream: TcpStream,
    remote: SocketAddr,
    permit: Permit,
    mut terms: Terms,
    accepted: Instant,
) -> Result<Connection, (Closed, Option<TcpStream>)> {
    let tls = terms.tls.take();
    let mut guest = Guest {
        client: canonical(remote),
        local: canonical(stream.local_addr().map_err(|error| (Closed::from(error), None))?),
        accepted,
        permit,
    };
    if let Err(closed) = guest.greet(&mut stream, &terms).await {
        let reset = matches!(closed, Closed::Crowded | Closed::Denied | Closed::Penalised(_));
        return Err((closed, reset.then_some(stream)));
    }
    let Some(tls) = tls else {
        return Ok(guest.served(Io::Plain(stream), Protocol::H1, None));
    };
    let hello = match guest.hello(&mut stream, &terms).await {
        Ok(hello) => hello,
        Err(closed) => {
            let reset = matches!(closed, Closed::Penalised(_));
            return Err((closed, reset.then_some(stream)));
        }
    };
    let connection = secure(stream, hello, guest, &terms, tls).await;
    connection.map_err(|closed| (closed, None))
}

/// Who has come, and by which way.
struct Guest {
    client: SocketAddr,
    local: SocketAddr,
    accepted: Instant,
    permit: Permit,
}

impl Guest {
    /// Learns which client a proxy speaks for, and lets the client in or not: all that is known
    /// before it says anything.
    async fn greet(&mut self, stream: &mut TcpStream, terms: &Terms) -> Result<(), Closed> {
        if terms.proxied
            && let Header::Proxied { client, local } = proxy_protocol::read(stream).await?
        {
            (self.client, self.local) = (client, local);
            if terms.lists.is_denied(client.ip()) {
                return Err(Closed::Denied);
            }
        }
        if !self.permit.claim(self.client.ip()) {
            return Err(Closed::Crowded);
        }
        // An operator's word holds on plain listeners, too.
        match &terms.door {
            Some(door) if door.is_barred(self.client.ip()) => Err(Closed::Penalised(Refusal::Operator)),
            _ => Ok(()),
        }
    }

    /// Reads the ClientHello, and judges a client of a penalised address by it.
    async fn hello(&self, stream: &mut TcpStream, terms: &Terms) -> Result<Hello, Closed> {
        let mut first = [0u8; 8];
        let seen = stream.peek(&mut first).await?;
        match first.first() {
            // A handshake record (RFC 8446 section 5.1).
            Some(0x16) if seen > 0 => {}
            _ if seen == 0 => return Err(Closed::Io(io::ErrorKind::UnexpectedEof.into())),
            Some(first) if first.is_ascii_alphabetic() => {
                speak_tls(stream).await;
                return Err(Closed::NotTls);
            }
            _ => return Err(hello::not_tls(stream).await),
        }
        let hello = hello::read(stream).await?;
        let ip = self.client.ip();
        // Who comes by a trusted proxy is judged by request.
        let door = terms.door.as_deref().filter(|_| !self.permit.trusts(ip));
        if let Some((door, penalised)) = door.and_then(|door| Some((door, door.penalised(ip)?)))
            && let Err(refusal) = hello.judge(door, penalised)
        {
            return Err(Closed::Penalised(refusal));
        }
        Ok(hello)
    }

    fn served(self, io: Io, protocol: Protocol, handshake: Option<Handshake>) -> Connection {
        Connection {
            io,
            peer: Arc::new(Peer {
                client: self.client,
                local: self.local,
                accepted: self.accepted,
                handshake: handshake.map(Arc::new),
                early: None,
                via: None,
            }),
            protocol,
            permit: self.permit,
        }
    }
}

/// The handshake that `hello` begins.
async fn secure(
    mut stream: TcpStream,
    hello: Hello,
    guest: Guest,
    terms: &Terms,
    (config, tickets): (Arc<ServerConfig>, Tickets),
) -> Result<Connection, Closed> {
    #[cfg(feature = "legacy-rsa")]
    if let Some(old) = hello.static_rsa(&config.crypto_provider().cipher_suites)
        && let Some(entry) = terms.certificates.find(old.server_name.as_deref())
        && entry.legacy.is_some()
    {
        return secure_old(stream, old, guest, terms, &entry).await;
    }
    let accepted = match hello.accepted {
        Ok(accepted) => accepted,
        Err(refused) => return Err(hello::refuse(&mut stream, &hello.bytes, refused).await),
    };
    let start = StartHandshake::from_parts(accepted, stream);
    if challenge::is_asked(&start.client_hello()) {
        return Err(match challenge::shake(start, terms.certificates.challenges()).await {
            true => Closed::Challenge,
            false => Closed::NoCertificate,
        });
    }
    let server_name: Option<Arc<str>> = start
        .client_hello()
        .server_name()
        .map(|name| names::normal(name).into());
    let Some(entry) = terms.certificates.find(server_name.as_deref()) else {
        let mut stream = start.io;
        return Err(hello::no_name(&mut stream).await);
    };
    let config = entry.config.get().cloned().unwrap_or(config);
    let ip = guest.client.ip();
    let (config, ticketer) = tickets.equip(&config, ip, &entry.policy);
    let stream = finish(start, config, &entry, &terms.keyless, ip, &ticketer).await?;
    let (_, session) = stream.get_ref();
    let identity = match entry.policy.clients() {
        Some(verifier) => clients::identity(session, verifier).map_err(Closed::Handshake)?,
        None => None,
    };
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Protocol::H2,
        _ => Protocol::H1,
    };
    let (id, known) = ticketer.client();
    let handshake = Handshake {
        duration: guest.accepted.elapsed(),
        standing: Some(Shown::of(
            &terms.certificates,
            server_name.clone(),
            &entry,
            Some(session),
        )),
        server_name,
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        client: id.0,
        known,
        certificate: identity,
    };
    // The name a near end asks for is this far end's; it must not bind its requests to a zone.
    let shown = (!terms.near_end).then_some(handshake);
    Ok(guest.served(Io::Tls(Box::new(stream)), protocol, shown))
}

/// The handshake of a client that knows no key exchange but RSA's, on a zone that allows it.
#[cfg(feature = "legacy-rsa")]
async fn secure_old(
    stream: TcpStream,
    old: hello::OldHello,
    guest: Guest,
    terms: &Terms,
    entry: &Entry,
) -> Result<Connection, Closed> {
    let Some(legacy) = &entry.legacy else {
        return Err(Closed::NoCertificate);
    };
    let server_name = old.server_name.clone();
    let whose = asks(entry, &terms.keyless, guest.client.ip());
    let stream = legacy.shake(old, stream, whose).await?;
    let handshake = Handshake {
        duration: guest.accepted.elapsed(),
        server_name: server_name.clone(),
        version: "TLSv1.2",
        resumed: false,
        // Without tickets, each connection is somebody new.
        client: ClientId::fresh().0,
        known: false,
        certificate: None,
        standing: Some(Shown::of(&terms.certificates, server_name, entry, None)),
    };
    Ok(guest.served(Io::Legacy(Box::new(stream)), Protocol::H1, Some(handshake)))
}

/// The handshake from the ClientHello on, with a key that is here or elsewhere.
async fn finish(
    start: StartHandshake<TcpStream>,
    config: Arc<ServerConfig>,
    entry: &Entry,
    keyless: &Keyless,
    client: IpAddr,
    ticketer: &Ticketer,
) -> Result<TlsStream<TcpStream>, Closed> {
    let Some(route) = entry.route() else {
        let settle = |session: &mut rustls::ServerConnection| ticketer.settle(session);
        return match start.into_stream_with(config, settle).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, mut stream)) => {
                // The alert has been sent; it is to be read.
                hello::leave(&mut stream).await;
                Err(error.into())
            }
        };
    };
    let whose = Whose {
        route: route.clone(),
        exchange: entry.exchange,
        client,
    };
    keyless
        .shake(start.accepted, start.io, config, &whose, |session| {
            ticketer.settle(session)
        })
        .await
}

/// Whose key is to be asked for, where it is elsewhere.
#[cfg(feature = "legacy-rsa")]
fn asks(entry: &Entry, keyless: &Arc<Keyless>, client: IpAddr) -> Option<(Arc<Keyless>, Whose)> {
    let whose = Whose {
        route: entry.route()?.clone(),
        exchange: false,
        client,
    };
    Some((keyless.clone(), whose))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

/// Tells a client that wrote plain HTTP to a TLS port, in its own words.
async fn speak_tls(stream: &mut TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
        content-length: 35\r\n\r\nThis port speaks TLS. Use https://.\n";
    if stream.write_all(ANSWER).await.is_ok() {
        hello::leave(stream).await;
    }
}

impl Io {
    /// How its handshake agreed on keys.
    pub(super) fn key_exchange(&self) -> KeyExchange {
        match self {
            Self::Plain(_) => KeyExchange::None,
            Self::Tls(stream) => match stream.get_ref().1.negotiated_key_exchange_group() {
                Some(group) => KeyExchange::Group(group.name()),
                None => KeyExchange::None,
            },
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(_) => KeyExchange::StaticRsa,
        }
    }

    /// Seals bytes without sending them: several writes, and several streams' answers, then leave
    /// in one system call. 0 when there is no room, or no rustls: to be written in the ordinary way
    /// then.
    ///
    /// # Errors
    /// rustls's, for a session that has ended.
    pub fn seal(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(_) => Ok(0),
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(_) => Ok(0),
            Self::Tls(stream) => io::Write::write_vectored(&mut stream.get_mut().1.writer(), bufs),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(io) => Pin::new(io).poll_flush(cx),
        }
    }

    /// Sends close_notify first where there is TLS.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
            #[cfg(feature = "legacy-rsa")]
            Self::Legacy(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
