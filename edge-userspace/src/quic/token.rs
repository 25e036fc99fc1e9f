//! The tokens of QUIC (RFC 9000 section 8.1) in forms that the XDP program can check: quinn's own
//! contents, sealed by the gate's keys, so that every node with the same secret takes them.
//!
//! | first byte | token | form |
//! |---|---|---|
//! | A7 | NEW_TOKEN | [`edge_common::token`]'s header (with the client's id), quinn's content sealed, quinn's nonce (16) |
//! | A8 | Retry minted in XDP | [`edge_common::retry`]; its last 16 bytes are what quinn takes for its nonce |
//! | A9 | Retry of quinn's | a header (32), quinn's content sealed, quinn's nonce (16) |
//!
//! quinn compares addresses and times after opening; what is wrong with a NEW_TOKEN makes it as
//! good as none (section 8.1.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edge_common::retry;
use edge_common::token::{self, HEADER};
use quinn_proto::TokenLog;
use quinn_proto::crypto::{AeadKey, CryptoError, HandshakeTokenKey};

use super::initial::Cid;
use crate::base::clock::UnixTime;
use crate::gate::token::{Carrier, ClientId, SALT, Tokens};

/// Bytes of quinn's nonce, the last of every token.
const NONCE: usize = 16;
/// First byte of quinn's content: what it is.
const RETRY: u8 = 0;
const VALIDATION: u8 = 1;
/// Seconds from now to a NEW_TOKEN's end; the epochs of the keys may shorten it.
const LIFE: u32 = 7 * 86_400;

/// Seals for one client, or opens for all.
#[derive(Clone)]
pub struct TokenKey {
    tokens: Arc<Tokens>,
    /// Whose NEW_TOKENs are minted.
    client: ClientId,
}

impl TokenKey {
    /// For an endpoint: opens everybody's tokens. What it would mint would be a newcomer's.
    pub fn new(tokens: Arc<Tokens>) -> Arc<Self> {
        Self::of(tokens, ClientId::fresh())
    }

    /// For a connection of `client`.
    pub fn of(tokens: Arc<Tokens>, client: ClientId) -> Arc<Self> {
        Arc::new(Self { tokens, client })
    }

    /// The destination connection id of the packet that a Retry token was the answer to; `None` for
    /// any other token.
    pub(super) fn original(&self, token: &[u8]) -> Option<Cid> {
        let kind = token.first()?;
        if !matches!(*kind, retry::MAGIC | retry::SEALED_MAGIC) {
            return None;
        }
        let (sealed, nonce) = token.split_last_chunk::<NONCE>()?;
        let mut sealed = sealed.to_vec();
        let content = self.aead_from_hkdf(nonce).open(&mut sealed, &[]).ok()?;
        let family = *content.get(1)?;
        // Kind, family, address, port: then the id with its length.
        let place = if family == 0 { 2 + 4 + 2 } else { 2 + 16 + 2 };
        let (&length, rest) = content.get(place..)?.split_first()?;
        Cid::new(rest.get(..usize::from(length))?)
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

impl HandshakeTokenKey for TokenKey {
    /// `random_bytes`: quinn's nonce. A key per token is its idea; ours is per epoch, and the nonce
    /// salts it.
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        let mut nonce = [0; NONCE];
        for (to, from) in nonce.iter_mut().zip(random_bytes) {
            *to = *from;
        }
        Box::new(Sealing {
            key: self.clone(),
            nonce,
        })
    }
}

/// One token being made or opened.
struct Sealing {
    key: TokenKey,
    nonce: [u8; NONCE],
}

impl Sealing {
    /// quinn's nonce is random for each token; its front salts ours.
    fn salt(&self) -> [u8; SALT] {
        let mut salt = [0; SALT];
        for (to, from) in salt.iter_mut().zip(self.nonce) {
            *to = from;
        }
        salt
    }
}

impl AeadKey for Sealing {
    /// Makes a token of quinn's content in `data`.
    fn seal(&self, data: &mut Vec<u8>, _: &[u8]) -> Result<(), CryptoError> {
        let now = UnixTime::now();
        let tokens = &self.key.tokens;
        let (kind, address) = content(data).ok_or(CryptoError)?;
        let front = tokens.header(
            now,
            address,
            Carrier::Quic,
            self.key.client,
            now.stamp(),
            now.stamp().saturating_add(LIFE),
        );
        tokens.seal(now, &front, self.salt(), data);
        if data.is_empty() {
            return Err(CryptoError);
        }
        data.splice(..0, front);
        if kind == RETRY {
            data.insert(0, retry::SEALED_MAGIC);
        }
        Ok(())
    }

