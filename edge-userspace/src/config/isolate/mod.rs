//! Third-party code as the file describes it: what the node holds for it, and per zone its worker,
//! its limits, whom it may ask, and which requests it gets. Secrets are read here, so that one that
//! is missing is a mistake of the file and not a failure of a request.

pub mod cron;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use self::cron::Cron;
use super::checker::Checker;
use super::kind::{self, Bytes, Count, File, Inline, Limit, List, Maybe, Memory, Must, Span, Text, Word, words};
use super::section::section;
use super::value::{HostPattern, OriginAddress, Size, Time, seconds};
use super::{OriginServer, Place, Upstream};
use crate::base::{file, ledger};

/// Bytes of linear memory that any instance can be given: the pool's slots are this large.
pub const MEMORY_MOST: u64 = 256 << 20;
/// Elements that any instance's table can be given.
pub const TABLE_MOST: usize = 100_000;
/// Bytes of one secret's file.
const SECRET_BYTES: u64 = 64 << 10;
/// `[isolate] memory` is no less: one instance with the default `memory`, beside others.
const LEAST_MEMORY: Size = Size(64 << 20);
/// Schedules of one zone.
const SCHEDULES: usize = 16;
/// Routes, zones, origins, settings and secrets of one zone, each.
const LIST: usize = 256;

const fn millis(n: u64) -> Time {
    Time(Duration::from_millis(n))
}

section! {
    /// What all workers of a node share.
    NodeText => Node {
        /// Deployed workers and their compiled code, the node's key that guards it (worker.key,
        /// made at the first start), and what workers store.
        fixed state_directory: kind::Directory = PathBuf::from("/var/lib/edge/workers");
        /// Instances at once, of all zones. Address space for them is reserved at the start (about
        /// 4 GiB each), memory is not.
        fixed instances: Count<u32> = 1_000, 16 => 16_000;
        /// The longest worker that can be deployed.
        fixed worker_bytes: Bytes = Size(32 << 20), Size(1 << 10) => Size(256 << 20);
        /// Processor time that compiling one worker may take, in a process of its own.
        fixed compile_time: Span = seconds(60), seconds(1) => seconds(600);
        /// Address space that it may take.
        fixed compile_memory: Bytes = Size(4 << 30), Size(256 << 20) => Size(64 << 30);
        /// Memory that all instances may hold at once, what the host keeps for them included; part
        /// of `limits.memory`. A zone gets more only while more is free than it holds. 0B: a
        /// quarter of the machine's. At least 64MiB.
        fixed memory: Bytes = Size(0);
        /// Versions kept of each zone's worker, for `edge worker rollback`.
        fixed versions: Count<usize> = 10, 2 => 1_000;
    }
    checked {
        /// Where the state directory is named.
        place: Place,
    }
}

/// `[isolate]`.
pub(super) fn node(raw: &NodeText, checker: &mut Checker<'_>) -> Node {
    let mut node = raw.check(checker);
    node.place = checker.place(raw.state_directory.span());
    node.memory = match node.memory {
        0 => ledger::of_machine().map_or(u64::MAX, |bytes| bytes / 4),
        bytes => bytes,
    };
    let (what, default) = ("too little for an instance", "a quarter of the machine's");
    checker.enough(&raw.memory, LEAST_MEMORY, what, default);
    node
}

