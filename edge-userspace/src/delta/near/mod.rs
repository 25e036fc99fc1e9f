//! The near end: in front of the handler that asks origins. For zones with a far end it asks that
//! one instead, names the version it has, and makes of the answer what the origin said, byte for
//! byte. What it cannot prove it fetches whole, once; what cannot be a difference goes through as
//! it is; when the far end is away, the zone's origin is asked.

mod breaker;
mod spare;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body::Body as _;

use super::bases::{Base, Bases, Place, Spare};
use super::codec::{Decoder, Dictionary};
use super::hop::{self, Ask, Coding, Content, Told};
use super::metrics::{Metrics, Mismatch, Outcome};
use super::privacy::{Keep, Shown, Terms};
use super::restore::{Proved, Restored};
use crate::http::body::Body;
use crate::http::codings::{self, Accepted};
use crate::http::disguise;
use crate::http::door::Head;
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Exchange, ReadAhead, Request, Response};
use crate::zones::Zone;
use breaker::Breaker;

/// Content up to this length is proved before its first byte leaves, so that it can be fetched
/// whole when it is wrong: as a difference, of which little crosses the hop, and whole.
const PROVED_FIRST: u64 = 1 << 20;
const PROVED_FIRST_WHOLE: u64 = 64 << 10;

/// What a decoder holds of one response at most, and the copy beside it, about.
const DECODED: u64 = 16 << 20;

/// What all workers of a node share.
pub struct Shared {
    bases: Bases,
    /// The longest content that is kept.
    most: u64,
    metrics: Metrics,
    ends: ArcSwap<HashMap<Arc<str>, Arc<Known>>>,
    /// Versions that were asked for before this are not given stale any more.
    voided: ArcSwapOption<Instant>,
}

/// A far end as requests to it see it.
#[derive(Debug)]
pub struct FarEnd {
    /// A zone whose origin is the far end; requests to it go by this zone.
    pub zone: Arc<Zone>,
    /// Versions that say `no-store` may be kept, in memory and only to refer to.
    pub keep_no_store: bool,
}

/// With what only we know.
#[derive(Debug)]
struct Known {
    end: FarEnd,
    breaker: Breaker,
}

/// The room's handler in an edge, of one worker.
pub struct Near {
    shared: Arc<Shared>,
    next: Arc<dyn Handler>,
}

/// What came of asking the far end.
enum Tried {
    /// What the client gets.
    Answer(Box<Response>),
    /// Nothing that can be proved.
    Wrong,
    /// The far end has no answer of the origin's.
    Failed(Reason),
}

impl Shared {
    /// Holds `bytes` of versions, none of more than `most` bytes.
    pub fn new(bytes: usize, most: u64, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            bases: Bases::new(bytes, metrics.clone()),
            most,
            metrics,
            ends: ArcSwap::default(),
            voided: ArcSwapOption::default(),
        })
    }

    /// Something was purged: nothing that was asked for before now is given in place of an origin
    /// that fails. Versions stay what differences refer to, because those are proved by what the
    /// origin says now.
    pub fn void(&self) {
        self.voided.store(Some(Arc::new(Instant::now())));
    }

    /// The far ends from now on, by their names.
    pub fn install(&self, ends: impl IntoIterator<Item = (Arc<str>, FarEnd)>) {
        let known = |(name, end)| {
            let breaker = Breaker::default();
            (name, Arc::new(Known { end, breaker }))
        };
        self.ends.store(Arc::new(ends.into_iter().map(known).collect()));
    }

    fn end(&self, zone: &Zone) -> Option<Arc<Known>> {
        self.ends.load().get(zone.delta.as_ref()?).cloned()
    }
}

impl Near {
    /// In front of `next`, which asks far ends and origins alike, by the request's zone.
    pub fn new(shared: Arc<Shared>, next: Arc<dyn Handler>) -> Self {
        Self { shared, next }
    }

    async fn answer(&self, known: &Known, mut request: Request) -> Result<Response, Failure> {
        hop::strip(&mut request.head.headers);
        let head = &request.head;
        let plain = head.method == Method::GET
            && request.body.is_end_stream()
            && !head.headers.contains_key(header::RANGE)
            && !head.upgrades()
            && !disguise::disguised(&head.headers);
        if plain {
            self.get(known, request).await
        } else {
            self.pass(known, request).await
        }
    }

