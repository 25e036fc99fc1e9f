//! What the host computes for the engine: digests, cryptography, compression, encodings. One door,
//! `call`: a number that says what, two numbers of its own, and parts of the guest's memory; the
//! result is bytes that the guest takes, or a code. Whatever takes long is cut into pieces of
//! [`PIECE`] bytes, between which others have their turn and the guest's budget is looked at, or
//! made on another thread.

use bytes::Bytes;
use wasmtime::Caller;

use super::code::Code;
use super::codecs::{self, Codecs};
use super::crypto::{self, Hash, Hashing, Keyed};
use super::guest::{self, Guest};
use super::sockets;
use crate::isolate::error::Ended;

/// Bytes that are worked on at once.
pub(super) const PIECE: usize = 128 << 10;
/// Parts of one call.
const PARTS: u32 = 8;
/// Bytes of a private key of RSA that is used in about a millisecond: 2,048 bits. Longer ones take
/// several.
const SHORT_KEY: usize = 1_300;
/// Rounds of PBKDF2 at once: about a millisecond.
const ROUNDS: u32 = 1_000;

type Call<'a> = Caller<'a, Guest>;

/// Parts of the guest's memory, checked when they are read.
pub(super) struct Parts {
    places: Vec<(u32, u32)>,
}

impl Parts {
    fn of(c: &Call<'_>, at: u32, count: u32) -> wasmtime::Result<Self> {
        if count > PARTS {
            return Err(Ended::Host.into());
        }
        let bytes = guest::bytes(c, at, count.saturating_mul(8))?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let places = bytes
            .chunks_exact(8)
            .map(|pair| {
                let (at, length) = pair.split_at(4);
                (word(at), word(length))
            })
            .collect();
        Ok(Self { places })
    }

    /// The whole of a part; nothing if there is none.
    pub(super) fn get<'a>(&self, c: &'a Call<'_>, which: usize) -> wasmtime::Result<&'a [u8]> {
        match self.places.get(which) {
            Some((at, length)) if *length > 0 => guest::bytes(c, *at, *length),
            _ => Ok(&[]),
        }
    }

    /// Bytes of all of them.
    fn all(&self) -> usize {
        (0..self.places.len()).fold(0, |sum, n| sum.saturating_add(self.length(n)))
    }

    fn length(&self, which: usize) -> usize {
        self.places.get(which).map_or(0, |(_, length)| *length as usize)
    }

    /// So many bytes of a part from `from` on.
    fn piece<'a>(&self, c: &'a Call<'_>, which: usize, from: usize) -> wasmtime::Result<&'a [u8]> {
        let all = self.get(c, which)?;
        let to = from.saturating_add(PIECE).min(all.len());
        Ok(all.get(from..to).unwrap_or_default())
    }
}

/// Lets others have their turn, or ends a guest that is over its budget.
async fn breathe(c: &mut Call<'_>) -> wasmtime::Result<()> {
    let meter = c.data().base.meter.clone();
    meter.breathe().await
}

