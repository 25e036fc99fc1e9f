//! One request's way: the store, another request's response, or the origin and what becomes of its answer.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{Cache as Table, CacheBuilder};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Uri, request, response};

use super::bans::{self, Ban};
use super::directives::Wishes;
use super::fill::{Fill, Outcome as Filled};
use super::flight::{self, Flights, Landing, Pilot, Seat};
use super::metrics::{Kept, Outcome, ZoneMetrics};
use super::purge::{Purge, Unsound};
use super::resource::{self, BodyId, Variant};
use super::reuse::{self, Reuse};
use super::serve::{self, Content, Forward, Told};
use super::store::Store;
use super::worth::{self, Heuristic, Seen};
use crate::base::clock::UnixTime;
use crate::config::cache::Cache as Zone;
use crate::http::body::Body;
use crate::http::handler::{Answer, Failure, Fault, Handler};
use crate::http::message::{Exchange, Report, Request, Response};
use crate::zones::Zones;

/// URLs whose responses turned out not to be storable, at most.
const REFUSALS: usize = 65_536;
/// So often a request looks again after it waited for another one.
const MOST_LOOKS: usize = 4;

/// What the workers' caches share.
pub struct Shared {
    store: Arc<Store>,
    flights: Arc<Flights>,
    /// By hash: the URLs are strangers', and may be long.
    refusals: Table<u64, UnixTime>,
    hasher: RandomState,
}

/// Why a purge was not carried out in full.
#[derive(Debug, thiserror::Error)]
pub enum NotPurged {
    /// It means nothing.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// It is in force, but may be forgotten at the next start.
    #[error("purged, but the purge could not be written down ({0}): after a restart it may come back")]
    NotWritten(#[source] io::Error),
}

impl Shared {
    /// Around a store.
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            flights: Arc::default(),
            refusals: CacheBuilder::new(REFUSALS).with_shards(8).build(),
            hasher: RandomState::new(),
        })
    }

    /// Carries out an operator's purge: when it returns, nothing that was stored or on its way before is served any more.
    ///
    /// # Errors
    /// As [`NotPurged`] says.
    pub fn purge(&self, purge: Purge<'_>, zones: &Zones) -> Result<(), NotPurged> {
        let by_host = |host: &str| zones.find(host).map(|zone| zone.name.to_string());
        let exists = |name: &str| zones.all().iter().any(|zone| &*zone.name == name);
        let ban = purge.ban(by_host, exists)?;
        let done = self.store.purge(ban, UnixTime::now(), true);
        done.map_err(NotPurged::NotWritten)
    }

    /// Sets the gauges; once a second.
    pub fn tick(&self) {
        self.store.tick();
    }

    fn refused(&self, key: &str, now: UnixTime) -> bool {
        let known = self.refusals.get(&self.hasher.hash_one(key));
        known.is_some_and(|entry| now.since(*entry.value()) < serve::REFUSAL)
    }

    fn refuse(&self, key: &str, now: UnixTime) {
        drop(self.refusals.insert(self.hasher.hash_one(key), now));
    }

    fn welcome(&self, key: &str) {
        drop(self.refusals.remove(&self.hasher.hash_one(key)));
    }

    /// An unsafe request has succeeded: what is stored of the URL is out of date (RFC 9111 section 4.4).
    fn invalidate(&self, key: String) {
        let known = self.store.may_have(&key) || self.flights.has(&key);
        if known && let Err(error) = self.store.purge(Ban::Url(key), UnixTime::now(), false) {
            tracing::warn!(target: "edge::cache", %error, "an invalidation was not written down");
        }
    }
}

/// The room's handler, of one worker: `next` behind the store.
pub struct Cache(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    next: Arc<dyn Handler>,
}

impl Cache {
    /// Puts the store in front of `next`.
    pub fn new(shared: Arc<Shared>, next: Arc<dyn Handler>) -> Self {
        Self(Arc::new(Inner { shared, next }))
    }
}

