//! Certificates of clients, for zones that ask for them: who may present which, and whom a session
//! stands for.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CommonState, Error, HandshakeKind, RootCertStore};
use x509_parser::extensions::GeneralName;

use super::pem_file;
use super::policy::Policy;
use super::signed::{Signed, parsed};
use crate::base::peer::Identity;
use crate::base::{file, pem, validity};
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
    let authorities = pem_file::certificates(path, place)?;
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
        if validity::next_update(list).is_some_and(|next| next < now) {
            let what = format!("{shown} has a revocation list whose next update is due");
            warnings.push(place.mistake(what, "fetch the present one from its CA"));
        }
    }
    Ok(lists)
}

/// Warnings of lists whose next update is due by now.
pub(super) fn overdue(clients: &Clients) -> Vec<Mistake> {
    let mut warnings = Vec::new();
    for (path, place) in &clients.revoked {
        // A file that cannot be read is told when it is needed.
        let _ = revoked(path, place, &mut warnings);
    }
    warnings
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
    Ok(named(leaf, issuers).map(Arc::new))
}

/// Certificates above a client's own that go on at most, and bytes of their field: an origin takes
/// heads of 16 to 64 KiB.
const MOST_ISSUERS: usize = 8;
const MOST_FIELD: usize = 12 << 10;

/// Whom `leaf` names; `None` cannot happen, for it was read before.
fn named(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Option<Identity> {
    let parsed = parsed(leaf)?;
    let hash = |bytes: &[u8]| data_encoding::HEXLOWER.encode(digest(&SHA256, bytes).as_ref());
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Some(Identity {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names: names.filter_map(name).collect(),
        spki: hash(parsed.public_key().raw),
        fingerprint: hash(leaf),
        field: HeaderValue::try_from(item(leaf)).ok()?,
        chain: chain(leaf, rest),
    })
}

/// An alternative name with its kind, as tools print it; `None`: of a kind that nobody compares.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", name.to_ascii_lowercase())),
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            ip.ok().map(|ip| format!("IP:{ip}"))
        }
        _ => None,
    }
}

/// A byte sequence (RFC 9651 section 3.3.5).
fn item(certificate: &[u8]) -> String {
    format!(":{}:", data_encoding::BASE64.encode(certificate))
}

/// `Client-Cert-Chain`: of what the client sent beside its certificate, in TLS's order, those that
/// lead from it to an authority, each of which has signed the one before it. What else a client
/// adds, an origin would have to take on trust. Left out if it is longer than an origin takes.
fn chain(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Option<HeaderValue> {
    let mut below = leaf;
    let mut field = String::new();
    for above in rest.iter().take(MOST_ISSUERS) {
        let signs = || {
            let (lower, upper) = (parsed(below)?, parsed(above)?);
            let named = upper.subject().as_raw() == lower.issuer().as_raw();
            Some(named && Signed::of_certificate(below)?.is_by(&upper))
        };
        if signs() != Some(true) {
            break;
        }
        if !field.is_empty() {
            field.push_str(", ");
        }
        field.push_str(&item(above));
        below = above;
    }
    if field.is_empty() || field.len() > MOST_FIELD {
        return None;
    }
    HeaderValue::try_from(field).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

    use super::*;

    fn authority(name: &str, by: Option<&CertifiedIssuer<'_, KeyPair>>) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        match by {
            Some(by) => CertifiedIssuer::signed_by(params, key, by).unwrap(),
            None => CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// A rule or an origin would not know the client by what its certificate says, or take one kind
    /// of name for another.
    #[test]
    fn what_a_certificate_says() {
        let root = authority("root", None);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["Shop.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "shop");
        params.subject_alt_names.extend([
            SanType::URI("spiffe://a/DNS:x".try_into().unwrap()),
            SanType::Rfc822Name("a@b.example".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ]);
        let leaf = params.signed_by(&key, &root).unwrap().der().clone();
        let identity = named(&leaf, &[]).unwrap();
        assert!(
            identity.subject.ends_with("CN=shop") && identity.issuer.ends_with("CN=root"),
            "{identity:?}"
        );
        let names = [
            "DNS:shop.example",
            "URI:spiffe://a/DNS:x",
            "email:a@b.example",
            "IP:192.0.2.1",
            "IP:2001:db8::1",
        ];
        assert_eq!(identity.names, names);
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(
            identity.spki,
            data_encoding::HEXLOWER.encode(digest(&SHA256, &spki).as_ref())
        );
        assert_eq!(
            (identity.field, identity.chain),
            (HeaderValue::try_from(item(&leaf)).unwrap(), None)
        );
    }

    /// An origin would believe in an authority that a client made up, or not get the one it needs.
    #[test]
    fn the_chain_is_what_signed_it() {
        let root = authority("root", None);
        let middle = authority("middle", Some(&root));
        let (false_root, false_middle) = (authority("root", None), authority("middle", None));
        let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let leaf = leaf
            .signed_by(&KeyPair::generate().unwrap(), &middle)
            .unwrap()
            .der()
            .clone();
        let (middle, root) = (middle.der().clone(), root.der().clone());
        let field = |rest: &[&CertificateDer<'static>]| {
            let rest: Vec<_> = rest.iter().map(|one| (*one).clone()).collect();
            chain(&leaf, &rest).map(|field| field.to_str().unwrap().to_owned())
        };
        let whole = format!("{}, {}", item(&middle), item(&root));
        assert_eq!(field(&[&middle, &root]), Some(whole.clone()));
        assert_eq!(field(&[&middle]), Some(item(&middle)));
        assert_eq!(
            field(&[&middle, &root, &root, &middle]),
            Some(format!("{whole}, {}", item(&root)))
        );
        assert_eq!(field(&[&middle, false_root.der()]), Some(item(&middle)));
        assert_eq!(field(&[false_middle.der(), &root]), None);
        assert_eq!(field(&[&root]), None, "not the leaf's");
        assert_eq!(field(&[]), None);
        let many: Vec<_> = std::iter::once(&middle).chain([&root; 100]).collect();
        assert!(
            field(&many).is_none_or(|field| field.len() <= MOST_FIELD && field.matches(", ").count() < MOST_ISSUERS)
        );
    }
}
