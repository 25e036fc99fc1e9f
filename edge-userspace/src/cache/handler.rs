//! One request's way: the store, another request's response, or the origin and what becomes of its
//! answer.

mod course;
mod flown;
mod kept;
mod slice;
mod sliced;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foyer::{Cache as Table, CacheBuilder};
use http::header;
use http::{Method, StatusCode, Uri};

use super::bans::{self, Effect};
use super::directives::Wishes;
use super::flight::{self, Flights, Landing, Seat};
use super::metrics::Outcome;
use super::purge::{Purge, Unsound};
use super::resource::{self, Variant};
use super::reuse::{self, Reuse};
use super::serve::{self, Content, Forward, Told};
use super::store::Store;
use crate::base::clock::UnixTime;
use crate::config::cache::{Cache as Zone, CacheRule};
use crate::http::body::Body;
use crate::http::disguise;
use crate::http::handler::{Answer, Failure, Handler};
use crate::http::kept::Wish;
use crate::http::message::{Request, Response};
use crate::http::stored::{Became, ByRule, Made, Witness};
use crate::zones::{Zones, query};
use course::{Course, Plan};
use flown::Aim;
use slice::Slice;

/// URLs whose responses turned out not to be storable, at most.
const REFUSALS: usize = 65_536;
/// So often a request looks again after it waited for another one.
const MOST_LOOKS: usize = 4;

/// What the workers' caches share.
pub struct Shared {
    store: Arc<Store>,
    flights: Arc<Flights>,
    /// Until when nobody waits for a URL. By hash: the URLs are strangers', and may be long.
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

    /// Carries out an operator's purge: when it returns, nothing that was stored or on its way
    /// before is served any more, or taken for fresh. Of a URL, what the zone's rules make of its
    /// query is meant as well.
    ///
    /// # Errors
    /// As [`NotPurged`] says.
    pub fn purge(&self, purge: Purge<'_>, effect: Effect, zones: &Zones) -> Result<(), NotPurged> {
        let by_host = |host: &str| zones.find(host).cloned();
        let exists = |name: &str| zones.all().iter().any(|zone| &*zone.name == name);
        let mut done = Ok(());
        for ban in purge.bans(by_host, exists)? {
            // The others are in force, also where one could not be written down.
            done = self.store.purge(effect, ban.clone(), UnixTime::now()).and(done);
            self.flights.detach(|key| ban.may_mean(key));
        }
        done.map_err(NotPurged::NotWritten)
    }

    /// Sets the gauges; once a second.
    pub fn tick(&self) {
        self.store.tick();
    }

    fn refused(&self, key: &str, now: UnixTime) -> bool {
        let known = self.refusals.get(&self.hasher.hash_one(key));
        known.is_some_and(|until| now < *until.value())
    }

    /// Nobody waits for `key` for `time` from `now` on.
    fn refuse(&self, key: &str, now: UnixTime, time: Duration) {
        let until = now.after(time);
        drop(self.refusals.insert(self.hasher.hash_one(key), until));
    }

    fn welcome(&self, key: &str) {
        drop(self.refusals.remove(&self.hasher.hash_one(key)));
    }

    /// An unsafe request has succeeded: what is stored of the URL, or on its way, is out of date
    /// (RFC 9111 section 4.4). `keyed`: more may be stored of it than under `key`.
    async fn invalidate(&self, key: String, keyed: bool) {
        let usual = bans::normal(&key, "");
        let spelled = [&usual, &key].into_iter();
        let known = |key: &String| self.store.may_have(key) || self.flights.has(key);
        if !keyed && !spelled.clone().any(known) {
            return;
        }
        spelled.for_each(|key| self.flights.detach_one(key));
        if let Err(error) = self.store.void(key, UnixTime::now()).await {
            tracing::warn!(target: "edge::cache", %error, "an invalidation was not written down");
        }
    }
}

/// The room's handler, of one worker: `next` behind the store.
pub struct Cache(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    next: Arc<dyn Handler>,
    /// What stands after it is a worker.
    of_workers: bool,
}

impl Cache {
    /// Puts the store in front of `next`.
    pub fn new(shared: Arc<Shared>, next: Arc<dyn Handler>) -> Self {
        Self(Arc::new(Inner {
            shared,
            next,
            of_workers: false,
        }))
    }

    /// The same for workers: only requests are looked at that say which version answers ([`Made`]).
    pub fn of_workers(shared: Arc<Shared>, next: Arc<dyn Handler>) -> Self {
        Self(Arc::new(Inner {
            shared,
            next,
            of_workers: true,
        }))
    }
}

impl Handler for Cache {
    fn handle(&self, mut request: Request) -> Answer<'_> {
        let made = request.head.extensions.remove::<Made>().filter(|_| self.0.of_workers);
        if self.0.of_workers && made.is_none() {
            return self.0.next.handle(request);
        }
        let rule = request.head.extensions.remove::<ByRule>().map(|ByRule(rule)| rule);
        let witness = request.head.extensions.remove::<Witness>();
        let Some(zone) = request.exchange.zone.cache.clone() else {
            if let Some(witness) = witness {
                witness.tell(Became::Not(
                    "the zone stores nothing, or a rule has it pass the cache by",
                ));
            }
            return self.0.next.handle(request);
        };
        if let Some(wish) = request.head.extensions.remove::<Wish>() {
            return Box::pin(self.0.kept(zone, wish, request));
        }
        Box::pin(async move {
            let plain = matches!(request.head.method, Method::GET | Method::HEAD)
                && matches!(request.body, Body::Empty)
                && !request.head.upgrades()
                && !disguise::disguised(&request.head.headers);
            if plain {
                self.0.clone().cached((zone, made), (rule, witness), request).await
            } else {
                self.0.other(&zone, rule.as_deref(), request).await
            }
        })
    }
}

