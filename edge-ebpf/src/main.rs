//! The XDP program `edge`: judges every packet of an interface in the order of ARCHITECTURE.md's
//! life of a packet.
//!
//! The network driver (or, in generic mode, the stack's entrance) hands it a frame; it answers PASS
//! or DROP and counts the reason. `parse` says what the packet is, `judge` whether it is the node's
//! to judge, `admit` asks the operator's lists about attempts, and `gate` penalties and, by
//! `token`, tokens; `count` keeps the numbers and the samples.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod admit;
mod answer;
mod cookie;
mod count;
mod gate;
mod judge;
mod parse;
mod place;
mod retry;
mod steer;
mod token;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action},
    macros::{map, sk_reuseport, xdp},
    maps::{Array, HashMap, LpmTrie, PerCpuArray, ReusePortSockArray, RingBuf},
    programs::{SkReuseportContext, XdpContext},
};
use edge_common::{
    ACKS_CHECKED, ANSWER_COOKIE, ANSWER_RETRY, BARE_DEVICES, BARES, COUNTERS_CAPACITY, Config, DROP_MALFORMED, Entry,
    FIRST_DROP, LOCALS, LOCKDOWN_ON, PASS_ESTABLISHED, V4_BUCKETS, Verdict,
    lockdown::{Cookies, Lockdown},
    replay,
    steering::{self, Listener, Steering},
    table,
    token::{KEYS as TOKEN_KEYS, TRANSLATORS as TRANSLATOR_COUNT, TokenKey},
    verdict,
};

use crate::parse::{Class, Packet};

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_CAPACITY, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);
// The daemon sets the lists' sizes when it loads the program. NO_PREALLOC: memory for the entries
// there are, not for those there might be; entries are only ever written by system calls, where
// allocation may fail safely.
#[map]
static V4: HashMap<u64, Entry> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static V4_LENGTHS: Array<u64> = Array::with_max_entries(V4_BUCKETS, 0);
#[map]
static V6_EXACT: HashMap<[u32; 4], Entry> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static V6_PREFIX: LpmTrie<[u32; 4], Entry> = LpmTrie::with_max_entries(1, 0);
// The node's addresses; empty until the daemon has written them: then nothing is the node's.
#[map]
static LOCAL: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(LOCALS, 0);
#[map]
static BARE: HashMap<u32, u32> = HashMap::with_max_entries(BARES, 0);
#[map]
static ALIVE: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static BARRED: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static CLOCK: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static LOCKDOWN: Array<Lockdown> = Array::with_max_entries(1, 0);
#[map]
static COOKIES: Array<Cookies> = Array::with_max_entries(1, 0);
// Where `cookie` keeps a question's TCP header and its answer's.
#[map]
static SEGMENT: PerCpuArray<cookie::Segment> = PerCpuArray::with_max_entries(1, 0);
// Where `retry` writes an answer: the program's own, and this processor's.
#[map]
static SCRATCH: PerCpuArray<[u64; retry::SCRATCH_BYTES / 8]> = PerCpuArray::with_max_entries(1, 0);
#[map]
static KEYS: Array<TokenKey> = Array::with_max_entries(TOKEN_KEYS as u32, 0);
// The number of the last tick that was looked at, and the coarse clock then: the program's own.
#[map]
static TICK: Array<[u64; 2]> = Array::with_max_entries(1, 0);
// Sized when the program is loaded, like the next ones: no storm makes them grow. MMAPABLE: the
// daemon writes them through its memory, and they begin at a page, so that an element is one cache
// line.
#[map]
static PENALTIES: Array<table::Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static PENALTY_FRONT: Array<table::Front> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Elements of `PENALTIES`. As `REPLAY_SETS`.
#[unsafe(no_mangle)]
static PENALTY_BUCKETS: u32 = 1;
// The only map that packets insert into, and only those with a genuine token.
#[map]
static REPLAY: Array<replay::Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Elements of `REPLAY`: the daemon writes the number here when it loads the program, and the
/// verifier takes it for a constant.
#[unsafe(no_mangle)]
static REPLAY_SETS: u32 = 1;

