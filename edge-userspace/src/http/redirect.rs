//! What plain listeners answer: the same place over TLS. A [`Front`], so that plain requests pass the same door as all others.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use http::header::{HeaderValue, LOCATION};
use http::{StatusCode, Uri};

use super::answer;
use super::door::Authority;
use super::handler::{Answer, Failure, Front, Reason};
use super::message::{Request, Response, Unjudged};
use crate::zones;

/// Redirects hosts that zones name; all others get 421, since a redirect to whatever the client wrote would be an open one.
/// 308 for every method: it keeps method and content (RFC 9110 section 15.4.9), and every client of this decade knows it.
#[derive(Debug)]
pub struct Redirect {
    zones: zones::Current,
    port: AtomicU16,
}

impl Redirect {
    /// To `port`, for the hosts of `zones`.
    pub fn new(zones: zones::Current, port: u16) -> Self {
        Self {
            zones,
            port: AtomicU16::new(port),
        }
    }

    /// To another port from now on.
    pub fn adjust(&self, port: u16) {
        self.port.store(port, Relaxed);
    }

    fn redirect(&self, request: &Request) -> Result<Response, Failure> {
        let unknown = || Failure::new(Reason::UnknownHost, "no zone names the host");
        let Authority { name, .. } = Authority::read(request.exchange.host.as_bytes(), false).ok_or_else(unknown)?;
        self.zones.load().named(&name).ok_or_else(unknown)?;
        let location = location(&name, self.port.load(Relaxed), &request.head.uri);
        // The target was checked against the grammar of URIs, the name against that of hosts.
        let location = HeaderValue::from_bytes(location.as_bytes())
            .map_err(|_| Failure::new(Reason::Malformed, "target cannot stand in a Location field"))?;
        let mut response = answer::text(StatusCode::PERMANENT_REDIRECT, "Use https.\n");
        response.head.headers.insert(LOCATION, location);
        Ok(response)
    }
}

impl Front for Redirect {
    fn answer(&self, request: Unjudged) -> Answer<'_> {
        Box::pin(std::future::ready(self.redirect(request.request())))
    }
}

fn location(name: &str, port: u16, target: &Uri) -> String {
    let name = if name.contains(':') {
        format!("[{name}]")
    } else {
        name.to_owned()
    };
    let path = match target.path_and_query().map(http::uri::PathAndQuery::as_str) {
        Some(path) if path.starts_with('/') => path,
        // `OPTIONS *`
        _ => "/",
    };
    match port {
        443 => format!("https://{name}{path}"),
        port => format!("https://{name}:{port}{path}"),
    }
}
