//! What an engine does for a fleet: it keeps blobs and two logs, and passes messages on. Nothing of
//! what it gives is believed. [`super::nats`] is one; [`super::memory`] is another, for tests and
//! for a hostile engine.

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;

use super::Digest;

/// Bytes of a part of a blob at most, before it is compressed. NATS takes messages of 1 MiB by
/// default.
pub const PART: usize = 512 << 10;

/// What an engine will give.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The engine is away, slow, or refuses. The agent tries again; nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("the engine cannot be reached: {0}")]
    Away(io::Error),
    /// It did not answer in time.
    #[error("the engine did not answer in time")]
    Timeout,
    /// It answered what is not of its protocol.
    #[error("the engine does not speak its protocol: {0}")]
    Protocol(&'static str),
    /// It refused, in its own words.
    #[error("the engine refused: {0}")]
    Refused(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Away(error)
    }
}

/// A log that the engine keeps and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Log {
    /// Heads of manifests.
    Heads,
    /// Events.
    Events,
}

/// Messages that the engine passes on and does not keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// To all: a node's last event's number.
    Tails,
    /// To who issued something, or deploys: what nodes have done.
    Receipts(String),
    /// To all nodes: say to this channel what you hold.
    Roll,
    /// To all nodes, or to one: keys of session tickets.
    Tickets(Option<String>),
}

/// The entries of a log that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first; 0 if there was never one.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Changes when the log was lost and made anew.
    pub series: String,
}

/// What arrives.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// An entry of a log was added.
    Entry {
        /// Of this log.
        log: Log,
        /// With this number, as the engine says.
        number: u64,
        /// It says this.
        bytes: Bytes,
    },
    /// A message.
    Message {
        /// On this channel.
        channel: Channel,
        /// It says this.
        bytes: Bytes,
    },
}

/// A connection to an engine. Each call ends in bounded time.
pub trait Carrier: Send + Sync {
    /// Keeps a part of a blob.
    fn put<'a>(&'a self, digest: &'a Digest, part: u32, bytes: Bytes) -> Pending<'a, ()>;

    /// A part of a blob; `None`: it has none such.
    fn part<'a>(&'a self, digest: &'a Digest, part: u32) -> Pending<'a, Option<Bytes>>;

    /// Adds an entry to a log, and gives its number, once it is on the engine's disk.
    fn append(&self, log: Log, bytes: Bytes) -> Pending<'_, u64>;

    /// An entry; `None`: it is not there.
    fn entry(&self, log: Log, number: u64) -> Pending<'_, Option<Bytes>>;

    /// Which entries there are.
    fn extent(&self, log: Log) -> Pending<'_, Extent>;

    /// Passes a message to whoever listens now.
    fn say<'a>(&'a self, channel: &'a Channel, bytes: Bytes) -> Pending<'a, ()>;

    /// Makes messages of `channel` arrive.
    fn listen<'a>(&'a self, channel: &'a Channel) -> Pending<'a, ()>;

    /// The next thing that arrives: entries of both logs, and messages of the channels listened to.
    /// Waits as long as it takes; an error ends the connection.
    fn arrival(&self) -> Pending<'_, Arrival>;
}

/// Where an engine can be connected to.
pub trait Engine: Send + Sync + 'static {
    /// A new connection.
    fn connect(&self) -> Pending<'_, Box<dyn Carrier>>;
}

/// Why a blob could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The engine.
    #[error(transparent)]
    Carrier(#[from] Error),
    /// It does not have it, or something else by that name.
    #[error("the engine does not have the blob {0}")]
    Blob(Digest),
}

/// Gives a blob to the engine, in parts.
///
/// # Errors
/// The engine.
pub async fn put_blob(carrier: &dyn Carrier, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
    // An empty blob has one empty part.
    let mut parts: Vec<&[u8]> = bytes.chunks(PART).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    for (number, part) in (0_u32..).zip(parts) {
        carrier.put(digest, number, pack(part)).await?;
    }
    Ok(())
}

/// A blob of `length` bytes, which is what `digest` says, and how many bytes came over the wire.
///
/// # Errors
/// As [`Lost`] says.
pub async fn fetch_blob(carrier: &dyn Carrier, digest: &Digest, length: u64) -> Result<(Vec<u8>, u64), Lost> {
    let lost = || Lost::Blob(*digest);
    let length = usize::try_from(length).map_err(|_| lost())?;
    let (mut bytes, mut carried) = (Vec::new(), 0);
    for number in 0_u32.. {
        let part = carrier.part(digest, number).await?.ok_or_else(lost)?;
        carried += part.len() as u64;
        let part = unpack(&part).ok_or_else(lost)?;
        bytes.extend_from_slice(&part);
        if bytes.len() >= length {
            break;
        }
        // Only the last part is shorter.
        if part.len() != PART {
            return Err(lost());
        }
    }
    if bytes.len() == length && Digest::of(&bytes) == *digest {
        Ok((bytes, carried))
    } else {
        Err(lost())
    }
}

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// A part as it is carried: a byte that says how, then the bytes.
fn pack(part: &[u8]) -> Bytes {
    let compressed = zstd::bulk::compress(part, 3)
        .ok()
        .filter(|bytes| bytes.len() < part.len());
    let (how, bytes) = compressed
        .as_ref()
        .map_or((PLAIN, part), |bytes| (ZSTD, bytes.as_slice()));
    [&[how], bytes].concat().into()
}

/// What `pack` packed: at most [`PART`] bytes.
pub fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    match bytes.split_first()? {
        (&PLAIN, part) if part.len() <= PART => Some(part.to_vec()),
        (&ZSTD, part) => zstd::bulk::decompress(part, PART).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine would make a node hold more than a part, or give it something else.
    #[test]
    fn parts_are_bounded_and_come_back() {
        let text = b"text ".repeat(10_000);
        let packed = pack(&text);
        assert!(packed.len() < text.len() / 10);
        assert_eq!(unpack(&packed).unwrap(), text);
        let noise = super::super::random::<1000>().unwrap();
        assert_eq!(unpack(&pack(&noise)).unwrap(), noise);
        assert_eq!(unpack(&pack(b"")).unwrap(), b"");
        let bomb = zstd::bulk::compress(&vec![0; PART + 1], 3).unwrap();
        assert!(unpack(&[&[ZSTD], &bomb[..]].concat()).is_none());
        assert!(unpack(&vec![PLAIN; PART + 2]).is_none() && unpack(b"").is_none() && unpack(b"\x02x").is_none());
    }
}
