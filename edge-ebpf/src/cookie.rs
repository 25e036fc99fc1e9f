//! Answers a TCP SYN with a SYN cookie of the kernel's own (RFC 4987 section 3.6), so that the
//! listener accepts the client's ACK as after a cookie that the kernel sent: a flood of SYNs costs
//! an answer each, and no memory. `edge` hands it the frame after `gate` has asked for it, with the
//! place of its headers kept.
//!
//! Each SYN is looked up. One that finds no listener is the kernel's to reset, and one that finds
//! another socket is a client that uses a port again while the listener's side is in TIME_WAIT: its
//! ACK would meet that socket, so the kernel answers, which is no matter, since an attacker who
//! could choose such ports has a connection for each.
//!
//! The answer has only options that the question had, so it is never longer. Window scale, SACK and
//! ECN are told in the low six bits of the timestamp, where the kernel reads them from the echo
//! (net/ipv4/syncookies.c); the maximum segment size is in the cookie.
//!
//! Options are read and written by functions of their own, with names, so that the verifier looks
//! at each once; what they find goes by way of memory, about which it forgets.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, xdp_md},
    helpers::{
        bpf_csum_diff, bpf_ktime_get_ns, bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
        bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail,
    },
    programs::XdpContext,
};
use edge_common::{
    ANSWER_COOKIE, DROP_ACK, DROP_COOKIE, DROP_MALFORMED, PASS_ATTEMPT, PASS_ESTABLISHED, lockdown::COOKIES_OPTIONS,
};

use crate::{
    COOKIES, SEGMENT,
    answer::{addresses, fold, load, store, turn, words},
    judge::whole,
    parse::{TCP, pinned},
    place,
};

/// A TCP header without options, and with all that fit.
const LEAST: usize = 20;
const MOST: usize = 60;
/// Words of the longest answer: the header, MSS, timestamps with SACK permitted, window scale.
const WORDS: usize = 10;
/// TCP flags.
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;
const ECE: u32 = 0x40;
const CWR: u32 = 0x80;
/// A socket's state (linux/bpf.h).
const LISTEN: u32 = 10;
/// In the network namespace of the interface.
const HERE: u64 = u64::MAX;
/// No window scale.
const UNSCALED: u32 = 15;
/// RFC 7323 section 2.3.
const MOST_SCALED: u32 = 14;
/// The bits of a timestamp in which the kernel keeps options.
const OPTION_BITS: u32 = 0x3f;
/// The shortest Ethernet frame without its checksum, for cards that do not pad.
const SHORTEST: usize = 60;

/// A question's TCP header and what is in it, and its answer's.
#[repr(C)]
pub struct Segment {
    /// The header with its options, and room behind it: options are read ten bytes at a time from
    /// wherever they are, and the verifier knows of a header's length what a mask tells.
    question: [u32; 24],
    answer: [u32; 16],
    /// Bytes of the question's header.
    length: u32,
    /// Where the next option is.
    at: u32,
    /// 0: none was offered.
    mss: u32,
    /// [`UNSCALED`]: none was offered.
    scale: u32,
    sack: u32,
    /// There is a timestamp, and which.
    stamped: u32,
    stamp: u32,
    /// The question's flags.
    flags: u32,
}

const ANSWER: usize = core::mem::offset_of!(Segment, answer);
const LENGTH: usize = core::mem::offset_of!(Segment, length);
const AT: usize = core::mem::offset_of!(Segment, at);
const MSS: usize = core::mem::offset_of!(Segment, mss);
const SCALE: usize = core::mem::offset_of!(Segment, scale);
const SACK: usize = core::mem::offset_of!(Segment, sack);
const STAMPED: usize = core::mem::offset_of!(Segment, stamped);
const STAMP: usize = core::mem::offset_of!(Segment, stamp);
const FLAGS: usize = core::mem::offset_of!(Segment, flags);

