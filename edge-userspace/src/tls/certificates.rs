//! Certificates by server name: loaded from the zones' PEM files, checked as far as files alone allow, and held as one
//! snapshot that a reload swaps whole. A certificate's key is a file, whose bytes are zeroized once rustls has them and never
//! printed, or a route to key servers.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::{Zeroize, Zeroizing};

use super::clients;
#[cfg(feature = "legacy-rsa")]
use super::legacy::Legacy;
use super::remote::{KeyServers, PublicKey, RemoteKey, Route};
use super::validity;
use crate::config::value::HostPattern;
use crate::config::{self, Certificate, Config, Identity, Key, KeyExchange, Mistake, Mistakes, Place};

/// Certificates at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    exact: HashMap<Box<str>, Arc<Entry>>,
    wildcard: HashMap<Box<str>, Arc<Entry>>,
    default: Option<Arc<Entry>>,
}

/// A zone's certificate, and what its handshakes are like.
#[derive(Debug)]
pub struct Entry {
    /// The chain and the key, which may be elsewhere.
    pub key: Arc<CertifiedKey>,
    /// The way to the key, where it is elsewhere.
    pub remote: Option<Arc<Route>>,
    /// Ephemeral keys are made by the key server too.
    pub exchange: bool,
    /// Who checks certificates of clients; `None`: none is asked for.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Early data is taken, over QUIC.
    pub early_data: bool,
    /// Serves clients that know no key exchange but RSA's, where the zone lets them in.
    #[cfg(feature = "legacy-rsa")]
    pub legacy: Option<Legacy>,
    /// rustls's configuration of its own, where the one for all zones does not do; set before the snapshot is used.
    pub config: OnceLock<Arc<ServerConfig>>,
}

/// What loading gives: the snapshot, and what the operator should look at although it works.
#[derive(Debug, Default)]
pub struct Loaded {
    /// For [`Store::swap`].
    pub snapshot: Snapshot,
    /// What the routes in it lead to.
    pub key_servers: KeyServers,
    /// Expired, not covering a host, readable by all.
    pub warnings: Vec<Mistake>,
}

/// The snapshot in force; rustls asks it during handshakes.
#[derive(Debug, Default)]
pub struct Store(ArcSwap<Snapshot>);

