//! HTTP/3 end to end with a client of its own kind (quinn and h3). If this fails, browsers that
//! follow `Alt-Svc` get errors.

use std::fs;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::{Method, Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::world::{EDGE, HOST, World};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with requests to send on it.
pub(crate) struct Client {
    pub(crate) requests: SendRequest<OpenStreams, Bytes>,
    pub(crate) driver: tokio::task::JoinHandle<h3::error::ConnectionError>,
    pub(crate) connection: quinn::Connection,
    pub(crate) endpoint: quinn::Endpoint,
}

/// What a client keeps between its connections: sessions, and the tokens that it was given.
pub(crate) fn identity(world: &World) -> quinn::ClientConfig {
    let ca = fs::read(world.file("ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A socket of the client's, on a port of its own.
pub(crate) fn socket(world: &World, local: &str) -> std::net::UdpSocket {
    world
        .client
        .enter(|| std::net::UdpSocket::bind(local))
        .unwrap()
        .unwrap()
}

pub(crate) fn endpoint(world: &World, local: &str) -> quinn::Endpoint {
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket(world, local), runtime).unwrap()
}

impl Client {
    async fn connect(world: &World, address: &str) -> Self {
        let remote: IpAddr = address.parse().unwrap();
        let endpoint = endpoint(world, if remote.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" });
        let connected = Self::dial(&endpoint, identity(world), address, HOST);
        tokio::time::timeout(PATIENCE, connected).await.unwrap().unwrap()
    }

    pub(crate) async fn dial(
        endpoint: &quinn::Endpoint,
        identity: quinn::ClientConfig,
        address: &str,
        host: &str,
    ) -> Result<Self, quinn::ConnectionError> {
        let remote = SocketAddr::new(address.parse().unwrap(), 443);
        let connection = endpoint.connect_with(identity, remote, host).unwrap().await?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone()))
            .await
            .unwrap();
        let driver = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self {
            requests,
            driver,
            connection,
            endpoint: endpoint.clone(),
        })
    }

    pub(crate) async fn ask(
        &mut self,
        request: Request<()>,
        content: &[&'static [u8]],
    ) -> (http::Response<()>, Vec<u8>) {
        let exchange = async {
            let mut stream = self.requests.send_request(request).await.unwrap();
            for piece in content {
                stream.send_data(Bytes::from_static(piece)).await.unwrap();
            }
            stream.finish().await.unwrap();
            let response = stream.recv_response().await.unwrap();
            let mut body = Vec::new();
            while let Some(mut data) = stream.recv_data().await.unwrap() {
                body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            (response, body)
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap()
    }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{HOST}{path}"))
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

#[test]
fn pages_over_both_families_and_errors_of_one_request_alone() {
    let Some(world) = World::start() else { return };
    run(async {
        for address in EDGE {
            let mut client = Client::connect(&world, address).await;
            let (response, body) = client.ask(request(Method::GET, "/").body(()).unwrap(), &[]).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(body, b"the page\n");
            assert!(
                response.headers().get("alt-svc").is_none(),
                "told to whom it speaks HTTP/3 already"
            );
            let (response, body) = client.ask(request(Method::HEAD, "/").body(()).unwrap(), &[]).await;
            assert_eq!((response.status(), body.len()), (StatusCode::OK, 0));
            assert_eq!(response.headers()["content-length"], "9");
            let (response, _) = client.ask(request(Method::GET, "/none").body(()).unwrap(), &[]).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            let (response, _) = client
                .ask(request(Method::POST, "/").body(()).unwrap(), &[b"content"])
                .await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
    });
    let head = String::from_utf8(world.get(EDGE[0]).stdout).unwrap();
    assert!(!head.is_empty());
    let metrics = world.metrics();
    let of_h3 = metrics.lines().find(|line| {
        line.contains("edge_http_requests_total") && line.contains("protocol=\"3\"") && line.contains("2xx")
    });
    assert!(of_h3.is_some_and(|line| line.ends_with(" 4")), "{of_h3:?}");
}

/// What an origin could read as another request must end the stream, and that stream alone.
#[test]
fn malformed_heads_and_lengths_end_their_stream() {
    let Some(world) = World::start() else { return };
    run(async {
        let mut client = Client::connect(&world, EDGE[0]).await;
        for builder in [
            request(Method::GET, "/").header("transfer-encoding", "chunked"),
            request(Method::GET, "/").header("connection", "close"),
            request(Method::POST, "/").header("content-length", "7, 7"),
        ] {
            let mut stream = client.requests.send_request(builder.body(()).unwrap()).await.unwrap();
            let _ = stream.finish().await;
            let error = tokio::time::timeout(PATIENCE, stream.recv_response())
                .await
                .unwrap()
                .unwrap_err();
            assert!(format!("{error:?}").contains("H3_MESSAGE_ERROR"), "{error:?}");
        }
        let (response, _) = client.ask(request(Method::GET, "/").body(()).unwrap(), &[]).await;
        assert_eq!(response.status(), StatusCode::OK);
    });
}

/// Without GOAWAY a client would take the end for a network error and repeat what may not be
/// repeated.
#[test]
fn draining_says_goaway_and_lets_the_client_leave() {
    let Some(mut world) = World::start() else { return };
    run(async {
        let mut client = Client::connect(&world, EDGE[0]).await;
        let (response, _) = client.ask(request(Method::GET, "/").body(()).unwrap(), &[]).await;
        assert_eq!(response.status(), StatusCode::OK);

        world.daemon.signal(rustix::process::Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, client.driver).await.unwrap().unwrap();
        assert!(ended.is_h3_no_error(), "{ended:?}");
        drop(client.connection);
    });
    assert!(world.daemon.wait(PATIENCE).unwrap().success());
}

/// A client that is told nothing, or the wrong thing, waits or blames the network.
#[test]
fn a_name_of_no_zone_is_unrecognized() {
    let Some(world) = World::start() else { return };
    run(async {
        for address in EDGE {
            let local = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let endpoint = endpoint(&world, local);
            let asked = Client::dial(&endpoint, identity(&world), address, "nobody.example.test");
            let refused = tokio::time::timeout(PATIENCE, asked).await.unwrap();
            match refused.map(|_| ()).unwrap_err() {
                // RFC 9001 section 4.8, RFC 6066 section 3.
                quinn::ConnectionError::ConnectionClosed(close) => assert_eq!(u64::from(close.error_code), 0x170),
                other => panic!("{other}"),
            }
        }
    });
}
