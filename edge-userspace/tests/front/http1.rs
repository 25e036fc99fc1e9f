//! HTTP/1.1 and 1.0: keep-alive, pipelining, upgrades, hosts, methods, answers to failures.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::harness::{Edge, exchange, read, response};

const SOON: Duration = Duration::from_secs(2);
const BRIEF: Duration = Duration::from_millis(150);

async fn once(edge: &Edge, request: &str) -> String {
    let mut stream = edge.plain().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    response(&mut stream).await
}

/// Requests sent ahead are lost, or answered out of order.
#[tokio::test]
async fn pipelining() {
    let edge = Edge::start("");
    let mut all = String::new();
    for i in 0..20 {
        all += &format!("GET /{i} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        all += "POST /echo HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
        all +=
            "POST /echo HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nworld\r\n0\r\n\r\n";
    }
    let mut stream = edge.plain().await;
    let (closed, answers) = exchange(&mut stream, all.as_bytes(), BRIEF).await;
    assert!(!closed);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 60, "{answers}");
    let mut last = 0;
    for i in 0..20 {
        let at = answers.find(&format!("target=/{i} ")).unwrap();
        assert!(at > last || i == 0, "in order");
        last = at;
    }
    // And split at awkward places.
    let one = "POST /collect HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX-Real-Ip: 192.0.2.6\r\n\r\n";
    let mut stream = edge.plain().await;
    for byte in one.repeat(3).as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert!(response(&mut stream).await.ends_with("5 bytes, 1 trailers"));
    }
}

/// A WebSocket gets no connection, or its first bytes are lost.
#[tokio::test]
async fn upgrades() {
    let edge = Edge::start("");
    let head = "GET /upgrade HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut stream = edge.tls("a.example", &[]).await;
    // What follows at once is not HTTP and must pass unjudged.
    stream.write_all(format!("{head}first\n\0").as_bytes()).await.unwrap();
    let answer = response(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert_eq!(read(&mut stream, BRIEF).await, (false, "first\n\0".into()));
    assert_eq!(
        exchange(&mut stream, b"\n\nsecond", BRIEF).await,
        (false, "\n\nsecond".into())
    );
    assert_eq!(edge.front.connections(), 1, "a tunnel counts as a connection");
    drop(stream);
    // A declined one goes on as HTTP, judged as ever.
    let declined = "GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let next = "GET /y HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut stream = edge.plain().await;
    let (_, answers) = exchange(
        &mut stream,
        format!("{declined}{next}{declined}{next}").as_bytes(),
        BRIEF,
    )
    .await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 4, "{answers}");
    let (closed, answers) = exchange(&mut stream, format!("{declined}GET /\n\n").as_bytes(), SOON).await;
    assert!(
        closed && answers.contains(" 200 ") && answers.contains(" 400 "),
        "{answers}"
    );
}

