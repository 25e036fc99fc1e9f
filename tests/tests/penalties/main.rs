//! The gate in the kernel: penalties and tokens, packet in, verdict and reason out, by
//! `BPF_PROG_TEST_RUN`. Needs root (CAP_BPF and CAP_SYS_ADMIN); attaches nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod lockdown;
mod networks;
mod replay;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bench::{
    ALICE, ALLOWED, ATTEMPT, BAD, BLOCKED, BUDGETED, Bench, CAPACITY, CLIENT, DEFERRED, DENIED, EARLY, ESTABLISHED,
    LONG, MALFORMED, MALLORY, NOW, PORT, PROVIDER_TAG, TAG, TOKEN, V1, config, from, header, initial, keys, minted,
    prefix, retried,
};
use edge::base::penalty::{Origin, Subject};
use edge::config;
use edge::dataplane::{Dataplane, Penalties, Penalty, Severity, clock_offset};
use edge_common::retry;
use edge_common::token::{HTTP, Header, QUIC, SKEW, TICKET, TokenKey, Verdict, to_bytes, verify};
use edge_testbed::packet::extension::{DESTINATION, HOP_BY_HOP};
use edge_testbed::packet::flag::{ACK, FIN, PSH, RST, SYN};
use edge_testbed::packet::{Frame, quic_initial, quic_long, quic_short, quic_token};
use edge_testbed::pins::Pins;
use edge_testbed::privilege::root;
use edge_testbed::test_run::Program;

/// All that the gate can say, of one family, in each wrapping that a packet may come in.
fn every_verdict(wrap: impl Fn(Frame) -> Frame, here: &str, there: &str) {
    let bench = Bench::new();
    let [old, key, ..] = keys();
    let syn = || wrap(from(here).tcp(443, SYN));
    let quic = |token: &[u8]| wrap(from(here).udp(443, &initial(token)));
    let made = |header| minted(header, here, &key);
    let good = made(header());
    let early = made(Header {
        not_before: NOW + 100,
        ..header()
    });
    let expired = made(Header {
        expires: NOW - 10,
        ..header()
    });
    let carrier = |flags| made(Header { flags, ..header() });
    let mallorys = made(Header {
        client: MALLORY,
        ..header()
    });
    let elsewhere = minted(header(), there, &key);
    let unknown = minted(header(), here, &TokenKey { epoch: 7, ..key });
    let mut forged = good.clone();
    forged[31] ^= 1;
    let late = u64::from(NOW) - 60;
    let retry = retried(here, PORT, NOW.into());
    let mut forged_retry = retry.clone();
    forged_retry[40] ^= 1;

    bench.penalise(Subject::Client(MALLORY), Severity::Blocked, LONG);
    // As good as none: what comes of them is what comes of the address.
    let none = |expected| {
        vec![
            ("SYN", syn(), expected),
            ("no token", quic(&[]), expected),
            ("bad MAC", quic(&forged), expected),
            ("expired", quic(&expired), expected),
            ("another address's", quic(&elsewhere), expected),
            ("unknown key", quic(&unknown), expected),
            ("an HTTP token", quic(&carrier(HTTP)), expected),
            ("a session ticket", quic(&carrier(TICKET)), expected),
            ("somebody else's token", quic(&[0x77; 80]), expected),
            ("a header cut short", quic(&good[..31]), expected),
            ("a sealed Retry token", quic(&[0xa9; 80]), expected),
            ("Retry token", quic(&retry), expected),
            ("something like a Retry token", quic(&[0xa8; 80]), expected),
            (
                "unknown version",
                wrap(from(here).udp(443, &quic_long(0x1a2a_3a4a, 0))),
                expected,
            ),
        ]
    };
    // Whatever the address's penalty is.
    let some = || {
        vec![
            ("valid", quic(&good), TOKEN),
            ("previous key", quic(&minted(header(), here, &old)), TOKEN),
            ("early", quic(&early), EARLY),
            ("penalised client", quic(&mallorys), CLIENT),
            ("forged Retry token", quic(&forged_retry), BAD),
            ("late Retry token", quic(&retried(here, PORT, late)), BAD),
            (
                "Retry token of another port",
                quic(&retried(here, PORT + 1, NOW.into())),
                BAD,
            ),
            (
                "Retry token of another address",
                quic(&retried(there, PORT, NOW.into())),
                BAD,
            ),
            ("established", wrap(from(here).tcp(443, ACK)), ESTABLISHED),
        ]
    };
    bench.all(none(ATTEMPT));
    bench.all(some());
    bench.block(there);
    bench.all(none(ATTEMPT));
    bench.block(here);
    bench.all(none(BLOCKED));
    bench.all(some());
    let who = Subject::Address(here.parse().unwrap());
    bench.penalise(who, Severity::Deferred(0), LONG);
    bench.all(none(DEFERRED));
    bench.all(some());
    bench.penalise(who, Severity::Deferred(1000), LONG);
    bench.all(none(BUDGETED));
    bench.penalties().remove(&[who, who]);
    bench.all(none(ATTEMPT));
}

