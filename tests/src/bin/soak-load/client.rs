//! One client's connection in HTTP/1.1, HTTP/2 or HTTP/3, and an exchange on it, read to its end.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes};
use edge_testbed::words::Words;
use h3_quinn::OpenStreams;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::content::LONGEST;
use crate::origin::PROTOCOL;

/// A client of HTTP/3 takes its server for dead after that.
const IDLE: Duration = Duration::from_secs(5);

/// In which version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speech {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl Speech {
    /// As reports write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

/// Where the edge is and whom clients trust. Sessions are resumed, as browsers do.
pub(crate) struct Clients {
    target: SocketAddr,
    source: IpAddr,
    tcp: [Arc<rustls::ClientConfig>; 4],
    quic: quinn::ClientConfig,
    endpoint: quinn::Endpoint,
}

/// A connection that requests can be sent on, one after the other.
pub(crate) enum Connection {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
    H3(Box<h3::client::SendRequest<OpenStreams, Bytes>>, quinn::Connection),
}

impl Clients {
    /// By `target=`, `source=` (the address they come from) and `ca=`.
    pub(crate) fn new(words: &Words) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(words.get::<PathBuf>("ca")?).context("reading the root")?)?;
        let tls = |versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[u8]| -> Result<_> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(config)
        };
        let (old, new) = ([&rustls::version::TLS12], [&rustls::version::TLS13]);
        let tcp = [
            tls(&old, b"http/1.1")?.into(),
            tls(&new, b"http/1.1")?.into(),
            tls(&old, b"h2")?.into(),
            tls(&new, b"h2")?.into(),
        ];
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(IDLE.try_into()?));
        let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls(&new, b"h3")?)?));
        quic.transport_config(Arc::new(transport));
        let source: IpAddr = words.get("source")?;
        let endpoint = quinn::Endpoint::client(SocketAddr::new(source, 0))?;
        Ok(Self {
            target: words.get("target")?,
            source,
            tcp,
            quic,
            endpoint,
        })
    }

    /// Connects to `host`; over TCP with TLS 1.2 if `old`.
    pub(crate) async fn connect(&self, speech: Speech, old: bool, host: &str) -> Result<Connection> {
        let [h1_old, h1_new, h2_old, h2_new] = &self.tcp;
        let config = match (speech, old) {
            (Speech::H3, _) => return self.quic(host).await,
            (Speech::H1, true) => h1_old,
            (Speech::H1, false) => h1_new,
            (Speech::H2, true) => h2_old,
            (Speech::H2, false) => h2_new,
        };
        let socket = if self.target.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(self.source, 0))?;
        let stream = socket.connect(self.target).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(config.clone())
            .connect(name, stream)
            .await
            .context("TLS handshake")?;
        let io = TokioIo::new(stream);
        if speech == Speech::H1 {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection.with_upgrades());
            return Ok(Connection::H1(sender));
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Connection::H2(sender))
    }

    async fn quic(&self, host: &str) -> Result<Connection> {
        let connecting = self.endpoint.connect_with(self.quic.clone(), self.target, host)?;
        let connection = connecting.await.context("QUIC handshake")?;
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await?;
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Connection::H3(Box::new(sender), connection))
    }
}

impl Connection {
    /// One exchange; the answer with its content in full.
    ///
    /// # Errors
    /// The connection or stream ended before the content did.
    pub(crate) async fn exchange(&mut self, request: Request<Bytes>) -> Result<Response<Vec<u8>>> {
        match self {
            Self::H1(sender) => {
                let (mut head, body) = request.into_parts();
                let host = head.uri.host().unwrap_or_default().to_owned();
                head.headers.insert(http::header::HOST, host.parse()?);
                head.uri = head.uri.path().parse()?;
                sender.ready().await?;
                let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
                collect(answer).await
            }
            Self::H2(sender) => {
                sender.ready().await?;
                collect(sender.send_request(request.map(Full::new)).await?).await
            }
            Self::H3(sender, _) => {
                let (head, body) = request.into_parts();
                let mut stream = sender.send_request(Request::from_parts(head, ())).await?;
                if !body.is_empty() {
                    stream.send_data(body).await?;
                }
                stream.finish().await?;
                let answer = stream.recv_response().await?;
                let mut content = Vec::new();
                while let Some(mut data) = stream.recv_data().await? {
                    content.extend_from_slice(&data.copy_to_bytes(data.remaining()));
                    if content.len() > 2 * LONGEST {
                        bail!("content without an end");
                    }
                }
                whole(answer.map(|()| content))
            }
        }
    }

    /// Upgrades an HTTP/1.1 connection and sends `pieces`; each must come back. The connection is
    /// used up.
    ///
    /// # Errors
    /// What of it did not work; bytes that came back other than they went say [`Changed`].
    pub(crate) async fn tunnel(self, host: &str, pieces: &[Vec<u8>]) -> Result<u16> {
        let Self::H1(mut sender) = self else {
            bail!("upgrades are HTTP/1.1's")
        };
        let request = Request::get("/tunnel")
            .header(http::header::HOST, host)
            .header(http::header::CONNECTION, "upgrade")
            .header(http::header::UPGRADE, PROTOCOL)
            .body(Full::default())?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        if answer.status() != 101 {
            return Ok(answer.status().as_u16());
        }
        let mut stream = TokioIo::new(hyper::upgrade::on(answer).await?);
        for piece in pieces {
            stream.write_all(piece).await?;
            stream.flush().await?;
            let mut back = vec![0; piece.len()];
            stream.read_exact(&mut back).await?;
            if back != *piece {
                return Err(Changed.into());
            }
        }
        stream.shutdown().await?;
        Ok(101)
    }

    /// Ends it in good order.
    pub(crate) fn close(self) {
        if let Self::H3(_, connection) = self {
            connection.close(quinn::VarInt::from_u32(0x100), b"");
        }
    }
}

/// Bytes came out of a tunnel other than they went in.
#[derive(Debug)]
pub(crate) struct Changed;

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bytes of a tunnel were changed")
    }
}

impl std::error::Error for Changed {}

async fn collect(answer: Response<hyper::body::Incoming>) -> Result<Response<Vec<u8>>> {
    let (head, body) = answer.into_parts();
    let content = body.collect().await.context("reading the content")?.to_bytes();
    whole(Response::from_parts(head, content.to_vec()))
}

/// A length that is told and not kept to is an end before the end; hyper sees that itself, h3 does
/// not.
fn whole(answer: Response<Vec<u8>>) -> Result<Response<Vec<u8>>> {
    let told = answer.headers().get(http::header::CONTENT_LENGTH);
    let told = told.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match told {
        Some(told) if told != answer.body().len() => {
            bail!("{} bytes of {told}", answer.body().len())
        }
        _ => Ok(answer),
    }
}
