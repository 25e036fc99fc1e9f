//! Connection ids of an endpoint, of which the next one can be said beforehand: `prepare` signs a
//! ClientHello's answer for an id, and quinn must then give the connection that very id.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// Connection ids of an endpoint and of the shadows of its attempts: the next one can be said
/// beforehand.
#[derive(Clone)]
pub(super) struct Ids(Arc<Mutex<Line>>);

struct Line {
    next: Option<ConnectionId>,
    generator: Box<dyn ConnectionIdGenerator>,
}

impl Ids {
    /// Those of `generator`.
    pub(super) fn new(generator: Box<dyn ConnectionIdGenerator>) -> Self {
        Self(Arc::new(Mutex::new(Line { next: None, generator })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `accept`, the connection of which gets `id`. Nothing else may ask for ids meanwhile:
    /// they are of one thread.
    pub(super) fn with<R>(&self, id: Option<ConnectionId>, accept: impl FnOnce() -> R) -> R {
        self.lock().next = id;
        let result = accept();
        self.lock().next = None;
        result
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut line = self.lock();
        line.next.take().unwrap_or_else(|| line.generator.generate_cid())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        self.lock().generator.validate(id)
    }

    fn cid_len(&self) -> usize {
        self.lock().generator.cid_len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        self.lock().generator.cid_lifetime()
    }
}
