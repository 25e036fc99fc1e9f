//! A worker in JavaScript: an image of its heap, and how a request runs on it.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{Module, Store, TypedFunc};

use super::codecs::Codecs;
use super::engine::{self, Shared};
use super::fields;
use super::guest::{self, Guest, Live, Work};
use super::maps::Map;
use super::outside::Outside;
use super::snapshot;
use super::traffic::Traffic;
use crate::config::isolate::Limits;
use crate::http::body::Body;
use crate::isolate::budget::{Meter, Start};
use crate::isolate::engine::Engine;
use crate::isolate::error::{Ended, Error};
use crate::isolate::memory::Account;
use crate::isolate::program::Responder;
use crate::isolate::ready::Ready;
use crate::isolate::store::{self, Base};

/// A script, ready for requests.
pub(in crate::isolate) struct Script {
    engine: Engine,
    shared: Arc<Shared>,
    image: Module,
    /// Where its lines were before it was bundled.
    map: Option<Arc<Map>>,
    pub(super) ready: Ready<Fresh>,
}

/// An instance.
pub(super) struct Fresh {
    store: Store<Guest>,
    handle: TypedFunc<u32, i32>,
}

/// One request, apart from whom it comes from.
pub(super) struct Asked<'a> {
    /// Nothing: it is due by a schedule, and nobody asked.
    pub(super) method: &'a str,
    /// Absolute; of what is due, the time in milliseconds since 1970 and the schedule, each on a
    /// line.
    pub(super) url: String,
    pub(super) fields: &'a http::HeaderMap,
    pub(super) body: Body,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

impl Script {
    /// Of a compiled image.
    ///
    /// # Errors
    /// It is none.
    pub(in crate::isolate) fn new(engine: Engine, shared: Arc<Shared>, image: Module) -> Result<Self, Error> {
        if !snapshot::is_image(&image) {
            return Err(Error::Refused("not the image of a script".to_owned()));
        }
        Ok(Self {
            map: engine::map(&image).map(|place| Arc::new(Map::new(shared.maps.clone(), image.clone(), place))),
            engine,
            shared,
            image,
            ready: Ready::default(),
        })
    }

    /// An instance that has no request yet.
    pub(super) async fn instantiate(
        &self,
        meter: Arc<Meter>,
        limits: &Limits,
        account: Arc<Account>,
    ) -> wasmtime::Result<Fresh> {
        let guest = Guest {
            base: Base::new(meter, limits, account),
            memory: None,
            work: Work::Loading(String::new()),
            takes: Default::default(),
        };
        let mut store = store::open(&self.engine, guest);
        let instance = self.shared.start(&mut store, &self.image).await?;
        let handle = engine::door(&mut store, &instance, "handle")?.typed::<u32, i32>(&mut store)?;
        Ok(Fresh { store, handle })
    }

    /// An instance that waited takes its request.
    pub(super) fn renew(mut waited: Fresh, meter: Arc<Meter>) -> Fresh {
        waited.store.data_mut().base.renew(meter, Start::Ready);
        waited.store.set_epoch_deadline(1);
        waited
    }

    /// Answers one request, by `fresh`, an instance that has answered none. What is left of it is
    /// the caller's.
    pub(super) async fn answer(
        &self,
        mut fresh: Fresh,
        mut asked: Asked<'_>,
        outside: Arc<dyn Outside>,
        meter: Arc<Meter>,
        responder: Responder,
    ) -> wasmtime::Result<Fresh> {
        let account = fresh.store.data().base.account().clone();
        let mut traffic = Traffic::of(account.clone(), meter);
        let (whole, stream) = match guest::at_hand(std::mem::take(&mut asked.body)) {
            (bytes, None) => (bytes, -1),
            (_, Some(body)) => (None, traffic.open(body).map_err(|_| Ended::Internal)?),
        };
        let head = head(&asked, &outside.environment().json(), whole.as_ref(), stream);
        let held = account.hold(head.len())?;
        let length = u32::try_from(head.len()).map_err(|_| Ended::Memory)?;
        let live = Live {
            outside,
            traffic,
            head: Some((head, held)),
            responder: Some(responder),
            threw: false,
            pending: None,
            decoded: Vec::new(),
            codecs: Codecs::default(),
            map: self.map.clone(),
        };
        fresh.store.data_mut().work = Work::Request(Box::new(live));
        let code = fresh.handle.call_async(&mut fresh.store, length).await?;
        let live = fresh.store.data_mut().live()?;
        match code {
            0 if live.threw => return Err(Ended::Exception.into()),
            0 => {}
            // The response is out, and what it streams was broken off with the run.
            1 => return Err(Ended::Exception.into()),
            2 if live.responder.is_none() => {}
            2 => return Err(Ended::NoResponse.into()),
            3 => return Err(Ended::Memory.into()),
            _ => return Err(Ended::Internal.into()),
        }
        // Bodies that the script left open end now, not when the instance goes.
        fresh.store.data_mut().work = Work::Loading(String::new());
        Ok(fresh)
    }
}

/// The request as `glue.c` reads it: lengths of method, URL, fields, environment and content, the
/// number of the content's stream, whether the content is here and whole; then the texts, a zero,
/// and the content.
fn head(asked: &Asked<'_>, environment: &[u8], whole: Option<&Bytes>, stream: i32) -> Vec<u8> {
    let fields = fields::lines(asked.fields);
    let method = asked.method.as_bytes();
    let content = whole.map(Bytes::as_ref).unwrap_or_default();
    let parts = [method, asked.url.as_bytes(), &fields, environment];
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let mut head = Vec::with_capacity(all.saturating_add(content.len()).saturating_add(29));
    for part in parts {
        head.extend(length(part).to_le_bytes());
    }
    head.extend(length(content).to_le_bytes());
    head.extend(stream.to_le_bytes());
    head.extend(u32::from(whole.is_some()).to_le_bytes());
    for part in parts {
        head.extend(part);
    }
    head.push(0);
    head.extend(content);
    head
}
