//! Certificates by server name: loaded from the zones' PEM files, checked as far as files alone
//! allow, and held as one snapshot that a reload swaps whole. A certificate's key is a file, whose
//! bytes are zeroized once rustls has them and never printed, or a route to key servers.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};
use zeroize::Zeroize;

use super::challenge::Challenges;
use super::clients;
#[cfg(feature = "legacy-rsa")]
use super::legacy::Legacy;
use super::names;
use super::pem_file;
use super::policy::Policy;
use super::remote::{KeyServers, PublicKey, RemoteKey, Route};
use super::staple;
use crate::base::{file, pem, validity};
use crate::config::value::HostPattern;
use crate::config::{self, Certificate, Faults, Identity, Key, KeyExchange, Mistake, Mistakes, Place, TlsVersion};

/// Certificates at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// `None`: the name is a zone's that has no certificate it could show.
    exact: HashMap<Box<str>, Option<Arc<Entry>>>,
    wildcard: HashMap<Box<str>, Option<Arc<Entry>>>,
    default: Option<Arc<Entry>>,
    /// By the zone's name.
    zones: HashMap<Arc<str>, Arc<Entry>>,
}

/// A zone's certificates, and what its handshakes are like.
#[derive(Debug)]
pub struct Entry {
    /// The certificate that is shown if the client takes its kind of signature, or none of any.
    pub first: Credential,
    /// Others, for clients that do not take that kind of signature.
    pub more: Vec<Credential>,
    /// Ephemeral keys are made by the key server too, the first certificate's.
    pub exchange: bool,
    /// What is asked of clients' certificates.
    pub policy: Policy,
    /// Early data is taken, over QUIC.
    pub early_data: bool,
    /// The oldest version of TLS spoken; `None`: as everywhere.
    pub min_version: Option<TlsVersion>,
    /// Serves clients that know no key exchange but RSA's, where the zone lets them in.
    #[cfg(feature = "legacy-rsa")]
    pub legacy: Option<Legacy>,
    /// rustls's configuration of its own, where the one for all zones does not do; set before the
    /// snapshot is used.
    pub config: OnceLock<Arc<ServerConfig>>,
}

/// A certificate as it is shown.
#[derive(Debug)]
pub struct Credential {
    /// The chain and the key, which may be elsewhere.
    pub key: Arc<CertifiedKey>,
    /// The same with a stapled OCSP response.
    stapled: Option<Stapled>,
    /// The way to the key, where it is elsewhere.
    pub route: Option<Arc<Route>>,
}

#[derive(Debug)]
struct Stapled {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970 when the response ends.
    until: i64,
}

/// What loading gives: the snapshot, and what the operator should look at although it works.
#[derive(Debug, Default)]
pub struct Loaded {
    /// For [`Store::swap`].
    pub snapshot: Snapshot,
    /// What the snapshot is made of, by the zone's name.
    entries: HashMap<Arc<str>, Arc<Entry>>,
    /// What the routes in it lead to.
    pub key_servers: KeyServers,
    /// Expired or soon to be, not covering a host, readable by all, with an extension that is not
    /// honoured, OCSP responses that must not be sent.
    pub warnings: Vec<Mistake>,
}

/// The snapshot in force; rustls asks it during handshakes.
#[derive(Debug, Default)]
pub struct Store {
    snapshot: ArcSwap<Snapshot>,
    /// Counts the snapshots.
    number: AtomicU64,
    /// What ACME servers are answered.
    challenges: Arc<Challenges>,
}

/// Loads the certificates of all zones that name one, and the way to the keys that are elsewhere:
/// key servers that are as they were in `before` stay connected. A zone whose certificate cannot be
/// used is left out, and told among the faults; so is a key server, with the zones whose keys it
/// has.
pub fn gather(
    zones: &[config::Zone],
    key_servers: &[config::KeyServer],
    before: Option<&KeyServers>,
    faults: &mut Faults,
) -> Loaded {
    let mut loaded = Loaded::default();
    let (connected, failed) = KeyServers::load(key_servers, before, &mut loaded.warnings);
    loaded.key_servers = connected;
    let mut idle: Vec<&str> = failed.keys().map(String::as_str).collect();
    for zone in zones {
        let Some(files) = &zone.certificate else { continue };
        if let Key::Servers { names, .. } = &files.key {
            let wrong: Vec<_> = names.iter().filter_map(|name| failed.get(name)).collect();
            idle.retain(|name| !names.iter().any(|known| known == name));
            if !wrong.is_empty() {
                for mistake in wrong {
                    faults.zone(&zone.name, mistake.clone());
                }
                continue;
            }
        }
        match entry(zone, files, &mut loaded) {
            Ok(entry) => {
                // A stand-in's doubts are told already.
                if !files.issued || is_pair(files) {
                    let doubts = doubts(zone, &files.chain, &files.chain_place, &entry.first);
                    loaded.warnings.extend(doubts);
                }
                loaded.entries.insert(zone.name.clone(), Arc::new(entry));
            }
            Err(mistake) => faults.zone(&zone.name, mistake),
        }
    }
    for name in idle {
        if let Some(mistake) = failed.get(name) {
            faults.node(mistake.clone());
        }
    }
    loaded.settle(zones, None, |_| false);
    loaded
}

