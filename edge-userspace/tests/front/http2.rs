//! HTTP/2: what RFC 9113 forbids is refused, floods end the connection, tunnels pass.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::Edge;

const SOON: Duration = Duration::from_secs(3);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A literal field without indexing (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend(name.as_bytes());
    field.push(value.len() as u8);
    field.extend(value.as_bytes());
    field
}

fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "https"), (":path", "/slow/5000")]
        .iter()
        .chain(fields)
    {
        block.extend(field(name, value));
    }
    block
}

pub(crate) async fn raw(edge: &Edge) -> TlsStream<TcpStream> {
    let mut stream = edge.tls("a.example", &["h2"]).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}

/// Frames until the edge closes or `wait` passes: kind, stream, payload.
pub(crate) async fn frames(stream: &mut TlsStream<TcpStream>, wait: Duration) -> (bool, Vec<(u8, u32, Vec<u8>)>) {
    let mut all = Vec::new();
    let closed = tokio::time::timeout(wait, async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            all.push((
                head[3],
                u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                payload,
            ));
        }
    })
    .await
    .is_ok();
    (closed, all)
}

/// The error code of the last GOAWAY.
fn goaway(frames: &[(u8, u32, Vec<u8>)]) -> Option<u8> {
    frames.iter().rev().find(|f| f.0 == 7).map(|f| f.2[7])
}

async fn get(edge: &Edge, uri: &str) -> (StatusCode, String) {
    let mut client = edge.h2("a.example").await;
    let response = client
        .send_request(Request::get(uri).body(Full::default()).unwrap())
        .await
        .unwrap();
    let status = response.status();
    (
        status,
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    )
}

