//! Both codings there and back, against the reference programs, and against streams that are not
//! what they should be.

use super::dcz::Prepared;
use super::*;

/// A generator of repeatable noise (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Text-like: words of a small vocabulary, and now and then bytes of no pattern.
    fn text(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < length {
            match self.below(12) {
                0 => out.extend(self.next().to_le_bytes()),
                n => out.extend(format!("<li class=\"item-{n}\">{}</li>\n", self.below(50)).bytes()),
            }
        }
        out.truncate(length);
        out
    }

    /// Another version: pieces replaced, put in, left out, moved.
    fn next_version(&mut self, old: &[u8]) -> Vec<u8> {
        let mut new = old.to_vec();
        for _ in 0..self.below(6) {
            let at = self.below(new.len() + 1);
            let end = (at + self.below(200)).min(new.len());
            let length = self.below(200);
            let put = self.text(length);
            match self.below(3) {
                0 => drop(new.splice(at..end, put)),
                1 => drop(new.drain(at..end)),
                _ => {
                    let moved: Vec<u8> = new.drain(at..end).collect();
                    let to = self.below(new.len() + 1);
                    drop(new.splice(to..to, moved));
                }
            }
        }
        new
    }
}

/// Decodes in pieces of `step` bytes.
fn decode(mut decoder: Decoder, stream: &[u8], step: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    for piece in stream.chunks(step.max(1)) {
        decoder.feed(Bytes::copy_from_slice(piece));
        while let Some(content) = decoder.piece()? {
            assert!(!content.is_empty());
            out.extend_from_slice(&content);
        }
    }
    decoder.finish()?;
    Ok(out)
}

fn dcz(dictionary: &Dictionary, stream: &[u8], limit: u64, step: usize) -> Result<Vec<u8>, CodecError> {
    decode(Decoder::dcz(dictionary, limit)?, stream, step)
}

/// A wrong byte here is a wrong byte at a client.
#[test]
fn there_and_back() {
    let mut noise = Noise(1);
    for round in 0..400 {
        let length = 1 + noise.below(if round % 40 == 0 { 300_000 } else { 5_000 });
        let old = Dictionary::new(noise.text(length));
        let new = noise.next_version(old.content());
        let step = 1 + noise.below(3_000);
        let level = if round % 8 == 0 { Level::Later } else { Level::Now };
        let stream = dcz::encode(level, &old, &new).unwrap();
        assert_eq!(dcz(&old, &stream, new.len() as u64, step).unwrap(), new);
        if old.content().len() <= Prepared::MOST && new.len() <= Prepared::MOST {
            let prepared = Prepared::new(&old).unwrap();
            for content in [&new[..], old.content(), &new[new.len() / 2..]] {
                let stream = prepared.encode(content).unwrap();
                assert_eq!(dcz(&old, &stream, content.len() as u64, step).unwrap(), content);
                let head = frame::Head::read(&stream[dcz::HEADER..]).unwrap().unwrap();
                assert!(head.checked && head.window <= old.window());
            }
        }
        let stream = dcz::encode_plain(level, &new).unwrap();
        let plain = Decoder::zstd(new.len() as u64).unwrap();
        assert_eq!(decode(plain, &stream, step).unwrap(), new);
        if round % 4 == 0 {
            let stream = dcb::encode(Level::Now, &old, &new).unwrap();
            assert_eq!(dcb::decode(&old, &stream, new.len()).unwrap(), new);
        }
    }
}

