//! Many clients at once.

use std::net::Ipv6Addr;

use edge_common::penalty::{self, Judgement};

use super::*;
use crate::base::clock::UnixTime;
use crate::gate::clock::Clock;
use crate::gate::door::{self, Door};
use crate::gate::pass::mix;
use crate::gate::token::{Carrier, ClientId, Tokens};

/// How the one behaves that does not wait. It keeps no cookies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Abuser {
    /// A new TLS session each time.
    Forgetful,
    /// Resumes the session of its last handshake.
    Resuming,
}

/// A client's side of TLS over TCP.
#[derive(Clone, Default)]
struct Tls {
    ticket: Option<(u64, Vec<u8>)>,
    vain: u32,
}

/// What stands between clients of one address and the decision: the kernel's SYN budget, and the
/// door.
struct Way<'a> {
    world: &'a World,
    door: Door,
    tokens: Arc<Tokens>,
    address: IpAddr,
    kernel: penalty::Penalty,
    /// Handshakes that a signature was spent on.
    full: u32,
    seed: u64,
}

impl Way<'_> {
    /// Hears what the kernel is told.
    fn feed(&mut self) {
        for change in self.world.changes.pending() {
            if change.key != Subject::Address(self.address) {
                continue;
            }
            let blocked = change.level == Some(Level::Blocked);
            self.kernel = penalty::Penalty {
                until: u64::try_from(change.until.as_nanos()).unwrap(),
                window: 0,
                budget: change.syn_budget,
                level: if blocked { penalty::BLOCKED } else { penalty::DEFERRED },
                probation: u16::try_from(change.probation.as_secs()).unwrap(),
            };
        }
    }

    /// Otherwise all would keep one beat, and who is first in it would always be first.
    fn chance(&mut self) -> u64 {
        self.seed = mix(self.seed);
        self.seed
    }

    /// A connection, if it comes about; `None`: when to try again, in milliseconds.
    fn connect(&mut self, ms: u64, tls: &mut Tls) -> Result<Named, u64> {
        match self.kernel.judge(ms * 1_000_000) {
            Judgement::Over => {}
            Judgement::Budgeted(window) => self.kernel.window = window,
            Judgement::Deferred | Judgement::Blocked => {
                // As TCP repeats a SYN: after one second, two more, four more.
                tls.vain += 1;
                return Err((1_000 << (tls.vain - 1).min(2)) + self.chance() % 20);
            }
        }
        tls.vain = 0;
        let ticket = tls.ticket.as_ref().map(|(_, ticket)| &ticket[..]);
        if let Some(penalised) = self.door.penalised_at(at(ms), self.address)
            && self.door.judge_at(at(ms), penalised, ticket).is_err()
        {
            return Err(1_000 + self.chance() % 20);
        }
        let named = match tls.ticket {
            Some((client, _)) => Named { client, proven: true },
            None => {
                self.full += 1;
                let client = ClientId::fresh().0;
                Named { client, proven: false }
            }
        };
        let now = at(ms);
        let (from, to) = (
            now.second_after(Duration::ZERO),
            now.second_after(Duration::from_secs(3_600)),
        );
        let (time, id) = (UnixTime::from(now.unix), ClientId(named.client));
        let header = self
            .tokens
            .header(time, self.address, Carrier::Ticket, id, from.saturating_sub(1), to);
        tls.ticket = Some((named.client, [&header[..], &[0; 99]].concat()));
        Ok(named)
    }
}

