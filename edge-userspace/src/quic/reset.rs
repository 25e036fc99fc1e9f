//! Stateless reset tokens (RFC 9000 section 10.3.2): with one, whoever answers for a connection
//! that is lost ends it, and so could everybody else. An endpoint must not tell the token of a
//! connection that another one holds (section 21.11). So the key is of this node and this listener,
//! and an endpoint knows only the tokens of ids that name itself, or a daemon that is gone: for
//! every other id it gives random bytes. `settings` puts it into each endpoint's configuration.

use std::fmt;
use std::net::SocketAddr;

use edge_common::cid::{self, LENGTH, Route};
use quinn_proto::crypto::{CryptoError, HmacKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::cid::{Generator, IdKey};

/// Bytes of HMAC-SHA256.
const TAG: usize = 32;

/// The tokens of one endpoint.
pub(super) struct Resets {
    key: hmac::Key,
    ids: IdKey,
    own: Route,
    /// The kernel gives this endpoint no datagram of a connection that a daemon before it still
    /// holds.
    steered: bool,
}

impl fmt::Debug for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resets").finish_non_exhaustive()
    }
}

impl Resets {
    /// For the endpoint at `listener` whose connections `generator` names.
    pub(super) fn new(ids: IdKey, listener: SocketAddr, generator: &Generator, steered: bool) -> Self {
        let mut place = b"edge quic reset 2\0".to_vec();
        place.extend(listener.to_string().as_bytes());
        for part in this_host() {
            place.push(0);
            place.extend(part);
        }
        let tag = hmac::sign(&ids.reset(), &place);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref()),
            own: generator.route(),
            ids,
            steered,
        }
    }

    /// Whether this endpoint answers for the connection with that id.
    fn answers_for(&self, id: &[u8]) -> bool {
        let Ok(bytes) = <[u8; LENGTH]>::try_from(id) else {
            return false;
        };
        let Some(route) = cid::decode(self.ids.key(), u64::from_le_bytes(bytes)) else {
            return false;
        };
        match route.generation == self.own.generation {
            true => route.worker == self.own.worker,
            false => self.steered,
        }
    }
}

/// What tells this host from others with the same secret; the same after a restart. A host that
/// says nothing of itself shares its keys with others like it.
fn this_host() -> [Vec<u8>; 2] {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let name = rustix::system::uname().nodename().to_bytes().to_vec();
    [machine, name]
}

impl HmacKey for Resets {
    fn sign(&self, id: &[u8], out: &mut [u8]) {
        let mut tag = [0; TAG];
        match self.answers_for(id) {
            true => tag.copy_from_slice(hmac::sign(&self.key, id).as_ref().get(..TAG).unwrap_or(&[0; TAG])),
            // Without randomness the zeros are nobody's token either.
            false => drop(SystemRandom::new().fill(&mut tag)),
        }
        for (to, from) in out.iter_mut().zip(tag) {
            *to = from;
        }
    }

    fn signature_len(&self) -> usize {
        TAG
    }

    fn verify(&self, id: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.key, id, signature).map_err(|_| CryptoError)
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::ConnectionIdGenerator as _;

    use super::*;
    use crate::base::clock::UnixTime;
    use crate::gate::keys::{Epochs, Secret};
    use crate::gate::token::Tokens;

    fn token(resets: &Resets, id: &[u8]) -> [u8; TAG] {
        let mut out = [0; TAG];
        resets.sign(id, &mut out);
        out
    }

    /// Who has seen one packet of a connection could end it with a datagram to another socket of
    /// the node; and a client whose connection is lost in a restart would wait for it in vain.
    #[test]
    fn only_the_endpoint_that_holds_an_id_tells_its_token() {
        let secret = Secret::new(b"an example of thirty-two bytes..").unwrap();
        let ids = IdKey::of(&Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()));
        let listeners: [SocketAddr; 2] = ["192.0.2.1:443".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()];
        let at = |listener: usize, generation, worker, steered| {
            let generator = Generator::new(ids.clone(), generation, worker);
            (
                Resets::new(ids.clone(), listeners[listener], &generator, steered),
                generator,
            )
        };
        let (holder, mut generator) = at(0, 3, 1, true);
        let id = generator.generate_cid();
        let live = token(&holder, &id);
        assert_eq!(token(&holder, &id), live);
        for (what, other) in [
            ("another listener", at(1, 3, 1, true).0),
            ("another worker", at(0, 3, 0, true).0),
            ("a daemon beside, not steered", at(0, 4, 1, false).0),
        ] {
            assert_ne!(token(&other, &id), live, "{what}");
        }
        // The daemon after it, to which the kernel gives only what nobody holds any more.
        assert_eq!(token(&at(0, 4, 0, true).0, &id), live);
        for strange in [&[1; 8][..], &[], &[1; 20]] {
            assert_ne!(token(&holder, strange), token(&holder, strange), "{strange:?}");
        }
    }
}
