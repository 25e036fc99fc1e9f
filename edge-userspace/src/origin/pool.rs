//! Connections to one server, of one worker: idle HTTP/1.1 ones, newest first, and shared HTTP/2
//! ones. Bounded; who finds the bound reached waits in line. Each serves for a time and a number of
//! requests, and only while the server's name has its address; a name with several addresses has
//! them all used in turn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::connect::Manner;
use super::connection::{H1, H2, Home, Slot, Wear};
use super::driver::{open_h1, open_h2};
use super::error::ConnectError;
use super::fleet::{Group, Server};
use super::lease::Lease;
use super::metrics::State as Gauge;
use super::names::Valid;
use crate::config::OriginHttp;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckoutError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// All connections are busy, and the line is full or did not move in time.
    #[error("all connections to the origin are busy")]
    Busy,
}

/// What the caller needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// None that was opened before this: such a one has just proved stale, or refused.
    pub(super) fresh: Option<Instant>,
    /// HTTP/1.1, for an upgrade.
    pub(super) only_h1: bool,
    /// The connection begins with a PROXY protocol header that names this client, and the address
    /// it came to.
    pub(super) proxied: Option<(SocketAddr, SocketAddr)>,
}

/// What one look at the clock and at the server's addresses has shown.
struct Look {
    now: Instant,
    valid: Valid,
}

/// How long a wait for an HTTP/2 stream lasts before connections are looked at again.
const SETTLED: Duration = Duration::from_secs(1);

impl Wish {
    fn takes(&self, wear: &Wear) -> bool {
        self.fresh.is_none_or(|after| wear.opened > after)
    }
}

/// The version that the server speaks, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Unknown,
    H1,
    H2,
}

/// What the first in line is handed.
enum Grant {
    Connection(H1),
    Slot(Slot),
}

struct State {
    idle: Vec<H1>,
    h2: Vec<H2>,
    /// Slots given out.
    open: usize,
    waiting: VecDeque<oneshot::Sender<Grant>>,
    speaks: Speaks,
    /// Somebody opens an HTTP/2 connection, or finds out about the version: others wait for that.
    connecting: bool,
    sweeping: bool,
}

/// The connections of one worker to one server.
pub(super) struct Pool {
    pub(super) server: Arc<Server>,
    pub(super) group: Arc<Group>,
    state: Mutex<State>,
    /// Something changed for those who wait for an HTTP/2 stream.
    again: Notify,
    this: Weak<Self>,
}

