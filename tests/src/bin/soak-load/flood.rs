//! Floods from addresses that are nobody's: TCP SYNs, or QUIC Initials whose content is noise.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, bail};
use edge_testbed::changing::Noise;
use edge_testbed::frames::{self, station};
use edge_testbed::interrupt;
use edge_testbed::words::Words;
use serde_json::json;

/// Where the addresses begin: of the network for benchmarks (RFC 2544 appendix C.2.2).
const SOURCES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const DISTINCT: u32 = 4096;
/// The shortest datagram that may carry a client's Initial (RFC 9000 section 14.1).
const INITIAL: usize = 1200;

/// `kind=` syn or initial, `rate=` a second for `seconds=`, out of `interface=` from the station
/// `from=` to `to=` and `target=`.
pub(crate) fn run(words: &Words) -> Result<()> {
    interrupt::install();
    let target: SocketAddrV4 = words.get("target")?;
    let kind: String = words.get("kind")?;
    let (from, to) = (
        station(&words.get::<String>("from")?)?,
        station(&words.get::<String>("to")?)?,
    );
    let mut noise = Noise::of_now();
    let mut built = Vec::new();
    for n in 0..DISTINCT {
        let source = SocketAddrV4::new(
            Ipv4Addr::from_bits(SOURCES.to_bits() + n),
            1024 + u16::try_from(n % 60_000)?,
        );
        let (protocol, payload) = match kind.as_str() {
            "syn" => (6, syn(source, target, noise.draw())),
            "initial" => (17, frames::udp(source, target, &initial(&mut noise))),
            other => bail!("kind is syn or initial, not {other:?}"),
        };
        built.push(frames::ipv4(from, to, *source.ip(), *target.ip(), protocol, &payload));
    }
    let time = Duration::from_secs_f64(words.get("seconds")?);
    let poured = frames::pour(&words.get::<String>("interface")?, &built, words.get("rate")?, time)?;
    println!("{}", json!({ "sent": poured.sent, "unsent": poured.unsent }));
    Ok(())
}

/// A SYN without options (RFC 9293 section 3.1).
fn syn(source: SocketAddrV4, target: SocketAddrV4, sequence: u64) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend_from_slice(&source.port().to_be_bytes());
    segment.extend_from_slice(&target.port().to_be_bytes());
    segment.extend_from_slice(&sequence.to_be_bytes()[..4]);
    segment.extend_from_slice(&[0; 4]);
    // Five words of header, SYN, a window of 64,240.
    segment.extend_from_slice(&[0x50, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
    let sum = frames::pseudo_checksum(*source.ip(), *target.ip(), 6, &segment);
    if let Some(field) = segment.get_mut(16..18) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    segment
}

/// A version 1 Initial (RFC 9000 section 17.2.2) with ids of 8 bytes and no token; what is sealed
/// in it, nobody can open.
fn initial(noise: &mut Noise) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend_from_slice(&noise.draw().to_be_bytes());
    packet.push(8);
    packet.extend_from_slice(&noise.draw().to_be_bytes());
    packet.push(0);
    let rest = INITIAL - packet.len() - 2;
    // A length of two bytes (RFC 9000 section 16).
    packet.extend_from_slice(&(0x4000 | u16::try_from(rest).unwrap_or(0)).to_be_bytes());
    while packet.len() < INITIAL {
        packet.extend_from_slice(&noise.draw().to_be_bytes());
    }
    packet.truncate(INITIAL);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that the kernel takes for something else floods nothing.
    #[test]
    fn packets_are_of_their_kind() {
        let at = |port| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), port);
        let segment = syn(at(1024), at(443), 7);
        assert_eq!((segment.len(), segment[13]), (20, 2));
        assert_eq!(frames::pseudo_checksum(*at(0).ip(), *at(0).ip(), 6, &segment), 0);
        let packet = initial(&mut Noise::new(1));
        assert_eq!((packet.len(), &packet[..6]), (INITIAL, &[0xc3, 0, 0, 0, 1, 8][..]));
        let told = usize::from(u16::from_be_bytes([packet[24], packet[25]]) & 0x3fff);
        assert_eq!(told, INITIAL - 26);
    }
}
