//! A request to a zone's worker: a slot, a meter, the program's run under its deadline, and the
//! response as it streams. The same for all kinds of programs, and for sub-requests.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response};
use http_body::{Frame, SizeHint};
use tokio::sync::{Semaphore, oneshot};
use url::Url;

use super::assets;
use super::budget::Metered;
use super::deployment::Meant;
use super::error::Ended;
use super::grant::{Grant, Lineage, Reach};
use super::isolates::Isolates;
use super::program::{Call, Leftover, Responder, Run};
use super::shares::Share;
use super::slots::Slot;
use super::target;
use super::tenant::Tenant;
use super::tie::{Client, Counted, Tied};
use super::upgrade::Upgrade;
use crate::base::idle;
use crate::config::Origin;
use crate::http::body::{Body, BodyError};
use crate::http::door::Head;
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Exchange, Report, Request, Response};
use crate::http::{fields, forwarded};

/// The room's handler, of one worker thread.
pub struct Isolated {
    isolates: Arc<Isolates>,
    origin: Arc<dyn Handler>,
    router: OnceLock<Weak<dyn Handler>>,
    reach: OnceLock<Arc<Reach>>,
}

impl Isolated {
    /// Runs programs of `isolates`; what they ask of servers goes to `origin`.
    pub fn new(isolates: Arc<Isolates>, origin: Arc<dyn Handler>) -> Self {
        Self {
            isolates,
            origin,
            router: OnceLock::new(),
            reach: OnceLock::new(),
        }
    }

    /// Says, once, who answers sub-requests to other zones: what stands behind the gate, and leads
    /// back here.
    pub fn join(&self, router: Weak<dyn Handler>) {
        // The second time would be a defect of the assembly; the first one stands.
        let _ = self.router.set(router);
    }

    /// Whose programs it runs.
    pub fn isolates(&self) -> &Arc<Isolates> {
        &self.isolates
    }

    /// A slot of the tenant's and a share of the node's, for one run.
    ///
    /// # Errors
    /// [`Ended::Overload`].
    pub(super) async fn slots(&self, tenant: &Tenant, nested: bool) -> Result<(Slot, Share), Ended> {
        let of_zone = tenant.slots.load_full().take(nested).await?;
        let of_node = self.isolates.shares().take(&tenant.name, nested).await?;
        Ok((of_zone, of_node))
    }

    pub(super) fn reach(&self) -> Result<&Arc<Reach>, Failure> {
        if let Some(reach) = self.reach.get() {
            return Ok(reach);
        }
        let router = self.router.get().ok_or_else(|| Ended::Internal.failure())?;
        Ok(self.reach.get_or_init(|| {
            Arc::new(Reach {
                zones: self.isolates.zones().clone(),
                router: router.clone(),
                origin: self.origin.clone(),
            })
        }))
    }

