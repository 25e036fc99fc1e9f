//! What our encoder says: field sections of responses, and instructions that fill the client's
//! table with lines that repeat. A section refers only to entries that the client has acknowledged,
//! so that none waits for another stream (RFC 9204 section 2.1.2).

use std::collections::HashMap;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::fixed::{self, Found, Name};
use super::table::{Entry, Table, size};
use super::{CAPACITY, Code, integer, put_text};
use crate::base::varint::put_prefixed;

/// Field sections that a client may leave unacknowledged; with more nothing is referred to.
const OUTSTANDING: usize = 256;
/// Bytes of instructions that wait for the client's credit; with more nothing is inserted.
const WAITING: usize = 4 << 10;
/// Lines whose first sight is remembered: one that comes again within N others is inserted.
const SEEN: usize = 64;
/// Values of more bytes are not worth a table of 4 KiB.
const LONGEST: usize = 512;

/// Fields whose values rarely come again, or are secrets, which no table should have (section 7.1).
static PASSING: [HeaderName; 14] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::PROXY_AUTHENTICATE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-request-id"),
];

/// The table that a client keeps for us, as far as it is known to be there.
#[derive(Debug, Default)]
pub struct Encoder {
    table: Table,
    /// What the client lets the table have.
    announced: u64,
    /// Entries that the client is known to have (section 2.1.4).
    known: u64,
    /// By request stream: Required Insert Counts of sections that were not acknowledged, the oldest
    /// first.
    outstanding: HashMap<u64, Vec<u64>>,
    sections: usize,
    /// Hashes of lines that were seen once, and which of them is the oldest.
    seen: Vec<u32>,
    oldest: usize,
    /// By the hash of a line, its entry.
    places: HashMap<u32, u64>,
    /// Instructions for the client.
    out: Vec<u8>,
    /// An instruction of the client's decoder that is not whole.
    part: Vec<u8>,
}

impl Encoder {
    /// The client's settings have come: what its table may hold. What it lets wait is not used.
    pub fn settings(&mut self, capacity: u64) {
        self.announced = capacity;
        let most = capacity.min(CAPACITY);
        // A smaller one would hold a line or two; it stays empty.
        if most >= 64 {
            self.seen = vec![0; SEEN];
            self.table.set_capacity(most);
            put_prefixed(&mut self.out, 0x20, 5, most);
        }
    }