/// Behind a translator (RFC 6052) all of IPv4 is one /64: one offender would be everybody's
/// penalty.
#[test]
fn a_translated_address_is_the_ipv4_address() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.block("192.0.2.7");
    bench.block("64:ff9b::198.51.99.9");
    let syn = |source| from(source).tcp(443, SYN);
    bench.all(vec![
        ("translated", syn("64:ff9b::192.0.2.7"), BLOCKED),
        ("its neighbour", syn("64:ff9b::192.0.2.8"), ATTEMPT),
        ("another prefix", syn("64:ff9b:1::192.0.2.7"), ATTEMPT),
        ("penalised as translated", syn("198.51.99.9"), BLOCKED),
    ]);
    let token = minted(header(), "64:ff9b::192.0.2.1", &keys()[1]);
    bench.all(vec![
        ("token", from("64:ff9b::192.0.2.1").udp(443, &initial(&token)), TOKEN),
        (
            "the same client without the translator",
            from("192.0.2.1").udp(443, &initial(&token)),
            TOKEN,
        ),
    ]);
}

#[test]
fn every_verdict_over_ipv4() {
    if !root() {
        return;
    }
    every_verdict(|frame| frame, "192.0.2.7", "192.0.2.8");
    every_verdict(|frame| frame.tags(&[TAG]), "192.0.2.7", "192.0.2.8");
    every_verdict(
        |frame| frame.tags(&[PROVIDER_TAG, TAG]).options(40),
        "192.0.2.7",
        "7.2.0.192",
    );
}

#[test]
fn every_verdict_over_ipv6() {
    if !root() {
        return;
    }
    let (here, there) = ("2001:db8:c::1", "2001:db8:c:1::1");
    every_verdict(|frame| frame, here, there);
    every_verdict(|frame| frame.tags(&[TAG]), here, there);
    every_verdict(
        |frame| {
            frame
                .tags(&[PROVIDER_TAG, TAG])
                .extension(HOP_BY_HOP, 0)
                .extension(DESTINATION, 3)
        },
        here,
        there,
    );
}

/// A household has one /64; a penalty for less is evaded by the next privacy address.
#[test]
fn a_penalty_covers_a_64_or_an_address_and_no_more() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.block("2001:db8:c::1");
    bench.block("32.1.13.184");
    bench.all(vec![
        (
            "neighbour in the /64",
            from("2001:db8:c::ffff:2").tcp(443, SYN),
            BLOCKED,
        ),
        ("next /64", from("2001:db8:c:1::1").tcp(443, SYN), ATTEMPT),
        ("IPv4", from("32.1.13.184").tcp(443, SYN), BLOCKED),
        ("its bits as a /64", from("2001:db8::1").tcp(443, SYN), ATTEMPT),
        ("next IPv4 address", from("32.1.13.185").tcp(443, SYN), ATTEMPT),
    ]);
}

