//! What one request's guest may use: its meter, its zone's settings and log, and whom it may ask.
//! Made by `handler`, held by the guest's store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};
use http::uri::Scheme;

use super::assets;
use super::budget::Meter;
use super::log::Level;
use super::tenant::Tenant;
use super::tie::Tie;
use super::trial::Trial;
use super::upgrade::Upgrade;
use crate::config::Origin;
use crate::config::isolate::Limits;
use crate::config::value::OriginAddress;
use crate::http::body::Body;
use crate::http::door::{self, Authority};
use crate::http::fields::{self, CDN_LOOP};
use crate::http::handler::{Fault, Handler, Reason};
use crate::http::message::{Exchange, Request, Response};
use crate::http::trailers::{Filter, Filtered};
use crate::http::websocket::Inside;
use crate::zones::{Current, Zone};

/// Requests within requests: how deep.
pub(super) const DEPTH: u32 = 8;

/// One request's guest, as the host knows it.
pub struct Grant {
    /// Its zone.
    pub tenant: Arc<Tenant>,
    /// Its account.
    pub meter: Arc<Meter>,
    /// The request it answers.
    pub exchange: Exchange,
    /// Bytes it may still log.
    pub(super) log_left: AtomicUsize,
    pub(super) lineage: Lineage,
    pub(super) reach: Arc<Reach>,
    /// Between the guest's run and its client.
    pub(super) tie: Arc<Tie>,
    /// A failure of the guest is answered by the zone's origin.
    pub(super) passes: AtomicBool,
    /// The client's wish for another protocol.
    pub(super) upgrade: Upgrade,
    /// Its part in the trial of a version.
    pub(super) trial: OnceLock<Trial>,
    /// The log says already that the zone has no cache.
    pub(super) without_cache: AtomicBool,
}

impl Grant {
    /// Of one run of a tenant's worker, with its `limits`.
    pub(super) fn new(
        (tenant, limits): (&Arc<Tenant>, &Limits),
        exchange: Exchange,
        lineage: Lineage,
        reach: Arc<Reach>,
        upgrade: Upgrade,
    ) -> Arc<Self> {
        Arc::new(Self {
            tenant: tenant.clone(),
            meter: Meter::new(limits.cpu, tenant.turns.clone()),
            exchange,
            log_left: AtomicUsize::new(limits.log_bytes),
            lineage,
            reach,
            tie: Arc::default(),
            passes: AtomicBool::new(false),
            upgrade,
            trial: OnceLock::new(),
            without_cache: AtomicBool::new(false),
        })
    }

    /// Says why the guest's run came to a bad end. Not counted among the lines it may write: this
    /// is what the log is read for.
    pub fn reason(&self, text: &str) {
        let (tenant, now) = (&self.tenant, Instant::now());
        for line in text.lines().filter(|line| !line.is_empty()) {
            tenant.log.always(&tenant.name, self.exchange.id, line, now);
        }
    }

    /// Writes what the guest says, line by line, within the request's and the zone's limits.
    pub fn say(&self, level: Level, text: &str) {
        let rate = self
            .exchange
            .zone
            .worker
            .as_ref()
            .map_or(0, |worker| worker.limits.log_rate);
        let now = Instant::now();
        let mut dropped = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let fits = |left: usize| left.checked_sub(line.len());
            let fits = self.log_left.fetch_update(Relaxed, Relaxed, fits).is_ok();
            let tenant = &self.tenant;
            if !fits {
                tenant.log.beyond(self.exchange.id);
                dropped += 1;
            } else if !tenant.log.write(&tenant.name, self.exchange.id, level, line, rate, now) {
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.tenant.counts.log_dropped(dropped);
        }
    }

    /// A setting or secret of the zone. The configuration's come before those that were given by a
    /// command.
    pub fn setting(&self, name: &str) -> Option<String> {
        let worker = self.exchange.zone.worker.as_deref()?;
        let plain = worker.settings.iter().find(|(known, _)| known == name);
        let written = plain.map(|(_, value)| value.as_str()).or_else(|| {
            let secret = worker.secrets.iter().find(|(known, _)| known == name);
            secret.map(|(_, value)| value.0.as_str())
        });
        let given = self.tenant.secrets.load();
        written
            .or_else(|| given.get(name).map(|value| value.0.as_str()))
            .map(ToOwned::to_owned)
    }

