//! A long way in user space: what comes in at one side leaves at the other `delay_ms=` later, in
//! order and without a limit on how much is under way.
//!
//! Each direction has a thread that reads and one that writes when it is time, by the kernel's
//! timers: an asynchronous runtime rounds up to whole milliseconds, in both directions of each
//! round trip, which is more than what is measured.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{Timespec, clock_gettime};

use edge_testbed::words::Words;

/// Read at once: more than what an edge writes in one go.
const PIECE: usize = 64 << 10;

/// Relays from `listen=` to `to=`, until it is ended.
pub(crate) fn run(words: &Words) -> Result<()> {
    let (listen, to): (SocketAddr, SocketAddr) = (words.get("listen")?, words.get("to")?);
    let delay = Duration::from_micros((words.get::<f64>("delay_ms")? * 1e3) as u64);
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    for near in listener.incoming().flatten() {
        // Who only looked whether somebody listens is gone; what cannot be joined is closed at both
        // ends.
        if let Ok(far) = TcpStream::connect(to) {
            let _ = join(near, far, delay);
        }
    }
    Ok(())
}

fn join(near: TcpStream, far: TcpStream, delay: Duration) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let (put, take) = channel();
        thread::spawn(move || read(from, delay, &put));
        thread::spawn(move || write(to, &take));
    }
    Ok(())
}

/// Reads, and says when each piece is due at the other end.
fn read(mut from: TcpStream, delay: Duration, put: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..count).unwrap_or_default().to_vec();
        if put.send((Instant::now() + delay, piece)).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, take: &Receiver<(Instant, Vec<u8>)>) {
    // The kernel may otherwise be 50 us late, to wake several at once.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    while let Ok((due, piece)) = take.recv() {
        sleep_until(due);
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // The other side has ended: the reader of this side ends with it.
    let _ = to.shutdown(Shutdown::Both);
}

fn sleep_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    let now = clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = now.tv_nsec + i64::from(left.subsec_nanos());
    let until = Timespec {
        tv_sec: now.tv_sec + left.as_secs() as i64 + nanos / 1_000_000_000,
        tv_nsec: nanos % 1_000_000_000,
    };
    // Absolute, so that an interruption costs nothing.
    while clock_nanosleep_absolute(ClockId::Monotonic, &until) == Err(rustix::io::Errno::INTR) {}
}
