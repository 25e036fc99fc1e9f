//! What a process that serves clients is set up by, a node as well as a far end: the rooms that
//! both have take these sections, and never a whole file.

use std::sync::Arc;

use super::{Config, Limits, Log, Server, Tls};

/// The sections that every process which serves has.
#[derive(Clone, Copy, Debug)]
pub struct Serving<'a> {
    /// Listeners and threads.
    pub server: &'a Server,
    /// TLS towards clients.
    pub tls: &'a Tls,
    /// Bounds towards clients.
    pub limits: &'a Arc<Limits>,
    /// Logs.
    pub log: &'a Log,
}

impl Config {
    /// Its sections of serving.
    pub const fn serving(&self) -> Serving<'_> {
        Serving {
            server: &self.server,
            tls: &self.tls,
            limits: &self.limits,
            log: &self.log,
        }
    }
}
