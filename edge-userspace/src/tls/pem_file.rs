//! Certificates in files: read whole, with words for the operator if they cannot be, and looked at
//! for how long they hold.

use std::io;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

use crate::base::{file, pem, validity};
use crate::config::{Mistake, Place};

/// The certificates in a PEM file, at least one, every section of it.
pub(crate) fn certificates(path: &Path, place: &Place) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let shown = path.display();
    let bytes = file::read(path).map_err(|error| place.mistake(format!("{shown}: {error}"), mend(&error)))?;
    pem::certificates(&bytes).map_err(|unread| place.mistake(format!("{shown}: {unread}"), unread.mend()))
}

/// A chain, whose leaf can be read.
pub(super) fn chain((path, place): (&Path, &Place)) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let file = path.display();
    let chain = certificates(path, place)?;
    if chain
        .first()
        .is_none_or(|leaf| ParsedCertificate::try_from(leaf).is_err())
    {
        return Err(place.mistake(
            format!("{file}: the first certificate cannot be read"),
            "put the leaf first, in X.509 version 3",
        ));
    }
    Ok(chain)
}

/// A warning if the certificate has expired, soon will, or is not valid yet.
pub(super) fn aging(leaf: &[u8], path: &Path, place: &Place) -> Option<Mistake> {
    let (what, mend) = validity::aging(validity::period(leaf)?, validity::now())?;
    Some(place.mistake(format!("{} {what}", path.display()), mend))
}

/// What an operator can do about a file that cannot be read.
pub(super) fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "name a file that is there; relative paths start at the configuration's directory",
        io::ErrorKind::PermissionDenied => "let the user edge runs as read it",
        _ => "see the system's message",
    }
}