/// HTTP/2 behaves unlike HTTP/1.1.
#[tokio::test]
async fn requests() {
    let edge = Edge::start("");
    let (status, body) = get(&edge, "https://A.example:8443/x?y").await;
    assert!(status == 200 && body.contains("zone=a host=a.example:8443"), "{body}");
    assert!(body.contains("target=/x?y"), "{body}");
    assert_eq!(
        get(&edge, "https://b.example/").await.0,
        StatusCode::MISDIRECTED_REQUEST
    );
    assert_eq!(get(&edge, "https://a.example/fail").await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(get(&edge, "https://a.example/big/1000000").await.1.len(), 1_000_000);
    let mut client = edge.h2("a.example").await;
    let content = Bytes::from(vec![1; 3_000_000]);
    let post = Request::post("https://a.example/echo")
        .body(Full::new(content.clone()))
        .unwrap();
    let echo = client
        .send_request(post)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert!(echo == content);
    let head = Request::head("https://a.example/big/9").body(Full::default()).unwrap();
    let response = client.send_request(head).await.unwrap();
    assert_eq!(response.headers()["content-length"], "9");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("a.example:443")
        .body(Full::default())
        .unwrap();
    assert_eq!(
        client.send_request(connect).await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

/// WebSockets over HTTP/2 (RFC 8441) fail.
#[tokio::test]
async fn extended_connect() {
    let edge = Edge::start("");
    let mut client = edge.h2("a.example").await;
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("https://a.example/connect")
        .body(Full::<Bytes>::default())
        .unwrap();
    request
        .extensions_mut()
        .insert(hyper::ext::Protocol::from_static("websocket"));
    // The client must have seen the setting first.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    io.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
}

/// Fields that mean something to HTTP/1.1 are carried into an origin's HTTP/1.1 connection (request
/// smuggling by downgrade), or a host is named twice.
#[tokio::test]
async fn refuses_what_would_smuggle() {
    let edge = Edge::start("");
    let a = (":authority", "a.example");
    for fields in [
        &[a, ("transfer-encoding", "chunked")][..],
        &[a, ("connection", "close")],
        &[a, ("upgrade", "x")],
        &[a, ("te", "gzip")],
        &[a, ("keep-alive", "1")],
        &[a, ("proxy-connection", "x")],
        &[a, ("x", "a\r\nb: c")],
        &[a, ("x\r\ny", "z")],
        &[a, ("Host", "a.example")],
        &[a, ("x y", "z")],
        &[a, ("x", "\0")],
        &[a, (":path", "/twice")],
        &[a, ("x", "y"), (":scheme", "https")],
        &[a, ("content-length", "1"), ("content-length", "2")],
        &[a, ("content-length", "5")],
        &[a, ("host", "b.example")],
        &[a, ("host", "a.example"), ("host", "a.example")],
        &[(":authority", "u@a.example")],
        &[],
    ] {
        let mut stream = raw(&edge).await;
        stream.write_all(&frame(1, 5, 1, &request(fields))).await.unwrap();
        let (_, frames) = frames(&mut stream, Duration::from_millis(60)).await;
        // A reset, a GOAWAY, or an answer that begins with 400 (static table: 12; else a literal).
        let refused = goaway(&frames).is_some_and(|code| code != 0)
            || frames.iter().any(|f| f.0 == 3)
            || frames.iter().any(|f| f.0 == 1 && f.2.first() == Some(&0x8c));
        assert!(refused, "{fields:?}: {frames:?}");
    }
}

/// Uploads that nobody reads would take the window of the client's connection, and its other
/// uploads stand still.
#[tokio::test]
async fn stalled_uploads_stop_no_others() {
    let edge = Edge::start("");
    let client = edge.h2("a.example").await;
    let send = |path: &str, bytes: usize| {
        let request = Request::post(format!("https://a.example{path}"))
            .body(Full::new(Bytes::from(vec![0; bytes])))
            .unwrap();
        client.clone().send_request(request)
    };
    let stalled: Vec<_> = (0..60).map(|_| tokio::spawn(send("/slow/5000", 1_000_000))).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = tokio::time::timeout(SOON, send("/collect", 100_000))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "100000 bytes, 0 trailers"
    );
    stalled.iter().for_each(tokio::task::JoinHandle::abort);
}

/// An upload in small pieces that is not read at once, or one with empty pieces, would end the
/// connection with all its streams.
#[tokio::test]
async fn small_and_empty_pieces_end_nothing() {
    let edge = Edge::start("");
    for (path, piece, n) in [("/slow/600", &b"message!"[..], 8_000), ("/collect", b"", 3_000)] {
        let mut stream = raw(&edge).await;
        let block = |path: &str| {
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "a.example"),
                (":path", path),
            ]
            .iter()
            .flat_map(|(name, value)| field(name, value))
            .collect::<Vec<_>>()
        };
        stream.write_all(&frame(1, 4, 1, &block(path))).await.unwrap();
        for _ in 0..n / 100 {
            stream.write_all(&frame(0, 0, 1, piece).repeat(100)).await.unwrap();
            // No flood: an honest client has something to say in between.
            tokio::time::sleep(Duration::from_millis(if piece.is_empty() { 40 } else { 1 })).await;
        }
        stream.write_all(&frame(1, 4, 3, &block("/collect"))).await.unwrap();
        stream.write_all(&frame(0, 1, 3, b"hello")).await.unwrap();
        let (closed, seen) = frames(&mut stream, Duration::from_millis(400)).await;
        assert!(!closed && goaway(&seen).is_none(), "{path}: {seen:?}");
        assert!(
            seen.iter().any(|f| f.0 == 0 && f.1 == 3 && f.2.starts_with(b"5 bytes")),
            "{path}: {seen:?}"
        );
    }
}

/// Refusals that wait for a window would be held on nobody's account, thousands for one address.
#[tokio::test]
async fn what_finds_no_memory_is_refused_without_content() {
    let edge = Edge::start("[limits]\nmemory_per_address = \"4MiB\"\n");
    let (mut refused, mut streams) = (0, Vec::new());
    for _ in 0..3 {
        let mut stream = raw(&edge).await;
        let asked = (0..100u32).flat_map(|i| frame(1, 5, 2 * i + 1, &request(&[(":authority", "a.example")])));
        stream.write_all(&asked.collect::<Vec<u8>>()).await.unwrap();
        let (_, seen) = frames(&mut stream, Duration::from_millis(500)).await;
        let of = |kind| seen.iter().filter(|frame| frame.0 == kind).count();
        assert_eq!(of(0), 0, "DATA of a refusal: {seen:?}");
        refused += of(1);
        streams.push(stream);
    }
    assert!((150..=220).contains(&refused), "{refused} of 300");
}

