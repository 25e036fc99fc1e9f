//! What workers say, line by line: into the edge's log with zone and request, and into a ring that `edge worker logs` reads.
//! Bounded per line, request, second and zone: a tenant's flood drowns nobody.

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
    /// Lines that may still be written in the second that began at `since`.
    left: u32,
    since: Instant,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ring: VecDeque::new(),
                bytes: 0,
                next: 1,
                left: 0,
                since: Instant::now()
                    .checked_sub(std::time::Duration::from_secs(1))
                    .unwrap_or_else(Instant::now),
            }),
        }
    }

    /// Writes one line of the zone, if it has one left in this second: `rate` of them.
    pub(super) fn write(&self, zone: &str, id: RequestId, level: Level, text: &str, rate: u32, now: Instant) -> bool {
        let text = clean(text);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.since).as_secs() >= 1 {
            state.since = now;
            state.left = rate;
        }
        let Some(left) = state.left.checked_sub(1) else {
            return false;
        };
        state.left = left;
        match level {
            Level::Debug => tracing::debug!(target: "edge::worker", zone, %id, "{text}"),
            Level::Info => tracing::info!(target: "edge::worker", zone, %id, "{text}"),
            Level::Warn => tracing::warn!(target: "edge::worker", zone, %id, "{text}"),
            Level::Error => tracing::error!(target: "edge::worker", zone, %id, "{text}"),
        }
        state.bytes = state.bytes.saturating_add(text.len());
        let number = state.next;
        state.next = number.saturating_add(1);
        state.ring.push_back(Line {
            number,
            at: UnixTime::now().millis(),
            id: id.to_string(),
            level,
            text,
        });
        while state.ring.len() > RING || state.bytes > RING_BYTES {
            let Some(old) = state.ring.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(old.text.len());
        }
        true
    }

    /// The lines behind number `after` that are still there.
    pub(super) fn read(&self, after: u64) -> Vec<Line> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ring.iter().filter(|line| line.number > after).cloned().collect()
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

    /// One tenant's flood would drown the log of all, or an escape sequence rewrite the operator's terminal.
    #[test]
    fn bounded_and_harmless() {
        let log = Log::new();
        let (now, id) = (Instant::now(), RequestId::next());
        let write = |text: &str, now| log.write("a", id, Level::Info, text, 3, now);
        let said: Vec<bool> = (0..5).map(|_| write("x\u{1b}[2J\ny", now)).collect();
        assert_eq!(said, [true, true, true, false, false]);
        assert_eq!(log.read(0)[0].text, "x\u{fffd}[2J\u{fffd}y");
        assert!(write(&"é".repeat(LINE), now + Duration::from_secs(1)));
        assert_eq!(log.read(3).len(), 1);
        assert!(log.read(3)[0].text.len() <= LINE);
        for second in 2..400 {
            write(&"z".repeat(LINE), now + Duration::from_secs(second));
        }
        let bytes: usize = log.read(0).iter().map(|line| line.text.len()).sum();
        assert!(bytes <= RING_BYTES, "{bytes}");
    }
}
