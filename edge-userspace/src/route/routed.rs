//! A request's way within its zone: to the zone's worker, its files, or its origin. Stands behind
//! the gate, on every node: routes hold whether a zone has a worker or not. Requests that workers
//! make of other zones begin here.

use std::sync::Arc;

use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Request, Response};
use crate::zones::Way;

/// The handlers that routes lead to.
pub struct Routed {
    /// `None`: no zone had a worker when the node started.
    worker: Option<Arc<dyn Handler>>,
    origin: Arc<dyn Handler>,
}

impl Routed {
    /// Requests for workers go to `worker`, all others to `origin`. Without one, what is a worker's
    /// fails as if none were deployed.
    pub fn new(worker: Option<Arc<dyn Handler>>, origin: Arc<dyn Handler>) -> Self {
        Self { worker, origin }
    }

    async fn to_worker(&self, request: Request) -> Result<Response, Failure> {
        let Some(worker) = &self.worker else {
            let detail = "[zone.worker] appeared for the first time; that takes a restart";
            return Err(Failure::new(Reason::NoWorker, detail));
        };
        // Whether a worker may run twice for one request, nobody knows but who wrote it.
        let proven = request.exchange.peer.proven().await;
        proven.map_err(|gone| Failure::new(Reason::ClientGone, gone.to_string()))?;
        worker.handle(request).await
    }
}

impl Handler for Routed {
    fn handle(&self, mut request: Request) -> Answer<'_> {
        let zone = request.exchange.zone.clone();
        match zone.way(&request.head.path()) {
            Way::Worker => Box::pin(self.to_worker(request)),
            Way::Origin => self.origin.handle(request),
            Way::Files(files) => {
                request.exchange.zone = files.clone();
                self.origin.handle(request)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::early::{Early, early};
    use crate::base::id::RequestId;
    use crate::base::peer::Peer;
    use crate::config::{Config, Origin};
    use crate::http::body::Body;
    use crate::http::message::Exchange;
    use crate::zones::Zones;
    use std::time::Instant;

    /// Says who it is, and where files would be read from.
    struct Says(&'static str);

    impl Handler for Says {
        fn handle(&self, request: Request) -> Answer<'_> {
            let place = match &request.exchange.zone.origin {
                Origin::Directory(path) => path.file_name().unwrap().to_string_lossy().into_owned(),
                _ => String::new(),
            };
            let says = format!("{}{place}", self.0);
            Box::pin(async move { Ok(Response::new(http::StatusCode::OK, says)) })
        }
    }

    fn request(zones: &Zones, path: &str, early: Option<Early>) -> Request {
        let (head, ()) = http::Request::get(path).body(()).unwrap().into_parts();
        let address = "192.0.2.1:1".parse().unwrap();
        let exchange = Exchange {
            id: RequestId::next(),
            peer: Arc::new(Peer {
                client: address,
                local: address,
                accepted: Instant::now(),
                handshake: None,
                early,
                via: None,
            }),
            zone: zones.all()[0].clone(),
            host: "a.example".into(),
            started: Instant::now(),
        };
        Request {
            head: head.into(),
            body: Body::Empty,
            exchange,
        }
    }

    /// A request would reach the origin that a worker guards, or files that are another route's.
    #[tokio::test]
    async fn each_path_has_its_way() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("www")).unwrap();
        let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.worker]\n\
                    [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n\
                    [[zone.route]]\npath = \"/api/\"\nto = \"worker\"\n\
                    [[zone.route]]\npath = \"/static/\"\nto = \"files\"\ndirectory = \"www\"\n";
        let config = Config::parse(&directory.path().join("edge.toml"), text).unwrap();
        let zones = Zones::new(&config.zones);
        let routed = Routed::new(Some(Arc::new(Says("worker"))), Arc::new(Says("origin")));
        for (path, says) in [
            ("/api/x", "worker"),
            ("/%61pi/x", "worker"),
            ("/x/../api/", "worker"),
            ("/", "origin"),
            ("/static/a.css", "originwww"),
        ] {
            let request = request(&zones, path, None);
            let response = routed.handle(request).await.unwrap();
            let Body::Full(said) = response.body else { panic!() };
            assert_eq!(said, says, "{path}");
        }
    }
    /// A worker would act twice for a client that asked once.
    #[tokio::test]
    async fn a_worker_is_not_run_for_what_may_be_a_copy() {
        let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.worker]\n\
                    [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n\
                    [[zone.route]]\npath = \"/api/\"\nto = \"worker\"\n";
        let zones = Zones::new(&Config::parse(std::path::Path::new("edge.toml"), text).unwrap().zones);
        let routed = Arc::new(Routed::new(Some(Arc::new(Says("worker"))), Arc::new(Says("origin"))));
        let (proof, waits) = early();
        assert!(routed.handle(request(&zones, "/", Some(waits.clone()))).await.is_ok());
        let (this, early_request) = (routed.clone(), request(&zones, "/api/", Some(waits.clone())));
        let waiting = tokio::spawn(async move { this.handle(early_request).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        proof.give();
        assert!(waiting.await.unwrap().is_ok());
        let (proof, waits) = early();
        drop(proof);
        let failure = routed.handle(request(&zones, "/api/", Some(waits))).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ClientGone);
    }
}
