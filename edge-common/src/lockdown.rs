//! What the daemon tells the program about attempts without a token while there are too many of them.

use crate::siphash::Key;

/// Flag of [`Lockdown`]: a QUIC Initial without a token is answered with a Retry, and versions that are not spoken are
/// dropped.
pub const ON: u32 = 1;

/// The one element of the map `LOCKDOWN`. All zeros, as a fresh map has it, is off.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// [`ON`].
    pub flags: u32,
    /// Index of the key in the map `KEYS` that Retry tokens are minted with.
    pub key_id: u32,
    /// Key of the daemon's connection ids ([`cid`](crate::cid)), two halves. Secret. A client whose handshake is under way
    /// when lockdown begins goes on by it: its Initials have such an id by then, and it would not take a Retry any more
    /// (RFC 9000 section 17.2.5.2).
    pub cid: [u64; 2],
}

impl Lockdown {
    /// Off.
    pub const NONE: Self = Self {
        flags: 0,
        key_id: 0,
        cid: [0; 2],
    };

    /// The key of the daemon's connection ids.
    #[inline(always)]
    pub const fn cid_key(&self) -> Key {
        Key(self.cid[0], self.cid[1])
    }
}

const _: () = {
    assert!(size_of::<Lockdown>() == 24);
    assert!(core::mem::offset_of!(Lockdown, cid) == 8);
};

// SAFETY: `repr(C)`, only integers and arrays of them, no padding (the size asserted above is the sum of the fields).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Lockdown {}
