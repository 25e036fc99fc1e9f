//! The key server's file, checked once: `raw` is what was written, this is what the room is built from.

mod check;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use raw::LockMemory;

use super::mistake::{Mistakes, Place, Source};
use super::{Log, value::AdminAddress};

/// The commented defaults, for `edge-keyserver check --print-defaults`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener.
    pub server: Server,
    /// Private keys.
    pub keys: Keys,
    /// Bounds on clients.
    pub limits: Limits,
    /// The process among others.
    pub process: Process,
    /// Where the admin endpoint listens.
    pub admin: AdminAddress,
    /// Logs.
    pub log: Log,
    /// Who may ask, by unique names.
    pub clients: Vec<Client>,
}

/// The listener.
#[derive(Clone, Debug)]
pub struct Server {
    /// At least one.
    pub listen: Vec<SocketAddr>,
    /// The server's own certificate.
    pub certificate: Certificate,
    /// Roots of clients' certificates.
    pub client_ca: (PathBuf, Place),
    /// Revocation lists.
    pub revoked: Vec<(PathBuf, Place)>,
    /// Threads that serve, at least 1.
    pub workers: usize,
    /// How long draining may take.
    pub drain: Duration,
}

/// The server's own certificate: PEM files, with their places for errors of the room that loads them.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// Where the chain is named.
    pub chain_place: Place,
    /// Private key.
    pub key: PathBuf,
    /// Where the key is named.
    pub key_place: Place,
}

/// Private keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Where they are.
    pub directory: (PathBuf, Place),
    /// Between two looks at it.
    pub poll: Duration,
}

/// Bounds on what clients can make the server hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one client.
    pub connections_per_client: usize,
    /// Queries under way on a connection.
    pub pending: usize,
    /// Queries that wait for RSA.
    pub queue: usize,
    /// Ephemeral keys kept on a connection.
    pub ephemeral_keys: usize,
    /// How long one is kept.
    pub ephemeral_time: Duration,
    /// From the accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// A connection without a query.
    pub idle_timeout: Duration,
    /// A client that takes no replies.
    pub write_timeout: Duration,
}

/// The process among others.
#[derive(Clone, Debug)]
pub struct Process {
    /// Whom to become; `None` stays who started it.
    pub user: Option<(User, Place)>,
    /// Whether memory is kept out of swap.
    pub lock_memory: LockMemory,
    /// Whether system calls are filtered.
    pub seccomp: bool,
}

/// Whom to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// By name, with its primary group.
    Name(String),
    /// User and group.
    Ids(u32, u32),
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Client {
    /// In logs and metrics.
    pub name: Arc<str>,
    /// How its certificate is known.
    pub identity: Identity,
    /// Queries a second, and at once; `None`: no limit.
    pub rate: Option<(u32, u32)>,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// How a client's certificate is known; of an authority that is trusted it must be in any case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// It has this DNS name, lower case.
    Dns(String),
    /// SHA-256 of its SubjectPublicKeyInfo.
    Spki([u8; 32]),
}

/// What a client may do with some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// With which keys.
    pub keys: Vec<Selector>,
    /// The names of ops; the room `keyserver` knows them and says which it does not.
    pub ops: Vec<(String, Place)>,
}

/// A key, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All, those to come among them.
    All,
    /// The one with this name.
    Name(String),
    /// The one with this SHA-256 of its SubjectPublicKeyInfo.
    Id([u8; 32]),
}

impl Config {
    /// Reads and checks `file`. Nothing is opened but the file itself.
    ///
    /// # Errors
    /// Every mistake that was found: of the syntax the first, of the checks all.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let text = super::text::one(file, "edge-keyserver check --print-defaults > keyserver.toml")?;
        Self::parse(file, &text)
    }

    /// Checks `text`, naming `file` in errors and taking paths relative to its directory.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        let source = Source {
            file,
            text,
            included: &[],
        };
        let raw = toml::from_str::<raw::Raw>(text).map_err(|e| Mistakes(vec![source.toml_mistake(&e)]))?;
        check::check(&raw, &source)
    }
}

/// 32 bytes from 64 hexadecimal digits, either case.
pub fn hex32(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
