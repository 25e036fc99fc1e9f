//! Requests through the cache with an origin in memory, which counts what reaches it.

mod kept;
mod ruled;
mod sliced;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use http::request;

use super::*;
use crate::base::id::RequestId;
use crate::base::ledger::Ledger;
use crate::base::peer::Peer;
use crate::config::Config;
use crate::http::handler::Reason;
use crate::http::message::Exchange;
use crate::http::stored::{Became, ByRule, Witness};

type Script = Box<dyn Fn(usize, &request::Parts) -> Result<Response, Failure> + Send + Sync>;

/// Answers by a script, told which request this is, after a while.
struct Origin {
    count: AtomicUsize,
    seen: Mutex<Vec<request::Parts>>,
    script: Script,
    delay: Duration,
}

impl Handler for Origin {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(async move {
            let n = self.count.fetch_add(1, Ordering::SeqCst);
            self.seen.lock().unwrap().push(request.head.clone().into_parts().0);
            tokio::time::sleep(self.delay).await;
            (self.script)(n, &request.head)
        })
    }
}

struct Bed {
    cache: Arc<Cache>,
    origin: Arc<Origin>,
    zones: Zones,
}

/// Content whose length is not known before its end.
struct Chunked(Option<Bytes>);

fn streamed(text: &'static str) -> Body {
    Body::boxed(Chunked(Some(Bytes::from_static(text.as_bytes()))))
}

