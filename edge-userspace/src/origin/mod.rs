//! Room 10: origins. Takes requests from the rooms to its left and answers them from the zone's
//! servers or its directory: `exchange` leads one request through `balance`, `pool`, `connect`,
//! `forward` and back; `files` serves directories.
//!
//! Each worker has an [`Origin`] of its own, with its own connections; all share one [`Fleet`],
//! which knows the servers' health and load.

mod attempt;
mod balance;
mod budget;
mod conditions;
mod connect;
mod connection;
mod driver;
mod early;
mod error;
mod exchange;
mod files;
pub mod fleet;
mod forward;
pub mod grpc_health;
mod grpc_web;
mod health;
mod lease;
mod maglev;
mod media;
mod metrics;
mod names;
mod pace;
mod pool;
mod proxy_header;
mod public;
mod reply;
mod resolver;
mod sticky;
mod stream;
mod timer;
mod tunnel;
mod upgrade;
mod upload;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use fleet::{Fleet, Order, Plan, ServerStatus, ZoneStatus};
pub use health::Trouble;
pub use metrics::Metrics;

use crate::config::{self, Upstream};
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Request, Response};
use crate::zones::Zone;
use exchange::Local;
use fleet::Snapshot;

/// The room's handler, of one worker. Must be used on that worker's runtime: the connections live
/// there.
pub struct Origin {
    fleet: Arc<Fleet>,
    known: Mutex<Known>,
    /// Where this worker's turns begin.
    worker: usize,
}

/// The zones that this worker has served, by the address of their configuration, which is held so
/// that it stays theirs.
struct Known {
    snapshot: Arc<Snapshot>,
    locals: HashMap<usize, (Arc<Upstream>, Arc<Local>)>,
}

impl Origin {
    /// A handler for one worker.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        static WORKERS: AtomicUsize = AtomicUsize::new(0);
        let snapshot = arc_swap::Guard::into_inner(fleet.snapshot());
        Self {
            fleet,
            known: Mutex::new(Known {
                snapshot,
                locals: HashMap::new(),
            }),
            worker: WORKERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// This worker's view of a zone's servers. After a reload those in force no more are dropped,
    /// with their connections.
    fn local(&self, zone: &Zone, upstream: &Arc<Upstream>) -> Result<Arc<Local>, Failure> {
        let key = Arc::as_ptr(upstream).addr();
        let mut dropped = Vec::new();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.fleet.snapshot();
        if !Arc::ptr_eq(&known.snapshot, &current) {
            known.snapshot = arc_swap::Guard::into_inner(current);
            let (kept, gone) = known
                .locals
                .drain()
                .partition::<HashMap<_, _>, _>(|(_, (_, local))| self.fleet.snapshot().has(&local.group));
            known.locals = kept;
            dropped.push(gone);
        }
        if let Some((_, local)) = known.locals.get(&key) {
            return Ok(local.clone());
        }
        let group = self
            .fleet
            .find(zone, upstream)
            .ok_or_else(|| Failure::new(Reason::OriginUnreachable, "the zone's servers are configured no more"))?;
        let same = known
            .locals
            .values()
            .find(|(_, local)| Arc::ptr_eq(&local.group, &group));
        let local = match same {
            Some((_, local)) => local.clone(),
            None => Arc::new(Local::new(group, self.worker)),
        };
        known.locals.insert(key, (upstream.clone(), local.clone()));
        drop(known);
        Ok(local)
    }

    async fn answer(&self, mut request: Request) -> Result<Response, Failure> {
        let zone = request.exchange.zone.clone();
        match &zone.origin {
            config::Origin::None => Err(Failure::new(Reason::NotFound, "the zone has no origin")),
            config::Origin::Directory(directory) => files::serve(directory, &zone.files, &request.head).await,
            config::Origin::Servers(upstream) => {
                let local = self.local(&zone, upstream)?;
                let web = match upstream.grpc_web {
                    true => grpc_web::Call::take(&mut request),
                    false => None,
                };
                let outcome = exchange::run(&local, request).await;
                let outcome = outcome.map(|mut response| {
                    if let Some(web) = web {
                        response.body = web.answer(&mut response.head, std::mem::take(&mut response.body));
                    }
                    response
                });
                match &outcome {
                    Ok(response) => local.group.counts.answered(response.head.status),
                    Err(failure) => local.group.counts.failed(failure.reason),
                }
                outcome
            }
        }
    }
}

impl Handler for Origin {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(self.answer(request))
    }
}
