//! A private key that stays in a token (HSM, smart card, SoftHSM) behind PKCS#11: found by what a
//! `*.pkcs11` file in the key directory says, and used by the threads of the slow lane, for a token
//! may take its time. Made by `key`.
//!
//! The token is asked for the bare operation and never for a hash of its own: the mechanisms are
//! those that every token has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Fault, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use secrecy::ExposeSecret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::wire::{KeyKind, Scheme};
use crate::base::file;

/// The longest PIN file.
const PIN: u64 = 4 << 10;

/// Why a key behind PKCS#11 cannot be used. The operator's fault, or the token's.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    /// The file in the key directory.
    #[error("{0}; write module, token or slot, key or id, and pin")]
    File(String),
    /// The file with the PIN.
    #[error("the PIN's file {}: {why}", path.display())]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The module or the token says no.
    #[error("PKCS#11: {0}")]
    Module(#[from] Fault),
    /// No such thing there.
    #[error("the module has no {0}; `pkcs11-tool --module MODULE -L -O` shows what it has")]
    None(&'static str),
    /// It has said so before.
    #[error("the token has not taken this PIN before, and is not asked again; write the right one, or restart")]
    Refused,
    /// More than one such thing.
    #[error("there are several keys of this name; write the id instead")]
    Several,
    /// Another algorithm, another curve or size.
    #[error("the key is of no kind known here; make one: ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits")]
    Kind,
    /// Public and private key do not belong together.
    #[error("what the private key signs, the public key beside it does not verify; give both the same id")]
    Pair,
}

impl TokenError {
    /// The key may be there at the next look, with nothing changed in its file.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Module(_) | Self::None(_) | Self::Refused | Self::Pin { .. })
    }
}

/// The token does not take this PIN, or none any more.
fn pin_refused(fault: &Fault) -> bool {
    use RvError::{PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    matches!(
        fault,
        Fault::Pkcs11(PinExpired | PinIncorrect | PinInvalid | PinLenRange | PinLocked, _)
    )
}

/// What a file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The module's library.
    module: PathBuf,
    /// The token's label.
    token: Option<String>,
    /// Or the slot's number.
    slot: Option<u64>,
    /// The key's label.
    key: Option<String>,
    /// Or its id, in hexadecimal digits.
    id: Option<String>,
    /// The file with the user's PIN; none where the token asks for it itself.
    pin: Option<PathBuf>,
}

/// A key in a token.
pub(super) struct TokenKey {
    module: Pkcs11,
    entry: Entry,
    find: Vec<Attribute>,
    pin: Option<AuthPin>,
    /// Of an RSA key.
    modulus: Option<Vec<u8>>,
    kind: KeyKind,
    /// Sessions nobody uses now; as many as threads have signed at once.
    sessions: Mutex<Vec<(Session, ObjectHandle)>>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

/// A module is initialised once in a process, and stays.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// SHA-256 of the tokens and PINs that did not go together: tokens lock themselves after a few
/// wrong PINs, so none is tried again in the life of the process.
static REFUSED: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());

fn module(path: &Path) -> Result<Pkcs11, TokenError> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(module) = modules.get(&real) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(&real)?;
    // The process is closed to new threads.
    let flags = CInitializeFlags::OS_LOCKING_OK | CInitializeFlags::LIBRARY_CANT_CREATE_OS_THREADS;
    match module.initialize(CInitializeArgs::new(flags)) {
        Ok(()) | Err(Fault::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(fault) => return Err(fault.into()),
    }
    modules.insert(real, module.clone());
    Ok(module)
}