section! {
    /// What a worker may use. Bytes and counts are at least 1.
    WorkerText => Limits {
        /// Requests that one instance answers, one after the other; 1: each gets a fresh one, and
        /// cannot meet what others left.
        live reuse: Count<u32> = 1, 1 => 1_000_000;
        /// Linear memory of one instance.
        live memory: Memory = Size(64 << 20), Size(1 << 16) => Size(MEMORY_MOST);
        /// Elements of all its tables.
        live table_elements: Count<usize> = 40_000, 1 => TABLE_MOST;
        /// Processor time of one request.
        live cpu: Span = millis(50), millis(2) => seconds(300);
        /// Time of one request in all, from its head to the end of the guest.
        live wall: Span = seconds(30), millis(10) => seconds(3_600);
        /// Requests at once.
        live concurrency: Count<usize> = 100, 1 => 16_000;
        /// Further requests at once, for those that another zone's worker made, so that nesting
        /// cannot starve itself.
        live nested: Count<usize> = 50, 0 => 16_000;
        /// Requests that one request may make in all, those that are made on its behalf included.
        live subrequests: Count<u32> = 50, 0 => 10_000;
        /// Content of a response; 0B: no limit.
        live response_bytes: Limit = Size(0);
        /// Bytes that one request may log.
        live log_bytes: Memory = Size(64 << 10), Size(0) => Size(16 << 20);
        /// Lines a second that the zone may log.
        live log_rate: Count<u32> = 200, 0 => 100_000;
    }
    read {
        /// The worker itself; left out: what `edge worker deploy` was given.
        live file: Maybe<File> = None; like "shop.wasm";
        /// Whom it may ask besides its own origin: zones of this node by name, in the process and
        /// without their gates.
        live zones: List<Text> = Vec::new(); like ["api"];
        /// And servers elsewhere. A private address is only ever connected to if it is written as
        /// one, or with `private = true`. They are told nothing of the visitor but what the worker
        /// writes; with `forwarded = true` they get Forwarded, X-Forwarded-*, X-Request-Id and Via,
        /// as an origin.
        live origins: Inline<Vec<Spanned<Elsewhere>>> = Vec::new();
            like [{ address = "https://api.example.com" }, { address = "http://db.internal:8080", private = true, ca = "ca.pem" }];
        /// What wasi:config gives it: settings.
        live settings: Inline<BTreeMap<String, Spanned<String>>> = BTreeMap::new(); like { greeting = "hello" };
        /// And secrets, each the text of a file.
        live secrets: Inline<BTreeMap<String, Spanned<PathBuf>>> = BTreeMap::new(); like { api_key = "api.key" };
        /// When it runs by itself (a script's `scheduled`), as crontab(5) has it, in UTC.
        live schedule: List<Text> = Vec::new(); like ["*/5 * * * *"];
        /// A directory of files that are served before the worker is asked, as a route to files
        /// serves them; GET and HEAD of paths in their normal form. What is not there is the
        /// worker's. A script reads them as `env.ASSETS`, too.
        live assets: Maybe<File> = None; like "dist";
        /// Paths of which the worker is asked first, whatever `assets` has: prefixes, or globs.
        live worker_first: List<kind::Path> = Vec::new(); like ["/api/"];
        /// One of the zone's hosts with `*`, and so in its certificate: versions that were deployed
        /// with `--preview` answer under a host of their own there.
        live previews: Maybe<kind::Host> = None; like "*.preview.example.com";
    }
    tables {
        keyvalue: Option<KeyvalueText>,
    }
}

section! {
    /// What a worker may store.
    KeyvalueText => Keyvalue {
        /// Bytes of all keys and values.
        live bytes: Bytes = Size(16 << 20), Size(1 << 10) => Size(1 << 40);
        /// Keys.
        live keys: Count<u64> = 100_000, 1 => 1 << 32;
        /// Bytes of one value.
        live value_bytes: Memory = Size(1 << 20), Size(1) => Size(64 << 20);
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
    pub schedule: Vec<Cron>,
    /// What it may store; `None`: nothing.
    pub keyvalue: Option<Keyvalue>,
    /// Files that are served before it is asked; `None`: none are.
    pub assets: Option<PathBuf>,
    /// Prefixes and globs of paths of which it is asked first all the same.
    pub worker_first: Vec<String>,
    /// What follows the label of a version in its preview's host; `None`: there are no previews.
    pub previews: Option<String>,
}

/// A secret's text. Erased when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<Zeroizing<String>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A server elsewhere that a worker may ask.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Elsewhere {
    address: OriginAddress,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    forwarded: bool,
    #[serde(default)]
    ca: Option<Spanned<PathBuf>>,
}

