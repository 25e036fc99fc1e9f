//! From a server's address to a socket that HTTP can be spoken on: an address of its name, TLS.
//! Asked by `pool` and `watch`; shared by all workers, so that TLS sessions are learnt once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::health::Trouble;
use super::names::{Names, ordered};
use super::proxy_header;
use crate::config::value::OriginAddress;
use crate::config::{Mistake, OriginHttp, Upstream};
use crate::tls::{certificates, trust};

/// The head start of each address over the next (RFC 8305 section 5, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// Why there is no connection. The words are ours: certificates and names of the peer stay out of
/// them.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The operator or the network: the name has no address.
    #[error("the name does not resolve")]
    Resolve,
    /// The operator or the owner of the name: it has none but addresses that this upstream must not
    /// be asked at.
    #[error("the name has private addresses only")]
    Private,
    /// The origin: nothing listens.
    #[error("connection refused")]
    Refused,
    /// The network.
    #[error("unreachable: {0}")]
    Unreachable(io::ErrorKind),
    /// The origin or the network.
    #[error("no connection in time")]
    Timeout,
    /// The origin or the operator: the certificate is for another name.
    #[error("the certificate is for another name")]
    TlsName,
    /// The origin: an untrusted certificate, no common version, not TLS at all.
    #[error("TLS failed: {0}")]
    Tls(&'static str),
    /// The origin: it does not speak the HTTP version that is configured.
    #[error("the origin does not speak HTTP/2")]
    Alpn,
    /// The operator: the roots cannot be read any more.
    #[error("the roots to trust cannot be loaded")]
    Roots,
    /// The HTTP/2 preface could not be sent.
    #[error("the HTTP handshake failed")]
    Handshake,
}

impl ConnectError {
    /// As shown in `/status`.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Resolve | Self::Private => Trouble::Resolve,
            Self::Refused => Trouble::Refused,
            Self::Unreachable(_) => Trouble::Unreachable,
            Self::Timeout => Trouble::Timeout,
            Self::TlsName => Trouble::TlsName,
            Self::Tls(_) | Self::Roots => Trouble::Tls,
            Self::Alpn | Self::Handshake => Trouble::Protocol,
        }
    }

    fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            kind => Self::Unreachable(kind),
        }
    }

    fn from_tls(error: &io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::TlsName,
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Self::Tls("the certificate has expired"),
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Self::Tls("the certificate's issuer is not trusted")
            }
            Some(rustls::Error::InvalidCertificate(error)) if trust::is_authority(error) => {
                Self::Tls("the certificate is an authority's (CA:TRUE), and not itself among those in `ca`")
            }
            Some(rustls::Error::InvalidCertificate(_)) => Self::Tls("the certificate is not valid"),
            Some(rustls::Error::AlertReceived(_)) => Self::Tls("the origin ended it by an alert"),
            Some(rustls::Error::NoApplicationProtocol) => Self::Alpn,
            Some(_) => Self::Tls("the handshake failed"),
            None => Self::Tls("the connection broke off"),
        }
    }
}

/// Connects to the servers of one upstream.
#[derive(Debug)]
pub(super) struct Connector {
    /// Offering what the configuration allows, and HTTP/1.1 alone (for upgrades); `None` without
    /// TLS servers.
    tls: Option<[Arc<ClientConfig>; 2]>,
    server_name: Option<ServerName<'static>>,
    http: OriginHttp,
    timeout: Duration,
    /// Connections begin with a PROXY protocol header.
    proxy_protocol: bool,
}

/// A connection, not spoken on yet.
#[derive(Debug)]
pub(super) struct Connected {
    /// The socket.
    pub(super) socket: Socket,
    /// HTTP/2 was settled, by ALPN or by prior knowledge.
    pub(super) h2: bool,
    /// Whom it leads to.
    pub(super) peer: SocketAddr,
    /// How long the peer took to accept it: about what a packet takes there and back.
    pub(super) round_trip: Duration,
}

