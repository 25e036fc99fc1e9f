//! The stop signal: one sender in `node`, listeners everywhere; two steps, draining first.

use tokio::sync::watch;

/// How far the process is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new connections; those that exist finish their requests.
    Draining,
    /// The drain time is over: drop everything.
    Stopped,
}

/// The sending side.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Phase>);

/// The listening side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// A new pair, `Running`.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Moves to `phase`; never backwards.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = phase > *now;
            if forward {
                *now = phase;
            }
            forward
        });
    }
}

impl Shutdown {
    /// Where the process is now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` is reached or passed; a vanished trigger counts as `Stopped`.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone, and so is the process's owner.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
