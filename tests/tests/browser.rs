//! The gate as a person meets it: Chromium is told to wait, shows the waiting page and gets in, and
//! nothing that a browser does of its own accord (favicon, sub-resources, connections in advance)
//! or an impatient person makes it do costs a strike.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;
#[expect(dead_code, reason = "this test uses a part of the browser's commands")]
#[path = "browser/webdriver.rs"]
mod webdriver;
#[expect(dead_code, reason = "this test uses a part of that world")]
#[path = "edge/world.rs"]
mod world;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use webdriver::{Browser, public_key};
use world::{EDGE, HOST, LIMITED, World};

/// The waiting page's title, and that of the real one once its script has found all its parts.
const WAITING: &str = "Please wait";
const SERVED: &str = "served";
/// The real page's title before its script has run.
const NOT_COMPLETE: &str = "not complete";
/// A wait, a load, and a slow machine.
const LONGEST: Duration = Duration::from_secs(20);

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<title>not complete</title>
<link rel="icon" href="/favicon.ico">
<link rel="stylesheet" href="/style.css">
</head>
<body><img src="/one.svg" alt=""><img src="/two.svg" alt=""><script src="/script.js"></script></body>
</html>
"#;
const SCRIPT: &str = r#"addEventListener("load", function () {
  var images = Array.from(document.images).every(function (image) { return image.naturalWidth === 8; });
  if (images && getComputedStyle(document.body).color === "rgb(1, 2, 3)") document.title = "served";
});
"#;
const IMAGE: &str =
    r#"<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>"#;

fn url() -> String {
    format!("https://{LIMITED}/")
}

/// A gated zone with that page; how the gate counts who comes too early is as by default.
fn world(gate: &str) -> Option<World> {
    let world = World::gated(gate)?;
    fs::create_dir(world.file("www/shop")).unwrap();
    for (name, content) in [
        ("index.html", PAGE),
        ("shop/index.html", PAGE),
        ("style.css", "body { color: rgb(1, 2, 3); }\n"),
        ("script.js", SCRIPT),
        ("one.svg", IMAGE),
        ("two.svg", IMAGE),
        ("favicon.ico", IMAGE),
    ] {
        fs::write(world.file("www").join(name), content).unwrap();
    }
    Some(world)
}

/// A browser that speaks QUIC and nothing else with the zones, its files in `place`.
fn browser_over_quic<'a>(world: &'a World, place: &str) -> Option<Browser<'a>> {
    let directory = world.file(place);
    fs::create_dir(&directory).unwrap();
    // QUIC takes no certificate on a person's word, but for a key that is named.
    let key = public_key(&world.file("site.pem")).unwrap();
    let arguments = [
        "--enable-quic".to_owned(),
        format!("--origin-to-force-quic-on={HOST}:443,{LIMITED}:443"),
        format!("--ignore-certificate-errors-spki-list={key}"),
    ];
    Browser::start_with(&world.client, &directory, &arguments, &[HOST, LIMITED], EDGE[0])
}

fn browser(world: &World) -> Option<Browser<'_>> {
    Browser::start(&world.client, &world.file(""), LIMITED, EDGE[0])
}

/// The sum of all figures whose line begins so.
fn sum(world: &World, beginning: &str) -> u64 {
    let metrics = world.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with(beginning));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Nothing is held against the client: no strike, no refusal, no packet dropped.
fn assert_unpunished(world: &World) {
    let penalties: serde_json::Value = serde_json::from_str(&world.control("penalty", &["list", "--json"])).unwrap();
    assert!(penalties.as_array().unwrap().is_empty(), "{penalties}");
    assert_eq!(sum(world, "edge_gate_blocked_total{"), 0);
    assert_eq!(sum(world, "edge_dataplane_packets_total{verdict=\"drop\""), 0);
}

/// Looks on, without touching the browser, until the tab's page is complete.
fn wait_served(world: &World, browser: &Browser<'_>) {
    let deadline = Instant::now() + LONGEST;
    loop {
        let title = browser.title();
        assert_unpunished(world);
        if title == SERVED {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "after {LONGEST:?} the page is still {title:?}"
        );
        sleep(Duration::from_millis(250));
    }
}

fn deferred(world: &World) -> u64 {
    sum(world, "edge_gate_deferred_total{zone=\"limited\"")
}

/// Who is told to wait and does nothing gets the page when the wait is over, whole.
#[test]
fn a_person_who_waits_gets_the_page() {
    let Some(world) = world("[[zone.gate.rule]]\nmanual = { wait = \"5s\" }") else {
        return;
    };
    let Some(browser) = browser(&world) else { return };
    let start = Instant::now();
    browser.open(&url());
    assert_eq!(browser.title(), WAITING);
    wait_served(&world, &browser);
    assert!(
        start.elapsed() >= Duration::from_secs(4),
        "{:?}: nobody waited",
        start.elapsed()
    );
    assert!(deferred(&world) >= 1);

    // Known from now on: another look costs no other wait.
    let before = deferred(&world);
    browser.reload();
    wait_served(&world, &browser);
    assert_eq!(deferred(&world), before);
}