/// How a connection is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Offer HTTP/1.1 alone.
    pub(super) only_h1: bool,
    /// The address of the name to try first.
    pub(super) first: Option<SocketAddr>,
    /// For whom: the client, and the address it came to; `None`: the edge asks for itself.
    pub(super) proxied: Option<(SocketAddr, SocketAddr)>,
}

impl Connector {
    /// Loads the roots that `upstream` needs, and what is shown to it.
    ///
    /// # Errors
    /// The operator's mistake when its `ca`, certificate or key cannot be read or used.
    pub(super) fn new(upstream: &Upstream) -> Result<Self, Mistake> {
        let tls = if upstream.servers.iter().any(|server| server.address.tls) {
            let (roots, trusted) = match &upstream.ca {
                None => (system_roots(), Vec::new()),
                Some((file, place)) => {
                    let mend = "write a PEM file with at least one CA certificate";
                    let mut roots = RootCertStore::empty();
                    let certificates = certificates::certificates(file, place)?;
                    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
                    if added == 0 {
                        return Err(place.mistake(format!("{} has no certificate", file.display()), mend));
                    }
                    (Arc::new(roots), certificates)
                }
            };
            let trust = trust::servers(roots, trusted);
            let alpn: &[&[u8]] = match upstream.http {
                OriginHttp::V1 => &[b"http/1.1"],
                OriginHttp::V2 => &[b"h2"],
                OriginHttp::Auto => &[b"h2", b"http/1.1"],
            };
            let identity = upstream.identity.as_ref().map(certificates::identity).transpose()?;
            Some([
                client_config(&trust, alpn, identity.as_ref()),
                client_config(&trust, &[b"http/1.1"], identity.as_ref()),
            ])
        } else {
            None
        };
        Ok(Self {
            tls,
            server_name: upstream
                .server_name
                .as_deref()
                .and_then(|name| ServerName::try_from(name.to_owned()).ok()),
            http: upstream.http,
            timeout: upstream.connect_timeout,
            proxy_protocol: upstream.proxy_protocol,
        })
    }

    /// A new connection to `server`, within the connect timeout, TLS included.
    ///
    /// # Errors
    /// As classed by [`ConnectError`].
    pub(super) async fn connect(
        &self,
        server: &OriginAddress,
        names: &Names,
        manner: Manner,
    ) -> Result<Connected, ConnectError> {
        tokio::time::timeout(self.timeout, self.try_connect(server, names, manner))
            .await
            .unwrap_or(Err(ConnectError::Timeout))
    }

    async fn try_connect(
        &self,
        server: &OriginAddress,
        names: &Names,
        manner: Manner,
    ) -> Result<Connected, ConnectError> {
        let only_h1 = manner.only_h1;
        let header = self.proxy_protocol.then(|| proxy_header::header(manner.proxied));
        if let Some(path) = &server.socket {
            let begun = Instant::now();
            let connected = async {
                let mut stream = UnixStream::connect(path).await?;
                if let Some(header) = &header {
                    stream.write_all(header).await?;
                }
                io::Result::Ok(stream)
            };
            return Ok(Connected {
                socket: Socket::Unix(connected.await.map_err(|e| ConnectError::from_io(&e))?),
                h2: self.http == OriginHttp::V2,
                peer: SocketAddr::from(([0, 0, 0, 0], 0)),
                round_trip: begun.elapsed(),
            });
        }
        let Dialled {
            mut stream,
            peer,
            round_trip,
        } = match server.host.parse::<IpAddr>() {
            Ok(ip) => dial(SocketAddr::new(ip, server.port)).await,
            Err(_) => {
                let addresses = names.resolve(server).await?;
                race(&ordered(&addresses, manner.first), names).await
            }
        }
        .map_err(|e| ConnectError::from_io(&e))?;
        if let Some(header) = &header {
            stream.write_all(header).await.map_err(|e| ConnectError::from_io(&e))?;
        }
        if !server.tls {
            return Ok(Connected {
                socket: Socket::Plain(stream),
                h2: self.http == OriginHttp::V2,
                peer,
                round_trip,
            });
        }
        let [all, h1] = self.tls.as_ref().ok_or(ConnectError::Roots)?;
        let config = if only_h1 { h1 } else { all };
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(server.host.clone()).map_err(|_| ConnectError::TlsName)?,
        };
        let tls = tokio_rustls::TlsConnector::from(config.clone())
            .connect(name, stream)
            .await
            .map_err(|e| ConnectError::from_tls(&e))?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.http == OriginHttp::V2 && !h2 && !only_h1 {
            return Err(ConnectError::Alpn);
        }
        Ok(Connected {
            socket: Socket::Tls(Box::new(tls)),
            h2,
            peer,
            round_trip,
        })
    }
}

