//! Two upgraded connections joined: bytes both ways through bounded buffers, until both have ended
//! or neither says anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::metrics::Metrics;
use crate::http::switch::Switch;

/// Per direction; what a peer that reads slowly makes us hold.
const BUFFER: usize = 16 << 10;

/// Both sides have agreed already, so this only guards against a client that went away meanwhile.
const SWITCH: Duration = Duration::from_secs(10);

/// Joins both sides once they have switched; `idle` without a byte either way ends it.
pub(super) async fn run(client: Switch, origin: OnUpgrade, metrics: &Metrics, idle: Duration) {
    let both = async {
        let origin = async { origin.await.ok() };
        let (client, origin) = tokio::join!(client.switched(), origin);
        client.zip(origin)
    };
    let Ok(Some((client, origin))) = tokio::time::timeout(SWITCH, both).await else {
        tracing::debug!("an upgrade was agreed on, but one side did not switch");
        return;
    };
    metrics.tunnels.inc();
    let _open = Open(&metrics.tunnels);
    let [to_origin, to_client] = metrics.tunnel_bytes();
    join(client, TokioIo::new(origin), [&to_origin, &to_client], idle).await;
}

/// As [`run`], with a worker on the one side.
pub(super) async fn run_inside(worker: DuplexStream, origin: OnUpgrade, metrics: &Metrics, idle: Duration) {
    let Ok(Ok(origin)) = tokio::time::timeout(SWITCH, origin).await else {
        return;
    };
    metrics.tunnels.inc();
    let _open = Open(&metrics.tunnels);
    let [to_origin, to_worker] = metrics.tunnel_bytes();
    join(worker, TokioIo::new(origin), [&to_origin, &to_worker], idle).await;
}

struct Open<'a>(&'a Gauge);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn join<A, B>(a: A, b: B, counts: [&Counter; 2], idle: Duration)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let begin = Instant::now();
    let active = AtomicU64::new(0);
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    let [to_b, to_a] = counts;
    let both = async {
        // An error of either direction ends both: half a tunnel would wait for an answer that
        // cannot come.
        let _ = tokio::try_join!(
            pump(a_read, b_write, to_b, begin, &active),
            pump(b_read, a_write, to_a, begin, &active),
        );
    };
    let silence = async {
        loop {
            let until = begin + Duration::from_millis(active.load(Ordering::Relaxed)) + idle;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::select! {
        () = both => {}
        () = silence => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &Counter,
    begin: Instant,
    active: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(bytes).await?;
        to.flush().await?;
        count.inc_by(n as u64);
        active.store(
            u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A silent tunnel would hold two connections for ever; a busy one must not be cut.
    #[tokio::test]
    async fn silence_ends_it_activity_does_not() {
        let (mut client, a) = tokio::io::duplex(64);
        let (b, mut origin) = tokio::io::duplex(64);
        let (to_b, to_a) = (Counter::default(), Counter::default());
        let (n, m) = (to_b.clone(), to_a.clone());
        let joined = tokio::spawn(async move { join(a, b, [&n, &m], Duration::from_millis(300)).await });
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            client.write_all(b"ping").await.unwrap();
            let mut four = [0; 4];
            origin.read_exact(&mut four).await.unwrap();
        }
        assert!(!joined.is_finished());
        let start = Instant::now();
        joined.await.unwrap();
        assert!(start.elapsed() <= Duration::from_millis(1_000));
        assert_eq!((to_b.get(), to_a.get()), (20, 0));
    }
}
