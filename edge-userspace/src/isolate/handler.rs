//! A request to a zone's worker: a slot, a meter, the program's run under its deadline, and the response as it streams. The
//! same for all kinds of programs, and for sub-requests.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode, header, response};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::budget::{Meter, Metered};
use super::error::Ended;
use super::grant::{Grant, Lineage, Reach};
use super::isolates::Isolates;
use super::program::{Call, Leftover, Responder};
use super::slots::Slot;
use super::target;
use crate::base::idle;
use crate::http::body::{Body, BodyError};
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Report, Request, Response};
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

    /// Says, once, who answers sub-requests to other zones: what stands behind the gate, and leads back here.
    pub fn join(&self, router: Weak<dyn Handler>) {
        // The second time would be a defect of the assembly; the first one stands.
        let _ = self.router.set(router);
    }

    fn reach(&self) -> Result<&Arc<Reach>, Failure> {
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
        let tenant = self.isolates.tenant(&zone.name).ok_or_else(none)?;
        let active = tenant.active.load_full().ok_or_else(none)?;
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
        let url = target::url(&request.head.uri, &request.exchange.host)
            .ok_or_else(|| Failure::new(Reason::Malformed, "no URL comes of host and target"))?;
        let failed = |ended: Ended| {
            tenant.counts.failed(ended);
            ended.failure()
        };
        let slots = tenant.slots.load_full();
        let of_zone = slots.take(nested).await.map_err(failed)?;
        let of_node = self.isolates.slots().take(nested).await.map_err(failed)?;
        let meter = Meter::new(limits.cpu, tenant.turns.clone());
        let grant = Arc::new(Grant {
            tenant: tenant.clone(),
            meter: meter.clone(),
            exchange: request.exchange.clone(),
            log_left: AtomicUsize::new(limits.log_bytes),
            lineage,
            reach: self.reach()?.clone(),
        });
        let (responder, response) = oneshot::channel();
        let (mut head, meant) = request.head.into_parts();
        if let Some(protocol) = meant.upgrade {
            // A guest cannot switch protocols, but it may answer who asks for that.
            head.headers.insert(header::UPGRADE, protocol);
        }
        if let Some(target) = target::of(&url) {
            head.uri = target;
        }
        // What has no meaning (RFC 9110 sections 9.3.1, 9.3.2) is no guest's: its requests of these methods cannot have content.
        let body = match head.method {
            Method::GET | Method::HEAD => Body::Empty,
            _ => request.body,
        };
        let call = Call {
            head,
            url,
            body,
            grant: grant.clone(),
        };
        let run = active.program.clone().run(call, Responder(responder));
        let places = self.isolates.places().clone();
        let end = Arc::new(End::default());
        self.isolates.engine().awake();
        tenant.counts.began();
        let deadline = tokio::time::Instant::now() + limits.wall;
        let running = Running {
            grant,
            end: end.clone(),
            began: Instant::now(),
            _slots: [of_zone, of_node],
        };
        let task = Task(Some(tokio::spawn(async move {
            let mut run = Metered::new(running.grant.meter.clone(), run);
            let outcome = match tokio::time::timeout_at(deadline, &mut run).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Ended::Wall.into()),
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
        })));
        match response.await {
            Ok((head, body)) => respond(head, body, task, end, limits.response_bytes).map_err(failed),
            Err(_) => {
                // The run is over, and its end marked, or it will be within this poll of its task.
                task.join().await;
                Err(end
                    .get()
                    .unwrap_or_else(|| {
                        tenant.counts.failed(Ended::NoResponse);
                        Ended::NoResponse
                    })
                    .failure())
            }
        }
    }
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
    _slots: [Slot; 2],
}

impl Running {
    fn over(&self, outcome: wasmtime::Result<Box<dyn Leftover>>) -> Option<Box<dyn Leftover>> {
        let error = match outcome {
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
        self.grant.say(super::log::Level::Error, &text);
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let tenant = &self.grant.tenant;
        tenant
            .counts
            .ended(&self.grant.meter, self.began.elapsed(), self.end.get());
    }
}

/// How a run ended, for whoever reads the response's body.
#[derive(Debug, Default)]
struct End(AtomicU8);

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

/// A task that is aborted with its owner.
struct Task(Option<JoinHandle<()>>);

impl Task {
    /// Lets it go on by itself.
    fn release(&mut self) {
        self.0.take();
    }

    async fn join(mut self) {
        if let Some(handle) = &mut self.0 {
            // A panic of the task was reported by the hook; its end is not marked, and the caller says so.
            let _ = handle.await;
        }
        self.release();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

fn respond(
    mut head: response::Parts,
    body: Body,
    task: Task,
    end: Arc<End>,
    most: Option<u64>,
) -> Result<Response, Ended> {
    if head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Ended::BadResponse);
    }
    fields::strip_hop_by_hop(&mut head.headers);
    head.extensions.clear();
    let due = head.headers.get(header::CONTENT_LENGTH);
    let due = due.and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(Response {
        head,
        body: Body::boxed(Streaming {
            body,
            task,
            end,
            left: most,
            due,
        }),
        report: Report::default(),
    })
}

/// A response's content as the guest makes it. Dropped before its end, it aborts the guest: the client has gone. At its end
/// the guest may go on alone, within its limits.
struct Streaming {
    body: Body,
    task: Task,
    end: Arc<End>,
    left: Option<u64>,
    /// What `Content-Length` promised and has not come yet: nobody asks for more than that.
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
                        self.task.release();
                    }
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error)),
            None => match self.end.get() {
                // What came so far would look whole.
                Some(ended) => Some(Err(BodyError::Worker(ended.label()))),
                None => {
                    self.task.release();
                    None
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