fn client_config(
    trust: &Arc<dyn ServerCertVerifier>,
    alpn: &[&[u8]],
    identity: Option<&Arc<CertifiedKey>>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    #[expect(clippy::expect_used, reason = "ring has suites for both versions, at every start")]
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let builder = builder.dangerous().with_custom_certificate_verifier(trust.clone());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((**key).clone()))),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// The system's roots, read once. Those that cannot be read are left out, with a warning: a
/// handshake that needs them says that the issuer is not trusted.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a root certificate of the system could not be loaded");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            Arc::new(roots)
        })
        .clone()
}

/// Whether `address` is one of the public Internet, by the registries of special purpose addresses
/// (RFC 6890, RFC 8190), those that carry an IPv4 address judged by it as well.
pub(super) fn public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            let carried = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                public(IpAddr::from([a, b, c, d]))
            };
            // Only 2000::/3 is handed out, and 64:ff9b::/96 stands for IPv4 (RFC 6052).
            if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
                return carried(g, h);
            }
            if a == 0x2002 {
                return carried(b, c);
            }
            a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && !(a == 0x3fff && b < 0x1000)
        }
    }
}

/// A TCP connection.
struct Dialled {
    stream: TcpStream,
    peer: SocketAddr,
    round_trip: Duration,
}

async fn dial(peer: SocketAddr) -> io::Result<Dialled> {
    let begun = Instant::now();
    let stream = TcpStream::connect(peer).await?;
    let round_trip = begun.elapsed();
    // Requests are written whole; Nagle would only wait for the ACK of the one before.
    stream.set_nodelay(true)?;
    Ok(Dialled {
        stream,
        peer,
        round_trip,
    })
}

/// Tries `addresses` in turn, each with a head start over the next; the first connection wins (RFC
/// 8305 section 5). `names` learns which failed.
async fn race(addresses: &[SocketAddr], names: &Names) -> io::Result<Dialled> {
    if let [only] = addresses {
        return dial(*only).await;
    }
    let mut waiting = addresses.iter();
    let mut dials = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = match waiting.next() {
            Some(address) => {
                dials.push(async { dial(*address).await.map_err(|error| (*address, error)) });
                waiting.len() > 0
            }
            None => false,
        };
        tokio::select! {
            biased;
            outcome = dials.next() => match outcome {
                Some(Ok(dialled)) => {
                    // Those that had a head start and did not use it are passed over for a while,
                    // too.
                    let tried = addresses.len() - waiting.len();
                    let slower = addresses.iter().take(tried).take_while(|address| **address != dialled.peer);
                    slower.for_each(|address| names.failed(*address));
                    return Ok(dialled);
                }
                Some(Err((address, error))) => {
                    names.failed(address);
                    last = error;
                }
                None if !more => return Err(last),
                None => {}
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

/// TCP, with or without TLS, or a Unix socket. One type, so that hyper's connection is compiled
/// once.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Plain(stream) => {
                let $io = Pin::new(stream);
                $call
            }
            Socket::Tls(stream) => {
                let $io = Pin::new(&mut **stream);
                $call
            }
            Socket::Unix(stream) => {
                let $io = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker would reach what only this host's network may.
    #[test]
    fn what_is_public() {
        for (text, is) in [
            ("8.8.8.8", true),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("192.0.2.1", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
            ("2606:4700::1111", true),
        ] {
            assert_eq!(public(text.parse().unwrap()), is, "{text}");
        }
    }
}