    /// A request whose answer is no resource's content: it goes through the far end as it is.
    async fn pass(&self, known: &Known, mut request: Request) -> Result<Response, Failure> {
        if matches!(request.head.method, Method::GET | Method::HEAD) {
            // Lengths, ranges and validators are of what a plain GET gets here, and that is in no
            // coding of the origin's.
            let identity = HeaderValue::from_static("identity");
            request.head.headers.insert(header::ACCEPT_ENCODING, identity);
        }
        if !known.breaker.admits() {
            return self.next.handle(request).await;
        }
        let Request { head, body, exchange } = request;
        let (body, spare) = spare::keep(body);
        let again = head.clone();
        let through = Request {
            head,
            body,
            exchange: self.towards(known, &exchange),
        };
        let failure = match self.next.handle(through).await {
            Ok(mut response) => {
                known.breaker.well();
                // The far end's own word when its origin is away; what it means is in the status.
                hop::strip(&mut response.head.headers);
                return Ok(response);
            }
            Err(failure) => failure,
        };
        if failure.reason != Reason::OriginUnreachable {
            return Err(failure);
        }
        known.breaker.trip();
        match spare.take() {
            // No byte of it has been read: the origin can have all of it.
            Some(body) => {
                self.shared.metrics.outcome(Outcome::Direct);
                self.next
                    .handle(Request {
                        head: again,
                        body,
                        exchange,
                    })
                    .await
            }
            None => Err(failure),
        }
    }

    /// A resource's content.
    async fn get(&self, known: &Known, request: Request) -> Result<Response, Failure> {
        let Request { head, exchange, .. } = request;
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let place = Place::of(&exchange, target, &head.headers);
        let base = self.shared.bases.find(&place, &head.headers);
        if !known.breaker.admits() {
            return self.direct(head, exchange, base.as_ref()).await;
        }
        let usable = base.as_ref().filter(|base| base.version.suitable());
        let mut tried = self.ask(known, &head, &exchange, &place, usable).await;
        if let Ok(Tried::Wrong) = tried {
            self.shared.bases.forget(&place, &head.headers);
            tried = self.ask(known, &head, &exchange, &place, None).await;
        }
        match tried {
            Ok(Tried::Answer(response)) => Ok(self.or_stale(*response, &head.headers, base.as_ref())),
            Ok(Tried::Wrong) => {
                tracing::warn!(target: "edge::delta", zone = %exchange.zone.name, "the far end's answers cannot be proved; asking the origin");
                self.direct(head, exchange, base.as_ref()).await
            }
            Ok(Tried::Failed(reason)) => match self.stale(&head.headers, base.as_ref()) {
                Some(response) => Ok(response),
                None => {
                    self.shared.metrics.outcome(Outcome::Failed);
                    Err(Failure::new(reason, "the far end has no answer of the origin"))
                }
            },
            Err(failure) if matches!(failure.reason, Reason::ClientGone | Reason::ClientTimeout) => Err(failure),
            Err(_) => self.direct(head, exchange, base.as_ref()).await,
        }
    }

    /// Without the far end.
    async fn direct(&self, head: Head, exchange: Exchange, base: Option<&Base>) -> Result<Response, Failure> {
        let asked = head.headers.clone();
        let request = Request {
            head,
            body: Body::Empty,
            exchange,
        };
        match self.next.handle(request).await {
            Ok(response) => {
                self.shared.metrics.outcome(Outcome::Direct);
                Ok(self.or_stale(response, &asked, base))
            }
            Err(failure) => self.stale(&asked, base).ok_or_else(|| {
                self.shared.metrics.outcome(Outcome::Failed);
                failure
            }),
        }
    }

    /// `response`, unless it says that the origin cannot answer and what is held may be given
    /// instead (RFC 5861 section 4).
    fn or_stale(&self, response: Response, asked: &HeaderMap, base: Option<&Base>) -> Response {
        let ill = matches!(response.head.status.as_u16(), 500 | 502 | 503 | 504);
        match ill.then(|| self.stale(asked, base)).flatten() {
            Some(stale) => stale,
            None => response,
        }
    }

