//! What ties a guest's run to its client, and lets it go: work that was given to `waitUntil`, or
//! that a component does after its response's end, is done whoever leaves; everything else ends
//! with the client. The response's body, and the handler before there is one, hold the client's end
//! (`Client`); the run is polled within `Tied`.

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Between a run and its client.
#[derive(Debug, Default)]
pub struct Tie {
    gone: AtomicBool,
    kept: AtomicBool,
    satisfied: AtomicBool,
    waker: AtomicWaker,
    /// Told when the client's end is dropped.
    left: Notify,
    /// The guest has a socket that moved: when its time is over from then on.
    until: Mutex<Option<Instant>>,
}

impl Tie {
    /// From now on, or no longer, the run goes on without its client.
    pub fn keep(&self, kept: bool) {
        self.kept.store(kept, SeqCst);
    }

    /// Whether it has work that must not be lost.
    pub fn is_kept(&self) -> bool {
        self.kept.load(SeqCst)
    }

    /// Something came or went on a socket of the guest: its time, `wall`, begins anew.
    pub(super) fn moved(&self, wall: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wall);
    }

    /// When the time of a guest that has sockets is over; `None`: nothing moved on one yet.
    pub(super) fn lives_until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when nobody waits for the response any more: whether the client has gone before it
    /// had all of it.
    pub(super) async fn left(&self) -> bool {
        let mut told = std::pin::pin!(self.left.notified());
        // Registered before it is looked at: what happens in between is not missed.
        told.as_mut().enable();
        if !self.gone.load(SeqCst) {
            told.await;
        }
        !self.satisfied.load(SeqCst)
    }

    fn is_over(&self) -> bool {
        self.gone.load(SeqCst) && !self.is_kept()
    }
}

/// The client's end; dropped when nobody waits for the response any more, or all of it has been
/// taken.
#[derive(Debug)]
pub(super) struct Client(pub(super) Arc<Tie>);

impl Client {
    /// All of the response was taken: what the guest still does is behind it.
    pub(super) fn satisfied(&self) {
        self.0.satisfied.store(true, SeqCst);
        self.0.keep(true);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.gone.store(true, SeqCst);
        self.0.left.notify_waiters();
        self.0.waker.wake();
    }
}

/// A run that ends, with `None`, when its client has gone and nothing keeps it.
pub(super) struct Tied<F> {
    tie: Arc<Tie>,
    run: F,
}

impl<F> Tied<F> {
    pub(super) fn new(tie: Arc<Tie>, run: F) -> Self {
        Self { tie, run }
    }
}

impl<F: Future + Unpin> Future for Tied<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.tie.waker.register(cx.waker());
        if self.tie.is_over() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.run).poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.tie.is_over() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

thread_local! {
    static RUNS: Cell<usize> = const { Cell::new(0) };
}

/// Counts a run among those of this thread, which it does not leave, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(PhantomData<()>);

impl Counted {
    pub(super) fn begin() -> Self {
        RUNS.set(RUNS.get().saturating_add(1));
        Self(PhantomData)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        RUNS.set(RUNS.get().saturating_sub(1));
    }
}

/// Returns when no guest runs on this thread any more: what they do behind their responses is done,
/// or cut by their `wall`.
pub async fn at_rest() {
    while RUNS.get() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log line behind a response would be lost with the client; or clients that leave would fill
    /// a zone's slots with work that nobody wants.
    #[tokio::test]
    async fn what_is_kept_goes_on_and_the_rest_ends_with_its_client() {
        for kept in [true, false] {
            let tie = Arc::new(Tie::default());
            let (done, wait) = tokio::sync::oneshot::channel::<()>();
            let client = Client(tie.clone());
            tie.keep(kept);
            let run = tokio::spawn(Tied::new(tie.clone(), wait));
            tokio::task::yield_now().await;
            drop(client);
            tokio::task::yield_now().await;
            assert_eq!(run.is_finished(), !kept);
            let told = done.send(());
            assert_eq!(run.await.unwrap().is_some(), kept);
            assert_eq!(told.is_ok(), kept);
        }
    }

    /// A run that has done what it was kept for would hold its slot until `wall`.
    #[tokio::test]
    async fn what_is_kept_no_longer_ends() {
        let tie = Arc::new(Tie::default());
        tie.keep(true);
        drop(Client(tie.clone()));
        let of_run = tie.clone();
        let mut polls = 0;
        let run = std::future::poll_fn(move |cx| {
            polls += 1;
            of_run.keep(polls < 3);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(Tied::new(tie, run).await, None);
    }
}
