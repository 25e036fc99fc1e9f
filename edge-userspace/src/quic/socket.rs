//! UDP sockets for QUIC: one per worker and address by SO_REUSEPORT, with buffers that hold a burst
//! of handshakes. In place of quinn's own, `Datagrams` tells an address that the kernel refuses
//! from an offload that it has not.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::Error;
use crate::config::UDP_BUFFER;

/// Binds `address`. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` can stand side by
/// side.
///
/// # Errors
/// The address is taken by a socket without SO_REUSEPORT, not ours, or privileged.
pub fn bind(address: SocketAddr) -> Result<UdpSocket, Error> {
    let attempt = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(true)?;
        enlarge(&socket);
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    attempt().map_err(|source| Error::Listen { address, source })
}

/// Beyond `net.core.rmem_max` where CAP_NET_ADMIN allows it, else up to it.
fn enlarge(socket: &Socket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, UDP_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    }
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
}

/// Transmits in a row that went out in pieces after the kernel had refused them whole: then it has
/// no offload.
const REFUSALS: u32 = 3;

/// A UDP socket of the worker's runtime. The library takes EINVAL and EIO for "this kernel has
/// neither segmentation offload nor ECN" and does without from then on, although an address may be
/// at fault that nobody can answer: a port 0, a broadcast address that a packet was sent to. Here
/// an error ends nothing: what is refused whole is tried in pieces, and only when the pieces go out
/// several times in a row is offload given up.
pub(super) struct Datagrams {
    io: tokio::net::UdpSocket,
    /// The library's; replaced by a fresh one when it has drawn its conclusions.
    state: ArcSwap<UdpSocketState>,
    /// Datagrams in a transmit.
    segments: AtomicUsize,
    refusals: AtomicU32,
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams")
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}

impl Datagrams {
    /// On the runtime of the calling thread.
    ///
    /// # Errors
    /// The socket cannot be registered with it, or lacks an option that QUIC needs.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Arc<Self>> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Arc::new(Self {
            segments: AtomicUsize::new(state.max_gso_segments()),
            state: ArcSwap::from_pointee(state),
            io: tokio::net::UdpSocket::from_std(socket)?,
            refusals: AtomicU32::new(0),
        }))
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            self.state.load().try_send((&self.io).into(), transmit)
        })
    }

    /// In pieces, by a state that has drawn no conclusions. True if all went out.
    fn send_in_pieces(&self, transmit: &Transmit<'_>) -> io::Result<bool> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(size) {
            let piece = Transmit {
                contents,
                segment_size: None,
                ..*transmit
            };
            match self.send(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Puts a fresh state in place of one that an error has marked.
    fn refresh(&self) {
        if let Ok(state) = UdpSocketState::new((&self.io).into()) {
            self.state.store(Arc::new(state));
        }
    }
}

impl AsyncUdpSocket for Datagrams {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            socket: self,
            waits: None,
        })
    }

    /// A datagram that the kernel does not take is lost, as on the way.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let error = match self.send(transmit) {
            Ok(()) => {
                if transmit.segment_size.is_some() && self.refusals.load(Ordering::Relaxed) != 0 {
                    self.refusals.store(0, Ordering::Relaxed);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::WouldBlock {
            return Err(error);
        }
        if !matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::IO)) {
            // EMSGSIZE is what a probe for a larger MTU gets.
            return Ok(());
        }
        self.refresh();
        let several = transmit.segment_size.is_some_and(|size| size < transmit.contents.len());
        if several && self.send_in_pieces(transmit)? {
            let refusals = self.refusals.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if refusals >= REFUSALS && self.segments.swap(1, Ordering::Relaxed) > 1 {
                tracing::info!(target: "edge::quic", %error, "the kernel has no segmentation offload here; datagrams are sent one by one");
            }
        } else if several {
            // The pieces have marked it again.
            self.refresh();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.load().recv((&self.io).into(), bufs, meta)
            });
            // An error of one datagram, or none there after all.
            if let Ok(count) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.segments.load(Ordering::Relaxed)
    }

    fn max_receive_segments(&self) -> usize {
        self.state.load().gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.load().may_fragment()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for room in the socket's buffer; one for each connection, each with its own waker.
struct Writable {
    socket: Arc<Datagrams>,
    waits: Option<Waiting>,
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let socket = &this.socket;
        let waits = this.waits.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move { socket.io.writable().await })
        });
        let result = ready!(waits.as_mut().poll(cx));
        this.waits = None;
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(socket: &Datagrams, to: SocketAddr, contents: &[u8], segment_size: Option<usize>) {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        };
        while let Err(error) = socket.try_send(&transmit) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            socket.io.writable().await.unwrap();
        }
    }

    /// One spoofed datagram would make every download on the worker cost several times the
    /// processor time until a restart.
    #[tokio::test]
    async fn an_address_that_cannot_be_answered_ends_no_offload() {
        let socket = Datagrams::new(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let segments = socket.max_transmit_segments();
        assert!(segments > 1, "this kernel has no offload");
        let contents = [7; 3_600];
        for _ in 0..2 * REFUSALS {
            sent(&socket, "127.0.0.1:0".parse().unwrap(), &contents, Some(1_200)).await;
            sent(&socket, "127.0.0.1:0".parse().unwrap(), &contents[..1_200], None).await;
        }
        assert_eq!(socket.max_transmit_segments(), segments);
        assert_eq!(socket.state.load().max_gso_segments(), segments);
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        sent(&socket, other.local_addr().unwrap(), &contents, Some(1_200)).await;
        for _ in 0..3 {
            assert_eq!(other.recv(&mut [0; 9_000]).unwrap(), 1_200);
        }
    }
}
