//! One request and one response for HTTP/1.1, HTTP/2 and HTTP/3: what every handler to the right takes and gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{StatusCode, request, response};

use super::body::Body;
use crate::base::id::RequestId;
use crate::base::ledger::Holder;
use crate::base::peer::Peer;
use crate::zones::Zone;

/// A request that the protocol layer has found sound: unambiguous framing, one host, a zone that serves it.
#[derive(Debug)]
pub struct Request {
    /// Method, target, version and fields. The target is in origin form (path and query) but for `OPTIONS *` and CONNECT;
    /// the host is in `exchange.host`. hyper's `OnUpgrade` is among the extensions.
    pub head: request::Parts,
    /// The content, streamed.
    pub body: Body,
    /// What is known beside the message itself.
    pub exchange: Exchange,
}

/// What is known of a request beside its bytes.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Names the request in logs and towards the origin.
    pub id: RequestId,
    /// The connection it came on.
    pub peer: Arc<Peer>,
    /// The zone that serves it.
    pub zone: Arc<Zone>,
    /// The authority asked for, as the client wrote it (host, and port where one was given), lower case; empty for a
    /// default zone asked without a host.
    pub host: Arc<str>,
    /// When its head had been read.
    pub started: Instant,
}

/// A response on its way to the client.
#[derive(Debug)]
pub struct Response {
    /// Status and fields.
    pub head: response::Parts,
    /// The content, streamed.
    pub body: Body,
    /// How it came about, for the access log.
    pub report: Report,
}

/// Among a response's extensions: a name of its content. Responses of one name have the same bytes, so that what was made of
/// them once need not be made again. The cache gives names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentName(pub u128);

/// Among a request's extensions: on whose account rooms put what they keep for it.
#[derive(Clone, Debug)]
pub struct Payer(pub Arc<Holder>);

/// Among a response's extensions: how many bytes of its content may have been read ahead of the client, if the origin's connection reads
/// on by itself (HTTP/2, whose streams have windows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAhead(pub u64);

/// Among a response's extensions: the client's connection ends in good order behind it (`Connection: close`, GOAWAY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseAfter;

/// Where a response came from and how long that took.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The origin server that answered, as configured; `None` when the edge answered by itself.
    pub origin: Option<Arc<str>>,
    /// From sending the request to the first byte of the origin's response head.
    pub first_byte: Option<Duration>,
    /// How the cache answered, where the zone has one.
    pub cache: Option<&'static str>,
    /// Attempts at an origin, retries included.
    pub attempts: u8,
}

impl Response {
    /// A response of the edge's own with `body` and no fields.
    pub fn new(status: StatusCode, body: impl Into<Body>) -> Self {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = status;
        Self {
            head,
            body: body.into(),
            report: Report::default(),
        }
    }
}
