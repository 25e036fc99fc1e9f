//! One request: what is known of it at all its steps, and how its answers are dressed.

use std::sync::Arc;

use http::{Method, header};

use super::super::directives::Wishes;
use super::super::metrics::{Outcome, ZoneMetrics};
use super::super::resource::Variant;
use super::super::serve::{self, Content, Forward, Told};
use super::super::worth::Heuristic;
use crate::base::clock::UnixTime;
use crate::config::cache::Cache as Zone;
use crate::http::body::Body;
use crate::http::door::Head;
use crate::http::message::{Exchange, Request, Response};

/// One request and what is known for all its steps.
pub(super) struct Course {
    pub(super) key: String,
    pub(super) zone: Arc<Zone>,
    pub(super) wishes: Wishes,
    pub(super) metrics: Arc<ZoneMetrics>,
    /// As the client sent it.
    pub(super) head: Head,
    pub(super) exchange: Exchange,
}

impl Course {
    pub(super) fn request(&self) -> Request {
        Request {
            head: self.head.clone(),
            body: Body::Empty,
            exchange: self.exchange.clone(),
        }
    }

    pub(super) fn heuristic(&self) -> Heuristic {
        Heuristic {
            percent: self.zone.heuristic_percent,
            most: self.zone.heuristic_most.as_secs(),
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// A request for a part, or with conditions: when nothing is stored, its answer says nothing
    /// about the whole.
    pub(super) fn is_partial(&self) -> bool {
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

    /// A request with credentials: unless it turns out otherwise, its answer is nobody else's (RFC
    /// 9111 section 3.5), so that neither it nor others gain by waiting.
    pub(super) fn is_personal(&self) -> bool {
        self.head.headers.contains_key(header::AUTHORIZATION)
    }

    /// The answer made of something stored, or being stored.
    pub(super) fn serve(
        &self,
        variant: &Variant,
        content: Content,
        now: UnixTime,
        outcome: Outcome,
        mut told: Told,
    ) -> Response {
        let content = if self.is_head() { Content::None } else { content };
        let stored = matches!(content, Content::Stored(_));
        let mut response = serve::answer(&self.head, variant, content, now, outcome);
        if stored {
            let sent = http_body::Body::size_hint(&response.body).exact();
            self.metrics.served.inc_by(sent.unwrap_or(0));
        }
        if self.zone.status_field {
            told.ttl = Some(serve::ttl(variant, now));
            told.write(&mut response.head.headers);
        }
        self.metrics.outcome(outcome);
        response
    }

    /// A response of the origin's that goes on as it is.
    pub(super) fn pass(&self, mut response: Response, outcome: Outcome, forward: Forward) -> Response {
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
