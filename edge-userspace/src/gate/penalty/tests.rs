//! The book under honest use and under a flood.

use super::*;
use crate::gate::feed;

const TERMS: Terms = Terms {
    grace: 3,
    base: Duration::from_secs(10),
    cap: Duration::from_secs(60),
    forgive: Duration::from_secs(600),
};
const NONE: Company = Company { proven: 0, waiting: 0 };
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const A: Subject = Subject::Address(HOME);

fn offender(carried: (u8, u8)) -> Offender {
    Offender {
        subject: A,
        from: HOME,
        carried,
    }
}

impl Book {
    fn punish(&self, now: Duration, zone: u64, subject: Subject, strike: Strike, company: Company) {
        self.penalise(now, zone, (subject, HOME), (strike, company), true);
    }
}

fn struck(strikes: u8, until: Duration) -> Strike {
    Strike {
        strikes,
        until,
        probation: TERMS.forgive,
    }
}

fn strike(book: &Book, now: u64) -> (u32, u64) {
    for attempts in 1.. {
        let now = Duration::from_secs(now);
        if let Offence::Strike(Strike { until, .. }) = book.offend(now, 1, offender((0, 0)), TERMS) {
            return (attempts, (until - now).as_secs());
        }
    }
    (0, 0)
}

/// Strikes would come too soon, grow without end, or never be forgiven.
#[test]
fn grace_doubling_cap_forgiveness() {
    let book = Book::new(512, feed::channel(8).0);
    let penalties: Vec<_> = (0..5).map(|n| strike(&book, n)).collect();
    assert_eq!(penalties, [(4, 10), (4, 20), (4, 40), (4, 60), (4, 60)]);
    assert_eq!(strike(&book, 4 + 4 * 600), (4, 20), "four of five strikes are forgiven");
    let other_node = Book::new(512, feed::channel(8).0);
    assert!(matches!(
        other_node.offend(Duration::ZERO, 1, offender((3, 2)), TERMS),
        Offence::Strike(Strike { strikes: 3, .. })
    ));
}

/// An address with proven clients behind it must not be blocked whole; zones do not judge for one
/// another.
#[test]
fn levels_list_add_lift() {
    let (feed, changes) = feed::channel(8);
    let book = Book::new(512, feed);
    let at = Duration::from_secs;
    book.punish(at(0), 1, A, struck(1, at(10)), NONE);
    assert_eq!(book.penalty(at(5), 1, A), Some((Level::Deferred, at(10))));
    assert_eq!((book.penalty(at(5), 2, A), book.penalty(at(10), 1, A)), (None, None));
    book.punish(at(0), 1, A, struck(5, at(20)), Company { proven: 3, waiting: 0 });
    assert_eq!(book.penalty(at(5), 1, A), Some((Level::Deferred, at(20))));
    book.punish(at(0), 1, A, struck(2, at(20)), NONE);
    assert_eq!(book.penalty(at(5), 1, A), Some((Level::Blocked, at(20))));
    let budgets: Vec<_> = changes.pending().iter().map(|c| c.syn_budget).collect();
    assert_eq!(budgets, [8, 16, 4]);
    assert!(book.add(at(0), Subject::Client(7), Level::Blocked, at(100)));
    assert_eq!(book.list(at(5)).len(), 2);
    assert_eq!(
        book.penalty(at(5), 9, Subject::Client(7)),
        Some((Level::Blocked, at(100)))
    );
    assert!(book.lift(at(5), A) && book.lift(at(5), Subject::Client(7)) && !book.lift(at(5), A));
    assert!(book.list(at(5)).is_empty());
    assert_eq!(changes.pending().iter().filter(|c| c.level.is_none()).count(), 3);
}

