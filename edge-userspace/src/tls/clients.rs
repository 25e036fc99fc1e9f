//! Certificates of clients, for zones that ask for them: who may present which, and whom a session stands for.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CommonState, Error, HandshakeKind, RootCertStore};
use x509_parser::prelude::FromDer;

use super::certificates;
use crate::base::peer::Identity;
use crate::config::{Clients, Mistake};

/// rustls's verifier for a zone.
///
/// # Errors
/// The CA file is missing or has no CA.
pub(super) fn verifier(clients: &Clients) -> Result<Arc<dyn ClientCertVerifier>, Mistake> {
    let (path, place) = &clients.ca;
    let wrong = |error: &dyn std::fmt::Display| {
        place.mistake(
            format!("{} cannot be used: {error}", path.display()),
            "name the certificates of the CAs that sign clients' certificates",
        )
    };
    let mut roots = RootCertStore::empty();
    for root in certificates::certificates(path, place)? {
        roots.add(root).map_err(|error| wrong(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| wrong(&error))
}

/// Whom the finished handshake is with. A resumed session brings the certificate of the one it resumes: it is checked
/// again, since it may have expired, or the zone's CAs may be others now.
///
/// # Errors
/// It does not hold any more, or there is none and the zone requires one.
pub fn identity(session: &CommonState, verifier: &Arc<dyn ClientCertVerifier>) -> Result<Option<Arc<Identity>>, Error> {
    let Some((leaf, issuers)) = session.peer_certificates().and_then(|chain| chain.split_first()) else {
        if verifier.client_auth_mandatory() {
            return Err(Error::NoCertificatesPresented);
        }
        return Ok(None);
    };
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        verifier.verify_client_cert(leaf, issuers, UnixTime::now())?;
    }
    Ok(Some(Arc::new(named(leaf))))
}

fn named(leaf: &CertificateDer<'_>) -> Identity {
    let subject = x509_parser::certificate::X509Certificate::from_der(leaf)
        .map_or_else(|_| String::new(), |(_, parsed)| parsed.subject().to_string());
    Identity {
        subject,
        fingerprint: data_encoding::HEXLOWER.encode(digest(&SHA256, leaf).as_ref()),
    }
}
