//! Room 6: zone to handler. Takes sound requests from `http`, hands them to what the zone's origin is made of.

use std::sync::Arc;

use crate::config::Origin;
use crate::http::handler::{Answer, Handler};
use crate::http::message::Request;

/// Chooses by the zone's kind of origin.
pub struct Router {
    servers: Arc<dyn Handler>,
    files: Arc<dyn Handler>,
}

impl Router {
    /// `servers` answers zones whose origin is a list of servers, `files` those whose origin is a directory.
    pub fn new(servers: Arc<dyn Handler>, files: Arc<dyn Handler>) -> Self {
        Self { servers, files }
    }
}

impl Handler for Router {
    fn handle(&self, request: Request) -> Answer<'_> {
        match request.exchange.zone.origin {
            Origin::Servers(_) => self.servers.handle(request),
            Origin::Directory(_) => self.files.handle(request),
        }
    }
}
