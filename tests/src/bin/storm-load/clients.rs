//! TLS clients: those who ask at a fixed rate whatever happens, and those who ask again at once
//! whatever they are told. Every request has a connection and a full handshake of its own, as
//! clients have that are sent away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_testbed::interrupt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use crate::arguments::Load;

/// What a good client waits for an answer; one that never comes counts as this latency.
const PATIENCE: Duration = Duration::from_secs(2);
/// A retrier gives up on a connection and makes another.
const IMPATIENCE: Duration = Duration::from_millis(500);
/// After an answer or a refusal: long enough that the load generator's own core is not what is
/// measured.
const RETRY: Duration = Duration::from_millis(1);

#[derive(Clone)]
struct Client {
    connector: TlsConnector,
    target: SocketAddr,
    name: ServerName<'static>,
    request: Arc<str>,
}

impl Client {
    fn new(load: &Load) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&load.ca).context("reading the root's certificate")?)?;
        // Two providers are compiled in, so neither is the default.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            target: load.target.into(),
            name: ServerName::try_from(load.host.clone())?,
            request: format!("GET /page HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", load.host).into(),
        })
    }

    /// One request on a connection of its own; the status.
    async fn ask(&self, source: std::net::Ipv4Addr) -> Result<u16> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let stream = socket.connect(self.target).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.connector.connect(self.name.clone(), stream).await?;
        stream.write_all(self.request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::with_capacity(4096);
        // A connection that ends without TLS's goodbye is no fault of the answer.
        if let Err(error) = stream.read_to_end(&mut answer).await
            && answer.is_empty()
        {
            return Err(error.into());
        }
        let head = answer.get(..12).context("no status line")?;
        Ok(std::str::from_utf8(head)?.get(9..12).unwrap_or_default().parse()?)
    }
}

fn block_on(work: impl Future<Output = Result<Value>>) -> Result<Value> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Open loop: the n-th request starts at its time, and its latency counts from then.
pub(crate) fn good(load: &Load) -> Result<Value> {
    let client = Client::new(load)?;
    block_on(async {
        let count = (load.rate * load.time.as_secs_f64()) as u64;
        let start = Instant::now();
        let mut requests = JoinSet::new();
        for n in 0..count {
            let due = start + Duration::from_secs_f64(n as f64 / load.rate);
            sleep_until(due).await;
            if interrupt::requested() {
                anyhow::bail!("interrupted");
            }
            let (client, source) = (client.clone(), load.address(n));
            requests.spawn(async move {
                let answer = timeout(PATIENCE, client.ask(source)).await;
                let ok = matches!(answer, Ok(Ok(200)));
                let latency = if ok { due.elapsed() } else { PATIENCE };
                (ok, latency.as_secs_f64() * 1e3)
            });
        }
        let (mut ok, mut latencies) = (0_u64, Vec::new());
        while let Some(done) = requests.join_next().await {
            let (served, latency) = done?;
            ok += u64::from(served);
            latencies.push(latency);
        }
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share).ceil() as usize;
            latencies.get(index.saturating_sub(1)).copied().unwrap_or_default()
        };
        Ok(
            json!({ "attempts": count, "ok": ok, "seconds": load.time.as_secs_f64(), "p50_ms": at(0.5), "p99_ms": at(0.99) }),
        )
    })
}

/// One client per source, each with one request at a time, the next one at once.
pub(crate) fn retry(load: &Load) -> Result<Value> {
    let client = Client::new(load)?;
    block_on(async {
        let end = Instant::now() + load.time;
        let (report, mut reports) = mpsc::unbounded_channel();
        let mut retriers = JoinSet::new();
        for n in 0..u64::from(load.sources) {
            let (client, source, report) = (client.clone(), load.address(n), report.clone());
            retriers.spawn(async move {
                while Instant::now() < end && !interrupt::requested() {
                    let status = match timeout(IMPATIENCE, client.ask(source)).await {
                        Ok(Ok(status)) => status,
                        // Zero: refused, reset, or nothing at all.
                        _ => 0,
                    };
                    let _ = report.send(status);
                    sleep(RETRY).await;
                }
            });
        }
        drop(report);
        let (mut attempts, mut served, mut told, mut silent) = (0_u64, 0_u64, 0_u64, 0_u64);
        while let Some(status) = reports.recv().await {
            attempts += 1;
            match status {
                200 => served += 1,
                429 | 503 => told += 1,
                _ => silent += 1,
            }
        }
        Ok(
            json!({ "attempts": attempts, "ok": served, "rejected": told, "unanswered": silent,
            "seconds": load.time.as_secs_f64() }),
        )
    })
}