    /// Gives quinn its content back.
    fn open<'a>(&self, data: &'a mut [u8], _: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let now = UnixTime::now();
        match data.first() {
            Some(&token::MAGIC) => self.unseal(now, data, VALIDATION),
            Some(&retry::SEALED_MAGIC) => self.unseal(now, data.get_mut(1..).ok_or(CryptoError)?, RETRY),
            Some(&retry::MAGIC) => self.of_kernel(now, data),
            _ => Err(CryptoError),
        }
    }
}

impl Sealing {
    fn unseal<'a>(&self, now: UnixTime, data: &'a mut [u8], expected: u8) -> Result<&'a mut [u8], CryptoError> {
        let (front, sealed) = data.split_first_chunk_mut::<HEADER>().ok_or(CryptoError)?;
        let front = *front;
        let length = {
            let tokens = &self.key.tokens;
            let opened = tokens.unseal(now, &front, self.salt(), sealed).ok_or(CryptoError)?;
            let (kind, address) = content(opened).ok_or(CryptoError)?;
            // One kind must not pass for the other: a Retry proves more.
            if kind != expected {
                return Err(CryptoError);
            }
            if kind == VALIDATION {
                // Prefix, time and key, as the kernel checks them.
                tokens
                    .check(now, address, Carrier::Quic, &front)
                    .map_err(|_| CryptoError)?;
            }
            opened.len()
        };
        sealed.get_mut(..length).ok_or(CryptoError)
    }

    /// Writes quinn's content for a Retry token of the XDP program over the token.
    fn of_kernel<'a>(&self, now: UnixTime, data: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        let mut whole = [0; retry::LENGTH];
        if data.len() != retry::LENGTH - NONCE {
            return Err(CryptoError);
        }
        let (front, back) = whole.split_at_mut(retry::LENGTH - NONCE);
        front.copy_from_slice(data);
        back.copy_from_slice(&self.nonce);
        let original = self.key.tokens.open_retry(now, &whole).ok_or(CryptoError)?;
        let mut content = Vec::with_capacity(data.len());
        content.push(RETRY);
        match original.address {
            IpAddr::V4(v4) => {
                content.push(0);
                content.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                content.push(1);
                content.extend(v6.octets());
            }
        }
        content.extend(original.port.to_be_bytes());
        content.push(u8::try_from(original.original().len()).map_err(|_| CryptoError)?);
        content.extend(original.original());
        content.extend(original.issued.to_be_bytes());
        let place = data.get_mut(..content.len()).ok_or(CryptoError)?;
        place.copy_from_slice(&content);
        Ok(place)
    }
}

/// Kind and address of quinn's content: kind, 0 and four bytes or 1 and sixteen.
fn content(data: &[u8]) -> Option<(u8, IpAddr)> {
    let (&[kind, family], rest) = data.split_first_chunk()?;
    let address = match family {
        0 => IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
        1 => IpAddr::V6(Ipv6Addr::from(*rest.first_chunk::<16>()?)),
        _ => return None,
    };
    matches!(kind, RETRY | VALIDATION).then_some((kind, address))
}

/// Remembers NEW_TOKENs that were used, so that each is taken once (RFC 9000 section 8.1.4). False
/// positives make a token as good as none, now and then.
#[derive(Default)]
pub(super) struct SpentTokens(quinn_proto::BloomTokenLog);

impl TokenLog for SpentTokens {
    /// Only the part of quinn's nonce counts that the seal covers: whoever changed the rest would
    /// have a token more.
    fn check_and_insert(
        &self,
        nonce: u128,
        issued: SystemTime,
        lifetime: Duration,
    ) -> Result<(), quinn_proto::TokenReuseError> {
        self.0.check_and_insert(nonce & u128::from(u64::MAX), issued, lifetime)
    }
}

#[cfg(test)]
mod tests {
    use edge_common::retry::Source;

    use super::*;
    use crate::gate::keys::{Epochs, Secret};

    fn tokens() -> Arc<Tokens> {
        node(tempfile::tempdir().unwrap().path())
    }

