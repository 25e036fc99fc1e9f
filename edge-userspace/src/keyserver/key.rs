//! One private key: what it is, what it may be called, and what it does. Made by `store` from a
//! file, used by `serve` and the lanes. The library wipes its memory when the last reference goes;
//! a key behind PKCS#11 never was in it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::pem::{self, Form, PemError};
use super::rsa::Decryptor;
use super::wire::{KeyId, KeyKind, Scheme};

/// A private key.
pub(super) struct Key {
    /// Its file's name without the ending; what grants call it.
    pub(super) name: Arc<str>,
    /// SHA-256 of `spki`.
    pub(super) id: KeyId,
    /// SubjectPublicKeyInfo, DER.
    pub(super) spki: Vec<u8>,
    /// What it is.
    pub(super) kind: KeyKind,
    material: Material,
    /// Made when it is first needed.
    stand_in: OnceLock<Zeroizing<[u8; 32]>>,
}

enum Material {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<(RsaKeyPair, Decryptor)>),
    #[cfg(feature = "pkcs11")]
    Token(Box<super::pkcs11::TokenKey>),
}

/// Why a file's key cannot be used. The operator's fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// Not read that far.
    #[error("{0}")]
    Pem(#[from] PemFault),
    /// Another algorithm, another curve, or damaged inside.
    #[error("its private key is of no kind known here; make one: ECDSA P-256 or P-384, Ed25519, or RSA")]
    Kind,
    /// RSA with too few or too many bits.
    #[error("its RSA key has {0} bits; make one of 2048 to 4096 bits")]
    RsaBits(usize),
    /// The library could not write the public key.
    #[error("its public key cannot be told")]
    Public,
    /// Not found or not usable behind PKCS#11.
    #[cfg(feature = "pkcs11")]
    #[error("{0}")]
    Token(Box<super::pkcs11::TokenError>),
    /// The feature is off.
    #[cfg(not(feature = "pkcs11"))]
    #[error("this build has no PKCS#11; build it with --features keyserver,pkcs11")]
    NoPkcs11,
}

/// [`PemError`] outside this room's walls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct PemFault(#[from] PemError);

/// The library failed, or the token; no input makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be used this way")]
pub(super) struct Failed;

impl KeyError {
    /// Whether the key may be there at the next look, with nothing changed in its file.
    pub(super) fn passes(&self) -> bool {
        match self {
            #[cfg(feature = "pkcs11")]
            Self::Token(error) => error.passes(),
            _ => false,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {} {})", self.name, self.kind, self.id)
    }
}

impl Key {
    /// The private key in a PEM file's text.
    ///
    /// # Errors
    /// Why it cannot be used, with the mend.
    pub(super) fn from_pem(name: &str, text: &[u8]) -> Result<Self, KeyError> {
        let (form, der) = pem::private_key(text).map_err(PemFault)?;
        let (kind, material, spki) = material(form, &der)?;
        Ok(Self {
            name: name.into(),
            id: KeyId::of_spki(&spki),
            spki,
            kind,
            material,
            stand_in: OnceLock::new(),
        })
    }

    /// The key in a token that a `*.pkcs11` file's text speaks of; paths in it are relative to
    /// `directory`.
    ///
    /// # Errors
    /// Why it cannot be used, with the mend.
    #[cfg(feature = "pkcs11")]
    pub(super) fn in_token(name: &str, text: &[u8], directory: &Path) -> Result<Self, KeyError> {
        let found = super::pkcs11::TokenKey::find(text, directory).map_err(|error| KeyError::Token(Box::new(error)))?;
        Ok(Self {
            name: name.into(),
            id: KeyId::of_spki(&found.spki),
            spki: found.spki,
            kind: found.kind,
            material: Material::Token(Box::new(found.key)),
            stand_in: OnceLock::new(),
        })
    }

    /// Says that this build cannot.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "pkcs11"))]
    pub(super) fn in_token(_: &str, _: &[u8], _: &Path) -> Result<Self, KeyError> {
        Err(KeyError::NoPkcs11)
    }

    /// Whether its operations take long: they belong to the lane.
    pub(super) fn is_slow(&self) -> bool {
        match &self.material {
            Material::Ecdsa(_) | Material::Ed25519(_) => false,
            Material::Rsa(_) => true,
            #[cfg(feature = "pkcs11")]
            Material::Token(_) => true,
        }
    }

    /// Signs `message` as `scheme` says: ECDSA in DER, the others as they are.
    ///
    /// # Errors
    /// The scheme is not the key's; callers have checked that. Or the key's token fails.
    pub(super) fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, Failed> {
        if !self.kind.schemes().contains(&scheme) {
            return Err(Failed);
        }
        let random = SystemRandom::new();
        match &self.material {
            Material::Ecdsa(key) => key.sign(&random, message).map(|s| s.as_ref().to_vec()),
            Material::Ed25519(key) => key.try_sign(message).map(|s| s.as_ref().to_vec()),
            Material::Rsa(key) => {
                let mut signature = vec![0; key.0.public_modulus_len()];
                let encoding = encoding(scheme).ok_or(Failed)?;
                key.0
                    .sign(encoding, &random, message, &mut signature)
                    .map(|()| signature)
            }
            #[cfg(feature = "pkcs11")]
            Material::Token(key) => return key.sign(scheme, message).map_err(|error| self.failed(&error)),
        }
        .map_err(|_| Failed)
    }

