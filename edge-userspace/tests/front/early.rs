//! Answers that are given before the client has sent everything, or after it has ended its own
//! direction: they arrive.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::harness::{Edge, exchange, read, response};

const SOON: Duration = Duration::from_secs(5);

/// Writes all of `bytes` of content before it reads, in pieces with a `pause` between them, as many
/// clients do.
async fn upload(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    bytes: usize,
    pause: Duration,
) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..bytes / 50_000 {
        if let Err(error) = stream.write_all(&[0; 50_000]).await {
            return format!("the client cannot write: {error}");
        }
        tokio::time::sleep(pause).await;
    }
    read(stream, SOON).await.1
}

/// Users would see a broken connection in place of 401, 413 or the gate's answer.
#[tokio::test]
async fn answers_before_the_content() {
    let edge = Edge::start("[limits]\nbody_bytes = \"6MiB\"\n");
    for (path, bytes, pause, status) in [
        ("/ignore", 5_000_000, 0, "200"),
        ("/ignore", 2_000_000, 50, "200"),
        ("/fail", 5_000_000, 0, "502"),
        ("/collect", 8_000_000, 0, "413"),
    ] {
        let pause = Duration::from_millis(pause);
        let mut plain = edge.plain().await;
        let mut tls = edge.tls("a.example", &["http/1.1"]).await;
        for answer in [
            upload(&mut plain, path, bytes, pause).await,
            upload(&mut tls, path, bytes, pause).await,
        ] {
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{path} {bytes}: {answer}"
            );
            assert!(answer.contains("connection: close"), "{path} {bytes}: {answer}");
        }
    }
    // Content that has come already costs nobody a connection.
    let mut plain = edge.plain().await;
    for _ in 0..2 {
        let small = b"POST /ignore HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
        plain.write_all(small).await.unwrap();
        let answer = response(&mut plain).await;
        assert!(
            answer.ends_with("ignored") && !answer.contains("connection: close"),
            "{answer}"
        );
    }
}

/// A client that ends its direction after its request has asked for the answer all the same (RFC
/// 8446 section 6.1).
#[tokio::test]
async fn half_closed() {
    let edge = Edge::start("");
    for requests in [1, 2] {
        let request = "GET /slow/200 HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(requests);
        let mut plain = edge.plain().await;
        plain.write_all(request.as_bytes()).await.unwrap();
        plain.shutdown().await.unwrap();
        let mut tls = edge.tls("a.example", &["http/1.1"]).await;
        tls.write_all(request.as_bytes()).await.unwrap();
        tls.shutdown().await.unwrap();
        for (closed, answer) in [read(&mut plain, SOON).await, read(&mut tls, SOON).await] {
            assert_eq!(answer.matches("HTTP/1.1 200").count(), requests, "{answer}");
            assert!(closed && answer.ends_with("slow"), "{answer}");
        }
    }
    // A part of a request is none.
    let mut plain = edge.plain().await;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a").await.unwrap();
    plain.shutdown().await.unwrap();
    assert!(read(&mut plain, SOON).await.0, "the connection stays");
}

/// What follows a CONNECT that was refused is whatever the client wanted to say through the tunnel,
/// not a request.
#[tokio::test]
async fn refused_connect() {
    let edge = Edge::start("");
    let smuggled =
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n";
    let (closed, answer) = exchange(&mut edge.plain().await, smuggled, SOON).await;
    assert!(closed && answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

/// Over HTTP/2 the client is not told to stop in the same breath as it is answered: many throw the
/// answer away then.
#[tokio::test]
async fn no_reset_with_the_answer() {
    use crate::http2::{field, frame, frames, raw};
    let edge = Edge::start("");
    let mut stream = raw(&edge).await;
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/ignore"),
        (":authority", "a.example"),
    ];
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    stream.write_all(&frame(1, 4, 1, &block)).await.unwrap();
    stream.write_all(&frame(0, 0, 1, &[0; 10_000])).await.unwrap();
    let (_, seen) = frames(&mut stream, Duration::from_millis(400)).await;
    let of = |kind: u8| seen.iter().filter(|frame| frame.0 == kind && frame.1 == 1).count();
    assert!(of(1) == 1 && of(0) >= 1, "no answer: {seen:?}");
    assert_eq!(of(3), 0, "the stream was reset");
    // It goes on, and ends well.
    for _ in 0..50 {
        stream.write_all(&frame(0, 0, 1, &[0; 1_000])).await.unwrap();
    }
    stream.write_all(&frame(0, 1, 1, &[])).await.unwrap();
    let (closed, seen) = frames(&mut stream, Duration::from_millis(300)).await;
    assert!(!closed && seen.iter().all(|frame| frame.0 != 3), "{seen:?}");
    // The connection is as good as before.
    let block: Vec<u8> = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "a.example"),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect();
    stream.write_all(&frame(1, 5, 3, &block)).await.unwrap();
    let (_, seen) = frames(&mut stream, Duration::from_millis(400)).await;
    assert!(seen.iter().any(|frame| frame.0 == 1 && frame.1 == 3), "{seen:?}");
}
