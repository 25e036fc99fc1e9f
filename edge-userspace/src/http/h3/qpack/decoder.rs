//! What a client's encoder says: its instructions, which fill the table, and field sections, which
//! may refer to it.

use bytes::{Bytes, BytesMut};

use super::fixed::{self, Name};
use super::table::{Entry, Table};
use super::{CAPACITY, Code, Length, Text, integer};
use crate::base::varint::put_prefixed;

/// Entries that a table of [`CAPACITY`] has at most, with which Required Insert Counts are reckoned
/// (section 4.5.1.1).
const ENTRIES: u64 = CAPACITY / 32;
/// Bytes of the longest instruction that is waited for: a name and a value that fill the table,
/// coded as badly as can be (30 bits a byte), and their lengths.
const LONGEST: usize = (CAPACITY as usize) * 4 + 32;

/// Who takes the lines of a field section.
pub trait Lines {
    /// The next line.
    ///
    /// # Errors
    /// Nothing more is wanted.
    fn line(&mut self, name: &Name, value: Bytes) -> Result<(), Enough>;

    /// Bytes of a name and a value together that are still taken.
    fn room(&self) -> usize;
}

/// The section has more than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enough;

/// What came of a field section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Its lines were told; whether it referred to the table, which is to be acknowledged (section
    /// 4.4.1).
    Read {
        /// It did.
        referred: bool,
    },
    /// It is larger than is taken.
    TooLarge {
        /// It referred to the table.
        referred: bool,
    },
    /// It refers to entries that have not come: as many must have been inserted.
    Blocked(u64),
}

/// A client's table, and what of its instructions is not whole.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    part: Vec<u8>,
    /// Insertions that the client was not told of (section 4.4.3).
    untold: u64,
    scratch: Vec<u8>,
}

impl Decoder {
    /// Entries that were inserted.
    pub fn inserted(&self) -> u64 {
        self.table.inserted()
    }

    /// Takes bytes of the encoder's stream (section 4.3). Whether anything was inserted.
    ///
    /// # Errors
    /// The connection has to end with this.
    pub fn instructions(&mut self, bytes: &[u8]) -> Result<bool, Code> {
        let before = self.table.inserted();
        let mut part = std::mem::take(&mut self.part);
        part.extend_from_slice(bytes);
        let mut rest: &[u8] = &part;
        while let Some(after) = self.instruction(rest).map_err(|Wrong| Code::ENCODER_STREAM_ERROR)? {
            rest = after;
        }
        if rest.len() > LONGEST {
            return Err(Code::ENCODER_STREAM_ERROR);
        }
        // What is not whole stays where it is: a long instruction may come byte by byte.
        let used = part.len() - rest.len();
        if used > 0 {
            drop(part.drain(..used));
        }
        // As little as is needed is held while nothing is under way.
        if part.is_empty() {
            part = Vec::new();
        }
        self.part = part;
        let inserted = self.table.inserted() - before;
        self.untold = self.untold.saturating_add(inserted);
        Ok(inserted > 0)
    }

