//! A request that goes to the origin, and what becomes of the answer: stored as it streams, or at
//! once; a confirmation of what is stored; or a failure that what is stored stands in for.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::super::fill::{Fill, Outcome as Filled};
use super::super::flight::{Landing, Pilot, Trip};
use super::super::metrics::{Kept, Outcome};
use super::super::resource::{self, BodyId, Selectors, Variant};
use super::super::reuse;
use super::super::serve::{self, Content, Forward, Told};
use super::super::worth::{self, Seen, Why, Worth};
use super::course::Course;
use super::{Inner, Shared};
use crate::base::clock::UnixTime;
use crate::http::body::Body;
use crate::http::handler::{Failure, Fault, Reason};
use crate::http::message::{Report, Request, Response};
use crate::http::stored::Became;

/// Why content is not stored, beside what its response says.
const BROKEN: &str = "its content broke off, or was not as long as it said";
const NO_ROOM: &str = "too much was on its way into the store";

/// What the origin is asked.
pub(super) enum Aim {
    /// The client's own request.
    Plain,
    /// The whole response, whatever part of it or conditions the client named: what was stored has
    /// turned out to be another.
    Whole,
    /// Whether what is stored is still right.
    Confirm(Box<(Variant, Bytes)>),
}

impl Aim {
    /// By what is stored.
    pub(super) fn of(stored: Option<(Variant, Bytes)>) -> Self {
        stored.map_or(Self::Plain, |stored| Self::Confirm(Box::new(stored)))
    }

    /// The request for it.
    fn request(&self, course: &Course) -> Request {
        let mut request = course.request();
        if !course.is_head() {
            match self {
                Self::Plain => {}
                Self::Whole => serve::validation(&mut request.head, None),
                Self::Confirm(stored) => serve::validation(&mut request.head, Some(&stored.0)),
            }
        }
        request
    }

    /// What would answer if it is confirmed.
    pub(super) fn stored(self) -> Option<(Variant, Bytes)> {
        match self {
            Self::Confirm(stored) => Some(*stored),
            Self::Plain | Self::Whole => None,
        }
    }
}

impl Inner {
    /// Goes to the origin. `pilot`: others wait for it.
    pub(super) async fn fly(
        &self,
        course: &Course,
        pilot: Option<Pilot>,
        aim: Aim,
        forward: Forward,
    ) -> Result<Response, Failure> {
        let mut request = aim.request(course);
        if let Some(slice) = course.slice {
            slice.ask(&mut request.head.headers);
        }
        // Conditions that are not ours: the answer is the client's alone.
        let own = matches!(aim, Aim::Plain) && course.is_partial();
        let again = matches!(aim, Aim::Whole);
        let stored = aim.stored();
        let trip = self.shared.flights.depart(&course.key);
        let asked = UnixTime::now();
        let mut response = match self.next.handle(request).await {
            Ok(response) => response,
            Err(failure) => {
                if let Some(pilot) = pilot {
                    pilot.close(Landing::of(&failure));
                }
                return self.failed(course, stored, failure);
            }
        };
        let mut flown = Flown {
            shared: &self.shared,
            course,
            pilot,
            trip,
            stored,
            forward,
            whole: !own,
            asked,
            came: UnixTime::now(),
        };
        if let Some(stale) = flown.instead_of_error(response.head.status) {
            return Ok(stale);
        }
        if let Some(slice) = course.slice {
            slice
                .take(&mut response.head)
                .inspect_err(|_| course.count(Outcome::Miss))?;
        }
        if course.is_head() {
            return Ok(flown.answer_head(response).await);
        }
        if response.head.status == StatusCode::NOT_MODIFIED {
            match flown.stored.take() {
                Some(stored) if stored.0.confirmed(&response.head.headers) => {
                    return Ok(flown.confirm(stored, response).await);
                }
                Some((variant, _)) => {
                    // Another response than the stored one is what has not changed (RFC 9111
                    // section 4.3.4).
                    let Flown { pilot, trip, .. } = flown;
                    drop((response, trip));
                    self.shared.store.drop_variant(&course.key, variant.body).await;
                    return Box::pin(self.fly(course, pilot, Aim::Whole, forward)).await;
                }
                None if again => {
                    let mut failure = Failure::new(Reason::OriginMalformed, "304 for a request without conditions");
                    failure.attempts = response.report.attempts;
                    return Err(failure);
                }
                None => {}
            }
        }
        Ok(match flown.judge(&response) {
            Ok(storable) => flown.store(storable, response).await,
            Err(unstorable) => flown.pass(unstorable, response).await,
        })
    }

