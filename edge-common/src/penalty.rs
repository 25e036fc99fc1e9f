//! Penalties: clients that the gate told to wait and that came all the same. The daemon writes
//! them, only for addresses that have been validated; the program judges attempts by them, and uses
//! up their budgets.

use crate::token::Prefix;

/// A penalty, as the [`table`](crate::table) has it.
///
/// Times are nanoseconds of `CLOCK_MONOTONIC`, which the program reads by
/// `bpf_ktime_get_coarse_ns`: up to two ticks (of 1 to 10 ms each) late, and so is the end of a
/// penalty, which the table rounds up to the next eighth of a second or so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// When it ends, and the probation begins. An entry whose probation has ended is as good as
    /// none; nobody needs to remove it.
    pub until: u64,
    /// The budget's state: when the attempts let through so far will have been paid for (the
    /// theoretical arrival time of the generic cell rate algorithm, ITU-T I.371). 0 in a new
    /// penalty. The program writes it.
    pub window: u64,
    /// Attempts that pass in a second, if it is [`DEFERRED`]. 0: none.
    pub budget: u16,
    /// [`DEFERRED`] or [`BLOCKED`], with [`OPERATOR`] or [`HOLD`] or neither.
    pub level: u16,
    /// Seconds behind the penalty in which [`PROBATION`] times the budget passes, and not whatever
    /// comes.
    pub probation: u16,
}

/// A budget passes, for those behind the same address.
pub const DEFERRED: u16 = 1;
/// Nothing passes.
pub const BLOCKED: u16 = 2;
/// Flag of a level: an operator's, which no token passes.
pub const OPERATOR: u16 = 1 << 8;
/// Flag of a level: no penalty, but a wait that a client was told and whose end is known: nobody
/// lists it.
pub const HOLD: u16 = 1 << 9;
/// The part of a level that says how hard.
const HARDNESS: u16 = 0xff;
/// So many times a penalty's budget passes in its probation; never less than [`PROBATION_LEAST`]
/// attempts a second.
pub const PROBATION: u32 = 4;
/// More than a browser makes.
pub const PROBATION_LEAST: u32 = 16;
/// Nanoseconds: the time over which a budget is counted.
pub const SECOND: u64 = 1_000_000_000;

/// What a penalty makes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The penalty is over, and its probation.
    Over,
    /// Within the budget, if the window becomes this value.
    Budgeted(u64),
    /// Beyond the budget.
    Deferred,
    /// There is no budget.
    Blocked,
}

impl Penalty {
    /// What one attempt costs: a second divided by the budget. More than [`SECOND`]: nothing
    /// passes.
    #[inline(always)]
    const fn step(&self) -> u32 {
        match self.budget {
            0 => u32::MAX,
            // At most 10^9, which fits.
            more => (SECOND / more as u64) as u32,
        }
    }

    /// Whether a budget passes.
    #[inline(always)]
    pub const fn is_deferred(&self) -> bool {
        self.level & HARDNESS == DEFERRED
    }

    /// What an attempt costs in the probation.
    #[inline(always)]
    const fn probation_step(&self) -> u32 {
        let most = (SECOND / PROBATION_LEAST as u64) as u32;
        let step = self.step() / PROBATION;
        if step < most { step } else { most }
    }

    /// Judges an attempt at `now`. At rest a whole budget passes at once, then one attempt every
    /// `step`; in any time `t` at most budget times `t` and one second.
    #[inline(always)]
    pub const fn judge(&self, now: u64) -> Judgement {
        let step = if now >= self.until {
            // Does not wrap before the year 2554, like what follows.
            if now >= self.until.wrapping_add(self.probation as u64 * SECOND) {
                return Judgement::Over;
            }
            self.probation_step()
        } else {
            if !self.is_deferred() {
                return Judgement::Blocked;
            }
            self.step()
        };
        let from = if self.window > now { self.window } else { now };
        // `window` is at most a second beyond `now`.
        let next = from.wrapping_add(step as u64);
        if next > now.wrapping_add(SECOND) {
            return Judgement::Deferred;
        }
        Judgement::Budgeted(next)
    }
}

/// Key of an address in the [`table`](crate::table): one word, because that is hashed fastest. IPv6
/// prefixes are their own keys; IPv4 addresses stand in the second half of a /64 that begins with
/// 32 zero bits, where no client lives (::/8 is reserved, RFC 4291 section 2.4). So the families
/// never meet.
#[inline(always)]
pub const fn address_key(prefix: Prefix) -> u64 {
    if prefix.family == 4 {
        prefix.word << 32
    } else {
        prefix.word
    }
}

/// Key of the network around the address with this key: IPv4 /24, IPv6 /56. A household's, mostly.
/// The lowest octet of either is the key's highest.
#[inline(always)]
pub const fn network_key(address: u64) -> u64 {
    address & (u64::MAX >> 8)
}

/// Key of the IPv6 /48 around the address with this key: a site's. Of IPv4 there is none.
#[inline(always)]
pub const fn site_key(address: u64) -> u64 {
    address & (u64::MAX >> 16)
}

/// Whether a key is that of an IPv4 address.
#[inline(always)]
pub const fn is_v4(address: u64) -> bool {
    address as u32 == 0
}

