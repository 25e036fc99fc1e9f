//! The file of `edge far-end`: where near ends come in, what is kept, and the zones with their
//! origins.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::admin::{AdminText, LogText};
use super::checker::Checker;
use super::kind::{Address, Bytes, File, Kind, List, Memory, Must, Span, Threads};
use super::limits::{Limits, LimitsText};
use super::mistake::{Mistakes, Source};
use super::origin::{self, OriginText};
use super::requests::Requests;
use super::section::{self, Section, section};
use super::value::{AdminAddress, Size, seconds};
use super::zone::{Around, ZoneText};
use super::{Admin, Identity, Log, Place, Server, Serving, Tls, TlsVersion, Zone, ZonesFail, text};

/// The commented defaults, for `edge far-end --print-defaults`.
pub fn defaults() -> String {
    let declared = [("[server]", ServerText::entries()), ("[store]", StoreText::entries())];
    section::filled(include_str!("defaults.toml"), declared)
}

section! {
    /// Where near ends come in.
    ServerText => Listening {
        /// Addresses that near ends connect to, over TLS.
        fixed listen: Must<List<Address>> = None; like ["0.0.0.0:8443"];
        /// What the far end shows, leaf first (PEM).
        live certificate: Must<File> = None; like "far-end.pem";
        /// The private key of that.
        live key: Must<File> = None; like "far-end.key";
        /// The authority of the near ends' certificates (PEM).
        live near_ends: Must<File> = None; like "near-ends-ca.pem";
        /// Threads that serve; 0: one per processor.
        fixed workers: Threads = 0, 0 => 1_024;
        /// How long requests under way may go on after SIGTERM.
        live drain: Span = seconds(30);
    }
}

section! {
    /// What a far end keeps.
    StoreText => Store {
        /// Bytes of versions in memory.
        fixed memory: Memory = Size(256 << 20), Size(1 << 20) => Size(1 << 40);
        /// Bytes of differences that are asked for again.
        fixed encodings: Memory = Size(32 << 20), Size(0) => Size(1 << 40);
        /// Larger content passes whole.
        fixed object_bytes: Bytes = Size(16 << 20), Size(64 << 10) => Size(128 << 20);
    }
    read {
        /// Bytes on disk, so that a restart keeps versions; 0B: none. Private content is never
        /// written.
        fixed disk: Memory = Size(1 << 30), Size(0) => Size(1 << 50);
        /// Where they are; the directory is made if it is missing.
        fixed directory: File = PathBuf::from("/var/lib/edge/far-end");
    }
    checked {
        /// Bytes of versions on disk, and where; `None`: memory alone.
        disk: Option<(usize, PathBuf)>,
        /// Where the directory is named.
        directory_place: Place,
    }
}

/// A whole file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: Spanned<ServerText>,
    #[serde(default)]
    store: StoreText,
    #[serde(default)]
    limits: LimitsText,
    #[serde(default = "admin")]
    admin: AdminText,
    #[serde(default)]
    log: LogText,
    #[serde(default)]
    origin: Vec<Spanned<OriginText>>,
    zone: Vec<Spanned<ZoneText>>,
}

/// The socket and the port beside a node's own, so that both can run on one machine.
fn admin() -> AdminText {
    let commands = AdminAddress::Unix("/run/edge/far-end.sock".into());
    AdminText {
        listen: Spanned::new(0..0, Some(commands)),
        read: Spanned::new(0..0, Some(([127, 0, 0, 1], 9181).into())),
        ..AdminText::default()
    }
}

/// What the file says in keys that a reload does not carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct FarFixed {
    server: ServerText,
    store: StoreText,
    admin: AdminText,
    log: LogText,
}

impl FarFixed {
    /// The keys in which `new` says something else and that take a restart, as `section.key`.
    pub fn that_differ(&self, new: &Self) -> Vec<String> {
        let sections = [
            ("server", self.server.fixed_keys_that_differ(&new.server)),
            ("store", self.store.fixed_keys_that_differ(&new.store)),
            ("admin", self.admin.fixed_keys_that_differ(&new.admin)),
            ("log", self.log.fixed_keys_that_differ(&new.log)),
        ];
        let keys = sections
            .into_iter()
            .flat_map(|(section, keys)| keys.into_iter().map(move |key| (section, key)));
        keys.map(|(section, key)| format!("{section}.{key}")).collect()
    }
}

/// A checked far end's file.
#[derive(Clone, Debug)]
pub struct FarConfig {
    /// Where near ends come in.
    pub server: Server,
    /// Asks them for certificates.
    pub tls: Tls,
    /// Bounds towards them.
    pub limits: Arc<Limits>,
    /// The admin endpoint.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// Zones with their origins.
    pub zones: Vec<Zone>,
    /// What it shows to near ends.
    pub identity: Identity,
    /// What it keeps.
    pub store: Store,
    /// What the file says in keys that a reload does not carry out.
    pub fixed: FarFixed,
}

