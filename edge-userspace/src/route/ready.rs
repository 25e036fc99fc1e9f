//! Zones that are out of service: what their configuration names could not be used when the node
//! started, or when they were added. Requests for them are refused before any of their handlers
//! sees one, also those that workers make of them.

use std::sync::Arc;

use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::Request;

/// Refuses requests for zones that are out of service, and hands on all others.
pub struct Ready {
    next: Arc<dyn Handler>,
}

impl Ready {
    /// In front of `next`.
    pub fn new(next: Arc<dyn Handler>) -> Self {
        Self { next }
    }
}

impl Handler for Ready {
    fn handle(&self, request: Request) -> Answer<'_> {
        if !request.exchange.zone.out {
            return self.next.handle(request);
        }
        let detail = format!(
            "zone \"{}\" could not be prepared; see `edge status`",
            request.exchange.zone.name
        );
        Box::pin(async move { Err(Failure::new(Reason::ZoneOut, detail)) })
    }
}
