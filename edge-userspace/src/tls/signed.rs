//! Who signed what, from just enough DER: certificates (RFC 5280 section 4.1) and OCSP responses
//! are signed alike. For questions that webpki does not answer; `staple` and `clients` ask them.
//! Whom to believe is webpki's to say.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::base::validity::element;

/// The tag of a sequence.
pub(super) const SEQUENCE: u8 = 0x30;

/// The contents of a sequence of what is signed, an algorithm, and a bit string.
pub(super) struct Signed<'a> {
    /// With its tag and length.
    pub(super) said: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// What follows in the same sequence.
    pub(super) rest: &'a [u8],
}

/// The contents of the element at the front, which has `tag`, and what follows it.
pub(super) fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(bytes)?;
    (found == tag).then_some((contents, rest))
}

/// A certificate, if it can be read.
pub(super) fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed)
}

impl<'a> Signed<'a> {
    /// From the contents of its sequence.
    pub(super) fn of(contents: &'a [u8]) -> Option<Self> {
        let (_, rest) = take(contents, SEQUENCE)?;
        let said = contents.get(..contents.len().checked_sub(rest.len())?)?;
        let (algorithm, rest) = take(rest, SEQUENCE)?;
        let (bits, rest) = take(rest, 0x03)?;
        // Whole bytes: none of the last one's bits is unused.
        let signature = bits.strip_prefix(&[0])?;
        Some(Self {
            said,
            algorithm,
            signature,
            rest,
        })
    }

    /// From a certificate in DER.
    pub(super) fn of_certificate(certificate: &'a [u8]) -> Option<Self> {
        Self::of(take(certificate, SEQUENCE)?.0)
    }

    /// Whether the key in `by` has signed it, by an algorithm that TLS takes in certificates.
    pub(super) fn is_by(&self, by: &X509Certificate<'_>) -> bool {
        let key = by.public_key();
        let Some((algorithm, _)) = take(key.raw, SEQUENCE).and_then(|(contents, _)| take(contents, SEQUENCE)) else {
            return false;
        };
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all
            .iter()
            .filter(|one| {
                one.signature_alg_id().as_ref() == self.algorithm && one.public_key_alg_id().as_ref() == algorithm
            })
            .any(|one| {
                one.verify_signature(&key.subject_public_key.data, self.said, self.signature)
                    .is_ok()
            })
    }
}
