//! Origins that fail: what the client gets, what is tried again, who is taken out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge::base::shutdown;
use edge::http::body::BodyError;
use edge::http::handler::Reason;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use super::bed::{Bed, Server, full, nowhere, post, read_head, text, until};

fn two(a: std::net::SocketAddr, b: std::net::SocketAddr, more: &str) -> Bed {
    Bed::new(&format!(
        "servers = [{{ address = \"http://{a}\" }}, {{ address = \"http://{b}\" }}]\n{more}"
    ))
}

/// One dead server of two must not be seen by clients, whatever the method: nothing was sent to it.
#[tokio::test]
async fn failover() {
    let server = Server::h1(|_| async { http::Response::new(full("up")) }).await;
    let bed = two(nowhere().await, server.address, "");
    for _ in 0..4 {
        assert_eq!(bed.text("/").await.1, "up");
        assert_eq!(text(bed.ask(post("/", "x")).await.unwrap()).await.1, "up");
    }
}

/// A connection that breaks off: GET goes elsewhere, once; POST may have been acted on.
#[tokio::test]
async fn only_idempotent_requests_are_repeated() {
    let broken = Server::says("").await;
    let other = Server::says("").await;
    let bed = two(broken.address, other.address, "[zone.origin.passive]\nfailures = 0");
    let failure = bed.get("/").await.unwrap_err();
    assert_eq!((failure.reason, failure.attempts), (Reason::OriginMalformed, 2));
    assert_eq!((broken.connections(), other.connections()), (1, 1));
    assert_eq!(bed.ask(post("/", "x")).await.unwrap_err().attempts, 1);
    assert_eq!(bed.ask(post("/", "")).await.unwrap_err().attempts, 1);
}

/// An answer is an answer, also 502.
#[tokio::test]
async fn bad_gateway_of_the_origin_is_passed_on() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let server = Server::h1(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { http::Response::builder().status(502).body(full("theirs")).unwrap() }
    })
    .await;
    let bed = Bed::one(server.address, "retries = 3");
    assert_eq!(bed.text("/").await, (502, "theirs".into()));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// What is not HTTP, or could be read in two ways, is not forwarded, and nothing of it reaches the
/// client.
#[tokio::test]
async fn garbage() {
    let endless: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(300 << 10)).into_boxed_str());
    let many: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(5_000)).into_boxed_str());
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 600 What\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\0: x\r\n\r\n",
        endless,
        many,
    ] {
        let server = Server::says(answer).await;
        let failure = Bed::one(server.address, "").get("/").await.unwrap_err();
        assert_eq!(failure.reason, Reason::OriginMalformed, "{:.60}: {failure}", answer);
        assert!(!failure.detail.contains("OpenSSH"));
    }
}

/// White space in front of a colon is the proxy's to take away (RFC 9112 section 5.1): such servers
/// are there, and worked.
#[tokio::test]
async fn space_before_the_colon() {
    let answer = "HTTP/1.1 200 OK\r\nX-Foo : bar\r\nX-Bar\t: foo\r\nContent-Length : 2\r\n\r\nhi";
    let server = Server::says(answer).await;
    let response = Bed::one(server.address, "").get("/").await.unwrap();
    assert_eq!(
        (&response.head.headers["x-foo"], &response.head.headers["x-bar"]),
        (&"bar".parse().unwrap(), &"foo".parse().unwrap())
    );
    assert_eq!(text(response).await, (200, "hi".into()));
}

