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

async fn ask(rules: &str, target: &str) -> (Response, String) {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"a.example\"]\n[zone.origin]\n\
         servers = [{{ address = \"http://127.0.0.1:1\" }}]\n{rules}"
    );
    let zones = Zones::new(&Config::parse(Path::new("edge.toml"), &text).unwrap().zones);
    let (head, ()) = http::Request::get(target).body(()).unwrap().into_parts();
    let address = "192.0.2.1:1".parse().unwrap();
    let request = Request {
        head: head.into(),
        body: Body::Empty,
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
    };
    let response = Ruled::new(Arc::new(Echo), Shared::new(&mut Registry::default()).unwrap())
        .handle(request)
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
