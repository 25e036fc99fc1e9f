//! Whole crowds against the decision, with a fake clock, tokens in the clear and a model of the
//! kernel's SYN budget.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderMap, Method};

use super::clock::Now;
use super::decide::Judge;
use super::feed::{self, Changes};
use super::handler::pages;
use super::metrics::{Metrics, Outcome};
use super::pass::fake::Plain;
use super::pass::{Passes, Spent};
use super::penalty::Book;
use super::verdict::{Attempt, Change, Decision, Deferral, Named};
use super::zone::ZoneGate;
use crate::base::penalty::{Level, Subject};
use crate::config::{Config, Faults};
use crate::zones::path;

const START: u64 = 1_700_000_000;

fn at(ms: u64) -> Now {
    Now {
        mono: Duration::from_millis(ms),
        unix: Duration::from_secs(START) + Duration::from_millis(ms),
        ahead: [0; 2],
    }
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

/// The first visit of a page of zone 0 over TCP; others differ from it by what they are about.
fn usual(address: IpAddr) -> Attempt<'static> {
    static ROOT: LazyLock<path::Path> = LazyLock::new(|| path::Path::of("/"));
    static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    Attempt {
        address,
        validated: true,
        relayed: false,
        opens: true,
        host: "z0.example",
        scheme: "https",
        target: "/",
        crawler: None,
        method: &Method::GET,
        path: &ROOT,
        headers: &NO_FIELDS,
        tokens: &[],
        work: None,
        named: None,
        quic: false,
    }
}

struct World {
    judge: Judge,
    zones: Vec<ZoneGate>,
    changes: Changes,
}

/// A node whose zones a, b, … have the gates described.
fn world(gates: &[&str]) -> World {
    let (feed, changes) = feed::channel(65_536);
    let passes: Arc<dyn Passes> = Arc::new(Plain::default());
    let judge = Judge::new((8_192, 1_024), 4, Arc::new(Book::new(8_192, feed)), passes);
    let zone = |(n, gate): (usize, &&str)| {
        let text = format!(
            "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"z{n}\"\nhosts = [\"z{n}.example\"]\n[zone.origin]\n\
             servers = [{{ address = \"http://127.0.0.1:1\" }}]\n[zone.gate]\n{gate}"
        );
        let config = Config::parse(Path::new("edge.toml"), &text).unwrap();
        let zone = &config.zones[0];
        let gate = zone.gate.as_ref().unwrap();
        let id = judge.zone_id(&zone.name);
        let named = (&zone.name, &zone.hosts[..]);
        let mut faults = Faults::default();
        let files = pages(&config.zones, &mut faults).take(&zone.name);
        faults.or(()).unwrap();
        ZoneGate::new(named, id, gate, files.unwrap_or_default(), &Metrics::default(), None)
    };
    let zones = gates.iter().enumerate().map(zone).collect();
    World { judge, zones, changes }
}

impl World {
    fn go(&self, ms: u64, zone: usize, address: IpAddr, token: Option<&str>) -> Decision {
        self.go_named(ms, zone, address, token, None)
    }

    fn go_named(&self, ms: u64, zone: usize, address: IpAddr, token: Option<&str>, named: Option<Named>) -> Decision {
        self.go_by(false, ms, zone, address, token, named)
    }

    fn go_by(
        &self,
        quic: bool,
        ms: u64,
        zone: usize,
        address: IpAddr,
        token: Option<&str>,
        named: Option<Named>,
    ) -> Decision {
        let attempt = Attempt {
            tokens: token.as_slice(),
            named,
            quic,
            ..usual(address)
        };
        self.visit(ms, zone, &attempt)
    }

    fn visit(&self, ms: u64, zone: usize, attempt: &Attempt<'_>) -> Decision {
        self.judge.decide(at(ms), &self.zones[zone], attempt)
    }
}