const _: () = {
    assert!(core::mem::offset_of!(Segment, question) == 0);
    // Masked places of options, and the ten bytes from there.
    assert!(63 + 10 <= ANSWER && LEAST + 63 <= ANSWER && 4 * WORDS <= 64);
};

/// Reads a word that another function may have written.
///
/// # Safety
/// Four bytes at `address` are readable and aligned.
#[inline(always)]
unsafe fn fresh(address: usize) -> u32 {
    // SAFETY: by contract.
    unsafe { (address as *const u32).read_volatile() }
}

/// Copies the question's header and reads its options; 0 if that could be done. An option that is
/// not one ends them, as in the kernel.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn edge_options(context: *mut xdp_md) -> u64 {
    match options(&XdpContext::new(context)) {
        Some(()) => 0,
        None => 1,
    }
}

#[inline(always)]
fn options(context: &XdpContext) -> Option<()> {
    let segment = SEGMENT.get_ptr_mut(0)? as usize;
    let packet = place::kept()?;
    let frame = place::frame(context);
    let header = frame.header::<LEAST>(packet.transport)?;
    let length = usize::from(header.byte::<12>() >> 4) << 2;
    if length < LEAST {
        return None;
    }
    // SAFETY: within the segment, which is this processor's own; a header of 15 words at most.
    unsafe {
        let mut word = 0;
        while word < MOST {
            if word >= length {
                break;
            }
            store(segment + word, frame.header::<4>(packet.transport + word)?.word::<0>());
            word += 4;
        }
        store(segment + LENGTH, length as u32);
        store(segment + AT, LEAST as u32);
        store(segment + MSS, 0_u32);
        store(segment + SCALE, UNSCALED);
        store(segment + SACK, 0_u32);
        store(segment + STAMPED, 0_u32);
        store(segment + FLAGS, u32::from(header.byte::<13>()));
        let mut turn = 0;
        while turn < MOST - LEAST {
            turn += 1;
            // Place and length are read from memory anew in each turn: else the verifier follows
            // every sum of lengths.
            let (at, end) = (fresh(segment + AT), fresh(segment + LENGTH));
            if at >= end {
                break;
            }
            let option = segment + (pinned(at as usize) & 63);
            let kind = load::<u8>(option);
            let size = u32::from(load::<u8>(option + 1));
            let size = match kind {
                0 => break,
                1 => 1,
                _ if size < 2 || size > end - at => break,
                _ => size,
            };
            (segment as *mut u8).add(AT).cast::<u32>().write_volatile(at + size);
            match (kind, size) {
                (2, 4) => store(segment + MSS, u32::from(u16::from_be(load(option + 2)))),
                (3, 3) => store(segment + SCALE, u32::from(load::<u8>(option + 2)).min(MOST_SCALED)),
                (4, 2) => store(segment + SACK, 1_u32),
                (8, 10) => {
                    store(segment + STAMPED, 1_u32);
                    store(segment + STAMP, load::<u32>(option + 2));
                }
                _ => {}
            }
        }
    }
    Some(())
}

/// Writes flags, window and options of the answer, for IPv4 if `four` is not 0; how many words it
/// has then.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn edge_synack(four: u64) -> u64 {
    write(four != 0).unwrap_or(0)
}

