//! Entries of the operator's lists. Allow and deny share the maps: the daemon works out what each
//! prefix means with allow before deny, so that the program needs only the longest match.

/// Value of one address or prefix in the maps `V4`, `V6_EXACT`, `V6_PREFIX`.
///
/// `verdict` is effective: an entry that an allow entry covers (itself included) says [`ALLOW`],
/// whatever else it is. Hence the longest match alone decides: any allow entry that matches an
/// address covers the longest match too. A wrong `verdict` here drops an allowed client or lets a
/// denied one in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// [`ALLOW`] or [`DENY`].
    pub verdict: u32,
    /// Who wants the entry, for the daemon only: `…_CONFIGURED` and `…_RUNTIME` bits. It goes when
    /// none is left.
    pub origin: u32,
}

/// The attempt passes.
pub const ALLOW: u32 = 1;
/// The attempt is dropped.
pub const DENY: u32 = 2;

/// On the allow list of the configuration file.
pub const ALLOW_CONFIGURED: u32 = 1;
/// On the deny list of the configuration file.
pub const DENY_CONFIGURED: u32 = 1 << 1;
/// Denied by `edge deny add`: survives reloads and restarts.
pub const DENY_RUNTIME: u32 = 1 << 2;

// An LPM trie stores the value right behind a key of 16 bytes: nothing wider than 4 bytes would be
// aligned there.
const _: () = assert!(size_of::<Entry>() == 8 && align_of::<Entry>() == 4);

// SAFETY: `repr(C)`, two `u32` and no padding (size asserted above).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Entry {}

// IPv4 lists are a hash of prefixes of every length, in front of which an array tells for each
// bucket (the first 16 bits of an address) which lengths occur in it: the longest match takes one
// probe per length that does, which is seldom more than two, and none for most clean clients. An
// LPM trie takes a dozen dependent loads instead (measured with 10,000 prefixes, where bare PASS is
// 22 ns: a denied network 110 ns by the trie, 70 so). Tuple space search: Srinivasan, Suri,
// Varghese, SIGCOMM 1999. IPv6 lists are short, and keep the trie.

/// Entries of the array `V4_LENGTHS`, one for each [`v4_bucket`].
pub const V4_BUCKETS: u32 = 1 << 16;

/// The bucket of an IPv4 address (host order).
#[inline(always)]
pub const fn v4_bucket(address: u32) -> u32 {
    address >> 16
}

/// The bit of a prefix length in a bucket's word: the longer, the lower, /32 is bit 0. `length`
/// above 32 counts as 32.
#[inline(always)]
pub const fn v4_length(length: u8) -> u64 {
    1 << 32_u8.saturating_sub(length)
}

/// Key of the hash `V4` for the prefix of an IPv4 address (host order) that has this length bit:
/// the prefix's bits, a one, and zeros, 33 bits in all.
#[inline(always)]
pub const fn v4_key(address: u32, length: u64) -> u64 {
    ((address as u64) << 1 & (length << 1).wrapping_neg()) | length
}

/// The prefix that a key stands for: address (host order) and length. `None` for a number that is
/// no key.
pub const fn v4_prefix(key: u64) -> Option<(u32, u8)> {
    if key == 0 || key >> 33 != 0 {
        return None;
    }
    let zeros = key.trailing_zeros();
    // Below 2^33 and without its lowest one: the shift leaves at most 32 bits, and `zeros` is at
    // most 32.
    Some((((key & (key - 1)) >> 1) as u32, 32 - zeros as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_prefix() {
        let address = 0xc633_6429_u32;
        for length in 0..=32_u8 {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let key = v4_key(address, v4_length(length));
            assert_eq!(v4_prefix(key), Some((address & mask, length)));
            assert_eq!(
                v4_key(address & mask, v4_length(length)),
                key,
                "host bits do not matter"
            );
        }
        assert_eq!(v4_prefix(0), None);
        assert_eq!(v4_prefix(1 << 33), None);
    }
}
