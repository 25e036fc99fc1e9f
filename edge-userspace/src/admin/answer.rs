//! What the endpoint answers: one table of paths and methods, pure but for the calls to
//! [`Control`].

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reply::{Answer, json, text, with_type};
use super::{Control, ControlError, OriginOrder, Penalty, PurgeOrder, metrics, page};
use crate::base::penalty::Subject;
use crate::config::LockdownMode;
use crate::config::value::Network;

/// One request whose content has been read, and which [`guard`](super::guard) has let through.
pub(super) struct Asked<'a> {
    pub(super) body: &'a [u8],
    pub(super) registry: &'a Registry,
    pub(super) control: &'a dyn Control,
}

/// What answers a request.
type Step = fn(&Asked<'_>) -> Answer;

/// A path, and what answers each method there. HEAD is answered as GET, without the content.
struct Route {
    path: &'static str,
    get: Option<Step>,
    post: Option<Step>,
    delete: Option<Step>,
}

/// Every path that is answered from the request alone; those that take long or carry much are
/// [`ELSEWHERE`].
const ROUTES: &[Route] = &[
    Route::at("/").get(|_| page::page()),
    Route::at("/metrics")
        .get(|asked| with_type(StatusCode::OK, metrics::CONTENT_TYPE, metrics::encode(asked.registry))),
    Route::at("/healthz").get(|_| text(StatusCode::OK, "alive\n")),
    Route::at("/readyz").get(ready),
    Route::at("/status").get(|asked| json(StatusCode::OK, &asked.control.status())),
    Route::at("/deny")
        .get(|asked| told(asked.control.denied()))
        .post(|asked| asked.network(|network| told(asked.control.deny(network))))
        .delete(|asked| asked.network(|network| told(asked.control.lift(network).map(|()| network)))),
    Route::at("/deny/cut").post(|asked| asked.network(|network| told(asked.control.cut(network)))),
    Route::at("/top-sources").get(|asked| told(asked.control.top_sources())),
    Route::at("/penalty")
        .get(|asked| told(asked.control.penalties()))
        .post(|asked| asked.order(|penalty: Penalty| told(asked.control.penalise(&penalty).map(|()| penalty))))
        .delete(forgive),
    Route::at("/lockdown")
        .get(|asked| told(asked.control.lockdown()))
        .post(|asked| asked.order(|mode: LockdownMode| told(asked.control.lock_down(mode)))),
    Route::at("/cache/purge")
        .post(|asked| asked.order(|order: PurgeOrder| told(asked.control.purge(&order).map(|()| order)))),
    Route::at("/origin")
        .post(|asked| asked.order(|order: OriginOrder| told(asked.control.origin(&order).map(|()| order)))),
    Route::at("/leave").post(|asked| match asked.control.leave() {
        Ok(()) => text(StatusCode::OK, "left\n"),
        Err(error) => failed(&error),
    }),
];

/// Paths that `server` has answered elsewhere.
const ELSEWHERE: &[&str] = &["/events", "/cache/warm", "/worker", "/fleet/event"];

/// Answers one request.
pub(super) fn answer(method: &Method, path: &str, asked: &Asked<'_>) -> Answer {
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        return match path {
            "/events" => not_allowed("GET"),
            _ => unknown(),
        };
    };
    let step = match *method {
        Method::GET | Method::HEAD => route.get,
        Method::POST => route.post,
        Method::DELETE => route.delete,
        _ => None,
    };
    step.map_or_else(|| not_allowed(&route.methods()), |step| step(asked))
}

impl Route {
    const fn at(path: &'static str) -> Self {
        Self {
            path,
            get: None,
            post: None,
            delete: None,
        }
    }

    const fn get(mut self, step: Step) -> Self {
        self.get = Some(step);
        self
    }

    const fn post(mut self, step: Step) -> Self {
        self.post = Some(step);
        self
    }

    const fn delete(mut self, step: Step) -> Self {
        self.delete = Some(step);
        self
    }

    /// The methods that are answered, as `Allow` has them.
    fn methods(&self) -> String {
        let all = [("GET, HEAD", self.get), ("POST", self.post), ("DELETE", self.delete)];
        let names: Vec<_> = all
            .iter()
            .filter(|(_, step)| step.is_some())
            .map(|(name, _)| *name)
            .collect();
        names.join(", ")
    }
}

impl Asked<'_> {
    /// With the network that the content names.
    fn network(&self, step: impl FnOnce(IpNet) -> Answer) -> Answer {
        let text_of = std::str::from_utf8(self.body).ok();
        match text_of.and_then(|text| text.trim().parse().ok()) {
            Some(Network(network)) => step(network),
            None => text(
                StatusCode::BAD_REQUEST,
                "write a network: 192.0.2.0/24, 2001:db8::/32 or one address\n",
            ),
        }
    }

    /// With the order that the content is, as JSON.
    fn order<T: DeserializeOwned>(&self, step: impl FnOnce(T) -> Answer) -> Answer {
        match serde_json::from_slice(self.body) {
            Ok(order) => step(order),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }
}

fn ready(asked: &Asked<'_>) -> Answer {
    if !asked.control.ready() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n");
    }
    let notes = asked.control.notes();
    let notes: String = notes.iter().map(|note| format!("{note}\n")).collect();
    text(StatusCode::OK, format!("ready\n{notes}"))
}

fn forgive(asked: &Asked<'_>) -> Answer {
    match std::str::from_utf8(asked.body).unwrap_or_default().parse::<Subject>() {
        Ok(subject) => told(asked.control.forgive(subject).map(|()| subject)),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// What the node says to a command.
fn told<T: Serialize>(said: Result<T, ControlError>) -> Answer {
    match said {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => failed(&error),
    }
}

fn failed(error: &ControlError) -> Answer {
    text(StatusCode::CONFLICT, format!("{error}\n"))
}

fn not_allowed(methods: &str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {methods}\n"));
    if let Ok(methods) = HeaderValue::from_str(methods) {
        answer.headers_mut().insert(ALLOW, methods);
    }
    answer
}

fn unknown() -> Answer {
    let paths: Vec<_> = ROUTES
        .iter()
        .map(|route| route.path)
        .chain(ELSEWHERE.iter().copied())
        .collect();
    text(StatusCode::NOT_FOUND, format!("known: {}\n", paths.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Mutex;

    use super::super::guard::{Rights, refusal};
    use super::super::{Denial, Denied, Lockdown, Purged, TopSource};
    use super::*;

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
            let known = matches!(penalty.subject, Subject::Client(0xab));
            if known {
                Ok(())
            } else {
                Err(ControlError("full".to_owned()))
            }
        }
        fn forgive(&self, subject: Subject) -> Result<(), ControlError> {
            let known = matches!(subject, Subject::Address(IpAddr::V6(_)));
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
        let asked = Asked {
            body: body.as_bytes(),
            registry: &Registry::default(),
            control: fake,
        };
        let answer = refused.unwrap_or_else(|| answer(&head.method, path, &asked));
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
        assert_eq!(ask(&fake, "DELETE", "/penalty", &control, "2001:db8:1::/48"), 409);
        assert_eq!(ask(&fake, "DELETE", "/penalty", &control, "192.0.2.0/16"), 400);
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
