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
    let mut response = Ruled::new(Arc::new(Echo), Shared::new(&mut Registry::default()).unwrap())
        .handle(request(rules, target, Body::Empty))
        .await
        .unwrap();
    let body = std::mem::take(&mut response.body);
    let text = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    (response, String::from_utf8_lossy(&text).into_owned())
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

/// A service that is asked by the pool's name, and an origin: what each was sent.
struct Service {
    says: fn() -> Result<Response, Failure>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl Handler for Service {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(async move {
            let zone = &request.exchange.zone;
            let of_service = zone.pool.as_deref() == Some("id") && zone.rules.is_none();
            let mut fields: Vec<_> = request
                .head
                .headers
                .iter()
                .map(|(name, value)| format!(" {name}={}", value.to_str().unwrap()))
                .collect();
            fields.sort();
            let about = request.head.extensions.get::<crate::http::message::About>();
            let about = about.map_or_else(String::new, |about| format!(" for {} {}", about.method, about.target));
            let stored = if zone.cache.is_some() { " stored" } else { "" };
            let line = format!(
                "{} {} {:?}{about}{stored}{}",
                request.head.method,
                request.head.uri,
                request.body,
                fields.concat()
            );
            self.asked.lock().unwrap().push(line);
            match of_service {
                true => (self.says)(),
                false => Ok(Response::new(StatusCode::OK, "from the origin")),
            }
        })
    }
}

const ASKING: &str = "[zone.cache]\n[[zone.rule]]\nname = \"a\"\nauth = { forward = { to = \"id\", path = \"/verify?x\", \
                      to_origin = [\"Remote-User\"], to_client = [\"Set-Cookie\"], timeout = \"100ms\" } }\n\
                      [[origin]]\nname = \"id\"\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";

/// What a POST with content comes to, and what was sent where.
async fn asked(says: fn() -> Result<Response, Failure>) -> (Result<Response, Failure>, Vec<String>) {
    let service = Arc::new(Service {
        says,
        asked: std::sync::Mutex::default(),
    });
    let mut request = request(ASKING, "/a?b=c", "content".into());
    request.head.method = http::Method::POST;
    for (name, value) in [
        ("cookie", "s=1"),
        ("content-type", "text/plain"),
        ("x-own", "1"),
        ("remote-user", "root"),
        ("cdn-loop", "other"),
    ] {
        request.head.headers.insert(name, value.parse().unwrap());
    }
    let ruled = Ruled::new(service.clone(), Shared::new(&mut Registry::default()).unwrap());
    let response = ruled.handle(request).await;
    let asked = std::mem::take(&mut *service.asked.lock().unwrap());
    (response, asked)
}

fn said(status: u16, fields: &[(&'static str, &'static str)], body: impl Into<Body>) -> Result<Response, Failure> {
    let mut response = Response::new(StatusCode::from_u16(status).unwrap(), body);
    for (name, value) in fields {
        response.head.headers.append(*name, value.parse().unwrap());
    }
    Ok(response)
}

/// A login would guard nothing: the service asked about another request, given the client's content
/// to act on, or its word about one client stored for all.
#[tokio::test]
async fn a_service_is_asked_before_the_origin() {
    let (response, sent) = asked(|| {
        said(
            204,
            &[("remote-user", "ann"), ("set-cookie", "s=2"), ("x-secret", "1")],
            "",
        )
    })
    .await;
    let response = response.unwrap();
    assert_eq!(response.head.status, StatusCode::OK);
    assert_eq!(response.head.headers["set-cookie"], "s=2");
    assert!(!response.head.headers.contains_key("x-secret"));
    let content = "Body::Full(SizeHint { lower: 7, upper: Some(7) })";
    let empty = "Body::Empty(SizeHint { lower: 0, upper: Some(0) })";
    assert_eq!(
        sent,
        [
            format!("GET /verify?x {empty} for POST /a?b=c cdn-loop=other cookie=s=1"),
            format!("POST /a?b=c {content} cdn-loop=other content-type=text/plain cookie=s=1 remote-user=ann x-own=1"),
        ]
    );
}

