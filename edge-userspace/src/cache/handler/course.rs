//! One request: what is known of it at all its steps, and how its answers are dressed.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};

use super::super::directives::Wishes;
use super::super::metrics::{Outcome, ZoneMetrics};
use super::super::resource::Variant;
use super::super::reuse::Asker;
use super::super::serve::{self, Content, Forward, Told};
use super::super::worth::{Granted, Heuristic, Policy, Why};
use super::slice::Slice;
use crate::base::clock::UnixTime;
use crate::config::cache::{Cache as Zone, CacheRule};
use crate::http::body::Body;
use crate::http::door::Head;
use crate::http::message::{Exchange, Request, Response};
use crate::http::stored::{Became, Made, Witness};

/// How freshness is guessed in a zone.
pub(super) fn heuristic(zone: &Zone) -> Heuristic {
    Heuristic {
        percent: zone.heuristic_percent,
        most: zone.heuristic_most.as_secs(),
    }
}

/// Whether a request is for a part, or has conditions: when nothing is stored, its answer says
/// nothing about the whole.
pub(super) fn is_partial(fields: &HeaderMap) -> bool {
    [
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ]
    .iter()
    .any(|name| fields.contains_key(name))
}

/// What the zone says of a request, and its rules.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) zone: Arc<Zone>,
    pub(super) rule: Option<Arc<CacheRule>>,
    /// The version of a worker that answers, if it is one that does.
    pub(super) made: Option<Made>,
}

/// One request and what is known for all its steps.
pub(super) struct Course {
    pub(super) key: String,
    pub(super) zone: Arc<Zone>,
    pub(super) wishes: Wishes,
    pub(super) metrics: Arc<ZoneMetrics>,
    /// What the zone's rules say of it.
    pub(super) rule: Option<Arc<CacheRule>>,
    /// It is for a slice of the object.
    pub(super) slice: Option<Slice>,
    /// Who wants to hear what becomes of the response.
    pub(super) witness: Option<Witness>,
    /// As the client sent it, but for what a rule leaves out of the query.
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

    /// What the operator says of the freshness of its response, if that has this status.
    pub(super) fn policy(&self, status: StatusCode) -> Policy {
        let heuristic = heuristic(&self.zone);
        let rule = self.rule.as_deref();
        let public = rule.is_some_and(|rule| rule.public);
        // What somebody got by who they are is stored by the origin's word alone.
        if self.is_personal() && !public {
            return Policy::plain(heuristic);
        }
        let by_rule = rule.and_then(|rule| Some((rule.ttl.of(status.as_u16())?, rule.force)));
        let granted = by_rule.or_else(|| Some((self.zone.ttl.of(status.as_u16())?, false)));
        Policy {
            heuristic,
            granted: granted.map(|(ttl, forced)| Granted { ttl, forced, public }),
            strips_cookies: rule.is_some_and(|rule| rule.strip_set_cookie),
        }
    }

    /// Who asks, as it counts for what is stored.
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            fields: &self.head.headers,
            personal: self.is_personal(),
            wishes: &self.wishes,
        }
    }

    /// Says what became of the response.
    pub(super) fn tell(&self, became: Became) {
        if let Some(witness) = &self.witness {
            witness.tell(became);
        }
    }

    /// Says that it is not stored.
    pub(super) fn not_stored(&self, why: Why) {
        self.tell(Became::Not(why.words()));
    }

    pub(super) fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    pub(super) fn is_partial(&self) -> bool {
        is_partial(&self.head.headers)
    }

    /// A request with credentials: unless it turns out otherwise, its answer is nobody else's (RFC
    /// 9111 section 3.5), so that neither it nor others gain by waiting.
    pub(super) fn has_credentials(&self) -> bool {
        self.head.headers.contains_key(header::AUTHORIZATION)
    }

    /// A request that shows who sends it: by credentials, or by the certificate of its connection.
    fn is_personal(&self) -> bool {
        let handshake = self.exchange.peer.handshake.as_ref();
        self.has_credentials() || handshake.is_some_and(|handshake| handshake.certificate.is_some())
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
        self.count(outcome);
        response
    }

    /// Counts the request, which the later slices of an object are parts of.
    pub(super) fn count(&self, outcome: Outcome) {
        if self.slice.is_none_or(Slice::is_first) {
            self.metrics.outcome(outcome);
        }
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
        self.count(outcome);
        response
    }
}
