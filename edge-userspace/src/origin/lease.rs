//! A connection as one request holds it: sends on it, and either gives it back or closes it by
//! letting go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use hyper::client::conn::http2;

use super::connection::{H1, H2, Home, Sent, Streams};
use super::fleet::Server;
use super::timer::Timer;
use super::upload::Upload;

/// One HTTP/2 stream's share of its connection.
struct Stream {
    shared: Arc<Streams>,
    home: Arc<dyn Home>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.ended();
        self.home.stream_ended();
    }
}

enum Kind {
    H1(H1, Arc<dyn Home>),
    H2(http2::SendRequest<Upload>, Stream, Timer),
}

/// A connection, or a stream of one, for one request.
pub(super) struct Lease {
    kind: Kind,
    /// It has served before, so that it may have been closed by the origin just now.
    pub(super) reused: bool,
    /// Counts the request as load until the lease ends.
    load: Option<Load>,
}

/// Counts one request under way at a server.
pub(super) struct Load(Arc<Server>);

impl Load {
    pub(super) fn new(server: &Arc<Server>) -> Self {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(server.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    pub(super) fn h1(mut h1: H1, home: Arc<dyn Home>, reused: bool) -> Self {
        h1.served = h1.served.saturating_add(1);
        Self {
            kind: Kind::H1(h1, home),
            reused,
            load: None,
        }
    }

    pub(super) fn h2(h2: &H2, home: Arc<dyn Home>, reused: bool) -> Self {
        h2.shared.begun();
        let stream = Stream {
            shared: h2.shared.clone(),
            home,
        };
        Self {
            kind: Kind::H2(h2.sender.clone(), stream, Timer::default()),
            reused,
            load: None,
        }
    }

    /// Counts the request as load from here on.
    pub(super) fn carry(&mut self, load: Load) {
        self.load = Some(load);
    }

    /// HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::H2(..))
    }

    /// What the origin may have sent ahead on this stream, by itself.
    pub(super) fn window(&self) -> Option<u64> {
        match &self.kind {
            Kind::H1(..) => None,
            Kind::H2(_, stream, _) => Some(stream.shared.window),
        }
    }

    /// Sends `request`. The future does not borrow the lease, which has to outlive it: without its
    /// sender an HTTP/1.1 connection would end.
    pub(super) fn send(&mut self, request: Request<Upload>) -> impl Future<Output = Sent> + Send + use<> {
        use futures_util::future::Either;
        match &mut self.kind {
            Kind::H1(h1, _) => Either::Left(h1.sender.try_send_request(request)),
            Kind::H2(sender, ..) => Either::Right(sender.try_send_request(request)),
        }
    }

    /// Whether the peer takes extended CONNECT; on a young connection its SETTINGS are waited for,
    /// a second at most.
    pub(super) async fn takes_extended_connect(&self) -> bool {
        let Kind::H2(_, stream, _) = &self.kind else {
            return false;
        };
        for pause in [0, 1, 2, 5, 10, 20, 50, 100, 200, 300, 300] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            stream.shared.nudge.wake();
            tokio::task::yield_now().await;
            if stream.shared.extended.load(Ordering::Relaxed) {
                return true;
            }
            if stream.shared.settled() {
                break;
            }
        }
        false
    }

    /// The connection's timer, to be given back by [`Lease::keep_timer`].
    pub(super) fn take_timer(&mut self) -> Timer {
        match &mut self.kind {
            Kind::H1(h1, _) => std::mem::take(&mut h1.timer),
            Kind::H2(_, _, timer) => std::mem::take(timer),
        }
    }

    /// Gives the connection its timer back.
    pub(super) fn keep_timer(&mut self, timer: Timer) {
        match &mut self.kind {
            Kind::H1(h1, _) => h1.timer = timer,
            Kind::H2(_, _, kept) => *kept = timer,
        }
    }

    /// The exchange is over: an HTTP/1.1 connection goes back if hyper has found the end of both
    /// messages (it then waits for the next request; not so after `Connection: close` or on
    /// HTTP/1.0).
    pub(super) fn give_back(self) {
        drop(self.load);
        if let Kind::H1(h1, home) = self.kind
            && h1.sender.is_ready()
        {
            home.take_back(h1);
        }
    }

    /// The exchange broke off: an HTTP/1.1 connection is closed, an HTTP/2 stream reset, by hyper,
    /// as its parts are dropped.
    pub(super) fn discard(self) {
        drop(self);
    }
}
