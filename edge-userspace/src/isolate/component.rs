//! Programs that are components: anything that exports `wasi:http/incoming-handler` 0.2. `load`
//! makes them, `handler` runs them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::budget::Start;
use super::clocks::{Monotonic, Wall};
use super::engine::Engine;
use super::error::{Ended, Error};
use super::grant::{Grant, Refused};
use super::program::{Call, Kind, Leftover, Program, Responder, Run};
use super::ready::{self, Place, Ready};
use super::speech::Speech;
use super::store::{self, Base, HANDLES, Hosted};
use super::wasi;
use crate::config::isolate::Worker;
use crate::http::body::{Body, BodyError};

/// Bytes of the fields of one message that a guest makes, with what they cost in memory. A guest
/// has at most [`HANDLES`] of them: 8 MiB of the host's memory for a request, on its account.
const FIELDS: usize = 16 << 10;
/// Bytes that the host keeps for one handle, at most: [`FIELDS`], or half of a [`CHUNK`], for a
/// body with a chunk has two. All handles of a guest: 16 MiB.
const HANDLE: usize = 32 << 10;
/// Bytes of random data in one call.
const RANDOM: u64 = 64 << 10;
/// Bytes of one write to a body: as much of a response is held while the client takes none.
const CHUNK: usize = 64 << 10;

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

/// A guest's store.
pub(super) struct Host {
    base: Base,
    table: ResourceTable,
    /// Handles that are on the account.
    charged: usize,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    speech: Speech,
}

struct Hooks {
    grant: Arc<Grant>,
}

impl Host {
    fn new(grant: Arc<Grant>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let speech = Speech::new(grant.clone());
        let limits = grant.exchange.zone.worker.as_ref().map(|worker| &worker.limits);
        let base = match limits {
            Some(limits) => Base::new(grant.meter.clone(), limits, grant.tenant.account(limits)),
            None => Base::none(grant.meter.clone()),
        };
        let wasi = WasiCtx::builder()
            .stdout(speech.clone())
            .stderr(speech.clone())
            .max_random_size(RANDOM)
            .wall_clock(Wall)
            .monotonic_clock(Monotonic::new())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS);
        Self {
            base,
            table,
            charged: 0,
            wasi,
            http,
            speech,
            hooks: Hooks { grant },
        }
    }

    pub(super) fn grant(&self) -> &Arc<Grant> {
        &self.hooks.grant
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        self.charge_handles();
        &mut self.table
    }

    /// Charges what the host keeps for handles. When the account is full, the guest gets no more of
    /// them: its next call fails.
    fn charge_handles(&mut self) {
        let count = self.table.iter_mut().count();
        let account = self.base.account();
        let more = count.saturating_sub(self.charged);
        if more > 0 && account.take(more.saturating_mul(HANDLE)).is_err() {
            self.table.set_max_capacity(count);
            return;
        }
        account.release(self.charged.saturating_sub(count).saturating_mul(HANDLE));
        self.table.set_max_capacity(HANDLES);
        self.charged = count;
    }

    fn renew(&mut self, grant: Arc<Grant>, start: Start) {
        self.base.renew(grant.meter.clone(), start);
        self.speech.renew(grant.clone());
        self.hooks.grant = grant;
    }
}

impl Hosted for Host {
    fn base(&mut self) -> &mut Base {
        &mut self.base
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.charge_handles();
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.charge_handles();
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
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
            live.store.data_mut().table = ResourceTable::new();
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

type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ),
    wasmtime_wasi_http::Error,
>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let grant = self.grant.clone();
        Box::new(async move {
            let request = request.map(|body| {
                if http_body::Body::is_end_stream(&body) {
                    Body::Empty
                } else {
                    Body::boxed(FromGuest(body))
                }
            });
            let send = grant.send(request);
            let response = match options.and_then(|options| options.first_byte_timeout) {
                None => send.await,
                Some(limit) => tokio::time::timeout(limit, send).await.unwrap_or(Err(Refused::Timeout)),
            };
            let response = response.map_err(told)?;
            let response = response.map(|body| ToGuest(body).boxed_unsync());
            let done: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

/// Plain codes: what a guest may know of why.
fn told(refused: Refused) -> wasmtime_wasi_http::Error {
    use wasmtime_wasi_http::Error as E;
    match refused {
        Refused::Denied => E::HttpRequestDenied,
        Refused::TooMany | Refused::Overload => E::ConnectionLimitReached,
        Refused::Loop => E::LoopDetected,
        Refused::Malformed => E::HttpRequestUriInvalid,
        Refused::Unreachable => E::DestinationUnavailable,
        Refused::Timeout => E::HttpResponseTimeout,
        Refused::Protocol => E::HttpProtocolError,
    }
}

/// Content on its way into a guest.
struct ToGuest(Body);

impl http_body::Body for ToGuest {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>> {
        use wasmtime_wasi_http::Error as E;
        Pin::new(&mut self.0).poll_frame(cx).map_err(|error| match error {
            BodyError::TooLarge => E::HttpRequestBodySize(None),
            BodyError::Stalled => E::ConnectionReadTimeout,
            BodyError::Client(_)
            | BodyError::Quic(_)
            | BodyError::Framing(_)
            | BodyError::Origin(_)
            | BodyError::Damaged(_)
            | BodyError::Shared
            | BodyError::Worker(_) => E::ConnectionTerminated,
            BodyError::File(_) => E::InternalError(None),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Content on its way out of a guest.
struct FromGuest(WasiBody);

impl http_body::Body for FromGuest {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map_err(|_| BodyError::Worker("broken off"))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