    /// What is held of `base`, for a request with `asked` that nobody else can answer.
    fn stale(&self, asked: &HeaderMap, base: Option<&Base>) -> Option<Response> {
        let base = base?;
        let spare = base.spare.as_ref()?;
        if asked.contains_key(header::AUTHORIZATION) && !spare.for_authorized || insists(asked) {
            return None;
        }
        let voided = self.shared.voided.load();
        let age = spare.came.elapsed();
        if age > spare.lasts || voided.as_ref().is_some_and(|at| spare.asked <= **at) {
            return None;
        }
        let mut response = Response::new(StatusCode::OK, base.version.content().clone());
        response.head.headers = spare.headers.clone();
        let before = response
            .head
            .headers
            .get(header::AGE)
            .and_then(|age| age.to_str().ok()?.parse::<u64>().ok())
            .unwrap_or(0);
        let age = before.saturating_add(age.as_secs());
        response.head.headers.insert(header::AGE, HeaderValue::from(age));
        set_length(&mut response.head.headers, base.version.content().len() as u64);
        self.shared.metrics.outcome(Outcome::Stale);
        Some(response)
    }

    /// One question to the far end.
    async fn ask(
        &self,
        known: &Known,
        head: &Head,
        exchange: &Exchange,
        place: &Place,
        base: Option<&Base>,
    ) -> Result<Tried, Failure> {
        let mut question = head.clone();
        Ask {
            version: base.map(|base| base.version.digest()),
            no_store: known.end.keep_no_store,
        }
        .write(&mut question.headers);
        let started = Instant::now();
        let request = Request {
            head: question,
            body: Body::Empty,
            exchange: self.towards(known, exchange),
        };
        let mut response = match self.next.handle(request).await {
            Ok(response) => response,
            Err(failure) => {
                if failure.reason == Reason::OriginUnreachable {
                    known.breaker.trip();
                }
                return Err(failure);
            }
        };
        known.breaker.well();
        match Told::take(&mut response.head.headers) {
            Ok(Some(Told::Failed(reason))) => Ok(Tried::Failed(reason)),
            Ok(Some(Told::Content(content))) => {
                let restoring = Restoring {
                    near: self,
                    known,
                    started,
                    asked: &head.headers,
                    place,
                    base,
                };
                Ok(restoring.restore(response, &content).await)
            }
            Ok(None) if understood(&response, &head.headers) => {
                self.shared.metrics.outcome(Outcome::Passed);
                Ok(Tried::Answer(Box::new(response)))
            }
            Ok(None) | Err(_) => {
                self.shared.metrics.mismatch(Mismatch::Head);
                Ok(Tried::Wrong)
            }
        }
    }

    fn towards(&self, known: &Known, exchange: &Exchange) -> Exchange {
        Exchange {
            zone: known.end.zone.clone(),
            ..exchange.clone()
        }
    }
}

impl Handler for Near {
    fn handle(&self, request: Request) -> Answer<'_> {
        match self.shared.end(&request.exchange.zone) {
            Some(known) => Box::pin(async move { self.answer(&known, request).await }),
            None => self.next.handle(request),
        }
    }
}

/// An answer without the hop's word must be one that the client can read: in no coding that it did
/// not list, and no 304 that it did not ask for.
fn understood(response: &Response, asked: &HeaderMap) -> bool {
    let accepted = Accepted::of(asked);
    // What only the hop asked for is nothing to a client that does not list it by name, whatever
    // else it takes.
    let hops = codings::codings(&response.head.headers).any(|coding| {
        hop::CODINGS.contains(&coding.as_str()) && accepted.listed(&coding).is_none_or(|weight| weight == 0)
    });
    let coded = hops || !accepted.admits(&response.head.headers);
    let conditions = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
    let expected =
        response.head.status != StatusCode::NOT_MODIFIED || conditions.iter().any(|name| asked.contains_key(name));
    !coded && expected
}

/// Whether a client takes nothing that the origin has not confirmed now (RFC 9111 sections 5.2.1.4
/// and 5.4).
fn insists(asked: &HeaderMap) -> bool {
    let says = |name: header::HeaderName| {
        asked.get_all(name).iter().any(|line| {
            line.as_bytes()
                .split(|b| *b == b',')
                .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
        })
    };
    says(header::CACHE_CONTROL) || !asked.contains_key(header::CACHE_CONTROL) && says(header::PRAGMA)
}

