//! Who may ask the endpoint for what: looked at before a byte of a request's content is read.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Method, StatusCode};

use super::reply::{Answer, text};

/// What may be asked of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Command,
    /// What changes nothing.
    Read,
}

/// Marks a control command. A web page cannot set it across origins without a preflight, which this
/// endpoint never grants, so a browser on the operator's machine cannot be made to change the node
/// (cross-site request forgery).
pub(super) const CONTROL_HEADER: &str = "edge-control";

/// Whether a method changes nothing.
pub(super) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Why a request is not looked at any further, whatever it asks for; before a byte of its content
/// is read.
pub(super) fn refusal(head: &http::request::Parts, rights: Rights) -> Option<Answer> {
    if !local_host(&head.headers) {
        let words = "the admin endpoint is asked by address or as localhost\n";
        return Some(text(StatusCode::MISDIRECTED_REQUEST, words));
    }
    if is_read(&head.method) {
        return None;
    }
    if !head.headers.contains_key(CONTROL_HEADER) {
        let words = "control commands need the field `Edge-Control: 1`\n";
        return Some(text(StatusCode::FORBIDDEN, words));
    }
    let words = "this address is for reading; commands are taken where [admin] listen says, by default unix:/run/edge/admin.sock\n";
    (rights == Rights::Read).then(|| text(StatusCode::FORBIDDEN, words))
}

/// Whether the request was addressed to an address or to localhost: a name that an attacker's DNS
/// points here (rebinding) is refused. A request over a Unix socket names no host or `localhost`.
fn local_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return host.is_empty();
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}
