//! Judges an attempt by the operator's lists, and what is on none by the gate. `judge` hands it
//! what `parse` found; the daemon keeps the lists, and has already put allow before deny into each
//! entry (`edge_common::Entry`).

use aya_ebpf::maps::lpm_trie::Key;
use edge_common::{
    ALLOW, Config, DROP_DENIED, Entry, GATE_ON, LOCKDOWN_ON, PASS_ALLOWED, PASS_ATTEMPT, v4_bucket, v4_key,
};

use crate::{
    V4, V4_LENGTHS, V6_EXACT, V6_PREFIX, gate,
    parse::{Frame, Packet},
};

/// The reason for an attempt's verdict: the longest match says it, and where there is none `gate`,
/// if it or the lockdown is on. The packet ends at `end`.
#[inline(always)]
pub fn judge(frame: &Frame, packet: &Packet, config: &Config, end: usize) -> u32 {
    let entry = if packet.version == 4 {
        v4(frame, packet)
    } else {
        v6(frame, packet, config)
    };
    match entry {
        None if config.flags & (GATE_ON | LOCKDOWN_ON) == 0 => PASS_ATTEMPT,
        None => gate::judge(frame, packet, end),
        Some(entry) if entry.verdict == ALLOW => PASS_ALLOWED,
        Some(_) => DROP_DENIED,
    }
}

/// An LPM key whose fields are aligned, unlike those of aya's packed one, which would be written
/// byte by byte.
#[repr(C)]
pub struct Prefix<T> {
    pub length: u32,
    pub address: T,
}

impl<T> Prefix<T> {
    #[inline(always)]
    pub const fn as_key(&self) -> &Key<T> {
        const { assert!(size_of::<Self>() == size_of::<Key<T>>()) };
        // SAFETY: same fields, same order, same size without padding (asserted), and `Key` asks for
        // no alignment.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

#[inline(always)]
fn v4(frame: &Frame, packet: &Packet) -> Option<&'static Entry> {
    let address = u32::from_be(frame.header::<20>(packet.network)?.word::<12>());
    let mut lengths = *V4_LENGTHS.get(v4_bucket(address))?;
    // Lengths 32 to 0. The lowest bit is the longest.
    for _ in 0..33 {
        if lengths == 0 {
            break;
        }
        let length = lengths & lengths.wrapping_neg();
        // SAFETY: the map is not preallocated: an entry that the daemon removes stays as it is
        // until the program ends.
        if let Some(entry) = unsafe { V4.get(v4_key(address, length)) } {
            return Some(entry);
        }
        lengths ^= length;
    }
    None
}

/// Single addresses first: they are the longest match there can be, and a hash is faster than the
/// trie.
#[inline(always)]
fn v6(frame: &Frame, packet: &Packet, config: &Config) -> Option<&'static Entry> {
    let header = frame.header::<40>(packet.network)?;
    let address = [
        header.word::<8>(),
        header.word::<12>(),
        header.word::<16>(),
        header.word::<20>(),
    ];
    let host = address.map(u32::from_be);
    let prefix = Prefix { length: 128, address };
    if config.near_v6_exact.contains_v6_address(host) {
        let key = &prefix.address;
        // SAFETY: as in `v4`.
        if let Some(entry) = unsafe { V6_EXACT.get(key) } {
            return Some(entry);
        }
    }
    if config.near_v6_prefix.contains_v6(host[0]) {
        return V6_PREFIX.get(prefix.as_key());
    }
    None
}
