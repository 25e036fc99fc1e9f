//! Which certificate of a server is believed: one that an authority of the list has signed, or one
//! that is itself in the list. Where the daemon is the client (`origin`), this stands in for
//! rustls's own verifier, which knows authorities only and refuses the certificate that `openssl
//! req -x509` makes (CA:TRUE) when a server shows it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// A verifier of servers' certificates: those that `roots` have signed, and those that are among
/// `listed`, for their names and time alone.
pub fn servers(roots: Arc<RootCertStore>, listed: Vec<CertificateDer<'static>>) -> Arc<dyn ServerCertVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(Servers {
        // Without any root there is nothing to be signed by.
        signed: WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .ok(),
        listed,
        algorithms,
    })
}

/// Whether `error` says that a server showed the certificate of an authority which is not in the
/// list itself.
pub fn is_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(OtherError(error)) if error.downcast_ref::<Authority>().is_some())
}

#[derive(Debug, thiserror::Error)]
#[error("the certificate is an authority's, and not trusted itself")]
struct Authority;

#[derive(Debug)]
struct Servers {
    signed: Option<Arc<WebPkiServerVerifier>>,
    listed: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.listed.iter().any(|listed| listed == end_entity) {
            in_time(end_entity, now)?;
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let signed = self.signed.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        let verified = signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::Other(_)) if of_authority(end_entity) => {
                CertificateError::Other(OtherError(Arc::new(Authority))).into()
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let now = ASN1Time::from_timestamp(seconds).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn of_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn own(name: &str) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params.self_signed(&key).unwrap().der().clone()
    }

    fn at(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600))
    }

    /// The certificate that most guides make would be refused, or be good for any name, for ever,
    /// or for everybody.
    #[test]
    fn a_listed_certificate_is_good_for_its_name_and_time() {
        let (listed, other) = (own("origin.test"), own("origin.test"));
        let mut roots = RootCertStore::empty();
        roots.add(listed.clone()).unwrap();
        let verifier = servers(Arc::new(roots), vec![listed.clone()]);
        let judge = |certificate: &CertificateDer<'_>, name: &'static str, year| {
            let name = ServerName::try_from(name).unwrap();
            verifier
                .verify_server_cert(certificate, &[], &name, &[], at(year))
                .map(drop)
        };
        assert!(judge(&listed, "origin.test", 2030).is_ok());
        assert!(matches!(
            judge(&listed, "other.test", 2030),
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForNameContext { .. }
            ))
        ));
        for (year, right) in [(2019, CertificateError::NotValidYet), (2041, CertificateError::Expired)] {
            assert_eq!(judge(&listed, "origin.test", year), Err(right.into()), "{year}");
        }
        match judge(&other, "origin.test", 2030) {
            Err(Error::InvalidCertificate(error)) => assert!(is_authority(&error)),
            other => panic!("{other:?}"),
        }
        let nobody = servers(Arc::new(RootCertStore::empty()), Vec::new());
        let name = ServerName::try_from("origin.test").unwrap();
        assert!(nobody.verify_server_cert(&listed, &[], &name, &[], at(2030)).is_err());
    }
}