#[test]
fn lists_win_established_stays_and_off_is_off() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let (allowed, denied, here) = ("203.0.113.5", "198.51.100.5", "192.0.2.7");
    let (allowed6, denied6) = ("2001:db8:a::5", "2001:db8:d::5");
    for address in [allowed, denied, here, allowed6, denied6] {
        bench.block(address);
    }
    let early = |address| {
        let header = Header {
            not_before: NOW + 100,
            ..header()
        };
        from(address).udp(443, &initial(&minted(header, address, &keys()[1])))
    };
    let good = |address| from(address).udp(443, &initial(&minted(header(), address, &keys()[1])));
    bench.all(vec![
        ("allowed", from(allowed).tcp(443, SYN), ALLOWED),
        ("allowed, IPv6", from(allowed6).tcp(443, SYN), ALLOWED),
        ("allowed, early token", early(allowed), ALLOWED),
        ("allowed, early token, IPv6", early(allowed6), ALLOWED),
        ("denied", from(denied).tcp(443, SYN), DENIED),
        ("denied, good token", good(denied), DENIED),
        ("denied, good token, IPv6", good(denied6), DENIED),
        ("not our port", from(here).tcp(80, SYN), ("pass", "not_ours")),
    ]);
    for flags in [ACK, SYN | ACK, PSH | ACK, FIN | ACK, RST, 0] {
        assert_eq!(
            bench.judge(&from(here).tcp(443, flags).bytes()),
            ESTABLISHED,
            "{flags:x}"
        );
    }
    for data in [quic_short(), quic_long(1, 1), quic_long(1, 2)] {
        assert_eq!(bench.judge(&from(here).udp(443, &data).bytes()), ESTABLISHED);
    }
    bench.dataplane.apply(&config()).unwrap();
    assert_eq!(
        bench.judge(&from(here).tcp(443, SYN).bytes()),
        BLOCKED,
        "after a reload"
    );
    bench.dataplane.switch_gate(false).unwrap();
    let mut malformed = initial(&[]);
    malformed[5] = 21;
    bench.all(vec![
        ("off: blocked", from(here).tcp(443, SYN), ATTEMPT),
        ("off: early", early(here), ATTEMPT),
        ("off: valid", good(here), ATTEMPT),
        ("off: malformed Initial", from(here).udp(443, &malformed), ATTEMPT),
        ("off: denied", from(denied).tcp(443, SYN), DENIED),
    ]);
    bench.dataplane.switch_gate(true).unwrap();
    assert_eq!(
        bench.judge(&from(here).tcp(443, SYN).bytes()),
        BLOCKED,
        "kept meanwhile"
    );
}

/// A form of header that hides the token would have the client judged by its address, or let an
/// early one in.
#[test]
fn tokens_are_found_in_every_form_of_header() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let here = "192.0.2.7";
    // A token that comes too often is dropped for that, so each has a nonce of its own.
    let mut nonce = 0;
    let mut fresh = || {
        nonce += 1;
        minted(Header { nonce, ..header() }, here, &keys()[1])
    };
    for (destination, source) in [(0, 0), (8, 0), (0, 20), (20, 20), (7, 13)] {
        for bytes in [2, 4, 8] {
            let (ids, token) = ([[3; 20], [4; 20]], fresh());
            let data = quic_token(V1, &ids[0][..destination], &ids[1][..source], &token, bytes);
            let found = bench.judge(&from(here).udp(443, &data).bytes());
            assert_eq!(found, TOKEN, "{destination} {source} {bytes}");
        }
    }
    let token = fresh();
    let short = &token[..40];
    let data = quic_token(V1, &[1; 8], &[], short, 1);
    assert_eq!(bench.judge(&from(here).udp(443, &data).bytes()), TOKEN);
    // RFC 9000 section 17.2: ids of at most 20 bytes.
    for (destination, source) in [(21, 0), (0, 21), (255, 0), (0, 255)] {
        let ids = [[3; 255], [4; 255]];
        let data = quic_token(V1, &ids[0][..destination], &ids[1][..source], &token, 2);
        assert_eq!(bench.judge(&from(here).udp(443, &data).bytes()), MALFORMED);
    }
    let mut beyond = quic_token(V1, &[1; 8], &[], &token, 2);
    let at = 1 + 4 + 1 + 8 + 1;
    for length in [0x7fff_u16, 0x4000 | 1200] {
        beyond[at..at + 2].copy_from_slice(&length.to_be_bytes());
        assert_eq!(bench.judge(&from(here).udp(443, &beyond).bytes()), MALFORMED);
    }
    // Cut anywhere, the program answers, and finds no token in a frame that is shorter than it
    // says.
    let whole = from(here)
        .udp(443, &quic_token(V1, &[1; 8], &[2; 8], &fresh(), 2))
        .bytes();
    for length in (14..300).chain([whole.len() - 1]) {
        assert_ne!(bench.judge(&whole[..length]), TOKEN, "{length}");
    }
    assert_eq!(bench.judge(&whole), TOKEN);
}

