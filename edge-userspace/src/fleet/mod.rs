//! A fleet: many nodes act as one, carried by an engine that can delay and nothing else. `node`
//! injects what a manifest and an event do to it ([`agent::Host`]); the command line deploys
//! ([`deploy`]).
//!
//! What a node is, is a *manifest*: content-addressed blobs, an index that names them, and a head,
//! which is a counter, a time and the index's digest under signatures of deploy keys ([`head`],
//! [`index`], [`store`]). What happens to it are *events*: signed by the node that issued them and
//! numbered by it ([`event`]), so that what is missing is seen ([`journal`]). Keys of session
//! tickets ([`tickets`]) go from node to node. All of it travels through a [`carrier`]: NATS
//! ([`nats`]), or memory, which can be told to be hostile ([`memory`]).

pub mod agent;
pub mod carrier;
pub mod deploy;
pub mod event;
pub mod head;
pub mod index;
pub mod journal;
pub mod key;
pub mod memory;
pub mod metrics;
pub mod nats;
pub mod receipt;
pub mod seal;
pub mod signed;
pub mod store;
pub mod tickets;

pub use crate::base::digest::Digest;

/// Whether `name` can name a fleet or a node: 1 to 64 of `a` to `z`, digits and `-`. Names become
/// parts of subjects and lines.
pub fn is_name(name: &str) -> bool {
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(sound)
}

/// N random bytes.
///
/// # Errors
/// The system has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The system gave no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system has no random numbers")]
pub struct NoRandomness;
