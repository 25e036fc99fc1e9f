//! Whether the key servers have the zones' keys: asked once after a start and after each reload, so
//! that the operator hears of a key that is nowhere before the first client does. Nothing depends
//! on the answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Route;
use super::server::Server;
use crate::keyserver::wire::{Answer, KeyId, Request};

/// For one server; an edge starts before its key servers often enough.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many pages are read at most: about as many keys as one key server should hold.
const PAGES: usize = 2_000;

/// Asks every server of these routes for its keys, and warns of zones whose key is nowhere.
pub async fn survey(routes: Vec<Arc<Route>>) {
    let mut known: HashMap<String, Option<BTreeSet<KeyId>>> = HashMap::new();
    let mut told = BTreeSet::new();
    for route in routes {
        let mut silent = false;
        let mut found = false;
        for leg in &route.legs {
            let name = leg.server.target().name.clone();
            if !known.contains_key(&name) {
                let keys = tokio::time::timeout(PATIENCE, keys(&leg.server)).await;
                known.insert(name.clone(), keys.ok().flatten());
            }
            match known.get(&name) {
                Some(Some(keys)) => found |= keys.contains(&route.key.id),
                _ => silent = true,
            }
        }
        if found || !told.insert(route.zone.clone()) {
            continue;
        }
        if silent {
            tracing::warn!(
                zone = %route.zone,
                key = %route.key.id,
                "no key server that can be reached has the zone's key; new handshakes wait for one, then fail"
            );
        } else {
            tracing::warn!(
                zone = %route.zone,
                key = %route.key.id,
                "no key server of the zone has its certificate's key, or grants it to this node; its handshakes fail"
            );
        }
    }
}

/// All keys of a server that this node may use; `None` when it cannot be asked.
async fn keys(server: &Server) -> Option<BTreeSet<KeyId>> {
    let mut all = BTreeSet::new();
    let mut cursor = KeyId::NONE;
    for _ in 0..PAGES {
        let pending = loop {
            match server.link().send(cursor, Request::List) {
                Ok(pending) => break pending,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        match pending.answer().await {
            Ok(Answer::Keys { more, keys }) => {
                all.extend(keys.iter().map(|key| key.id()));
                match keys.last() {
                    Some(last) if more => cursor = last.id(),
                    _ => return Some(all),
                }
            }
            // The connection broke, or is not made yet.
            Err(super::Refusal::Unreachable) => tokio::time::sleep(Duration::from_millis(100)).await,
            _ => return None,
        }
    }
    Some(all)
}
