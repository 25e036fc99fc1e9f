//! Twenty good clients, each of a zone of its own: a small request now and then on a connection
//! that is kept, and what it took.

use std::time::Duration;

use anyhow::{Result, ensure};
use edge_testbed::words::Words;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::wire::{Target, Tls};

const CLIENTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// For `seconds=`; hosts are `good0.` to `good19.` and `domain=`. Requests, failures, and the 99th
/// percentile in milliseconds.
pub(crate) async fn run(words: &Words) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs_f64(words.get("seconds")?);
    let domain: String = words.get("domain")?;
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let target = Target::new(words, format!("good{n}.{domain}"), "http/1.1")?;
        clients.spawn(client(target, end));
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(client) = clients.join_next().await {
        let (took, lost) = client?;
        times.extend(took);
        failed += lost;
    }
    times.sort_by(f64::total_cmp);
    let p99 = (times.len() * 99).div_ceil(100).saturating_sub(1);
    // If none got anything it was longer than they wait.
    let p99 = times.get(p99).copied().unwrap_or(PATIENCE.as_secs_f64() * 1_000.0);
    Ok(json!({ "requests": times.len(), "failed": failed, "p99_ms": p99 }))
}

async fn client(target: Target, end: Instant) -> (Vec<f64>, usize) {
    let (mut times, mut failed) = (Vec::new(), 0);
    let mut kept = None;
    while Instant::now() < end {
        let start = Instant::now();
        match timeout(PATIENCE, ask(&target, &mut kept)).await {
            Ok(Ok(())) => times.push(start.elapsed().as_secs_f64() * 1_000.0),
            _ => {
                failed += 1;
                kept = None;
            }
        }
        sleep(PAUSE).await;
    }
    (times, failed)
}

async fn ask(target: &Target, kept: &mut Option<Tls>) -> Result<()> {
    if kept.is_none() {
        *kept = Some(target.connect(None).await?);
    }
    let Some(tls) = kept else { return Ok(()) };
    let request = format!("GET /small HTTP/1.1\r\nHost: {}\r\n\r\n", target.host);
    tls.write_all(request.as_bytes()).await?;
    tls.flush().await?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(super::origin::SMALL.as_bytes()) {
        let read = tls.read(&mut piece).await?;
        ensure!(read > 0, "the connection ended");
        answer.extend(piece.get(..read).unwrap_or_default());
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "not what was asked for");
    Ok(())
}
