//! Whom the clients trust, and one exchange of theirs.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use edge_testbed::words::Words;
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, NoneTokenStore, TokioRuntime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use socket2::{Domain, Protocol, Socket, Type};

/// Of the socket: a burst of answers waits here while the one core is at something else.
const BUFFER: usize = 8 << 20;
/// What a client is ready to take at once, on a stream and in all: no transfer waits for it.
const WINDOW: u32 = 8 << 20;

/// By `ca=`: TLS 1.3 with the suite that all servers agree on, X25519, no session and no token from
/// before.
pub(crate) fn config(words: &Words) -> Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(words.get::<PathBuf>("ca")?).context("reading the root")?)?;
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
        .kx_groups
        .retain(|group| group.name() == rustls::NamedGroup::X25519);
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .max_idle_timeout(Some(Duration::from_secs(120).try_into()?));
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.token_store(Arc::new(NoneTokenStore));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A socket of `source`'s.
pub(crate) fn endpoint(source: Ipv4Addr) -> Result<Endpoint> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    let socket = UdpSocket::from(socket);
    Ok(Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    )?)
}

/// HTTP/3 on a connection; what drives it is a task, which ends with it.
pub(crate) async fn speak(connection: &quinn::Connection) -> Result<SendRequest<OpenStreams, Bytes>> {
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone())).await?;
    tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    Ok(requests)
}

/// A GET; how many bytes of content the answer had, which must be 200.
pub(crate) async fn get(requests: &mut SendRequest<OpenStreams, Bytes>, url: &str) -> Result<u64> {
    let mut stream = requests.send_request(http::Request::get(url).body(())?).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    ensure!(response.status() == 200, "{url}: {}", response.status());
    let mut bytes = 0;
    while let Some(data) = stream.recv_data().await? {
        bytes += data.remaining() as u64;
    }
    Ok(bytes)
}