/// Loads the certificates of all zones that name one, and the way to the keys that are elsewhere: key servers that are as
/// they were in `before` stay connected.
///
/// # Errors
/// Every file that is missing, is no certificate or key, or does not match its other half.
pub fn load(config: &Config, before: Option<&KeyServers>) -> Result<Loaded, Mistakes> {
    let mut mistakes = Vec::new();
    let key_servers = KeyServers::load(&config.key_servers, before).unwrap_or_else(|wrong| {
        mistakes.extend(wrong.0);
        KeyServers::default()
    });
    let mut loaded = Loaded {
        key_servers,
        ..Loaded::default()
    };
    let sound = mistakes.is_empty();
    for zone in &config.zones {
        let Some(files) = &zone.certificate else { continue };
        if !sound && matches!(files.key, Key::Servers { .. }) {
            // Its servers are what has to be mended first.
            continue;
        }
        let entry = match entry(zone, files, &mut loaded) {
            Ok(entry) => Arc::new(entry),
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        loaded.warnings.extend(doubts(zone, files, &entry.key));
        for host in &zone.hosts {
            let (map, name) = match host {
                HostPattern::Exact(name) => (&mut loaded.snapshot.exact, name),
                HostPattern::Wildcard(suffix) => (&mut loaded.snapshot.wildcard, suffix),
            };
            map.insert(name.as_str().into(), entry.clone());
        }
        if zone.default {
            loaded.snapshot.default = Some(entry);
        }
    }
    if mistakes.is_empty() {
        Ok(loaded)
    } else {
        Err(Mistakes(mistakes))
    }
}

/// Loads one certificate that is shown by whatever name it is asked for: a far end's.
///
/// # Errors
/// As [`load`].
pub fn load_one(files: &Identity) -> Result<Loaded, Mistakes> {
    let mut loaded = Loaded::default();
    let key = shown(files, &mut loaded.warnings).map_err(|mistake| Mistakes(vec![mistake]))?;
    loaded.snapshot.default = Some(Arc::new(Entry {
        key,
        remote: None,
        exchange: false,
        clients: None,
        early_data: false,
        #[cfg(feature = "legacy-rsa")]
        legacy: None,
        config: OnceLock::new(),
    }));
    Ok(loaded)
}

/// Loads what the edge shows of itself to a server that asks.
///
/// # Errors
/// A file that is missing, is no certificate or key, or does not match its other half.
pub fn identity(files: &Identity) -> Result<Arc<CertifiedKey>, Mistake> {
    let mut warnings = Vec::new();
    let key = shown(files, &mut warnings)?;
    for warning in warnings {
        tracing::warn!(target: "edge::tls", "{warning}");
    }
    Ok(key)
}

fn shown(files: &Identity, warnings: &mut Vec<Mistake>) -> Result<Arc<CertifiedKey>, Mistake> {
    let certificate = Certificate {
        chain: files.chain.clone(),
        chain_place: files.chain_place.clone(),
        key: Key::File(files.key.clone(), files.key_place.clone()),
        clients: None,
        legacy_rsa: None,
    };
    certified(&certificate, &files.key, &files.key_place, warnings)
}

fn entry(zone: &config::Zone, files: &Certificate, loaded: &mut Loaded) -> Result<Entry, Mistake> {
    let mut entry = match &files.key {
        Key::File(key, place) => Entry {
            key: certified(files, key, place, &mut loaded.warnings)?,
            remote: None,
            exchange: false,
            clients: None,
            early_data: zone.early_data,
            #[cfg(feature = "legacy-rsa")]
            legacy: None,
            config: OnceLock::new(),
        },
        Key::Servers { names, exchange, .. } => {
            let route = route(zone, files, names, &loaded.key_servers)?;
            Entry {
                key: Arc::new(CertifiedKey::new(chain(files)?, Arc::new(RemoteKey(route.clone())))),
                remote: Some(route),
                exchange: *exchange == KeyExchange::Remote,
                clients: None,
                early_data: zone.early_data,
                #[cfg(feature = "legacy-rsa")]
                legacy: None,
                config: OnceLock::new(),
            }
        }
    };
    if let Some(clients) = &files.clients {
        entry.clients = Some(clients::verifier(clients)?);
    }
    #[cfg(feature = "legacy-rsa")]
    if let Some(place) = &files.legacy_rsa {
        entry.legacy = Some(legacy(files, &entry, place)?);
    }
    Ok(entry)
}

/// What clients without another key exchange than RSA's are served with.
#[cfg(feature = "legacy-rsa")]
fn legacy(files: &Certificate, entry: &Entry, place: &Place) -> Result<Legacy, Mistake> {
    let chain = &entry.key.cert;
    if entry.key.key.algorithm() != rustls::SignatureAlgorithm::RSA {
        return Err(place.mistake(
            format!("{} is no RSA certificate", files.chain.display()),
            "use one, or leave `legacy_rsa` out",
        ));
    }
    let made = match &files.key {
        Key::File(file, at) => {
            // Its doubts have been told.
            let mut key = key(file, at, &mut Vec::new())?;
            let made = Legacy::new(chain, Some(&key));
            key.zeroize();
            made
        }
        Key::Servers { .. } => Legacy::new(chain, None),
    };
    made.map_err(|error| {
        place.mistake(
            format!("{} cannot be used for static RSA: {error}", files.chain.display()),
            "use another certificate, or leave `legacy_rsa` out",
        )
    })
}

/// The key's name is all that the certificate says of it; whether its servers have it is seen when they answer.
fn route(
    zone: &config::Zone,
    files: &Certificate,
    names: &[String],
    servers: &KeyServers,
) -> Result<Arc<Route>, Mistake> {
    let chain = chain(files)?;
    let key = chain.first().and_then(PublicKey::of).ok_or_else(|| {
        files.chain_place.mistake(
            format!(
                "{} has a key of a kind that key servers do not have",
                files.chain.display()
            ),
            "use RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let servers = names.iter().filter_map(|name| servers.get(name).cloned()).collect();
    Ok(Route::new(zone.name.clone(), key, servers))
}

impl Snapshot {
    /// The certificate for a server name (lower case, no trailing dot): the exact name's, the wildcard's one label up, else
    /// the default zone's, which clients without a name get too.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<Entry>> {
        name.and_then(|name| {
            self.exact
                .get(name)
                .or_else(|| self.wildcard.get(name.split_once('.')?.1))
        })
        .or(self.default.as_ref())
    }

    /// Every zone's, once or more.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.exact.values().chain(self.wildcard.values()).chain(&self.default)
    }
}

impl Entry {
    /// Whether rustls needs a configuration of its own for it.
    pub fn is_special(&self) -> bool {
        self.remote.is_some() || self.clients.is_some()
    }
}

impl ResolvesServerCert for Entry {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.clone())
    }
}

impl Store {
    /// From now on, new handshakes use `snapshot`.
    pub fn swap(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    /// The certificate that serves `name`.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<Entry>> {
        self.0.load().find(name).cloned()
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(normal);
        Some(self.0.load().find(name.as_deref())?.key.clone())
    }
}

