//! What can wait until a worker thread has nothing else to do: cleaning up behind a response,
//! preparing the next one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Poll, Waker};

/// So many wait at once on one thread; more push the first ones out, so that a thread that is never
/// idle does not hoard.
const MOST: usize = 16;

thread_local! {
    static WAITING: RefCell<Option<VecDeque<Waker>>> = const { RefCell::new(None) };
}

/// To be called on a thread before its single-threaded runtime runs there; [`idle`] is the
/// runtime's `on_thread_park` then.
pub fn begin() {
    WAITING.set(Some(VecDeque::new()));
}

/// The thread has nothing to do: those that waited for that go on.
pub fn idle() {
    let all = WAITING.with_borrow_mut(|waiting| waiting.as_mut().map(std::mem::take));
    for waker in all.into_iter().flatten() {
        waker.wake();
    }
}

/// Waits until this thread has nothing else to do, or too many wait for that. On a thread without
/// [`begin`], gives way once.
pub async fn when_idle() {
    if WAITING.with_borrow(Option::is_none) {
        return tokio::task::yield_now().await;
    }
    let mut asked = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        let first = WAITING.with_borrow_mut(|waiting| {
            let waiting = waiting.as_mut()?;
            waiting.push_back(cx.waker().clone());
            (waiting.len() > MOST).then(|| waiting.pop_front()).flatten()
        });
        if let Some(first) = first {
            first.wake();
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.on_thread_park(idle).event_interval(4).build().unwrap()
    }

    /// A client would wait for what is done behind another's response; or it would never be done.
    #[test]
    fn others_go_first_and_then_it_is_done() {
        begin();
        let steps = Arc::new(AtomicUsize::new(0));
        let seen = runtime().block_on(async {
            let count = steps.clone();
            let late = tokio::spawn(async move {
                when_idle().await;
                count.load(Relaxed)
            });
            for _ in 0..20 {
                // Each a task more in a chain of wakings.
                let count = steps.clone();
                tokio::spawn(async move { count.fetch_add(1, Relaxed) }).await.unwrap();
            }
            late.await.unwrap()
        });
        assert_eq!(seen, 20);
    }

    /// A thread under full load would keep every instance that it ever had.
    #[test]
    fn too_many_do_not_wait() {
        begin();
        runtime().block_on(async {
            let done = Arc::new(AtomicUsize::new(0));
            for _ in 0..MOST + 5 {
                let done = done.clone();
                tokio::spawn(async move {
                    when_idle().await;
                    done.fetch_add(1, Relaxed);
                });
            }
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                if polls < 100 && done.load(Relaxed) < 5 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(done.load(Relaxed), 5);
        });
    }

    /// Elsewhere, as in tests and in the process that compiles, nobody would ever wake it.
    #[test]
    fn on_other_threads_it_gives_way_once() {
        std::thread::scope(|scope| {
            scope.spawn(|| runtime().block_on(when_idle()));
        });
    }
}
