//! The connection ids that this daemon gives out ([`edge_common::cid`]): the kernel reads from them
//! whose a datagram is, whatever address it comes from. `front` gives each worker's endpoint a
//! generator; `node` publishes the key.

use std::fmt;
use std::time::Duration;

use edge_common::cid::{self, GENERATIONS, LENGTH, Route, WORKERS};
use edge_common::siphash::Key;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;
use zeroize::Zeroize as _;

use crate::gate::token::{ClientId, Tokens};

/// What the ids of a node are made with: the same in every daemon that follows another, or the
/// connections of the one before could not be told from a stranger's packets.
#[derive(Clone)]
pub struct IdKey(Key);

impl fmt::Debug for IdKey {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdKey").finish_non_exhaustive()
    }
}

impl Drop for IdKey {
    fn drop(&mut self) {
        self.0.0.zeroize();
        self.0.1.zeroize();
    }
}

impl IdKey {
    /// From the node's secret.
    pub fn of(tokens: &Tokens) -> Self {
        Self(Key::new(&tokens.derive(b"quic connection")))
    }

    /// As published in the map `LOCKDOWN`; `None` for one that was never written.
    pub fn published(words: [u64; 2]) -> Option<Self> {
        (words != [0; 2]).then_some(Self(Key(words[0], words[1])))
    }

    /// For the map `LOCKDOWN`.
    pub fn words(&self) -> [u64; 2] {
        [self.0.0, self.0.1]
    }

    /// What the keys of stateless reset tokens are made from ([`reset`](super::reset)).
    pub(super) fn reset(&self) -> hmac::Key {
        let mut bytes = [0; 16];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *to = word.to_le_bytes();
        }
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"edge quic reset 1");
        bytes.zeroize();
        hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
    }

    /// What ids are read with.
    pub(super) const fn key(&self) -> Key {
        self.0
    }
}

/// Makes the ids of one worker's connections.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    key: IdKey,
    route: Route,
}

impl Generator {
    /// For the worker of that number in the daemon of that generation.
    pub(super) const fn new(key: IdKey, generation: u16, worker: usize) -> Self {
        Self {
            key,
            route: Route {
                generation: generation % GENERATIONS,
                worker: (worker % WORKERS as usize) as u16,
            },
        }
    }
}

impl Generator {
    /// Whose ids they are.
    pub(super) const fn route(&self) -> Route {
        self.route
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        // The low half of 64 random bits of the system's generator.
        let nonce = (ClientId::fresh().0 & u64::from(u32::MAX)) as u32;
        ConnectionId::new(&cid::encode(self.key.0, nonce, self.route).to_le_bytes())
    }

    /// Another worker's or daemon's id passes: its connection may be gone, and its client wants to
    /// hear of that. Whether it does is [`Resets`](super::reset::Resets)' matter.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let bytes = <[u8; LENGTH]>::try_from(&**id).map_err(|_| InvalidCid)?;
        cid::decode(self.key.0, u64::from_le_bytes(bytes))
            .map(|_| ())
            .ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixTime;
    use crate::gate::keys::{Epochs, Secret};

    fn key(secret: &[u8]) -> IdKey {
        let tokens = Tokens::new(Secret::new(secret).unwrap(), Epochs::DEFAULT, UnixTime::now());
        IdKey::of(&tokens)
    }

    /// A datagram that the kernel gives to another worker is a connection lost; and after a restart
    /// the client of one that is gone must hear of it, while nobody else can end a connection.
    #[test]
    fn ids_name_their_worker_and_outlive_the_daemon() {
        let one = key(b"an example of thirty-two bytes..");
        let again = key(b"an example of thirty-two bytes..");
        let other = key(b"another example of 32 bytes ....");
        let mut generator = Generator::new(one.clone(), 65, 3);
        let id = generator.generate_cid();
        let bytes = <[u8; LENGTH]>::try_from(&*id).unwrap();
        let route = cid::decode(again.0, u64::from_le_bytes(bytes)).unwrap();
        assert_eq!((route.generation, route.worker), (1, 3));
        assert!(Generator::new(again.clone(), 0, 0).validate(&id).is_ok());
        assert!(Generator::new(other.clone(), 0, 0).validate(&id).is_err());
        assert!(generator.validate(&ConnectionId::new(&[1; 7])).is_err());
        let token = |key: &IdKey| hmac::sign(&key.reset(), b"a listener").as_ref().to_vec();
        assert_eq!(token(&one), token(&again));
        assert_ne!(token(&one), token(&other));
        assert!(IdKey::published(one.words()).is_some_and(|key| token(&key) == token(&one)));
        assert!(IdKey::published([0; 2]).is_none());
    }

    /// Two ids of a connection must not be linked by who looks on (RFC 9000 section 5.1).
    #[test]
    fn ids_share_nothing() {
        let mut generator = Generator::new(key(b"an example of thirty-two bytes.."), 1, 1);
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| generator.generate_cid().to_vec()).collect();
        for part in [0..4, 4..6, 6..8] {
            let parts: std::collections::HashSet<_> = ids.iter().map(|id| id[part.clone()].to_vec()).collect();
            assert!(parts.len() > 950, "{part:?}: {}", parts.len());
        }
    }
}
