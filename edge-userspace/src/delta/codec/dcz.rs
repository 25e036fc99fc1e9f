//! `dcz`: zstd with a dictionary (RFC 9842 section 5), and plain `zstd` for who has none. Encoding
//! only; `decoder` undoes both.

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end;
use zstd::zstd_safe::{CCtx, CDict, CParameter, InBuffer, OutBuffer, compress_bound};

use super::super::digest::Digest;
use super::{CodecError, Dictionary, LARGEST_WINDOW, Level, SMALLEST_WINDOW};

/// A skippable frame of zstd with 32 bytes in it, which are the dictionary's digest.
pub(super) const MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];
/// Magic and digest.
pub const HEADER: usize = 40;

/// `content` as a `dcz` stream that refers to `dictionary`. Its window is as large as the content
/// where the standard allows that, so that all of the dictionary can be referred to; long-distance
/// matching finds what moved; the checksum is on. 80 MB/s and more at [`Level::Now`].
///
/// # Errors
/// [`CodecError::Unsuitable`] or [`CodecError::Memory`]; never for the content's sake.
pub fn encode(level: Level, dictionary: &Dictionary, content: &[u8]) -> Result<Vec<u8>, CodecError> {
    if !dictionary.suitable() {
        return Err(CodecError::Unsuitable);
    }
    let mut context = context(level, content.len(), dictionary.window())?;
    set(&mut context, CParameter::EnableLongDistanceMatching(true))?;
    context
        .ref_prefix(dictionary.content())
        .map_err(|_| CodecError::Memory)?;
    finish(&mut context, header(dictionary.digest(), content.len()), content)
}

/// A version made ready to be referred to again and again: what matches are looked up in is built
/// once, which is most of the work of [`encode`]. Without long-distance matching, so for content
/// whose every place zstd's own tables reach.
pub struct Prepared {
    dictionary: CDict<'static>,
    digest: Digest,
}

impl Prepared {
    /// The longest version, and the longest content, that it is for.
    pub const MOST: usize = 128 << 10;

    /// Of `dictionary`, whose content is copied; takes as long as [`encode`].
    ///
    /// # Errors
    /// [`CodecError::Unsuitable`] or [`CodecError::Memory`].
    pub fn new(dictionary: &Dictionary) -> Result<Self, CodecError> {
        if !dictionary.suitable() || dictionary.content().len() > Self::MOST {
            return Err(CodecError::Unsuitable);
        }
        Ok(Self {
            dictionary: CDict::try_create(dictionary.content(), level(Level::Now)).ok_or(CodecError::Memory)?,
            digest: dictionary.digest(),
        })
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        self.dictionary.sizeof()
    }

    /// `content` as a `dcz` stream, as by [`encode`] at [`Level::Now`].
    ///
    /// # Errors
    /// [`CodecError::Unsuitable`] or [`CodecError::Memory`].
    pub fn encode(&self, content: &[u8]) -> Result<Vec<u8>, CodecError> {
        if content.len() > Self::MOST {
            return Err(CodecError::Unsuitable);
        }
        let mut context = CCtx::try_create().ok_or(CodecError::Memory)?;
        set(&mut context, CParameter::ChecksumFlag(true))?;
        pledge(&mut context, content.len())?;
        context.ref_cdict(&self.dictionary).map_err(|_| CodecError::Memory)?;
        finish(&mut context, header(self.digest, content.len()), content)
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// `content` as plain zstd, within the window that every receiver takes (RFC 9659: 8 MiB), checksum
/// on.
///
/// # Errors
/// [`CodecError::Memory`].
pub fn encode_plain(level: Level, content: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut context = context(level, content.len(), SMALLEST_WINDOW)?;
    finish(&mut context, Vec::with_capacity(compress_bound(content.len())), content)
}

/// The stream's header, with room behind it for `length` bytes of content at their worst.
fn header(digest: Digest, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER.saturating_add(compress_bound(length)));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(digest.as_bytes());
    out
}

/// zstd's number.
const fn level(level: Level) -> i32 {
    match level {
        Level::Now => 3,
        Level::Later => 19,
    }
}

fn context<'a>(effort: Level, length: usize, window: u64) -> Result<CCtx<'a>, CodecError> {
    let mut context = CCtx::try_create().ok_or(CodecError::Memory)?;
    set(&mut context, CParameter::CompressionLevel(level(effort)))?;
    set(&mut context, CParameter::ChecksumFlag(true))?;
    set(&mut context, CParameter::WindowLog(window_log(length, window)))?;
    pledge(&mut context, length)?;
    Ok(context)
}

fn pledge(context: &mut CCtx<'_>, length: usize) -> Result<(), CodecError> {
    let length = u64::try_from(length).map_err(|_| CodecError::Memory)?;
    let done = context.set_pledged_src_size(Some(length));
    done.map(drop).map_err(|_| CodecError::Memory)
}

fn set(context: &mut CCtx<'_>, parameter: CParameter) -> Result<(), CodecError> {
    context
        .set_parameter(parameter)
        .map(drop)
        .map_err(|_| CodecError::Memory)
}

/// The smallest window that covers `length`, or the largest within `bound` when that does not; at
/// least 128 KiB, below which zstd's tables get worse.
fn window_log(length: usize, bound: u64) -> u32 {
    let length = u64::try_from(length).unwrap_or(u64::MAX).clamp(1 << 17, LARGEST_WINDOW);
    let covers = length.next_power_of_two().trailing_zeros();
    // A single segment's window is the content's length, so a power of two above the bound can
    // still be within it.
    if length <= bound { covers } else { bound.ilog2() }
}

/// All of `content` behind what `out` begins with. With room for the worst case the library works
/// in one pass.
fn finish(context: &mut CCtx<'_>, mut out: Vec<u8>, content: &[u8]) -> Result<Vec<u8>, CodecError> {
    let begin = out.len();
    let mut output = OutBuffer::around_pos(&mut out, begin);
    let mut input = InBuffer::around(content);
    let left = context
        .compress_stream2(&mut output, &mut input, ZSTD_e_end)
        .map_err(|_| CodecError::Memory)?;
    if left != 0 {
        return Err(CodecError::Memory);
    }
    out.shrink_to_fit();
    Ok(out)
}
