//! Wait tokens: minted for clients that are told to wait, opened when they come back. The policies
//! hand in claims and get bytes; `tls` and `quic` use the same header in front of what their
//! protocols seal.
//!
//! A token is 75 bytes, 100 characters as text:
//!
//! | bytes | | |
//! |---|---|---|
//! | 0..32 | header | [`edge_common::token`]; all that the kernel sees |
//! | 32..51 | body | AES-256-GCM (RFC 5116) with the header as associated data |
//! | 51..67 | tag | |
//! | 67..75 | salt | random |
//!
//! The body in the clear: layout 1, strikes, early attempts, zone (u64), place (u64), integers
//! little-endian.
//!
//! A nonce must never come twice under one key. It has 96 bits: the header's nonce (4 bytes) and
//! the salt (8), drawn from the kernel's generator for every token. Nodes that share the key need
//! no agreement that way, and neither a restart nor a cloned virtual machine repeats a counter.
//! [`Epochs`] bounds the tokens under a key so that two alike stay below one chance in 2^32. Were
//! it to happen, it would show the XOR of two bodies and weaken their tags, while the header's MAC
//! under its own key would still stand.
//!
//! A token is a bearer's: it is bound to an address prefix and, when asked with
//! [`Tokens::open_for`], to carrier and zone; that it is used once is `replay`'s business.

mod retry;

pub use retry::Retried;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use arc_swap::ArcSwap;
use edge_common::siphash::{self, Key, Rounds};
use edge_common::token::{self as header, HEADER, Header, Prefix, TokenKey, Verdict};
use ring::aead::{Aad, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::keys::{EpochKey, Epochs, KernelKeys, KeyRing, Secret};
use crate::base::clock::UnixTime;
use crate::base::peer::untranslated;

/// Bytes of a token.
pub const LENGTH: usize = HEADER + BODY + TAG + SALT;
/// Characters of a token as text: base64url (RFC 4648 section 5) without padding, and without a bit
/// to spare.
pub const TEXT: usize = LENGTH / 3 * 4;
/// Bytes of the salt, the second part of the body's nonce.
pub const SALT: usize = NONCE_LEN - 4;

const BODY: usize = 19;
const TAG: usize = 16;
const LAYOUT: u8 = 1;

const _: () = {
    assert!(LENGTH == 75);
    // Every text of TEXT characters of the alphabet is the only one of its token.
    assert!(LENGTH.is_multiple_of(3));
};

/// A client, as far as we can tell: random, minted at its first contact, and in every token it is
/// given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl ClientId {
    /// A new one: 64 random bits. Among a billion clients two share one with a chance of 3 in 100.
    pub fn fresh() -> Self {
        Self(u64::from_le_bytes(random()))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A zone's name as tokens carry it: the same on every node and in every release. Not secret, hence
/// the public key; the names are the operator's, so nobody looks for two that collide.
pub const fn zone_id(name: &str) -> u64 {
    siphash::bytes(Rounds::Two4, Key::new(b"edge zone name 1"), name.as_bytes())
}

/// What brought the token; it is in the header's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A cookie or a header field.
    Http,
    /// The front of a TLS session ticket.
    Ticket,
    /// A QUIC NEW_TOKEN frame.
    Quic,
}

impl Carrier {
    /// As the header says it.
    pub const fn flags(self) -> u8 {
        match self {
            Self::Http => header::HTTP,
            Self::Ticket => header::TICKET,
            Self::Quic => header::QUIC,
        }
    }

    /// From the header's flags.
    pub const fn from_flags(flags: u8) -> Option<Self> {
        match flags {
            header::HTTP => Some(Self::Http),
            header::TICKET => Some(Self::Ticket),
            header::QUIC => Some(Self::Quic),
            _ => None,
        }
    }

    /// A word for logs and labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Ticket => "ticket",
            Self::Quic => "quic",
        }
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is.
    pub client: ClientId,
    /// [`zone_id`] of the zone that told it to wait.
    pub zone: u64,
    /// When it may come back, seconds since 1970. It is let in up to [`SKEW`](header::SKEW) seconds
    /// before.
    pub not_before: u32,
    /// When the token ends, seconds since 1970. [`Tokens::mint`] shortens what no key would
    /// outlive.
    pub expires: u32,
    /// What it is carried by.
    pub carrier: Carrier,
    /// When the client came, milliseconds since 1970, with what the token is good for in the upper
    /// 16 bits.
    pub place: u64,
    /// Offences against earlier waits.
    pub strikes: u8,
    /// Early attempts that the grace has forgiven.
    pub early: u8,
}

/// Whether a genuine token's time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maturity {
    /// It has.
    Mature,
    /// Not yet.
    Early {
        /// Until its not-before by this node's clock: more than [`SKEW`](header::SKEW) seconds.
        wait: Duration,
    },
}

