//! Tokens that come again: a token is a bearer, and the program holds each to a burst and a rate.

use std::time::Duration;

use edge::base::penalty::{Origin, Subject};
use edge::config;
use edge::dataplane::{Dataplane, Penalty, Severity};
use edge_common::replay::{BURST, WAYS};
use edge_common::token::Header;
use edge_testbed::packet::flag::SYN;
use edge_testbed::pins::Pins;
use edge_testbed::privilege::root;
use edge_testbed::test_run::Program;

use crate::bench::{
    ATTEMPT, BLOCKED, Bench, CAPACITY, CLIENT, DEFERRED, Expect, LONG, MALLORY, NOW, PORT, REPLAYED, TOKEN, from,
    header, initial, keys, minted, retried,
};

/// One client's Initials with this token, one after the other, until one is refused; how many
/// passed.
fn until_refused(bench: &Bench, address: &str, token: &[u8], passes: Expect) -> u64 {
    let packet = from(address).udp(443, &initial(token)).bytes();
    for n in 0..1_000 {
        match bench.judge(&packet) {
            REPLAYED => return n,
            found => assert_eq!(found, passes),
        }
    }
    panic!("never refused");
}

/// A slow machine takes longer than a step for a burst.
fn is_a_burst(passed: u64) {
    assert!((BURST..BURST + 5).contains(&passed), "{passed}");
}

/// One token, obtained once, would be as many handshakes as its holder likes; and a neighbour, or
/// the client's next token, must not pay for it.
#[test]
fn a_token_is_good_for_one_connection_and_not_for_a_flood() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let [_, key, ..] = keys();
    for here in ["192.0.2.7", "2001:db8:c::7"] {
        bench.freeze();
        let retry = retried(here, PORT, NOW.into());
        let token = minted(header(), here, &key);
        // A ClientHello of three datagrams, and all of it again and again: 25 Initials.
        let packet = from(here).udp(443, &initial(&token)).bytes();
        for n in 0..25 {
            assert_eq!(bench.judge(&packet), TOKEN, "Initial {n}");
        }
        is_a_burst(25 + until_refused(&bench, here, &token, TOKEN));
        is_a_burst(until_refused(&bench, here, &retry, ATTEMPT));
        // The next token of the same client, and another client behind the same address.
        let next = Header {
            nonce: header().nonce + 1,
            ..header()
        };
        let neighbour = Header { client: 77, ..header() };
        for other in [next, neighbour] {
            is_a_burst(until_refused(&bench, here, &minted(other, here, &key), TOKEN));
        }
        // What is refused for another reason still is, and SYNs and Initials without a token are
        // nobody's copies.
        let mallorys = minted(
            Header {
                client: MALLORY,
                ..header()
            },
            here,
            &key,
        );
        bench.penalise(Subject::Client(MALLORY), Severity::Blocked, LONG);
        let refused = from(here).udp(443, &initial(&mallorys)).bytes();
        let plain = [from(here).tcp(443, SYN), from(here).udp(443, &initial(&[]))].map(|frame| frame.bytes());
        for _ in 0..2 * BURST {
            assert_eq!(bench.judge(&refused), CLIENT);
            assert_eq!(plain.each_ref().map(|packet| bench.judge(packet)), [ATTEMPT, ATTEMPT]);
        }
    }
}

/// A client whose path lost everything could never finish its handshake; a flood would pass after a
/// pause.
#[test]
fn one_more_passes_each_second() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let here = "192.0.2.7";
    let token = minted(header(), here, &keys()[1]);
    is_a_burst(until_refused(&bench, here, &token, TOKEN));
    std::thread::sleep(Duration::from_millis(2_050));
    bench.freeze();
    let passed = until_refused(&bench, here, &token, TOKEN);
    assert!((2..=4).contains(&passed), "{passed}");
}

/// Who sends one Retry token over and over must not use up what its address's neighbours live on.
#[test]
fn copies_do_not_take_from_the_address_s_budget() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let here = "192.0.2.7";
    let who = Subject::Address(here.parse().unwrap());
    let retry = from(here).udp(443, &initial(&retried(here, PORT, NOW.into()))).bytes();
    bench.penalise(who, Severity::Deferred(1000), LONG);
    let found: Vec<_> = (0..200).map(|_| bench.judge(&retry)).collect();
    is_a_burst(found.iter().filter(|reason| **reason == ("pass", "budgeted")).count() as u64);
    assert_eq!(found.last(), Some(&REPLAYED));
    // A token proves its address, and excuses nothing.
    let fresh = from(here)
        .udp(443, &initial(&retried(here, PORT, u64::from(NOW) - 1)))
        .bytes();
    for (severity, expected) in [(Severity::Deferred(0), DEFERRED), (Severity::Blocked, BLOCKED)] {
        bench.penalise(who, severity, LONG);
        assert_eq!(bench.judge(&fresh), expected);
    }
}

