//! Answers a QUIC Initial without a token with a Retry (RFC 9000 section 17.2.5), by turning the frame around where it is.
//! `edge` hands it the frame after `gate` has asked for it; the answer leaves by the same interface.
//!
//! The Retry is written into a scratch buffer behind the pseudo-packet's front (RFC 9001 section 5.8), so that one buffer
//! serves the tag and the wire. It is at most 123 bytes and answers at least 1,200, so nobody can amplify by it. Options and
//! extension headers of the question are not repeated; VLAN tags are.
//!
//! Offsets into the buffer that depend on the packet are masked before they are used, for the verifier's sake; the
//! checks before have bounded them already.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_csum_diff, bpf_get_prandom_u32, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes},
    programs::XdpContext,
};
use edge_common::{
    integrity,
    retry::{self, MAX_CID, Source, WORDS},
};

use crate::{
    KEYS, LOCKDOWN, SCRATCH,
    gate::seconds,
    parse::{Frame, Header},
};

/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes that the front of an Initial has at most: type, version, and two ids with their lengths.
const FRONT: usize = 6 + 20 + 1 + 20;
/// Where the original destination connection id is kept in the scratch buffer, zero padded; behind the longest Retry.
const ORIGINAL: usize = 200;
/// Where it is kept where the headers of the packet begin. By way of memory the verifier forgets which of the many ways
/// through `parse` led there, and looks at the answer once instead of once for each: a tenth of the time that loading takes.
const PLACE: usize = 248;
/// Mask of the headers' offsets: a frame that is longer than that is nobody's Initial.
const NEAR: usize = 0xfff;
/// Mask of offsets that are at most 20.
const ID: usize = 31;
/// The Retry packet without the client's id, token included, tag excluded: type and version (5), a length (1), our id with
/// its length (9), the token.
const FIXED: usize = 6 + 9 + retry::LENGTH;
const TAG: usize = 16;
/// Hop limit of answers.
const HOPS: u8 = 64;

/// Bytes of the scratch buffer.
pub const SCRATCH_BYTES: usize = 256;

const _: () = {
    // The pseudo-packet with masked lengths, the tag and the zeros behind it end before the original id.
    assert!(1 + ID + FIXED + ID + TAG + 8 <= ORIGINAL);
    // An id of at most 20 bytes and the zeros behind it end before the place that both steps read.
    assert!(ORIGINAL + ID + 24 <= SCRATCH_BYTES);
    assert!(ORIGINAL + MAX_CID as usize + 24 <= PLACE && PLACE + 8 <= SCRATCH_BYTES);
    // Eight blocks are the longest pseudo-packet there is.
    assert!(1 + MAX_CID as usize + FIXED + MAX_CID as usize <= 8 * 16);
};

/// Writes a `T` that need not be aligned.
///
/// # Safety
/// `size_of::<T>()` bytes at `address` are writable.
#[inline(always)]
unsafe fn store<T: Copy>(address: usize, value: T) {
    // SAFETY: writable by contract; BPF's stores take any alignment on the machines that run XDP.
    unsafe { *(address as *mut T) = value }
}

/// Reads a `T` that need not be aligned.
///
/// # Safety
/// `size_of::<T>()` bytes at `address` are readable.
#[inline(always)]
unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: as in `store`.
    unsafe { *(address as *const T) }
}

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

/// Notes for [`answer`] where the headers begin; `None` for a frame that it does not answer.
#[inline(always)]
pub fn note(network: usize, datagram: usize, version: u8) -> Option<()> {
    let scratch = SCRATCH.get_ptr_mut(0)? as usize;
    if network > NEAR || datagram > NEAR {
        return None;
    }
    // SAFETY: within the scratch buffer, which is this processor's own.
    unsafe {
        store(
            scratch + PLACE,
            [network as u16, datagram as u16, u16::from(version), 0],
        )
    };
    Some(())
}

/// Answers; `None` if the frame is none that can be answered, which its caller has ruled out. In two steps that are functions
/// of their own, since a call's stack has 256 bytes beside that of the program.
#[inline(always)]
pub fn answer(context: &XdpContext) -> Option<()> {
    match mint(context) {
        Some(minted) => send(context, minted),
        None => None,
    }
}