/// A browser on a phone (six times slower) solves its challenge in a moment, and does not wait;
/// without scripts it waits, and gets in, too.
#[test]
fn a_challenge_is_solved_or_waited_for() {
    let Some(world) = world("[[zone.gate.rule]]\nchallenge = { kind = \"work\", wait = \"15s\" }") else {
        return;
    };
    let Some(browser) = browser(&world) else { return };
    browser.devtools("Emulation.setCPUThrottlingRate", &serde_json::json!({"rate": 6}));
    let start = Instant::now();
    browser.open(&url());
    wait_served(&world, &browser);
    let took = start.elapsed();
    println!("solved and loaded in {took:?}");
    assert!(took < Duration::from_secs(14), "{took:?}: it has waited");
    assert_eq!(
        browser.evaluate("return document.cookie.length > 0").as_bool(),
        Some(true),
        "the answer is a cookie of a minute"
    );

    // The same person without scripts, and without what has been proven: another browser, for one
    // that has only forgotten its cookies is known by the TLS session that it resumes, and lets
    // itself be shown a page that is fresh by its own reckoning (RFC 9111 section 4.2.2).
    drop(browser);
    let browser = self::browser(&world).unwrap();
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &serde_json::json!({"value": true}),
    );
    let start = Instant::now();
    browser.open(&url());
    assert_eq!(browser.title(), WAITING);
    // The page's own script is off as well: it is served when its title is no longer the waiting
    // page's.
    while browser.title() != NOT_COMPLETE {
        assert!(
            start.elapsed() < LONGEST + Duration::from_secs(15),
            "still {:?}",
            browser.title()
        );
        assert_unpunished(&world);
        sleep(Duration::from_millis(250));
    }
    assert!(
        start.elapsed() >= Duration::from_secs(13),
        "{:?}: nobody waited",
        start.elapsed()
    );
}

/// Reloads, a second tab and connections without a request, all during the wait: both tabs get in
/// when it is over.
#[test]
fn an_impatient_person_gets_in_all_the_same() {
    let Some(world) = world("[[zone.gate.rule]]\nmanual = { wait = \"5s\" }") else {
        return;
    };
    let Some(browser) = browser(&world) else { return };
    browser.open(&url());
    let first = browser.tab();
    let preconnected: Vec<_> = (0..6).map(|_| world.connect(EDGE[0], 443).unwrap()).collect();
    for _ in 0..2 {
        sleep(Duration::from_millis(700));
        browser.reload();
        assert_eq!(browser.title(), WAITING);
        assert_unpunished(&world);
    }
    browser.another_tab();
    browser.open(&url());
    assert_eq!(browser.title(), WAITING);
    drop(preconnected);
    assert!(deferred(&world) >= 4);
    wait_served(&world, &browser);
    browser.switch(&first);
    wait_served(&world, &browser);
}

/// Who leafs through pages faster than a rate allows is told to wait, and then goes on. The rule
/// counts pages, not their parts: who has just waited has one request, so a rule that counted all
/// would let the page in without its images.
#[test]
fn a_person_beyond_the_rate_goes_on_after_the_wait() {
    let rule = "[[zone.gate.rule]]\npath = \"/shop/\"\nrate = { requests = 15, per = \"1m\", burst = 3 }";
    let Some(world) = world(rule) else { return };
    let Some(browser) = browser(&world) else { return };
    let told = (0..8).any(|_| {
        browser.open(&format!("{}shop/", url()));
        assert_unpunished(&world);
        browser.title() == WAITING
    });
    assert!(told, "eight pages, and none too many");
    wait_served(&world, &browser);
}

/// HTTP/3 as a browser speaks it: a page behind a wait, and another while the node is locked down.
/// A browser for each, because one would ask for both on the same connection, whose certificate has
/// both names.
#[test]
fn a_person_gets_the_page_over_http3() {
    let Some(world) = world("[[zone.gate.rule]]\nmanual = { wait = \"5s\" }") else {
        return;
    };
    let protocol = |browser: &Browser<'_>| {
        let script = "return performance.getEntriesByType(\"navigation\")[0].nextHopProtocol";
        browser.evaluate(script).as_str().unwrap_or_default().to_owned()
    };
    let served = |browser: &Browser<'_>| {
        let deadline = Instant::now() + LONGEST;
        while browser.title() != SERVED {
            assert!(Instant::now() < deadline, "the page is still {:?}", browser.title());
            sleep(Duration::from_millis(250));
        }
        assert_eq!(protocol(browser), "h3");
    };
    let Some(browser) = browser_over_quic(&world, "first") else {
        return;
    };
    browser.open(&url());
    assert_eq!(browser.title(), WAITING);
    assert_eq!(protocol(&browser), "h3");
    served(&browser);
    drop(browser);

    world.control("lockdown", &["on"]);
    let Some(browser) = browser_over_quic(&world, "second") else {
        return;
    };
    browser.open(&format!("https://{HOST}/"));
    served(&browser);
    // Read from the kernel four times a second.
    let deadline = Instant::now() + LONGEST;
    while sum(&world, "edge_quic_retries_total{by=\"kernel\"}") == 0 {
        assert!(Instant::now() < deadline, "the kernel answered nobody");
        sleep(Duration::from_millis(50));
    }
}