impl Handler for Cache {
    fn handle(&self, request: Request) -> Answer<'_> {
        let Some(zone) = request.exchange.zone.cache.clone() else {
            return self.0.next.handle(request);
        };
        Box::pin(async move {
            let plain = matches!(request.head.method, Method::GET | Method::HEAD)
                && matches!(request.body, Body::Empty)
                && !request.head.headers.contains_key(header::UPGRADE);
            if plain {
                self.0.clone().cached(zone, request).await
            } else {
                self.0.other(&zone, request).await
            }
        })
    }
}

/// One request and what is known for all its steps.
struct Course {
    key: String,
    zone: Arc<Zone>,
    wishes: Wishes,
    metrics: Arc<ZoneMetrics>,
    /// As the client sent it.
    head: request::Parts,
    exchange: Exchange,
}

impl Course {
    fn request(&self) -> Request {
        Request {
            head: self.head.clone(),
            body: Body::Empty,
            exchange: self.exchange.clone(),
        }
    }

    fn heuristic(&self) -> Heuristic {
        Heuristic {
            percent: self.zone.heuristic_percent,
            most: self.zone.heuristic_most.as_secs(),
        }
    }

    fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// A request for a part, or with conditions: when nothing is stored, its answer says nothing about the whole.
    fn is_partial(&self) -> bool {
        [
            header::RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ]
        .iter()
        .any(|name| self.head.headers.contains_key(name))
    }

    /// The answer made of something stored, or being stored.
    fn serve(&self, variant: &Variant, content: Content, now: UnixTime, outcome: Outcome, mut told: Told) -> Response {
        let content = if self.is_head() { Content::None } else { content };
        if let Content::Stored(bytes) = &content {
            self.metrics.served.inc_by(bytes.len() as u64);
        }
        let mut response = serve::answer(&self.head, variant, content, now, outcome);
        if self.zone.status_field {
            told.ttl = Some(serve::ttl(variant, now));
            told.write(&mut response.head.headers);
        }
        self.metrics.outcome(outcome);
        response
    }

    /// A response of the origin's that goes on as it is.
    fn pass(&self, mut response: Response, outcome: Outcome, forward: Forward) -> Response {
        if self.zone.status_field {
            let told = Told {
                forward: Some(forward),
                status: Some(response.head.status),
                ..Told::default()
            };
            told.write(&mut response.head.headers);
        }
        response.report.cache = Some(outcome.label());
        self.metrics.outcome(outcome);
        response
    }
}

