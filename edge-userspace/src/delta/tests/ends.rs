//! What each end must do when nothing goes wrong, and when something is away.

use super::*;

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(test);
}

fn world() -> (Arc<Source>, World) {
    let origin = Arc::new(Source::new(1));
    let world = World::new(origin.clone(), Calm, 8 << 20, 8 << 20);
    (origin, world)
}

/// The purpose: the second time only what changed crosses, and nothing when nothing did.
#[test]
fn whole_then_what_changed_then_nothing() {
    run(async {
        let (origin, world) = world();
        for round in 0..5 {
            let got = world.get("/page?50000", &[]).await;
            assert_eq!(*got.bytes(), origin.given(got.headers()).unwrap(), "round {round}");
            assert_eq!(got.headers()["content-length"], got.bytes().len().to_string().as_str());
        }
        assert_eq!(world.near_metrics.count("zstd"), 1);
        assert_eq!(world.near_metrics.count("dcz"), 4);
        let got = world.get("/asset.js?30000", &[]).await;
        let first = got.bytes().clone();
        let mut same = 0;
        for _ in 0..20 {
            let got = world.get("/asset.js?30000", &[]).await;
            same += u64::from(*got.bytes() == first);
        }
        assert!(same > 0 && world.near_metrics.count("same") >= same);
        // What the origin saw: a client's question, asking for content as it is.
        let seen = origin.seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(seen["accept-encoding"], "identity");
        assert!(!seen.contains_key("available-dictionary") && !seen.contains_key("edge-delta"));
    });
}

/// One client's page must not be referred to in another one's, and what is for nobody's keeping is
/// not kept.
#[test]
fn private_content_stays_apart() {
    run(async {
        let (_, world) = world();
        let deltas = || world.near_metrics.count("dcz");
        for cookie in ["id=1", "id=2"] {
            world.get("/private?9000", &[("cookie", cookie)]).await;
        }
        assert_eq!(
            deltas(),
            0,
            "the second client's first page referred to the first one's"
        );
        world.get("/private?9000", &[("cookie", "id=1")]).await;
        assert_eq!(deltas(), 1);
        for path in ["/private?8000", "/secret?8000", "/login?8000"] {
            for _ in 0..3 {
                world.get(path, &[]).await;
            }
        }
        assert_eq!(deltas(), 1, "private content without credentials was kept");
        for _ in 0..2 {
            world.get("/varies?7000", &[("accept-language", "de")]).await;
        }
        assert_eq!(deltas(), 2);
        world.get("/varies?7000", &[("accept-language", "fr")]).await;
        assert_eq!(deltas(), 2, "another variant");
    });
}

/// The client's own conditions, parts and methods are the origin's affair.
#[test]
fn conditions_and_parts_go_through() {
    run(async {
        let (origin, world) = world();
        world.get("/tagged", &[]).await;
        let got = world.get("/tagged", &[("if-none-match", "\"1\"")]).await;
        assert!(matches!(got, Got::Whole(304, _, _)), "{got:?}");
        world
            .get("/page", &[("range", "bytes=0-9"), ("accept-encoding", "br")])
            .await;
        let seen = origin.seen.lock().unwrap().last().unwrap().clone();
        // A part of what a plain GET gets: another coding's bytes could not be joined to it.
        assert_eq!(
            (&seen["range"], &seen["accept-encoding"]),
            (&"bytes=0-9".parse().unwrap(), &"identity".parse().unwrap())
        );
        // What may mean another resource than it says is nobody's version.
        let deltas = world.near_metrics.count("dcz");
        for _ in 0..3 {
            world.get("/page?9000", &[("x-original-url", "/admin")]).await;
        }
        assert_eq!(world.near_metrics.count("dcz"), deltas);
        // A client that speaks the hop's language is not listened to.
        let forged = world.request("HEAD", "/page", &[("edge-delta", "1"), ("cookie", "a=1")]);
        got_ok(world.near.handle(forged).await).await;
        assert!(!origin.seen.lock().unwrap().last().unwrap().contains_key("edge-delta"));
    });
}

async fn got_ok(answer: Result<Response, Failure>) {
    assert!(matches!(got(answer).await, Got::Whole(200, _, _)));
}

struct Away(Arc<AtomicBool>);
impl Wire for Away {
    fn ask(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Failure::new(Reason::OriginUnreachable, "away"));
        }
        Ok(())
    }
}