/// `[zone.worker]` of this zone.
pub(super) fn worker(
    raw: &WorkerText,
    (zone, hosts): (&Arc<str>, &[HostPattern]),
    checker: &mut Checker<'_>,
) -> Worker {
    let (settings, secrets) = (raw.settings.get_ref(), raw.secrets.get_ref());
    for (list, length, span) in [
        ("zones", raw.zones.get_ref().len(), raw.zones.span()),
        ("origins", raw.origins.get_ref().len(), raw.origins.span()),
        ("settings", settings.len(), raw.settings.span()),
        ("secrets", secrets.len(), raw.secrets.span()),
        ("paths", raw.worker_first.get_ref().len(), raw.worker_first.span()),
    ] {
        if length > LIST {
            checker.mistake(span, format!("{length} {list}"), format!("write at most {LIST}"));
        }
    }
    for name in settings.keys() {
        if let Some(secret) = secrets.get(name) {
            let what = format!("\"{name}\" is a setting and a secret");
            checker.mistake(secret.span(), what, "give them names of their own");
        }
    }
    let origins = raw.origins.get_ref().iter();
    let read = secrets
        .iter()
        .filter_map(|(name, file)| Some((name.clone(), secret(file, zone, checker)?)));
    let secrets = read.collect();
    Worker {
        file: <Maybe<File> as kind::Kind>::check(&raw.file, None, checker),
        limits: raw.check(checker),
        zones: raw
            .zones
            .get_ref()
            .iter()
            .map(|zone| zone.get_ref().as_str().into())
            .collect(),
        origins: origins.map(|origin| elsewhere(origin, checker)).collect(),
        settings: settings
            .iter()
            .map(|(name, value)| (name.clone(), value.get_ref().clone()))
            .collect(),
        secrets,
        schedule: schedule(raw.schedule.get_ref(), checker),
        keyvalue: raw.keyvalue.as_ref().map(|keyvalue| keyvalue.check(checker)),
        assets: assets(raw, zone, checker),
        worker_first: <List<kind::Path> as kind::Kind>::check(&raw.worker_first, None, checker),
        previews: previews(raw, hosts, checker),
    }
}

/// What follows the labels of previews.
fn previews(raw: &WorkerText, hosts: &[HostPattern], checker: &mut Checker<'_>) -> Option<String> {
    let host = <Maybe<kind::Host> as kind::Kind>::check(&raw.previews, None, checker)?;
    match host {
        HostPattern::Wildcard(suffix) if hosts.contains(&HostPattern::Wildcard(suffix.clone())) => Some(suffix),
        _ => {
            let what = "`previews` is not one of the zone's hosts with `*`";
            let mend = "write one such as \"*.preview.example.com\", and among `hosts`, too";
            checker.mistake(raw.previews.span(), what, mend);
            None
        }
    }
}

/// The directory of the worker's files, if it has one.
fn assets(raw: &WorkerText, zone: &Arc<str>, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let Some((path, place)) = <Maybe<File> as kind::Kind>::check(&raw.assets, None, checker) else {
        if !raw.worker_first.get_ref().is_empty() {
            let what = "`worker_first` without `assets`: the worker is asked first anyway";
            checker.mistake(raw.worker_first.span(), what, "write assets = \"dist\", or remove it");
        }
        return None;
    };
    directory(&path, &place, zone, checker);
    Some(path)
}

/// Says so if `path` cannot be what files are read from.
fn directory(path: &Path, place: &Place, zone: &Arc<str>, checker: &mut Checker<'_>) {
    if !path.is_dir() {
        let what = format!("{} is not a directory", path.display());
        checker
            .faults
            .zone(zone, place.mistake(what, "make it, or name another"));
    }
}

fn schedule(raw: &[Spanned<String>], checker: &mut Checker<'_>) -> Vec<Cron> {
    if let Some(over) = raw.get(SCHEDULES) {
        checker.mistake(over.span(), "too many schedules", format!("write at most {SCHEDULES}"));
    }
    let mut schedule = Vec::new();
    for written in raw {
        match Cron::read(written.get_ref()) {
            Ok(cron) => schedule.push(cron),
            Err(what) => checker.mistake(written.span(), what, "write one like \"*/5 * * * *\""),
        }
    }
    schedule
}

