//! The room's handler: hands a request on without what it says of codings, and codes the answer as
//! this client takes it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use prometheus_client::registry::Registry;

use super::super::codec::{self, DCB, DCZ, Dictionary, Level};
use super::super::coding::negotiate;
use super::super::coding::shelf::{Label, Shelf};
use super::super::coding::stream::{Coded, Effort, Encoder};
use super::super::digest::{AVAILABLE_DICTIONARY, Digest};
use super::held::{self, Held, Learning};
use super::metrics::{Metrics, Offer};
use super::rules;
use crate::base::ledger::{Charge, Kind};
use crate::config::Origin;
use crate::config::coding::{Coding, Encoding, Node};
use crate::http::body::Body;
use crate::http::codings::{self, Accepted};
use crate::http::door::Head;
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{ContentName, Exchange, Payer, Request, Response};

/// Coded on the worker itself; longer content goes to a thread for blocking work.
const INLINE: usize = 128 << 10;
const ACCEPT_ENCODING: &str = "accept-encoding";
const AVAILABLE: &str = "available-dictionary";

/// What the workers share.
pub struct Shared {
    held: Arc<Held>,
    shelf: Arc<Shelf>,
    metrics: Metrics,
}

impl Shared {
    /// With room as the file says.
    pub fn new(node: &Node, registry: &mut Registry) -> Arc<Self> {
        Arc::new(Self {
            held: Held::new(node.dictionaries),
            shelf: Shelf::new(node.memory),
            metrics: Metrics::register(registry),
        })
    }

    /// Sets the gauges; once a second.
    pub fn tick(&self) {
        self.metrics.set(self.held.usage(), self.shelf.usage());
    }
}

/// The room's handler, of one worker.
pub struct Browsers {
    shared: Arc<Shared>,
    next: Arc<dyn Handler>,
}

impl Browsers {
    /// Codes the answers of `next`.
    pub fn new(shared: Arc<Shared>, next: Arc<dyn Handler>) -> Self {
        Self { shared, next }
    }
}

impl Handler for Browsers {
    fn handle(&self, request: Request) -> Answer<'_> {
        let Some(zone) = request.exchange.zone.coding.clone() else {
            return self.next.handle(request);
        };
        let plain =
            matches!(request.head.method, Method::GET | Method::HEAD | Method::POST) && !request.head.upgrades();
        let ours = !zone.encodings.is_empty() || rules::uses(&zone, request.head.uri.path()).next().is_some();
        if !plain || !ours {
            return Box::pin(self.untouched(zone, request));
        }
        Box::pin(self.coded(zone, request))
    }
}

/// The request as the client sent it, as far as it decides about coding.
struct Asked {
    head: Head,
    exchange: Exchange,
    accepted: Accepted,
    available: Option<Digest>,
}

impl Asked {
    fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Whose account it is that content is gathered on.
    fn payer(&self) -> Option<&Payer> {
        self.head.extensions.get()
    }
}

impl Browsers {
    /// Not to be coded; it may still be a dictionary, or name one.
    async fn untouched(&self, zone: Arc<Coding>, request: Request) -> Result<Response, Failure> {
        let asked = asked(&request);
        let mut response = self.next.handle(request).await?;
        let identity = !response.head.headers.contains_key(header::CONTENT_ENCODING);
        if asked.head.method == Method::GET && response.head.status == StatusCode::OK && identity {
            self.teach(&zone, &asked, &mut response);
        }
        Ok(response)
    }

    async fn coded(&self, zone: Arc<Coding>, mut request: Request) -> Result<Response, Failure> {
        let asked = asked(&request);
        let headers = &mut request.head.headers;
        for name in [AVAILABLE_DICTIONARY, rules::DICTIONARY_ID] {
            headers.remove(name);
        }
        // The answer is coded here; a variant for each coding would only fill the cache. But for
        // files that are there in codings.
        let zone_of = &asked.exchange.zone;
        let coded = matches!(zone_of.origin, Origin::Directory(_)) && !zone_of.files.precompressed.is_empty();
        if !coded {
            headers.remove(header::ACCEPT_ENCODING);
        }
        let ranged = headers.contains_key(header::RANGE);
        let mut response = self.next.handle(request).await?;
        let uses = rules::uses(&zone, asked.path()).next().is_some();
        let names = varies(uses, &asked, &response);
        let names = &names;
        if !asked.accepted.admits(&response.head.headers) {
            // The origin was asked for no coding: its bytes would be noise to this client, and to
            // all after it.
            let mut failure = Failure::new(
                Reason::OriginMalformed,
                "the content is in a coding that neither the client nor the edge asked for",
            );
            failure.attempts = response.report.attempts;
            return Err(failure);
        }
        if response.head.status == StatusCode::NOT_MODIFIED {
            // Its tag must be that of what the client has: ours are weak where they were coded.
            let weak = asked.head.headers.get(header::IF_NONE_MATCH);
            if weak.is_some_and(|list| list.as_bytes().starts_with(b"W/")) {
                negotiate::weaken(&mut response.head.headers);
            }
            negotiate::vary(&mut response.head.headers, names);
            return Ok(response);
        }
        if asked.head.method == Method::GET && response.head.status == StatusCode::OK {
            self.teach(&zone, &asked, &mut response);
        }
        if !negotiate::codable(&response.head, &zone) {
            if response.head.status == StatusCode::PARTIAL_CONTENT && negotiate::shrinks(&response.head.headers, &zone)
            {
                negotiate::vary(&mut response.head.headers, names);
            }
            return Ok(response);
        }
        negotiate::vary(&mut response.head.headers, names);
        // A range is of what a request without it would get, and that is not the same for all.
        if ranged || length(&response).is_some_and(|n| n < zone.min_bytes) {
            return Ok(response);
        }
        if asked.head.method == Method::GET && uses && asked.available.is_some() {
            let offer = self.difference(&zone, &asked, &mut response).await?;
            self.shared.metrics.offer(offer);
            if offer == Offer::Used {
                return Ok(response);
            }
        }
        match asked.accepted.choose(&zone.encodings) {
            Some(encoding) => Ok(self.ordinary(encoding, &asked, response)),
            None => Ok(response),
        }
    }