impl FarConfig {
    /// Reads and checks `file`.
    ///
    /// # Errors
    /// As [`Config::read`](super::Config::read).
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let text = text::one(file, "edge far-end --print-defaults > far-end.toml")?;
        Self::parse(file, &text)
    }

    /// Checks `text`, naming `file` in errors and taking paths relative to its directory.
    ///
    /// # Errors
    /// As [`Config::read`](super::Config::read).
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        let source = Source {
            file,
            text,
            included: &[],
        };
        let raw = toml::from_str::<Raw>(text).map_err(|e| Mistakes(vec![source.toml_mistake(&e)]))?;
        let mut checker = Checker::new(&source);
        let this = far(&mut checker, &raw);
        // Its zones stand or fall together.
        let faults = std::mem::take(&mut checker.faults);
        faults.or(checker.end(this)?)
    }

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

fn far(checker: &mut Checker<'_>, raw: &Raw) -> FarConfig {
    let listening = checker.table(&raw.server, ServerText::check);
    let written = &raw.server.get_ref().listen;
    if written.get_ref().as_ref().is_some_and(Vec::is_empty) {
        checker.mistake(written.span(), "no listener", "write listen = [\"0.0.0.0:8443\"]");
    }
    for zone in &raw.zone {
        not_here(zone.get_ref(), checker);
    }
    let limits = limits(&raw.limits, checker);
    // For the checks of zones: clients come in at the edge, so no zone has a certificate here.
    let mut server = Server {
        workers: listening.workers,
        drain: listening.drain,
        http3: false,
        zones_fail: ZonesFail::Together,
        ..Server::default()
    };
    let acme = super::acme::Node::default();
    let pools = origin::pools(&raw.origin, checker);
    let around = Around {
        server: &server,
        limits: &limits,
        far_ends: &[],
        key_servers: &[],
        acme: &acme,
        pools: &pools,
        in_fleet: false,
    };
    let mut zones = super::zone::zones(&raw.zone, &around, checker);
    let requests = Arc::new(Requests::of_near_ends());
    zones.iter_mut().for_each(|zone| zone.requests = requests.clone());
    server.https.clone_from(&listening.listen);
    FarConfig {
        identity: Identity::of(listening.certificate, listening.key),
        store: store(&raw.store, checker),
        fixed: FarFixed {
            server: raw.server.get_ref().clone(),
            store: raw.store.clone(),
            admin: raw.admin.clone(),
            log: raw.log.clone(),
        },
        tls: Tls {
            min_version: TlsVersion::V1_3,
            ticket_rotation: std::time::Duration::from_secs(3_600),
            // Its key is here: no handshake waits.
            handshakes_waiting: 1,
            handshakes_waiting_per_address: 1,
            near_ends: Some(listening.near_ends),
            ..Tls::default()
        },
        limits: Arc::new(limits),
        admin: super::admin::admin(&raw.admin, checker),
        log: super::admin::log(&raw.log, checker),
        server,
        zones,
    }
}

/// What an edge's zone may say, and a far end's may not.
fn not_here(zone: &ZoneText, checker: &mut Checker<'_>) {
    let written = [
        (zone.certificate.get_ref().is_some(), zone.certificate.span()),
        (zone.key.get_ref().is_some(), zone.key.span()),
        (zone.delta.get_ref().is_some(), zone.delta.span()),
    ];
    for (_, span) in written.into_iter().filter(|(is_written, _)| *is_written) {
        let mend = "remove it; a far end's zone has hosts and an origin";
        checker.mistake(span, "not for a far end's zone", mend);
    }
    if zone.gate.is_some() {
        let mend = "write [zone.gate] into the edge's file";
        checker.mistake(zone.name.span(), "a far end has no gate", mend);
    }
}

/// One connection stands for a whole edge here: what would be an attack of a client is its daily
/// work. Its heads are those of clients, with some fields more.
fn limits(raw: &LimitsText, checker: &mut Checker<'_>) -> Limits {
    let mut limits = super::limits::limits(raw, checker);
    limits.connections_per_address = limits.connections;
    limits.memory_per_address = limits.memory;
    limits.requests_per_connection = None;
    limits.streams_per_connection = limits.streams_per_connection.max(4_096);
    limits.resets_per_connection = 65_536;
    limits.header_bytes = limits.header_bytes.saturating_add(8 << 10);
    limits.header_count = limits.header_count.saturating_add(32);
    limits
}

fn store(raw: &StoreText, checker: &mut Checker<'_>) -> Store {
    let mut store = raw.check(checker);
    let (directory, place) = File::check(&raw.directory, None, checker);
    let disk = checker.number(&raw.disk, Size(0), Size(1 << 50)).0;
    store.disk = (disk > 0).then(|| (usize::try_from(disk).unwrap_or(usize::MAX), directory));
    store.directory_place = place;
    store
}
