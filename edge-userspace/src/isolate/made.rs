//! Says which version of a zone's worker answers a request, for zones that store what workers make
//! (`after = "worker"` of `[zone.cache]`): the store in front of the room keeps apart what versions
//! make. So a deployment is in force at once, a trial's clients see the trial alone, and a preview
//! itself.

use std::sync::Arc;

use super::deployment::Meant;
use super::isolates::Isolates;
use crate::config::cache::After;
use crate::http::handler::{Answer, Handler};
use crate::http::message::{Exchange, Request};
use crate::http::stored::Made;

/// Characters of a version's digest that tell it from others with its number.
const DIGITS: usize = 16;

/// The room's handler in front of the store.
pub struct Named {
    isolates: Arc<Isolates>,
    next: Arc<dyn Handler>,
}

impl Named {
    /// `next` stores what workers of `isolates` make.
    pub fn new(isolates: Arc<Isolates>, next: Arc<dyn Handler>) -> Self {
        Self { isolates, next }
    }

    /// `None`: the zone stores nothing of its worker's, or nothing answers.
    fn version(&self, exchange: &Exchange) -> Option<Arc<str>> {
        let zone = &exchange.zone;
        zone.cache.as_ref().filter(|cache| cache.after == After::Worker)?;
        let deployment = self.isolates.deployment(&zone.name)?;
        let active = match deployment.meant(zone.worker.as_ref()?, &exchange.host) {
            Meant::Zone => deployment.would_answer(exchange.peer.client.ip())?,
            Meant::Preview(active) => active,
            Meant::Nothing => return None,
        };
        let digest = active.digest.get(..DIGITS).unwrap_or(&active.digest);
        Some(format!("{}-{digest}", active.version).into())
    }
}

impl Handler for Named {
    fn handle(&self, mut request: Request) -> Answer<'_> {
        if let Some(version) = self.version(&request.exchange) {
            request.head.extensions.insert(Made(version));
        }
        self.next.handle(request)
    }
}
