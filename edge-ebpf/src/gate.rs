//! Judges an attempt that is on no list, by the penalties and keys that the daemon's gate feeds.
//! `admit` hands it the attempt and the client's prefix. It is a filter, never the authority: the
//! daemon checks in full what passes here.
//!
//! A valid and mature token of a QUIC Initial says who comes: then the client's own penalty
//! decides, and its address's does not apply, so that neighbours behind one address do not pay for
//! each other. Any other attempt is the address's, and that of the networks around it: whichever is
//! hardest decides. What an operator has said of an address holds for bearers of tokens, too.
//!
//! # What an attacker can displace
//! Of penalties nothing, by packets: look-ups never insert. The daemon inserts, for validated
//! addresses and proven clients only, and says which penalty goes when there is no room
//! ([`table`]).
//!
//! The counts of tokens ([`replay`]) are inserted by packets, but only by those with a genuine
//! token, which the daemon (or a Retry) gave to that address, and in lockdown by Initials with a
//! connection id of ours, which a client learns by a handshake. Where there is no room the smallest
//! count goes.
//!
//! # Races
//! What a program sees of a penalty while the daemon writes it, [`table`] says: one attempt may be
//! judged by half of an older one. Two processors that take from one budget at once are told apart
//! by a compare-and-swap; the loser's attempt counts as beyond the budget, and a client's own
//! repetition of it will not. What races make of tokens' counts [`replay::admit`] says.

use core::sync::atomic::AtomicU64;

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use edge_common::{
    ANSWER_COOKIE, ANSWER_RETRY, DROP_CLIENT_PENALTY, DROP_ID_REPLAYED, DROP_MALFORMED, DROP_PENALTY_BLOCKED,
    DROP_PENALTY_DEFERRED, DROP_TOKEN_BAD, DROP_TOKEN_EARLY, DROP_TOKEN_REPLAYED, DROP_VERSION, FIRST_DROP,
    PASS_ATTEMPT, PASS_BUDGETED, PASS_TOKEN, cid,
    lockdown::{COOKIES_ON, ON},
    penalty::{Judgement, SECOND, SOME_BARRED, SOME_NETWORKS, address_key, is_v4, network_key, site_key},
    replay, retry,
    table::{self, Kind, Spread, Subject, Way},
    token::{self as wait, Prefix, TokenKey, Translator, Verdict},
};

use crate::{
    ALIVE, BARRED, CLOCK, COOKIES, KEYS, LOCKDOWN, PENALTIES, PENALTY_BUCKETS, PENALTY_FRONT, REPLAY, REPLAY_SETS,
    TICK, TRANSLATORS,
    parse::{self, Class, Frame, Packet},
    token,
};

/// Bytes of a UDP header (RFC 768).
const UDP: usize = 8;

/// The reason for the verdict on an attempt on no list, in a packet that ends at `end`.
#[inline(always)]
pub fn judge(frame: &Frame, packet: &Packet, end: usize) -> u32 {
    let Some(prefix) = prefix(frame, packet) else {
        // The verifier wants this arm; `parse` has seen the header.
        return PASS_ATTEMPT;
    };
    let key = address_key(prefix);
    if packet.class == Class::Initial {
        let Some((at, length)) = token::find(frame, packet.transport + UDP, end) else {
            return DROP_MALFORMED;
        };
        let mut proven = false;
        if length >= wait::HEADER && !is_barred(key) {
            match judged(frame, packet, prefix, (at, length)).unwrap_or(Said::Nothing) {
                Said::Reason(reason) => return reason,
                Said::Address => proven = true,
                Said::Nothing => {}
            }
        }
        if !proven && let Some(reason) = locked_down(frame, packet, key) {
            return reason;
        }
    } else if packet.protocol == parse::TCP {
        return syn(key);
    } else if LOCKDOWN.get(0).is_some_and(|lockdown| lockdown.flags & ON != 0) {
        return DROP_VERSION;
    }
    by_address(key)
}

/// What becomes of a TCP SYN of this address: its penalty says so, and what that lets through is
/// answered with a cookie in lockdown.
#[inline(always)]
fn syn(key: u64) -> u32 {
    let reason = by_address(key);
    if reason >= FIRST_DROP {
        return reason;
    }
    match COOKIES.get(0) {
        Some(cookies) if cookies.flags & COOKIES_ON != 0 => ANSWER_COOKIE,
        _ => reason,
    }
}