/// A server name as the maps have it: lower case, no trailing dot.
pub fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn certified(
    files: &Certificate,
    file: &Path,
    place: &Place,
    warnings: &mut Vec<Mistake>,
) -> Result<Arc<CertifiedKey>, Mistake> {
    let chain = chain(files)?;
    let mut key = key(file, place, warnings)?;
    // By AWS-LC: it signs by RSA in less time than ring, and wipes its copy of the key. By reference, so that these bytes can be
    // wiped too.
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
    key.zeroize();
    // rustls's words name the defect, never the bytes.
    let signer = signer.map_err(|error| {
        place.mistake(
            format!("{} cannot be used: {error}", file.display()),
            "use an RSA key of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().map_err(|_| {
        place.mistake(
            format!("{} is not the key of {}", file.display(), files.chain.display()),
            "name the key the certificate was made for",
        )
    })?;
    Ok(Arc::new(certified))
}

/// The certificates in a PEM file, at least one.
pub(super) fn certificates(path: &Path, place: &Place) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let file = path.display();
    let bytes = std::fs::read(path).map_err(|error| place.mistake(format!("{file}: {error}"), mend(&error)))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| place.mistake(format!("{file} is broken PEM"), "copy it again from its issuer"))?;
    if chain.is_empty() {
        return Err(place.mistake(
            format!("{file} has no certificate"),
            "it needs \"-----BEGIN CERTIFICATE-----\" sections, the leaf first",
        ));
    }
    Ok(chain)
}

fn chain(files: &Certificate) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let file = files.chain.display();
    let chain = certificates(&files.chain, &files.chain_place)?;
    if chain
        .first()
        .is_none_or(|leaf| ParsedCertificate::try_from(leaf).is_err())
    {
        return Err(files.chain_place.mistake(
            format!("{file}: the first certificate cannot be read"),
            "put the leaf first, in X.509 version 3",
        ));
    }
    Ok(chain)
}

fn key(path: &Path, place: &Place, warnings: &mut Vec<Mistake>) -> Result<PrivateKeyDer<'static>, Mistake> {
    let file = path.display();
    let bytes = std::fs::read(path).map_err(|error| place.mistake(format!("{file}: {error}"), mend(&error)))?;
    let bytes = Zeroizing::new(bytes);
    if readable_by_all(path) {
        warnings.push(place.mistake(format!("{file} is readable by everyone"), format!("chmod 600 {file}")));
    }
    let encrypted = memchr::memmem::find(&bytes, b"BEGIN ENCRYPTED PRIVATE KEY").is_some()
        || memchr::memmem::find(&bytes, b"Proc-Type: 4,ENCRYPTED").is_some();
    if encrypted {
        return Err(place.mistake(
            format!("{file} is encrypted"),
            format!("decrypt it: openssl pkey -in {file} -out plain.key"),
        ));
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(&bytes);
    match (keys.next(), keys.next()) {
        (Some(Ok(key)), None) => Ok(key),
        (Some(Ok(mut key)), Some(more)) => {
            key.zeroize();
            if let Ok(mut more) = more {
                more.zeroize();
            }
            Err(place.mistake(format!("{file} has several keys"), "keep the certificate's own"))
        }
        // The PEM error is not shown: it can quote the file.
        (Some(Err(_)), _) => Err(place.mistake(format!("{file} is broken PEM"), "copy it again")),
        (None, _) => Err(place.mistake(
            format!("{file} has no private key"),
            "it needs a \"-----BEGIN PRIVATE KEY-----\" section (PKCS#8, SEC1 or PKCS#1)",
        )),
    }
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "name a file that is there; relative paths start at the configuration's directory",
        io::ErrorKind::PermissionDenied => "let the user edge runs as read it",
        _ => "see the system's message",
    }
}

fn readable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// What works, but not as the operator will have meant it.
fn doubts(zone: &config::Zone, files: &Certificate, key: &CertifiedKey) -> Vec<Mistake> {
    let file = files.chain.display();
    let mut doubts = Vec::new();
    let Some(leaf) = key.cert.first() else { return doubts };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    match validity::period(leaf) {
        Some((_, until)) if until < now => {
            let days = (now - until) / 86_400;
            doubts.push(
                files
                    .chain_place
                    .mistake(format!("{file} expired {days} days ago"), "renew it"),
            );
        }
        Some((from, _)) if from > now => {
            doubts.push(
                files
                    .chain_place
                    .mistake(format!("{file} is not valid yet"), "check it and the clock"),
            );
        }
        _ => {}
    }
    let Ok(parsed) = ParsedCertificate::try_from(leaf) else {
        return doubts;
    };
    for host in &zone.hosts {
        // A wildcard is covered when any one label in front of it is.
        let sample = match host {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(suffix) => format!("any.{suffix}"),
        };
        let covered = ServerName::try_from(sample.as_str())
            .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok());
        if !covered {
            let what = format!("{file} does not cover {host}, a host of zone \"{}\"", zone.name);
            doubts.push(
                files
                    .chain_place
                    .mistake(what, "clients will refuse it; use one that names this host"),
            );
        }
    }
    doubts
}
