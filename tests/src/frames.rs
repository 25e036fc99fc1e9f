//! Frames sent without a socket of their protocol: what a flood from addresses that are not one's
//! own is made of.
#![expect(
    unsafe_code,
    reason = "socket2 has no safe address of a packet socket, and no sendmmsg"
)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::interrupt;

/// Frames between two looks at the clock, and in one call of the kernel.
const BATCH: usize = 32;
const PAUSE: Duration = Duration::from_micros(100);

/// What became of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Poured {
    /// Frames that went out.
    pub sent: u64,
    /// Frames that the interface had no room for.
    pub unsent: u64,
    /// How long it took.
    pub time: Duration,
}

/// Sends `frames` by AF_PACKET, over and over, for `time`, never more than `rate` a second.
///
/// # Errors
/// No such interface, or no permission (CAP_NET_RAW).
pub fn pour(interface: &str, frames: &[Vec<u8>], rate: f64, time: Duration) -> Result<Poured> {
    anyhow::ensure!(!frames.is_empty(), "nothing to send");
    let socket = open(interface)?;
    let start = Instant::now();
    let (mut sent, mut unsent) = (0_u64, 0_u64);
    while start.elapsed() < time && !interrupt::requested() {
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        let done = sent + unsent;
        if due <= done {
            std::thread::sleep(PAUSE);
            continue;
        }
        let first = (done % frames.len() as u64) as usize;
        let count = usize::try_from(due - done).unwrap_or(BATCH).min(BATCH);
        let batch: Vec<&[u8]> = frames
            .iter()
            .cycle()
            .skip(first)
            .take(count)
            .map(Vec::as_slice)
            .collect();
        let went = send(&socket, &batch);
        sent += went as u64;
        if went < count {
            // The queue is full: the frame that did not go out is not made up for.
            unsent += 1;
        }
    }
    Ok(Poured {
        sent,
        unsent,
        time: start.elapsed(),
    })
}

/// Sends a batch; how many of it went out.
fn send(socket: &Socket, batch: &[&[u8]]) -> usize {
    let mut pieces: Vec<libc::iovec> = batch
        .iter()
        .map(|frame| libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = pieces
        .iter_mut()
        .map(|piece| {
            // SAFETY: all-zero bytes are a message without address, content and control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    // SAFETY: the messages point to `pieces`, and those to the frames, which are only read; all of
    // them live through the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
    usize::try_from(sent).unwrap_or(0)
}

fn open(interface: &str) -> Result<Socket> {
    let index = std::ffi::CString::new(interface)?;
    // SAFETY: the argument is a string that ends in NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(index.as_ptr()) };
    anyhow::ensure!(index != 0, "no interface {interface}");
    // Protocol 0: it receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("opening a packet socket")?;
    // SAFETY: the storage is larger than sockaddr_ll, for which all-zero bytes are a valid value,
    // and the length told is that of the sockaddr_ll written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_ifindex = index as i32;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    socket.bind(&address)?;
    Ok(socket)
}

/// Ethernet and IPv4 around `payload`, whose own checksum is the caller's.
#[must_use]
pub fn ipv4(from: [u8; 6], to: [u8; 6], source: Ipv4Addr, target: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(source.octets());
    ip.extend(target.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip.splice(10..12, sum);
    [&to[..], &from, &[8, 0], &ip, payload].concat()
}

/// A UDP datagram over IPv4, its checksum right.
#[must_use]
pub fn udp(source: SocketAddrV4, target: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(target.port().to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = pseudo_checksum(*source.ip(), *target.ip(), 17, &datagram).to_be_bytes();
    datagram.splice(6..8, sum);
    datagram
}

/// Of a TCP segment or UDP datagram over IPv4, whose checksum field is zero.
#[must_use]
pub fn pseudo_checksum(source: Ipv4Addr, target: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let length = (segment.len() as u16).to_be_bytes();
    let pseudo = [&source.octets()[..], &target.octets(), &[0, protocol], &length, segment].concat();
    checksum(&pseudo)
}

/// A station's address as `ip link` writes it.
///
/// # Errors
/// It is none.
pub fn station(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes
        .try_into()
        .ok()
        .with_context(|| format!("{text} is no MAC address"))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 1071 section 3's example, complemented.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let (client, server) = ("192.0.2.7:40000".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        let datagram = udp(client, server, b"odd");
        assert_eq!(pseudo_checksum(*client.ip(), *server.ip(), 17, &datagram), 0);
    }
}
