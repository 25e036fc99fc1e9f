//! Certificates by server name: loaded from the zones' PEM files, checked as far as files alone allow, and held as one
//! snapshot that a reload swaps whole. Key bytes are zeroized once rustls has them, and never printed.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::{Zeroize, Zeroizing};

use super::validity;
use crate::config::value::HostPattern;
use crate::config::{self, Certificate, Mistake, Mistakes};

/// Certificates at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

/// What loading gives: the snapshot, and what the operator should look at although it works.
#[derive(Debug, Default)]
pub struct Loaded {
    /// For [`Store::swap`].
    pub snapshot: Snapshot,
    /// Expired, not covering a host, readable by all.
    pub warnings: Vec<Mistake>,
}

/// The snapshot in force; rustls asks it during handshakes.
#[derive(Debug, Default)]
pub struct Store(ArcSwap<Snapshot>);

/// Loads the certificates of all zones that name one.
///
/// # Errors
/// Every file that is missing, is no certificate or key, or does not match its other half.
pub fn load(zones: &[config::Zone]) -> Result<Loaded, Mistakes> {
    let mut loaded = Loaded::default();
    let mut mistakes = Vec::new();
    for zone in zones {
        let Some(files) = &zone.certificate else { continue };
        let key = match certified(files, &mut loaded.warnings) {
            Ok(key) => key,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        loaded.warnings.extend(doubts(zone, files, &key));
        for host in &zone.hosts {
            let (map, name) = match host {
                HostPattern::Exact(name) => (&mut loaded.snapshot.exact, name),
                HostPattern::Wildcard(suffix) => (&mut loaded.snapshot.wildcard, suffix),
            };
            map.insert(name.as_str().into(), key.clone());
        }
        if zone.default {
            loaded.snapshot.default = Some(key);
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
pub fn load_one(files: &Certificate) -> Result<Loaded, Mistakes> {
    let mut loaded = Loaded::default();
    let key = certified(files, &mut loaded.warnings).map_err(|mistake| Mistakes(vec![mistake]))?;
    loaded.snapshot.default = Some(key);
    Ok(loaded)
}

/// Loads what the edge shows of itself to a server that asks.
///
/// # Errors
/// A file that is missing, is no certificate or key, or does not match its other half.
pub fn identity(files: &Certificate) -> Result<Arc<CertifiedKey>, Mistake> {
    let mut warnings = Vec::new();
    let key = certified(files, &mut warnings)?;
    for warning in warnings {
        tracing::warn!(target: "edge::tls", "{warning}");
    }
    Ok(key)
}

impl Snapshot {
    /// The certificate for a server name (lower case, no trailing dot): the exact name's, the wildcard's one label up, else
    /// the default zone's, which clients without a name get too.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        name.and_then(|name| {
            self.exact
                .get(name)
                .or_else(|| self.wildcard.get(name.split_once('.')?.1))
        })
        .or(self.default.as_ref())
    }
}

impl Store {
    /// From now on, new handshakes use `snapshot`.
    pub fn swap(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    /// Whether some certificate serves `name`.
    pub fn covers(&self, name: Option<&str>) -> bool {
        self.0.load().find(name).is_some()
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(normal);
        self.0.load().find(name.as_deref()).cloned()
    }
}

/// A server name as the maps have it: lower case, no trailing dot.
pub fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn certified(files: &Certificate, warnings: &mut Vec<Mistake>) -> Result<Arc<CertifiedKey>, Mistake> {
    let chain = chain(files)?;
    let mut key = key(files, warnings)?;
    // By reference, so that the bytes can be wiped: rustls's own copy lives inside ring's key.
    let signer = rustls::crypto::ring::sign::any_supported_type(&key);
    key.zeroize();
    // rustls's words name the defect, never the bytes.
    let signer = signer.map_err(|error| {
        files.key_place.mistake(
            format!("{} cannot be used: {error}", files.key.display()),
            "use an RSA key of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().map_err(|_| {
        files.key_place.mistake(
            format!("{} is not the key of {}", files.key.display(), files.chain.display()),
            "name the key the certificate was made for",
        )
    })?;
    Ok(Arc::new(certified))
}

fn chain(files: &Certificate) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let file = files.chain.display();
    let bytes = std::fs::read(&files.chain)
        .map_err(|error| files.chain_place.mistake(format!("{file}: {error}"), mend(&error)))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            files
                .chain_place
                .mistake(format!("{file} is broken PEM"), "copy it again from its issuer")
        })?;
    if chain.is_empty() {
        return Err(files.chain_place.mistake(
            format!("{file} has no certificate"),
            "it needs \"-----BEGIN CERTIFICATE-----\" sections, the leaf first",
        ));
    }
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

fn key(files: &Certificate, warnings: &mut Vec<Mistake>) -> Result<PrivateKeyDer<'static>, Mistake> {
    let file = files.key.display();
    let bytes =
        std::fs::read(&files.key).map_err(|error| files.key_place.mistake(format!("{file}: {error}"), mend(&error)))?;
    let bytes = Zeroizing::new(bytes);
    if readable_by_all(&files.key) {
        warnings.push(
            files
                .key_place
                .mistake(format!("{file} is readable by everyone"), format!("chmod 600 {file}")),
        );
    }
    let encrypted = memchr::memmem::find(&bytes, b"BEGIN ENCRYPTED PRIVATE KEY").is_some()
        || memchr::memmem::find(&bytes, b"Proc-Type: 4,ENCRYPTED").is_some();
    if encrypted {
        return Err(files.key_place.mistake(
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
            Err(files
                .key_place
                .mistake(format!("{file} has several keys"), "keep the certificate's own"))
        }
        // The PEM error is not shown: it can quote the file.
        (Some(Err(_)), _) => Err(files
            .key_place
            .mistake(format!("{file} is broken PEM"), "copy it again")),
        (None, _) => Err(files.key_place.mistake(
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
