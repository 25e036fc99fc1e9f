//! What the answers of the program have in common: a frame is turned around where it is. `retry`
//! and `cookie` use it.

use crate::parse::Frame;

/// Hop limit of answers.
const HOPS: u8 = 64;

/// Writes a `T` that need not be aligned.
///
/// # Safety
/// `size_of::<T>()` bytes at `address` are writable.
#[inline(always)]
pub unsafe fn store<T: Copy>(address: usize, value: T) {
    // SAFETY: writable by contract; BPF's stores take any alignment on the machines that run XDP.
    unsafe { *(address as *mut T) = value }
}

/// Reads a `T` that need not be aligned.
///
/// # Safety
/// `size_of::<T>()` bytes at `address` are readable.
#[inline(always)]
pub unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: as in `store`.
    unsafe { *(address as *const T) }
}

/// Source and destination address, each as in `edge_common::retry::Source`.
#[inline(always)]
pub fn addresses(frame: &Frame, network: usize, four: bool) -> Option<([u64; 2], [u64; 2])> {
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

/// Turns the Ethernet header around, if there is one in front of the IP header at `network`.
#[inline(always)]
fn turn_ethernet(frame: &Frame, network: usize) -> Option<()> {
    if network == 0 {
        return Some(());
    }
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
    Some(())
}

/// Turns Ethernet and IP headers around, for `length` bytes of this protocol; bytes of the IP
/// header, which has neither options nor extensions. `ends` are the client's address and ours.
#[inline(always)]
pub fn turn(
    frame: &Frame,
    network: usize,
    four: bool,
    ends: ([u64; 2], [u64; 2]),
    length: u16,
    protocol: u8,
) -> Option<usize> {
    let (client, ours) = ends;
    turn_ethernet(frame, network)?;
    if four {
        let at = frame.writable::<20>(network)?;
        // Version 4, five words; no identification, since it is never fragmented; Don't Fragment.
        let first = 0x45 | u32::from((20 + length).to_be()) << 16;
        let second = u32::from(0x4000_u16.to_be()) << 16;
        let third = u32::from(HOPS) | u32::from(protocol) << 8;
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
        store(at + 4, length.to_be());
        store(at + 6, protocol);
        store(at + 7, HOPS);
        store(at + 8, ours);
        store(at + 24, client);
    }
    Some(40)
}

/// The sum of an address's four-byte words.
#[inline(always)]
pub const fn words(address: [u64; 2]) -> u64 {
    let low = 0xffff_ffff;
    (address[0] & low) + (address[0] >> 32) + (address[1] & low) + (address[1] >> 32)
}

/// The Internet checksum (RFC 1071) of what was summed up in words of four bytes, in the order of
/// the wire.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
