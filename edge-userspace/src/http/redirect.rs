//! What plain listeners answer: the same place over TLS. A [`Front`], so that plain requests pass
//! the same door as all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode, Uri};

use super::answer;
use super::door::Authority;
use super::handler::{Answer, Failure, Front, Reason};
use super::message::{Request, Response, Unjudged};
use crate::gate::cause::is_challenge;
use crate::tls::challenge::Challenges;
use crate::zones;

/// Redirects hosts that zones name; all others get 421, since a redirect to whatever the client
/// wrote would be an open one. 308 for every method: it keeps method and content (RFC 9110 section
/// 15.4.9), and every client of this decade knows it.
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

/// What plain listeners answer: redirects, but for the challenges of ACME servers (RFC 8555 section
/// 8.3), which go on to the zone as they are. A server that validates follows a redirect to a TLS
/// listener, and gets no further if the zone requires client certificates, or has no certificate
/// yet.
pub struct Plain {
    redirect: Arc<Redirect>,
    challenges: Arc<Challenges>,
    next: Arc<dyn Front>,
}

impl Plain {
    /// With what this node answers itself, and what serves the zones' requests.
    pub fn new(redirect: Arc<Redirect>, challenges: Arc<Challenges>, next: Arc<dyn Front>) -> Self {
        Self {
            redirect,
            challenges,
            next,
        }
    }

    /// The answer to a challenge of an order of this node's own.
    fn proof(&self, host: &str, path: &str) -> Option<Response> {
        let token = path.rsplit('/').next()?;
        let mut response = Response::new(StatusCode::OK, self.challenges.answer(host, token)?);
        let octets = HeaderValue::from_static("application/octet-stream");
        response.head.headers.insert(CONTENT_TYPE, octets);
        Some(response)
    }
}

impl Front for Plain {
    fn answer(&self, asked: Unjudged) -> Answer<'_> {
        let Request { head, exchange, .. } = asked.request();
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        // A host that no zone names is the redirect's to refuse, also if there is a default zone.
        let host = Authority::read(exchange.host.as_bytes(), false);
        let named = host
            .as_ref()
            .is_some_and(|host| self.redirect.zones.load().named(&host.name).is_some());
        let challenged = reads && is_challenge(&head.path());
        if let Some(host) = host.filter(|_| challenged)
            && let Some(proof) = self.proof(&host.name, head.uri.path())
        {
            return Box::pin(std::future::ready(Ok(proof)));
        }
        if challenged && named {
            self.next.answer(asked)
        } else {
            self.redirect.answer(asked)
        }
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
