//! What goes between those who send a request and the room `cache`, among the request's extensions:
//! what zone rules say of storing its response, whose it is, and what came of that. No other room
//! looks at it, and a client's request brings none.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::cache::CacheRule;

/// What the zone's rules say.
#[derive(Clone, Debug)]
pub struct ByRule(pub Arc<CacheRule>);

/// The version of a worker that makes the response: what another one has made does not answer for
/// it. Only on requests to workers, in zones that store what those make.
#[derive(Clone, Debug)]
pub struct Made(pub Arc<str>);

/// What became of the response to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It is stored now.
    Stored,
    /// It was stored already, and answered.
    Known,
    /// It is not stored; why, in words for an operator.
    Not(&'static str),
}

/// Tells who sent the request. Whoever waits hears nothing more when all copies are gone.
#[derive(Clone, Debug)]
pub struct Witness(watch::Sender<Option<Became>>);

impl Witness {
    /// One, and where it is heard.
    pub fn new() -> (Self, watch::Receiver<Option<Became>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// Says it. The first word counts: what comes later is of another attempt for the same answer.
    pub fn tell(&self, became: Became) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(became);
            }
            first
        });
    }
}