    /// Instructions for the client, in front of everything that comes later.
    pub fn instructions(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether there are any.
    pub fn has_instructions(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes bytes of the client's decoder stream (section 4.4).
    ///
    /// # Errors
    /// The connection has to end with this.
    pub fn acknowledged(&mut self, bytes: &[u8]) -> Result<(), Code> {
        for byte in bytes {
            self.part.push(*byte);
            let first = self.part.first().copied().unwrap_or(0);
            let bits = if first & 0x80 != 0 { 7 } else { 6 };
            match integer(&self.part, bits).map(|(value, _)| value) {
                Some(value) => {
                    self.part.clear();
                    self.told(first, value).ok_or(Code::DECODER_STREAM_ERROR)?;
                }
                // Ten bytes hold every integer.
                None if self.part.len() > 10 => return Err(Code::DECODER_STREAM_ERROR),
                None => {}
            }
        }
        Ok(())
    }

    fn told(&mut self, first: u8, value: u64) -> Option<()> {
        if first & 0x80 != 0 {
            // Section Acknowledgment: of a section that referred to the table.
            let sections = self.outstanding.get_mut(&value)?;
            let required = (!sections.is_empty()).then(|| sections.remove(0))?;
            if sections.is_empty() {
                self.outstanding.remove(&value);
            }
            self.sections = self.sections.saturating_sub(1);
            self.known = self.known.max(required);
        } else if first & 0x40 != 0 {
            // Stream Cancellation.
            let given_up = self.outstanding.remove(&value).map_or(0, |sections| sections.len());
            self.sections = self.sections.saturating_sub(given_up);
        } else {
            // Insert Count Increment: neither nothing nor beyond what was inserted (section 4.4.3).
            let known = self
                .known
                .checked_add(value)
                .filter(|known| *known <= self.table.inserted())?;
            self.known = (value > 0).then_some(known)?;
        }
        Some(())
    }

    /// Writes the lines of a response on `stream`, or of trailers, which have no status; what goes
    /// in front of them is known then.
    pub fn section(&mut self, stream: u64, status: Option<StatusCode>, fields: &HeaderMap, to: &mut Vec<u8>) -> Front {
        let mut section = self.begin();
        if let Some(status) = status {
            match fixed::status(status.as_str()) {
                Found::Line(place) => put_prefixed(to, 0xc0, 6, u64::from(place)),
                Found::Name(place) => {
                    put_prefixed(to, 0x50, 4, u64::from(place));
                    put_text(to, 0, 7, status.as_str().as_bytes());
                }
            }
        }
        for (name, value) in fields {
            self.line(&mut section, name, value, to);
        }
        self.end(stream, section)
    }

    fn begin(&mut self) -> Open {
        // With nothing outstanding and all acknowledged, any entry may go (section 2.1.1).
        if self.sections == 0 && self.known == self.table.inserted() && !self.table.has_room(LONGEST as u64) {
            self.table.shrink(self.table.capacity() / 2);
            let table = &self.table;
            self.places.retain(|_, place| table.get(*place).is_some());
        }
        Open {
            base: self.known,
            required: 0,
            refers: self.known > 0 && self.sections < OUTSTANDING,
        }
    }

    fn end(&mut self, stream: u64, Open { base, required, .. }: Open) -> Front {
        if required == 0 {
            return Front::default();
        }
        self.outstanding.entry(stream).or_default().push(required);
        self.sections += 1;
        // The count as the client's own table wraps it.
        let full = 2 * (self.announced / 32);
        Front {
            required: required % full.max(1) + 1,
            delta: base.saturating_sub(required),
        }
    }

    fn line(&mut self, section: &mut Open, name: &HeaderName, value: &HeaderValue, to: &mut Vec<u8>) {
        let named = match fixed::find(name.as_str(), value.as_bytes()) {
            Some(Found::Line(place)) => return put_prefixed(to, 0xc0, 6, u64::from(place)),
            Some(Found::Name(place)) => Some(place),
            None => None,
        };
        // A value that must not be kept is written so, for whoever hands it on (section 7.1.3).
        let never = value.is_sensitive();
        if self.table.capacity() > 0 && !never && value.len() <= LONGEST && !PASSING.contains(name) {
            let hash = hash(name, value);
            match self.place(hash, name, value) {
                Some(place) if section.refers && place < section.base => {
                    section.required = section.required.max(place + 1);
                    return put_prefixed(to, 0x80, 6, section.base - place - 1);
                }
                Some(_) => {}
                None => self.consider(hash, named, name, value),
            }
        }
        match named {
            Some(place) => put_prefixed(to, 0x50 | u8::from(never) << 5, 4, u64::from(place)),
            None => put_text(to, 0x20 | u8::from(never) << 4, 3, name.as_str().as_bytes()),
        }
        put_text(to, 0, 7, value.as_bytes());
    }

    /// Where the line is in the table, if it is there.
    fn place(&self, hash: u32, name: &HeaderName, value: &HeaderValue) -> Option<u64> {
        let place = *self.places.get(&hash)?;
        let entry = self.table.get(place)?;
        let same = matches!(&entry.name, Name::Field(known) if known == name) && entry.value == value.as_bytes();
        same.then_some(place)
    }

    /// Inserts a line that was seen before, if there is room without pushing anything out; `named`:
    /// where the fixed table has its name.
    fn consider(&mut self, hash: u32, named: Option<u8>, name: &HeaderName, value: &HeaderValue) {
        if !self.seen.contains(&hash) {
            if let Some(oldest) = self.seen.get_mut(self.oldest) {
                *oldest = hash;
            }
            self.oldest = (self.oldest + 1) % SEEN;
            return;
        }
        if self.out.len() > WAITING {
            return;
        }
        let entry = Entry {
            name: Name::Field(name.clone()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        if !self.table.has_room(size(&entry.name, entry.value.len())) {
            return;
        }
        match named {
            Some(place) => put_prefixed(&mut self.out, 0xc0, 6, u64::from(place)),
            None => put_text(&mut self.out, 0x40, 5, name.as_str().as_bytes()),
        }
        put_text(&mut self.out, 0, 7, value.as_bytes());
        self.places.insert(hash, self.table.inserted());
        // There is room: it was asked for.
        let _ = self.table.insert(entry);
    }
}

/// A section that is being written.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Entries with a lower number may be referred to.
    base: u64,
    required: u64,
    refers: bool,
}

/// A section's prefix (section 4.5.1), which is known when its lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Front {
    required: u64,
    delta: u64,
}

impl Front {
    /// Writes it: at most 22 bytes.
    pub fn put(self, to: &mut Vec<u8>) {
        put_prefixed(to, 0, 8, self.required);
        put_prefixed(to, 0, 7, self.delta);
    }
}

/// FNV-1a of a line; never 0, which stands for none.
fn hash(name: &HeaderName, value: &HeaderValue) -> u32 {
    let bytes = name.as_str().bytes().chain([0]).chain(value.as_bytes().iter().copied());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.max(1)
}
