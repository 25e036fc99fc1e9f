//! The fields of frames as values that cannot be wrong: parsed once where they are read.

use std::fmt;

use ring::digest;

use super::read::{Malformed, Reader};

/// A random of a TLS hello (RFC 5246 section 7.4.1.2).
pub type Random = [u8; 32];

/// The name of a key: SHA-256 of its SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7). Not
/// secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// No key: in front of all in `list`, and the only one in `ping`.
    pub const NONE: Self = Self([0; 32]);

    /// The name of the key with this SubjectPublicKeyInfo (DER, whole).
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Declares a closed set of codes: the enum, its code, and the way back.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident: $int:ty { $($(#[$each:meta])* $variant:ident = $code:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$each])* $variant,)* }
        impl $name {
            /// All of them, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code on the wire.
            pub const fn code(self) -> $int {
                match self { $(Self::$variant => $code,)* }
            }

            /// The one with this code.
            pub const fn from_code(code: $int) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// Its name, in configuration, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The one with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(super) use codes;

codes! {
    /// What is asked of a key server.
    Op: u8 {
        /// The signature of a CertificateVerify (RFC 8446 section 4.4.3).
        SignTls13 = 1, "sign-tls13";
        /// The signature of a ServerKeyExchange (RFC 8422 section 5.4) with the edge's own
        /// ephemeral key.
        SignTls12 = 2, "sign-tls12";
        /// Ephemeral key and signature of a ServerKeyExchange in one step.
        KxSignTls12 = 3, "kx-sign-tls12";
        /// An ephemeral key alone: its public value, to be signed by `sign-tls12` and used by
        /// `kx-finish`.
        KxStart = 4, "kx-start";
        /// The shared secret of an ephemeral key that the server keeps.
        KxFinish = 5, "kx-finish";
        /// Ephemeral key and shared secret of a TLS 1.3 handshake in one step.
        KxTls13 = 6, "kx-tls13";
        /// The master secret of a static-RSA handshake (RFC 5246 section 8.1.1, RFC 7627).
        RsaMaster = 7, "rsa-master";
        /// The premaster secret itself, for stacks that take nothing else.
        RsaPremaster = 8, "rsa-premaster";
        /// The public keys this client may use.
        List = 9, "list";
        /// Liveness.
        Ping = 10, "ping";
    }
}

impl Op {
    /// Whether an access list grants it; `list` and `ping` are everybody's who is on the list at
    /// all.
    pub const fn is_granted(self) -> bool {
        !matches!(self, Self::List | Self::Ping)
    }
}

/// A set of ops that an access list grants; bit `code - 1` of a u16.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ops(u16);

impl Ops {
    /// None.
    pub const NONE: Self = Self(0);

    /// With `op` as well.
    #[must_use]
    pub const fn with(self, op: Op) -> Self {
        Self(self.0 | 1 << (op.code() - 1))
    }

    /// Whether `op` is in it.
    pub const fn contains(self, op: Op) -> bool {
        self.0 & 1 << (op.code() - 1) != 0
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The ops in it.
    pub fn iter(self) -> impl Iterator<Item = Op> {
        Op::ALL.iter().copied().filter(move |op| self.contains(*op))
    }

    /// The bits on the wire.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From the wire; bits of ops that are not known here are left out.
    pub fn from_bits(bits: u16) -> Self {
        Op::ALL
            .iter()
            .filter(|op| op.is_granted() && bits & 1 << (op.code() - 1) != 0)
            .fold(Self::NONE, |ops, op| ops.with(*op))
    }
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Op::name)).finish()
    }
}

codes! {
    /// How a signature is made: SignatureScheme of RFC 8446 section 4.2.3, those whose hash is
    /// sound.
    Scheme: u16 {
        /// PKCS#1 v1.5 with SHA-256; TLS 1.2 only.
        RsaPkcs1Sha256 = 0x0401, "rsa_pkcs1_sha256";
        /// ECDSA with SHA-256; in TLS 1.3 with P-256.
        EcdsaP256Sha256 = 0x0403, "ecdsa_secp256r1_sha256";
        /// PKCS#1 v1.5 with SHA-384; TLS 1.2 only.
        RsaPkcs1Sha384 = 0x0501, "rsa_pkcs1_sha384";
        /// ECDSA with SHA-384; in TLS 1.3 with P-384.
        EcdsaP384Sha384 = 0x0503, "ecdsa_secp384r1_sha384";
        /// PKCS#1 v1.5 with SHA-512; TLS 1.2 only.
        RsaPkcs1Sha512 = 0x0601, "rsa_pkcs1_sha512";
        /// PSS with SHA-256 and a key marked rsaEncryption.
        RsaPssSha256 = 0x0804, "rsa_pss_rsae_sha256";
        /// PSS with SHA-384 and a key marked rsaEncryption.
        RsaPssSha384 = 0x0805, "rsa_pss_rsae_sha384";
        /// PSS with SHA-512 and a key marked rsaEncryption.
        RsaPssSha512 = 0x0806, "rsa_pss_rsae_sha512";
        /// Ed25519.
        Ed25519 = 0x0807, "ed25519";
    }
}

codes! {
    /// What a key is.
    KeyKind: u8 {
        /// ECDSA on P-256.
        EcdsaP256 = 1, "ecdsa-p256";
        /// ECDSA on P-384.
        EcdsaP384 = 2, "ecdsa-p384";
        /// Ed25519.
        Ed25519 = 3, "ed25519";
        /// RSA, 2048 to 4096 bits.
        Rsa = 4, "rsa";
    }
}

impl KeyKind {
    /// The schemes that keys of this kind sign with, the preferred first.
    pub const fn schemes(self) -> &'static [Scheme] {
        match self {
            Self::EcdsaP256 => &[Scheme::EcdsaP256Sha256],
            Self::EcdsaP384 => &[Scheme::EcdsaP384Sha384],
            Self::Ed25519 => &[Scheme::Ed25519],
            Self::Rsa => &[
                Scheme::RsaPssSha256,
                Scheme::RsaPssSha384,
                Scheme::RsaPssSha512,
                Scheme::RsaPkcs1Sha256,
                Scheme::RsaPkcs1Sha384,
                Scheme::RsaPkcs1Sha512,
            ],
        }
    }

    /// The ops that mean something for keys of this kind.
    pub const fn ops(self) -> Ops {
        let every = Ops::NONE
            .with(Op::SignTls13)
            .with(Op::SignTls12)
            .with(Op::KxSignTls12)
            .with(Op::KxStart)
            .with(Op::KxFinish)
            .with(Op::KxTls13);
        match self {
            Self::Rsa => every.with(Op::RsaMaster).with(Op::RsaPremaster),
            _ => every,
        }
    }
}

impl Scheme {
    /// Whether TLS 1.3 allows it in a CertificateVerify (RFC 8446 section 4.2.3: PKCS#1 v1.5 is for
    /// certificates only).
    pub const fn is_tls13(self) -> bool {
        !matches!(self, Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512)
    }
}

codes! {
    /// A group of an ephemeral key exchange (RFC 8446 section 4.2.7, RFC 8422 section 5.1.1).
    Group: u16 {
        /// P-256.
        Secp256r1 = 0x0017, "secp256r1";
        /// P-384.
        Secp384r1 = 0x0018, "secp384r1";
        /// X25519.
        X25519 = 0x001d, "x25519";
    }
}

impl Group {
    /// Bytes of a public value.
    pub const fn share_bytes(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::Secp256r1 => 65,
            Self::Secp384r1 => 97,
        }
    }

    /// Bytes of a shared secret.
    pub const fn secret_bytes(self) -> usize {
        match self {
            Self::X25519 | Self::Secp256r1 => 32,
            Self::Secp384r1 => 48,
        }
    }
}

