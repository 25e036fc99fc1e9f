//! One QUIC connection's buffers, which follow its path and are on the ledger. Content that was
//! sent and is not acknowledged stays in memory: a client that falls silent must pin no more than
//! its path carries, and a fast path must not wait for room. `h3` tells of each piece that it
//! sends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::VarInt;

use super::super::holding::Holding;
use crate::base::ledger::{Charge, Kind};
use crate::quic::{CONNECTION_WINDOW, STREAM_WINDOW};

/// Sent and not acknowledged: twice the congestion window, so that what is acknowledged is replaced
/// at once, within these bounds. The upper one is 100 Mbit/s at 300 ms.
const LEAST: u64 = 64 << 10;
pub(in super::super) const MOST: u64 = 4 << 20;
/// Of shorter pieces nothing is to be learnt about the path.
pub(super) const PIECE: usize = 8 << 10;

/// The buffers of one connection.
pub(super) struct Window {
    quic: quinn::Connection,
    state: Mutex<State>,
}

struct State {
    /// Of what is sent; charged as long as something was sent since the connection was idle.
    send: Charge,
    window: u64,
    /// Requests under way, and those of them that have content.
    requests: usize,
    uploads: u32,
}

impl Window {
    /// For a connection that has sent nothing yet.
    pub(super) fn new(quic: quinn::Connection, holding: &Holding) -> Self {
        quic.set_send_window(LEAST);
        Self {
            quic,
            state: Mutex::new(State {
                send: holding.holder().must(Kind::Quic, None, 0),
                window: LEAST,
                requests: 0,
                uploads: 0,
            }),
        }
    }

    /// A request begins; `upload`: it has content. What the connection may send ahead grows by what
    /// that stream may hold, so that content that nobody reads takes nothing from other streams
    /// (RFC 9000 section 4.1), and a connection without any can make us hold little.
    fn begin(&self, upload: bool) {
        let mut state = self.lock();
        state.requests += 1;
        if state.requests == 1 {
            let window = state.window;
            state.send.move_to(window);
        }
        if upload {
            state.uploads += 1;
            self.quic.set_receive_window(receive(state.uploads));
        }
    }

    /// A request has ended. After the last one the window is the least again: what is still on its
    /// way fits, or will soon.
    fn end(&self, upload: bool) {
        let mut state = self.lock();
        state.requests = state.requests.saturating_sub(1);
        if upload {
            state.uploads = state.uploads.saturating_sub(1);
            self.quic.set_receive_window(receive(state.uploads));
        }
        if state.requests == 0 {
            self.set(&mut state, LEAST);
        }
    }

    /// Before a piece is sent: as much room as the path has shown to need, if the ledger has it.
    pub(super) fn follow(&self) {
        let path = self.quic.stats().path;
        let wanted = path.cwnd.saturating_mul(2).clamp(LEAST, MOST);
        let mut state = self.lock();
        // Small steps are not worth a lock of quinn's.
        let grows = wanted > state.window.saturating_add(state.window / 8);
        if grows && state.send.set(wanted) || wanted < state.window / 2 {
            self.set(&mut state, wanted);
        }
    }

    fn set(&self, state: &mut State, window: u64) {
        if state.window != window {
            state.window = window;
            self.quic.set_send_window(window);
        }
        state.send.move_to(window);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection's flow-control window with `uploads` requests that have content.
fn receive(uploads: u32) -> VarInt {
    VarInt::from_u32(CONNECTION_WINDOW.saturating_add(STREAM_WINDOW.saturating_mul(uploads)))
}

/// A request's time on its connection's [`Window`].
pub(super) struct Turn {
    window: Arc<Window>,
    upload: bool,
}

impl Turn {
    /// Begins it; ends when dropped. `upload`: the request has content.
    pub(super) fn begin(window: &Arc<Window>, upload: bool) -> Self {
        window.begin(upload);
        Self {
            window: window.clone(),
            upload,
        }
    }
}

impl Turn {
    /// Ends the connection.
    pub(super) fn close(&self, code: VarInt) {
        self.window.quic.close(code, b"");
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.window.end(self.upload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection's credit has room for each of its uploads: otherwise one that nobody reads
    /// stops the others.
    #[test]
    fn uploads_do_not_share() {
        for uploads in [0, 1, 128] {
            let window = receive(uploads).into_inner();
            assert!(window >= u64::from(STREAM_WINDOW) * u64::from(uploads) + u64::from(CONNECTION_WINDOW));
        }
        assert_eq!(receive(u32::MAX).into_inner(), u64::from(u32::MAX));
    }
}
