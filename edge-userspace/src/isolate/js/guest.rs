//! One running script as the host knows it, and its memory: every pointer and length that it passes
//! is checked here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use wasmtime::{Caller, Memory};

use super::codecs::Codecs;
use super::maps::Map;
use super::outside::{Level, Outside};
use super::pending::Pending;
use super::sourcemap::SourceMap;
use super::traffic::Traffic;
use crate::http::body::Body;
use crate::isolate::clocks::coarse;
use crate::isolate::coding::Coding;
use crate::isolate::error::Ended;
use crate::isolate::memory::Held;
use crate::isolate::program::Responder;
use crate::isolate::store::{Base, Hosted};

/// Bytes of one text that a script logs at once.
const LONGEST_LINE: usize = 16 << 10;
/// Bytes of one text that it hands over otherwise: a head, a URL.
const LONGEST_TEXT: u32 = 8 << 20;

/// The store's data.
pub(super) struct Guest {
    pub(super) base: Base,
    pub(super) memory: Option<Memory>,
    pub(super) work: Work,
    /// What the guest takes next: 0 an address, 1 a head, 2 content.
    pub(super) takes: [Bytes; 3],
}

/// What it runs for.
pub(super) enum Work {
    /// Its top-level code, before the snapshot. Nothing but the log is outside, and that is kept
    /// for who deploys.
    Loading(String),
    /// A request.
    Request(Box<Live>),
}

/// A request under way.
pub(super) struct Live {
    pub(super) outside: Arc<dyn Outside>,
    pub(super) traffic: Traffic,
    /// What `head` hands over, once.
    pub(super) head: Option<(Vec<u8>, Held)>,
    pub(super) responder: Option<Responder>,
    /// The script threw instead of answering.
    pub(super) threw: bool,
    /// A response whose content decides on its head.
    pub(super) pending: Option<Pending>,
    /// Codings of content that was fetched.
    pub(super) decoded: Vec<Coding>,
    /// Compressors and decompressors.
    pub(super) codecs: Codecs,
    /// Where the script's lines were before it was bundled.
    pub(super) map: Option<Arc<Map>>,
}

impl Hosted for Guest {
    fn base(&mut self) -> &mut Base {
        &mut self.base
    }
}

impl Guest {
    /// The request, or a trap while there is none: the prelude does not ask then.
    pub(super) fn live(&mut self) -> wasmtime::Result<&mut Live> {
        match &mut self.work {
            Work::Request(live) => Ok(live),
            Work::Loading(_) => Err(Ended::Host.into()),
        }
    }

    /// `console` and uncaught errors.
    pub(super) fn say(&mut self, level: i32, text: &str) {
        match &mut self.work {
            Work::Loading(said) => {
                if said.len() < LONGEST_LINE {
                    said.push_str(&tidy(text, None));
                    said.push('\n');
                }
            }
            Work::Request(live) => {
                let level = match level {
                    1 => Level::Debug,
                    3 => Level::Warn,
                    4 => Level::Error,
                    5 => Level::Reason,
                    _ => Level::Info,
                };
                let map = live.map.as_ref().filter(|_| text.contains("\n    at "));
                let map = map.and_then(|map| map.read(Instant::now()));
                live.outside.say(level, &tidy(text, map.as_deref()));
            }
        }
    }
}

/// Without the frames of the prelude, whose places nobody can look up, and with the places of the
/// script's own source.
fn tidy(text: &str, map: Option<&SourceMap>) -> String {
    let mut end = text.len().min(LONGEST_LINE);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let mut tidy = String::with_capacity(end);
    for line in text.get(..end).unwrap_or_default().trim_end().lines() {
        let frame = line.starts_with("    at ");
        if frame && (line.contains("(<null>") || line.ends_with("(native)")) {
            continue;
        }
        if !tidy.is_empty() {
            tidy.push('\n');
        }
        match map.filter(|_| frame) {
            Some(map) => tidy.push_str(&map.frame(line)),
            None => tidy.push_str(line),
        }
    }
    tidy
}

/// Microseconds since 1970, as coarse as all clocks of guests.
pub(super) fn clock() -> f64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    // Exact until the year 2255.
    coarse(since).as_micros() as f64
}

/// Logs `length` bytes at `at`: traces with the places of the script's own source.
pub(super) fn log(caller: &mut Caller<'_, Guest>, level: i32, at: u32, length: u32) -> wasmtime::Result<()> {
    let length = length.min(u32::try_from(LONGEST_LINE).unwrap_or(u32::MAX));
    let said = text(caller, at, length)?.into_owned();
    caller.data_mut().say(level, &said);
    Ok(())
}

/// `length` bytes of the guest at `at`.
///
/// # Errors
/// [`Ended::Host`] where they are not all the guest's.
pub(super) fn bytes<'a>(caller: &'a Caller<'_, Guest>, at: u32, length: u32) -> wasmtime::Result<&'a [u8]> {
    let memory = caller.data().memory.ok_or(Ended::Host)?;
    let from = at as usize;
    let to = from.checked_add(length as usize).ok_or(Ended::Host)?;
    Ok(memory.data(caller).get(from..to).ok_or(Ended::Host)?)
}

/// As [`bytes()`], for writing, with the guest's data beside it.
pub(super) fn room<'a>(
    caller: &'a mut Caller<'_, Guest>,
    at: u32,
    length: usize,
) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
    let memory = caller.data().memory.ok_or(Ended::Host)?;
    let (all, guest) = memory.data_and_store_mut(caller);
    let from = at as usize;
    let to = from.checked_add(length).ok_or(Ended::Host)?;
    Ok((all.get_mut(from..to).ok_or(Ended::Host)?, guest))
}

/// Text of the guest. What is not UTF-8 (a lone surrogate in a log line) is replaced.
///
/// # Errors
/// [`Ended::Host`] as [`bytes()`], and for what is longer than any text of sense.
pub(super) fn text<'a>(
    caller: &'a Caller<'_, Guest>,
    at: u32,
    length: u32,
) -> wasmtime::Result<std::borrow::Cow<'a, str>> {
    if length > LONGEST_TEXT {
        return Err(Ended::Host.into());
    }
    Ok(String::from_utf8_lossy(bytes(caller, at, length)?))
}

/// Content that is at hand already, and what is not.
pub(super) fn at_hand(body: Body) -> (Option<Bytes>, Option<Body>) {
    match body {
        Body::Empty => (None, None),
        Body::Full(bytes) if bytes.is_empty() => (None, None),
        Body::Full(bytes) => (Some(bytes), None),
        other if http_body::Body::is_end_stream(&other) => (None, None),
        other => (None, Some(other)),
    }
}