/// The door. The length of the result, which is kept to be taken, or a code below zero.
pub(super) async fn call(mut c: Call<'_>, what: i32, a: i32, b: i32, parts: u32, count: u32) -> wasmtime::Result<i32> {
    let parts = Parts::of(&c, parts, count)?;
    let made = match what {
        1 => match Hash::of(a) {
            Ok(hash) => Ok(Vec::from(digest(&mut c, hash, &parts, 0).await?.as_ref())),
            Err(code) => Err(code),
        },
        2 => match Hash::of(a) {
            Ok(hash) => Ok(mac(&mut c, hash, &parts).await?),
            Err(code) => Err(code),
        },
        3 => pbkdf2(&mut c, a, b, &parts).await?,
        // Signatures and their verification work on digests, which are made piece by piece.
        9 | 10 | 12 | 13 => match Hash::of(b) {
            Ok(hash) => {
                let digest = digest(&mut c, hash, &parts, crypto::message(what)).await?;
                let long = what == 9 && parts.length(0) > SHORT_KEY;
                compute(&mut c, &parts, long, move |[first, second, ..]| {
                    crypto::signature(what, a, &digest, first, second)
                })
                .await?
            }
            Err(code) => Err(code),
        },
        17 => compute(&mut c, &parts, a == crypto::RSA, move |_| crypto::generate(a, b)).await?,
        20 => codec(&mut c, a, b, &parts).await?,
        21 => {
            compute(&mut c, &parts, parts.all() > PIECE, move |[bytes, ..]| {
                decode(a, b, bytes)
            })
            .await?
        }
        22 => label(&c, &parts)?,
        23 => zone(&c, &parts)?,
        30 => socket_send(&mut c, a, b, &parts)?,
        31 => Ok(c.data_mut().live()?.outside.facts()),
        32 => {
            let live = c.data_mut().live()?;
            let left = live.outside.clone().left();
            live.traffic
                .watch(left)
                .map(|operation| operation.to_le_bytes().to_vec())
        }
        _ => {
            let long = parts.all() > PIECE || what == 11 && parts.length(0) > SHORT_KEY;
            compute(&mut c, &parts, long, move |parts| crypto::call(what, a, b, parts)).await?
        }
    };
    breathe(&mut c).await?;
    let bytes = match made {
        Ok(bytes) => bytes,
        Err(code) => return Ok(code.number()),
    };
    let length = i32::try_from(bytes.len()).map_err(|_| Ended::Memory)?;
    if let Some(slot) = c.data_mut().takes.first_mut() {
        *slot = Bytes::from(bytes);
    }
    Ok(length)
}

/// Gives socket `id` a message: of kind 1 text, 2 bytes, 4 and more the end, 4 more than its code.
fn socket_send(c: &mut Call<'_>, id: i32, kind: i32, parts: &Parts) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    let (kind, code) = match kind {
        1 | 2 => (kind, 0),
        kind => (3, kind.saturating_sub(4)),
    };
    let message = match sockets::message(kind, code, parts.get(c, 0)?) {
        Ok(message) => message,
        Err(code) => return Ok(Err(code)),
    };
    let live = c.data_mut().live()?;
    live.outside.moved();
    Ok(live.traffic.send(id, message).map(|()| Vec::new()))
}

async fn digest(
    c: &mut Call<'_>,
    hash: Hash,
    parts: &Parts,
    which: usize,
) -> wasmtime::Result<aws_lc_rs::digest::Digest> {
    let mut hashing = Hashing::new(hash);
    let mut at = 0_usize;
    while at < parts.length(which) {
        let piece = parts.piece(c, which, at)?;
        hashing.update(piece);
        at = at.saturating_add(PIECE);
        breathe(c).await?;
    }
    Ok(hashing.finish())
}

async fn mac(c: &mut Call<'_>, hash: Hash, parts: &Parts) -> wasmtime::Result<Vec<u8>> {
    let mut keyed = Keyed::new(hash, parts.get(c, 0)?);
    let mut at = 0_usize;
    while at < parts.length(1) {
        let piece = parts.piece(c, 1, at)?;
        keyed.update(piece);
        at = at.saturating_add(PIECE);
        breathe(c).await?;
    }
    Ok(keyed.finish())
}

/// PBKDF2 (RFC 8018 section 5.2): password, salt, and the bytes wanted as text.
async fn pbkdf2(c: &mut Call<'_>, hash: i32, rounds: i32, parts: &Parts) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    let (hash, rounds) = match (Hash::of(hash), u32::try_from(rounds)) {
        (Ok(hash), Ok(rounds)) if rounds > 0 => (hash, rounds),
        (Err(code), _) => return Ok(Err(code)),
        _ => return Ok(Err(Code::Operation)),
    };
    let Some(wanted) = number(parts.get(c, 2)?).filter(|n| *n <= crypto::DERIVED) else {
        return Ok(Err(Code::Operation));
    };
    let mut derivation = crypto::Pbkdf2::new(hash, parts.get(c, 0)?, parts.get(c, 1)?, wanted);
    while !derivation.is_done() {
        derivation.rounds(rounds, ROUNDS);
        breathe(c).await?;
    }
    Ok(Ok(derivation.finish()))
}