impl Pool {
    pub(super) fn new(server: Arc<Server>, group: Arc<Group>) -> Arc<Self> {
        let speaks = match group.upstream.http {
            OriginHttp::V1 => Speaks::H1,
            OriginHttp::V2 => Speaks::H2,
            OriginHttp::Auto if server.address.tls => Speaks::Unknown,
            OriginHttp::Auto => Speaks::H1,
        };
        Arc::new_cyclic(|this| Self {
            server,
            group,
            state: Mutex::new(State {
                idle: Vec::new(),
                h2: Vec::new(),
                open: 0,
                waiting: VecDeque::new(),
                speaks,
                connecting: false,
                sweeping: false,
            }),
            again: Notify::new(),
            this: this.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for one request.
    ///
    /// # Errors
    /// When none can be opened, or none became free within the connect timeout.
    pub(super) async fn checkout(&self, wish: Wish) -> Result<Lease, CheckoutError> {
        let look = self.look(Instant::now());
        let turn = self.turn(look.now);
        // The usual case, without a timer.
        if let Some(lease) = self.idle(wish, &look, turn) {
            return Ok(lease);
        }
        // Boxed, because its state (names, TCP, TLS) would make every request's future as large.
        Box::pin(self.wait(wish, look, turn)).await
    }

    /// The address whose turn it is, if the server's name has several.
    fn turn(&self, now: Instant) -> Option<SocketAddr> {
        if self.server.literal {
            return None;
        }
        self.server.names.turn(now)
    }

    /// What there is to know of the server's addresses. Nothing, if it was configured with one.
    fn look(&self, now: Instant) -> Look {
        if self.server.literal {
            return Look {
                now,
                valid: Valid::any(),
            };
        }
        self.server.refresh_names(now);
        Look {
            now,
            valid: self.server.names.valid(now),
        }
    }

    async fn wait(&self, wish: Wish, mut look: Look, turn: Option<SocketAddr>) -> Result<Lease, CheckoutError> {
        let patience = self.group.upstream.connect_timeout;
        let deadline = Instant::now() + patience;
        loop {
            let speaks = if wish.only_h1 { Speaks::H1 } else { self.lock().speaks };
            if speaks == Speaks::H1 {
                return self.queue(wish, &look, turn, deadline).await;
            }
            // Registered before the look, so that a change between look and wait is not missed.
            let mut again = std::pin::pin!(self.again.notified());
            again.as_mut().enable();
            if let Some(lease) = self.idle(wish, &look, turn) {
                return Ok(lease);
            }
            let slot = {
                let mut state = self.lock();
                let free = !state.connecting
                    && state.open < self.group.upstream.connections
                    && !state
                        .h2
                        .iter()
                        .any(|h2| h2.shared.young(look.now) && wish.takes(h2.shared.wear()));
                if free {
                    state.connecting = true;
                }
                free.then(|| self.slot(&mut state))
            };
            if let Some(slot) = slot {
                let _done = Connecting(self);
                return self.open(slot, wish, turn).await;
            }
            // Another address serves as well as waiting.
            if turn.is_some()
                && let Some(lease) = self.idle(wish, &look, None)
            {
                return Ok(lease);
            }
            // Looked again now and then, because a connection also grows older.
            let until = deadline.min(look.now + SETTLED);
            let _ = tokio::time::timeout_at(until, again).await;
            look = self.look(Instant::now());
            if look.now >= deadline {
                return Err(CheckoutError::Busy);
            }
        }
    }

    /// What is at hand: a stream of an HTTP/2 connection, or the newest idle HTTP/1.1 connection;
    /// with `turn`, to that address.
    fn idle(&self, wish: Wish, look: &Look, turn: Option<SocketAddr>) -> Option<Lease> {
        let mut dead = Vec::new();
        let mut worn = Vec::new();
        let mut state = self.lock();
        if !wish.only_h1 && !state.h2.is_empty() {
            worn.extend(state.h2.extract_if(.., |h2| {
                h2.sender.is_closed() || !h2.shared.takes(look.now, &look.valid)
            }));
            let fits = |h2: &&H2| {
                let wear = h2.shared.wear();
                wish.takes(wear) && turn.is_none_or(|turn| turn == wear.peer) && h2.shared.room(look.now)
            };
            if let Some(h2) = state.h2.iter().find(fits) {
                return Some(Lease::h2(h2, self.this.upgrade()?, true));
            }
        }
        let limit = self.group.upstream.idle_timeout;
        let mut at = state.idle.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            let h1 = state.idle.get(at)?;
            // Those too old for the wish are probably as stale as the one that proved so, and hold
            // the slots that a new one needs.
            if !wish.takes(&h1.wear) || !h1.usable(look.now, limit, &look.valid) {
                dead.push(state.idle.remove(at));
            } else if turn.is_none_or(|turn| turn == h1.wear.peer) {
                let h1 = state.idle.remove(at);
                drop(state);
                return Some(Lease::h1(h1, self.this.upgrade()?, true));
            }
        }
        drop(state);
        drop((dead, worn));
        None
    }

    /// Opens an HTTP/1.1 connection, or waits in line for one.
    async fn queue(
        &self,
        wish: Wish,
        look: &Look,
        turn: Option<SocketAddr>,
        deadline: Instant,
    ) -> Result<Lease, CheckoutError> {
        let slot = {
            let mut state = self.lock();
            (state.open < self.group.upstream.connections).then(|| self.slot(&mut state))
        };
        if let Some(slot) = slot {
            return self.open(slot, wish, turn).await;
        }
        // Another address serves as well as waiting.
        if turn.is_some()
            && let Some(lease) = self.idle(wish, look, None)
        {
            return Ok(lease);
        }
        let receiver = {
            let mut state = self.lock();
            if state.waiting.len() >= self.group.upstream.connections {
                return Err(CheckoutError::Busy);
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        match tokio::time::timeout_at(deadline, receiver).await {
            Ok(Ok(Grant::Slot(slot))) => self.open(slot, wish, turn).await,
            Ok(Ok(Grant::Connection(h1))) => {
                let pool = self.this.upgrade().ok_or(CheckoutError::Busy)?;
                Ok(Lease::h1(h1, pool, true))
            }
            Ok(Err(_)) | Err(_) => Err(CheckoutError::Busy),
        }
    }

    fn slot(&self, state: &mut State) -> Slot {
        state.open += 1;
        self.counted()
    }

    fn counted(&self) -> Slot {
        Slot::new(self.this.clone(), self.group.gauge(Gauge::open).clone())
    }

    async fn open(&self, slot: Slot, wish: Wish, turn: Option<SocketAddr>) -> Result<Lease, CheckoutError> {
        let manner = Manner {
            only_h1: wish.only_h1 && self.server.address.tls,
            first: turn,
            proxied: wish.proxied,
        };
        let connecting = self.group.gauge(Gauge::connecting);
        connecting.inc();
        let connected = {
            let _guard = Decrement(connecting);
            self.group
                .connector
                .connect(&self.server.address, &self.server.names, manner)
                .await?
        };
        let pool = self.this.upgrade().ok_or(CheckoutError::Busy)?;
        self.group.metrics.opened.inc();
        let slot = Arc::new(slot);
        let upstream = &self.group.upstream;
        let wear = Wear::new(connected.peer, upstream.connection_age, upstream.connection_requests);
        let h2 = connected.h2 && !wish.only_h1;
        if !wish.only_h1 {
            self.lock().speaks = if h2 { Speaks::H2 } else { Speaks::H1 };
        }
        if h2 {
            let h2 = open_h2(connected, slot, wear, self.this.clone()).await?;
            let lease = Lease::h2(&h2, pool, false);
            self.lock().h2.push(h2);
            self.sweep_later();
            Ok(lease)
        } else {
            let h1 = open_h1(connected.socket, slot, wear, upstream.header_case).await?;
            Ok(Lease::h1(h1, pool, false))
        }
    }

    /// Closes idle connections in time, also when no request comes any more. One task while there
    /// is anything to close.
    fn sweep_later(&self) {
        if std::mem::replace(&mut self.lock().sweeping, true) {
            return;
        }
        let (weak, limit) = (self.this.clone(), self.group.upstream.idle_timeout);
        let pause = (limit / 2).max(Duration::from_millis(10));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(pool) = weak.upgrade() else { return };
                if !pool.sweep(limit) {
                    return;
                }
            }
        });
    }

    fn sweep(&self, limit: Duration) -> bool {
        let look = self.look(Instant::now());
        let mut state = self.lock();
        let old: Vec<_> = state
            .idle
            .extract_if(.., |h1| !h1.usable(look.now, limit, &look.valid))
            .collect();
        let old_h2: Vec<_> = state
            .h2
            .extract_if(.., |h2| {
                h2.sender.is_closed() || h2.shared.idle_for(look.now, limit) || !h2.shared.takes(look.now, &look.valid)
            })
            .collect();
        state.sweeping = !(state.idle.is_empty() && state.h2.is_empty());
        let more = state.sweeping;
        drop(state);
        drop((old, old_h2));
        more
    }
}

impl Home for Pool {
    fn take_back(&self, mut h1: H1) {
        if self.group.upstream.proxy_protocol {
            // It names a client, and the next request may be another one's.
            return;
        }
        h1.since = Instant::now();
        let look = self.look(h1.since);
        if !h1.wear.takes(h1.served, look.now, &look.valid) {
            return;
        }
        loop {
            let mut state = self.lock();
            let Some(first) = state.waiting.pop_front() else {
                if state.idle.len() < self.group.upstream.idle_connections {
                    state.idle.push(h1);
                    if !state.sweeping {
                        drop(state);
                        self.sweep_later();
                    }
                } else {
                    drop(state);
                    drop(h1);
                }
                return;
            };
            drop(state);
            match first.send(Grant::Connection(h1)) {
                Err(Grant::Connection(back)) => h1 = back,
                _ => return,
            }
        }
    }

    /// For the first in line, else for whoever comes.
    fn released(&self) {
        loop {
            let mut state = self.lock();
            let Some(first) = state.waiting.pop_front() else {
                state.open = state.open.saturating_sub(1);
                drop(state);
                self.again.notify_one();
                return;
            };
            drop(state);
            match first.send(Grant::Slot(self.counted())) {
                Err(Grant::Slot(mut back)) => {
                    // Nobody waits there any more; disarmed, or its drop would come back here.
                    back.disarm();
                }
                _ => return,
            }
        }
    }

    fn stream_ended(&self) {
        self.again.notify_one();
    }

    fn changed(&self) {
        self.again.notify_waiters();
    }
}

/// Wakes those who waited for a connection, however opening it ended.
struct Connecting<'a>(&'a Pool);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.lock().connecting = false;
        self.0.again.notify_waiters();
    }
}

struct Decrement<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl Drop for Decrement<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
