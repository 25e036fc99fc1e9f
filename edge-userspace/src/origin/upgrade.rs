//! Upgrades: a client's HTTP/1.1 `Upgrade` (RFC 9110 section 7.8) or extended CONNECT of HTTP/2 and
//! HTTP/3 (RFC 8441, RFC 9220), or a worker's WebSocket, asked of an origin in the version it
//! speaks; then both connections are joined by `tunnel`.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Version, request, response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::fleet::Group;
use super::lease::Lease;
use super::tunnel::{self, Limits, Place};
use crate::http::door::Meant;
use crate::http::fields::{self, members as tokens};
use crate::http::handler::{Failure, Reason};
use crate::http::switch::Switch;
use crate::http::websocket::{self, Inside, Key};

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Ask {
    /// `Upgrade` with its value.
    Upgrade(Switch, HeaderValue),
    /// Extended CONNECT with its `:protocol`.
    Connect(Switch, Protocol),
    /// A WebSocket, by a worker that is its other side.
    Inside(Inside),
}

/// What was asked of the origin, and so what its consent looks like.
#[derive(Debug)]
pub(super) enum Handshake {
    /// HTTP/1.1, for a client of HTTP/1.1 too: 101 and one of the protocols.
    Same(HeaderValue),
    /// HTTP/1.1 with a key of ours, for a client of HTTP/2.
    Keyed(Key),
    /// HTTP/2, for a client of HTTP/2 too.
    Extended,
    /// HTTP/2, for a client of HTTP/1.1 that sent this key.
    Translated(HeaderValue),
}

impl Ask {
    /// Takes what `head` asks for out of it. `None` for an ordinary request, and for an `Upgrade`
    /// that is not `allowed`, comes with content, or asks for `h2c`, which would smuggle requests
    /// past us: it is served without (RFC 9110 section 7.8 lets a server ignore it).
    ///
    /// # Errors
    /// A CONNECT that is not allowed, or not an extended one.
    pub(super) fn take(
        head: &mut request::Parts,
        meant: &Meant,
        allowed: bool,
        bodiless: bool,
    ) -> Result<Option<Self>, Failure> {
        if let Some(inside) = head.extensions.remove::<Inside>() {
            return Ok(allowed.then_some(Self::Inside(inside)));
        }
        let on = Switch::take(&mut head.extensions);
        if head.method == Method::CONNECT {
            return match (head.extensions.remove::<Protocol>(), on) {
                (Some(protocol), Some(on)) if allowed => Ok(Some(Self::Connect(on, protocol))),
                _ => Err(Failure::new(Reason::Method, "CONNECT that is not allowed here")),
            };
        }
        let Some(protocol) = &meant.upgrade else {
            return Ok(None);
        };
        let h2c = tokens(protocol).any(|token| token.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c")));
        match on {
            Some(on) if allowed && bodiless && !h2c => Ok(Some(Self::Upgrade(on, protocol.clone()))),
            _ => Ok(None),
        }
    }

    /// Makes `head` ask the origin behind `lease`; `None` when it cannot be asked.
    pub(super) async fn dress(&self, head: &mut request::Parts, lease: &Lease) -> Option<Handshake> {
        match (self, lease.is_h2()) {
            (Self::Upgrade(_, protocol), false) => Some(Handshake::Same(protocol.clone())),
            (Self::Upgrade(_, protocol), true) => {
                if !websocket::is_asked(protocol.as_bytes()) || !lease.takes_extended_connect().await {
                    return None;
                }
                let key = head.headers.remove(header::SEC_WEBSOCKET_KEY)?;
                head.method = Method::CONNECT;
                head.extensions.insert(Protocol::from_static("websocket"));
                Some(Handshake::Translated(key))
            }
            (Self::Inside(_), true) => {
                if !lease.takes_extended_connect().await {
                    return None;
                }
                head.method = Method::CONNECT;
                head.headers
                    .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                head.extensions.insert(Protocol::from_static("websocket"));
                Some(Handshake::Extended)
            }
            (asked, false) => {
                if matches!(asked, Self::Connect(_, protocol) if !websocket::is_asked(protocol.as_ref())) {
                    return None;
                }
                let key = Key::random()?;
                head.method = Method::GET;
                head.headers.insert(header::SEC_WEBSOCKET_KEY, key.value());
                head.headers
                    .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                Some(Handshake::Keyed(key))
            }
            (Self::Connect(_, protocol), true) => {
                if !lease.takes_extended_connect().await {
                    return None;
                }
                head.extensions.insert(protocol.clone());
                Some(Handshake::Extended)
            }
        }
    }

    /// Makes the origin's consent, `head`, the client's.
    pub(super) fn reply(&self, head: &mut response::Parts, handshake: &Handshake) {
        let upgrade = head.headers.get(header::UPGRADE).cloned();
        let via = super::forward::via(head.version);
        fields::strip_hop_by_hop(&mut head.headers);
        for name in [header::CONTENT_LENGTH, header::TRAILER] {
            head.headers.remove(name);
        }
        head.headers.append(header::VIA, via);
        head.extensions.clear();
        head.version = Version::HTTP_11;
        match self {
            Self::Connect(..) => {
                head.status = StatusCode::OK;
                head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            }
            // No key of the worker's is answered, and no connection of its own is switched.
            Self::Inside(_) => {
                head.status = StatusCode::SWITCHING_PROTOCOLS;
                head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            }
            Self::Upgrade(_, asked) => {
                head.status = StatusCode::SWITCHING_PROTOCOLS;
                head.headers
                    .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers
                    .insert(header::UPGRADE, upgrade.unwrap_or_else(|| asked.clone()));
                if let Handshake::Translated(key) = handshake {
                    head.headers
                        .insert(header::SEC_WEBSOCKET_ACCEPT, websocket::accept(key.as_bytes()));
                }
            }
        }
    }
}

impl Handshake {
    /// The connection's own fields, after the framing was settled.
    pub(super) fn finish(&self, head: &mut request::Parts) {
        let protocol = match self {
            Self::Same(protocol) => protocol.clone(),
            Self::Keyed(_) => HeaderValue::from_static("websocket"),
            Self::Extended | Self::Translated(_) => return,
        };
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, protocol);
    }

