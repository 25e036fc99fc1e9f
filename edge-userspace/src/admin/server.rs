//! The admin endpoint: HTTP/1.1 on a loopback address or a Unix socket, one small runtime task, bounded on every side.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::answer::answer;
use super::{Control, client, worker};
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::value::AdminAddress;

/// Connections at once; a scraper and a few operators.
const CONNECTIONS: usize = 64;
/// Content of a command.
const BODY: usize = 4 << 10;
/// A whole connection; compiling a worker may take most of it.
const LIFE: Duration = Duration::from_secs(300);
/// How long a daemon that drains may take to leave the address.
const LEAVING: Duration = Duration::from_secs(2);

/// A bound admin endpoint.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a Unix socket, removed when dropped.
    Unix(UnixListener, UnixPath),
}

/// Removes the socket's file when the listener goes.
#[derive(Debug)]
pub struct UnixPath(std::path::PathBuf);

impl Drop for UnixPath {
    fn drop(&mut self) {
        // It may be gone, or a newer process's by now: nothing to tell anyone.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds `address`. A socket file whose owner is dead is replaced, and a daemon that drains is asked to leave.
///
/// # Errors
/// The address is taken, or the directory cannot be written.
pub async fn bind(address: &AdminAddress) -> io::Result<Listener> {
    match bind_once(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    // Whoever holds it and does not drain, or is none of ours, refuses: then the address stays taken.
    let left = tokio::time::timeout(
        LEAVING,
        client::converse(address, Method::POST, "/leave", bytes::Bytes::new()),
    );
    let left = left.await.is_ok_and(|answer| answer.is_ok());
    let patience = tokio::time::Instant::now() + LEAVING;
    loop {
        let bound = match address {
            AdminAddress::Unix(path) if left => UnixListener::bind(path).and_then(|listener| own(listener, path)),
            _ => bind_once(address).await,
        };
        match bound {
            Err(error)
                if left && error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < patience =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// A bound socket, for its owner alone.
fn own(listener: UnixListener, path: &Path) -> io::Result<Listener> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(listener, UnixPath(path.to_owned())))
}

async fn bind_once(address: &AdminAddress) -> io::Result<Listener> {
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
            own(listener, path)
        }
    }
}

async fn answers(path: &Path) -> bool {
    tokio::net::UnixStream::connect(path).await.is_ok()
}

/// Serves until `shutdown` stops; draining does not end it, so that draining can be watched.
pub async fn serve(listener: Listener, registry: Arc<Registry>, control: Arc<dyn Control>, mut shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.reached(Phase::Stopped) => return,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok(io) => {
                let (registry, control) = (registry.clone(), control.clone());
                tokio::spawn(async move {
                    serve_one(io, registry, control).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(target: "edge::admin", %error, "cannot accept");
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

async fn serve_one(io: Box<dyn Io>, registry: Arc<Registry>, control: Arc<dyn Control>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (registry, control) = (registry.clone(), control.clone());
        async move {
            let (head, body) = request.into_parts();
            if worker::is_for(head.uri.path()) {
                return Ok(worker::answer(&head, body, &*control).await);
            }
            let body = match Limited::new(body, BODY).collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(_) => {
                    let mut answer = http::Response::default();
                    *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                    return Ok::<_, std::convert::Infallible>(answer);
                }
            };
            Ok(answer(
                &head.method,
                head.uri.path(),
                &head.headers,
                &body,
                &registry,
                &*control,
            ))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(io), service);
    // An error is the peer's: it went away or spoke no HTTP. The operator who asked sees it on the other side.
    let _ = tokio::time::timeout(LIFE, connection).await;
}
