//! What the gate writes into a token and reads from it. The token itself (keys, MAC, replay) is
//! behind [`Passes`].

use std::net::IpAddr;
use std::time::Duration;

use super::clock::Now;

/// What a token says of its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The client's 64 random bits.
    pub client: u64,
    /// The zone it is good for.
    pub zone: u64,
    /// Seconds since the epoch before which it opens nothing.
    pub not_before: u32,
    /// Seconds since the epoch from which it is worthless.
    pub expires: u32,
    /// What it is good for.
    pub kind: Kind,
    /// When the wait began, or the seat was taken: milliseconds since the epoch, 48 bits. In a
    /// waiting room the place. All tokens of one wait have the same, however often the wait was
    /// told, and are one admission.
    pub place: u64,
    /// Strikes at the time of writing, so that other nodes know them.
    pub strikes: u8,
    /// Early attempts in this wait at the time of writing.
    pub early: u8,
}

/// What a pass is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A place in the waiting room: one admission after `not_before`, when the place's turn has
    /// come.
    Place,
    /// One admission after `not_before`, told by another rule than a queue.
    Wait,
    /// The same, and with a proof of so many bits of work at any time.
    Work(u8),
    /// One admission by the answer of an operator's service, and never by time alone.
    External,
    /// Proof of who the client is, for as long as it lasts: it has waited.
    Known,
    /// The same, and a seat among the waiting room's active visitors.
    Session,
    /// A seat that nobody waited for, since the room was not full: it names the seat, which all
    /// that come from one address without a token share, and proves nothing.
    Seat,
}

impl Kind {
    /// It was told to wait, and has still to be admitted for it.
    pub const fn is_wait(self) -> bool {
        matches!(self, Self::Place | Self::Wait | Self::Work(_) | Self::External)
    }

    /// Its bearer has been admitted after a wait.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Known | Self::Session)
    }

    /// It names a seat in the waiting room.
    pub const fn is_seat(self) -> bool {
        matches!(self, Self::Session | Self::Seat)
    }
}

impl Pass {
    /// Place and kind in the one number that the token's `place` has room for: the kind in the
    /// upper 16 bits.
    pub fn packed_place(&self) -> u64 {
        let kind = match self.kind {
            Kind::Place => 0,
            Kind::Known => 1,
            Kind::Session => 2,
            Kind::Wait => 3,
            Kind::Seat => 4,
            Kind::Work(bits) => 5 | u64::from(bits) << 8,
            Kind::External => 6,
        };
        kind << 48 | self.place & PLACE
    }

    /// Undoes [`Pass::packed_place`]; `None` for a kind this version does not know.
    pub fn unpack_place(packed: u64) -> Option<(Kind, u64)> {
        let place = packed & PLACE;
        let kind = match packed >> 48 {
            0 if place == 0 => Kind::Wait,
            0 => Kind::Place,
            1 => Kind::Known,
            2 => Kind::Session,
            3 => Kind::Wait,
            4 => Kind::Seat,
            6 => Kind::External,
            work if work & 0xff == 5 => Kind::Work(u8::try_from(work >> 8).ok()?),
            _ => return None,
        };
        Some((kind, place))
    }

    /// What is spent when a wait ends: every token of one client for one wait, however often it was
    /// told and written, is one admission.
    pub(super) fn admission(&self) -> u64 {
        mix(self.client ^ mix(self.zone ^ mix(self.place)))
    }

    /// The same pass as it would have been written by a clock that is `ahead` milliseconds behind
    /// the one it was written by.
    pub(super) fn moved(self, ahead: i64) -> Self {
        let second = |at: u32| {
            let moved = i64::from(at).saturating_sub(ahead / 1_000);
            u32::try_from(moved.max(0)).unwrap_or(u32::MAX)
        };
        Self {
            not_before: second(self.not_before),
            expires: second(self.expires),
            place: self.place.saturating_add_signed(ahead.saturating_neg()) & PLACE,
            ..self
        }
    }
}

const PLACE: u64 = (1 << 48) - 1;

