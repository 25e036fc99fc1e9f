//! What a key server answers: frames of length, id, kind, and the kind's fields.

use std::fmt;

use zeroize::Zeroizing;

use super::read::{Malformed, Reader};
use super::value::{KeyId, KeyKind, Ops, Share, codes};
use super::{Broken, Decoded, LENGTH, MAX_REPLY, MAX_SPKI, PAGE, frame, framed};

/// id, kind.
const HEAD: usize = 8 + 1;

const PONG: u8 = 0x80;
const SIGNATURE: u8 = 0x81;
const KX_SIGNED: u8 = 0x82;
const KX_STARTED: u8 = 0x83;
const KX_DONE: u8 = 0x84;
const SECRET: u8 = 0x85;
const KEYS: u8 = 0x86;
const ERROR: u8 = 0xff;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The query's. 0 where the connection itself is meant: [`ErrorCode::Draining`] ahead of its
    /// end, or why it ends.
    pub id: u64,
    /// What is answered.
    pub answer: Answer,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `ping`.
    Pong,
    /// To `sign-tls13` and `sign-tls12`: as TLS carries it, ECDSA in DER. 1 to 512 bytes.
    Signature(Vec<u8>),
    /// To `kx-sign-tls12`.
    KxSigned {
        /// For `kx-finish`, on this connection.
        handle: u64,
        /// The server's public value; what was signed is [`Share::write_params`] of it behind the
        /// randoms.
        share: Share,
        /// As in `Signature`.
        signature: Vec<u8>,
    },
    /// To `kx-start`.
    KxStarted {
        /// For `kx-finish`, on this connection.
        handle: u64,
        /// The server's public value.
        share: Share,
    },
    /// To `kx-tls13`.
    KxDone {
        /// The server's public value.
        share: Share,
        /// The shared secret.
        secret: Secret,
    },
    /// To `kx-finish` the shared secret; to `rsa-master` the master, to `rsa-premaster` the
    /// premaster secret (48 bytes).
    Secret(Secret),
    /// To `list`.
    Keys {
        /// There are more: ask again with the last key as the cursor.
        more: bool,
        /// In the order of their ids, at most [`PAGE`].
        keys: Vec<KeyInfo>,
    },
    /// Nothing was done.
    Error(ErrorCode),
}

/// A secret on its way; wiped when dropped, shown by nobody. 1 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a copy; who calls wipes the original.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if (1..=64).contains(&bytes.len()) {
            Ok(Self::new(bytes))
        } else {
            Err(Malformed::Value("secret"))
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A key that a client may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// What it is.
    pub kind: KeyKind,
    /// What this client may do with it; may be none.
    pub ops: Ops,
    /// SubjectPublicKeyInfo in DER, at most [`MAX_SPKI`] bytes.
    pub spki: Vec<u8>,
}

impl KeyInfo {
    /// Its name in queries.
    pub fn id(&self) -> KeyId {
        KeyId::of_spki(&self.spki)
    }
}

codes! {
    /// Why nothing was done.
    ErrorCode: u8 {
        /// No such key, or none that this client has any grant on: which of them is nobody's
        /// business.
        UnknownKey = 1, "unknown-key";
        /// The client's grant on the key does not cover the op.
        NotAllowed = 2, "not-allowed";
        /// Op, scheme and the key's kind do not go together.
        Mismatch = 3, "mismatch";
        /// The frame, or a value in it, is not sound: a point off the curve, a ciphertext not as
        /// long as the modulus.
        Malformed = 4, "malformed";
        /// More a second than the client is granted.
        Rate = 5, "rate";
        /// Too much is under way, here or on this connection: try another server.
        Overload = 6, "overload";
        /// No such ephemeral key on this connection: used, expired, displaced, or never made.
        UnknownHandle = 7, "unknown-handle";
        /// The server is on its way down: try another one.
        Draining = 8, "draining";
        /// The op is not known to this version.
        UnknownOp = 9, "unknown-op";
        /// The server failed.
        Internal = 10, "internal";
    }
}

