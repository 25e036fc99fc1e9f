//! Certificates of clients, for zones that ask for them: who may present which, and whom a session
//! stands for.

use std::path::Path;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CommonState, Error, HandshakeKind, RootCertStore};
use x509_parser::prelude::FromDer;

use super::certificates;
use super::policy::Policy;
use crate::base::peer::Identity;
use crate::base::{file, pem};
use crate::config::{Clients, Mistake, Place};

/// The policy of the zone of that name.
///
/// # Errors
/// A file is missing, or has no CA or no revocation list in it.
pub(super) fn policy(zone: &str, clients: &Clients, warnings: &mut Vec<Mistake>) -> Result<Policy, Mistake> {
    let (path, place) = &clients.ca;
    let wrong = |error: &dyn std::fmt::Display| {
        place.mistake(
            format!("{} cannot be used: {error}", path.display()),
            "name the certificates of the CAs that sign clients' certificates",
        )
    };
    let authorities = certificates::certificates(path, place)?;
    let mut roots = RootCertStore::empty();
    for root in &authorities {
        roots.add(root.clone()).map_err(|error| wrong(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    let mut lists = Vec::new();
    for (path, place) in &clients.revoked {
        lists.extend(revoked(path, place, warnings)?);
    }
    if !lists.is_empty() {
        builder = builder.with_crls(lists.clone()).only_check_end_entity_revocation();
        if clients.revoked_must_be_current {
            builder = builder.enforce_revocation_expiration();
        }
    }
    let verifier = builder.build().map_err(|error| wrong(&error))?;
    let mut parts: Vec<&[u8]> = authorities.iter().map(|root| &**root).collect();
    parts.extend(lists.iter().map(|list| &**list));
    parts.push(if clients.revoked_must_be_current {
        b"current"
    } else {
        b""
    });
    // The same authorities in another order are the same policy.
    parts.sort_unstable();
    Ok(Policy::asking(zone, verifier, &parts))
}

/// The revocation lists in a PEM file, at least one. One that is due is told of.
fn revoked(
    path: &Path,
    place: &Place,
    warnings: &mut Vec<Mistake>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Mistake> {
    let shown = path.display();
    let bytes = file::read(path)
        .map_err(|error| place.mistake(format!("{shown}: {error}"), "name a file that edge may read"))?;
    let lists =
        pem::revocations(&bytes).map_err(|unread| place.mistake(format!("{shown}: {unread}"), unread.mend()))?;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    for list in &lists {
        let parsed = x509_parser::revocation_list::CertificateRevocationList::from_der(list);
        let next = parsed.ok().and_then(|(_, list)| list.next_update());
        if next.is_some_and(|next| next.timestamp() < now) {
            let what = format!("{shown} has a revocation list whose next update is due");
            warnings.push(place.mistake(what, "fetch the present one from its CA"));
        }
    }
    Ok(lists)
}

/// Whom the finished handshake is with. A resumed session brings the certificate of the one it
/// resumes: it is checked again, since it may have expired, or the zone's CAs may be others now.
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
    // Whatever kinds of resumption rustls tells apart.
    if !matches!(
        session.handshake_kind(),
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
    ) {
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
        field: format!(":{}:", data_encoding::BASE64.encode(leaf)),
    }
}
