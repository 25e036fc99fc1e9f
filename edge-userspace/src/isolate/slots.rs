//! How many requests run at once: of a zone, and of the node. A request that another worker made
//! never waits, and finds slots that no client's request can take: so nesting cannot wait for
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Ended;

/// How long a client's request waits for a slot.
const PATIENCE: Duration = Duration::from_secs(1);

/// Slots of a zone or of the node.
#[derive(Debug)]
pub(super) struct Slots {
    outer: Arc<Semaphore>,
    nested: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_most: usize,
    nested_most: usize,
}

/// A slot; free again when dropped.
pub(super) type Slot = OwnedSemaphorePermit;

impl Slots {
    /// `outer` for all, `nested` more for sub-requests; so many clients' requests as `outer` wait
    /// at most.
    pub(super) fn new(outer: usize, nested: usize) -> Self {
        Self {
            outer: Arc::new(Semaphore::new(outer)),
            nested: Arc::new(Semaphore::new(nested)),
            waiting: AtomicUsize::new(0),
            waiting_most: outer,
            nested_most: nested,
        }
    }

    /// As it was made.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.waiting_most, self.nested_most)
    }

    /// A slot for a client's request, or for one that another worker made.
    ///
    /// # Errors
    /// [`Ended::Overload`].
    pub(super) async fn take(&self, nested: bool) -> Result<Slot, Ended> {
        if let Ok(slot) = self.outer.clone().try_acquire_owned() {
            return Ok(slot);
        }
        if nested {
            return self.nested.clone().try_acquire_owned().map_err(|_| Ended::Overload);
        }
        let _waiting = Waiting::begin(&self.waiting, self.waiting_most).ok_or(Ended::Overload)?;
        match tokio::time::timeout(PATIENCE, self.outer.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Ended::Overload),
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let more = |n: usize| (n < most).then_some(n + 1);
        count.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that call each other would wait for each other for ever, or clients starve them.
    #[tokio::test]
    async fn nested_requests_have_slots_of_their_own_and_never_wait() {
        let slots = Slots::new(1, 1);
        let _first = slots.take(false).await.unwrap();
        let began = std::time::Instant::now();
        let nested = slots.take(true).await.unwrap();
        assert_eq!(slots.take(true).await.unwrap_err(), Ended::Overload);
        assert!(began.elapsed() < PATIENCE, "a worker's request does not wait");
        drop(nested);
        drop(slots.take(true).await.unwrap());
        let (second, third) = tokio::join!(slots.take(false), slots.take(false));
        assert!(second.is_err() && third.is_err());
        let waited = began.elapsed();
        assert!(waited >= PATIENCE, "a client's request waits a little: {waited:?}");
        assert_eq!(slots.waiting.load(Relaxed), 0);
    }
}