#[inline(always)]
fn write(four: bool) -> Option<u64> {
    let segment = SEGMENT.get_ptr_mut(0)? as usize;
    let cookies = COOKIES.get(0)?;
    let answer = segment + ANSWER;
    let mut flags = SYN | ACK;
    let mut words = 5;
    // SAFETY: within the segment, which is this processor's own: at most ten words are written.
    unsafe {
        if load::<u32>(segment + MSS) != 0 {
            let mss = if four { cookies.mss4 } else { cookies.mss6 };
            store(answer + 4 * words, (2 << 24 | 4 << 16 | u32::from(mss)).to_be());
            words += 1;
        }
        if load::<u32>(segment + STAMPED) != 0 && cookies.flags & COOKIES_OPTIONS != 0 {
            let (scale, sack) = (load::<u32>(segment + SCALE), load::<u32>(segment + SACK));
            let mut kept = scale | sack << 4;
            if load::<u32>(segment + FLAGS) & (ECE | CWR) == ECE | CWR {
                kept |= 1 << 5;
                flags |= ECE;
            }
            // The clock that the kernel goes on with, in milliseconds, and never ahead of it.
            let now = (bpf_ktime_get_ns() / 1_000_000) as u32;
            let mut stamp = now & !OPTION_BITS | kept;
            if stamp.wrapping_sub(now) as i32 > 0 {
                stamp = stamp.wrapping_sub(OPTION_BITS + 1);
            }
            let front: u32 = if sack != 0 {
                4 << 24 | 2 << 16
            } else {
                1 << 24 | 1 << 16
            };
            store(answer + 4 * words, (front | 8 << 8 | 10).to_be());
            store(answer + 4 * words + 4, stamp.to_be());
            store(answer + 4 * words + 8, load::<u32>(segment + STAMP));
            words += 3;
            if scale != UNSCALED {
                store(
                    answer + 4 * words,
                    (1 << 24 | 3 << 16 | 3 << 8 | u32::from(cookies.scale & 15)).to_be(),
                );
                words += 1;
            }
        }
        let front = (words as u32) << 28 | flags << 16 | u32::from(cookies.window);
        store(answer + 12, front.to_be());
    }
    Some(words as u64)
}

/// The reason for the verdict on the SYN whose place is kept, which has been answered if that says
/// so.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn edge_cookie(context: *mut xdp_md) -> u64 {
    answer(&XdpContext::new(context)).unwrap_or(DROP_MALFORMED).into()
}

#[inline(always)]
fn answer(context: &XdpContext) -> Option<u32> {
    if edge_options(context.as_ptr().cast()) != 0 {
        return None;
    }
    let segment = SEGMENT.get_ptr_mut(0)? as usize;
    let packet = place::kept()?;
    let four = packet.version == 4;
    let frame = place::frame(context);
    let ends = addresses(&frame, packet.network, four)?;
    let question = frame.header::<LEAST>(packet.transport)?;
    let (ports, number) = (question.word::<0>(), u32::from_be(question.word::<4>()));
    // Of IPv4 the TCP header follows, so that there are so many bytes either way.
    let network = frame.writable::<40>(packet.network)?;
    // A sum, not a comparison: verifiers before Linux 6.9 must see that it is not zero wherever the
    // compiler keeps it. SAFETY: within the segment.
    let length = LEAST + (pinned(unsafe { fresh(segment + LENGTH) } as usize - LEAST) & 63);
    let socket = find(context, ends, ports, four);
    if socket.is_null() {
        return Some(PASS_ATTEMPT);
    }
    // SAFETY: a socket that was found, and is held until it is released; IP header and TCP header
    // are there, of these lengths.
    let cookie = unsafe {
        if (&raw const (*socket).state).read_volatile() != LISTEN {
            bpf_sk_release(socket.cast());
            return Some(PASS_ATTEMPT);
        }
        let cookie = bpf_tcp_gen_syncookie(socket.cast(), network as *mut _, 40, segment as *mut _, length as u32);
        bpf_sk_release(socket.cast());
        cookie
    };
    if cookie < 0 {
        return Some(DROP_COOKIE);
    }
    let size = 4 * (pinned(edge_synack(four.into()) as usize) & 15);
    if !(LEAST..=4 * WORDS).contains(&size) {
        return None;
    }
    let out = segment + ANSWER;
    // SAFETY: within the segment; the sum goes over `size` bytes of it.
    let sum = unsafe {
        store(out, ports.rotate_left(16));
        store(out + 4, (cookie as u32).to_be());
        store(out + 8, number.wrapping_add(1).to_be());
        store(out + 16, 0_u32);
        bpf_csum_diff(core::ptr::null_mut(), 0, out as *mut u32, size as u32, 0)
    };
    let pseudo = words(ends.0) + words(ends.1) + u64::from((size as u16).to_be()) + u64::from(u16::from(TCP).to_be());
    // SAFETY: within the segment.
    unsafe { store(out + 16, u32::from(fold(pseudo + u64::from(sum as u32)))) };

    let header = if four { 20 } else { 40 };
    let end = packet.network + header + size;
    let end = if packet.network != 0 && end < SHORTEST {
        SHORTEST
    } else {
        end
    };
    let before = whole(context, &frame);
    if end > before {
        return None;
    }
    // SAFETY: the kernel checks what it is asked against the packet.
    if unsafe { bpf_xdp_adjust_tail(context.as_ptr().cast(), end as i32 - before as i32) } != 0 {
        return None;
    }
    let frame = place::frame(context);
    let at = packet.network + turn(&frame, packet.network, four, ends, size as u16, TCP)?;
    let mut word = 0;
    while word < 4 * WORDS {
        if word >= size {
            break;
        }
        let to = frame.writable::<4>(at + word)?;
        // SAFETY: four bytes of the packet that were found to be there, and four of the segment.
        unsafe { store(to, load::<u32>(out + word)) };
        word += 4;
    }
    Some(ANSWER_COOKIE)
}

