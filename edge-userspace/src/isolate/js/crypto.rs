//! Cryptography for the engine, by AWS-LC: what SubtleCrypto's algorithms stand on. Keys come as
//! their parts: points and scalars of curves as bytes, RSA as PKCS#1 (RFC 8017 appendix A.1), so
//! that no state is kept. Nothing here is told of uses and extractability, which the prelude keeps.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, UnparsedPublicKey, X25519};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptingKey, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair, VerificationAlgorithm};
use aws_lc_rs::{hkdf, hmac, rand, rsa};

use super::code::Code;

/// Bytes that are derived at once, at most.
pub(super) const DERIVED: usize = 64 << 10;
/// The number of RSA among kinds of keys; curves are before it.
pub(super) const RSA: i32 = 6;

type Made = Result<Vec<u8>, Code>;

/// A hash by its number: SHA-1 (1), SHA-256 (2), SHA-384 (3), SHA-512 (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) fn of(number: i32) -> Result<Self, Code> {
        match number {
            1 => Ok(Self::Sha1),
            2 => Ok(Self::Sha256),
            3 => Ok(Self::Sha384),
            4 => Ok(Self::Sha512),
            _ => Err(Code::Unsupported),
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Sha1 => hkdf::HKDF_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hkdf::HKDF_SHA256,
            Self::Sha384 => hkdf::HKDF_SHA384,
            Self::Sha512 => hkdf::HKDF_SHA512,
        }
    }

    fn oaep(self) -> &'static OaepAlgorithm {
        match self {
            Self::Sha1 => &OAEP_SHA1_MGF1SHA1,
            Self::Sha256 => &OAEP_SHA256_MGF1SHA256,
            Self::Sha384 => &OAEP_SHA384_MGF1SHA384,
            Self::Sha512 => &OAEP_SHA512_MGF1SHA512,
        }
    }
}

/// A digest under way.
pub(super) struct Hashing(digest::Context);

