//! Keys that are elsewhere, as rustls sees them: a `SigningKey` whose signatures are asked of a key
//! server. rustls hands over the composed message; only its parts go out, and anything but a
//! server's handshake is refused.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Question, Refusal, Reply, Route};
use crate::keyserver::wire::{self, KeyId, KeyKind, Request, Scheme};
use crate::tls::suspend;

/// A certificate's public key: all an edge knows of a key that is elsewhere.
#[derive(Clone)]
pub struct PublicKey {
    /// Its name at the key servers.
    pub id: KeyId,
    /// What it can do.
    pub kind: KeyKind,
    spki: SubjectPublicKeyInfoDer<'static>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.kind, self.id)
    }
}

impl PublicKey {
    /// The key of `leaf`; `None` when it cannot be read or is of a kind that key servers do not
    /// have.
    pub fn of(leaf: &CertificateDer<'_>) -> Option<Self> {
        let certificate = ParsedCertificate::try_from(leaf).ok()?;
        let spki = certificate.subject_public_key_info().into_owned();
        let (_, parsed) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
        let curve = || parsed.algorithm.parameters.as_ref()?.as_oid().ok();
        let kind = match parsed.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => KeyKind::Rsa,
            "1.2.840.10045.2.1" => match curve()?.to_id_string().as_str() {
                "1.2.840.10045.3.1.7" => KeyKind::EcdsaP256,
                "1.3.132.0.34" => KeyKind::EcdsaP384,
                _ => return None,
            },
            "1.3.101.112" => KeyKind::Ed25519,
            _ => return None,
        };
        Some(Self {
            id: KeyId::of_spki(&spki),
            kind,
            spki,
        })
    }

    /// Whether `signature` over `message` is this key's.
    pub fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        use ring::signature as s;
        let algorithm: &dyn s::VerificationAlgorithm = match scheme {
            Scheme::EcdsaP256Sha256 => &s::ECDSA_P256_SHA256_ASN1,
            Scheme::EcdsaP384Sha384 => &s::ECDSA_P384_SHA384_ASN1,
            Scheme::Ed25519 => &s::ED25519,
            Scheme::RsaPssSha256 => &s::RSA_PSS_2048_8192_SHA256,
            Scheme::RsaPssSha384 => &s::RSA_PSS_2048_8192_SHA384,
            Scheme::RsaPssSha512 => &s::RSA_PSS_2048_8192_SHA512,
            Scheme::RsaPkcs1Sha256 => &s::RSA_PKCS1_2048_8192_SHA256,
            Scheme::RsaPkcs1Sha384 => &s::RSA_PKCS1_2048_8192_SHA384,
            Scheme::RsaPkcs1Sha512 => &s::RSA_PKCS1_2048_8192_SHA512,
        };
        let Ok((_, parsed)) = SubjectPublicKeyInfo::from_der(&self.spki) else {
            return false;
        };
        s::UnparsedPublicKey::new(algorithm, &parsed.subject_public_key.data)
            .verify(message, signature)
            .is_ok()
    }
}

/// The key of one certificate, behind its zone's key servers.
#[derive(Debug)]
pub struct RemoteKey(pub Arc<Route>);

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let known = |scheme: &&Scheme| offered.contains(&SignatureScheme::from(scheme.code()));
        let scheme = *self.0.key.kind.schemes().iter().find(known)?;
        Some(Box::new(RemoteSigner {
            route: self.0.clone(),
            scheme,
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.key.spki.as_ref()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.key.kind {
            KeyKind::Rsa => SignatureAlgorithm::RSA,
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => SignatureAlgorithm::ECDSA,
            KeyKind::Ed25519 => SignatureAlgorithm::ED25519,
        }
    }
}

#[derive(Debug)]
struct RemoteSigner {
    route: Arc<Route>,
    scheme: Scheme,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let request = parts(self.scheme, message).ok_or(Refusal::Strange)?;
        let question = Question {
            route: self.route.clone(),
            request,
            on: None,
        };
        match suspend::ask(question)? {
            Some(Reply {
                answer: wire::Answer::Signature(signature),
                ..
            }) => Ok(signature),
            _ => Err(Refusal::Unfitting.into()),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::from(self.scheme.code())
    }
}

/// The request for what rustls composed; `None` when it is no server's handshake.
fn parts(scheme: Scheme, message: &[u8]) -> Option<Request> {
    // No TLS 1.2 message looks like one of TLS 1.3: its second half begins with a random of our
    // own.
    if let Some(transcript) = wire::split_tls13(message) {
        return Some(Request::SignTls13 { scheme, transcript });
    }
    let (client_random, server_random, share) = wire::split_tls12(message)?;
    Some(Request::SignTls12 {
        scheme,
        client_random,
        server_random,
        share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An edge that sends out what it was not made for would make the key server an oracle.
    #[test]
    fn only_handshakes_are_asked_for() {
        let scheme = Scheme::EcdsaP256Sha256;
        let transcript = wire::Transcript::Sha256([7; 32]);
        let message = wire::tls13(&transcript);
        assert_eq!(parts(scheme, &message), Some(Request::SignTls13 { scheme, transcript }));
        for wrong in [&message[1..], &message[..97], b"", b"GET / HTTP/1.1\r\n"] {
            assert_eq!(parts(scheme, wrong), None);
        }
    }

    /// The key server would not know the key, or refuse the scheme.
    #[test]
    fn keys_are_known_by_their_certificates() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::EcdsaP256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::EcdsaP384),
            (&rcgen::PKCS_ED25519, KeyKind::Ed25519),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
            let key = PublicKey::of(params.self_signed(&pair).unwrap().der()).unwrap();
            assert_eq!(key.kind, kind);
            assert_eq!(
                key.id,
                KeyId::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&pair))
            );
            let signature = rcgen::SigningKey::sign(&pair, b"words").unwrap();
            let scheme = kind.schemes()[0];
            assert!(key.verify(scheme, b"words", &signature));
            assert!(!key.verify(scheme, b"other words", &signature));
        }
    }
}
