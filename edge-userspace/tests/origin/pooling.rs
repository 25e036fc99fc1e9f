//! Connections: kept, bounded, replaced; versions and load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edge::http::body::Body;
use edge::http::handler::Reason;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use super::bed::{Bed, Server, full, get, post, read_head, text, until, zones};

/// A handshake per request would cost more than the request.
#[tokio::test]
async fn keep_alive() {
    let server = Server::h1(|_| async { http::Response::new(full("hello")) }).await;
    let bed = Bed::one(server.address, "");
    for _ in 0..5 {
        assert_eq!(bed.text("/").await, (200, "hello".into()));
    }
    assert_eq!(server.connections(), 1);
}

/// What the origin sees: its own framing, the client's host, who asked.
#[tokio::test]
async fn the_origins_view() {
    let server = Server::h1(|request: http::Request<hyper::body::Incoming>| async move {
        let mut lines: Vec<_> = request
            .headers()
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        lines.sort();
        let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
        http::Response::new(full(format!("{line}\n{}", lines.join("\n"))))
    })
    .await;
    let bed = Bed::one(server.address, "");
    let mut request = get("/a?b=c");
    *request.version_mut() = http::Version::HTTP_2;
    request.headers_mut().insert("connection", "close".parse().unwrap());
    let response = bed.ask(request).await.unwrap();
    assert_eq!(
        response.report.origin.as_deref(),
        Some(&*format!("http://{}", server.address))
    );
    assert!(response.report.first_byte.is_some());
    assert_eq!(response.head.headers["via"], "1.1 edge");
    let (_, seen) = text(response).await;
    assert!(
        seen.starts_with("GET /a?b=c HTTP/1.1\ncdn-loop: edge\nforwarded: for=203.0.113.7;"),
        "{seen}"
    );
    assert!(seen.contains("host: z.example\nvia: 2.0 edge\n"), "{seen}");
    assert!(!seen.contains("connection"), "{seen}");
}

/// An origin closes idle connections whenever it likes; the client must not notice.
#[tokio::test]
async fn stale_idle_connection_is_replaced() {
    // Answers once, then closes as soon as the next request arrives: the race that closed detection
    // cannot win.
    let server = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        read_head(&mut socket).await;
    })
    .await;
    let bed = Bed::one(server.address, "retries = 0\n[zone.origin.passive]\nfailures = 1");
    for _ in 0..4 {
        assert_eq!(bed.text("/").await.1, "ok");
    }
    assert_eq!(server.connections(), 4);
    assert!(
        bed.fleet.status()[0].servers[0].healthy,
        "a stale connection is no failure"
    );
    // A POST may have been acted on.
    let failure = bed.ask(post("/", "x")).await.unwrap_err();
    assert_eq!((failure.reason, failure.attempts), (Reason::OriginMalformed, 1));
}

/// Detected before reuse when it was closed in time, so that even a POST goes through.
#[tokio::test]
async fn closed_idle_connection_is_not_used() {
    let server = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
    })
    .await;
    let bed = Bed::one(server.address, "retries = 0");
    for _ in 0..3 {
        assert_eq!(text(bed.ask(post("/", "x")).await.unwrap()).await.1, "ok");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Idle connections cost the origin memory.
#[tokio::test]
async fn idle_connections_end_in_time() {
    let server = Server::h1(|_| async { http::Response::new(full("x")) }).await;
    let bed = Bed::one(server.address, "idle_timeout = \"50ms\"");
    bed.text("/").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    bed.text("/").await;
    assert_eq!(server.connections(), 2);
}

/// The bound protects the origin; those beyond it wait their turn, and not for ever.
#[tokio::test]
async fn connections_are_bounded() {
    let busy = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = busy.clone();
    let server = Server::h1(move |_| {
        let seen = seen.clone();
        async move {
            let now = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
            seen.1.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen.0.fetch_sub(1, Ordering::SeqCst);
            http::Response::new(full("x"))
        }
    })
    .await;
    let bed = Arc::new(Bed::one(server.address, "connections = 2\nconnect_timeout = \"2s\""));
    let all: Vec<_> = (0..4)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move { bed.text("/").await.0 })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(busy.1.load(Ordering::SeqCst), 2);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn overload_is_told() {
    let server = Server::h1(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        http::Response::new(full("x"))
    })
    .await;
    let bed = Arc::new(Bed::one(
        server.address,
        "connections = 1\nconnect_timeout = \"100ms\"\nretries = 0",
    ));
    let other = bed.clone();
    let first = tokio::spawn(async move { other.text("/").await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(bed.get("/").await.unwrap_err().reason, Reason::Overload);
    assert_eq!(first.await.unwrap().0, 200);
}

/// Requests share an HTTP/2 connection, and no more than it takes.
#[tokio::test]
async fn h2_streams() {
    let server = Server::h2(2, |request: http::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.uri().authority().unwrap(), "z.example");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        http::Response::new(full(body))
    })
    .await;
    let bed = Arc::new(Bed::one(server.address, "http = \"2\""));
    assert_eq!(text(bed.ask(post("/", "first")).await.unwrap()).await.1, "first");
    let all: Vec<_> = (0..6)
        .map(|n| {
            let bed = bed.clone();
            tokio::spawn(async move { text(bed.ask(post("/", format!("{n}"))).await.unwrap()).await.1 })
        })
        .collect();
    for (n, one) in all.into_iter().enumerate() {
        assert_eq!(one.await.unwrap(), n.to_string());
    }
    assert!((1..=4).contains(&server.connections()), "{}", server.connections());
}