/// Whoever happens to share a cache line with floods would be refused for them, or a flood would be
/// freed by whoever comes beside it.
#[test]
fn a_full_line_forgets_the_smallest_count_and_refuses_nobody() {
    if !root() {
        return;
    }
    // One line, in which all meet.
    let bench = Bench::with_room(WAYS as u32);
    let here = "192.0.2.7";
    let token = |client: u64| minted(Header { client, ..header() }, here, &keys()[1]);
    let floods = [1, 2, 3].map(token);
    for flood in &floods {
        is_a_burst(until_refused(&bench, here, flood, TOKEN));
    }
    for client in 100..400 {
        let packet = from(here).udp(443, &initial(&token(client))).bytes();
        bench.freeze();
        for n in 0..3 {
            assert_eq!(bench.judge(&packet), TOKEN, "Initial {n} of {client}");
        }
    }
    // What became due meanwhile passes, and then they stand where they stood.
    for flood in &floods {
        let passed = until_refused(&bench, here, flood, TOKEN);
        assert!(passed < BURST / 2, "{passed}");
    }
    // All four ways at the limit: the next one still is nobody's copy.
    is_a_burst(until_refused(&bench, here, &token(4), TOKEN));
    let next = from(here).udp(443, &initial(&token(5))).bytes();
    assert_eq!(bench.judge(&next), TOKEN);
}

/// An upgrade would fail, or throw away the penalties in force.
#[test]
fn a_pinned_map_of_another_type_is_replaced_alone() {
    if !root() {
        return;
    }
    let pins = Pins::prepare("test").unwrap();
    let config = config::Dataplane {
        pin_directory: pins.path().to_owned(),
        ..crate::bench::config()
    };
    let blocked = Penalty {
        who: Subject::Address("192.0.2.9".parse().unwrap()),
        origin: Origin::Gate,
        severity: Severity::Blocked,
        remaining: LONG,
        probation: Duration::ZERO,
    };
    let first = Dataplane::start(&config).unwrap();
    first.penalties().write(&[blocked]).unwrap();
    drop(first);
    // The counts were a hash map once; this one is as good.
    let maps = pins.path().join(format!("v{}", edge_common::LAYOUT));
    std::fs::rename(maps.join("LISTENERS"), maps.join("REPLAY")).unwrap();
    let second = Dataplane::start(&config).unwrap();
    let program = Program::by_id(second.program_id().unwrap()).unwrap();
    let bench = Bench {
        dataplane: second,
        program,
    };
    bench.penalties().set_keys(&keys()).unwrap();
    bench.dataplane.switch_gate(true).unwrap();
    bench.freeze();
    assert_eq!(bench.judge(&from("192.0.2.9").tcp(443, SYN).bytes()), BLOCKED);
    let token = minted(header(), "192.0.2.7", &keys()[1]);
    is_a_burst(until_refused(&bench, "192.0.2.7", &token, TOKEN));
    // And the next start keeps what is counted.
    drop(bench);
    let third = Dataplane::start(&config).unwrap();
    let program = Program::by_id(third.program_id().unwrap()).unwrap();
    let bench = Bench {
        dataplane: third,
        program,
    };
    let passed = until_refused(&bench, "192.0.2.7", &token, TOKEN);
    assert!(passed < BURST / 2, "{passed}");
    drop(bench);
    edge::dataplane::detach(pins.path(), false).unwrap();
}

/// A botnet of as many tokens as it likes must neither grow the map nor wash out the count of a
/// token that is being replayed, nor be refused itself for want of room.
#[test]
fn two_hundred_times_what_fits_washes_out_no_count_in_use() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let here = "192.0.2.7";
    let key = keys()[1];
    let replayed = minted(header(), here, &key);
    is_a_burst(until_refused(&bench, here, &replayed, TOKEN));
    let replayed = from(here).udp(443, &initial(&replayed)).bytes();
    let mut still = 0;
    let rounds = 200_000 / CAPACITY / 10;
    for round in 0..rounds {
        for n in 0..CAPACITY * 10 {
            // The fields are the token's first 32 bytes; nothing behind them is the kernel's.
            let other = Header {
                nonce: round,
                client: u64::from(n) + 1_000,
                ..header()
            };
            if n % 64 == 0 {
                bench.freeze();
                still += u32::from(!bench.passes(&replayed));
            }
            let packet = from(here).udp(443, &initial(&minted(other, here, &key))).bytes();
            assert!(bench.passes(&packet), "token {n} of round {round}");
        }
    }
    let asked = rounds * (CAPACITY * 10).div_ceil(64);
    // A copy passes each second, and the test takes some; none of the others has displaced its
    // count.
    assert!(still * 10 > asked * 9, "{still} of {asked} copies were refused");
}
