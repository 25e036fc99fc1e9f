//! The admin endpoint: HTTP/1.1 on a Unix socket or a loopback address, one small runtime task
//! each, bounded on every side. What changes the node is taken where the configuration says so, by
//! default from whoever may write to the socket, and each such command is logged with who gave it.
//! An address for reading takes none.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::answer::{self, answer};
use super::guard::{Rights, is_read, refusal};
use super::page::{self, Events};
use super::reply::{json, text};
use super::{Control, client, warm, worker};
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

/// The group that may command a node beside its owner, if there is one.
const GROUP: &str = "edge";

/// A bound admin endpoint.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a Unix socket, removed when dropped.
    Unix(UnixListener, UnixPath),
}

/// Removes the socket's file when the listener goes: that very file.
#[derive(Debug)]
pub struct UnixPath {
    path: PathBuf,
    /// Device and number of the file.
    file: Option<(u64, u64)>,
}

impl UnixPath {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: identity(path),
        }
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        // It may be gone, or a newer process's by now: nothing to tell anyone.
        if self.file.is_some() && self.file == identity(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Which file a path leads to.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Binds `address`. A socket file whose owner is dead is replaced, and a daemon that drains is
/// asked to leave.
///
/// # Errors
/// The address is taken, or the directory cannot be written.
pub async fn bind(address: &AdminAddress) -> io::Result<Listener> {
    match bind_once(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    // Whoever holds it and does not drain, or is none of ours, refuses: then the address stays
    // taken.
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

/// Binds an address for those who read; a daemon that drains may still be leaving it.
///
/// # Errors
/// The address is taken.
pub async fn bind_reading(address: SocketAddr) -> io::Result<Listener> {
    let patience = tokio::time::Instant::now() + LEAVING;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(Listener::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A bound socket, for its owner, and for the group that may command a node, if there is one and it
/// may be given to it.
fn own(listener: UnixListener, path: &Path) -> io::Result<Listener> {
    let group = std::fs::read_to_string("/etc/group")
        .ok()
        .and_then(|text| number_of(GROUP, &text));
    let shared = group.is_some_and(|group| std::os::unix::fs::chown(path, None, Some(group)).is_ok());
    let mode = if shared { 0o660 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(Listener::Unix(listener, UnixPath::of(path)))
}

/// The number of a group in the words of group(5).
fn number_of(group: &str, text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(group))
            .then(|| parts.nth(1)?.parse().ok())
            .flatten()
    })
}

async fn bind_once(address: &AdminAddress) -> io::Result<Listener> {
    match address {
        AdminAddress::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
        AdminAddress::Unix(path) => {
            if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
                std::fs::DirBuilder::new()
                    .mode(0o755)
                    .recursive(true)
                    .create(directory)?;
            }
            let listener = match UnixListener::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    // What is no socket is somebody's file.
                    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                        let what = "a file is there that is no socket";
                        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
                    }
                    if answers(path).await {
                        return Err(error);
                    }
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
pub async fn serve(
    listener: Listener,
    rights: Rights,
    registry: Arc<Registry>,
    control: Arc<dyn Control>,
    mut shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let watchers = Arc::new(Semaphore::new(page::WATCHERS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.reached(Phase::Stopped) => return,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((io, peer)) => {
                let asked = Asked {
                    rights,
                    registry: registry.clone(),
                    control: control.clone(),
                    watchers: watchers.clone(),
                };
                tokio::spawn(async move {
                    serve_one(io, peer, asked).await;
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

/// Who is at the other end.
#[derive(Clone, Debug)]
enum Peer {
    Address(SocketAddr),
    /// By the kernel's word, at the time it connected.
    Process {
        user: u32,
        group: u32,
        process: Option<i32>,
    },
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Process { user, group, process } => {
                write!(f, "uid {user} gid {group}")?;
                process.map_or(Ok(()), |process| write!(f, " pid {process}"))
            }
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<(Box<dyn Io>, Peer)> {
    Ok(match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            (Box::new(stream), Peer::Address(address))
        }
        Listener::Unix(listener, _) => {
            let stream = listener.accept().await?.0;
            let peer = stream.peer_cred().map_or(Peer::Unknown, |peer| Peer::Process {
                user: peer.uid(),
                group: peer.gid(),
                process: peer.pid(),
            });
            (Box::new(stream), peer)
        }
    })
}

/// What connections are served with.
#[derive(Clone)]
struct Asked {
    rights: Rights,
    registry: Arc<Registry>,
    control: Arc<dyn Control>,
    /// Places for those who watch the status page.
    watchers: Arc<Semaphore>,
}

/// An answer whose content may come for ever.
type Answered = http::Response<BoxBody<Bytes, std::convert::Infallible>>;

impl Asked {
    /// The events of the status page, if there is a place to watch from.
    fn events(&self) -> Answered {
        match self.watchers.clone().try_acquire_owned() {
            Ok(place) => {
                let events = Events::new(self.rights, self.registry.clone(), self.control.clone(), place);
                events.answer().map(BodyExt::boxed)
            }
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").map(BodyExt::boxed),
        }
    }
}

async fn serve_one(io: Box<dyn Io>, peer: Peer, asked: Asked) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (asked, peer) = (asked.clone(), peer.clone());
        async move {
            let Asked {
                rights,
                registry,
                control,
                ..
            } = &asked;
            let (head, body) = request.into_parts();
            let refused = refusal(&head, *rights);
            if refused.is_none() && head.method == Method::GET && head.uri.path() == "/events" {
                return Ok::<Answered, std::convert::Infallible>(asked.events());
            }
            let answer = match refused {
                Some(refused) => refused,
                None if worker::is_for(head.uri.path()) => worker::answer(&head, body, &**control).await,
                None if warm::is_for(head.uri.path()) => warm::answer(&head, body, &**control).await,
                None if head.uri.path() == "/fleet/event" && head.method == Method::POST => {
                    match Limited::new(body, BODY).collect().await {
                        Ok(collected) => match control.fleet(collected.to_bytes()).await {
                            Ok(report) => json(StatusCode::OK, &report),
                            Err(error) => text(StatusCode::CONFLICT, format!("{error}\n")),
                        },
                        Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "the event is too long\n"),
                    }
                }
                None => match Limited::new(body, BODY).collect().await {
                    Ok(collected) => {
                        let asked = answer::Asked {
                            body: &collected.to_bytes(),
                            registry,
                            control: &**control,
                        };
                        answer(&head.method, head.uri.path(), &asked)
                    }
                    Err(_) => text(StatusCode::PAYLOAD_TOO_LARGE, "too long for a command\n"),
                },
            };
            if !is_read(&head.method) {
                tracing::info!(
                    target: "edge::admin",
                    by = %peer,
                    method = %head.method,
                    path = head.uri.path(),
                    status = answer.status().as_u16(),
                    "command"
                );
            }
            Ok(answer.map(BodyExt::boxed))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(io), service);
    // An error is the peer's: it went away or spoke no HTTP. The operator who asked sees it on the
    // other side.
    let _ = tokio::time::timeout(LIFE, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator's file at the path of the socket would be lost; or a socket that nobody answers
    /// at would keep a daemon from starting.
    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        let address = AdminAddress::Unix(path.clone());
        drop(bind(&address).await.unwrap());
        assert!(!path.exists(), "it takes its own socket away");
        std::fs::write(&path, "precious").unwrap();
        let refused = bind(&address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        // Left behind by a process that died.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = bind(&address).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert!(mode == 0o600 || mode == 0o660, "{mode:o}");
        // Somebody else's by now.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        drop(bound);
        assert!(path.exists());
    }

    /// The wrong group could command a node.
    #[test]
    fn groups() {
        let text = "root:x:0:\nedgeless:x:7:\nedge:x:991:bob\nbad\nedge2:x:5:\n";
        assert_eq!(number_of("edge", text), Some(991));
        assert_eq!((number_of("none", text), number_of("bad", text)), (None, None));
    }
}