/// As [`gather`], all zones or none.
///
/// # Errors
/// Every file that is missing, is not a certificate or key, or does not match its other half.
pub fn load(
    zones: &[config::Zone],
    key_servers: &[config::KeyServer],
    before: Option<&KeyServers>,
) -> Result<Loaded, Mistakes> {
    let mut faults = Faults::default();
    let loaded = gather(zones, key_servers, before, &mut faults);
    faults.or(loaded)
}

impl Loaded {
    /// Makes the snapshot for `zones`. Those for which `keeps` holds have what they had in
    /// `before`; the hosts of a zone without a certificate are refused, and no other zone's
    /// certificate is shown for them.
    pub fn settle(&mut self, zones: &[config::Zone], before: Option<&Snapshot>, keeps: impl Fn(&str) -> bool) {
        let mut snapshot = Snapshot::default();
        for zone in zones {
            let entry = if keeps(&zone.name) {
                before.and_then(|before| before.zones.get(&zone.name))
            } else {
                self.entries.get(&zone.name)
            };
            for host in &zone.hosts {
                let (map, name) = match host {
                    HostPattern::Exact(name) => (&mut snapshot.exact, name),
                    HostPattern::Wildcard(suffix) => (&mut snapshot.wildcard, suffix),
                };
                map.insert(name.as_str().into(), entry.cloned());
            }
            if zone.default {
                snapshot.default = entry.cloned();
            }
            if let Some(entry) = entry {
                snapshot.zones.insert(zone.name.clone(), entry.clone());
            }
        }
        self.snapshot = snapshot;
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
        first: Credential::here(key),
        more: Vec::new(),
        exchange: false,
        policy: Policy::open(""),
        early_data: false,
        min_version: None,
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
    let chain = (&*files.chain, &files.chain_place);
    let key = certified(chain, (&files.key, &files.key_place), warnings)?;
    warnings.extend(
        key.cert
            .first()
            .and_then(|leaf| pem_file::aging(leaf, chain.0, chain.1)),
    );
    Ok(key)
}

fn entry(zone: &config::Zone, files: &Certificate, loaded: &mut Loaded) -> Result<Entry, Mistake> {
    let chain = (&*files.chain, &files.chain_place);
    let (first, exchange) = match &files.key {
        Key::File(key, place) => match certified(chain, (key, place), &mut loaded.warnings) {
            // What an ACME client of this node writes is its to mend.
            Err(mistake) if files.issued => {
                let made = stand_in(zone, &mistake, &mut loaded.warnings)?;
                (Credential::here(made), false)
            }
            certified => (Credential::here(certified?), false),
        },
        Key::Servers { names, exchange, .. } => {
            let route = route(zone, chain, names, &loaded.key_servers)?;
            let credential = Credential::elsewhere(pem_file::chain(chain)?, route);
            (credential, *exchange == KeyExchange::Remote)
        }
    };
    let mut entry = Entry {
        first: first.staple(files.ocsp.as_ref(), &mut loaded.warnings),
        more: Vec::new(),
        exchange,
        policy: Policy::open(&zone.name),
        early_data: zone.early_data,
        min_version: zone.min_version,
        #[cfg(feature = "legacy-rsa")]
        legacy: None,
        config: OnceLock::new(),
    };
    for more in &files.more {
        let chain = (&*more.chain, &more.chain_place);
        let credential = match (&more.key, &files.key) {
            (None, Key::Servers { names, .. }) => {
                let route = route(zone, chain, names, &loaded.key_servers)?;
                Credential::elsewhere(pem_file::chain(chain)?, route)
            }
            (Some((key, place)), _) => Credential::here(certified(chain, (key, place), &mut loaded.warnings)?),
            // The configuration's check tells this with its own words.
            (None, Key::File(..)) => return Err(chain.1.mistake("a certificate without a key", "write `key`")),
        };
        let credential = credential.staple(more.ocsp.as_ref(), &mut loaded.warnings);
        loaded.warnings.extend(doubts(zone, chain.0, chain.1, &credential));
        entry.more.push(credential);
    }
    if let Some(clients) = &files.clients {
        entry.policy = clients::policy(&zone.name, clients, &mut loaded.warnings)?;
    }
    #[cfg(feature = "legacy-rsa")]
    if let Some(place) = &files.legacy_rsa {
        entry.legacy = Some(legacy(files, &entry, place)?);
    }
    Ok(entry)
}

impl Credential {
    /// Of a key that is here.
    pub fn here(key: Arc<CertifiedKey>) -> Self {
        Self {
            key,
            stapled: None,
            route: None,
        }
    }

