//! From the book to the kernel, off the request path: a bounded channel, one thread, batches. A change that finds the channel
//! full is not waited for; the next batch is then the whole list.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use super::penalty::{Book, PenaltyChange};

/// Changes in one batch at most.
const BATCH: usize = 512;
/// How long a change may wait for company.
const LINGER: Duration = Duration::from_millis(20);
/// After a failure the whole list is tried again this often.
const AGAIN: Duration = Duration::from_secs(1);

/// The maps of the kernel, as the gate sees them. Called from one thread, never from a request.
pub trait KernelFeed: Send {
    /// Puts `changes`, each key once, in force. What remains of a penalty is `until - now`, both on the gate's steady clock.
    ///
    /// # Errors
    /// Whatever kept the maps from being written, in words for the log; the whole list is then fed again.
    fn apply(&mut self, now: Duration, changes: &[PenaltyChange]) -> Result<(), FeedError>;
}

/// The kernel refused a batch: ours or the operator's fault (no map, no permission), never a peer's.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's penalty maps could not be written: {0}")]
pub struct FeedError(#[source] pub std::io::Error);

/// The sending end, held by the book.
#[derive(Debug)]
pub struct Feed {
    sender: SyncSender<PenaltyChange>,
    counts: Arc<Counts>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Changes {
    receiver: Mutex<Receiver<PenaltyChange>>,
    counts: Arc<Counts>,
}

/// What has been fed, for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    overflown: AtomicBool,
    /// Batches given to the kernel.
    pub batches: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Changes that found the channel full.
    pub overflows: AtomicU64,
    /// Batches that the kernel refused.
    pub failures: AtomicU64,
}

/// A channel for `room` changes.
pub fn channel(room: usize) -> (Feed, Changes) {
    let (sender, receiver) = sync_channel(room);
    let counts = Arc::new(Counts::default());
    let feed = Feed {
        sender,
        counts: counts.clone(),
    };
    (
        feed,
        Changes {
            receiver: Mutex::new(receiver),
            counts,
        },
    )
}

impl Feed {
    /// Never blocks.
    pub(super) fn send(&self, change: PenaltyChange) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(change) {
            self.counts.overflows.fetch_add(1, Ordering::Relaxed);
            self.counts.overflown.store(true, Ordering::Release);
        }
    }

    /// What has been fed.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Changes {
    /// What waits in the channel now, at most one batch, each key's last change only.
    pub fn pending(&self) -> Vec<PenaltyChange> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.try_iter().take(BATCH).collect()
    }

    /// Feeds `kernel` until the book's last holder is gone; for a thread of its own, which holds the book weakly.
    pub fn run(self, clock: Clock, book: &std::sync::Weak<Book>, kernel: &mut dyn KernelFeed) {
        let receiver = self.receiver.into_inner().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut batch = match receiver.recv_timeout(AGAIN) {
                Ok(first) => {
                    std::thread::sleep(LINGER);
                    std::iter::once(first)
                        .chain(receiver.try_iter().take(BATCH - 1))
                        .collect()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = clock.now().mono;
            if self.counts.overflown.swap(false, Ordering::AcqRel) {
                let Some(book) = book.upgrade() else { return };
                // The list holds no lifting; those come from the channel, and a lost one ends with its penalty.
                batch.extend(book.list(now));
            }
            let batch = last_of_each(batch);
            if batch.is_empty() {
                continue;
            }
            match kernel.apply(now, &batch) {
                Ok(()) => {
                    self.counts.batches.fetch_add(1, Ordering::Relaxed);
                    self.counts.changes.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    self.counts.failures.fetch_add(1, Ordering::Relaxed);
                    self.counts.overflown.store(true, Ordering::Release);
                    tracing::warn!(%error, changes = batch.len(), "penalties not fed, trying again");
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }
}

/// Each key once, with its last change.
fn last_of_each(changes: Vec<PenaltyChange>) -> Vec<PenaltyChange> {
    let last: HashMap<_, _> = changes.into_iter().map(|change| (change.key, change)).collect();
    last.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::penalty::{Company, Level, Subject};

    struct Maps(std::sync::mpsc::Sender<Vec<PenaltyChange>>, u32);
    impl KernelFeed for Maps {
        fn apply(&mut self, _: Duration, changes: &[PenaltyChange]) -> Result<(), FeedError> {
            if self.1 > 0 {
                self.1 -= 1;
                return Err(FeedError(std::io::Error::from_raw_os_error(1)));
            }
            self.0
                .send(changes.to_vec())
                .map_err(|_| FeedError(std::io::Error::other("gone")))
        }
    }

    /// Penalties lost to a full channel or a failing map would let the storm through.
    #[test]
    fn overflow_and_failure_feed_the_whole_list() {
        let (feed, changes) = channel(4);
        let book = Arc::new(Book::new(512, feed));
        for n in 0..100 {
            book.penalise(
                Duration::ZERO,
                1,
                Subject::Client(n),
                1,
                Duration::from_secs(900),
                Company::default(),
            );
        }
        let counts = changes.counts.clone();
        let (sender, fed) = std::sync::mpsc::channel();
        let weak = Arc::downgrade(&book);
        let thread = std::thread::spawn(move || changes.run(Clock::new(), &weak, &mut Maps(sender, 1)));
        let batch = fed.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(batch.len() == 100 && batch.iter().all(|c| c.level == Some(Level::Blocked)));
        assert_eq!(counts.overflows.load(Ordering::Relaxed), 96);
        drop(book);
        thread.join().unwrap();
    }
}