    /// Carries out the instruction that `bytes` begin with; what is behind it, `None` if it is not
    /// whole.
    fn instruction<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Wrong> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let most = usize::try_from(self.table.capacity()).unwrap_or(usize::MAX);
        if first & 0xe0 == 0x20 {
            // Set Dynamic Table Capacity.
            let Some((capacity, rest)) = whole(integer(bytes, 5), bytes)? else {
                return Ok(None);
            };
            if capacity > CAPACITY {
                return Err(Wrong);
            }
            self.table.set_capacity(capacity);
            return Ok(Some(rest));
        }
        if first & 0xe0 == 0 {
            // Duplicate.
            let Some((index, rest)) = whole(integer(bytes, 5), bytes)? else {
                return Ok(None);
            };
            let entry = self.relative(index)?.clone();
            return self.insert(entry).map(|()| Some(rest));
        }
        let (name, rest) = if first & 0x80 != 0 {
            // Insert with Name Reference; T tells the static table.
            let Some((index, rest)) = whole(integer(bytes, 6), bytes)? else {
                return Ok(None);
            };
            let name = match first & 0x40 {
                0 => Named::Known(self.relative(index)?.name.clone()),
                _ => Named::Known(fixed::entry(index).ok_or(Wrong)?.0.clone()),
            };
            (name, rest)
        } else {
            // Insert with Literal Name.
            let Some((name, rest)) = text(bytes, 5, most)? else {
                return Ok(None);
            };
            (Named::Written(name), rest)
        };
        let Some((value, rest)) = text(rest, 7, most)? else {
            return Ok(None);
        };
        // Nothing is decoded before the whole instruction is there: it would be done again with
        // each byte that comes.
        let name = match name {
            Named::Known(name) => name,
            Named::Written(name) => Name::read(name.plain(&mut self.scratch, most).map_err(|_| Wrong)?),
        };
        let value = Bytes::copy_from_slice(value.plain(&mut self.scratch, most).map_err(|_| Wrong)?);
        self.insert(Entry { name, value })?;
        Ok(Some(rest))
    }

    /// The entry `index` before the last one (section 3.2.5).
    fn relative(&self, index: u64) -> Result<&Entry, Wrong> {
        let last = self.table.inserted().checked_sub(1).ok_or(Wrong)?;
        let index = last.checked_sub(index).ok_or(Wrong)?;
        self.table.get(index).ok_or(Wrong)
    }

    fn insert(&mut self, entry: Entry) -> Result<(), Wrong> {
        // An entry larger than the table is an error (section 3.2.2).
        if self.table.insert(entry) { Ok(()) } else { Err(Wrong) }
    }

    /// Insert Count Increment (section 4.4.3), if the client is to be told of anything.
    pub fn tell(&mut self, to: &mut Vec<u8>) {
        if self.untold > 0 {
            put_prefixed(to, 0, 6, self.untold);
            self.untold = 0;
        }
    }

    /// Reads an encoded field section (section 4.5).
    ///
    /// # Errors
    /// The connection has to end with QPACK_DECOMPRESSION_FAILED.
    pub fn section(&self, section: &[u8], to: &mut impl Lines) -> Result<Section, Undecodable> {
        let Prefix {
            required,
            base,
            mut rest,
        } = self.prefix(section)?;
        if required > self.table.inserted() {
            return Ok(Section::Blocked(required));
        }
        let referred = required > 0;
        let (mut arena, mut scratch) = (BytesMut::new(), Vec::new());
        while !rest.is_empty() {
            let Some(after) = self.line(rest, (required, base), (&mut arena, &mut scratch), to)? else {
                return Ok(Section::TooLarge { referred });
            };
            rest = after;
        }
        Ok(Section::Read { referred })
    }

    /// Section 4.5.1.
    fn prefix<'a>(&self, section: &'a [u8]) -> Result<Prefix<'a>, Undecodable> {
        let (encoded, rest) = integer(section, 8).ok_or(Undecodable)?;
        let negative = rest.first().is_some_and(|first| first & 0x80 != 0);
        let (delta, rest) = integer(rest, 7).ok_or(Undecodable)?;
        let required = required(encoded, self.table.inserted()).ok_or(Undecodable)?;
        let base = match negative {
            false => required.checked_add(delta),
            true => required.checked_sub(delta).and_then(|base| base.checked_sub(1)),
        };
        Ok(Prefix {
            required,
            base: base.ok_or(Undecodable)?,
            rest,
        })
    }

    /// Reads a line; what is behind it, `None` if no more is taken.
    fn line<'a>(
        &self,
        bytes: &'a [u8],
        (required, base): (u64, u64),
        (arena, scratch): (&mut BytesMut, &mut Vec<u8>),
        to: &mut impl Lines,
    ) -> Result<Option<&'a [u8]>, Undecodable> {
        let first = *bytes.first().ok_or(Undecodable)?;
        // An entry that the section's prefix does not cover is an error (section 2.2.3).
        let dynamic = |index: Option<u64>| {
            let index = index.filter(|index| *index < required)?;
            self.table.get(index)
        };
        let relative = |index: u64| dynamic(base.checked_sub(index).and_then(|index| index.checked_sub(1)));
        let beyond = |index: u64| dynamic(base.checked_add(index));
        let read = |bits| integer(bytes, bits).ok_or(Undecodable);
        let literal: Name;
        let (name, rest) = if first & 0x80 != 0 {
            // Indexed; T tells the static table.
            let (index, rest) = read(6)?;
            let told = if first & 0x40 != 0 {
                let (name, value) = fixed::entry(index).ok_or(Undecodable)?;
                to.line(name, Bytes::from_static(value.as_bytes()))
            } else {
                let entry = relative(index).ok_or(Undecodable)?;
                to.line(&entry.name, entry.value.clone())
            };
            return Ok(told.ok().map(|()| rest));
        } else if first & 0x40 != 0 {
            // Literal with a name's index.
            let (index, rest) = read(4)?;
            let name = match first & 0x10 {
                0 => &relative(index).ok_or(Undecodable)?.name,
                _ => &fixed::entry(index).ok_or(Undecodable)?.0,
            };
            (name, rest)
        } else if first & 0x20 != 0 {
            let (name, rest) = Text::read(bytes, 3).ok_or(Undecodable)?;
            literal = match name.plain(scratch, to.room()) {
                Ok(name) => Name::read(name),
                Err(Length::TooLong) => return Ok(None),
                Err(Length::Unreadable) => return Err(Undecodable),
            };
            (&literal, rest)
        } else if first & 0x10 != 0 {
            // Indexed, behind the base.
            let (index, rest) = read(4)?;
            let entry = beyond(index).ok_or(Undecodable)?;
            return Ok(to.line(&entry.name, entry.value.clone()).ok().map(|()| rest));
        } else {
            let (index, rest) = read(3)?;
            (&beyond(index).ok_or(Undecodable)?.name, rest)
        };
        let (value, rest) = Text::read(rest, 7).ok_or(Undecodable)?;
        let room = to.room();
        let value = match value.plain(scratch, room) {
            Ok(value) => value,
            Err(Length::TooLong) => return Ok(None),
            Err(Length::Unreadable) => return Err(Undecodable),
        };
        if arena.capacity() < value.len() {
            // One buffer for the values of most sections.
            arena.reserve(value.len().max(rest.len().saturating_mul(3) / 2).min(room));
        }
        arena.extend_from_slice(value);
        Ok(to.line(name, arena.split().freeze()).ok().map(|()| rest))
    }
}

