//! Keys of a fleet: Ed25519 (RFC 8032) to sign with, X25519 to seal to. As text, so that they can
//! be copied into files: `ed25519:` or `x25519:` and base64. A secret's file is one line for each
//! key and nobody else's to read.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePrivateKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::NoRandomness;
use crate::base::file;

/// What is sealed to a key, and how: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
pub(super) static SUITE: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_256;

/// Bytes of a signature.
pub const SIGNATURE: usize = 64;

const SIGNS: &str = "ed25519:";
const SEALS: &str = "x25519:";
const SECRET_SIGNS: &str = "ed25519-secret:";
const SECRET_SEALS: &str = "x25519-secret:";

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("the key file {0} cannot be used: {1}")]
    File(PathBuf, #[source] io::Error),
    /// Others may read it.
    #[error("others may read the key file {0}; `chmod 600 {0}`")]
    Open(PathBuf),
    /// It holds something else.
    #[error("the key file {0} does not hold {1}; `edge fleet keys` and `edge fleet join` make such files")]
    Content(PathBuf, &'static str),
    /// No key can be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The library refused.
    #[error("no key to seal to could be made")]
    Seal,
}

/// A public key that signatures are checked with: `ed25519:` and base64 of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Public([u8; 32]);

impl Public {
    /// Whether `signature` is this key's for `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }

    /// From 0 to 1, another for each key: nodes that do the same thing at different times take
    /// their turn from it.
    pub fn spread(&self) -> f32 {
        f32::from(self.0.first().copied().unwrap_or_default()) / 256.0
    }
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SIGNS}{}", BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn bytes(text: &str, prefix: &str) -> Option<[u8; 32]> {
    let bytes = BASE64.decode(text.strip_prefix(prefix)?.as_bytes()).ok()?;
    bytes.try_into().ok()
}

impl FromStr for Public {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text, SIGNS)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a public key; write {SIGNS} and what `edge fleet keys` printed"))
    }
}

impl TryFrom<String> for Public {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Public> for String {
    fn from(key: Public) -> Self {
        key.to_string()
    }
}

/// A public key that secrets are sealed to: `x25519:` and base64 of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(pub(super) [u8; 32]);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEALS}{}", BASE64.encode(&self.0))
    }
}

impl FromStr for Recipient {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text, SEALS).map(Self).ok_or_else(|| {
            format!("\"{text}\" is not a key to seal to; write {SEALS} and what `edge fleet join` printed")
        })
    }
}

impl TryFrom<String> for Recipient {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(key: Recipient) -> Self {
        key.to_string()
    }
}

/// A key that signs: a deploy key, an operator's or a node's.
pub struct Signer {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl Signer {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, Error> {
        Self::from_seed(&Zeroizing::new(super::random::<32>()?)).ok_or(Error::Random(NoRandomness))
    }

    fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?;
        let seed = seed.clone();
        Some(Self { pair, seed })
    }

    /// Its public key.
    pub fn public(&self) -> Public {
        let mut bytes = [0; 32];
        // Ed25519's public keys are 32 bytes; a shorter one would never verify anything.
        let key = self.pair.public_key().as_ref();
        for (to, from) in bytes.iter_mut().zip(key) {
            *to = *from;
        }
        Public(bytes)
    }

    /// Its signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE] {
        let mut bytes = [0; SIGNATURE];
        for (to, from) in bytes.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        bytes
    }

    /// Reads a file that [`Signer::write`] wrote.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        let seed = text.lines().find_map(|line| bytes(line.trim(), SECRET_SIGNS));
        let seed = seed.map(Zeroizing::new);
        seed.and_then(|seed| Self::from_seed(&seed))
            .ok_or_else(|| Error::Content(path.to_owned(), "a key to sign with"))
    }

    fn line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{SECRET_SIGNS}{}\n", BASE64.encode(self.seed.as_slice())))
    }

    /// Writes it to a new file that nobody else may read.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write(path, &[&self.line()])
    }
}

/// A node's keys: one to sign events and receipts with, one that secrets are sealed to.
pub struct Identity {
    /// Signs.
    pub signer: Signer,
    secret: Zeroizing<[u8; 32]>,
    recipient: Recipient,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.signer.public())
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// No key can be made.
    pub fn generate() -> Result<Self, Error> {
        let (public, secret) = SUITE.generate_key_pair().map_err(|_| Error::Seal)?;
        let recipient = Recipient(public.0.try_into().map_err(|_| Error::Seal)?);
        let secret = Zeroizing::new(secret.secret_bytes().try_into().map_err(|_| Error::Seal)?);
        Ok(Self {
            signer: Signer::generate()?,
            secret,
            recipient,
        })
    }

    /// The key that secrets are sealed to.
    pub const fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// What opens them.
    pub(super) fn opens(&self) -> HpkePrivateKey {
        HpkePrivateKey::from(self.secret.to_vec())
    }

    /// Reads a file that [`Identity::write`] wrote.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        let find = |prefix| text.lines().find_map(|line| bytes(line.trim(), prefix));
        let seed = find(SECRET_SIGNS).map(Zeroizing::new);
        let signer = seed.and_then(|seed| Signer::from_seed(&seed));
        let keys = signer.zip(find(SECRET_SEALS)).zip(find(SEALS));
        let ((signer, secret), recipient) = keys.ok_or_else(|| Error::Content(path.to_owned(), "a node's keys"))?;
        Ok(Self {
            signer,
            secret: Zeroizing::new(secret),
            recipient: Recipient(recipient),
        })
    }

    /// Writes it to a new file that nobody else may read.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let seals = Zeroizing::new(format!("{SECRET_SEALS}{}\n", BASE64.encode(self.secret.as_slice())));
        write(path, &[&self.signer.line(), &seals, &format!("{}\n", self.recipient)])
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let wrong = |error| Error::File(path.to_owned(), error);
    let meta = std::fs::metadata(path).map_err(wrong)?;
    if meta.mode() & 0o077 != 0 {
        return Err(Error::Open(path.to_owned()));
    }
    let bytes = file::read(path).map_err(wrong)?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| Error::Content(path.to_owned(), "text"))?;
    Ok(Zeroizing::new(text))
}

fn write(path: &Path, lines: &[&str]) -> Result<(), Error> {
    let wrong = |error| Error::File(path.to_owned(), error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(wrong)?;
    for line in lines {
        file.write_all(line.as_bytes()).map_err(wrong)?;
    }
    file.sync_all().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key file that others read, or that is something else, would be used all the same; or a key
    /// would not come back.
    #[test]
    fn key_files_come_back_and_are_nobody_elses() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let made = Identity::generate().unwrap();
        made.write(&path).unwrap();
        assert!(made.write(&path).is_err(), "a key is never written over");
        let read = Identity::read(&path).unwrap();
        assert_eq!(
            (read.signer.public(), read.recipient()),
            (made.signer.public(), made.recipient())
        );
        let signature = read.signer.sign(b"text");
        assert!(made.signer.public().verifies(b"text", &signature));
        assert!(!made.signer.public().verifies(b"texd", &signature));
        assert!(!Signer::generate().unwrap().public().verifies(b"text", &signature));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Signer::read(&path), Err(Error::Open(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "something").unwrap();
        assert!(matches!(Signer::read(&path), Err(Error::Content(..))));
        let text = made.signer.public().to_string();
        assert_eq!(text.parse::<Public>().unwrap(), made.signer.public());
        for wrong in [
            "",
            "ed25519:",
            "ed25519:AAAA",
            &text[1..],
            &made.recipient().to_string(),
        ] {
            assert!(wrong.parse::<Public>().is_err(), "{wrong}");
        }
    }
}
