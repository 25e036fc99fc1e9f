//! An address is not a client: those who share one with an abuser, with real TLS clients and the
//! kernel between.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::time::sleep;

use crate::visitor::{Got, Visitor, trust};
use crate::world::World;

const GOOD: u64 = 50;
/// Until all have proven themselves, and each of the two windows.
const SETTLE: Duration = Duration::from_secs(9);
const WINDOW: Duration = Duration::from_secs(5);
const FIVE_A_SECOND: &str = r#"[[zone.gate.rule]]
rate = { requests = 300, per = "1m", burst = 10 }"#;
const TWENTY_A_MINUTE: &str = r#"grace = 3
strike_base = "60s"
[[zone.gate.rule]]
rate = { requests = 20, per = "1m", burst = 1 }"#;

/// Runs `work` in the client's namespace.
fn within<T: Send>(world: &World, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), work())
    };
    world.client.enter(run).unwrap()
}

fn count(world: &World, metric: &str) -> u64 {
    let metrics = world.metrics();
    let line = metrics.lines().find_map(|l| l.strip_prefix(metric));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

fn reset(world: &World, reason: &str) -> u64 {
    count(
        world,
        &format!("edge_tls_handshake_failures_total{{reason=\"{reason}\"}}"),
    )
}

fn dropped(world: &World) -> u64 {
    ["penalty_deferred", "penalty_blocked"]
        .map(|reason| {
            count(
                world,
                &format!("edge_dataplane_packets_total{{verdict=\"drop\",reason=\"{reason}\"}}"),
            )
        })
        .iter()
        .sum()
}

async fn good(trust: Rc<ClientConfig>, n: u64, served: Rc<RefCell<Vec<Instant>>>) {
    let mut visitor = Visitor::new(&trust, Duration::from_secs(5));
    sleep(Duration::from_millis(n * 40)).await;
    loop {
        let pause = match visitor.ask().await {
            Ok(Got::Served) => {
                served.borrow_mut().push(Instant::now());
                Duration::from_millis(480 + n)
            }
            Ok(Got::Wait(wait)) => wait,
            Err(_) => Duration::from_secs(1),
        };
        sleep(pause).await;
    }
}

/// Retries at once, and keeps nothing.
async fn abuser(trust: Rc<ClientConfig>, tried: Rc<Cell<u64>>) {
    let mut visitor = Visitor::new(&trust, Duration::from_millis(300));
    loop {
        visitor.forget();
        let _ = visitor.ask().await;
        tried.set(tried.get() + 1);
    }
}

/// Everybody behind a shared address would pay for one who does not wait.
#[test]
fn fifty_good_clients_beside_an_abuser() {
    let Some(world) = World::gated(FIVE_A_SECOND) else {
        return;
    };
    let trust = trust(&world.file(""));
    let (served, tried, start) = within(&world, async move || {
        let (trust, served, tried) = (Rc::new((*trust).clone()), Rc::default(), Rc::default());
        for n in 0..GOOD {
            tokio::task::spawn_local(good(Rc::clone(&trust), n, Rc::clone(&served)));
        }
        sleep(SETTLE + WINDOW).await;
        let start = Instant::now();
        for _ in 0..8 {
            tokio::task::spawn_local(abuser(Rc::clone(&trust), Rc::clone(&tried)));
        }
        sleep(WINDOW).await;
        (served.take(), tried.get(), start)
    });
    let within = |from: Instant| served.iter().filter(|at| (from..from + WINDOW).contains(*at)).count();
    let (quiet, storm) = (within(start - WINDOW), within(start));
    let ratio = storm as f64 / quiet as f64;
    let (kernel, door) = (dropped(&world), reset(&world, "no_ticket"));
    println!(
        "goodput beside an abuser: {ratio:.3} of {quiet} in {WINDOW:?}; it tried {tried} times; {kernel} SYNs dropped by the \
         kernel, {door} reset at the ClientHello"
    );
    assert!(
        quiet >= 400,
        "{quiet}: the good ones are told to wait without an abuser"
    );
    assert!(tried > 50 && kernel + door > 0, "nobody abused anything");
    assert!(ratio >= 0.9, "{storm} of {quiet}");
}

/// Who waited, and holds a token and a session, is let in at once; a stranger behind the same
/// address is reset.
#[test]
fn a_neighbour_with_a_mature_token_gets_in() {
    let Some(world) = World::gated(TWENTY_A_MINUTE) else {
        return;
    };
    let trust = trust(&world.file(""));
    let (waited, strangers) = within(&world, async || {
        let mut neighbour = Visitor::new(&trust, Duration::from_secs(4));
        let mut other = Visitor::new(&trust, Duration::from_secs(1));
        while other.ask().await.unwrap() == Got::Served {
            other.forget();
        }
        let Got::Wait(wait) = neighbour.ask().await.unwrap() else {
            panic!("served beyond the rate");
        };
        let due = Instant::now() + wait;
        // Until the wait is over, and a little longer: the address is penalised when the neighbour
        // comes back. Four at once, to ask for more handshakes than its newcomers have even on a
        // slow machine.
        let (shared, strangers) = (Rc::new((*trust).clone()), Rc::new(Cell::new(0)));
        let others = [(); 4].map(|()| {
            let (shared, strangers) = (Rc::clone(&shared), Rc::clone(&strangers));
            tokio::task::spawn_local(async move {
                let mut other = Visitor::new(&shared, Duration::from_secs(1));
                while Instant::now() < due {
                    other.forget();
                    if let Err(error) = other.ask().await {
                        strangers.set(strangers.get() + u32::from(error.kind() == ErrorKind::ConnectionReset));
                    }
                }
            })
        });
        for other in others {
            other.await.unwrap();
        }
        let waited = neighbour.ask().await;
        (waited.map(|got| (got, neighbour.resumed)), strangers.get())
    });
    assert!(strangers > 0, "no stranger was reset");
    assert!(reset(&world, "no_ticket") > 0);
    assert_eq!(waited.unwrap(), (Got::Served, true));
    assert!(world.control("penalty", &["list"]).contains("deferred"));
}