    /// The origin failed: what is stored stands in, where that is allowed.
    pub(super) fn failed(
        &self,
        course: &Course,
        stored: Option<(Variant, Bytes)>,
        failure: Failure,
    ) -> Result<Response, Failure> {
        let now = UnixTime::now();
        if failure.reason.fault() != Fault::Client
            && let Some((variant, body)) = &stored
            && reuse::instead_of_error(variant, &course.wishes, &course.zone, now)
        {
            return Ok(stale(course, variant, body, now, None));
        }
        course.count(Outcome::Miss);
        Err(failure)
    }
}

/// A request that the origin has answered.
struct Flown<'a> {
    shared: &'a Arc<Shared>,
    course: &'a Course,
    /// Others wait for it.
    pilot: Option<Pilot>,
    /// Held until the response is stored.
    trip: Trip,
    /// What was stored for it before.
    stored: Option<(Variant, Bytes)>,
    forward: Forward,
    /// The answer says something about the whole resource, not only about what the client named.
    whole: bool,
    asked: UnixTime,
    came: UnixTime,
}

/// What [`Flown::judge`] says of a response that may be stored.
struct Storable {
    worth: Worth,
    vary: Selectors,
    /// The content's length, if it was announced.
    length: Option<u64>,
    strips_cookies: bool,
}

/// And of one that may not.
struct Unstorable {
    why: Why,
    kept: Kept,
}

