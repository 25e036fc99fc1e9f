//! `auth.jwt`: whose signed tokens (RFC 7519) pass a rule, and the keys that they are checked with
//! (RFC 7517): of a JWKS file, which is read again when it changes, or of a server, which the room
//! `rules` asks.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use data_encoding::BASE64URL_NOPAD;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::base::file;

/// Keys of one file.
const KEYS: usize = 64;
/// Bytes of one document.
pub const DOCUMENT: usize = 1 << 20;

/// Where a token is, and what it must say.
#[derive(Debug, PartialEq)]
pub struct Jwt {
    /// Where its keys are from.
    pub source: Source,
    /// `iss`; `None`: any.
    pub issuer: Option<String>,
    /// One of these is in `aud`; none: any.
    pub audience: Vec<String>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The field that carries it: `Authorization` as a Bearer token (RFC 6750), another one bare.
    pub header: HeaderName,
    /// The cookie that carries it, if the field is not there.
    pub cookie: Option<Box<str>>,
    /// Claims that must have this value, as text.
    pub claims: Vec<(Box<str>, Box<str>)>,
    /// Whether the origin gets the token, too.
    pub forward: bool,
    /// `WWW-Authenticate` for who has no token, and for who has a wrong one.
    pub challenges: [HeaderValue; 2],
}

/// Where keys are from.
#[derive(Debug, PartialEq)]
pub enum Source {
    /// A file.
    File(KeyFile),
    /// A server.
    Server(KeyServer),
}

/// A document of keys on a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyServer {
    /// The pool that has it.
    pub from: Arc<str>,
    /// What is asked for.
    pub target: PathAndQuery,
    /// After this time it is asked for again.
    pub refresh: Duration,
}

/// A file of keys, and the keys that it had when it was last read.
#[derive(Debug)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    now: ArcSwap<Vec<Key>>,
}

impl PartialEq for KeyFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl KeyFile {
    /// A file that had `keys`.
    pub fn new(path: PathBuf, keys: Vec<Key>) -> Self {
        Self {
            path,
            now: ArcSwap::from_pointee(keys),
        }
    }

    /// Its keys, as last read.
    pub fn keys(&self) -> Arc<Vec<Key>> {
        self.now.load_full()
    }

    /// Reads it again. If it cannot be used, the keys stay as they are.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_again(&self) -> Result<(), String> {
        let content = file::read_at_most(&self.path, DOCUMENT as u64).map_err(|error| error.to_string())?;
        self.now.store(Arc::new(keys(&content)?));
        Ok(())
    }
}

/// A way to sign (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// The one of this name, which is case-sensitive; `none` is not among them.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            // RFC 9864 names the curve.
            "EdDSA" | "Ed25519" => Self::EdDSA,
            _ => return None,
        })
    }
}

/// A key, and what it may be used for.
#[derive(PartialEq)]
pub struct Key {
    /// `kid`.
    pub id: Option<String>,
    /// The one way that the file allows; `None`: those of its kind.
    pub algorithm: Option<Algorithm>,
    /// The key itself.
    pub material: Material,
}

/// What a key is made of. A token's own word never decides which kind it is checked with.
#[derive(PartialEq)]
pub enum Material {
    /// A shared secret.
    Secret(Zeroizing<Vec<u8>>),
    /// Modulus and exponent, big endian.
    Rsa(Vec<u8>, Vec<u8>),
    /// A point on P-256, uncompressed.
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
    /// An Ed25519 public key.
    Ed25519(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.algorithm)
    }
}

impl Key {
    /// Whether a token signed by `algorithm` may be checked with this key: one way of the key's
    /// kind, and what the file allows. A secret is at least as long as the hash (RFC 7518 section
    /// 3.2).
    pub fn takes(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        let of_kind = match self.material {
            Material::Secret(ref secret) => match algorithm {
                HS256 => secret.len() >= 32,
                HS384 => secret.len() >= 48,
                HS512 => secret.len() >= 64,
                _ => false,
            },
            Material::Rsa(..) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Material::P256(_) => algorithm == ES256,
            Material::P384(_) => algorithm == ES384,
            Material::Ed25519(_) => algorithm == EdDSA,
        };
        of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    k: Option<String>,
}

/// The keys of a JWKS document that tokens can be checked with. Keys of other kinds, and for
/// encryption, are passed over (RFC 7517 section 5).
///
/// # Errors
/// What is wrong with it.
pub fn keys(text: &[u8]) -> Result<Vec<Key>, &'static str> {
    let set: RawSet = serde_json::from_slice(text).map_err(|_| "not a JWKS document: {\"keys\": [ … ]}")?;
    if set.keys.len() > KEYS {
        return Err("more than 64 keys");
    }
    let mut keys: Vec<Key> = Vec::new();
    for raw in set.keys {
        let raw: RawKey = serde_json::from_value(raw).map_err(|_| "a key without `kty`")?;
        if raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
            continue;
        }
        if raw.key_ops.iter().any(|ops| !ops.iter().any(|op| op == "verify")) {
            continue;
        }
        let algorithm = match raw.alg.as_deref() {
            None => None,
            Some(name) => match Algorithm::named(name) {
                Some(algorithm) => Some(algorithm),
                // Of encryption, or one that nobody should use.
                None => continue,
            },
        };
        if let Some(material) = material(&raw)? {
            let named = |key: &Key| raw.kid.is_some() && key.id == raw.kid;
            if keys.iter().any(named) {
                return Err("two keys with the same `kid`");
            }
            keys.push(Key {
                id: raw.kid,
                algorithm,
                material,
            });
        }
    }
    if keys.is_empty() {
        return Err("no key that signatures can be checked with");
    }
    Ok(keys)
}

