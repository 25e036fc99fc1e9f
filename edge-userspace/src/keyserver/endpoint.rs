//! The admin endpoint: `/metrics`, `/healthz`, `/readyz` for GET, one request a connection, bounded
//! on every side. The edge's own (room `admin`) stands on an HTTP library that the key server does
//! without: three fixed answers need no more than this.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::admin::metrics::{self, CONTENT_TYPE};
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::value::AdminAddress;

/// Connections at once.
const CONNECTIONS: usize = 16;
/// A request's head.
const HEAD: usize = 8 << 10;
/// A whole connection.
const LIFE: Duration = Duration::from_secs(10);

/// A bound endpoint. A Unix socket's file goes with it.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // It may be gone, or a newer process's by now: nothing to tell anyone.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What it answers with.
#[derive(Debug)]
pub(super) struct Shown<R> {
    pub(super) registry: Registry,
    /// Why queries are not answered now, if they are not.
    pub(super) unready: R,
}

/// Binds `address`. A socket file whose owner is dead is replaced.
pub(super) async fn bind(address: &AdminAddress) -> io::Result<Listener> {
    match address {
        AdminAddress::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
        AdminAddress::Unix(path) => {
            let listener = match UnixListener::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && !answers(path).await => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                other => other?,
            };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok(Listener::Unix(listener, path.clone()))
        }
    }
}

async fn answers(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

/// Serves until the process stops; draining does not end it, so that draining can be watched.
pub(super) async fn serve<R>(listener: Listener, shown: Arc<Shown<R>>, mut shutdown: Shutdown)
where
    R: Fn() -> Option<&'static str> + Send + Sync + 'static,
{
    // The oldest first: whoever is silent makes room for whoever asks.
    let mut under_way: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            () = shutdown.reached(Phase::Stopped) => return,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok(io) => {
                under_way.retain(|task| !task.is_finished());
                if under_way.len() >= CONNECTIONS
                    && let Some(oldest) = under_way.pop_front()
                {
                    oldest.abort();
                }
                let shown = shown.clone();
                under_way.push_back(tokio::spawn(async move {
                    // An error is the peer's: it went away or spoke no HTTP.
                    let _ = tokio::time::timeout(LIFE, one(io, &shown)).await;
                }));
            }
            Err(error) => {
                tracing::warn!(target: "edge::keyserver", %error, "the admin endpoint cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn accept(listener: &Listener) -> io::Result<Box<dyn Io>> {
    Ok(match listener {
        Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        Listener::Unix(listener, _) => Box::new(listener.accept().await?.0),
    })
}

async fn one<R: Fn() -> Option<&'static str>>(mut io: Box<dyn Io>, shown: &Shown<R>) -> io::Result<()> {
    let mut head = Vec::with_capacity(1 << 10);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() >= HEAD || io.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, kind, body) = answer(&head, &shown.registry, (shown.unready)());
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: \
         close\r\n\r\n",
        body.len()
    );
    io.write_all(text.as_bytes()).await?;
    if !head.starts_with(b"HEAD ") {
        io.write_all(body.as_bytes()).await?;
    }
    io.shutdown().await
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Status, content type and content for a request's head.
fn answer(head: &[u8], registry: &Registry, unready: Option<&'static str>) -> (&'static str, &'static str, String) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return ("400 Bad Request", TEXT, "no HTTP/1 request\n".to_owned());
    }
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    if !host.is_none_or(local) {
        let words = "the admin endpoint is asked by address or as localhost\n";
        return ("421 Misdirected Request", TEXT, words.to_owned());
    }
    if !matches!(method, "GET" | "HEAD") {
        return ("405 Method Not Allowed", TEXT, "allowed: GET, HEAD\n".to_owned());
    }
    match (path, unready) {
        ("/metrics", _) => ("200 OK", CONTENT_TYPE, metrics::encode(registry)),
        ("/healthz", _) => ("200 OK", TEXT, "alive\n".to_owned()),
        ("/readyz", None) => ("200 OK", TEXT, "ready\n".to_owned()),
        ("/readyz", Some(why)) => ("503 Service Unavailable", TEXT, format!("not ready: {why}\n")),
        _ => ("404 Not Found", TEXT, "known: /metrics /healthz /readyz\n".to_owned()),
    }
}

/// Whether a Host is an address or localhost: a name that an attacker's DNS points here (rebinding)
/// is refused.
fn local(host: &str) -> bool {
    if host.is_empty() {
        return true;
    }
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scraper and an orchestrator get their answers; a browser that was tricked gets none.
    #[test]
    fn answers() {
        let registry = Registry::default();
        let ask = |line: &str, host: &str, unready| {
            let head = format!("{line}\r\nhost: {host}\r\n\r\n");
            answer(head.as_bytes(), &registry, unready).0
        };
        assert_eq!(ask("GET /metrics HTTP/1.1", "127.0.0.1:9181", None), "200 OK");
        assert_eq!(ask("GET /healthz HTTP/1.0", "", Some("x")), "200 OK");
        assert_eq!(ask("GET /readyz HTTP/1.1", "[::1]:9181", None), "200 OK");
        assert_eq!(
            ask("GET /readyz HTTP/1.1", "localhost", Some("x")),
            "503 Service Unavailable"
        );
        assert_eq!(
            ask("POST /metrics HTTP/1.1", "localhost", None),
            "405 Method Not Allowed"
        );
        assert_eq!(ask("GET /keys HTTP/1.1", "localhost", None), "404 Not Found");
        assert_eq!(
            ask("GET /metrics HTTP/1.1", "rebound.example", None),
            "421 Misdirected Request"
        );
        assert_eq!(ask("\x16\x03\x01", "", None), "400 Bad Request");
    }
}
