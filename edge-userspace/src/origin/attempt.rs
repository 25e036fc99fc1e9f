//! One try at one server: sends the head, waits for the answer's, and says of a failure what it
//! means.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, StatusCode, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connection::Sent;
use super::error::ConnectError;
use super::forward::via;
use super::lease::Lease;
use super::pool::CheckoutError;
use super::upload::{Progress, Upload};
use crate::http::handler::{Failure, Reason};
use crate::http::interim::Interims;

/// How long content is held back for the origin's 100 (Continue) (RFC 9110 section 10.1.1 forbids
/// to wait for ever).
const CONTINUE: Duration = Duration::from_secs(1);

/// A failed try.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// The server is to blame.
    pub(super) servers_fault: bool,
    pub(super) again: Again,
    /// The request's head, when none of it was sent.
    pub(super) back: Option<request::Parts>,
    /// The connection had served before.
    pub(super) reused: bool,
}

/// Whether another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It would end alike, or the client would have to wait too long.
    No,
    /// The server has not seen the request.
    Unseen,
    /// The server says that it has not looked at the request (RFC 9113 section 8.7).
    Unprocessed,
    /// The server wants to be asked over HTTP/1.1 (RFC 9113 section 7).
    Older,
    /// The connection failed; the server may have seen the request.
    Perhaps,
}

impl Failed {
    fn new(reason: Reason, detail: impl Into<String>, servers_fault: bool, again: Again) -> Self {
        Self {
            failure: Failure::new(reason, detail),
            servers_fault,
            again,
            back: None,
            reused: false,
        }
    }

    /// An answer that cannot be forwarded.
    pub(super) fn malformed(failure: Failure) -> Self {
        Self {
            failure,
            servers_fault: true,
            again: Again::No,
            back: None,
            reused: false,
        }
    }

    /// No connection.
    pub(super) fn checkout(error: &CheckoutError) -> Self {
        match error {
            CheckoutError::Busy => Self::new(Reason::Overload, error.to_string(), false, Again::Unseen),
            CheckoutError::Connect(ConnectError::Timeout) => {
                Self::new(Reason::OriginTimeout, error.to_string(), true, Again::Unseen)
            }
            CheckoutError::Connect(_) => Self::new(Reason::OriginUnreachable, error.to_string(), true, Again::Unseen),
        }
    }

    fn hyper(error: &hyper::Error, unseen: bool, progress: Option<&Progress>) -> Self {
        if let Some(reason) = progress.and_then(Progress::failure) {
            return Self::new(reason, "the request's content broke off", false, Again::No);
        }
        if unseen {
            return Self::new(
                Reason::OriginUnreachable,
                "the connection was closed",
                false,
                Again::Unseen,
            );
        }
        if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
            return Self::new(
                Reason::OriginMalformed,
                format!("response head: {error}"),
                true,
                Again::No,
            );
        }
        let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        if let Some(h2) = h2 {
            let reason = h2.reason();
            let why = reason.as_ref().map_or("connection lost", h2::Reason::description);
            // A refused stream was not processed, nor one beyond the last that GOAWAY names: the h2
            // crate ends only those by its error, and lets the others go on (RFC 9113 sections 6.8
            // and 8.7).
            let refused = h2.is_remote() && (h2.reason() == Some(h2::Reason::REFUSED_STREAM) || h2.is_go_away());
            let again = if refused {
                Again::Unprocessed
            } else if h2.is_remote() && h2.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED) {
                Again::Older
            } else if h2.is_io() {
                Again::Perhaps
            } else {
                Again::No
            };
            // The rest is ours: a head that cannot be said on HTTP/2.
            let blame = !refused && (h2.is_remote() || h2.is_io() || h2.is_library());
            return Self::new(Reason::OriginMalformed, format!("HTTP/2: {why}"), blame, again);
        }
        Self::new(
            Reason::OriginMalformed,
            "the connection ended before the response head",
            true,
            Again::Perhaps,
        )
    }
}

/// Who hears of what an origin says before its response.
#[derive(Clone, Copy)]
pub(super) struct Heard<'a> {
    /// The content, which may wait for 100 (Continue).
    pub(super) progress: Option<&'a Arc<Progress>>,
    /// The client.
    pub(super) interims: Option<&'a Interims>,
}

/// Has the origin's interim responses open the `gate` of the content (100), and reach the client
/// (the others).
fn hear(request: &mut Request<Upload>, gate: Option<Arc<Progress>>, interims: Option<Interims>) {
    hyper::ext::on_informational(request, move |interim| {
        if let Some(gate) = gate.as_ref().filter(|_| interim.status() == StatusCode::CONTINUE) {
            gate.open();
        } else if let Some(interims) = &interims {
            interims.put(interim.status(), interim.headers(), via(interim.version()));
        }
    });
}

/// Sends `head`, and the content of `progress`, on `lease`, and gives the response once its head is
/// there.
///
/// # Errors
/// [`Failed`], with the head when none of the request was sent.
pub(super) async fn send(
    lease: &mut Lease,
    head: request::Parts,
    Heard { progress, interims }: Heard<'_>,
    timeout: Duration,
) -> Result<http::Response<Incoming>, Failed> {
    let waits = head.headers.contains_key(http::header::EXPECT);
    let mut request = Request::from_parts(head, Upload::new(progress));
    match progress {
        // Passed through, so that the origin may refuse before the client sends: hyper's server
        // side says 100 to the client when its content is first asked for, and that waits for the
        // origin's 100.
        Some(progress) if waits && !lease.is_h2() => {
            progress.gate();
            hear(&mut request, Some(progress.clone()), interims.cloned());
        }
        _ => {
            if waits {
                request.headers_mut().remove(http::header::EXPECT);
            }
            if let Some(interims) = interims {
                hear(&mut request, None, Some(interims.clone()));
            }
        }
    }
    let mut timer = lease.take_timer();
    let mut answer = pin!(lease.send(request));
    let mut since = Instant::now();
    let mut frames = progress.map_or(0, |progress| progress.frames());
    let outcome: Option<Sent> = std::future::poll_fn(|cx| {
        if let Poll::Ready(sent) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(sent));
        }
        loop {
            let gated = progress.filter(|progress| progress.gated());
            let limit = if gated.is_some() {
                CONTINUE.min(timeout)
            } else {
                timeout
            };
            if timer.poll_passed(cx, since + limit).is_pending() {
                return Poll::Pending;
            }
            match (gated, progress) {
                (Some(gate), _) => gate.open(),
                // The origin has all the time that the upload takes.
                (None, Some(progress)) if progress.frames() != frames => frames = progress.frames(),
                _ => return Poll::Ready(None),
            }
            since = Instant::now();
        }
    })
    .await;
    lease.keep_timer(timer);
    match outcome {
        Some(Ok(response)) => {
            // An answer in place of the 100: a good one wants the content all the same (an echo, a
            // stream); any other has been given without it, and the content stays with the client.
            if let Some(progress) = progress
                && response.status().is_success()
            {
                progress.open();
            }
            Ok(response)
        }
        Some(Err(mut error)) => {
            let back = error.take_message();
            let progress = progress.map(|progress| &**progress);
            let mut failed = Failed::hyper(error.error(), back.is_some(), progress);
            failed.back = back.map(|request| request.into_parts().0);
            Err(failed)
        }
        None => {
            if let Some(progress) = progress {
                progress.stop();
            }
            Err(Failed::new(
                Reason::OriginTimeout,
                "no response head in time",
                true,
                Again::No,
            ))
        }
    }
}