    /// All settings and secrets of the zone, by name.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let given = self.tenant.secrets.load();
        let given = given.iter().map(|(name, value)| (name.as_str(), value.0.as_str()));
        let worker = self.exchange.zone.worker.as_deref();
        let plain = worker.into_iter().flat_map(|w| &w.settings);
        let plain = plain.map(|(name, value)| (name.as_str(), value.as_str()));
        let secret = worker.into_iter().flat_map(|w| &w.secrets);
        let secret = secret.map(|(name, value)| (name.as_str(), value.0.as_str()));
        // A later one takes the place of an earlier one.
        let all = given.chain(secret).chain(plain);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Who asks whom: carried by a sub-request among its extensions.
#[derive(Clone, Debug)]
pub(super) struct Lineage {
    /// Requests above this one, on this node and, by `CDN-Loop`, on others.
    pub(super) depth: u32,
    /// Of them on others.
    outside: u32,
    /// Sub-requests that are left to the whole tree of requests that one client's request grew.
    pub(super) left: Arc<AtomicU32>,
    /// `CDN-Loop` as it came (RFC 8586): a guest must not be able to take it off.
    pub(super) passed: Arc<[HeaderValue]>,
}

/// What sub-requests can reach from a worker thread.
pub(super) struct Reach {
    pub(super) zones: Current,
    /// Zones' own handlers, behind their gates.
    pub(super) router: std::sync::Weak<dyn Handler>,
    /// Servers.
    pub(super) origin: Arc<dyn Handler>,
}

/// Why a sub-request got no response. What a guest is told: plain words, nothing of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The zone may not ask there.
    #[error("not allowed")]
    Denied,
    /// Too many requests within this one.
    #[error("too many sub-requests")]
    TooMany,
    /// Too deep.
    #[error("a loop")]
    Loop,
    /// No host, or a request that cannot be sent.
    #[error("malformed")]
    Malformed,
    /// Nothing there, or refused.
    #[error("unreachable")]
    Unreachable,
    /// Not in time.
    #[error("timed out")]
    Timeout,
    /// The other side did not speak HTTP.
    #[error("protocol error")]
    Protocol,
    /// No room.
    #[error("overloaded")]
    Overload,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("zone", &self.exchange.zone.name)
            .finish_non_exhaustive()
    }
}

impl Lineage {
    /// Of a request that came from outside.
    pub(super) fn root(headers: &HeaderMap, subrequests: u32) -> Self {
        let passed: Arc<[HeaderValue]> = headers.get_all(CDN_LOOP).iter().cloned().collect();
        let passes = u32::try_from(fields::passes(headers)).unwrap_or(u32::MAX);
        // A tree that goes on over several nodes, or round the world to this one, must not grow by
        // a power each time.
        let left = subrequests.checked_shr(passes.saturating_mul(3)).unwrap_or(0);
        Self {
            depth: passes,
            outside: passes,
            left: Arc::new(AtomicU32::new(left)),
            passed,
        }
    }
}

impl Lineage {
    /// Whether another guest of this node waits for the request.
    pub(super) fn is_nested(&self) -> bool {
        self.depth > self.outside
    }
}

impl Grant {
    /// Sends a request on the guest's behalf: to its zone's origin, another zone, or a server
    /// elsewhere, where it may. The target is absolute. The response streams; dropping the future
    /// or the response's body cancels.
    ///
    /// # Errors
    /// As [`Refused`] says. A zone or an origin of a zone that fails is a response, as a client
    /// would see it.
    pub async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Refused> {
        let began = Instant::now();
        let outcome = self.dispatch(request, began).await;
        let (to, outcome) = match outcome {
            Ok((to, response)) => (to, Ok(response)),
            Err(refused) => (None, Err(refused)),
        };
        self.tenant.counts.subrequest(outcome.is_ok());
        if matches!(outcome, Err(Refused::TooMany)) {
            // A guest may try as often as it likes, and the log would grow with it.
            return Err(Refused::TooMany);
        }
        tracing::info!(
            target: "edge::isolate",
            id = %self.exchange.id,
            zone = to.as_deref(),
            caller = %self.exchange.zone.name,
            depth = self.lineage.depth.saturating_add(1),
            status = outcome.as_ref().ok().map(|r| r.head.status.as_u16()),
            refused = outcome.as_ref().err().map(tracing::field::display),
            first_byte_ms = began.elapsed().as_secs_f64() * 1e3,
            "sub-request"
        );
        outcome.map(|response| http::Response::from_parts(response.head, response.body))
    }

