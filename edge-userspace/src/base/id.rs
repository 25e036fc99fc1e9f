//! Request identifiers: unique per process run and cheap; never secret, never a key.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A request's identifier, shown as 16 hexadecimal digits in logs and in the `X-Request-Id` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where this process begins to count: from what the system gives as random, so that no two
/// processes count alike.
static FIRST: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(SystemTime::now()));

impl RequestId {
    /// The next identifier. A counter with a random beginning, whitened by a bijection
    /// (SplitMix64's finalizer, Steele et al. 2014).
    pub fn next() -> Self {
        let n = FIRST.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(z ^ (z >> 31))
    }

    /// What [`RequestId::hex`] wrote: an identifier that another node of ours gave.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(text).ok().filter(|text| text.len() == 16)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        plain.then(|| u64::from_str_radix(digits, 16).ok().map(Self)).flatten()
    }

    /// The 16 hexadecimal digits, without an allocation.
    pub fn hex(self) -> [u8; 16] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|i| DIGITS[((self.0 >> (60 - 4 * i)) & 15) as usize])
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two requests with one identifier could not be told apart in the log.
    #[test]
    fn unique_and_printed_alike() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| RequestId::next()).collect();
        assert_eq!(ids.len(), 10_000);
        let id = RequestId::next();
        assert_eq!(id.to_string().as_bytes(), id.hex());
        assert_eq!(RequestId::from_hex(&id.hex()), Some(id));
        assert_eq!(RequestId::from_hex(b"+123456789abcdef"), None);
    }
}
