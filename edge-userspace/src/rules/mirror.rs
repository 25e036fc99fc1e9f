//! Copies of requests for another pool: sent beside the request, never waited for, and their
//! answers dropped. Bounded per thread in number and in content; what is over a bound is not
//! copied, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::Body as _;
use http_body_util::{BodyExt, Full};

use super::metrics::Metrics;
use crate::config::pool::Mirror;
use crate::http::body::{Body, BodyError};
use crate::http::handler::{Failure, Handler, Reason};
use crate::http::message::Request;
use crate::zones::Zone;

/// Copies under way on one thread, and bytes of content of all of them together.
const MOST: usize = 128;
const CONTENT: usize = 8 << 20;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read, so that its connection can serve again.
const ANSWER: usize = 64 << 10;

/// What is under way on one thread.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Arc<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    copies: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of one copy with so many bytes of content.
struct Held(Arc<UnderWay>, usize);

impl Held {
    fn take(all: &Arc<UnderWay>, bytes: usize) -> Option<Self> {
        let copies = all.copies.fetch_add(1, Ordering::Relaxed);
        let before = all.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Gives back what was taken if it goes.
        let held = Self(all.clone(), bytes);
        (copies < MOST && before.saturating_add(bytes) <= CONTENT).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.copies.fetch_sub(1, Ordering::Relaxed);
        self.0.bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Mirrors {
    /// Sends a copy of `request` to the pool of `zone`, if the bounds allow it. Content is read
    /// first; the copy goes without trailers.
    ///
    /// # Errors
    /// The client's content broke off: its request fails.
    pub(super) async fn copy(
        &self,
        mirror: &Mirror,
        zone: Arc<Zone>,
        request: &mut Request,
        (next, metrics): (&Arc<dyn Handler>, &Metrics),
    ) -> Result<(), Failure> {
        if request.head.upgrades() || request.head.method == Method::CONNECT {
            return Ok(());
        }
        let missed = |why| {
            metrics.mirror(&request.exchange.zone.name, why);
            Ok(())
        };
        let length = request.body.size_hint().upper();
        let length = length.filter(|length| *length <= mirror.body_bytes);
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
            return missed("too_long");
        };
        let Some(held) = Held::take(&self.0, length) else {
            return missed("too_many");
        };
        let content = match std::mem::take(&mut request.body) {
            Body::Empty => Body::Empty,
            body => {
                let (bytes, whole) = read(body).await?;
                request.body = whole;
                bytes.into()
            }
        };
        let mut head = request.head.clone();
        // Among them are the client's own connection and account.
        head.extensions.clear();
        let mut exchange = request.exchange.clone();
        metrics.mirror(&exchange.zone.name, "sent");
        exchange.zone = zone;
        let copy = Request {
            head,
            body: content,
            exchange,
        };
        let next = next.clone();
        tokio::spawn(async move {
            let _held = held;
            // What becomes of it is of no consequence to anybody.
            let _ = tokio::time::timeout(PATIENCE, send(next, copy)).await;
        });
        Ok(())
    }
}

/// The content that `body` has, and a body that is like it.
async fn read(body: Body) -> Result<(Bytes, Body), Failure> {
    let collected = body.collect().await.map_err(|error| {
        let reason = match error {
            BodyError::TooLarge => Reason::BodyTooLarge,
            BodyError::Stalled => Reason::ClientTimeout,
            _ => Reason::ClientGone,
        };
        Failure::new(reason, format!("content to be copied: {error}"))
    })?;
    let trailers = collected.trailers().cloned();
    let bytes = collected.to_bytes();
    let whole = match trailers {
        None => bytes.clone().into(),
        Some(trailers) => {
            let body = Full::new(bytes.clone()).with_trailers(async move { Some(Ok(trailers)) });
            Body::boxed(body.map_err(|never| match never {}))
        }
    };
    Ok((bytes, whole))
}

async fn send(next: Arc<dyn Handler>, copy: Request) {
    if let Ok(response) = next.handle(copy).await {
        response.body.drain(ANSWER).await;
    }
}
