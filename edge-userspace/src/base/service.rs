//! The process as a service: the signals that it is told by, and what the service manager is told
//! (sd_notify(3)).

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of a process that serves: SIGHUP reloads, SIGTERM and SIGINT have it drain, and cut
/// what is left if they come again.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// From when it is made, a SIGHUP does not end the process: a node that is told to reload while it
/// starts does so once it serves.
#[derive(Debug)]
pub struct KeptReload(Signal);

impl KeptReload {
    /// Begins to keep.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn begin() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To read the configuration again.
    Reload,
    /// To end.
    End,
}

impl Signals {
    /// From now on they do not end the process.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn catch() -> io::Result<Self> {
        Self::catch_after(KeptReload::begin()?)
    }

    /// The same after a start, with a reload that was asked for while it went on.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn catch_after(KeptReload(hangup): KeptReload) -> io::Result<Self> {
        Ok(Self {
            hangup,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }

    /// The next one that asks to end; others are passed over. Cancel safe.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Nothing listens outside systemd; then these do nothing, and a failure is nobody's business.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// It serves, or has reloaded.
pub fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// It reloads.
pub fn notify_reloading() {
    notify(&[NotifyState::Reloading]);
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// It drains.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells the watchdog twice per period that this thread turns, if the service manager wants it.
pub async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut tick = tokio::time::interval((period / 2).max(std::time::Duration::from_millis(100)));
    loop {
        tick.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that is told to reload while it starts, by `edge dev` for one, would be ended, or
    /// serve what it read before.
    #[tokio::test]
    async fn a_reload_that_is_asked_for_during_a_start_is_kept() {
        let kept = KeptReload::begin().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
        let mut signals = Signals::catch_after(kept).unwrap();
        assert_eq!(signals.next().await, Asked::Reload);
    }
}
