//! A key server of the tests, built on the wire format alone, that can misbehave in every way a
//! real one might.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::config::{KeyServer, Place};
use crate::keyserver::wire::{self, Answer, ErrorCode, Group, KeyInfo, Query, Reply, Request, Secret, Share};

/// How it behaves; changed at any time.
#[derive(Debug, Default)]
pub(crate) struct Mood {
    /// Answers come so many milliseconds late.
    pub(crate) delay: AtomicU64,
    /// Takes requests and never answers.
    pub(crate) wedged: AtomicBool,
    /// Signs by another key.
    pub(crate) wrong_key: AtomicBool,
    /// Answers with frames whose content is malformed.
    pub(crate) malformed: AtomicBool,
    /// Answers with bytes that are no frames.
    pub(crate) garbage: AtomicBool,
    /// Answers everything with this error's code; 0: does not.
    pub(crate) error: AtomicUsize,
    /// Requests but pings that have come.
    pub(crate) asked: AtomicUsize,
}

/// The certificates that clients, edges and key servers of one test have.
pub(crate) struct Pki {
    pub(crate) directory: tempfile::TempDir,
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

pub(crate) fn place() -> Place {
    Place {
        file: "test.toml".into(),
        line: 1,
        key: "test".into(),
    }
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn leaf(&self, name: &str) -> (CertificateDer<'static>, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        (self.leaf_of(name, &key), key)
    }

    pub(crate) fn leaf_of(&self, name: &str, key: &rcgen::KeyPair) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// What an edge's configuration would say of the key server at `address`.
    pub(crate) fn entry(&self, name: &str, address: SocketAddr, priority: u16) -> KeyServer {
        if !self.path("edge.pem").exists() {
            let (certificate, key) = self.leaf("edge");
            let pem = |label: &str, der: &[u8]| {
                let text = data_encoding::BASE64.encode(der);
                format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
            };
            std::fs::write(self.path("edge.pem"), pem("CERTIFICATE", &certificate)).unwrap();
            std::fs::write(self.path("edge.key"), key.serialize_pem()).unwrap();
        }
        KeyServer {
            name: name.into(),
            address,
            server_name: Some("keys.test".to_owned()),
            ca: (self.path("ca.pem"), place()),
            certificate: (self.path("edge.pem"), place()),
            key: (self.path("edge.key"), place()),
            priority,
        }
    }
}

/// One that runs; dropped, it is killed with all its connections.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) mood: Arc<Mood>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Kills it with all its connections.
    pub(crate) fn task_abort(&self) {
        self.task.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts one with the key in `pkcs8`; `at` is where an earlier one was.
pub(crate) async fn start(pki: &Pki, pkcs8: Vec<u8>, mood: Arc<Mood>, at: Option<SocketAddr>) -> Running {
    let (certificate, key) = pki.leaf("keys.test");
    let mut roots = RootCertStore::empty();
    roots.add(pki.root()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    config.alpn_protocols = vec![wire::ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap()))
        .unwrap();
    let listener: TcpListener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let served = mood.clone();
    let key = Arc::new(rcgen::KeyPair::try_from(pkcs8).unwrap());
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, mood, key) = (acceptor.clone(), served.clone(), key.clone());
            connections.spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, mood, key).await;
                }
            });
        }
    });
    Running { address, mood, task }
}

async fn serve(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    mood: Arc<Mood>,
    key: Arc<rcgen::KeyPair>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (answers, mut coming) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let write = async {
        while let Some(frame) = coming.recv().await {
            if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
    };
    let handles: Arc<Mutex<HashMap<u64, (Group, EphemeralPrivateKey)>>> = Arc::default();
    let read = async {
        let mut bytes = Vec::new();
        loop {
            while let Some(frame) = Query::decode(&bytes).unwrap() {
                bytes.drain(..frame.used);
                let query = frame.content.unwrap();
                if query.request != Request::Ping {
                    mood.asked.fetch_add(1, SeqCst);
                }
                if mood.wedged.load(SeqCst) {
                    continue;
                }
                let mut out = Vec::new();
                let answer = answer(&query, &mood, &key, &handles);
                Reply { id: query.id, answer }.encode(&mut out);
                if mood.malformed.load(SeqCst) {
                    // A kind of answer that there is not.
                    out[12] = 0x42;
                }
                if mood.garbage.load(SeqCst) {
                    out = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
                }
                let delay = mood.delay.load(SeqCst);
                if delay == 0 || query.request == Request::Ping {
                    answers.send(out).unwrap();
                } else {
                    let answers = answers.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(delay)).await;
                        let _ = answers.send(out);
                    });
                }
            }
            if reader.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    tokio::select! { () = write => {} () = read => {} }
}

fn answer(
    query: &Query,
    mood: &Mood,
    key: &rcgen::KeyPair,
    handles: &Mutex<HashMap<u64, (Group, EphemeralPrivateKey)>>,
) -> Answer {
    use rcgen::{PublicKeyData, SigningKey};
    if let Some(code) = ErrorCode::from_code(mood.error.load(SeqCst) as u8) {
        return Answer::Error(code);
    }
    let sign = |message: &[u8]| {
        if mood.wrong_key.load(SeqCst) {
            let other = rcgen::KeyPair::generate().unwrap();
            return Answer::Signature(other.sign(message).unwrap());
        }
        Answer::Signature(key.sign(message).unwrap())
    };
    let ephemeral = |group: Group| {
        let algorithm = match group {
            Group::X25519 => &agreement::X25519,
            Group::Secp256r1 => &agreement::ECDH_P256,
            Group::Secp384r1 => &agreement::ECDH_P384,
        };
        let private = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new()).unwrap();
        let share = Share::new(group, private.compute_public_key().unwrap().as_ref()).unwrap();
        (private, share)
    };
    let agree = |private: EphemeralPrivateKey, peer: &Share| {
        let peer = UnparsedPublicKey::new(private.algorithm(), peer.bytes().to_vec());
        agreement::agree_ephemeral(private, &peer, Secret::new)
    };
    match &query.request {
        Request::Ping => Answer::Pong,
        Request::List => Answer::Keys {
            more: false,
            keys: vec![KeyInfo {
                kind: wire::KeyKind::EcdsaP256,
                ops: wire::KeyKind::EcdsaP256.ops(),
                spki: key.subject_public_key_info(),
            }],
        },
        _ if query.key != wire::KeyId::of_spki(&key.subject_public_key_info()) => Answer::Error(ErrorCode::UnknownKey),
        Request::SignTls13 { transcript, .. } => sign(&wire::tls13(transcript)),
        Request::SignTls12 {
            client_random,
            server_random,
            share,
            ..
        } => sign(&wire::tls12(client_random, server_random, share)),
        Request::KxStart { group } => {
            let (private, share) = ephemeral(*group);
            let mut handles = handles.lock().unwrap();
            let handle = handles.len() as u64 + 1;
            handles.insert(handle, (*group, private));
            Answer::KxStarted { handle, share }
        }
        Request::KxFinish { handle, peer } => match handles.lock().unwrap().remove(handle) {
            Some((_, private)) => agree(private, peer).map_or(Answer::Error(ErrorCode::Malformed), Answer::Secret),
            None => Answer::Error(ErrorCode::UnknownHandle),
        },
        Request::KxTls13 { peer } => {
            let (private, share) = ephemeral(peer.group());
            match agree(private, peer) {
                Ok(secret) => Answer::KxDone { share, secret },
                Err(_) => Answer::Error(ErrorCode::Malformed),
            }
        }
        _ => Answer::Error(ErrorCode::UnknownOp),
    }
}