/// The far end away: straight to the origin, content of requests included; the origin away as well:
/// what was held, where the origin allowed that; else an error.
#[test]
fn the_far_end_is_away() {
    run(async {
        let (origin, away) = (Arc::new(Source::new(2)), Arc::new(AtomicBool::new(false)));
        let world = World::new(origin.clone(), Away(away.clone()), 8 << 20, 8 << 20);
        let before = world.get("/lasting?3000", &[]).await;
        world.get("/page", &[]).await;
        away.store(true, Ordering::Relaxed);
        let mut post = world.request("POST", "/page", &[("content-length", "4")]);
        post.body = Bytes::from_static(b"body").into();
        got_ok(world.near.handle(post).await).await;
        let got = world.get("/page", &[("accept-encoding", "br")]).await;
        assert_eq!(*got.bytes(), origin.given(got.headers()).unwrap());
        assert_eq!(origin.seen.lock().unwrap().last().unwrap()["accept-encoding"], "br");
        assert_eq!(world.near_metrics.count("direct"), 2);
        world.behind.alone.store(true, Ordering::Relaxed);
        let got = world.get("/lasting?3000", &[]).await;
        assert_eq!(got.bytes(), before.bytes());
        assert!(got.headers().contains_key("age"));
        // Not to who may expect a page of their own, nor to who insists on the origin's word.
        for field in [
            ("authorization", "Bearer x"),
            ("cache-control", "max-age=0, no-cache"),
            ("pragma", "no-cache"),
        ] {
            let got = world.get("/lasting?3000", &[field]).await;
            assert!(matches!(got, Got::Failed(_)), "{field:?}: {got:?}");
        }
        assert!(matches!(
            world.get("/page", &[]).await,
            Got::Failed(Reason::OriginUnreachable)
        ));
        // After the pause it is tried again.
        away.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let deltas = world.near_metrics.count("dcz");
        world.get("/page", &[]).await;
        assert_eq!(world.near_metrics.count("dcz"), deltas + 1);
        // The far end's origin away: its word is taken for it, and nobody is asked twice.
        origin.away.store(true, Ordering::Relaxed);
        let asked = origin.asked.load(Ordering::Relaxed);
        assert!(matches!(
            world.get("/page", &[]).await,
            Got::Failed(Reason::OriginUnreachable)
        ));
        assert_eq!(origin.asked.load(Ordering::Relaxed), asked + 1);
    });
}

/// A crowd that asks for one asset at once costs the origin one request; a crowd that asks for a
/// page that changes, one each.
#[test]
fn a_crowd_is_one_request() {
    run(async {
        let (origin, world) = world();
        *origin.delay.lock().unwrap() = Duration::from_millis(30);
        let crowd = |path: &'static str| {
            let world = &world;
            futures_util::future::join_all((0..20).map(move |_| world.get(path, &[])))
        };
        let got = crowd("/asset.js?20000").await;
        assert_eq!(origin.asked.load(Ordering::Relaxed), 1);
        assert!(got.iter().all(|one| one.bytes() == got[0].bytes()));
        assert!(world.far_metrics.shared() >= 19);
        let got = crowd("/page?20000").await;
        let distinct: std::collections::HashSet<_> = got.iter().map(|got| got.bytes().clone()).collect();
        assert_eq!(distinct.len(), 20, "an answer that may not be reused was given twice");
        let languages = ["de", "fr"].map(|language| [("accept-language", language)]);
        let got = futures_util::future::join_all(languages.iter().map(|fields| world.get("/varies", fields))).await;
        assert_ne!(got[0].headers()["x-answer"], got[1].headers()["x-answer"]);
    });
}

/// An asset that is asked for again gets a better encoding by and by, and clients get that one.
#[test]
fn better_in_the_background() {
    run(async {
        let metrics = Metrics::far(&mut Registry::default());
        let encodings = super::super::encodings::Encodings::new(1 << 20, metrics).unwrap();
        let mut noise = Noise(4);
        let words: Vec<String> = (0..60_000).map(|_| format!("w{} ", noise.below(3_000))).collect();
        let old = super::super::codec::Dictionary::new(words[..40_000].concat());
        let new = super::super::codec::Dictionary::new(words[20_000..].concat());
        let first = encodings.get(Some(&old), &new, true).await.unwrap();
        let begun = Instant::now();
        loop {
            let later = encodings.get(Some(&old), &new, true).await.unwrap();
            if later.len() < first.len() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no better one came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