/// A server that cannot serve would go on getting its share, and its clients the error, beside one
/// that can.
#[tokio::test]
async fn unavailable_servers() {
    let says = |status: u16, text: &'static str| {
        move |_| async move { http::Response::builder().status(status).body(full(text)).unwrap() }
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let bad = Server::h1(move |request| {
        seen.fetch_add(1, Ordering::SeqCst);
        says(503, "busy")(request)
    })
    .await;
    let good = Server::h1(says(200, "good")).await;
    let bed = two(bad.address, good.address, "[zone.origin.passive]\nfailures = 3");
    for _ in 0..20 {
        assert_eq!(bed.text("/").await.1, "good");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3, "then it is left alone");
    assert!(!bed.fleet.status()[0].servers[0].healthy);
    // What may not be done twice gets the answer there was; so does everything where the zone wants
    // it so.
    let passive = "[zone.origin.passive]\nfailures = 0";
    let bed = two(bad.address, good.address, passive);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(text(bed.ask(post("/", "x")).await.unwrap()).await.0);
    }
    seen.sort_unstable();
    assert_eq!(seen, [200, 200, 503, 503]);
    let bed = two(bad.address, good.address, &format!("retry_status = []\n{passive}"));
    let statuses = [bed.text("/").await.0, bed.text("/").await.0];
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    // A share of the requests, and no more.
    let bed = two(bad.address, good.address, &format!("retry_budget = 0\n{passive}"));
    let mut failed = 0;
    for _ in 0..400 {
        failed += usize::from(bed.text("/").await.0 == 503);
    }
    assert!((60..=100).contains(&failed), "{failed}");
}

/// A response cut short must not look whole, to the client or to a cache.
#[tokio::test]
async fn cut_short() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let server = Server::says(answer).await;
        let response = Bed::one(server.address, "").get("/").await.unwrap();
        let error = response.body.collect().await.unwrap_err();
        assert!(matches!(error, BodyError::Origin(_)), "{answer}: {error}");
    }
}

/// A slow head is 504, and is not asked for again: the client has waited long enough.
#[tokio::test]
async fn slow_head() {
    let server = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let bed = Bed::one(server.address, "response_timeout = \"100ms\"");
    let start = Instant::now();
    let failure = bed.get("/").await.unwrap_err();
    assert_eq!((failure.reason, failure.attempts), (Reason::OriginTimeout, 1));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn stalled_content() {
    let server = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let bed = Bed::one(server.address, "body_timeout = \"100ms\"");
    let error = bed.get("/").await.unwrap().body.collect().await.unwrap_err();
    assert!(matches!(error, BodyError::Stalled));
}

/// Passive: a server that fails is left alone, then tried once.
#[tokio::test]
async fn passive_out_and_back() {
    let works = Arc::new(AtomicBool::new(false));
    let seen = works.clone();
    let flaky = Server::raw(move |mut socket| {
        let works = seen.clone();
        async move {
            read_head(&mut socket).await;
            if works.load(Ordering::SeqCst) {
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nflaky";
                socket.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let good = Server::h1(|_| async { http::Response::new(full("good")) }).await;
    let bed = two(
        flaky.address,
        good.address,
        "[zone.origin.passive]\nfailures = 2\ncooldown = \"200ms\"",
    );
    for _ in 0..10 {
        assert_eq!(bed.text("/").await.1, "good");
    }
    assert_eq!(flaky.connections(), 2);
    assert!(!bed.fleet.status()[0].servers[0].healthy);
    works.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(bed.text("/").await.1);
    }
    assert!(seen.contains(&"flaky".to_owned()), "{seen:?}");
    assert!(bed.fleet.status()[0].servers[0].healthy);
}

/// Active: out before a request fails, back when it answers again.
#[tokio::test]
async fn active_out_and_back() {
    let works = Arc::new(AtomicBool::new(true));
    let seen = works.clone();
    let server = Server::h1(move |request: http::Request<hyper::body::Incoming>| {
        let status = match (request.uri().path(), seen.load(Ordering::SeqCst)) {
            ("/health", false) => 500,
            _ => 200,
        };
        async move { http::Response::builder().status(status).body(full("x")).unwrap() }
    })
    .await;
    let check = "[zone.origin.health]\npath = \"/health\"\ninterval = \"100ms\"\nhealthy = 2\nunhealthy = 2";
    let bed = Bed::one(server.address, check);
    let (trigger, shutdown) = shutdown::channel();
    let watch = tokio::spawn(bed.fleet.clone().watch(shutdown));
    let status = || bed.fleet.status()[0].servers[0].clone();
    until(|| status().last_check_ms_ago.is_some()).await;
    assert!(status().healthy);
    works.store(false, Ordering::SeqCst);
    until(|| !status().healthy).await;
    assert_eq!(bed.get("/").await.unwrap_err().reason, Reason::OriginUnreachable);
    works.store(true, Ordering::SeqCst);
    until(|| status().healthy).await;
    assert_eq!(bed.text("/").await.0, 200);
    trigger.advance(shutdown::Phase::Stopped);
    watch.await.unwrap();
}

/// A server that answers, but late, would go on getting its share; or not be tried again.
#[tokio::test]
async fn slow_servers_are_out_for_a_while() {
    let slow = Arc::new(AtomicBool::new(true));
    let seen = slow.clone();
    let late = Server::h1(move |_| {
        let wait = if seen.load(Ordering::SeqCst) { 400 } else { 0 };
        async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            http::Response::new(full("late"))
        }
    })
    .await;
    let soon = Server::h1(|_| async { http::Response::new(full("soon")) }).await;
    let terms = "slow = { factor = 3, least = \"150ms\" }\n[zone.origin.passive]\nfailures = 0\ncooldown = \"1s\"";
    let bed = Arc::new(two(late.address, soon.address, terms));
    let many = async |count: usize| {
        let asked = (0..count).map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move { bed.text("/").await.1 })
        });
        let mut late = 0;
        for one in asked.collect::<Vec<_>>() {
            late += usize::from(one.await.unwrap() == "late");
        }
        late
    };
    let healthy = || bed.fleet.status()[0].servers[0].healthy;
    // The others must have answered, too, before anything is judged.
    assert_eq!(many(40).await, 20, "each its share");
    for _ in 0..5 {
        if healthy() {
            many(40).await;
        }
    }
    assert!(!healthy() && bed.fleet.status()[0].servers[1].healthy);
    let why = serde_json::to_value(&bed.fleet.status()[0].servers[0]).unwrap();
    assert_eq!(why["reason"], "slow");
    assert_eq!(many(10).await, 0, "it is left alone");
    slow.store(false, Ordering::SeqCst);
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !healthy() {
        assert!(tokio::time::Instant::now() < until, "it is tried again");
        tokio::time::sleep(Duration::from_millis(100)).await;
        bed.text("/").await;
    }
    assert!(many(10).await > 0);
}

