//! Two upgraded connections joined: bytes both ways through bounded buffers, until both have ended
//! or neither says anything, or the time for it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::fleet::Group;
use super::metrics::Metrics;
use crate::config::Upstream;
use crate::http::switch::Switch;

/// Per direction; what a peer that reads slowly makes us hold.
const BUFFER: usize = 16 << 10;

/// Both sides have agreed already, so this only guards against a client that went away meanwhile.
const SWITCH: Duration = Duration::from_secs(10);

/// A place among the tunnels that a pool may have at once, all threads together. Given back when it
/// is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Group>);

impl Place {
    /// `None`: all are taken.
    pub(super) fn take(group: &Arc<Group>) -> Option<Arc<Self>> {
        let before = group.tunnels.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Self(group.clone()));
        let most = group.upstream.tunnels;
        most.is_none_or(|most| before < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a tunnel lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Without a byte either way.
    idle: Duration,
    /// In all; `None`: no limit.
    age: Option<Duration>,
}

impl Limits {
    /// Those of tunnels to the servers of `upstream`.
    pub(super) fn of(upstream: &Upstream) -> Self {
        Self {
            idle: upstream.tunnel_timeout.unwrap_or(upstream.body_timeout),
            age: upstream.tunnel_age,
        }
    }
}

/// Joins both sides once they have switched, within `limits`.
pub(super) async fn run(client: Switch, origin: OnUpgrade, metrics: &Metrics, limits: Limits) {
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
    join(client, TokioIo::new(origin), [&to_origin, &to_client], limits).await;
}

/// As [`run`], with a worker on the one side.
pub(super) async fn run_inside(worker: DuplexStream, origin: OnUpgrade, metrics: &Metrics, limits: Limits) {
    let Ok(Ok(origin)) = tokio::time::timeout(SWITCH, origin).await else {
        return;
    };
    metrics.tunnels.inc();
    let _open = Open(&metrics.tunnels);
    let [to_origin, to_worker] = metrics.tunnel_bytes();
    join(worker, TokioIo::new(origin), [&to_origin, &to_worker], limits).await;
}

struct Open<'a>(&'a Gauge);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn join<A, B>(a: A, b: B, counts: [&Counter; 2], limits: Limits)
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
            let until = begin + Duration::from_millis(active.load(Ordering::Relaxed)) + limits.idle;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    let age = async {
        match limits.age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = both => {}
        () = silence => {}
        () = age => {}
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

    fn limits(idle: u64, age: Option<u64>) -> Limits {
        Limits {
            idle: Duration::from_millis(idle),
            age: age.map(Duration::from_millis),
        }
    }

    /// A tunnel that is never silent would outlast what its operator allows.
    #[tokio::test]
    async fn age_ends_it() {
        let (mut client, a) = tokio::io::duplex(64);
        let (b, mut origin) = tokio::io::duplex(64);
        let count = Counter::default();
        let joined = tokio::spawn(async move { join(a, b, [&count, &count], limits(10_000, Some(600))).await });
        let begin = Instant::now();
        let mut four = [0; 4];
        while client.write_all(b"ping").await.is_ok() && origin.read_exact(&mut four).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        joined.await.unwrap();
        let lasted = begin.elapsed();
        assert!(
            lasted >= Duration::from_millis(550) && lasted < Duration::from_secs(5),
            "{lasted:?}"
        );
    }

    /// A silent tunnel would hold two connections for ever; a busy one must not be cut.
    #[tokio::test]
    async fn silence_ends_it_activity_does_not() {
        let (mut client, a) = tokio::io::duplex(64);
        let (b, mut origin) = tokio::io::duplex(64);
        let (to_b, to_a) = (Counter::default(), Counter::default());
        let (n, m) = (to_b.clone(), to_a.clone());
        let joined = tokio::spawn(async move { join(a, b, [&n, &m], limits(300, None)).await });
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
