//! The raw form of a far end's file. `defaults.toml` beside this says what the keys mean; a test holds the two together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config::LimitsText;
use crate::config::raw::{Admin, Log, Zone};
use crate::config::value::{Size, Time};

/// A whole file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: Server,
    #[serde(default)]
    pub(super) store: Store,
    #[serde(default)]
    pub(super) limits: LimitsText,
    #[serde(default = "admin")]
    pub(super) admin: Admin,
    #[serde(default)]
    pub(super) log: Log,
    pub(super) zone: Vec<Spanned<Zone>>,
}

/// The socket and the port beside a node's own, so that both can run on one machine.
fn admin() -> Admin {
    let commands = crate::config::value::AdminAddress::Unix("/run/edge/far-end.sock".into());
    Admin {
        listen: Some(Spanned::new(0..0, commands)),
        read: Some(Spanned::new(0..0, SocketAddr::from(([127, 0, 0, 1], 9181)))),
        ..Admin::default()
    }
}

/// Where near ends come in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: Spanned<Vec<SocketAddr>>,
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
    pub(super) near_ends: Spanned<PathBuf>,
    #[serde(default = "none")]
    pub(super) workers: Spanned<usize>,
    #[serde(default = "thirty")]
    pub(super) drain: Time,
}

fn none() -> Spanned<usize> {
    Spanned::new(0..0, 0)
}

fn thirty() -> Time {
    Time(Duration::from_secs(30))
}

/// Versions that can be referred to.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    pub(super) memory: Spanned<Size>,
    pub(super) encodings: Spanned<Size>,
    pub(super) object_bytes: Spanned<Size>,
    pub(super) disk: Spanned<Size>,
    pub(super) directory: Spanned<PathBuf>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            memory: Spanned::new(0..0, Size(256 << 20)),
            encodings: Spanned::new(0..0, Size(32 << 20)),
            object_bytes: Spanned::new(0..0, Size(16 << 20)),
            disk: Spanned::new(0..0, Size(1 << 30)),
            directory: Spanned::new(0..0, PathBuf::from("/var/lib/edge/far-end")),
        }
    }
}
