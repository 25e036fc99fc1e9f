//! The keys that seal session tickets: random, in memory alone, replaced several times a ticket's
//! life and wiped when the last ticket under them has ended. No file of the node opens a ticket, so
//! that whoever gets the node's secret, or all its disk, reads no recorded connection (RFC 9325
//! section 3.3, RFC 5077 section 5.5). Each node has its own, and each start begins anew; nodes of
//! a fleet share others ([`Sealing::share`]), which come first as long as they are young enough, so
//! that a client that comes to another node, or after a restart, need not shake hands in full.
//! `tickets` asks it; `front` has it tidied up, `node` brings the fleet's keys.

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
    /// The fleet's, the newest first; as many as it has.
    shared: ArcSwap<Vec<SharedKey>>,
    /// A ticket's life; held by whoever replaces the keys.
    life: Mutex<Duration>,
}

/// A key of the fleet's.
#[derive(Debug)]
struct SharedKey {
    key: Arc<Key>,
    /// It seals until then.
    seals: Instant,
    /// It opens until then.
    opens: Instant,
}

/// A key that a node of the same fleet has, too.
pub struct Common {
    /// Its name, another one for each key.
    pub name: [u8; NAME],
    /// AES-256.
    pub secret: Arc<Zeroizing<[u8; 32]>>,
    /// How much longer it seals.
    pub seals: Duration,
    /// How much longer it opens.
    pub opens: Duration,
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
        Self::of(name, &bytes, now)
    }

    fn of(name: [u8; NAME], bytes: &[u8; 32], now: Instant) -> Option<Arc<Self>> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).ok()?;
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
            shared: ArcSwap::default(),
            life: Mutex::new(life),
        })
    }

    /// These are the fleet's keys from now on, the newest first; no others are.
    pub fn share(&self, keys: impl IntoIterator<Item = Common>, now: Instant) {
        let shared = keys.into_iter().filter_map(|common| {
            Some(SharedKey {
                key: Key::of(common.name, &common.secret, now)?,
                seals: now.checked_add(common.seals)?,
                opens: now.checked_add(common.opens)?,
            })
        });
        self.shared.store(Arc::new(shared.collect()));
    }

    /// How long tickets live.
    pub fn lasts(&self) -> Duration {
        *self.life()
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
        let shared = self.shared.load();
        if shared.iter().any(|key| key.opens <= now) {
            let kept = shared.iter().filter(|key| key.opens > now).map(|key| SharedKey {
                key: key.key.clone(),
                ..*key
            });
            self.shared.store(Arc::new(kept.collect()));
        }
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
        self.seal_at(Instant::now(), plain, bound)
    }

    fn seal_at(&self, now: Instant, plain: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let (shared, keys) = (self.shared.load(), self.keys.load());
        let common = shared.iter().find(|key| key.seals > now).map(|key| &key.key);
        let key = common.or(keys.first())?;
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
        self.open_at(Instant::now(), sealed, bound)
    }

    fn open_at(&self, now: Instant, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = sealed.split_first_chunk::<NAME>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (shared, keys) = (self.shared.load(), self.keys.load());
        let common = shared.iter().filter(|key| key.opens > now).map(|key| &key.key);
        let key = keys.iter().chain(common).find(|key| key.name == *name)?;
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

    /// A client would not be known at another node of its fleet; or a node that the fleet has left
    /// alone would seal by one key for ever.
    #[test]
    fn keys_of_the_fleet_come_first_while_they_are_young() {
        let now = Instant::now();
        let (hour, second) = (Duration::from_secs(3_600), Duration::from_secs(1));
        let common = |name, seals, opens| Common {
            name: [name; NAME],
            secret: Arc::new(Zeroizing::new([name; 32])),
            seals,
            opens,
        };
        let nodes = [Sealing::new(LIFE, now), Sealing::new(LIFE, now)];
        let own = nodes[0].seal_at(now, b"own", b"").unwrap();
        for node in &nodes {
            node.share([common(2, hour, 3 * hour), common(1, Duration::ZERO, 2 * hour)], now);
        }
        let sealed = nodes[0].seal_at(now, b"a session", b"a").unwrap();
        assert_eq!(sealed[..NAME], [2; NAME]);
        assert_eq!(nodes[1].open_at(now, &sealed, b"a").as_deref(), Some(&b"a session"[..]));
        assert_eq!(nodes[1].open_at(now, &sealed, b"b"), None);
        assert!(nodes[0].open_at(now, &own, b"").is_some() && nodes[1].open_at(now, &own, b"").is_none());
        let alone = nodes[0].seal_at(now + hour, b"", b"").unwrap();
        assert_ne!(alone[..NAME], [2; NAME]);
        assert!(nodes[1].open_at(now + 3 * hour - second, &sealed, b"a").is_some());
        assert!(nodes[1].open_at(now + 3 * hour, &sealed, b"a").is_none());
        nodes[1].tidy(now + 2 * hour);
        assert_eq!(nodes[1].shared.load().len(), 1);
        nodes[1].share([], now);
        assert!(nodes[1].open_at(now, &sealed, b"a").is_none(), "forgotten");
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
