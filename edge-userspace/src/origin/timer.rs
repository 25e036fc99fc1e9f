//! A deadline that is moved far more often than it passes: one `Sleep`, set anew only when it fires
//! too early. A pooled connection keeps its timer from request to request, so that the usual
//! request touches no timer wheel at all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// One lazily reset timer. Belongs to the worker whose runtime polled it first.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when `deadline` has passed; otherwise the task will be woken by then (and perhaps
    /// earlier, for nothing).
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn passed(timer: &mut Timer, deadline: Instant) {
        std::future::poll_fn(|cx| timer.poll_passed(cx, deadline)).await;
    }

    /// A timer that keeps an old deadline would cut off a healthy transfer, or never cut off a dead
    /// one.
    #[tokio::test]
    async fn moves_both_ways() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timer = Timer::default();
        for (deadline, least) in [(50, 50), (20, 50), (200, 200), (100, 200), (300, 300)] {
            // A far deadline that is given up for a nearer one.
            let far = std::future::poll_fn(|cx| Poll::Ready(timer.poll_passed(cx, at(60_000)))).await;
            assert!(far.is_pending());
            passed(&mut timer, at(deadline)).await;
            assert!(
                Instant::now() >= at(least) && Instant::now() < at(least + 40),
                "{deadline}"
            );
        }
    }
}