    /// Of a key that `route` leads to.
    pub fn elsewhere(chain: Vec<CertificateDer<'static>>, route: Arc<Route>) -> Self {
        Self {
            key: Arc::new(CertifiedKey::new(chain, Arc::new(RemoteKey(route.clone())))),
            stapled: None,
            route: Some(route),
        }
    }

    /// With the OCSP response that a file has; one that must not be sent is told, and left out.
    fn staple(mut self, file: Option<&(PathBuf, Place)>, warnings: &mut Vec<Mistake>) -> Self {
        let Some((path, place)) = file else { return self };
        let shown = path.display();
        match file::read(path) {
            Err(error) => {
                let what = format!("{shown}: {error}; no OCSP response is stapled");
                warnings.push(place.mistake(what, pem_file::mend(&error)));
            }
            Ok(bytes) => match staple::until(&bytes, &self.key.cert, validity::now()) {
                Ok(until) => {
                    let mut key = CertifiedKey::clone(&self.key);
                    key.ocsp = Some(bytes.to_vec());
                    self.stapled = Some(Stapled {
                        key: Arc::new(key),
                        until,
                    });
                    warnings.extend(self.response_ends(path, place));
                }
                Err(unfit) => {
                    let what = format!("{shown} {unfit}; it is not stapled");
                    warnings.push(place.mistake(what, unfit.mend()));
                }
            },
        }
        self
    }

    /// What clients are shown: with the response as long as that holds.
    pub fn shown(&self) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some(stapled) if stapled.until > validity::now() => &stapled.key,
            _ => &self.key,
        }
    }

    /// A warning if the response that `path` had ends soon, or has ended.
    fn response_ends(&self, path: &Path, place: &Place) -> Option<Mistake> {
        let left = self.stapled.as_ref()?.until - validity::now();
        let file = path.display();
        let what = match left {
            ..=0 => format!("{file} has expired; it is not stapled any more"),
            _ if left < RESPONSE_SOON => format!("{file} expires in {} hours", left / 3_600),
            _ => return None,
        };
        Some(place.mistake(what, "fetch it anew from the authority"))
    }
}

/// Shown until an authority has issued the zone's certificate: self-signed, so that every client
/// refuses it. The zone is up meanwhile, for challenges and for the certificate that comes.
fn stand_in(zone: &config::Zone, mistake: &Mistake, warnings: &mut Vec<Mistake>) -> Result<Arc<CertifiedKey>, Mistake> {
    let ours = |words: String| {
        zone.place
            .mistake(words, "this is a defect of edge; report it with the file")
    };
    let names = zone.hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| ours(error.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| ours(error.to_string()))?;
    warnings.push(zone.place.mistake(
        format!(
            "zone \"{}\" has no certificate yet, and shows one that clients refuse ({mistake})",
            zone.name
        ),
        "wait until an authority has issued it; target edge::acme of the log says how that goes",
    ));
    Ok(Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], signer)))
}

