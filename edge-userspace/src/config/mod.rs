//! The file, checked once: `file` has all its sections, `section` how one is declared, `kind` what
//! its keys can be, and a file for each section its keys. Rooms are built from what the checks
//! leave. Parse low, build high.

pub mod acme;
mod admin;
pub mod cache;
mod certificate;
mod checker;
pub mod client_address;
pub mod coding;
mod dataplane;
pub mod delta;
pub mod error_page;
pub mod far;
mod file;
pub mod files;
pub mod fleet;
pub mod gate;
pub mod isolate;
#[cfg(feature = "keyserver")]
pub mod keyserver;
mod kind;
mod limits;
mod listed;
mod mistake;
mod origin;
pub mod pool;
pub mod reference;
pub mod requests;
pub mod rule;
mod section;
mod server;
mod serving;
#[cfg(test)]
mod tests;
mod text;
mod tls;
pub mod value;
mod zone;

use std::path::Path;
use std::sync::Arc;

pub use admin::{Admin, Log, LogFormat};
pub use certificate::{Certificate, Clients, Identity, Key, KeyExchange, KeyServer, More};
pub use dataplane::{Dataplane, XdpMode};
pub use file::{Fixed, defaults};
pub use limits::{Limits, UDP_BUFFER};
pub use listed::{Group, Groups, Listed};
pub use mistake::{Faults, Mistake, Mistakes, Place};
pub use origin::{Balance, HeaderCase, Health, Origin, OriginHttp, OriginServer, Passive, Slow, Sticky, Upstream};
pub use server::{Server, TRANSLATORS, ZonesFail};
pub use serving::Serving;
pub use tls::{LockdownMode, Quic, Tls, TlsVersion};
pub use zone::{Written, Zone};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners and workers.
    pub server: Server,
    /// XDP.
    pub dataplane: Dataplane,
    /// TLS towards clients.
    pub tls: Tls,
    /// QUIC.
    pub quic: Quic,
    /// Bounds towards clients.
    pub limits: Arc<Limits>,
    /// The admin endpoint.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// What all zones with certificates by ACME share.
    pub acme: acme::Node,
    /// What all gates share.
    pub gate: gate::Node,
    /// What is held to make differences of.
    pub delta: delta::Node,
    /// Far ends, in the file's order.
    pub far_ends: Vec<delta::FarEnd>,
    /// What all caches share.
    pub cache: cache::Node,
    /// What content coding shares.
    pub coding: coding::Node,
    /// What all workers share.
    pub isolate: isolate::Node,
    /// The fleet that the node belongs to, which its zones come from; `None`: none.
    pub fleet: Option<fleet::Fleet>,
    /// Where private keys are that are not here.
    pub key_servers: Vec<KeyServer>,
    /// Tenants, in the file's order; at least one.
    pub zones: Vec<Zone>,
    /// Where the networks to deny are written.
    pub lists_place: Place,
    /// What the file says in keys that a reload does not carry out.
    pub fixed: Fixed,
    /// Mistakes in what single zones name: directories and secrets that are not there.
    pub faults: Faults,
    /// What works, but not as the operator will have meant it.
    pub warnings: Vec<Mistake>,
}

impl Config {
    /// Reads and checks `file` and what it includes. Of what they name, directories are looked for
    /// and workers' secrets read; certificates are loaded by the room `tls`.
    ///
    /// # Errors
    /// Every mistake that was found: of the syntax the first, of the checks all.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        Self::read_with(file, fleet::Release::Current)
    }

    /// The same with another manifest of the node's fleet than the one in force; of a node without
    /// a fleet it is the same.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_with(file: &Path, release: fleet::Release<'_>) -> Result<Self, Mistakes> {
        let own = text::all(file, "edge check --print-defaults > edge.toml", file::told)?;
        let text::Text { text, included } = fleet::join(file, own, release, file::told)?;
        Self::checked(&mistake::Source {
            file,
            text: &text,
            included: &included,
        })
    }

    /// Checks `text`, naming `file` in errors and taking paths relative to its directory. Nothing
    /// is included.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        Self::checked(&mistake::Source {
            file,
            text,
            included: &[],
        })
    }

    fn checked(source: &mistake::Source<'_>) -> Result<Self, Mistakes> {
        let raw = toml::from_str::<file::Raw>(source.text).map_err(|e| file::told(source, &e))?;
        file::check(&raw, source)
    }
}
