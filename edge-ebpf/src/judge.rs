//! Judges what `parse` would not let pass at once: attempts, what it would drop, and in lockdown
//! what belongs to a QUIC connection. `edge` calls it with the place of the headers kept; `admit`
//! asks the lists and `gate` the penalties and tokens.
//!
//! Only what is for the node's own addresses is the node's to judge: a machine may route, bridge or
//! host others, and the port says nothing about them.

use aya_ebpf::{EbpfContext as _, bindings::xdp_md, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use edge_common::{
    COUNT_SYN, Config, DROP_ID_FOREIGN, DROP_MALFORMED, DROP_MARTIAN, FIRST_ANSWER, PASS_ATTEMPT, PASS_BUDGETED,
    PASS_ESTABLISHED, PASS_NOT_OURS, cid, lockdown::ON, mapped,
};

use crate::{
    ALIVE, CONFIG, FRAGMENTED, LOCAL, LOCKDOWN, admit,
    cookie::edge_ack,
    count,
    parse::{self, Class, Frame, Packet},
    place,
};

/// Bytes of a UDP header (RFC 768).
const UDP: usize = 8;
/// The loopback interface has this number in every network namespace: only there a packet may come
/// from a loopback address.
const LOOPBACK: u32 = 1;
/// Types of long headers (RFC 9000 section 17.2).
const ZERO_RTT: u8 = 1;
const HANDSHAKE: u8 = 2;

/// The reason for the verdict on the packet whose place is kept. With a name of its own it is a
/// global function, which the verifier looks at once, whatever it is called with, and not again for
/// each way there.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn edge_judge(context: *mut xdp_md) -> u64 {
    let context = XdpContext::new(context);
    let (Some(config), Some(packet)) = (CONFIG.get(0), place::kept()) else {
        // The verifier wants this arm.
        return PASS_NOT_OURS.into();
    };
    let frame = place::frame(&context);
    judge(&context, config, &frame, &packet).into()
}

#[inline(always)]
fn judge(context: &XdpContext, config: &Config, frame: &Frame, packet: &Packet) -> u32 {
    let interface = place::interface(context);
    let Some(Ends { source, destination }) = ends(frame, packet) else {
        // The verifier wants this arm; `parse` has seen the header.
        return PASS_NOT_OURS;
    };
    if !is_ours(config, destination, packet.version) {
        return PASS_NOT_OURS;
    }
    if let Class::Known(reason) = packet.class {
        if reason == PASS_ESTABLISHED {
            return match packet.protocol {
                parse::TCP => edge_ack(context.as_ptr().cast()) as u32,
                _ if !is_connected(frame, packet.transport) => DROP_ID_FOREIGN,
                _ => reason,
            };
        }
        return reason;
    }
    if is_martian(source, packet.version, interface == LOOPBACK) {
        return DROP_MARTIAN;
    }
    let Some(end) = end(context, frame, packet) else {
        return DROP_MALFORMED;
    };
    let reason = admit::judge(frame, packet, config, end);
    if reason >= FIRST_ANSWER && interface != LOOPBACK && is_ours(config, source, packet.version) {
        // An answer would go to ourselves, by way of whoever sent this.
        return DROP_MARTIAN;
    }
    if packet.protocol == parse::TCP && matches!(reason, PASS_ATTEMPT | PASS_BUDGETED) {
        count::add(COUNT_SYN);
    }
    reason
}

/// The two ends of a packet, network order; IPv4 addresses as they are in the map `LOCAL`. No enum:
/// every word has a value on every way, which verifiers before Linux 6.4 insist on.
struct Ends {
    source: [u32; 4],
    destination: [u32; 4],
}

/// Whether no packet on a wire comes from an address of this IP version. RFC 1122 section 3.2.1.3
/// and RFC 4291 sections 2.5.2, 2.5.3 and 2.7 for the unspecified address, loopback, multicast and
/// broadcast; IPv4-mapped ones exist in programs only (RFC 4291 section 2.5.5.2).
#[inline(always)]
fn is_martian([a, b, c, d]: [u32; 4], version: u8, loopback: bool) -> bool {
    if version == 4 {
        let [first, ..] = d.to_ne_bytes();
        return first == 0 || (first == 127 && !loopback) || first & 0xf0 == 224 || d == u32::MAX;
    }
    a.to_ne_bytes()[0] == 0xff
        || (a | b | c == 0 && (d == 0 || (d == 1_u32.to_be() && !loopback)))
        || (a | b == 0 && c == 0xffff_u32.to_be())
}