    /// Bytes of the modulus of an RSA key; `None` for other kinds.
    pub(super) fn modulus(&self) -> Option<usize> {
        match &self.material {
            Material::Rsa(key) => Some(key.1.bytes()),
            Material::Ecdsa(_) | Material::Ed25519(_) => None,
            #[cfg(feature = "pkcs11")]
            Material::Token(key) => key.modulus(),
        }
    }

    /// The RSA private operation, as [`Decryptor::raw`] does it.
    ///
    /// # Errors
    /// The key is of another kind, or its token fails.
    pub(super) fn raw(&self, ciphertext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Failed> {
        match &self.material {
            Material::Rsa(key) => Ok(key.1.raw(ciphertext)),
            Material::Ecdsa(_) | Material::Ed25519(_) => Err(Failed),
            #[cfg(feature = "pkcs11")]
            Material::Token(key) => key.raw(ciphertext).map_err(|error| self.failed(&error)),
        }
    }

    /// A secret that follows from an RSA key alone, wherever it is kept, for
    /// [`premaster::stand_in`](super::premaster::stand_in): what the private operation makes of a
    /// block that nobody gets signed or decrypted, for it is neither a digest nor sound.
    ///
    /// # Errors
    /// As [`Key::raw`].
    pub(super) fn stand_in(&self) -> Result<&[u8; 32], Failed> {
        if let Some(secret) = self.stand_in.get() {
            return Ok(secret);
        }
        let mut block = Vec::new();
        let mut number = 0_u32;
        while block.len() < self.modulus().ok_or(Failed)? {
            let part = [&b"edge stand-in 1"[..], &number.to_be_bytes(), &self.spki].concat();
            block.extend(digest(&SHA256, &part).as_ref());
            number = number.saturating_add(1);
        }
        block.truncate(self.modulus().ok_or(Failed)?);
        // Below every modulus of that length.
        if let Some(first) = block.first_mut() {
            *first = 0;
        }
        let raw = self.raw(&block)?.ok_or(Failed)?;
        let mut secret = Zeroizing::new([0; 32]);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"edge stand-in 1");
        secret.copy_from_slice(hmac::sign(&key, &raw).as_ref());
        Ok(self.stand_in.get_or_init(|| secret))
    }

    /// Says it to the operator: the edge is only told that the server failed.
    #[cfg(feature = "pkcs11")]
    fn failed(&self, error: &super::pkcs11::TokenError) -> Failed {
        tracing::error!(target: "edge::keyserver", key = &*self.name, %error, "a token failed");
        Failed
    }

    /// The RSA private operation of a key in memory.
    #[cfg(test)]
    pub(super) fn decryptor(&self) -> Option<&Decryptor> {
        match &self.material {
            Material::Rsa(key) => Some(&key.1),
            _ => None,
        }
    }
}

fn encoding(scheme: Scheme) -> Option<&'static dyn RsaEncoding> {
    Some(match scheme {
        Scheme::RsaPkcs1Sha256 => &RSA_PKCS1_SHA256,
        Scheme::RsaPkcs1Sha384 => &RSA_PKCS1_SHA384,
        Scheme::RsaPkcs1Sha512 => &RSA_PKCS1_SHA512,
        Scheme::RsaPssSha256 => &RSA_PSS_SHA256,
        Scheme::RsaPssSha384 => &RSA_PSS_SHA384,
        Scheme::RsaPssSha512 => &RSA_PSS_SHA512,
        Scheme::EcdsaP256Sha256 | Scheme::EcdsaP384Sha384 | Scheme::Ed25519 => return None,
    })
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Vec<u8>, KeyError> {
    Ok(key.as_der().map_err(|_| KeyError::Public)?.as_ref().to_vec())
}

/// The key in `der`, whichever kind it is of.
fn material(form: Form, der: &[u8]) -> Result<(KeyKind, Material, Vec<u8>), KeyError> {
    if form != Form::Pkcs1 {
        let curves: [(_, &'static EcdsaSigningAlgorithm); 2] = [
            (KeyKind::EcdsaP256, &ECDSA_P256_SHA256_ASN1_SIGNING),
            (KeyKind::EcdsaP384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        ];
        for (kind, algorithm) in curves {
            if let Ok(key) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
                let spki = spki(key.public_key())?;
                return Ok((kind, Material::Ecdsa(key), spki));
            }
        }
    }
    if form == Form::Pkcs8
        && let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
    {
        let spki = spki(key.public_key())?;
        return Ok((KeyKind::Ed25519, Material::Ed25519(key), spki));
    }
    let decryptor = Decryptor::new(form, der).ok_or(KeyError::Kind)?;
    if !(256..=512).contains(&decryptor.bytes()) {
        return Err(KeyError::RsaBits(decryptor.bytes() * 8));
    }
    let key = match form {
        Form::Pkcs1 => RsaKeyPair::from_der(der),
        _ => RsaKeyPair::from_pkcs8(der),
    }
    .map_err(|_| KeyError::Kind)?;
    let spki = spki(key.public_key())?;
    Ok((KeyKind::Rsa, Material::Rsa(Box::new((key, decryptor))), spki))
}
