//! How a key server is reached, and how it does: what its connections share with `server`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;

use super::health::Health;
use super::metrics::Handles;

/// How a key server is reached, and how it does.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) server_name: ServerName<'static>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) health: Health,
    pub(super) handles: Handles,
    /// Told when a server, any of them, may be worth another try.
    pub(super) changed: Arc<Notify>,
    pub(super) started: Instant,
}

impl Target {
    /// On the clock of its health.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// It answered.
    pub(super) fn answered(&self) {
        if self.health.succeeded() {
            self.handles.open.set(0);
            tracing::info!(server = self.name, "the key server is in use again");
            self.changed.notify_waiters();
        }
    }

    /// There is a connection to it; whether it answers is not known yet.
    pub(super) fn connected(&self) {
        self.changed.notify_waiters();
    }

    /// A request or a connection failed. True when that opened the breaker.
    pub(super) fn failed(&self) -> bool {
        let opened = self.health.failed(self.now());
        if opened {
            self.handles.open.set(1);
            tracing::warn!(
                server = self.name,
                "the key server fails; requests go elsewhere for now"
            );
        }
        opened
    }

    /// It takes requests and does not answer.
    pub(super) fn wedged(&self) {
        if self.health.trip(self.now()) {
            self.handles.open.set(1);
            tracing::warn!(
                server = self.name,
                "the key server is silent; requests go elsewhere for now"
            );
        }
    }
}
