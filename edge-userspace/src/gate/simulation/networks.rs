//! What one network gets, however many addresses it has, with a model of the kernel in front: the
//! figures of docs/gate.md.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use edge_common::penalty::{self, Judgement};

use super::*;
use crate::base::peer::client_prefix;
use crate::gate::clock::Clock;
use crate::gate::door::{self, Door};
use crate::gate::penalty::{Company, Strike};
use crate::gate::prefixes;

/// Penalties as the kernel judges SYNs by them.
#[derive(Default)]
struct Kernel(HashMap<Subject, penalty::Penalty>);

impl Kernel {
    fn hear(&mut self, world: &World) {
        for change in world.changes.pending() {
            let blocked = change.level == Some(Level::Blocked);
            let window = self.0.get(&change.key).map_or(0, |old| old.window);
            self.0.insert(
                change.key,
                penalty::Penalty {
                    until: u64::try_from(change.until.as_nanos()).unwrap(),
                    window,
                    budget: change.syn_budget,
                    level: if blocked { penalty::BLOCKED } else { penalty::DEFERRED },
                    probation: u16::try_from(change.probation.as_secs()).unwrap(),
                },
            );
        }
    }

    /// As `edge-ebpf` does: the address first, then the networks around it.
    fn passes(&mut self, ms: u64, address: IpAddr) -> bool {
        let prefix = client_prefix(address);
        let networks = prefixes::around(prefix).map(|network| Subject::Network(network.net));
        std::iter::once(Subject::Address(prefix))
            .chain(networks)
            .all(|subject| {
                let Some(penalty) = self.0.get_mut(&subject) else {
                    return true;
                };
                match penalty.judge(ms * 1_000_000) {
                    Judgement::Over => true,
                    Judgement::Budgeted(window) => {
                        penalty.window = window;
                        true
                    }
                    Judgement::Deferred | Judgement::Blocked => false,
                }
            })
    }
}

/// What somebody got that came a thousand times a second and kept nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Got {
    /// SYNs that passed.
    syns: u32,
    /// Handshakes.
    handshakes: u32,
    /// Requests that were served.
    served: u32,
}

/// Minute by minute, of an abuser whose n-th attempt comes from `home(n)`.
fn abuse(gate: &str, minutes: u64, home: impl Fn(u64) -> IpAddr) -> (World, Vec<Got>) {
    let world = world(&[gate]);
    let (book, neighbours) = (world.judge.book.clone(), world.judge.neighbours.clone());
    let door = Door::new(Clock::new(), book, neighbours, door::tests::tokens());
    let mut kernel = Kernel::default();
    let mut all = vec![Got::default(); minutes as usize];
    for ms in 0..minutes * 60_000 {
        kernel.hear(&world);
        let (address, got) = (home(ms), &mut all[(ms / 60_000) as usize]);
        if !kernel.passes(ms, address) {
            continue;
        }
        got.syns += 1;
        if let Some(penalised) = door.penalised_at(at(ms), address)
            && door.judge_at(at(ms), penalised, None::<&[u8]>).is_err()
        {
            continue;
        }
        got.handshakes += 1;
        let named = Named {
            client: crate::gate::pass::mix(ms),
            proven: false,
        };
        got.served += u32::from(visit_named(&world, ms, address, &mut None, Some(named)) == super::Got::Served);
        if ms % 1_000 == 0 {
            world
                .judge
                .book
                .turn(at(ms).mono, Duration::from_millis(ms.saturating_sub(1_000)));
        }
    }
    (world, all)
}

/// The n-th /64 of a /48.
fn of_site(n: u64) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(
        0x2001_0db8_0001u128 << 80 | u128::from(n % 65_536) << 64 | u128::from(n),
    ))
}

/// Whoever has a /48 would be 65,536 clients, and each of its addresses too new to be held to
/// anything; or the figures that docs/gate.md states would not be true.
#[test]
fn what_one_network_gets() {
    type Home = fn(u64) -> IpAddr;
    let cases: [(&str, Home, u32, u32); 5] = [
        ("one /64", |n| of_site(n << 16), 2_100, 20),
        ("one IPv4 address", |_| address(7), 2_100, 20),
        ("a /48, each /64 in turn", of_site, 2_000, 1_000),
        ("a /48, 512 of its /64s", |n| of_site(n % 512), 2_000, 1_000),
        ("an IPv4 /24", |n| IpAddr::from([198, 51, 100, n as u8]), 2_100, 1_000),
    ];
    for (name, home, first, later) in cases {
        let (world, got) = abuse(MANUAL, 3, home);
        println!("{name}: {got:?}");
        assert!(got[0].handshakes <= first, "{name}: {got:?}");
        assert!(got[2].handshakes <= later, "{name}: {got:?}");
        assert!(got.iter().all(|got| got.served == 0));
        // Others notice nothing.
        let mut jar = None;
        let home = IpAddr::from([203, 0, 113, 9]);
        let super::Got::Wait(wait) = visit(&world, 180_000, home, &mut jar) else {
            panic!("{name}: somebody else is not told to wait");
        };
        assert_eq!(
            visit(&world, 180_000 + wait, home, &mut jar),
            super::Got::Served,
            "{name}"
        );
    }
}