impl Inner {
    /// What is not answered from the store.
    async fn other(&self, zone: &Zone, request: Request) -> Result<Response, Failure> {
        let metrics = self.shared.store.metrics().zone(&request.exchange.zone.name);
        let method = request.head.method.clone();
        let key = resource::key(&request.exchange, &request.head);
        let mut response = self.next.handle(request).await?;
        let safe = matches!(method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        if !safe && (response.head.status.is_success() || response.head.status.is_redirection()) {
            for name in [header::LOCATION, header::CONTENT_LOCATION] {
                if let Some(other) = response
                    .head
                    .headers
                    .get(name)
                    .and_then(|v| sibling(&key, v.to_str().ok()?))
                {
                    self.shared.invalidate(other);
                }
            }
            self.shared.invalidate(key);
        }
        if zone.status_field {
            let told = Told {
                forward: Some(if safe { Forward::Bypass } else { Forward::Method }),
                ..Told::default()
            };
            told.write(&mut response.head.headers);
        }
        response.report.cache = Some(Outcome::Bypass.label());
        metrics.outcome(Outcome::Bypass);
        Ok(response)
    }

    async fn cached(self: Arc<Self>, zone: Arc<Zone>, request: Request) -> Result<Response, Failure> {
        let wishes = if zone.obey_requests {
            Wishes::of(&request.head.headers)
        } else {
            Wishes::default()
        };
        let course = Course {
            key: resource::key(&request.exchange, &request.head),
            metrics: self.shared.store.metrics().zone(&request.exchange.zone.name),
            zone,
            wishes,
            head: request.head,
            exchange: request.exchange,
        };
        // What cannot be purged is not stored.
        if wishes.no_store || !bans::sound(&course.key) {
            let response = self.next.handle(course.request()).await?;
            return Ok(course.pass(response, Outcome::Bypass, Forward::Request));
        }
        for look in 0..MOST_LOOKS {
            let now = UnixTime::now();
            let (stored, forward) = match self.look(&course, now).await {
                Look::Answered(response) => return Ok(response),
                Look::Forward(stored, forward) => (stored, forward),
            };
            if course.wishes.only_if_cached {
                let response = Response::new(StatusCode::GATEWAY_TIMEOUT, Body::Empty);
                return Ok(course.pass(response, Outcome::Miss, forward));
            }
            let joins = !course.zone.coalesce.is_zero()
                && !course.is_head()
                && (stored.is_some() || !course.is_partial())
                && forward != Forward::Bypass
                && look + 1 < MOST_LOOKS
                && !self.shared.refused(&course.key, now);
            if !joins {
                return self.fly(&course, None, stored, forward).await;
            }
            let landing = match self.shared.flights.join(&course.key) {
                Seat::Pilot(pilot) => return self.fly(&course, Some(pilot), stored, forward).await,
                Seat::Passenger(receiver) => flight::wait(receiver, course.zone.coalesce).await,
            };
            match landing {
                Some(Landing::Stored | Landing::Gone) => {}
                Some(Landing::Streaming(variant, fill)) => {
                    let usable = variant.matches(&course.head.headers)
                        && reuse::judge(&variant, &course.head.headers, &course.wishes, &course.zone, now)
                            == Reuse::Fresh;
                    if !usable {
                        return self.fly(&course, None, stored, forward).await;
                    }
                    let content = Content::Streamed {
                        fill,
                        first: false,
                        announced: true,
                    };
                    let told = Told {
                        forward: Some(forward),
                        collapsed: true,
                        ..Told::default()
                    };
                    return Ok(course.serve(&variant, content, UnixTime::now(), Outcome::Coalesced, told));
                }
                Some(Landing::Failed(reason, detail)) => {
                    let failure = Failure::new(reason, &*detail);
                    return self.failed(&course, stored, failure);
                }
                Some(Landing::Alone) | None => return self.fly(&course, None, stored, forward).await,
            }
        }
        self.fly(&course, None, None, Forward::Bypass).await
    }

    /// Asks the store.
    async fn look(self: &Arc<Self>, course: &Course, now: UnixTime) -> Look {
        let headers = &course.head.headers;
        let Some(resource) = self.shared.store.find(&course.key).await else {
            return Look::Forward(None, Forward::UriMiss);
        };
        let Some(variant) = resource.select(headers) else {
            return Look::Forward(None, Forward::VaryMiss);
        };
        let reuse = reuse::judge(variant, headers, &course.wishes, &course.zone, now);
        if reuse == Reuse::Never {
            return Look::Forward(None, Forward::Bypass);
        }
        let body = if course.is_head() && reuse != Reuse::Validate {
            Some(Bytes::new())
        } else {
            self.shared.store.body(variant).await
        };
        let Some(body) = body else {
            return Look::Forward(None, Forward::UriMiss);
        };
        let outcome = match reuse {
            Reuse::Fresh => Outcome::Hit,
            Reuse::Stale => Outcome::Stale,
            Reuse::Revalidating => {
                self.clone().revalidate(course, variant, &body);
                Outcome::Stale
            }
            Reuse::Validate | Reuse::Never => {
                let fresh = serve::ttl(variant, now) > 0 && !variant.worth.directives.no_cache;
                let forward = if fresh { Forward::Request } else { Forward::Stale };
                return Look::Forward(Some((variant.clone(), body)), forward);
            }
        };
        Look::Answered(course.serve(variant, Content::Stored(body), now, outcome, Told::default()))
    }

    /// Validates a stale response behind its client's back (RFC 5861 section 3), unless somebody does so already.
    fn revalidate(self: Arc<Self>, course: &Course, variant: &Variant, body: &Bytes) {
        let Seat::Pilot(pilot) = self.shared.flights.join(&course.key) else {
            return;
        };
        course.metrics.background.inc();
        let mut head = course.head.clone();
        head.method = Method::GET;
        head.extensions.clear();
        let behind = Course {
            key: course.key.clone(),
            zone: course.zone.clone(),
            wishes: Wishes::default(),
            metrics: course.metrics.clone(),
            head,
            exchange: course.exchange.clone(),
        };
        let stored = (variant.clone(), body.clone());
        tokio::spawn(async move {
            // Whatever comes of it is in the store; nobody waits for the answer.
            drop(self.fly(&behind, Some(pilot), Some(stored), Forward::Stale).await);
        });
    }

    /// Goes to the origin. `stored`: what would answer if it is confirmed. `pilot`: others wait for it.
    async fn fly(
        &self,
        course: &Course,
        mut pilot: Option<Pilot>,
        stored: Option<(Variant, Bytes)>,
        forward: Forward,
    ) -> Result<Response, Failure> {
        let mut request = course.request();
        if let Some((variant, _)) = &stored
            && !course.is_head()
        {
            serve::validation(&mut request.head, variant);
        }
        // Conditions that are not ours: the answer is the client's alone.
        let whole = stored.is_some() || !course.is_partial();
        let asked = UnixTime::now();
        let mut response = match self.next.handle(request).await {
            Ok(response) => response,
            Err(failure) => {
                if let Some(pilot) = pilot.take() {
                    pilot.close(Landing::Failed(failure.reason, failure.detail.as_str().into()));
                }
                return self.failed(course, stored, failure);
            }
        };
        let came = UnixTime::now();
        let status = response.head.status;
        if matches!(status.as_u16(), 500 | 502 | 503 | 504)
            && let Some((variant, body)) = &stored
            && reuse::instead_of_error(variant, &course.wishes, &course.zone, came)
        {
            if let Some(pilot) = pilot.take() {
                pilot.close(Landing::Alone);
            }
            return Ok(stale(course, variant, body, came, Some(status)));
        }
        if course.is_head() {
            self.compare(course, stored.map(|(variant, _)| variant), &response.head, asked, came)
                .await;
            return Ok(course.pass(response, Outcome::Miss, forward));
        }
        let stored = match stored {
            Some((variant, body)) if status == StatusCode::NOT_MODIFIED => {
                return Ok(self
                    .confirmed(course, pilot, variant, body, response, asked, came)
                    .await);
            }
            other => other,
        };
        let outcome = if stored.is_some() {
            Outcome::Expired
        } else {
            Outcome::Miss
        };
        let seen = Seen {
            request: &course.head.headers,
            status,
            fields: &response.head.headers,
            asked,
            came,
        };
        let worth = if whole || !matches!(status.as_u16(), 206 | 304 | 412 | 416) {
            worth::judge(&seen, course.heuristic())
        } else {
            None
        };
        let length = announced(&response);
        let vary = resource::selectors(&response.head.headers, &course.head.headers);
        let (Some(worth), Some(vary), false) = (worth, vary, length.is_some_and(|n| n > course.zone.object_bytes))
        else {
            let kept = match length {
                Some(n) if n > course.zone.object_bytes => Kept::TooLarge,
                _ => Kept::Uncacheable,
            };
            course.metrics.kept(kept);
            if whole {
                // What was stored is no longer what the origin says.
                if let Some((variant, _)) = stored.filter(|_| !status.is_server_error()) {
                    self.shared.store.drop_variant(&course.key, variant.body).await;
                }
                self.shared.refuse(&course.key, came);
            }
            if let Some(pilot) = pilot.take() {
                pilot.close(Landing::Alone);
            }
            return Ok(course.pass(response, outcome, forward));
        };
        let mut fields = std::mem::take(&mut response.head.headers);
        let others = fields.get("cache-status").cloned();
        resource::strip(&mut fields, &worth.directives);
        // Otherwise each answer from the store would get the date of its own (RFC 9110 section 6.6.1).
        if !fields.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(came.into()))
        {
            fields.insert(header::DATE, date);
        }
        let variant = Variant {
            status,
            fields,
            vary,
            body: BodyId(super::random()),
            length: length.unwrap_or(0),
            asked,
            came,
            worth,
        };
        if let Some((old, _)) = &stored
            && old.vary != variant.vary
        {
            self.shared.store.drop_variant(&course.key, old.body).await;
        }
        let told = Told {
            forward: Some(forward),
            status: Some(status),
            stored: true,
            ..Told::default()
        };
        let report = std::mem::take(&mut response.report);
        let (variant, content) = self.keep(course, pilot, variant, length, response.body).await;
        let mut answer = course.serve(&variant, content, came, outcome, told);
        if let Some(others) = others {
            let own = answer.head.headers.insert("cache-status", others);
            if let Some(own) = own {
                answer.head.headers.append("cache-status", own);
            }
        }
        answer.report = Report {
            cache: answer.report.cache,
            ..report
        };
        Ok(answer)
    }