impl Inner {
    /// What is not answered from the store.
    async fn other(&self, zone: &Zone, rule: Option<&CacheRule>, request: Request) -> Result<Response, Failure> {
        let metrics = self.shared.store.metrics().zone(&request.exchange.zone.name);
        let method = request.head.method.clone();
        let keys = request.exchange.zone.cache_keys.clone();
        let keyed = keys.parts;
        let key = resource::key(&request.exchange, &request.head, rule.map(|rule| &rule.key));
        let uri = request.head.uri.clone();
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
                    self.shared.invalidate(other, keyed).await;
                }
            }
            for query in &keys.queries {
                if let Some(target) = query::target(query, &uri) {
                    let other = resource::with_target(&key, &target);
                    self.shared.invalidate(other, keyed).await;
                }
            }
            self.shared.invalidate(key, keyed).await;
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

    async fn cached(
        self: Arc<Self>,
        (zone, made): (Arc<Zone>, Option<Made>),
        (rule, witness): (Option<Arc<CacheRule>>, Option<Witness>),
        mut request: Request,
    ) -> Result<Response, Failure> {
        let key = rule.as_deref().map(|rule| &rule.key);
        // For the origin, too: what it sees and the key does not have would be in everybody's
        // answer.
        if let Some(uri) = key.and_then(|key| query::target(key.query.as_ref()?, &request.head.uri)) {
            request.head.uri = uri;
        }
        let zone = rule.as_ref().map_or(zone.clone(), |rule| rule.within(&zone));
        let slice = rule.as_ref().and_then(|rule| rule.slice);
        let plan = Plan { zone, rule, made };
        match slice {
            Some(size) => self.sliced(plan, witness, request, size).await,
            None => {
                let course = self.course(plan, witness, request, None);
                self.asked(course).await
            }
        }
    }

    /// What is known of a request, or of one for a slice of what it names.
    fn course(&self, plan: Plan, witness: Option<Witness>, request: Request, slice: Option<Slice>) -> Course {
        let Plan { zone, rule, made } = plan;
        let wishes = if zone.obey_requests {
            Wishes::of(&request.head.headers)
        } else {
            Wishes::default()
        };
        let by_rule = rule.as_deref().map(|rule| &rule.key);
        let mut object = resource::key(&request.exchange, &request.head, by_rule);
        if let Some(Made(version)) = &made {
            // No pool's name has an `@` in it.
            object = format!("{object}#@{version}");
        }
        Course {
            key: slice.map_or(object.clone(), |slice| slice.key(&object)),
            metrics: self.shared.store.metrics().zone(&request.exchange.zone.name),
            zone,
            wishes,
            rule,
            slice,
            witness,
            head: request.head,
            exchange: request.exchange,
        }
    }

    async fn asked(self: Arc<Self>, course: Course) -> Result<Response, Failure> {
        let wishes = course.wishes;
        // What cannot be purged is not stored.
        if wishes.no_store || !bans::sound(&course.key) {
            course.tell(Became::Not("the request says no-store, or its URL is too long"));
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
                && (stored.is_some() || !course.is_partial() && !course.has_credentials())
                && forward != Forward::Bypass
                && look + 1 < MOST_LOOKS
                && !self.shared.refused(&course.key, now);
            let aim = Aim::of(stored);
            if !joins {
                return self.fly(&course, None, aim, forward).await;
            }
            let landing = match self.shared.flights.join(&course.key) {
                Seat::Pilot(pilot) => return self.fly(&course, Some(pilot), aim, forward).await,
                Seat::Passenger(receiver) => flight::wait(receiver, course.zone.coalesce).await,
            };
            match landing {
                Some(Landing::Stored | Landing::Gone) => {}
                Some(Landing::Streaming(variant, fill)) => {
                    let usable = variant.matches(&course.head.headers)
                        && reuse::judge(&variant, course.asker(), &course.zone, now) == Reuse::Fresh;
                    if !usable {
                        return self.fly(&course, None, aim, forward).await;
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
                    course.tell(Became::Known);
                    return Ok(course.serve(&variant, content, UnixTime::now(), Outcome::Coalesced, told));
                }
                Some(Landing::Failed(reason, detail)) => {
                    let failure = Failure::new(reason, &*detail);
                    return self.failed(&course, aim.stored(), failure);
                }
                Some(Landing::Alone) | None => return self.fly(&course, None, aim, forward).await,
            }
        }
        self.fly(&course, None, Aim::Plain, Forward::Bypass).await
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
        let reuse = reuse::judge(variant, course.asker(), &course.zone, now);
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
        course.tell(Became::Known);
        Look::Answered(course.serve(variant, Content::Stored(body), now, outcome, Told::default()))
    }

    /// Validates a stale response behind its client's back (RFC 5861 section 3), unless somebody
    /// does so already.
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
            rule: course.rule.clone(),
            slice: course.slice,
            witness: None,
            head,
            exchange: course.exchange.clone(),
        };
        let stored = (variant.clone(), body.clone());
        tokio::spawn(async move {
            // Whatever comes of it is in the store; nobody waits for the answer.
            drop(
                self.fly(&behind, Some(pilot), Aim::of(Some(stored)), Forward::Stale)
                    .await,
            );
        });
    }
}

/// What [`Inner::look`] found.
enum Look {
    Answered(Response),
    /// To the origin; with what may answer if it is confirmed.
    Forward(Option<(Variant, Bytes)>, Forward),
}

/// The key of what `Location` or `Content-Location` names, where it is on the same origin as `key`
/// (RFC 9111 section 4.4).
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
