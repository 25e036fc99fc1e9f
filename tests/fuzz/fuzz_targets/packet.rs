//! The packet parser of the XDP program, built for the host from the program's own files: whatever
//! the frame and whichever ports are ours, it reads no byte outside the frame (run it with ASan, as
//! cargo-fuzz does) and what it says about the frame is true of it. The gate's own file needs aya;
//! the parts of it that read packets are walked here in its order. `cd tests/fuzz && cargo +nightly
//! fuzz run packet`.
//!
//! Input: how many ports are ours, the ports, an offset for the token parser alone, and the frame.
#![no_main]

#[path = "../../../edge-ebpf/src/parse.rs"]
mod parse;
#[path = "../../../edge-ebpf/src/token.rs"]
mod token;

use std::sync::LazyLock;

use edge_common::retry;
use edge_common::token::{self as wait, Prefix, TokenKey};
use edge_common::{Config, REASONS};
use libfuzzer_sys::fuzz_target;
use parse::{Class, Frame, Packet, classify};

const UDP: usize = 8;
const NOW: u64 = 1_700_000_000;

/// Too large for the stack of every run, so it is made once and its ports are put back.
static EMPTY: LazyLock<Box<Config>> = LazyLock::new(|| Box::new(Config::EMPTY));

fn config(ports: &[u8]) -> Box<Config> {
    let mut config = EMPTY.clone();
    for port in ports.as_chunks::<2>().0 {
        config.tcp_ports.insert(u16::from_be_bytes(*port));
        config.udp_ports.insert(u16::from_be_bytes(*port));
    }
    config
}

/// The token of an Initial at `offset`, as the gate reads it.
fn initial(frame: &Frame, bytes: &[u8], offset: usize) {
    let Some((at, length)) = token::find(frame, offset, frame.length()) else {
        return;
    };
    assert!(at >= offset + 8, "a token inside the fixed part");
    let shown = bytes.get(at..at + length).expect("a token beyond the frame");
    if length < wait::HEADER {
        return;
    }
    let header = frame.header::<{ wait::HEADER }>(at).expect("its length was checked");
    let words = [
        header.long::<0>(),
        header.long::<8>(),
        header.long::<16>(),
        header.long::<24>(),
    ];
    assert_eq!(wait::to_words(shown.first_chunk().expect("long enough")), words);
    assert!((wait::key_index(words[0]) as usize) < wait::KEYS);
    let prefix = Prefix::v4([192, 0, 2, 1]);
    // The key that it names, so that its MAC is computed.
    let key = TokenKey {
        k0: 1,
        k1: 2,
        epoch: u64::from(shown[wait::KEY_ID_AT]),
        valid: 1,
        reserved: 0,
    };
    let _ = wait::verify(words, wait::QUIC, prefix, &key, NOW);
    if length == retry::LENGTH {
        let long = frame.header::<{ retry::LENGTH }>(at).expect("its length was checked");
        let words = [
            long.long::<0>(),
            long.long::<8>(),
            long.long::<16>(),
            long.long::<24>(),
            long.long::<32>(),
            long.long::<40>(),
            long.long::<48>(),
            long.long::<56>(),
            long.long::<64>(),
        ];
        let from = retry::Source {
            address: [1, 2],
            port: 443,
            family: 4,
        };
        let _ = retry::verify(words, from, &key, NOW);
    }
}

/// A VLAN tag changes where a frame's parts stand and not what it is, though the parser reads a
/// frame without one on a way of its own.
fn tagged(bytes: &[u8], packet: &Packet, config: &Config) {
    const TAG: [u8; 4] = [0x81, 0, 0, 1];
    let Some((addresses, rest)) = bytes.split_at_checked(12) else {
        return;
    };
    // A third tag would be one too many, which is no plain frame's affair.
    if matches!(rest, [0x81, 0, ..] | [0x88, 0xa8, ..]) {
        return;
    }
    let bytes = [addresses, &TAG, rest].concat().into_boxed_slice();
    let start = bytes.as_ptr().addr();
    bytes.as_ptr().expose_provenance();
    // SAFETY: `bytes` lives until the end of this function.
    let frame = unsafe { Frame::new(start, start + bytes.len()) };
    let other = classify(&frame, config, false);
    assert_eq!(other.class, packet.class);
    if other.transport != 0 {
        assert_eq!(other.transport, packet.transport + TAG.len());
    }
    assert_eq!(
        (other.version, other.protocol, other.port),
        (packet.version, packet.protocol, packet.port)
    );
}

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else {
        return;
    };
    let Some((ports, rest)) = rest.split_at_checked(usize::from(count % 4) * 2) else {
        return;
    };
    let Some((&[high, low], rest)) = rest.split_first_chunk() else {
        return;
    };
    // A buffer of exactly the frame's length, so that the byte before it and the one behind it are
    // poisoned.
    let bytes = rest.to_vec().into_boxed_slice();
    let start = bytes.as_ptr().addr();
    bytes.as_ptr().expose_provenance();
    // SAFETY: `bytes` lives until the end of this run.
    let frame = unsafe { Frame::new(start, start + bytes.len()) };
    let config = config(ports);

    // The same packet without the Ethernet header, as a TUN device hands it over.
    let bare = classify(&frame, &config, true);
    assert!(bare.network == 0, "an IP header behind nothing");

    let packet = classify(&frame, &config, false);
    match packet.class {
        Class::Known(reason) => assert!(REASONS.iter().any(|(known, _)| *known == reason), "no reason {reason}"),
        class @ (Class::Attempt | Class::Initial) => {
            assert!(matches!(packet.protocol, 6 | 17));
            let ours = if packet.protocol == 6 {
                &config.tcp_ports
            } else {
                &config.udp_ports
            };
            assert!(ours.contains(packet.port), "port {} is not ours", packet.port);
            // The client's address, which lists and gate judge.
            let first = bytes[packet.network] >> 4;
            assert_eq!(first, packet.version);
            let addresses = if packet.version == 4 { 12..20 } else { 8..40 };
            assert!(bytes.len() >= packet.network + addresses.end);
            if class == Class::Initial {
                let datagram = packet.transport;
                assert_eq!(packet.protocol, 17);
                assert_eq!(&bytes[datagram + 2..datagram + 4], packet.port.to_be_bytes());
                assert!(bytes[datagram + UDP] & 0x80 != 0, "no long header");
                initial(&frame, &bytes, datagram + UDP);
            }
        }
    }

    tagged(&bytes, &packet, &config);

    // The token parser at any place, without a packet around it.
    initial(&frame, &bytes, usize::from(u16::from_be_bytes([high, low])) & 0x3ff);
});