impl Hashing {
    pub(super) fn new(hash: Hash) -> Self {
        Self(digest::Context::new(hash.digest()))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// HMAC under way.
pub(super) struct Keyed(hmac::Context);

impl Keyed {
    pub(super) fn new(hash: Hash, key: &[u8]) -> Self {
        Self(hmac::Context::with_key(&hmac::Key::new(hash.hmac(), key)))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.sign().as_ref().to_vec()
    }
}

/// PBKDF2 (RFC 8018 section 5.2), some rounds at a time.
pub(super) struct Pbkdf2 {
    key: hmac::Key,
    salt: Vec<u8>,
    wanted: usize,
    made: Vec<u8>,
    /// The block under way: the last round's result, and all rounds' together.
    last: Vec<u8>,
    block: Vec<u8>,
    done: u32,
}

impl Pbkdf2 {
    pub(super) fn new(hash: Hash, password: &[u8], salt: &[u8], wanted: usize) -> Self {
        Self {
            key: hmac::Key::new(hash.hmac(), password),
            salt: salt.to_vec(),
            wanted,
            made: Vec::new(),
            last: Vec::new(),
            block: Vec::new(),
            done: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.made.len() >= self.wanted
    }

    /// Goes on for at most `most` of the `all` rounds of a block.
    pub(super) fn rounds(&mut self, all: u32, most: u32) {
        for _ in 0..most {
            if self.done == 0 {
                let each = self.key.algorithm().digest_algorithm().output_len().max(1);
                let number = u32::try_from(self.made.len() / each)
                    .unwrap_or(u32::MAX)
                    .saturating_add(1);
                let mut first = hmac::Context::with_key(&self.key);
                first.update(&self.salt);
                first.update(&number.to_be_bytes());
                self.last = first.sign().as_ref().to_vec();
                self.block.clone_from(&self.last);
            } else {
                let tag = hmac::sign(&self.key, &self.last);
                self.last.copy_from_slice(tag.as_ref());
                for (to, from) in self.block.iter_mut().zip(tag.as_ref()) {
                    *to ^= from;
                }
            }
            self.done = self.done.saturating_add(1);
            if self.done >= all {
                self.made.append(&mut self.block);
                self.done = 0;
                if self.is_done() {
                    return;
                }
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.made.truncate(self.wanted);
        self.made
    }
}

/// Which part of a signature's call is the message.
pub(super) fn message(what: i32) -> usize {
    match what {
        // RSA: key, message. ECDSA: scalar, point, message. Verification: key, signature, message.
        9 => 1,
        _ => 2,
    }
}

/// What works on a digest: RSA signatures (9, 10) and ECDSA (12, 13). `a`: the padding, or the
/// curve.
pub(super) fn signature(what: i32, a: i32, digest: &Digest, first: &[u8], second: &[u8]) -> Made {
    match what {
        9 => rsa_sign(a, first, digest),
        10 => rsa_verify(a, first, second, digest),
        12 => ecdsa_sign(a, first, second, digest),
        _ => ecdsa_verify(a, first, second, digest),
    }
}

/// The rest, by its number.
pub(super) fn call(what: i32, a: i32, b: i32, [p0, p1, p2, p3]: [&[u8]; 4]) -> Made {
    match what {
        4 => hkdf(a, b, p0, p1, p2),
        5 => gcm(a == 0, p0, p1, p2, p3),
        6 => cbc(a == 0, p0, p1, p2),
        7 => ctr(b, p0, p1, p2),
        8 => wrap(a == 0, p0, p1),
        11 => oaep(a == 0, b, p0, p1, p2),
        14 => agree(a, p0, p1),
        15 => ed25519_sign(p0, p1),
        16 => Ok(verdict(
            signature::UnparsedPublicKey::new(&signature::ED25519, p0)
                .verify(p2, p1)
                .is_ok(),
        )),
        18 => public_of(a, p0),
        19 => check_point(a, p0),
        _ => Err(Code::Unsupported),
    }
}

fn verdict(good: bool) -> Vec<u8> {
    vec![u8::from(good)]
}

const PKCS1: i32 = 1;

fn rsa_sign(padding: i32, key: &[u8], digest: &Digest) -> Made {
    let pair = RsaKeyPair::from_der(key).map_err(|_| Code::Data)?;
    let is = |known: &'static digest::Algorithm| digest.algorithm() == known;
    let encoding: &'static dyn signature::RsaEncoding = match padding {
        PKCS1 if is(&digest::SHA256) => &signature::RSA_PKCS1_SHA256,
        PKCS1 if is(&digest::SHA384) => &signature::RSA_PKCS1_SHA384,
        PKCS1 if is(&digest::SHA512) => &signature::RSA_PKCS1_SHA512,
        2 if is(&digest::SHA256) => &signature::RSA_PSS_SHA256,
        2 if is(&digest::SHA384) => &signature::RSA_PSS_SHA384,
        2 if is(&digest::SHA512) => &signature::RSA_PSS_SHA512,
        _ => return Err(Code::Unsupported),
    };
    let mut signed = vec![0; pair.public_modulus_len()];
    pair.sign_digest(encoding, digest, &mut signed)
        .map_err(|_| Code::Operation)?;
    Ok(signed)
}

fn rsa_verify(padding: i32, key: &[u8], signed: &[u8], digest: &Digest) -> Made {
    let is = |known: &'static digest::Algorithm| digest.algorithm() == known;
    let algorithm: &'static dyn VerificationAlgorithm = match padding {
        PKCS1 if is(&digest::SHA1_FOR_LEGACY_USE_ONLY) => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        PKCS1 if is(&digest::SHA256) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        PKCS1 if is(&digest::SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        PKCS1 if is(&digest::SHA512) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        2 if is(&digest::SHA256) => &signature::RSA_PSS_2048_8192_SHA256,
        2 if is(&digest::SHA384) => &signature::RSA_PSS_2048_8192_SHA384,
        2 if is(&digest::SHA512) => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return Err(Code::Unsupported),
    };
    let key = signature::UnparsedPublicKey::new(algorithm, key);
    Ok(verdict(key.verify_digest(digest, signed).is_ok()))
}

fn ecdsa_sign(curve: i32, scalar: &[u8], point: &[u8], digest: &Digest) -> Made {
    let is = |known: &'static digest::Algorithm| digest.algorithm() == known;
    let algorithm = match curve {
        1 if is(&digest::SHA256) => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        2 if is(&digest::SHA384) => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        3 if is(&digest::SHA256) => &signature::ECDSA_P521_SHA256_FIXED_SIGNING,
        3 if is(&digest::SHA384) => &signature::ECDSA_P521_SHA384_FIXED_SIGNING,
        3 if is(&digest::SHA512) => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        _ => return Err(Code::Unsupported),
    };
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, point).map_err(|_| Code::Data)?;
    let signed = pair.sign_digest(digest).map_err(|_| Code::Operation)?;
    Ok(signed.as_ref().to_vec())
}

fn ecdsa_verify(curve: i32, point: &[u8], signed: &[u8], digest: &Digest) -> Made {
    let is = |known: &'static digest::Algorithm| digest.algorithm() == known;
    let algorithm: &'static dyn VerificationAlgorithm = match curve {
        1 if is(&digest::SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
        1 if is(&digest::SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
        1 if is(&digest::SHA512) => &signature::ECDSA_P256_SHA512_ASN1,
        2 if is(&digest::SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
        2 if is(&digest::SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
        2 if is(&digest::SHA512) => &signature::ECDSA_P384_SHA512_ASN1,
        3 if is(&digest::SHA256) => &signature::ECDSA_P521_SHA256_ASN1,
        3 if is(&digest::SHA384) => &signature::ECDSA_P521_SHA384_ASN1,
        3 if is(&digest::SHA512) => &signature::ECDSA_P521_SHA512_ASN1,
        _ => return Err(Code::Unsupported),
    };
    let Some(signed) = sequence(curve, signed) else {
        return Ok(verdict(false));
    };
    let key = signature::UnparsedPublicKey::new(algorithm, point);
    Ok(verdict(key.verify_digest(digest, &signed).is_ok()))
}

/// `r || s` (IEEE P1363) as a SEQUENCE of two INTEGERs (RFC 3279 section 2.2.3).
fn sequence(curve: i32, signed: &[u8]) -> Option<Vec<u8>> {
    let size = match curve {
        1 => 32,
        2 => 48,
        _ => 66,
    };
    if signed.len() != size * 2 {
        return None;
    }
    let mut body = Vec::new();
    for half in signed.chunks(size) {
        let zeroes = half
            .iter()
            .take_while(|byte| **byte == 0)
            .count()
            .min(size.saturating_sub(1));
        let digits = half.get(zeroes..)?;
        let sign = digits.first().is_some_and(|first| *first >= 0x80);
        body.extend([2, u8::try_from(digits.len().saturating_add(usize::from(sign))).ok()?]);
        if sign {
            body.push(0);
        }
        body.extend(digits);
    }
    let mut all = vec![0x30];
    if body.len() >= 0x80 {
        all.push(0x81);
    }
    all.push(u8::try_from(body.len()).ok()?);
    all.extend(body);
    Some(all)
}

struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn hkdf(hash: i32, wanted: i32, secret: &[u8], salt: &[u8], info: &[u8]) -> Made {
    let wanted = usize::try_from(wanted).map_err(|_| Code::Operation)?;
    let hash = Hash::of(hash)?;
    // RFC 5869 section 2.3.
    if wanted > 255 * hash.digest().output_len() {
        return Err(Code::Operation);
    }
    let mut made = vec![0; wanted];
    let key = hkdf::Salt::new(hash.hkdf(), salt).extract(secret);
    let info = [info];
    let derived = key.expand(&info, Bytes(wanted)).map_err(|_| Code::Operation)?;
    derived.fill(&mut made).map_err(|_| Code::Operation)?;
    Ok(made)
}

fn gcm(seal: bool, key: &[u8], iv: &[u8], additional: &[u8], data: &[u8]) -> Made {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(Code::Data),
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| Code::Data)?);
    let nonce = Nonce::try_assume_unique_for_key(iv).map_err(|_| Code::Unsupported)?;
    let mut made = data.to_vec();
    if seal {
        key.seal_in_place_append_tag(nonce, Aad::from(additional), &mut made)
            .map_err(|_| Code::Operation)?;
        return Ok(made);
    }
    let plain = key.open_in_place(nonce, Aad::from(additional), &mut made);
    let length = plain.map_err(|_| Code::Operation)?.len();
    made.truncate(length);
    Ok(made)
}

fn block_key(key: &[u8]) -> Result<UnboundCipherKey, Code> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return Err(Code::Data),
    };
    UnboundCipherKey::new(algorithm, key).map_err(|_| Code::Data)
}

fn block(iv: &[u8]) -> Result<FixedLength<16>, Code> {
    FixedLength::<16>::try_from(iv).map_err(|_| Code::Operation)
}

fn cbc(encrypt: bool, key: &[u8], iv: &[u8], data: &[u8]) -> Made {
    let (key, iv) = (block_key(key)?, block(iv)?);
    let mut made = data.to_vec();
    if encrypt {
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(|_| Code::Operation)?;
        key.less_safe_encrypt(&mut made, EncryptionContext::Iv128(iv))
            .map_err(|_| Code::Operation)?;
        return Ok(made);
    }
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Code::Operation)?;
    let plain = key.decrypt(&mut made, DecryptionContext::Iv128(iv));
    let length = plain.map_err(|_| Code::Operation)?.len();
    made.truncate(length);
    Ok(made)
}

/// The same both ways. Of the counter block the last `bits` count and wrap; the others stay (NIST
/// SP 800-38A appendix B.1).
fn ctr(bits: i32, key: &[u8], counter: &[u8], data: &[u8]) -> Made {
    let bits = u32::try_from(bits)
        .ok()
        .filter(|bits| (1..=128).contains(bits))
        .ok_or(Code::Operation)?;
    let first = u128::from_be_bytes(counter.try_into().map_err(|_| Code::Operation)?);
    let mask = u128::MAX.checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0);
    let blocks = data.len().div_ceil(16) as u128;
    // Blocks until the counter is zero; with 128 bits that is what the cipher does itself.
    let until = (mask - (first & mask)).saturating_add(1);
    if bits < 128 && blocks > mask.saturating_add(1) {
        return Err(Code::Operation);
    }
    let mut made = data.to_vec();
    let split = usize::try_from(until.saturating_mul(16))
        .unwrap_or(usize::MAX)
        .min(made.len());
    let (before, after) = made.split_at_mut(split);
    for (part, counter) in [(before, first), (after, first & !mask)] {
        let key = EncryptingKey::ctr(block_key(key)?).map_err(|_| Code::Operation)?;
        let context = EncryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()));
        key.less_safe_encrypt(part, context).map_err(|_| Code::Operation)?;
    }
    Ok(made)
}

