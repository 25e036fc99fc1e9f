//! The far end: beside an origin, in front of the handler that asks it. Answers a near end's
//! question by what changed since the version it has, by word that nothing did, or whole;
//! everything else goes through as it is.
//!
//! It is reached over mutual TLS only: a near end is believed who the client is.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, response};

use super::codec::Dictionary;
use super::digest::{Digest, Hasher};
use super::encodings::Encodings;
use super::flights::{Flights, Lead, Turn, varying};
use super::hop::{self, Ask, Coding, Content};
use super::intake::{Gathered, gather};
use super::lru::Lru;
use super::metrics::{Metrics, Outcome, Store};
use super::privacy::{Keep, Shown, Terms};
use super::versions::Versions;
use crate::base::id::RequestId;
use crate::base::peer::{Handshake, Peer};
use crate::http::body::Body;
use crate::http::handler::{Answer, Failure, Fault, Handler, Reason};
use crate::http::message::{Report, Request, Response};

/// How long an origin may take over content that it has begun, before it is passed on as it comes.
const PATIENCE: Duration = Duration::from_millis(300);
/// Content shorter than this is not worth a coding.
const SHORT: usize = 200;
/// Content that is hashed on the worker itself, about 2 ms.
const INLINE: usize = 1 << 20;
/// Memory for what was seen last of each resource: about 250 bytes each.
const SEEN: usize = 8 << 20;
/// What changes on every request by less than this part of it is not kept: the version before
/// serves as well, and both ends' stores stay free for others.
const SMALL: usize = 64;

/// What all workers of a far end share.
pub struct Shared {
    versions: Versions,
    encodings: Encodings,
    flights: Flights<Arc<Fetched>>,
    /// The last version seen of each resource.
    seen: Mutex<Lru<Digest, Digest>>,
    /// The longest content that is gathered.
    most: u64,
    metrics: Metrics,
}

/// The room's handler at a far end, of one worker.
pub struct Far {
    shared: Arc<Shared>,
    next: Arc<dyn Handler>,
}

/// An origin's answer, whole.
#[derive(Debug)]
struct Fetched {
    head: response::Parts,
    content: Dictionary,
    report: Report,
    terms: Terms,
}

enum Fetch {
    Whole(Arc<Fetched>),
    Passed(Box<Response>),
}

impl Shared {
    /// Refers to `versions`; holds `encodings` bytes of what is asked for again; passes content of
    /// more than `most` bytes on as it comes.
    ///
    /// # Errors
    /// There is no thread for the encoder.
    pub fn new(versions: Versions, encodings: usize, most: u64, metrics: Metrics) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            versions,
            encodings: Encodings::new(encodings, metrics.clone())?,
            flights: Flights::new(),
            seen: Mutex::new(Lru::new(SEEN)),
            most,
            metrics,
        }))
    }

    /// Whether `digest` is what was seen last of the resource.
    fn seen(&self, resource: Digest, digest: Digest) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let same = seen.get(&resource) == Some(digest);
        if !same {
            seen.put(resource, digest, 0);
        }
        same
    }

    /// The version that a near end has, if it is still here.
    async fn version(self: &Arc<Self>, zone: &Arc<str>, digest: Digest) -> Option<Dictionary> {
        let mut found = self.versions.at_hand(zone, digest);
        if found.is_none() && self.versions.on_disk(zone, digest) {
            let (shared, zone) = (self.clone(), zone.clone());
            let read = tokio::task::spawn_blocking(move || shared.versions.read(&zone, digest));
            found = read.await.ok().flatten();
        }
        self.metrics.looked_up(Store::Versions, found.is_some());
        found
    }
}

impl Far {
    /// In front of `next`, which asks the origin.
    pub fn new(shared: Arc<Shared>, next: Arc<dyn Handler>) -> Self {
        Self { shared, next }
    }

    async fn answer(&self, mut request: Request) -> Result<Response, Failure> {
        speak_for_client(&mut request);
        let ask = if request.head.method == Method::GET {
            Ask::take(&mut request.head.headers)
        } else {
            hop::strip(&mut request.head.headers);
            None
        };
        let Some(ask) = ask else {
            return self.pass(request).await;
        };
        let shown = Shown::by(&request.head.headers);
        let zone = request.exchange.zone.name.clone();
        let resource = resource(&request);
        match self.fetch(request, resource).await {
            Ok(Fetch::Whole(fetched)) => Ok(self.tell(ask, shown, &zone, resource, &fetched).await),
            Ok(Fetch::Passed(response)) => {
                self.shared.metrics.outcome(Outcome::Passed);
                Ok(*response)
            }
            Err(failure) => {
                self.shared.metrics.outcome(Outcome::Failed);
                if failure.reason.fault() != Fault::Origin && failure.reason != Reason::Overload {
                    return Err(failure);
                }
                tracing::info!(target: "edge::delta", zone = %zone, %failure, "the origin gave no answer");
                let mut response = Response::new(failure.reason.status(), Body::Empty);
                hop::failed(&mut response.head.headers, failure.reason);
                Ok(response)
            }
        }
    }