/// A genuine token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub claims: Claims,
    /// The header's MAC: one token's alone, and no client can choose it. Key of the replay
    /// protection, here and in the kernel.
    pub id: u64,
    /// Whether its time has come.
    pub maturity: Maturity,
}

/// Where a genuine token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The prefix that it was written for.
    Here,
    /// Another one.
    Elsewhere,
}

/// A genuine header, before the body was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The fields, now true.
    pub header: Header,
    /// As in [`Opened`].
    pub id: u64,
    /// As in [`Opened`].
    pub maturity: Maturity,
}

/// Why a token is as good as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Bytes of something else, or of a later layout.
    #[error("this is no wait token")]
    NotAToken,
    /// Older than two epochs, or minted by a node with another secret or epoch length.
    #[error("its key is unknown here: too old, or minted with another epoch length")]
    UnknownKey,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Altered, made up, minted with another secret, or stolen by another address: a MAC cannot
    /// tell these apart.
    #[error("it is forged, or was minted for another address or with another secret")]
    Forged,
    /// Genuine, of another carrier.
    #[error("it belongs to another carrier")]
    WrongCarrier,
    /// Genuine, of another zone.
    #[error("it belongs to another zone")]
    WrongZone,
}

impl Refusal {
    /// A word for labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotAToken => "not_a_token",
            Self::UnknownKey => "unknown_key",
            Self::Expired => "expired",
            Self::Forged => "forged",
            Self::WrongCarrier => "wrong_carrier",
            Self::WrongZone => "wrong_zone",
        }
    }
}

/// Mints and opens tokens; one per process, shared by all rooms. Every operation is a pure function
/// of secret, epoch length and `now` (and chance, when minting): the ring is only a memory of the
/// present epoch's keys.
pub struct Tokens {
    secret: Secret,
    epochs: Epochs,
    ring: ArcSwap<KeyRing>,
}

impl fmt::Debug for Tokens {
    /// Nothing of the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("epochs", &self.epochs)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// With the cluster's secret and its epoch length.
    pub fn new(secret: Secret, epochs: Epochs, now: UnixTime) -> Self {
        let ring = ArcSwap::from_pointee(KeyRing::derive(&secret, epochs, now));
        Self { secret, epochs, ring }
    }

    /// The epoch length.
    pub fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// A key for another use than tokens, as lasting as the secret.
    pub fn derive(&self, label: &[u8]) -> zeroize::Zeroizing<[u8; 16]> {
        self.secret.derive(label)
    }

    /// Index of the key in the map `KEYS` that tokens of `now` are minted with.
    pub fn key_id(&self, now: UnixTime) -> u32 {
        u32::try_from(self.epochs.at(now) % header::KEYS as u64).unwrap_or_default()
    }

    /// The keys for the map `KEYS` as of the last [`Tokens::rotate`]; for the first write after a
    /// start.
    pub fn kernel_keys(&self) -> KernelKeys {
        self.ring.load().kernel()
    }

    /// Moves to the epoch of `now`; the new keys for the kernel if that changed anything. To be
    /// called every few seconds; a call that comes late costs time, not correctness.
    pub fn rotate(&self, now: UnixTime) -> Option<KernelKeys> {
        if self.ring.load().epoch() == self.epochs.at(now) {
            return None;
        }
        let ring = KeyRing::derive(&self.secret, self.epochs, now);
        let keys = ring.kernel();
        self.ring.store(ring.into());
        Some(keys)
    }

    /// Hands `then` the keys of `now`: those at hand, or, where `rotate` is late or a clock jumped,
    /// derived for this once.
    fn with_ring<T>(&self, now: UnixTime, then: impl FnOnce(&KeyRing) -> T) -> T {
        let ring = self.ring.load();
        if ring.epoch() == self.epochs.at(now) {
            then(&ring)
        } else {
            then(&KeyRing::derive(&self.secret, self.epochs, now))
        }
    }

    /// A token with these claims for the client at `address`. Its end is at most what
    /// [`Epochs::last_expiry`] allows, which [`Epochs::longest_life`] from now never passes; a
    /// longer wait must be told in pieces.
    pub fn mint(&self, now: UnixTime, address: IpAddr, claims: &Claims) -> Vec<u8> {
        let header = self.header(
            now,
            address,
            claims.carrier,
            claims.client,
            claims.not_before,
            claims.expires,
        );
        let salt = random();
        let mut token = Vec::with_capacity(LENGTH);
        token.extend([LAYOUT, claims.strikes, claims.early]);
        token.extend(claims.zone.to_le_bytes());
        token.extend(claims.place.to_le_bytes());
        self.seal(now, &header, salt, &mut token);
        token.splice(..0, header);
        token.extend(salt);
        token
    }

