//! Codings that refer to a version the receiver has (RFC 9842 sections 4 and 5), and the plain zstd
//! of who has none. Pure: bytes in, bytes out. The far end and the browsers' side encode; the near
//! end decodes what came over the network, so every bound is checked before memory is taken.

pub mod dcb;
pub mod dcz;
mod decoder;
mod frame;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use decoder::Decoder;

use super::digest::Digest;

/// The content-coding token of zstd with a dictionary.
pub const DCZ: &str = "dcz";
/// The content-coding token of brotli with a dictionary.
pub const DCB: &str = "dcb";
/// The content-coding token of plain zstd (RFC 9659).
pub const ZSTD: &str = "zstd";

/// No window may be larger (RFC 9842 section 5): 128 MiB.
pub const LARGEST_WINDOW: u64 = 128 << 20;
/// What every receiver takes: 8 MiB.
pub const SMALLEST_WINDOW: u64 = 8 << 20;

/// How much work to put into an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// While the client waits: zstd 3, brotli 5. Levels below waste the dictionary.
    Now,
    /// In the background, for what is asked for again: zstd 19, brotli 11.
    Later,
}

/// A version that both sides have.
#[derive(Clone, Debug)]
pub struct Dictionary {
    content: Bytes,
    digest: Digest,
}

impl Dictionary {
    /// Of `content`, whose digest is computed.
    pub fn new(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let digest = Digest::of(&content);
        Self { content, digest }
    }

    /// Of content whose digest is known. A wrong one makes streams that nobody can decode.
    pub fn with_digest(content: Bytes, digest: Digest) -> Self {
        Self { content, digest }
    }

    /// Its bytes.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// Its name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether zstd takes it as what it is. Content that begins like a trained dictionary (RFC 8878
    /// section 5) would be read as one by some decoders, ours among them; nothing is gained from an
    /// empty one.
    pub fn suitable(&self) -> bool {
        !self.content.is_empty() && !self.content.starts_with(&[0x37, 0xa4, 0x30, 0xec])
    }

    /// The largest window of a `dcz` stream that refers to it (RFC 9842 section 5): 8 MiB or 1.25
    /// times its size, whichever is more, and never more than 128 MiB.
    pub fn window(&self) -> u64 {
        let size = self.content.len() as u64;
        size.saturating_add(size / 4).clamp(SMALLEST_WINDOW, LARGEST_WINDOW)
    }
}

/// Why there is no encoding, or no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Ours: the dictionary is empty or could be taken for a trained one, or both together are
    /// beyond the window.
    #[error("the dictionary cannot be used for this content")]
    Unsuitable,
    /// Ours: no memory for a context.
    #[error("no memory for the codec")]
    Memory,
    /// The peer's: the stream does not begin as its coding must.
    #[error("the stream's header is wrong")]
    Header,
    /// The peer's: the stream is for another version than we have.
    #[error("the stream refers to another version")]
    WrongDictionary,
    /// The peer's: decoding would take more memory than the standard allows.
    #[error("the stream's window is beyond the bound")]
    Window,
    /// The peer's: without zstd's checksum a wrong dictionary would go unnoticed.
    #[error("the stream has no checksum")]
    Unchecked,
    /// The peer's: the content is longer than the bound.
    #[error("the content is longer than the bound")]
    TooLarge,
    /// The peer's, or the network's.
    #[error("the stream is corrupt")]
    Corrupt,
    /// The peer's: bytes behind the stream's end.
    #[error("bytes behind the end of the stream")]
    Trailing,
    /// The peer's, or the network's: the stream ends before its content does.
    #[error("the stream is cut short")]
    Truncated,
}
