//! Listening sockets: made or adopted, and an accept that survives a full descriptor table. One per
//! worker and address by SO_REUSEPORT, so that the kernel spreads connections without a lock.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use super::Error;
use super::metrics::Metrics;

/// Connections that may wait for accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long to wait when descriptors or memory ran out: connections closing meanwhile free some.
const BACKOFF: Duration = Duration::from_millis(50);

/// Binds `address`. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` can stand side by
/// side.
///
/// # Errors
/// The address is taken by a socket without SO_REUSEPORT, not ours, or privileged.
pub fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let attempt = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        tune(&SockRef::from(&socket))?;
        Ok(socket.into())
    };
    attempt().map_err(|source| Error::Listen { address, source })
}

/// Takes a listening socket that the service manager opened.
///
/// # Errors
/// It is no listening TCP socket.
pub fn adopt(listener: TcpListener) -> Result<TcpListener, Error> {
    tune(&SockRef::from(&listener)).map_err(Error::Adopt)?;
    Ok(listener)
}

/// Options that accepted sockets inherit, which saves setting them on each.
fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // A client that vanished is noticed after about two minutes, at no cost to us.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(20))
            .with_retries(3),
    )
}

/// The next connection. Errors of one connection are skipped, errors of the process waited out.
pub(super) async fn accept(listener: &tokio::net::TcpListener, metrics: &Metrics) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                metrics.accept_errors.inc();
                tracing::warn!(%error, "accept failed; trying again shortly");
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

/// What waits in the backlog, taken before the socket is closed: the kernel would reset it.
pub(super) fn waiting(listener: &tokio::net::TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        match listener.poll_accept(&mut cx) {
            std::task::Poll::Ready(Ok(accepted)) => return Some(accepted),
            std::task::Poll::Ready(Err(error)) if of_one_connection(&error) => {}
            _ => return None,
        }
    }
}

/// accept(2): pending network errors of the new connection are to be treated like "try again".
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::Interrupted
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::TimedOut
    )
}

/// Closes at once and sends a reset, so that no TIME_WAIT or FIN exchange is spent on a client that
/// is refused.
pub(super) fn reset(stream: TcpStream) {
    // Failing that, a plain close will do.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