fn material(raw: &RawKey) -> Result<Option<Material>, &'static str> {
    let part = |part: &Option<String>| {
        let text = part.as_deref().ok_or("a key that lacks a part")?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
        bytes.map_err(|_| "a key that is not base64url without padding")
    };
    let point = |size: usize| {
        let (x, y) = (part(&raw.x)?, part(&raw.y)?);
        match x.len() == size && y.len() == size {
            // SEC 1 section 2.3.3.
            true => Ok([&[4], &x[..], &y[..]].concat()),
            false => Err("a point of the wrong length"),
        }
    };
    Ok(match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("oct", _) => {
            let secret = Zeroizing::new(part(&raw.k)?);
            if secret.len() < 32 {
                return Err("a secret shorter than 32 bytes");
            }
            Some(Material::Secret(secret))
        }
        ("RSA", _) => {
            let (n, e) = (part(&raw.n)?, part(&raw.e)?);
            if !(256..=1_024).contains(&n.len()) || e.is_empty() || e.len() > 8 {
                return Err("an RSA key of less than 2048 or more than 8192 bits, or with a strange exponent");
            }
            Some(Material::Rsa(n, e))
        }
        ("EC", Some("P-256")) => Some(Material::P256(point(32)?)),
        ("EC", Some("P-384")) => Some(Material::P384(point(48)?)),
        ("OKP", Some("Ed25519")) => match part(&raw.x)? {
            key if key.len() == 32 => Some(Material::Ed25519(key)),
            _ => return Err("an Ed25519 key of the wrong length"),
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that its owner has taken back would go on to sign; or half a file, written at this
    /// moment, leave nobody a key.
    #[test]
    fn a_file_is_read_again_whole_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let document = |byte: u8| {
            let secret = BASE64URL_NOPAD.encode(&[byte; 32]);
            format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{secret}\"}}]}}")
        };
        let file = KeyFile::new(path.clone(), keys(document(1).as_bytes()).unwrap());
        let has = |byte: u8| file.keys()[..] == keys(document(byte).as_bytes()).unwrap()[..];
        assert!(file.read_again().is_err() && has(1));
        std::fs::write(&path, document(2)).unwrap();
        assert!(file.read_again().is_ok() && has(2));
        for wrong in [&document(3)[..20], "", &" ".repeat(DOCUMENT + 1)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(file.read_again().is_err() && has(2));
        }
    }

    /// A weak or foreign key would let in whoever can guess it, or stop a node that could do
    /// without it.
    #[test]
    fn keys_of_a_document() {
        let secret = BASE64URL_NOPAD.encode(&[7; 32]);
        let set = |list: &str| keys(format!("{{\"keys\":[{list}]}}").as_bytes());
        let oct = format!("{{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"{secret}\",\"alg\":\"HS256\"}}");
        let found = set(&format!(
            "{oct},{{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AQ\",\"e\":\"AQ\"}},{{\"kty\":\"EC\",\"crv\":\"secp256k1\"}}"
        ))
        .unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].takes(Algorithm::HS256) && !found[0].takes(Algorithm::HS512));
        assert!(
            !found[0].takes(Algorithm::RS256),
            "a public key's text must not become a secret"
        );
        for (wrong, what) in [
            ("", "no key"),
            ("{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}", "shorter than 32"),
            ("{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}", "less than 2048"),
            (
                "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQ\",\"y\":\"AQ\"}",
                "wrong length",
            ),
            ("{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}", "lacks a part"),
            ("{\"kid\":\"a\"}", "without `kty`"),
            (&format!("{oct},{oct}"), "same `kid`"),
            (&oct.replace("HS256", "none"), "no key"),
            (&oct.replace("\"kty\"", "\"key_ops\":[\"sign\"],\"kty\""), "no key"),
        ] {
            let said = set(wrong).unwrap_err();
            assert!(said.contains(what), "{wrong}: {said}");
        }
        assert!(keys(b"[]").is_err());
        assert!(
            !format!("{:?}", set(&oct).unwrap()).contains(&secret),
            "no secret in a log"
        );
    }
}