/// Networks of translators: of each its first eight bytes, and the next four; zeros after the last.
/// As `REPLAY_SETS`.
#[unsafe(no_mangle)]
static TRANSLATORS: [u64; 2 * TRANSLATOR_COUNT] = [0; 2 * TRANSLATOR_COUNT];

/// Not 0: the program is loaded as one whose packets may lie in several buffers (Linux 5.18). As
/// `REPLAY_SETS`.
#[unsafe(no_mangle)]
static FRAGMENTED: u32 = 0;

// What `steer` picks a socket by.
#[map]
static STEERING: Array<Steering> = Array::with_max_entries(1, 0);
#[map]
static LISTENERS: HashMap<Listener, u32> = HashMap::with_max_entries(steering::LISTENERS, 0);
#[map]
static SOCKETS: ReusePortSockArray = ReusePortSockArray::with_max_entries(steering::SLOTS, 0);

/// Entry point: one frame in, one verdict out, one counter up.
#[xdp(frags)]
pub fn edge(context: XdpContext) -> u32 {
    run(&context)
}

/// The same for kernels before Linux 5.18, which give programs only packets of one buffer.
#[xdp]
pub fn edge_linear(context: XdpContext) -> u32 {
    run(&context)
}

#[inline(always)]
fn run(context: &XdpContext) -> u32 {
    let Some(config) = CONFIG.get(0) else {
        // The verifier wants this arm; an array's only element is always there.
        return xdp_action::XDP_PASS;
    };
    let frame = place::frame(context);
    let packet = parse::classify(&frame, config, is_bare(context, config));
    let reason = match packet.class {
        Class::Known(reason) if passes(reason, &packet, config) => {
            count::add(reason);
            return xdp_action::XDP_PASS;
        }
        _ => {
            place::keep(&packet);
            judge::edge_judge(context.as_ptr().cast()) as u32
        }
    };
    let (reason, answered) = match reason {
        ANSWER_RETRY => match retry::answer(context) {
            Some(()) => (reason, true),
            None => (DROP_MALFORMED, false),
        },
        ANSWER_COOKIE => (cookie::edge_cookie(context.as_ptr().cast()) as u32, false),
        _ => (reason, true),
    };
    let counted = count::add(reason);
    match verdict(reason) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Answer => xdp_action::XDP_TX,
        Verdict::Drop => {
            // A frame that could not be answered may have been turned around already.
            if answered && count::sampled(config, counted) {
                count::sample(context, reason);
            }
            xdp_action::XDP_DROP
        }
    }
}

/// Whether a packet passes without a closer look. In lockdown those of QUIC connections get one,
/// and under a flood of ACKs those of TCP.
#[inline(always)]
const fn passes(reason: u32, packet: &Packet, config: &Config) -> bool {
    let looks = if packet.protocol == parse::UDP {
        LOCKDOWN_ON
    } else {
        ACKS_CHECKED
    };
    reason < FIRST_DROP && (reason != PASS_ESTABLISHED || config.flags & looks == 0)
}

/// Whether the interface's packets begin with the IP header.
#[inline(always)]
fn is_bare(context: &XdpContext, config: &Config) -> bool {
    // SAFETY: the entry is looked for, not at.
    config.flags & BARE_DEVICES != 0 && unsafe { BARE.get(place::interface(context)) }.is_some()
}

/// Entry point of another program: one UDP datagram in, one of the sockets bound to its address
/// out.
#[sk_reuseport]
pub fn steer(context: SkReuseportContext) -> u32 {
    steer::pick(&context);
    // Where nothing was picked, the kernel's hash does.
    aya_ebpf::bindings::sk_action::SK_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel offers some helpers to GPL-compatible programs only; this string is how it asks.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