/// xorshift64: the same tokens in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn near_now(&mut self) -> u32 {
        let spread = [SKEW + 2, 5000, 1 << 31][self.below(3) as usize];
        NOW.wrapping_add(self.below(spread) as u32)
            .wrapping_sub(self.below(spread) as u32)
    }
}

/// Were they to differ, the kernel would drop whom the daemon told to come.
#[test]
fn kernel_and_daemon_agree_on_every_token() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let addresses = ["192.0.2.7", "192.0.2.8", "2001:db8:c::1", "2001:db8:c:1::1"];
    for address in addresses {
        bench.block(address);
    }
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    let rounds = 16_000;
    for round in 0..rounds {
        let address = addresses[random.below(4) as usize];
        let minted_for = if random.below(8) == 0 {
            addresses[random.below(4) as usize]
        } else {
            address
        };
        let mut key = keys()[random.below(3) as usize];
        if random.below(16) == 0 {
            key.epoch = random.next();
        }
        let header = Header {
            flags: if random.below(8) == 0 {
                random.next() as u8
            } else {
                QUIC
            },
            not_before: random.near_now(),
            expires: random.near_now(),
            nonce: random.next() as u32,
            client: random.next(),
            ..header()
        };
        let mut words = header.encode(prefix(minted_for), &key);
        match random.below(8) {
            0 => words[random.below(4) as usize] ^= 1 << random.below(64),
            1 => words = [random.next(), random.next(), random.next(), random.next()],
            2 => words[0] ^= random.below(256) << 8,
            _ => {}
        }
        // The first byte picks the Retry path, which has another test.
        if words[0] as u8 == retry::MAGIC {
            continue;
        }
        let published = keys()[edge_common::token::key_index(words[0]) as usize];
        let daemon = verify(words, QUIC, prefix(address), &published, NOW.into());
        *seen.entry(daemon as u32).or_default() += 1;
        let expected = match daemon {
            Verdict::Valid => TOKEN,
            Verdict::Early => EARLY,
            _ => BLOCKED,
        };
        let mut token = to_bytes(words).to_vec();
        token.resize(32 + random.below(100) as usize, 0x55);
        let ids = [random.below(21) as usize, random.below(21) as usize];
        let data = quic_token(V1, &[1; 20][..ids[0]], &[2; 20][..ids[1]], &token, 2);
        bench.freeze();
        let found = bench.judge(&from(address).udp(443, &data).bytes());
        assert_eq!(found, expected, "round {round}: {daemon:?} {words:x?} of {address}");
    }
    assert!(seen.values().sum::<u32>() >= 10_000);
    assert!(seen.len() == 6 && seen.values().all(|count| *count > 100), "{seen:?}");
}

