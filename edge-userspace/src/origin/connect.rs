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
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::error::ConnectError;
use super::names::{Names, ordered};
use super::proxy_header;
use crate::config::value::OriginAddress;
use crate::config::{Mistake, OriginHttp, Upstream};
use crate::tls::{certificates, pem_file, trust};

/// The head start of each address over the next (RFC 8305 section 5, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

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
                    let certificates = pem_file::certificates(file, place)?;
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
