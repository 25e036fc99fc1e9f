//! Answers a QUIC Initial without a token with a Retry (RFC 9000 section 17.2.5), by turning the
//! frame around where it is. `edge` hands it the frame after `gate` has asked for it, with the
//! place of its headers kept; the answer leaves by the same interface.
//!
//! The Retry is written into a scratch buffer behind the pseudo-packet's front (RFC 9001 section
//! 5.8), so that one buffer serves the tag and the wire. It is at most 123 bytes and answers at
//! least 1,200, so nobody can amplify by it. Options and extension headers of the question are not
//! repeated; VLAN tags are.
//!
//! Offsets into the buffer that depend on the packet are masked before they are used, for the
//! verifier's sake; the checks before have bounded them already.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_csum_diff, bpf_get_prandom_u32, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use edge_common::{
    integrity,
    retry::{self, MAX_CID, Source, WORDS},
};

use crate::{
    KEYS, LOCKDOWN, SCRATCH,
    answer::{addresses, fold, load, store, turn, words},
    gate::seconds,
    judge::whole,
    parse::{self, Header, pinned},
    place,
};

/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes that the front of an Initial has at most: type, version, and two ids with their lengths.
const FRONT: usize = 6 + 20 + 1 + 20;
/// Where the original destination connection id is kept in the scratch buffer, zero padded; behind
/// the longest Retry.
const ORIGINAL: usize = 200;
/// Mask of offsets that are at most 20.
const ID: usize = 31;
/// The Retry packet without the client's id, token included, tag excluded: type and version (5), a
/// length (1), our id with its length (9), the token.
const FIXED: usize = 6 + 9 + retry::LENGTH;
const TAG: usize = 16;
/// Bytes that are copied into the frame: more than the longest Retry, in whole words. What is too
/// much goes with the frame's tail, which is longer still: the question had 1,200 bytes.
const COPIED: usize = 128;

/// Bytes of the scratch buffer; `place` has the last eight.
pub const SCRATCH_BYTES: usize = 256;

const _: () = {
    // The pseudo-packet with masked lengths, the tag and the zeros behind it end before the
    // original id.
    assert!(1 + ID + FIXED + ID + TAG + 8 <= ORIGINAL);
    // An id of at most 20 bytes and the zeros behind it end before the place that both steps read.
    assert!(ORIGINAL + ID + 24 <= SCRATCH_BYTES);
    assert!(ORIGINAL + MAX_CID as usize + 24 <= SCRATCH_BYTES - 8);
    assert!(FIXED + MAX_CID as usize + TAG <= COPIED && ID + COPIED <= SCRATCH_BYTES);
    // Eight blocks are the longest pseudo-packet there is.
    assert!(1 + MAX_CID as usize + FIXED + MAX_CID as usize <= 8 * 16);
};

/// Copies 24 bytes of a packet's id and zeroes what lies behind its `length`.
///
/// # Safety
/// 24 + `length` bytes at `to` are writable.
#[inline(always)]
unsafe fn keep_id(to: usize, id: Header<24>, length: usize) {
    // SAFETY: by contract.
    unsafe {
        store(to, id.long::<0>());
        store(to + 8, id.long::<8>());
        store(to + 16, id.long::<16>());
        store(to + length, [0_u64; 3]);
    }
}

/// Answers; `None` if the frame is none that can be answered, which its caller has ruled out. In
/// two steps that are functions of their own, since a call's stack has 256 bytes beside that of the
/// program.
#[inline(always)]
pub fn answer(context: &XdpContext) -> Option<()> {
    match mint(context) {
        Some(minted) => send(context, minted),
        None => None,
    }
}

