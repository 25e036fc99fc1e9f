//! rustls code that can wait: it runs on a stack of its own, and where it needs an answer from a
//! key server, the stack is put aside until async code has fetched it. `keyless` starts tasks and
//! answers their questions; `remote`'s signer and key exchange ask them, from the depth of rustls's
//! calls, which know nothing of waiting.
//!
//! Everything unsafe of the room is here: finding the coroutine one is in, and moving a task that
//! is put aside with its future.
#![expect(
    unsafe_code,
    reason = "the coroutine in control is found by a thread-local pointer: rustls's traits pass nothing along"
)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use prometheus_client::metrics::gauge::Gauge;

use super::remote::{Answer, Notes, Question, Refusal};

/// Bytes of one stack, its guard page not counted; a handshake touches about 13 KiB of it.
const STACK: usize = 128 << 10;

// Boxed: corosensei passes what crosses a switch over the stack, and has a limit for it.
type Asked = Box<Question>;
type Answered = Box<Answer>;
type Running<R> = Coroutine<Answered, Asked, Box<R>, DefaultStack>;

/// What the code inside finds.
struct Scene<'a> {
    yielder: &'a Yielder<Answered, Asked>,
    notes: RefCell<Notes>,
}

thread_local! {
    /// The coroutine that runs on this thread now; null outside.
    static CURRENT: Cell<*const Scene<'static>> = const { Cell::new(std::ptr::null()) };
}

/// Where a task stands.
pub enum Step<R> {
    /// It waits for an answer: [`Task::resume`] with it.
    Asked(Box<Question>),
    /// It is done.
    Done(R),
}

/// Code on a stack of its own. Dropped before its end, it is resumed with refusals until it ends:
/// nothing on its stack leaks.
pub struct Task<R: Send + 'static> {
    /// `None` once done.
    coroutine: Option<Running<R>>,
    started: bool,
    home: ThreadId,
    stacks: Arc<Stacks>,
}

// SAFETY: the coroutine, and with it whatever lies on its stack, is touched only by `resume` and
// `drop`, and both look first whether they are on the thread that made it; elsewhere they leave it
// alone for good. The other fields are `Send`.
unsafe impl<R: Send> Send for Task<R> {}

impl<R: Send + 'static> Task<R> {
    /// Prepares `code` with its notes; nothing runs before the first [`Task::resume`].
    ///
    /// # Errors
    /// All stacks are in use, or the system has no memory for another.
    pub fn new(stacks: &Arc<Stacks>, notes: Notes, code: impl FnOnce() -> R + Send + 'static) -> io::Result<Self> {
        let stack = stacks.take()?;
        let inside = Box::new((notes, code));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<Answered, Asked>, _first: Answered| {
            let (notes, code) = *inside;
            let scene = Scene {
                yielder,
                notes: RefCell::new(notes),
            };
            enter(&scene);
            Box::new(code())
        });
        Ok(Self {
            coroutine: Some(coroutine),
            started: false,
            home: thread::current().id(),
            stacks: stacks.clone(),
        })
    }

    /// Runs until the next question or the end. The first answer is not looked at. `None` when the
    /// task is over, or belongs to another thread.
    ///
    /// # Panics
    /// When the code inside does.
    pub fn resume(&mut self, answer: Answer) -> Option<Step<R>> {
        if self.home != thread::current().id() {
            return None;
        }
        let coroutine = self.coroutine.as_mut()?;
        self.started = true;
        let control = Control(CURRENT.get());
        let result = coroutine.resume(Box::new(answer));
        drop(control);
        Some(match result {
            CoroutineResult::Yield(question) => Step::Asked(question),
            CoroutineResult::Return(value) => {
                if let Some(coroutine) = self.coroutine.take() {
                    self.stacks.give(coroutine.into_stack());
                }
                Step::Done(*value)
            }
        })
    }
}