/// The PIN, without the end of its line.
fn pin(path: &Path) -> Result<AuthPin, TokenError> {
    let wrong = |why: String| TokenError::Pin {
        path: path.to_owned(),
        why,
    };
    let meta = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.mode() & 0o006 != 0 {
        return Err(wrong("others may access it; chmod o= it".to_owned()));
    }
    if meta.len() > PIN {
        return Err(wrong("it holds more than a PIN".to_owned()));
    }
    let bytes = file::read_at_most(path, PIN).map_err(|error| wrong(error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is no text".to_owned()))?;
    Ok(AuthPin::from(text.trim_end_matches(['\r', '\n'])))
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
}

/// A key that was found: what it is, and its SubjectPublicKeyInfo (DER).
pub(super) struct Found {
    pub(super) kind: KeyKind,
    pub(super) spki: Vec<u8>,
    pub(super) key: TokenKey,
}

impl TokenKey {
    /// The key that `text` speaks of; paths in it are relative to `directory`. Signs once, to see
    /// that it can.
    ///
    /// # Errors
    /// Why it cannot be used, with the mend. A token that is away may come back: to be tried again.
    pub(super) fn find(text: &[u8], directory: &Path) -> Result<Found, TokenError> {
        let text = std::str::from_utf8(text).map_err(|_| TokenError::File("it is no text".to_owned()))?;
        let entry: Entry = toml::from_str(text).map_err(|error| TokenError::File(error.message().to_owned()))?;
        if entry.token.is_some() == entry.slot.is_some() {
            return Err(TokenError::File("it names a token or a slot, one of them".to_owned()));
        }
        let find = match (&entry.key, &entry.id) {
            (Some(label), None) => Attribute::Label(label.clone().into_bytes()),
            (None, Some(id)) => {
                let id = hex(id).ok_or_else(|| TokenError::File("the id is not hexadecimal".to_owned()))?;
                Attribute::Id(id)
            }
            _ => return Err(TokenError::File("it names a key or an id, one of them".to_owned())),
        };
        let pin = entry.pin.as_ref().map(|path| pin(&directory.join(path))).transpose()?;
        let mut this = Self {
            module: module(&directory.join(&entry.module))?,
            entry,
            find: vec![find],
            pin,
            modulus: None,
            kind: KeyKind::Rsa,
            sessions: Mutex::default(),
        };
        let (session, private) = this.open()?;
        let public = public(&session, private, &this.find)?;
        this.kind = public.kind;
        this.modulus.clone_from(&public.modulus);
        this.lock().push((session, private));
        this.prove(&public)?;
        Ok(Found {
            kind: public.kind,
            spki: public.spki,
            key: this,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Session, ObjectHandle)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session, logged in, and the key in it.
    fn open(&self) -> Result<(Session, ObjectHandle), TokenError> {
        let slot = self.slot()?;
        let session = self.module.open_ro_session(slot)?;
        self.login(&session)?;
        let key = one(&session, ObjectClass::PRIVATE_KEY, &self.find, "such private key")?;
        Ok((session, key))
    }

    /// Of the whole process: later sessions find it done.
    fn login(&self, session: &Session) -> Result<(), TokenError> {
        let attempt = match &self.pin {
            None => None,
            Some(pin) => {
                let Entry {
                    module, token, slot, ..
                } = &self.entry;
                let mut hash = digest::Context::new(&digest::SHA256);
                hash.update(format!("{module:?} {token:?} {slot:?} ").as_bytes());
                hash.update(pin.expose_secret().as_bytes());
                Some(hash.finish().as_ref().to_vec())
            }
        };
        // Held over the attempt: keys of one token must not each try the same wrong PIN.
        let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.as_ref().is_some_and(|attempt| refused.contains(attempt)) {
            return Err(TokenError::Refused);
        }
        match session.login(UserType::User, self.pin.as_ref()) {
            Ok(()) | Err(Fault::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(fault) => {
                if pin_refused(&fault) {
                    refused.extend(attempt);
                }
                Err(fault.into())
            }
        }
    }

    /// Looked for each time: a token that was pulled may come back in another slot.
    fn slot(&self) -> Result<Slot, TokenError> {
        for slot in self.module.get_slots_with_token()? {
            let right = match (&self.entry.token, self.entry.slot) {
                (Some(label), _) => self.module.get_token_info(slot)?.label() == label,
                (None, number) => number == Some(slot.id()),
            };
            if right {
                return Ok(slot);
            }
        }
        Err(TokenError::None("such token or slot"))
    }

    /// Does `work` in a session; in a new one if the first, which may be an old one, fails.
    fn within(&self, work: impl Fn(&Session, ObjectHandle) -> Result<Vec<u8>, Fault>) -> Result<Vec<u8>, TokenError> {
        let kept = self.lock().pop();
        if let Some((session, key)) = kept
            && let Ok(done) = work(&session, key)
        {
            self.lock().push((session, key));
            return Ok(done);
        }
        let (session, key) = self.open()?;
        let done = work(&session, key)?;
        self.lock().push((session, key));
        Ok(done)
    }

    /// Signs as [`super::key::Key::sign`] does.
    ///
    /// # Errors
    /// The token does not answer, or cannot do this.
    pub(super) fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let (mechanism, input) = prepare(scheme, message);
        let signature = self.within(|session, key| session.sign(&mechanism, key, &input))?;
        match self.kind {
            KeyKind::EcdsaP256 => ecdsa(&signature, 64),
            KeyKind::EcdsaP384 => ecdsa(&signature, 96),
            KeyKind::Ed25519 | KeyKind::Rsa => Some(signature),
        }
        .ok_or(TokenError::Kind)
    }

    /// Bytes of an RSA key's modulus.
    pub(super) fn modulus(&self) -> Option<usize> {
        self.modulus.as_ref().map(Vec::len)
    }

    /// As [`super::rsa::Decryptor::raw`]: the token knows nothing of padding, so its answer tells
    /// nothing of it.
    ///
    /// # Errors
    /// The token does not answer, or has no mechanism CKM_RSA_X_509.
    pub(super) fn raw(&self, ciphertext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, TokenError> {
        let modulus = self.modulus.as_ref().ok_or(TokenError::Kind)?;
        // Known to who sent it.
        if ciphertext.len() != modulus.len() || ciphertext >= modulus.as_slice() || ciphertext.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let block = self.within(|session, key| session.decrypt(&Mechanism::RsaX509, key, ciphertext))?;
        let block = Zeroizing::new(block);
        if block.len() > modulus.len() {
            return Err(TokenError::Kind);
        }
        // Some modules leave leading zeros out. A block that is sound begins with one zero, so this
        // tells nothing of the rest.
        let mut whole = Zeroizing::new(vec![0; modulus.len()]);
        if let Some(end) = whole.get_mut(modulus.len() - block.len()..) {
            end.copy_from_slice(&block);
        }
        Ok(Some(whole))
    }

    fn prove(&self, public: &Public) -> Result<(), TokenError> {
        const MESSAGE: &[u8] = b"edge-keyserver: a key that was found";
        let (scheme, algorithm): (_, &dyn VerificationAlgorithm) = match self.kind {
            KeyKind::EcdsaP256 => (Scheme::EcdsaP256Sha256, &ECDSA_P256_SHA256_ASN1),
            KeyKind::EcdsaP384 => (Scheme::EcdsaP384Sha384, &ECDSA_P384_SHA384_ASN1),
            KeyKind::Ed25519 => (Scheme::Ed25519, &ED25519),
            KeyKind::Rsa => (Scheme::RsaPssSha256, &RSA_PSS_2048_8192_SHA256),
        };
        let signature = self.sign(scheme, MESSAGE)?;
        UnparsedPublicKey::new(algorithm, &public.bits)
            .verify(MESSAGE, &signature)
            .map_err(|_| TokenError::Pair)
    }
}

/// The one object of this class.
fn one(
    session: &Session,
    class: ObjectClass,
    find: &[Attribute],
    what: &'static str,
) -> Result<ObjectHandle, TokenError> {
    let template: Vec<Attribute> = find.iter().cloned().chain([Attribute::Class(class)]).collect();
    match session.find_objects(&template)?.as_slice() {
        [] => Err(TokenError::None(what)),
        [one] => Ok(*one),
        _ => Err(TokenError::Several),
    }
}

/// What a token tells of a key.
struct Public {
    kind: KeyKind,
    spki: Vec<u8>,
    /// The content of the BIT STRING in it.
    bits: Vec<u8>,
    modulus: Option<Vec<u8>>,
}

// DER (X.690) of the object identifiers and algorithms that are known here.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519_ID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// Older modules name the curve by a PrintableString.
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";
/// rsaEncryption with NULL.
const RSA_ENCRYPTION: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// Reads the public key that belongs to `private`: by its id, or by what the operator wrote where
/// it has none.
fn public(session: &Session, private: ObjectHandle, find: &[Attribute]) -> Result<Public, TokenError> {
    let mut key_type = None;
    let mut by = find.to_vec();
    for attribute in session.get_attributes(private, &[AttributeType::KeyType, AttributeType::Id])? {
        match attribute {
            Attribute::KeyType(is) => key_type = Some(is),
            Attribute::Id(id) if !id.is_empty() => by = vec![Attribute::Id(id)],
            _ => {}
        }
    }
    let object = one(
        session,
        ObjectClass::PUBLIC_KEY,
        &by,
        "public key beside the private one",
    )?;
    let wanted: &[AttributeType] = match key_type {
        Some(KeyType::RSA) => &[AttributeType::Modulus, AttributeType::PublicExponent],
        Some(KeyType::EC | KeyType::EC_EDWARDS) => &[AttributeType::EcParams, AttributeType::EcPoint],
        _ => return Err(TokenError::Kind),
    };
    let (mut modulus, mut exponent, mut curve, mut point) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for attribute in session.get_attributes(object, wanted)? {
        match attribute {
            Attribute::Modulus(bytes) => modulus = unsigned(bytes),
            Attribute::PublicExponent(bytes) => exponent = unsigned(bytes),
            Attribute::EcParams(bytes) => curve = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    if key_type == Some(KeyType::RSA) {
        if !(256..=512).contains(&modulus.len()) || !(1..=8).contains(&exponent.len()) {
            return Err(TokenError::Kind);
        }
        let bits = tlv(SEQUENCE, &[&integer(&modulus), &integer(&exponent)]);
        return Ok(Public {
            kind: KeyKind::Rsa,
            spki: spki(RSA_ENCRYPTION, &bits),
            bits,
            modulus: Some(modulus),
        });
    }
    let (kind, algorithm, length) = match curve.as_slice() {
        P256 => (KeyKind::EcdsaP256, [EC_PUBLIC_KEY, P256].concat(), 65),
        P384 => (KeyKind::EcdsaP384, [EC_PUBLIC_KEY, P384].concat(), 97),
        ED25519_ID | ED25519_NAME => (KeyKind::Ed25519, ED25519_ID.to_vec(), 32),
        _ => return Err(TokenError::Kind),
    };
    // In an OCTET STRING, as PKCS#11 says, or bare, as some modules have it.
    let bits = match point.as_slice() {
        [0x04, said, bits @ ..] if usize::from(*said) == bits.len() && bits.len() == length => bits.to_vec(),
        bits if bits.len() == length => bits.to_vec(),
        _ => return Err(TokenError::Kind),
    };
    Ok(Public {
        kind,
        spki: spki(&algorithm, &bits),
        bits,
        modulus: None,
    })
}

/// Without leading zeros.
fn unsigned(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}

/// A DER value of less than 64 KiB.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut value = vec![tag];
    match length {
        0..0x80 => value.push(length as u8),
        0x80..0x100 => value.extend([0x81, length as u8]),
        _ => {
            value.push(0x82);
            value.extend(length.to_be_bytes());
        }
    }
    value.extend(content);
    value
}

/// A number that is not negative.
fn integer(unsigned: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if unsigned.first().is_none_or(|byte| *byte >= 0x80) {
        &[0]
    } else {
        &[]
    };
    tlv(INTEGER, &[sign, unsigned])
}

fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    tlv(
        SEQUENCE,
        &[&tlv(SEQUENCE, &[algorithm]), &tlv(BIT_STRING, &[&[0], bits])],
    )
}

/// r and s side by side (PKCS#11) as ECDSA-Sig-Value (RFC 3279 section 2.2.3).
fn ecdsa(signature: &[u8], length: usize) -> Option<Vec<u8>> {
    let (r, s) = signature.split_at_checked(length / 2)?;
    let number = |bytes: &[u8]| integer(&unsigned(bytes.to_vec()));
    (signature.len() == length).then(|| tlv(SEQUENCE, &[&number(r), &number(s)]))
}

/// DigestInfo up to the digest (RFC 8017 section 9.2, note 1).
const fn digest_info(id: u8, length: u8) -> [u8; 19] {
    [
        0x30,
        0x11 + length,
        0x30,
        0x0d,
        0x06,
        0x09,
        0x60,
        0x86,
        0x48,
        0x01,
        0x65,
        0x03,
        0x04,
        0x02,
        id,
        0x05,
        0x00,
        0x04,
        length,
    ]
}

/// The bare mechanism of a scheme, and what it is given.
fn prepare(scheme: Scheme, message: &[u8]) -> (Mechanism<'static>, Vec<u8>) {
    let hash = |algorithm| digest::digest(algorithm, message).as_ref().to_vec();
    let pss = |hash_alg, mgf, s_len: std::ffi::c_ulong| {
        Mechanism::RsaPkcsPss(PkcsPssParams {
            hash_alg,
            mgf,
            s_len: s_len.into(),
        })
    };
    let pkcs1 = |id, algorithm| {
        let hash = hash(algorithm);
        let info = digest_info(id, hash.len() as u8);
        (Mechanism::RsaPkcs, [&info, hash.as_slice()].concat())
    };
    match scheme {
        Scheme::EcdsaP256Sha256 => (Mechanism::Ecdsa, hash(&digest::SHA256)),
        Scheme::EcdsaP384Sha384 => (Mechanism::Ecdsa, hash(&digest::SHA384)),
        Scheme::Ed25519 => {
            let pure = EddsaParams::new(EddsaSignatureScheme::Pure);
            (Mechanism::Eddsa(pure), message.to_vec())
        }
        Scheme::RsaPssSha256 => (
            pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32),
            hash(&digest::SHA256),
        ),
        Scheme::RsaPssSha384 => (
            pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
            hash(&digest::SHA384),
        ),
        Scheme::RsaPssSha512 => (
            pss(MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
            hash(&digest::SHA512),
        ),
        Scheme::RsaPkcs1Sha256 => pkcs1(1, &digest::SHA256),
        Scheme::RsaPkcs1Sha384 => pkcs1(2, &digest::SHA384),
        Scheme::RsaPkcs1Sha512 => pkcs1(3, &digest::SHA512),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client would refuse every signature of a module whose numbers begin with zeros or with a
    /// high bit.
    #[test]
    fn numbers_in_der() {
        let mut raw = [0; 64];
        raw[31] = 0x7f;
        raw[32] = 0x80;
        let der = ecdsa(&raw, 64).unwrap();
        assert_eq!(der[..7], [0x30, 38, 0x02, 1, 0x7f, 0x02, 33]);
        assert_eq!(der[7..9], [0, 0x80]);
        assert_eq!(ecdsa(&raw[..63], 64), None);
        assert_eq!(tlv(4, &[&[7; 200]])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[&[7; 300]])[..4], [4, 0x82, 1, 44]);
    }

    /// What an operator may get wrong in the file is told before any module is loaded.
    #[test]
    fn files() {
        for (text, says) in [
            ("module = 1", "invalid type"),
            ("module = \"m.so\"\nkey = \"k\"", "a token or a slot"),
            ("module = \"m.so\"\ntoken = \"t\"", "a key or an id"),
            ("module = \"m.so\"\ntoken = \"t\"\nid = \"zz\"", "not hexadecimal"),
            (
                "module = \"m.so\"\ntoken = \"t\"\nid = \"01\"\npin = \"/nowhere/pin\"",
                "/nowhere/pin",
            ),
            ("module = \"m.so\"\ntoken = \"t\"\nid = \"01\"", "m.so"),
        ] {
            let error = TokenKey::find(text.as_bytes(), Path::new("/nowhere"))
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
