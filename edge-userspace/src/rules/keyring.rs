//! Keys that tokens are checked with, of servers (`keys_from`): asked for when the first token
//! comes, again when they are old or a token names another one, and seldom enough that no flood of
//! tokens becomes one of requests. What was good last stays until something good comes. `handler`
//! asks; the worker that asks first does so for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{ACCEPT, HeaderValue};
use tokio::sync::watch;

use crate::base::id::RequestId;
use crate::base::peer::Peer;
use crate::config::rule::jwt::{DOCUMENT, Key, KeyServer, Material, keys};
use crate::config::{Origin, Upstream};
use crate::http::body::{Body, BodyError};
use crate::http::door::Head;
use crate::http::handler::{Failure, Handler, Reason};
use crate::http::message::{Exchange, Request};
use crate::zones::Zone;

/// The least time between two requests for one document.
const APART: Duration = Duration::from_secs(10);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Documents that are held: 1 MiB each at most. More are there only after many reloads.
const RINGS: usize = 1_024;

/// The documents of the node, by pool and target.
#[derive(Default)]
pub(super) struct Keyrings(Mutex<HashMap<KeyServer, Document>>);

/// The servers that a document is from, and its keys.
type Document = (Arc<Upstream>, Arc<Ring>);

/// The keys of one document.
#[derive(Default)]
struct Ring(Mutex<State>);

#[derive(Default)]
struct State {
    keys: Option<Arc<Vec<Key>>>,
    /// When they came.
    came: Option<Instant>,
    /// When they were last asked for.
    tried: Option<Instant>,
    /// Ends when the request that is under way does.
    under_way: Option<watch::Receiver<()>>,
}

/// What is held of a document at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// The keys; `None`: none have come yet.
    pub(super) keys: Option<Arc<Vec<Key>>>,
    /// They may be asked for now, or are.
    pub(super) due: bool,
}

impl State {
    fn due(&self, now: Instant) -> bool {
        let long = |tried| now.saturating_duration_since(tried) >= APART;
        self.tried.is_none_or(long)
    }

    fn old(&self, now: Instant, refresh: Duration) -> bool {
        self.came
            .is_none_or(|came| now.saturating_duration_since(came) >= refresh)
    }
}

impl Ring {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keyrings {
    /// What is held of `server`'s document, as requests of `zone` see it.
    pub(super) fn held(&self, zone: &Zone, server: &KeyServer, now: Instant) -> Held {
        let Some(ring) = self.ring(zone, server) else {
            return Held::default();
        };
        let state = ring.state();
        Held {
            keys: state.keys.clone(),
            due: state.due(now) || state.under_way.is_some(),
        }
    }

    /// The ring of `server`. A pool with other servers has other keys, whatever it is called.
    fn ring(&self, zone: &Zone, server: &KeyServer) -> Option<Arc<Ring>> {
        let Origin::Servers(upstream) = &zone.asked(&server.from)?.origin else {
            return None;
        };
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, ring)) = rings.get(server)
            && (Arc::ptr_eq(known, upstream) || **known == **upstream)
        {
            return Some(ring.clone());
        }
        if rings.len() >= RINGS {
            rings.clear();
        }
        let ring = Arc::new(Ring::default());
        rings.insert(server.clone(), (upstream.clone(), ring.clone()));
        Some(ring)
    }

    /// Asks for `server`'s document, through `next`, if that may be done now, and waits until the
    /// answer is there, whoever asked.
    ///
    /// # Errors
    /// [`Reason::AccessUnknown`]: there are no keys, old or new.
    pub(super) async fn fetch(
        &self,
        server: &KeyServer,
        (head, exchange): (&Head, &Exchange),
        next: &Arc<dyn Handler>,
    ) -> Result<(), Failure> {
        let unknown = || {
            let detail = format!("there are no keys of \"{}\" to check tokens with", server.from);
            Failure::new(Reason::AccessUnknown, detail)
        };
        let ring = self.ring(&exchange.zone, server).ok_or_else(unknown)?;
        if let Some(mut under_way) = begin(&ring, server, (head, exchange), next) {
            // Nothing is ever sent: its end is the end.
            let _ = under_way.changed().await;
        }
        let known = ring.state().keys.is_some();
        known.then_some(()).ok_or_else(unknown)
    }

    /// Asks for `server`'s document beside the request, if what there is of it is old.
    pub(super) fn refresh(&self, server: &KeyServer, (head, exchange): (&Head, &Exchange), next: &Arc<dyn Handler>) {
        let Some(ring) = self.ring(&exchange.zone, server) else {
            return;
        };
        let old = ring.state().old(Instant::now(), server.refresh);
        if old {
            let _ = begin(&ring, server, (head, exchange), next);
        }
    }
}