/// SplitMix64's finalizer (Steele et al. 2014): spreads, hides nothing.
pub(super) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A token found genuine and unexpired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub pass: Pass,
    /// What is left of its wait, clock skew between nodes forgiven; `None` once it is mature.
    pub early: Option<Duration>,
    /// It is bound to the prefix that it came from.
    pub home: bool,
}

/// What came of spending an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It is spent now: once.
    Now,
    /// It was spent before.
    Before,
    /// There is no room to remember it: the client keeps its wait.
    Full,
}

/// What is remembered of spent admissions, for the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Admissions remembered.
    pub remembered: usize,
    /// Admissions there is room for.
    pub room: usize,
    /// How often there was none.
    pub refused: u64,
}

/// Where tokens are written, read and spent.
pub trait Passes: Send + Sync + 'static {
    /// 64 random bits for a new client.
    fn client(&self) -> u64;

    /// The number of the zone `name`, the same on every node.
    fn zone(&self, name: &str) -> u64;

    /// The token for `pass`, bound to the prefix of `address`; base64url, fit for a field value and
    /// a cookie.
    fn mint(&self, now: Now, address: IpAddr, pass: &Pass) -> String;

    /// What a token says, wherever it is bound to; `None` if it is not ours or too old.
    fn open(&self, now: Now, address: IpAddr, text: &str) -> Option<Opened>;

    /// Whether `admission` is spent. Changes nothing.
    fn is_spent(&self, admission: u64) -> bool;

    /// Spends `admission` of `zone`, remembered until `expires` (seconds since the epoch).
    fn spend(&self, now: Now, zone: u64, admission: u64, expires: u32) -> Spent;

    /// Figures of what is spent.
    fn used(&self) -> Used;
}

#[cfg(test)]
pub(crate) mod fake {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;
    use crate::base::peer::client_prefix;

    /// Tokens in the clear, for tests of the decision: readable, bound, and spent like the real
    /// ones.
    #[derive(Default)]
    pub(crate) struct Plain(Mutex<HashSet<u64>>);

    impl Passes for Plain {
        fn client(&self) -> u64 {
            static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
            mix(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        }

        fn zone(&self, name: &str) -> u64 {
            name.bytes().fold(7, |sum, byte| mix(sum ^ u64::from(byte)))
        }

        fn mint(&self, _: Now, address: IpAddr, pass: &Pass) -> String {
            let (prefix, place) = (client_prefix(address), pass.packed_place());
            let Pass {
                client,
                zone,
                not_before,
                expires,
                strikes,
                early,
                ..
            } = pass;
            format!("{prefix}_{client}_{zone}_{not_before}_{expires}_{place}_{strikes}_{early}")
        }

        fn open(&self, now: Now, address: IpAddr, text: &str) -> Option<Opened> {
            let mut parts = text.split('_');
            let home = parts.next()? == client_prefix(address).to_string();
            let numbers: Vec<u64> = parts.filter_map(|p| p.parse().ok()).collect();
            let [client, zone, not_before, expires, place, strikes, early] = numbers.try_into().ok()?;
            let (kind, place) = Pass::unpack_place(place)?;
            let pass = Pass {
                client,
                zone,
                not_before: not_before as u32,
                expires: expires as u32,
                kind,
                place,
                strikes: strikes as u8,
                early: early as u8,
            };
            let left = now.until_second(pass.not_before);
            (now.until_second(pass.expires) > Duration::ZERO).then_some(Opened {
                pass,
                early: (left > Duration::ZERO).then_some(left),
                home,
            })
        }

        fn is_spent(&self, admission: u64) -> bool {
            self.0.lock().unwrap().contains(&admission)
        }

        fn spend(&self, _: Now, _: u64, admission: u64, _: u32) -> Spent {
            match self.0.lock().unwrap().insert(admission) {
                true => Spent::Now,
                false => Spent::Before,
            }
        }

        fn used(&self) -> Used {
            Used {
                remembered: self.0.lock().unwrap().len(),
                ..Used::default()
            }
        }
    }
}