/// A section's prefix, and the lines behind it.
struct Prefix<'a> {
    required: u64,
    base: u64,
    rest: &'a [u8],
}

/// The name of an entry that is being inserted.
enum Named<'a> {
    Known(Name),
    Written(Text<'a>),
}

/// The client's instruction is wrong.
#[derive(Clone, Copy, Debug)]
struct Wrong;

/// A field section that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;

/// An integer that may not be whole: `None` if more has to come.
fn whole<T>(read: Option<T>, bytes: &[u8]) -> Result<Option<T>, Wrong> {
    // Ten bytes hold every integer.
    match read {
        None if bytes.len() > 10 => Err(Wrong),
        read => Ok(read),
    }
}

/// A string literal of an instruction, which may not be whole. One that cannot fit the table is not
/// waited for.
fn text(bytes: &[u8], bits: u32, most: usize) -> Result<Option<(Text<'_>, &[u8])>, Wrong> {
    let Some((length, _)) = whole(integer(bytes, bits), bytes)? else {
        return Ok(None);
    };
    if length > (most as u64).saturating_mul(4) {
        return Err(Wrong);
    }
    Ok(Text::read(bytes, bits))
}

/// The Required Insert Count that `encoded` stands for with `inserted` entries (section 4.5.1.1).
fn required(encoded: u64, inserted: u64) -> Option<u64> {
    if encoded == 0 {
        return Some(0);
    }
    let full = 2 * ENTRIES;
    if encoded > full {
        return None;
    }
    let most = inserted.checked_add(ENTRIES)?;
    let wrapped = most / full * full;
    let required = wrapped.checked_add(encoded)?.checked_sub(1)?;
    let required = if required > most {
        required.checked_sub(full)?
    } else {
        required
    };
    (required > 0).then_some(required)
}

/// Section Acknowledgment for a request stream (section 4.4.1).
pub fn acknowledge(stream: u64, to: &mut Vec<u8>) {
    put_prefixed(to, 0x80, 7, stream);
}

/// Stream Cancellation (section 4.4.2).
pub fn cancel(stream: u64, to: &mut Vec<u8>) {
    put_prefixed(to, 0x40, 6, stream);
}