    async fn answer(&self, mut request: Request) -> Result<Response, Failure> {
        let zone = request.exchange.zone.clone();
        let worker = zone.worker.as_ref().ok_or_else(none)?;
        if let Some(file) = assets::before(&*self.origin, &request.head, &request.exchange).await? {
            return Ok(file);
        }
        let deployment = self.isolates.deployment(&zone.name).ok_or_else(none)?;
        let tenant = &deployment.tenant;
        let client = request.exchange.peer.client.ip();
        let (active, trial) = match deployment.meant(worker, &request.exchange.host) {
            Meant::Zone => deployment.version_for(client).ok_or_else(none)?,
            Meant::Preview(active) => (active, None),
            Meant::Nothing => {
                return Err(Failure::new(
                    Reason::NotFound,
                    "no version has this host for its preview",
                ));
            }
        };
        let limits = &worker.limits;
        let lineage = match request.head.extensions.remove::<Lineage>() {
            Some(lineage) => lineage,
            None => Lineage::root(&request.head.headers, limits.subrequests),
        };
        let nested = lineage.is_nested();
        if request.exchange.host.is_empty() {
            // A guest's request has a URL, and that a host.
            request.exchange.host = zone.stand_in.clone();
        }
        forwarded::rewrite(&mut request.head.headers, &request.exchange);
        let url = target::url(scheme(&request.exchange), &request.head.uri, &request.exchange.host)
            .ok_or_else(|| Failure::new(Reason::Malformed, "no URL comes of host and target"))?;
        let failed = |ended: Ended| {
            tenant.counts.failed(ended);
            ended.failure()
        };
        let slots = self.slots(tenant, nested).await.map_err(failed)?;
        let reach = self.reach()?.clone();
        let upgrade = Upgrade::of(&mut request.head);
        let grant = Grant::new((tenant, limits), request.exchange.clone(), lineage, reach, upgrade);
        if let Some(trial) = trial {
            // It is new.
            let _ = grant.trial.set(trial);
        }
        let method = request.head.method.clone();
        let (responder, response) = oneshot::channel();
        let (head, body) = for_guest(request.head, request.body, &url);
        let again = Again::of(&head, &body);
        let call = Call {
            head,
            url,
            body,
            grant: grant.clone(),
            due: None,
        };
        let run = active.program.clone().run(call, Responder(responder));
        let client = Client(grant.tie.clone());
        let (task, end) = spawn(&self.isolates, grant.clone(), slots, run);
        let ended = match response.await {
            Ok(Ok((head, body))) => {
                if let Some(trial) = grant.trial.get().filter(|_| head.status.is_server_error()) {
                    trial.failed(None);
                }
                let asked = Asked {
                    method,
                    grant,
                    most: limits.response_bytes,
                };
                return respond(head, body, asked, client, end).map_err(failed);
            }
            Ok(Err(ended)) => {
                // It may go on behind the failure, and accounts for itself.
                client.satisfied();
                ended
            }
            Err(_) => {
                // The run is over, and its end marked, or it will be within this poll of its task.
                // A panic of the task was reported by the hook.
                let _ = task.await;
                end.get().unwrap_or_else(|| {
                    tenant.counts.failed(Ended::NoResponse);
                    Ended::NoResponse
                })
            }
        };
        if let Some(trial) = grant.trial.get() {
            trial.failed(Some(ended));
        }
        let has_origin = !matches!(zone.origin, Origin::None);
        match again.filter(|_| has_origin && grant.passes.load(Relaxed)) {
            Some(again) => self.origin.handle(again.request(&grant)).await,
            None => Err(ended.failure()),
        }
    }
}

/// Begins a run, as a task of its own on this thread; its end will be marked.
pub(super) fn spawn(
    isolates: &Isolates,
    grant: Arc<Grant>,
    slots: (Slot, Share),
    run: Run,
) -> (tokio::task::JoinHandle<()>, Arc<End>) {
    let end = Arc::new(End::default());
    isolates.engine().awake();
    let wall = grant
        .exchange
        .zone
        .worker
        .as_ref()
        .map_or(Duration::ZERO, |worker| worker.limits.wall);
    let deadline = tokio::time::Instant::now() + wall;
    let run = Tied::new(grant.tie.clone(), run);
    let running = Running::begin(grant, end.clone(), slots);
    let task = tokio::spawn(run_to_the_end(running, run, isolates.places().clone(), deadline));
    (task, end)
}

/// A request as a guest is shown it: with the URL's target.
fn for_guest(mut head: Head, body: Body, url: &Url) -> (Arc<Head>, Body) {
    if let Some(protocol) = head.meant().upgrade.clone() {
        // A guest cannot switch protocols, but it may answer who asks for that, or pass it on.
        head.headers.insert(header::UPGRADE, protocol);
    }
    if let Some(target) = target::of(url) {
        head.uri = target;
    }
    // What has no meaning (RFC 9110 sections 9.3.1, 9.3.2) is no guest's: its requests of these
    // methods cannot have content.
    let body = match head.method {
        Method::GET | Method::HEAD => Body::Empty,
        _ => body,
    };
    (Arc::new(head), body)
}