/// A connection whose origin says GOAWAY is replaced.
#[tokio::test]
async fn h2_goaway() {
    let server = Server::raw(|socket| async move {
        let mut connection = h2::server::handshake(socket).await.unwrap();
        if let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(http::Response::new(()), true).unwrap();
            connection.graceful_shutdown();
        }
        while connection.accept().await.is_some() {}
    })
    .await;
    let bed = Bed::one(server.address, "http = \"2\"");
    for n in 1..4 {
        assert_eq!(bed.text("/").await.0, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(server.connections(), n);
    }
}

/// A reload that changes nothing keeps the connections; one that does drops them.
#[tokio::test]
async fn reload() {
    let server = Server::h1(|_| async { http::Response::new(full("x")) }).await;
    let lines = format!("servers = [{{ address = \"http://{}\" }}]", server.address);
    let mut bed = Bed::new(&lines);
    bed.text("/").await;
    let again = zones(&lines);
    bed.fleet.install(bed.fleet.plan(&again).unwrap());
    bed.zones = Arc::new(again);
    bed.text("/").await;
    assert_eq!(server.connections(), 1);
    let changed = zones(&format!("{lines}\nidle_timeout = \"9s\""));
    bed.fleet.install(bed.fleet.plan(&changed).unwrap());
    bed.zones = Arc::new(changed);
    bed.text("/").await;
    assert_eq!(server.connections(), 2);
}

/// A client that goes away must not leave the origin working for nobody.
#[tokio::test]
async fn cancellation_closes() {
    let (gone, mut seen) = tokio::sync::mpsc::channel(1);
    let server = Server::raw(move |mut socket| {
        let gone = gone.clone();
        async move {
            read_head(&mut socket).await;
            read_head(&mut socket).await;
            gone.send(()).await.unwrap();
        }
    })
    .await;
    let bed = Bed::one(server.address, "");
    assert!(
        tokio::time::timeout(Duration::from_millis(50), bed.get("/"))
            .await
            .is_err()
    );
    tokio::time::timeout(Duration::from_secs(2), seen.recv())
        .await
        .unwrap()
        .unwrap();
    until(|| bed.fleet.status()[0].servers[0].in_flight == 0).await;
}

/// The same for content: half a response cannot be followed by another on the connection.
#[tokio::test]
async fn abandoned_content_closes() {
    let server = Server::h1(|_| async { http::Response::new(full(vec![0; 4 << 20])) }).await;
    let bed = Bed::one(server.address, "");
    let mut response = bed.get("/").await.unwrap();
    assert_eq!(bed.fleet.status()[0].servers[0].in_flight, 1);
    response.body.frame().await.unwrap().unwrap();
    drop(response);
    assert_eq!(bed.fleet.status()[0].servers[0].in_flight, 0);
    let response = bed
        .ask(http::Request::head("/").body(Body::Empty).unwrap())
        .await
        .unwrap();
    assert_eq!(response.head.headers["content-length"], (4 << 20).to_string());
    assert_eq!(server.connections(), 2);
}