/// A botnet would wash its own penalties out of the book, or an operator's.
#[test]
fn a_flood_keeps_penalties() {
    let book = Book::new(4_096, feed::channel(8).0);
    let at = Duration::from_secs;
    let client = |n| Subject::Client(n);
    book.add(at(0), A, Level::Blocked, at(1_000));
    for n in 0..200 {
        book.punish(at(0), 1, client(n), struck(1, at(600)), NONE);
    }
    for n in 1_000..1_001_000 {
        book.tell(at(1), 1, client(n), HOME, at(9));
    }
    let kept = (0..200)
        .filter(|n| book.penalty(at(2), 1, client(*n)).is_some())
        .count();
    assert_eq!((kept, book.penalty(at(2), 1, A).is_some()), (200, true));
    // Full of penalties, it loses none to those who were merely told to wait.
    for n in 0..20_000 {
        book.punish(at(2), 1, client(n), struck(1, at(600)), NONE);
    }
    let full = book.list(at(3)).len();
    // Each has a record in its zone and one of the node; the list has each once.
    assert!((2_048..4_096).contains(&full), "{full}");
    for n in 2_000_000..2_100_000 {
        book.tell(at(3), 1, client(n), HOME, at(9));
    }
    assert_eq!(book.list(at(3)).len(), full);
    for (filled, capacity, bytes) in book.fill() {
        assert!(filled <= capacity && bytes <= 4_096 * 120, "{bytes}");
    }
}

/// An offender would end its own penalty, or have it softened, by offending once more: here,
/// elsewhere, or later.
#[test]
fn a_later_strike_takes_nothing_away() {
    let (feed, changes) = feed::channel(64);
    let book = Book::new(512, feed);
    let at = Duration::from_secs;
    book.punish(at(0), 1, A, struck(2, at(60)), NONE);
    // A first strike of another zone: it would defer for ten seconds.
    book.punish(at(1), 2, A, struck(1, at(11)), NONE);
    assert_eq!(book.penalty(at(20), NODE, A), Some((Level::Blocked, at(60))));
    // One that ends later, but only defers: first the one, then the other.
    book.punish(at(2), 2, A, struck(1, at(90)), NONE);
    assert_eq!(book.penalty(at(20), NODE, A), Some((Level::Blocked, at(60))));
    assert_eq!(book.penalty(at(70), NODE, A), Some((Level::Deferred, at(90))));
    // In the same zone, after strikes were forgiven.
    book.punish(at(3), 1, A, struck(1, at(13)), NONE);
    let fed = changes.pending();
    let told: Vec<_> = fed.iter().map(|c| (c.level, c.until)).collect();
    assert!(
        told.iter().all(|told| *told == (Some(Level::Blocked), at(60))),
        "{told:?}"
    );
    // The probation reaches over the rest, until the kernel is told of it.
    assert!(
        fed.last()
            .is_some_and(|c| c.until + c.probation >= at(90) + TERMS.forgive)
    );
    book.turn(at(60), at(59));
    book.turn(at(61), at(60));
    let turned: Vec<_> = changes.pending().iter().map(|c| (c.level, c.until)).collect();
    assert_eq!(turned, [(Some(Level::Deferred), at(90))]);
    // An operator's deferral is not cut either.
    book.add(at(100), A, Level::Deferred, at(500));
    book.punish(at(101), 1, A, struck(1, at(111)), Company { proven: 9, waiting: 0 });
    assert_eq!(book.penalty(at(105), NODE, A), Some((Level::Deferred, at(600))));
    let fed = changes.pending();
    assert!(fed.iter().all(|c| c.until == at(600) && c.syn_budget == 4), "{fed:?}");
}

