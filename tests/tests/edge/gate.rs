//! The gate as clients meet it: curl, with a cookie jar and without.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::world::World;

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
