//! The keyless protocol as bytes: what an edge asks a key server and what it answers. Both ends are
//! built from this one definition; it does no I/O and no cryptography but the hash that names a
//! key. docs/keyless.md draws every byte.
//!
//! The asking side hands in a [`Query`], the answering side a [`Reply`]; each is decoded from the
//! front of a buffer that grows. Over TLS 1.3 with client certificates and ALPN [`ALPN`], any
//! number of queries may be under way, and replies come in any order. All integers are big-endian.

mod answer;
mod read;
mod request;
mod signed;
#[cfg(test)]
mod tests;
mod value;

pub use answer::{Answer, ErrorCode, KeyInfo, Reply, Secret};
pub use read::Malformed;
pub use request::{Query, Request, Seed};
pub use signed::{split_tls12, split_tls13, tls12, tls13};
pub use value::{Ciphertext, Group, KeyId, KeyKind, Op, Ops, Prf, Random, Scheme, Share, Transcript};

/// The protocol's name in the TLS handshake (RFC 7301); a change that old peers do not understand
/// changes it.
pub const ALPN: &[u8] = b"edge-keyless/1";
/// Bytes of the length in front of each frame, which does not count itself.
pub const LENGTH: usize = 4;
/// The largest length of a query's frame.
pub const MAX_QUERY: usize = 1_024;
/// The largest length of a reply's frame.
pub const MAX_REPLY: usize = 65_536;
/// The most keys in one answer to `list`; what is left is asked for with the last key as the
/// cursor.
pub const PAGE: usize = 60;
/// The largest public key in an answer to `list`, in bytes of DER.
pub const MAX_SPKI: usize = 1_024;

/// A frame at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<T> {
    /// Bytes that the frame takes, its length included.
    pub used: usize,
    /// The identifier in it, to answer a frame whose content is malformed.
    pub id: u64,
    /// What it says, or why it says nothing. The frames behind it can be read all the same.
    pub content: Result<T, Malformed>,
}

/// Why the frames of a connection cannot be told apart any more; the connection ends. The peer is
/// at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes, where {least} to {most} are allowed")]
pub struct Broken {
    /// What the frame said.
    pub length: usize,
    /// The least that a frame of this direction has.
    pub least: usize,
    /// The most that it may have.
    pub most: usize,
}

/// The first frame's content, behind its length; `None` while it is not there whole.
fn frame(bytes: &[u8], least: usize, most: usize) -> Result<Option<&[u8]>, Broken> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length < least || length > most {
        return Err(Broken { length, least, most });
    }
    Ok(rest.get(..length))
}

/// Writes a frame: a place for the length, what `content` writes, then the length.
fn framed(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; LENGTH]);
    content(out);
    let length = u32::try_from(out.len() - start - LENGTH).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + LENGTH) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