/// A gRPC server that says it does not serve would get requests, or one that does get none.
#[tokio::test]
async fn grpc_says_whether_it_serves() {
    let says = Arc::new(AtomicUsize::new(1));
    let seen = says.clone();
    let server = Server::h2(100, move |request: http::Request<hyper::body::Incoming>| {
        let status = u8::try_from(seen.load(Ordering::SeqCst)).unwrap();
        async move {
            let (head, body) = request.into_parts();
            let content = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            let asked = head.method == http::Method::POST
                && head.uri.path() == "/grpc.health.v1.Health/Check"
                && head.headers["content-type"] == "application/grpc"
                && content[..]
                    == [
                        0, 0, 0, 0, 11, 0x0a, 9, b's', b'h', b'o', b'p', b'.', b'C', b'a', b'r', b't',
                    ];
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", if asked { "0" } else { "5" }.parse().unwrap());
            let frames = [
                Ok(http_body::Frame::data(bytes::Bytes::copy_from_slice(&[
                    0, 0, 0, 0, 2, 8, status,
                ]))),
                Ok::<_, edge::http::body::BodyError>(http_body::Frame::trailers(trailers)),
            ];
            let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
            let response = http::Response::builder().header("content-type", "application/grpc");
            response.body(http_body_util::BodyExt::boxed(body)).unwrap()
        }
    })
    .await;
    let check =
        "http = \"2\"\n[zone.origin.health]\ngrpc = \"shop.Cart\"\ninterval = \"100ms\"\nhealthy = 1\nunhealthy = 1";
    let bed = Bed::one(server.address, check);
    let (trigger, shutdown) = shutdown::channel();
    let watch = tokio::spawn(bed.fleet.clone().watch(shutdown));
    let status = || bed.fleet.status()[0].servers[0].clone();
    until(|| status().last_check_ms_ago.is_some()).await;
    assert!(status().healthy, "{:?}", status());
    says.store(2, Ordering::SeqCst);
    until(|| !status().healthy).await;
    says.store(1, Ordering::SeqCst);
    until(|| status().healthy).await;
    trigger.advance(shutdown::Phase::Stopped);
    watch.await.unwrap();
}
