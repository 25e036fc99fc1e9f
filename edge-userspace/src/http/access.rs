//! The account of one exchange: closed when the response has been handed over or dropped, it counts
//! the request and, where asked, writes its line to the access log (`tracing` target
//! `edge::access`).
//!
//! The line has the path but never the query, which may hold secrets; no cookies, no authorization.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Uri, Version, request};

use super::handler::{Failure, Reason};
use super::intake::Meter;
use super::life::Life;
use super::message::Report;
use super::metrics::{Metrics, ZoneMetrics};
use crate::base::id::RequestId;
use crate::base::peer::Peer;
use crate::zones::Zone;

/// The target of access lines; a level of its own in `log.level`.
pub(super) const TARGET: &str = "edge::access";

/// An exchange under way.
pub(super) struct Account {
    started: Instant,
    version: Version,
    life: Arc<Life>,
    metrics: Metrics,
    zone: Option<Arc<ZoneMetrics>>,
    status: Option<u16>,
    meter: Option<Arc<Meter>>,
    sent: u64,
    complete: bool,
    line: Option<Box<Line>>,
}

/// What only the log needs.
struct Line {
    id: RequestId,
    peer: Arc<Peer>,
    /// The first request on its connection, which waited for the handshake.
    first: bool,
    method: Method,
    target: Uri,
    agent: Option<HeaderValue>,
    host: Option<Arc<str>>,
    zone: Option<Arc<Zone>>,
    report: Report,
    failure: Option<Reason>,
    detail: String,
}

impl Account {
    /// Opens the account of a request whose head came at `started`.
    pub(super) fn open(started: Instant, version: Version, life: Arc<Life>, metrics: Metrics) -> Self {
        metrics.begin();
        Self {
            started,
            version,
            life,
            metrics,
            zone: None,
            status: None,
            meter: None,
            sent: 0,
            complete: false,
            line: None,
        }
    }

    /// Has a line written in the end.
    pub(super) fn log(&mut self, id: RequestId, peer: &Arc<Peer>, first: bool, head: &request::Parts) {
        self.line = Some(Box::new(Line {
            id,
            peer: peer.clone(),
            first,
            method: head.method.clone(),
            target: head.uri.clone(),
            agent: head.headers.get(USER_AGENT).cloned(),
            host: None,
            zone: None,
            report: Report::default(),
            failure: None,
            detail: String::new(),
        }));
    }

    pub(super) fn zone(&mut self, metrics: Arc<ZoneMetrics>, host: &Arc<str>, zone: &Arc<Zone>) {
        self.zone = Some(metrics);
        if let Some(line) = &mut self.line {
            line.host = Some(host.clone());
            line.zone = Some(zone.clone());
        }
    }

    pub(super) fn meter(&mut self, meter: Arc<Meter>) {
        self.meter = Some(meter);
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        if let Some(line) = &mut self.line {
            line.failure = Some(failure.reason);
            line.report.attempts = failure.attempts;
            line.detail = failure.detail;
        }
    }

    pub(super) fn responds(&mut self, status: u16, report: Report) {
        self.status = Some(status);
        if let Some(line) = &mut self.line {
            line.report = report;
        }
    }

    pub(super) fn status(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// So many bytes more were handed over; how many in all.
    pub(super) fn sent(&mut self, bytes: u64) -> u64 {
        self.sent += bytes;
        if let Some(meter) = &self.meter {
            meter.answers();
        }
        self.sent
    }

    /// All of the response was handed over.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.started);
        self.life.end(now, self.status.is_none());
        let received = self.meter.as_ref().map_or(0, |meter| meter.bytes());
        // A request without a zone of its own is counted under a name that no zone can have.
        let zone = self.zone.take().unwrap_or_else(|| self.metrics.zone(&Arc::from("")));
        self.metrics
            .end(&zone, self.version, self.status, took, received, self.sent);
        if let Some(line) = self.line.take() {
            line.write(self, took, received);
        }
    }
}

impl Line {
    fn write(&self, account: &Account, took: Duration, received: u64) {
        let handshake = self.peer.handshake.as_ref();
        tracing::info!(
            target: TARGET,
            id = %self.id,
            client = %self.peer.client.ip(),
            proxy = self.peer.via.as_ref().and_then(|via| via.proxies.last()).map(tracing::field::display),
            zone = self.zone.as_ref().map(|zone| &*zone.name),
            host = self.host.as_deref(),
            method = self.method.as_str(),
            path = self.target.path(),
            protocol = protocol(account.version),
            status = account.status,
            request_bytes = received,
            response_bytes = account.sent,
            handshake_ms = handshake.filter(|_| self.first).map(|h| millis(h.duration)),
            first_byte_ms = self.report.first_byte.map(millis),
            total_ms = millis(took),
            origin = self.report.origin.as_deref(),
            cache = self.report.cache,
            attempts = self.report.attempts,
            aborted = !account.complete,
            failure = self.failure.map(Reason::label),
            detail = (!self.detail.is_empty()).then_some(self.detail.as_str()),
            agent = self.agent.as_ref().and_then(|agent| agent.to_str().ok()),
            tls = handshake.map(|h| h.version),
            resumed = handshake.filter(|_| self.first).map(|h| h.resumed),
            client_certificate = handshake.and_then(|h| h.certificate.as_deref()).map(|client| &*client.fingerprint),
            client_subject = handshake.and_then(|h| h.certificate.as_deref()).map(|client| &*client.subject),
        );
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}

/// To three digits behind the point.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
