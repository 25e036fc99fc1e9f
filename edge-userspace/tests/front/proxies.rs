//! Requests that a trusted proxy hands on: who is asked for, what a proxy may say, and what is
//! never held against it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::harness::{Edge, exchange, response};

const TRUSTING: &str = "[server]\nclient_address = { from = \"X-Forwarded-For\", trusted = [\"127.0.0.0/8\"] }\n";

async fn ask(edge: &Edge, fields: &str) -> String {
    let mut stream = edge.plain().await;
    let request = format!("GET /who HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    response(&mut stream).await
}

/// Behind a balancer every visitor would be one client: gate, limits and logs would punish all for
/// one.
#[tokio::test]
async fn the_client_is_whom_a_trusted_proxy_names() {
    let edge = Edge::start(TRUSTING);
    for (fields, client) in [
        ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.3\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 2001:db8::9\r\n", "2001:db8::9"),
        ("", "127.0.0.1"),
    ] {
        let said = ask(&edge, fields).await;
        assert!(said.contains(&format!("client={client} ")), "{fields}: {said}");
    }
    // Each request of one connection by itself, over TLS as well.
    let mut stream = edge.tls("a.example", &[]).await;
    for client in ["203.0.113.1", "203.0.113.2"] {
        let request = format!("GET /who HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(response(&mut stream).await.contains(&format!("client={client} ")));
    }
    // Nobody is believed unless the operator says so.
    let edge = Edge::start("");
    let said = ask(&edge, "X-Forwarded-For: 203.0.113.9\r\n").await;
    assert!(said.contains("client=127.0.0.1 "), "{said}");
}

/// Whom the operator denies would come in by the proxy all the same; or the proxy would be denied
/// for one of its clients.
#[tokio::test]
async fn lists_hold_for_whom_a_proxy_names() {
    let edge = Edge::start(&format!("{TRUSTING}[dataplane]\ndeny = [\"203.0.113.0/24\"]\n"));
    let denied = ask(&edge, "X-Forwarded-For: 203.0.113.9\r\n").await;
    assert!(denied.starts_with("HTTP/1.1 403 "), "{denied}");
    assert!(ask(&edge, "X-Forwarded-For: 198.51.100.9\r\n").await.contains(" 200 "));
}

/// A balancer opens more connections than any client may: its visitors would be turned away.
#[tokio::test]
async fn a_proxy_is_not_counted_as_one_client() {
    let edge = Edge::start(&format!("{TRUSTING}[limits]\nconnections_per_address = 2\n"));
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(edge.plain().await);
    }
    for stream in &mut streams {
        stream
            .write_all(b"GET /who HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .await
            .unwrap();
        assert!(response(stream).await.contains(" 200 "));
    }
    // Others are.
    let edge = Edge::start("[limits]\nconnections_per_address = 2\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = edge.plain().await;
        stream
            .write_all(b"GET /who HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .await
            .unwrap();
        assert!(response(&mut stream).await.contains(" 200 "));
        held.push(stream);
    }
    let mut third = edge.plain().await;
    let request = b"GET /who HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let (closed, said) = exchange(&mut third, request, Duration::from_secs(5)).await;
    assert!(closed && said.is_empty(), "{said}");
}
