//! From the raw form of `[isolate]`, `[zone.worker]` and `[[zone.route]]` to the checked one. Secrets are read here, so that
//! one that is missing is a mistake of the file and not a failure of a request.

use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use zeroize::Zeroizing;

use super::cron::Cron;
use super::{Keyvalue, Limits, Node, Route, Secret, To, Worker, raw};
use crate::base::ledger;
use crate::config::checker::Checker;
use crate::config::mistake::{Mistake, Source};
use crate::config::value::Size;
use crate::config::{Balance, OriginHttp, OriginServer, Upstream};

/// `[isolate] memory` is no less, bytes: one instance with the default `memory`, beside others.
const LEAST_MEMORY: u64 = 64 << 20;
/// Bytes of one secret's file.
const SECRET_BYTES: u64 = 64 << 10;
/// Schedules of one zone.
const SCHEDULES: usize = 16;
/// Settings and secrets of one zone, each.
const SETTINGS: usize = 256;
/// Routes, zones and origins of one zone, each.
const LIST: usize = 256;

/// What is wrong.
#[derive(Default)]
pub(in crate::config) struct Found {
    /// With what the file says.
    pub(in crate::config) mistakes: Vec<Mistake>,
    /// With the files and directories that it names.
    pub(in crate::config) faults: Vec<Mistake>,
}

/// `[isolate]`, and what is wrong with it.
pub(in crate::config) fn node(raw: &raw::Node, source: &Source<'_>) -> (Node, Vec<Mistake>) {
    let mut checker = Checker::new(source);
    let node = Node {
        place: source.place(raw.state_directory.span()),
        state_directory: source.path(&raw.state_directory),
        instances: checker.number(&raw.instances, 16, 16_000),
        memory: checker.guests_memory(&raw.memory),
        worker_bytes: checker.size(&raw.worker_bytes, 1 << 10, 256 << 20),
        compile_time: checker.time(&raw.compile_time, Duration::from_secs(1), Duration::from_secs(600)),
        compile_memory: checker.size(&raw.compile_memory, 256 << 20, 64 << 30),
        versions: checker.number(&raw.versions, 2, 1_000),
    };
    (node, checker.mistakes)
}

/// `[zone.worker]`, and what is wrong with it.
pub(in crate::config) fn worker(raw: &raw::Worker, source: &Source<'_>) -> (Worker, Found) {
    let mut checker = Checker::new(source);
    let worker = checker.worker(raw);
    (worker, checker.found())
}

/// `[[zone.route]]`s of a zone that has a worker and an origin or not, and what is wrong with them. A zone without routes
/// gives all requests to its worker, where it has one.
pub(in crate::config) fn routes(
    raw: &[Spanned<raw::Route>],
    worker: bool,
    origin: bool,
    source: &Source<'_>,
) -> (Vec<Route>, Found) {
    let mut checker = Checker::new(source);
    let mut routes: Vec<Route> = Vec::new();
    if let Some(over) = raw.get(LIST) {
        checker.mistake(over.span(), "too many routes", format!("write at most {LIST}"));
    }
    for spanned in raw {
        let route = spanned.get_ref();
        let path = route.path.get_ref();
        if !path.starts_with(['/', '*']) {
            let mend = "write a prefix like \"/api/\" or a glob like \"*.php\"";
            checker.mistake(route.path.span(), format!("\"{path}\" is no path"), mend);
        }
        if routes.iter().any(|r| r.path == *path) {
            let what = format!("\"{path}\" has a route already");
            checker.mistake(route.path.span(), what, "the first that matches wins; remove one");
        }
        let to = match (route.to.get_ref(), &route.directory) {
            (raw::To::Files, Some(directory)) => {
                let path = source.path(directory);
                if !path.is_dir() {
                    let what = format!("{} is not a directory", path.display());
                    checker.fault(directory.span(), what, "make it, or name another");
                }
                To::Files(path)
            }
            (raw::To::Files, None) => {
                checker.mistake(
                    route.to.span(),
                    "files without `directory`",
                    "write directory = \"www\"",
                );
                continue;
            }
            (_, Some(directory)) => {
                checker.mistake(
                    directory.span(),
                    "a `directory` that nothing is read from",
                    "write to = \"files\"",
                );
                continue;
            }
            (raw::To::Worker, None) => {
                if !worker {
                    checker.mistake(route.to.span(), "the zone has no worker", "write [zone.worker]");
                }
                To::Worker
            }
            (raw::To::Origin, None) => {
                if !origin {
                    checker.mistake(route.to.span(), "the zone has no origin", "write [zone.origin]");
                }
                To::Origin
            }
        };
        routes.push(Route { path: path.clone(), to });
    }
    if raw.is_empty() && worker {
        routes.push(Route {
            path: "/".to_owned(),
            to: To::Worker,
        });
    }
    (routes, checker.found())
}