/// Writes the Retry into the scratch buffer: the sum of its words for the checksum (32 bits), where
/// it begins (16), and how long it is (16).
#[inline(never)]
fn mint(context: &XdpContext) -> Option<u64> {
    let lockdown = LOCKDOWN.get(0)?;
    let key = KEYS.get(lockdown.key_id & 3)?;
    let scratch = SCRATCH.get_ptr_mut(0)? as usize;
    let now = seconds()?;
    let frame = place::frame(context);
    let packet = place::kept()?;
    let (network, datagram, version) = (packet.network, packet.transport, packet.version);
    let port = frame.header::<UDP>(datagram)?.short::<0>();
    let initial = datagram + UDP;
    // The padding that every client's Initial has keeps 24 bytes readable behind whatever id.
    frame.header::<{ FRONT + 24 }>(initial)?;
    let destination = frame.header::<6>(initial)?.byte::<5>() as usize;
    if destination > MAX_CID as usize || destination < 8 {
        return None;
    }
    let destination_id = frame.header::<24>(initial + 6)?;
    let source = frame.header::<1>(initial + 6 + destination)?.byte::<0>() as usize;
    if source > MAX_CID as usize {
        return None;
    }
    let source_id = frame.header::<24>(initial + 7 + destination)?;
    let (destination, source) = (destination & ID, source & ID);
    let (address, _) = addresses(&frame, network, version == 4)?;
    // SAFETY: offsets within the scratch buffer, as asserted above, which is this processor's own.
    let (retry, length) = unsafe {
        keep_id(scratch + ORIGINAL, destination_id, destination);
        let original = [
            load::<u64>(scratch + ORIGINAL),
            load::<u64>(scratch + ORIGINAL + 8),
            load::<u64>(scratch + ORIGINAL + 16),
        ];
        let random = u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32());
        let from = Source {
            address,
            port,
            family: version,
        };
        let token = retry::encode(from, original, destination as u8, random, key, now);
        // RFC 9001 figure 8: the original id, then the packet.
        store(scratch, destination as u8);
        store(scratch + 1, original);
        let retry = scratch + 1 + destination;
        // The four bits that are unused are arbitrary (RFC 9000 section 17.2.5).
        store(retry, 0xf0 | (random as u8 & 0xf));
        store(retry + 1, 1_u32.to_be());
        store(retry + 5, source as u8);
        keep_id(retry + 6, source_id, source);
        let behind = retry + 6 + source;
        store(behind, 8_u8);
        store(behind + 1, random);
        let mut word = 0;
        while word < WORDS {
            store(behind + 9 + 8 * word, token[word]);
            word += 1;
        }
        let tag = behind + 9 + retry::LENGTH;
        store(tag, [0_u64; 3]);
        let length = 1 + destination + FIXED + source;
        let mut hash = [0; 2];
        let mut block = 0;
        while block < 8 {
            if block * 16 >= length {
                break;
            }
            let at = scratch + block * 16;
            hash = integrity::absorb(hash, [u64::from_be(load(at)), u64::from_be(load(at + 8))]);
            block += 1;
        }
        let [high, low] = integrity::tag(hash, length as u64);
        store(tag, high.to_be());
        store(tag + 8, low.to_be());
        (retry, FIXED + source + TAG)
    };
    // The sum goes over whole words; the bytes behind the tag are zero.
    // SAFETY: within the scratch buffer.
    let sum = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            retry as *mut u32,
            (length as u32 + 3) & 0xfc,
            0,
        )
    };
    Some(u64::from(sum as u32) << 32 | ((retry - scratch) as u64) << 16 | length as u64)
}

/// Turns the frame around with what was minted in it.
#[inline(never)]
fn send(context: &XdpContext, minted: u64) -> Option<()> {
    let scratch = SCRATCH.get_ptr_mut(0)? as usize;
    let sum = minted >> 32;
    let retry = scratch + ((minted >> 16) as usize & ID);
    let length = pinned(minted as usize) & (COPIED - 1);
    let frame = place::frame(context);
    let packet = place::kept()?;
    let (network, datagram) = (packet.network, packet.transport);
    let four = packet.version == 4;
    let udp = frame.header::<UDP>(datagram)?;
    let (port, ours) = (udp.word::<0>() as u16, (udp.word::<0>() >> 16) as u16);
    let (address, mine) = addresses(&frame, network, four)?;
    let udp_length = (length + UDP) as u16;
    let header = turn(&frame, network, four, (address, mine), udp_length, parse::UDP)?;
    let at = network + header;
    let checksum = {
        let ports = u64::from(port) + u64::from(ours);
        let twice = 2 * u64::from(udp_length.to_be());
        let pseudo = words(address) + words(mine) + twice + u64::from(17_u16.to_be()) + ports;
        match fold(pseudo + sum) {
            0 => 0xffff,
            sum => sum,
        }
    };
    let written = frame.writable::<UDP>(at)?;
    // SAFETY: eight bytes of the packet that were found to be there.
    unsafe {
        store(written, ours);
        store(written + 2, port);
        store(written + 4, udp_length.to_be());
        store(written + 6, checksum);
    }
    let copied = frame.writable::<COPIED>(at + UDP)?;
    let mut word = 0;
    while word < COPIED {
        // SAFETY: within the scratch buffer, and bytes of the packet that were found to be there.
        unsafe { store(copied + word, load::<u64>(retry + word)) };
        word += 8;
    }
    let shorter = (at + UDP + length) as i32 - whole(context, &frame) as i32;
    // SAFETY: the kernel checks what it is asked against the packet.
    if unsafe { bpf_xdp_adjust_tail(context.as_ptr().cast(), shorter) } != 0 {
        return None;
    }
    Some(())
}
