//! The access log, and what a reload changes under a connection's feet.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge::base::lines::{Form, Lines, Writer};
use edge::zones::Zones;
use tokio::io::AsyncWriteExt;

use crate::harness::{Edge, config, exchange, response};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// The `count` lines that are written next.
    async fn take(&self, count: usize) -> Vec<serde_json::Value> {
        let start = Instant::now();
        while self.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count() < count {
            assert!(start.elapsed() < Duration::from_secs(20), "{count} lines");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // And if more than these are written, they come soon.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }
}

fn start(extra: &str) -> (Edge, Sink, Writer) {
    let sink = Sink::default();
    let (lines, writer) = Lines::start(Form::Json, sink.clone()).unwrap();
    (Edge::start_with(extra, lines), sink, writer)
}

/// An operator cannot see who asked for what, how long it took, and who failed; or secrets end up
/// in the log.
#[tokio::test]
async fn one_line_per_request() {
    let (edge, lines, _writer) = start("");
    let mut stream = edge.tls("a.example", &[]).await;
    for path in ["/echo?token=secret", "/fail"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a.example\r\nCookie: secret\r\nUser-Agent: t\r\nContent-Length: 5\r\n\r\nhello"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        response(&mut stream).await;
    }
    let both = lines.take(2).await;
    let [first, second] = &both[..] else { panic!() };
    for (key, value) in [
        ("zone", "a"),
        ("host", "a.example"),
        ("path", "/echo"),
        ("protocol", "HTTP/1.1"),
    ] {
        assert_eq!(first[key], value, "{first}");
    }
    assert_eq!(
        (&first["method"], &first["tls"], &first["agent"]),
        (&"POST".into(), &"TLSv1.3".into(), &"t".into())
    );
    assert_eq!(
        (&first["status"], &first["request_bytes"], &first["response_bytes"]),
        (&200.into(), &5.into(), &5.into())
    );
    assert_eq!(
        (&first["aborted"], &first["client"]),
        (&false.into(), &"127.0.0.1".into())
    );
    assert!(first["handshake_ms"].as_f64().unwrap() > 0.0 && first["total_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(
        (&second["failure"], &second["detail"]),
        (&"origin_unreachable".into(), &"as asked".into())
    );
    assert!(
        second.get("handshake_ms").is_none(),
        "the handshake is the first request's"
    );
    assert!(!format!("{both:?}").contains("secret"));
}

/// Responses cut off look like whole ones.
#[tokio::test]
async fn aborted() {
    let (edge, lines, _writer) = start("");
    let mut stream = edge.plain().await;
    exchange(
        &mut stream,
        b"GET /stream HTTP/1.1\r\nHost: a.example\r\n\r\n",
        Duration::from_millis(20),
    )
    .await;
    drop(stream);
    let seen = lines.take(1).await;
    assert_eq!(
        (&seen[0]["status"], &seen[0]["aborted"]),
        (&200.into(), &true.into()),
        "{seen:?}"
    );
    let mut stream = edge.plain().await;
    exchange(
        &mut stream,
        b"GET /slow/5000 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        Duration::from_millis(20),
    )
    .await;
    // A reset: one that only ends its own direction waits for the answer.
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    let seen = lines.take(1).await;
    assert_eq!(
        (&seen[0]["status"], &seen[0]["aborted"]),
        (&serde_json::Value::Null, &true.into()),
        "{seen:?}"
    );
    assert!(edge.metrics().contains("status=\"aborted\"} 1"));
}

/// A busy node drowns in its log, or one that should log does not.
#[tokio::test]
async fn sampled() {
    let (edge, lines, _writer) = start("[log]\naccess_sample = 5\n");
    let requests = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(20);
    exchange(&mut edge.plain().await, &requests, Duration::from_millis(80)).await;
    lines.take(4).await;
    edge.shared
        .reload(config(edge.directory.path(), "[log]\naccess = false\n").serving(), &[]);
    exchange(&mut edge.plain().await, &requests, Duration::from_millis(80)).await;
    lines.take(0).await;
}

/// A reload drops connections, or is not noticed by those that exist.
#[tokio::test]
async fn reload_under_a_connection() {
    let edge = Edge::start("");
    let post = b"POST /collect HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
    let mut stream = edge.plain().await;
    stream.write_all(post).await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 200"));
    let config = config(edge.directory.path(), "[limits]\nbody_bytes = \"4B\"\n");
    edge.zones.store(Arc::new(Zones::new(&config.zones)));
    edge.shared.reload(config.serving(), &[]);
    stream.write_all(post).await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 413"));
}
