//! The keys that seal session tickets: random, in memory alone, replaced several times a ticket's
//! life and wiped when the last ticket under them has ended. No file of the node opens a ticket, so
//! that whoever gets the node's secret, or all its disk, reads no recorded connection (RFC 9325
//! section 3.3, RFC 5077 section 5.5). Each node has its own, and each start begins anew: a client
//! that comes to another node, or after a restart, shakes hands in full. `tickets` asks it; `front`
//! has it tidied up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

/// Bytes in front of what is sealed: the key's name and the nonce.
pub(super) const FRONT: usize = NAME + NONCE_LEN;
const NAME: usize = 4;
/// Keys are replaced this many times in a ticket's life.
const TURNS: u32 = 2;

/// The keys of a node.
#[derive(Debug)]
pub struct Sealing {
    /// The newest first; no more than `TURNS + 2`.
    keys: ArcSwap<Vec<Arc<Key>>>,
    /// A ticket's life; held by whoever replaces the keys.
    life: Mutex<Duration>,
}

/// One key. AWS-LC wipes its copy when it goes, and nobody else has one.
struct Key {
    name: [u8; NAME],
    key: LessSafeKey,
    since: Instant,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// `None` without randomness.
    fn random(now: Instant) -> Option<Arc<Self>> {
        let mut name = [0; NAME];
        rand::fill(&mut name).ok()?;
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(bytes.as_mut()).ok()?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_ref()).ok()?;
        Some(Arc::new(Self {
            name,
            key: LessSafeKey::new(key),
            since: now,
        }))
    }
}

impl Sealing {
    /// With a first key, for tickets that live for `life`.
    pub fn new(life: Duration, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            keys: ArcSwap::from_pointee(Key::random(now).into_iter().collect()),
            life: Mutex::new(life),
        })
    }

    fn life(&self) -> MutexGuard<'_, Duration> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tickets live for `life` from now on.
    pub fn adjust(&self, life: Duration) {
        *self.life() = life;
    }

    /// Replaces a key that has sealed long enough, and wipes those whose last ticket has ended. To
    /// be called every few seconds.
    pub fn tidy(&self, now: Instant) {
        let life = self.life();
        let keys = self.keys.load();
        let age = |key: &Arc<Key>| now.saturating_duration_since(key.since);
        let turn = *life / TURNS;
        let fresh = keys.first().is_none_or(|key| age(key) >= turn);
        // Its last ticket was sealed within a turn after it was made.
        let spent = keys.last().is_some_and(|key| age(key) > turn + *life);
        if !fresh && !spent {
            return;
        }
        let new = fresh.then(|| Key::random(now)).flatten();
        let kept = keys.iter().filter(|key| age(key) <= turn + *life).cloned();
        let keys: Vec<_> = new.into_iter().chain(kept).take(TURNS as usize + 2).collect();
        self.keys.store(Arc::new(keys));
    }

    /// `plain` sealed, with name and nonce in front; `bound` is what whoever opens it has to say
    /// too. `None` without randomness: no ticket. The nonces are random: two alike under one key
    /// have a chance below one in 2^32 as long as a key seals fewer than 2^32 tickets (NIST SP
    /// 800-38D section 8.3), 390,000 a second over three hours.
    pub(super) fn seal(&self, plain: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(plain.len().saturating_add(16));
        sealed.extend_from_slice(plain);
        let done = key
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed);
        if done.is_err() {
            zeroize::Zeroize::zeroize(&mut sealed);
            return None;
        }
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    /// What [`Sealing::seal`] has sealed with the same `bound`, unless its key is gone.
    pub(super) fn open(&self, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = sealed.split_first_chunk::<NAME>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut plain = rest.to_vec();
        let length = key
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(6 * 3_600);

    /// A key that is kept too long opens what was recorded long ago; one that goes too early sends
    /// clients through full handshakes.
    #[test]
    fn keys_are_replaced_and_wiped() {
        let start = Instant::now();
        let sealing = Sealing::new(LIFE, start);
        let first = sealing.seal(b"a session", b"a").unwrap();
        assert_eq!(sealing.open(&first, b"a").as_deref(), Some(&b"a session"[..]));
        assert_eq!(sealing.open(&first, b"b"), None);
        let second = LIFE / TURNS;
        sealing.tidy(start + second - Duration::from_secs(1));
        assert_eq!(sealing.seal(b"", b"").unwrap()[..NAME], first[..NAME]);
        sealing.tidy(start + second);
        assert_ne!(sealing.seal(b"", b"").unwrap()[..NAME], first[..NAME]);
        // The last one under the first key was sealed just now, and is good for its life.
        sealing.tidy(start + second + LIFE);
        assert!(sealing.open(&first, b"a").is_some());
        sealing.tidy(start + second + LIFE + Duration::from_secs(1));
        assert_eq!(sealing.open(&first, b"a"), None);
        for turn in 0..100 {
            sealing.tidy(start + LIFE * 2 + second * turn);
            assert!(sealing.keys.load().len() <= TURNS as usize + 2);
        }
        // Nobody comes for days: then there is one key.
        sealing.tidy(start + LIFE * 1_000);
        assert_eq!(sealing.keys.load().len(), 1);
    }

    /// Another process, or the same one started again, would open what it has not sealed.
    #[test]
    fn nobody_else_opens_it() {
        let now = Instant::now();
        let sealed = Sealing::new(LIFE, now).seal(b"a session", b"").unwrap();
        assert_eq!(Sealing::new(LIFE, now).open(&sealed, b""), None);
        let same = Sealing::new(LIFE, now);
        let sealed = same.seal(b"a session", b"").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(same.open(&altered, b""), None, "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(same.open(&sealed[..cut], b""), None, "{cut}");
        }
    }
}
