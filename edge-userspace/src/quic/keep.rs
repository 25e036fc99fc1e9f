//! Initial packets as they came, for handshakes that are prepared before quinn knows of them: quinn
//! does not show the packets of an attempt. `tap` hands datagrams in where a zone's key is
//! elsewhere; `front` claims an attempt's when it has decided to accept it, before anything else
//! was spent on them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::initial::{Cid, Initial};

/// Bytes kept per socket that nobody has claimed yet; half of them are younger than the other half.
const MOST: usize = 8 << 20;
/// Datagrams of one attempt, and bytes of them: a ClientHello of the longest kind that browsers
/// send has two, and comes twice when an answer is late.
const ATTEMPT: usize = 24;
const ATTEMPT_BYTES: usize = 32 << 10;
/// How long an attempt may take from the socket to [`Kept::claim`], at least.
const LIFE: Duration = Duration::from_secs(3);

type Key = (SocketAddr, Cid);

/// The packets of one socket.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
    /// Whose packets go straight to whoever waits for them.
    claimed: HashMap<Key, mpsc::Sender<Bytes>>,
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Generation {
    attempts: HashMap<Key, Vec<Bytes>>,
    /// Destination ids of attempts that bring a Retry token, by their original ids: quinn tells
    /// those alone.
    retried: HashMap<Key, Cid>,
    bytes: usize,
}

/// An attempt's packets: those that were there, and those to come.
#[derive(Debug)]
pub struct Claim {
    kept: Arc<Kept>,
    key: Key,
    /// Those that were there, in their order.
    pub first: Vec<Bytes>,
    /// Those that come.
    pub more: mpsc::Receiver<Bytes>,
}

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `datagram`, which begins with `initial` and came `from`. `original` opens a Retry
    /// token: the destination id that the attempt began with.
    pub fn see(
        &self,
        now: Instant,
        from: SocketAddr,
        initial: &Initial<'_>,
        datagram: &[u8],
        original: impl FnOnce(&[u8]) -> Option<Cid>,
    ) {
        let key = (from, initial.destination);
        let mut kept = self.lock();
        if let Some(claim) = kept.claimed.get(&key) {
            // Full: whoever waits has more than a ClientHello needs.
            let _ = claim.try_send(Bytes::copy_from_slice(datagram));
            return;
        }
        kept.age(now, datagram.len());
        let young = &mut kept.young;
        let attempt = young.attempts.entry(key).or_default();
        let held: usize = attempt.iter().map(Bytes::len).sum();
        if attempt.len() >= ATTEMPT || held.saturating_add(datagram.len()) > ATTEMPT_BYTES {
            return;
        }
        attempt.push(Bytes::copy_from_slice(datagram));
        young.bytes = young.bytes.saturating_add(datagram.len());
        if let Some(original) = original(initial.token) {
            young.retried.insert((from, original), initial.destination);
        }
    }

    /// The packets of the attempt that quinn knows by its address and original destination id;
    /// `None` if there are none. One that is `retried` has others than the packet that got the
    /// Retry, and another id on them.
    pub fn claim(self: &Arc<Self>, from: SocketAddr, original: &[u8], retried: bool) -> Option<Claim> {
        let original = Cid::new(original)?;
        let mut kept = self.lock();
        let Generations { young, old, .. } = &mut *kept;
        let began = (from, original);
        let key = match retried {
            false => began,
            true => (from, *young.retried.get(&began).or_else(|| old.retried.get(&began))?),
        };
        let packets = [old.attempts.remove(&key), young.attempts.remove(&key)];
        let first: Vec<Bytes> = packets.into_iter().flatten().flatten().collect();
        if first.is_empty() {
            return None;
        }
        let (sender, more) = mpsc::channel(ATTEMPT);
        kept.claimed.insert(key, sender);
        Some(Claim {
            kept: self.clone(),
            key,
            first,
            more,
        })
    }

    /// Forgets what is too old; to be called every few seconds, also when nothing comes.
    pub fn sweep(&self, now: Instant) {
        self.lock().age(now, 0);
    }

    /// Bytes kept, and claims.
    pub fn count(&self) -> (usize, usize) {
        let kept = self.lock();
        (kept.young.bytes.saturating_add(kept.old.bytes), kept.claimed.len())
    }
}

