//! Starts a front with two zones and an echo handler, and the clients the tests talk with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge::base::clock::UnixTime;
use edge::base::ledger::Ledger;
use edge::base::lines::Lines;
use edge::base::shutdown::{self, Phase, Trigger};
use edge::config::Config;
use edge::dataplane::Lists;
use edge::gate::handler::Gate;
use edge::gate::keys::{Epochs, Secret};
use edge::gate::metrics::Metrics;
use edge::gate::sealed::Sealed;
use edge::gate::token::Tokens;
use edge::gate::verdict::Ungated;
use edge::http::body::Body;
use edge::http::handler::{Answer, Failure, Handler, Reason};
use edge::http::interim::Interims;
use edge::http::message::{Request, Response};
use edge::http::switch::Switch;
use edge::http::{Redirect, Server, Shared};
use edge::route::gated::Open;
use edge::tls::{Front, Socket, certificates, listener};
use edge::zones::{Current, Zones};
use http::header::{CONNECTION, HeaderMap, HeaderValue, LINK, UPGRADE};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct Edge {
    /// TLS.
    pub(crate) https: SocketAddr,
    /// Plain, with the echo handler.
    pub(crate) plain: SocketAddr,
    /// Plain, redirecting.
    pub(crate) http: SocketAddr,
    /// QUIC.
    pub(crate) h3: SocketAddr,
    pub(crate) front: Arc<Front>,
    /// Without rules; for the penalties it keeps.
    pub(crate) gate: Gate,
    pub(crate) shared: Arc<Shared>,
    pub(crate) zones: Current,
    pub(crate) trigger: Trigger,
    pub(crate) roots: RootCertStore,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) extra: String,
    registry: Registry,
    runs: Vec<tokio::task::JoinHandle<()>>,
}