/// Who lives in a network that others abuse would be shut out for good, with what it has proven.
#[test]
fn a_proven_client_of_a_penalised_network() {
    let world = world(&[MANUAL]);
    let mine: IpAddr = "2001:db8:1:7777::1".parse().unwrap();
    let mut jar = None;
    let super::Got::Wait(wait) = visit(&world, 0, mine, &mut jar) else {
        panic!("admitted without a wait");
    };
    let site = Subject::Network("2001:db8:1::/48".parse().unwrap());
    let level = |ms: u64| world.judge.book.penalty(at(ms).mono, super::super::penalty::NODE, site);
    for n in 0..4_000 {
        visit(&world, n, of_site(n), &mut None);
    }
    assert!(matches!(level(4_000), Some((Level::Blocked, _))), "{:?}", level(4_000));
    let fresh: IpAddr = "2001:db8:1:9999::1".parse().unwrap();
    assert!(matches!(visit(&world, 4_001, fresh, &mut None), super::Got::Blocked(_)));
    // Its wait is honoured, and from then on it stands for others there.
    assert_eq!(visit(&world, wait, mine, &mut jar), super::Got::Served);
    assert!(
        matches!(level(wait + 1), Some((Level::Deferred, _))),
        "{:?}",
        level(wait)
    );
    let eased = world.changes.pending().into_iter().rfind(|change| change.key == site);
    assert!(eased.is_some_and(|change| change.level == Some(Level::Deferred) && change.syn_budget == 8));
    // An operator lifts it by its name.
    assert!(world.judge.book.lift(at(wait + 2).mono, site));
    assert_eq!(level(wait + 3), None);
}

/// A university whose students come all at once, each from a prefix of its own, would be taken for
/// an attack.
#[test]
fn a_crowd_of_one_site_that_waits_is_no_attack() {
    let world = world(&["[[zone.gate.rule]]\nmanual = { wait = \"5s\" }\n"]);
    let mut agenda: Vec<(u64, u64, Option<String>)> = (0..3_000).map(|n| (n * 8, n, None)).collect();
    let mut served = 0;
    while let Some(next) = (0..agenda.len()).min_by_key(|n| agenda[*n].0) {
        let (ms, n, mut jar) = agenda.swap_remove(next);
        match visit(&world, ms, of_site(n), &mut jar) {
            super::Got::Served => served += 1,
            super::Got::Wait(wait) => agenda.push((ms + wait, n, jar)),
            super::Got::Blocked(_) => panic!("{n} at {ms} was blocked"),
        }
    }
    assert_eq!(served, 3_000);
}

/// One address that asks without end would use up the share of its whole network, and nobody else
/// there would be served.
#[test]
fn who_is_beyond_its_own_share_takes_nothing_of_its_networks() {
    let world = world(&[
        "grace = 10000\n[[zone.gate.rule]]\nrate = { requests = 1000, per = \"1s\", burst = 1000, key = \"address\" }\n",
    ]);
    let (offender, neighbour) = (address(7), address(8));
    let strike = Strike {
        strikes: 1,
        until: Duration::from_secs(600),
        probation: Duration::ZERO,
    };
    let proven = Company { proven: 1, waiting: 0 };
    let zone = world.judge.zone_id("z0");
    for subject in [
        Subject::Address(offender),
        Subject::Network("192.0.2.0/24".parse().unwrap()),
    ] {
        let of = (subject, offender);
        world.judge.book.penalise(at(0).mono, zone, of, (strike, proven), true);
    }
    // It is not alone there, so it stays deferred, and keeps coming.
    world.judge.neighbours.seen(at(0).mono, offender, 1);
    let served = |ms, address| matches!(world.go(ms, 0, address, None), Decision::Admit(_));
    let (mut offended, mut neighbours) = (0, 0);
    for ms in (0..90_000).step_by(10) {
        let got = served(ms, offender);
        let other = ms % 500 == 0 && served(ms, neighbour);
        // The offender has had its trial by then.
        if ms >= 70_000 {
            offended += u32::from(got);
            neighbours += u32::from(other);
        }
    }
    assert!((15..=30).contains(&offended), "{offended}");
    assert_eq!(neighbours, 40);
}
