//! A client's wish for another protocol (RFC 9110 section 7.8; RFC 8441), as a guest passes it on: the guest sends the request with the
//! fields that came, the server agrees or not, and the tunnel is between client and server. `handler` lets a response be a
//! tunnel's only if a server agreed.

use std::sync::{Mutex, PoisonError};

use http::header::{self, HeaderValue};
use http::{Method, StatusCode, request, response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::http::door::Head;

/// Another protocol, as a version of HTTP asks for it.
#[derive(Debug)]
enum Wish {
    /// `Upgrade` of HTTP/1.1, with its value.
    Field(HeaderValue),
    /// Extended CONNECT of HTTP/2.
    Connect(Protocol),
}

/// What a client asked for, if it did.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    asked: Option<(OnUpgrade, Wish)>,
    switched: Mutex<Option<HeaderValue>>,
}

impl Upgrade {
    /// Takes it out of the request's head.
    pub(super) fn of(head: &mut Head) -> Self {
        let on = head.extensions.remove::<OnUpgrade>();
        let connect = head.extensions.remove::<Protocol>().map(Wish::Connect);
        let wish = connect.or_else(|| head.meant().upgrade.clone().map(Wish::Field));
        Self {
            asked: on.zip(wish),
            switched: Mutex::new(None),
        }
    }

    /// Whether a guest's request, as it wrote it, asks for what the client asked for.
    pub(super) fn repeated_by(&self, head: &request::Parts) -> bool {
        match &self.asked {
            None => false,
            Some((_, Wish::Connect(_))) => head.method == Method::CONNECT,
            Some((_, Wish::Field(_))) => head.method == Method::GET && head.headers.contains_key(header::UPGRADE),
        }
    }

    /// Puts it into the head of a guest's request that repeats it.
    pub(super) fn pass_on(&self, head: &mut Head) {
        let Some((on, wish)) = &self.asked else { return };
        match wish {
            Wish::Connect(protocol) => drop(head.extensions.insert(protocol.clone())),
            Wish::Field(protocol) => head.ask_upgrade(protocol.clone()),
        }
        head.extensions.insert(on.clone());
    }

    /// Notes that the server agreed, if `head` says so.
    pub(super) fn agreed(&self, head: &response::Parts, asked: &Method) {
        let switched = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => head.headers.get(header::UPGRADE).cloned(),
            status if *asked == Method::CONNECT && status.is_success() => Some(HeaderValue::from_static("")),
            _ => None,
        };
        if self.asked.is_some() && switched.is_some() {
            *self.switched.lock().unwrap_or_else(PoisonError::into_inner) = switched;
        }
    }

    /// What was agreed on.
    pub(super) fn switched(&self) -> Option<HeaderValue> {
        self.switched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