/// RFC 3394.
fn wrap(wrap: bool, key: &[u8], data: &[u8]) -> Made {
    let algorithm = match key.len() {
        16 => &key_wrap::AES_128,
        32 => &key_wrap::AES_256,
        24 => return Err(Code::Unsupported),
        _ => return Err(Code::Data),
    };
    let key = AesKek::new(algorithm, key).map_err(|_| Code::Data)?;
    let mut room = vec![0; data.len().saturating_add(8)];
    let made = match wrap {
        true => key.wrap(data, &mut room),
        false => key.unwrap(data, &mut room),
    };
    Ok(made.map_err(|_| Code::Operation)?.to_vec())
}

/// The public key is SubjectPublicKeyInfo, the private one PKCS#8: what AWS-LC reads for this.
fn oaep(encrypt: bool, hash: i32, key: &[u8], label: &[u8], data: &[u8]) -> Made {
    let algorithm = Hash::of(hash)?.oaep();
    let label = Some(label).filter(|label| !label.is_empty());
    if encrypt {
        let key = PublicEncryptingKey::from_der(key).map_err(|_| Code::Data)?;
        let key = OaepPublicEncryptingKey::new(key).map_err(|_| Code::Data)?;
        let mut room = vec![0; key.ciphertext_size()];
        let made = key.encrypt(algorithm, data, &mut room, label);
        return Ok(made.map_err(|_| Code::Operation)?.to_vec());
    }
    let key = PrivateDecryptingKey::from_pkcs8(key).map_err(|_| Code::Data)?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(|_| Code::Data)?;
    let mut room = vec![0; key.min_output_size()];
    let made = key.decrypt(algorithm, data, &mut room, label);
    Ok(made.map_err(|_| Code::Operation)?.to_vec())
}

