//! A request's content on its way to an origin: what hyper's client reads from us. As long as the
//! origin may say that it has not looked at the request, the beginning is kept, so that the request
//! can be sent once more. `exchange` makes it, `attempt` sends it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use crate::http::body::{Body, BodyError};
use crate::http::handler::Reason;

const UNTOUCHED: u8 = 0;
const FLOWING: u8 = 1;
const ENDED: u8 = 2;
const TOO_LARGE: u8 = 3;
const STALLED: u8 = 4;
const GONE: u8 = 5;

/// Content kept for another attempt, of each request that has no answer yet: at most this, or none
/// of it.
const KEPT: usize = 64 << 10;

/// The content broke off. For the origin that is a request given up, whatever the client's
/// connection called it (RFC 9113 section 7): hyper takes the code of the reset from the source.
#[derive(Debug, thiserror::Error)]
#[error("the request's content broke off")]
pub(super) struct Broken(#[source] h2::Error);

impl Broken {
    fn new() -> Self {
        Self(h2::Reason::CANCEL.into())
    }
}

/// Content, and what both sides of a request know of it. All on one worker: the atomics only make
/// it `Sync`.
#[derive(Debug)]
pub(super) struct Progress {
    content: Mutex<Content>,
    state: AtomicU8,
    frames: AtomicU32,
    /// Closed until the origin says 100 (Continue), or is asked no longer.
    gated: AtomicBool,
    stopped: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Content {
    body: Body,
    /// The beginning, all that was taken from `body`; `None` once that is too much, or the origin
    /// has answered.
    kept: Option<Kept>,
    /// Pieces of `kept` that the present attempt has been given.
    given: usize,
    /// Whether it has been given the trailers, after which there is nothing.
    over: bool,
    /// Which attempt it is: an `Upload` of an earlier one gets nothing any more.
    attempt: u32,
}

#[derive(Debug, Default)]
struct Kept {
    pieces: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
}

impl Progress {
    /// Of a request with content.
    pub(super) fn new(body: Body) -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::new(Content {
                body,
                kept: Some(Kept::default()),
                given: 0,
                over: false,
                attempt: 0,
            }),
            state: AtomicU8::new(UNTOUCHED),
            frames: AtomicU32::new(0),
            gated: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content for another attempt, from its beginning.
    fn begin(&self) -> u32 {
        let mut content = self.content();
        content.given = 0;
        content.over = false;
        content.attempt = content.attempt.wrapping_add(1);
        // The attempt before learns that it is over.
        self.waker.wake();
        self.gated.store(false, Ordering::Relaxed);
        self.stopped.store(false, Ordering::Relaxed);
        if self.failure().is_none() {
            self.state.store(UNTOUCHED, Ordering::Relaxed);
        }
        content.attempt
    }

    /// Whether the content can be sent from its beginning once more.
    pub(super) fn repeatable(&self) -> bool {
        self.failure().is_none() && (self.untouched() || self.content().kept.is_some())
    }

    /// No other attempt will be made: what was kept for one is let go of, but for what has not been
    /// sent yet.
    pub(super) fn settle(&self) {
        let mut content = self.content();
        if content
            .kept
            .as_ref()
            .is_some_and(|kept| content.given >= kept.pieces.len() && kept.trailers.is_none())
        {
            content.kept = None;
            content.given = 0;
        }
    }

    /// Nothing was taken from the client yet.
    fn untouched(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNTOUCHED
    }

    /// Sent to its end.
    pub(super) fn ended(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ENDED
    }

    /// Frames taken so far, wrapping; it changes as long as the upload moves.
    pub(super) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// The client's fault that broke the upload.
    pub(super) fn failure(&self) -> Option<Reason> {
        match self.state.load(Ordering::Relaxed) {
            TOO_LARGE => Some(Reason::BodyTooLarge),
            STALLED => Some(Reason::ClientTimeout),
            GONE => Some(Reason::ClientGone),
            _ => None,
        }
    }

    /// Lets nothing through until [`Progress::open`].
    pub(super) fn gate(&self) {
        self.gated.store(true, Ordering::Relaxed);
    }

    /// Whether it waits for the origin's 100 (Continue).
    pub(super) fn gated(&self) -> bool {
        self.gated.load(Ordering::Relaxed)
    }

    /// The origin wants the content.
    pub(super) fn open(&self) {
        if self.gated.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// Nobody wants the rest: the origin has answered in full, or the client has gone.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    fn failed(&self, error: &BodyError) {
        let state = match error {
            BodyError::TooLarge => TOO_LARGE,
            BodyError::Stalled => STALLED,
            _ => GONE,
        };
        self.state.store(state, Ordering::Relaxed);
    }
}

impl Content {
    /// What is to be sent next, kept if there may be another attempt.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(kept) = &self.kept {
            if let Some(piece) = kept.pieces.get(self.given) {
                self.given += 1;
                return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
            }
            if let Some(trailers) = &kept.trailers {
                self.over = true;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
            }
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.over = matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        if let (Some(kept), Some(Ok(frame))) = (&mut self.kept, &frame) {
            if let Some(data) = frame.data_ref() {
                kept.bytes = kept.bytes.saturating_add(data.len());
                kept.pieces.push(data.clone());
                self.given += 1;
            }
            kept.trailers = frame.trailers_ref().cloned();
            // Pieces count as well: each may hold on to more than it shows.
            if kept.bytes > KEPT || kept.pieces.len() > KEPT / 1_024 {
                self.kept = None;
                self.given = 0;
            }
        }
        Poll::Ready(frame)
    }

    /// Bytes that were kept and are still to be given.
    fn rest(&self) -> u64 {
        let pieces = self.kept.as_ref().and_then(|kept| kept.pieces.get(self.given..));
        pieces.unwrap_or_default().iter().map(|piece| piece.len() as u64).sum()
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0 && self.kept.as_ref().is_none_or(|kept| kept.trailers.is_none()) && self.body.is_end_stream()
    }
}

/// One attempt's view of the content; nothing for a request without.
#[derive(Debug)]
pub(super) struct Upload(Option<(Arc<Progress>, u32)>);

impl Upload {
    /// All of the content that `progress` has, from its beginning.
    pub(super) fn new(progress: Option<&Arc<Progress>>) -> Self {
        Self(progress.map(|progress| (progress.clone(), progress.begin())))
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some((progress, attempt)) = &self.0 else {
            return Poll::Ready(None);
        };
        progress.waker.register(cx.waker());
        let mut content = progress.content();
        if progress.stopped.load(Ordering::Relaxed) || content.attempt != *attempt {
            // hyper closes the connection or resets the stream.
            return Poll::Ready(Some(Err(Broken::new())));
        }
        if progress.gated() {
            return Poll::Pending;
        }
        if progress.untouched() {
            progress.state.store(FLOWING, Ordering::Relaxed);
        }
        let frame = ready!(content.poll_next(cx));
        progress
            .frames
            .store(progress.frames().wrapping_add(1), Ordering::Relaxed);
        match frame {
            None => progress.state.store(ENDED, Ordering::Relaxed),
            Some(Ok(ref frame)) => {
                if frame.is_trailers() || content.is_end_stream() {
                    progress.state.store(ENDED, Ordering::Relaxed);
                }
            }
            Some(Err(error)) => {
                progress.failed(&error);
                return Poll::Ready(Some(Err(Broken::new())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Broken::new())))
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(progress, _)| progress.content().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let Some((progress, _)) = &self.0 else {
            return SizeHint::with_exact(0);
        };
        let content = progress.content();
        match content
            .body
            .size_hint()
            .exact()
            .and_then(|n| n.checked_add(content.rest()))
        {
            Some(n) => SizeHint::with_exact(n),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn body(pieces: &[&'static str], trailers: bool) -> Body {
        let mut frames: Vec<Result<Frame<Bytes>, BodyError>> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        if trailers {
            frames.push(Ok(Frame::trailers(HeaderMap::new())));
        }
        Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn text(upload: Upload) -> String {
        String::from_utf8(upload.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// A request that was not processed would come to the next server without its content, or with
    /// half of it.
    #[tokio::test]
    async fn content_is_sent_again_from_its_beginning() {
        for trailers in [false, true] {
            let progress = Progress::new(body(&["one", "two", "three"], trailers));
            let mut first = Upload::new(Some(&progress));
            first.frame().await.unwrap().unwrap();
            first.frame().await.unwrap().unwrap();
            assert!(progress.repeatable());
            let second = Upload::new(Some(&progress));
            assert!(
                first.frame().await.unwrap().is_err(),
                "one of two attempts gets the rest"
            );
            assert_eq!(text(second).await, "onetwothree");
            assert!(progress.ended() && progress.repeatable());
            let third = Upload::new(Some(&progress));
            assert!(!third.is_end_stream() && !progress.ended());
            let all = third.collect().await.unwrap();
            assert_eq!(all.trailers().is_some(), trailers);
            assert_eq!(all.to_bytes(), "onetwothree");
        }
    }

    /// Each upload would be held in memory.
    #[tokio::test]
    async fn long_content_is_not_kept() {
        static LONG: [u8; KEPT + 1] = [b'x'; KEPT + 1];
        let progress = Progress::new(Body::Full(Bytes::from_static(&LONG)));
        let mut upload = Upload::new(Some(&progress));
        assert_eq!(upload.size_hint().exact(), Some(LONG.len() as u64));
        upload.frame().await.unwrap().unwrap();
        assert!(!progress.repeatable() && progress.ended());
        let progress = Progress::new(body(&["one", "two"], false));
        let mut upload = Upload::new(Some(&progress));
        upload.frame().await.unwrap().unwrap();
        progress.settle();
        assert!(!progress.repeatable());
        assert_eq!(text(upload).await, "two");
    }

    /// The origin would be told what the client's connection said, as if it were about its own (RFC
    /// 9113 section 7).
    #[tokio::test]
    async fn a_broken_upload_is_cancelled() {
        let error: Result<Frame<Bytes>, BodyError> = Err(BodyError::TooLarge);
        let body = Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter([error])));
        let progress = Progress::new(body);
        let broken = Upload::new(Some(&progress)).frame().await.unwrap().unwrap_err();
        assert_eq!(progress.failure(), Some(Reason::BodyTooLarge));
        assert!(!progress.repeatable());
        let source = std::error::Error::source(&broken).and_then(|source| source.downcast_ref::<h2::Error>());
        assert_eq!(source.and_then(h2::Error::reason), Some(h2::Reason::CANCEL));
    }
}