    /// Says that the response is a dictionary, and keeps it as one.
    fn teach(&self, zone: &Coding, asked: &Asked, response: &mut Response) {
        let fields = &mut response.head.headers;
        let html = fields
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        for rule in zone.dictionaries.iter().filter(|_| html) {
            if rule
                .link_from
                .as_deref()
                .is_some_and(|from| rules::covers(from, asked.path()))
                && let Some(link) = rules::link(rule)
            {
                fields.append(header::LINK, link);
            }
        }
        let Some(rule) = rules::source(zone, asked.path()) else {
            return;
        };
        let name = response.head.extensions.get::<ContentName>().copied();
        let private = rules::private(&asked.head.headers, fields, name.is_some());
        if private && !rule.private || !rules::keepable(fields) || fields.contains_key(header::CONTENT_ENCODING) {
            return;
        }
        if response.body.size_hint().lower() > held::MOST || asked.head.uri.query().is_some() && name.is_none() {
            return;
        }
        let Some(announcement) = rules::announcement(rule) else {
            return;
        };
        fields.insert(rules::USE_AS_DICTIONARY, announcement);
        match &response.body {
            Body::Full(content) if content.len() <= INLINE => {
                self.shared.held.learn(&asked.exchange, name, content.clone());
            }
            Body::Full(content) => {
                let (held, exchange, content) = (self.shared.held.clone(), asked.exchange.clone(), content.clone());
                tokio::task::spawn_blocking(move || held.learn(&exchange, name, content));
            }
            _ => {
                let body = std::mem::take(&mut response.body);
                let exchange = asked.exchange.clone();
                let learning = Learning::new(body, self.shared.held.clone(), exchange, asked.payer());
                response.body = Body::boxed(learning);
            }
        }
    }

    /// Answers with what changed against the dictionary that the browser has, where that is allowed
    /// and helps.
    async fn difference(&self, zone: &Coding, asked: &Asked, response: &mut Response) -> Result<Offer, Failure> {
        let Some(digest) = asked.available else {
            return Ok(Offer::Unknown);
        };
        let [z, b] = [DCZ, DCB].map(|coding| asked.accepted.weight(coding));
        if z == 0 && b == 0 {
            return Ok(Offer::Refused);
        }
        let headers = &asked.head.headers;
        let name = response.head.extensions.get::<ContentName>().copied();
        let private = rules::private(headers, &response.head.headers, name.is_some());
        let id = rules::id(headers);
        let allowed = rules::uses(zone, asked.path())
            .any(|rule| (rule.private || !private) && id.is_none_or(|id| rule.id.as_deref() == Some(id)));
        if !allowed || !rules::readable(headers, &response.head.headers) {
            return Ok(Offer::Refused);
        }
        let Some(dictionary) = self.shared.held.get(&asked.exchange, digest) else {
            return Ok(Offer::Unknown);
        };
        let Some((content, _charge)) = at_hand(response, asked.payer()).await? else {
            return Ok(Offer::Refused);
        };
        // dcb's window is smaller: it is for who takes nothing else.
        let coding = if z >= b { DCZ } else { DCB };
        let coded = self.encoded(coding, name, &dictionary, &content).await;
        if coded.is_empty() || coded.len() >= content.len() {
            return Ok(Offer::Useless);
        }
        let metrics = self.shared.metrics.coded(coding, Some(content.len() as u64));
        metrics.responses.inc();
        metrics.sent.inc_by(coded.len() as u64);
        negotiate::mark(&mut response.head.headers, coding);
        set_length(response, coded.len());
        response.body = coded.into();
        Ok(Offer::Used)
    }

