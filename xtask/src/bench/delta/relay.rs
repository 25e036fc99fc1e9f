//! A link between two ends of a bench: a relay of TCP streams that lets so many bits a second pass
//! each way, half a round trip later, and counts them. In place of `tc netem`, which many kernels
//! are built without. A sender who was idle starts slowly, as Linux's TCP does by default (RFC 5681
//! section 4.1, RFC 6928): ten segments in the first round trip, twice as many in each that
//! follows. Nothing is ever lost, and headers below TCP are not counted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Bytes read at once: a few packets.
const PIECE: usize = 4 << 10;
/// Pieces under way in one stream and direction.
const UNDER_WAY: usize = 256;

/// What may be sent in the first round trip after a pause, and how long a pause that is: Linux's
/// least retransmission timeout.
const FIRST_WINDOW: f64 = 10.0 * 1_460.0;
const PAUSE: Duration = Duration::from_millis(200);

/// What the link does to bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) round_trip: Duration,
    pub(super) bits_per_second: f64,
}

/// One direction of the link, shared by all streams.
#[derive(Debug)]
struct Direction {
    bytes: AtomicU64,
    /// When the link will have sent what it has taken.
    free: Mutex<Instant>,
}

/// A link; it lasts as long as the process.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    up: Arc<Direction>,
    down: Arc<Direction>,
}

impl Relay {
    /// Listens on a port of its own and connects to `target`.
    pub(super) fn start(target: SocketAddr, shape: Shape) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let direction = || {
            Arc::new(Direction {
                bytes: AtomicU64::new(0),
                free: Mutex::new(Instant::now()),
            })
        };
        let relay = Self {
            address: listener.local_addr()?,
            up: direction(),
            down: direction(),
        };
        let theirs = relay.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if let Ok(far) = TcpStream::connect(target) {
                    // A stream that cannot be had twice is dropped: its ends see it closed.
                    let _ = theirs.join(near, far, shape);
                }
            }
        });
        Ok(relay)
    }

    /// Bytes so far: towards the target, and back.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let read = |direction: &Direction| direction.bytes.load(Ordering::Relaxed);
        (read(&self.up), read(&self.down))
    }

    fn join(&self, near: TcpStream, far: TcpStream, shape: Shape) -> Result<()> {
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ways = [
            (near.try_clone()?, far.try_clone()?, self.up.clone()),
            (far, near, self.down.clone()),
        ];
        for (from, to, direction) in ways {
            let (send, receive) = sync_channel(UNDER_WAY);
            std::thread::spawn(move || take(from, &direction, shape, &send));
            std::thread::spawn(move || give(to, &receive));
        }
        Ok(())
    }
}

/// Reads, and says when each piece arrives at the other end.
fn take(mut from: TcpStream, direction: &Direction, shape: Shape, send: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = [0; PIECE];
    let mut window = Window::new();
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer) else {
            return;
        };
        direction.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let now = Instant::now();
        let arrives = {
            let mut free = direction.free.lock().unwrap_or_else(PoisonError::into_inner);
            let may = window.admits(now, count as f64, shape.round_trip);
            let sent = (*free).max(may) + Duration::from_secs_f64(count as f64 * 8.0 / shape.bits_per_second);
            *free = sent;
            sent + shape.round_trip / 2
        };
        if send.send((arrives, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

/// How much a sender may have under way.
struct Window {
    size: f64,
    /// Of what may be sent in this round trip, so much was.
    used: f64,
    round: Instant,
    last: Instant,
}

impl Window {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            size: FIRST_WINDOW,
            used: 0.0,
            round: now,
            last: now,
        }
    }

    /// When `count` bytes that are ready now may leave.
    fn admits(&mut self, now: Instant, count: f64, round_trip: Duration) -> Instant {
        if now.saturating_duration_since(self.last) > PAUSE {
            self.size = FIRST_WINDOW;
            self.used = 0.0;
            self.round = now;
        }
        if now > self.round + round_trip {
            // What was sent has been acknowledged; only who fills the window gets a larger one.
            if self.used >= self.size / 2.0 {
                self.size *= 2.0;
            }
            self.used = 0.0;
            self.round = now;
        }
        while self.used + count > self.size {
            self.round += round_trip;
            self.size *= 2.0;
            self.used = 0.0;
        }
        self.used += count;
        self.last = now.max(self.round);
        self.last
    }
}

fn give(mut to: TcpStream, receive: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((arrives, piece)) = receive.recv() {
        std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    // The other side has ended; it may be gone altogether.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that let everything through at once would flatter who sends much.
    #[test]
    fn starts_slowly_after_a_pause() {
        let trip = Duration::from_millis(20);
        let mut window = Window::new();
        let now = window.last;
        assert_eq!(window.admits(now, 14_000.0, trip), now);
        assert_eq!(window.admits(now, 14_000.0, trip), now + trip);
        assert_eq!(window.admits(now, 14_000.0, trip), now + trip);
        assert_eq!(window.admits(now, 14_000.0, trip), now + trip * 2);
        let later = now + Duration::from_secs(1);
        assert_eq!(window.admits(later, 14_000.0, trip), later);
        assert_eq!(window.admits(later, 14_000.0, trip), later + trip);
    }
}
