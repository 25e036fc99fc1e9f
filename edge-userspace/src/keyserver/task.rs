//! From a query that is allowed to its answer: what is quick is done at once, what needs the key
//! becomes a [`Task`].

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use super::ephemeral::{Ephemeral, Kept};
use super::key::Key;
use super::premaster;
use super::wire::{Answer, Ciphertext, ErrorCode, Query, Request, Scheme, Secret, Seed, Share, tls12, tls13};

/// What is to be done with a private key.
#[derive(Debug)]
pub(super) enum Task {
    /// Sign what was built here.
    Sign {
        scheme: Scheme,
        message: Vec<u8>,
        /// The ephemeral key that is signed, where it is ours.
        kept: Option<(u64, Share)>,
    },
    /// Decrypt a premaster secret.
    Decrypt {
        version: u16,
        encrypted: Ciphertext,
        /// Derive the master secret from it.
        seed: Option<Seed>,
    },
}

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Step {
    /// It is answered.
    Done(Answer),
    /// It needs the private key.
    Needs(Task),
}

/// Does what needs no private key. `query` has been judged; `list` and `ping` are not for here.
pub(super) fn begin(query: Query, kept: &mut Kept, now: Instant) -> Result<Step, ErrorCode> {
    let internal = |_| ErrorCode::Internal;
    Ok(Step::Done(match query.request {
        Request::SignTls13 { scheme, transcript } => {
            return Ok(Step::Needs(Task::Sign {
                scheme,
                message: tls13(&transcript),
                kept: None,
            }));
        }
        Request::SignTls12 {
            scheme,
            client_random,
            server_random,
            share,
        } => {
            return Ok(Step::Needs(Task::Sign {
                scheme,
                message: tls12(&client_random, &server_random, &share),
                kept: None,
            }));
        }
        Request::KxSignTls12 {
            scheme,
            client_random,
            server_random,
            group,
        } => {
            let (key, share) = Ephemeral::new(group).map_err(internal)?;
            return Ok(Step::Needs(Task::Sign {
                scheme,
                message: tls12(&client_random, &server_random, &share),
                kept: Some((kept.keep(now, key), share)),
            }));
        }
        Request::KxStart { group } => {
            let (key, share) = Ephemeral::new(group).map_err(internal)?;
            let handle = kept.keep(now, key);
            Answer::KxStarted { handle, share }
        }
        Request::KxFinish { handle, peer } => {
            let key = kept.take(now, handle).ok_or(ErrorCode::UnknownHandle)?;
            Answer::Secret(key.agree(&peer).ok_or(ErrorCode::Malformed)?)
        }
        Request::KxTls13 { peer } => {
            let (key, share) = Ephemeral::new(peer.group()).map_err(internal)?;
            let secret = key.agree(&peer).ok_or(ErrorCode::Malformed)?;
            Answer::KxDone { share, secret }
        }
        Request::RsaMaster {
            version,
            seed,
            encrypted,
        } => {
            return Ok(Step::Needs(Task::Decrypt {
                version,
                encrypted,
                seed: Some(seed),
            }));
        }
        Request::RsaPremaster { version, encrypted } => {
            return Ok(Step::Needs(Task::Decrypt {
                version,
                encrypted,
                seed: None,
            }));
        }
        Request::List | Request::Ping => return Err(ErrorCode::Internal),
    }))
}

impl Task {
    /// Uses the key.
    pub(super) fn run(self, key: &Arc<Key>) -> Result<Answer, ErrorCode> {
        match self {
            Self::Sign { scheme, message, kept } => {
                let signature = key.sign(scheme, &message).map_err(|_| ErrorCode::Internal)?;
                Ok(match kept {
                    None => Answer::Signature(signature),
                    Some((handle, share)) => Answer::KxSigned {
                        handle,
                        share,
                        signature,
                    },
                })
            }
            Self::Decrypt {
                version,
                encrypted,
                seed,
            } => decrypt(key, version, &encrypted, seed.as_ref()),
        }
    }
}

/// The premaster or master secret of a static-RSA handshake. The same work is done, and an answer
/// of the same form given, whatever is inside `encrypted`.
fn decrypt(key: &Key, version: u16, encrypted: &Ciphertext, seed: Option<&Seed>) -> Result<Answer, ErrorCode> {
    let modulus = key.modulus().ok_or(ErrorCode::Mismatch)?;
    // Known to who sent it, and to everybody who saw the certificate.
    if encrypted.bytes().len() != modulus {
        return Err(ErrorCode::Malformed);
    }
    // Before decryption, so that its cost is paid in every case.
    let secret = key.stand_in().map_err(|_| ErrorCode::Internal)?;
    let stand_in = premaster::stand_in(secret, version, encrypted.bytes());
    let premaster = match key.raw(encrypted.bytes()).map_err(|_| ErrorCode::Internal)? {
        Some(block) => premaster::select(&block, version, &stand_in),
        // No number below the modulus: the sender knows that, and learns nothing from the time.
        None => stand_in,
    };
    finish(premaster, seed)
}

fn finish(premaster: premaster::Secret, seed: Option<&Seed>) -> Result<Answer, ErrorCode> {
    let secret = match seed {
        Some(seed) => premaster::master(&premaster, seed).ok_or(ErrorCode::Internal)?,
        None => premaster,
    };
    Ok(Answer::Secret(Secret::new(secret.as_slice())))
}
