//! How many proven clients an address stood for lately: an address is not a client, and one with neighbours behind it is
//! never blocked whole. Linear counting (Whang et al. 1990) in 64 bits, two generations, in a table of fixed size.

use std::net::IpAddr;
use std::time::Duration;

use super::table::{Table, Worth};

/// A generation; a client counts for one to two of them after it was last seen.
const GENERATION: Duration = Duration::from_secs(300);

/// The addresses of a node.
#[derive(Debug)]
pub struct Neighbours(Table<IpAddr, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    generation: u64,
    now: u64,
    before: u64,
}

impl Seen {
    fn roll(&mut self, generation: u64) {
        match generation.saturating_sub(self.generation) {
            0 => {}
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.generation = self.generation.max(generation);
    }
}

impl Worth for Seen {
    const KEEPS: bool = false;

    /// The longer ago and the fewer clients, the sooner it is forgotten: the address loses its good name, nothing more.
    fn worth(&self, _: Duration) -> u64 {
        self.generation << 8 | u64::from((self.now | self.before).count_ones())
    }
}

impl Neighbours {
    /// Room for `entries` addresses.
    pub fn new(entries: usize) -> Self {
        Self(Table::new(entries))
    }

    /// `client` has proven itself behind `prefix`.
    pub fn seen(&self, now: Duration, prefix: IpAddr, client: u64) {
        let generation = now.as_secs() / GENERATION.as_secs();
        let fresh = || Seen {
            generation,
            now: 0,
            before: 0,
        };
        self.0.update(prefix, now, fresh, |seen| {
            seen.roll(generation);
            seen.now |= 1 << (client % 64);
        });
    }

    /// How many clients proved themselves lately behind `prefix`, `except` that one: exact for few, an estimate up to
    /// about 200.
    pub fn count(&self, now: Duration, prefix: IpAddr, except: Option<u64>) -> u32 {
        let Some(mut seen) = self.0.find(prefix) else {
            return 0;
        };
        seen.roll(now.as_secs() / GENERATION.as_secs());
        let mut bits = seen.now | seen.before;
        if let Some(client) = except {
            bits &= !(1 << (client % 64));
        }
        let zeros = bits.count_zeros().max(3);
        // -m ln(V), rounded; never below the bits that are set.
        let estimate = (-64.0 * (f64::from(zeros) / 64.0).ln()).round();
        (estimate as u32).max(bits.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shared address would be blocked whole, or an abuser would vouch for itself.
    #[test]
    fn counts_and_forgets() {
        let neighbours = Neighbours::new(64);
        let address = IpAddr::from([192, 0, 2, 1]);
        for n in 0..50u64 {
            neighbours.seen(Duration::ZERO, address, crate::gate::pass::mix(n));
        }
        let count = |s, except| neighbours.count(Duration::from_secs(s), address, except);
        assert!((35..=70).contains(&count(10, None)), "{}", count(10, None));
        assert_eq!(count(700, None), 0);
        neighbours.seen(Duration::from_secs(700), address, 9);
        assert_eq!(
            (count(1_100, None), count(1_100, Some(9)), count(1_600, None)),
            (1, 0, 0)
        );
    }
}