    /// Opens the token of a client at `address`, whatever carrier and zone it is of; whoever asks
    /// must compare them, or ask [`Tokens::open_for`].
    ///
    /// # Errors
    /// Why it is as good as none; never `WrongCarrier` or `WrongZone`.
    pub fn open(&self, now: UnixTime, address: IpAddr, token: &[u8]) -> Result<Opened, Refusal> {
        match self.open_from(now, address, token)? {
            (opened, Home::Here) => Ok(opened),
            (_, Home::Elsewhere) => Err(Refusal::Forged),
        }
    }

    /// Opens a token wherever it comes from, and says whether it is bound to `address`. Of another
    /// address the header's MAC says nothing; the body's tag, which covers the header, proves as
    /// much.
    ///
    /// # Errors
    /// As [`Tokens::open`], but not for an address.
    pub fn open_from(&self, now: UnixTime, address: IpAddr, token: &[u8]) -> Result<(Opened, Home), Refusal> {
        let token: &[u8; LENGTH] = token.try_into().map_err(|_| Refusal::NotAToken)?;
        let (front, rest) = token.split_first_chunk::<HEADER>().ok_or(Refusal::NotAToken)?;
        let (sealed, salt) = rest.split_last_chunk::<SALT>().ok_or(Refusal::NotAToken)?;
        let words = header::to_words(front);
        let carrier = Carrier::from_flags(Header::read(words).flags).ok_or(Refusal::NotAToken)?;
        let (Checked { header, id, maturity }, home) = match self.check(now, address, carrier, front) {
            Ok(checked) => (checked, Home::Here),
            Err(Refusal::Forged) => {
                let header = Header {
                    client: self.client_in(now, words),
                    ..Header::read(words)
                };
                let left = UnixTime::from_secs(u64::from(header.not_before)).since(now);
                let early = u64::from(header.not_before) > now.secs() + header::SKEW;
                let checked = Checked {
                    header,
                    id: words.last().copied().unwrap_or_default(),
                    maturity: if early {
                        Maturity::Early { wait: left }
                    } else {
                        Maturity::Mature
                    },
                };
                (checked, Home::Elsewhere)
            }
            Err(refusal) => return Err(refusal),
        };
        let mut sealed: [u8; BODY + TAG] = sealed.try_into().map_err(|_| Refusal::NotAToken)?;
        let body = self.unseal(now, front, *salt, &mut sealed).ok_or(Refusal::Forged)?;
        let ([layout, strikes, early], body) = body.split_first_chunk().ok_or(Refusal::NotAToken)?;
        let (zone, place) = body.split_first_chunk().ok_or(Refusal::NotAToken)?;
        if *layout != LAYOUT {
            return Err(Refusal::NotAToken);
        }
        let claims = Claims {
            client: ClientId(header.client),
            zone: u64::from_le_bytes(*zone),
            not_before: header.not_before,
            expires: header.expires,
            carrier,
            place: u64::from_le_bytes(place.try_into().map_err(|_| Refusal::NotAToken)?),
            strikes: *strikes,
            early: *early,
        };
        Ok((Opened { claims, id, maturity }, home))
    }

    /// Opens a token that must be of this carrier and zone.
    ///
    /// # Errors
    /// Why it is as good as none.
    pub fn open_for(
        &self,
        now: UnixTime,
        address: IpAddr,
        carrier: Carrier,
        zone: u64,
        token: &[u8],
    ) -> Result<Opened, Refusal> {
        let opened = self.open(now, address, token)?;
        if opened.claims.carrier != carrier {
            Err(Refusal::WrongCarrier)
        } else if opened.claims.zone != zone {
            Err(Refusal::WrongZone)
        } else {
            Ok(opened)
        }
    }

    /// A header alone, for carriers that seal bodies of their own. Times in seconds since 1970; the
    /// end is shortened as in [`Tokens::mint`].
    pub fn header(
        &self,
        now: UnixTime,
        address: IpAddr,
        carrier: Carrier,
        client: ClientId,
        not_before: u32,
        expires: u32,
    ) -> [u8; HEADER] {
        let header = Header {
            key_id: 0,
            family: 0,
            flags: carrier.flags(),
            not_before,
            expires: expires.min(self.epochs.last_expiry(self.epochs.at(now)).stamp()),
            nonce: u32::from_le_bytes(random()),
            client: client.0,
        };
        let none = TokenKey::NONE;
        self.with_ring(now, |ring| {
            let key = ring.current().map_or(&none, |key| &key.header);
            header::to_bytes(header.encode(prefix(address), key))
        })
    }

