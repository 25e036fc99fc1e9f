//! Programs that are components: anything that exports `wasi:http/incoming-handler` 0.2. `deploy`
//! makes them, `handler` runs them; what they may ask of the node is in [`host`](super::host).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HOST, HeaderValue};
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

use super::budget::Start;
use super::engine::Engine;
use super::error::{Ended, Error};
use super::grant::Grant;
use super::host::{FromGuest, Host, ToGuest};
use super::kind::Kind;
use super::program::{Call, Leftover, Program, Responder, Run};
use super::ready::{self, Place, Ready};
use super::{store, wasi};
use crate::config::isolate::Worker;
use crate::http::body::Body;

/// A component, ready to be instantiated.
pub(super) struct Proxied {
    engine: Engine,
    pre: ProxyPre<Host>,
    ready: Ready<Live>,
}

/// An instance.
struct Live {
    store: Store<Host>,
    proxy: Proxy,
    served: u32,
}

/// A run's, at its end.
struct Finished {
    program: Arc<Proxied>,
    worker: Arc<Worker>,
    live: Live,
}

/// What components may import: WASI 0.2 without files, network and environment, and the interfaces
/// of [`wasi`].
pub(super) fn linker(engine: &Engine) -> Result<Linker<Host>, Error> {
    let mut linker = Linker::new(engine.wasm());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
        .and_then(|()| wasi::add_to_linker(&mut linker))
        .map_err(|e| Error::Engine(format!("{e:#}")))?;
    Ok(linker)
}

impl Proxied {
    /// Links `component`.
    ///
    /// # Errors
    /// It imports what there is not, or exports no handler: [`Error::Refused`].
    pub(super) fn new(engine: &Engine, linker: &Linker<Host>, component: &Component) -> Result<Self, Error> {
        let pre: InstancePre<Host> = linker.instantiate_pre(component).map_err(|e| refused(&e))?;
        let pre = ProxyPre::new(pre).map_err(|e| refused(&e))?;
        Ok(Self {
            engine: engine.clone(),
            pre,
            ready: Ready::default(),
        })
    }

    async fn instantiate(&self, grant: Arc<Grant>) -> wasmtime::Result<Live> {
        let mut store = store::open(&self.engine, Host::new(grant));
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Live {
            store,
            proxy,
            served: 0,
        })
    }

    async fn answer(self: Arc<Self>, call: Call, responder: Responder) -> wasmtime::Result<Box<dyn Leftover>> {
        let Call { head, body, grant, .. } = call;
        let (mut head, _) = Arc::unwrap_or_clone(head).into_parts();
        let worker = grant.exchange.zone.worker.clone().ok_or(Ended::Internal)?;
        let mut live = match self.ready.take(&worker, grant.exchange.started) {
            Some(mut live) => {
                let start = if live.served == 0 { Start::Ready } else { Start::Warm };
                live.store.data_mut().renew(grant.clone(), start);
                live.store.set_epoch_deadline(1);
                live
            }
            None => self.instantiate(grant.clone()).await?,
        };
        let store = &mut live.store;
        if let Ok(host) = HeaderValue::from_str(&grant.exchange.host) {
            head.headers.insert(HOST, host);
        }
        let scheme = match grant.exchange.peer.is_secure() {
            true => Scheme::Https,
            false => Scheme::Http,
        };
        drop(grant);
        let request = http::Request::from_parts(head, ToGuest(body));
        let request = store.data_mut().http().new_incoming_request(scheme, request)?;
        let out = store
            .data_mut()
            .http()
            .new_response_outparam_from_callback(move |response| {
                // An error in place of a response: the run's end says that there was none.
                if let Ok(response) = response {
                    let (head, body) = response.into_parts();
                    responder.send(head, Body::boxed(FromGuest(body)));
                }
            })?;
        live.proxy
            .wasi_http_incoming_handler()
            .call_handle(store, request, out)
            .await?;
        live.served = live.served.saturating_add(1);
        if live.served >= worker.limits.reuse {
            // Bodies that the guest left open end now, not when the instance goes.
            live.store.data_mut().close_all();
        }
        Ok(Box::new(Finished {
            program: self,
            worker,
            live,
        }))
    }
}

impl Leftover for Finished {
    fn settle(self: Box<Self>, place: Place) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Self { program, worker, live } = *self;
            if live.served < worker.limits.reuse {
                let until = Instant::now() + ready::USED_LIFE;
                program.ready.put(live, worker, until, place);
                return;
            }
            let grant = live.store.data().grant().clone();
            drop(live);
            if program.ready.wants_new()
                // One that cannot be made is the next request's failure, if there is one.
                && let Ok(live) = program.instantiate(grant).await
            {
                let until = Instant::now() + ready::NEW_LIFE;
                program.ready.put(live, worker, until, place);
            }
        })
    }
}

fn refused(error: &wasmtime::Error) -> Error {
    Error::Refused(format!("{error:#}"))
}

impl Program for Proxied {
    fn run(self: Arc<Self>, call: Call, responder: Responder) -> Run {
        Box::pin(self.answer(call, responder))
    }

    fn kind(&self) -> Kind {
        Kind::Component
    }

    fn sweep(&self, now: Instant) {
        self.ready.sweep(now);
    }
}