/// A public value of an ephemeral key exchange: of its group's length, an uncompressed point where
/// the group has points. Whether it lies on the curve is found when it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Share {
    group: Group,
    bytes: Vec<u8>,
}

impl Share {
    /// A value as it stands in a KeyShareEntry or an ECPoint; `None` if it cannot be one of
    /// `group`'s.
    pub fn new(group: Group, bytes: &[u8]) -> Option<Self> {
        let uncompressed = group == Group::X25519 || bytes.first() == Some(&4);
        (bytes.len() == group.share_bytes() && uncompressed).then(|| Self {
            group,
            bytes: bytes.to_vec(),
        })
    }

    /// Its group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// The value.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads ServerECDHParams (RFC 8422 section 5.4) that fill `bytes`: named_curve, group, point.
    pub fn from_params(bytes: &[u8]) -> Option<Self> {
        let [3, high, low, length, point @ ..] = bytes else {
            return None;
        };
        let group = Group::from_code(u16::from_be_bytes([*high, *low]))?;
        (usize::from(*length) == point.len()).then(|| Self::new(group, point))?
    }

    /// Writes ServerECDHParams (RFC 8422 section 5.4).
    pub fn write_params(&self, out: &mut Vec<u8>) {
        out.push(3);
        out.extend(self.group.code().to_be_bytes());
        // At most 97.
        out.push(u8::try_from(self.bytes.len()).unwrap_or(0));
        out.extend(&self.bytes);
    }

    /// In a frame: the group, then the value, whose length is the group's.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let group = Group::from_code(reader.u16()?).ok_or(Malformed::Value("group"))?;
        Self::new(group, reader.bytes(group.share_bytes())?).ok_or(Malformed::Value("share"))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.group.code().to_be_bytes());
        out.extend(&self.bytes);
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({})", self.group)
    }
}

/// A hash of handshake messages, of the cipher suite's hash: SHA-256 or SHA-384.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transcript {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-384.
    Sha384([u8; 48]),
}

impl Transcript {
    /// By its length; `None` if no such hash has it.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if let Ok(hash) = bytes.try_into() {
            return Some(Self::Sha256(hash));
        }
        bytes.try_into().ok().map(Self::Sha384)
    }

    /// The hash.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(hash) => hash,
            Self::Sha384(hash) => hash,
        }
    }
}

codes! {
    /// The hash of a TLS 1.2 suite's pseudo-random function (RFC 5246 section 5).
    Prf: u8 {
        /// SHA-256, and of all suites that name no hash.
        Sha256 = 1, "sha256";
        /// SHA-384.
        Sha384 = 2, "sha384";
    }
}

/// An RSA-encrypted premaster secret without its length: as long as the modulus, 2048 to 4096 bits.
/// Longer and shorter ones are refused before any key is used; their length is no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext(Vec<u8>);

impl Ciphertext {
    /// From the bytes of a ClientKeyExchange; `None` if no key here can have made it.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (256..=512).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ciphertext({} B)", self.0.len())
    }
}
