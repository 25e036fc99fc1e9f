//! What workers say, line by line: into the edge's log with zone and request, and into a ring that
//! `edge worker logs` reads. Bounded per line, request, second and zone: a tenant's flood drowns
//! nobody.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixTime;
use crate::base::id::RequestId;

/// Bytes of one line; the rest is cut off.
const LINE: usize = 4 << 10;
/// Lines that a zone's ring keeps, and their bytes.
const RING: usize = 500;
const RING_BYTES: usize = 128 << 10;
/// Reasons of failed requests that a zone may have in a second beside its lines.
const REASONS: u32 = 100;

/// How grave a line is, by `wasi:logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For who wrote the worker.
    Debug,
    /// Standard output and error, too.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// One line.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Counts the zone's lines, from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// The request.
    pub id: String,
    /// How grave.
    pub level: Level,
    /// What was said, without control characters.
    pub text: String,
}

/// A zone's lines.
#[derive(Debug)]
pub(super) struct Log {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<Line>,
    bytes: usize,
    next: u64,
    /// Lines that were written in the second that began at `since`.
    lines: u32,
    /// Reasons that were, too, beside the lines.
    reasons: u32,
    since: Instant,
    /// Lines that were dropped since the last one that was written, and whose the last of them was.
    dropped: Option<(u64, RequestId)>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ring: VecDeque::new(),
                bytes: 0,
                next: 1,
                lines: 0,
                reasons: 0,
                dropped: None,
                since: Instant::now()
                    .checked_sub(std::time::Duration::from_secs(1))
                    .unwrap_or_else(Instant::now),
            }),
        }
    }

    /// Writes one line of the zone, if it has one left in this second: `rate` of them.
    pub(super) fn write(&self, zone: &str, id: RequestId, level: Level, text: &str, rate: u32, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.second(now);
        if state.lines >= rate {
            state.drop_line(id);
            return false;
        }
        state.lines += 1;
        state.tell_dropped(zone);
        state.push(zone, id, level, clean(text));
        true
    }

    /// Writes why a request failed, whatever lines were written before it: at most [`REASONS`] a
    /// second.
    pub(super) fn always(&self, zone: &str, id: RequestId, text: &str, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.second(now);
        if state.reasons >= REASONS {
            state.drop_line(id);
            return;
        }
        state.reasons += 1;
        state.tell_dropped(zone);
        state.push(zone, id, Level::Error, clean(text));
    }

    /// Counts a line that its request may not write any more.
    pub(super) fn beyond(&self, id: RequestId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.drop_line(id);
    }

    /// The lines behind number `after` that are still there; at the end how many were dropped since
    /// the last one, if any were.
    pub(super) fn read(&self, zone: &str, after: u64) -> Vec<Line> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tell_dropped(zone);
        state.ring.iter().filter(|line| line.number > after).cloned().collect()
    }
}

impl State {
    /// Begins another second, if one is over.
    fn second(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since).as_secs() >= 1 {
            self.since = now;
            self.lines = 0;
            self.reasons = 0;
        }
    }

    fn drop_line(&mut self, id: RequestId) {
        let before = self.dropped.map_or(0, |(count, _)| count);
        self.dropped = Some((before.saturating_add(1), id));
    }

    fn tell_dropped(&mut self, zone: &str) {
        if let Some((dropped, id)) = self.dropped.take() {
            let text = format!("{dropped} lines before this one were dropped: more than log_rate or log_bytes");
            self.push(zone, id, Level::Warn, text);
        }
    }

    fn push(&mut self, zone: &str, id: RequestId, level: Level, text: String) {
        match level {
            Level::Debug => tracing::debug!(target: "edge::worker", zone, %id, "{text}"),
            Level::Info => tracing::info!(target: "edge::worker", zone, %id, "{text}"),
            Level::Warn => tracing::warn!(target: "edge::worker", zone, %id, "{text}"),
            Level::Error => tracing::error!(target: "edge::worker", zone, %id, "{text}"),
        }
        self.bytes = self.bytes.saturating_add(text.len());
        let number = self.next;
        self.next = number.saturating_add(1);
        self.ring.push_back(Line {
            number,
            at: UnixTime::now().millis(),
            id: id.to_string(),
            level,
            text,
        });
        while self.ring.len() > RING || self.bytes > RING_BYTES {
            let Some(old) = self.ring.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(old.text.len());
        }
    }
}

/// Without what moves a terminal's cursor, and not longer than [`LINE`].
fn clean(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .take(LINE)
        .collect();
    while clean.len() > LINE {
        clean.pop();
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// One tenant's flood would drown the log of all, or an escape sequence rewrite the operator's
    /// terminal.
    #[test]
    fn bounded_and_harmless() {
        let log = Log::new();
        let (now, id) = (Instant::now(), RequestId::next());
        let write = |text: &str, now| log.write("a", id, Level::Info, text, 3, now);
        let said: Vec<bool> = (0..5).map(|_| write("x\u{1b}[2J\ny", now)).collect();
        assert_eq!(said, [true, true, true, false, false]);
        assert_eq!(log.read("a", 0)[0].text, "x\u{fffd}[2J\u{fffd}y");
        assert!(
            log.read("a", 3)[0].text.starts_with("2 lines before"),
            "what is lost is told"
        );
        assert!(write(&"é".repeat(LINE), now + Duration::from_secs(1)));
        assert_eq!(log.read("a", 4).len(), 1);
        assert!(log.read("a", 4)[0].text.len() <= LINE);
        for second in 2..400 {
            write(&"z".repeat(LINE), now + Duration::from_secs(second));
        }
        let bytes: usize = log.read("a", 0).iter().map(|line| line.text.len()).sum();
        assert!(bytes <= RING_BYTES, "{bytes}");
    }

    /// Why a request failed would be lost when it matters: in a second in which the worker wrote
    /// more than it may.
    #[test]
    fn reasons_are_not_among_the_lines_and_bounded_themselves() {
        let log = Log::new();
        let (now, id) = (Instant::now(), RequestId::next());
        for _ in 0..10 {
            log.write("a", id, Level::Info, "line", 2, now);
        }
        log.always("a", id, "the worker threw", now);
        let texts: Vec<String> = log.read("a", 0).into_iter().map(|line| line.text).collect();
        assert_eq!(texts.len(), 4);
        assert!(texts[2].starts_with("8 lines"), "{texts:?}");
        assert_eq!(texts[3], "the worker threw");
        for _ in 0..REASONS * 2 {
            log.always("a", id, "again", now);
        }
        let reasons = log.read("a", 0).iter().filter(|line| line.text == "again").count();
        assert_eq!(reasons, REASONS as usize - 1);
        // A second that begins with a reason has its lines nevertheless.
        let later = now + Duration::from_secs(1);
        log.always("a", id, "once more", later);
        let said: Vec<bool> = (0..3)
            .map(|_| log.write("a", id, Level::Info, "line", 2, later))
            .collect();
        assert_eq!(said, [true, true, false]);
    }
}
