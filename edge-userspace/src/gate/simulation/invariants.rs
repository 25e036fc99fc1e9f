//! What holds whatever clients do: random ones, and such as have read the code, against the judge
//! itself. The clients are seeded; the tables' hashes and the clients' ids differ from run to run,
//! so how many are let in differs a little, too.

use std::net::Ipv6Addr;

use super::*;
use crate::gate::pass::mix;
use crate::gate::penalty::NODE;
use crate::gate::zone::Meter;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % n
    }
}

impl World {
    /// Who waits, and who has a seat.
    fn room(&self, ms: u64) -> (u64, usize) {
        let queues = self.zones[0].rules.iter().filter_map(|rule| match &rule.meter {
            Meter::Queue(queue) => Some(queue.lengths(at(ms))),
            _ => None,
        });
        queues.map(|(waiting, active, _)| (waiting, active)).next().unwrap()
    }

    /// How hard the node is on an address, now and at some times to come.
    fn hardness(&self, ms: u64, address: IpAddr) -> Vec<Option<Level>> {
        let subject = Subject::Address(crate::base::peer::client_prefix(address));
        [0, 1_000, 5_000, 15_000, 60_000, 600_000, 3_000_000]
            .map(|later| {
                let then = Duration::from_millis(ms + later);
                self.judge.book.penalty(then, NODE, subject).map(|(level, _)| level)
            })
            .to_vec()
    }

    /// What the node keeps of all clients: each table within its room, and each waiter once.
    fn assert_bounded(&self, waiters: usize) {
        for (filled, capacity, _) in self.judge.buckets.fill().into_iter().chain(self.judge.book.fill()) {
            assert!(filled <= capacity, "{filled} of {capacity}");
        }
        for rule in &self.zones[0].rules {
            if let Meter::Queue(queue) = &rule.meter {
                assert!(queue.remembered() <= waiters.min(65_536), "{}", queue.remembered());
            }
        }
    }

    fn spent(&self) -> usize {
        self.judge.passes().used().remembered
    }
}

/// An address of one of some sites, of both families, so that strangers share addresses, networks
/// and sites.
fn somewhere(random: &mut Random) -> IpAddr {
    let (site, host) = (random.below(4), random.below(6));
    match random.below(2) {
        0 => IpAddr::from([10, 0, site as u8, host as u8]),
        _ => IpAddr::from(Ipv6Addr::from(
            0x2001_0db8u128 << 96 | u128::from(site) << 80 | u128::from(host) << 64,
        )),
    }
}

/// One client that waits as it is told.
struct Honest {
    address: IpAddr,
    jar: Option<String>,
    next: u64,
    /// When it was told to come, once it was.
    told: Option<u64>,
}

/// Adversaries: tokens of all kinds that were ever given to them, shown from anywhere, at any time,
/// with every mark of a cause.
fn attack(world: &World, ms: u64, random: &mut Random, loot: &mut Vec<String>) -> (IpAddr, bool) {
    let address = somewhere(random);
    let tokens: Vec<&str> = (0..random.below(3))
        .filter_map(|_| loot.get(random.below(loot.len().max(1) as u64) as usize))
        .map(String::as_str)
        .collect();
    let mut headers = HeaderMap::new();
    match random.below(4) {
        0 => drop(headers.insert("sec-fetch-site", "cross-site".parse().unwrap())),
        1 => drop(headers.insert("origin", "https://bank.example".parse().unwrap())),
        2 => drop(headers.insert("referer", "https://z0.example/".parse().unwrap())),
        _ => {}
    }
    let named = (random.below(2) == 0).then(|| Named {
        client: random.below(40),
        proven: random.below(2) == 0,
    });
    let methods = [Method::GET, Method::POST];
    let attempt = Attempt {
        method: &methods[random.below(2) as usize],
        headers: &headers,
        tokens: &tokens,
        named,
        quic: random.below(4) == 0,
        ..usual(address)
    };
    let decision = world.visit(ms, 0, &attempt);
    let (written, served) = match decision {
        Decision::Admit(admission) => match admission.token {
            Change::Set(written) => (Some(written), true),
            Change::Keep | Change::Clear => (None, true),
        },
        Decision::Defer(deferral) => (deferral.token, false),
        Decision::Block { token, .. } => (token, false),
        Decision::Lead { .. } => (None, false),
    };
    if let Some(written) = written {
        match loot.len() {
            0..200 => loot.push(written.text),
            _ => loot[random.below(200) as usize] = written.text,
        }
    }
    (address, served)
}

