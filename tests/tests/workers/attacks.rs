//! A hostile tenant. What it does ends with an error for its own request, is counted, and is felt
//! by nobody else.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::checkout;
use crate::world::{GUESTS, World, run};

/// Each bomb would take the node, or another tenant's request, with it.
#[test]
fn every_bomb_ends_its_own_request_alone() {
    let Some(world) = World::start() else { return };
    world.deploy("greeter", "greeter");
    for (path, status, reason) in [
        ("/spin", 500, "cpu"),
        ("/alloc", 500, "memory"),
        ("/table", 500, "table"),
        ("/handles", 500, "host"),
        ("/recursion", 500, "trap"),
        ("/fields", 500, "host"),
        ("/hang", 504, "wall"),
        ("/none", 500, "no_response"),
        ("/random", 500, "host"),
        ("/hostcall", 500, "host"),
        ("/exit", 500, "trap"),
        ("/panic", 500, "trap"),
    ] {
        let before = world.failures("attacks", reason);
        let answer = world.get("attacks", path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(
            !answer.body.contains("wasm"),
            "a client is told nothing: {}",
            answer.body
        );
        assert_eq!(world.failures("attacks", reason), before + 1.0, "{path} is counted");
        assert_eq!(world.get("greeter", "/ann").status, 200, "the neighbour of {path}");
    }
    // Behind the head of a response there is no other status: it breaks off, and does not look
    // whole.
    for (path, reason) in [("/never", "wall"), ("/trap-late", "trap"), ("/flood", "output")] {
        let before = world.failures("attacks", reason);
        let answer = world.get("attacks", path);
        assert!(!answer.trouble.is_empty(), "{path} looks whole");
        assert!(answer.body.len() <= 1 << 20, "{path}: {} bytes", answer.body.len());
        assert_eq!(world.failures("attacks", reason), before + 1.0, "{path} is counted");
    }
    assert_eq!(world.get("greeter", "/ann").status, 200);

    // A body that nobody reads, of a client that insists.
    let body = world.path("body");
    std::fs::write(&body, vec![b'x'; 3 << 20]).unwrap();
    let sent = world.ask(
        "attacks",
        "/unread",
        &["--data-binary", &format!("@{}", body.display())],
    );
    assert_eq!((sent.status, &*sent.body), (200, "not read"), "{}", sent.trouble);

    // Requests within requests.
    let deep: String = (0..10)
        .map(|n| if n % 2 == 0 { "mirror" } else { "attacks" })
        .map(|z| format!("{z}.example/nested?"))
        .collect();
    let answer = world.get("attacks", &format!("/nested?{deep}mirror.example/hello"));
    assert!(answer.body.ends_with("ErrorCode::LoopDetected"), "{}", answer.body);
    let answer = world.get("attacks", "/fanout?mirror.example/hello");
    assert_eq!(
        answer.body,
        "{\"200 hello\": 30, \"ErrorCode::ConnectionLimitReached\": 970}"
    );
    let answer = world.get("attacks", "/nested?mirror.example/fanout?attacks.example/hello");
    assert!(
        answer.body.contains("\"200 hello\": 29"),
        "one count for all: {}",
        answer.body
    );

    // A tree that goes on over several nodes (RFC 8586): each pass leaves an eighth.
    let passed = ["--header", "cdn-loop: other, edge; hop=1"];
    let answer = world.ask("attacks", "/fanout?mirror.example/hello", &passed);
    assert_eq!(
        answer.body,
        "{\"200 hello\": 3, \"ErrorCode::ConnectionLimitReached\": 997}"
    );

    // A flood of lines: kept short, for this zone.
    let before = world.daemon.log().len();
    assert_eq!(world.get("attacks", "/log").status, 200);
    let grown = world.daemon.log().len() - before;
    assert!(grown < 200_000, "{grown} bytes of log");
    assert!(world.metric("edge_isolate_log_lines_dropped_total{zone=\"attacks\"}") > 3_000.0);
}

/// A tenant would read another's keys, memory or secrets, the host's files, or its network.
#[test]
fn a_tenant_sees_nothing_of_others_and_little_of_the_host() {
    let Some(world) = World::start() else { return };
    assert_eq!(world.get("victim", "/key?set=card:1234").body, "Ok(())");
    assert_eq!(world.get("victim", "/key?get=card").body, "Ok(Some(\"1234\"))");
    assert_eq!(world.get("attacks", "/sight").body, "");
    assert_eq!(
        world.get("victim", "/sight").body,
        "key default:card, key :card, setting api, setting plan"
    );
    assert_eq!(world.get("attacks", "/key?get=card").body, "Error::NoSuchStore");
    let full = world.get("victim", "/key?fill=100").body;
    assert_eq!(full, "Error::Other(\"the zone's quota of bytes is used up\")");

    for _ in 0..3 {
        assert_eq!(world.get("victim", "/mark").body, "marked");
        assert_eq!(world.get("attacks", "/look").body, "0 of 16777216");
    }

    let clock = world.get("attacks", "/clock").body;
    let (step, below) = clock.split_once(' ').unwrap();
    let step: u64 = step.parse().unwrap();
    assert!(
        step >= 1_000_000 && step.is_multiple_of(1_000_000) && below == "0",
        "{clock}"
    );

    // The admin endpoint, by a name that leads to this host, and other zones that were not named.
    // An address that the operator wrote is meant.
    assert_eq!(
        world.get("attacks", "/nested?localhost:9180/status").body,
        "ErrorCode::DestinationUnavailable"
    );
    assert_eq!(
        world.get("attacks", "/nested?127.0.0.1:9180/healthz").body,
        "200 alive\n"
    );
    for elsewhere in [
        "victim.example/",
        "127.0.0.1:22/",
        "[::1]:9180/",
        "169.254.169.254/",
        "attacks.example/",
    ] {
        let answer = world.get("attacks", &format!("/nested?{elsewhere}")).body;
        assert_eq!(answer, "ErrorCode::HttpRequestDenied", "{elsewhere}");
    }

    // Only where the operator allows it does a request meet what another left; never for longer
    // than allowed.
    let calls = |zone| (0..5).map(|_| world.get(zone, "/calls").body).collect::<Vec<_>>();
    assert_eq!(calls("attacks"), ["1"; 5]);
    let ready = world.metric("edge_isolate_requests_total{zone=\"attacks\",start=\"ready\"}");
    assert!(
        ready > 0.0,
        "some of them by instances that were made ahead, as new as the others"
    );
    let reused = calls("reused");
    assert!(reused.iter().all(|n| matches!(&**n, "1" | "2" | "3")), "{reused:?}");
}

/// One tenant that computes without end would slow all others.
#[test]
fn neighbours_of_spinners_keep_their_pace() {
    let Some(world) = World::start() else { return };
    world.deploy("greeter", "greeter");
    let over = AtomicBool::new(false);
    let slow: Vec<f64> = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    world.get("mirror", "/spin");
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut curl = world.curl();
        curl.args(["--output", "/dev/null", "--write-out", "%{time_starttransfer}\n"]);
        let output = run(curl.arg("https://greeter.example/[1-200]"));
        over.store(true, Relaxed);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    });
    assert_eq!(slow.len(), 200);
    let mut sorted = slow;
    sorted.sort_by(f64::total_cmp);
    let (middle, high) = (sorted[100], sorted[190]);
    assert!(world.failures("mirror", "cpu") >= 1.0);
    // Each spinner that is ahead takes a tick of a millisecond; a machine that is busy otherwise
    // takes what it takes.
    assert!(middle < 0.05 && high < 0.25, "{middle} {high}");
}