    async fn pass(&self, request: Request) -> Result<Response, Failure> {
        let mut response = self.next.handle(request).await?;
        hop::strip(&mut response.head.headers);
        Ok(response)
    }

    /// The origin's answer; somebody else's, where both would get the same.
    async fn fetch(&self, request: Request, resource: Digest) -> Result<Fetch, Failure> {
        let headers = &request.head.headers;
        if Shown::by(headers).any() || conditional(headers) {
            return self.fetch_alone(request, None).await;
        }
        match self.shared.flights.join(resource, headers).await {
            Turn::Lead(lead) => self.fetch_alone(request, Some(lead)).await,
            Turn::Alone => self.fetch_alone(request, None).await,
            Turn::Given(fetched) => {
                self.shared.metrics.coalesced();
                Ok(Fetch::Whole(fetched))
            }
        }
    }

    async fn fetch_alone(&self, request: Request, lead: Option<Lead<Arc<Fetched>>>) -> Result<Fetch, Failure> {
        let asked = lead.is_some().then(|| request.head.headers.clone());
        let Response { mut head, body, report } = self.next.handle(request).await?;
        hop::strip(&mut head.headers);
        let passed = |head, body| {
            Ok(Fetch::Passed(Box::new(Response {
                head,
                body,
                report: report.clone(),
            })))
        };
        if head.status != StatusCode::OK || !gatherable(&head.headers) {
            return passed(head, body);
        }
        let broken = |why: String| Failure::new(Reason::OriginMalformed, why);
        let length = content_length(&head.headers);
        if length.is_some_and(|length| length > self.shared.most) {
            return passed(head, body);
        }
        let content = match gather(body, self.shared.most, PATIENCE).await {
            Ok(Gathered::Whole(content)) => content,
            Ok(Gathered::Streams(body)) => return passed(head, body),
            Err(error) => return Err(broken(format!("content broke off: {error}"))),
        };
        if length.is_some_and(|length| length != content.len() as u64) {
            return Err(broken("content is not as long as it says".to_owned()));
        }
        let fetched = Arc::new(Fetched {
            terms: Terms::of(&head.headers),
            content: hashed(content).await,
            head,
            report,
        });
        if let (Some(lead), Some(asked)) = (lead, asked) {
            if fetched.terms.collapsible() {
                lead.share(varying(&asked, &fetched.head.headers), fetched.clone());
            } else {
                lead.alone();
            }
        }
        Ok(Fetch::Whole(fetched))
    }

    /// Says what was fetched in as few bytes as can be.
    async fn tell(&self, ask: Ask, shown: Shown, zone: &Arc<str>, resource: Digest, fetched: &Fetched) -> Response {
        let shared = &self.shared;
        let content = &fetched.content;
        let whole = content.content();
        let again = shared.seen(resource, content.digest());
        let (coding, body) = if ask.version == Some(content.digest()) {
            (Coding::Same, Bytes::new())
        } else if whole.len() < SHORT || !shrinks(&fetched.head.headers) {
            (Coding::Identity, whole.clone())
        } else {
            self.encode(ask, zone, content, again).await
        };
        let allowed = content.suitable() && fetched.terms.keep(shown, ask.no_store) != Keep::Not;
        let changed_much = coding != Coding::Dcz || body.len().saturating_mul(SMALL) > whole.len();
        let keep = allowed && (again || changed_much || fetched.terms.lasting());
        if keep && whole.len() >= SHORT && shrinks(&fetched.head.headers) {
            shared.versions.put(zone, content, fetched.terms.personal(shown));
        }
        shared.metrics.outcome(Outcome::Coded(coding));
        shared.metrics.bytes(coding, body.len() as u64, whole.len() as u64);
        let mut head = fetched.head.clone();
        if coding == Coding::Same {
            head.status = StatusCode::NOT_MODIFIED;
        }
        let told = Content {
            coding,
            length: whole.len() as u64,
            digest: content.digest(),
            keep,
        };
        told.write(&mut head.headers);
        Response {
            head,
            body: body.into(),
            report: fetched.report.clone(),
        }
    }