/// Too many, and the storm comes through; too few, and neighbours behind the same address starve.
#[test]
fn a_deferred_address_gets_its_budget() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for address in ["192.0.2.7", "2001:db8:c::1"] {
        bench.penalise(Subject::Address(address.parse().unwrap()), Severity::Deferred(4), LONG);
        let syn = from(address).tcp(443, SYN).bytes();
        let initial = from(address).udp(443, &quic_initial()).bytes();
        let burst = || {
            (0..200)
                .filter(|i| bench.passes(if i % 2 == 0 { &syn } else { &initial }))
                .count()
        };
        // One more may become due while the burst goes on.
        let first = burst();
        assert!((4..=5).contains(&first), "{first}");
        std::thread::sleep(Duration::from_millis(500));
        let half = burst();
        assert!((1..=3).contains(&half), "{half}");
        std::thread::sleep(Duration::from_millis(1300));
        let full = burst();
        assert!((4..=5).contains(&full), "no more is saved up than a second's: {full}");
        bench.penalise(Subject::Address(address.parse().unwrap()), Severity::Blocked, LONG);
        assert_eq!(burst(), 0);
    }
    // A client's own budget.
    bench.penalise(Subject::Client(ALICE), Severity::Deferred(3), LONG);
    let data = initial(&minted(header(), "192.0.2.7", &keys()[0]));
    let packet = from("192.0.2.7").udp(443, &data).bytes();
    let passed = (0..100).filter(|_| bench.passes(&packet)).count();
    assert!((3..=4).contains(&passed), "{passed}");
}

/// Two processors at once must not get a budget each.
#[test]
fn processors_share_a_budget() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let budget = u16::MAX;
    let who = Subject::Address("192.0.2.7".parse().unwrap());
    let program = &bench.program;
    for round in 0..10 {
        // A penalty that is only written again goes on with what is left of its budget.
        bench.penalties().clear();
        bench.penalise(who, Severity::Deferred(budget), LONG);
        let before = bench.counters()[&BUDGETED];
        let barrier = std::sync::Barrier::new(2);
        let start = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let syn = from("192.0.2.7").tcp(443, SYN).bytes();
                    barrier.wait();
                    program.run(&syn, 400_000).unwrap();
                });
            }
        });
        let passed = bench.counters()[&BUDGETED] - before;
        // The second's budget at once, what became due meanwhile, and a tick; windows are kept in
        // units of 256 ns, which is a sixtieth of what one attempt of this budget costs.
        let milliseconds = 1000 + u64::try_from(start.elapsed().as_millis()).unwrap() + 11;
        let most = u64::from(budget) * milliseconds * 61 / 60 / 1000;
        assert!(
            (u64::from(budget)..=most).contains(&passed),
            "round {round}: {passed} of at most {most}"
        );
    }
}

#[test]
fn a_penalty_ends_by_itself() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let who = Subject::Address("192.0.2.7".parse().unwrap());
    let syn = from("192.0.2.7").tcp(443, SYN).bytes();
    for severity in [Severity::Blocked, Severity::Deferred(0)] {
        bench.penalise(who, severity, Duration::from_millis(200));
        assert!(!bench.passes(&syn));
        assert_eq!(bench.penalties().list().len(), 1);
        // The table rounds an end up, by an eighth of a second.
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(bench.judge(&syn), ATTEMPT);
        assert_eq!(bench.penalties().list(), []);
    }
    bench.penalise(who, Severity::Blocked, Duration::MAX);
    assert!(!bench.passes(&syn));
}