/// One tenant that does all at once that it may do singly would take the node's memory, and its
/// neighbours' requests would fail or wait.
#[test]
fn one_tenant_attacks_in_every_way_at_once() {
    const WAYS: &str = "{memory,host,hang,spin,recursion,regexp,json,sort,digest,derive,sign,encrypt,legacy,timers,log,answer,promises,\
                        fetches,behind,url}";
    let Some(world) = World::start() else { return };
    world.deploy("greeter", "greeter");
    let script = checkout::root().join("tests/workers/scripts/attacks.js");
    let script = script.to_str().unwrap();
    world.control(&["deploy", "links", script]).unwrap();
    assert_eq!(world.get("greeter", "/").status, 200);
    let before = world.resident();
    let over = AtomicBool::new(false);
    let (times, peak) = std::thread::scope(|scope| {
        let attacks = scope.spawn(|| {
            let mut curl = world.curl();
            curl.args([
                "--parallel",
                "--parallel-immediate",
                "--parallel-max",
                "120",
                "--output",
                "/dev/null",
            ]);
            // Whether one of them fails is not looked at: most are to.
            run(curl
                .args(["--max-time", "6"])
                .arg(format!("https://links.example/{WAYS}?[1-20]")));
            over.store(true, Relaxed);
        });
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Relaxed) {
                peak = peak.max(world.resident());
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        std::thread::sleep(Duration::from_millis(500));
        let mut curl = world.curl();
        curl.args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{time_starttransfer}\n",
        ]);
        let output = run(curl.arg("https://greeter.example/[1-150]"));
        attacks.join().unwrap();
        (String::from_utf8(output.stdout).unwrap(), watch.join().unwrap())
    });
    let mut slow: Vec<f64> = times
        .lines()
        .map(|line| {
            let (status, time) = line.split_once(' ').unwrap();
            assert_eq!(status, "200", "a neighbour's request failed: {times}");
            time.parse().unwrap()
        })
        .collect();
    assert_eq!(slow.len(), 150);
    slow.sort_by(f64::total_cmp);
    let grown = peak.saturating_sub(before) >> 20;
    println!(
        "neighbour: p50 {} p95 {} s; resident memory grew by {grown} MiB",
        slow[75], slow[142]
    );
    for reason in ["cpu", "overload"] {
        assert!(world.failures("links", reason) >= 1.0, "{reason}");
    }
    // As in the test above: a machine that is busy otherwise takes what it takes.
    assert!(slow[75] < 0.1 && slow[142] < 0.6, "{} {}", slow[75], slow[142]);
    // Half of the guests' memory is the most that one zone has beside others; the rest is the
    // allocator's, logs and connections.
    assert!(grown < GUESTS / 2 + 128, "{grown} MiB");
    assert_eq!(world.get("greeter", "/").status, 200);
}
