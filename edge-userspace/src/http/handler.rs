//! The one interface of rooms 6 to 10: a request in, a response or a failure out. `node` nests the
//! rooms by it.

use std::future::Future;
use std::pin::Pin;

use super::message::{Request, Response, Unjudged};

pub use super::failure::{Failure, Fault, Reason};

/// What a handler gives back: a future borrowed from the handler.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send + 'a>>;

/// A room that answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`. Dropping the future cancels the request; its effects at the origin may
    /// stand.
    fn handle(&self, request: Request) -> Answer<'_>;
}

/// What answers clients' requests as they come through the door: a gate in front of a [`Handler`],
/// or what serves nobody's content.
pub trait Front: Send + Sync + 'static {
    /// Answers `request`, as [`Handler::handle`] does.
    fn answer(&self, request: Unjudged) -> Answer<'_>;
}