    async fn encode(&self, ask: Ask, zone: &Arc<str>, content: &Dictionary, again: bool) -> (Coding, Bytes) {
        let whole = content.content();
        let base = match ask.version {
            Some(digest) => self.shared.version(zone, digest).await.filter(Dictionary::suitable),
            None => None,
        };
        let mut best = (Coding::Identity, whole.clone());
        let encodings = &self.shared.encodings;
        if let Some(base) = &base {
            let stream = encodings.get(Some(base), content, again).await;
            best = shorter(best, Coding::Dcz, stream);
        }
        if best.1.len() > whole.len() / 2 {
            let stream = encodings.get(None, content, again).await;
            best = shorter(best, Coding::Zstd, stream);
        }
        best
    }
}

impl Handler for Far {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(self.answer(request))
    }
}

fn shorter(best: (Coding, Bytes), coding: Coding, stream: Option<Bytes>) -> (Coding, Bytes) {
    match stream {
        Some(stream) if stream.len() < best.1.len() => (coding, stream),
        _ => best,
    }
}

/// The near end has written who the client is, as every edge does; towards the origin the request
/// is that client's.
fn speak_for_client(request: &mut Request) {
    let headers = &request.head.headers;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let client = text("x-forwarded-for").and_then(|ip| ip.parse::<IpAddr>().ok());
    let secure = text("x-forwarded-proto") == Some("https");
    if let Some(id) = headers
        .get("x-request-id")
        .and_then(|id| RequestId::from_hex(id.as_bytes()))
    {
        request.exchange.id = id;
    }
    let hop = &request.exchange.peer;
    request.exchange.peer = Arc::new(Peer {
        client: client.map_or(hop.client, |ip| SocketAddr::new(ip, 0)),
        local: hop.local,
        accepted: hop.accepted,
        handshake: secure.then(|| {
            Arc::new(Handshake {
                duration: Duration::ZERO,
                server_name: None,
                version: "",
                resumed: false,
                client: 0,
                known: false,
                certificate: None,
                standing: None,
            })
        }),
        early: None,
        via: None,
    });
}

fn resource(request: &Request) -> Digest {
    let mut hasher = Hasher::new();
    let exchange = &request.exchange;
    let target = request.head.uri.path_and_query().map_or("", |target| target.as_str());
    // As the near end said: an origin may answer each of them in its own way.
    let scheme = exchange.peer.scheme();
    for part in [&*exchange.zone.name, scheme, &*exchange.host, target] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}

/// The answer depends on what the client has, or is a part.
fn conditional(headers: &HeaderMap) -> bool {
    [
        header::IF_NONE_MATCH,
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
    ]
    .iter()
    .any(|name| headers.contains_key(name))
}

/// Whether content may be gathered and coded: it has no coding of its own and is no endless stream.
/// `no-transform` forbids nothing here: the near end undoes what is done (RFC 9110 section 7.7 is
/// about what recipients get).
fn gatherable(headers: &HeaderMap) -> bool {
    let coded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    let streams = kind(headers).is_some_and(|kind| {
        kind.eq_ignore_ascii_case(b"text/event-stream") || kind.eq_ignore_ascii_case(b"multipart/x-mixed-replace")
    });
    let framed = headers.contains_key(header::TRAILER) || headers.contains_key(header::CONTENT_RANGE);
    !coded && !streams && !framed
}

/// Whether content of this type is likely to shrink: all but what is compressed already.
fn shrinks(headers: &HeaderMap) -> bool {
    let Some(kind) = kind(headers).map(<[u8]>::to_ascii_lowercase) else {
        return true;
    };
    let Ok(kind) = std::str::from_utf8(&kind) else {
        return true;
    };
    match kind.split_once('/') {
        Some(("image", sub)) => matches!(sub, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        Some(("audio" | "video", _)) => false,
        Some(("font", sub)) => !matches!(sub, "woff" | "woff2"),
        Some(("application", sub)) => !matches!(
            sub,
            "font-woff"
                | "font-woff2"
                | "x-font-woff"
                | "zip"
                | "gzip"
                | "x-gzip"
                | "zstd"
                | "x-xz"
                | "x-bzip2"
                | "x-7z-compressed"
                | "x-rar-compressed"
                | "vnd.rar"
                | "java-archive"
        ),
        _ => true,
    }
}

fn kind(headers: &HeaderMap) -> Option<&[u8]> {
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    Some(kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length: &HeaderValue| length.to_str().ok())
        .and_then(|length| length.parse().ok())
}

async fn hashed(content: Bytes) -> Dictionary {
    if content.len() <= INLINE {
        return Dictionary::new(content);
    }
    let theirs = content.clone();
    match tokio::task::spawn_blocking(move || Digest::of(&theirs)).await {
        Ok(digest) => Dictionary::with_digest(content, digest),
        Err(_) => Dictionary::new(content),
    }
}
