//! One connection: keeps so many queries under way, sends together what came free together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use edge::keyserver::wire::{ALPN, Answer, KeyId, KeyKind, Query, Reply, Request, Scheme, Transcript};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::arguments::Arguments;

/// What was got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) signed: u64,
    pub(crate) errors: u64,
    /// Of every 16th, in microseconds.
    latencies: Vec<u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, part: Self) {
        self.signed += part.signed;
        self.errors += part.errors;
        self.latencies.extend(part.latencies);
    }

    pub(crate) fn latency(&mut self, quantile: f64) -> Option<u64> {
        self.latencies.sort_unstable();
        let at = (self.latencies.len().checked_sub(1)? as f64 * quantile) as usize;
        self.latencies.get(at).copied()
    }
}

/// A client's TLS with its certificate.
pub(crate) fn tls(arguments: &Arguments) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&arguments.ca)? {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_file_iter(&arguments.certificate)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&arguments.private_key)?)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(tls))
}

/// A connection to the key server.
pub(crate) struct Connection {
    io: TlsStream<TcpStream>,
    input: Vec<u8>,
    next: u64,
}

impl Connection {
    pub(crate) async fn open(arguments: &Arguments, tls: Arc<ClientConfig>) -> Result<Self> {
        let tcp = TcpStream::connect(arguments.server).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(arguments.name.clone())?;
        let io = TlsConnector::from(tls).connect(name, tcp).await?;
        Ok(Self {
            io,
            input: Vec::with_capacity(64 << 10),
            next: 1,
        })
    }

    async fn reply(&mut self) -> Result<Reply> {
        loop {
            if let Some(decoded) = Reply::decode(&self.input)? {
                self.input.drain(..decoded.used);
                return Ok(decoded.content?);
            }
            if self.io.read_buf(&mut self.input).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    /// The key to ask for, and its scheme for TLS 1.3.
    pub(crate) async fn key(&mut self, wanted: Option<KeyId>) -> Result<(KeyId, Scheme)> {
        let mut cursor = KeyId::NONE;
        loop {
            let mut out = Vec::new();
            let (id, key) = (self.next, cursor);
            self.next += 1;
            Query {
                id,
                key,
                request: Request::List,
            }
            .encode(&mut out);
            self.io.write_all(&out).await?;
            let (more, keys) = match self.reply().await?.answer {
                Answer::Keys { more, keys } => (more, keys),
                other => bail!("the answer to `list` is {other:?}"),
            };
            let found = keys.iter().find(|key| match wanted {
                Some(id) => key.id() == id,
                None => key.kind == KeyKind::EcdsaP256,
            });
            if let Some(key) = found {
                let scheme = key.kind.schemes().first().context("a scheme")?;
                return Ok((key.id(), *scheme));
            }
            match keys.last() {
                Some(last) if more => cursor = last.id(),
                _ => bail!("the server has no such key for this client"),
            }
        }
    }

    /// Asks until the time is over, then collects what is under way.
    pub(crate) async fn load(
        mut self,
        key: KeyId,
        scheme: Scheme,
        pending: usize,
        until: Instant,
    ) -> Result<(Self, Tally)> {
        let mut tally = Tally::default();
        let mut sampled: HashMap<u64, Instant> = HashMap::new();
        let mut out = Vec::with_capacity(64 << 10);
        let mut under_way = 0;
        loop {
            let now = Instant::now();
            if now < until {
                while under_way < pending {
                    let id = self.next;
                    self.next += 1;
                    let mut hash = [0; 32];
                    hash[..8].copy_from_slice(&id.to_be_bytes());
                    let transcript = Transcript::Sha256(hash);
                    let request = Request::SignTls13 { scheme, transcript };
                    Query { id, key, request }.encode(&mut out);
                    if id.is_multiple_of(16) {
                        sampled.insert(id, now);
                    }
                    under_way += 1;
                }
            } else if under_way == 0 {
                return Ok((self, tally));
            }
            if !out.is_empty() {
                self.io.write_all(&out).await?;
                self.io.flush().await?;
                out.clear();
            }
            // One read, and every reply in it.
            if self.io.read_buf(&mut self.input).await? == 0 {
                bail!("the server closed the connection");
            }
            let mut used = 0;
            let arrived = Instant::now();
            while let Some(decoded) = Reply::decode(&self.input[used..])? {
                used += decoded.used;
                under_way -= 1;
                match decoded.content?.answer {
                    Answer::Signature(_) => tally.signed += 1,
                    _ => tally.errors += 1,
                }
                if let Some(sent) = sampled.remove(&decoded.id) {
                    let micros = arrived.saturating_duration_since(sent).as_micros();
                    tally.latencies.push(u64::try_from(micros).unwrap_or(u64::MAX));
                }
            }
            self.input.drain(..used);
        }
    }
}
