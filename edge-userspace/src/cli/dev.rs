//! `edge dev` and `edge worker check`: a worker tried on its author's machine, without root,
//! certificates and a configuration. `dev` is the daemon itself on a plain listener of the
//! loopback, with a configuration written for it; a change of the sources is a reload.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use clap::Args;

use super::print;
use super::source::Source;
use crate::base::ledger::Ledger;
use crate::config::Config;
use crate::isolate::isolates::Isolates;
use crate::isolate::kind::Kind;
use crate::isolate::metrics::Metrics;
use crate::node::{self, LogFormat, Run};
use crate::zones::Zones;

/// Between two looks at the sources.
const LOOK: Duration = Duration::from_millis(250);

/// Arguments of `edge dev`.
#[derive(Debug, Args)]
pub(super) struct Dev {
    /// The worker's directory, or its file.
    #[arg(default_value = ".")]
    source: PathBuf,
    /// The port of 127.0.0.1.
    #[arg(long, short, default_value_t = 8787)]
    port: u16,
    /// A server that stands for the zone's origin, like http://127.0.0.1:3000.
    #[arg(long)]
    origin: Option<String>,
    /// Servers elsewhere that the worker may ask; may be repeated.
    #[arg(long)]
    allow: Vec<String>,
    /// A directory of files that are served before the worker is asked.
    #[arg(long)]
    assets: Option<PathBuf>,
    /// With --assets: paths of which the worker is asked first; may be repeated.
    #[arg(long, requires = "assets")]
    worker_first: Vec<String>,
    /// Processor time of one request.
    #[arg(long, default_value = "50ms")]
    cpu: String,
}

/// Compiled engines are kept here, so that only the first start takes the seconds of compiling one.
pub(super) fn kept() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .filter(|base| base.is_absolute())
        .context("neither XDG_CACHE_HOME nor HOME says where to keep compiled code")?;
    let kept = base.join("edge");
    std::fs::create_dir_all(&kept).with_context(|| format!("{} cannot be made", kept.display()))?;
    Ok(kept)
}

/// A string of TOML.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Settings of the worker: lines `NAME=value` of a file `.dev.vars`, if there is one.
pub(super) fn settings(directory: &Path) -> String {
    let text = std::fs::read_to_string(directory.join(".dev.vars")).unwrap_or_default();
    let mut settings = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=') {
            let value = value.trim();
            let plain = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(value);
            // Writing to a String cannot fail.
            let _ = writeln!(settings, "{} = {}", quoted(name.trim()), quoted(plain));
        }
    }
    settings
}

fn configuration(dev: &Dev, source: &Source, made: &Path, kept: &Path) -> String {
    let place = |name: &str| quoted(&made.join(name).to_string_lossy());
    let origins: Vec<String> = dev
        .allow
        .iter()
        .map(|address| format!("{{ address = {}, private = true }}", quoted(address)))
        .collect();
    let mut text = format!(
        "[cache]\nmemory = \"32MiB\"\ndisk = \"0B\"\n[server]\nplain = [\"127.0.0.1:{}\"]\nworkers = 1\ndrain = \"1s\"\n[admin]\nlisten = {}\n[gate]\nstate_directory = {}\n\
         [isolate]\nstate_directory = {}\ninstances = 64\n[log]\nlevel = \"warn,edge::worker=debug,edge::http::access=info\"\n\
         [[zone]]\nname = \"dev\"\nhosts = [\"localhost\"]\ndefault = true\n",
        dev.port,
        quoted(&format!("unix:{}", made.join("admin.sock").display())),
        place("gate"),
        quoted(&kept.to_string_lossy()),
    );
    match &dev.origin {
        Some(origin) => {
            let _ = write!(text, "[zone.origin]\nservers = [{{ address = {} }}]\n", quoted(origin));
        }
        // For `caches`. What an origin answers is not stored while somebody works on it.
        None => text += "[zone.cache]\n",
    }
    let mut assets = String::new();
    if let Some(directory) = &dev.assets {
        let first: Vec<String> = dev.worker_first.iter().map(|path| quoted(path)).collect();
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        let _ = write!(
            assets,
            "assets = {}\nworker_first = [{}]\n",
            quoted(&directory.to_string_lossy()),
            first.join(", ")
        );
    }
    let _ = write!(
        text,
        "[zone.worker]\n{assets}file = {}\ncpu = {}\nlog_rate = 10000\norigins = [{}]\n[zone.worker.settings]\n{}[zone.worker.keyvalue]\n",
        quoted(&source.worker.to_string_lossy()),
        quoted(&dev.cpu),
        origins.join(", "),
        settings(&source.directory),
    );
    text
}