/// Requests reach the wrong zone.
#[tokio::test]
async fn hosts() {
    let edge = Edge::start("");
    let ok = |answer: &str, text: &str| assert!(answer.contains(text), "{answer}");
    ok(
        &once(&edge, "GET / HTTP/1.1\r\nHost: A.Example.:8080\r\n\r\n").await,
        "zone=a host=a.example:8080",
    );
    ok(
        &once(&edge, "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n").await,
        "zone=a host=a.example client=127.0.0.1 target=/x?y",
    );
    // An absolute target goes before the field (RFC 9112 section 3.2.2), and its path may be empty.
    ok(
        &once(&edge, "GET http://a.example?y HTTP/1.1\r\nHost: b.example\r\n\r\n").await,
        "zone=a host=a.example client=127.0.0.1 target=/?y",
    );
    ok(
        &once(&edge, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await,
        "zone=b",
    );
    ok(&once(&edge, "GET / HTTP/1.0\r\n\r\n").await, "zone=b host= ");
    ok(
        &once(&edge, "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n").await,
        "target=*",
    );
    // An empty Host is HTTP's way to say that there is none (RFC 9112 section 3.2).
    ok(&once(&edge, "GET / HTTP/1.1\r\nHost:\r\n\r\n").await, "zone=b host= ");
    for wrong in [
        "GET http://u:p@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nHost: b/c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET a.example:80 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        let (closed, answer) = exchange(&mut edge.plain().await, wrong.as_bytes(), SOON).await;
        assert!(closed && answer.starts_with("HTTP/1.1 400"), "{wrong}\n{answer}");
    }
}

/// One zone's certificate opens another zone's door (domain fronting).
#[tokio::test]
async fn misdirected() {
    let edge = Edge::start("");
    let mut stream = edge.tls("a.example", &[]).await;
    for (host, status) in [
        ("a.example", 200),
        ("x.a.example", 200),
        ("b.example", 421),
        ("a.example", 200),
    ] {
        stream
            .write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let answer = response(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
}

/// The edge serves as an open proxy, or promises what it does not keep.
#[tokio::test]
async fn methods_and_expectations() {
    let edge = Edge::start("");
    let answer = once(&edge, "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET"),
        "{answer}"
    );
    let answer = once(&edge, "TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let answer = once(&edge, "GET / HTTP/1.1\r\nHost: a.example\r\nExpect: miracles\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 417"), "{answer}");
}

/// A browser fetches what a page needs while the page is being made (RFC 8297); a client of
/// HTTP/1.0 would take the hint for the page.
#[tokio::test]
async fn interim_responses_come_before_the_final_one() {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nvia: 1.1 edge\r\n\r\n";
    let edge = Edge::start("");
    let mut stream = edge.tls("a.example", &["http/1.1"]).await;
    for _ in 0..3 {
        let head = b"GET /hints HTTP/1.1\r\nHost: a.example\r\n\r\n";
        stream.write_all(head).await.unwrap();
        assert_eq!(response(&mut stream).await, HINT);
        assert_eq!(response(&mut stream).await, HINT);
        let page = response(&mut stream).await;
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("page"),
            "{page}"
        );
    }
    // Two at once: each hint stands before its own answer.
    let two = b"GET /hints HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(2);
    stream.write_all(&two).await.unwrap();
    for expected in [HINT, HINT, "page", HINT, HINT, "page"] {
        assert!(response(&mut stream).await.ends_with(expected));
    }
    let mut old = edge.plain().await;
    old.write_all(b"GET /hints HTTP/1.0\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    let page = response(&mut old).await;
    assert!(page.starts_with("HTTP/1.0 200") && page.ends_with("page"), "{page}");
}

/// Clients wait in vain for 100-continue, or are asked for content that nobody reads.
#[tokio::test]
async fn continues() {
    let edge = Edge::start("[limits]\nbody_bytes = \"10B\"\n");
    let head = |path: &str, length: u32| {
        format!("POST {path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut stream = edge.plain().await;
    stream.write_all(head("/collect", 5).as_bytes()).await.unwrap();
    assert_eq!(response(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    assert!(response(&mut stream).await.ends_with("5 bytes, 0 trailers"));
    let (_, answer) = exchange(&mut stream, head("/ignore", 5).as_bytes(), BRIEF).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("100 Continue"),
        "{answer}"
    );
    let (closed, answer) = exchange(&mut edge.plain().await, head("/collect", 11).as_bytes(), SOON).await;
    assert!(closed && answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// HTTP/1.0 and HEAD clients hang, waiting for content that never comes or an end that is not
/// marked.
#[tokio::test]
async fn old_versions_and_head() {
    let edge = Edge::start("");
    let (closed, answer) = exchange(
        &mut edge.plain().await,
        b"POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        SOON,
    )
    .await;
    assert!(
        closed && answer.starts_with("HTTP/1.0 200") && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
    let mut stream = edge.plain().await;
    let request = b"HEAD /big/9 HTTP/1.1\r\nHost: a.example\r\n\r\nGET /big/3 HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let (_, answers) = exchange(&mut stream, request, BRIEF).await;
    assert!(
        answers.contains("content-length: 9\r\n") && answers.ends_with("\r\n\r\nxxx"),
        "{answers}"
    );
    assert!(!answers.contains("xxxx"));
}

/// A user's bug report cannot be matched with the log, or a failure page leaks what failed.
#[tokio::test]
async fn failures() {
    let edge = Edge::start("");
    let answer = once(&edge, "GET /fail HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("x-request-id: ") && !answer.contains("as asked"));
    let answer = once(
        &edge,
        "GET /fail HTTP/1.1\r\nHost: a.example\r\nAccept: application/json, */*\r\n\r\n",
    )
    .await;
    assert!(answer.contains("\"reason\":\"origin_unreachable\""), "{answer}");
    let metrics = edge.metrics();
    assert!(
        metrics.contains("edge_http_failures_total{reason=\"origin_unreachable\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("edge_http_requests_total{zone=\"a\",protocol=\"1.1\",status=\"5xx\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("edge_http_requests_in_flight 0"), "{metrics}");
}

/// Plain clients stay plain, or are sent wherever a forged Host says.
#[tokio::test]
async fn redirects() {
    let edge = Edge::start("");
    let ask = async |request: &str| {
        let mut stream = tokio::net::TcpStream::connect(edge.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        response(&mut stream).await
    };
    let answer = ask("POST //e.example/x?y=1 HTTP/1.1\r\nHost: X.a.example:80\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(
        answer.contains("location: https://x.a.example:8443//e.example/x?y=1\r\n"),
        "{answer}"
    );
    for wrong in ["GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let answer = ask(wrong).await;
        assert!(answer.contains(" 421 ") && !answer.contains("location"), "{answer}");
    }
    assert!(
        ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
}

/// A stop cuts requests off, or never ends.
#[tokio::test]
async fn drains() {
    let edge = Edge::start("");
    let mut idle = edge.plain().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    response(&mut idle).await;
    let mut busy = edge.tls("a.example", &["http/1.1"]).await;
    busy.write_all(b"GET /slow/300 HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await
        .unwrap();
    let mut h2 = edge.h2("a.example").await;
    let request = http::Request::get("https://a.example/slow/300")
        .body(Default::default())
        .unwrap();
    let streaming = tokio::spawn(h2.send_request(request));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let reading = tokio::spawn(async move { read(&mut busy, SOON).await });
    edge.drain().await;
    let (closed, answer) = reading.await.unwrap();
    assert!(closed && answer.ends_with("slow"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(streaming.await.unwrap().unwrap().status().is_success());
    assert!(read(&mut idle, BRIEF).await.0);
}