    /// Stores a response: at once, if it is at hand, else as it comes.
    async fn keep(
        &self,
        course: &Course,
        pilot: Option<Pilot>,
        mut variant: Variant,
        length: Option<u64>,
        body: Body,
    ) -> (Arc<Variant>, Content) {
        let store = &self.shared.store;
        let fresh = variant.worth.lifetime > variant.worth.age && !variant.worth.directives.no_cache;
        let landing = if fresh { Landing::Stored } else { Landing::Alone };
        let at_hand = match &body {
            Body::Empty => Some(Bytes::new()),
            Body::Full(bytes) => Some(bytes.clone()),
            _ => None,
        };
        if let Some(bytes) = at_hand {
            let sound = length.is_none_or(|n| n == bytes.len() as u64);
            if sound && bytes.len() as u64 <= course.zone.object_bytes {
                variant.length = bytes.len() as u64;
                store.put(&course.key, variant.clone(), bytes.clone()).await;
                self.shared.welcome(&course.key);
                course.metrics.kept(Kept::Stored);
            }
            if let Some(pilot) = pilot {
                pilot.close(if sound { landing } else { Landing::Alone });
            }
            return (Arc::new(variant), Content::Stored(bytes));
        }
        let variant = Arc::new(variant);
        let fill = Arc::new(Fill::default());
        let mut room = store.room();
        let roomy = room.grow(length.unwrap_or(0));
        if let (Some(pilot), Some(_), true, true) = (&pilot, length, fresh, roomy) {
            pilot.land(Landing::Streaming(variant.clone(), fill.clone()));
        }
        let content = Content::Streamed {
            fill: fill.clone(),
            first: true,
            announced: length.is_some(),
        };
        let (shared, metrics) = (self.shared.clone(), course.metrics.clone());
        let (key, most) = (course.key.clone(), course.zone.object_bytes);
        let stored = variant.clone();
        // On this worker: the origin's connection lives here.
        tokio::spawn(async move {
            let filled = fill.drive(body, length, most, &mut room).await;
            fill.hold(room);
            let (kept, landing) = match filled {
                Filled::Whole(bytes) => {
                    let variant = Variant {
                        length: bytes.len() as u64,
                        ..Variant::clone(&stored)
                    };
                    shared.store.put(&key, variant, bytes).await;
                    shared.welcome(&key);
                    (Kept::Stored, landing)
                }
                Filled::Broken => (Kept::Broken, Landing::Alone),
                Filled::TooLarge => (Kept::TooLarge, Landing::Alone),
                Filled::NoRoom => (Kept::NoRoom, Landing::Alone),
            };
            metrics.kept(kept);
            if kept != Kept::Stored {
                shared.refuse(&key, UnixTime::now());
            }
            if let Some(pilot) = pilot {
                pilot.close(landing);
            }
        });
        (variant, content)
    }