/// Serves until it is interrupted.
pub(super) fn run(dev: &Dev) -> anyhow::Result<()> {
    let made = scratch()?;
    let source = Source::of(&dev.source, made.path())?;
    source.build()?;
    let kept = kept()?.join(format!("dev-{}", dev.port));
    let file = made.path().join("edge.toml");
    let write = {
        let (file, made) = (file.clone(), made.path().to_owned());
        move |dev: &Dev, source: &Source| std::fs::write(&file, configuration(dev, source, &made, &kept))
    };
    write(dev, &source)?;
    print(&format!(
        "{} at http://localhost:{}/ (Ctrl-C ends it)\n",
        source.entry.display(),
        dev.port
    ));
    std::thread::scope(|scope| {
        let (ended, ends) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let mut seen = source.changed();
            // Ends when the other side is dropped.
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = ends.recv_timeout(LOOK) {
                let now = source.changed();
                if now == seen {
                    continue;
                }
                seen = now;
                let again = source.build().and_then(|()| Ok(write(dev, &source)?));
                match again {
                    // The daemon reloads when it is told so; what is wrong is said, and the old
                    // worker goes on.
                    Ok(()) => drop(rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::HUP,
                    )),
                    Err(error) => eprintln!("edge: {error:#}"),
                }
            }
        });
        let run = Run {
            config: file,
            interface: Vec::new(),
            xdp: None,
            no_xdp: true,
            text: None,
            log_format: Some(LogFormat::Human),
        };
        let done = node::run(&run);
        drop(ended);
        done
    })
}

/// A directory that goes with the process.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is the system's to clean up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes one.
///
/// # Errors
/// It cannot be made.
pub(super) fn scratch() -> anyhow::Result<Scratch> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("edge-dev-{}-{}", std::process::id(), crate::base::id::RequestId::next());
    let path = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(Scratch(path))
}

/// Compiles and links a worker as a deployment would, and says what is wrong with it.
pub(super) fn check(file: &Path) -> anyhow::Result<()> {
    let made = scratch()?;
    let source = Source::of(file, made.path())?;
    source.build()?;
    let bytes = std::fs::read(&source.worker).with_context(|| format!("{} cannot be read", source.worker.display()))?;
    let isolates = checker(made.path(), &kept()?.join("check"))?;
    let kind = match isolates.check(&bytes)? {
        Kind::Component => "a component",
        Kind::Script => "a script",
    };
    print(&format!("{}: {kind} of {} bytes, good\n", file.display(), bytes.len()));
    Ok(())
}

/// What compiles and links workers as a node does, with its compiled code in `kept`.
///
/// # Errors
/// The engine or the directory cannot be had.
pub(super) fn checker(made: &Path, kept: &Path) -> anyhow::Result<Arc<Isolates>> {
    let text = format!(
        "[server]\nplain = [\"127.0.0.1:1\"]\n[isolate]\nstate_directory = {}\ninstances = 16\n[[zone]]\nname = \"check\"\n\
         hosts = [\"localhost\"]\n[zone.worker]\n",
        quoted(&kept.to_string_lossy())
    );
    let config = Config::parse(&made.join("edge.toml"), &text)?;
    let zones = Arc::new(ArcSwap::from_pointee(Zones::default()));
    Ok(Isolates::new(
        &config.isolate,
        config.server.workers,
        zones,
        Metrics::default(),
        &Ledger::new(config.limits.memory, u64::MAX),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker's author would have to write a configuration first, or a value with a quote break
    /// the one that is written.
    #[test]
    fn the_configuration_is_sound_whatever_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("worker.js"), "export default {}").unwrap();
        std::fs::write(
            directory.path().join(".dev.vars"),
            "# mine\nA=1\nB = \"it's \\\"so\\\"\"\nnone\n",
        )
        .unwrap();
        let source = Source::of(directory.path(), directory.path()).unwrap();
        let dev = Dev {
            source: directory.path().to_owned(),
            port: 8787,
            origin: Some("http://127.0.0.1:3000".to_owned()),
            allow: vec!["https://api.example".to_owned()],
            assets: Some(directory.path().to_owned()),
            worker_first: vec!["/api/".to_owned()],
            cpu: "1s".to_owned(),
        };
        let text = configuration(&dev, &source, directory.path(), directory.path());
        let config = Config::parse(&directory.path().join("edge.toml"), &text).unwrap();
        let worker = config.zones[0].worker.as_ref().unwrap();
        assert_eq!(worker.settings[0], ("A".to_owned(), "1".to_owned()));
        assert_eq!(worker.settings[1].1, "it's \\\"so\\\"");
        assert_eq!(worker.limits.cpu, Duration::from_secs(1));
        assert!(worker.keyvalue.is_some() && worker.origins.len() == 1);
        assert_eq!(worker.assets.as_deref(), Some(directory.path()));
        assert_eq!(worker.worker_first, ["/api/"]);
    }
}
