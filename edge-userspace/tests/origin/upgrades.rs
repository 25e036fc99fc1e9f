//! WebSocket and other upgrades, in every combination of versions. The client is hyper's, against a
//! server whose service is the room, because only hyper makes what an upgrade needs.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use edge::http::body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bed::{Bed, OriginBody, Server, full};

/// The edge as far as upgrades need it, on both versions.
async fn edge(bed: Bed, h2: bool) -> Server {
    let bed = Arc::new(bed);
    Server::raw(move |socket| {
        let bed = bed.clone();
        async move {
            let service = service_fn(move |mut request: http::Request<Incoming>| {
                let bed = bed.clone();
                async move {
                    let on = hyper::upgrade::on(&mut request);
                    let protocol = request.extensions().get::<hyper::ext::Protocol>().cloned();
                    let (mut head, body) = request.into_parts();
                    head.extensions.insert(on);
                    if let Some(protocol) = protocol {
                        head.extensions.insert(protocol);
                    }
                    let outcome = bed.ask(http::Request::from_parts(head, Body::Client(body))).await;
                    Ok::<_, Infallible>(match outcome {
                        Ok(response) => http::Response::from_parts(response.head, response.body),
                        Err(failure) => http::Response::builder()
                            .status(failure.reason.status())
                            .body(Body::from(failure.detail))
                            .unwrap(),
                    })
                }
            });
            let io = TokioIo::new(socket);
            if h2 {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.enable_connect_protocol().serve_connection(io, service).await;
            } else {
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
                let _ = connection.with_upgrades().await;
            }
        }
    })
    .await
}

/// Echoes what comes through an upgrade, on both versions; checks nothing but what RFC 6455 needs.
async fn echo(mut request: http::Request<Incoming>) -> http::Response<OriginBody> {
    let wants = request.headers().get("upgrade").cloned();
    let response = http::Response::builder();
    let response = if request.method() == http::Method::CONNECT {
        response.body(full("")).unwrap()
    } else if let Some(protocol) = wants {
        let mut response = response
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", protocol);
        if let Some(key) = request.headers().get("sec-websocket-key") {
            response = response.header("sec-websocket-accept", accept(key.as_bytes()));
        }
        response.body(full("")).unwrap()
    } else {
        return response.body(full("plain")).unwrap();
    };
    let on = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(on.await.unwrap());
        let mut buffer = [0; 1_024];
        loop {
            match io.read(&mut buffer).await {
                Ok(n) if n > 0 => {
                    io.write_all(&buffer[..n]).await.unwrap();
                    io.flush().await.unwrap();
                }
                _ => return,
            }
        }
    });
    response
}

fn accept(key: &[u8]) -> String {
    use ring::digest;
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let bits: Vec<bool> = context
        .finish()
        .as_ref()
        .iter()
        .flat_map(|b| (0..8).rev().map(move |i| b >> i & 1 == 1))
        .collect();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text: String = bits
        .chunks(6)
        .map(|c| char::from(alphabet[(0..6).fold(0, |n, i| n << 1 | usize::from(*c.get(i).unwrap_or(&false)))]))
        .collect();
    text.push('=');
    text
}

async fn upgrade_h1(edge: &Server, protocol: &str) -> http::Response<Incoming> {
    let socket = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = http::Request::get("/chat")
        .header("host", "z.example")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", protocol)
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    // The connection lives as long as its sender, until it is upgraded.
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        drop(sender);
    });
    response
}

async fn connect_h2(edge: &Server, protocol: &'static str) -> http::Response<Incoming> {
    let socket = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    // The server's SETTINGS must have come.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let request = http::Request::connect("http://z.example/chat")
        .extension(hyper::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await.unwrap()
}

async fn talks(response: http::Response<Incoming>) {
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for word in ["hello", "again"] {
        io.write_all(word.as_bytes()).await.unwrap();
        io.flush().await.unwrap();
        let mut back = [0; 5];
        io.read_exact(&mut back).await.unwrap();
        assert_eq!(back, word.as_bytes());
    }
}

/// A chat works whatever versions both sides speak.
#[tokio::test]
async fn every_combination() {
    let h1 = Server::h1(echo).await;
    let h2 = Server::h2(10, echo).await;
    for (origin, more) in [(&h1, ""), (&h2, "http = \"2\"")] {
        let front = edge(Bed::one(origin.address, more), false).await;
        let response = upgrade_h1(&front, "websocket").await;
        assert_eq!(response.status(), 101, "{more}");
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        talks(response).await;

        let front = edge(Bed::one(origin.address, more), true).await;
        let response = connect_h2(&front, "websocket").await;
        assert_eq!(response.status(), 200, "{more}");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        talks(response).await;
    }
    // Other protocols where no translation is needed.
    let front = edge(Bed::one(h1.address, ""), false).await;
    let response = upgrade_h1(&front, "custom/1").await;
    assert_eq!(response.headers()["upgrade"], "custom/1");
    talks(response).await;
    let front = edge(Bed::one(h1.address, ""), true).await;
    assert_eq!(connect_h2(&front, "custom").await.status(), 501);
}

/// Not allowed, or h2c, which would carry requests past us: served as if it had not been asked.
#[tokio::test]
async fn ignored() {
    let origin = Server::h1(echo).await;
    let front = edge(Bed::one(origin.address, "upgrades = false"), false).await;
    assert_eq!(upgrade_h1(&front, "websocket").await.status(), 200);
    let front = edge(Bed::one(origin.address, ""), false).await;
    assert_eq!(upgrade_h1(&front, "h2c").await.status(), 200);
    let front = edge(Bed::one(origin.address, "upgrades = false"), true).await;
    assert_eq!(connect_h2(&front, "websocket").await.status(), 405);
}

/// An origin that agrees to something else, or without proof, opens no tunnel.
#[tokio::test]
async fn false_consent() {
    let other = Server::says("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n").await;
    let front = edge(Bed::one(other.address, ""), false).await;
    assert_eq!(upgrade_h1(&front, "websocket").await.status(), 502);
    let unproven = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let unproven = Server::says(unproven).await;
    let front = edge(Bed::one(unproven.address, ""), true).await;
    assert_eq!(connect_h2(&front, "websocket").await.status(), 502);
    // A success that is no upgrade is no tunnel either.
    let plain = Server::h1(|_| async { http::Response::new(full("plain")) }).await;
    let front = edge(Bed::one(plain.address, ""), true).await;
    assert_eq!(connect_h2(&front, "websocket").await.status(), 502);
    let front = edge(Bed::one(plain.address, ""), false).await;
    assert_eq!(upgrade_h1(&front, "websocket").await.status(), 200);
}

/// More chats at once than an operator allows would be more than its servers hold; or none come in
/// any more when some have ended.
#[tokio::test]
async fn as_many_as_are_allowed() {
    let origin = Server::h1(echo).await;
    let front = edge(Bed::one(origin.address, "tunnels = 1\ntunnel_timeout = \"20s\""), false).await;
    let first = upgrade_h1(&front, "websocket").await;
    assert_eq!(first.status(), 101);
    assert_eq!(upgrade_h1(&front, "websocket").await.status(), 503);
    let io = hyper::upgrade::on(first).await.unwrap();
    drop(io);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while upgrade_h1(&front, "websocket").await.status() != 101 {
        assert!(std::time::Instant::now() < until, "its place is free");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