    /// `content` as a difference; empty where there is none.
    async fn encoded(
        &self,
        coding: &'static str,
        name: Option<ContentName>,
        dictionary: &Dictionary,
        content: &Bytes,
    ) -> Bytes {
        let label = name.map(|content| Label {
            content,
            coding,
            dictionary: Some(dictionary.digest()),
        });
        if let Some(known) = label.and_then(|label| self.shared.shelf.get(&label)) {
            return known;
        }
        let (base, input) = (dictionary.clone(), content.clone());
        let make = move |level| {
            let made = if coding == DCZ {
                codec::dcz::encode(level, &base, &input)
            } else {
                codec::dcb::encode(level, &base, &input)
            };
            made.ok().filter(|coded| coded.len() < input.len())
        };
        let now = make.clone();
        let made = if content.len() <= INLINE {
            now(Level::Now)
        } else {
            tokio::task::spawn_blocking(move || now(Level::Now))
                .await
                .unwrap_or(None)
        };
        let coded: Bytes = made.unwrap_or_default().into();
        if let Some(label) = label {
            self.shared.shelf.put(label, coded.clone());
            self.shared.shelf.order(label, move || make(Level::Later));
        }
        coded
    }

    /// An ordinary coding: from the shelf, or as the content passes.
    fn ordinary(&self, encoding: Encoding, asked: &Asked, mut response: Response) -> Response {
        let coding = codings::token(encoding);
        let known = length(&response);
        if asked.head.method == Method::HEAD {
            negotiate::mark(&mut response.head.headers, coding);
            return response;
        }
        let label = response.head.extensions.get::<ContentName>().map(|content| Label {
            content: *content,
            coding,
            dictionary: None,
        });
        if let (Some(label), Body::Full(content)) = (label, &response.body) {
            match self.shared.shelf.get(&label) {
                Some(coded) if coded.is_empty() => return response,
                Some(coded) => {
                    let metrics = self.shared.metrics.coded(coding, known);
                    metrics.responses.inc();
                    metrics.sent.inc_by(coded.len() as u64);
                    negotiate::mark(&mut response.head.headers, coding);
                    set_length(&mut response, coded.len());
                    response.body = coded.into();
                    return response;
                }
                None => {
                    let content = content.clone();
                    self.shared.shelf.order(label, move || {
                        let coded = Encoder::whole(encoding, Effort::Kept, &content).ok()?;
                        Some(if coded.len() < content.len() { coded } else { Vec::new() })
                    });
                }
            }
        }
        // Nothing to code, or no memory for it: as it is.
        if response.body.is_end_stream() {
            return response;
        }
        let Ok(encoder) = Encoder::new(encoding, Effort::Passing) else {
            return response;
        };
        let metrics = self.shared.metrics.coded(coding, known);
        metrics.responses.inc();
        negotiate::mark(&mut response.head.headers, coding);
        response.body = Body::boxed(Coded::new(response.body, encoder, metrics.sent));
        response
    }
}

/// What decides how a response is coded (RFC 9110 section 12.5.5). With a dictionary at hand that
/// is also what [`rules::readable`] and [`rules::id`] read: a cache in front must not give a
/// cross-site reader what they withhold.
fn varies(uses: bool, asked: &Asked, response: &Response) -> Vec<&'static str> {
    let mut names = vec![ACCEPT_ENCODING];
    if uses {
        names.push(AVAILABLE);
    }
    if uses && asked.available.is_some() {
        names.extend(["dictionary-id", "sec-fetch-site", "sec-fetch-mode"]);
        let allowed = response.head.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        if allowed.is_some_and(|allowed| allowed != "*") {
            names.push("origin");
        }
    }
    names
}

fn asked(request: &Request) -> Asked {
    Asked {
        accepted: Accepted::of(&request.head.headers),
        available: Digest::available(&request.head.headers),
        head: request.head.clone(),
        exchange: request.exchange.clone(),
    }
}

/// The content's length, where it is known: of a HEAD's answer as it was told.
fn length(response: &Response) -> Option<u64> {
    let told = response.head.headers.get(header::CONTENT_LENGTH);
    match told {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => response.body.size_hint().exact(),
    }
}

fn set_length(response: &mut Response, length: usize) {
    let name: HeaderName = header::CONTENT_LENGTH;
    response.head.headers.insert(name, HeaderValue::from(length));
}

/// The whole content, if it is short enough to be waited for, and the client's account has room for
/// it; it stays the response's. What is gathered is charged until the difference is made.
async fn at_hand(response: &mut Response, payer: Option<&Payer>) -> Result<Option<(Bytes, Option<Charge>)>, Failure> {
    if let Body::Full(content) = &response.body {
        return Ok(Some((content.clone(), None)));
    }
    let length = response.body.size_hint().exact();
    let Some(length) = length.filter(|n| *n > 0 && *n <= held::MOST) else {
        return Ok(None);
    };
    let charge = match payer {
        None => None,
        Some(Payer(holder)) => match holder.charge(Kind::Dictionaries, None, length) {
            None => return Ok(None),
            charge => charge,
        },
    };
    let body = std::mem::take(&mut response.body);
    let content = body.collect().await.map_err(|error| {
        let mut failure = Failure::new(Reason::OriginMalformed, error.to_string());
        failure.attempts = response.report.attempts;
        failure
    })?;
    let content = content.to_bytes();
    response.body = content.clone().into();
    Ok(Some((content, charge)))
}

#[cfg(test)]
mod tests;