    /// Checks a header, as the kernel does and by the same code.
    ///
    /// # Errors
    /// Why it is as good as none. Another carrier's header is `WrongCarrier` here, and no token in
    /// the kernel.
    pub fn check(
        &self,
        now: UnixTime,
        address: IpAddr,
        carrier: Carrier,
        front: &[u8; HEADER],
    ) -> Result<Checked, Refusal> {
        let words = header::to_words(front);
        let mut header = Header::read(words);
        let none = TokenKey::NONE;
        let judge = |flags| {
            self.with_ring(now, |ring| {
                let key = ring.named(header.key_id).map_or(&none, |key| &key.header);
                header::verify(words, flags, prefix(address), key, now.secs())
            })
        };
        let maturity = match judge(carrier.flags()) {
            Verdict::Valid => Maturity::Mature,
            Verdict::Early => Maturity::Early {
                wait: UnixTime::from_secs(u64::from(header.not_before)).since(now),
            },
            Verdict::Expired => return Err(Refusal::Expired),
            Verdict::UnknownKey => return Err(Refusal::UnknownKey),
            Verdict::BadMac => return Err(Refusal::Forged),
            Verdict::NotAToken => {
                let other = Carrier::from_flags(header.flags).filter(|other| *other != carrier);
                return Err(match other.map(|other| judge(other.flags())) {
                    Some(Verdict::Valid | Verdict::Early) => Refusal::WrongCarrier,
                    _ => Refusal::NotAToken,
                });
            }
        };
        header.client = self.client_in(now, words);
        Ok(Checked {
            header,
            id: words.last().copied().unwrap_or_default(),
            maturity,
        })
    }

    /// The client's id behind the mask of a header; true if the header is.
    fn client_in(&self, now: UnixTime, words: [u64; header::WORDS]) -> u64 {
        let none = TokenKey::NONE;
        self.with_ring(now, |ring| {
            let key = ring.named(Header::read(words).key_id).map_or(&none, |key| &key.header);
            header::client(words, key)
        })
    }

    /// Seals `body` in place and appends the tag; the header is authenticated with it. `salt` must
    /// be random and kept beside: on QUIC the first bytes of the library's own nonce. Only for a
    /// header minted at this `now`; under a key that is gone the body is emptied, so that nothing
    /// goes out in the clear.
    pub fn seal(&self, now: UnixTime, front: &[u8; HEADER], salt: [u8; SALT], body: &mut Vec<u8>) {
        let sealed = self.with_key(now, front, salt, |key, nonce| {
            key.body.seal_in_place_append_tag(nonce, Aad::from(front), body).ok()
        });
        if sealed.is_none() {
            body.clear();
        }
    }

    /// Opens what [`Tokens::seal`] made, in place; `None` if a bit of it, of the header or of the
    /// salt was changed. Says nothing about address or time: the header must have passed
    /// [`Tokens::check`].
    pub fn unseal<'a>(
        &self,
        now: UnixTime,
        front: &[u8; HEADER],
        salt: [u8; SALT],
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        self.with_key(now, front, salt, |key, nonce| {
            key.body.open_in_place(nonce, Aad::from(front), sealed).ok()
        })
        .map(|body| &*body)
    }

    fn with_key<T>(
        &self,
        now: UnixTime,
        front: &[u8; HEADER],
        salt: [u8; SALT],
        then: impl FnOnce(&EpochKey, Nonce) -> Option<T>,
    ) -> Option<T> {
        let header = Header::read(header::to_words(front));
        let mut nonce = [0; NONCE_LEN];
        let (front, back) = nonce.split_at_mut(NONCE_LEN - SALT);
        front.copy_from_slice(&header.nonce.to_le_bytes());
        back.copy_from_slice(&salt);
        self.with_ring(now, |ring| {
            then(ring.named(header.key_id)?, Nonce::assume_unique_for_key(nonce))
        })
    }
}

/// What tokens are bound to, as the kernel sees it.
fn prefix(address: IpAddr) -> Prefix {
    Prefix::of(untranslated(address))
}

/// A token as text, for a cookie or a header field: base64url without padding.
pub fn to_text(token: &[u8]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(token)
}

/// The token in a text; exactly [`TEXT`] characters of the alphabet, and nothing around them. One
/// token has one text.
pub fn from_text(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != TEXT {
        return None;
    }
    let mut token = [0; LENGTH];
    let n = data_encoding::BASE64URL_NOPAD
        .decode_mut(text.as_bytes(), &mut token)
        .ok()?;
    (n == LENGTH).then_some(token)
}

/// A salt for [`Tokens::seal`].
pub fn salt() -> [u8; SALT] {
    random()
}

/// Random bytes from the kernel.
#[expect(
    clippy::expect_used,
    reason = "getrandom(2) does not fail once the system is up; without chance no token must leave"
)]
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("random bytes from the kernel");
    bytes
}

#[cfg(test)]
mod tests;
