//! From the book to the kernel, off the request path: a bounded channel, one thread, batches. A
//! change that finds the channel full is not waited for; the whole list is then fed, and, if it was
//! a lift, what the kernel holds and the book does not is lifted: the book is the authority.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;

use super::clock::Clock;
use super::penalty::{Book, PenaltyChange};
use crate::base::penalty::{Origin, Subject};

/// Changes in one batch at most.
const BATCH: usize = 512;
/// How long a change may wait for company.
const LINGER: Duration = Duration::from_millis(20);
/// After a failure the whole list is tried again this often.
const AGAIN: Duration = Duration::from_secs(1);

/// The maps of the kernel, as the gate sees them. Called from one thread, never from a request.
pub trait KernelFeed: Send {
    /// Puts `changes`, each key once, in force. What remains of a penalty is `until - now`, both on
    /// the gate's steady clock.
    ///
    /// # Errors
    /// Whatever kept the maps from being written, in words for the log; the whole list is then fed
    /// again.
    fn apply(&mut self, now: Duration, changes: &[PenaltyChange]) -> Result<(), FeedError>;

    /// Everybody whom the maps penalise now.
    ///
    /// # Errors
    /// Whatever kept the maps from being read.
    fn held(&mut self) -> Result<Vec<Subject>, FeedError>;
}

/// The kernel refused a batch: ours or the operator's fault (no map, no permission), never a
/// peer's.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's penalty maps could not be brought up to date: {0}")]
pub struct FeedError(#[source] pub std::io::Error);

/// The sending end, held by the book.
#[derive(Debug)]
pub struct Feed {
    sender: SyncSender<Sent>,
    counts: Arc<Counts>,
}

/// A change, and since when it is on its way.
type Sent = (Instant, PenaltyChange);

/// The receiving end.
#[derive(Debug)]
pub struct Changes {
    receiver: Mutex<Receiver<Sent>>,
    room: usize,
    counts: Arc<Counts>,
    latency: Latency,
}

/// What has been fed, for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    overflown: AtomicBool,
    /// A lift was among what found the channel full.
    lift_lost: AtomicBool,
    /// Batches given to the kernel.
    pub batches: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Changes that found the channel full.
    pub overflows: AtomicU64,
    /// Batches that the kernel refused.
    pub failures: AtomicU64,
}

/// How long the oldest change of a batch took from the book to the kernel, seconds.
#[derive(Clone, Debug)]
pub struct Latency(pub Histogram);

impl Default for Latency {
    fn default() -> Self {
        // A batch lingers for 20 ms; beyond a second clients notice.
        Self(Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]))
    }
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
            room,
            counts,
            latency: Latency::default(),
        },
    )
}

impl Feed {
    /// Never blocks.
    pub(super) fn send(&self, change: PenaltyChange) {
        if let Err(TrySendError::Full((_, change))) = self.sender.try_send((Instant::now(), change)) {
            self.counts.overflows.fetch_add(1, Ordering::Relaxed);
            if change.level.is_none() {
                self.counts.lift_lost.store(true, Ordering::Release);
            }
            self.counts.overflown.store(true, Ordering::Release);
        }
    }

    /// What has been fed.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Changes {
    /// Tells `latency` how long changes take.
    #[must_use]
    pub fn timed_by(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// What waits in the channel now, at most one batch, each key's last change only.
    pub fn pending(&self) -> Vec<PenaltyChange> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.try_iter().take(BATCH).map(|(_, change)| change).collect()
    }