impl Flown<'_> {
    /// For an answer that says the server failed: what is stored, where that is allowed.
    fn instead_of_error(&mut self, status: StatusCode) -> Option<Response> {
        let (variant, body) = self.stored.as_ref()?;
        let stands_in = matches!(status.as_u16(), 500 | 502 | 503 | 504)
            && reuse::instead_of_error(variant, &self.course.wishes, &self.course.zone, self.came);
        if !stands_in {
            return None;
        }
        if let Some(pilot) = self.pilot.take() {
            pilot.close(Landing::Alone);
        }
        Some(stale(self.course, variant, body, self.came, Some(status)))
    }

    /// What `response` is to what may be stored.
    fn seen<'s>(&'s self, status: StatusCode, fields: &'s HeaderMap) -> Seen<'s> {
        Seen {
            request: &self.course.head.headers,
            status,
            fields,
            asked: self.asked,
            came: self.came,
        }
    }

    /// Whether `response` may be stored.
    fn judge(&self, response: &Response) -> Result<Storable, Unstorable> {
        let (course, head) = (self.course, &response.head);
        let policy = course.policy(head.status);
        let length = announced(response);
        let too_long = length.is_some_and(|n| n > course.zone.object_bytes);
        let not = |why| Unstorable {
            why,
            kept: match too_long {
                true => Kept::TooLarge,
                false => Kept::Uncacheable,
            },
        };
        if !self.whole && matches!(head.status.as_u16(), 206 | 304 | 412 | 416) {
            return Err(not(Why::Status));
        }
        let worth = worth::judge(&self.seen(head.status, &head.headers), &policy).map_err(not)?;
        let vary = resource::selectors(&head.headers, &course.head.headers);
        let vary = vary.ok_or_else(|| not(Why::VariesBySender))?;
        if too_long {
            return Err(not(Why::TooLong));
        }
        Ok(Storable {
            worth,
            vary,
            length,
            strips_cookies: policy.strips_cookies,
        })
    }

    /// How a new response is counted.
    fn outcome(&self) -> Outcome {
        match self.stored {
            Some(_) => Outcome::Expired,
            None => Outcome::Miss,
        }
    }

    /// Hands on what is not stored.
    async fn pass(self, unstorable: Unstorable, response: Response) -> Response {
        let (course, shared, outcome) = (self.course, self.shared, self.outcome());
        course.metrics.kept(unstorable.kept);
        course.not_stored(unstorable.why);
        if self.whole {
            // What was stored is no longer what the origin says.
            if let Some((variant, _)) = self.stored.filter(|_| !response.head.status.is_server_error()) {
                shared.store.drop_variant(&course.key, variant.body).await;
            }
            shared.refuse(&course.key, self.came, serve::refusal(&response.head.headers));
        }
        if let Some(pilot) = self.pilot {
            pilot.close(Landing::Alone);
        }
        course.pass(response, outcome, self.forward)
    }

    /// Stores a response, in the place of what was stored before, and answers with it.
    async fn store(mut self, storable: Storable, response: Response) -> Response {
        let (course, came, outcome) = (self.course, self.came, self.outcome());
        let Response { head, body, report } = response;
        let mut fields = head.headers;
        let others = fields.get("cache-status").cloned();
        let cookies = match storable.strips_cookies {
            true => Vec::new(),
            false => cookies(&fields),
        };
        resource::strip(&mut fields, &storable.worth.directives);
        resource::date(&mut fields, came);
        let variant = Variant {
            status: head.status,
            fields,
            vary: storable.vary,
            body: BodyId(crate::cache::random()),
            length: storable.length.unwrap_or(0),
            asked: self.asked,
            came,
            worth: storable.worth,
        };
        if let Some((old, _)) = self.stored.take_if(|(old, _)| old.vary != variant.vary) {
            self.shared.store.drop_variant(&course.key, old.body).await;
        }
        let told = Told {
            forward: Some(self.forward),
            status: Some(head.status),
            stored: true,
            ..Told::default()
        };
        let (variant, content) = self.keep(variant, storable.length, body).await;
        let mut answer = course.serve(&variant, content, came, outcome, told);
        answer.head.headers.extend(cookies);
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
        answer
    }

    /// Stores a response: at once, if it is at hand, else as it comes.
    async fn keep(self, mut variant: Variant, length: Option<u64>, body: Body) -> (Arc<Variant>, Content) {
        let Self {
            shared,
            course,
            pilot,
            trip,
            ..
        } = self;
        let before = self.stored.map(|(variant, _)| variant);
        let store = &shared.store;
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
                variant.body = shared.name(&variant, &bytes, before.as_ref()).await;
                store.put(&course.key, variant.clone(), bytes.clone()).await;
                shared.welcome(&course.key);
                course.metrics.kept(Kept::Stored);
                course.tell(Became::Stored);
            } else {
                course.tell(Became::Not(if sound { Why::TooLong.words() } else { BROKEN }));
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
        let (shared, metrics) = (shared.clone(), course.metrics.clone());
        let (key, most) = (course.key.clone(), course.zone.object_bytes);
        let stored = variant.clone();
        let witness = course.witness.clone();
        // On this worker: the origin's connection lives here.
        tokio::spawn(async move {
            let _trip = trip;
            let filled = fill.drive(body, length, most, &mut room).await;
            fill.hold(room);
            let (kept, landing, became) = match filled {
                Filled::Whole(bytes) => {
                    let mut variant = Variant {
                        length: bytes.len() as u64,
                        ..Variant::clone(&stored)
                    };
                    variant.body = shared.name(&variant, &bytes, before.as_ref()).await;
                    shared.store.put(&key, variant, bytes).await;
                    shared.welcome(&key);
                    (Kept::Stored, landing, Became::Stored)
                }
                Filled::Broken => (Kept::Broken, Landing::Alone, Became::Not(BROKEN)),
                Filled::TooLarge => (Kept::TooLarge, Landing::Alone, Became::Not(Why::TooLong.words())),
                Filled::NoRoom => (Kept::NoRoom, Landing::Alone, Became::Not(NO_ROOM)),
            };
            metrics.kept(kept);
            if let Some(witness) = witness {
                witness.tell(became);
            }
            if kept != Kept::Stored {
                shared.refuse(&key, UnixTime::now(), serve::REFUSAL);
            }
            if let Some(pilot) = pilot {
                pilot.close(landing);
            }
        });
        (variant, content)
    }

    /// The origin says that what is stored is still right.
    async fn confirm(self, (variant, body): (Variant, Bytes), response: Response) -> Response {
        let (course, shared, came) = (self.course, self.shared, self.came);
        let Response { head, report, .. } = response;
        let cookies = cookies(&head.headers);
        let fields = variant.updated(&head.headers);
        // The new Age is the confirmation's.
        let mut judged = fields.clone();
        if let Some(age) = head.headers.get(header::AGE) {
            judged.insert(header::AGE, age.clone());
        }
        let worth = worth::judge(&self.seen(variant.status, &judged), &course.policy(variant.status));
        let storable = worth.is_ok();
        course.tell(match &worth {
            Ok(_) => Became::Stored,
            Err(why) => Became::Not(why.words()),
        });
        let mut landing = Landing::Alone;
        let updated = Variant {
            fields,
            asked: self.asked,
            came,
            worth: worth.unwrap_or_else(|_| variant.worth.clone()),
            ..variant
        };
        if storable {
            if updated.worth.lifetime > updated.worth.age && !updated.worth.directives.no_cache {
                landing = Landing::Stored;
            } else {
                // It is to be confirmed each time: nobody gains by waiting for another's
                // confirmation.
                shared.refuse(&course.key, came, serve::REFUSAL);
            }
            shared.store.refresh(&course.key, updated.clone()).await;
        } else {
            shared.store.drop_variant(&course.key, updated.body).await;
        }
        if let Some(pilot) = self.pilot {
            pilot.close(landing);
        }
        let told = Told {
            forward: Some(Forward::Stale),
            status: Some(StatusCode::NOT_MODIFIED),
            stored: storable,
            ..Told::default()
        };
        let mut answer = course.serve(&updated, Content::Stored(body), came, Outcome::Revalidated, told);
        if !course.policy(updated.status).strips_cookies {
            answer.head.headers.extend(cookies);
        }
        answer.report = Report {
            cache: answer.report.cache,
            ..report
        };
        answer
    }

    /// Hands on an answer to HEAD, after what it says of what is stored (RFC 9111 section 4.3.5).
    async fn answer_head(mut self, response: Response) -> Response {
        if let Some((variant, _)) = self.stored.take().filter(|_| response.head.status == StatusCode::OK) {
            self.compare(variant, &response.head.headers).await;
        }
        self.course.pass(response, Outcome::Miss, self.forward)
    }

    async fn compare(&self, variant: Variant, said: &HeaderMap) {
        let (course, store) = (self.course, &self.shared.store);
        let same = variant.confirmed(said)
            && [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH]
                .iter()
                .all(|name| {
                    said.get(name)
                        .is_none_or(|value| variant.fields.get(name) == Some(value))
                });
        let fields = variant.updated(said);
        match worth::judge(&self.seen(variant.status, &fields), &course.policy(variant.status)) {
            Ok(worth) if same => {
                let updated = Variant {
                    fields,
                    asked: self.asked,
                    came: self.came,
                    worth,
                    ..variant
                };
                store.refresh(&course.key, updated).await;
            }
            _ => store.drop_variant(&course.key, variant.body).await,
        }
    }
}

impl Shared {
    /// The name of a new response's content: that of `before`, if that has the same bytes, so that
    /// what was made of them (codings for clients) need not be made again.
    async fn name(&self, variant: &Variant, bytes: &Bytes, before: Option<&Variant>) -> BodyId {
        match before {
            Some(before)
                if before.length == bytes.len() as u64 && self.store.body(before).await.as_ref() == Some(bytes) =>
            {
                before.body
            }
            _ => variant.body,
        }
    }
}

/// Cookies that the origin sets: the client's that asked, and not stored.
fn cookies(fields: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let all = fields.get_all(header::SET_COOKIE).iter();
    all.map(|cookie| (header::SET_COOKIE, cookie.clone())).collect()
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