/// A server elsewhere, asked as an origin is, but never at a private address that was not named: a
/// name that its owner points into this network would make the worker a way in.
fn elsewhere(spanned: &Spanned<Elsewhere>, checker: &mut Checker<'_>) -> Arc<Upstream> {
    let raw = spanned.get_ref();
    if raw.address.socket.is_some() {
        let what = "a worker cannot name a socket: it asks for URLs";
        checker.mistake(spanned.span(), what, "write http://HOST:PORT or https://HOST:PORT");
    }
    let literal = raw.address.host.parse::<IpAddr>().is_ok();
    Arc::new(Upstream {
        servers: vec![OriginServer {
            address: raw.address.clone(),
            weight: 1,
            priority: 0,
            srv: false,
        }],
        preserve_host: false,
        ca: raw.ca.as_ref().map(|ca| checker.file(ca)),
        idle_connections: 16,
        connections: 256,
        retries: 0,
        retry_status: Vec::new(),
        retry_budget: 0,
        public_only: !raw.private && !literal,
        names_visitor: raw.forwarded,
        ..Upstream::default()
    })
}

fn secret(file: &Spanned<PathBuf>, zone: &Arc<str>, checker: &mut Checker<'_>) -> Option<Secret> {
    let (path, place) = checker.file(file);
    match read_secret(&path) {
        Ok(secret) => Some(secret),
        Err(what) => {
            let mend = "write the secret, as UTF-8 text, into a file that edge can read";
            checker
                .faults
                .zone(zone, place.mistake(format!("{} {what}", path.display()), mend));
            None
        }
    }
}

/// The text of a secret's file; one line break at its end is the editor's, not the secret's.
fn read_secret(path: &Path) -> Result<Secret, String> {
    let mut text = file::text(path, SECRET_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => format!("is longer than {SECRET_BYTES} bytes"),
        _ => format!("cannot be read: {error}"),
    })?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(Secret(Arc::new(text)))
}

section! {
    /// A route as it is written.
    RouteText => RouteKeys {
        /// A prefix, or a glob: "/*/export", "*.php".
        live path: Must<kind::Path> = None; like "/static/";
        /// Where to: worker, origin, files.
        live to: Must<Word<Destination>> = None; like "files";
        /// With files, their directory. The path is kept: /static/a.css is www/static/a.css.
        live directory: Maybe<File> = None; like "www";
    }
}

words! {
    /// The word for where a route leads.
    #[derive(Default)]
    Destination {
        /// The zone's worker.
        Worker = "worker",
        /// The zone's origin.
        #[default]
        Origin = "origin",
        /// Files below a directory.
        Files = "files",
    }
}

impl kind::Blank for Destination {
    fn blank() -> Self {
        Self::default()
    }
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

/// `[[zone.route]]`s of a zone that has a worker and an origin or not. A zone without routes gives
/// all requests to its worker, if it has one.
pub(super) fn routes(
    raw: &[Spanned<RouteText>],
    (worker, origin): (bool, bool),
    zone: &Arc<str>,
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    if let Some(over) = raw.get(LIST) {
        checker.mistake(over.span(), "too many routes", format!("write at most {LIST}"));
    }
    let mut routes: Vec<Route> = Vec::new();
    for spanned in raw {
        let (text, route) = (spanned.get_ref(), checker.table(spanned, RouteText::check));
        if routes.iter().any(|other| other.path == route.path) {
            let what = format!("\"{}\" has a route already", route.path);
            checker.mistake(text.path.span(), what, "the first that matches wins; remove one");
        }
        let to = match (route.to, route.directory) {
            (Destination::Files, Some((path, place))) => {
                directory(&path, &place, zone, checker);
                To::Files(path)
            }
            (Destination::Files, None) => {
                checker.mistake(text.to.span(), "files without `directory`", "write directory = \"www\"");
                continue;
            }
            (_, Some((_, place))) => {
                let mistake = place.mistake("a `directory` that nothing is read from", "write to = \"files\"");
                checker.mistakes.push(mistake);
                continue;
            }
            (Destination::Worker, None) => {
                if !worker {
                    checker.mistake(text.to.span(), "the zone has no worker", "write [zone.worker]");
                }
                To::Worker
            }
            (Destination::Origin, None) => {
                if !origin {
                    checker.mistake(text.to.span(), "the zone has no origin", "write [zone.origin]");
                }
                To::Origin
            }
        };
        routes.push(Route { path: route.path, to });
    }
    if raw.is_empty() && worker {
        routes.push(Route {
            path: "/".to_owned(),
            to: To::Worker,
        });
    }
    routes
}