/// Whether an address of this IP version is the node's.
#[inline(always)]
fn is_ours(config: &Config, address: [u32; 4], version: u8) -> bool {
    let home = match version {
        4 => config.homes.has_v4(address[3]),
        _ => config.homes.has_v6(address),
    };
    home || is_local(address)
}

#[inline(always)]
fn ends(frame: &Frame, packet: &Packet) -> Option<Ends> {
    if packet.version == 4 {
        let header = frame.header::<20>(packet.network)?;
        return Some(Ends {
            source: mapped(header.word::<12>()),
            destination: mapped(header.word::<16>()),
        });
    }
    let header = frame.header::<40>(packet.network)?;
    Some(Ends {
        source: [
            header.word::<8>(),
            header.word::<12>(),
            header.word::<16>(),
            header.word::<20>(),
        ],
        destination: [
            header.word::<24>(),
            header.word::<28>(),
            header.word::<32>(),
            header.word::<36>(),
        ],
    })
}

#[inline(always)]
fn is_local(address: [u32; 4]) -> bool {
    LOCAL.get(admit::Prefix { length: 128, address }.as_key()).is_some()
}

/// Where the IP packet ends, if it ends within the frame and reaches beyond the TCP header or the
/// UDP datagram in it: else the host's stack would drop it, and an answer would be longer than what
/// was sent.
#[inline(always)]
fn end(context: &XdpContext, frame: &Frame, packet: &Packet) -> Option<usize> {
    let length = if packet.version == 4 {
        usize::from(frame.header::<20>(packet.network)?.short::<2>())
    } else {
        40 + usize::from(frame.header::<40>(packet.network)?.short::<4>())
    };
    let end = packet.network + length;
    let inner = if packet.protocol == parse::TCP {
        usize::from(frame.header::<20>(packet.transport)?.byte::<12>() >> 4) << 2
    } else {
        usize::from(frame.header::<UDP>(packet.transport)?.short::<4>())
    };
    if packet.transport + inner > end || end > whole(context, frame) {
        return None;
    }
    Some(end)
}

/// Bytes of the packet: more than lie in the frame's first buffer, if it has several.
#[inline(always)]
pub fn whole(context: &XdpContext, frame: &Frame) -> usize {
    // SAFETY: a constant of the program's, which the loader may have replaced: so the compiler must
    // not know it. The verifier does, and does not see the helper where the kernel has none (before
    // Linux 5.18).
    if unsafe { (&raw const FRAGMENTED).read_volatile() } == 0 {
        return frame.length();
    }
    // SAFETY: asks about the frame that the program was called for.
    unsafe { bpf_xdp_get_buff_len(context.as_ptr().cast()) as usize }
}

/// In lockdown: whether a QUIC packet that starts no connection may belong to one, by the id that
/// the daemon gave out. Early data goes to an id that the client or a Retry chose, and passes.
#[inline(always)]
fn is_connected(frame: &Frame, datagram: usize) -> bool {
    let Some(lockdown) = LOCKDOWN.get(0) else {
        return true;
    };
    if lockdown.flags & ON == 0 {
        return true;
    }
    let Some(header) = frame.header::<{ UDP + 1 + cid::LENGTH }>(datagram) else {
        return false;
    };
    let first = header.byte::<UDP>();
    let id = if first & 0x80 == 0 {
        header.long::<{ UDP + 1 }>()
    } else {
        match first >> 4 & 3 {
            ZERO_RTT => return true,
            HANDSHAKE => {}
            // A server's.
            _ => return false,
        }
        let Some(header) = frame.header::<{ UDP + 6 + cid::LENGTH }>(datagram) else {
            return false;
        };
        if header.byte::<{ UDP + 5 }>() as usize != cid::LENGTH {
            return false;
        }
        header.long::<{ UDP + 6 }>()
    };
    let alive = ALIVE.get(0).copied().unwrap_or_default();
    cid::decode(lockdown.cid_key(), id).is_some_and(|route| cid::lives(alive, route))
}
