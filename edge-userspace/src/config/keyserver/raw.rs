//! The key server's raw form, key by key, with the defaults of each. `defaults.toml` says what they mean.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::raw::{LogFormat, scalars};
use crate::config::value::{AdminAddress, Time};

const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) process: Process,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) client: Vec<Spanned<Client>>,
}

scalars! {
    /// The listener.
    Server {
        listen: Spanned<Vec<SocketAddr>> = spanned(Vec::new()),
        certificate: Spanned<PathBuf> = spanned(PathBuf::new()),
        key: Spanned<PathBuf> = spanned(PathBuf::new()),
        client_ca: Spanned<PathBuf> = spanned(PathBuf::new()),
        revoked: Vec<Spanned<PathBuf>> = Vec::new(),
        workers: Spanned<usize> = spanned(0),
        drain: Time = seconds(10),
    }
}

scalars! {
    /// Private keys.
    Keys {
        directory: Spanned<PathBuf> = spanned(PathBuf::from("keys")),
        poll: Spanned<Time> = spanned(seconds(2)),
    }
}

scalars! {
    /// Bounds on what clients can make the server hold.
    Limits {
        connections: Spanned<usize> = spanned(1_024),
        connections_per_client: Spanned<usize> = spanned(256),
        pending: Spanned<usize> = spanned(1_024),
        queue: Spanned<usize> = spanned(8_192),
        ephemeral_keys: Spanned<usize> = spanned(1_024),
        ephemeral_time: Spanned<Time> = spanned(seconds(30)),
        handshake_timeout: Spanned<Time> = spanned(seconds(5)),
        idle_timeout: Spanned<Time> = spanned(seconds(600)),
        write_timeout: Spanned<Time> = spanned(seconds(10)),
    }
}

scalars! {
    /// The process among others.
    Process {
        user: Spanned<String> = spanned(String::new()),
        lock_memory: LockMemory = LockMemory::Auto,
        seccomp: bool = true,
    }
}

/// Whether memory is kept out of swap.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LockMemory {
    /// Where it is allowed.
    Auto,
    /// Or the server does not start.
    On,
    /// No.
    Off,
}

scalars! {
    /// The admin endpoint.
    Admin {
        listen: Spanned<AdminAddress> = spanned(AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 9181)))),
        remote: bool = false,
    }
}

scalars! {
    /// Logs.
    Log {
        format: LogFormat = LogFormat::Auto,
        level: Spanned<String> = spanned("info".to_owned()),
    }
}

/// A client.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) dns: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) spki: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) rate: u32,
    #[serde(default)]
    pub(super) burst: u32,
    #[serde(default)]
    pub(super) grant: Vec<Spanned<Grant>>,
}

/// What a client may do.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    pub(super) keys: Spanned<Vec<Spanned<String>>>,
    pub(super) ops: Spanned<Vec<Spanned<String>>>,
}