/// The end of the request that is under way: a new one, if that may be made now. It goes on when
/// the client goes whose token was the first.
fn begin(
    ring: &Arc<Ring>,
    server: &KeyServer,
    (head, exchange): (&Head, &Exchange),
    next: &Arc<dyn Handler>,
) -> Option<watch::Receiver<()>> {
    let mut state = ring.state();
    if let Some(under_way) = &state.under_way {
        return Some(under_way.clone());
    }
    let now = Instant::now();
    if !state.due(now) {
        return None;
    }
    let asking = asking(server, head, exchange)?;
    let (end, under_way) = watch::channel(());
    state.tried = Some(now);
    state.under_way = Some(under_way.clone());
    drop(state);
    let ends = Ends(ring.clone(), end);
    let (next, from) = (next.clone(), server.from.clone());
    tokio::spawn(async move {
        let found = tokio::time::timeout(PATIENCE, document(asking, &next)).await;
        let found = found.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let mut state = ends.0.state();
        match found {
            Ok(keys) => {
                state.keys = Some(Arc::new(keys));
                state.came = Some(Instant::now());
            }
            Err(why) => {
                let kept = state.keys.is_some();
                tracing::warn!(pool = %from, why, kept, "the keys that tokens are checked with did not come");
            }
        }
        drop(state);
        drop(ends);
    });
    Some(under_way)
}

/// A request that is under way, however it ends.
struct Ends(
    Arc<Ring>,
    #[expect(dead_code, reason = "nothing is sent: its end is what the others wait for")] watch::Sender<()>,
);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state().under_way = None;
    }
}

/// The request for a document: the edge's own, which says nothing of the client.
fn asking(server: &KeyServer, head: &Head, exchange: &Exchange) -> Option<Request> {
    let mut exchange = exchange.clone();
    exchange.zone = exchange.zone.asked(&server.from)?.clone();
    exchange.id = RequestId::next();
    // The server's own name.
    exchange.host = "".into();
    exchange.started = Instant::now();
    exchange.peer = Arc::new(Peer {
        client: exchange.peer.local,
        local: exchange.peer.local,
        accepted: exchange.started,
        handshake: None,
        early: None,
        via: None,
    });
    let mut head = head.beside(server.target.clone(), |_| false);
    head.headers
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    Some(Request {
        head,
        body: Body::Empty,
        exchange,
    })
}

/// The keys of a document. Secrets are none: whoever can read it has them.
async fn document(asking: Request, next: &Arc<dyn Handler>) -> Result<Vec<Key>, String> {
    let response = next.handle(asking).await.map_err(|failure| failure.to_string())?;
    if response.head.status != StatusCode::OK {
        return Err(format!("status {}", response.head.status.as_u16()));
    }
    let content = response.body.gathered(DOCUMENT).await.map_err(|error| match error {
        BodyError::TooLarge => "a document of more than 1 MiB".to_owned(),
        error => error.to_string(),
    })?;
    let mut keys = keys(&content)?;
    keys.retain(|key| !matches!(key.material, Material::Secret(_)));
    match keys.is_empty() {
        true => Err("no public key among them".to_owned()),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of tokens with made-up keys would become one of requests to whoever has the keys.
    #[test]
    fn a_document_is_asked_for_seldom() {
        let now = Instant::now() + Duration::from_secs(100_000);
        let mut state = State::default();
        assert!(state.due(now) && state.old(now, APART));
        state.tried = Some(now);
        assert!(!state.due(now + APART - Duration::from_millis(1)));
        assert!(state.due(now + APART));
        state.came = Some(now);
        assert!(!state.old(now + Duration::from_secs(599), Duration::from_secs(600)));
        assert!(state.old(now + Duration::from_secs(600), Duration::from_secs(600)));
    }
}