/// What the penalties of an address and of the networks around it make of an attempt: the hardest
/// of them. The address's own is asked first, so that who is held back by it takes nothing of what
/// its neighbours have. Networks cost nothing while none is penalised.
#[inline(always)]
fn standing(key: u64, how: u64) -> u64 {
    let own = edge_penalty(key, how | ADDRESS);
    if own > BUDGETED || !has(SOME_NETWORKS) {
        return own;
    }
    let network = edge_penalty(network_key(key), how | NETWORK);
    if network > BUDGETED {
        return network;
    }
    let site = if is_v4(key) {
        OVER
    } else {
        edge_penalty(site_key(key), how | SITE)
    };
    if site > BUDGETED {
        return site;
    }
    // 0 and 1 are left.
    own | network | site
}

/// Whether there may be penalties of a sort, see [`SOME_BARRED`].
#[inline(always)]
fn has(sort: u32) -> bool {
    BARRED.get(0).is_some_and(|some| *some & sort != 0)
}

#[inline(always)]
fn by_address(key: u64) -> u32 {
    match standing(key, TAKE) {
        OVER => PASS_ATTEMPT,
        BUDGETED => PASS_BUDGETED,
        DEFERRED => DROP_PENALTY_DEFERRED,
        _ => DROP_PENALTY_BLOCKED,
    }
}

/// Whether an operator's penalty is in force against an address. Without a look-up while there is
/// none at all.
#[inline(always)]
fn is_barred(key: u64) -> bool {
    has(SOME_BARRED) && edge_penalty(key, BAR | ADDRESS) != OVER
}

/// In lockdown, what becomes of an Initial that proves nothing: a Retry, unless its address is
/// blocked or its budget used up. Budgets are not taken from here: the client comes again, with the
/// token. One whose handshake is under way passes, as often as a handshake needs: it has an id of
/// ours by then, of a daemon that lives. An id of a dead one is as good as none.
#[inline(always)]
fn locked_down(frame: &Frame, packet: &Packet, key: u64) -> Option<u32> {
    let lockdown = LOCKDOWN.get(0)?;
    if lockdown.flags & ON == 0 {
        return None;
    }
    let front = frame.header::<{ 6 + cid::LENGTH }>(packet.transport + UDP)?;
    match front.byte::<5>() {
        // RFC 9000 section 7.2: a client's first id is longer than that.
        ..8 => return Some(DROP_MALFORMED),
        8 => {
            let alive = ALIVE.get(0).copied().unwrap_or_default();
            if let Some((route, counted)) = cid::open(lockdown.cid_key(), front.long::<6>())
                && cid::lives(alive, route)
            {
                return replayed(counted).then_some(DROP_ID_REPLAYED);
            }
        }
        _ => {}
    }
    Some(match standing(key, LOOK) {
        OVER | BUDGETED => ANSWER_RETRY,
        DEFERRED => DROP_PENALTY_DEFERRED,
        _ => DROP_PENALTY_BLOCKED,
    })
}

/// What a token says.
enum Said {
    /// The verdict's reason.
    Reason(u32),
    /// That it came from the address it was given to, and no more.
    Address,
    /// Nothing: it is as good as none (RFC 9000 section 8.1.3).
    Nothing,
}

/// What a token of ours says; `None`: nothing.
#[inline(always)]
fn judged(frame: &Frame, packet: &Packet, prefix: Prefix, (at, length): (usize, usize)) -> Option<Said> {
    let kind = frame.header::<1>(at)?.byte::<0>();
    // A Retry token of the daemon's own has a header behind its first byte.
    let sealed = kind == retry::SEALED_MAGIC;
    let header = frame.header::<{ wait::HEADER }>(if sealed { at + 1 } else { at })?;
    let words = [
        header.long::<0>(),
        header.long::<8>(),
        header.long::<16>(),
        header.long::<24>(),
    ];
    let key = KEYS.get(wait::key_index(words[0]))?;
    if kind == retry::MAGIC && length == retry::LENGTH {
        return by_retry(frame, packet, key, at);
    }
    if kind != wait::MAGIC && !sealed {
        return None;
    }
    let verdict = wait::verify(words, wait::QUIC, prefix, key, seconds()?);
    if sealed {
        return match verdict {
            Verdict::Valid if replayed(words[3]) => Some(Said::Reason(DROP_TOKEN_REPLAYED)),
            Verdict::Valid => Some(Said::Address),
            _ => None,
        };
    }
    match verdict {
        Verdict::Valid => Some(Said::Reason(
            match edge_penalty(wait::client(words, key), TAKE | CLIENT) {
                OVER | BUDGETED => {
                    if replayed(words[3]) {
                        DROP_TOKEN_REPLAYED
                    } else {
                        PASS_TOKEN
                    }
                }
                _ => DROP_CLIENT_PENALTY,
            },
        )),
        Verdict::Early => Some(Said::Reason(DROP_TOKEN_EARLY)),
        Verdict::NotAToken | Verdict::UnknownKey | Verdict::Expired | Verdict::BadMac => None,
    }
}

