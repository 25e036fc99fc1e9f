//! Failures as the engine's C and JavaScript know them: negative numbers, never text. `prelude/work.js` has the words.

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
    /// The store failed, or its quota is used up.
    Store = -11,
}

impl Code {
    /// As it crosses into the guest.
    pub(super) fn number(self) -> i32 {
        self as i32
    }
}
