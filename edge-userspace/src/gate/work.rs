//! Proof of work: instead of waiting, a client finds a number whose hash with its token begins with
//! zero bits.
//!
//! The challenge is the token that it was told to wait with, so it is bound to zone, address and
//! time as every token is, is one admission however often it is shown, and nothing is remembered of
//! it until it is solved. An answer is `TOKEN.NUMBER`, in a cookie that the page's script sets or
//! in the field `Edge-Work`; it is right if SHA-256 of it, as written, begins with at least as many
//! zero bits as the token says. One hash tells, before the token is looked at.
//!
//! How many bits it takes rises with what has been asked and not solved: of the address, of the
//! networks around it, and of the zone.

use std::net::IpAddr;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::bucket::{Buckets, Rate, Take};
use super::clock::nanos;
use super::prefixes;

/// An answer whose hash begins with fewer zero bits is no attempt at an answer: one of 256 that are
/// made up passes.
pub(super) const LEAST: u8 = 8;
/// Bits that a challenge takes at most: a minute or two of a phone.
pub(super) const MOST: u8 = 26;
/// Bits more than the rule says, for each of address, network and zone at most.
const HARDEST: u8 = 6;
/// Digits of a number: what a script can count exactly.
const DIGITS: usize = 16;
/// Challenges that are open without making the next ones harder, and how many an hour are
/// forgotten: of an address, of a network around it (IPv6 /56 and /48, IPv4 /24), and of the zone.
const ADDRESS: (u32, u32) = (8, 360);
const NETWORK: (u32, u32) = (256, 11_520);
const ZONE: (u32, u32) = (4_096, 368_640);
const HOUR: Duration = Duration::from_secs(3_600);

/// An answer in the right form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof<'a> {
    /// The token that it is for, unopened.
    pub(super) token: &'a str,
    /// Zero bits that its hash begins with.
    pub(super) zeros: u8,
}

/// Reads an answer and hashes it; `None` if it has not the form of one.
pub(super) fn proof(answer: &str) -> Option<Proof<'_>> {
    let (token, number) = answer.rsplit_once('.')?;
    let digits = (1..=DIGITS).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Proof {
        token,
        zeros: zeros(digest(&SHA256, answer.as_bytes()).as_ref()),
    })
}

/// Zero bits in front.
fn zeros(hash: &[u8]) -> u8 {
    let whole = hash.iter().take_while(|byte| **byte == 0).count();
    let rest = hash.get(whole).map_or(0, |byte| byte.leading_zeros());
    u8::try_from(whole * 8 + rest as usize).unwrap_or(u8::MAX)
}

/// The counts of open challenges that one more for `prefix` belongs to.
fn counts(buckets: &Buckets, zone: u64, prefix: IpAddr) -> Vec<Take> {
    let networks = prefixes::around(prefix).map(|network| (network.key, NETWORK));
    let prefixes = std::iter::once((prefix, ADDRESS)).chain(networks);
    let of = |key, (free, an_hour)| Take::client(key, Rate::new(an_hour, HOUR, free));
    prefixes
        .map(|(prefix, free)| of(buckets.key((zone, prefix, "challenges")), free))
        .chain(std::iter::once(of(buckets.key((zone, "challenges")), ZONE)))
        .collect()
}

/// One challenge more is open: what it takes, if the rule says `bits`. Each doubling of what is
/// open beyond the free ones is one bit more.
pub(super) fn demanded(buckets: &Buckets, now: Duration, zone: u64, prefix: IpAddr, bits: u8) -> u8 {
    let harder = counts(buckets, zone, prefix).into_iter().map(|take| {
        // As many are open beyond the free ones as are to be forgotten until one is free again.
        let beyond = match buckets.charge(now, take, 1) {
            (0, until) => nanos(until) / take.interval(),
            _ => 0,
        };
        let doubled = (1 + beyond / take.burst()).ilog2() + u32::from(beyond > 0);
        u8::try_from(doubled).unwrap_or(u8::MAX).min(HARDEST)
    });
    let harder: u8 = harder.fold(0, u8::saturating_add);
    bits.saturating_add(harder).min(MOST.max(bits))
}

/// A challenge of `prefix` has been solved: it is open no more.
pub(super) fn solved(buckets: &Buckets, zone: u64, prefix: IpAddr) {
    for take in counts(buckets, zone, prefix) {
        buckets.refund(take);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Solves as a client does.
    pub(in crate::gate) fn solve(token: &str, bits: u8) -> String {
        (0u64..)
            .map(|number| format!("{token}.{number}"))
            .find(|answer| proof(answer).is_some_and(|proof| proof.zeros >= bits))
            .unwrap()
    }

    /// Answers that cost nothing would pass, or those of the page's script would not.
    #[test]
    fn answers() {
        assert_eq!(zeros(&[0, 0, 0x10, 0xff]), 19);
        assert_eq!((zeros(&[0x80]), zeros(&[0x01]), zeros(&[0; 32])), (0, 7, 255));
        let answer = solve("token", 12);
        assert!(proof(&answer).is_some_and(|proof| proof.token == "token" && proof.zeros >= 12));
        for wrong in ["", "token", "token.", "token.x", "token.-1", "token.12345678901234567"] {
            assert_eq!(proof(wrong), None, "{wrong}");
        }
    }

    /// Whoever asks and does not solve would find it as easy as everybody else, or make it harder
    /// for everybody.
    #[test]
    fn harder_for_who_asks_and_does_not_solve() {
        let buckets = Buckets::new(4_096, 0);
        let now = Duration::from_secs(100);
        let bot = |n: u8| IpAddr::from([192, 0, 2, n]);
        let ask = |prefix| demanded(&buckets, now, 1, prefix, 16);
        let asked: Vec<u8> = (0..100).map(|_| ask(bot(1))).collect();
        assert!(
            asked.is_sorted() && asked[..8].iter().all(|bits| *bits == 16),
            "{asked:?}"
        );
        assert_eq!(asked.last(), Some(&20));
        assert_eq!(ask(bot(2)), 16, "its neighbour");
        for n in 0..=255 {
            for _ in 0..4 {
                ask(bot(n));
            }
        }
        assert!((17..=20).contains(&ask(bot(2))), "its network");
        assert_eq!(ask(IpAddr::from([198, 51, 100, 1])), 16, "others");
        // A crowd that solves is never harder on itself.
        for n in 0..2_000u32 {
            let prefix = IpAddr::from([203, 0, 113, (n % 8) as u8]);
            assert_eq!(ask(prefix), 16);
            solved(&buckets, 1, prefix);
        }
    }

    /// A flood of wrong answers would cost the node more than telling them to wait. `cargo test
    /// --release -- --ignored` gives the figure.
    #[test]
    #[ignore = "a measurement"]
    fn what_an_answer_costs() {
        let answer = solve(&"t".repeat(100), 16);
        let start = std::time::Instant::now();
        let right = (0..1_000_000)
            .filter(|_| proof(std::hint::black_box(&answer)).is_some())
            .count();
        println!("{:?} an answer", start.elapsed() / u32::try_from(right).unwrap());
        assert!(start.elapsed() < Duration::from_secs(2), "2 microseconds each at most");
    }
}