    /// Those of a node whose secret is in that directory.
    fn node(secret: &std::path::Path) -> Arc<Tokens> {
        let secret = Secret::read_or_create(secret).unwrap();
        Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()))
    }

    /// quinn's contents: a NEW_TOKEN's for an IPv4 client, a Retry's for an IPv6 one.
    fn contents() -> [Vec<u8>; 2] {
        let issued = UnixTime::now().secs().to_be_bytes();
        let validation = [&[VALIDATION, 0, 192, 0, 2, 7][..], &issued].concat();
        let retry = [&[RETRY, 1][..], &[0xfd; 16], &[0x11, 0x51, 3, 7, 8, 9], &issued].concat();
        [validation, retry]
    }

    fn sealed(key: &TokenKey, content: &[u8]) -> Vec<u8> {
        let nonce = [5; NONCE];
        let mut token = content.to_vec();
        key.aead_from_hkdf(&nonce).seal(&mut token, &[]).unwrap();
        token.extend(nonce);
        token
    }

    fn opened(key: &TokenKey, token: &[u8]) -> Option<Vec<u8>> {
        let (body, nonce) = token.split_at(token.len() - NONCE);
        let mut body = body.to_vec();
        let content = key.aead_from_hkdf(nonce).open(&mut body, &[]).ok()?;
        Some(content.to_vec())
    }

    /// A client whose token fails is a stranger again; one whose altered token passes is whoever it
    /// likes.
    #[test]
    fn contents_come_back_and_no_bit_can_be_changed() {
        let tokens = tokens();
        let mint = TokenKey::of(tokens.clone(), ClientId(7));
        let any = TokenKey::new(tokens);
        let [validation, retry] = contents();
        for (content, first) in [(validation, token::MAGIC), (retry, retry::SEALED_MAGIC)] {
            let token = sealed(&mint, &content);
            assert_eq!(token.first(), Some(&first));
            assert_eq!(opened(&any, &token).as_deref(), Some(&content[..]));
            let original = (first == retry::SEALED_MAGIC).then(|| Cid::new(&[7, 8, 9]).unwrap());
            assert_eq!(any.original(&token), original);
            for bit in 0..token.len() * 8 {
                let mut forged = token.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                // quinn's nonce beyond the salt is only its own key in the log of used tokens.
                let beyond = bit / 8 >= token.len() - (NONCE - SALT);
                assert_eq!(opened(&any, &forged).is_some(), beyond, "bit {bit}");
            }
        }
    }

    /// A client that comes to another node of the cluster would be a stranger; or any node in the
    /// world would know it.
    #[test]
    fn nodes_with_one_secret_know_each_others_clients() {
        let [secret, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let here = TokenKey::of(node(secret.path()), ClientId(7));
        let there = node(secret.path());
        let stranger = TokenKey::new(node(other.path()));
        for content in contents() {
            let token = sealed(&here, &content);
            assert_eq!(opened(&TokenKey::new(there.clone()), &token), Some(content));
            assert_eq!(opened(&stranger, &token), None);
        }
        let [validation, _] = contents();
        let token = sealed(&here, &validation);
        let front = token.first_chunk::<HEADER>().unwrap();
        let address = "192.0.2.7".parse().unwrap();
        let checked = there.check(UnixTime::now(), address, Carrier::Quic, front).unwrap();
        assert_eq!(checked.header.client, 7);
    }

    /// The kernel reads the client from the same bytes.
    #[test]
    fn the_kernel_sees_the_client() {
        let tokens = tokens();
        let [validation, _] = contents();
        let token = sealed(&TokenKey::of(tokens.clone(), ClientId(7)), &validation);
        let front = token.first_chunk::<HEADER>().unwrap();
        let address = "192.0.2.7".parse().unwrap();
        let checked = tokens.check(UnixTime::now(), address, Carrier::Quic, front).unwrap();
        assert_eq!(checked.header.client, 7);
    }

    /// Without it nobody gets in while the program answers for us.
    #[test]
    fn a_retry_of_the_kernel_becomes_quinns() {
        let tokens = tokens();
        let key = tokens.kernel_keys().0.into_iter().find(|key| key.valid == 1).unwrap();
        let from = Source {
            address: [u64::from_le_bytes([192, 0, 2, 7, 0, 0, 0, 0]), 0],
            port: 4_433,
            family: 4,
        };
        let now = UnixTime::now();
        let words = retry::encode(from, [0x0807_0605_0403_0201, 0, 0], 8, 99, &key, now.secs());
        let token: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let any = TokenKey::new(tokens);
        let expected = [
            &[RETRY, 0, 192, 0, 2, 7, 0x11, 0x51, 8, 1, 2, 3, 4, 5, 6, 7, 8][..],
            &now.secs().to_be_bytes(),
        ]
        .concat();
        assert_eq!(opened(&any, &token).as_deref(), Some(&expected[..]));
        assert_eq!(any.original(&token), Cid::new(&[1, 2, 3, 4, 5, 6, 7, 8]));
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&any, &forged), None, "bit {bit}");
        }
    }
}