/// Whoever fills the book with penalties would offend freely from fresh addresses, and others with
/// it.
#[test]
fn a_full_book_strikes_fresh_offenders() {
    let book = Book::new(1_024, feed::channel(8).0);
    let at = Duration::from_secs;
    let prefix = |site: u128, n: u128| IpAddr::from(std::net::Ipv6Addr::from(0x2001_0db8 << 96 | site << 80 | n << 64));
    let strike_at = |second, prefix| {
        let offender = Offender {
            subject: Subject::Address(prefix),
            from: prefix,
            carried: (0, 0),
        };
        for _ in 0..8 {
            if let Offence::Strike(strike) = book.offend(at(second), 1, offender, TERMS) {
                book.penalise(at(second), 1, (offender.subject, prefix), (strike, NONE), true);
            }
        }
        book.penalty(at(second), 1, offender.subject).is_some()
    };
    for n in 0..20_000 {
        strike_at(1, prefix(1, n));
    }
    let fresh = (0..20).filter(|n| strike_at(2, prefix(0xfff1, *n))).count();
    assert_eq!(fresh, 20);
    // And the counting of who is within its grace is not filled by those who were told to wait.
    let slow = Offender {
        subject: A,
        from: HOME,
        carried: (0, 0),
    };
    book.tell(at(3), 1, A, HOME, at(13));
    for attempt in 1..=3 {
        assert_eq!(book.offend(at(3), 1, slow, TERMS), Offence::Grace(attempt));
        for n in 0..20_000u64 {
            book.tell(at(3), 1, Subject::Client(n), prefix(2, n.into()), at(13));
        }
    }
    assert!(matches!(book.offend(at(3), 1, slow, TERMS), Offence::Strike(_)));
}

/// A penalised address's newcomers keep a small share, and no more.
#[test]
fn share() {
    let book = Book::new(512, feed::channel(8).0);
    book.punish(Duration::ZERO, 1, A, struck(1, Duration::from_secs(100)), NONE);
    let passed = (0..1_000)
        .filter(|ms| book.share(Duration::from_millis(*ms), 1, A, NONE))
        .count();
    assert_eq!(passed, 5);
    assert!(book.share(Duration::from_millis(2_000), 1, A, NONE));
}

/// Neighbours who come back would find the door that was shut on another; or open one that an
/// operator shut.
#[test]
fn company_eases_a_penalty_at_once() {
    let (feed, changes) = feed::channel(16);
    let book = Book::new(512, feed);
    let at = Duration::from_secs;
    let company = |proven| Company { proven, waiting: 0 };
    book.vouch(at(0), 1, A, company(5));
    assert_eq!(changes.pending(), [], "there is nothing to ease");
    book.punish(at(0), 1, A, struck(2, at(60)), NONE);
    assert_eq!(book.penalty(at(1), 1, A), Some((Level::Blocked, at(60))));
    book.vouch(at(1), 1, A, company(2));
    book.vouch(at(2), 1, A, company(1));
    for zone in [1, NODE] {
        assert_eq!(book.penalty(at(3), zone, A), Some((Level::Deferred, at(60))));
    }
    let fed: Vec<_> = changes.pending().iter().map(|c| (c.level, c.syn_budget)).collect();
    assert_eq!(fed, [(Some(Level::Blocked), 4), (Some(Level::Deferred), 12)]);
    book.add(at(4), A, Level::Blocked, at(600));
    changes.pending();
    book.vouch(at(5), 1, A, company(9));
    book.punish(at(5), 1, A, struck(3, at(90)), company(9));
    let softer = changes
        .pending()
        .into_iter()
        .filter(|c| c.level != Some(Level::Blocked) || c.until < at(604));
    assert_eq!(
        softer.count(),
        0,
        "the kernel was told something softer than the operator's word"
    );
}

/// A restart would harden the penalty of a shared address to a stranger's, take a wait for a
/// penalty, or let a token pass an operator's block; and the end of an operator's word would end
/// the gate's penalty with it.
#[test]
fn a_restart_takes_penalties_over_as_they_were() {
    let at = Duration::from_secs;
    let (feed, changes) = feed::channel(16);
    let before = Book::new(512, feed);
    let company = Company { proven: 12, waiting: 0 };
    before.punish(at(0), 1, A, struck(1, at(60)), company);
    before.hold(at(0), 9, at(30));
    let barred = Subject::Address(IpAddr::from([198, 51, 100, 1]));
    before.punish(at(0), 1, barred, struck(2, at(90)), NONE);
    assert!(before.add(at(0), barred, Level::Blocked, at(40)));
    let held = changes.pending();

    let (feed, changes) = feed::channel(16);
    let after = Book::new(512, feed);
    for change in held {
        after.adopt(at(1), change);
    }
    assert_eq!(changes.pending(), [], "the kernel has it already");
    let list = after.list(at(1));
    let told: Vec<_> = list.iter().map(|c| (c.key, c.origin, c.level, c.until)).collect();
    assert_eq!(
        told,
        [
            (A, Origin::Gate, Some(Level::Deferred), at(60)),
            (barred, Origin::Operator, Some(Level::Blocked), at(40)),
        ]
    );
    assert_eq!(list.iter().map(|c| c.syn_budget).next(), Some(52));
    assert_eq!(
        (after.added(at(1), A), after.added(at(1), barred)),
        (None, Some((Level::Blocked, at(40))))
    );
    // An operator's word has ended; the gate's own goes on, as one that tokens pass.
    before.turn(at(41), at(39));
    let Some(whole) = before.list(at(41)).into_iter().find(|c| c.key == barred) else {
        panic!("the gate's own penalty is gone");
    };
    assert_eq!(
        (whole.origin, whole.level, whole.until),
        (Origin::Gate, Some(Level::Blocked), at(90))
    );
    assert!(after.lift(at(2), A) && after.list(at(2)).len() == 1);
}