/// What becomes of a run: its end is marked, then what is left of it is settled when the thread has
/// nothing else to do.
async fn run_to_the_end(running: Running, run: Tied<Run>, places: Arc<Semaphore>, deadline: tokio::time::Instant) {
    let mut run = Metered::new(running.grant.meter.clone(), run);
    let mut deadline = deadline;
    let outcome = loop {
        match tokio::time::timeout_at(deadline, &mut run).await {
            Ok(outcome) => break outcome,
            // A socket of the guest moved meanwhile.
            Err(_) => match running.grant.tie.lives_until().filter(|later| *later > deadline) {
                Some(later) => deadline = later,
                None => break Some(Err(Ended::Wall.into())),
            },
        }
    };
    let left = running.over(outcome);
    // Only now: whoever reads the response's body must find its end marked as a bad one.
    drop(run);
    let Some(left) = left else { return };
    // Without one the instance goes before its slot does.
    let Ok(place) = places.try_acquire_owned() else { return };
    let grant = running.grant.clone();
    drop(running);
    // Whoever waits for this response goes first.
    idle::when_idle().await;
    let before = grant.meter.spent();
    let settled = Metered::new(grant.meter.clone(), left.settle(place));
    // Not in time: the next request has to do it for itself.
    let _ = tokio::time::timeout_at(deadline, settled).await;
    let spent = grant.meter.spent().saturating_sub(before);
    grant.tenant.counts.spent(spent);
}

/// A request as it came, for the zone's origin, if the worker fails and has said that it then
/// passes (`passThroughOnException`).
struct Again {
    head: Arc<Head>,
    body: Bytes,
}

impl Again {
    /// `None`: the content streams, and the guest may have read it.
    fn of(head: &Arc<Head>, body: &Body) -> Option<Self> {
        let body = match body {
            Body::Empty => Bytes::new(),
            Body::Full(bytes) => bytes.clone(),
            other if http_body::Body::is_end_stream(other) => Bytes::new(),
            _ => return None,
        };
        Some(Self {
            head: head.clone(),
            body,
        })
    }

    fn request(self, grant: &Grant) -> Request {
        let mut head = Head::clone(&self.head);
        head.headers.remove(header::UPGRADE);
        Request {
            head,
            body: self.body.into(),
            exchange: grant.exchange.clone(),
        }
    }
}

/// Plain HTTP reaches a worker only by `edge dev`, and by plain listeners.
fn scheme(exchange: &Exchange) -> &'static str {
    exchange.peer.scheme()
}

fn none() -> Failure {
    Failure::new(Reason::NoWorker, "the zone has no worker yet: `edge worker deploy`")
}

impl Handler for Isolated {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(self.answer(request))
    }
}

/// A run under way; dropped with its task, however that ends.
struct Running {
    grant: Arc<Grant>,
    end: Arc<End>,
    began: Instant,
    /// Its outcome is known; else the thread that ran it stopped.
    over: Cell<bool>,
    _counted: Counted,
    _slots: (Slot, Share),
}

impl Running {
    fn begin(grant: Arc<Grant>, end: Arc<End>, slots: (Slot, Share)) -> Self {
        grant.tenant.counts.began();
        Self {
            grant,
            end,
            began: Instant::now(),
            over: Cell::new(false),
            _counted: Counted::begin(),
            _slots: slots,
        }
    }

    /// `None`: its client has gone, and nothing was to be kept.
    fn over(&self, outcome: Option<wasmtime::Result<Box<dyn Leftover>>>) -> Option<Box<dyn Leftover>> {
        self.over.set(true);
        let error = match outcome? {
            Ok(left) => return Some(left),
            Err(error) => error,
        };
        let ended = Ended::of(&error);
        self.end.set(ended);
        // `{:#}` would render the chain, `{:?}` the backtrace, which costs 100 ms.
        let cause = error.root_cause().to_string();
        let cause: String = cause.chars().take(500).collect();
        let words = ended.to_string();
        let text = if words == cause {
            words
        } else {
            format!("{words}: {cause}")
        };
        self.grant.reason(&text);
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over.get() && self.grant.tie.is_kept() {
            self.end.set(Ended::Stopped);
            self.grant.reason(&Ended::Stopped.to_string());
        }
        if let (Some(trial), Some(ended)) = (self.grant.trial.get(), self.end.get()) {
            trial.failed(Some(ended));
        }
        let tenant = &self.grant.tenant;
        tenant
            .counts
            .ended(&self.grant.meter, self.began.elapsed(), self.end.get());
    }
}

/// How a run ended, for whoever reads the response's body.
#[derive(Debug, Default)]
pub(super) struct End(AtomicU8);

impl End {
    fn set(&self, ended: Ended) {
        let at = Ended::ALL.iter().position(|e| *e == ended).unwrap_or(0);
        self.0.store(u8::try_from(at + 1).unwrap_or(u8::MAX), Relaxed);
    }