/// Who is not logged in would not be led to the login; or a shared store would keep what was said
/// to one.
#[tokio::test]
async fn a_refusal_is_the_clients_answer() {
    for (says, status) in [
        (
            (|| {
                said(
                    302,
                    &[
                        ("location", "/login"),
                        ("cache-control", "max-age=60"),
                        ("etag", "\"a\""),
                    ],
                    "go",
                )
            }) as fn() -> Result<Response, Failure>,
            302,
        ),
        (
            || {
                said(
                    401,
                    &[("www-authenticate", "Basic"), ("cdn-cache-control", "max-age=60")],
                    "go",
                )
            },
            401,
        ),
        (|| said(403, &[("content-length", "2")], "go"), 403),
    ] {
        let (response, sent) = asked(says).await;
        let response = response.unwrap();
        assert_eq!(response.head.status.as_u16(), status);
        let headers = &response.head.headers;
        assert_eq!(headers["cache-control"], "no-store");
        for name in ["etag", "cdn-cache-control", "content-length"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert!(status != 302 || headers["location"] == "/login");
        assert!(matches!(&response.body, Body::Full(said) if said == "go"));
        assert_eq!(sent.len(), 1, "the origin is not asked");
    }
}

/// A service that is down, slow or answers nonsense would open what it guards.
#[tokio::test]
async fn whoever_says_neither_yes_nor_no_lets_nobody_pass() {
    let slow = || {
        let never =
            futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, crate::http::body::BodyError>>();
        said(200, &[], Body::boxed(http_body_util::StreamBody::new(never)))
    };
    for says in [
        (|| said(304, &[], "")) as fn() -> Result<Response, Failure>,
        || said(404, &[], "not found"),
        || said(407, &[], ""),
        || said(500, &[], ""),
        || said(403, &[], "x".repeat((64 << 10) + 1)),
        || said(200, &[("remote-user", "0123456789abcdef"); 1_000], ""),
        || Err(Failure::new(Reason::OriginUnreachable, "down")),
        slow,
    ] {
        let (response, sent) = asked(says).await;
        let failure = response.unwrap_err();
        assert_eq!(failure.reason, Reason::AccessUnknown, "{failure}");
        assert_eq!(failure.reason.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(sent.len(), 1, "the origin is not asked");
    }
}

/// An origin that fails, in its own words.
struct Failing;

impl Handler for Failing {
    fn handle(&self, request: Request) -> Answer<'_> {
        let status = request.head.uri.path().trim_start_matches('/').parse().unwrap();
        let fields = [
            ("content-type", "text/html"),
            ("content-encoding", "br"),
            ("content-length", "3"),
            ("etag", "\"a\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "7"),
            ("set-cookie", "a=b"),
        ];
        Box::pin(async move { said(status, &fields, "own") })
    }
}

/// Visitors would see a server's own words where the site has a page; or the page with what was
/// said of other content: undone as brotli, cut at another length, stored as if it were the file.
#[tokio::test]
async fn pages_stand_in_for_what_origins_say() {
    let pages = "[[zone.error_page]]\nstatus = [404]\ntext = \"{{status}} {{title}} {{host}} {{zone}} {{request}}\"\n\
                 type = \"text/html\"\norigin = true\n\
                 [[zone.error_page]]\nstatus = [\"4xx\", \"5xx\"]\ntext = \"sorry\"\n";
    let rule = "[[zone.rule]]\nname = \"r\"\nresponse = { set = { X-Told = \"yes\" } }\n";
    for rules in ["", rule] {
        let ask = async |target: &str, accept: &'static str| {
            let mut request = request(&format!("{rules}{pages}"), target, Body::Empty);
            request.head.headers.insert("accept", accept.parse().unwrap());
            let id = request.exchange.id.to_string();
            let ruled = Ruled::new(Arc::new(Failing), Shared::new(&mut Registry::default()).unwrap());
            let response = ruled.handle(request).await.unwrap();
            let length = http_body::Body::size_hint(&response.body).exact();
            let content = http_body_util::BodyExt::collect(response.body)
                .await
                .unwrap()
                .to_bytes();
            assert_eq!(length, Some(content.len() as u64));
            (response.head, String::from_utf8_lossy(&content).replace(&id, "ID"))
        };
        let (head, content) = ask("/404", "*/*").await;
        assert_eq!((head.status.as_u16(), &*content), (404, "404 Not Found a.example z ID"));
        assert_eq!(head.headers["content-type"], "text/html");
        assert_eq!(head.headers["retry-after"], "7");
        assert_eq!(head.headers["set-cookie"], "a=b");
        assert_eq!(head.headers["vary"], "accept");
        for name in ["content-encoding", "content-length", "etag", "last-modified"] {
            assert!(!head.headers.contains_key(name), "{name}");
        }
        assert_eq!(head.headers.contains_key("x-told"), !rules.is_empty());
        // Programs get what the origin says to them, and other statuses are not meant.
        for (target, accept) in [("/404", "application/json"), ("/500", "*/*"), ("/200", "*/*")] {
            let (head, content) = ask(target, accept).await;
            assert_eq!(content, "own", "{target}");
            assert_eq!(head.headers["content-encoding"], "br");
        }
    }
    // What rules refuse without words of their own is the edge's.
    let refuse = |respond: &str| format!("[[zone.rule]]\nname = \"r\"\nrespond = {{ {respond} }}\n{pages}");
    let (response, said) = ask(&refuse("status = 403"), "/").await;
    assert_eq!((response.head.status, &*said), (StatusCode::FORBIDDEN, "sorry"));
    let (_, said) = ask(&refuse("status = 403, text = \"no\""), "/").await;
    assert_eq!(said, "no");
}

/// A server of keys, which fails as long as `document` is empty; how often it was asked, and how.
#[derive(Default)]
struct KeyServer {
    document: std::sync::Mutex<String>,
    asked: std::sync::Mutex<Vec<String>>,
}

impl Handler for KeyServer {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(async move {
            let exchange = &request.exchange;
            if exchange.zone.pool.as_deref() != Some("id") {
                let user = request.head.headers.get("x-user").cloned();
                let user = user.map_or_else(String::new, |user| user.to_str().unwrap().to_owned());
                return Ok(Response::new(StatusCode::OK, user));
            }
            let line = format!("{} {} of {:?}", request.head.uri, exchange.peer.client, exchange.host);
            self.asked.lock().unwrap().push(line);
            // The others have to wait for it.
            tokio::task::yield_now().await;
            match self.document.lock().unwrap().clone() {
                none if none.is_empty() => said(503, &[], ""),
                document => said(200, &[], document),
            }
        })
    }
}