/// Between two penalties the storm would be at the listener.
#[test]
fn a_probation_follows_a_penalty() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let who = Subject::Address("192.0.2.7".parse().unwrap());
    let syn = from("192.0.2.7").tcp(443, SYN).bytes();
    let of = |severity, remaining| Penalty {
        who,
        origin: Origin::Gate,
        severity,
        remaining,
        probation: Duration::from_secs(60),
    };
    for (severity, budget) in [(Severity::Blocked, 16), (Severity::Deferred(100), 400)] {
        bench.penalties().clear();
        bench.penalties().write(&[of(severity, Duration::ZERO)]).unwrap();
        assert_eq!(bench.penalties().list(), [], "it is no penalty");
        let before = bench.counters()[&BUDGETED];
        let start = std::time::Instant::now();
        bench.program.run(&syn, 10_000).unwrap();
        let passed = bench.counters()[&BUDGETED] - before;
        let late = u64::try_from(start.elapsed().as_millis()).unwrap() + 11;
        assert!(
            (budget..=budget + budget * late / 1000).contains(&passed),
            "{severity:?}: {passed}"
        );
    }
    bench.penalties().clear();
    assert_eq!(bench.judge(&syn), ATTEMPT, "cleared, although none is in force");
    bench.penalties().write(&[of(Severity::Blocked, LONG)]).unwrap();
    assert_eq!(bench.judge(&syn), BLOCKED, "a penalty first");
}

/// A botnet of more offenders than the map holds must not free those who are still at it.
#[test]
fn a_full_map_forgets_who_has_given_up() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let address = |n: u32| Subject::Address(Ipv4Addr::from_bits(0x0a00_0000 + n).into());
    let block = |range: std::ops::Range<u32>| {
        let penalties: Vec<_> = range
            .map(|n| Penalty {
                who: address(n),
                origin: Origin::Gate,
                severity: Severity::Blocked,
                remaining: LONG,
                probation: Duration::ZERO,
            })
            .collect();
        bench.penalties().write(&penalties).unwrap();
    };
    let blocked = |range: std::ops::Range<u32>| {
        range
            .filter(|n| {
                let source = Ipv4Addr::from_bits(0x0a00_0000 + n);
                !bench.passes(&Frame::from(source.into()).tcp(443, SYN).bytes())
            })
            .count()
    };
    let (active, idle) = (0..100, 1000..1100);
    block(active.clone());
    block(idle.clone());
    assert_eq!(blocked(active.clone()), 100);
    // Packets alone displace nobody, from however many addresses.
    for n in 0..20_000_u32 {
        let source = Ipv6Addr::from_bits(0x2600 << 112 | u128::from(n) << 64);
        assert!(bench.passes(&Frame::from(source.into()).tcp(443, SYN).bytes()));
    }
    assert_eq!(bench.penalties().list().len(), 200);
    // Ten times what the map holds, while the active go on.
    for round in 0..(10 * CAPACITY).div_ceil(100) {
        let first = 10_000 + round * 100;
        block(first..first + 100);
        let still = blocked(active.clone());
        assert_eq!(still, 100, "after {} others", (round + 1) * 100);
    }
    let left = bench.penalties().list();
    // Three for each of half as many buckets.
    let most = CAPACITY as usize * 3 / 2;
    assert!(left.len() <= most && left.len() >= CAPACITY as usize, "{}", left.len());
    let listed = |range: std::ops::Range<u32>| range.filter(|n| left.iter().any(|p| p.who == address(*n))).count();
    assert_eq!(listed(active), 100);
    assert!(listed(idle) < 10);
    assert_eq!(bench.penalties().counted(), (left.len() as u64, 0));
}

