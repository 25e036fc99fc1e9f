//! `edge worker`: deploys and watches third-party code on a running node, and begins new projects.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use zeroize::Zeroizing;

use super::{Asked, OnNode, dev, print, source, test};
use crate::admin::client;
use crate::base::clock::UnixTime;
use crate::isolate::compile;
use crate::isolate::deploy::{Deployed, Status};
use crate::isolate::kind::Kind;
use crate::isolate::log::{Level, Line};
use crate::isolate::project;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a file the worker of a zone: it is compiled, checked, and activated at once or not at
    /// all.
    Deploy {
        /// The zone's name.
        zone: String,
        /// A WebAssembly component, a script in JavaScript or TypeScript, or a directory with one.
        file: PathBuf,
        /// Give it to this percentage of the clients, always the same ones: 1 to 99. If it fails
        /// more often than the active version, all get that one again, by itself.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=99))]
        percent: Option<u8>,
        /// Give it to nobody but those who ask under a host of its own, below the zone's
        /// `previews`.
        #[arg(long, conflicts_with = "percent")]
        preview: bool,
    },
    /// Give the version on trial to another part of the clients.
    Rollout {
        /// The zone's name.
        zone: String,
        /// 0: nobody gets it any more; 100: all do, and it is the active one.
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
    },
    /// Show or change the secrets that a zone's worker was given, beside those of the
    /// configuration: in force with the next request.
    Secret {
        #[command(subcommand)]
        command: Secret,
    },
    /// List workers, their versions and figures.
    List {
        /// Of this zone alone.
        zone: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Activate an earlier version.
    Rollback {
        /// The zone's name.
        zone: String,
        /// Which; left out: the one before the active one.
        version: Option<u64>,
    },
    /// Show what a zone's worker said.
    Logs {
        /// The zone's name.
        zone: String,
        /// Go on until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Compile a worker as a deployment would, without a node, and say what is wrong with it.
    Check {
        /// A script, a component, or a directory with one.
        file: PathBuf,
    },
    /// Run a worker's own tests, without a node: those of its files *.test.js and *.test.ts.
    Test(test::Test),
    /// Write a project for a new worker.
    New {
        /// The directory, which must not be there yet; its name is the project's.
        directory: PathBuf,
        /// The language.
        #[arg(long, value_enum, default_value = "rust")]
        lang: Language,
        /// The engine of a project in JavaScript.
        #[arg(long, value_enum, default_value = "quickjs")]
        engine: Engine,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Secret {
    /// Give a secret, or another value for one: what is on standard input, or in a file.
    Put {
        /// The zone's name.
        zone: String,
        /// The secret's name.
        name: String,
        /// Read it from this file.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// List names. Values are not shown.
    List {
        /// The zone's name.
        zone: String,
    },
    /// Take a secret away.
    Delete {
        /// The zone's name.
        zone: String,
        /// The secret's name.
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Language {
    /// A component, by cargo.
    Rust,
    /// A script.
    Js,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// Edge's own, QuickJS-ng: one file, deployed as it is.
    Quickjs,
    /// StarlingMonkey, by componentize-js: all of the web platform, at a price.
    Componentize,
}

/// Arguments of `edge worker-compile`, which the daemon runs.
#[derive(Debug, Args)]
pub(super) struct Compile {
    #[arg(value_enum)]
    kind: KindArgument,
    seconds: u64,
    memory: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArgument {
    Component,
    Script,
}

/// Does what `edge worker-compile` is for.
pub(super) fn compile(arguments: &Compile) -> anyhow::Result<()> {
    let kind = match arguments.kind {
        KindArgument::Component => Kind::Component,
        KindArgument::Script => Kind::Script,
    };
    compile::child(kind, arguments.seconds, arguments.memory).map_err(|error| anyhow::anyhow!("{error}"))
}

/// Does what `edge worker` says.
pub(super) fn run(worker: &OnNode<Command>) -> anyhow::Result<()> {
    let asked = &worker.asked;
    match &worker.command {
        Command::Deploy {
            zone,
            file,
            percent,
            preview,
        } => deploy(asked, zone, file, *percent, *preview),
        Command::Rollout { zone, percent } => rollout(asked, zone, *percent),
        Command::Secret { command } => secret(asked, command),
        Command::Rollback { zone, version } => rollback(asked, zone, *version),
        Command::List { zone, json } => list(asked, zone.as_deref(), *json),
        Command::Logs { zone, follow, json } => logs(asked, zone, *follow, *json),
        Command::Check { file } => dev::check(file),
        Command::Test(test) => test::run(test),
        Command::New {
            directory,
            lang,
            engine,
        } => begin(directory, *lang, *engine),
    }
}

fn deploy(asked: &Asked, zone: &str, file: &Path, percent: Option<u8>, preview: bool) -> anyhow::Result<()> {
    let more = match (preview, percent) {
        (true, _) => "&preview=1".to_owned(),
        (false, Some(percent)) => format!("&percent={percent}"),
        (false, None) => String::new(),
    };
    let made = dev::scratch()?;
    let worker = source::deployable(file, made.path())?;
    let bytes = std::fs::read(&worker).with_context(|| format!("{} cannot be read", worker.display()))?;
    let deployed = change(asked, &path("/worker/deploy", zone, &more)?, bytes.into())?;
    let version = &deployed.version;
    let compiled = match version.compile_ms {
        0 => "compiled before".to_owned(),
        ms => format!("compiled in {ms} ms"),
    };
    let state = match (&deployed.preview, deployed.percent) {
        (Some(host), _) => format!("at https://{host}/"),
        (None, Some(percent)) => on_trial(percent),
        (None, None) => "active".to_owned(),
    };
    print(&format!("{zone}: version {} is {state}, {compiled}\n", version.number));
    Ok(())
}

fn rollout(asked: &Asked, zone: &str, percent: u8) -> anyhow::Result<()> {
    let path = path("/worker/rollout", zone, &format!("&percent={percent}"))?;
    let deployed = change(asked, &path, Bytes::new())?;
    let state = match percent {
        0 => "out".to_owned(),
        100 => "active".to_owned(),
        percent => on_trial(percent),
    };
    print(&format!("{zone}: version {} is {state}\n", deployed.version.number));
    Ok(())
}

fn rollback(asked: &Asked, zone: &str, version: Option<u64>) -> anyhow::Result<()> {
    let version = version.map(|n| format!("&version={n}")).unwrap_or_default();
    let deployed = change(asked, &path("/worker/rollback", zone, &version)?, Bytes::new())?;
    print(&format!("{zone}: version {} is active\n", deployed.version.number));
    Ok(())
}

fn list(asked: &Asked, zone: Option<&str>, json: bool) -> anyhow::Result<()> {
    let path = match zone {
        Some(zone) => path("/worker", zone, "")?,
        None => "/worker".to_owned(),
    };
    let text = ask(asked, Method::GET, &path, Bytes::new())?;
    if json {
        print(&text);
    } else {
        let list: Vec<Status> = serde_json::from_str(&text).context("the daemon's list cannot be read")?;
        print(&list.iter().map(table).collect::<String>());
    }
    Ok(())
}

fn logs(asked: &Asked, zone: &str, follow: bool, json: bool) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let path = path("/worker/logs", zone, &format!("&after={after}"))?;
        let text = ask(asked, Method::GET, &path, Bytes::new())?;
        let lines: Vec<Line> = serde_json::from_str(&text).context("the daemon's lines cannot be read")?;
        for line in &lines {
            after = after.max(line.number);
            print(&if json {
                serde_json::to_string(line)? + "\n"
            } else {
                human(line)
            });
        }
        if !follow {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Writes a new project, and says what comes next.
fn begin(directory: &Path, lang: Language, engine: Engine) -> anyhow::Result<()> {
    let language = match (lang, engine) {
        (Language::Rust, Engine::Quickjs) => project::Language::Rust,
        (Language::Rust, Engine::Componentize) => {
            bail!("--engine is for projects in JavaScript: add --lang js")
        }
        (Language::Js, Engine::Quickjs) => project::Language::Js,
        (Language::Js, Engine::Componentize) => project::Language::Componentize,
    };
    project::write(directory, language)?;
    let next = project::next(directory, language);
    print(&format!("{}\n{next}", directory.display()));
    Ok(())
}

/// Gives an order about versions; what came of it.
fn change(asked: &Asked, path: &str, body: Bytes) -> anyhow::Result<Deployed> {
    let text = ask(asked, Method::POST, path, body)?;
    serde_json::from_str(&text).context("the daemon's answer cannot be read")
}

fn on_trial(percent: u8) -> String {
    format!("on trial for {percent} percent of the clients")
}

/// Does what `edge worker secret` says.
fn secret(asked: &Asked, command: &Secret) -> anyhow::Result<()> {
    let name_of = |name: &str| format!("&name={}", data_encoding::HEXLOWER.encode(name.as_bytes()));
    match command {
        Secret::Put { zone, name, file } => {
            let mut value = Zeroizing::new(Vec::new());
            match file {
                Some(file) => {
                    *value = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
                }
                None => drop(std::io::stdin().lock().read_to_end(&mut value)?),
            }
            // The line's end is the editor's or the shell's.
            for end in [b"\n", b"\r"] {
                if value.ends_with(end) {
                    value.pop();
                }
            }
            let path = path("/worker/secret", zone, &name_of(name))?;
            ask(asked, Method::POST, &path, Bytes::copy_from_slice(&value))?;
        }
        Secret::List { zone } => {
            let text = ask(asked, Method::GET, &path("/worker/secret", zone, "")?, Bytes::new())?;
            let names: Vec<String> = serde_json::from_str(&text).context("the daemon's answer cannot be read")?;
            print(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
        }
        Secret::Delete { zone, name } => {
            let path = path("/worker/secret/delete", zone, &name_of(name))?;
            ask(asked, Method::POST, &path, Bytes::new())?;
        }
    }
    Ok(())
}

pub(super) fn ask(asked: &Asked, method: Method, path: &str, body: Bytes) -> anyhow::Result<String> {
    Ok(client::send(
        &asked.admin,
        method,
        path,
        body,
        Duration::from_secs(300),
    )?)
}

/// Zones' names need no escape in a query; what does is no zone's name.
pub(super) fn path(path: &str, zone: &str, more: &str) -> anyhow::Result<String> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if zone.is_empty() || !zone.bytes().all(sound) {
        bail!("\"{zone}\" is no zone name");
    }
    Ok(format!("{path}?zone={zone}{more}"))
}

fn table(status: &Status) -> String {
    let figures = &status.figures;
    let mut text = format!(
        "{}\t{}\t{} requests, {} under way, {} failed, {} us CPU and {} us in all each, at most {} KiB\n",
        status.zone,
        match status.active {
            Some(0) => "file".to_owned(),
            Some(version) => format!("version {version}"),
            None => "nothing deployed".to_owned(),
        },
        figures.requests,
        figures.active,
        figures.failures.values().sum::<u64>(),
        figures.cpu_us_mean,
        figures.wall_us_mean,
        figures.memory_peak_bytes / 1024,
    );
    if let Some(trial) = &status.rollout {
        text += &format!(
            "\tversion {} is on trial for {} percent of the clients: {} of its {} requests failed\n",
            trial.version, trial.percent, trial.failures, trial.requests
        );
    }
    if let Some(returned) = &status.returned {
        text += &format!(
            "\tversion {} was taken back: {} of its {} requests failed\n",
            returned.version, returned.failures, returned.requests
        );
    }
    for (reason, count) in &figures.failures {
        text += &format!("\t\t{count} ended by {reason}\n");
    }
    for version in status.versions.iter().rev() {
        let mark = if Some(version.number) == status.active {
            '*'
        } else {
            ' '
        };
        let digest = version.digest.get(..12).unwrap_or_default();
        let at = httpdate::fmt_http_date(UnixTime::from_millis(version.at).into());
        text += &format!("\t{mark}{}\t{digest}\t{} bytes\t{at}\n", version.number, version.bytes);
    }
    text
}

fn human(line: &Line) -> String {
    let level = match line.level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let at = httpdate::fmt_http_date(UnixTime::from_millis(line.at).into());
    format!("{at}\t{}\t{level}\t{}\n", line.id, line.text)
}
