//! The head of a zstd frame (RFC 8878 section 3.1.1.1), read before anything is decoded: it says
//! how much memory the frame asks for, and whether it checks itself.

use super::CodecError;

/// Magic number of a zstd frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The longest head: magic, descriptor, window, dictionary id, content size.
pub(super) const LONGEST: usize = 4 + 1 + 1 + 4 + 8;

/// What a frame's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes that a decoder must keep.
    pub(super) window: u64,
    /// Bytes of content, where it is said.
    pub(super) content: Option<u64>,
    /// A checksum of the content follows it.
    pub(super) checked: bool,
    /// It asks for a trained dictionary by a number.
    pub(super) trained: bool,
}

impl Head {
    /// Reads a head from the front of `bytes`; `None` when more bytes are needed.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let seen = bytes.len().min(MAGIC.len());
        if bytes.get(..seen) != MAGIC.get(..seen) {
            return Err(CodecError::Header);
        }
        let Some(descriptor) = bytes.get(4).copied() else {
            return Ok(None);
        };
        if descriptor & 0b1000 != 0 {
            // Reserved; a decoder that does not know its meaning must refuse it.
            return Err(CodecError::Header);
        }
        let single = descriptor & 0b10_0000 != 0;
        let id = match descriptor & 0b11 {
            3 => 4,
            n => usize::from(n),
        };
        let size = match descriptor >> 6 {
            0 => usize::from(single),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let mut rest = bytes.get(5..).unwrap_or_default();
        let mut take = |n: usize| {
            let (field, behind) = rest.split_at_checked(n)?;
            rest = behind;
            Some(field.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        let Some(window) = take(usize::from(!single)) else {
            return Ok(None);
        };
        let Some(id) = take(id) else {
            return Ok(None);
        };
        let Some(content) = take(size) else {
            return Ok(None);
        };
        let content = match size {
            0 => None,
            2 => Some(content.saturating_add(256)),
            _ => Some(content),
        };
        let window = if single {
            content.unwrap_or(0)
        } else {
            let base = 1_u64 << (10 + (window >> 3));
            base + (base >> 3) * (window & 0b111)
        };
        Ok(Some(Self {
            window,
            content,
            checked: descriptor & 0b100 != 0,
            trained: id != 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window read too small would let a stranger's stream take gigabytes.
    #[test]
    fn heads() {
        let head = |bytes: &[u8]| Head::read(&[&MAGIC[..], bytes].concat());
        let read = |bytes: &[u8]| head(bytes).unwrap().unwrap();
        // No content size; window descriptor at its largest: 2^41 and seven eighths more.
        let largest = read(&[0b100, 0xff]);
        assert_eq!((largest.window, largest.content), ((1 << 41) + 7 * (1 << 38), None));
        assert!(largest.checked && !largest.trained);
        // A single segment: the window is the content's size.
        assert_eq!(read(&[0b0010_0000, 77]).window, 77);
        assert_eq!(read(&[0b0110_0000, 0, 1]).content, Some(512));
        assert_eq!(read(&[0b1110_0000, 1, 0, 0, 0, 0, 0, 0, 1]).window, (1 << 56) + 1);
        assert!(read(&[0b0010_0001, 9, 77]).trained);
        for short in [&[][..], &[0b100], &[0b1110_0000, 1, 2]] {
            assert_eq!(head(short), Ok(None), "{short:?}");
        }
        assert_eq!(head(&[0b1000]), Err(CodecError::Header));
        assert_eq!(Head::read(&[0x28, 0xb6]), Err(CodecError::Header));
        assert_eq!(Head::read(&[]), Ok(None));
    }
}
