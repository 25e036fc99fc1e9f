//! HTTP/3 to zones whose keys are elsewhere: quinn's client, which shows with which code a
//! connection was closed.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(15);

/// A client that keeps its tickets and tokens.
pub(crate) struct Client {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Client {
    /// With the certificate of that name, if any.
    pub(crate) fn new(world: &World, person: Option<&str>) -> Self {
        let ca = fs::read(world.file("ca.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match person {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(world.file(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(world.file(&format!("{name}.key"))).unwrap();
                builder
                    .with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key)
                    .unwrap()
            }
        };
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let socket = world.inside.enter(|| std::net::UdpSocket::bind("0.0.0.0:0"));
        let socket = socket.unwrap().unwrap();
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        Self { endpoint, config }
    }

    /// A page of `host`, or why the connection was closed; and the connection, to be kept or left.
    pub(crate) async fn get(&self, host: &str) -> Result<(Connection, u16), ConnectionError> {
        let remote = SocketAddr::from(([127, 0, 0, 1], 443));
        let connecting = self.endpoint.connect_with(self.config.clone(), remote, host).unwrap();
        let exchange = async {
            let connection = connecting.await?;
            let opened = h3::client::new(h3_quinn::Connection::new(connection.clone())).await;
            let Ok((mut driver, mut requests)) = opened else {
                return Err(connection.closed().await);
            };
            let driver = tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
            let request = http::Request::get(format!("https://{host}/")).body(()).unwrap();
            let answer = async {
                let mut stream = requests.send_request(request).await?;
                stream.finish().await?;
                stream.recv_response().await
            };
            let answer: Result<_, h3::error::StreamError> = answer.await;
            let Ok(answer) = answer else {
                return Err(connection.closed().await);
            };
            // The ticket and the token come after the handshake.
            tokio::time::sleep(Duration::from_millis(200)).await;
            driver.abort();
            Ok((connection, answer.status().as_u16()))
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap()
    }

    /// The code that the edge closes the connection to `host` with.
    pub(crate) async fn refused(&self, host: &str) -> u64 {
        match self.get(host).await.map(|(_, status)| status) {
            Err(ConnectionError::ConnectionClosed(close)) => close.error_code.into(),
            other => panic!("{host}: {other:?}"),
        }
    }
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