/// What clients without another key exchange than RSA's are served with.
#[cfg(feature = "legacy-rsa")]
fn legacy(files: &Certificate, entry: &Entry, place: &Place) -> Result<Legacy, Mistake> {
    let chain = &entry.first.key.cert;
    if entry.first.key.key.algorithm() != rustls::SignatureAlgorithm::RSA {
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

/// The key's name is all that the certificate says of it; whether its servers have it is seen when
/// they answer.
fn route(
    zone: &config::Zone,
    file: (&Path, &Place),
    names: &[String],
    servers: &KeyServers,
) -> Result<Arc<Route>, Mistake> {
    let chain = pem_file::chain(file)?;
    let key = chain.first().and_then(PublicKey::of).ok_or_else(|| {
        file.1.mistake(
            format!("{} has a key of a kind that key servers do not have", file.0.display()),
            "use RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let servers = names.iter().filter_map(|name| servers.get(name).cloned()).collect();
    Ok(Route::new(zone.name.clone(), key, servers))
}

impl Snapshot {
    /// The certificate for a server name (lower case, no trailing dot): the exact name's, the
    /// wildcard's one label up, else the default zone's, which clients without a name get too.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<Entry>> {
        name.and_then(|name| {
            self.exact
                .get(name)
                .or_else(|| self.wildcard.get(name.split_once('.')?.1))
        })
        .map_or(self.default.as_ref(), Option::as_ref)
    }

    /// Every zone's, and that of a far end.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let of_none = self.default.iter().filter(|_| self.zones.is_empty());
        self.zones.values().chain(of_none)
    }

    /// With one certificate.
    #[cfg(test)]
    pub(super) fn of_one(host: &str, entry: Arc<Entry>) -> Self {
        Self {
            exact: HashMap::from([(host.into(), Some(entry))]),
            ..Self::default()
        }
    }

    /// Until when each zone's certificate holds, in seconds since 1970, by the zone's name.
    pub fn ends(&self) -> impl Iterator<Item = (&Arc<str>, i64)> {
        self.zones.iter().filter_map(|(zone, entry)| {
            let (_, until) = validity::period(entry.first.key.cert.first()?)?;
            Some((zone, until))
        })
    }

    /// Until when the OCSP responses of each zone hold, the first that ends, in seconds since 1970;
    /// zones that staple none are left out.
    pub fn responses_end(&self) -> impl Iterator<Item = (&Arc<str>, i64)> {
        self.zones.iter().filter_map(|(zone, entry)| {
            let ends = entry
                .credentials()
                .filter_map(|credential| Some(credential.stapled.as_ref()?.until));
            Some((zone, ends.min()?))
        })
    }
}

impl Snapshot {
    /// Warnings of certificates and OCSP responses that have expired, or soon will.
    pub fn aging(&self, zones: &[config::Zone]) -> Vec<Mistake> {
        let mut warnings = Vec::new();
        for zone in zones {
            let (Some(entry), Some(files)) = (self.zones.get(&zone.name), &zone.certificate) else {
                continue;
            };
            let first = (&files.chain, &files.chain_place, &files.ocsp);
            let more = files
                .more
                .iter()
                .map(|more| (&more.chain, &more.chain_place, &more.ocsp));
            for (credential, (chain, place, ocsp)) in entry.credentials().zip(std::iter::once(first).chain(more)) {
                warnings.extend(
                    credential
                        .key
                        .cert
                        .first()
                        .and_then(|leaf| pem_file::aging(leaf, chain, place)),
                );
                warnings.extend(
                    ocsp.as_ref()
                        .and_then(|(path, place)| credential.response_ends(path, place)),
                );
            }
        }
        warnings
    }
}

impl Entry {
    /// Its certificates, the preferred first.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The way to the first certificate's key, if the zone's keys are elsewhere; its handshakes can
    /// wait then.
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.first.route.as_ref()
    }

    /// Whether rustls needs a configuration of its own for it.
    pub fn is_special(&self) -> bool {
        self.route().is_some() || self.policy.clients().is_some() || self.min_version.is_some()
    }
}

impl Entry {
    /// The first certificate by which the client takes a signature, in a suite of its own; else the
    /// first, so that it is told.
    fn for_client(&self, hello: &ClientHello<'_>) -> &Arc<CertifiedKey> {
        let fits = |credential: &&Credential| {
            let key = &credential.key.key;
            let suites = hello.cipher_suites();
            let usable = |suite: &SupportedCipherSuite| {
                suite.usable_for_signature_algorithm(key.algorithm()) && suites.contains(&suite.suite())
            };
            key.choose_scheme(hello.signature_schemes()).is_some() && ALL_CIPHER_SUITES.iter().any(usable)
        };
        let credential = match self.more.is_empty() {
            true => &self.first,
            false => self.credentials().find(fits).unwrap_or(&self.first),
        };
        credential.shown()
    }
}

impl ResolvesServerCert for Entry {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.for_client(&hello).clone())
    }
}

