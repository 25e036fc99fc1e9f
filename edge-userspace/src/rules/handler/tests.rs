//! Rules in front of a handler: what the handler gets, what the client gets.

use std::path::Path;

use http::StatusCode;

use super::*;
use crate::base::id::RequestId;
use crate::base::peer::Peer;
use crate::config::Config;
use crate::http::body::Body;
use crate::http::message::Exchange;
use crate::zones::Zones;

/// Says what it was asked for.
struct Echo;

impl Handler for Echo {
    fn handle(&self, request: Request) -> Answer<'_> {
        let said = format!("{} {:?}", request.head.uri, request.head.headers.get("x-added"));
        Box::pin(async move { Ok(Response::new(StatusCode::OK, said)) })
    }
}

fn request(rules: &str, target: &str, body: Body) -> Request {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
         servers = [{{ address = \"http://127.0.0.1:1\" }}]\n{rules}"
    );
    let zones = Zones::new(&Config::parse(Path::new("edge.toml"), &text).unwrap().zones);
    let (head, ()) = http::Request::get(target).body(()).unwrap().into_parts();
    let address = "192.0.2.1:1".parse().unwrap();
    Request {
        head: head.into(),
        body,
        exchange: Exchange {
            id: RequestId::next(),
            peer: Arc::new(Peer {
                client: address,
                local: address,
                accepted: Instant::now(),
                handshake: None,
                early: None,
                via: None,
            }),
            zone: zones.all()[0].clone(),
            host: "a.example".into(),
            started: Instant::now(),
        },
    }
}

async fn ask(rules: &str, target: &str) -> (Response, String) {
    let response = Ruled::new(Arc::new(Echo), Shared::new(&mut Registry::default()).unwrap())
        .handle(request(rules, target, Body::Empty))
        .await
        .unwrap();
    let text = match &response.body {
        Body::Full(said) => String::from_utf8_lossy(said).into_owned(),
        _ => String::new(),
    };
    (response, text)
}

/// The origin would be asked by the old path, or the client would miss the fields.
#[tokio::test]
async fn requests_and_responses_are_changed() {
    let rules = "[[zone.rule]]\nname = \"r\"\nmatch = { paths = [\"/api/\"] }\nrewrite = { strip = \"/api\" }\n\
                 request = { set = { X-Added = \"${client}\" } }\nresponse = { set = { X-Told = \"yes\" } }\n";
    let (response, said) = ask(rules, "/api/x?y").await;
    assert_eq!(said, "/x?y Some(\"192.0.2.1\")");
    assert_eq!(response.head.headers["x-told"], "yes");
    let (response, said) = ask(rules, "/other").await;
    assert_eq!(said, "/other None");
    assert!(!response.head.headers.contains_key("x-told"));
}

/// A guard by path would be walked around by writing the path differently.
#[tokio::test]
async fn other_spellings_of_a_path_meet_the_same_rule() {
    let rules = "[[zone.rule]]\nname = \"r\"\nmatch = { paths = [\"/admin\"] }\nrespond = { status = 403 }\n";
    for target in ["/admin", "/%61dmin", "//admin/x", "/x/../admin"] {
        let (response, _) = ask(rules, target).await;
        assert_eq!(response.head.status, StatusCode::FORBIDDEN, "{target}");
    }
}

/// What a request met: the pool that its zone sends it to, whether it may be stored, its content.
#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<(Option<String>, bool, String)>>);

impl Handler for Seen {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(async move {
            let zone = request.exchange.zone.clone();
            let content = http_body_util::BodyExt::collect(request.body).await.unwrap().to_bytes();
            let pool = zone.pool.as_ref().map(ToString::to_string);
            let content = String::from_utf8_lossy(&content).into_owned();
            self.0.lock().unwrap().push((pool, zone.cache.is_some(), content));
            Ok(Response::new(StatusCode::OK, "ok"))
        })
    }
}

/// Visitors would get the wrong release, the cache would mix what two pools answer, or a copy would
/// be stored.
#[tokio::test]
async fn pools_parts_and_copies() {
    let pools = "[[origin]]\nname = \"blue\"\nservers = [{ address = \"http://127.0.0.1:1\" }]\n\
                 [[origin]]\nname = \"green\"\nservers = [{ address = \"http://127.0.0.1:2\" }]\n";
    let seen = Arc::new(Seen::default());
    let ruled = Ruled::new(seen.clone(), Shared::new(&mut Registry::default()).unwrap());
    let ask = async |rules: &str, content: &'static str| {
        let request = request(&format!("[zone.cache]\n{rules}{pools}"), "/a", content.into());
        ruled.handle(request).await.unwrap();
        // A copy is sent beside it.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *seen.0.lock().unwrap())
    };
    let rule = |act: &str| format!("[[zone.rule]]\nname = \"r\"\n{act}\n");
    let pool = |name: &str, cached| (Some(name.to_owned()), cached, String::new());
    assert_eq!(ask(&rule("origin = \"blue\""), "").await, [pool("blue", true)]);
    assert_eq!(
        ask(&rule("origin = \"blue\"\ncache = false"), "").await,
        [pool("blue", false)]
    );
    let split = "origin = \"blue\"\nsplit = { to = [{ origin = \"green\", percent = 100 }] }";
    assert_eq!(ask(&rule(split), "").await, [pool("green", true)]);
    let none = "split = { by = \"cookie:canary\", to = [{ origin = \"green\", percent = 100 }] }";
    assert_eq!(
        ask(&rule(none), "").await,
        [(None, true, String::new())],
        "without the cookie nobody is in the part"
    );
    let mut both = ask(&rule("mirror = { to = \"green\" }"), "content").await;
    both.sort();
    let content = "content".to_owned();
    assert_eq!(
        both,
        [
            (None, true, content.clone()),
            (Some("green".to_owned()), false, content.clone())
        ]
    );
    let short = "mirror = { to = \"green\", body_bytes = \"4B\" }";
    assert_eq!(
        ask(&rule(short), "content").await,
        [(None, true, content)],
        "too long to be copied"
    );
}