impl Generations {
    fn age(&mut self, now: Instant, more: usize) {
        let since = *self.since.get_or_insert(now);
        let full = self.young.bytes.saturating_add(more) > MOST / 2;
        if full || now.saturating_duration_since(since) > LIFE {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.more.close();
        let mut kept = self.kept.lock();
        // Another attempt's by now, perhaps.
        if kept.claimed.get(&self.key).is_some_and(mpsc::Sender::is_closed) {
            kept.claimed.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(destination: u8, token: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0xc0, 0, 0, 0, 1, 1, destination, 0, u8::try_from(token.len()).unwrap()];
        datagram.extend(token);
        datagram.resize(1200, destination);
        datagram
    }

    fn see(kept: &Kept, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let original = |token: &[u8]| Cid::new(token.split_first().filter(|(first, _)| **first == RETRY)?.1);
        kept.see(now, from, &Initial::read(datagram).unwrap(), datagram, original);
    }

    /// A token in these tests: this, and the original id.
    const RETRY: u8 = 0xa8;

    /// Somebody else's packets, or half of one's own, make no handshake.
    #[test]
    fn an_attempt_gets_its_own_packets_also_those_to_come() {
        let kept = Arc::new(Kept::default());
        let (now, from) = (Instant::now(), "192.0.2.1:4433".parse().unwrap());
        see(&kept, now, from, &datagram(1, &[]));
        see(&kept, now + LIFE * 2, from, &datagram(1, &[1]));
        see(&kept, now + LIFE * 2, from, &datagram(2, &[]));
        let mut claim = kept.claim(from, &[1], false).unwrap();
        assert_eq!(claim.first, [datagram(1, &[]), datagram(1, &[1])]);
        see(&kept, now, from, &datagram(1, &[2]));
        see(&kept, now, from, &datagram(2, &[2]));
        assert_eq!(claim.more.try_recv().unwrap(), datagram(1, &[2]));
        assert!(claim.more.try_recv().is_err());
        assert!(kept.claim("192.0.2.2:4433".parse().unwrap(), &[1], false).is_none());
        drop(claim);
        assert_eq!(kept.count().1, 0);
    }

    /// Behind a Retry the packets have another id than the attempt. Who took a neighbour's for its
    /// own would wait for a ClientHello until the handshake's time is over.
    #[test]
    fn attempts_behind_a_retry_are_told_apart_however_many_share_a_port() {
        let kept = Arc::new(Kept::default());
        let (now, from) = (Instant::now(), "192.0.2.1:4433".parse().unwrap());
        for n in 0..200 {
            see(&kept, now, from, &datagram(n, &[RETRY, n, 77]));
        }
        assert!(kept.claim(from, &[7], true).is_none(), "nobody's");
        let claims: Vec<Claim> = (0..200).map(|n| kept.claim(from, &[n, 77], true).unwrap()).collect();
        for (n, claim) in (0..).zip(&claims) {
            assert_eq!(claim.first, [datagram(n, &[RETRY, n, 77])]);
        }
        assert_eq!(kept.count().1, 200);
        drop(claims);
        assert_eq!(kept.count().1, 0);
    }

    /// A flood would take all memory, or what it left would stay.
    #[test]
    fn what_is_kept_is_bounded_and_goes() {
        let kept = Kept::default();
        let now = Instant::now();
        for port in 0..20_000 {
            see(&kept, now, SocketAddr::from(([192, 0, 2, 1], port)), &datagram(1, &[]));
        }
        assert!(kept.count().0 <= MOST);
        let from = "192.0.2.2:1".parse().unwrap();
        let before = kept.count().0;
        for _ in 0..1_000 {
            see(&kept, now, from, &datagram(1, &[]));
        }
        assert!(kept.count().0 <= before + ATTEMPT_BYTES);
        kept.sweep(now + LIFE * 2);
        kept.sweep(now + LIFE * 4);
        assert_eq!(kept.count().0, 0);
        assert!(kept.lock().old.attempts.is_empty() && kept.lock().old.retried.is_empty());
    }
}