/// What came of a visit, with the client's cookie jar kept as a browser does.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Served,
    Wait(u64),
    Blocked(u64),
}

fn visit(world: &World, ms: u64, address: IpAddr, jar: &mut Option<String>) -> Got {
    visit_named(world, ms, address, jar, None)
}

/// The same on a TLS connection of that name.
fn visit_named(world: &World, ms: u64, address: IpAddr, jar: &mut Option<String>, named: Option<Named>) -> Got {
    let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap() + 1;
    match world.go_named(ms, 0, address, jar.as_deref(), named) {
        Decision::Admit(admission) => {
            match admission.token {
                Change::Set(written) => *jar = Some(written.text),
                Change::Clear => *jar = None,
                Change::Keep => {}
            }
            Got::Served
        }
        Decision::Defer(deferral) => {
            if let Some(written) = deferral.token {
                *jar = Some(written.text);
            }
            Got::Wait(millis(deferral.wait))
        }
        Decision::Lead { .. } => panic!("nobody comes back from a challenge"),
        Decision::Block { wait, token } => {
            if let Some(written) = token {
                *jar = Some(written.text);
            }
            Got::Blocked(millis(wait))
        }
    }
}

mod challenge;
mod crowds;
mod external;
mod invariants;
mod keys;
mod networks;

const MANUAL: &str = "[[zone.gate.rule]]\nmanual = { wait = \"5s\" }\n";
const RATE: &str = "[[zone.gate.rule]]\nrate = { requests = 60, per = \"1m\", burst = 10 }\n";

/// A visitor would lock itself out with favicon, sub-resources, parallel connections and an
/// impatient reload.
#[test]
fn a_browser_never_blocks_itself() {
    let world = world(&[MANUAL]);
    let mut jar = None;
    assert!(matches!(visit(&world, 0, address(1), &mut jar), Got::Wait(_)));
    // Two sub-resources left on preconnected connections before the cookie was there.
    for ms in [20, 30] {
        assert!(matches!(visit(&world, ms, address(1), &mut None), Got::Wait(_)));
    }
    // Favicon and four more; then the impatient reload of page, favicon and six.
    for ms in (40..90).step_by(10).chain((2_000..2_080).step_by(10)) {
        assert!(
            matches!(visit(&world, ms, address(1), &mut jar.clone()), Got::Wait(_)),
            "{ms}"
        );
    }
    assert_eq!(visit(&world, 5_100, address(1), &mut jar), Got::Served);
    for ms in 5_110..5_118 {
        assert_eq!(visit(&world, ms, address(1), &mut jar), Got::Served);
    }
    assert!(world.judge.book.list(at(5_200).mono).is_empty() && world.changes.pending().is_empty());
}

/// A client that does what it is told would not get its share; one that does not would not be
/// stopped.
#[test]
fn honest_passes_and_impatient_is_struck() {
    let world = world(&[RATE]);
    let (mut jar, mut ms, mut served) = (None, 0, 0);
    while ms < 600_000 {
        match visit(&world, ms, address(1), &mut jar) {
            Got::Served => (served, ms) = (served + 1, ms + 100),
            Got::Wait(wait) => ms += wait,
            Got::Blocked(_) => panic!("blocked at {ms}"),
        }
    }
    // One per second, less what rounding up to whole seconds costs, plus two bursts (address, then
    // client).
    assert!((300..=620).contains(&served), "{served}");
    assert!(world.changes.pending().is_empty());

    // The neighbour at this address waits with a token, while the impatient one retries at once and
    // ignores its own.
    let mut neighbour = None;
    let mut first_block = None;
    let mut told = 0;
    for n in 0..200u64 {
        let ms = 1_000 + n * 10;
        if let (Got::Blocked(wait), None) = (visit(&world, ms, address(9), &mut None), first_block) {
            first_block = Some((n, wait));
        }
        if n == 12 {
            match visit(&world, ms, address(9), &mut neighbour) {
                Got::Wait(wait) => told = ms + wait,
                other => panic!("{other:?}"),
            }
        }
    }
    let (n, wait) = first_block.unwrap();
    assert!((20..=30).contains(&n) && wait <= 10_001, "{n} {wait}");
    assert_eq!(visit(&world, told, address(9), &mut neighbour), Got::Served);
    let fed = world.changes.pending();
    assert_eq!(
        fed.first().map(|c| (c.key, c.level)),
        Some((Subject::Address(address(9)), Some(Level::Deferred)))
    );
    assert!(
        fed.iter().all(|c| c.level == Some(Level::Deferred)),
        "somebody waits beside it"
    );
}

