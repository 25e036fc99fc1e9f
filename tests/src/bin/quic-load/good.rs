//! Newcomers at a fixed rate, whatever happens: each with an address from a range, a connection and
//! a full handshake of its own, and no token from before.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use edge_testbed::interrupt;
use edge_testbed::words::Words;
use quinn::{ClientConfig, Endpoint};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{at, client};

/// What a client waits for its answer; one that never comes counts as this latency. Over two of its
/// probe time-outs.
const PATIENCE: Duration = Duration::from_secs(4);

/// Open loop: the n-th request starts at its time, and its latency counts from then. `rate=` a
/// second for `seconds=`, from `sources=` addresses that begin at `source=`.
pub(crate) async fn run(words: &Words) -> Result<Value> {
    let (source, sources): (Ipv4Addr, u32) = (words.get("source")?, words.get("sources")?);
    let (rate, seconds): (f64, f64) = (words.get("rate")?, words.get("seconds")?);
    let target: SocketAddr = words.get("target")?;
    let host: String = words.get("host")?;
    let config = client::config(words)?;
    let endpoints: Vec<Endpoint> = (0..sources)
        .map(|n| client::endpoint(Ipv4Addr::from_bits(source.to_bits() + n)))
        .collect::<Result<_>>()?;
    let attempts = (rate * seconds) as u64;
    let start = Instant::now();
    let mut visits = JoinSet::new();
    for (n, endpoint) in (0..attempts).zip(endpoints.iter().cycle()) {
        let due = start + Duration::from_secs_f64(n as f64 / rate);
        sleep_until(due).await;
        if interrupt::requested() {
            bail!("interrupted");
        }
        let visit = ask(endpoint.clone(), config.clone(), target, host.clone());
        visits.spawn(async move {
            let ok = matches!(timeout(PATIENCE, visit).await, Ok(Ok(_)));
            let latency = if ok { due.elapsed() } else { PATIENCE };
            (ok, latency.as_secs_f64() * 1e3)
        });
    }
    let (mut ok, mut latencies) = (0_u64, Vec::new());
    while let Some(visit) = visits.join_next().await {
        let (served, latency) = visit?;
        ok += u64::from(served);
        latencies.push(latency);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(json!({
        "attempts": attempts, "ok": ok, "seconds": seconds, "p50_ms": at(&latencies, 0.5), "p99_ms": at(&latencies, 0.99),
    }))
}

async fn ask(endpoint: Endpoint, config: ClientConfig, target: SocketAddr, host: String) -> Result<u64> {
    let connection = endpoint.connect_with(config, target, &host)?.await?;
    let mut requests = client::speak(&connection).await?;
    let got = client::get(&mut requests, &format!("https://{host}/page")).await;
    connection.close(quinn::VarInt::from_u32(0x100), b"");
    got
}