/// Writes a certificate for `names` and gives its DER.
pub(crate) fn certificate(directory: &Path, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(directory.join(format!("{file}.pem")), made.cert.pem()).unwrap();
    std::fs::write(directory.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Zones a (a.example, *.a.example) and b (b.example, the default), after the sections in `extra`.
pub(crate) fn config(directory: &Path, extra: &str) -> Config {
    const SERVER: &str = "[server]\nhttps = [\"127.0.0.1:443\"]\n";
    let extra = if extra.contains("[server]\n") {
        extra.replace("[server]\n", SERVER)
    } else {
        format!("{SERVER}{extra}")
    };
    let text = format!(
        r#"{extra}
        [[zone]]
        name = "a"
        hosts = ["a.example", "*.a.example"]
        certificate = "a.pem"
        key = "a.key"
        [zone.origin]
        servers = [{{ address = "http://127.0.0.1:1" }}]
        [[zone]]
        name = "b"
        hosts = ["b.example"]
        default = true
        certificate = "b.pem"
        key = "b.key"
        [zone.origin]
        servers = [{{ address = "http://127.0.0.1:1" }}]
        "#
    );
    Config::parse(&directory.join("edge.toml"), &text).unwrap()
}

impl Edge {
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_with(extra, Lines::none())
    }

    /// The same, with an access log.
    pub(crate) fn start_with(extra: &str, lines: Lines) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(directory.path(), "a", &["a.example", "*.a.example"]))
            .unwrap();
        roots.add(certificate(directory.path(), "b", &["b.example"])).unwrap();
        let config = config(directory.path(), extra);
        let loaded = certificates::load(&config.zones, &config.key_servers, None).unwrap();
        let mut registry = Registry::default();
        let secret = Secret::new(b"an example of thirty-two bytes..").unwrap();
        let tokens = Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()));
        let sealed = Arc::new(Sealed::new(&config.gate, tokens.clone()));
        let (gate, _) = Gate::new(&config.gate, &config.zones, sealed, Metrics::default()).unwrap();
        let door = Arc::new(gate.door(tokens.clone()));
        let front = Front::new(
            config.serving(),
            loaded,
            tokens.clone(),
            Some(door),
            Arc::new(Lists::none()),
            &mut registry,
        )
        .unwrap();
        let ids = edge::quic::IdKey::of(&tokens);
        let quic = edge::quic::Front::new(config.serving(), &front, tokens, ids, &mut registry).unwrap();
        let zones: Current = Arc::new(arc_swap::ArcSwap::from_pointee(Zones::new(&config.zones)));
        let ledger = Ledger::new(config.limits.memory, config.limits.memory_per_address);
        ledger.trust(config.server.trusted().to_vec());
        let shared = Shared::new(config.serving(), &[], zones.clone(), (ledger, lines), &mut registry);
        shared.keep_to(Arc::new(Lists::alone(&config.dataplane).unwrap()));
        let (trigger, shutdown) = shutdown::channel();
        let ungated = Ungated::of(&config.zones).unwrap();
        let echo = Server::new(
            shared.clone(),
            Arc::new(Open::new(ungated, Arc::new(Echo))),
            shutdown.clone(),
        );
        let redirect = Server::new(
            shared.clone(),
            Arc::new(Redirect::new(zones.clone(), 8443)),
            shutdown.clone(),
        );
        let mut runs = Vec::new();
        let mut run = |socket, server: &Server| {
            let listener = listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let address = listener.local_addr().unwrap();
            let run = front.clone().run(listener, socket, server.clone(), shutdown.clone());
            runs.push(tokio::spawn(async move { run.await.unwrap() }));
            address
        };
        let udp = edge::quic::socket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let h3 = udp.local_addr().unwrap();
        let (https, plain, http) = (
            run(Socket::Tls, &echo),
            run(Socket::Plain, &echo),
            run(Socket::Plain, &redirect),
        );
        let place = edge::quic::Place {
            generation: 0,
            worker: 0,
            steered: false,
        };
        let run = quic.run(udp, place, echo, shutdown);
        runs.push(tokio::spawn(async move { run.await.unwrap() }));
        Self {
            https,
            plain,
            http,
            h3,
            front,
            gate,
            shared,
            zones,
            trigger,
            roots,
            directory,
            extra: extra.to_owned(),
            registry,
            runs,
        }
    }

    /// All metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Waits for `line` among the metrics: counters move when the edge is done, not when the client
    /// is.
    pub(crate) async fn counts(&self, line: &str) {
        for _ in 0..200 {
            if self.metrics().contains(line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{line} not in\n{}", self.metrics());
    }

    /// Drains and waits for all listeners and connections to end.
    pub(crate) async fn drain(self) {
        self.trigger.advance(Phase::Draining);
        for run in self.runs {
            tokio::time::timeout(Duration::from_secs(5), run)
                .await
                .expect("drained")
                .unwrap();
        }
    }

    pub(crate) fn client(&self, alpn: &[&str]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    pub(crate) async fn tls(&self, name: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
        self.tls_with(name, self.client(alpn)).await.unwrap()
    }

    pub(crate) async fn tls_with(&self, name: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.https).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    pub(crate) async fn h2(&self, name: &str) -> hyper::client::conn::http2::SendRequest<http_body_util::Full<Bytes>> {
        let stream = self.tls(name, &["h2"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(async move { drop(connection.await) });
        sender
    }

    pub(crate) async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.plain).await.unwrap()
    }
}

/// Sends `bytes`, then reads until the edge closes or `wait` is over. Whether it closed, and what
/// it sent.
pub(crate) async fn exchange(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    bytes: &[u8],
    wait: Duration,
) -> (bool, String) {
    // The edge may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    read(stream, wait).await
}

pub(crate) async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin), wait: Duration) -> (bool, String) {
    let mut all = Vec::new();
    let mut buffer = [0; 16384];
    let closed = tokio::time::timeout(wait, async {
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..n]);
        }
    })
    .await
    .is_ok();
    (closed, String::from_utf8_lossy(&all).into_owned())
}

/// Reads one HTTP/1 response with a Content-Length.
pub(crate) async fn response(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    tokio::time::timeout(Duration::from_secs(5), async {
        let mut all = Vec::new();
        loop {
            let byte = stream.read_u8().await.unwrap();
            all.push(byte);
            if all.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let head = String::from_utf8(all).unwrap();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8_lossy(&body)
    })
    .await
    .expect("a response in time")
}

/// Answers by the first segment of the path.
pub(crate) struct Echo;

impl Handler for Echo {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(answer(request))
    }
}

