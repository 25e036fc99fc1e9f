//! A request's way within its zone: to the zone's worker, its files, or its origin. Stands behind the gate; requests that
//! workers make of other zones begin here.

use std::sync::Arc;

use crate::http::handler::{Answer, Handler};
use crate::http::message::Request;
use crate::zones::Way;

/// The handlers that routes lead to.
pub struct Routed {
    worker: Arc<dyn Handler>,
    origin: Arc<dyn Handler>,
}

impl Routed {
    /// Requests for workers go to `worker`, all others to `origin`.
    pub fn new(worker: Arc<dyn Handler>, origin: Arc<dyn Handler>) -> Self {
        Self { worker, origin }
    }
}

impl Handler for Routed {
    fn handle(&self, mut request: Request) -> Answer<'_> {
        let zone = request.exchange.zone.clone();
        match zone.way(request.head.uri.path()) {
            Way::Worker => self.worker.handle(request),
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
    use crate::base::id::RequestId;
    use crate::base::peer::Peer;
    use crate::config::{Config, Origin};
    use crate::http::body::Body;
    use crate::http::message::{Exchange, Response};
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
        let routed = Routed::new(Arc::new(Says("worker")), Arc::new(Says("origin")));
        for (path, says) in [
            ("/api/x", "worker"),
            ("/%61pi/x", "worker"),
            ("/x/../api/", "worker"),
            ("/", "origin"),
            ("/static/a.css", "originwww"),
        ] {
            let (head, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            let address = "192.0.2.1:1".parse().unwrap();
            let exchange = Exchange {
                id: RequestId::next(),
                peer: Arc::new(Peer {
                    client: address,
                    local: address,
                    accepted: Instant::now(),
                    handshake: None,
                }),
                zone: zones.all()[0].clone(),
                host: "a.example".into(),
                started: Instant::now(),
            };
            let request = Request {
                head,
                body: Body::Empty,
                exchange,
            };
            let response = routed.handle(request).await.unwrap();
            let Body::Full(said) = response.body else { panic!() };
            assert_eq!(said, says, "{path}");
        }
    }
}
