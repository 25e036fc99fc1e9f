//! The zone's cache, as a script uses it by itself (the Cache API): what it wants goes as a wish to
//! the room `cache`, under the zone's name and by nothing that the zone serves. It counts as a
//! sub-request.

use std::sync::atomic::Ordering::Relaxed;

use http::uri::Scheme;

use super::grant::{Grant, Refused};
use super::log::Level;
use crate::http::body::Body;
use crate::http::door::{self, Authority};
use crate::http::handler::Reason;
use crate::http::kept::{Deed, Wish};
use crate::http::message::{Exchange, Request};

impl Grant {
    /// Does what the guest wants of its cache `cache` for `request`. `None`: nothing is kept, or
    /// nothing was. In a zone without `[zone.cache]` that is so always, and the log says why, once
    /// a request.
    ///
    /// # Errors
    /// As of [`Grant::send`].
    pub(super) async fn kept(
        &self,
        cache: &str,
        deed: Deed,
        request: http::Request<Body>,
    ) -> Result<Option<http::Response<Body>>, Refused> {
        let Some(zone) = self.exchange.zone.kept.clone() else {
            if !self.without_cache.swap(true, Relaxed) {
                self.say(Level::Warn, "caches: nothing is kept, for the zone has no [zone.cache]");
            }
            return Ok(None);
        };
        self.count()?;
        let (parts, body) = request.into_parts();
        let tls = parts.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
        let written = parts.uri.authority().ok_or(Refused::Malformed)?;
        let authority = Authority::read(written.as_str().as_bytes(), tls).ok_or(Refused::Malformed)?;
        let mut head = door::guest(parts, &authority, &zone, false, false).map_err(|_| Refused::Malformed)?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let url = format!("{}://{}{target}", if tls { "https" } else { "http" }, authority.text);
        let keeps = matches!(deed, Deed::Keep(..));
        head.extensions.insert(Wish {
            cache: cache.into(),
            url: url.into(),
            deed,
        });
        let exchange = Exchange {
            host: authority.text.into(),
            zone,
            ..self.exchange.clone()
        };
        match self.reach.origin.handle(Request { head, body, exchange }).await {
            Ok(response) => Ok(Some(http::Response::from_parts(response.head, response.body))),
            Err(failure) if failure.reason == Reason::NotFound => {
                if keeps {
                    self.say(Level::Debug, &format!("caches: not kept: {}", failure.detail));
                }
                Ok(None)
            }
            Err(failure) => Err(failure.reason.into()),
        }
    }
}