/// Goodput of 50 clients behind one address, from second 30 to 90, with or without an abuser beside
/// them from that second on, and the handshakes in full while it was there. It tries a hundred
/// times a second.
fn goodput(abuser: Option<(Abuser, u64)>, seed: u64) -> (u32, u32) {
    let world = world(&[RATE]);
    #[derive(Default)]
    struct Good {
        tls: Tls,
        jar: Option<String>,
        next: u64,
        /// The connection, and requests on it so far.
        open: Option<(Named, u32)>,
    }
    let tokens = door::tests::tokens();
    let (book, neighbours) = (world.judge.book.clone(), world.judge.neighbours.clone());
    let mut way = Way {
        world: &world,
        door: Door::new(Clock::new(), book, neighbours, tokens.clone()),
        tokens,
        address: address(7),
        kernel: penalty::Penalty {
            until: 0,
            window: 0,
            budget: 0,
            level: 0,
            probation: 0,
        },
        full: 0,
        seed,
    };
    let mut good: Vec<Good> = (0..50)
        .map(|n| Good {
            next: n * 200,
            ..Good::default()
        })
        .collect();
    let (mut served, mut abused) = (0, 0);
    let (mut its, mut its_next) = (Tls::default(), 0);
    for ms in 0..90_000 {
        way.feed();
        if let Some((kind, from)) = abuser
            && ms >= from * 1_000
            && ms >= its_next
        {
            its_next = ms + 5 + way.chance() % 11;
            if kind == Abuser::Forgetful {
                its.ticket = None;
            }
            if let Ok(named) = way.connect(ms, &mut its) {
                abused += u32::from(visit_named(&world, ms, way.address, &mut None, Some(named)) == Got::Served);
            }
        }
        for client in good.iter_mut().filter(|c| c.next == ms) {
            let named = match client.open {
                Some((named, requests)) if requests < 5 => named,
                _ => match way.connect(ms, &mut client.tls) {
                    Ok(named) => {
                        client.open = Some((named, 0));
                        named
                    }
                    Err(again) => {
                        client.next += again;
                        continue;
                    }
                },
            };
            match visit_named(&world, ms, way.address, &mut client.jar, Some(named)) {
                Got::Served => {
                    client.next += 1_990 + way.chance() % 20;
                    client.open = client.open.map(|(named, requests)| (named, requests + 1));
                    served += u32::from(ms >= 30_000);
                }
                Got::Wait(wait) | Got::Blocked(wait) => {
                    client.open = None;
                    client.next += wait;
                }
            }
        }
    }
    assert!(abused <= 120, "the abuser got {abused}");
    (served, way.full)
}

/// One abuser would take the address from all who share it: from those who proved themselves before
/// it came, and from those who come at the same time as it.
#[test]
fn one_abuser_among_fifty() {
    let (quiet, _) = goodput(None, 1);
    assert!(quiet > 1_000, "{quiet}");
    for kind in [Abuser::Forgetful, Abuser::Resuming] {
        let kept = |from, seed| {
            let (storm, full) = goodput(Some((kind, from)), seed);
            let ratio = f64::from(storm) / f64::from(quiet);
            println!("{kind:?} from second {from}: {ratio:.3} of {quiet}; {full} handshakes in full");
            assert!(full < 3_500, "{full} handshakes in full");
            ratio
        };
        for from in [30, 10] {
            let ratio = kept(from, 1);
            assert!(ratio >= 0.9, "{kind:?} from {from}: {ratio}");
        }
        // Who is heard first is chance, and decides much here.
        let ratios: Vec<_> = (1..=6).map(|seed| kept(0, seed)).collect();
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!(
            mean >= 0.88 && ratios.iter().all(|ratio| *ratio >= 0.8),
            "{kind:?} from the start: {ratios:?}"
        );
    }
}

