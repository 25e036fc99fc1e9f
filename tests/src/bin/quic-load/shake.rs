//! Handshakes and nothing else: each on a connection of its own, in full, until the server has
//! opened its control stream, which it does when the handshake is over.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edge_testbed::words::Words;
use quinn::{ClientConfig, Endpoint};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{at, client};

/// For one handshake: thousands wait for one core, behind a key server that takes seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// `count=` handshakes with `host=` at `target=`, `parallel=` at once.
pub(crate) async fn run(words: &Words) -> Result<Value> {
    let (count, parallel): (usize, usize) = (words.get("count")?, words.get("parallel")?);
    let target: SocketAddr = words.get("target")?;
    let host: String = words.get("host")?;
    let config = client::config(words)?;
    let endpoint = client::endpoint(Ipv4Addr::UNSPECIFIED)?;
    let start = Instant::now();
    let mut visits = JoinSet::new();
    let (mut left, mut latencies, mut failed) = (count, Vec::with_capacity(count), Vec::new());
    while left > 0 || !visits.is_empty() {
        while left > 0 && visits.len() < parallel {
            left -= 1;
            let visit = visit(endpoint.clone(), config.clone(), target, host.clone());
            visits.spawn(async move { timeout(PATIENCE, visit).await.context("no handshake in time")? });
        }
        match visits.join_next().await {
            Some(Ok(Ok(took))) => latencies.push(took.as_secs_f64() * 1e3),
            Some(Ok(Err(error))) => failed.push(format!("{error:#}")),
            Some(Err(error)) => failed.push(error.to_string()),
            None => break,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    endpoint.wait_idle().await;
    latencies.sort_by(f64::total_cmp);
    Ok(json!({
        "ok": latencies.len(), "failed": failed.len(), "error": failed.first(), "seconds": seconds,
        "p50_ms": at(&latencies, 0.5), "p99_ms": at(&latencies, 0.99), "max_ms": at(&latencies, 1.0),
    }))
}

async fn visit(endpoint: Endpoint, config: ClientConfig, target: SocketAddr, host: String) -> Result<Duration> {
    let start = Instant::now();
    let connection = endpoint.connect_with(config, target, &host)?.await?;
    // A client that closed at once would not have sent its Finished.
    let _control = connection.accept_uni().await?;
    let took = start.elapsed();
    connection.close(quinn::VarInt::from_u32(0x100), b"");
    Ok(took)
}
