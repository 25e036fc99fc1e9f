//! An origin's content on its way into the far end: gathered whole within a bound of bytes and of
//! time, since what changed is only known at its end; or let go on as a stream where it is larger,
//! slower, or has trailers.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};

use crate::http::body::{Body, BodyError};

/// What has become of it.
#[derive(Debug)]
pub(super) enum Gathered {
    /// All of it.
    Whole(Bytes),
    /// To be passed on as it comes: what was read is in front again.
    Streams(Body),
}

/// Reads `body` for at most `patience` and `most` bytes.
///
/// # Errors
/// It broke off: nothing of it may look complete to anyone.
pub(super) async fn gather(mut body: Body, most: u64, patience: Duration) -> Result<Gathered, BodyError> {
    if body.is_end_stream() {
        return Ok(Gathered::Whole(Bytes::new()));
    }
    if body.size_hint().lower() > most {
        return Ok(Gathered::Streams(body));
    }
    let mut read: VecDeque<Frame<Bytes>> = VecDeque::new();
    let mut length = 0_u64;
    let mut patience = pin!(tokio::time::sleep(patience));
    loop {
        let frame = tokio::select! {
            biased;
            frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
            () = &mut patience => break,
        };
        let Some(frame) = frame.transpose()? else {
            return Ok(Gathered::Whole(join(read, length)));
        };
        let trailers = frame.is_trailers();
        length = length.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
        read.push_back(frame);
        if trailers || length > most {
            break;
        }
    }
    Ok(Gathered::Streams(Body::boxed(Resumed { read, rest: body })))
}

fn join(mut read: VecDeque<Frame<Bytes>>, length: u64) -> Bytes {
    if read.len() <= 1 {
        return read
            .pop_front()
            .and_then(|frame| frame.into_data().ok())
            .unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    for data in read.iter().filter_map(Frame::data_ref) {
        whole.extend_from_slice(data);
    }
    whole.freeze()
}

/// Content with what was read of it in front again.
struct Resumed {
    read: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read: u64 = self
            .read
            .iter()
            .filter_map(Frame::data_ref)
            .map(|data| data.len() as u64)
            .sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}
