//! What workers keep by themselves, beside what the zone serves.

use super::*;
use crate::http::kept::{Deed, Wish};

const PAGE: &str = "https://z.example/page";

/// A worker's wish, as the room `isolate` sends it.
async fn wish(
    bed: &Bed,
    (cache, url): (&str, &str),
    deed: Deed,
    fields: &[(&'static str, &str)],
    body: Body,
) -> Option<Seen> {
    let mut builder = http::Request::get("/page");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let mut request = bed.request(builder.body(()).unwrap().into_parts().0);
    request.body = body;
    request.head.extensions.insert(Wish {
        cache: cache.into(),
        url: url.into(),
        deed,
    });
    match bed.cache.handle(request).await {
        Ok(response) => Some(Seen {
            status: response.head.status.as_u16(),
            fields: response.head.headers,
            text: Ok(String::from_utf8(response.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()),
        }),
        Err(failure) => {
            assert_eq!(failure.reason, Reason::NotFound);
            None
        }
    }
}

async fn find(bed: &Bed, cache: &str, url: &str) -> Option<String> {
    let found = wish(bed, (cache, url), Deed::Find, &[], Body::Empty).await;
    found.map(|seen| seen.text.unwrap())
}

fn response(fields: &[(&'static str, &str)]) -> Deed {
    let mut map = http::HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    Deed::Keep(StatusCode::OK, map)
}

/// What one worker keeps would answer the zone's clients, another cache's question, or another URL.
#[tokio::test]
async fn what_a_worker_keeps_is_its_own() {
    let bed = bed("", 0, |_, _| respond(200, &[FRESH], "the origin's"));
    assert_eq!(find(&bed, "a", PAGE).await, None);
    for body in [Body::from("kept"), streamed("kept")] {
        // A length that was copied from elsewhere is not believed.
        let deed = response(&[
            FRESH,
            ("content-length", "999"),
            ("set-cookie", "a=1"),
            ("cache-control", "public"),
        ]);
        assert!(wish(&bed, ("a", PAGE), deed, &[], body).await.is_some());
        let found = wish(&bed, ("a", PAGE), Deed::Find, &[], Body::Empty).await.unwrap();
        assert!(found.is(200, "kept"), "{found:?}");
        assert_eq!(found.fields["content-length"], "4");
        assert!(found.fields.contains_key("age") && !found.fields.contains_key("set-cookie"));
    }
    assert_eq!(find(&bed, "b", PAGE).await, None);
    assert_eq!(find(&bed, "a", "https://z.example/").await, None);
    // The zone's clients get what the origin says, and the worker keeps what it had.
    assert!(bed.ask("GET", "/page", &[]).await.unwrap().is(200, "the origin's"));
    assert!(bed.ask("POST", "/page", &[]).await.unwrap().is(200, "the origin's"));
    assert_eq!(find(&bed, "a", PAGE).await.as_deref(), Some("kept"));
    assert!(wish(&bed, ("a", PAGE), Deed::Forget, &[], Body::Empty).await.is_some());
    assert!(wish(&bed, ("a", PAGE), Deed::Forget, &[], Body::Empty).await.is_none());
    assert_eq!(find(&bed, "a", PAGE).await, None);
    // At once, and again.
    assert!(
        wish(&bed, ("a", PAGE), response(&[FRESH]), &[], Body::from("new"))
            .await
            .is_some()
    );
    assert_eq!(find(&bed, "a", PAGE).await.as_deref(), Some("new"));
    let wishes = bed
        .origin
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|head| head.extensions.get::<Wish>().is_some())
        .count();
    assert_eq!(wishes, 0, "a wish went to the origin");
}

/// A shared cache would hand on what is one client's, or what is over.
#[tokio::test]
async fn fields_say_what_is_kept_and_for_whom() {
    let bed = bed("object_bytes = \"1KiB\"", 0, |_, _| respond(200, &[], "x"));
    for fields in [
        &[][..],
        &[("cache-control", "private, max-age=60")],
        &[("cache-control", "no-store, max-age=60")],
        &[("cache-control", "max-age=0")],
        &[FRESH, ("vary", "*")],
        &[FRESH, ("set-cookie", "a=1")],
    ] {
        let kept = wish(&bed, ("a", PAGE), response(fields), &[], Body::from("kept")).await;
        assert!(kept.is_none(), "{fields:?}");
    }
    let long: &'static str = "a".repeat(1_025).leak();
    for body in [Body::from(long), streamed(long)] {
        assert!(wish(&bed, ("a", PAGE), response(&[FRESH]), &[], body).await.is_none());
    }
    assert_eq!(find(&bed, "a", PAGE).await, None);
    let far = format!("https://z.example/{}", "a".repeat(5_000));
    assert!(
        wish(&bed, ("a", &far), response(&[FRESH]), &[], Body::from("x"))
            .await
            .is_none()
    );
    // With credentials, only what is for all.
    let owner = [("authorization", "Basic eA==")];
    assert!(
        wish(&bed, ("a", PAGE), response(&[FRESH]), &owner, Body::from("x"))
            .await
            .is_none()
    );
    // By what the response varies by; parts and conditions.
    let german = [("accept-language", "de")];
    let deed = response(&[FRESH, ("vary", "accept-language"), ("etag", "\"1\"")]);
    assert!(
        wish(&bed, ("a", PAGE), deed, &german, Body::from("guten Tag"))
            .await
            .is_some()
    );
    assert_eq!(find(&bed, "a", PAGE).await, None);
    let part = [("accept-language", "de"), ("range", "bytes=0-4")];
    let found = wish(&bed, ("a", PAGE), Deed::Find, &part, Body::Empty).await.unwrap();
    assert!(found.is(206, "guten"), "{found:?}");
    let known = [("accept-language", "de"), ("if-none-match", "\"1\"")];
    let found = wish(&bed, ("a", PAGE), Deed::Find, &known, Body::Empty).await.unwrap();
    assert!(found.is(304, ""), "{found:?}");
}

/// An operator's purge would leave what workers keep.
#[tokio::test]
async fn purges_mean_what_workers_keep() {
    let bed = bed("", 0, |_, _| respond(200, &[], "x"));
    let tagged = || response(&[FRESH, ("cache-tag", "news, shop")]);
    for purge in [Purge::Tag("z", "shop"), Purge::All] {
        assert!(
            wish(&bed, ("a", PAGE), tagged(), &[], Body::from("kept"))
                .await
                .is_some()
        );
        assert_eq!(find(&bed, "a", PAGE).await.as_deref(), Some("kept"));
        bed.cache.0.shared.purge(purge, Effect::Void, &bed.zones).unwrap();
        assert_eq!(find(&bed, "a", PAGE).await, None);
        // Later than the purge by its clock.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
