//! What the endpoint answers, request by request; pure but for the calls to [`Control`].

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::server::Rights;
use super::{Control, ControlError, OriginOrder, Penalty, PurgeOrder, metrics};
use crate::config::value::Network;

/// Marks a control command. A web page cannot set it across origins without a preflight, which this
/// endpoint never grants, so a browser on the operator's machine cannot be made to change the node
/// (cross-site request forgery).
pub(super) const CONTROL_HEADER: &str = "edge-control";

pub(super) type Answer = Response<Full<Bytes>>;

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

/// Answers one request whose content has been read, and which [`refusal`] has let through.
pub(super) fn answer(method: &Method, path: &str, body: &[u8], registry: &Registry, control: &dyn Control) -> Answer {
    let read = is_read(method);
    match path {
        "/" if read => super::page::page(),
        "/metrics" if read => with_type(StatusCode::OK, metrics::CONTENT_TYPE, metrics::encode(registry)),
        "/healthz" if read => text(StatusCode::OK, "alive\n"),
        "/readyz" if read && control.ready() => {
            let notes = control.notes();
            text(
                StatusCode::OK,
                format!(
                    "ready\n{}",
                    notes.iter().map(|note| format!("{note}\n")).collect::<String>()
                ),
            )
        }
        "/readyz" if read => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/status" if read => json(StatusCode::OK, &control.status()),
        "/deny" if read => match control.denied() {
            Ok(list) => json(StatusCode::OK, &list),
            Err(error) => failed(&error),
        },
        "/deny" if *method == Method::POST => match network(body) {
            Some(network) => match control.deny(network) {
                Ok(denial) => json(StatusCode::OK, &denial),
                Err(error) => failed(&error),
            },
            None => no_network(),
        },
        "/top-sources" if read => match control.top_sources() {
            Ok(list) => json(StatusCode::OK, &list),
            Err(error) => failed(&error),
        },
        "/top-sources" => not_allowed("GET, HEAD"),
        "/deny/cut" if *method == Method::POST => match network(body) {
            Some(network) => match control.cut(network) {
                Ok(count) => json(StatusCode::OK, &count),
                Err(error) => failed(&error),
            },
            None => no_network(),
        },
        "/deny/cut" => not_allowed("POST"),
        "/deny" if *method == Method::DELETE => match network(body) {
            Some(network) => match control.lift(network) {
                Ok(()) => json(StatusCode::OK, &network),
                Err(error) => failed(&error),
            },
            None => no_network(),
        },
        "/penalty" if read => match control.penalties() {
            Ok(list) => json(StatusCode::OK, &list),
            Err(error) => failed(&error),
        },
        "/penalty" if *method == Method::POST => match serde_json::from_slice::<Penalty>(body) {
            Ok(penalty) => match control.penalise(&penalty) {
                Ok(()) => json(StatusCode::OK, &penalty),
                Err(error) => failed(&error),
            },
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/penalty" if *method == Method::DELETE => match std::str::from_utf8(body).unwrap_or_default().parse() {
            Ok(subject) => match control.forgive(subject) {
                Ok(()) => json(StatusCode::OK, &subject),
                Err(error) => failed(&error),
            },
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/cache/purge" if *method == Method::POST => match serde_json::from_slice::<PurgeOrder>(body) {
            Ok(order) => match control.purge(&order) {
                Ok(()) => json(StatusCode::OK, &order),
                Err(error) => failed(&error),
            },
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/origin" if *method == Method::POST => match serde_json::from_slice::<OriginOrder>(body) {
            Ok(order) => match control.origin(&order) {
                Ok(()) => json(StatusCode::OK, &order),
                Err(error) => failed(&error),
            },
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/origin" => not_allowed("POST"),
        "/lockdown" if read => match control.lockdown() {
            Ok(lockdown) => json(StatusCode::OK, &lockdown),
            Err(error) => failed(&error),
        },
        "/lockdown" if *method == Method::POST => match serde_json::from_slice(body) {
            Ok(mode) => match control.lock_down(mode) {
                Ok(lockdown) => json(StatusCode::OK, &lockdown),
                Err(error) => failed(&error),
            },
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/cache/purge" => not_allowed("POST"),
        "/leave" if *method == Method::POST => match control.leave() {
            Ok(()) => text(StatusCode::OK, "left\n"),
            Err(error) => failed(&error),
        },
        "/leave" => not_allowed("POST"),
        "/lockdown" => not_allowed("GET, HEAD, POST"),
        "/" | "/events" | "/metrics" | "/healthz" | "/readyz" | "/status" => not_allowed("GET, HEAD"),
        "/deny" | "/penalty" => not_allowed("GET, HEAD, POST, DELETE"),
        _ => text(
            StatusCode::NOT_FOUND,
            "known: / /events /metrics /healthz /readyz /status /deny /deny/cut /top-sources /penalty /lockdown /cache/purge /cache/warm /origin /worker\n",
        ),
    }
}

/// Whether the request was addressed to an address or to localhost: a name that an attacker's DNS
/// points here (rebinding) is refused. A request over a Unix socket names no host or `localhost`.
pub(super) fn local_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return host.is_empty();
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn network(body: &[u8]) -> Option<IpNet> {
    let network: Network = std::str::from_utf8(body).ok()?.trim().parse().ok()?;
    Some(network.0)
}

fn no_network() -> Answer {
    text(
        StatusCode::BAD_REQUEST,
        "write a network: 192.0.2.0/24, 2001:db8::/32 or one address\n",
    )
}

fn failed(error: &ControlError) -> Answer {
    text(StatusCode::CONFLICT, format!("{error}\n"))
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {methods}\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(body) => with_type(status, "application/json", body + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::super::{Denial, Denied, Lockdown, Penalised, Purged, TopSource};
    use super::*;
    use crate::config::LockdownMode;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Fake(Mutex<Vec<IpNet>>);

    impl Control for Fake {
        fn status(&self) -> serde_json::Value {
            serde_json::json!({"version": "0"})
        }
        fn ready(&self) -> bool {
            !self.0.lock().unwrap().is_empty()
        }
        fn denied(&self) -> Result<Vec<Denied>, ControlError> {
            let list = self.0.lock().unwrap();
            Ok(list
                .iter()
                .map(|n| Denied {
                    network: *n,
                    file: false,
                    operator: true,
                    allowed: false,
                })
                .collect())
        }
        fn deny(&self, network: IpNet) -> Result<Denial, ControlError> {
            self.0.lock().unwrap().push(network);
            Ok(Denial::Denied)
        }
        fn top_sources(&self) -> Result<Vec<TopSource>, ControlError> {
            Ok(Vec::new())
        }
        fn cut(&self, network: IpNet) -> Result<usize, ControlError> {
            Ok(self.0.lock().unwrap().iter().filter(|n| **n == network).count())
        }
        fn lift(&self, network: IpNet) -> Result<(), ControlError> {
            let mut list = self.0.lock().unwrap();
            let at = list
                .iter()
                .position(|n| *n == network)
                .ok_or(ControlError("not denied".to_owned()))?;
            list.remove(at);
            Ok(())
        }
        fn penalties(&self) -> Result<Vec<Penalty>, ControlError> {
            Ok(Vec::new())
        }
        fn penalise(&self, penalty: &Penalty) -> Result<(), ControlError> {
            let known = matches!(penalty.subject, Penalised::Client(0xab));
            if known {
                Ok(())
            } else {
                Err(ControlError("full".to_owned()))
            }
        }
        fn forgive(&self, subject: Penalised) -> Result<(), ControlError> {
            let known = matches!(subject, Penalised::Address(IpAddr::V6(_)));
            if known {
                Ok(())
            } else {
                Err(ControlError("none".to_owned()))
            }
        }
        fn origin(&self, order: &OriginOrder) -> Result<(), ControlError> {
            match order.server.as_str() {
                "http://10.0.0.1:80" => Ok(()),
                _ => Err(ControlError("no such server".to_owned())),
            }
        }
        fn purge(&self, order: &PurgeOrder) -> Result<(), ControlError> {
            match (&order.what, order.soft) {
                (Purged::Url { .. } | Purged::Zone { .. }, _) | (Purged::All { all: true }, true) => Ok(()),
                _ => Err(ControlError("none".to_owned())),
            }
        }
        fn worker(&self, _: super::super::WorkerOrder) -> super::super::Ordered<'_> {
            Box::pin(async { Err(ControlError("none".to_owned())) })
        }
        fn leave(&self) -> Result<(), ControlError> {
            Err(ControlError("in use".to_owned()))
        }
        fn lockdown(&self) -> Result<Lockdown, ControlError> {
            Ok(Lockdown {
                syn_cookies: false,
                on: false,
                mode: LockdownMode::Auto,
                attempts_per_second: 0,
                kernel: false,
            })
        }
        fn lock_down(&self, mode: LockdownMode) -> Result<Lockdown, ControlError> {
            if mode == LockdownMode::Off {
                return Err(ControlError("no QUIC".to_owned()));
            }
            self.lockdown()
        }
    }

    fn ask(fake: &Fake, method: &str, path: &str, headers: &[(&'static str, &str)], body: &str) -> u16 {
        ask_with(Rights::Command, fake, method, path, headers, body)
    }

    fn ask_with(
        rights: Rights,
        fake: &Fake,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> u16 {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let refused = refusal(&head, rights);
        let answer = refused.unwrap_or_else(|| answer(&head.method, path, body.as_bytes(), &Registry::default(), fake));
        answer.status().as_u16()
    }

    /// Everybody on the host could command the node by the address that is there for reading.
    #[test]
    fn an_address_for_reading_takes_no_commands() {
        let fake = Fake::default();
        let ask = |method, path, body| ask_with(Rights::Read, &fake, method, path, &[("edge-control", "1")], body);
        for (method, path) in [
            ("POST", "/deny"),
            ("DELETE", "/penalty"),
            ("POST", "/leave"),
            ("POST", "/worker/deploy"),
            ("PUT", "/whatever-comes"),
        ] {
            assert_eq!(ask(method, path, "192.0.2.0/24"), 403, "{method} {path}");
        }
        assert!(fake.0.lock().unwrap().is_empty());
        assert_eq!((ask("GET", "/status", ""), ask("HEAD", "/metrics", "")), (200, 200));
    }

    /// An operator's commands work, and say so when they do not.
    #[test]
    fn control() {
        let fake = Fake::default();
        let control = [("edge-control", "1")];
        assert_eq!(ask(&fake, "GET", "/readyz", &[], ""), 503);
        assert_eq!(ask(&fake, "POST", "/deny", &control, "192.0.2.9/24"), 200);
        assert_eq!(
            fake.0.lock().unwrap().as_slice(),
            ["192.0.2.0/24".parse::<IpNet>().unwrap()]
        );
        assert_eq!(ask(&fake, "GET", "/readyz", &[], ""), 200);
        assert_eq!(ask(&fake, "GET", "/top-sources", &[], ""), 200);
        assert_eq!(ask(&fake, "POST", "/top-sources", &control, ""), 405);
        assert_eq!(ask(&fake, "POST", "/deny/cut", &control, "192.0.2.0/24"), 200);
        assert_eq!(ask(&fake, "POST", "/deny/cut", &[], "192.0.2.0/24"), 403);
        assert_eq!(ask(&fake, "GET", "/deny/cut", &control, ""), 405);
        assert_eq!(ask(&fake, "POST", "/deny/cut", &control, "everything"), 400);
        assert_eq!(ask(&fake, "DELETE", "/deny", &control, "192.0.2.0/24"), 200);
        assert_eq!(ask(&fake, "DELETE", "/deny", &control, "192.0.2.0/24"), 409);
        assert_eq!(ask(&fake, "POST", "/deny", &control, "everything"), 400);
        assert_eq!(ask(&fake, "PUT", "/deny", &control, ""), 405);
        assert_eq!(ask(&fake, "GET", "/other", &[], ""), 404);
        let order = |subject: &str| format!("{{\"subject\":\"{subject}\",\"level\":\"blocked\",\"seconds\":9}}");
        assert_eq!(
            ask(&fake, "POST", "/penalty", &control, &order("client:00000000000000ab")),
            200
        );
        assert_eq!(ask(&fake, "POST", "/penalty", &control, &order("192.0.2.1")), 409);
        assert_eq!(ask(&fake, "POST", "/penalty", &control, &order("client:ab")), 400);
        assert_eq!(ask(&fake, "DELETE", "/penalty", &control, "2001:db8::/64"), 200);
        assert_eq!(ask(&fake, "DELETE", "/penalty", &control, "192.0.2.1"), 409);
        assert_eq!(ask(&fake, "DELETE", "/penalty", &control, "nobody"), 400);
        let purge = |what| ask(&fake, "POST", "/cache/purge", &control, what);
        assert_eq!(purge("{\"url\":\"https://a/\"}"), 200);
        assert_eq!(purge("{\"zone\":\"z\",\"tag\":\"t\"}"), 409);
        assert_eq!(purge("{\"uri\":\"https://a/\"}"), 400);
        assert_eq!(purge("{\"zone\":\"z\"}"), 200);
        assert_eq!(purge("{\"all\":true}"), 409);
        assert_eq!(purge("{\"all\":true,\"soft\":true}"), 200);
        assert_eq!(purge("{\"url\":\"https://a/\",\"soft\":true}"), 200);
        assert_eq!(purge("{\"url\":\"https://a/\",\"sort\":true}"), 400);
        assert_eq!(ask(&fake, "GET", "/lockdown", &[], ""), 200);
        assert_eq!(ask(&fake, "POST", "/lockdown", &control, "\"on\""), 200);
        assert_eq!(ask(&fake, "POST", "/lockdown", &control, "\"off\""), 409);
        assert_eq!(ask(&fake, "POST", "/lockdown", &control, "on"), 400);
        assert_eq!(ask(&fake, "DELETE", "/lockdown", &control, ""), 405);
    }

    /// A web page in the operator's browser must not be able to change the node or read its status.
    #[test]
    fn browsers_are_kept_out() {
        let fake = Fake::default();
        assert_eq!(ask(&fake, "POST", "/deny", &[], "192.0.2.0/24"), 403);
        assert_eq!(ask(&fake, "DELETE", "/penalty", &[], "2001:db8::"), 403);
        assert_eq!(ask(&fake, "POST", "/cache/purge", &[], "{}"), 403);
        assert_eq!(ask(&fake, "POST", "/lockdown", &[], "\"on\""), 403);
        assert_eq!(ask(&fake, "POST", "/leave", &[], ""), 403);
        // By its method, whatever path the next release adds.
        assert_eq!(ask(&fake, "PATCH", "/anything", &[], ""), 403);
        assert_eq!(ask(&fake, "POST", "/leave", &[("edge-control", "1")], ""), 409);
        assert_eq!(
            ask(&fake, "GET", "/status", &[("host", "rebound.example:9180")], ""),
            421
        );
        assert_eq!(ask(&fake, "GET", "/status", &[("host", "127.0.0.1:9180")], ""), 200);
        assert_eq!(ask(&fake, "GET", "/status", &[("host", "[::1]:9180")], ""), 200);
        assert_eq!(ask(&fake, "GET", "/status", &[("host", "localhost")], ""), 200);
    }
}
