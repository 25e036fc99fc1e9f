//! What a guest's run costs: processor time measured around every poll of it, a limit that the
//! epoch enforces in between, and the turns by which guests of one zone that compute for long share
//! a thread with everybody else.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::UpdateDeadline;

use super::engine::TICK;
use super::error::Ended;

/// Microseconds between two renewals of the processor time of a guest with sockets.
const RENEWAL: u64 = 1_000_000;

/// Where a request's instance came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Start {
    /// It was made when the request came.
    Cold,
    /// It was made before, and had answered none.
    Ready,
    /// It was reused.
    Warm,
}

impl Start {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cold, Self::Ready, Self::Warm];

    /// For metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Ready => "ready",
            Self::Warm => "warm",
        }
    }
}

/// One request's account. Shared by its store, whose epoch asks it, and by the task that runs the
/// guest.
#[derive(Debug)]
pub struct Meter {
    budget: u64,
    /// Processor time at whose end the guest is over its budget.
    most: AtomicU64,
    /// When it was last renewed, microseconds of [`monotonic`].
    renewed: AtomicU64,
    spent: AtomicU64,
    /// The thread's processor time when the poll under way began.
    began: AtomicU64,
    /// The guest was interrupted and wants to go on; otherwise it waits for something.
    interrupted: AtomicBool,
    memory: AtomicUsize,
    start: AtomicU8,
    turns: Arc<Semaphore>,
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Meter {
    /// With `cpu` to spend. Of the guests that share `turns`, so many as it has permits run for
    /// longer than one tick at once.
    pub(super) fn new(cpu: Duration, turns: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self {
            budget: nanos(cpu),
            most: AtomicU64::new(nanos(cpu)),
            renewed: AtomicU64::new(monotonic()),
            spent: AtomicU64::new(0),
            began: AtomicU64::new(0),
            interrupted: AtomicBool::new(false),
            memory: AtomicUsize::new(0),
            start: AtomicU8::new(Start::Cold as u8),
            turns,
            turn: Mutex::new(None),
        })
    }

    /// Processor time so far, what is under way left aside.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }

    /// The most bytes of linear memory the guest has had.
    pub fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    /// The guest has an open socket, and something happened for it: its processor time is counted
    /// anew, once a second.
    pub(super) fn renew(&self) {
        let (now, before) = (monotonic(), self.renewed.load(Relaxed));
        if now.saturating_sub(before) >= RENEWAL {
            self.renewed.store(now, Relaxed);
            let most = self.spent.load(Relaxed).saturating_add(self.budget);
            self.most.fetch_max(most, Relaxed);
        }
    }

    /// Where its instance came from.
    pub fn start(&self) -> Start {
        let start = self.start.load(Relaxed);
        let known = Start::ALL.into_iter().find(|known| *known as u8 == start);
        known.unwrap_or(Start::Cold)
    }

    /// Its instance was not made for it.
    pub(super) fn started(&self, start: Start) {
        self.start.store(start as u8, Relaxed);
    }

    /// The guest has so much linear memory now.
    pub(super) fn holds(&self, bytes: usize) {
        self.memory.fetch_max(bytes, Relaxed);
    }

