//! A zone's chain and key as files: what is there, and how it is replaced.

use std::fs;
use std::path::Path;

use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;

use super::AcmeError;
use crate::base::{directory, file, pem, validity};
use crate::config::value::HostPattern;
use crate::config::{Key, Zone};
use crate::tls::certificates;

/// A certificate that the zone has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Good from, in seconds since 1970.
    pub(super) from: i64,
    /// Good until.
    pub(super) until: i64,
    /// It is for every host of the zone, and its key is there.
    pub(super) covers: bool,
    /// Where in an authority's window it is renewed, in 256ths; the same at every look.
    pub(super) share: u8,
    /// In DER.
    pub(super) leaf: Vec<u8>,
}

/// The zone's certificate; `None` if there is none that can be read.
pub(super) fn held(zone: &Zone) -> Option<Held> {
    let certificate = zone.certificate.as_ref()?;
    let bytes = file::read(&certificate.chain).ok()?;
    let leaf = pem::certificates(&bytes).ok()?.into_iter().next()?;
    let (from, until) = validity::period(&leaf)?;
    let parsed = ParsedCertificate::try_from(&leaf).ok()?;
    let names = zone.hosts.iter().all(|host| {
        // A wildcard is covered when any one label in front of it is.
        let sample = match host {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(suffix) => format!("any.{suffix}"),
        };
        ServerName::try_from(sample).is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
    });
    Some(Held {
        from,
        until,
        covers: names && certificates::is_pair(certificate),
        share: leaf.last().copied().unwrap_or_default(),
        leaf: leaf.to_vec(),
    })
}

/// Writes key and chain, each in one step.
///
/// # Errors
/// The directory cannot be made, or a file not be written.
pub(super) fn write(zone: &Zone, chain: &str, key: &str) -> Result<(), AcmeError> {
    let Some(certificate) = &zone.certificate else {
        return Ok(());
    };
    let Key::File(path, _) = &certificate.key else {
        return Ok(());
    };
    // Both are on the disk before either takes its place.
    let aside = |path: &Path, text: &str| file::beside(path, text.as_bytes()).map_err(|source| wrong(path, source));
    let key_aside = aside(path, key)?;
    let chain_aside = aside(&certificate.chain, chain)?;
    for (from, to) in [(&key_aside, path), (&chain_aside, &certificate.chain)] {
        fs::rename(from, to).map_err(|source| wrong(to, source))?;
    }
    Ok(())
}

/// Makes the directory, for this user alone.
///
/// # Errors
/// It cannot be made.
pub(super) fn directory(path: &Path) -> Result<(), AcmeError> {
    directory::make(path).map_err(|source| wrong(path, source))
}

pub(super) fn wrong(file: &Path, source: std::io::Error) -> AcmeError {
    AcmeError::File {
        file: file.display().to_string(),
        source,
    }
}