/// Flag of the map `BARRED`: an operator's penalty of an address is, or was, in force.
pub const SOME_BARRED: u32 = 1;
/// Flag of the map `BARRED`: a penalty of a network is, or was, in force. While it is off, nobody's
/// network is looked for.
pub const SOME_NETWORKS: u32 = 2;

/// The prefix that a key stands for.
pub const fn address_prefix(key: u64) -> Prefix {
    if key as u32 == 0 {
        Prefix {
            word: key >> 32,
            family: 4,
        }
    } else {
        Prefix { word: key, family: 6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deferred(budget: u16) -> Penalty {
        Penalty {
            until: 100 * SECOND,
            window: 0,
            budget,
            level: DEFERRED,
            probation: 0,
        }
    }

    /// Too many, and the storm comes through; too few, and neighbours behind the same address
    /// starve.
    #[test]
    fn a_budget_is_what_passes_in_a_second() {
        for budget in [1, 4, 7, 1000, u16::MAX] {
            let mut penalty = deferred(budget);
            let mut passed = 0_u64;
            for tick in 0..200_000_u64 {
                let now = 50 * SECOND + tick * 25_000;
                if let Judgement::Budgeted(next) = penalty.judge(now) {
                    penalty.window = next;
                    passed += 1;
                }
            }
            // Five seconds, and the burst.
            let most = (u64::from(budget) * 6).min(200_000);
            assert!(passed <= most && passed + 1 >= most, "{budget}: {passed}");
        }
    }

    #[test]
    fn penalties_end_and_block() {
        let penalty = deferred(0);
        assert_eq!(penalty.judge(50 * SECOND), Judgement::Deferred);
        assert_eq!(penalty.judge(100 * SECOND - 1), Judgement::Deferred);
        assert_eq!(penalty.judge(100 * SECOND), Judgement::Over);
        let blocked = Penalty {
            level: BLOCKED,
            ..deferred(9)
        };
        assert_eq!(blocked.judge(0), Judgement::Blocked);
        // Whose penalty it is changes nothing about how hard it is.
        for flag in [OPERATOR, HOLD] {
            let flagged = |level| Penalty {
                level: level | flag,
                ..deferred(9)
            };
            assert_eq!(flagged(BLOCKED).judge(0), Judgement::Blocked);
            assert!(matches!(flagged(DEFERRED).judge(0), Judgement::Budgeted(_)));
        }
        assert_eq!(blocked.judge(100 * SECOND), Judgement::Over);
    }

    /// A storm would come through between two penalties; or who has done its time would be kept
    /// out.
    #[test]
    fn a_probation_lets_a_browser_in_and_no_storm() {
        let passed = |mut penalty: Penalty, from: u64| {
            let mut passed = 0_u64;
            for tick in 0..50_000_u64 {
                match penalty.judge(from + tick * 100_000) {
                    Judgement::Over => passed += 1,
                    Judgement::Budgeted(next) => {
                        penalty.window = next;
                        passed += 1;
                    }
                    Judgement::Deferred | Judgement::Blocked => {}
                }
            }
            passed
        };
        let shared = Penalty {
            probation: 60,
            ..deferred(100)
        };
        let alone = Penalty {
            level: BLOCKED,
            ..Penalty {
                probation: 60,
                ..deferred(0)
            }
        };
        // Five seconds, and the burst.
        assert!(passed(alone, 100 * SECOND).abs_diff(6 * 16) <= 1);
        assert!(passed(shared, 120 * SECOND).abs_diff(6 * 400) <= 1);
        assert_eq!(passed(alone, 160 * SECOND), 50_000);
        assert_eq!(passed(deferred(4), 100 * SECOND), 50_000, "none was given");
        let long = Penalty {
            probation: u16::MAX,
            ..deferred(4)
        };
        assert!(matches!(long.judge(60_000 * SECOND), Judgement::Budgeted(_)));
    }

    /// One's penalty would fall on the other.
    #[test]
    fn the_families_never_share_a_key() {
        for text in ["192.0.2.1", "32.1.13.184", "2001:db8::1", "c000:201::", "64:ff9b::1"] {
            let prefix = Prefix::of(text.parse().unwrap());
            assert_eq!(address_prefix(address_key(prefix)), prefix, "{text}");
        }
    }

    /// One's penalty would be that of networks it is not in, or of none that it is in.
    #[test]
    fn networks_around_addresses() {
        let key = |text: &str| address_key(Prefix::of(text.parse().unwrap()));
        for (one, other, network, site) in [
            ("192.0.2.1", "192.0.2.254", true, true),
            ("192.0.2.1", "192.0.3.1", false, false),
            ("2001:db8:1:2::1", "2001:db8:1:ff::", true, true),
            ("2001:db8:1:2::1", "2001:db8:1:102::", false, true),
            ("2001:db8:1:2::1", "2001:db8:2:2::", false, false),
            ("2001:db8:1:2::1", "192.0.2.1", false, false),
        ] {
            let [a, b] = [key(one), key(other)];
            assert_eq!(network_key(a) == network_key(b), network, "{one} {other}");
            let sites = !is_v4(a) && site_key(a) == site_key(b);
            assert_eq!(sites || is_v4(a) && network, site, "{one} {other}");
        }
    }
}
