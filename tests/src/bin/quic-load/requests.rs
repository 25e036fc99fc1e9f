//! Requests on connections that stay: so many at once on each, every answer in full.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use edge_testbed::words::Words;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client;

/// `count=` GETs of `path=` from `host=` at `target=`, each answer `bytes=` long, on `connections=`
/// with `streams=` at once.
pub(crate) async fn run(words: &Words) -> Result<Value> {
    let (connections, streams): (u64, u64) = (words.get("connections")?, words.get("streams")?);
    let (count, bytes): (u64, u64) = (words.get("count")?, words.get("bytes")?);
    let target: SocketAddr = words.get("target")?;
    let host: String = words.get("host")?;
    let url: Arc<str> = format!("https://{host}{}", words.get::<String>("path")?).into();
    let config = client::config(words)?;
    let endpoint = client::endpoint(Ipv4Addr::UNSPECIFIED)?;
    let mut open = Vec::new();
    for _ in 0..connections {
        let connection = endpoint.connect_with(config.clone(), target, &host)?.await?;
        open.push((client::speak(&connection).await?, connection));
    }
    let start = Instant::now();
    let taken = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for (requests, _) in &open {
        for _ in 0..streams {
            let (mut requests, url, taken) = (requests.clone(), url.clone(), taken.clone());
            workers.spawn(async move {
                while taken.fetch_add(1, Ordering::Relaxed) < count {
                    let got = client::get(&mut requests, &url).await?;
                    ensure!(got == bytes, "{url}: {got} bytes, not {bytes}");
                }
                Ok(())
            });
        }
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let seconds = start.elapsed().as_secs_f64();
    for (_, connection) in open {
        connection.close(quinn::VarInt::from_u32(0x100), b"");
    }
    endpoint.wait_idle().await;
    Ok(json!({ "ok": count, "failed": 0, "error": null, "seconds": seconds, "p50_ms": 0.0 }))
}