    fn get(&self) -> Option<Ended> {
        let at = usize::from(self.0.load(Relaxed)).checked_sub(1)?;
        Ended::ALL.get(at).copied()
    }
}

/// What of a request decides how its response goes out.
struct Asked {
    method: Method,
    grant: Arc<Grant>,
    most: Option<u64>,
}

fn respond(
    mut head: response::Parts,
    body: Body,
    asked: Asked,
    client: Client,
    end: Arc<End>,
) -> Result<Response, Ended> {
    let Asked { method, grant, most } = asked;
    fields::strip_hop_by_hop(&mut head.headers);
    head.extensions.clear();
    // Only what a server or the guest agreed to is a tunnel.
    let tunnel = grant.upgrade.settle(&mut head);
    let connect = method == Method::CONNECT || grant.upgrade.is_connect();
    if !tunnel && (head.status.is_informational() || connect && head.status.is_success()) {
        return Err(Ended::BadResponse);
    }
    let due = http_body::Body::size_hint(&body).exact();
    let none = method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    tell_length(&mut head.headers, due, none);
    if none || tunnel {
        // Nobody reads what there may be.
        client.satisfied();
    }
    Ok(Response {
        head,
        body: Body::boxed(Streaming {
            body,
            client,
            end,
            left: most,
            due,
        }),
        report: Report::default(),
    })
}

/// `Content-Length` is what the content's length is, or absent: a guest may have copied it from a
/// response whose content it changed (RFC 9110 section 8.6). Where no content follows it tells what
/// a GET would give, and stays if it is a number.
fn tell_length(headers: &mut HeaderMap, due: Option<u64>, none: bool) {
    let Some(said) = headers.get(header::CONTENT_LENGTH) else {
        return;
    };
    let digits = said.as_bytes();
    let number = !digits.is_empty() && digits.len() < 19 && digits.iter().all(u8::is_ascii_digit);
    let one = headers.get_all(header::CONTENT_LENGTH).iter().count() == 1;
    match due {
        _ if none && number && one => {}
        Some(length) if !none && length > 0 => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        _ => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
}

/// A response's content as the guest makes it. Dropped before its end, it tells the guest's run
/// that the client has gone; at its end the guest may go on alone, within its limits.
struct Streaming {
    body: Body,
    client: Client,
    end: Arc<End>,
    left: Option<u64>,
    /// What is still to come of a length that is known: nobody asks for more than that.
    due: Option<u64>,
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(left) = &mut self.left {
                    match left.checked_sub(length) {
                        Some(rest) => *left = rest,
                        None => {
                            self.end.set(Ended::Output);
                            return Poll::Ready(Some(Err(BodyError::Worker(Ended::Output.label()))));
                        }
                    }
                }
                if let Some(due) = &mut self.due {
                    *due = due.saturating_sub(length);
                    if *due == 0 {
                        self.client.satisfied();
                    }
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error)),
            // All that was promised has come: what the guest fails at behind it is not the
            // response's.
            None if self.due == Some(0) => {
                self.client.satisfied();
                None
            }
            None => match self.end.get() {
                // What came so far would look whole.
                Some(ended) => Some(Err(BodyError::Worker(ended.label()))),
                None => {
                    self.client.satisfied();
                    None
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.due == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that a worker changed would be cut at the length of the page before, or never end.
    #[test]
    fn a_length_is_true_or_absent() {
        let length = |said: &[&'static str], due, none| {
            let mut headers = HeaderMap::new();
            for said in said {
                headers.append(header::CONTENT_LENGTH, HeaderValue::from_static(said));
            }
            tell_length(&mut headers, due, none);
            headers
                .get(header::CONTENT_LENGTH)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(length(&["1200"], None, false), None, "a stream");
        assert_eq!(length(&["1200"], Some(5), false).as_deref(), Some("5"));
        assert_eq!(length(&["1200"], Some(0), false), None);
        assert_eq!(
            length(&["1200"], Some(0), true).as_deref(),
            Some("1200"),
            "of HEAD, or a 304"
        );
        for nonsense in [&["abc"][..], &["-1"], &["5,6"], &["5", "6"], &[""]] {
            assert_eq!(length(nonsense, None, true), None, "{nonsense:?}");
            assert_eq!(length(nonsense, None, false), None, "{nonsense:?}");
        }
    }
}
