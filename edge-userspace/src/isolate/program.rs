//! What a worker is to the rest of the room, whatever its language: something that answers a
//! request. Programs are made by `load`, run by `handler`, which keeps all limits, accounts and
//! logs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::response;
use tokio::sync::oneshot;
use url::Url;

use super::error::Ended;
use super::grant::Grant;
use super::kind::Kind;
use super::ready::Place;
use crate::http::body::Body;
use crate::http::door::Head;

/// A guest's whole run, also behind its response.
pub type Run = Pin<Box<dyn Future<Output = wasmtime::Result<Box<dyn Leftover>>> + Send>>;

/// What is left of a run that ended well: an instance, and what can be done ahead for the next
/// request.
pub trait Leftover: Send {
    /// Does it, where no client waits for it: lets the instance go or keeps it, and may make
    /// another. Polled as the run was, under its meter and deadline; it may use the pool for one
    /// instance, as long as it holds `place`.
    fn settle(self: Box<Self>, place: Place) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A loaded worker. Cheap to share; swapped whole when a version is activated.
pub trait Program: Send + Sync + 'static {
    /// Runs the guest for one request. The response goes through `responder`, as soon as its head
    /// is known; its body may go on streaming from the run, and the run may go on behind it.
    /// Dropping the run aborts the guest. The run is polled within the request's meter and under
    /// its deadline; an error ends the request by `Ended::of` it.
    fn run(self: Arc<Self>, call: Call, responder: Responder) -> Run;

    /// What it is, for lists.
    fn kind(&self) -> Kind;

    /// Called about once a second: what has waited for long is let go.
    fn sweep(&self, now: Instant) {
        let _ = now;
    }
}

/// One request to a guest.
pub struct Call {
    /// As it passed the door; the target is in origin form, and that of `url`. Shared with
    /// `handler`, which may have to give the request to the origin after all.
    pub head: Arc<Head>,
    /// The request's URL, in the form that the URL standard writes it: whatever a guest compares is
    /// what its own URL parser, its sub-requests and the origin see.
    pub url: Url,
    /// The content, streamed: it is read from the client as the guest reads it.
    pub body: Body,
    /// What the guest may use and ask.
    pub grant: Arc<Grant>,
    /// What of the zone's schedule it is, in place of a request.
    pub due: Option<Due>,
}

/// A run by a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The schedule, as it was written.
    pub cron: String,
    /// The minute that it is for, milliseconds since 1970.
    pub at: u64,
}

/// Where a guest's response goes.
#[derive(Debug)]
pub struct Responder(pub(super) oneshot::Sender<Result<(response::Parts, Body), Ended>>);

impl Responder {
    /// Hands the response over. `body` is read as the client takes it. An error of the body breaks
    /// the response off. If the client has gone meanwhile, the run ends at its next wait, unless it
    /// keeps itself ([`super::tie::Tie`]).
    pub fn send(self, head: response::Parts, body: Body) {
        // Nobody waits any more: the client has gone.
        let _ = self.0.send(Ok((head, body)));
    }

    /// There will be no response, while the run may go on.
    pub fn fail(self, ended: Ended) {
        let _ = self.0.send(Err(ended));
    }
}