/// Writes the Retry into the scratch buffer: the sum of its words for the checksum (32 bits), where it begins (16), and how
/// long it is (16).
#[inline(never)]
fn mint(context: &XdpContext) -> Option<u64> {
    let lockdown = LOCKDOWN.get(0)?;
    let key = KEYS.get(lockdown.key_id & 3)?;
    let scratch = SCRATCH.get_ptr_mut(0)? as usize;
    let now = seconds()?;
    // SAFETY: the kernel keeps the bytes between the two pointers readable while the program runs.
    let frame = unsafe { Frame::new(context.data(), context.data_end()) };
    // SAFETY: within the scratch buffer.
    let (network, datagram, version) = unsafe {
        let place: [u16; 4] = load(scratch + PLACE);
        (place[0] as usize & NEAR, place[1] as usize & NEAR, place[2] as u8)
    };
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
    let length = minted as usize & 127;
    if length == 0 {
        return None;
    }
    // SAFETY: the kernel keeps the bytes between the two pointers readable while the program runs.
    let frame = unsafe { Frame::new(context.data(), context.data_end()) };
    // SAFETY: within the scratch buffer.
    let (network, datagram, version) = unsafe {
        let place: [u16; 4] = load(scratch + PLACE);
        (place[0] as usize & NEAR, place[1] as usize & NEAR, place[2] as u8)
    };
    let four = version == 4;
    let udp = frame.header::<UDP>(datagram)?;
    let (port, ours) = (udp.word::<0>() as u16, (udp.word::<0>() >> 16) as u16);
    let (address, mine) = addresses(&frame, network, four)?;
    let udp_length = (length + UDP) as u16;
    let header = turn(&frame, network, four, address, mine, udp_length)?;
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
    let end = at + UDP + length;
    // SAFETY: asks about the frame that the program was called for.
    let before = unsafe { bpf_xdp_get_buff_len(context.as_ptr().cast()) };
    // SAFETY: the kernel checks offset and length against the packet, and the verifier the buffer.
    unsafe {
        let stored = bpf_xdp_store_bytes(
            context.as_ptr().cast(),
            (at + UDP) as u32,
            retry as *mut _,
            length as u32,
        );
        if stored != 0 || bpf_xdp_adjust_tail(context.as_ptr().cast(), end as i32 - before as i32) != 0 {
            return None;
        }
    }
    Some(())
}

/// Source and destination address, each as in [`Source`].
#[inline(always)]
fn addresses(frame: &Frame, network: usize, four: bool) -> Option<([u64; 2], [u64; 2])> {
    Some(if four {
        let header = frame.header::<20>(network)?;
        ([u64::from(header.word::<12>()), 0], [u64::from(header.word::<16>()), 0])
    } else {
        let header = frame.header::<40>(network)?;
        (
            [header.long::<8>(), header.long::<16>()],
            [header.long::<24>(), header.long::<32>()],
        )
    })
}

/// Turns Ethernet and IP headers around; bytes of the IP header.
#[inline(always)]
fn turn(frame: &Frame, network: usize, four: bool, client: [u64; 2], ours: [u64; 2], udp_length: u16) -> Option<usize> {
    let ethernet = frame.header::<14>(0)?;
    let (to, from) = (ethernet.long::<0>(), ethernet.long::<6>());
    let start = frame.writable::<14>(0)?;
    // SAFETY: fourteen bytes that were found to be there; each store ends within the two addresses.
    unsafe {
        store(start, from as u32);
        store(start + 4, (from >> 32) as u16);
        store(start + 6, to as u32);
        store(start + 10, (to >> 32) as u16);
    }
    if four {
        let at = frame.writable::<20>(network)?;
        // Version 4, five words; no identification, since it is never fragmented; Don't Fragment.
        let first = 0x45 | u32::from((20 + udp_length).to_be()) << 16;
        let second = u32::from(0x4000_u16.to_be()) << 16;
        let third = u32::from(HOPS) | 17 << 8;
        let sum = u64::from(first) + u64::from(second) + u64::from(third) + client[0] + ours[0];
        // SAFETY: twenty bytes that were found to be there.
        unsafe {
            store(at, first);
            store(at + 4, second);
            store(at + 8, third | u32::from(fold(sum)) << 16);
            store(at + 12, ours[0] as u32);
            store(at + 16, client[0] as u32);
        }
        return Some(20);
    }
    let at = frame.writable::<40>(network)?;
    // SAFETY: forty bytes that were found to be there.
    unsafe {
        store(at, 0x60_u32);
        store(at + 4, udp_length.to_be());
        store(at + 6, 17_u8);
        store(at + 7, HOPS);
        store(at + 8, ours);
        store(at + 24, client);
    }
    Some(40)
}

/// The sum of an address's four-byte words.
#[inline(always)]
const fn words(address: [u64; 2]) -> u64 {
    let low = 0xffff_ffff;
    (address[0] & low) + (address[0] >> 32) + (address[1] & low) + (address[1] >> 32)
}

/// The Internet checksum (RFC 1071) of what was summed up in words of four bytes, in the order of the wire.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
