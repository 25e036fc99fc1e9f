//! Clients that connect, shake hands, say goodbye and come again, so many at once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use edge_testbed::words::Words;

/// For one handshake; the longest that is measured waits a second for its key server, behind ten
/// thousand others.
const PATIENCE: Duration = Duration::from_secs(60);

struct Client {
    connector: TlsConnector,
    target: SocketAddr,
    name: ServerName<'static>,
}

/// What one handshake came to.
struct Met {
    took: Duration,
    kind: Option<HandshakeKind>,
    tls: String,
}

impl Client {
    /// By `version=` (1.2 or 1.3) and `group=` (x25519 or hybrid), with the suite that all servers
    /// agree on.
    fn new(words: &Words, sessions: Option<Arc<Sessions>>) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(words.get::<PathBuf>("ca")?).context("reading the root")?)?;
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|suite| {
            matches!(
                suite.suite(),
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            )
        });
        // X25519 first, which all take; P-256 too, or OpenSSL would show no certificate of it to a
        // client of TLS 1.2.
        provider
            .kx_groups
            .retain(|group| matches!(group.name(), NamedGroup::X25519 | NamedGroup::secp256r1));
        if words.get::<String>("group")? == "hybrid" {
            provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768];
        }
        let version: &[_] = match words.get::<String>("version")?.as_str() {
            "1.2" => &[&rustls::version::TLS12],
            _ => &[&rustls::version::TLS13],
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(version)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match sessions {
            Some(sessions) => Resumption::store(sessions),
            None => Resumption::disabled(),
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            target: words.get("target")?,
            name: ServerName::try_from(words.get::<String>("host")?)?,
        })
    }

    async fn visit(&self, there: Option<TcpStream>) -> Result<Met> {
        let start = Instant::now();
        let stream = match there {
            Some(stream) => stream,
            None => TcpStream::connect(self.target).await?,
        };
        stream.set_nodelay(true)?;
        let mut stream = self.connector.connect(self.name.clone(), stream).await?;
        let took = start.elapsed();
        let session = stream.get_ref().1;
        let met = Met {
            took,
            kind: session.handshake_kind(),
            tls: format!(
                "{:?} {:?} {:?}",
                session.protocol_version().context("a version")?,
                session.negotiated_cipher_suite().context("a suite")?.suite(),
                session.negotiated_key_exchange_group().map(|group| group.name())
            ),
        };
        // Goodbye, and the server's: it has then seen the end of the handshake, and its ticket has
        // come.
        stream.shutdown().await?;
        let mut rest = [0; 256];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
        Ok(met)
    }
}

/// `count=` handshakes, `parallel=` at once; with `resume=1` all resume, after some that do not
/// count.
pub(crate) async fn shake(words: &Words) -> Result<Value> {
    let (count, parallel): (usize, usize) = (words.get("count")?, words.get("parallel")?);
    let sessions = (words.get::<u8>("resume")? == 1).then(Arc::<Sessions>::default);
    let client = Arc::new(Client::new(words, sessions.clone())?);
    if sessions.is_some() {
        // All at once: one after the other, each would spend the ticket that the one before was
        // given.
        let mut first = JoinSet::new();
        for _ in 0..2 * parallel {
            let client = client.clone();
            first.spawn(async move { client.visit(None).await });
        }
        while let Some(visit) = first.join_next().await {
            visit??;
        }
    }
    // When all come at once, what is measured begins with their hellos, not in the listener's
    // queue.
    let mut there = Vec::new();
    if parallel == count {
        for _ in 0..count {
            there.push(TcpStream::connect(client.target).await?);
        }
    }
    let start = Instant::now();
    let mut visits = JoinSet::new();
    let (mut left, mut latencies, mut failed) = (count, Vec::with_capacity(count), Vec::new());
    let mut tls = String::new();
    while left > 0 || !visits.is_empty() {
        while left > 0 && visits.len() < parallel {
            left -= 1;
            let (client, there) = (client.clone(), there.pop());
            visits.spawn(async move {
                timeout(PATIENCE, client.visit(there))
                    .await
                    .context("no handshake in time")?
            });
        }
        let Some(visit) = visits.join_next().await else { break };
        match visit? {
            Ok(met) => {
                if sessions.is_some() != (met.kind == Some(HandshakeKind::Resumed)) {
                    bail!("a handshake was {:?}", met.kind);
                }
                latencies.push(met.took.as_secs_f64() * 1e3);
                tls = met.tls;
            }
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share).ceil() as usize;
        latencies.get(index.saturating_sub(1)).copied().unwrap_or_default()
    };
    Ok(json!({
        "ok": latencies.len(), "failed": failed.len(), "error": failed.first(), "seconds": start.elapsed().as_secs_f64(),
        "p50_ms": at(0.5), "p99_ms": at(0.99), "tls": tls,
    }))
}

/// Sessions to come back with: in TLS 1.2 the last one, in TLS 1.3 each once, and each visit brings
/// another.
#[derive(Debug, Default)]
struct Sessions {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        if let Ok(mut held) = self.tls12.lock() {
            *held = Some(value);
        }
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().ok()?.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Ok(mut held) = self.tls13.lock() {
            held.push_back(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().ok()?.pop_front()
    }
}