/// A client that keeps its token and comes early is struck by name, whichever copy of the token it
/// shows.
#[test]
fn early_with_a_token() {
    let world = world(&[MANUAL]);
    let mut jar = None;
    visit(&world, 0, address(1), &mut jar);
    let outcomes: Vec<_> = (1..=17)
        .map(|ms| visit(&world, ms, address(1), &mut jar.clone()))
        .collect();
    assert!(outcomes[..16].iter().all(|got| matches!(got, Got::Wait(_))));
    assert!(
        matches!(outcomes[16], Got::Blocked(9_000..=10_001)),
        "{:?}",
        outcomes[16]
    );
    assert!(
        matches!(visit(&world, 6_000, address(1), &mut jar.clone()), Got::Blocked(_)),
        "its old token has matured"
    );
    assert_eq!(
        visit(&world, 10_100, address(1), &mut jar),
        Got::Served,
        "and is good again after the penalty"
    );
    let keys: Vec<_> = world
        .changes
        .pending()
        .iter()
        .map(|c| matches!(c.key, Subject::Client(_)))
        .collect();
    assert_eq!(keys, [true, false], "the client, and the address it comes from");
}

/// Over QUIC the kernel knows the client by its token: told to wait, it is kept to that there, and
/// those who share its address notice nothing, not even when it strikes.
#[test]
fn over_quic_a_client_answers_for_itself_alone() {
    let world = world(&[MANUAL]);
    let go = |ms, client, proven| world.go_by(true, ms, 0, address(1), None, Some(Named { client, proven }));
    let fed = || -> Vec<_> {
        let changes = world.changes.pending();
        changes.iter().map(|c| (c.key, c.level, c.until.as_millis())).collect()
    };
    assert!(matches!(go(0, 7, false), Decision::Defer(deferral) if deferral.wait >= Duration::from_secs(5)));
    let told = fed();
    assert!(
        matches!(told[..], [(Subject::Client(7), Some(Level::Deferred), 4_000..6_000)]),
        "{told:?}"
    );
    assert_eq!(
        world
            .judge
            .book
            .penalty(Duration::from_millis(1), 0, Subject::Client(7)),
        None
    );
    // What passes the kernel all the same, with a session of that client, strikes at last.
    let struck = (1..40).find(|ms| matches!(go(*ms, 7, true), Decision::Block { .. }));
    assert!(struck.is_some());
    let strike = fed();
    assert!(strike.iter().all(|(key, ..)| *key == Subject::Client(7)), "{strike:?}");
    assert!(strike.iter().any(|(_, level, _)| *level == Some(Level::Blocked)));
    assert!(matches!(go(50, 8, false), Decision::Defer(_)), "the neighbour");
}