    /// The epoch ticked while the guest ran: it goes on when others had their turn, or is over its
    /// budget.
    pub(super) fn tick(self: &Arc<Self>) -> wasmtime::Result<UpdateDeadline> {
        let running = thread_time().saturating_sub(self.began.load(Relaxed));
        let all = self.spent.load(Relaxed).saturating_add(running);
        if all >= self.most.load(Relaxed) {
            return Err(Ended::Cpu.into());
        }
        if all < nanos(TICK) {
            // The tick came soon after it began. Sent behind the others now, it would be overtaken
            // by guests that came later and take no longer.
            return Ok(UpdateDeadline::Continue(1));
        }
        self.interrupted.store(true, Relaxed);
        let this = self.clone();
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                let held = this.turn().is_some();
                if !held {
                    // Closed never: the zone keeps it.
                    let turn = this.turns.clone().acquire_owned().await.ok();
                    *this.turn() = turn;
                }
                // Behind everything that is ready, sockets included.
                tokio::task::yield_now().await;
                this.interrupted.store(false, Relaxed);
            }),
        ))
    }

    /// For the host's own long work in a guest's name, between two pieces of it: others get their
    /// turn, or the guest is over its budget. Cheap before a tick is over.
    ///
    /// # Errors
    /// [`Ended::Cpu`].
    pub(super) async fn breathe(self: &Arc<Self>) -> wasmtime::Result<()> {
        let running = thread_time().saturating_sub(self.began.load(Relaxed));
        if self.spent.load(Relaxed).saturating_add(running) >= self.most.load(Relaxed) {
            return Err(Ended::Cpu.into());
        }
        if running < nanos(TICK) {
            return Ok(());
        }
        match self.tick()? {
            UpdateDeadline::YieldCustom(_, rest) => rest.await,
            _ => tokio::task::yield_now().await,
        }
        Ok(())
    }

    /// Processor time that another thread spent in the guest's name, nanoseconds.
    ///
    /// # Errors
    /// [`Ended::Cpu`].
    fn charge(&self, spent: u64) -> wasmtime::Result<()> {
        let before = self.spent.fetch_add(spent, Relaxed);
        match before.saturating_add(spent) >= self.most.load(Relaxed) {
            true => Err(Ended::Cpu.into()),
            false => Ok(()),
        }
    }

    /// Does `work`, which cannot be cut into pieces, on another thread, and pays for its processor
    /// time. Of one zone as much at once as it has turns, of all as much as the machine has
    /// processors; who comes first is first.
    ///
    /// # Errors
    /// [`Ended::Cpu`]: it cost more than was left. [`Ended::Internal`]: it panicked, or the node
    /// stops.
    pub(super) async fn elsewhere<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> wasmtime::Result<T> {
        static PLACES: OnceLock<Arc<Semaphore>> = OnceLock::new();
        let places = PLACES.get_or_init(|| {
            let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            Arc::new(Semaphore::new(processors))
        });
        // A turn that this guest holds is given back when it waits.
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Ended::Internal)?;
        let place = places.clone().acquire_owned().await.map_err(|_| Ended::Internal)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held until it is done, whoever has left meanwhile.
            let _held = (turn, place);
            let began = thread_time();
            let made = work();
            (made, thread_time().saturating_sub(began))
        });
        let (made, spent) = done.await.map_err(|_| Ended::Internal)?;
        self.charge(spent)?;
        Ok(made)
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) {
        self.began.store(thread_time(), Relaxed);
    }

    fn leave(&self) {
        let spent = thread_time().saturating_sub(self.began.load(Relaxed));
        self.spent.fetch_add(spent, Relaxed);
        if !self.interrupted.load(Relaxed) {
            // It waits for another, perhaps for one of its own zone: the turn must not wait with
            // it.
            self.turn().take();
        }
    }
}

/// A guest's run under its meter.
pub(super) struct Metered<F> {
    meter: Arc<Meter>,
    run: Pin<Box<F>>,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(meter: Arc<Meter>, run: F) -> Self {
        Self {
            meter,
            run: Box::pin(run),
        }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.enter();
        let polled = self.run.as_mut().poll(cx);
        self.meter.leave();
        polled
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds since some moment.
fn monotonic() -> u64 {
    clock(ClockId::Monotonic) / 1_000
}

/// Processor time of this thread, nanoseconds.
pub(super) fn thread_time() -> u64 {
    clock(ClockId::ThreadCPUTime)
}

/// What a clock of the kernel's shows, nanoseconds.
fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that needs half a tick would be overtaken by those that came later, or one that
    /// computes for long keep the thread.
    #[test]
    fn only_who_has_run_for_a_tick_yields() {
        let meter = Meter::new(Duration::from_millis(50), Arc::new(Semaphore::new(1)));
        meter.enter();
        assert!(matches!(meter.tick().unwrap(), UpdateDeadline::Continue(1)));
        assert!(!meter.interrupted.load(Relaxed));
        meter.spent.store(nanos(TICK), Relaxed);
        assert!(matches!(meter.tick().unwrap(), UpdateDeadline::YieldCustom(1, _)));
        meter.spent.store(meter.budget, Relaxed);
        assert!(meter.tick().is_err());
    }
}
