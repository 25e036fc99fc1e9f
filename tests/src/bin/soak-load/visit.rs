//! Visitors: each takes a zone and a version, connects, asks some, goes, and comes again as
//! another; what is not as it must be is a line of JSON at once, and what was done in all is one at
//! the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use edge_testbed::changing::Noise;
use edge_testbed::interrupt;
use edge_testbed::words::Words;
use serde_json::json;
use tokio::task::LocalSet;

use crate::client::{Changed, Clients, Speech};
use crate::content;
use crate::request::{Fault, ZONES, Zone};

/// Nothing takes longer on a machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// A visitor asks at most that often on one connection.
const ASKS: u64 = 12;

struct Tally {
    right: BTreeMap<(Zone, Speech), u64>,
    failed: u64,
}

/// How a visit ended badly.
enum Trouble {
    Wrong(String),
    Refused(u16),
    Broken(String),
}

/// `visitors=` at once for `seconds=`, of `seed=`; of `zones=` (names with commas) alone if that is
/// written.
pub(crate) async fn run(words: &Words) -> Result<()> {
    interrupt::install();
    let clients = Rc::new(Clients::new(words)?);
    let until = Instant::now() + Duration::from_secs(words.get("seconds")?);
    let (visitors, seed): (u64, u64) = (words.get("visitors")?, words.get("seed")?);
    let named: String = words.get("zones").unwrap_or_default();
    let zones: Vec<Zone> = ZONES
        .into_iter()
        .filter(|zone| named.is_empty() || named.split(',').any(|name| name == zone.name()))
        .collect();
    anyhow::ensure!(!zones.is_empty(), "no such zone: {named}");
    let pause = Duration::from_millis(words.get("pause_ms").unwrap_or(20));
    let tally = Rc::new(RefCell::new(Tally {
        right: BTreeMap::new(),
        failed: 0,
    }));
    let set = LocalSet::new();
    for visitor in 0..visitors {
        let (clients, tally, zones) = (clients.clone(), tally.clone(), zones.clone());
        let mut noise = Noise::new(seed.wrapping_mul(1_000_003).wrapping_add(visitor));
        set.spawn_local(async move {
            while Instant::now() < until && !interrupt::requested() {
                let zone = usize::try_from(noise.below(zones.len() as u64)).unwrap_or(0);
                let Some(zone) = zones.get(zone).copied() else { continue };
                visit(&clients, zone, &mut noise, &tally).await;
                tokio::time::sleep(pause).await;
            }
        });
    }
    set.await;
    let tally = tally.borrow();
    let right: BTreeMap<String, u64> = tally
        .right
        .iter()
        .map(|((zone, speech), count)| (format!("{} {}", zone.name(), speech.name()), *count))
        .collect();
    println!("{}", json!({ "right": right, "failed": tally.failed }));
    Ok(())
}

/// One connection's life.
async fn visit(clients: &Clients, zone: Zone, noise: &mut Noise, tally: &RefCell<Tally>) {
    let speech = match noise.below(3) {
        0 => Speech::H1,
        1 => Speech::H2,
        _ => Speech::H3,
    };
    let (old, asks) = (noise.below(4) == 0, 1 + noise.below(ASKS));
    let mut began = now_ms();
    let mut asked = "connecting".to_owned();
    let told = |began: u64, asked: &str, trouble: &Trouble| {
        let (kind, words) = match trouble {
            Trouble::Wrong(words) => ("wrong", words.clone()),
            Trouble::Refused(status) => ("refused", format!("status {status}")),
            Trouble::Broken(words) => ("broken", words.clone()),
        };
        println!(
            "{}",
            json!({
                "began_ms": began, "ended_ms": now_ms(), "zone": zone.name(), "version": speech.name(), "kind": kind,
                "asked": asked, "words": words,
            })
        );
        tally.borrow_mut().failed += 1;
    };
    let connection = tokio::time::timeout(PATIENCE, clients.connect(speech, old, &zone.host())).await;
    let mut connection = match connection.context("no connection in time").and_then(|result| result) {
        Ok(connection) => connection,
        Err(error) => return told(began, &asked, &Trouble::Broken(format!("{error:#}"))),
    };
    for _ in 0..asks {
        if interrupt::requested() {
            break;
        }
        began = now_ms();
        let result = match zone.ask(noise) {
            Ok(ask) => {
                asked = ask.request.uri().path().to_owned();
                let answer = tokio::time::timeout(PATIENCE, connection.exchange(ask.request.clone())).await;
                match answer.context("no answer in time").and_then(|result| result) {
                    Ok(answer) => ask.judge(&answer).map_err(|fault| match fault {
                        Fault::Wrong(words) => Trouble::Wrong(words),
                        Fault::Refused(status) => Trouble::Refused(status),
                    }),
                    Err(error) => Err(Trouble::Broken(format!("{error:#}"))),
                }
            }
            Err(error) => Err(Trouble::Wrong(format!("a request that cannot be made: {error:#}"))),
        };
        match result {
            Ok(()) => *tally.borrow_mut().right.entry((zone, speech)).or_default() += 1,
            Err(trouble @ Trouble::Broken(_)) => {
                told(began, &asked, &trouble);
                return connection.close();
            }
            Err(trouble) => told(began, &asked, &trouble),
        }
    }
    if zone == Zone::Plain && speech == Speech::H1 {
        began = now_ms();
        let pieces: Vec<Vec<u8>> = (0..4).map(|n| content::content(noise.draw(), 1 + 9_000 * n)).collect();
        let tunnel = tokio::time::timeout(PATIENCE, connection.tunnel(&zone.host(), &pieces)).await;
        match tunnel.context("no tunnel in time").and_then(|result| result) {
            Ok(101) => *tally.borrow_mut().right.entry((zone, speech)).or_default() += 1,
            Ok(status) => told(began, "tunnel", &Trouble::Refused(status)),
            Err(error) if error.is::<Changed>() => told(began, "tunnel", &Trouble::Wrong(format!("{error:#}"))),
            Err(error) => told(began, "tunnel", &Trouble::Broken(format!("{error:#}"))),
        }
        return;
    }
    connection.close();
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