/// A Retry token proves an address and nobody's identity: a good one is a newcomer's, whom the
/// address's penalty judges. A client that shows a bad one does not accept another Retry, so its
/// packet is dropped (RFC 9000 section 8.1.2). One that came too often does not take from the
/// budget that its address's neighbours share.
#[inline(always)]
fn by_retry(frame: &Frame, packet: &Packet, key: &TokenKey, at: usize) -> Option<Said> {
    let token = frame.header::<{ retry::LENGTH }>(at)?;
    let words = [
        token.long::<0>(),
        token.long::<8>(),
        token.long::<16>(),
        token.long::<24>(),
        token.long::<32>(),
        token.long::<40>(),
        token.long::<48>(),
        token.long::<56>(),
        token.long::<64>(),
    ];
    let address = if packet.version == 4 {
        [u64::from(frame.header::<20>(packet.network)?.word::<12>()), 0]
    } else {
        let header = frame.header::<40>(packet.network)?;
        [header.long::<8>(), header.long::<16>()]
    };
    let from = retry::Source {
        address,
        port: frame.header::<2>(packet.transport)?.short::<0>(),
        family: packet.version,
    };
    match retry::verify(words, from, key, seconds()?) {
        Verdict::BadMac | Verdict::Expired => Some(Said::Reason(DROP_TOKEN_BAD)),
        Verdict::Valid if replayed(words[8]) => Some(Said::Reason(DROP_TOKEN_REPLAYED)),
        Verdict::Valid => Some(Said::Address),
        _ => None,
    }
}

/// Whether the genuine token with this MAC has come too often; counts it.
#[inline(always)]
fn replayed(mac: u64) -> bool {
    edge_replayed(mac) != 0
}

/// The same as a number. With a name of its own it is a global function, which the verifier looks
/// at once, whatever it is called with, and not again for each way there.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn edge_replayed(mac: u64) -> u64 {
    // SAFETY: a constant of the program's, which the loader may have replaced: so the compiler must
    // not know it.
    let count = unsafe { (&raw const REPLAY_SETS).read_volatile() };
    let [one, other] = replay::places(mac, count);
    let (Some(one), Some(other)) = (REPLAY.get(one), REPLAY.get(other)) else {
        // The verifier wants this arm.
        return 0;
    };
    let swap = |word: &AtomicU64, old, new| {
        // SAFETY: an aligned word of a map's value, which the program may write.
        unsafe { swap(word.as_ptr(), old, new) }
    };
    u64::from(!replay::admit([one, other], mac, now(), swap))
}

/// What [`edge_penalty`] is asked: what a penalty makes of an attempt, whose budget is taken from.
const TAKE: u64 = 0;
/// The same, and nothing is taken.
const LOOK: u64 = 1;
/// Whether an operator's penalty is in force.
const BAR: u64 = 2;
const HOW: u64 = 0xff;
/// Which kind of key is asked about.
const CLIENT: u64 = (Kind::Client as u64) << 8;
const ADDRESS: u64 = (Kind::Address as u64) << 8;
const NETWORK: u64 = (Kind::Network as u64) << 8;
const SITE: u64 = (Kind::Site as u64) << 8;

/// What it answers: no penalty, or it is over.
const OVER: u64 = 0;
/// The attempt is within the budget.
const BUDGETED: u64 = 1;
/// It is beyond the budget.
const DEFERRED: u64 = 2;
/// There is no budget.
const BLOCKED: u64 = 3;

/// What the penalty under a key makes of an attempt now. With a name of its own it is a global
/// function, see [`edge_replayed`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn edge_penalty(key: u64, asked: u64) -> u64 {
    let kind = match asked & !HOW {
        CLIENT => Kind::Client,
        NETWORK => Kind::Network,
        SITE => Kind::Site,
        _ => Kind::Address,
    };
    let Some(way) = penalty(Subject { kind, key }) else {
        return OVER;
    };
    let now = now();
    if asked & HOW == BAR {
        return if way.is_barred(now) { BLOCKED } else { OVER };
    }
    let (penalty, state) = way.read(now);
    if way.is_blocked(now) {
        meet(&way, state);
        return BLOCKED;
    }
    match penalty.judge(now) {
        Judgement::Over => OVER,
        Judgement::Budgeted(_) if asked & HOW == LOOK => BUDGETED,
        Judgement::Budgeted(window) => {
            let next = table::with_window(state, window);
            // SAFETY: an aligned word of a map's value, which the program may write.
            match unsafe { swap(way.state.as_ptr(), state, next) } == state {
                true => BUDGETED,
                false => DEFERRED,
            }
        }
        Judgement::Deferred => {
            meet(&way, state);
            DEFERRED
        }
        Judgement::Blocked => BLOCKED,
    }
}