/// Decimal digits.
pub(super) fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Does `work` on the parts: here, or, if it is long, on another thread with copies of them.
async fn compute(
    c: &mut Call<'_>,
    parts: &Parts,
    long: bool,
    work: impl FnOnce([&[u8]; 4]) -> Result<Vec<u8>, Code> + Send + 'static,
) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    if !long {
        return Ok(work([
            parts.get(c, 0)?,
            parts.get(c, 1)?,
            parts.get(c, 2)?,
            parts.get(c, 3)?,
        ]));
    }
    // The copies, and the result.
    let bytes = parts.all().saturating_mul(2);
    let Ok(held) = c.data().base.account().hold(bytes) else {
        return Ok(Err(Code::TooLarge));
    };
    let copied: Result<Vec<Vec<u8>>, wasmtime::Error> = (0..4).map(|n| Ok(parts.get(c, n)?.to_vec())).collect();
    let copied = copied?;
    let meter = c.data().base.meter.clone();
    meter
        .elsewhere(move || {
            let _held = held;
            let part = |n: usize| copied.get(n).map_or(&[][..], Vec::as_slice);
            work([part(0), part(1), part(2), part(3)])
        })
        .await
}

/// A chunk through a codec. `how`: bits 0 and 1 the format of one to be opened, 2 whether it
/// compresses, 3 whether the chunk is the last, 4 whether the codec is closed. The result's first
/// four bytes are the codec's number, the fifth whether there is more.
async fn codec(c: &mut Call<'_>, number: i32, how: i32, parts: &Parts) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    let live = c.data_mut().live()?;
    let id = match how & 3 {
        0 => number,
        format => {
            let held = match live.traffic.hold(codecs::BYTES) {
                Ok(held) => held,
                Err(code) => return Ok(Err(code)),
            };
            match live.codecs.open(format, how & 4 != 0, held) {
                Ok(id) => id,
                Err(code) => return Ok(Err(code)),
            }
        }
    };
    if how & 16 != 0 {
        live.codecs.close(id);
        return Ok(Ok(Vec::new()));
    }
    let mut codecs: Codecs = std::mem::take(&mut live.codecs);
    let made = through(c, &mut codecs, id, how & 8 != 0, parts).await;
    let live = c.data_mut().live()?;
    live.codecs = codecs;
    let made = made?;
    if made.is_err() {
        live.codecs.close(id);
    }
    Ok(made)
}

async fn through(
    c: &mut Call<'_>,
    codecs: &mut Codecs,
    id: i32,
    last: bool,
    parts: &Parts,
) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    let codec = match codecs.get(id) {
        Ok(codec) => codec,
        Err(code) => return Ok(Err(code)),
    };
    let mut out = Vec::from(id.to_le_bytes());
    out.push(0);
    let (mut at, all) = (0_usize, parts.length(0));
    loop {
        let piece = parts.piece(c, 0, at)?;
        at = at.saturating_add(piece.len());
        let (made, more) = match codec.work(piece, last && at >= all) {
            Ok(made) => made,
            Err(code) => return Ok(Err(code)),
        };
        out.extend_from_slice(&made);
        breathe(c).await?;
        let enough = out.len() >= codecs::OUTPUT;
        if at < all && !enough {
            continue;
        }
        // Input that does not fit into this answer waits in the codec.
        while at < all {
            let piece = parts.piece(c, 0, at)?;
            at = at.saturating_add(piece.len().max(1));
            codec.keep(piece);
        }
        if enough || !more {
            if let Some(flag) = out.get_mut(4) {
                *flag = u8::from(more || codec.pending() > 0 && enough);
            }
            return Ok(Ok(out));
        }
    }
}

/// The text of bytes in an encoding of the Encoding standard, as UTF-8. `encoding` is a number of
/// [`label`]'s; `how`: bit 0 fatal.
fn decode(encoding: i32, how: i32, bytes: &[u8]) -> Result<Vec<u8>, Code> {
    let known = usize::try_from(encoding).ok().and_then(|at| ENCODINGS.get(at));
    let Some(encoding) = known else {
        return Err(Code::Unsupported);
    };
    let (text, bad) = encoding.decode_without_bom_handling(bytes);
    if bad && how & 1 != 0 {
        return Err(Code::Malformed);
    }
    Ok(text.into_owned().into_bytes())
}

