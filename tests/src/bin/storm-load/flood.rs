//! SYNs without a socket: prebuilt frames from the retriers' addresses, sent by AF_PACKET at a fixed rate.
#![expect(unsafe_code, reason = "socket2 has no safe address of a packet socket")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edge_testbed::interrupt;
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::arguments::Load;

/// Ports that each source sends from, over and over.
const PORTS: u16 = 16;
const FIRST_PORT: u16 = 20_000;
/// Frames between two looks at the clock.
const BATCH: u64 = 32;
const PAUSE: Duration = Duration::from_micros(200);

/// Sends for the load's time, never faster than its rate.
pub(crate) fn run(load: &Load) -> Result<Value> {
    let socket = open(&load.interface)?;
    let frames: Vec<Vec<u8>> = (0..PORTS)
        .flat_map(|port| (0..u64::from(load.sources)).map(move |n| (port, n)))
        .map(|(port, n)| frame(load, SocketAddrV4::new(load.address(n), FIRST_PORT + port)))
        .collect();
    let start = Instant::now();
    let (mut sent, mut full) = (0_u64, 0_u64);
    while start.elapsed() < load.time && !interrupt::requested() {
        let due = (start.elapsed().as_secs_f64() * load.rate) as u64;
        if due <= sent + full {
            std::thread::sleep(PAUSE);
            continue;
        }
        for n in sent + full..due.min(sent + full + BATCH) {
            match frames.get(n as usize % frames.len()).map(|frame| socket.send(frame)) {
                Some(Ok(_)) => sent += 1,
                // The queue is full: what did not go out is not made up for.
                _ => full += 1,
            }
        }
    }
    Ok(json!({ "attempts": sent, "unsent": full, "seconds": start.elapsed().as_secs_f64() }))
}

fn open(interface: &str) -> Result<Socket> {
    let index = std::ffi::CString::new(interface)?;
    // SAFETY: the argument is a string that ends in NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(index.as_ptr()) };
    anyhow::ensure!(index != 0, "no interface {interface}");
    // Protocol 0: it receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("opening a packet socket")?;
    // SAFETY: the storage is larger than sockaddr_ll, for which all-zero bytes are a valid value, and the length told is
    // that of the sockaddr_ll written.
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

/// Ethernet, IPv4, TCP with the option for the segment size; both checksums right, or no kernel would take it.
fn frame(load: &Load, source: SocketAddrV4) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(24);
    tcp.extend(source.port().to_be_bytes());
    tcp.extend(load.target.port().to_be_bytes());
    tcp.extend(u32::from(source.port()).wrapping_mul(2_654_435_761).to_be_bytes());
    tcp.extend([0, 0, 0, 0, 6 << 4, 0x02, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    let length = tcp.len() as u16;
    let (from, to): (Ipv4Addr, Ipv4Addr) = (*source.ip(), *load.target.ip());
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6], &length.to_be_bytes(), &tcp].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    tcp.splice(16..18, sum);

    let mut ip = vec![0x45, 0];
    ip.extend((20 + length).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip.splice(10..12, sum);
    [&load.to[..], &load.from, &[8, 0], &ip, &tcp].concat()
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