/// Marks a penalty that was run into, so that it does not go for want of room. Once in a while: the
/// line is shared.
#[inline(always)]
fn meet(way: &Way<'_>, state: u64) {
    if let Some(next) = table::met(state) {
        // SAFETY: an aligned word of a map's value, which the program may write.
        unsafe { swap(way.state.as_ptr(), state, next) };
    }
}

/// The penalty of a subject.
#[inline(always)]
fn penalty(subject: Subject) -> Option<Way<'static>> {
    let front = PENALTY_FRONT.get(0)?;
    let spread = Spread::of(front.key(), subject);
    if !front.is_set(spread.bit()) {
        return None;
    }
    // SAFETY: a constant of the program's, which the loader may have replaced: so the compiler must
    // not know it.
    let count = unsafe { (&raw const PENALTY_BUCKETS).read_volatile() };
    let [one, other] = spread.places(count);
    match PENALTIES.get(one)?.find(subject) {
        None => PENALTIES.get(other)?.find(subject),
        found => found,
    }
}

/// Writes `new` if `old` is still there, in one step, and gives what was there. The target has the
/// instruction, but the compiler's atomics for it have no such method.
///
/// # Safety
/// `word` is aligned and can be written.
#[inline(always)]
unsafe fn swap(word: *mut u64, old: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let found: u64;
        // SAFETY: reads and writes the eight bytes at `word`, and r0, which it is told of.
        unsafe {
            core::arch::asm!(
                "r0 = cmpxchg_64({0} + 0, r0, {1})",
                in(reg) word,
                in(reg) new,
                inlateout("r0") old => found,
                options(nostack),
            );
        }
        found
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::Ordering;
        // SAFETY: aligned and writable by contract.
        let word = unsafe { AtomicU64::from_ptr(word) };
        match word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(found) | Err(found) => found,
        }
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, as of the last tick but one at worst. The coarse clock moves
/// with the tick, and the kernel puts a read of the tick's number in the place of its helper's
/// call: so the clock is asked once a tick. Processors that write at once write the same; one that
/// reads a new number beside an old time is a tick late.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: takes nothing and touches nothing.
    let tick = unsafe { bpf_jiffies64() };
    let Some(last) = TICK.get_ptr_mut(0) else {
        // The verifier wants this arm.
        return 0;
    };
    // SAFETY: a map's value stays readable and writable while the program runs, and each word is
    // written in one piece.
    unsafe {
        if (&raw const (*last)[0]).read_volatile() == tick {
            return (&raw const (*last)[1]).read_volatile();
        }
        let now = bpf_ktime_get_coarse_ns();
        (&raw mut (*last)[1]).write_volatile(now);
        (&raw mut (*last)[0]).write_volatile(tick);
        now
    }
}

/// Whole seconds since 1970.
#[inline(always)]
pub fn seconds() -> Option<u64> {
    Some(now().wrapping_add(*CLOCK.get(0)?) / SECOND)
}

#[inline(always)]
fn prefix(frame: &Frame, packet: &Packet) -> Option<Prefix> {
    Some(if packet.version == 4 {
        Prefix::v4(frame.header::<20>(packet.network)?.word::<12>().to_le_bytes())
    } else {
        let header = frame.header::<40>(packet.network)?;
        let address = [header.long::<8>(), header.long::<16>()];
        match translated(address) {
            Some(word) => Prefix::v4(word.to_le_bytes()),
            None => Prefix::v6(address),
        }
    })
}

/// The IPv4 address that a translator which the configuration names has put into an IPv6 one.
#[inline(always)]
fn translated(address: [u64; 2]) -> Option<u32> {
    let base = (&raw const TRANSLATORS).cast::<u64>();
    for n in 0..wait::TRANSLATORS {
        // SAFETY: within the array; a constant of the program's, which the loader may have
        // replaced: so the compiler must not know it.
        let (first, second) = unsafe { (base.add(2 * n).read_volatile(), base.add(2 * n + 1).read_volatile()) };
        if first == 0 {
            return None;
        }
        let found = Translator {
            first,
            second: second as u32,
        }
        .embedded(address);
        if found.is_some() {
            return found;
        }
    }
    None
}
