//! A worker in JavaScript: an image of its heap, and how a request runs on it.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{Module, Store};

use super::engine::{self, Shared};
use super::fields;
use super::guest::{self, Guest, Live, Work};
use super::maps::Map;
use super::outside::Outside;
use super::snapshot;
use super::traffic::Traffic;
use crate::config::isolate::Limits;
use crate::http::body::Body;
use crate::isolate::budget::Meter;
use crate::isolate::engine::Engine;
use crate::isolate::error::{Ended, Error};
use crate::isolate::program::Responder;
use crate::isolate::store::{self, Base};

/// A script, ready for requests.
pub(in crate::isolate) struct Script {
    engine: Engine,
    shared: Arc<Shared>,
    image: Module,
    /// Where its lines were before it was bundled.
    map: Option<Arc<Map>>,
}

/// One request, apart from whom it comes from.
pub(super) struct Asked<'a> {
    pub(super) method: &'a http::Method,
    /// Absolute.
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
        })
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        mut asked: Asked<'_>,
        outside: Arc<dyn Outside>,
        meter: Arc<Meter>,
        limits: &Limits,
        responder: Responder,
    ) -> wasmtime::Result<()> {
        let mut traffic = Traffic::new(limits.memory);
        let (whole, stream) = match guest::at_hand(std::mem::take(&mut asked.body)) {
            (bytes, None) => (bytes, -1),
            (_, Some(body)) => (None, traffic.open(body).map_err(|_| Ended::Internal)?),
        };
        let head = head(&asked, &outside.environment().json(), whole.as_ref(), stream);
        let length = u32::try_from(head.len()).map_err(|_| Ended::Memory)?;
        let live = Live {
            outside,
            traffic,
            head,
            responder: Some(responder),
            threw: false,
            map: self.map.clone(),
        };
        let guest = Guest {
            base: Base::new(meter, limits),
            memory: None,
            work: Work::Request(Box::new(live)),
            takes: Default::default(),
        };
        let mut store = store::open(&self.engine, guest);
        let code = self.run(&mut store, length).await?;
        let live = store.data_mut().live()?;
        match code {
            0 if live.threw => Err(Ended::Exception.into()),
            0 => Ok(()),
            // The response is out, and what it streams was broken off with the run.
            1 => Err(Ended::Exception.into()),
            2 if live.responder.is_none() => Ok(()),
            2 => Err(Ended::NoResponse.into()),
            3 => Err(Ended::Memory.into()),
            _ => Err(Ended::Internal.into()),
        }
    }

    async fn run(&self, store: &mut Store<Guest>, length: u32) -> wasmtime::Result<i32> {
        let instance = self.shared.start(store, &self.image).await?;
        let handle = engine::door(store, &instance, "handle")?.typed::<u32, i32>(&mut *store)?;
        handle.call_async(&mut *store, length).await
    }
}

/// The request as `glue.c` reads it: lengths of method, URL, fields, environment and content, the number of the content's stream,
/// whether the content is here and whole; then the texts, a zero, and the content.
fn head(asked: &Asked<'_>, environment: &[u8], whole: Option<&Bytes>, stream: i32) -> Vec<u8> {
    let fields = fields::lines(asked.fields);
    let method = asked.method.as_str().as_bytes();
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
