//! What a component's guest asks the node by: its store's data, its requests, and content on its
//! way in and out. The interfaces that are edge's own are in `wasi`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::budget::Start;
use super::clocks::{Monotonic, Wall};
use super::grant::{Grant, Refused};
use super::speech::Speech;
use super::store::{Base, HANDLES, Hosted};
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
    /// For a guest under `grant`.
    pub(super) fn new(grant: Arc<Grant>) -> Self {
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

    /// Ends what the guest left open: bodies, for one.
    pub(super) fn close_all(&mut self) {
        self.table = ResourceTable::new();
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

    /// For the next request of the same instance.
    pub(super) fn renew(&mut self, grant: Arc<Grant>, start: Start) {
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
pub(super) struct ToGuest(pub(super) Body);

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
            | BodyError::Sliced(_)
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
pub(super) struct FromGuest(pub(super) WasiBody);

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
