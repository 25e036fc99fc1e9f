//! A request's content that can be had back as long as nobody has read of it: when the far end
//! cannot be reached, the origin still gets all of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::http::body::{Body, BodyError};

/// The content, if it was not read.
pub(super) struct Spare(Option<Arc<Mutex<Option<Body>>>>);

struct Lent {
    shared: Arc<Mutex<Option<Body>>>,
    /// Taken out at the first read.
    body: Option<Body>,
}

/// `body` as it is to be sent, and the way to have it back.
pub(super) fn keep(body: Body) -> (Body, Spare) {
    if body.is_end_stream() {
        return (Body::Empty, Spare(None));
    }
    let shared = Arc::new(Mutex::new(Some(body)));
    let lent = Lent {
        shared: shared.clone(),
        body: None,
    };
    (Body::boxed(lent), Spare(Some(shared)))
}

impl Spare {
    /// The content, as it was; `None` when some of it has been read.
    pub(super) fn take(self) -> Option<Body> {
        match self.0 {
            None => Some(Body::Empty),
            Some(shared) => lock(&shared).take(),
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.body.is_none() {
            let taken = lock(&self.shared).take();
            self.body = taken;
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            // Taken back: it must not look as if it had ended.
            None => Poll::Ready(Some(Err(BodyError::Damaged("taken back")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => lock(&self.shared).as_ref().map_or_else(SizeHint::new, Body::size_hint),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
