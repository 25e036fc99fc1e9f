//! How often one token may come. A token is a bearer: whoever holds it can send it again, from its own address, for as long
//! as it lives, and each time the daemon would begin a handshake. The program counts the genuine ones by their MAC.
//!
//! # What an honest client sends
//! Every Initial of a connection carries its token (RFC 9000 sections 8.1.2 and 8.1.3): two or three datagrams of a
//! ClientHello with a post-quantum share, some ten more where the path loses them (two a probe timeout, which doubles: section
//! 6.2 of RFC 9002), and an acknowledgement for each Initial that the server sends or repeats. Even a path that loses nearly
//! everything for ten seconds stays below [`BURST`]. 0-RTT packets are no Initials and are not counted. A client should not
//! use a token for a second connection (section 8.1.3); one that does so now and then stays within as well.
//!
//! # What an attacker gets
//! [`BURST`] Initials for each genuine token and one more each [`STEP`]: for a Retry token some 50 in its life, and each
//! costs it a round trip from an address of its own.

/// Initials with one token that pass at once.
pub const BURST: u64 = 32;
/// Nanoseconds until one more passes.
pub const STEP: u64 = crate::penalty::SECOND;

/// What the map `REPLAY` keeps of a token that is seen for the first time at `now`, in nanoseconds of `CLOCK_MONOTONIC`: when
/// what has passed will have been paid for (the theoretical arrival time of the generic cell rate algorithm, ITU-T I.371).
#[inline(always)]
pub const fn first(now: u64) -> u64 {
    now.wrapping_add(STEP)
}

/// What it keeps after one more at `now`; `None` if that is one too many. `kept` may be any number.
#[inline(always)]
pub const fn again(kept: u64, now: u64) -> Option<u64> {
    let from = if kept > now { kept } else { now };
    // Neither wraps before the year 2554: `kept` is at most BURST steps beyond the clock.
    let next = from.wrapping_add(STEP);
    if next > now.wrapping_add(BURST * STEP) {
        return None;
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(times: impl Iterator<Item = u64>) -> u64 {
        let mut kept = None;
        times
            .map(|now| {
                let next = match kept {
                    None => Some(first(now)),
                    Some(kept) => again(kept, now),
                };
                kept = next.or(kept);
                u64::from(next.is_some())
            })
            .sum()
    }

    /// Handshakes over bad paths would fail for good.
    #[test]
    fn the_worst_honest_client_is_not_counted_out() {
        // Three datagrams, again two at each probe timeout of 300 ms, doubled, and one acknowledgement for each that the
        // server repeats just as often.
        let probes = [0, 300, 900, 2_100, 4_500, 9_300];
        let flight = probes.iter().flat_map(|at| [at * 1_000_000; 5]);
        let sent = flight.clone().count() as u64;
        assert_eq!(passed(flight.map(|at| at + 7 * STEP)), sent);
        // Two connections at once with the same token, each of them of three datagrams that are repeated twice.
        assert_eq!(passed([0; 18].into_iter()), 18);
    }

    /// One token would be as many handshakes as its holder likes.
    #[test]
    fn a_flood_is_held_to_the_burst_and_the_rate() {
        assert_eq!(passed(core::iter::repeat_n(5 * STEP, 1_000)), BURST);
        let ten_seconds = (0..100_000).map(|n| 5 * STEP + n * STEP / 10_000);
        assert_eq!(passed(ten_seconds), BURST + 9);
        // A clock that starts over, or a value of another's, neither passes for ever nor panics.
        assert_eq!(again(u64::MAX, 1), Some(u64::MAX.wrapping_add(STEP)));
        assert_eq!(again(0, 0), Some(STEP));
    }
}
