//! TLS to the edge, and frames of HTTP/2 as bytes: a library would send what is right, and read
//! what comes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_testbed::words::Words;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For a connection, and for a write that an edge under attack must take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) type Tls = TlsStream<TcpStream>;

/// Whom to speak to, and how.
#[derive(Clone)]
pub(crate) struct Target {
    connector: TlsConnector,
    address: SocketAddr,
    source: IpAddr,
    pub(crate) host: String,
}

impl Target {
    /// By `target=`, `host=`, `ca=`, `source=`; `protocol`: by ALPN.
    pub(crate) fn new(words: &Words, host: String, protocol: &str) -> Result<Self> {
        let mut config = client(words)?;
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            address: words.get("target")?,
            source: words.get("source")?,
            host,
        })
    }

    /// A connection. With a small receive buffer, so that what is not read stays at the edge.
    pub(crate) async fn connect(&self, buffer: Option<u32>) -> Result<Tls> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(SocketAddr::new(self.source, 0))?;
        let stream = timeout(PATIENCE, socket.connect(self.address)).await??;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        Ok(timeout(PATIENCE, self.connector.connect(name, stream)).await??)
    }
}

/// TLS 1.3 with the bench's root.
pub(crate) fn client(words: &Words) -> Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(words.get::<PathBuf>("ca")?).context("reading the root")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Writes all of `bytes`, unless the edge takes none for too long. Whether it did.
pub(crate) async fn write(tls: &mut Tls, bytes: &[u8]) -> bool {
    let all = async {
        tls.write_all(bytes).await?;
        tls.flush().await
    };
    matches!(timeout(PATIENCE, all).await, Ok(Ok(())))
}

/// A frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface, SETTINGS with streams' windows of `window` bytes, and as much for the connection.
pub(crate) fn preface(window: u32) -> Vec<u8> {
    let setting = [vec![0, 4], window.to_be_bytes().to_vec()].concat();
    let update = window.saturating_sub(65_535).to_be_bytes();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &setting));
    if window > 65_535 {
        bytes.extend(frame(8, 0, 0, &update));
    }
    bytes
}

/// A field as HPACK's literal without indexing (RFC 7541 section 6.2.2).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        length(&mut bytes, text.len());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// An integer with a prefix of seven bits.
fn length(bytes: &mut Vec<u8>, n: usize) {
    match u8::try_from(n) {
        Ok(small) if small < 127 => bytes.push(small),
        _ => {
            bytes.push(127);
            let mut rest = n.saturating_sub(127);
            while rest >= 128 {
                bytes.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
                rest >>= 7;
            }
            bytes.push(u8::try_from(rest).unwrap_or(0));
        }
    }
}

/// A request's head as a block of literals.
pub(crate) fn head(method: &str, host: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let all = [
        (":method", method),
        (":scheme", "https"),
        (":authority", host),
        (":path", path),
    ];
    let all = all.iter().chain(fields);
    all.flat_map(|(name, value)| literal(name, value)).collect()
}