impl Store {
    /// From now on, new handshakes use `snapshot`.
    pub fn swap(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        // Afterwards: who sees the new number sees the new snapshot.
        self.number.fetch_add(1, Ordering::Release);
    }

    /// What ACME servers are answered, over TLS and over plain HTTP.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// Another one for each snapshot; never `u64::MAX`.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The certificate that serves `name`.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<Entry>> {
        self.snapshot.load().find(name).cloned()
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(names::normal);
        Some(self.snapshot.load().find(name.as_deref())?.for_client(&hello).clone())
    }
}

fn certified(
    chain: (&Path, &Place),
    (file, place): (&Path, &Place),
    warnings: &mut Vec<Mistake>,
) -> Result<Arc<CertifiedKey>, Mistake> {
    let shown = chain.0.display();
    let chain = pem_file::chain(chain)?;
    let mut key = key(file, place, warnings)?;
    // By AWS-LC: it signs by RSA in less time than ring, and wipes its copy of the key. By
    // reference, so that these bytes can be wiped too.
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
            format!("{} is not the key of {shown}", file.display()),
            "name the key the certificate was made for",
        )
    })?;
    Ok(Arc::new(certified))
}

/// Whether chain and key of `files` are there and belong together.
pub(crate) fn is_pair(files: &Certificate) -> bool {
    match &files.key {
        Key::File(path, place) => {
            let chain = (&*files.chain, &files.chain_place);
            certified(chain, (path, place), &mut Vec::new()).is_ok()
        }
        Key::Servers { .. } => false,
    }
}

fn key(path: &Path, place: &Place, warnings: &mut Vec<Mistake>) -> Result<PrivateKeyDer<'static>, Mistake> {
    let shown = path.display();
    let bytes = file::read(path).map_err(|error| place.mistake(format!("{shown}: {error}"), pem_file::mend(&error)))?;
    if readable_by_all(path) {
        warnings.push(place.mistake(format!("{shown} is readable by everyone"), format!("chmod 600 {shown}")));
    }
    pem::private_key(&bytes).map_err(|unread| place.mistake(format!("{shown}: {unread}"), unread.mend()))
}

fn readable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// Seconds before an OCSP response's end from which on the operator is warned: whoever fetches
/// them does so after half of their life, which is days.
const RESPONSE_SOON: i64 = 86_400;

/// What works, but not as the operator will have meant it.
fn doubts(zone: &config::Zone, chain: &Path, place: &Place, credential: &Credential) -> Vec<Mistake> {
    let file = chain.display();
    let Some(leaf) = credential.key.cert.first() else {
        return Vec::new();
    };
    let mut doubts: Vec<Mistake> = pem_file::aging(leaf, chain, place).into_iter().collect();
    if validity::must_staple(leaf) && credential.stapled.is_none() {
        let what = format!("{file} asks for a stapled OCSP response (RFC 7633), and none is sent");
        let mend = "some clients will refuse it; name a file with the response as `ocsp`, or have it issued without the \
                    TLS feature extension (\"must-staple\")";
        doubts.push(place.mistake(what, mend));
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
            doubts.push(place.mistake(what, "clients will refuse it; use one that names this host"));
        }
    }
    doubts
}

/// Warnings of what this node shows of itself to key servers and far ends, and of revocation lists,
/// as their files are now: that it has ended, or soon will.
pub(crate) fn ending(
    zones: &[config::Zone],
    key_servers: &[config::KeyServer],
    far_ends: &[config::delta::FarEnd],
) -> Vec<Mistake> {
    let links = key_servers.iter().map(|server| server.certificate.clone());
    let far = far_ends.iter().filter_map(|end| end.upstream.identity.as_ref());
    let far = far.map(|identity| (identity.chain.clone(), identity.chain_place.clone()));
    let mut warnings = Vec::new();
    for (path, place) in links.chain(far) {
        // What cannot be read is told when it is needed.
        let chain = pem_file::certificates(&path, &place).unwrap_or_default();
        warnings.extend(chain.first().and_then(|leaf| pem_file::aging(leaf, &path, &place)));
    }
    let named = zones.iter().filter_map(|zone| zone.certificate.as_ref());
    for clients in named.filter_map(|certificate| certificate.clients.as_ref()) {
        warnings.extend(clients::overdue(clients));
    }
    warnings
}

#[cfg(test)]
mod tests;
