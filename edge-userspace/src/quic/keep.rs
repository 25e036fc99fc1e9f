//! Initial packets as they came, for handshakes that are prepared before quinn knows of them: quinn does not show the packets
//! of an attempt. `tap` hands datagrams in where a zone's key is elsewhere; `front` claims an attempt's when it has decided to
//! accept it, before anything else was spent on them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_common::retry;
use tokio::sync::mpsc;

use super::initial::{Cid, Initial};

/// Bytes kept per socket that nobody has claimed yet; half of them are younger than the other half.
const MOST: usize = 8 << 20;
/// Datagrams of one attempt, and bytes of them: a ClientHello of the longest kind that browsers send has two, and comes twice
/// when an answer is late.
const ATTEMPT: usize = 24;
const ATTEMPT_BYTES: usize = 32 << 10;
/// Attempts behind a Retry that are told apart for one address and port.
const RETRIED: usize = 16;
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
    /// Destination ids of attempts that bring a Retry token: quinn tells their original id alone, which is in the token.
    retried: HashMap<SocketAddr, Vec<Cid>>,
    bytes: usize,
}

/// An attempt's packets: those that were there, and those to come.
#[derive(Debug)]
pub struct Claim {
    kept: Arc<Kept>,
    keys: Vec<Key>,
    /// Those that were there, in their order; of several attempts where it is not known which is the one.
    pub first: Vec<Bytes>,
    /// Those that come.
    pub more: mpsc::Receiver<Bytes>,
}

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `datagram`, which begins with `initial` and came `from`.
    pub fn see(&self, now: Instant, from: SocketAddr, initial: &Initial<'_>, datagram: &[u8]) {
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
        if matches!(initial.token.first(), Some(&(retry::MAGIC | retry::SEALED_MAGIC))) {
            let ids = young.retried.entry(from).or_default();
            if ids.len() < RETRIED && !ids.contains(&initial.destination) {
                ids.push(initial.destination);
            }
        }
    }

    /// The packets of the attempt that quinn knows by its address and original destination id; `None` if there are none. One
    /// that is `retried` has others than the packet that got the Retry, and another id on them.
    pub fn claim(self: &Arc<Self>, from: SocketAddr, original: &[u8], retried: bool) -> Option<Claim> {
        let original = Cid::new(original)?;
        let mut kept = self.lock();
        let Generations { young, old, .. } = &mut *kept;
        let keys: Vec<Key> = match retried {
            false => vec![(from, original)],
            true => {
                let ids = [&old.retried, &young.retried].into_iter();
                let ids = ids.filter_map(|ids| ids.get(&from)).flatten();
                ids.map(|id| (from, *id)).collect()
            }
        };
        // Not taken away: of several attempts behind a Retry, each claims them all.
        let first: Vec<Bytes> = keys
            .iter()
            .flat_map(|key| [old.attempts.get(key), young.attempts.get(key)])
            .flatten()
            .flatten()
            .cloned()
            .collect();
        if first.is_empty() {
            return None;
        }
        let (sender, more) = mpsc::channel(ATTEMPT);
        kept.claimed.extend(keys.iter().map(|key| (*key, sender.clone())));
        Some(Claim {
            kept: self.clone(),
            keys,
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
        for key in &self.keys {
            // Another attempt's by now, perhaps.
            if kept.claimed.get(key).is_some_and(mpsc::Sender::is_closed) {
                kept.claimed.remove(key);
            }
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
        kept.see(now, from, &Initial::read(datagram).unwrap(), datagram);
    }

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
        // Behind a Retry the packets have another id than the attempt.
        see(&kept, now, from, &datagram(3, &[retry::MAGIC]));
        let claim = kept.claim(from, &[1], true).unwrap();
        assert_eq!(claim.first, [datagram(3, &[retry::MAGIC])]);
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