/// The socket that a segment from the client would meet; to be released if it is one.
#[inline(always)]
fn find(context: &XdpContext, ends: ([u64; 2], [u64; 2]), ports: u32, four: bool) -> *mut bpf_sock {
    let ([client, client_rest], [ours, ours_rest]) = ends;
    // `struct bpf_sock_tuple`: source, destination, source port and destination port, in network
    // order.
    let mut tuple = [0_u32; 9];
    let size = if four {
        tuple[0] = client as u32;
        tuple[1] = ours as u32;
        tuple[2] = ports;
        12
    } else {
        tuple = [
            client as u32,
            (client >> 32) as u32,
            client_rest as u32,
            (client_rest >> 32) as u32,
            ours as u32,
            (ours >> 32) as u32,
            ours_rest as u32,
            (ours_rest >> 32) as u32,
            ports,
        ];
        36
    };
    // SAFETY: a tuple of that size.
    unsafe { bpf_skc_lookup_tcp(context.as_ptr(), tuple.as_mut_ptr().cast(), size, HERE, 0) }
}

/// Under a flood of ACKs: the reason for the verdict on a segment without SYN whose place is kept.
/// It passes if there is a connection for it, or one that it completes by a cookie.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn edge_ack(context: *mut xdp_md) -> u64 {
    check(&XdpContext::new(context)).unwrap_or(PASS_ESTABLISHED).into()
}

#[inline(always)]
fn check(context: &XdpContext) -> Option<u32> {
    let packet = place::kept()?;
    let four = packet.version == 4;
    let frame = place::frame(context);
    let ends = addresses(&frame, packet.network, four)?;
    let segment = frame.header::<LEAST>(packet.transport)?;
    // What has no ACK the kernel forgets without an answer, and RST too.
    if u32::from(segment.byte::<13>()) & ACK == 0 {
        return None;
    }
    let network = frame.writable::<40>(packet.network)?;
    let header = frame.writable::<LEAST>(packet.transport)?;
    let socket = find(context, ends, segment.word::<0>(), four);
    if socket.is_null() {
        return None;
    }
    // SAFETY: a socket that was found, and is held until it is released; IP header and TCP header
    // are there, of these lengths.
    unsafe {
        let refused = (&raw const (*socket).state).read_volatile() == LISTEN
            && bpf_tcp_check_syncookie(socket.cast(), network as *mut _, 40, header as *mut _, LEAST as u32) != 0;
        bpf_sk_release(socket.cast());
        refused.then_some(DROP_ACK)
    }
}
