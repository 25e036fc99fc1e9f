//! Error codes of HTTP/3 and QPACK, and what they end.

/// An error code (RFC 9114 section 8.1, RFC 9204 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// H3_NO_ERROR.
    pub const NO_ERROR: Self = Self(0x100);
    /// H3_INTERNAL_ERROR.
    pub const INTERNAL_ERROR: Self = Self(0x102);
    /// H3_STREAM_CREATION_ERROR.
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    /// H3_CLOSED_CRITICAL_STREAM.
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// H3_FRAME_UNEXPECTED.
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    /// H3_FRAME_ERROR.
    pub const FRAME_ERROR: Self = Self(0x106);
    /// H3_EXCESSIVE_LOAD.
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    /// H3_ID_ERROR.
    pub const ID_ERROR: Self = Self(0x108);
    /// H3_SETTINGS_ERROR.
    pub const SETTINGS_ERROR: Self = Self(0x109);
    /// H3_MISSING_SETTINGS.
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    /// H3_REQUEST_REJECTED.
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    /// H3_REQUEST_CANCELLED.
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    /// H3_REQUEST_INCOMPLETE.
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    /// H3_MESSAGE_ERROR.
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    /// H3_CONNECT_ERROR.
    pub const CONNECT_ERROR: Self = Self(0x10f);
    /// QPACK_DECOMPRESSION_FAILED.
    pub const DECOMPRESSION_FAILED: Self = Self(0x200);
    /// QPACK_ENCODER_STREAM_ERROR.
    pub const ENCODER_STREAM_ERROR: Self = Self(0x201);
    /// QPACK_DECODER_STREAM_ERROR.
    pub const DECODER_STREAM_ERROR: Self = Self(0x202);
}

impl From<Code> for quinn::VarInt {
    fn from(Code(code): Code) -> Self {
        Self::from_u32(code)
    }
}

/// Why a client's request stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The stream ends with this code.
    Stream(Code),
    /// The connection does.
    Connection(Code),
}