/// The purpose: what did not change costs next to nothing, wherever it is.
#[test]
fn only_what_changed() {
    let mut noise = Noise(2);
    let old = Dictionary::new(noise.text(200_000));
    let mut new = old.content().to_vec();
    new.rotate_left(90_000);
    new.splice(50_000..50_010, *b"changed");
    let short = Dictionary::new(old.content().slice(..120_000));
    let moved = [&short.content()[60_000..], b"changed", &short.content()[..60_000]].concat();
    let stream = Prepared::new(&short).unwrap().encode(&moved).unwrap();
    assert!(stream.len() < 400, "{}", stream.len());
    assert!(Prepared::new(&old).is_err() && Prepared::new(&short).unwrap().encode(&new).is_err());
    for level in [Level::Now, Level::Later] {
        let stream = dcz::encode(level, &old, &new).unwrap();
        assert!(stream.len() < 400, "{level:?}: {}", stream.len());
    }
    let stream = dcb::encode(Level::Now, &old, &new).unwrap();
    assert!(stream.len() < 1_500, "dcb: {}", stream.len());
}

/// The header of RFC 9842, byte by byte: browsers check it.
#[test]
fn headers() {
    let old = Dictionary::new(&b"one version of it"[..]);
    let stream = dcz::encode(Level::Now, &old, b"another version of it").unwrap();
    assert_eq!(stream[..8], [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0]);
    assert_eq!(stream[8..40], *old.digest().as_bytes());
    let stream = dcb::encode(Level::Now, &old, b"another version of it").unwrap();
    assert_eq!(stream[..4], [0xff, 0x44, 0x43, 0x42]);
    assert_eq!(stream[4..36], *old.digest().as_bytes());
}

/// A stream that was damaged, cut or made for another version is an error, never other content; and
/// no stream of any bytes may panic, hang, or give more than it may.
#[test]
fn damage_is_found() {
    let mut noise = Noise(3);
    let old = Dictionary::new(noise.text(4_000));
    let other = Dictionary::new(noise.text(4_000));
    let new = noise.next_version(old.content());
    let good = dcz::encode(Level::Now, &old, &new).unwrap();
    let limit = new.len() as u64;
    assert_eq!(dcz(&other, &good, limit, 100), Err(CodecError::WrongDictionary));
    assert_eq!(dcz(&old, &good, limit - 1, 100), Err(CodecError::TooLarge));
    assert_eq!(
        dcz(&old, &[&good[..], b"x"].concat(), limit, 7),
        Err(CodecError::Trailing)
    );
    for cut in 0..good.len() {
        assert!(dcz(&old, &good[..cut], limit, 50).is_err(), "cut at {cut}");
    }
    for _ in 0..4_000 {
        let mut bad = good.clone();
        for _ in 0..1 + noise.below(3) {
            let at = noise.below(bad.len());
            bad[at] ^= 1 << noise.below(8);
        }
        if let Ok(content) = dcz(&old, &bad, limit, 64) {
            assert_eq!(content, new, "the checksum let a change pass");
        }
    }
    let stream = dcb::encode(Level::Now, &old, &new).unwrap();
    assert_eq!(
        dcb::decode(&other, &stream, new.len()),
        Err(CodecError::WrongDictionary)
    );
    assert_eq!(dcb::decode(&old, &stream, new.len() - 1), Err(CodecError::TooLarge));
    for cut in 0..stream.len() {
        assert!(dcb::decode(&old, &stream[..cut], new.len()).is_err(), "cut at {cut}");
    }
}

/// Without the checksum a wrong version would decode to wrong bytes in silence; a stream that asks
/// for gigabytes is refused before they are taken; a few bytes that become many end at the bound.
#[test]
fn bombs_and_unchecked_streams() {
    let old = Dictionary::new(Noise(4).text(1_000));
    let head = [&dcz::MAGIC[..], old.digest().as_bytes()].concat();
    let unchecked = zstd::bulk::compress(old.content(), 3).unwrap();
    let stream = [&head[..], &unchecked].concat();
    assert_eq!(dcz(&old, &stream, 10_000, 10), Err(CodecError::Unchecked));
    // No content size, checksum, a window of 16 MiB where 8 are allowed.
    let greedy = [&head[..], &[0x28, 0xb5, 0x2f, 0xfd, 0b100, 14 << 3]].concat();
    assert_eq!(dcz(&old, &greedy, u64::MAX, 10), Err(CodecError::Window));
    let bomb = dcz::encode(Level::Now, &old, &vec![0; 50 << 20]).unwrap();
    assert!(bomb.len() < 10_000);
    assert_eq!(dcz(&old, &bomb, 1 << 20, 1_000), Err(CodecError::TooLarge));
    let bomb = dcb::encode(Level::Now, &old, &vec![0; 10 << 20]).unwrap();
    assert_eq!(dcb::decode(&old, &bomb, 1 << 20), Err(CodecError::TooLarge));
}