/// A room would have more seats than it has, a wait that was kept would not be honoured, an offence
/// would soften a penalty, or asking would change something.
#[test]
fn whatever_clients_do() {
    for seed in 1..=6 {
        let queued = seed % 2 == 0;
        let gate = match queued {
            true => {
                "strike_cap = \"5m\"\n[[zone.gate.rule]]\nqueue = { active = 5, session = \"20s\", poll = \"5s\" }\n"
            }
            false => "strike_cap = \"5m\"\n[[zone.gate.rule]]\nmanual = { wait = \"5s\" }\n",
        };
        let world = world(&[gate]);
        let mut random = Random(seed);
        let mut loot = Vec::new();
        // Each comes from an address where there are adversaries, too; all keep the cookie that
        // they are given.
        let mut honest: Vec<Honest> = (0..30)
            .map(|n| Honest {
                address: somewhere(&mut random),
                jar: None,
                next: n * 997,
                told: None,
            })
            .collect();
        let (mut entered, mut penalised) = (0, 0);
        for ms in (0..300_000).step_by(40) {
            let from = Random(random.0);
            let address = somewhere(&mut Random(from.0));
            let before = world.hardness(ms, address);
            let (attacked, served) = attack(&world, ms, &mut random, &mut loot);
            assert_eq!(attacked, address);
            // Who is let in may ease what is held against its address: it has kept a wait.
            if !served {
                let after = world.hardness(ms, address);
                assert!(
                    after.iter().zip(&before).all(|(after, before)| after >= before),
                    "seed {seed} at {ms}: {before:?} {after:?}"
                );
            }
            penalised += usize::from(before[0].is_some());
            for client in honest.iter_mut().filter(|client| client.next <= ms) {
                let kept = client.told.is_some_and(|told| told <= ms);
                let spent = world.spent();
                match visit(&world, ms, client.address, &mut client.jar) {
                    Got::Served => {
                        entered += 1;
                        client.told = None;
                        client.next = ms + 3_000 + random.below(30_000);
                    }
                    Got::Wait(wait) => {
                        assert!(!kept || queued, "seed {seed} at {ms}: a wait was kept and not honoured");
                        assert_eq!(world.spent(), spent, "asking spends nothing");
                        if queued && kept {
                            let room = world.room(ms);
                            let again = visit(&world, ms, client.address, &mut client.jar.clone());
                            assert!(matches!(again, Got::Wait(_)));
                            assert_eq!((world.room(ms), world.spent()), (room, spent), "asking changes nothing");
                        }
                        client.told = client.jar.is_some().then_some(ms + wait);
                        client.next = ms + wait;
                    }
                    // A newcomer without the proof of a wait, from an address that is blocked for
                    // another's doing.
                    Got::Blocked(wait) => {
                        assert!(
                            client.jar.is_none() || queued,
                            "seed {seed} at {ms}: who keeps its token was blocked"
                        );
                        client.next = ms + wait;
                    }
                }
            }
            if queued {
                assert!(world.room(ms).1 <= 5, "seed {seed} at {ms}: {:?}", world.room(ms));
            }
        }
        assert!(
            entered > 5 && penalised > 50,
            "seed {seed}: {entered} entered, {penalised} penalised"
        );
    }
}

/// Honest waiters alone would fill the memory of used tokens, and lose their places with it.
fn honest_waiters(waiters: usize, seconds: u64) -> (usize, usize) {
    let world = world(&["[[zone.gate.rule]]\nqueue = { active = 1, session = \"6h\", poll = \"10s\" }\n"]);
    assert_eq!(visit(&world, 0, address(1), &mut None), Got::Served);
    let home = |n: usize| IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    let mut jars: Vec<Option<String>> = vec![None; waiters];
    let mut due: Vec<Vec<usize>> = vec![Vec::new(); seconds as usize + 20];
    for n in 0..waiters {
        due[1 + n * 10 / waiters].push(n);
    }
    let (mut first, mut lost) = (vec![0; waiters], 0);
    for second in 0..seconds {
        for n in std::mem::take(&mut due[second as usize]) {
            match visit(&world, second * 1_000, home(n), &mut jars[n]) {
                Got::Wait(wait) => due[(second + wait.div_ceil(1_000)).min(seconds + 19) as usize].push(n),
                other => panic!("{n} at {second}: {other:?}"),
            }
            let opened = world
                .judge
                .passes()
                .open(at(second * 1_000), home(n), jars[n].as_ref().unwrap())
                .unwrap();
            if first[n] == 0 {
                first[n] = opened.pass.place;
            }
            lost += usize::from(first[n] != opened.pass.place);
        }
        // He who is inside stays.
        if second % 3_600 == 0 {
            assert_eq!(visit(&world, second * 1_000, address(1), &mut None), Got::Served);
        }
    }
    assert_eq!(world.room(seconds * 1_000).0, waiters as u64);
    world.assert_bounded(waiters);
    assert!(
        world.judge.book.list(at(seconds * 1_000).mono).is_empty(),
        "nobody is penalised"
    );
    (lost, world.spent())
}

/// A waiting room would stop for everybody after some minutes.
#[test]
fn waiters_keep_their_places() {
    assert_eq!(honest_waiters(2_000, 900), (0, 0));
}

