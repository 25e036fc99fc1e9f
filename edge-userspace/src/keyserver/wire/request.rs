//! What an edge asks: frames of length, id, op, key, and the op's fields.

use super::read::{Malformed, Reader};
use super::value::{Ciphertext, Group, KeyId, Op, Prf, Random, Scheme, Share, Transcript};
use super::{Broken, Decoded, LENGTH, MAX_QUERY, frame, framed};

/// id, op, key.
const HEAD: usize = 8 + 1 + 32;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Comes back in the reply. Chosen by who asks, unique among what is under way on the
    /// connection, never 0.
    pub id: u64,
    /// Whose key; the cursor of `list`; [`KeyId::NONE`] in `ping`.
    pub key: KeyId,
    /// What is asked.
    pub request: Request,
}

/// What is asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Sign a CertificateVerify. Answered by [`Answer::Signature`](super::Answer::Signature).
    SignTls13 {
        /// One that TLS 1.3 allows, of the key's kind.
        scheme: Scheme,
        /// Hash of the handshake up to the Certificate message.
        transcript: Transcript,
    },
    /// Sign a ServerKeyExchange. Answered by [`Answer::Signature`](super::Answer::Signature).
    SignTls12 {
        /// Of the key's kind.
        scheme: Scheme,
        /// Of the ClientHello.
        client_random: Random,
        /// Of the ServerHello.
        server_random: Random,
        /// The ephemeral public value.
        share: Share,
    },
    /// Make an ephemeral key and sign its ServerKeyExchange. Answered by
    /// [`Answer::KxSigned`](super::Answer::KxSigned).
    KxSignTls12 {
        /// Of the key's kind.
        scheme: Scheme,
        /// Of the ClientHello.
        client_random: Random,
        /// Of the ServerHello.
        server_random: Random,
        /// Of the ephemeral key.
        group: Group,
    },
    /// Make an ephemeral key. Answered by [`Answer::KxStarted`](super::Answer::KxStarted).
    KxStart {
        /// Of the ephemeral key.
        group: Group,
    },
    /// Use an ephemeral key, once, on the connection on which it was made. Answered by
    /// [`Answer::Secret`](super::Answer::Secret).
    KxFinish {
        /// From [`Answer::KxSigned`](super::Answer::KxSigned) or
        /// [`Answer::KxStarted`](super::Answer::KxStarted).
        handle: u64,
        /// The client's public value, of the same group.
        peer: Share,
    },
    /// Make and use an ephemeral key. Answered by [`Answer::KxDone`](super::Answer::KxDone).
    KxTls13 {
        /// The client's public value.
        peer: Share,
    },
    /// Decrypt a premaster secret and derive the master secret. Answered by
    /// [`Answer::Secret`](super::Answer::Secret), 48 bytes, whatever the padding was like.
    RsaMaster {
        /// The version in the ClientHello, which the premaster repeats (RFC 5246 section 7.4.7.1).
        version: u16,
        /// What the master secret is derived from beside the premaster.
        seed: Seed,
        /// The encrypted premaster.
        encrypted: Ciphertext,
    },
    /// Decrypt a premaster secret. Answered by [`Answer::Secret`](super::Answer::Secret), 48 bytes,
    /// whatever the padding was like.
    RsaPremaster {
        /// As in `RsaMaster`.
        version: u16,
        /// The encrypted premaster.
        encrypted: Ciphertext,
    },
    /// Name the keys behind the cursor, in the order of their ids. Answered by
    /// [`Answer::Keys`](super::Answer::Keys).
    List,
    /// Say that you live. Answered by [`Answer::Pong`](super::Answer::Pong).
    Ping,
}

/// What a master secret is derived from beside the premaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// `master secret` (RFC 5246 section 8.1).
    Randoms {
        /// The suite's.
        prf: Prf,
        /// Of the ClientHello.
        client: Random,
        /// Of the ServerHello.
        server: Random,
    },
    /// `extended master secret` (RFC 7627 section 4): the hash of all messages up to the
    /// ClientKeyExchange. Its length says which PRF.
    Session(Transcript),
}

impl Seed {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let form = reader.u8()?;
        let prf = Prf::from_code(reader.u8()?).ok_or(Malformed::Value("prf"))?;
        Ok(match (form, prf) {
            (0, prf) => Self::Randoms {
                prf,
                client: reader.array()?,
                server: reader.array()?,
            },
            (1, Prf::Sha256) => Self::Session(Transcript::Sha256(reader.array()?)),
            (1, Prf::Sha384) => Self::Session(Transcript::Sha384(reader.array()?)),
            _ => return Err(Malformed::Value("form")),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Randoms { prf, client, server } => {
                out.extend([0, prf.code()]);
                out.extend(client);
                out.extend(server);
            }
            Self::Session(hash) => {
                let prf = match hash {
                    Transcript::Sha256(_) => Prf::Sha256,
                    Transcript::Sha384(_) => Prf::Sha384,
                };
                out.extend([1, prf.code()]);
                out.extend(hash.bytes());
            }
        }
    }
}