/// One that keeps its session and no cookie would be taken for its address, and its neighbours for
/// it.
#[test]
fn early_with_a_session() {
    let world = world(&[MANUAL]);
    let named = |client| Some(Named { client, proven: true });
    let go = |ms, client| visit_named(&world, ms, address(1), &mut None, named(client));
    let outcomes: Vec<_> = (0..=17).map(|ms| go(ms, 7)).collect();
    assert!(outcomes[..17].iter().all(|got| matches!(got, Got::Wait(_))));
    assert!(matches!(outcomes[17], Got::Blocked(_)), "{outcomes:?}");
    assert!(matches!(go(20, 8), Got::Wait(_)), "its neighbour");
    assert!(
        matches!(visit(&world, 21, address(1), &mut None), Got::Wait(_)),
        "a newcomer"
    );
    let keys: Vec<_> = world.changes.pending().iter().map(|c| (c.key, c.level)).collect();
    assert_eq!(
        keys,
        [
            (Subject::Client(7), Some(Level::Blocked)),
            (Subject::Address(address(1)), Some(Level::Deferred))
        ]
    );
    // Who has waited by a cookie is known by its session, too, and its cookie carries the same
    // name.
    let mut jar = None;
    let Got::Wait(wait) = visit_named(&world, 30, address(2), &mut jar, named(9)) else {
        panic!("admitted without a wait");
    };
    assert!(jar.as_ref().is_some_and(|text| text.contains("_9_")), "{jar:?}");
    assert_eq!(
        visit_named(&world, 30 + wait, address(2), &mut jar, named(9)),
        Got::Served
    );
    assert_eq!(
        visit_named(&world, 40 + wait, address(2), &mut None, named(9)),
        Got::Served
    );
}

/// A bearer's token would open twice, in another zone, or in as many networks as share it; or not
/// in the next one that its bearer comes to.
#[test]
fn once_and_bound() {
    let world = world(&[MANUAL, MANUAL]);
    let Decision::Defer(told) = world.go(0, 0, address(1), None) else {
        panic!("admitted without a wait");
    };
    let token = told.token.unwrap().text;
    assert!(told.wait >= Duration::from_secs(5));
    let admitted = |decision| matches!(decision, Decision::Admit(_));
    assert!(!admitted(world.go(6_000, 1, address(1), Some(&token))), "another zone");
    assert!(admitted(world.go(6_000, 0, address(1), Some(&token))));
    // From now on it only says who comes, on the node that let it in; on another it opens nothing.
    assert!(admitted(world.go(6_100, 0, address(1), Some(&token))));
    let other_node = self::world(&[MANUAL]);
    let spent = Plain::default();
    let opened = spent.open(at(6_000), address(1), &token).unwrap();
    let spend = || spent.spend(at(6_000), 1, opened.pass.admission(), 0);
    assert_eq!((spend(), spend()), (Spent::Now, Spent::Before));
    assert!(
        admitted(other_node.go(6_200, 0, address(1), Some(&token))),
        "nodes do not share what is spent"
    );
    assert!(!admitted(world.go(3_700_000, 0, address(1), Some(&token))), "expired");
    // Dual stack, mobile and Wi-Fi, a pool of addresses: in after one wait, and still in; a botnet
    // that shares it is not.
    let world = self::world(&[MANUAL]);
    let homes: [IpAddr; 2] = [address(1), "2001:db8::1".parse().unwrap()];
    let mut jar = None;
    let Got::Wait(wait) = visit(&world, 0, homes[0], &mut jar) else {
        panic!("admitted without a wait");
    };
    for n in 0..50 {
        assert_eq!(
            visit(&world, wait + n * 100, homes[(n as usize + 1) % 2], &mut jar),
            Got::Served,
            "{n}"
        );
    }
    let shared =
        (0..100u8).filter(|n| visit(&world, 9_000, IpAddr::from([10, *n, 0, 1]), &mut jar.clone()) == Got::Served);
    assert!(shared.count() <= 16);
    assert_eq!(visit(&world, 9_100, homes[1], &mut jar), Got::Served);
}