/// Penalised clients would get in while the daemon restarts, and tokens would be refused.
#[test]
fn pinned_maps_survive_a_restart_with_their_contents() {
    if !root() {
        return;
    }
    let pins = Pins::prepare("test").unwrap();
    let config = config::Dataplane {
        pin_directory: pins.path().to_owned(),
        ..config()
    };
    let penalties = [
        (Subject::Address("192.0.2.7".parse().unwrap()), Severity::Blocked),
        (Subject::Address("2001:db8:c::".parse().unwrap()), Severity::Deferred(3)),
        (
            Subject::Network("2001:db8:e:100::/56".parse().unwrap()),
            Severity::Blocked,
        ),
        (Subject::Client(MALLORY), Severity::Blocked),
    ]
    .map(|(who, severity)| Penalty {
        who,
        origin: Origin::Gate,
        severity,
        remaining: LONG,
        probation: Duration::from_secs(600),
    });
    let first = Dataplane::start(&config).unwrap();
    first.penalties().write(&penalties).unwrap();
    first.penalties().set_keys(&keys()).unwrap();
    first.penalties().set_clock(clock_offset()).unwrap();
    first.switch_gate(true).unwrap();
    drop(first);
    let listed = |penalties: &Penalties| {
        let mut list = penalties.list();
        list.sort_by_key(|penalty| penalty.who);
        let rounded = LONG + Duration::from_millis(135);
        assert!(list.iter().all(|p| p.remaining <= rounded && p.remaining > LONG / 2));
        list.into_iter().map(|p| (p.who, p.severity)).collect::<Vec<_>>()
    };
    let expected = penalties.map(|p| (p.who, p.severity));
    assert_eq!(
        listed(&Penalties::open(pins.path()).unwrap()),
        expected,
        "no daemon runs"
    );

    let second = Dataplane::start(&config).unwrap();
    assert_eq!(listed(second.penalties()), expected);
    let bench = Bench {
        program: Program::by_id(second.program_id().unwrap()).unwrap(),
        dataplane: second,
    };
    let time = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = u32::try_from(time).unwrap();
    let token = |client| {
        let header = Header {
            not_before: now - 10,
            expires: now + 100,
            client,
            ..header()
        };
        from("192.0.2.7")
            .udp(443, &initial(&minted(header, "192.0.2.7", &keys()[2])))
            .bytes()
    };
    assert_eq!(bench.judge(&from("192.0.2.7").tcp(443, SYN).bytes()), BLOCKED);
    assert_eq!(bench.judge(&token(ALICE)), TOKEN);
    assert_eq!(bench.judge(&token(MALLORY)), CLIENT);
    drop(bench);
    edge::dataplane::detach(pins.path(), false).unwrap();
}

/// Who is blocked would be let in because an operator made room for more.
#[test]
fn a_table_of_another_size_takes_the_penalties_over() {
    if !root() {
        return;
    }
    let pins = Pins::prepare("test").unwrap();
    let sized = |penalty_entries| config::Dataplane {
        pin_directory: pins.path().to_owned(),
        penalty_entries,
        ..config()
    };
    let operators = Penalty {
        who: Subject::Address("192.0.2.7".parse().unwrap()),
        origin: Origin::Operator,
        severity: Severity::Deferred(3),
        remaining: LONG,
        probation: Duration::from_secs(60),
    };
    let first = Dataplane::start(&sized(1_024)).unwrap();
    first.penalties().write(&[operators]).unwrap();
    drop(first);
    let second = Dataplane::start(&sized(8_192)).unwrap();
    assert_eq!(second.penalties().capacity(), 8_192);
    let found = second.penalties().list();
    let [kept] = found[..] else { panic!("{found:?}") };
    assert_eq!(
        (kept.who, kept.origin, kept.severity),
        (operators.who, operators.origin, operators.severity)
    );
    assert_eq!(kept.probation, operators.probation);
    // Gone from the maps, and not only from the list.
    second.penalties().clear();
    drop(second);
    assert_eq!(Penalties::open(pins.path()).unwrap().list(), []);
    edge::dataplane::detach(pins.path(), false).unwrap();
}

#[test]
fn metrics_count_the_penalties() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.block("192.0.2.7");
    bench.penalise(Subject::Client(7), Severity::Blocked, LONG);
    bench.penalise(Subject::Client(8), Severity::Blocked, LONG);
    bench.penalties().list();
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(bench.dataplane.metrics()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "edge_dataplane_penalties{kind=\"address\"} 1\n",
        "edge_dataplane_penalties{kind=\"client\"} 2\n",
        "edge_dataplane_penalties_capacity 1024\n",
        "edge_dataplane_packets_total{verdict=\"drop\",reason=\"token_replayed\"} 0\n",
        "edge_dataplane_packets_total{verdict=\"drop\",reason=\"penalty_blocked\"} 0\n",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}
