//! Failures as the engine's C and JavaScript know them: negative numbers, never text.
//! `prelude/work.js` has the words.

/// Why a call of the host did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// The zone may not ask there.
    Denied = -1,
    /// Nothing there, or refused.
    Unreachable = -2,
    /// Not in time.
    Timeout = -3,
    /// Too many sub-requests, or too deep.
    TooMany = -4,
    /// More bytes than the limit.
    TooLarge = -6,
    /// The other side broke off.
    Broken = -7,
    /// What cannot be sent: no URL of a server, a field that is none.
    Malformed = -8,
    /// More operations at once than the limit.
    Busy = -9,
    /// The zone has no such store.
    Absent = -10,
    /// The store failed.
    Store = -11,
    /// The zone's quota of bytes is used up.
    Bytes = -12,
    /// The zone's quota of keys is used up.
    Keys = -13,
    /// A value is longer than the zone may store.
    Value = -14,
    /// A key is empty or too long.
    Key = -15,
    /// Content whose coding cannot be undone.
    Coding = -16,
    /// A field that cannot be sent; the log names it.
    Field = -17,
    /// An operation of cryptography failed: a wrong key, a signature that is none.
    Operation = -18,
    /// Data that is no key of its kind.
    Data = -19,
    /// Nothing here does that.
    Unsupported = -20,
}

impl Code {
    /// As it crosses into the guest.
    pub(super) fn number(self) -> i32 {
        self as i32
    }
}
