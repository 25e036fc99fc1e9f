//! The signals of a process that serves: SIGHUP reloads, SIGTERM and SIGINT have it drain, and cut
//! what is left if they come again.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::threads::Threads;

/// Signals that are caught.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they do not end the process.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads when told to; returns when the process is to drain.
    pub(super) async fn until_the_end(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => reload(),
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }

    /// Gives the threads `time` to end; returns when they have, or what is left is to be cut.
    pub(super) async fn drain(&mut self, threads: &Threads, time: Duration, connections: impl Fn() -> usize) {
        tokio::select! {
            () = threads.ended() => {}
            () = tokio::time::sleep(time) => {
                tracing::warn!(connections = connections(), "the drain time is over; what is left is cut");
            }
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