fn read_signature(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let bytes = reader.rest();
    if (1..=512).contains(&bytes.len()) {
        Ok(bytes.to_vec())
    } else {
        Err(Malformed::Value("signature"))
    }
}

impl Answer {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            PONG => Self::Pong,
            SIGNATURE => Self::Signature(read_signature(reader)?),
            KX_SIGNED => Self::KxSigned {
                handle: reader.u64()?,
                share: Share::read(reader)?,
                signature: read_signature(reader)?,
            },
            KX_STARTED => Self::KxStarted {
                handle: reader.u64()?,
                share: Share::read(reader)?,
            },
            KX_DONE => Self::KxDone {
                share: Share::read(reader)?,
                secret: Secret::read(reader.rest())?,
            },
            SECRET => Self::Secret(Secret::read(reader.rest())?),
            KEYS => {
                let more = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed::Value("more")),
                };
                let mut keys = Vec::new();
                while !reader.is_empty() {
                    if keys.len() == PAGE {
                        return Err(Malformed::Trailing);
                    }
                    keys.push(KeyInfo::read(reader)?);
                }
                Self::Keys { more, keys }
            }
            ERROR => Self::Error(ErrorCode::from_code(reader.u8()?).ok_or(Malformed::Value("code"))?),
            kind => return Err(Malformed::UnknownOp(kind)),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Pong => out.push(PONG),
            Self::Signature(signature) => {
                out.push(SIGNATURE);
                out.extend(signature);
            }
            Self::KxSigned {
                handle,
                share,
                signature,
            } => {
                out.push(KX_SIGNED);
                out.extend(handle.to_be_bytes());
                share.write(out);
                out.extend(signature);
            }
            Self::KxStarted { handle, share } => {
                out.push(KX_STARTED);
                out.extend(handle.to_be_bytes());
                share.write(out);
            }
            Self::KxDone { share, secret } => {
                out.push(KX_DONE);
                share.write(out);
                out.extend(secret.expose());
            }
            Self::Secret(secret) => {
                out.push(SECRET);
                out.extend(secret.expose());
            }
            Self::Keys { more, keys } => {
                out.extend([KEYS, u8::from(*more)]);
                keys.iter().for_each(|key| key.write(out));
            }
            Self::Error(code) => out.extend([ERROR, code.code()]),
        }
    }

    /// Whether it holds a secret, so that buffers that held it are to be wiped.
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::KxDone { .. } | Self::Secret(_))
    }
}

impl KeyInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = KeyKind::from_code(reader.u8()?).ok_or(Malformed::Value("kind"))?;
        let ops = Ops::from_bits(reader.u16()?);
        let length = usize::from(reader.u16()?);
        if length == 0 || length > MAX_SPKI {
            return Err(Malformed::Value("spki"));
        }
        Ok(Self {
            kind,
            ops,
            spki: reader.bytes(length)?.to_vec(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind.code());
        out.extend(self.ops.bits().to_be_bytes());
        out.extend(u16::try_from(self.spki.len()).unwrap_or(0).to_be_bytes());
        out.extend(&self.spki);
    }
}

impl Reply {
    /// Writes the frame behind what is in `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framed(out, |out| {
            out.extend(self.id.to_be_bytes());
            self.answer.write(out);
        });
    }

    /// Reads the frame at the front of `bytes`; `None` while it is not there whole, which it is at
    /// the latest with [`LENGTH`] + [`MAX_REPLY`] bytes.
    ///
    /// # Errors
    /// The frame's length is out of bounds: nothing behind it can be read.
    pub fn decode(bytes: &[u8]) -> Result<Option<Decoded<Self>>, Broken> {
        let Some(content) = frame(bytes, HEAD, MAX_REPLY)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(content);
        let id = reader.u64().unwrap_or(0);
        let content_read = Answer::read(&mut reader).and_then(|answer| {
            reader.end()?;
            Ok(Self { id, answer })
        });
        Ok(Some(Decoded {
            used: LENGTH + content.len(),
            id,
            content: content_read,
        }))
    }
}
