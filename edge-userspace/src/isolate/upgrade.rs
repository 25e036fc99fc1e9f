//! A client's wish for another protocol (RFC 9110 section 7.8; RFC 8441), which a guest may pass on
//! or grant. It passes it on by sending the request with the fields that came: the server agrees or
//! not, and the tunnel is between client and server. It grants it, if it is a WebSocket, by being
//! the other side itself. `handler` lets a response be a tunnel's only if one of the two agreed.
//!
//! Whatever the version, a guest sees a WebSocket's wish as HTTP/1.1 has it: GET with `Upgrade` and
//! a key, answered by 101.

use std::sync::{Mutex, PoisonError};

use http::header::{self, HeaderValue};
use http::{Method, StatusCode, request, response};
use hyper::ext::Protocol;

use crate::http::door::Head;
use crate::http::switch::Switch;
use crate::http::websocket::{self, Key};

/// Another protocol, as a version of HTTP asks for it.
#[derive(Debug)]
enum Wish {
    /// `Upgrade` of HTTP/1.1, with its value.
    Field(HeaderValue),
    /// Extended CONNECT of HTTP/2 and HTTP/3.
    Connect(Protocol),
}

/// What a client asked for.
#[derive(Debug)]
struct Asked {
    on: Switch,
    wish: Wish,
    /// The `Sec-WebSocket-Key` that the guest is shown: the client's, or one of ours in place of
    /// extended CONNECT.
    key: Option<HeaderValue>,
}

/// Who agreed to it.
#[derive(Debug)]
enum Switched {
    /// A server, to this value of `Upgrade`.
    Server(HeaderValue),
    /// The guest, to a WebSocket.
    Guest,
}

/// What a client asked for, if it did.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    asked: Option<Asked>,
    switched: Mutex<Option<Switched>>,
}

impl Wish {
    fn is_websocket(&self) -> bool {
        match self {
            Self::Field(protocol) => websocket::is_asked(protocol.as_bytes()),
            Self::Connect(protocol) => websocket::is_asked(protocol.as_ref()),
        }
    }
}

impl Upgrade {
    /// Takes it out of the request's head, and makes that what a guest is shown.
    pub(super) fn of(head: &mut Head) -> Self {
        let on = Switch::take(&mut head.extensions);
        let connect = head.extensions.remove::<Protocol>().map(Wish::Connect);
        let wish = connect.or_else(|| head.meant().upgrade.clone().map(Wish::Field));
        let Some((on, wish)) = on.zip(wish) else {
            return Self::default();
        };
        if let Wish::Connect(_) = &wish
            && wish.is_websocket()
            && let Some(key) = Key::random()
        {
            head.method = Method::GET;
            head.headers
                .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            head.headers.insert(header::SEC_WEBSOCKET_KEY, key.value());
        }
        let key = head.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        Self {
            asked: Some(Asked { on, wish, key }),
            switched: Mutex::new(None),
        }
    }

    /// Whether a guest's request, as it wrote it, asks for what the client asked for, in its name.
    pub(super) fn repeated_by(&self, head: &request::Parts) -> bool {
        let Some(Asked { wish, key, .. }) = &self.asked else {
            return false;
        };
        match wish {
            Wish::Connect(_) if !wish.is_websocket() => head.method == Method::CONNECT,
            _ => {
                head.method == Method::GET
                    && head.headers.contains_key(header::UPGRADE)
                    && head.headers.get(header::SEC_WEBSOCKET_KEY) == key.as_ref()
            }
        }
    }

    /// Puts it into the head of a guest's request that repeats it.
    pub(super) fn pass_on(&self, head: &mut Head) {
        let Some(Asked { on, wish, .. }) = &self.asked else {
            return;
        };
        match wish {
            Wish::Connect(protocol) => {
                head.method = Method::CONNECT;
                head.headers.remove(header::SEC_WEBSOCKET_KEY);
                head.extensions.insert(protocol.clone());
            }
            Wish::Field(protocol) => head.ask_upgrade(protocol.clone()),
        }
        head.extensions.insert(on.clone());
    }

    /// Notes that the server agreed, if `head` says so, and makes that what a guest is shown.
    pub(super) fn agreed(&self, head: &mut response::Parts, asked: &Method) {
        let Some(Asked { wish, .. }) = &self.asked else {
            return;
        };
        let protocol = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => head.headers.get(header::UPGRADE).cloned(),
            status if *asked == Method::CONNECT && status.is_success() => Some(HeaderValue::from_static("websocket")),
            _ => None,
        };
        let Some(protocol) = protocol else { return };
        if matches!(wish, Wish::Connect(_)) && wish.is_websocket() {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.headers.insert(header::UPGRADE, protocol.clone());
        }
        self.switch(Switched::Server(protocol));
    }

    /// Grants the client's wish for a WebSocket: the guest is its other side. `head` becomes the
    /// response; the connection is there when that has been sent. `None`: the client asked for
    /// none, or in a way that is against the grammar (RFC 6455 section 4.2.1).
    pub(super) fn accept(&self, head: &mut response::Parts) -> Option<Switch> {
        let Asked { on, wish, key } = self.asked.as_ref().filter(|asked| asked.wish.is_websocket())?;
        if matches!(wish, Wish::Field(_)) {
            let accept = websocket::accept(key.as_ref()?.as_bytes());
            head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        self.switch(Switched::Guest);
        Some(on.clone())
    }

    fn switch(&self, by: Switched) {
        *self.switched.lock().unwrap_or_else(PoisonError::into_inner) = Some(by);
    }

    /// Makes `head` the client's version of an agreement, if it is one: a tunnel or not.
    pub(super) fn settle(&self, head: &mut response::Parts) -> bool {
        let switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(asked), Some(switched)) = (&self.asked, &*switched) else {
            return false;
        };
        let protocol = match switched {
            Switched::Server(protocol) => protocol.clone(),
            Switched::Guest => HeaderValue::from_static("websocket"),
        };
        match (head.status, &asked.wish) {
            (StatusCode::SWITCHING_PROTOCOLS, Wish::Field(_)) => {
                head.headers
                    .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(header::UPGRADE, protocol);
                true
            }
            (StatusCode::SWITCHING_PROTOCOLS, Wish::Connect(_)) => {
                head.status = StatusCode::OK;
                head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                true
            }
            (status, Wish::Connect(_)) => status.is_success(),
            _ => false,
        }
    }

    /// Whether the client asked by CONNECT: then every success would be a tunnel to it.
    pub(super) fn is_connect(&self) -> bool {
        matches!(
            &self.asked,
            Some(Asked {
                wish: Wish::Connect(_),
                ..
            })
        )
    }
}
