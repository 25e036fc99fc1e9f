//! A socket that looks at Initial packets on their way to quinn, because quinn shows neither a connection attempt's token nor
//! its bytes. What it notes is what somebody sent: it counts only for an attempt whose address quinn found valid, and when the
//! token's MAC is, which whoever takes it has to check.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use edge_common::token::{self, HEADER};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::initial::{Cid, Initial};
use super::keep::Kept;
use super::token::TokenKey;

/// Hints kept at once, per socket: those of half of them are younger than the other half's.
const MOST: usize = 8192;
/// How long an attempt may take from the socket to [`Hints::take`].
const LIFE: Duration = Duration::from_secs(10);

/// Headers of the tokens that attempts brought, by the attempt's address and destination connection id.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<Generations>);

/// Two halves: when the younger is full or old it becomes the elder, and what was the elder is forgotten. Whoever floods
/// costs real clients their hint, which makes them newcomers, and nothing more.
#[derive(Debug)]
struct Generations {
    young: HashMap<(SocketAddr, Cid), [u8; HEADER]>,
    old: HashMap<(SocketAddr, Cid), [u8; HEADER]>,
    since: Instant,
}

impl Default for Generations {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            since: Instant::now(),
        }
    }
}

impl Hints {
    /// Looks at the front of one datagram.
    fn see(&self, now: Instant, from: SocketAddr, initial: &Initial<'_>) {
        if initial.token.first() != Some(&token::MAGIC) {
            return;
        }
        let Some(front) = initial.token.first_chunk::<HEADER>() else {
            return;
        };
        let mut hints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hints.young.len() >= MOST / 2 || now.saturating_duration_since(hints.since) > LIFE {
            hints.old = std::mem::take(&mut hints.young);
            hints.since = now;
        }
        hints.young.insert((from, initial.destination), *front);
    }

    /// The header of the attempt's token, as it came: another packet of the same sender may have brought another one than that
    /// which quinn has found valid, and one that got a Retry comes back with its hint.
    pub(super) fn take(&self, from: SocketAddr, destination: &[u8]) -> Option<[u8; HEADER]> {
        let key = (from, Cid::new(destination)?);
        let mut hints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = hints.young.remove(&key);
        found.or_else(|| hints.old.remove(&key))
    }
}

/// What a socket's tap finds.
#[derive(Clone, Debug)]
pub(super) struct Finds {
    pub(super) hints: Arc<Hints>,
    /// Initial packets, while there is use for them.
    pub(super) kept: Arc<Kept>,
    /// Whether there is: a zone's key is elsewhere.
    pub(super) keep: Arc<AtomicBool>,
    /// Opens Retry tokens.
    pub(super) key: Arc<TokenKey>,
}

impl Finds {
    fn see(&self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(initial) = Initial::read(datagram) else { return };
        self.hints.see(now, from, &initial);
        if self.keep.load(Ordering::Relaxed) {
            self.kept
                .see(now, from, &initial, datagram, |token| self.key.original(token));
        }
    }
}

/// The socket.
#[derive(Debug)]
pub(super) struct Tap {
    inner: Arc<dyn AsyncUdpSocket>,
    finds: Finds,
}

impl Tap {
    /// Around `inner`; what it finds goes to `finds`.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, finds: Finds) -> Arc<Self> {
        Arc::new(Self { inner, finds })
    }
}

impl AsyncUdpSocket for Tap {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let result = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = result {
            let now = Instant::now();
            for (meta, buf) in meta.iter().zip(bufs.iter()).take(count) {
                // The kernel joins datagrams of one sender (GRO).
                let joined = buf.get(..meta.len).unwrap_or_default();
                for datagram in joined.chunks(meta.stride.max(1)) {
                    self.finds.see(now, meta.addr, datagram);
                }
            }
        }
        result
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use edge_common::token::Header;

    fn client(front: Option<[u8; HEADER]>) -> Option<u64> {
        front.map(|front| Header::read(token::to_words(&front)).client)
    }

    fn attempt(destination: u8, client: u64) -> Vec<u8> {
        let mut datagram = vec![0xc0, 0, 0, 0, 1, 1, destination, 0, HEADER as u8];
        let mut header = [0; HEADER];
        header[0] = token::MAGIC;
        header[16..24].copy_from_slice(&client.to_le_bytes());
        datagram.extend(header);
        datagram.resize(1200, 0);
        datagram
    }

    fn see(hints: &Hints, now: Instant, from: SocketAddr, datagram: &[u8]) {
        hints.see(now, from, &Initial::read(datagram).unwrap());
    }

    /// A neighbour behind the same address and port must not be taken for the client, nor a flood fill the memory.
    #[test]
    fn hints_are_one_attempts_and_bounded() {
        let hints = Hints::default();
        let now = Instant::now();
        let from: SocketAddr = "192.0.2.1:4433".parse().unwrap();
        see(&hints, now, from, &attempt(1, 10));
        see(&hints, now, from, &attempt(2, 20));
        assert_eq!(client(hints.take(from, &[2])), Some(20));
        assert_eq!(client(hints.take(from, &[2])), None, "taken once");
        assert_eq!(client(hints.take("192.0.2.2:4433".parse().unwrap(), &[1])), None);
        for port in 0..30_000 {
            see(&hints, now, SocketAddr::new(from.ip(), port), &attempt(1, 1));
        }
        let kept = hints.0.lock().unwrap();
        assert!(kept.young.len() + kept.old.len() <= MOST);
    }
}
