//! UDP sockets for QUIC: one per worker and address by SO_REUSEPORT, with buffers that hold a burst of handshakes.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use super::Error;

/// Bytes asked for in each direction. A worker that is busy for 10 ms at 1 Gbit/s has 1.2 MB waiting, which the kernel
/// accounts for at about twice its size.
const BUFFER: usize = 4 << 20;

/// Binds `address`. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side.
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
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
    let _ = socket.set_send_buffer_size(BUFFER);
}
