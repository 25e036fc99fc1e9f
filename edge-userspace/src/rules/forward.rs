//! Asks a pool whether a request may pass (`auth.forward`), as nginx's `auth_request` and Traefik's
//! `forwardAuth` do. `handler` asks when `evaluate` has come to such a rule; who does not say yes
//! or no lets nobody pass.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, PRAGMA, SET_COOKIE, TRAILER,
};
use http::uri::PathAndQuery;
use http::{StatusCode, response};

use super::change::{Change, Given};
use crate::base::ledger::Kind;
use crate::config::rule::{Forward, alike};
use crate::http::body::{Body, BodyError};
use crate::http::door::Head;
use crate::http::fields::{CDN_CACHE_CONTROL, SURROGATE_CONTROL};
use crate::http::handler::{Failure, Handler, Reason};
use crate::http::message::{About, Exchange, Payer, Request};

/// Bytes of an answer's content that a client gets, and of the fields that an origin does: charged
/// to the client's connection while they are gathered.
const CONTENT: usize = 64 << 10;
const FIELDS: usize = 16 << 10;

/// What was said of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It may pass, with these fields for the origin and those for the client.
    Passes(Vec<(HeaderName, HeaderValue)>, Vec<(HeaderName, HeaderValue)>),
    /// It is answered so.
    Refused(Given),
}

impl Said {
    /// Yes, and no more: what an explanation goes by.
    pub(super) const fn yes() -> Self {
        Self::Passes(Vec::new(), Vec::new())
    }
}

/// Asks about the request that has `asker` for its head, through `next`; `with` changes what is
/// sent.
///
/// # Errors
/// [`Reason::AccessUnknown`]: no answer in time, or none that says yes or no.
pub(super) async fn ask(
    forward: &Forward,
    with: &[Change],
    (asker, exchange): (&Head, &Exchange),
    next: &Arc<dyn Handler>,
) -> Result<Said, Failure> {
    let unknown = |why: String| Failure::new(Reason::AccessUnknown, format!("asking \"{}\": {why}", forward.to));
    let asking = async {
        let asked = about(forward, with, asker, exchange).ok_or_else(|| unknown("no such pool".to_owned()))?;
        let answer = next
            .handle(asked)
            .await
            .map_err(|failure| unknown(failure.to_string()))?;
        let (head, body) = (answer.head, answer.body);
        if head.status.is_success() {
            body.drain(CONTENT).await;
            return passes(forward, &head.headers).ok_or_else(|| unknown("fields beyond 16 KiB".to_owned()));
        }
        if !refuses(head.status) {
            return Err(unknown(format!("{} says neither yes nor no", head.status.as_u16())));
        }
        let payer = asker.extensions.get::<Payer>();
        let charge = payer.map(|Payer(holder)| holder.charge(Kind::Responses, None, CONTENT as u64));
        if charge.as_ref().is_some_and(Option::is_none) {
            let detail = "as much memory is held for the client's address or the node as may be";
            return Err(Failure::new(Reason::Overload, detail));
        }
        let content = body.gathered(CONTENT).await.map_err(|error| {
            let why = match error {
                BodyError::TooLarge => "an answer of more than 64 KiB",
                _ => "the answer broke off",
            };
            unknown(why.to_owned())
        })?;
        Ok(Said::Refused(refusal(head, content)))
    };
    let answer = tokio::time::timeout(forward.timeout, asking).await;
    answer.unwrap_or_else(|_| Err(unknown("no answer in time".to_owned())))
}

/// What is sent; `None` without such a pool.
fn about(forward: &Forward, with: &[Change], asker: &Head, exchange: &Exchange) -> Option<Request> {
    let mut exchange = exchange.clone();
    exchange.zone = exchange.zone.asked(&forward.to)?.clone();
    let mut head = asker.beside(forward.target.clone(), |name| forward.send.contains(name));
    for change in with {
        change.clone().apply(&mut head.headers);
    }
    let target = asker.uri.path_and_query().cloned();
    head.extensions.insert(About {
        method: asker.method.clone(),
        target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
    });
    Some(Request {
        head,
        body: Body::Empty,
        exchange,
    })
}

/// Whether an answer of this status is one for the client: log in, or you may not. Not 304: the
/// client would take what it has for the answer.
fn refuses(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        || status.is_redirection() && status != StatusCode::NOT_MODIFIED
}

/// The fields that are copied; `None`: too many bytes.
fn passes(forward: &Forward, headers: &HeaderMap) -> Option<Said> {
    let values = |from: &HeaderName, to: &HeaderName| -> Vec<(HeaderName, HeaderValue)> {
        let values = headers.get_all(from).iter();
        values.map(|value| (to.clone(), value.clone())).collect()
    };
    let to_origin: Vec<_> = forward
        .to_origin
        .iter()
        .flat_map(|copied| values(&copied.from, &copied.to))
        .collect();
    let to_client: Vec<_> = forward.to_client.iter().flat_map(|name| values(name, name)).collect();
    let all = to_origin.iter().chain(&to_client);
    let bytes: usize = all.map(|(name, value)| name.as_str().len() + value.len()).sum();
    (bytes <= FIELDS).then_some(Said::Passes(to_origin, to_client))
}

/// The answer that the client gets: for nobody else, and now.
fn refusal(head: response::Parts, content: Bytes) -> Given {
    let mut headers = head.headers;
    for name in [
        CONTENT_LENGTH,
        TRAILER,
        ETAG,
        LAST_MODIFIED,
        ACCEPT_RANGES,
        AGE,
        EXPIRES,
        PRAGMA,
        CDN_CACHE_CONTROL,
        SURROGATE_CONTROL,
    ] {
        headers.remove(name);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Given {
        status: head.status,
        headers,
        body: content,
        phrase: false,
    }
}

/// What a yes changes in the request, whose fields came as `headers`: none of the client's own is
/// left that could be taken for one that is copied.
pub(super) fn for_origin(forward: &Forward, copied: &[(HeaderName, HeaderValue)], headers: &HeaderMap) -> Vec<Change> {
    let like = |name: &&HeaderName| forward.to_origin.iter().any(|known| alike(&known.to, name));
    let mut changes: Vec<_> = headers.keys().filter(like).cloned().map(Change::Remove).collect();
    // An earlier rule may have set one.
    changes.extend(forward.to_origin.iter().map(|copied| Change::Remove(copied.to.clone())));
    changes.extend(
        copied
            .iter()
            .map(|(name, value)| Change::Add(name.clone(), value.clone())),
    );
    changes
}

/// What it changes in the response: one field in place of another, cookies beside those that there
/// are.
pub(super) fn for_client(copied: &[(HeaderName, HeaderValue)]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (name, _) in copied.iter().filter(|(name, _)| *name != SET_COOKIE) {
        changes.push(Change::Remove(name.clone()));
    }
    changes.extend(
        copied
            .iter()
            .map(|(name, value)| Change::Add(name.clone(), value.clone())),
    );
    changes
}