impl<R: Send + 'static> Drop for Task<R> {
    fn drop(&mut self) {
        if self.coroutine.is_some() && self.home != thread::current().id() {
            // Workers keep their futures to the end, so this does not happen; a leak is what is
            // left that is safe.
            std::mem::forget(self.coroutine.take());
            self.stacks.lost();
            tracing::error!("a handshake was dropped by another thread than its own; its stack is lost");
            return;
        }
        if !self.started {
            // Its closure has not begun: dropping it is all there is to do.
            if let Some(mut coroutine) = self.coroutine.take() {
                coroutine.force_unwind();
                self.stacks.give(coroutine.into_stack());
            }
            return;
        }
        // Refused, rustls fails and returns: quicker than unwinding, and its destructors run as
        // after any error.
        while let Some(coroutine) = &self.coroutine {
            if coroutine.done() {
                // A panic has unwound its stack.
                if let Some(coroutine) = self.coroutine.take() {
                    self.stacks.give(coroutine.into_stack());
                }
                return;
            }
            let _ = catch_unwind(AssertUnwindSafe(|| self.resume(Err(Refusal::Cancelled))));
        }
    }
}

/// Gives the thread's state back when control comes back, by a panic too.
struct Control(*const Scene<'static>);

impl Drop for Control {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// From here on this thread is inside `scene`'s coroutine.
fn enter(scene: &Scene<'_>) {
    CURRENT.set(std::ptr::from_ref(scene).cast());
}

/// Asks from inside: puts the stack aside until the answer is there.
///
/// # Errors
/// The answer's; [`Refusal::Outside`] where there is no coroutine to put aside.
pub fn ask(question: Question) -> Answer {
    let current = CURRENT.get();
    if current.is_null() {
        return Err(Refusal::Outside);
    }
    // SAFETY: not null, so this thread is between `enter` and the moment control returned to
    // `resume`: the scene lies in a frame below this one, on the stack this runs on, and that frame
    // ends after this one.
    let scene = unsafe { &*current };
    let answer = scene.yielder.suspend(Box::new(question));
    // Others may have run on this thread meanwhile, and `resume` has cleared the pointer.
    enter(scene);
    *answer
}

/// What this coroutine's handshake has noted so far; `None` outside.
pub fn notes<T>(look: impl FnOnce(&mut Notes) -> T) -> Option<T> {
    let current = CURRENT.get();
    if current.is_null() {
        return None;
    }
    // SAFETY: as in `ask`.
    let scene = unsafe { &*current };
    let mut notes = scene.notes.try_borrow_mut().ok()?;
    Some(look(&mut notes))
}

/// Stacks, each with its guard page, shared by all workers: used again while there is use for them,
/// given back when not.
#[derive(Debug)]
pub struct Stacks {
    most: AtomicUsize,
    free: Mutex<Free>,
    gauge: Gauge,
}

#[derive(Default)]
struct Free {
    stacks: VecDeque<DefaultStack>,
    /// In use and free.
    made: usize,
    /// The fewest that were free at any time since the last sweep: so many nobody needed.
    least: usize,
}

impl std::fmt::Debug for Free {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Free")
            .field("free", &self.stacks.len())
            .field("made", &self.made)
            .finish()
    }
}

impl Stacks {
    /// No more than `most` of them; `gauge` follows how many there are, in use or not.
    pub fn new(most: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(most),
            free: Mutex::default(),
            gauge,
        })
    }

    /// Another bound from now on; those beyond it are used on.
    pub fn adjust(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> io::Result<DefaultStack> {
        let mut free = self.lock();
        // The one used last: its pages are in the cache.
        if let Some(stack) = free.stacks.pop_back() {
            free.least = free.least.min(free.stacks.len());
            return Ok(stack);
        }
        if free.made >= self.most.load(Relaxed) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        free.made += 1;
        drop(free);
        match DefaultStack::new(STACK) {
            Ok(stack) => {
                self.gauge.inc();
                Ok(stack)
            }
            Err(error) => {
                self.lock().made -= 1;
                Err(error)
            }
        }
    }

    fn give(&self, stack: DefaultStack) {
        self.lock().stacks.push_back(stack);
    }

    /// One that was taken does not come back.
    fn lost(&self) {
        self.lock().made -= 1;
        self.gauge.dec();
    }

    /// Gives back the memory of those that nobody needed since the last call; to be called every
    /// few seconds.
    pub fn sweep(&self) {
        let mut free = self.lock();
        let spare = free.least.min(free.stacks.len());
        let idle: Vec<_> = free.stacks.drain(..spare).collect();
        free.made -= idle.len();
        free.least = free.stacks.len();
        drop(free);
        self.gauge.dec_by(i64::try_from(idle.len()).unwrap_or(i64::MAX));
    }

    /// How many there are, and how many of them are free.
    pub fn count(&self) -> (usize, usize) {
        let free = self.lock();
        (free.made, free.stacks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks() -> Arc<Stacks> {
        Stacks::new(2, Gauge::default())
    }

    fn task<R: Send>(stacks: &Arc<Stacks>, code: impl FnOnce() -> R + Send + 'static) -> Task<R> {
        Task::new(stacks, Notes::default(), code).unwrap()
    }

    /// A task that never ran, ran to its end, or died of a panic gives its stack back or forgets
    /// it; never leaks the count.
    #[test]
    fn stacks_come_back() {
        let stacks = stacks();
        drop(task(&stacks, || 1));
        assert_eq!(stacks.count(), (1, 1));
        let mut done = task(&stacks, || vec![7_u8; 100_000]);
        assert!(matches!(done.resume(Ok(None)), Some(Step::Done(bytes)) if bytes.len() == 100_000));
        assert!(done.resume(Ok(None)).is_none(), "over");
        let _kept = task(&stacks, || ());
        let mut dies = task(&stacks, || assert!(notes(|_| ()).is_none(), "inside there are notes"));
        assert!(Task::new(&stacks, Notes::default(), || ()).is_err(), "no third stack");
        let died = catch_unwind(AssertUnwindSafe(|| dies.resume(Ok(None)).is_some()));
        assert!(died.is_err());
        assert!(notes(|_| ()).is_none(), "outside again");
        drop(dies);
        assert_eq!(stacks.count(), (2, 1));
    }

    /// Outside a task there is nothing to put aside: an error, not a crash.
    #[test]
    fn outside_nothing_waits() {
        assert!(notes(|_| ()).is_none());
        let mut inside = task(&stacks(), || notes(|notes| notes.exchange.is_none()));
        assert!(matches!(inside.resume(Ok(None)), Some(Step::Done(Some(true)))));
    }

    /// A suspended handshake belongs to its thread; another one leaves it alone.
    #[test]
    fn another_thread_leaves_it_alone() {
        let stacks = stacks();
        let mut mine = task(&stacks, || 5);
        let theirs = thread::spawn(move || (mine.resume(Ok(None)).is_none(), mine))
            .join()
            .unwrap();
        let (refused, mut mine) = theirs;
        assert!(refused);
        assert!(matches!(mine.resume(Ok(None)), Some(Step::Done(5))));
        let lost = task(&stacks, || ());
        thread::spawn(move || drop(lost)).join().unwrap();
        assert_eq!(stacks.count(), (0, 0), "the lost one is not counted any more");
    }

    /// The memory of a burst is given back, that of steady work is kept.
    #[test]
    fn sweeping() {
        let stacks = stacks();
        let (a, b) = (task(&stacks, || ()), task(&stacks, || ()));
        drop((a, b));
        stacks.sweep();
        assert_eq!(stacks.count(), (2, 2), "they were in use since the last look");
        drop(task(&stacks, || ()));
        stacks.sweep();
        assert_eq!(stacks.count(), (1, 1), "one was enough");
        stacks.sweep();
        stacks.sweep();
        assert_eq!(stacks.count(), (0, 0));
    }
}