    /// Feeds `kernel` until the book's last holder is gone; for a thread of its own, which holds
    /// the book weakly.
    pub fn run(self, clock: Clock, book: &std::sync::Weak<Book>, kernel: &mut dyn KernelFeed) {
        let receiver = self.receiver.into_inner().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut batch: Vec<Sent> = match receiver.recv_timeout(AGAIN) {
                Ok(first) => {
                    std::thread::sleep(LINGER);
                    std::iter::once(first)
                        .chain(receiver.try_iter().take(BATCH - 1))
                        .collect()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let overflown = self.counts.overflown.swap(false, Ordering::AcqRel);
            let lift_lost = self.counts.lift_lost.swap(false, Ordering::AcqRel);
            if lift_lost {
                // What is still on its way is older than the lost lift, and the book knows of it.
                batch.extend(receiver.try_iter().take(self.room));
            }
            let mut oldest = batch.iter().map(|(sent, _)| *sent).min();
            let mut changes: Vec<_> = batch.into_iter().map(|(_, change)| change).collect();
            let now = clock.now().mono;
            let mut fed = Ok(());
            if overflown {
                let Some(book) = book.upgrade() else { return };
                oldest = None;
                let list = book.list(now);
                if lift_lost {
                    changes.clear();
                    fed = kernel.held().map(|held| changes.extend(lifted(now, held, &list)));
                }
                changes.extend(list);
            }
            let changes = last_of_each(changes);
            for batch in changes.chunks(BATCH) {
                fed = fed.and_then(|()| kernel.apply(now, batch));
                if fed.is_ok() {
                    self.counts.batches.fetch_add(1, Ordering::Relaxed);
                    self.counts.changes.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
            }
            if let (Some(sent), Ok(())) = (oldest, &fed) {
                self.latency.0.observe(sent.elapsed().as_secs_f64());
            }
            if let Err(error) = fed {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                // A lift may be among what was not fed, and the list holds none.
                self.counts.lift_lost.store(true, Ordering::Release);
                self.counts.overflown.store(true, Ordering::Release);
                tracing::warn!(%error, changes = changes.len(), "penalties not fed, trying again");
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// Lifts for whom the kernel holds and the book's list does not.
fn lifted(now: Duration, held: Vec<Subject>, list: &[PenaltyChange]) -> Vec<PenaltyChange> {
    let listed: HashSet<_> = list.iter().map(|change| change.key).collect();
    let lost = held.into_iter().filter(|key| !listed.contains(key));
    lost.map(|key| PenaltyChange {
        key,
        origin: Origin::Gate,
        level: None,
        until: now,
        syn_budget: 0,
        probation: Duration::ZERO,
    })
    .collect()
}

/// Each key once, with its last change.
fn last_of_each(changes: Vec<PenaltyChange>) -> Vec<PenaltyChange> {
    let last: HashMap<_, _> = changes.into_iter().map(|change| (change.key, change)).collect();
    last.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::penalty::Level;
    use crate::gate::penalty::{Company, Strike};

    /// What is fed, failures to come, and who is held.
    struct Maps(std::sync::mpsc::Sender<Vec<PenaltyChange>>, u32, Vec<Subject>);
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

        fn held(&mut self) -> Result<Vec<Subject>, FeedError> {
            Ok(self.2.clone())
        }
    }

    /// Penalties lost to a full channel or a failing map would let the storm through.
    #[test]
    fn overflow_and_failure_feed_the_whole_list() {
        let (feed, changes) = channel(4);
        let book = Arc::new(Book::new(512, feed));
        for n in 0..100 {
            let strike = Strike {
                strikes: 1,
                until: Duration::from_secs(900),
                probation: Duration::ZERO,
            };
            let home = std::net::IpAddr::from([192, 0, 2, 1]);
            book.penalise(
                Duration::ZERO,
                1,
                (Subject::Client(n), home),
                (strike, Company::default()),
                true,
            );
        }
        let counts = changes.counts.clone();
        let (sender, fed) = std::sync::mpsc::channel();
        let weak = Arc::downgrade(&book);
        let thread = std::thread::spawn(move || changes.run(Clock::new(), &weak, &mut Maps(sender, 1, Vec::new())));
        let batch = fed.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(batch.len() == 100 && batch.iter().all(|c| c.level == Some(Level::Blocked)));
        assert_eq!(counts.overflows.load(Ordering::Relaxed), 96);
        drop(book);
        thread.join().unwrap();
    }

    /// Whom an operator forgave would stay locked out until the penalty ended by itself, or be
    /// locked out again by a change that was on its way when the lift found no room.
    #[test]
    fn a_lift_that_found_no_room_is_made_up_for() {
        let (feed, changes) = channel(4);
        let book = Arc::new(Book::new(512, feed));
        let client = Subject::Client;
        let long = Duration::from_secs(900);
        // Four on their way fill the channel; the lift of the first finds no room, nor do the
        // others.
        for n in 0..700 {
            assert!(book.add(Duration::ZERO, client(n), Level::Blocked, long));
        }
        assert!(book.lift(Duration::ZERO, client(0)));
        let counts = changes.counts.clone();
        let (sender, fed) = std::sync::mpsc::channel();
        let weak = Arc::downgrade(&book);
        // The kernel has the lifted one, one that the book still has, and one that it never had.
        let mut kernel = Maps(sender, 0, vec![client(0), client(1), client(9_999)]);
        let thread = std::thread::spawn(move || changes.run(Clock::new(), &weak, &mut kernel));
        let mut last = HashMap::new();
        while last.len() < 701 {
            let batch = fed.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(batch.len() <= BATCH);
            last.extend(batch.iter().map(|change| (change.key, change.level)));
        }
        for (key, level) in &last {
            let gone = [client(0), client(9_999)].contains(key);
            assert_eq!(*level, (!gone).then_some(Level::Blocked), "{key:?}");
        }
        assert_eq!(counts.overflows.load(Ordering::Relaxed), 697);
        // A change that finds room arrives by itself, and is timed.
        assert!(book.lift(Duration::ZERO, client(1)));
        let batch = fed.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(batch.len() == 1 && batch[0].level.is_none());
        drop(book);
        thread.join().unwrap();
    }
}