fn curve(number: i32) -> Result<&'static agreement::Algorithm, Code> {
    match number {
        1 => Ok(&ECDH_P256),
        2 => Ok(&ECDH_P384),
        3 => Ok(&ECDH_P521),
        4 => Ok(&X25519),
        _ => Err(Code::Unsupported),
    }
}

fn agree(number: i32, scalar: &[u8], peer: &[u8]) -> Made {
    let curve = curve(number)?;
    let own = agreement::PrivateKey::from_private_key(curve, scalar).map_err(|_| Code::Data)?;
    let peer = UnparsedPublicKey::new(curve, peer);
    agreement::agree(&own, peer, Code::Operation, |secret| Ok(secret.to_vec()))
}

fn ed25519_sign(seed: &[u8], message: &[u8]) -> Made {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Code::Data)?;
    Ok(pair.sign(message).as_ref().to_vec())
}

/// The public key of a private one: a point, or 32 bytes.
fn public_of(kind: i32, scalar: &[u8]) -> Made {
    if kind == 5 {
        let pair = Ed25519KeyPair::from_seed_unchecked(scalar).map_err(|_| Code::Data)?;
        return Ok(pair.public_key().as_ref().to_vec());
    }
    let own = agreement::PrivateKey::from_private_key(curve(kind)?, scalar).map_err(|_| Code::Data)?;
    Ok(own.compute_public_key().map_err(|_| Code::Data)?.as_ref().to_vec())
}