/// The same with 10,000 waiters for a day.
#[test]
#[ignore = "86 million visits: minutes, even in release"]
fn waiters_keep_their_places_for_a_day() {
    assert_eq!(honest_waiters(10_000, 86_400), (0, 0));
}

/// Goodput of 500 good clients, each at an address of its own, beside one IPv6 /48 and ten IPv4
/// /24s that come a thousand times a second from all their addresses and keep nothing: from second
/// 0, and from second 30 to 60. Those that are `restless` come by IPv4 and IPv6 in turn, by chance,
/// and lose their cookie with each hundredth answer.
fn beside_networks(gate: &str, abused: bool, restless: bool, seed: u64) -> (u32, u32) {
    let world = world(&[gate]);
    let mut random = Random(seed);
    let mut good: Vec<(IpAddr, Option<String>, u64)> = (0..500u64)
        .map(|n| {
            let home = IpAddr::from([100, (n >> 8) as u8, n as u8, random.below(256) as u8]);
            (home, None, n * 10 + random.below(10))
        })
        .collect();
    let (mut all, mut late) = (0, 0);
    for ms in 0..60_000 {
        if abused {
            let network = random.below(11);
            let host = random.below(65_536);
            let bot = match network {
                0 => IpAddr::from(Ipv6Addr::from(0x2001_0db8_0001u128 << 80 | u128::from(host) << 64)),
                n => IpAddr::from([198, 18, n as u8, host as u8]),
            };
            visit(&world, ms, bot, &mut None);
        }
        for (home, jar, next) in good.iter_mut().filter(|(_, _, next)| *next <= ms) {
            let from = match restless && random.below(2) == 0 {
                true => other_family(*home),
                false => *home,
            };
            if restless && random.below(100) == 0 {
                *jar = None;
            }
            match visit(&world, ms, from, jar) {
                Got::Served => {
                    *next = ms + 1_990 + random.below(20);
                    all += 1;
                    late += u32::from(ms >= 30_000);
                }
                Got::Wait(wait) | Got::Blocked(wait) => *next = ms + wait,
            }
        }
    }
    (all, late)
}

/// The IPv6 address of whoever has this IPv4 one, at a provider that gives out a /56 to each.
fn other_family(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::from(Ipv6Addr::from(0x2600u128 << 112 | u128::from(u32::from(v4)) << 72)),
        v6 => v6,
    }
}

fn kept_beside_networks(restless: bool, seeds: u64) {
    // Who has lost its cookie and comes by its other family is another visitor, until the first
    // seat's session is over.
    let active = if restless { 1_200 } else { 600 };
    let room = format!(
        "[[zone.gate.rule]]\nqueue = {{ active = {active}, per_network = 8, session = \"60s\", poll = \"5s\" }}\n"
    );
    for (name, gate) in [("rate", RATE), ("queue", &room)] {
        let (mut least, mut least_late) = (1.0f64, 1.0f64);
        for seed in 1..=seeds {
            let (quiet, quiet_late) = beside_networks(gate, false, restless, seed);
            let (all, late) = beside_networks(gate, true, restless, seed);
            least = least.min(f64::from(all) / f64::from(quiet));
            least_late = least_late.min(f64::from(late) / f64::from(quiet_late));
        }
        println!(
            "{name}, restless {restless}: least of {seeds} seeds {least:.3} from second 0, {least_late:.3} from second 30"
        );
        assert!(least >= 0.9 && least_late >= 0.95, "{name}: {least} {least_late}");
    }
}

/// Whoever has networks would take a zone from those who have one address.
#[test]
fn good_clients_beside_networks() {
    kept_beside_networks(false, 2);
}

/// Whoever has two address families and a browser that forgets would lose to whoever has networks.
#[test]
fn restless_clients_beside_networks() {
    kept_beside_networks(true, 1);
}

/// The same for the figures of docs/gate.md.
#[test]
#[ignore = "minutes"]
fn good_clients_beside_networks_in_full() {
    kept_beside_networks(false, 30);
    kept_beside_networks(true, 30);
}

/// One network would take a waiting room whole.
#[test]
fn what_one_network_costs_a_room() {
    let world = world(&["[[zone.gate.rule]]\nqueue = { active = 80, session = \"60s\", poll = \"5s\" }\n"]);
    let bot = |n: u64| IpAddr::from(Ipv6Addr::from(0x2001_0db8_0001u128 << 80 | u128::from(n) << 64));
    let bots = (0..5_000)
        .filter(|n| visit(&world, *n, bot(*n), &mut None) == Got::Served)
        .count();
    let home = |n: u64| IpAddr::from([10, 0, n as u8, 1]);
    let others = (0..100)
        .filter(|n| visit(&world, 6_000 + n, home(*n), &mut None) == Got::Served)
        .count();
    assert_eq!((bots, others), (20, 60));
}
