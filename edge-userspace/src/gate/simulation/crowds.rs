//! Many clients at once.

use std::net::Ipv6Addr;

use super::*;

/// Goodput of 50 clients behind one address, from second 30 to 90, with or without an abuser beside them.
fn goodput(abuser: bool) -> u32 {
    let world = world(&[RATE]);
    struct Good {
        jar: Option<String>,
        next: u64,
        connected: bool,
    }
    let nat = address(7);
    let mut good: Vec<Good> = (0..50)
        .map(|n| Good {
            jar: None,
            next: n * 200,
            connected: false,
        })
        .collect();
    let (mut served, mut abused) = (0, 0);
    // The kernel: SYNs per second that pass while the address is penalised.
    let (mut until, mut budget, mut second, mut passed) = (0, u32::MAX, 0, 0u32);
    for ms in 0..90_000 {
        for change in world.changes.pending() {
            if change.key == Subject::Address(nat) {
                until = u64::try_from(change.until.as_millis()).unwrap();
                budget = if change.level == Some(Level::Blocked) {
                    0
                } else {
                    change.syn_budget.into()
                };
            }
        }
        if ms / 1_000 != second {
            (second, passed) = (ms / 1_000, 0);
        }
        let mut syn = || {
            passed += 1;
            ms >= until || passed <= budget
        };
        if abuser && ms >= 30_000 && ms % 10 == 0 && syn() && visit(&world, ms, nat, &mut None) == Got::Served {
            abused += 1;
        }
        for client in good.iter_mut().filter(|c| c.next == ms) {
            if !client.connected && !syn() {
                client.next += 1_000;
                continue;
            }
            client.connected = true;
            match visit(&world, ms, nat, &mut client.jar) {
                Got::Served => {
                    client.next += 2_000;
                    served += u32::from(ms >= 30_000);
                }
                Got::Wait(wait) | Got::Blocked(wait) => {
                    client.connected = false;
                    client.next += wait;
                }
            }
        }
    }
    assert!(abused <= 80, "the abuser got {abused} of 6,000");
    served
}

/// One abuser would take the address from all who share it.
#[test]
fn one_abuser_among_fifty() {
    let (quiet, storm) = (goodput(false), goodput(true));
    assert!(quiet > 1_000, "{quiet}");
    assert!(f64::from(storm) >= 0.9 * f64::from(quiet), "{storm} of {quiet}");
}

/// A botnet, or a /32 of IPv6, would take all memory or lock out those who proved themselves.
#[test]
fn a_flood_of_addresses() {
    let world = world(&[RATE]);
    let mut good: Vec<(IpAddr, Option<String>)> = (0..20).map(|n| (address(n), None)).collect();
    for (address, jar) in &mut good {
        let mut ms = 0;
        while jar.is_none() {
            if let Got::Wait(wait) = visit(&world, ms, *address, jar) {
                assert_eq!(visit(&world, ms + wait, *address, jar), Got::Served);
            }
            ms += 1;
        }
    }
    let mut refused = 0;
    for n in 0..200_000u64 {
        let ms = 30_000 + n / 4;
        let bot = IpAddr::from(Ipv6Addr::from(0x2001_0db8u128 << 96 | u128::from(n) << 64));
        world.go(ms, 0, bot, None);
        if n % 4_000 == 0 {
            let (address, jar) = &mut good[(n / 4_000 % 20) as usize];
            refused += u32::from(visit(&world, ms, *address, jar) != Got::Served);
        }
    }
    assert_eq!(refused, 0);
    let (buckets, records) = (world.judge.buckets.fill(), world.judge.book.fill());
    assert!(buckets.0 <= buckets.1 && buckets.1 == 8_192 && buckets.2 <= 8_192 * 24);
    assert!(records.0 <= records.1 && records.1 == 8_192 && records.2 <= 8_192 * 160);
}

