//! Entries of the operator's lists. Allow and deny share the maps: the daemon works out what each prefix means with
//! allow before deny, so that the program needs only the longest match.

/// Value of one address or prefix in the maps `V4_EXACT`, `V4_PREFIX`, `V6_EXACT`, `V6_PREFIX`.
///
/// `verdict` is effective: an entry that an allow entry covers (itself included) says [`ALLOW`], whatever else it is.
/// Hence the longest match alone decides: any allow entry that matches an address covers the longest match too. A wrong
/// `verdict` here drops an allowed client or lets a denied one in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// [`ALLOW`] or [`DENY`].
    pub verdict: u32,
    /// Who wants the entry, for the daemon only: `…_CONFIGURED` and `…_RUNTIME` bits. It goes when none is left.
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

// An LPM trie stores the value right behind a key of 4 or 16 bytes: nothing wider than 4 bytes would be aligned there.
const _: () = assert!(size_of::<Entry>() == 8 && align_of::<Entry>() == 4);

// SAFETY: `repr(C)`, two `u32` and no padding (size asserted above).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Entry {}
