//! A socket that looks at Initial packets on their way to quinn, because quinn shows neither a
//! connection attempt's token nor its bytes. What it notes is what somebody sent: it counts only
//! for an attempt whose address quinn found valid, and when the token's MAC is, which whoever takes
//! it has to check. It keeps from quinn what nobody could answer, answers itself what quinn cannot
//! read, and holds back what an unproven address must not get (`budget`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use edge_common::token::{self, HEADER};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::budget::Budgets;
use super::initial::{Cid, Initial, Invariant};
use super::keep::Kept;
use super::token::TokenKey;
use crate::gate::token::ClientId;

/// Hints kept at once, per socket: those of half of them are younger than the other half's.
const MOST: usize = 8192;
/// How long an attempt may take from the socket to [`Hints::take`].
const LIFE: Duration = Duration::from_secs(10);

/// Headers of the tokens that attempts brought, by the attempt's address and destination connection
/// id.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<Generations>);

/// Two halves: when the younger is full or old it becomes the elder, and what was the elder is
/// forgotten. Whoever floods costs real clients their hint, which makes them newcomers, and nothing
/// more.
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

    /// The header of the attempt's token, as it came: another packet of the same sender may have
    /// brought another one than that which quinn has found valid, and one that got a Retry comes
    /// back with its hint.
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
    /// What may be sent to addresses that have proven nothing.
    pub(super) budgets: Arc<Budgets>,
}

impl Finds {
    fn see(&self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(initial) = Initial::read(datagram) else { return };
        self.budgets.came(now, from, datagram.len());
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
    /// The connection that was told last to wait for its budget: it asks its poller next, on this
    /// thread.
    held: Mutex<Option<(SocketAddr, Cid)>>,
}

impl Tap {
    /// Around `inner`; what it finds goes to `finds`.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, finds: Finds) -> Arc<Self> {
        Arc::new(Self {
            inner,
            finds,
            held: Mutex::default(),
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<(SocketAddr, Cid)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a datagram of a version that is not spoken, where quinn does not read its ids.
    fn negotiate(&self, meta: &RecvMeta, datagram: &[u8]) {
        let Some(read) = Invariant::read(datagram).filter(|read| read.version > 1) else {
            return;
        };
        let [random, ..] = ClientId::fresh().0.to_le_bytes();
        let Some(answer) = read.negotiate(datagram.len(), random & 0x3f) else {
            return;
        };
        // Lost, it is asked for again.
        let _ = self.inner.try_send(&Transmit {
            destination: meta.addr,
            ecn: None,
            contents: &answer,
            segment_size: None,
            src_ip: meta.dst_ip,
        });
    }

    /// Looks at what has come in one piece.
    fn look(&self, now: Instant, meta: &mut RecvMeta, buf: &[u8]) {
        if !answerable(meta) {
            // quinn finds nothing in it.
            meta.len = 0;
            return;
        }
        // The kernel joins datagrams of one sender (GRO).
        let joined = buf.get(..meta.len).unwrap_or_default();
        for datagram in joined.chunks(meta.stride.max(1)) {
            self.finds.see(now, meta.addr, datagram);
            self.negotiate(meta, datagram);
        }
    }
}

/// Whether the kernel can send an answer: not to port 0, nor to or from what is no host's address.
fn answerable(meta: &RecvMeta) -> bool {
    let of_a_host = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    };
    meta.addr.port() != 0 && of_a_host(meta.addr.ip()) && meta.dst_ip.is_none_or(of_a_host)
}

impl AsyncUdpSocket for Tap {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Patient {
            inner: self.inner.clone().create_io_poller(),
            tap: self,
            waits: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(bounded) = self.finds.budgets.bound(transmit) else {
            return self.inner.try_send(transmit);
        };
        let contents = transmit.contents.get(bounded.part.clone()).unwrap_or_default();
        if !contents.is_empty() {
            self.inner.try_send(&Transmit { contents, ..*transmit })?;
            self.finds.budgets.sent(&bounded);
        }
        if bounded.more {
            *self.held() = Some(bounded.of);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
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
            for (meta, buf) in meta.iter_mut().zip(bufs.iter()).take(count) {
                self.look(now, meta, buf);
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

/// Waits for room in the socket's buffer, and for a budget.
#[derive(Debug)]
struct Patient {
    inner: Pin<Box<dyn UdpPoller>>,
    tap: Arc<Tap>,
    waits: Option<(SocketAddr, Cid)>,
}

impl UdpPoller for Patient {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(held) = this.tap.held().take() {
            this.waits = Some(held);
        }
        if let Some(held) = this.waits {
            if !this.tap.finds.budgets.ready(held, cx.waker()) {
                return Poll::Pending;
            }
            this.waits = None;
        }
        this.inner.as_mut().poll_writable(cx)
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

    /// An answer to what is no host ends segmentation offload in the library, or goes to a whole
    /// network.
    #[test]
    fn what_nobody_can_answer_is_passed_over() {
        let meta = |from: &str, to: Option<&str>| RecvMeta {
            addr: from.parse().unwrap(),
            len: 1_200,
            stride: 1_200,
            ecn: None,
            dst_ip: to.map(|to| to.parse().unwrap()),
        };
        assert!(answerable(&meta("192.0.2.1:1", Some("192.0.2.2"))));
        assert!(answerable(&meta("[2001:db8::1]:65535", None)));
        for (from, to) in [
            ("192.0.2.1:0", None),
            ("[2001:db8::1]:0", None),
            ("255.255.255.255:1", None),
            ("0.0.0.0:1", None),
            ("224.0.0.1:1", None),
            ("[::ffff:224.0.0.1]:1", None),
            ("[ff02::1]:1", None),
            ("192.0.2.1:1", Some("255.255.255.255")),
            ("[2001:db8::1]:1", Some("ff02::1")),
        ] {
            assert!(!answerable(&meta(from, to)), "{from} {to:?}");
        }
    }

    /// A neighbour behind the same address and port must not be taken for the client, nor a flood
    /// fill the memory.
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