fn set_length(headers: &mut HeaderMap, length: u64) {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// What making an answer of the hop's content takes.
struct Restoring<'a> {
    near: &'a Near,
    known: &'a Known,
    /// When the far end was asked.
    started: Instant,
    asked: &'a HeaderMap,
    place: &'a Place,
    base: Option<&'a Base>,
}

impl Restoring<'_> {
    async fn restore(&self, mut response: Response, content: &Content) -> Tried {
        let shared = &self.near.shared;
        let status = match content.coding {
            Coding::Same => StatusCode::NOT_MODIFIED,
            _ => StatusCode::OK,
        };
        let fits = response.head.status == status;
        let base = self.base.map(|base| &base.version);
        let decoder = match (content.coding, base) {
            _ if !fits => None,
            (Coding::Same, Some(base)) => return self.same(response, content, base),
            (Coding::Same, None) => None,
            (Coding::Dcz, Some(base)) => Decoder::dcz(base, content.length).ok().map(Some),
            (Coding::Dcz, None) => None,
            (Coding::Zstd, _) => Decoder::zstd(content.length).ok().map(Some),
            (Coding::Identity, _) => Some(None),
        };
        let Some(decoder) = decoder else {
            shared.metrics.mismatch(Mismatch::Head);
            return Tried::Wrong;
        };
        let proved = self.keeps(content, &response.head.headers);
        let body = std::mem::take(&mut response.body);
        let first =
            content.length <= PROVED_FIRST_WHOLE || content.coding == Coding::Dcz && content.length <= PROVED_FIRST;
        let decoder = if first {
            decoder.map(Decoder::in_one_piece)
        } else {
            decoder
        };
        let restored = Restored::new(body, content, decoder, proved, shared.metrics.clone());
        response.body = if first {
            match restored.whole().await {
                Ok(bytes) => bytes.into(),
                Err(_) => return Tried::Wrong,
            }
        } else {
            // The decoder's window, and the copy that is kept when all has proved right.
            let said = response.head.extensions.get().map_or(0, |ReadAhead(bytes)| *bytes);
            let ahead = ReadAhead(said.saturating_add(content.length.min(DECODED)));
            response.head.extensions.insert(ahead);
            Body::boxed(restored)
        };
        set_length(&mut response.head.headers, content.length);
        Tried::Answer(Box::new(response))
    }

    /// The version that was named is the current one.
    fn same(&self, mut response: Response, content: &Content, base: &Dictionary) -> Tried {
        let shared = &self.near.shared;
        let bytes = base.content();
        if base.digest() != content.digest || bytes.len() as u64 != content.length {
            shared.metrics.mismatch(Mismatch::Digest);
            return Tried::Wrong;
        }
        shared.metrics.outcome(Outcome::Coded(Coding::Same));
        shared.metrics.bytes(Coding::Same, 0, content.length);
        if let Some(keep) = self.keeps(content, &response.head.headers) {
            keep(bytes.clone());
        }
        response.head.status = StatusCode::OK;
        response.body = bytes.clone().into();
        set_length(&mut response.head.headers, content.length);
        Tried::Answer(Box::new(response))
    }

    /// What keeps the version once it is proved, where it may be kept.
    fn keeps(&self, content: &Content, given: &HeaderMap) -> Option<Proved> {
        let shared = &self.near.shared;
        let terms = Terms::of(given);
        let keep = terms.keep(Shown::by(self.asked), self.known.end.keep_no_store);
        if !content.keep || keep == Keep::Not || content.length > shared.most || content.length == 0 {
            return None;
        }
        let spare = terms.stale_if_error().filter(|_| keep == Keep::Shared).map(|lasts| {
            let mut headers = given.clone();
            // A cookie is for who got it, not for who is given the same content later.
            headers.remove(header::SET_COOKIE);
            Arc::new(Spare {
                headers,
                asked: self.started,
                came: Instant::now(),
                for_authorized: terms.for_authorized(),
                lasts,
            })
        });
        let (shared, place, digest) = (shared.clone(), *self.place, content.digest);
        let (asked, given) = (self.asked.clone(), given.clone());
        Some(Box::new(move |bytes| {
            let version = Dictionary::with_digest(bytes, digest);
            shared.bases.put(&place, keep, &asked, &given, Base { version, spare });
        }))
    }
}
