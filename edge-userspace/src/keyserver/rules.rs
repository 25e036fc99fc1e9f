//! What a reload replaces whole: the server's own certificate, whose certificates are trusted and
//! which are revoked, and the access list. A connection is judged by these at its start, and again
//! whenever they change. Their files are watched, so that a list that is renewed holds at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::access::{Access, Client};
use super::wire;
use crate::base::{file, link, pem, validity};
use crate::config::keyserver::Config;
use crate::config::{Mistake, Mistakes, Place};

/// Who is let in, and as whom the server shows itself.
#[derive(Debug)]
pub(super) struct Rules {
    /// Rises with each reload.
    pub(super) version: u64,
    /// TLS 1.3, client certificates demanded, one ALPN protocol, no tickets: every connection is a
    /// full handshake, so that a certificate revoked meanwhile does not come back.
    pub(super) tls: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    access: Access,
    ends: Ends,
}

/// What of the rules ends, and when, in seconds since 1970.
#[derive(Debug)]
struct Ends {
    /// From and until when the server's own certificate holds; `None`: it cannot be read.
    own: Option<(i64, i64)>,
    own_file: (PathBuf, Place),
    /// When the next update of each revocation list is due.
    lists: Vec<(i64, PathBuf, Place)>,
}

/// Why a certificate is not let in. The client's fault, or the operator's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stranger {
    /// Not, or no longer, of the authority; revoked; expired.
    #[error("{0}")]
    Certificate(rustls::Error),
    /// On no list.
    #[error("its certificate is not on the access list")]
    Unlisted,
}

impl Rules {
    /// Reads what the configuration names; buckets of `before` live on.
    ///
    /// # Errors
    /// Every mistake found, with file, line, key and mend.
    pub(super) fn load(config: &Config, before: Option<&Self>) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let access = match Access::new(&config.clients, before.map(|before| &before.access), Instant::now()) {
            Ok(access) => Some(access),
            Err(more) => {
                mistakes.extend(more.0);
                None
            }
        };
        let tls = match transport(config) {
            Ok(tls) => Some(tls),
            Err(more) => {
                mistakes.extend(more);
                None
            }
        };
        match (access, tls) {
            (Some(access), Some((tls, verifier, ends))) => Ok(Self {
                version: before.map_or(1, |before| before.version + 1),
                tls,
                verifier,
                access,
                ends,
            }),
            _ => Err(Mistakes(mistakes)),
        }
    }

    /// What of the rules has ended at `now`, or soon will, by the file that it was read from.
    pub(super) fn ending(&self, now: i64) -> Vec<(PathBuf, Mistake)> {
        let mut ending = Vec::new();
        let (path, place) = &self.ends.own_file;
        if let Some((what, mend)) = self.ends.own.and_then(|period| validity::aging(period, now)) {
            let what = format!("{} {what}", path.display());
            ending.push((path.clone(), place.mistake(what, mend)));
        }
        for (due, path, place) in &self.ends.lists {
            if *due < now {
                let what = format!("{} has a revocation list whose next update is due", path.display());
                ending.push((
                    path.clone(),
                    place.mistake(what, "fetch the present one from its authority"),
                ));
            }
        }
        ending
    }

    /// When the next update of the first revocation list is due, in seconds since 1970; `None`:
    /// there is none that says so.
    pub(super) fn lists_due(&self) -> Option<i64> {
        self.ends.lists.iter().map(|(due, ..)| *due).min()
    }

    /// The client with this chain, leaf first.
    pub(super) fn client(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<Client>, Stranger> {
        let (leaf, rest) = chain.split_first().ok_or(Stranger::Unlisted)?;
        self.verifier
            .verify_client_cert(leaf, rest, UnixTime::now())
            .map_err(Stranger::Certificate)?;
        self.access.client(leaf).cloned().ok_or(Stranger::Unlisted)
    }
}

/// Reads one of the files that the configuration names.
fn read<T>(path: &Path, place: &Place, parse: impl Fn(&[u8]) -> Result<T, pem::Unread>) -> Result<T, Mistake> {
    let shown = path.display();
    let bytes = file::read(path).map_err(|error| {
        place.mistake(
            format!("{shown}: {error}"),
            "name a PEM file that the key server's user may read",
        )
    })?;
    parse(&bytes).map_err(|unread| place.mistake(format!("{shown}: {unread}"), unread.mend()))
}

/// The files that the rules are read from, beside the configuration.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let server = &config.server;
    let mut files = vec![
        server.client_ca.0.clone(),
        server.certificate.chain.clone(),
        server.certificate.key.clone(),
    ];
    files.extend(server.revoked.iter().map(|(path, _)| path.clone()));
    files
}

type Transport = (Arc<ServerConfig>, Arc<dyn ClientCertVerifier>, Ends);

fn transport(config: &Config) -> Result<Transport, Vec<Mistake>> {
    let one = |mistake| vec![mistake];
    let provider = link::provider();
    let (ca, ca_place) = &config.server.client_ca;
    let mut roots = RootCertStore::empty();
    for certificate in read(ca, ca_place, pem::certificates).map_err(one)? {
        roots.add(certificate).map_err(|error| {
            let what = format!("{}: {error}", ca.display());
            one(ca_place.mistake(what, "write certificates of authorities there"))
        })?;
    }
    let (mut revoked, mut lists) = (Vec::new(), Vec::new());
    for (path, place) in &config.server.revoked {
        for list in read(path, place, pem::revocations).map_err(one)? {
            lists.extend(validity::next_update(&list).map(|due| (due, path.clone(), place.clone())));
            revoked.push(list);
        }
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .with_crls(revoked)
        .only_check_end_entity_revocation();
    if config.server.revoked_must_be_current {
        verifier = verifier.enforce_revocation_expiration();
    }
    let verifier = verifier
        .build()
        .map_err(|error| one(ca_place.mistake(error.to_string(), "name an authority, and lists that it signed")))?;

    let certificate = &config.server.certificate;
    let chain = read(&certificate.chain, &certificate.chain_place, pem::certificates).map_err(one)?;
    let ends = Ends {
        own: chain.first().and_then(|leaf| validity::period(leaf)),
        own_file: (certificate.chain.clone(), certificate.chain_place.clone()),
        lists,
    };
    let key = read(&certificate.key, &certificate.key_place, pem::private_key).map_err(one)?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| one(certificate.chain_place.mistake(error.to_string(), String::new())))?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(chain, key)
        .map_err(|error| {
            let mend = "name the certificate and the key that belong together";
            one(certificate.key_place.mistake(error.to_string(), mend))
        })?;
    tls.alpn_protocols = vec![wire::ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    Ok((Arc::new(tls), verifier, ends))
}
