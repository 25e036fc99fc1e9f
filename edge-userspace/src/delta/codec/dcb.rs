//! `dcb`: brotli with a dictionary (RFC 9842 section 4), for browsers without zstd; pure Rust. The
//! encoder sees dictionary and content as one, so both must fit into its window.

use std::io::{Error, ErrorKind};

use brotli::enc::{BrotliEncoderParams, StandardAlloc};
use brotli::{Allocator, BrotliDecompressStream, BrotliResult, BrotliState, IoReaderWrapper, IoWriterWrapper};
use brotli::{SliceWrapperMut, enc};

use super::{CodecError, Dictionary, Level};

/// What every stream begins with (RFC 9842 section 4); the dictionary's digest follows.
const MAGIC: [u8; 4] = [0xff, b'D', b'C', b'B'];
/// Magic and digest.
pub const HEADER: usize = 36;
/// The largest window, 2^24 less 16 bytes (RFC 7932 section 9.1), holds dictionary and content
/// together.
pub const MOST: usize = (1 << 24) - 16;

/// Bytes the encoder is fed with at once, and gives at once.
const BUFFER: usize = 64 << 10;

/// `content` as a `dcb` stream that refers to `dictionary`.
///
/// # Errors
/// [`CodecError::Unsuitable`] when the dictionary is empty, or is with the content beyond [`MOST`];
/// [`CodecError::Memory`].
pub fn encode(level: Level, dictionary: &Dictionary, content: &[u8]) -> Result<Vec<u8>, CodecError> {
    let both = dictionary.content().len().saturating_add(content.len());
    if dictionary.content().is_empty() || both > MOST {
        return Err(CodecError::Unsuitable);
    }
    let both = u64::try_from(both).map_err(|_| CodecError::Unsuitable)?;
    // Room for the 16 bytes that a window is smaller than its power of two.
    let window = both
        .saturating_add(16)
        .next_power_of_two()
        .trailing_zeros()
        .clamp(18, 24);
    let parameters = BrotliEncoderParams {
        quality: match level {
            Level::Now => 5,
            Level::Later => 11,
        },
        lgwin: i32::try_from(window).map_err(|_| CodecError::Unsuitable)?,
        size_hint: content.len(),
        ..BrotliEncoderParams::default()
    };
    let mut out = Vec::with_capacity(HEADER.saturating_add(content.len() / 8).saturating_add(1 << 10));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(dictionary.digest().as_bytes());
    let mut content = content;
    enc::BrotliCompressCustomIoCustomDict(
        &mut IoReaderWrapper(&mut content),
        &mut IoWriterWrapper(&mut out),
        &mut vec![0; BUFFER],
        &mut vec![0; BUFFER],
        &parameters,
        StandardAlloc::default(),
        &mut |_, _, _, _| (),
        dictionary.content(),
        Error::from(ErrorKind::UnexpectedEof),
    )
    .map_err(|_| CodecError::Memory)?;
    Ok(out)
}

/// The content of a whole `dcb` stream, at most `limit` bytes of it.
///
/// # Errors
/// Why it cannot be decoded.
pub fn decode(dictionary: &Dictionary, stream: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let (magic, rest) = stream.split_at_checked(MAGIC.len()).ok_or(CodecError::Truncated)?;
    let (digest, input) = rest.split_at_checked(32).ok_or(CodecError::Truncated)?;
    if magic != MAGIC {
        return Err(CodecError::Header);
    }
    if digest != dictionary.digest().as_bytes() {
        return Err(CodecError::WrongDictionary);
    }
    let mut memory = StandardAlloc::default();
    let mut attached = <StandardAlloc as Allocator<u8>>::alloc_cell(&mut memory, dictionary.content().len());
    attached.slice_mut().copy_from_slice(dictionary.content());
    let mut state = BrotliState::new_strict(
        StandardAlloc::default(),
        StandardAlloc::default(),
        StandardAlloc::default(),
    );
    if !state.attach_dictionary(attached) {
        return Err(CodecError::Unsuitable);
    }
    let mut out = Vec::new();
    let mut piece = vec![0; BUFFER];
    let (mut available, mut at) = (input.len(), 0);
    loop {
        let (mut room, mut given, mut total) = (piece.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available,
            &mut at,
            input,
            &mut room,
            &mut given,
            &mut piece,
            &mut total,
            &mut state,
        );
        let given = piece.get(..given).unwrap_or_default();
        if given.len() > limit.saturating_sub(out.len()) {
            return Err(CodecError::TooLarge);
        }
        out.extend_from_slice(given);
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if available == 0 => return Ok(out),
            BrotliResult::ResultSuccess => return Err(CodecError::Trailing),
            BrotliResult::NeedsMoreInput => return Err(CodecError::Truncated),
            BrotliResult::ResultFailure => return Err(CodecError::Corrupt),
        }
    }
}
