//! `[limits]`: what clients can make a node hold.

use super::checker::Checker;
use super::kind::{Bytes, Count, Deadline, Limit, Memory, Span, Unlimited};
use super::section::section;
use super::value::{Size, seconds};
use crate::base::ledger;

/// `memory` and `memory_per_address` are no less, bytes: some hundred connections with a request
/// each.
const LEAST_MEMORY: Size = Size(32 << 20);
const LEAST_MEMORY_PER_ADDRESS: Size = Size(4 << 20);

/// Bytes of a UDP socket's buffer that are asked for in each direction. A worker that is busy for
/// 10 ms at 1 Gbit/s has 1.2 MB waiting, which the kernel accounts for at about twice its size.
pub const UDP_BUFFER: usize = 4 << 20;

/// Descriptors for what is not a client connection: listeners, maps, files, log.
const SPARE: u64 = 512;

impl Limits {
    /// Descriptors that a node wants: one for each client connection, one towards the origin for
    /// each, and some for itself.
    pub fn descriptors(&self) -> u64 {
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        connections.saturating_mul(2).saturating_add(SPARE)
    }
}

section! {
    /// Bounds on what clients can make the edge hold.
    LimitsText => Limits {
        /// Client connections in all.
        live connections: Count<usize> = 65_536, 1 => 16 << 20;
        /// Client connections of one IPv4 address or IPv6 /64. An IPv6 /56 has as many, a /48 four
        /// times as many; the last 64th of `connections` is for networks (/48, IPv4 /24) that hold
        /// few.
        live connections_per_address: Count<usize> = 1_024, 1 => 16 << 20;
        /// Memory that is held for clients (connections, heads, content on its way, QUIC's send
        /// buffers, …), in all: docs/limits.md. 0B: half of what the machine or its control group
        /// has. Beyond half of it, no client and no zone gets more than its equal part.
        live memory: Bytes = Size(0);
        /// The same for one IPv4 address or IPv6 /64, at most `memory`; 0B: no bound of its own.
        live memory_per_address: Bytes = Size(96 << 20);
        /// Bytes of a message head. Beyond: 431.
        live header_bytes: Memory = Size(32 << 10), Size(8 << 10) => Size(1 << 20);
        /// Fields of a message head. Beyond: 431.
        live header_count: Count<usize> = 100, 8 => 4_096;
        /// Bytes of a request's content; 0B: no limit. Beyond: 413. A zone may set its own.
        live body_bytes: Limit = Size(0);
        /// Reading a head, from its first byte to its last.
        live header_timeout: Span = seconds(10);
        /// Between two pieces of a request's content, while no piece of the response moves either.
        /// A zone may set its own.
        live body_timeout: Span = seconds(30);
        /// Between two pieces of a response that a client takes.
        live write_timeout: Span = seconds(60);
        /// A whole request, from its head to the last byte of the response; 0s: no limit. A zone
        /// may set its own.
        live request_timeout: Deadline = seconds(0);
        /// A connection without a request.
        live idle_timeout: Span = seconds(75);
        /// Requests on one connection before it is ended in good order; 0: no limit.
        live requests_per_connection: Unlimited<u64> = 10_000;
        /// HTTP/2 and HTTP/3: streams at once.
        live streams_per_connection: Count<u32> = 128, 1 => 65_536;
        /// HTTP/2: streams reset early before the connection is ended (CVE-2023-44487).
        live resets_per_connection: Count<usize> = 100, 1 => 65_536;
    }
}

/// `[limits]`, with the memory worked out.
pub(super) fn limits(raw: &LimitsText, checker: &mut Checker<'_>) -> Limits {
    let mut limits = raw.check(checker);
    for (size, least) in [
        (&raw.memory, LEAST_MEMORY),
        (&raw.memory_per_address, LEAST_MEMORY_PER_ADDRESS),
    ] {
        checker.enough(size, least, "too little to serve anybody by", "the default");
    }
    if limits.memory == 0 {
        limits.memory = ledger::of_machine().map_or(u64::MAX, |bytes| bytes / 2);
    }
    limits.memory_per_address = match limits.memory_per_address {
        0 => limits.memory,
        bytes => bytes.min(limits.memory),
    };
    limits
}