/// One abuser alone would be spared for ever, by the waits that it is told and never keeps.
#[test]
fn one_abuser_alone() {
    let world = world(&[RATE]);
    let (mut first, mut blocked, mut most) = (None, None, 0);
    for ms in (0..120_000).step_by(10) {
        visit(&world, ms, address(7), &mut None);
        for change in world.changes.pending() {
            first = first.or(Some(ms));
            match change.level {
                Some(Level::Blocked) => blocked = blocked.or(Some(ms)),
                _ => most = most.max(change.syn_budget),
            }
        }
        if blocked.is_some() {
            break;
        }
    }
    let (first, blocked) = (first.unwrap(), blocked.unwrap());
    println!("deferred at {first} ms with at most {most} SYNs a second, blocked at {blocked} ms");
    assert!(
        first < 1_000 && blocked <= 75_000 && most <= 68,
        "{first} {blocked} {most}"
    );
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
    for n in 0..1_000_000u64 {
        let ms = 30_000 + n / 20;
        let bot = IpAddr::from(Ipv6Addr::from(0x2001_0db8u128 << 96 | u128::from(n) << 64));
        world.go(ms, 0, bot, None);
        if n % 20_000 == 0 {
            let (address, jar) = &mut good[(n / 20_000 % 20) as usize];
            refused += u32::from(visit(&world, ms, *address, jar) != Got::Served);
        }
    }
    assert_eq!(refused, 0);
    let ([buckets, _], book) = (world.judge.buckets.fill(), world.judge.book.fill());
    assert!(buckets.0 <= buckets.1 && buckets.1 == 8_192 && buckets.2 <= 8_192 * 24);
    for (filled, capacity, bytes) in book {
        assert!(filled <= capacity && capacity == 8_192 && bytes <= 8_192 * 120);
    }
}

/// Collecting tokens and waiting for all of them would be a way around the limit: an address never
/// gets more than the clients it may stand for, whatever names it collects and however it uses
/// them.
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

/// A browser's page would come without its images and scripts right after the wait; and a burst for
/// each new name would be a burst for each wait.
#[test]
fn who_waited_gets_a_page_and_the_next_name_does_not() {
    let world = world(&[RATE]);
    while visit(&world, 0, address(1), &mut None) == Got::Served {}
    let mut jars = [None, None];
    let waits = jars.each_mut().map(|jar| match visit(&world, 0, address(1), jar) {
        Got::Wait(wait) => wait,
        other => panic!("the address had its burst: {other:?}"),
    });
    let page = |n: usize, jar: &mut Option<String>| {
        (0..20)
            .filter(|k| visit(&world, waits[n] + k, address(1), jar) == Got::Served)
            .count()
    };
    let [first, second] = &mut jars;
    assert_eq!((page(0, first), page(1, second)), (10, 1));
    // The bucket of a name is its own from then on: no second burst by asking again.
    let again = (0..20).filter(|k| visit(&world, waits[1] + 30 + k, address(1), first) == Got::Served);
    assert!(again.count() <= 2);
}

/// Requests that an address gets in five minutes by waiting as a new client again and again. Each
/// name is used for what it gives at once, or for one request.
fn inventor_of_names(clients: u32, bursts: bool) -> u32 {
    let world = world(&[&format!("grace = 10000\nclients_per_address = {clients}\n{RATE}")]);
    let (mut jars, mut served) = (Vec::new(), 0);
    for ms in (0..300_000).step_by(100) {
        let mut jar = None;
        match visit(&world, ms, address(1), &mut jar) {
            Got::Served => served += 1,
            Got::Wait(wait) if jars.len() < 100 => jars.push((ms + wait, jar)),
            Got::Wait(_) | Got::Blocked(_) => {}
        }
        jars.retain_mut(|(due, jar)| {
            if *due > ms {
                return true;
            }
            while visit(&world, ms, address(1), jar) == Got::Served {
                served += 1;
                if !bursts {
                    break;
                }
            }
            false
        });
    }
    served
}

/// Waiting under ever new names would be worth twice the rate.
#[test]
fn bursts_after_a_wait_are_no_higher_rate() {
    for clients in [2, 8] {
        let (with, without) = (inventor_of_names(clients, true), inventor_of_names(clients, false));
        // What the address may have whatever it does: its clients' and its newcomers' burst and
        // rate.
        assert!(
            with <= (clients + 1) * (10 + 300),
            "{with} with {clients} clients an address"
        );
        assert!(
            with < without * 2,
            "{with} by bursts, {without} one by one, with {clients} clients"
        );
    }
}

/// People who arrive one after another behind a busy address would be taken for one who does not
/// wait.
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

/// Visitors of a full room enter in order, browse on without waiting again, and one without cookies
/// is one visitor.
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
