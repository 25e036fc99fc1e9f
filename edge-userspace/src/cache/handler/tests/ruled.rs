//! Requests for whose storing zone rules say something: what is stored, told apart, and kept back.
//! The rooms in front have applied the rules; here is what they leave with the request.

use super::*;
use crate::base::peer::{Handshake, Identity};

/// A bed with one rule, which says `cache` of caching.
fn ruled(
    cache: &str,
    script: impl Fn(usize, &request::Parts) -> Result<Response, Failure> + Send + Sync + 'static,
) -> Bed {
    bed(
        &format!("[[zone.rule]]\nname = \"r\"\ncache = {{ {cache} }}\n"),
        0,
        script,
    )
}

/// What the request met: the answer, and what the cache says became of it.
async fn ask(
    bed: &Bed,
    (method, target): (&str, &str),
    fields: &[(&'static str, &str)],
    certificate: bool,
) -> (Seen, Option<Became>) {
    let (mut request, mut told) = bed.ruled(head(method, target, fields));
    if certificate {
        let mut peer = Peer {
            handshake: Some(Arc::new(handshake())),
            ..unshown(&request.exchange.peer)
        };
        // As the others came.
        peer.via = Some(crate::base::peer::Via {
            proxies: [].into(),
            secure: Some(false),
        });
        request.exchange.peer = Arc::new(peer);
    }
    let response = bed.cache.handle(request).await.unwrap();
    let seen = Seen::of(response).await;
    let told = told.wait_for(Option::is_some).await.ok().and_then(|told| *told);
    (seen, told)
}

fn unshown(peer: &Peer) -> Peer {
    Peer {
        client: peer.client,
        local: peer.local,
        accepted: peer.accepted,
        handshake: None,
        early: None,
        via: None,
    }
}

fn handshake() -> Handshake {
    let identity = Identity {
        subject: "CN=ann".to_owned(),
        issuer: "CN=ca".to_owned(),
        names: Vec::new(),
        spki: String::new(),
        fingerprint: String::new(),
        field: http::HeaderValue::from_static(":YQ==:"),
        chain: None,
    };
    Handshake {
        duration: Duration::ZERO,
        server_name: None,
        version: "TLSv1.3",
        resumed: false,
        client: 1,
        known: false,
        certificate: Some(Arc::new(identity)),
        standing: None,
    }
}

async fn get(bed: &Bed, target: &str, fields: &[(&'static str, &str)]) -> (Seen, Option<Became>) {
    ask(bed, ("GET", target), fields, false).await
}

/// Answers with what it was asked, and a word that nobody is to store it.
fn mirror(_: usize, head: &request::Parts) -> Result<Response, Failure> {
    respond(200, &[("cache-control", "no-store")], head.uri.to_string())
}

/// An operator's word would come to nothing, or reach further than it says.
#[tokio::test]
async fn times_by_status() {
    let bed = ruled(
        "ttl = { \"200\" = \"10m\", \"4xx\" = \"30s\" }, force = true",
        |_, head| {
            let status = head.uri.path().trim_start_matches('/').parse().unwrap();
            respond(status, &[("cache-control", "no-store")], "said")
        },
    );
    for (target, stored, ttl) in [
        ("/200", true, 600),
        ("/404", true, 30),
        ("/410", true, 30),
        ("/401", false, 0),
        ("/500", false, 0),
        ("/301", false, 0),
    ] {
        let (_, first) = get(&bed, target, &[("cookie", "a=b")]).await;
        assert_eq!(first == Some(Became::Stored), stored, "{target}: {first:?}");
        let (seen, second) = get(&bed, target, &[]).await;
        assert_eq!(second == Some(Became::Known), stored, "{target}: {second:?}");
        if stored {
            let left: u64 = seen.told().strip_prefix("edge; hit; ttl=").unwrap().parse().unwrap();
            assert!((ttl - 20..=ttl).contains(&left), "{target}: {left}");
        }
    }
    // Without force it is for what says nothing.
    let bed = ruled("ttl = { \"200\" = \"10m\" }", |n, _| {
        let said: &[(&'static str, &str)] = if n < 2 { &[("cache-control", "no-store")] } else { &[] };
        respond(200, said, "said")
    });
    for expected in [false, false, true] {
        let (_, became) = get(&bed, "/", &[]).await;
        assert_eq!(became == Some(Became::Stored), expected, "{became:?}");
    }
    assert_eq!(get(&bed, "/", &[]).await.1, Some(Became::Known));
}

/// What somebody got by who they are would be everybody's.
#[tokio::test]
async fn credentials_keep_what_is_forced_apart() {
    let by = |head: &request::Parts| {
        let shown = head
            .headers
            .get("authorization")
            .map_or("nobody", |value| value.to_str().unwrap());
        respond(200, &[("cache-control", "no-store")], shown.to_owned())
    };
    let shown = [("authorization", "ann")];
    let bed = ruled("ttl = { \"200\" = \"10m\" }, force = true", move |_, head| by(head));
    for certificate in [false, true] {
        let fields = if certificate { &[][..] } else { &shown };
        let (_, became) = ask(&bed, ("GET", "/"), fields, certificate).await;
        assert!(matches!(became, Some(Became::Not(_))), "{certificate}: {became:?}");
    }
    let asked = bed.asked();
    assert_eq!(get(&bed, "/", &[]).await.1, Some(Became::Stored));
    // Nor do they get what others got.
    assert!(get(&bed, "/", &shown).await.0.is(200, "ann"));
    assert!(ask(&bed, ("GET", "/"), &[], true).await.0.is(200, "nobody"));
    assert_eq!(bed.asked(), asked + 3);
    assert!(get(&bed, "/", &[]).await.0.is(200, "nobody"));
    assert_eq!(bed.asked(), asked + 3);
    // But for what the operator calls the same for all.
    let bed = ruled(
        "ttl = { \"200\" = \"10m\" }, force = true, public = true",
        move |_, head| by(head),
    );
    assert_eq!(get(&bed, "/", &shown).await.1, Some(Became::Stored));
    assert!(get(&bed, "/", &[]).await.0.is(200, "ann"));
    assert!(ask(&bed, ("GET", "/"), &[], true).await.0.is(200, "ann"));
    assert_eq!(bed.asked(), 1);
}

/// One visitor's session would be the next one's.
#[tokio::test]
async fn cookies_are_taken_off_or_the_answer_is_not_stored() {
    let cookie = |_: usize, _: &request::Parts| respond(200, &[FRESH, ("set-cookie", "id=1")], "page");
    let bed = ruled("ttl = { \"200\" = \"10m\" }, force = true", cookie);
    for _ in 0..2 {
        let (seen, became) = get(&bed, "/", &[]).await;
        assert!(seen.fields.contains_key("set-cookie") && matches!(became, Some(Became::Not(_))));
    }
    for rule in [
        "strip_set_cookie = true",
        "ttl = { \"200\" = \"10m\" }, strip_set_cookie = true",
    ] {
        let bed = ruled(rule, cookie);
        for expected in [Became::Stored, Became::Known] {
            let (seen, became) = get(&bed, "/", &[]).await;
            assert_eq!(became, Some(expected), "{rule}");
            assert!(!seen.fields.contains_key("set-cookie"), "{rule}");
        }
        // Who shows who it is gets its own.
        let (seen, _) = get(&bed, "/", &[("authorization", "x")]).await;
        assert!(seen.fields.contains_key("set-cookie"), "{rule}");
    }
}

/// A parameter that the key leaves out and the origin sees would write into everybody's page (cache
/// poisoning by what is not in the key).
#[tokio::test]
async fn the_origin_sees_no_more_of_a_query_than_the_key() {
    let force = "ttl = { \"200\" = \"10m\" }, force = true";
    let bed = ruled(
        &format!("{force}, key = {{ query = {{ drop = [\"utm_*\"], sort = true }} }}"),
        mirror,
    );
    let (seen, _) = get(&bed, "/p?utm_source=evil&b=2&a=1&utm%5Fx=evil", &[]).await;
    assert!(seen.is(200, "/p?a=1&b=2"), "{seen:?}");
    for same in ["/p?a=1&b=2", "/p?b=2&a=1", "/p?a=1&b=2&utm_y=other"] {
        let (seen, became) = get(&bed, same, &[]).await;
        assert!(
            seen.is(200, "/p?a=1&b=2") && became == Some(Became::Known),
            "{same}: {seen:?}"
        );
    }
    assert!(get(&bed, "/p?a=2&b=2", &[]).await.0.is(200, "/p?a=2&b=2"));
    // An unsafe request is the origin's as it is, and voids what is stored of its URL.
    let (seen, _) = ask(&bed, ("POST", "/p?utm_source=x&b=2&a=1"), &[], false).await;
    assert!(seen.is(200, "/p?utm_source=x&b=2&a=1"), "{seen:?}");
    assert_eq!(get(&bed, "/p?a=1&b=2", &[]).await.1, Some(Became::Stored), "voided");
    // So does an operator by the URL that the browser shows.
    let shared = &bed.cache.0.shared;
    let shown = Purge::Url("http://z.example/p?utm_source=x&b=2&a=1");
    shared.purge(shown, Effect::Void, &bed.zones).unwrap();
    assert_eq!(get(&bed, "/p?a=1&b=2", &[]).await.1, Some(Became::Stored), "purged");
}

/// Visitors would get the page of others' languages; a purge would leave some of them.
#[tokio::test]
async fn named_fields_and_cookies_tell_answers_apart() {
    let cache = "ttl = { \"200\" = \"10m\" }, force = true, key = { headers = [\"X-Device\"], cookies = [\"lang\"] }";
    let bed = ruled(cache, |n, _| respond(200, &[], n.to_string()));
    let asked: [&[(&'static str, &str)]; 4] = [
        &[],
        &[("x-device", "phone")],
        &[("cookie", "x=1; lang=de")],
        &[("x-device", "phone"), ("cookie", "lang=de")],
    ];
    for (n, fields) in asked.iter().enumerate() {
        for _ in 0..2 {
            assert!(get(&bed, "/", fields).await.0.is(200, &n.to_string()), "{fields:?}");
        }
    }
    assert!(get(&bed, "/", &[("cookie", "y=2; lang=de; z=3")]).await.0.is(200, "2"));
    // All of them are one URL.
    let (_, became) = ask(&bed, ("POST", "/"), &[], false).await;
    assert!(became.is_none());
    for fields in asked {
        assert_eq!(get(&bed, "/", fields).await.1, Some(Became::Stored), "{fields:?}");
    }
    let shared = &bed.cache.0.shared;
    shared
        .purge(Purge::Url("http://z.example/"), Effect::Void, &bed.zones)
        .unwrap();
    for fields in asked {
        assert_eq!(get(&bed, "/", fields).await.1, Some(Became::Stored), "{fields:?}");
    }
}

/// After a soft purge visitors would wait for the origin, or get the old page for good.
#[tokio::test]
async fn a_soft_purge_lets_the_old_answer_until_the_new_is_there() {
    let bed = bed("", 0, |n, _| {
        respond(200, &[FRESH, ("cache-tag", "t")], if n == 0 { "old" } else { "new" })
    });
    let soft = async |purge| {
        bed.cache.0.shared.purge(purge, Effect::Stale, &bed.zones).unwrap();
        // What is asked for in the same millisecond counts as of before.
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(bed.get(&[]).await.is(200, "old"));
    soft(Purge::Tag("z", "other")).await;
    assert!(bed.get(&[]).await.is(200, "old"));
    bed.settle().await;
    assert_eq!(bed.asked(), 1, "not meant");
    soft(Purge::Tag("z", "t")).await;
    assert!(bed.get(&[]).await.is(200, "old"), "nobody waits");
    bed.settle().await;
    for _ in 0..2 {
        assert!(bed.get(&[]).await.is(200, "new"));
    }
    bed.settle().await;
    assert_eq!(bed.asked(), 2, "brought up to date once");
    soft(Purge::Url("http://z.example/")).await;
    // A purge that voids is stronger.
    bed.cache.0.shared.purge(Purge::All, Effect::Void, &bed.zones).unwrap();
    assert!(bed.get(&[]).await.told().starts_with("edge; fwd=uri-miss"));
    assert_eq!(bed.asked(), 3);
}

/// A rule's times for stale answers would be the zone's.
#[tokio::test]
async fn a_rule_has_times_of_its_own_for_stale_answers() {
    let rule = "ttl = { \"200\" = \"0s\" }, force = true, stale_while_revalidate = \"0s\"";
    let zone = format!("stale_while_revalidate = \"1h\"\n[[zone.rule]]\nname = \"r\"\ncache = {{ {rule} }}\n");
    let bed = bed(&zone, 0, |n, _| {
        respond(200, &[("etag", &format!("\"{n}\""))], n.to_string())
    });
    assert_eq!(get(&bed, "/", &[]).await.1, Some(Became::Stored));
    assert!(bed.get(&[]).await.is(200, "0"), "as the zone says");
    bed.settle().await;
    assert!(get(&bed, "/", &[]).await.0.is(200, "2"), "as the rule says");
}

/// What a worker makes would run it each time; or what another version of it made would answer, or
/// its origin's page of the same URL.
#[tokio::test]
async fn what_workers_make() {
    let origin = bed("", 0, |n, _| {
        respond(200, &[FRESH], ["zero", "one", "two", "three"][n.min(3)])
    });
    let shared = origin.cache.0.shared.clone();
    let worker = Cache::of_workers(shared, origin.origin.clone());
    let ask = async |method: &str, version: Option<&str>| {
        let (head, ()) = http::Request::builder()
            .method(method)
            .uri("/")
            .body(())
            .unwrap()
            .into_parts();
        let mut request = origin.request(head);
        if let Some(version) = version {
            request
                .head
                .extensions
                .insert(crate::http::stored::Made(version.into()));
        }
        let response = worker.handle(request).await.unwrap();
        let status = response.head.headers.get("cache-status").cloned();
        let text = response.body.collect().await.unwrap().to_bytes();
        (String::from_utf8(text.to_vec()).unwrap(), status.is_some())
    };
    // A zone that does not store it: nothing is looked at.
    assert_eq!(ask("GET", None).await, ("zero".to_owned(), false));
    for _ in 0..2 {
        assert_eq!(ask("GET", Some("1-a")).await, ("one".to_owned(), true));
    }
    assert_eq!(ask("GET", Some("2-b")).await, ("two".to_owned(), true));
    assert!(origin.get(&[]).await.is(200, "three"), "the origin's own");
    assert_eq!(ask("GET", Some("1-a")).await, ("one".to_owned(), true));
    // A purge of the URL means all of them.
    let url = Purge::Url("http://z.example/");
    origin.cache.0.shared.purge(url, Effect::Void, &origin.zones).unwrap();
    // What is asked for within the purge's millisecond counts as before it.
    origin.settle().await;
    for _ in 0..2 {
        assert_eq!(ask("GET", Some("1-a")).await, ("three".to_owned(), true));
    }
    assert_eq!(origin.asked(), 5);
}
