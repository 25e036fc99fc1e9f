//! SYNs without a socket: prebuilt frames from the retriers' addresses, sent as XDP frames at a
//! fixed rate.

use std::net::SocketAddrV4;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use edge_testbed::live::{FRAME, Sender};
use edge_testbed::{frames, interrupt};
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
        .collect::<Result<_>>()?;
    let start = Instant::now();
    let sent = Sender::new(interface, &frames, load.rate)
        .and_then(|sender| sender.send(load.time, interrupt::requested))
        .context("sending XDP frames")?;
    Ok(json!({ "attempts": sent, "seconds": start.elapsed().as_secs_f64() }))
}

/// Ethernet, IPv4, TCP with the option for the segment size; both checksums right, or no kernel
/// would take it.
fn frame(load: &Load, source: SocketAddrV4) -> Result<[u8; FRAME]> {
    let mut tcp = Vec::with_capacity(24);
    tcp.extend(source.port().to_be_bytes());
    tcp.extend(load.target.port().to_be_bytes());
    tcp.extend(u32::from(source.port()).wrapping_mul(2_654_435_761).to_be_bytes());
    tcp.extend([0, 0, 0, 0, 6 << 4, 0x02, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    let (from, to) = (*source.ip(), *load.target.ip());
    let sum = frames::pseudo_checksum(from, to, 6, &tcp).to_be_bytes();
    tcp.splice(16..18, sum);
    frames::ipv4(load.from, load.to, from, to, 6, &tcp)
        .try_into()
        .map_err(|frame: Vec<u8>| anyhow!("a frame of {} bytes", frame.len()))
}
