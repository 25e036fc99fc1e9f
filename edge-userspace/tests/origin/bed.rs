//! What the tests of the room share: zones from text, requests, and origins that behave or do not.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge::base::id::RequestId;
use edge::base::peer::Peer;
use edge::config::Config;
use edge::http::body::{Body, BodyError};
use edge::http::door::{self, Recent};
use edge::http::handler::{Failure, Handler};
use edge::http::message::{Exchange, Request, Response};
use edge::origin::{Fleet, Metrics, Origin};
use edge::zones::Zones;
use http::header::{HOST, HeaderValue};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The room with one zone.
pub struct Bed {
    pub fleet: Arc<Fleet>,
    pub origin: Arc<Origin>,
    pub zones: Arc<Zones>,
}

/// `origin`: the lines of `[zone.origin]`.
pub fn zones(origin: &str) -> Zones {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\n[zone.origin]\n{origin}"
    );
    Zones::new(&Config::parse(Path::new("test.toml"), &text).unwrap().zones)
}

impl Bed {
    pub fn new(origin: &str) -> Self {
        let zones = Arc::new(zones(origin));
        let fleet = Fleet::new(&zones, Metrics::default()).unwrap();
        Self {
            origin: Arc::new(Origin::new(fleet.clone())),
            fleet,
            zones,
        }
    }

    /// One server and further lines.
    pub fn one(address: SocketAddr, more: &str) -> Self {
        Self::new(&format!("servers = [{{ address = \"http://{address}\" }}]\n{more}"))
    }

    pub fn request(&self, request: http::Request<Body>) -> Request {
        let (mut parts, body) = request.into_parts();
        if parts.uri.authority().is_none() {
            parts.headers.insert(HOST, HeaderValue::from_static("z.example"));
        }
        let peer = Arc::new(Peer {
            client: "203.0.113.7:1234".parse().unwrap(),
            local: "192.0.2.1:443".parse().unwrap(),
            accepted: Instant::now(),
            handshake: None,
            early: None,
            via: None,
        });
        let (head, host) = door::client(parts, 1_000, &peer, &self.zones, &mut Recent::default()).unwrap();
        Request {
            head,
            body,
            exchange: Exchange {
                id: RequestId::next(),
                peer,
                zone: host.zone,
                host: host.authority,
                started: Instant::now(),
            },
        }
    }

    pub async fn ask(&self, request: http::Request<Body>) -> Result<Response, Failure> {
        self.origin.handle(self.request(request)).await
    }

    pub async fn get(&self, path: &str) -> Result<Response, Failure> {
        self.ask(get(path)).await
    }

    /// Status and content of a GET.
    pub async fn text(&self, path: &str) -> (u16, String) {
        text(self.get(path).await.unwrap()).await
    }
}

pub fn get(path: &str) -> http::Request<Body> {
    http::Request::get(path).body(Body::Empty).unwrap()
}

pub fn post(path: &str, body: impl Into<Body>) -> http::Request<Body> {
    http::Request::post(path).body(body.into()).unwrap()
}

pub async fn text(response: Response) -> (u16, String) {
    let bytes = response.body.collect().await.unwrap().to_bytes();
    (
        response.head.status.as_u16(),
        String::from_utf8_lossy(&bytes).into_owned(),
    )
}

pub type OriginBody = BoxBody<Bytes, BodyError>;

pub fn full(text: impl Into<Bytes>) -> OriginBody {
    http_body_util::Full::new(text.into())
        .map_err(|e: Infallible| match e {})
        .boxed()
}

/// A well-behaved origin; counts its connections.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub async fn h1<F, R>(answer: F) -> Self
    where
        F: Fn(http::Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = http::Response<OriginBody>> + Send + 'static,
    {
        Self::raw(move |socket| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .with_upgrades()
                    .await;
            }
        })
        .await
    }

    pub async fn h2<F, R>(streams: u32, answer: F) -> Self
    where
        F: Fn(http::Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = http::Response<OriginBody>> + Send + 'static,
    {
        Self::raw(move |socket| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(streams)
                    .enable_connect_protocol()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            }
        })
        .await
    }

    /// Does with each connection what `serve` says.
    pub async fn raw<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0".parse().unwrap(), serve).await
    }

    pub async fn at<F, R>(address: SocketAddr, serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                running.spawn(serve(socket));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// Reads a head, then writes `answer` and closes.
    pub async fn says(answer: &'static str) -> Self {
        Self::raw(move |mut socket| async move {
            read_head(&mut socket).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        })
        .await
    }
}

/// Up to the empty line.
pub async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An address where nothing listens.
pub async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Waits until `what` holds, five seconds at most.
pub async fn until(mut what: impl FnMut() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not happen in time");
}
