//! Content that both ends can make: which bytes stand where follows from a seed, a length and a
//! version.
//!
//! No two places of it are alike, so that a piece that is missing, twice there, or another
//! response's is seen; half of it is redundant, so that coding has something to do.

use std::path::PathBuf;

use anyhow::{Context, Result};
use edge_testbed::changing::Noise;
use edge_testbed::words::Words;

/// The longest content.
pub(crate) const LONGEST: usize = 4 << 20;
/// One line of content: 16 hexadecimal digits and a newline.
const LINE: usize = 17;
/// One line in that many differs between versions.
const CHANGED: u64 = 64;
/// How long a version of changing content lasts.
pub(crate) const VERSION_MS: u64 = 500;
/// Files of the zone that serves a directory, by name `N.txt`.
pub(crate) const FILES: u64 = 8;

/// Content of version 0.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    version(seed, length, 0)
}

/// Content whose lines are those of `seed`, but for one in [`CHANGED`], which depends on `version`
/// as well.
pub(crate) fn version(seed: u64, length: usize, version: u64) -> Vec<u8> {
    let length = length.min(LONGEST);
    let mut bytes = Vec::with_capacity(length + LINE);
    let mut noise = Noise::new(seed);
    let mut at = 0_u64;
    while bytes.len() < length {
        let mut word = noise.draw();
        if version > 0 && at % CHANGED == 7 {
            word ^= Noise::new(version).draw();
        }
        bytes.extend_from_slice(format!("{word:016x}\n").as_bytes());
        at += 1;
    }
    bytes.truncate(length);
    bytes
}

/// The length of file `n`.
pub(crate) fn file_length(n: u64) -> usize {
    100 + usize::try_from(n).unwrap_or(0).saturating_mul(40_000)
}

/// Writes the files below `directory=`.
pub(crate) fn write_files(words: &Words) -> Result<()> {
    let directory: PathBuf = words.get("directory")?;
    for n in 0..FILES {
        let path = directory.join(format!("{n}.txt"));
        std::fs::write(&path, content(n, file_length(n))).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Where `got` first differs from `wanted`, for a report; nothing if it does not.
pub(crate) fn difference(got: &[u8], wanted: &[u8]) -> Option<String> {
    if got == wanted {
        return None;
    }
    let at = got
        .iter()
        .zip(wanted)
        .position(|(a, b)| a != b)
        .unwrap_or(got.len().min(wanted.len()));
    let piece = |bytes: &[u8]| {
        let end = bytes.len().min(at + 40);
        String::from_utf8_lossy(bytes.get(at..end).unwrap_or_default()).into_owned()
    };
    Some(format!(
        "{} bytes, not {}; from byte {at} on {:?}, not {:?}",
        got.len(),
        wanted.len(),
        piece(got),
        piece(wanted)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An oracle that takes one seed's, place's or version's bytes for another's sees no mistake.
    #[test]
    fn no_two_are_alike() {
        let whole = content(1, 10_000);
        assert_eq!(whole.len(), 10_000);
        assert_eq!(whole, content(1, 20_000)[..10_000]);
        assert_ne!(whole, content(2, 10_000));
        assert_ne!(version(1, 10_000, 5), version(1, 10_000, 6));
        assert_eq!(difference(&whole, &content(1, 10_000)), None);
        let mut moved = whole.clone();
        moved.drain(170..340);
        moved.truncate(9_000);
        assert!(difference(&moved, &whole[..9_000]).is_some_and(|words| words.contains("from byte 170 on")));
        let changed = version(1, 10_000, 5).iter().zip(&whole).filter(|(a, b)| a != b).count();
        assert!((100..400).contains(&changed), "{changed}");
    }
}