    /// Whether the origin's `head` consents; false is an ordinary response.
    ///
    /// # Errors
    /// Consent to what was not asked, or in a form that the client could not be told.
    pub(super) fn accepted(&self, head: &response::Parts) -> Result<bool, &'static str> {
        let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
        match self {
            Self::Same(asked) => {
                let given = head.headers.get(header::UPGRADE);
                match given {
                    _ if !switching => Ok(false),
                    Some(given) if tokens(given).all(|g| tokens(asked).any(|a| a.eq_ignore_ascii_case(g))) => Ok(true),
                    _ => Err("an upgrade to what was not asked for"),
                }
            }
            Self::Keyed(key) => {
                if switching {
                    let accept = head.headers.get(header::SEC_WEBSOCKET_ACCEPT);
                    return match accept {
                        Some(accept) if key.accepted_by(accept.as_bytes()) => Ok(true),
                        _ => Err("a WebSocket handshake with a wrong Sec-WebSocket-Accept"),
                    };
                }
                success_is_wrong(head.status)
            }
            Self::Extended | Self::Translated(_) => {
                if head.status == StatusCode::OK {
                    return Ok(true);
                }
                success_is_wrong(head.status)
            }
        }
    }
}

/// A success that is no upgrade would tell a client of CONNECT that its tunnel stands.
fn success_is_wrong(status: StatusCode) -> Result<bool, &'static str> {
    if status.is_success() {
        Err("a success that is no upgrade")
    } else {
        Ok(false)
    }
}

/// Joins the client of `ask` and the origin once both have switched. Keeps `lease`, so that the
/// connection counts, and its place among the tunnels.
pub(super) fn join(ask: &Ask, on_origin: OnUpgrade, lease: Lease, group: &Group, place: Option<Arc<Place>>) {
    let (metrics, limits) = (group.metrics.clone(), Limits::of(&group.upstream));
    match ask {
        Ask::Upgrade(on_client, _) | Ask::Connect(on_client, _) => {
            let on_client = on_client.clone();
            tokio::spawn(async move {
                tunnel::run(on_client, on_origin, &metrics, limits).await;
                lease.discard();
                drop(place);
            });
        }
        Ask::Inside(inside) => {
            // Taken before: the request was sent twice, and one answer is enough.
            let Some(worker) = inside.take() else { return };
            tokio::spawn(async move {
                tunnel::run_inside(worker, on_origin, &metrics, limits).await;
                lease.discard();
                drop(place);
            });
        }
    }
}
