//! The key servers that the configuration names: how each is reached, how it does, and this node's
//! connections to it, one per worker. `certificates` builds the zones' routes of them; a reload
//! keeps those that have not changed, with their connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use ring::digest::{SHA256, digest};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Notify, watch};

use super::health::{Breaker, Health};
use super::link::Link;
use super::metrics::Metrics;
use super::target::Target;
use crate::base::{file, link, pem};
use crate::config::{self, Mistake, Place};
use crate::keyserver::wire;
use crate::tls::{pem_file, trust};

/// One key server.
#[derive(Debug)]
pub struct Server {
    target: Arc<Target>,
    priority: u16,
    /// Of the configuration and the files it names: what a reload compares.
    fingerprint: [u8; 32],
    links: Mutex<HashMap<ThreadId, Arc<Link>>>,
    /// Dropped with the server, it ends the connections.
    alive: watch::Sender<()>,
}

impl Server {
    pub(super) fn priority(&self) -> u16 {
        self.priority
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The calling worker's connection, started if there is none.
    pub(super) fn link(&self) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links
            .entry(thread::current().id())
            .or_insert_with(|| Link::start(self.target.clone(), self.alive.subscribe()))
            .clone()
    }

    /// This worker's connection, where a request may be sent to it now.
    pub(super) fn open(&self) -> Option<Arc<Link>> {
        if self.target.health.breaker(self.target.now()) == Breaker::Open {
            return None;
        }
        Some(self.link()).filter(|link| link.usable())
    }

    fn read(
        server: &config::KeyServer,
        metrics: &Metrics,
        changed: &Arc<Notify>,
        warnings: &mut Vec<Mistake>,
    ) -> Result<Self, Mistake> {
        let (mut config, fingerprint) = client(server, warnings)?;
        config.alpn_protocols = vec![wire::ALPN.to_vec()];
        Ok(Self {
            priority: server.priority,
            fingerprint,
            target: Arc::new(Target {
                name: server.name.to_string(),
                address: server.address,
                server_name: server.expected(),
                tls: Arc::new(config),
                health: Health::default(),
                handles: metrics.of(&server.name),
                changed: changed.clone(),
                started: Instant::now(),
            }),
            links: Mutex::default(),
            alive: watch::Sender::new(()),
        })
    }
}

/// All key servers of a configuration.
#[derive(Clone, Debug, Default)]
pub struct KeyServers {
    servers: HashMap<String, Arc<Server>>,
    metrics: Metrics,
    changed: Arc<Notify>,
}

impl KeyServers {
    /// Reads the files that the servers' entries name; nothing is connected. Servers that are as
    /// they were in `before` go on. Certificates of this node's that have expired, or soon will,
    /// are warned of.
    ///
    /// A server whose files cannot be used is left out; the second map says why, by its name.
    pub fn load(
        servers: &[config::KeyServer],
        before: Option<&Self>,
        warnings: &mut Vec<Mistake>,
    ) -> (Self, HashMap<String, Mistake>) {
        let mut this = Self {
            servers: HashMap::new(),
            metrics: before.map(|before| before.metrics.clone()).unwrap_or_default(),
            changed: before.map(|before| before.changed.clone()).unwrap_or_default(),
        };
        let mut failed = HashMap::new();
        for server in servers {
            match Server::read(server, &this.metrics, &this.changed, warnings) {
                Ok(new) => {
                    let old = before.and_then(|before| before.servers.get(&*server.name));
                    let same = old.filter(|old| old.fingerprint == new.fingerprint);
                    let kept = same.cloned().unwrap_or_else(|| Arc::new(new));
                    this.servers.insert(server.name.to_string(), kept);
                }
                Err(mistake) => {
                    failed.insert(server.name.to_string(), mistake);
                }
            }
        }
        (this, failed)
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers.get(name)
    }

    /// What they count; to be registered once.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Starts the calling worker's connections, so that its first handshakes need not wait for
    /// them.
    pub fn connect(&self) {
        for server in self.servers.values() {
            server.link();
        }
    }
}

/// rustls's configuration towards a key server, and the fingerprint of all that went into it.
fn client(server: &config::KeyServer, warnings: &mut Vec<Mistake>) -> Result<(ClientConfig, [u8; 32]), Mistake> {
    let read = |(path, place): &(std::path::PathBuf, Place)| {
        file::read(path).map_err(|error| {
            place.mistake(
                format!("{}: {error}", path.display()),
                "name a file that is there and that edge may read",
            )
        })
    };
    let (ca, certificate, key) = (read(&server.ca)?, read(&server.certificate)?, read(&server.key)?);
    let broken = |(path, place): &(std::path::PathBuf, Place), what: &str, mend: &str| {
        place.mistake(format!("{} {what}", path.display()), mend)
    };
    let unread = |(path, place): &(std::path::PathBuf, Place), unread: &pem::Unread| {
        place.mistake(format!("{}: {unread}", path.display()), unread.mend())
    };
    let mut roots = RootCertStore::empty();
    let listed = pem::certificates(&ca).map_err(|error| unread(&server.ca, &error))?;
    for root in &listed {
        roots.add(root.clone()).map_err(|_| {
            broken(
                &server.ca,
                "has a certificate that is no root",
                "name the CA that signed the key server's certificate",
            )
        })?;
    }
    let chain = pem::certificates(&certificate).map_err(|error| unread(&server.certificate, &error))?;
    let (path, place) = &server.certificate;
    warnings.extend(chain.first().and_then(|leaf| pem_file::aging(leaf, path, place)));
    let private = pem::private_key(&key).map_err(|error| unread(&server.key, &error))?;
    let config = ClientConfig::builder_with_provider(link::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(trust::servers(Arc::new(roots), listed))
                .with_client_auth_cert(chain, private)
        })
        .map_err(|error| {
            let what = format!("cannot be used with {}: {error}", server.certificate.0.display());
            broken(&server.key, &what, "name the key the certificate was made for")
        })?;
    let mut all = format!("{server:?}").into_bytes();
    all.extend(digest(&SHA256, &ca).as_ref());
    all.extend(digest(&SHA256, &certificate).as_ref());
    all.extend(digest(&SHA256, &key).as_ref());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, &all).as_ref());
    Ok((config, fingerprint))
}
