//! Content that nobody reads any more while its client still sends it: read on and dropped, within
//! bounds, so that the answer given early arrives. Over HTTP/2 and 3 a stream that is let go of
//! tells the client to stop (RST_STREAM with NO_ERROR, STOP_SENDING) in the same packet as the
//! answer, and many clients then throw the answer away; over HTTP/1.1 `guard` does the same with
//! the connection. `intake` and `service` hand it over.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::Instant;

use super::body::Body;
use super::life::{LINGER, LINGER_QUIET};

/// What is read and dropped of one request.
#[derive(Clone, Copy)]
struct Bounds {
    bytes: u64,
    time: Duration,
    /// Without a byte.
    quiet: Duration,
}

const BOUNDS: Bounds = Bounds {
    bytes: 256 << 20,
    time: LINGER,
    quiet: LINGER_QUIET,
};

/// Reads `body` to its end, in a task of its own, or to its bounds: 256 MiB, [`LINGER`],
/// [`LINGER_QUIET`] without a byte. Then the stream is let go of. Holds one piece at a time.
pub(super) fn drain(body: Body) {
    // Outside a runtime there is no connection either.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(within(body, BOUNDS)));
    }
}

async fn within(mut body: Body, bounds: Bounds) {
    let end = Instant::now() + bounds.time;
    let mut seen = 0_u64;
    while seen < bounds.bytes {
        let next = end.min(Instant::now() + bounds.quiet);
        let Ok(Some(Ok(frame))) = tokio::time::timeout_at(next, body.frame()).await else {
            return;
        };
        seen = seen.saturating_add(frame.data_ref().map_or(1, |data| data.len().max(1) as u64));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;

    use super::super::body::BodyError;
    use super::*;

    /// Content in pieces of 1 KiB without end, one each `pause`.
    fn endless(pause: Duration) -> Body {
        let stream = futures_util::stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            let piece = Bytes::from_static(&[0; 1 << 10]);
            Some((Ok::<_, BodyError>(Frame::data(piece)), ()))
        });
        Body::boxed(http_body_util::StreamBody::new(Box::pin(stream)))
    }

    /// A client that never stops sending, or stops without an end, must not keep the task.
    #[tokio::test]
    async fn ends() {
        let millis = Duration::from_millis;
        let bounds = |bytes, time, quiet| Bounds {
            bytes,
            time: millis(time),
            quiet: millis(quiet),
        };
        for (pause, bounds, least) in [
            (1, bounds(20 << 10, 60_000, 60_000), 20),
            (1, bounds(u64::MAX, 100, 60_000), 100),
            (60_000, bounds(u64::MAX, 60_000, 100), 100),
        ] {
            let start = Instant::now();
            let ended = tokio::time::timeout(millis(10_000), within(endless(millis(pause)), bounds)).await;
            assert!(
                ended.is_ok() && start.elapsed() >= millis(least),
                "{:?}",
                start.elapsed()
            );
        }
        within(Body::from("short"), BOUNDS).await;
    }
}
