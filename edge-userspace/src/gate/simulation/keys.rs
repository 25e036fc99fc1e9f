//! Rate rules that count by what requests say.

use super::*;
use crate::gate::account::Account;
use crate::gate::clock::Clock;

const BY_KEY: &str = "clients_per_address = 8\ngrace = 4\n[[zone.gate.rule]]\n\
    rate = { requests = 60, per = \"1m\", burst = 5, key = \"header:x-api-key\" }\n";

impl World {
    fn with_key(&self, ms: u64, address: IpAddr, key: &str) -> Decision {
        let headers = [("x-api-key", key)].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let attempt = Attempt {
            path: &path::Path::of("/v1/acme/orders"),
            headers: &headers.into_iter().collect(),
            ..usual(address)
        };
        self.visit(ms, 0, &attempt)
    }

    fn served(&self, ms: u64, address: IpAddr, key: &str) -> bool {
        matches!(self.with_key(ms, address, key), Decision::Admit(_))
    }
}

/// One customer would use up another's limit, get more by coming from many addresses, or by making
/// up keys.
#[test]
fn a_key_has_its_own_limit_wherever_it_comes_from() {
    let world = world(&[BY_KEY]);
    let from = |n: u8, key: &str| (0..20).filter(|ms| world.served(*ms, address(n), key)).count();
    assert_eq!(from(1, "one"), 5);
    assert_eq!(from(2, "one"), 0, "the same key from another address");
    assert_eq!(from(1, "two"), 5, "another key behind the same address");
    // Five times eight at most for all keys of one address, those that it went on with beyond their
    // limits counted.
    let invented = (0..1_000)
        .filter(|n| world.served(30, address(3), &format!("k{n}")))
        .count();
    assert_eq!(invented, 40);
    let late = (40..60).filter(|ms| world.served(*ms, address(4), "k1")).count();
    assert_eq!(late, 4, "an honest customer whose key was named elsewhere, once");
}

/// Who goes on beyond a key's limit would go on for ever, or have the customers behind its address
/// punished with it.
#[test]
fn going_on_beyond_a_key_counts_for_the_address_in_the_end() {
    let world = world(&[BY_KEY]);
    for ms in 0..5 {
        assert!(world.served(ms, address(1), "one"));
    }
    // Told to wait, without a token or a word of it held against the address, while it has requests
    // left for other keys.
    for ms in 5..40 {
        match world.with_key(ms, address(1), "one") {
            Decision::Defer(told) => assert!(told.token.is_none() && told.limit.is_some_and(|l| l.left == 0), "{ms}"),
            other => panic!("{ms}: {other:?}"),
        }
    }
    assert!(world.changes.pending().is_empty(), "nobody is struck");
    let struck = (40..200).any(|ms| matches!(world.with_key(ms, address(1), "one"), Decision::Block { .. }));
    assert!(struck && !world.changes.pending().is_empty());
    assert!(world.served(200, address(2), "two"), "its neighbour in the network");
}

/// A flood of keys would wash out the limits of those who are over them.
#[test]
fn a_flood_of_keys_forgets_its_own() {
    let world = world(&[BY_KEY]);
    let customers: Vec<String> = (0..50).map(|n| format!("customer{n}")).collect();
    for (n, key) in customers.iter().enumerate() {
        while world.served(0, IpAddr::from([100, 64, n as u8, 1]), key) {}
    }
    for n in 0..20_000u32 {
        world.with_key(
            1,
            IpAddr::from([10, 0, (n / 40 / 256) as u8, (n / 40) as u8]),
            &format!("f{n}"),
        );
    }
    let still = customers
        .iter()
        .filter(|key| !world.served(2, IpAddr::from([100, 65, 0, 1]), key));
    assert!(still.count() >= 45);
}

fn account(world: &World, clock: &Clock, decision: Decision) -> Account {
    let Decision::Admit(admission) = decision else {
        panic!("{decision:?}");
    };
    assert!(!admission.debts.is_empty());
    Account::new(clock.clone(), world.judge.buckets.clone(), admission.debts)
}

/// Claims that nobody verified would be limits of whoever made them up; or a user's limit would not
/// be its own.
#[test]
fn claims_count_once_they_are_verified() {
    let world = world(&[
        "[[zone.gate.rule]]\nrate = { requests = 1, per = \"1h\", burst = 3, key = [\"claim:sub\", \"segment:2\"] }\n",
    ]);
    let claims = |user: &'static str| move |name: &str| (name == "sub").then_some(user);
    let clock = Clock::new();
    // What is asked later than the accounts' clock says is looked at, and takes nothing but from
    // what the address has in all.
    let ask = |n: u8| account(&world, &clock, world.with_key(60_000, address(n), "x"));
    for n in 1..=3 {
        assert!(ask(n).claimed(claims("anna")).is_ok());
    }
    let denied = ask(4).claimed(claims("anna")).unwrap_err().0;
    assert!(
        denied.wait > Duration::from_secs(1_000) && denied.token.is_none(),
        "{denied:?}"
    );
    assert!(
        ask(4).claimed(claims("bert")).is_ok(),
        "another user behind that address"
    );
    // Nobody says who it is: three as the client, then it waits.
    for _ in 0..3 {
        ask(5).settle(&HeaderMap::new(), false);
    }
    assert!(matches!(world.with_key(60_000, address(5), "x"), Decision::Defer(_)));
    let nameless = ask(6);
    assert!(
        nameless.claimed(|_| None).is_ok(),
        "a token without that claim is the client's"
    );
    nameless.settle(&HeaderMap::new(), false);
    assert_eq!((0..2).filter(|_| ask(6).claimed(|_| None).is_ok()).count(), 2);
    assert!(matches!(world.with_key(60_000, address(6), "x"), Decision::Defer(_)));
}

/// A query that costs as much as a hundred would count as one.
#[test]
fn the_response_says_what_it_cost() {
    let world = world(&[
        "[[zone.gate.rule]]\nrate = { requests = 100, per = \"1h\", burst = 100, key = \"header:x-api-key\", cost_field = \"x-cost\" }\n",
    ]);
    let clock = Clock::new();
    let cost = |key: &str, text: &str, stored: bool| {
        let headers = [("x-cost".parse().unwrap(), text.parse().unwrap())]
            .into_iter()
            .collect();
        let limits =
            account(&world, &clock, world.with_key(0, address(key.as_bytes()[0]), key)).settle(&headers, stored);
        limits.first().map(|limit| limit.left)
    };
    assert_eq!(cost("a", "40", false), Some(60));
    assert_eq!(cost("a", "0", false), Some(60), "free");
    assert_eq!(cost("a", "40", true), None, "from the cache: one");
    assert_eq!(cost("a", "none", false), None, "no word: one");
    assert_eq!(cost("a", "500", false), Some(0));
    let Decision::Defer(told) = world.with_key(2, address(1), "a") else {
        panic!("a debt of 442 requests is forgotten");
    };
    // No wait is told for longer than the longest penalty, and the debt is longer.
    assert_eq!(told.wait.as_secs(), 3_600);
    assert!(!world.served(3_700_000, address(1), "a") && world.served(18_000_000, address(1), "a"));
    // Whatever an origin says, a debt ends within a day.
    assert_eq!(cost("b", "99999999999", false), Some(0));
    assert!(!world.served(86_000_000, address(2), "b") && world.served(86_500_000, address(2), "b"));
}
