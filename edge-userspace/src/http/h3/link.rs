//! What the streams of one connection share: both QPACK tables with the streams of their
//! instructions, and the client's settings.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::Notify;

use super::code::Code;
use super::frames::{HEADERS, SETTINGS, put_front};
use super::priority::Priority;
use super::qpack::decoder::{self, Decoder, Section};
use super::qpack::encoder::{Encoder, Front};
use super::qpack::{BLOCKED, CAPACITY};
use super::request::Fields;
use super::streams::{
    ENABLE_CONNECT_PROTOCOL, MAX_FIELD_SECTION_SIZE, QPACK_BLOCKED_STREAMS, QPACK_MAX_TABLE_CAPACITY, Settings, Told,
    Use,
};
use crate::base::varint::put_varint;
use crate::http::fields;
use crate::http::life::Life;

/// Bytes of QPACK's instructions that wait for the client's credit; a client that gives none ends
/// its connection.
const UNSENT: usize = 8 << 10;
/// What both tables and what belongs to them take of a connection's memory: entries of 4 KiB each
/// by the RFC's reckoning, with what their parts cost beside that, an instruction that is not
/// whole, and sections that wait for an acknowledgement.
pub(in super::super) const TABLES: u64 = 48 << 10;
/// Priorities that are remembered, more than the answers that wait at once.
const PRIORITIES: usize = 256;
/// What `:status` takes of the size of a field section.
const STATUS: u64 = 7 + 3 + fields::OVERHEAD;
/// Room in front of a field section for its frame's front and its own prefix, which are known
/// last.
const GAP: usize = 1 + 8 + 22;

/// A connection, to its streams.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) quic: quinn::Connection,
    /// `limits.header_bytes`.
    pub(super) header_bytes: usize,
    /// The connection's vital signs, and who is woken to look at them.
    life: Arc<Life>,
    pub(super) turn: Notify,
    reading: Mutex<Reading>,
    writing: Mutex<Writing>,
    /// The client's SETTINGS_MAX_FIELD_SECTION_SIZE.
    field_section: AtomicU64,
    /// What the client has said of answers since they were asked for, or before; the oldest is
    /// forgotten. And how often it has.
    priorities: Mutex<VecDeque<(u64, Priority)>>,
    updates: AtomicU64,
    /// Critical streams of the client's that there are.
    seen: [AtomicBool; 3],
}

#[derive(Debug)]
struct Reading {
    decoder: Decoder,
    /// Streams whose sections wait for insertions: at most [`BLOCKED`].
    blocked: Vec<(u64, Waker)>,
    out: Instructions,
}

#[derive(Debug)]
struct Writing {
    encoder: Encoder,
    out: Instructions,
}

/// A stream of ours with instructions.
#[derive(Debug)]
struct Instructions {
    stream: quinn::SendStream,
    unsent: Vec<u8>,
}