async fn answer(mut request: Request) -> Result<Response, Failure> {
    let path = request.head.uri.path().to_owned();
    let mut words = path.split('/').skip(1);
    let gone = |error| Failure::new(Reason::ClientGone, format!("{error}"));
    match words.next().unwrap_or_default() {
        "echo" => Ok(Response::new(StatusCode::OK, request.body)),
        "collect" => {
            let all = request.body.collect().await.map_err(gone)?;
            let trailers = all.trailers().map_or(0, http::HeaderMap::len);
            Ok(Response::new(
                StatusCode::OK,
                format!("{} bytes, {trailers} trailers", all.to_bytes().len()),
            ))
        }
        // As an origin that is heard: hints, some time, and the answer.
        "hints" => {
            if let Some(interims) = request.head.extensions.get::<Interims>() {
                let fields = HeaderMap::from_iter([(LINK, HeaderValue::from_static("</a.css>; rel=preload"))]);
                for _ in 0..2 {
                    interims.put(StatusCode::EARLY_HINTS, &fields, HeaderValue::from_static("1.1 edge"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Ok(Response::new(StatusCode::OK, "page"))
        }
        "both" => Ok(both(request.body)),
        "elsewhere" => {
            let mut response = Response::new(StatusCode::OK, "elsewhere");
            let alternative = HeaderValue::from_static("h3=\":9999\"");
            response.head.headers.insert(http::header::ALT_SVC, alternative);
            Ok(response)
        }
        "head" => {
            let head = crate::alike::describe(&request.head);
            let all = request.body.collect().await.map_err(gone)?;
            let mut trailers: Vec<_> = all.trailers().into_iter().flatten().collect();
            trailers.sort_by_key(|(name, _)| name.as_str());
            let trailers = format!("{trailers:?}");
            let content = all.to_bytes();
            let content = String::from_utf8_lossy(&content);
            Ok(Response::new(StatusCode::OK, format!("{head}{content} {trailers}")))
        }
        "fields" => {
            let mut response = Response::new(StatusCode::OK, "fields");
            let value = HeaderValue::from_str(&"r".repeat(64)).unwrap();
            response.head.headers.insert("x-repeats", value);
            Ok(response)
        }
        "ignore" => Ok(Response::new(StatusCode::OK, "ignored")),
        "big" => {
            let size: usize = words.next().unwrap().parse().unwrap();
            Ok(Response::new(StatusCode::OK, Bytes::from(vec![b'x'; size])))
        }
        "stream" => Ok(Response::new(StatusCode::OK, Body::boxed(Endless))),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(words.next().unwrap().parse().unwrap())).await;
            Ok(Response::new(StatusCode::OK, "slow"))
        }
        "upgrade" => {
            let on = hyper::upgrade::on(http::Request::from_parts(request.head.into_parts().0, ()));
            tokio::spawn(async move { repeat(TokioIo::new(on.await.unwrap())).await });
            let mut response = Response::new(StatusCode::SWITCHING_PROTOCOLS, Body::Empty);
            response.head.headers.insert(UPGRADE, HeaderValue::from_static("echo"));
            response
                .head
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            Ok(response)
        }
        "connect" if request.head.method == Method::CONNECT => {
            let on = Switch::take(&mut request.head.extensions).unwrap();
            tokio::spawn(async move { repeat(on.switched().await.unwrap()).await });
            Ok(Response::new(StatusCode::OK, Body::Empty))
        }
        "id" => {
            let handshake = request.exchange.peer.handshake.as_ref().unwrap();
            Ok(Response::new(
                StatusCode::OK,
                format!("{} {}", handshake.client, handshake.known),
            ))
        }
        "fail" => Err(Failure::new(Reason::OriginUnreachable, "as asked")),
        _ => {
            let exchange = &request.exchange;
            let handshake = exchange.peer.handshake.as_ref();
            Ok(Response::new(
                StatusCode::OK,
                format!(
                    "zone={} host={} client={} target={} tls={} resumed={}",
                    exchange.zone.name,
                    exchange.host,
                    exchange.peer.client.ip(),
                    request.head.uri.clone(),
                    handshake.map_or("-", |h| h.version),
                    handshake.is_some_and(|h| h.resumed),
                ),
            ))
        }
    }
}

/// Listens and speaks at once: ten ticks, then whether all of the request's content came.
fn both(content: Body) -> Response {
    let heard = tokio::spawn(content.collect());
    let ticks = futures_util::stream::unfold((0, Some(heard)), |(n, mut heard)| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let text = match n {
            0..10 => "tick ".to_owned(),
            _ => match heard.take()? {
                heard if heard.is_finished() => format!("whole: {}", heard.await.unwrap().is_ok()),
                _ => "listening".to_owned(),
            },
        };
        Some((Ok(http_body::Frame::data(Bytes::from(text))), (n + 1, heard)))
    });
    Response::new(StatusCode::OK, Body::boxed(http_body_util::StreamBody::new(ticks)))
}

/// Sends back what comes over a connection that was given away.
async fn repeat(mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = io.read(&mut buffer).await {
        io.write_all(&buffer[..n]).await.unwrap();
    }
}

/// Content without end, as fast as it is taken.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = edge::http::body::BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 16384])))))
    }
}