    /// The origin says that what is stored is still right.
    #[expect(clippy::too_many_arguments, reason = "one step of `fly`, which has them all")]
    async fn confirmed(
        &self,
        course: &Course,
        pilot: Option<Pilot>,
        variant: Variant,
        body: Bytes,
        response: Response,
        asked: UnixTime,
        came: UnixTime,
    ) -> Response {
        let Response { head, report, .. } = response;
        let fields = variant.updated(&head.headers);
        // The new Age is the confirmation's.
        let mut judged = fields.clone();
        if let Some(age) = head.headers.get(header::AGE) {
            judged.insert(header::AGE, age.clone());
        }
        let seen = Seen {
            request: &course.head.headers,
            status: variant.status,
            fields: &judged,
            asked,
            came,
        };
        let worth = worth::judge(&seen, course.heuristic());
        let storable = worth.is_some();
        let mut landing = Landing::Alone;
        let updated = Variant {
            fields,
            asked,
            came,
            worth: worth.unwrap_or_else(|| variant.worth.clone()),
            ..variant
        };
        if storable {
            if updated.worth.lifetime > updated.worth.age && !updated.worth.directives.no_cache {
                landing = Landing::Stored;
            } else {
                // It is to be confirmed each time: nobody gains by waiting for another's confirmation.
                self.shared.refuse(&course.key, came);
            }
            self.shared.store.refresh(&course.key, updated.clone()).await;
        } else {
            self.shared.store.drop_variant(&course.key, updated.body).await;
        }
        if let Some(pilot) = pilot {
            pilot.close(landing);
        }
        let told = Told {
            forward: Some(Forward::Stale),
            status: Some(StatusCode::NOT_MODIFIED),
            stored: storable,
            ..Told::default()
        };
        let mut answer = course.serve(&updated, Content::Stored(body), came, Outcome::Revalidated, told);
        answer.report = Report {
            cache: answer.report.cache,
            ..report
        };
        answer
    }

