//! A request that goes to the origin, and what becomes of the answer: stored as it streams, or at once; a confirmation of what
//! is stored; or a failure that what is stored stands in for.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{StatusCode, response};

use super::super::fill::{Fill, Outcome as Filled};
use super::super::flight::{Landing, Pilot};
use super::super::metrics::{Kept, Outcome};
use super::super::resource::{self, BodyId, Variant};
use super::super::reuse;
use super::super::serve::{self, Content, Forward, Told};
use super::super::worth::{self, Seen};
use super::Inner;
use super::course::Course;
use crate::base::clock::UnixTime;
use crate::http::body::Body;
use crate::http::handler::{Failure, Fault};
use crate::http::message::{Report, Response};

impl Inner {
    /// Goes to the origin. `stored`: what would answer if it is confirmed. `pilot`: others wait for it.
    pub(super) async fn fly(
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
            body: BodyId(crate::cache::random()),
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
