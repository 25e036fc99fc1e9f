//! Requests that get no response of their zone: why, whose fault it is, and what the client sees of
//! it.

use std::fmt;

use http::StatusCode;

/// Who has to act so that a failure does not come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client sent what cannot be served.
    Client,
    /// The origin did not answer, or answered what cannot be forwarded.
    Origin,
    /// The zone's own code.
    Worker,
    /// The configuration asks for what cannot be done.
    Operator,
    /// A limit of ours, or a defect.
    Edge,
}

/// Why a request got no response of its zone. A closed set: it is a metrics label and the access
/// log's `failure` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Framing or host could be read in two ways (RFC 9112 sections 3.2, 6.3; RFC 9113 section
    /// 8.1.1).
    Malformed,
    /// No zone for the host.
    UnknownHost,
    /// The host is not one the TLS connection's certificate was chosen for (RFC 9110 section 7.4).
    Misdirected,
    /// The connection was let in under a policy that its zone has no longer, or its certificate has
    /// expired.
    Outdated,
    /// The operator's lists deny the client's address.
    Denied,
    /// Method not allowed here, CONNECT to a proxy among them.
    Method,
    /// More fields than the limit.
    HeadTooLarge,
    /// The content is longer than the limit.
    BodyTooLarge,
    /// The client stopped sending, or took longer than the limit.
    ClientTimeout,
    /// The client went away.
    ClientGone,
    /// An expectation other than 100-continue.
    Expectation,
    /// Nothing under that path.
    NotFound,
    /// No origin server could be reached: refused, unreachable, TLS failed, or all unhealthy.
    OriginUnreachable,
    /// The origin's response was not HTTP that can be forwarded, or broke off before its head
    /// ended.
    OriginMalformed,
    /// The origin took longer than the limit.
    OriginTimeout,
    /// The zone's worker came to a bad end: it trapped, looped, or asked for more than it may have.
    WorkerFailed,
    /// The zone's worker took longer than the limit.
    WorkerTimeout,
    /// The zone has no worker yet.
    NoWorker,
    /// Whether the request may pass could not be found out: who is asked did not answer, or said
    /// neither yes nor no.
    AccessUnknown,
    /// The zone is out of service: what its configuration names could not be used.
    ZoneOut,
    /// A limit of the edge was met: connections to the origin, for one.
    Overload,
    /// A defect of ours.
    Internal,
}

impl Reason {
    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownHost => "unknown_host",
            Self::Misdirected => "misdirected",
            Self::Outdated => "outdated",
            Self::Denied => "denied",
            Self::Method => "method",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::ClientTimeout => "client_timeout",
            Self::ClientGone => "client_gone",
            Self::Expectation => "expectation",
            Self::NotFound => "not_found",
            Self::OriginUnreachable => "origin_unreachable",
            Self::OriginMalformed => "origin_malformed",
            Self::OriginTimeout => "origin_timeout",
            Self::WorkerFailed => "worker_failed",
            Self::WorkerTimeout => "worker_timeout",
            Self::NoWorker => "no_worker",
            Self::AccessUnknown => "access_unknown",
            Self::ZoneOut => "zone_out",
            Self::Overload => "overload",
            Self::Internal => "internal",
        }
    }

    /// The status the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::UnknownHost | Self::Misdirected | Self::Outdated => StatusCode::MISDIRECTED_REQUEST,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientTimeout | Self::ClientGone => StatusCode::REQUEST_TIMEOUT,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::OriginUnreachable | Self::OriginMalformed => StatusCode::BAD_GATEWAY,
            Self::OriginTimeout | Self::WorkerTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::WorkerFailed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::AccessUnknown | Self::Overload | Self::NoWorker | Self::ZoneOut => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Who is at fault.
    pub fn fault(self) -> Fault {
        match self {
            Self::Malformed
            | Self::UnknownHost
            | Self::Misdirected
            | Self::Outdated
            | Self::Denied
            | Self::Method
            | Self::HeadTooLarge
            | Self::BodyTooLarge
            | Self::ClientTimeout
            | Self::ClientGone
            | Self::Expectation
            | Self::NotFound => Fault::Client,
            Self::OriginUnreachable | Self::OriginMalformed | Self::OriginTimeout | Self::AccessUnknown => {
                Fault::Origin
            }
            Self::WorkerFailed | Self::WorkerTimeout => Fault::Worker,
            Self::NoWorker | Self::ZoneOut => Fault::Operator,
            Self::Overload | Self::Internal => Fault::Edge,
        }
    }

    /// Whether the connection ends with this answer, because what follows on it cannot be trusted
    /// or read.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::Malformed | Self::BodyTooLarge | Self::ClientTimeout | Self::ClientGone | Self::Outdated
        )
    }

    /// Whether that is so over HTTP/2 and HTTP/3 too, where other streams go on after the rest: by
    /// GOAWAY.
    pub fn ends(self) -> bool {
        self == Self::Outdated
    }
}

/// A request that failed. The client sees the status and a fixed phrase, never `detail`.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// For the operator's log: what happened, from our own words and the library's error, never
    /// bytes of a peer.
    pub detail: String,
    /// How many attempts at an origin were made.
    pub attempts: u8,
}

impl Failure {
    /// A failure for `reason`, with words for the log.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            attempts: 0,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.label(), self.detail)
    }
}