/// Who signs could not change keys; a node would ask for them with each made-up token, or tell who
/// its visitors are; or an outage of the server would be one of the zone, or open it.
#[tokio::test]
async fn keys_of_a_server() {
    use data_encoding::BASE64URL_NOPAD;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    let url = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let pair = |seed: u8| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = |id: u8| {
        let public = url(pair(id).public_key().as_ref());
        format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"{id}\",\"x\":\"{public}\"}}")
    };
    let token = |id: u8| {
        let header = url(format!("{{\"alg\":\"EdDSA\",\"kid\":\"{id}\"}}").as_bytes());
        let signed = format!("{header}.{}", url(b"{\"sub\":\"ann\",\"exp\":99999999999}"));
        format!("Bearer {signed}.{}", url(pair(id).sign(signed.as_bytes()).as_ref()))
    };
    let rules = "[[zone.rule]]\nname = \"api\"\nauth = { jwt = { keys_from = { origin = \"id\", path = \"/jwks\" } } }\n\
                 request = { set = { X-User = \"${claim.sub}\" } }\n\
                 [[origin]]\nname = \"id\"\nservers = [{ address = \"http://127.0.0.1:1\" }]\n";
    let server = Arc::new(KeyServer::default());
    let ruled = |shared: &Shared| Ruled::new(server.clone(), shared.clone());
    let ask = async |ruled: &Ruled, token: Option<String>| {
        let mut request = request(rules, "/a", Body::Empty);
        if let Some(token) = token {
            request.head.headers.insert("authorization", token.parse().unwrap());
        }
        ruled
            .handle(request)
            .await
            .map(|response| response.head.status.as_u16())
    };
    // No keys have ever come: nobody passes. Who shows no token costs nothing.
    let shared = Shared::new(&mut Registry::default()).unwrap();
    assert_eq!(ask(&ruled(&shared), None).await.unwrap(), 401);
    assert_eq!(
        ask(&ruled(&shared), Some("Bearer a.b.c".to_owned())).await.unwrap(),
        401
    );
    assert_eq!(server.asked.lock().unwrap().len(), 0);
    for _ in 0..3 {
        let failure = ask(&ruled(&shared), Some(token(1))).await.unwrap_err();
        assert_eq!(failure.reason, Reason::AccessUnknown);
    }
    let asked = std::mem::take(&mut *server.asked.lock().unwrap());
    assert_eq!(
        asked,
        ["/jwks 192.0.2.1:1 of \"\""],
        "asked once, and not told who the client is"
    );
    // Secrets on a server are everybody's.
    let secret = format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{}\"}}]}}", url(&[7; 32]));
    *server.document.lock().unwrap() = secret;
    let shared = Shared::new(&mut Registry::default()).unwrap();
    assert!(ask(&ruled(&shared), Some(token(1))).await.is_err());
    // All who come at once wait for one answer, on any thread.
    server.asked.lock().unwrap().clear();
    *server.document.lock().unwrap() = format!("{{\"keys\":[{}]}}", key(1));
    let shared = Shared::new(&mut Registry::default()).unwrap();
    let threads = [ruled(&shared), ruled(&shared)];
    let both = futures_util::future::join(ask(&threads[0], Some(token(1))), ask(&threads[1], Some(token(1))));
    let (one, other) = both.await;
    assert_eq!((one.unwrap(), other.unwrap()), (200, 200));
    // Another key is asked for, but not with each token; and what there is goes on to count.
    *server.document.lock().unwrap() = format!("{{\"keys\":[{}]}}", key(2));
    for _ in 0..5 {
        assert_eq!(ask(&threads[0], Some(token(2))).await.unwrap(), 401);
        assert_eq!(ask(&threads[1], Some(token(1))).await.unwrap(), 200);
    }
    assert_eq!(server.asked.lock().unwrap().len(), 1);
}