/// What a label stands for: the encoding's number as one byte, and its name in lower case.
fn label(c: &Call<'_>, parts: &Parts) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    let label = parts.get(c, 0)?;
    let found = encoding_rs::Encoding::for_label(label);
    let at = found.and_then(|found| ENCODINGS.iter().position(|known| *known == found));
    Ok(match (found, at.map(u8::try_from)) {
        (Some(found), Some(Ok(at))) => {
            let mut answer = vec![at];
            answer.extend(found.name().to_ascii_lowercase().into_bytes());
            Ok(answer)
        }
        _ => Err(Code::Unsupported),
    })
}

/// What a time zone is at a time (milliseconds since 1970, as text): seconds east of UTC, its
/// abbreviation then, and its name as the IANA database spells it, each on a line.
fn zone(c: &Call<'_>, parts: &Parts) -> wasmtime::Result<Result<Vec<u8>, Code>> {
    let (name, time) = (parts.get(c, 0)?, parts.get(c, 1)?);
    let found = std::str::from_utf8(name)
        .ok()
        .and_then(|name| ZONES.get_or_init(jiff::tz::TimeZoneDatabase::bundled).get(name).ok());
    let time: Option<i64> = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok());
    let (Some(zone), Some(time)) = (found, time) else {
        return Ok(Err(Code::Unsupported));
    };
    // Beyond the years that the database knows, the nearest that it does.
    let time = jiff::Timestamp::from_millisecond(time).unwrap_or(match time < 0 {
        true => jiff::Timestamp::MIN,
        false => jiff::Timestamp::MAX,
    });
    let info = zone.to_offset_info(time);
    let name = zone.iana_name().unwrap_or("UTC");
    Ok(Ok(format!(
        "{}\n{}\n{name}",
        info.offset().seconds(),
        info.abbreviation()
    )
    .into_bytes()))
}

static ZONES: std::sync::OnceLock<jiff::tz::TimeZoneDatabase> = std::sync::OnceLock::new();

/// All of the standard but UTF-8 and UTF-16, which the engine reads itself, and `replacement`,
/// which is none.
static ENCODINGS: [&encoding_rs::Encoding; 36] = [
    encoding_rs::BIG5,
    encoding_rs::EUC_JP,
    encoding_rs::EUC_KR,
    encoding_rs::GB18030,
    encoding_rs::GBK,
    encoding_rs::IBM866,
    encoding_rs::ISO_2022_JP,
    encoding_rs::ISO_8859_10,
    encoding_rs::ISO_8859_13,
    encoding_rs::ISO_8859_14,
    encoding_rs::ISO_8859_15,
    encoding_rs::ISO_8859_16,
    encoding_rs::ISO_8859_2,
    encoding_rs::ISO_8859_3,
    encoding_rs::ISO_8859_4,
    encoding_rs::ISO_8859_5,
    encoding_rs::ISO_8859_6,
    encoding_rs::ISO_8859_7,
    encoding_rs::ISO_8859_8,
    encoding_rs::ISO_8859_8_I,
    encoding_rs::KOI8_R,
    encoding_rs::KOI8_U,
    encoding_rs::MACINTOSH,
    encoding_rs::SHIFT_JIS,
    encoding_rs::WINDOWS_1250,
    encoding_rs::WINDOWS_1251,
    encoding_rs::WINDOWS_1252,
    encoding_rs::WINDOWS_1253,
    encoding_rs::WINDOWS_1254,
    encoding_rs::WINDOWS_1255,
    encoding_rs::WINDOWS_1256,
    encoding_rs::WINDOWS_1257,
    encoding_rs::WINDOWS_1258,
    encoding_rs::WINDOWS_874,
    encoding_rs::X_MAC_CYRILLIC,
    encoding_rs::X_USER_DEFINED,
];
