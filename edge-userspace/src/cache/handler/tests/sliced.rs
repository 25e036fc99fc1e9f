//! Objects in slices: what of them reaches the origin, and that no answer is made of two versions.

use std::sync::atomic::AtomicU64;

use super::*;

const SLICE: usize = 16 << 10;
/// Two slices and a half.
const LENGTH: usize = 2 * SLICE + SLICE / 2;

/// Byte `n` of a version of the object.
fn content(version: u64) -> String {
    let letter = |n: usize| char::from(b'a' + ((n / 7 + version as usize) % 26) as u8);
    (0..LENGTH).map(letter).collect()
}

/// An origin that knows ranges, as most do; `version` of the object.
fn origin(version: u64, head: &request::Parts) -> Result<Response, Failure> {
    let (etag, whole) = (format!("\"{version}\""), content(version));
    let fields = [FRESH, ("etag", &etag), ("x-version", "1"), ("cache-tag", "film")];
    if head.headers.get("if-none-match").is_some_and(|known| *known == *etag) {
        return respond(304, &fields, Body::Empty);
    }
    let Some(range) = head.headers.get("range") else {
        return respond(200, &fields, whole);
    };
    let (from, last) = range.to_str().unwrap()["bytes=".len()..].split_once('-').unwrap();
    let (from, last): (usize, usize) = (from.parse().unwrap(), last.parse().unwrap());
    if from >= LENGTH {
        return respond(416, &[("content-range", &format!("bytes */{LENGTH}"))], Body::Empty);
    }
    let last = last.min(LENGTH - 1);
    let range = ("content-range", &*format!("bytes {from}-{last}/{LENGTH}"));
    respond(206, &[&fields[..], &[range]].concat(), whole[from..=last].to_owned())
}

fn sliced(script: impl Fn(usize, &request::Parts) -> Result<Response, Failure> + Send + Sync + 'static) -> Bed {
    let rule = "object_bytes = \"16KiB\"\n[[zone.rule]]\nname = \"r\"\ncache = { slice = \"16KiB\" }\n";
    bed(rule, 0, script)
}

