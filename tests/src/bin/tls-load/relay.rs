//! A long way in user space: what comes in at one side leaves at the other `delay_ms=` later, in order and without a limit on
//! how much is under way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Words;

/// Relays from `listen=` to `to=`.
pub(crate) async fn run(words: &Words) -> Result<()> {
    let (listen, to): (SocketAddr, SocketAddr) = (words.get("listen")?, words.get("to")?);
    let delay = Duration::from_micros((words.get::<f64>("delay_ms")? * 1e3) as u64);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (near, _) = listener.accept().await?;
        tokio::spawn(async move {
            let far = TcpStream::connect(to).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            let there = tokio::spawn(way(near_in, far_out, delay));
            let _ = way(far_in, near_out, delay).await;
            there.abort();
            std::io::Result::Ok(())
        });
    }
}

async fn way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
) -> std::io::Result<()> {
    let (put, mut take) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let leaving = tokio::spawn(async move {
        while let Some((due, bytes)) = take.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    });
    loop {
        let mut bytes = vec![0; 64 << 10];
        let n = from.read(&mut bytes).await?;
        if n == 0 {
            break;
        }
        bytes.truncate(n);
        let _ = put.send((Instant::now() + delay, bytes));
    }
    drop(put);
    leaving.await?
}