    async fn dispatch(
        &self,
        request: http::Request<Body>,
        started: Instant,
    ) -> Result<(Option<Arc<str>>, Response), Refused> {
        self.count()?;
        let depth = self.lineage.depth.saturating_add(1);
        if depth > DEPTH {
            return Err(Refused::Loop);
        }
        let (mut parts, body) = request.into_parts();
        let inside = parts.extensions.remove::<Inside>();
        let tls = parts.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
        let written = parts.uri.authority().ok_or(Refused::Malformed)?;
        let authority = Authority::read(written.as_str().as_bytes(), tls).ok_or(Refused::Malformed)?;
        let (way, zone) = self.way(&authority, tls, written.port_u16())?;
        let upgrades = matches!(way, Way::Origin) && self.upgrade.repeated_by(&parts);
        let mut head = door::guest(parts, &authority, &zone, matches!(way, Way::Zone), upgrades)
            .map_err(|_| Refused::Malformed)?;
        let body = Filtered::around(body, Filter::request(zone.requests.clone()));
        head.headers.remove(CDN_LOOP);
        for value in &*self.lineage.passed {
            head.headers.append(CDN_LOOP, value.clone());
        }
        let exchange = Exchange {
            id: self.exchange.id,
            peer: self.exchange.peer.clone(),
            host: authority.text.into(),
            zone,
            started,
        };
        let name = exchange.zone.name.clone();
        match way {
            Way::Origin => {
                if upgrades {
                    self.upgrade.pass_on(&mut head);
                }
                if let Some(inside) = inside {
                    // Whoever keeps answers must see that this one is for nobody else.
                    head.ask_upgrade(HeaderValue::from_static("websocket"));
                    head.extensions.insert(inside);
                }
                let method = head.method.clone();
                let request = Request { head, body, exchange };
                let response = match self.reach.origin.handle(request).await {
                    Ok(mut response) => {
                        self.upgrade.agreed(&mut response.head, &method);
                        response
                    }
                    // Said by the origin, in effect: there is no such file.
                    Err(failure) if failure.reason.fault() == Fault::Client => {
                        Response::new(failure.reason.status(), Body::Empty)
                    }
                    Err(failure) => return Err(failure.reason.into()),
                };
                Ok((None, response))
            }
            Way::Zone => {
                let lineage = Lineage {
                    depth,
                    ..self.lineage.clone()
                };
                head.extensions.insert(lineage);
                let router = self.reach.router.upgrade().ok_or(Refused::Unreachable)?;
                let response = match router.handle(Request { head, body, exchange }).await {
                    Ok(response) => response,
                    Err(failure) => Response::new(failure.reason.status(), Body::Empty),
                };
                Ok((Some(name), response))
            }
        }
    }

    /// Counts a request that the guest makes.
    ///
    /// # Errors
    /// [`Refused::TooMany`].
    pub(super) fn count(&self) -> Result<(), Refused> {
        let count = |left: u32| left.checked_sub(1);
        let counted = self.lineage.left.fetch_update(Relaxed, Relaxed, count);
        counted.map(drop).map_err(|_| Refused::TooMany)
    }

    /// A file among the worker's own, by a request's target; its host does not matter. It counts
    /// as a sub-request.
    ///
    /// # Errors
    /// [`Refused::Denied`] if the zone has no such files, and as [`Grant::send`].
    pub(super) async fn asset(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Refused> {
        let zone = self.exchange.zone.assets.clone().ok_or(Refused::Denied)?;
        self.count()?;
        let (parts, _) = request.into_parts();
        let tls = parts.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
        let written = parts.uri.authority().ok_or(Refused::Malformed)?;
        let authority = Authority::read(written.as_str().as_bytes(), tls).ok_or(Refused::Malformed)?;
        let head = door::guest(parts, &authority, &zone, false, false).map_err(|_| Refused::Malformed)?;
        let found = assets::file(&*self.reach.origin, zone, head, &self.exchange).await;
        let response = match found {
            Ok(Some(response)) => response,
            Ok(None) => Response::new(StatusCode::NOT_FOUND, Body::Empty),
            Err(failure) => return Err(failure.reason.into()),
        };
        Ok(http::Response::from_parts(response.head, response.body))
    }

    /// Where a request for `authority` goes.
    fn way(&self, authority: &Authority, tls: bool, port: Option<u16>) -> Result<(Way, Arc<Zone>), Refused> {
        let own = &self.exchange.zone;
        let host = &authority.name;
        let zones = self.reach.zones.load();
        let Some(worker) = &own.worker else {
            return Err(Refused::Denied);
        };
        if let Some(zone) = zones.named(host) {
            if zone.name == own.name {
                if matches!(own.origin, Origin::None) {
                    return Err(Refused::Denied);
                }
                return Ok((Way::Origin, own.clone()));
            }
            if worker.zones.contains(&zone.name) {
                return Ok((Way::Zone, zone.clone()));
            }
        }
        let asked = OriginAddress {
            socket: None,
            tls,
            host: host.clone(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
        };
        let found = own.elsewhere.iter().find(|(address, _)| *address == asked);
        found
            .map(|(_, zone)| (Way::Origin, zone.clone()))
            .ok_or(Refused::Denied)
    }
}

enum Way {
    Origin,
    Zone,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::OriginTimeout | Reason::WorkerTimeout | Reason::ClientTimeout => Self::Timeout,
            Reason::OriginMalformed | Reason::Malformed => Self::Protocol,
            Reason::Overload => Self::Overload,
            Reason::NotFound => Self::Denied,
            _ => Self::Unreachable,
        }
    }
}

/// The status that stands for `refused` where a response must be had.
impl From<Refused> for StatusCode {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Denied => Self::FORBIDDEN,
            Refused::TooMany | Refused::Overload => Self::SERVICE_UNAVAILABLE,
            Refused::Loop => Self::LOOP_DETECTED,
            Refused::Malformed => Self::BAD_REQUEST,
            Refused::Unreachable | Refused::Protocol => Self::BAD_GATEWAY,
            Refused::Timeout => Self::GATEWAY_TIMEOUT,
        }
    }
}
