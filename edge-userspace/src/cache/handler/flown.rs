//! A request that goes to the origin, and what becomes of the answer: stored as it streams, or at
//! once; a confirmation of what is stored; or a failure that what is stored stands in for.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};

use super::super::fill::{Fill, Outcome as Filled};
use super::super::flight::{self, Landing, Pilot, Trip};
use super::super::metrics::{Kept, Outcome};
use super::super::resource::{self, BodyId, Variant};
use super::super::reuse;
use super::super::serve::{self, Content, Forward, Told};
use super::super::worth::{self, Seen, Why};
use super::course::Course;
use super::{Inner, Shared};
use crate::base::clock::UnixTime;
use crate::http::body::Body;
use crate::http::handler::{Failure, Fault, Reason};
use crate::http::message::{Report, Response};
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
        mut pilot: Option<Pilot>,
        aim: Aim,
        forward: Forward,
    ) -> Result<Response, Failure> {
        let mut request = course.request();
        if !course.is_head() {
            match &aim {
                Aim::Plain => {}
                Aim::Whole => serve::validation(&mut request.head, None),
                Aim::Confirm(stored) => serve::validation(&mut request.head, Some(&stored.0)),
            }
        }
        // Conditions that are not ours: the answer is the client's alone.
        let own = matches!(aim, Aim::Plain) && course.is_partial();
        let (whole, again) = (!own, matches!(aim, Aim::Whole));
        let stored = aim.stored();
        let trip = self.shared.flights.depart(&course.key);
        let asked = UnixTime::now();
        let mut response = match self.next.handle(request).await {
            Ok(response) => response,
            Err(failure) => {
                if let Some(pilot) = pilot.take() {
                    pilot.close(if flight::shared(failure.reason) {
                        Landing::Failed(failure.reason, failure.detail.as_str().into())
                    } else {
                        Landing::Gone
                    });
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
            Some((variant, _)) if status == StatusCode::NOT_MODIFIED && !variant.confirmed(&response.head.headers) => {
                // Another response than the stored one is what has not changed (RFC 9111 section
                // 4.3.4).
                drop((response, trip));
                self.shared.store.drop_variant(&course.key, variant.body).await;
                return Box::pin(self.fly(course, pilot, Aim::Whole, forward)).await;
            }
            Some((variant, body)) if status == StatusCode::NOT_MODIFIED => {
                return Ok(self
                    .confirmed(course, pilot, variant, body, response, asked, came)
                    .await);
            }
            None if status == StatusCode::NOT_MODIFIED && again => {
                let mut failure = Failure::new(Reason::OriginMalformed, "304 for a request without conditions");
                failure.attempts = response.report.attempts;
                return Err(failure);
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
        let policy = course.policy(status);
        let worth = if whole || !matches!(status.as_u16(), 206 | 304 | 412 | 416) {
            worth::judge(&seen, &policy)
        } else {
            Err(Why::Status)
        };
        let length = announced(&response);
        let vary = resource::selectors(&response.head.headers, &course.head.headers);
        let too_long = length.is_some_and(|n| n > course.zone.object_bytes);
        let judged = worth.and_then(|worth| Ok((worth, vary.ok_or(Why::VariesBySender)?)));
        let judged = judged.and_then(|judged| if too_long { Err(Why::TooLong) } else { Ok(judged) });
        let (worth, vary) = match judged {
            Ok(judged) => judged,
            Err(why) => {
                let kept = match too_long {
                    true => Kept::TooLarge,
                    false => Kept::Uncacheable,
                };
                course.metrics.kept(kept);
                course.not_stored(why);
                if whole {
                    // What was stored is no longer what the origin says.
                    if let Some((variant, _)) = stored.filter(|_| !status.is_server_error()) {
                        self.shared.store.drop_variant(&course.key, variant.body).await;
                    }
                    self.shared
                        .refuse(&course.key, came, serve::refusal(&response.head.headers));
                }
                if let Some(pilot) = pilot.take() {
                    pilot.close(Landing::Alone);
                }
                return Ok(course.pass(response, outcome, forward));
            }
        };
        let mut fields = std::mem::take(&mut response.head.headers);
        let others = fields.get("cache-status").cloned();
        let cookies = match policy.strips_cookies {
            true => Vec::new(),
            false => cookies(&fields),
        };
        resource::strip(&mut fields, &worth.directives);
        resource::date(&mut fields, came);
        let variant = Variant {
            status,
            fields,
            vary,
            body: BodyId(crate::cache::random()),
            length: length.unwrap_or(0),
            asked,
            came,
            worth,
        };
        let mut before = stored.map(|(variant, _)| variant);
        if let Some(old) = before.take_if(|old| old.vary != variant.vary) {
            self.shared.store.drop_variant(&course.key, old.body).await;
        }
        let told = Told {
            forward: Some(forward),
            status: Some(status),
            stored: true,
            ..Told::default()
        };
        let report = std::mem::take(&mut response.report);
        let flown = Flown { pilot, trip, before };
        let (variant, content) = self.keep(course, flown, variant, length, response.body).await;
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
        Ok(answer)
    }

    /// Stores a response: at once, if it is at hand, else as it comes.
    async fn keep(
        &self,
        course: &Course,
        flown: Flown,
        mut variant: Variant,
        length: Option<u64>,
        body: Body,
    ) -> (Arc<Variant>, Content) {
        let Flown { pilot, trip, before } = flown;
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
                variant.body = self.shared.name(&variant, &bytes, before.as_ref()).await;
                store.put(&course.key, variant.clone(), bytes.clone()).await;
                self.shared.welcome(&course.key);
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
        let (shared, metrics) = (self.shared.clone(), course.metrics.clone());
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
        let cookies = cookies(&head.headers);
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
        let worth = worth::judge(&seen, &course.policy(variant.status));
        let storable = worth.is_ok();
        course.tell(match &worth {
            Ok(_) => Became::Stored,
            Err(why) => Became::Not(why.words()),
        });
        let mut landing = Landing::Alone;
        let updated = Variant {
            fields,
            asked,
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
                self.shared.refuse(&course.key, came, serve::REFUSAL);
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
        if !course.policy(updated.status).strips_cookies {
            answer.head.headers.extend(cookies);
        }
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
        let same = variant.confirmed(said)
            && [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH]
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
        match worth::judge(&seen, &course.policy(variant.status)) {
            Ok(worth) if same => {
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
        course.metrics.outcome(Outcome::Miss);
        Err(failure)
    }
}

/// What is left of a flight when its response is to be kept.
struct Flown {
    pilot: Option<Pilot>,
    /// Held until the response is stored.
    trip: Trip,
    /// What was stored for the same requests before.
    before: Option<Variant>,
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