impl Checker<'_> {
    /// A fault of a file that the zone names: told by who takes the mistakes.
    fn fault(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        let mistake = self.place(span).mistake(what, mend);
        self.of_files.push(mistake);
    }

    fn found(self) -> Found {
        Found {
            mistakes: self.mistakes,
            faults: self.of_files,
        }
    }

    /// `[isolate] memory`; 0 is a quarter of the machine's.
    fn guests_memory(&mut self, value: &Spanned<Size>) -> u64 {
        match value.get_ref().0 {
            0 => ledger::of_machine().map_or(u64::MAX, |bytes| bytes / 4),
            _ => self.size(value, LEAST_MEMORY, u64::MAX),
        }
    }

    fn worker(&mut self, raw: &raw::Worker) -> Worker {
        for (list, length) in [
            ("zones", raw.zones.len()),
            ("origins", raw.origins.len()),
            ("settings", raw.settings.len()),
            ("secrets", raw.secrets.len()),
        ] {
            let most = if list.starts_with('s') { SETTINGS } else { LIST };
            if length > most {
                self.mistake(
                    raw.reuse.span(),
                    format!("{length} {list}"),
                    format!("write at most {most}"),
                );
            }
        }
        for name in raw.settings.keys() {
            if let Some(secret) = raw.secrets.get(name) {
                let what = format!("\"{name}\" is a setting and a secret");
                self.mistake(secret.span(), what, "give them names of their own");
            }
        }
        Worker {
            file: raw
                .file
                .as_ref()
                .map(|file| (self.source.path(file), self.source.place(file.span()))),
            limits: self.worker_limits(raw),
            zones: raw.zones.iter().map(|zone| zone.get_ref().as_str().into()).collect(),
            origins: raw
                .origins
                .iter()
                .map(|origin| self.elsewhere(origin.get_ref()))
                .collect(),
            settings: raw
                .settings
                .iter()
                .map(|(name, value)| (name.clone(), value.get_ref().clone()))
                .collect(),
            secrets: raw
                .secrets
                .iter()
                .filter_map(|(name, file)| Some((name.clone(), self.secret(file)?)))
                .collect(),
            schedule: self.schedule(&raw.schedule),
            keyvalue: raw.keyvalue.as_ref().map(|keyvalue| Keyvalue {
                bytes: self.size(&keyvalue.bytes, 1 << 10, 1 << 40),
                keys: self.number(&keyvalue.keys, 1, 1 << 32),
                value_bytes: self.bytes(&keyvalue.value_bytes, 1, 64 << 20),
            }),
        }
    }

    fn schedule(&mut self, raw: &[Spanned<String>]) -> Vec<Cron> {
        if let Some(over) = raw.get(SCHEDULES) {
            self.mistake(over.span(), "too many schedules", format!("write at most {SCHEDULES}"));
        }
        let mut schedule = Vec::new();
        for written in raw {
            match Cron::read(written.get_ref()) {
                Ok(cron) => schedule.push(cron),
                Err(what) => self.mistake(written.span(), what, "write one like \"*/5 * * * *\""),
            }
        }
        schedule
    }

    fn worker_limits(&mut self, raw: &raw::Worker) -> Limits {
        let millis = Duration::from_millis;
        Limits {
            reuse: self.number(&raw.reuse, 1, 1_000_000),
            memory: self.bytes(&raw.memory, 1 << 16, super::MEMORY_MOST),
            table_elements: self.number(&raw.table_elements, 1, super::TABLE_MOST),
            cpu: self.time(&raw.cpu, millis(2), Duration::from_secs(300)),
            wall: self.time(&raw.wall, millis(10), Duration::from_secs(3_600)),
            concurrency: self.number(&raw.concurrency, 1, 16_000),
            nested: self.number(&raw.nested, 0, 16_000),
            subrequests: self.number(&raw.subrequests, 0, 10_000),
            response_bytes: (raw.response_bytes.0 > 0).then_some(raw.response_bytes.0),
            log_bytes: self.bytes(&raw.log_bytes, 0, 16 << 20),
            log_rate: self.number(&raw.log_rate, 0, 100_000),
        }
    }

    /// A server elsewhere, asked as an origin is, but never at a private address that was not named: a name that its
    /// owner points into this network would make the worker a way in.
    fn elsewhere(&mut self, raw: &raw::Elsewhere) -> Arc<Upstream> {
        let literal = raw.address.host.parse::<IpAddr>().is_ok();
        Arc::new(Upstream {
            servers: vec![OriginServer {
                address: raw.address.clone(),
                weight: 1,
            }],
            balance: Balance::RoundRobin,
            http: OriginHttp::V1,
            preserve_host: false,
            server_name: None,
            ca: raw
                .ca
                .as_ref()
                .map(|ca| (self.source.path(ca), self.source.place(ca.span()))),
            identity: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            idle_connections: 16,
            connections: 256,
            connection_age: Some(Duration::from_secs(3_600)),
            connection_requests: Some(10_000),
            retries: 0,
            retry_status: Vec::new(),
            retry_budget: 0,
            upgrades: true,
            passive: None,
            passive_status: Vec::new(),
            health: None,
            public_only: !raw.private && !literal,
            names_visitor: raw.forwarded,
        })
    }

    fn secret(&mut self, file: &Spanned<std::path::PathBuf>) -> Option<Secret> {
        let path = self.source.path(file);
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(what) => {
                let what = format!("{} {what}", path.display());
                self.fault(
                    file.span(),
                    what,
                    "write the secret, as UTF-8 text, into a file that edge can read",
                );
                None
            }
        }
    }
}

/// The text of a secret's file; one line break at its end is the editor's, not the secret's.
fn read_secret(path: &Path) -> Result<Secret, String> {
    let length = std::fs::metadata(path)
        .map_err(|e| format!("cannot be read: {e}"))?
        .len();
    if length > SECRET_BYTES {
        return Err(format!("is longer than {SECRET_BYTES} bytes"));
    }
    let mut text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {}", e.kind()))?);
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(Secret(Arc::new(text)))
}
