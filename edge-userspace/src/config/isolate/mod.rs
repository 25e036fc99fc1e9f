//! Third-party code as the file describes it: what the node holds for it, and per zone its worker, its limits, whom it may
//! ask, and which requests it gets.

pub(super) mod check;
pub mod cron;
pub(super) mod raw;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Place, Upstream};

/// Bytes of linear memory that any instance can be given: the pool's slots are this large.
pub const MEMORY_MOST: u64 = 256 << 20;
/// Elements that any instance's table can be given.
pub const TABLE_MOST: usize = 100_000;

/// What all workers of a node share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where the state directory is named.
    pub place: Place,
    /// Deployed workers, compiled code, the key that guards it, and what workers store.
    pub state_directory: PathBuf,
    /// Instances at once, of all zones; their address space is reserved at the start.
    pub instances: u32,
    /// Bytes of memory that all instances may hold at once, with what the host keeps for them.
    pub memory: u64,
    /// Bytes of the longest worker that can be deployed.
    pub worker_bytes: u64,
    /// Processor time that compiling one worker may take.
    pub compile_time: Duration,
    /// Address space that compiling one worker may take, bytes.
    pub compile_memory: u64,
    /// Versions that are kept of each zone's worker, at least 2.
    pub versions: usize,
}

impl Node {
    /// Of a process without workers.
    pub(super) fn unused() -> Self {
        Self {
            place: Place::nowhere(),
            state_directory: PathBuf::new(),
            instances: 0,
            memory: 0,
            worker_bytes: 0,
            compile_time: Duration::ZERO,
            compile_memory: 0,
            versions: 0,
        }
    }
}

/// A zone's worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// A file that is the worker; `None`: what was deployed.
    pub file: Option<(PathBuf, Place)>,
    /// What one request, and the zone, may use.
    pub limits: Limits,
    /// Zones it may ask, by name, in the process.
    pub zones: Vec<Arc<str>>,
    /// Servers elsewhere it may ask.
    pub origins: Vec<Arc<Upstream>>,
    /// Its settings, not secret, in the order of their names.
    pub settings: Vec<(String, String)>,
    /// Its secrets, by name; from files.
    pub secrets: Vec<(String, Secret)>,
    /// When it runs by itself.
    pub schedule: Vec<cron::Cron>,
    /// What it may store; `None`: nothing.
    pub keyvalue: Option<Keyvalue>,
}

/// A secret's text. Erased when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<Zeroizing<String>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a worker may use. Bytes and counts are at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that one instance answers, one after the other, before a fresh one takes its place; 1: each its own.
    pub reuse: u32,
    /// Bytes of linear memory of one instance.
    pub memory: usize,
    /// Elements of all its tables.
    pub table_elements: usize,
    /// Processor time of one request.
    pub cpu: Duration,
    /// Time of one request, from its head to the end of the guest.
    pub wall: Duration,
    /// Requests at once.
    pub concurrency: usize,
    /// Further requests at once for those that another worker made, so that nesting cannot starve itself.
    pub nested: usize,
    /// Requests that one request may make in all, those made on its behalf included.
    pub subrequests: u32,
    /// Bytes of a response's content; `None`: no limit.
    pub response_bytes: Option<u64>,
    /// Bytes that one request may log.
    pub log_bytes: usize,
    /// Lines a second that the zone may log.
    pub log_rate: u32,
}

/// What a worker may store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyvalue {
    /// Bytes of all keys and values.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes of one value.
    pub value_bytes: usize,
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Path prefix, or a glob where `*` stands for any characters.
    pub path: String,
    /// Where to.
    pub to: To,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The zone's worker.
    Worker,
    /// The zone's origin.
    Origin,
    /// Files below this directory.
    Files(PathBuf),
}
