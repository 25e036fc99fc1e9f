//! An edge that has one key server sign without a pause: `count=` transcripts, `window=` of them
//! under way; or that asks it for life, to tell how far away it is. The frames are those of
//! docs/keyless.md, written here once more: the bench needs no part of the daemon to be built.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use edge_testbed::words::Words;

/// Behind the length: id, op, key, scheme, a SHA-256.
const LENGTH: u32 = 8 + 1 + 32 + 2 + 32;
const SIGN_TLS13: u8 = 1;
const SIGNATURE: u8 = 0x81;
/// Behind the length: id, op, no key.
const PING_LENGTH: u32 = 8 + 1 + 32;
const PING: u8 = 10;
const PONG: u8 = 0x80;

async fn connect(words: &Words) -> Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(words.get::<PathBuf>("ca")?)?)?;
    let chain = vec![CertificateDer::from_pem_file(words.get::<PathBuf>("certificate")?)?];
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(words.get::<PathBuf>("key")?)?)?;
    config.alpn_protocols = vec![b"edge-keyless/1".to_vec()];
    let stream = TcpStream::connect(words.get::<std::net::SocketAddr>("target")?).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(words.get::<String>("host")?)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// The median time of `count=` pings, one after the other: what the way to the key server takes,
/// and nothing of keys.
pub(crate) async fn ping(words: &Words) -> Result<Value> {
    let count: u64 = words.get("count")?;
    let mut stream = connect(words).await?;
    let begin = Instant::now();
    let mut took = Vec::new();
    for id in 1..=count {
        let mut query = Vec::new();
        query.extend(PING_LENGTH.to_be_bytes());
        query.extend(id.to_be_bytes());
        query.push(PING);
        query.extend([0; 32]);
        let start = Instant::now();
        stream.write_all(&query).await?;
        stream.flush().await?;
        let mut reply = [0; 4 + 9];
        stream.read_exact(&mut reply).await?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(reply.ends_with(&[PONG]), "the key server answers {reply:?}");
    }
    took.sort_by(f64::total_cmp);
    let p50 = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok(json!({ "ok": count, "failed": 0, "error": null, "seconds": begin.elapsed().as_secs_f64(), "p50_ms": p50 }))
}

/// Signs, and says how long it took.
pub(crate) async fn sign(words: &Words) -> Result<Value> {
    let (count, window): (u64, u64) = (words.get("count")?, words.get("window")?);
    let key = id(&words.get::<String>("id")?)?;
    let mut stream = connect(words).await?;
    let start = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    let mut bytes = Vec::new();
    while answered < count {
        let mut batch = Vec::new();
        while sent < count && sent - answered < window {
            sent += 1;
            batch.extend(LENGTH.to_be_bytes());
            batch.extend(sent.to_be_bytes());
            batch.push(SIGN_TLS13);
            batch.extend(key);
            batch.extend(0x0403_u16.to_be_bytes());
            batch.extend([sent as u8; 32]);
        }
        stream.write_all(&batch).await?;
        stream.flush().await?;
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the key server has closed");
        let mut used = 0;
        while let Some((length, rest)) = bytes.get(used..).and_then(|bytes| bytes.split_first_chunk()) {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(frame) = rest.get(..length) else { break };
            let kind = frame.get(8).context("a frame without a kind")?;
            ensure!(*kind == SIGNATURE, "the key server answers {kind:#x}: {frame:?}");
            used += 4 + length;
            answered += 1;
        }
        bytes.drain(..used);
    }
    Ok(json!({ "ok": answered, "failed": 0, "error": null, "seconds": start.elapsed().as_secs_f64(), "p50_ms": 0.0 }))
}

fn id(hex: &str) -> Result<[u8; 32]> {
    let mut id = [0; 32];
    ensure!(hex.len() == 64, "{hex} is no key's id");
    for (index, byte) in id.iter_mut().enumerate() {
        let digits = hex.get(2 * index..2 * index + 2).context("an id in ASCII")?;
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(id)
}