/// Collecting tokens and waiting for all of them would be a way around the limit: an address never gets more than the clients
/// it may stand for, whatever names it collects and however it uses them.
#[test]
fn harvested_tokens_are_no_way_around() {
    for clients in [1, 2, 64] {
        let gate = format!("grace = 10000\nclients_per_address = {clients}\n{RATE}");
        let world = world(&[&gate]);
        let (mut jars, mut served, mut early) = (Vec::new(), 0, 0);
        for ms in (0..60_000).step_by(20) {
            let mut jar = None;
            match visit(&world, ms, address(1), &mut jar) {
                Got::Served => served += 1,
                Got::Wait(wait) if jars.len() < 300 => jars.push((ms + wait, jar)),
                Got::Wait(_) | Got::Blocked(_) => {}
            }
            for (due, jar) in jars.iter_mut().filter(|(due, _)| *due <= ms) {
                match visit(&world, ms, address(1), jar) {
                    Got::Served => (served, *due) = (served + 1, ms + 100),
                    Got::Wait(wait) | Got::Blocked(wait) => *due = ms + wait,
                }
            }
            if ms <= 3_000 {
                early = served;
            }
        }
        // Burst and rate of so many clients, and of the address's newcomers.
        let most = (clients + 1) * (10 + 60);
        assert!(served <= most, "{served} with {clients} clients an address");
        assert!(
            early <= 45,
            "{early} in three seconds: tokens were given out faster than the rate"
        );
    }
}

/// A new name would be a new burst.
#[test]
fn waiting_gives_one_request_not_a_burst() {
    let world = world(&[RATE]);
    while visit(&world, 0, address(1), &mut None) == Got::Served {}
    let mut jar = None;
    let Got::Wait(wait) = visit(&world, 0, address(1), &mut jar) else {
        panic!("the address had its burst");
    };
    assert_eq!(visit(&world, wait, address(1), &mut jar), Got::Served);
    assert!(matches!(visit(&world, wait + 10, address(1), &mut jar), Got::Wait(_)));
}

/// People who arrive one after another behind a busy address would be taken for one who does not wait.
#[test]
fn newcomers_behind_a_busy_address() {
    let world = world(&[MANUAL]);
    let mut jars = vec![None; 16];
    for jar in &mut jars {
        visit(&world, 0, address(1), jar);
    }
    for jar in &mut jars {
        assert_eq!(visit(&world, 6_000, address(1), jar), Got::Served);
    }
    for ms in 7_000..7_150 {
        assert!(matches!(visit(&world, ms, address(1), &mut None), Got::Wait(_)), "{ms}");
    }
}

/// Visitors of a full room enter in order, browse on without waiting again, and one without cookies is one visitor.
#[test]
fn waiting_room() {
    let world = world(&["[[zone.gate.rule]]\nqueue = { active = 2, session = \"20s\", poll = \"5s\" }\n"]);
    let mut jars: Vec<Option<String>> = vec![None; 6];
    let mut next: Vec<u64> = (0..6).map(|n| n * 500).collect();
    let mut entered = Vec::new();
    for ms in 0..200_000 {
        for n in 0..6usize {
            if next[n] != ms {
                continue;
            }
            match visit(&world, ms, address(n as u8), &mut jars[n]) {
                Got::Served => {
                    entered.push(n);
                    // It browses a little, and leaves.
                    assert_eq!(visit(&world, ms + 1, address(n as u8), &mut jars[n]), Got::Served);
                }
                Got::Wait(wait) => next[n] += wait,
                Got::Blocked(_) => panic!("a patient visitor was blocked"),
            }
        }
    }
    assert_eq!(entered, [0, 1, 2, 3, 4, 5]);
    assert!((0..5).all(|n| matches!(world.go(400_000 + n, 0, address(50), None), Decision::Admit(_))));
    assert!(matches!(world.go(400_010, 0, address(51), None), Decision::Admit(_)));
    assert!(matches!(world.go(400_020, 0, address(52), None), Decision::Defer(_)));
}
