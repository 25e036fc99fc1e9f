//! One request and one response for HTTP/1.1, HTTP/2 and HTTP/3: what every handler to the right
//! takes and gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{Method, StatusCode, response};

use super::body::Body;
use super::door::Head;
use crate::base::id::RequestId;
use crate::base::ledger::Holder;
use crate::base::peer::Peer;
use crate::gate::verdict::Admitted;
use crate::zones::Zone;

/// A request that has passed the door: unambiguous framing, a head in normal form, one host, a zone
/// that serves it. Behind the gate, or in front of it as [`Unjudged`].
#[derive(Debug)]
pub struct Request {
    /// Method, target, version and fields. The host is in `exchange.host`. If its client asks for
    /// another protocol, [`Switch`](super::switch::Switch) is among the extensions.
    pub head: Head,
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
    /// The authority asked for, in one spelling: host, and port if it is not the scheme's own,
    /// lower case; empty for a default zone asked without a host.
    pub host: Arc<str>,
    /// When its head had been read.
    pub started: Instant,
}

/// A client's request that no gate has judged. Handlers do not take it: who opens it must show that
/// it is let in, which only the room `gate` can say.
#[derive(Debug)]
pub struct Unjudged(Request);

impl Unjudged {
    /// What has just passed the door.
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }

    /// To judge it by, or to answer it without serving it.
    pub fn request(&self) -> &Request {
        &self.0
    }

    /// Opens it.
    pub fn admit(self, _: Admitted) -> Request {
        self.0
    }
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

/// Among a request's extensions: the request that it asks about, which its server is told of
/// (`X-Forwarded-Method`, `X-Forwarded-Uri`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The method.
    pub method: Method,
    /// The target as the client wrote it.
    pub target: PathAndQuery,
}

/// Among a response's extensions: a name of its content. Responses of one name have the same bytes,
/// so that what was made of them once need not be made again. The cache gives names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentName(pub u128);

/// Among a request's extensions: on whose account rooms put what they keep for it.
#[derive(Clone, Debug)]
pub struct Payer(pub Arc<Holder>);

/// Among a response's extensions: how many bytes of its content may have been read ahead of the
/// client, if the origin's connection reads on by itself (HTTP/2, whose streams have windows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAhead(pub u64);

/// Among a response's extensions: the client's connection ends in good order behind it
/// (`Connection: close`, GOAWAY).
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