/// CVE-2023-44487: work for the edge and its origins at the price of two small frames.
#[tokio::test]
async fn rapid_reset() {
    let edge = Edge::start("[limits]\nresets_per_connection = 20\n");
    // All at once: the h2 crate sees streams reset before they were accepted.
    let mut stream = raw(&edge).await;
    let mut flood = Vec::new();
    for i in 0..200u32 {
        flood.extend(frame(1, 5, 2 * i + 1, &request(&[(":authority", "a.example")])));
        flood.extend(frame(3, 0, 2 * i + 1, &8u32.to_be_bytes()));
    }
    let _ = stream.write_all(&flood).await;
    let (closed, seen) = frames(&mut stream, SOON).await;
    assert!(closed && goaway(&seen) == Some(11), "ENHANCE_YOUR_CALM: {seen:?}");
    // Slowly enough that each is accepted first.
    let stream = raw(&edge).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let flood = tokio::spawn(async move {
        for i in 0..60u32 {
            writer
                .write_all(&frame(1, 5, 2 * i + 1, &request(&[(":authority", "a.example")])))
                .await?;
            tokio::time::sleep(Duration::from_millis(4)).await;
            writer.write_all(&frame(3, 0, 2 * i + 1, &8u32.to_be_bytes())).await?;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        std::io::Result::Ok(())
    });
    let mut sink = Vec::new();
    let ended = tokio::time::timeout(SOON, reader.read_to_end(&mut sink)).await;
    assert!(ended.is_ok(), "closed");
    assert!(flood.await.unwrap().is_err() || edge.front.connections() == 0);
    edge.counts("edge_http_overdue_total{reason=\"resets\"} 1").await;
}

/// Floods of small frames grow memory or eat a core.
#[tokio::test]
async fn floods() {
    let edge = Edge::start("[limits]\nwrite_timeout = \"400ms\"\n");
    // Heads without end.
    let mut stream = raw(&edge).await;
    let mut flood = frame(1, 0, 1, &request(&[(":authority", "a.example")]));
    for i in 0..2_000 {
        flood.extend(frame(9, 0, 1, &field(&format!("x{i}"), &"y".repeat(100))));
    }
    let _ = stream.write_all(&flood).await;
    let (closed, seen) = frames(&mut stream, SOON).await;
    assert!(
        closed && goaway(&seen).is_some_and(|code| code != 0),
        "CONTINUATION: {seen:?}"
    );
    // Answers are demanded and not taken: PING, SETTINGS.
    for (kind, payload) in [(6, &[0u8; 8][..]), (4, &[])] {
        let mut stream = raw(&edge).await;
        let one = frame(kind, 0, 0, payload).repeat(1_000);
        let flood = async { while stream.write_all(&one).await.is_ok() {} };
        assert!(
            tokio::time::timeout(Duration::from_secs(10), flood).await.is_ok(),
            "kind {kind} goes on for ever"
        );
    }
    // Empty DATA frames: no flow control bounds them.
    let mut stream = raw(&edge).await;
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/collect"),
        (":authority", "a.example"),
    ] {
        block.extend(field(name, value));
    }
    stream.write_all(&frame(1, 4, 1, &block)).await.unwrap();
    let _ = stream.write_all(&frame(0, 0, 1, &[]).repeat(20_000)).await;
    stream.write_all(&frame(0, 1, 1, &[])).await.ok();
    let (_, seen) = frames(&mut stream, Duration::from_millis(300)).await;
    assert!(!seen.is_empty());
}
