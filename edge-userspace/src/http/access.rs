//! The account of one exchange: closed when the response has been handed over or dropped, it counts
//! the request and, if asked, writes its line to the access log.
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
use super::metrics::ZoneMetrics;
use super::shared::Shared;
use crate::base::id::RequestId;
use crate::base::lines::ACCESS;
use crate::base::peer::Peer;
use crate::zones::Zone;

/// An exchange under way.
pub(super) struct Account {
    started: Instant,
    version: Version,
    life: Arc<Life>,
    shared: Arc<Shared>,
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
    pub(super) fn open(started: Instant, version: Version, life: Arc<Life>, shared: Arc<Shared>) -> Self {
        shared.metrics.begin();
        Self {
            started,
            version,
            life,
            shared,
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

    /// Lets go of the request's head, of which the line has parts: each keeps all of the buffer
    /// that the head came in. Long parts are cut.
    pub(super) fn let_go(&mut self) {
        if let Some(line) = &mut self.line {
            line.target = Uri::try_from(short(line.target.path())).unwrap_or_default();
            let agent = line.agent.as_ref().and_then(|agent| agent.to_str().ok());
            line.agent = agent.and_then(|agent| HeaderValue::from_str(short(agent)).ok());
        }
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
        let metrics = &self.shared.metrics;
        let zone = self.zone.take().unwrap_or_else(|| metrics.zone(&Arc::from("")));
        metrics.end(&zone, self.version, self.status, took, received, self.sent);
        if let Some(line) = self.line.take() {
            line.write(self, took, received);
        }
    }
}

/// What a line keeps of a path or an agent when the request is not let in.
const SHORT: usize = 256;

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHORT)).unwrap_or(text)
}

impl Line {
    fn write(&self, account: &Account, took: Duration, received: u64) {
        let handshake = self.peer.handshake.as_ref();
        let certificate = handshake.and_then(|handshake| handshake.certificate.as_deref());
        account.shared.lines.write(ACCESS, |line| {
            line.plain("id", Some(self.id));
            line.plain("client", Some(self.peer.client.ip()));
            line.plain("proxy", self.peer.via.as_ref().and_then(|via| via.proxies.last()));
            line.text("zone", self.zone.as_ref().map(|zone| &*zone.name));
            line.text("host", self.host.as_deref());
            line.text("method", self.method.as_str());
            line.text("path", self.target.path());
            line.text("protocol", protocol(account.version));
            line.number("status", account.status.map(u64::from));
            line.number("request_bytes", received);
            line.number("response_bytes", account.sent);
            line.millis("handshake_ms", handshake.filter(|_| self.first).map(|h| h.duration));
            line.millis("first_byte_ms", self.report.first_byte);
            line.millis("total_ms", took);
            line.text("origin", self.report.origin.as_deref());
            line.text("cache", self.report.cache);
            line.number("attempts", u64::from(self.report.attempts));
            line.flag("aborted", !account.complete);
            line.text("failure", self.failure.map(Reason::label));
            line.text("detail", Some(&*self.detail).filter(|detail| !detail.is_empty()));
            line.text("agent", self.agent.as_ref().and_then(|agent| agent.to_str().ok()));
            line.text("tls", handshake.map(|handshake| handshake.version));
            line.flag("resumed", handshake.filter(|_| self.first).map(|h| h.resumed));
            line.text("client_certificate", certificate.map(|client| &*client.fingerprint));
            line.text("client_subject", certificate.map(|client| &*client.subject));
        });
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
