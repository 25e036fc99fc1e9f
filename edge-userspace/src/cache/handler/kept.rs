//! What workers keep in their zone's cache by themselves. Their names are apart from those of what
//! the zone serves, and by zone: no worker can put anything in the place of an origin's response,
//! or of another zone's. Bounds are those of all that is stored: a response's length
//! (`object_bytes`), the room of what is on its way, which is on the ledger, and the store's size.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use http::header;
use http::{HeaderMap, StatusCode};

use super::super::bans;
use super::super::directives::Wishes;
use super::super::fill::{Fill, Outcome as Filled};
use super::super::metrics::{Kept, Outcome};
use super::super::resource::{self, BodyId, Variant};
use super::super::reuse::{self, Asker, Reuse};
use super::super::serve::{self, Content};
use super::super::worth::{self, Policy, Seen};
use super::Inner;
use super::course::heuristic;
use crate::base::clock::UnixTime;
use crate::config::cache::Cache as Zone;
use crate::http::body::Body;
use crate::http::door::Head;
use crate::http::handler::{Failure, Reason};
use crate::http::kept::{Deed, Wish};
use crate::http::message::{Request, Response};

/// The key of what a worker of `zone` keeps. Those of responses have a scheme after the space,
/// which `worker` is none of; a cache's name has no colon, written so.
fn key(zone: &str, wish: &Wish) -> String {
    format!("{zone} worker:{}:{}", HEXLOWER.encode(wish.cache.as_bytes()), wish.url)
}

fn nothing(why: &'static str) -> Failure {
    Failure::new(Reason::NotFound, why)
}

impl Inner {
    /// Does what the worker wants.
    ///
    /// # Errors
    /// [`Reason::NotFound`], as [`Deed`] says.
    pub(super) async fn kept(&self, zone: Arc<Zone>, wish: Wish, request: Request) -> Result<Response, Failure> {
        let key = key(&request.exchange.zone.name, &wish);
        // What cannot be purged is not stored.
        if !bans::sound(&key) {
            return Err(nothing("the URL is too long to be kept"));
        }
        let Request { head, body, exchange } = request;
        match wish.deed {
            Deed::Find => self.find(&zone, &key, &head).await,
            Deed::Keep(status, fields) => {
                let metrics = self.shared.store.metrics().zone(&exchange.zone.name);
                let taken = self.take(&zone, &key, &head, (status, fields, body)).await;
                let (kept, why) = match taken {
                    Taken::Stored => {
                        metrics.kept(Kept::Stored);
                        return Ok(Response::new(StatusCode::NO_CONTENT, Body::Empty));
                    }
                    Taken::Uncacheable => (
                        Kept::Uncacheable,
                        "the response's fields forbid a shared cache to keep it, or do not say for how long",
                    ),
                    Taken::Not(Filled::TooLarge) => (Kept::TooLarge, "the content is longer than the zone stores"),
                    Taken::Not(Filled::NoRoom) => (Kept::NoRoom, "there is no room"),
                    Taken::Not(_) => (Kept::Broken, "the content broke off"),
                };
                metrics.kept(kept);
                Err(nothing(why))
            }
            Deed::Forget => match self.shared.store.forget(&key).await {
                true => Ok(Response::new(StatusCode::NO_CONTENT, Body::Empty)),
                false => Err(nothing("nothing was kept")),
            },
        }
    }

    async fn find(&self, zone: &Zone, key: &str, head: &Head) -> Result<Response, Failure> {
        let (headers, now) = (&head.headers, UnixTime::now());
        let none = || nothing("nothing is kept");
        let resource = self.shared.store.find(key).await.ok_or_else(none)?;
        let variant = resource.select(headers).ok_or_else(none)?;
        // Nobody would bring a stale one up to date.
        let asker = Asker {
            fields: headers,
            personal: false,
            wishes: &Wishes::default(),
        };
        if reuse::judge(variant, asker, zone, now) != Reuse::Fresh {
            return Err(none());
        }
        let body = self.shared.store.body(variant).await.ok_or_else(none)?;
        let content = Content::Stored(body);
        Ok(serve::answer(head, variant, content, now, Outcome::Hit))
    }

    /// Reads content to its end, and keeps it as that of the response to `head`.
    async fn take(
        &self,
        zone: &Zone,
        key: &str,
        head: &Head,
        (status, mut fields, body): (StatusCode, HeaderMap, Body),
    ) -> Taken {
        let now = UnixTime::now();
        // The content's length is what it is, whatever the worker has copied.
        fields.remove(header::CONTENT_LENGTH);
        let seen = Seen {
            request: &head.headers,
            status,
            fields: &fields,
            asked: now,
            came: now,
        };
        let policy = Policy::plain(heuristic(zone));
        let vary = resource::selectors(&fields, &head.headers);
        let (Ok(worth), Some(vary)) = (worth::judge(&seen, &policy), vary) else {
            return Taken::Uncacheable;
        };
        let length = http_body::Body::size_hint(&body).exact();
        let (fill, mut room) = (Fill::default(), self.shared.store.room());
        let filled = match length {
            Some(length) if length > zone.object_bytes => Filled::TooLarge,
            length if !room.grow(length.unwrap_or(0)) => Filled::NoRoom,
            length => fill.drive(body, length, zone.object_bytes, &mut room).await,
        };
        let bytes = match filled {
            Filled::Whole(bytes) => bytes,
            other => return Taken::Not(other),
        };
        resource::strip(&mut fields, &worth.directives);
        resource::date(&mut fields, now);
        let variant = Variant {
            status,
            fields,
            vary,
            body: BodyId(crate::cache::random()),
            length: bytes.len() as u64,
            asked: now,
            came: now,
            worth,
        };
        self.shared.store.put(key, variant, bytes).await;
        Taken::Stored
    }
}

/// What became of a response that was to be kept.
enum Taken {
    Stored,
    /// It must not be.
    Uncacheable,
    /// Its content was not had whole.
    Not(Filled),
}
