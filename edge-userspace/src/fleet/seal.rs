//! Secrets for some nodes only: HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM hands a
//! key to each of them: a vault's, or one that seals session tickets ([`hand`]); files are sealed
//! under that key by AES-256-GCM, bound to the fleet and to their path. The engine and other nodes
//! see neither.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::hpke::{EncapsulatedSecret, HpkePublicKey};
use zeroize::Zeroizing;

use super::key::{Identity, Recipient, SUITE};

/// Bytes of an encapsulated X25519 share.
const SHARE: usize = 32;
const INFO: &[u8] = b"edge fleet vault 1";
const TICKETS: &[u8] = b"edge fleet tickets 1";

/// A secret could not be sealed or opened: another key, another path, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not sealed to this node, or not what was sealed")]
pub struct Sealed;

/// The key of a vault: what files for the same nodes are sealed under.
pub struct Vault(Zeroizing<[u8; 32]>);

impl Vault {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, super::NoRandomness> {
        Ok(Self(Zeroizing::new(super::random()?)))
    }

    /// The key for a node, bound to the fleet's name.
    ///
    /// # Errors
    /// The recipient is not a key.
    pub fn wrap(&self, fleet: &str, to: &Recipient) -> Result<Vec<u8>, Sealed> {
        wrap(INFO, fleet.as_bytes(), &self.0, to)
    }

    /// What [`Vault::wrap`] made for this node.
    ///
    /// # Errors
    /// It was made for another one.
    pub fn unwrap(fleet: &str, wrapped: &[u8], node: &Identity) -> Result<Self, Sealed> {
        unwrap(INFO, fleet.as_bytes(), wrapped, node).map(Self)
    }

    fn key(&self) -> Result<LessSafeKey, Sealed> {
        let key = UnboundKey::new(&AES_256_GCM, self.0.as_slice()).map_err(|_| Sealed)?;
        Ok(LessSafeKey::new(key))
    }

    /// `plain` for whoever has the key: a random nonce, then the sealed bytes. Fewer than 2^32
    /// under one key, which lives for one deployment.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal(&self, fleet: &str, path: &str, plain: &[u8]) -> Result<Vec<u8>, Sealed> {
        let nonce: [u8; NONCE_LEN] = super::random().map_err(|_| Sealed)?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(bound(fleet, path));
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.key()?
            .seal_in_place_append_tag(nonce_of, aad, &mut sealed)
            .map_err(|_| Sealed)?;
        Ok([nonce.to_vec(), sealed].concat())
    }

    /// What [`Vault::seal`] sealed for the same fleet and path.
    ///
    /// # Errors
    /// It is something else.
    pub fn open(&self, fleet: &str, path: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Sealed> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Sealed)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(bound(fleet, path));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self
            .key()?
            .open_in_place(nonce, aad, &mut bytes)
            .map_err(|_| Sealed)?
            .len();
        bytes.truncate(plain);
        Ok(bytes)
    }
}

/// A key of session tickets for one node, bound to the fleet's name and to `what` is said of it.
///
/// # Errors
/// The recipient is not a key.
pub fn hand(fleet: &str, what: &str, secret: &[u8; 32], to: &Recipient) -> Result<Vec<u8>, Sealed> {
    wrap(TICKETS, &bound(fleet, what), secret, to)
}

/// What [`hand`] made for `node`.
///
/// # Errors
/// It was made for another one, or of something else.
pub fn receive(fleet: &str, what: &str, sealed: &[u8], node: &Identity) -> Result<Zeroizing<[u8; 32]>, Sealed> {
    unwrap(TICKETS, &bound(fleet, what), sealed, node)
}

fn wrap(info: &[u8], bound: &[u8], secret: &[u8; 32], to: &Recipient) -> Result<Vec<u8>, Sealed> {
    let to = HpkePublicKey(to.0.to_vec());
    let (share, sealed) = SUITE.seal(info, bound, secret, &to).map_err(|_| Sealed)?;
    Ok([share.0, sealed].concat())
}

fn unwrap(info: &[u8], bound: &[u8], wrapped: &[u8], node: &Identity) -> Result<Zeroizing<[u8; 32]>, Sealed> {
    let (share, sealed) = wrapped.split_at_checked(SHARE).ok_or(Sealed)?;
    let share = EncapsulatedSecret(share.to_vec());
    let key = SUITE.open(&share, info, bound, sealed, &node.opens());
    let key = Zeroizing::new(key.map_err(|_| Sealed)?);
    Ok(Zeroizing::new(key.as_slice().try_into().map_err(|_| Sealed)?))
}

fn bound(fleet: &str, path: &str) -> Vec<u8> {
    [fleet.as_bytes(), &[0], path.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stolen node, or the engine, would read keys of zones that it does not serve, or give a
    /// zone the key of another.
    #[test]
    fn secrets_open_for_their_nodes_at_their_place_alone() {
        let (ours, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let vault = Vault::new().unwrap();
        let wrapped = vault.wrap("shop", &ours.recipient()).unwrap();
        let sealed = vault.seal("shop", "keys/a.pem", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let opened = Vault::unwrap("shop", &wrapped, &ours).unwrap();
        assert_eq!(**opened.open("shop", "keys/a.pem", &sealed).unwrap(), *b"secret");
        assert!(opened.open("shop", "keys/b.pem", &sealed).is_err());
        assert!(opened.open("other", "keys/a.pem", &sealed).is_err());
        assert!(Vault::unwrap("shop", &wrapped, &other).is_err());
        assert!(Vault::unwrap("other", &wrapped, &ours).is_err());
        for end in 0..wrapped.len() {
            assert!(Vault::unwrap("shop", &wrapped[..end], &ours).is_err());
        }
        let key = [7; 32];
        let handed = hand("shop", "a key", &key, &ours.recipient()).unwrap();
        assert_eq!(*receive("shop", "a key", &handed, &ours).unwrap(), key);
        assert!(receive("shop", "another", &handed, &ours).is_err() && receive("x", "a key", &handed, &ours).is_err());
        assert!(receive("shop", "a key", &handed, &other).is_err() && Vault::unwrap("shop", &handed, &ours).is_err());
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        assert!(opened.open("shop", "keys/a.pem", &changed).is_err() && opened.open("shop", "x", b"short").is_err());
    }
}
