//! The gate as clients meet it: curl, with a cookie jar and without.

use std::fs;
use std::io::ErrorKind;
use std::thread::sleep;
use std::time::Duration;

use crate::world::{CLIENT, EDGE, World};

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    head.lines().find_map(line).map(|(_, value)| value.trim())
}

/// A client that waits as it was told is served without a line of code of its own; its token opens the gate once, and the
/// connection of who was told to wait ends.
#[test]
fn a_client_that_waits_is_served_once() {
    let Some(world) = World::start() else { return };
    let jar = world.file("jar");
    let first = world.ask_limited(&world.file("other")).unwrap();
    assert_eq!(status(&first), "200", "{first}");

    let told = world.ask_limited(&jar).unwrap();
    assert_eq!(status(&told), "429", "{told}");
    for name in ["ratelimit", "ratelimit-policy", "edge-wait", "set-cookie"] {
        assert!(field(&told, name).is_some(), "{name} is missing in {told}");
    }
    assert_eq!(field(&told, "connection"), Some("close"), "{told}");
    let seconds: u64 = field(&told, "retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{told}");
    let copied = world.file("copied");
    fs::copy(&jar, &copied).unwrap();

    sleep(Duration::from_secs(seconds));
    let served = world.ask_limited(&jar).unwrap();
    assert_eq!(status(&served), "200", "{served}");
    assert!(served.ends_with("the page\n"), "{served}");
    let again = world.ask_limited(&copied).unwrap();
    assert_eq!(status(&again), "429", "a token was good twice: {again}");
}

const THIRTY_A_MINUTE: &str = r#"grace = 1
defer = "1s"
strike_base = "60s"
[[zone.gate.rule]]
rate = { requests = 30, per = "1m", burst = 1 }"#;

fn drops(world: &World) -> u64 {
    let metrics = world.metrics();
    let line = "edge_dataplane_packets_total{verdict=\"drop\",reason=\"penalty_blocked\"} ";
    let count = metrics.lines().find_map(|l| l.strip_prefix(line));
    count.and_then(|count| count.parse().ok()).unwrap()
}

/// A client that does not wait ends in the kernel: its connections are not even refused, and no crash of the daemon helps
/// it, until its time is over or an operator lifts the penalty. Its neighbour at another address is served all the while.
#[test]
fn a_client_that_does_not_wait_is_dropped_by_the_kernel() {
    let Some(mut world) = World::gated(THIRTY_A_MINUTE) else {
        return;
    };
    let nothing = world.file("none");
    let comes_to = |level| {
        (0..60).any(|_| {
            let _ = world.ask_limited(&nothing);
            // The address's: its clients have penalties of their own.
            let list = world.control("penalty", &["list"]);
            list.lines()
                .any(|line| line.starts_with(CLIENT[0]) && line.contains(level))
        })
    };
    assert!(comes_to("deferred"), "60 attempts without a wait, and no penalty");
    // Others may have been told to wait at this address. Their waits run out, and nobody keeps one.
    sleep(Duration::from_secs(11));
    assert!(comes_to("blocked"), "nobody waits, and still it is not blocked");
    // The kernel hears of it within a batch's time.
    sleep(Duration::from_millis(500));
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    let before = drops(&world);
    assert!(before > 0);
    assert!(world.control("penalty", &["list"]).contains(CLIENT[0]));
    assert!(world.get(EDGE[1]).status.success(), "the neighbour is not served");

    world.daemon.kill().unwrap();
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    world.restart();
    world.wait_ready(EDGE[1]);
    assert_eq!(world.connect(EDGE[0], 443).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(drops(&world) > before);

    world.control("penalty", &["lift", CLIENT[0]]);
    // The kernel hears of it within a batch's time.
    sleep(Duration::from_millis(500));
    assert!(world.connect(EDGE[0], 443).is_ok());
    assert!(!world.control("penalty", &["list"]).contains(CLIENT[0]));
}