    /// What an answer to HEAD says of what is stored (RFC 9111 section 4.3.5).
    async fn compare(
        &self,
        course: &Course,
        stored: Option<Variant>,
        response: &response::Parts,
        asked: UnixTime,
        came: UnixTime,
    ) {
        let Some(variant) = stored.filter(|_| response.status == StatusCode::OK) else {
            return;
        };
        let said = &response.headers;
        let same = [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH]
            .iter()
            .all(|name| {
                said.get(name)
                    .is_none_or(|value| variant.fields.get(name) == Some(value))
            });
        let fields = variant.updated(said);
        let seen = Seen {
            request: &course.head.headers,
            status: variant.status,
            fields: &fields,
            asked,
            came,
        };
        match worth::judge(&seen, course.heuristic()) {
            Some(worth) if same => {
                let updated = Variant {
                    fields,
                    asked,
                    came,
                    worth,
                    ..variant
                };
                self.shared.store.refresh(&course.key, updated).await;
            }
            _ => self.shared.store.drop_variant(&course.key, variant.body).await,
        }
    }

    /// The origin failed: what is stored stands in, where that is allowed.
    fn failed(&self, course: &Course, stored: Option<(Variant, Bytes)>, failure: Failure) -> Result<Response, Failure> {
        let now = UnixTime::now();
        if failure.reason.fault() != Fault::Client
            && let Some((variant, body)) = &stored
            && reuse::instead_of_error(variant, &course.wishes, &course.zone, now)
        {
            return Ok(stale(course, variant, body, now, None));
        }
        course.metrics.outcome(Outcome::Miss);
        Err(failure)
    }
}

/// What [`Inner::look`] found.
enum Look {
    Answered(Response),
    /// To the origin; with what may answer if it is confirmed.
    Forward(Option<(Variant, Bytes)>, Forward),
}

fn stale(course: &Course, variant: &Variant, body: &Bytes, now: UnixTime, status: Option<StatusCode>) -> Response {
    let told = Told {
        forward: Some(Forward::Stale),
        status,
        ..Told::default()
    };
    course.serve(variant, Content::Stored(body.clone()), now, Outcome::StaleError, told)
}

/// The content's length as it was announced.
fn announced(response: &Response) -> Option<u64> {
    let field = response.head.headers.get(header::CONTENT_LENGTH);
    match field {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => http_body::Body::size_hint(&response.body).exact(),
    }
}

/// The key of what `Location` or `Content-Location` names, where it is on the same origin as `key` (RFC 9111 section 4.4).
fn sibling(key: &str, location: &str) -> Option<String> {
    let (zone, url) = key.split_once(' ')?;
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.get(..rest.find('/')?)?;
    let uri: Uri = location.parse().ok()?;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if location.starts_with('/') => Some(resource::url_key(zone, scheme, authority, location)),
        (Some(other), Some(host)) if other == scheme => {
            let target = uri.path_and_query().map_or("/", |target| target.as_str());
            let sibling = resource::url_key(zone, scheme, &host.as_str().to_ascii_lowercase(), target);
            let same = sibling.starts_with(&format!("{zone} {scheme}://{authority}/"));
            same.then_some(sibling)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
