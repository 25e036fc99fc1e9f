//! The file of `edge far-end`: where near ends come in, what is kept, and the zones with their origins.

mod raw;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::checker::Checker;
use super::mistake::{Mistakes, Source};
use super::requests::Requests;
use super::value::Size;
use super::{Config, Dataplane, Identity, LockdownMode, Place, Quic, Server, Tls, TlsVersion, ZonesFail, text};

/// The commented defaults, for `edge far-end --print-defaults`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A checked far end's file.
#[derive(Clone, Debug)]
pub struct FarConfig {
    /// What it has in common with a node: listeners, limits, admin, log, zones. Its TLS asks near ends for certificates.
    pub node: Config,
    /// What it shows to near ends.
    pub identity: Identity,
    /// What it keeps.
    pub store: Store,
}

/// What a far end keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bytes of versions in memory.
    pub memory: usize,
    /// Bytes of encodings of what is asked for again.
    pub encodings: usize,
    /// Larger content passes whole.
    pub object_bytes: u64,
    /// Bytes of versions on disk, and where; `None`: memory alone.
    pub disk: Option<(usize, PathBuf)>,
    /// Where the directory is named.
    pub directory_place: Place,
}

impl FarConfig {
    /// Reads and checks `file`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let text = text::one(file, "edge far-end --print-defaults > far-end.toml")?;
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
        let mut checker = Checker::new(&source);
        let this = far(&mut checker, &raw);
        checker.end(this)?.or_faults()
    }
}

impl FarConfig {
    /// Its zones stand or fall together.
    fn or_faults(mut self) -> Result<Self, Mistakes> {
        std::mem::take(&mut self.node.faults).or(self)
    }
}

fn far(checker: &mut Checker<'_>, raw: &raw::Raw) -> FarConfig {
    if raw.server.listen.get_ref().is_empty() {
        checker.mistake(
            raw.server.listen.span(),
            "no listener",
            "write listen = [\"0.0.0.0:8443\"]",
        );
    }
    for zone in &raw.zone {
        let zone = zone.get_ref();
        let spans = [
            zone.certificate.as_ref().map(Spanned::span),
            zone.key.as_ref().map(Spanned::span),
            zone.delta.as_ref().map(Spanned::span),
        ];
        for span in spans.into_iter().flatten() {
            checker.mistake(
                span,
                "not for a far end's zone",
                "remove it; a far end's zone has hosts and an origin",
            );
        }
        if zone.gate.is_some() {
            checker.mistake(
                zone.name.span(),
                "a far end has no gate",
                "write [zone.gate] into the edge's file",
            );
        }
    }
    let mut limits = checker.limits(&raw.limits);
    // One connection stands for a whole edge here: what would be an attack of a client is its daily work. Its heads are those
    // of clients, with some fields more.
    limits.connections_per_address = limits.connections;
    limits.memory_per_address = limits.memory;
    limits.requests_per_connection = None;
    limits.streams_per_connection = limits.streams_per_connection.max(4_096);
    limits.resets_per_connection = 65_536;
    limits.header_bytes = limits.header_bytes.saturating_add(8 << 10);
    limits.header_count = limits.header_count.saturating_add(32);
    // For the checks of zones: clients come in at the edge, so no zone has a certificate here.
    let mut server = Server {
        https: Vec::new(),
        http: Vec::new(),
        plain: Vec::new(),
        plain_from: Vec::new(),
        client_address: None,
        redirect_port: 443,
        alt_svc_port: None,
        workers: checker.workers(&raw.server.workers),
        proxy_protocol_from: Vec::new(),
        drain: raw.server.drain.0,
        http3: false,
        zones_fail: ZonesFail::Together,
    };
    let acme = super::acme::NodeText::default().check(checker);
    let mut zones = checker.zones(&raw.zone, &server, &limits, (&[], &[], &acme));
    let requests = Arc::new(Requests::of_near_ends());
    zones.iter_mut().for_each(|zone| zone.requests = requests.clone());
    server.https.clone_from(raw.server.listen.get_ref());
    let store = &raw.store;
    let mut size = |value: &Spanned<Size>, least: u64, most: u64, mend: &str| {
        let size = value.get_ref().0;
        if !(least..=most).contains(&size) {
            checker.mistake(value.span(), "out of bounds", format!("write {mend}"));
        }
        usize::try_from(size).unwrap_or(usize::MAX)
    };
    let store = Store {
        memory: size(&store.memory, 1 << 20, 1 << 40, "1MiB to 1024GiB"),
        encodings: size(&store.encodings, 0, 1 << 40, "0B to 1024GiB"),
        object_bytes: size(&store.object_bytes, 64 << 10, 128 << 20, "64KiB to 128MiB") as u64,
        disk: match size(&store.disk, 0, 1 << 50, "0B (no disk) to 1048576GiB") {
            0 => None,
            bytes => Some((bytes, checker.path(&store.directory))),
        },
        directory_place: checker.place(store.directory.span()),
    };
    FarConfig {
        identity: Identity {
            chain: checker.path(&raw.server.certificate),
            chain_place: checker.place(raw.server.certificate.span()),
            key: checker.path(&raw.server.key),
            key_place: checker.place(raw.server.key.span()),
        },
        store,
        node: Config {
            dataplane: Dataplane::none(),
            tls: Tls {
                min_version: TlsVersion::V1_3,
                ticket_rotation: std::time::Duration::from_secs(3_600),
                handshake_timeout: std::time::Duration::from_secs(10),
                // Its key is here: no handshake waits.
                key_server_timeout: std::time::Duration::from_secs(3),
                waiting: 1,
                waiting_per_address: 1,
                ticket_roaming: false,
                near_ends: Some((
                    checker.path(&raw.server.near_ends),
                    checker.place(raw.server.near_ends.span()),
                )),
            },
            limits: Arc::new(limits),
            acme,
            admin: checker.admin(&raw.admin),
            log: checker.log(&raw.log),
            gate: super::gate::Node::unused(),
            delta: super::delta::Node {
                memory: 0,
                object_bytes: 0,
            },
            far_ends: Vec::new(),
            quic: Quic {
                lockdown: LockdownMode::Off,
                lockdown_above: 1,
                lockdown_below: 1,
                lockdown_hold: std::time::Duration::ZERO,
            },
            key_servers: Vec::new(),
            fleet: None,
            cache: super::cache::Node::unused(),
            isolate: super::isolate::Node::unused(),
            coding: super::coding::Node {
                memory: 0,
                dictionaries: 0,
            },
            server,
            zones,
            faults: checker.faults(),
            warnings: Vec::new(),
            lists_place: Place::nowhere(),
        },
    }
}
