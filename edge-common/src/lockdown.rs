//! What the daemon tells the program about attempts without a token while there are too many of
//! them.

use crate::siphash::Key;

/// Flag of [`Lockdown`]: a QUIC Initial without a token is answered with a Retry, and versions that
/// are not spoken are dropped.
pub const ON: u32 = 1;

/// The one element of the map `LOCKDOWN`. All zeros, as a fresh map has it, is off.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// [`ON`].
    pub flags: u32,
    /// Index of the key in the map `KEYS` that Retry tokens are minted with.
    pub key_id: u32,
    /// Key of the daemon's connection ids ([`cid`](crate::cid)), two halves. Secret. A client whose
    /// handshake is under way when lockdown begins goes on by it: its Initials have such an id by
    /// then, and it would not take a Retry any more (RFC 9000 section 17.2.5.2).
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

/// Flag of [`Cookies`]: TCP SYNs of unproven clients are answered with a SYN cookie.
pub const COOKIES_ON: u32 = 1;
/// Flag of [`Cookies`]: with timestamps, in which window scale, SACK and ECN are kept
/// (`net.ipv4.tcp_timestamps` is 2).
pub const COOKIES_OPTIONS: u32 = 2;
/// Flag of [`Cookies`]: the system's settings were changed, and [`Cookies::before`] is what they
/// were.
pub const COOKIES_NOTED: u32 = 4;

/// The one element of the map `COOKIES`. All zeros, as a fresh map has it, is off. It outlives the
/// daemon, and not the machine: like the settings that it notes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// `COOKIES_…`.
    pub flags: u32,
    /// What the answers offer: the maximum segment size over IPv4.
    pub mss4: u16,
    /// And over IPv6.
    pub mss6: u16,
    /// The window scale that the kernel will work out for the listener when the client's ACK comes;
    /// another one here, and uploads crawl.
    pub scale: u16,
    /// The window of the answers, which is not scaled.
    pub window: u16,
    /// `net.ipv4.tcp_syncookies` and `net.ipv4.tcp_timestamps` as they were.
    pub before: [u16; 2],
}

impl Cookies {
    /// Off, and nothing noted.
    pub const NONE: Self = Self {
        flags: 0,
        mss4: 0,
        mss6: 0,
        scale: 0,
        window: 0,
        before: [0; 2],
    };
}

const _: () = {
    assert!(size_of::<Cookies>() == 16);
    assert!(size_of::<Lockdown>() == 24);
    assert!(core::mem::offset_of!(Lockdown, cid) == 8);
};

// SAFETY: `repr(C)`, only integers and arrays of them, no padding (the size asserted above is the
// sum of the fields).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Lockdown {}
// SAFETY: as for `Lockdown`.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Cookies {}