impl Request {
    /// The op it is.
    pub const fn op(&self) -> Op {
        match self {
            Self::SignTls13 { .. } => Op::SignTls13,
            Self::SignTls12 { .. } => Op::SignTls12,
            Self::KxSignTls12 { .. } => Op::KxSignTls12,
            Self::KxStart { .. } => Op::KxStart,
            Self::KxFinish { .. } => Op::KxFinish,
            Self::KxTls13 { .. } => Op::KxTls13,
            Self::RsaMaster { .. } => Op::RsaMaster,
            Self::RsaPremaster { .. } => Op::RsaPremaster,
            Self::List => Op::List,
            Self::Ping => Op::Ping,
        }
    }

    fn read(op: Op, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let scheme = |reader: &mut Reader<'_>| Scheme::from_code(reader.u16()?).ok_or(Malformed::Value("scheme"));
        let group = |reader: &mut Reader<'_>| Group::from_code(reader.u16()?).ok_or(Malformed::Value("group"));
        let encrypted = |reader: &mut Reader<'_>| Ciphertext::new(reader.rest()).ok_or(Malformed::Value("encrypted"));
        Ok(match op {
            Op::SignTls13 => Self::SignTls13 {
                scheme: scheme(reader)?,
                transcript: Transcript::new(reader.rest()).ok_or(Malformed::Value("transcript"))?,
            },
            Op::SignTls12 => Self::SignTls12 {
                scheme: scheme(reader)?,
                client_random: reader.array()?,
                server_random: reader.array()?,
                share: Share::read(reader)?,
            },
            Op::KxSignTls12 => Self::KxSignTls12 {
                scheme: scheme(reader)?,
                client_random: reader.array()?,
                server_random: reader.array()?,
                group: group(reader)?,
            },
            Op::KxStart => Self::KxStart { group: group(reader)? },
            Op::KxFinish => Self::KxFinish {
                handle: reader.u64()?,
                peer: Share::read(reader)?,
            },
            Op::KxTls13 => Self::KxTls13 {
                peer: Share::read(reader)?,
            },
            Op::RsaMaster => Self::RsaMaster {
                version: reader.u16()?,
                seed: Seed::read(reader)?,
                encrypted: encrypted(reader)?,
            },
            Op::RsaPremaster => Self::RsaPremaster {
                version: reader.u16()?,
                encrypted: encrypted(reader)?,
            },
            Op::List => Self::List,
            Op::Ping => Self::Ping,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::SignTls13 { scheme, transcript } => {
                out.extend(scheme.code().to_be_bytes());
                out.extend(transcript.bytes());
            }
            Self::SignTls12 {
                scheme,
                client_random,
                server_random,
                share,
            } => {
                out.extend(scheme.code().to_be_bytes());
                out.extend(client_random);
                out.extend(server_random);
                share.write(out);
            }
            Self::KxSignTls12 {
                scheme,
                client_random,
                server_random,
                group,
            } => {
                out.extend(scheme.code().to_be_bytes());
                out.extend(client_random);
                out.extend(server_random);
                out.extend(group.code().to_be_bytes());
            }
            Self::KxStart { group } => out.extend(group.code().to_be_bytes()),
            Self::KxFinish { handle, peer } => {
                out.extend(handle.to_be_bytes());
                peer.write(out);
            }
            Self::KxTls13 { peer } => peer.write(out),
            Self::RsaMaster {
                version,
                seed,
                encrypted,
            } => {
                out.extend(version.to_be_bytes());
                seed.write(out);
                out.extend(encrypted.bytes());
            }
            Self::RsaPremaster { version, encrypted } => {
                out.extend(version.to_be_bytes());
                out.extend(encrypted.bytes());
            }
            Self::List | Self::Ping => {}
        }
    }
}

impl Query {
    /// Writes the frame behind what is in `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framed(out, |out| {
            out.extend(self.id.to_be_bytes());
            out.push(self.request.op().code());
            out.extend(self.key.0);
            self.request.write(out);
        });
    }

    /// Reads the frame at the front of `bytes`; `None` while it is not there whole, which it is at
    /// the latest with [`LENGTH`] + [`MAX_QUERY`] bytes. What is decoded encodes to the same bytes.
    ///
    /// # Errors
    /// The frame's length is out of bounds: nothing behind it can be read.
    pub fn decode(bytes: &[u8]) -> Result<Option<Decoded<Self>>, Broken> {
        let Some(content) = frame(bytes, HEAD, MAX_QUERY)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(content);
        let id = reader.u64().unwrap_or(0);
        Ok(Some(Decoded {
            used: LENGTH + content.len(),
            id,
            content: Self::read(id, &mut reader),
        }))
    }

    fn read(id: u64, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if id == 0 {
            return Err(Malformed::Value("id"));
        }
        let code = reader.u8()?;
        let key = KeyId(reader.array()?);
        let op = Op::from_code(code).ok_or(Malformed::UnknownOp(code))?;
        if op == Op::Ping && key != KeyId::NONE {
            return Err(Malformed::Value("key"));
        }
        let request = Request::read(op, reader)?;
        reader.end()?;
        Ok(Self { id, key, request })
    }
}