impl http_body::Body for Chunked {
    type Data = Bytes;
    type Error = crate::http::body::BodyError;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

fn respond(status: u16, fields: &[(&'static str, &str)], body: impl Into<Body>) -> Result<Response, Failure> {
    let mut response = Response::new(StatusCode::from_u16(status).unwrap(), body);
    for (name, value) in fields {
        response.head.headers.append(*name, value.parse().unwrap());
    }
    Ok(response)
}

fn bed(
    zone: &str,
    delay: u64,
    script: impl Fn(usize, &request::Parts) -> Result<Response, Failure> + Send + Sync + 'static,
) -> Bed {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\n[zone.cache]\n{zone}\n\
         [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
    );
    let config = Config::parse(Path::new("edge.toml"), &text).unwrap();
    let store = Store::open(
        &config.cache,
        8 << 20,
        &Ledger::new(u64::MAX, u64::MAX),
        &mut Registry::default(),
    )
    .unwrap();
    let origin = Arc::new(Origin {
        count: AtomicUsize::new(0),
        seen: Mutex::default(),
        script: Box::new(script),
        delay: Duration::from_millis(delay),
    });
    Bed {
        cache: Arc::new(Cache::new(Shared::new(store), origin.clone())),
        origin,
        zones: Zones::new(&config.zones),
    }
}

fn head(method: &str, target: &str, fields: &[(&'static str, &str)]) -> request::Parts {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    head
}

/// What a client sees.
#[derive(Debug)]
struct Seen {
    status: u16,
    fields: http::HeaderMap,
    text: Result<String, String>,
}

impl Seen {
    async fn of(response: Response) -> Self {
        let body = response.body.collect().await.map_err(|error| error.to_string());
        Self {
            status: response.head.status.as_u16(),
            fields: response.head.headers,
            text: body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()),
        }
    }

    fn is(&self, status: u16, text: &str) -> bool {
        self.status == status && self.text.as_deref() == Ok(text)
    }

    fn told(&self) -> &str {
        self.fields["cache-status"].to_str().unwrap()
    }
}

impl Bed {
    fn request(&self, head: request::Parts) -> Request {
        let exchange = Exchange {
            id: RequestId::next(),
            peer: Arc::new(Peer {
                client: "203.0.113.7:1234".parse().unwrap(),
                local: "192.0.2.1:443".parse().unwrap(),
                accepted: Instant::now(),
                handshake: None,
                early: None,
                via: None,
            }),
            zone: self.zones.all()[0].clone(),
            host: "z.example".into(),
            started: Instant::now(),
        };
        Request {
            head: head.into(),
            body: Body::Empty,
            exchange,
        }
    }

    async fn ask(&self, method: &str, path: &str, fields: &[(&'static str, &str)]) -> Result<Seen, Failure> {
        let request = self.request(head(method, path, fields));
        Ok(Seen::of(self.cache.handle(request).await?).await)
    }

    /// A request that the rooms in front have put under the first rule, and who hears what becomes
    /// of it.
    fn ruled(&self, head: request::Parts) -> (Request, watch::Receiver<Option<Became>>) {
        let mut request = self.request(head);
        let rules = request.exchange.zone.rules.clone().unwrap();
        let rule = rules.all[0].act.cache.clone().unwrap();
        request.head.extensions.insert(ByRule(rule));
        let (witness, told) = Witness::new();
        request.head.extensions.insert(witness);
        (request, told)
    }

    async fn get(&self, fields: &[(&'static str, &str)]) -> Seen {
        self.ask("GET", "/", fields).await.unwrap()
    }

    fn asked(&self) -> usize {
        self.origin.count.load(Ordering::SeqCst)
    }

    /// Lets what a response left behind (a fill's task) come to its end.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const STALE: (&str, &str) = ("cache-control", "max-age=0");
const ETAG: (&str, &str) = ("etag", "\"a\"");

/// The second request does not reach the origin, whatever the first one's content came as.
#[tokio::test]
async fn stores_and_answers() {
    for known in [true, false] {
        let bed = bed("", 0, move |_, _| {
            let body = if known {
                Body::from("abcdef")
            } else {
                streamed("abcdef")
            };
            respond(200, &[FRESH, ETAG], body)
        });
        let first = bed.get(&[]).await;
        assert!(first.is(200, "abcdef"), "{first:?}");
        assert!(
            first.told().starts_with("edge; fwd=uri-miss; fwd-status=200; ttl="),
            "{first:?}"
        );
        bed.settle().await;
        let second = bed.get(&[]).await;
        assert!(
            second.is(200, "abcdef") && second.told().starts_with("edge; hit; ttl="),
            "{second:?}"
        );
        assert!(
            second.fields.contains_key("age")
                && second.fields.contains_key("date")
                && second.fields["content-length"] == "6"
        );
        let head = bed.ask("HEAD", "/", &[]).await.unwrap();
        assert!(head.is(200, "") && head.fields["content-length"] == "6", "{head:?}");
        let part = bed.get(&[("range", "bytes=1-2")]).await;
        assert!(
            part.is(206, "bc") && part.fields["content-range"] == "bytes 1-2/6",
            "{part:?}"
        );
        let parts = bed.get(&[("range", "bytes=0-0,-1")]).await;
        let text = parts.text.clone().unwrap();
        assert!(parts.status == 206 && text.contains("bytes 0-0/6\r\n\r\na\r\n") && text.contains("bytes 5-5/6"));
        assert!(bed.get(&[("if-none-match", "\"a\"")]).await.is(304, ""));
        assert_eq!(bed.get(&[("range", "bytes=9-")]).await.status, 416);
        assert_eq!(bed.asked(), 1);
    }
}

/// RFC 9111 section 4.3: an unchanged resource costs no content, a changed one replaces what was
/// stored.
#[tokio::test]
async fn validates() {
    let bed = bed("", 0, |n, head| match n {
        0 => respond(200, &[STALE, ETAG, ("x-a", "1")], "one"),
        1 => {
            assert_eq!(head.headers["if-none-match"], "\"a\"");
            respond(304, &[STALE, ETAG, ("x-a", "2")], Body::Empty)
        }
        2 => respond(200, &[FRESH, ("etag", "\"b\"")], "two"),
        _ => panic!("asked too often"),
    });
    bed.get(&[]).await;
    let same = bed.get(&[]).await;
    assert!(
        same.is(200, "one") && same.fields["x-a"] == "2" && same.told().contains("fwd-status=304"),
        "{same:?}"
    );
    assert!(bed.get(&[("if-none-match", "\"a\"")]).await.is(200, "two"));
    assert!(bed.get(&[]).await.is(200, "two"));
}

/// A crowd costs the origin one request, and nobody waits for the last byte to get the first.
#[tokio::test]
async fn a_crowd_is_one_request() {
    for (known, body) in [(true, "Body"), (false, "streamed")] {
        let bed = Arc::new(bed("", 50, move |_, _| {
            let length = [("content-length", "6")];
            let fields: Vec<_> = [FRESH]
                .into_iter()
                .chain(length.into_iter().filter(|_| known))
                .collect();
            respond(200, &fields, streamed("abcdef"))
        }));
        let crowd: Vec<_> = (0..50)
            .map(|_| {
                let bed = bed.clone();
                tokio::spawn(async move { bed.get(&[]).await })
            })
            .collect();
        for one in crowd {
            let one = one.await.unwrap();
            assert!(one.is(200, "abcdef"), "{body}: {one:?}");
        }
        assert_eq!(bed.asked(), 1, "{body}");
    }
}

/// What is not for everybody is fetched by everybody at once: the fiftieth does not wait for
/// forty-nine others.
#[tokio::test]
async fn nobody_waits_in_line_for_what_is_private() {
    let bed = Arc::new(bed("", 100, |n, _| {
        let text: &'static str = if n == 0 { "first" } else { "other" };
        respond(200, &[("cache-control", "private")], text)
    }));
    let start = Instant::now();
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move { bed.get(&[]).await })
        })
        .collect();
    let mut firsts = 0;
    for one in crowd {
        firsts += usize::from(one.await.unwrap().is(200, "first"));
    }
    assert_eq!(
        (bed.asked(), firsts),
        (50, 1),
        "a private response went to somebody else"
    );
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}: they waited in line",
        start.elapsed()
    );
}

/// RFC 5861: a stale answer at once, one validation behind it; and an origin that fails is not
/// seen.
#[tokio::test]
async fn stale_answers() {
    let cc = (
        "cache-control",
        "max-age=0, stale-while-revalidate=60, stale-if-error=60",
    );
    let behind = bed("", 20, move |n, _| {
        respond(200, &[cc, ETAG], if n == 0 { "one" } else { "two" })
    });
    behind.get(&[]).await;
    for _ in 0..5 {
        let one = behind.get(&[]).await;
        assert!(one.is(200, "one"), "{one:?}");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(behind.get(&[]).await.is(200, "two"));
    assert_eq!(behind.asked().min(3), 2 + usize::from(behind.asked() > 2));

    let cc = ("cache-control", "max-age=0, stale-if-error=60");
    let failing = bed("", 0, move |n, _| match n {
        0 => respond(200, &[cc, ETAG], "one"),
        1 => respond(503, &[], "sorry"),
        _ => Err(Failure::new(Reason::OriginUnreachable, "gone")),
    });
    for _ in 0..3 {
        assert!(failing.get(&[]).await.is(200, "one"));
    }
    let strict = bed("", 0, |n, _| match n {
        0 => respond(
            200,
            &[("cache-control", "max-age=0, must-revalidate, stale-if-error=60"), ETAG],
            "one",
        ),
        _ => Err(Failure::new(Reason::OriginUnreachable, "gone")),
    });
    strict.get(&[]).await;
    assert!(strict.ask("GET", "/", &[]).await.is_err(), "RFC 9111 section 4.2.4");
}

/// RFC 9111 section 4.4, and what an operator purges: neither what is stored nor what is under way
/// comes back.
#[tokio::test]
async fn invalidation() {
    let bed = Arc::new(bed("", 30, |n, head| match head.method == Method::POST {
        true => respond(201, &[("location", "/made")], "done"),
        false => respond(200, &[FRESH, ("cache-tag", "t")], if n < 2 { "old" } else { "new" }),
    }));
    bed.get(&[]).await;
    bed.ask("GET", "/made", &[]).await.unwrap();
    bed.ask("POST", "/", &[]).await.unwrap();
    assert!(bed.get(&[]).await.is(200, "new"));
    assert!(bed.ask("GET", "/made", &[]).await.unwrap().is(200, "new"));
    assert_eq!(bed.asked(), 5);
    // Purged while it is fetched.
    let under_way = {
        let bed = bed.clone();
        tokio::spawn(async move { bed.ask("GET", "/late", &[]).await })
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    bed.cache
        .0
        .shared
        .purge(Purge::Tag("z", "t"), Effect::Void, &bed.zones)
        .unwrap();
    under_way.await.unwrap().unwrap();
    bed.settle().await;
    bed.ask("GET", "/late", &[]).await.unwrap();
    bed.get(&[]).await;
    assert_eq!(bed.asked(), 8);
}

/// RFC 9111 section 5.2.1, and fields that make a request the origin's.
#[tokio::test]
async fn requests_directives() {
    let bed = bed("", 0, |_, _| respond(200, &[FRESH, ETAG], "x"));
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(bed.get(&only).await.status, 504);
    bed.get(&[]).await;
    assert_eq!(bed.get(&only).await.status, 200);
    assert_eq!(bed.asked(), 1);
    bed.get(&[("cache-control", "no-cache")]).await;
    bed.get(&[("cache-control", "no-store")]).await;
    bed.get(&[("authorization", "x")]).await;
    assert_eq!(bed.asked(), 4);
    // Too long for a purge to name: not stored.
    let long = format!("/{}", "x".repeat(5_000));
    for _ in 0..2 {
        assert!(bed.ask("GET", &long, &[]).await.unwrap().is(200, "x"));
    }
    assert_eq!(bed.asked(), 6);
    // None of them made the stored response another one's.
    assert!(bed.get(&[]).await.told().contains("hit"));
}

/// A response that broke off, or lied about its length, is not what the next client gets.
#[tokio::test]
async fn broken_responses() {
    let bed = bed("", 0, |n, _| match n {
        0 => respond(200, &[FRESH, ("content-length", "9")], streamed("abc")),
        1 => respond(200, &[FRESH, ("content-length", "9")], "abc"),
        2 => respond(206, &[FRESH, ("content-range", "bytes 0-1/3")], "ab"),
        _ => respond(200, &[FRESH], "abc"),
    });
    assert!(bed.get(&[]).await.text.is_err());
    bed.settle().await;
    bed.get(&[]).await;
    assert!(bed.get(&[("range", "bytes=0-1")]).await.is(206, "ab"));
    assert!(bed.get(&[]).await.is(200, "abc"));
    assert_eq!(bed.asked(), 4);
}

/// Content beyond the bound streams through, whole, and is not stored.
#[tokio::test]
async fn large_content() {
    let large: &'static str = "x".repeat(3_000).leak();
    for known in [true, false] {
        let bed = bed("object_bytes = \"1KiB\"", 0, move |_, _| {
            let body = if known { Body::from(large) } else { streamed(large) };
            respond(200, &[FRESH], body)
        });
        for _ in 0..2 {
            assert!(bed.get(&[]).await.is(200, large));
            bed.settle().await;
        }
        assert_eq!(bed.asked(), 2);
    }
}

/// Content that comes when the test lets it.
fn held(text: &'static str, gate: Arc<tokio::sync::Semaphore>) -> Body {
    let mut left = Some(text);
    let pieces = futures_util::stream::poll_fn(move |cx| {
        let gate = gate.clone();
        let mut turn = Box::pin(async move { drop(gate.acquire().await) });
        match turn.as_mut().poll(cx) {
            std::task::Poll::Ready(()) => std::task::Poll::Ready(left.take()),
            std::task::Poll::Pending => {
                let waker = cx.waker().clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    waker.wake();
                });
                std::task::Poll::Pending
            }
        }
    });
    Body::boxed(http_body_util::StreamBody::new(futures_util::StreamExt::map(
        pieces,
        |text| Ok::<_, crate::http::body::BodyError>(http_body::Frame::data(Bytes::from_static(text.as_bytes()))),
    )))
}

/// What is purged, or voided by an unsafe request, while it streams is given to nobody who asks
/// afterwards: by URL, prefix and tag, whether others could join the response or not.
#[tokio::test]
async fn nobody_joins_what_was_voided_as_it_streams() {
    for by in ["url", "prefix", "tag", "POST", "PUT", "PATCH", "DELETE"] {
        for joinable in [true, false] {
            let gate = Arc::new(tokio::sync::Semaphore::new(0));
            let opens = gate.clone();
            let zone = if joinable { "" } else { "coalesce = \"0s\"" };
            let bed = Arc::new(bed(zone, 0, move |n, head| {
                let fields = [FRESH, ("cache-tag", "t"), ("content-length", "3")];
                match (n, &head.method) {
                    (0, _) => respond(200, &fields, held("old", opens.clone())),
                    (_, &Method::GET) => respond(200, &fields, "new"),
                    _ => respond(204, &[], Body::Empty),
                }
            }));
            let first = {
                let bed = bed.clone();
                tokio::spawn(async move { bed.get(&[]).await })
            };
            bed.settle().await;
            let purge = |purge| bed.cache.0.shared.purge(purge, Effect::Void, &bed.zones).unwrap();
            match by {
                "url" => purge(Purge::Url("http://z.example/")),
                "prefix" => purge(Purge::Prefix("http://z.example/")),
                "tag" => purge(Purge::Tag("z", "t")),
                method => drop(bed.ask(method, "/", &[]).await.unwrap()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            let later = bed.get(&[]).await;
            assert!(later.is(200, "new"), "{by} {joinable}: {later:?}");
            gate.add_permits(1);
            assert!(
                first.await.unwrap().is(200, "old"),
                "who asked before gets what was on its way"
            );
            bed.settle().await;
            let stored = bed.get(&[]).await;
            assert!(
                stored.is(200, "new") && stored.told().contains("hit"),
                "{by} {joinable}: {stored:?}"
            );
        }
    }
}

/// One client's request that the origin does not like is that client's failure; an origin that
/// cannot be reached is everybody's.
#[tokio::test]
async fn failures_are_shared_where_they_are_everybodys() {
    for (reason, asked) in [
        (Reason::OriginMalformed, 2),
        (Reason::ClientGone, 2),
        (Reason::OriginTimeout, 2),
        (Reason::OriginUnreachable, 1),
        (Reason::Overload, 1),
    ] {
        let bed = Arc::new(bed("", 50, move |_, head| match head.headers.contains_key("x-bad") {
            true => Err(Failure::new(reason, "no")),
            false => respond(200, &[FRESH], "good"),
        }));
        let bad = {
            let bed = bed.clone();
            tokio::spawn(async move { bed.ask("GET", "/", &[("x-bad", "1")]).await.map(drop) })
        };
        tokio::time::sleep(Duration::from_millis(10)).await;
        let others: Vec<_> = (0..3)
            .map(|_| {
                let bed = bed.clone();
                tokio::spawn(async move { bed.ask("GET", "/", &[]).await })
            })
            .collect();
        assert_eq!(bad.await.unwrap().unwrap_err().reason, reason);
        for other in others {
            let other = other.await.unwrap();
            match asked {
                2 => assert!(other.unwrap().is(200, "good"), "{reason:?}"),
                _ => assert_eq!(other.unwrap_err().reason, reason),
            }
        }
        assert_eq!(bed.asked(), asked, "{reason:?}: one of them flew for all");
    }
}

/// A 304 about another representation confirms nothing: the stored bytes would get its name, and a
/// download that goes on by that name two files' parts (RFC 9111 section 4.3.4).
#[tokio::test]
async fn a_304_of_another_representation() {
    for other in [("etag", "\"b\""), ("vary", "x-a")] {
        let bed = bed("", 0, move |n, head| match n {
            0 => respond(200, &[STALE, ETAG], "one"),
            1 => {
                assert_eq!(head.headers["if-none-match"], "\"a\"");
                respond(304, &[FRESH, other], Body::Empty)
            }
            2 => {
                let asks = ["if-none-match", "if-modified-since", "range"];
                assert!(asks.iter().all(|name| !head.headers.contains_key(*name)), "{head:?}");
                respond(200, &[FRESH, ("etag", "\"b\"")], "two")
            }
            _ => panic!("asked too often"),
        });
        bed.get(&[]).await;
        let part = bed.get(&[("range", "bytes=0-0"), ("if-range", "\"b\"")]).await;
        assert!(part.is(206, "t") && part.fields["etag"] == "\"b\"", "{part:?}");
        assert!(bed.get(&[("if-none-match", "\"a\"")]).await.is(200, "two"));
    }
    // An origin that says 304 to everything has no answer.
    let stubborn = bed("", 0, |n, _| match n {
        0 => respond(200, &[STALE, ETAG], "one"),
        _ => respond(304, &[("etag", "\"b\"")], Body::Empty),
    });
    stubborn.get(&[]).await;
    let failure = stubborn.ask("GET", "/", &[]).await.unwrap_err();
    assert_eq!(failure.reason, Reason::OriginMalformed);
}

/// A cookie that came with a page for all is its first client's: given to others, they would be in
/// that one's session.
#[tokio::test]
async fn cookies_are_not_stored() {
    let bed = bed("", 0, |n, _| match n {
        0 => respond(
            200,
            &[
                ("cache-control", "public, max-age=0"),
                ETAG,
                ("set-cookie", "id=1"),
                ("set-cookie", "b=1"),
            ],
            "x",
        ),
        1 => respond(
            304,
            &[("cache-control", "public, max-age=60"), ETAG, ("set-cookie", "id=2")],
            Body::Empty,
        ),
        _ => panic!("asked too often"),
    });
    let cookies = |seen: &Seen| {
        let all = seen.fields.get_all("set-cookie").iter();
        all.map(|cookie| cookie.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(cookies(&bed.get(&[]).await), ["id=1", "b=1"]);
    let confirmed = bed.get(&[]).await;
    assert!(
        confirmed.is(200, "x") && cookies(&confirmed) == ["id=2"],
        "{confirmed:?}"
    );
    let hit = bed.get(&[]).await;
    assert!(hit.told().contains("hit") && cookies(&hit).is_empty(), "{hit:?}");
}

/// Personal pages do not wait for one another's, and a page for all is shared by those who show
/// credentials once it is known for one.
#[tokio::test]
async fn requests_with_credentials_do_not_wait() {
    let bed = Arc::new(bed("", 100, |_, head| {
        let who = head.headers["authorization"].to_str().unwrap().to_owned();
        respond(200, &[("cache-control", "private")], Bytes::from(who))
    }));
    let start = Instant::now();
    let crowd: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|who| {
            let bed = bed.clone();
            tokio::spawn(async move { (who, bed.get(&[("authorization", who)]).await) })
        })
        .collect();
    for one in crowd {
        let (who, seen) = one.await.unwrap();
        assert!(seen.is(200, who), "{seen:?}");
    }
    assert!(
        start.elapsed() < Duration::from_millis(190),
        "{:?}: they waited in line",
        start.elapsed()
    );
}

/// Several ranges of a stored response are parts of it: forty answers that nobody takes hold one
/// copy of the content.
#[tokio::test]
async fn ranges_are_not_copied() {
    let content = Bytes::from(vec![7_u8; 1 << 20]);
    let given = content.clone();
    let bed = bed("", 0, move |_, _| respond(200, &[FRESH], given.clone()));
    let ask = |range: &'static str| {
        let (head, ()) = http::Request::get("/")
            .header("range", range)
            .body(())
            .unwrap()
            .into_parts();
        bed.request(head)
    };
    let mut response = bed.cache.handle(ask("bytes=0-1")).await.unwrap();
    drop(std::mem::take(&mut response.body));
    let mut response = bed.cache.handle(ask("bytes=0-1,500000-1000000")).await.unwrap();
    assert_eq!(response.head.status, 206);
    let told: u64 = response.head.headers["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let (mut sent, mut parts) = (0, 0);
    while let Some(frame) = response.body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        sent += data.len() as u64;
        let within = content.as_ptr_range().contains(&data.as_ptr());
        parts += usize::from(within);
        assert!(within || data.len() < 500, "{} bytes were copied", data.len());
    }
    assert_eq!((sent, parts), (told, 2));
}

/// Content that comes again as it was keeps its name, by which coded forms of it are kept.
#[tokio::test]
async fn equal_content_keeps_its_name() {
    for streams in [false, true] {
        let bed = bed("", 0, move |n, _| {
            let text = if n < 2 { "same" } else { "other" };
            let fields = [
                ("cache-control", "max-age=60"),
                ("etag", ["\"0\"", "\"1\"", "\"2\""][n.min(2)]),
            ];
            respond(200, &fields, if streams { streamed(text) } else { Body::from(text) })
        });
        let mut names = Vec::new();
        for _ in 0..3 {
            bed.get(&[("cache-control", "no-cache")]).await;
            bed.settle().await;
            let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
            let hit = bed.cache.handle(bed.request(head)).await.unwrap();
            names.push(
                hit.head
                    .extensions
                    .get::<crate::http::message::ContentName>()
                    .copied()
                    .unwrap(),
            );
        }
        assert!(names[0] == names[1] && names[1] != names[2], "{streams}: {names:?}");
    }
}