/// The bounds of the standard: what a browser would refuse must not be sent.
#[test]
fn windows() {
    let window = |length: usize| Dictionary::with_digest(Bytes::from(vec![1; length]), Digest::of(b"")).window();
    assert_eq!(window(1), 8 << 20);
    assert_eq!(window(8 << 20), 10 << 20);
    assert_eq!(window(120 << 20), 128 << 20);
    let old = Dictionary::new(Noise(5).text(10_000));
    // Content beyond the window: still exact, in a window of 8 MiB.
    let new = Noise(6).text(9 << 20);
    let stream = dcz::encode(Level::Now, &old, &new).unwrap();
    let head = frame::Head::read(&stream[dcz::HEADER..]).unwrap().unwrap();
    assert_eq!((head.window, head.checked), (8 << 20, true));
    assert!(dcz(&old, &stream, 9 << 20, 1 << 20).unwrap() == new);
    assert_eq!(
        dcb::encode(Level::Now, &old, &vec![0; dcb::MOST]).err(),
        Some(CodecError::Unsuitable)
    );
    let trained = Dictionary::new(&[0x37, 0xa4, 0x30, 0xec, 1, 2, 3][..]);
    assert_eq!(
        dcz::encode(Level::Now, &trained, b"x").err(),
        Some(CodecError::Unsuitable)
    );
    assert!(Decoder::dcz(&trained, 1).is_err());
}

/// Others must read what we write, and the other way round: the reference program with a file to
/// patch from, where it is installed.
#[test]
fn with_the_zstd_program() {
    use std::process::{Command, Stdio};
    let zstd = |arguments: &[&str], directory: &std::path::Path| {
        Command::new("zstd")
            .args(arguments)
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    let directory = tempfile::tempdir().unwrap();
    if zstd(&["--version"], directory.path()).is_err() {
        eprintln!("skipped: no zstd program");
        return;
    }
    let mut noise = Noise(7);
    let old = Dictionary::new(noise.text(60_000));
    let new = noise.next_version(old.content());
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("old"), old.content()).unwrap();
    std::fs::write(path("new"), &new).unwrap();
    // The skippable frame with the digest is one that the program skips.
    let stream = dcz::encode(Level::Now, &old, &new).unwrap();
    std::fs::write(path("ours.zst"), &stream).unwrap();
    let prepared = Prepared::new(&old).unwrap().encode(&new).unwrap();
    std::fs::write(path("prepared.zst"), &prepared).unwrap();
    let theirs = zstd(
        &["-d", "-f", "--patch-from=old", "prepared.zst", "-o", "back"],
        directory.path(),
    );
    assert!(theirs.unwrap().success() && std::fs::read(path("back")).unwrap() == new);
    let theirs = zstd(
        &["-d", "-f", "--patch-from=old", "ours.zst", "-o", "back"],
        directory.path(),
    );
    assert!(theirs.unwrap().success());
    assert!(std::fs::read(path("back")).unwrap() == new);
    let made = zstd(
        &["-f", "-19", "--check", "--patch-from=old", "new", "-o", "theirs.zst"],
        directory.path(),
    );
    assert!(made.unwrap().success());
    let frame = std::fs::read(path("theirs.zst")).unwrap();
    let stream = [&stream[..dcz::HEADER], &frame].concat();
    assert!(dcz(&old, &stream, new.len() as u64, 999).unwrap() == new);
}