/// Whoever has a network would be as many clients as it has addresses; or who shares an IPv4
/// network be shut out with somebody else there.
#[test]
fn a_network_is_a_subject_of_its_own() {
    let at = Duration::from_secs;
    let (feed, changes) = feed::channel(16);
    let book = Book::new(512, feed);
    let network = |text: &str| Subject::Network(text.parse().unwrap());
    let (site, shared) = (network("2001:db8:1::/48"), network("192.0.2.0/24"));
    let home = |text: &str| crate::base::peer::client_prefix(text.parse().unwrap());
    let [inside, beside] = ["2001:db8:1:7::1", "2001:db8:2:7::1"].map(home);
    assert_eq!(book.around(at(0), 1, inside), None);
    let penalise = |subject, from, strikes, company| {
        book.penalise(at(0), 1, (subject, from), (struck(strikes, at(60)), company), true)
    };
    assert_eq!(
        penalise(site, inside, 1, NONE).0,
        Level::Deferred,
        "others are heard first"
    );
    assert_eq!(penalise(site, inside, 2, NONE).0, Level::Blocked);
    for zone in [1, NODE] {
        assert_eq!(book.around(at(1), zone, inside), Some((Level::Blocked, at(60))));
        assert_eq!(book.around(at(1), zone, beside), None);
    }
    assert_eq!(book.penalty(at(1), 1, Subject::Address(inside)), None, "not its own");
    let four = home("192.0.2.77");
    assert_eq!(penalise(shared, four, 9, NONE).0, Level::Deferred);
    assert_eq!(
        penalise(shared, four, 9, Company { proven: 3, waiting: 0 }).0,
        Level::Deferred
    );
    let fed = changes.pending();
    let budgets: Vec<_> = fed
        .iter()
        .map(|change| (change.key, change.level, change.syn_budget))
        .collect();
    assert_eq!(
        budgets,
        [
            (site, Some(Level::Deferred), 8),
            (site, Some(Level::Blocked), 4),
            (shared, Some(Level::Deferred), 64),
            (shared, Some(Level::Deferred), 76),
        ]
    );
    // The next daemon finds it in the kernel.
    let after = Book::new(512, feed::channel(16).0);
    for change in fed {
        after.adopt(at(1), change);
    }
    assert_eq!(after.around(at(2), NODE, inside), Some((Level::Blocked, at(60))));
    assert!(after.lift(at(2), site) && after.around(at(2), NODE, inside).is_none());
    // Somebody there has kept a wait.
    book.vouch(at(2), 1, site, Company { proven: 1, waiting: 0 });
    assert_eq!(book.around(at(3), 1, inside), Some((Level::Deferred, at(60))));
    // Of the newcomers some are heard, of an IPv4 network more.
    let heard = |subject| {
        let share = |ms: &u64| book.share(Duration::from_millis(3_000 + ms), 1, subject, NONE);
        (0..10_000).filter(share).count()
    };
    assert!((14..=15).contains(&heard(site)), "{}", heard(site));
    assert!((160..=170).contains(&heard(shared)), "{}", heard(shared));
}