async fn ask(bed: &Bed, method: &str, fields: &[(&'static str, &str)]) -> Result<Seen, Failure> {
    let (request, _) = bed.ruled(head(method, "/film", fields));
    Ok(Seen::of(bed.cache.handle(request).await?).await)
}

async fn get(bed: &Bed, fields: &[(&'static str, &str)]) -> Seen {
    ask(bed, "GET", fields).await.unwrap()
}

/// The ranges that the origin was asked for.
fn ranges(bed: &Bed) -> Vec<String> {
    let seen = bed.origin.seen.lock().unwrap();
    let range = |head: &request::Parts| {
        head.headers
            .get("range")
            .map(|range| range.to_str().unwrap().to_owned())
    };
    seen.iter().map(|head| range(head).unwrap_or_default()).collect()
}

/// A range of a film would cost the whole of it, or be of another place; and what is longer than
/// what the zone stores would come from the origin each time.
#[tokio::test]
async fn ranges_are_answered_from_slices() {
    let bed = sliced(|_, head| origin(1, head));
    let whole = content(1);
    // In the third slice: that and the first, which says what the object is.
    let from = 2 * SLICE + 5;
    let part = get(&bed, &[("range", &format!("bytes={from}-{}", from + 9))]).await;
    assert!(part.is(206, &whole[from..from + 10]), "{part:?}");
    assert_eq!(
        part.fields["content-range"],
        format!("bytes {from}-{}/{LENGTH}", from + 9)
    );
    assert_eq!(
        (&part.fields["content-length"], &part.fields["x-version"]),
        (&"10".parse().unwrap(), &"1".parse().unwrap())
    );
    bed.settle().await;
    assert_eq!(ranges(&bed), ["bytes=0-16383", "bytes=32768-49151"]);
    // Over the edge of a slice.
    let part = get(&bed, &[("range", &format!("bytes={}-{}", SLICE - 1, SLICE))]).await;
    assert!(part.is(206, &whole[SLICE - 1..=SLICE]), "{part:?}");
    bed.settle().await;
    assert_eq!(ranges(&bed).len(), 3);
    // All of it is stored now, and more than a response may be long.
    for _ in 0..2 {
        let all = get(&bed, &[]).await;
        assert!(all.is(200, &whole) && all.told().starts_with("edge; hit"), "{all:?}");
        assert_eq!(all.fields["content-length"], LENGTH.to_string());
        assert!(!all.fields.contains_key("content-range"));
    }
    let last = get(&bed, &[("range", "bytes=-3")]).await;
    assert!(last.is(206, &whole[LENGTH - 3..]), "{last:?}");
    let several = get(&bed, &[("range", "bytes=0-0,9-9")]).await;
    assert_eq!((several.status, several.text.unwrap().len()), (200, LENGTH));
    assert!(get(&bed, &[("if-none-match", "\"1\"")]).await.is(304, ""));
    assert!(get(&bed, &[("if-match", "\"2\"")]).await.is(412, ""));
    let beyond = get(&bed, &[("range", "bytes=999999-")]).await;
    assert_eq!(
        (beyond.status, &beyond.fields["content-range"]),
        (416, &format!("bytes */{LENGTH}").parse().unwrap())
    );
    let other = get(&bed, &[("range", "bytes=0-0"), ("if-range", "\"2\"")]).await;
    assert_eq!(other.status, 200);
    let head = ask(&bed, "HEAD", &[]).await.unwrap();
    assert!(
        head.is(200, "") && head.fields["content-length"] == LENGTH.to_string(),
        "{head:?}"
    );
    assert_eq!(bed.asked(), 3);
    // An unsafe request, or a purge, means all slices.
    bed.ask("POST", "/film", &[]).await.unwrap();
    let anew = get(&bed, &[]).await;
    assert!(anew.is(200, &whole) && anew.told().contains("fwd="), "{anew:?}");
    assert_eq!(bed.asked(), 7);
    bed.settle().await;
    let tag = Purge::Tag("z", "film");
    bed.cache.0.shared.purge(tag, Effect::Void, &bed.zones).unwrap();
    get(&bed, &[]).await;
    assert_eq!(bed.asked(), 10);
}

/// A client would get the beginning of one version and the end of another.
#[tokio::test]
async fn versions_are_not_mixed() {
    let version = Arc::new(AtomicU64::new(1));
    let known = version.clone();
    let bed = sliced(move |_, head| origin(known.load(Ordering::SeqCst), head));
    let first = ("range", "bytes=0-9");
    assert!(get(&bed, &[first]).await.is(206, &content(1)[..10]));
    bed.settle().await;
    // The first slice is stored, the others are not: the whole is asked for anew, or breaks off.
    version.store(2, Ordering::SeqCst);
    let broken = get(&bed, &[]).await;
    assert!(
        broken.text.as_ref().is_err_and(|why| why.contains("slice")),
        "{broken:?}"
    );
    bed.settle().await;
    assert!(get(&bed, &[]).await.is(200, &content(2)));
    bed.settle().await;
    // What is stored of the last slice is older than the first: it is fetched anew.
    version.store(3, Ordering::SeqCst);
    let reload = get(&bed, &[first, ("cache-control", "no-cache")]).await;
    assert!(reload.is(206, &content(3)[..10]), "{reload:?}");
    bed.settle().await;
    let end = LENGTH - 4;
    let part = get(&bed, &[("range", &format!("bytes={end}-"))]).await;
    assert!(part.is(206, &content(3)[end..]), "{part:?}");
    // The first one is older than a range of which an even older version is stored: nobody sees
    // anything of that.
    version.store(4, Ordering::SeqCst);
    let middle = get(&bed, &[("range", "bytes=20000-20003")]).await;
    assert!(middle.is(206, &content(4)[20_000..20_004]), "{middle:?}");
}

/// What cannot be had in slices would be an error, or be stored as if it were one.
#[tokio::test]
async fn origins_without_ranges() {
    // It knows none.
    let bed = sliced(|_, _| respond(200, &[FRESH, ETAG], "abcdef"));
    assert!(get(&bed, &[]).await.is(200, "abcdef"));
    assert!(get(&bed, &[]).await.told().starts_with("edge; hit"));
    assert!(get(&bed, &[("range", "bytes=1-2")]).await.status < 300);
    // Its validator is weak.
    let weak = sliced(|_, head| {
        let mut response = origin(1, head)?;
        response.head.headers.insert("etag", "W/\"1\"".parse().unwrap());
        Ok(response)
    });
    let whole = get(&weak, &[]).await;
    assert!(
        whole.is(200, &content(1)) && !whole.fields.contains_key("content-range"),
        "{whole:?}"
    );
    // Another range than the one that was asked for is not passed on.
    let wrong = sliced(|_, _| respond(206, &[FRESH, ETAG, ("content-range", "bytes 5-6/9")], "fg"));
    let failed = ask(&wrong, "GET", &[]).await.unwrap_err();
    assert_eq!(failed.reason, Reason::OriginMalformed);
    let missing = sliced(|_, _| respond(404, &[FRESH], "none"));
    assert!(get(&missing, &[]).await.is(404, "none"));
    // A later slice that fails breaks the answer off, and is not stored as one.
    let gone = sliced(|n, head| match n {
        1 => respond(404, &[FRESH], "none"),
        _ => origin(1, head),
    });
    assert!(get(&gone, &[]).await.text.is_err());
    assert!(get(&gone, &[]).await.is(200, &content(1)));
}