/// The reserve: who has waited gets in while newcomers are still refused, and each once.
#[test]
fn those_who_waited_go_first() {
    let world = world(&["[[zone.gate.rule]]\nconcurrency = 4\n"]);
    let mut held = Vec::new();
    let mut tokens: HashMap<u8, String> = HashMap::new();
    for n in 0..10 {
        match world.go(0, 0, address(n), None) {
            Decision::Admit(admission) => held.push(admission),
            Decision::Defer(told) => drop(tokens.insert(n, told.token.unwrap().text)),
            Decision::Block { .. } | Decision::Lead { .. } => panic!("blocked at once"),
        }
    }
    assert_eq!((held.len(), tokens.len()), (3, 7));
    let late = 20_000;
    assert!(matches!(world.go(late, 0, address(200), None), Decision::Defer(_)));
    let mut waited = Vec::new();
    for (n, token) in &tokens {
        if let Decision::Admit(admission) = world.go(late, 0, address(*n), Some(token)) {
            waited.push((n, token));
            held.push(admission);
        }
    }
    assert_eq!((waited.len(), held.len()), (1, 4));
    // The reserve is free again, but this token has had its admission.
    held.pop();
    let (n, token) = waited[0];
    match world.go(late, 0, address(*n), Some(token)) {
        Decision::Defer(told) => assert_eq!(told.token, None, "a replay is given nothing"),
        other => panic!("{other:?}"),
    }
    drop(held);
    assert!(matches!(world.go(late, 0, address(201), None), Decision::Admit(_)));
}

/// A trial of new rules must not touch a single visitor.
#[test]
fn dry_run_changes_nothing() {
    for gate in [
        format!("dry_run = true\n{MANUAL}{RATE}"),
        format!("{MANUAL}dry_run = true\n{RATE}dry_run = true\n"),
    ] {
        let world = world(&[&gate]);
        for n in 0..500 {
            match world.go(
                n,
                0,
                address(1),
                Some("junk").filter(|_| n > 250 && gate.starts_with("dry")),
            ) {
                Decision::Admit(admission) => assert!(admission.token == Change::Keep, "{admission:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(world.changes.pending().is_empty() && world.judge.book.list(at(500).mono).is_empty());
        assert!(world.zones[0].counts.read(Outcome::DryRun) >= 500);
        assert_eq!(world.zones[0].counts.read(Outcome::Admitted), 500);
    }
}

/// What an operator blocks must stay out, whatever it has proven.
#[test]
fn an_operators_word() {
    let world = world(&[MANUAL]);
    let mut jar = None;
    let Got::Wait(wait) = visit(&world, 0, address(1), &mut jar) else {
        panic!("admitted without a wait");
    };
    assert_eq!(visit(&world, wait, address(1), &mut jar), Got::Served);
    let (book, subject) = (&world.judge.book, Subject::Address(address(1)));
    assert!(book.add(at(wait).mono, subject, Level::Blocked, Duration::from_secs(60)));
    assert!(matches!(
        visit(&world, wait + 10, address(1), &mut jar),
        Got::Blocked(50_000..=60_001)
    ));
    assert!(book.lift(at(wait + 20).mono, subject));
    assert_eq!(visit(&world, wait + 30, address(1), &mut jar), Got::Served);
}

/// Rules would judge who is exempt, or what they do not name.
#[test]
fn allowed_and_unmatched() {
    let world = world(&[
        &format!("allow = [\"192.0.2.0/28\"]\n{MANUAL}path = \"/api/\"\n"),
        MANUAL,
    ]);
    assert!(
        matches!(world.go(0, 0, address(99), None), Decision::Admit(_)),
        "another path"
    );
    assert!(matches!(world.go(0, 1, address(3), None), Decision::Defer(_)));
    let allowed = self::world(&[&format!("allow = [\"192.0.2.0/28\"]\n{MANUAL}")]);
    assert!(matches!(allowed.go(0, 0, address(3), None), Decision::Admit(_)));
    assert!(matches!(
        allowed.go(0, 0, "::ffff:192.0.2.3".parse().unwrap(), None),
        Decision::Admit(_)
    ));
    assert!(matches!(allowed.go(0, 0, address(16), None), Decision::Defer(_)));
}
