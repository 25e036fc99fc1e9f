//! Each limit, scaled down: every test here fails when its limit is off.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Edge, exchange, read, response};

const SOON: Duration = Duration::from_secs(3);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// One client takes every place.
#[tokio::test]
async fn connections() {
    let edge = Edge::start("[limits]\nconnections_per_address = 2\n");
    let mut held = vec![edge.plain().await, edge.plain().await];
    for stream in &mut held {
        assert!(
            exchange(stream, GET, Duration::from_millis(50))
                .await
                .1
                .contains("200 OK")
        );
    }
    let (closed, answer) = exchange(&mut edge.plain().await, GET, SOON).await;
    assert!(closed && answer.is_empty());
    edge.counts("edge_tls_refused_total{reason=\"address\"} 1").await;
    held.pop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        exchange(&mut edge.plain().await, GET, Duration::from_millis(50))
            .await
            .1
            .contains("200 OK")
    );

    let edge = Edge::start("[limits]\nconnections = 2\n");
    let _held = [edge.plain().await, edge.plain().await];
    let (closed, _) = exchange(&mut edge.plain().await, GET, SOON).await;
    assert!(closed && edge.metrics().contains("edge_tls_refused_total{reason=\"total\"} 1"));
}

/// Heads grow memory.
#[tokio::test]
async fn heads() {
    let edge = Edge::start("[limits]\nheader_bytes = \"8KiB\"\nheader_count = 20\n");
    let head = |count: usize, size: usize| {
        let mut head = "GET / HTTP/1.1\r\nHost: a.example\r\n".to_owned();
        (0..count).for_each(|i| head += &format!("X-{i}: {}\r\n", "y".repeat(size)));
        head + "\r\n"
    };
    let (closed, answer) = exchange(
        &mut edge.plain().await,
        head(19, 20).as_bytes(),
        Duration::from_millis(80),
    )
    .await;
    assert!(!closed && answer.contains("200 OK"), "{answer}");
    for (count, size) in [(20, 20), (5, 2_000), (1, 100_000)] {
        let (closed, answer) = exchange(&mut edge.plain().await, head(count, size).as_bytes(), SOON).await;
        assert!(closed && answer.starts_with("HTTP/1.1 431"), "{count} {size}: {answer}");
    }
    let mut client = edge.h2("a.example").await;
    let mut request = Request::get("https://a.example/")
        .body(Full::<Bytes>::default())
        .unwrap();
    for i in 0..21 {
        request.headers_mut().insert(
            http::HeaderName::try_from(format!("x-{i}")).unwrap(),
            "y".parse().unwrap(),
        );
    }
    assert_eq!(
        client.send_request(request).await.unwrap().status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
}

/// Slowloris: a byte now and then keeps a connection for ever.
#[tokio::test]
async fn slow_heads() {
    let edge = Edge::start("[limits]\nheader_timeout = \"300ms\"\n");
    let begun = Instant::now();
    let (mut reader, mut writer) = edge.plain().await.into_split();
    // A request first, so that the second head's time counts from its own first byte.
    writer.write_all(GET).await.unwrap();
    response(&mut reader).await;
    let drip = tokio::spawn(async move {
        for byte in "GET / HTTP/1.1\r\nHost: a.example\r\n"
            .bytes()
            .chain(std::iter::repeat_n(b'x', 1000))
        {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(read(&mut reader, SOON).await.0);
    assert!(
        (200..1_500).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    drip.abort();
    // HTTP/2: the preface does not come.
    let mut silent = edge.tls("a.example", &["h2"]).await;
    assert!(read(&mut silent, SOON).await.0);
    edge.counts("edge_http_overdue_total{reason=\"head\"} 2").await;
}

/// Idle connections pile up, or are closed while a request is served.
#[tokio::test]
async fn idle() {
    let edge = Edge::start("[limits]\nidle_timeout = \"300ms\"\nheader_timeout = \"10s\"\n");
    let mut stream = edge.plain().await;
    stream
        .write_all(b"GET /slow/700 HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    assert!(response(&mut stream).await.ends_with("slow"));
    assert!(read(&mut stream, SOON).await.0, "HTTP/1.1 after a request");
    assert!(read(&mut edge.plain().await, SOON).await.0, "without a request");
    let mut client = edge.h2("a.example").await;
    let request = || {
        Request::get("https://a.example/slow/700")
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    assert!(client.send_request(request()).await.unwrap().status().is_success());
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(client.send_request(request()).await.is_err(), "HTTP/2");
    assert_eq!(edge.front.connections(), 0);
}

/// Uploads beyond the limit reach the origin, or their clients never learn why.
#[tokio::test]
async fn content() {
    let edge = Edge::start("[limits]\nbody_bytes = \"1KiB\"\n");
    let head = "POST /collect HTTP/1.1\r\nHost: a.example\r\n";
    let sized = format!("{head}Content-Length: 500000\r\n\r\n{}", "x".repeat(500_000));
    let (closed, answer) = exchange(&mut edge.plain().await, sized.as_bytes(), SOON).await;
    assert!(
        closed && answer.starts_with("HTTP/1.1 413"),
        "the answer survives the unread content: {answer}"
    );
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}",
        format!("1f4\r\n{}\r\n", "x".repeat(500)).repeat(3)
    );
    let (closed, answer) = exchange(&mut edge.plain().await, chunked.as_bytes(), SOON).await;
    assert!(closed && answer.starts_with("HTTP/1.1 413"), "{answer}");
    let mut client = edge.h2("a.example").await;
    let request = Request::post("https://a.example/collect")
        .body(Full::new(Bytes::from(vec![0; 2_000])))
        .unwrap();
    assert_eq!(
        client.send_request(request).await.unwrap().status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

/// Uploads that stop keep a request, and an origin's connection, for ever.
#[tokio::test]
async fn stalled_content() {
    let edge = Edge::start("[limits]\nbody_timeout = \"200ms\"\n");
    let begun = b"POST /collect HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nabc";
    let (closed, answer) = exchange(&mut edge.plain().await, begun, SOON).await;
    assert!(closed && answer.starts_with("HTTP/1.1 408"), "{answer}");
    // One that is merely slow goes on.
    let mut stream = edge.plain().await;
    stream.write_all(begun).await.unwrap();
    for byte in b"defghij" {
        tokio::time::sleep(Duration::from_millis(60)).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert!(response(&mut stream).await.ends_with("10 bytes, 0 trailers"));
}

/// gRPC watches, chats and telemetry would end while their server speaks, because their client
/// listens. In every version, and a zone may have its own limit.
#[tokio::test]
async fn a_client_that_listens_is_not_stalled() {
    let edge = Edge::start("[limits]\nbody_timeout = \"300ms\"\n");
    let mut stream = edge.plain().await;
    let begun = b"POST /both HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc";
    stream.write_all(begun).await.unwrap();
    let (_, answer) = read(&mut stream, SOON).await;
    assert_eq!(answer.matches("tick ").count(), 10, "{answer}");
    assert!(answer.contains("listening"), "{answer}");
    // When neither moves, it ends.
    let (closed, answer) = exchange(
        &mut edge.plain().await,
        b"POST /collect HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nabc",
        SOON,
    )
    .await;
    assert!(closed && answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// Clients would be led to the origin's port on the edge's host, or to HTTP/3 where it is not
/// spoken (RFC 7838 section 2.1).
#[tokio::test]
async fn alternatives_of_origins_stay_there() {
    let edge = Edge::start("");
    let request = b"GET /elsewhere HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for answer in [
        exchange(&mut edge.plain().await, request, Duration::from_millis(200))
            .await
            .1,
        exchange(
            &mut edge.tls("a.example", &[]).await,
            request,
            Duration::from_millis(200),
        )
        .await
        .1,
    ] {
        assert!(
            answer.starts_with("HTTP/1.1 200") && !answer.contains("9999"),
            "{answer}"
        );
    }
}

/// Clients that take nothing keep responses, and their memory, for ever.
#[tokio::test]
async fn untaken_responses() {
    let edge = Edge::start("[limits]\nwrite_timeout = \"300ms\"\n");
    let mut plain = edge.plain().await;
    plain
        .write_all(b"GET /stream HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    let mut tls = edge.tls("a.example", &["http/1.1"]).await;
    tls.write_all(b"GET /stream HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    // HTTP/2: the connection is read, the stream's window is not opened again.
    let mut client = edge.h2("a.example").await;
    let request = Request::get("https://a.example/stream")
        .body(Full::<Bytes>::default())
        .unwrap();
    let stuck = client.send_request(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(edge.front.connections(), 1, "the HTTP/2 connection lives");
    let mut body = stuck.into_body();
    let broken = loop {
        match tokio::time::timeout(SOON, body.frame()).await.expect("reset") {
            Some(Ok(_)) => {}
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "an endless stream cannot end well");
    let request = Request::get("https://a.example/")
        .body(Full::<Bytes>::default())
        .unwrap();
    assert!(client.send_request(request).await.unwrap().status().is_success());
    let mut byte = [0];
    assert!(plain.read(&mut byte).await.is_ok());
}

/// One address that takes nothing would have the edge hold content without end; and once it is at
/// its bound, it must not shut out who shares the address with it for ever.
#[tokio::test]
async fn memory() {
    let edge = Edge::start("[limits]\nmemory_per_address = \"4MiB\"\n");
    let ask = b"GET /stream HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut still = Vec::new();
    for _ in 0..64 {
        let mut stream = edge.plain().await;
        stream.write_all(ask).await.unwrap();
        still.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut refused = 0;
    for stream in &mut still {
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        refused += usize::from(&first == b"HTTP/1.1 503");
    }
    assert!((1..60).contains(&refused), "{refused} of 64 refused");
    // Those that stand still give way.
    let mut served = false;
    for _ in 0..100 {
        let (_, answer) = exchange(&mut edge.plain().await, GET, Duration::from_millis(50)).await;
        served = answer.starts_with("HTTP/1.1 200");
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(served, "nobody at this address is served any more");
    assert!(
        edge.metrics().contains("edge_http_overdue_total{reason=\"memory\"}"),
        "{}",
        edge.metrics()
    );
}

/// A request may take as long as it likes although the operator set a bound.
#[tokio::test]
async fn whole_requests() {
    let edge = Edge::start("[limits]\nrequest_timeout = \"200ms\"\n");
    let mut stream = edge.plain().await;
    stream
        .write_all(b"GET /slow/5000 HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 504"));
    let (closed, answer) = exchange(
        &mut edge.plain().await,
        b"GET /stream HTTP/1.1\r\nHost: a.example\r\n\r\n",
        SOON,
    )
    .await;
    assert!(closed && !answer.ends_with("0\r\n\r\n"), "cut off, not ended");
}

/// Connections never move to another worker or a new process.
#[tokio::test]
async fn requests_per_connection() {
    let edge = Edge::start("[limits]\nrequests_per_connection = 3\n");
    let (closed, answers) = exchange(&mut edge.plain().await, &GET.repeat(5), SOON).await;
    assert!(closed);
    assert_eq!(answers.matches("200 OK").count(), 3);
    assert_eq!(answers.matches("connection: close").count(), 1);
    let mut client = edge.h2("a.example").await;
    let request = || {
        Request::get("https://a.example/")
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    for _ in 0..3 {
        assert!(client.send_request(request()).await.unwrap().status().is_success());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(client.send_request(request()).await.is_err());
}

/// One HTTP/2 client runs any number of requests at once.
#[tokio::test]
async fn streams() {
    let edge = Edge::start("[limits]\nstreams_per_connection = 2\n");
    let mut client = edge.h2("a.example").await;
    client.ready().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    let mut all = Vec::new();
    for _ in 0..4 {
        let request = Request::get("https://a.example/slow/200")
            .body(Full::<Bytes>::default())
            .unwrap();
        all.push(tokio::spawn(client.send_request(request)));
    }
    for one in all {
        assert!(one.await.unwrap().unwrap().status().is_success());
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "two by two: {:?}",
        begun.elapsed()
    );
}
