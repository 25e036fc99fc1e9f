//! The gate in front of a handler of the test.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http_body_util::BodyExt;

use super::*;
use crate::base::id::RequestId;
use crate::base::peer::Peer;
use crate::config::Config;
use crate::gate::metrics::Metrics;
use crate::gate::pass::fake::Plain;
use crate::http::message::Exchange;
use crate::zones::Zones;

/// Remembers what reached it.
#[derive(Default)]
struct Origin(Mutex<Vec<HeaderMap>>);

impl Handler for Origin {
    fn handle(&self, request: Request) -> Answer<'_> {
        self.0.lock().unwrap().push(request.head.into_parts().0.headers);
        Box::pin(async { Ok(Response::new(http::StatusCode::OK, "hello")) })
    }
}

fn gated(rule: &str) -> (Gated, Arc<Origin>, Zones) {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
         servers = [{{ address = \"http://127.0.0.1:1\" }}]\n[zone.gate]\n[[zone.gate.rule]]\n{rule}\n"
    );
    let config = Config::parse(Path::new("edge.toml"), &text).unwrap();
    let (gate, _) = Gate::new(
        &config.gate,
        &config.zones,
        Arc::new(Plain::default()),
        Metrics::default(),
    )
    .unwrap();
    let origin = Arc::new(Origin::default());
    (
        Gated::new(Arc::new(gate), origin.clone()),
        origin,
        Zones::new(&config.zones),
    )
}

fn request(zones: &Zones, fields: &[(&str, &str)]) -> Unjudged {
    let mut builder = http::Request::builder().uri("/x?y");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let (head, ()) = builder.body(()).unwrap().into_parts();
    Unjudged::new(Request {
        head: head.into(),
        body: Body::Empty,
        exchange: Exchange {
            id: RequestId::next(),
            peer: Arc::new(Peer {
                client: "192.0.2.1:4000".parse().unwrap(),
                local: "127.0.0.1:443".parse().unwrap(),
                accepted: Instant::now(),
                handshake: None,
                early: None,
                via: None,
            }),
            zone: zones.find("a.example").unwrap().clone(),
            host: "a.example".into(),
            started: Instant::now(),
        },
    })
}

/// A visitor would be told to wait for ever, its connection would linger, or the origin would see
/// the token.
#[tokio::test]
async fn deferred_then_served_without_the_token() {
    let (gated, origin, zones) = gated("manual = { wait = \"1s\" }");
    let told = gated.answer(request(&zones, &[])).await.unwrap();
    assert_eq!(told.head.status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told.head.headers.get("connection").unwrap(), "close");
    assert_eq!(told.head.extensions.get::<CloseAfter>(), Some(&CloseAfter));
    let token = told.head.headers.get("edge-wait").unwrap().to_str().unwrap().to_owned();
    let wait: u64 = told
        .head
        .headers
        .get("retry-after")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let cookie = format!("a=1; __Host-edge-wait={token}");
    let served = gated.answer(request(&zones, &[("cookie", &cookie)])).await.unwrap();
    assert_eq!(served.head.status, http::StatusCode::OK);
    let set = served.head.headers.get("set-cookie").unwrap().to_str().unwrap();
    assert!(set.starts_with("__Host-edge-wait=") && !set.contains(&token), "{set}");
    assert_eq!(served.head.headers.get("cache-control").unwrap(), "private");
    let seen = origin.0.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].get("cookie").unwrap(), "a=1");
}

/// Permits that leak close a zone for good; permits given back too early let the origin drown.
#[tokio::test]
async fn permits_last_as_long_as_the_content() {
    let (gated, _, zones) = gated("concurrency = 1");
    let ask = async |fields: &[(&str, &str)]| gated.answer(request(&zones, fields)).await.unwrap();
    let first = ask(&[]).await;
    assert_eq!(ask(&[]).await.head.status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(first.body.collect().await.unwrap().to_bytes(), "hello");
    let second = ask(&[]).await;
    assert_eq!(second.head.status, http::StatusCode::OK);
    drop(second);
    assert_eq!(ask(&[]).await.head.status, http::StatusCode::OK);
}

/// Requests on one connection would each count as a connection.
#[test]
fn first_of_a_connection() {
    let connections = Connections::new();
    assert!(connections.is_first(1) && !connections.is_first(1) && connections.is_first(2));
}