/// Whether a public key is a point of its curve; compressed ones are refused.
fn check_point(kind: i32, point: &[u8]) -> Made {
    if kind >= 4 {
        return if point.len() == 32 {
            Ok(Vec::new())
        } else {
            Err(Code::Data)
        };
    }
    let parsed = agreement::ParsedPublicKey::try_from(UnparsedPublicKey::new(curve(kind)?, point));
    match (parsed, point.first()) {
        (Ok(_), Some(4)) => Ok(Vec::new()),
        _ => Err(Code::Data),
    }
}

/// A new private key: the scalar and the point of a curve, the seed and the public key of Ed25519,
/// or PKCS#8 of RSA.
pub(super) fn generate(kind: i32, bits: i32) -> Made {
    let none = |_| Code::Operation;
    match kind {
        5 => {
            let mut seed = vec![0; 32];
            rand::fill(&mut seed).map_err(none)?;
            let public = public_of(5, &seed)?;
            seed.extend(public);
            Ok(seed)
        }
        4 => {
            let mut scalar = vec![0; 32];
            rand::fill(&mut scalar).map_err(none)?;
            let public = public_of(4, &scalar)?;
            scalar.extend(public);
            Ok(scalar)
        }
        RSA => {
            let size = match bits {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                4096 => KeySize::Rsa4096,
                _ => return Err(Code::Unsupported),
            };
            let pair = rsa::KeyPair::generate(size).map_err(none)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(none)?;
            Ok(der.as_ref().to_vec())
        }
        kind => {
            let own = agreement::PrivateKey::generate(curve(kind)?).map_err(none)?;
            let scalar: EcPrivateKeyBin<'_> = own.as_be_bytes().map_err(none)?;
            let mut made = scalar.as_ref().to_vec();
            made.extend(own.compute_public_key().map_err(none)?.as_ref());
            Ok(made)
        }
    }
}