impl Instructions {
    /// Sends what the client has credit for; the rest with what comes next.
    ///
    /// # Errors
    /// The client does not want them, or gives no credit.
    fn flush(&mut self) -> Result<(), Code> {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.unsent.is_empty() {
            let polled = pin!(self.stream.write(&self.unsent)).poll(&mut cx);
            match polled {
                Poll::Ready(Ok(written)) => drop(self.unsent.drain(..written)),
                Poll::Ready(Err(_)) => return Err(Code::CLOSED_CRITICAL_STREAM),
                Poll::Pending if self.unsent.len() > UNSENT => return Err(Code::EXCESSIVE_LOAD),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A field section that was read, or why it was not.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "handed on at once; a box would be an allocation for each request"
)]
pub(super) enum Sectioned {
    /// The lines.
    Fields(Fields),
    /// More than `limits.header_bytes`.
    TooLarge,
}

impl Link {
    /// Opens our streams (RFC 9114 section 6.2, RFC 9204 section 4.2) and says our settings; the
    /// control stream with it, which must stay.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn open(
        quic: quinn::Connection,
        header_bytes: usize,
        life: Arc<Life>,
    ) -> Result<(Self, quinn::SendStream), quinn::ConnectionError> {
        let (mut control, encoder, decoder) = (quic.open_uni().await?, quic.open_uni().await?, quic.open_uni().await?);
        let mut settings = Vec::new();
        for (id, value) in [
            (MAX_FIELD_SECTION_SIZE, header_bytes as u64),
            (QPACK_MAX_TABLE_CAPACITY, CAPACITY),
            (QPACK_BLOCKED_STREAMS, BLOCKED),
            (ENABLE_CONNECT_PROTOCOL, 1),
        ] {
            put_varint(&mut settings, id);
            put_varint(&mut settings, value);
        }
        let mut hello = vec![0];
        put_front(&mut hello, SETTINGS, settings.len());
        hello.extend(settings);
        // The first bytes of a connection: a client that has no room for them is of no use, and its
        // connection is over when the next frame of ours fails.
        let _ = control.write_all(&hello).await;
        let instructions = |stream, kind| Instructions {
            stream,
            unsent: vec![kind],
        };
        let mut link = Self {
            quic,
            header_bytes,
            life,
            turn: Notify::new(),
            reading: Mutex::new(Reading {
                decoder: Decoder::default(),
                blocked: Vec::new(),
                out: instructions(decoder, 3),
            }),
            writing: Mutex::new(Writing {
                encoder: Encoder::default(),
                out: instructions(encoder, 2),
            }),
            field_section: AtomicU64::new(u64::MAX),
            priorities: Mutex::default(),
            updates: AtomicU64::new(0),
            seen: Default::default(),
        };
        for out in [
            &mut link.reading.get_mut().unwrap_or_else(PoisonError::into_inner).out,
            &mut link.writing.get_mut().unwrap_or_else(PoisonError::into_inner).out,
        ] {
            // What does not go now goes with the first instruction.
            let _ = out.flush();
        }
        Ok((link, control))
    }

    /// Ends the connection.
    pub(super) fn close(&self, code: Code) {
        self.quic.close(code.into(), b"");
    }

    /// A stream of the client's has this use.
    ///
    /// # Errors
    /// It has one already.
    pub(super) fn claim(&self, what: Use) -> Result<(), Code> {
        let [control, encoder, decoder] = &self.seen;
        let seen = match what {
            Use::Control => control,
            Use::Encoder => encoder,
            Use::Decoder => decoder,
            Use::Unknown => return Ok(()),
        };
        if seen.swap(true, Relaxed) {
            Err(Code::STREAM_CREATION_ERROR)
        } else {
            Ok(())
        }
    }

    /// The client's control stream told something.
    pub(super) fn told(&self, told: &Told) {
        match told {
            Told::Settings(Settings { field_section, table }) => {
                self.field_section.store(*field_section, Relaxed);
                let mut writing = lock(&self.writing);
                writing.encoder.settings(*table);
                self.say(&mut writing);
            }
            Told::Priority(stream, priority) => {
                let mut priorities = lock(&self.priorities);
                priorities.retain(|(known, _)| known != stream);
                if priorities.len() >= PRIORITIES {
                    priorities.pop_front();
                }
                priorities.push_back((*stream, *priority));
                self.updates.fetch_add(1, Relaxed);
            }
            // Nothing is pushed, so that it means the end (RFC 9114 section 5.2).
            Told::GoAway => {
                self.life.finish();
                self.turn.notify_one();
            }
        }
    }

    /// How often the client has told priorities.
    pub(super) fn updates(&self) -> u64 {
        self.updates.load(Relaxed)
    }

    /// What it has told of `stream` last.
    pub(super) fn priority(&self, stream: u64) -> Option<Priority> {
        let priorities = lock(&self.priorities);
        priorities
            .iter()
            .find_map(|(known, priority)| (*known == stream).then_some(*priority))
    }

    /// Bytes of the client's encoder stream.
    ///
    /// # Errors
    /// What the connection has to end with.
    pub(super) fn insert(&self, bytes: &[u8]) -> Result<(), Code> {
        let mut reading = lock(&self.reading);
        let Reading { decoder, blocked, out } = &mut *reading;
        if decoder.instructions(bytes)? {
            for (_, waker) in blocked.drain(..) {
                waker.wake();
            }
            decoder.tell(&mut out.unsent);
            out.flush()?;
        }
        Ok(())
    }

    /// Bytes of the client's decoder stream.
    ///
    /// # Errors
    /// What the connection has to end with.
    pub(super) fn acknowledged(&self, bytes: &[u8]) -> Result<(), Code> {
        lock(&self.writing).encoder.acknowledged(bytes)
    }

    /// Reads a field section of `stream`, into `fields`; waits until the client's table has what it
    /// refers to.
    ///
    /// # Errors
    /// What the connection has to end with.
    pub(super) fn poll_section(
        &self,
        cx: &mut Context<'_>,
        stream: u64,
        section: &[u8],
        mut fields: Fields,
    ) -> Poll<Result<Sectioned, Code>> {
        let mut reading = lock(&self.reading);
        let Reading { decoder, blocked, out } = &mut *reading;
        let read = match decoder.section(section, &mut fields) {
            Ok(read) => read,
            Err(decoder::Undecodable) => return Poll::Ready(Err(Code::DECOMPRESSION_FAILED)),
        };
        let (sectioned, referred) = match read {
            Section::Blocked(_) => {
                let full = blocked.len() as u64 >= BLOCKED;
                match blocked.iter_mut().find(|(waits, _)| *waits == stream) {
                    Some((_, waker)) => waker.clone_from(cx.waker()),
                    // More than the setting allows (RFC 9204 section 2.1.2).
                    None if full => return Poll::Ready(Err(Code::DECOMPRESSION_FAILED)),
                    None => blocked.push((stream, cx.waker().clone())),
                }
                return Poll::Pending;
            }
            Section::Read { referred } => (Sectioned::Fields(fields), referred),
            Section::TooLarge { referred } => (Sectioned::TooLarge, referred),
        };
        if referred {
            decoder::acknowledge(stream, &mut out.unsent);
            out.flush()?;
        }
        Poll::Ready(Ok(sectioned))
    }

    /// Nothing more is read of `stream`: sections that it may have had are not acknowledged (RFC
    /// 9204 section 2.2.2.2).
    pub(super) fn give_up(&self, stream: u64) {
        let mut reading = lock(&self.reading);
        let Reading { decoder, blocked, out } = &mut *reading;
        blocked.retain(|(waits, _)| *waits != stream);
        if decoder.inserted() > 0 {
            decoder::cancel(stream, &mut out.unsent);
            if let Err(code) = out.flush() {
                self.close(code);
            }
        }
    }

    /// A HEADERS frame with a response's head, or `None` if it is larger than the client takes
    /// (RFC 9114 section 4.2.2). Behind it is room for a DATA frame's front.
    pub(super) fn response(&self, stream: u64, status: StatusCode, fields: &HeaderMap) -> Option<Frame> {
        self.frame(stream, Some(status), fields)
    }

    /// The same with trailers.
    pub(super) fn trailers(&self, stream: u64, fields: &HeaderMap) -> Option<Frame> {
        self.frame(stream, None, fields)
    }

    fn frame(&self, stream: u64, status: Option<StatusCode>, fields: &HeaderMap) -> Option<Frame> {
        let most = self.field_section.load(Relaxed);
        let status_line = status.map_or(0, |_| STATUS);
        if most != u64::MAX && fields::size(fields).saturating_add(status_line) > most {
            return None;
        }
        let mut frame = Frame::new();
        let mut writing = lock(&self.writing);
        let front = writing.encoder.section(stream, status, fields, &mut frame.bytes);
        self.say(&mut writing);
        drop(writing);
        frame.close(front);
        Some(frame)
    }

    fn say(&self, writing: &mut Writing) {
        if writing.encoder.has_instructions() {
            let instructions = writing.encoder.instructions();
            writing.out.unsent.extend(instructions);
            if let Err(code) = writing.out.flush() {
                self.close(code);
            }
        }
    }
}

/// A HEADERS frame, and what follows it at once.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where it begins.
    start: usize,
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.resize(GAP, 0);
        Self { start: GAP, bytes }
    }

    /// Writes the frame's front and the section's prefix in front of its lines.
    fn close(&mut self, front: Front) {
        let lines = self.bytes.len();
        front.put(&mut self.bytes);
        let prefix = self.bytes.len();
        put_front(&mut self.bytes, HEADERS, prefix.saturating_sub(GAP));
        let end = self.bytes.len();
        self.start = GAP.saturating_sub(end.saturating_sub(lines));
        self.bytes.copy_within(prefix..end, self.start);
        self.bytes.copy_within(lines..prefix, self.start + (end - prefix));
        self.bytes.truncate(lines);
    }

    /// As one piece.
    pub(super) fn into_bytes(self) -> Bytes {
        let mut bytes = Bytes::from(self.bytes);
        drop(bytes.split_to(self.start));
        bytes
    }
}
