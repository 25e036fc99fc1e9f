//! SYNs without a socket: prebuilt frames from the retriers' addresses, sent as XDP frames at a fixed rate.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use anyhow::{Context, Result};
use edge_testbed::interrupt;
use edge_testbed::live::{FRAME, Sender};
use serde_json::{Value, json};

use crate::arguments::Load;

/// Ports that each source sends from, over and over.
const PORTS: u16 = 16;
const FIRST_PORT: u16 = 20_000;

/// Sends for the load's time, never faster than its rate.
pub(crate) fn run(load: &Load) -> Result<Value> {
    let interface = rustix::net::netdevice::name_to_index(
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?,
        &load.interface,
    )
    .with_context(|| format!("no interface {}", load.interface))?;
    let frames: Vec<[u8; FRAME]> = (0..PORTS)
        .flat_map(|port| (0..u64::from(load.sources)).map(move |n| (port, n)))
        .map(|(port, n)| frame(load, SocketAddrV4::new(load.address(n), FIRST_PORT + port)))
        .collect();
    let start = Instant::now();
    let sent = Sender::new(interface, &frames, load.rate)
        .and_then(|sender| sender.send(load.time, interrupt::requested))
        .context("sending XDP frames")?;
    Ok(json!({ "attempts": sent, "seconds": start.elapsed().as_secs_f64() }))
}

/// Ethernet, IPv4, TCP with the option for the segment size; both checksums right, or no kernel would take it.
fn frame(load: &Load, source: SocketAddrV4) -> [u8; FRAME] {
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
    let mut frame = [0; FRAME];
    let bytes = [&load.to[..], &load.from, &[8, 0], &ip, &tcp].concat();
    frame.copy_from_slice(&bytes);
    frame
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
