//! `edge worker test`: a worker's own tests, each file in an isolate of its own on the daemon
//! itself, which listens on the loopback for as long as they run. Without root and a configuration;
//! what they store is gone afterwards.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;

use super::dev::{checker, kept, quoted, scratch, settings};
use super::print;
use super::source::Source;
use crate::isolate::js::modules;
use crate::isolate::js::sourcemap::{SourceMap, carried};
use crate::node::{self, LogFormat, Run};

/// The module "edge:test".
const RUNNER: &str = include_str!("test/runner.js");
/// What an isolate of tests runs first.
const MAIN: &str = "edge:main";
/// Files of tests that are looked for, and directories deep.
const FILES: usize = 1_000;
const DEPTH: usize = 16;
/// Bytes of what one file's tests say.
const SAID: u64 = 64 << 20;
/// How long the daemon may take to listen.
const START: Duration = Duration::from_secs(60);

/// Arguments of `edge worker test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The worker's directory, whose files *.test.js and *.test.ts are run, or one such file.
    #[arg(default_value = ".")]
    source: PathBuf,
    /// Run those tests alone whose name has this in it; names of groups come before, with " > ".
    #[arg(long, default_value = "")]
    filter: String,
    /// A server that stands for the zone's origin, like http://127.0.0.1:3000.
    #[arg(long)]
    origin: Option<String>,
    /// Servers elsewhere that the worker may ask; may be repeated.
    #[arg(long)]
    allow: Vec<String>,
    /// Processor time of one file's tests.
    #[arg(long, default_value = "10s")]
    cpu: String,
    /// Time of one file's tests.
    #[arg(long, default_value = "60s")]
    wall: String,
}

/// One thing that happened, as runner.js says it.
#[derive(Debug, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Event {
    Begun { name: String },
    Ok { name: String, ms: u64 },
    Failed { name: String, text: String },
    Skipped { name: String },
    Over,
}

/// A file of tests, ready to be run.
struct File {
    /// As it is told.
    name: String,
    worker: PathBuf,
    maps: HashMap<String, SourceMap>,
}

#[derive(Debug, Default)]
struct Total {
    ok: u64,
    failed: u64,
    skipped: u64,
}

impl Total {
    fn fail(&mut self, name: &str, why: &str) {
        self.failed = self.failed.saturating_add(1);
        let why: String = why.lines().map(|line| format!("    {line}\n")).collect();
        print(&format!("FAILED  {name}\n{why}"));
    }
}

/// Runs the tests, and says what became of each.
///
/// # Errors
/// A test failed, or none could be run.
pub(super) fn run(test: &Test) -> anyhow::Result<()> {
    let path = test
        .source
        .canonicalize()
        .with_context(|| format!("{} cannot be read", test.source.display()))?;
    let (directory, files) = if path.is_dir() {
        let mut files = Vec::new();
        collect(&path, DEPTH, &mut files);
        files.sort();
        (path, files)
    } else {
        (path.parent().unwrap_or(Path::new("/")).to_owned(), vec![path])
    };
    if files.is_empty() {
        bail!("{} has no *.test.js and no *.test.ts", directory.display());
    }
    let made = scratch()?;
    let mut total = Total::default();
    let compiled = kept()?.join("check");
    let ready = prepare(&directory, &files, made.path(), &compiled, &mut total)?;
    if !ready.is_empty() {
        let state = made.path().join("isolate");
        share(&compiled, &state)?;
        serve(test, &directory, &ready, made.path(), &mut total)?;
    }
    let skipped = match total.skipped {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    print(&format!("{} ok, {} failed{skipped}\n", total.ok, total.failed));
    match (total.failed, total.ok.saturating_add(total.skipped)) {
        (0, 0) => bail!("no test has \"{}\" in its name", test.filter),
        (0, _) => Ok(()),
        (failed, _) => bail!("{failed} failed"),
    }
}

/// Files of tests below a directory; hidden ones, node_modules and target are left out.
fn collect(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == "node_modules" || name == "target" || files.len() >= FILES {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => collect(&path, depth.saturating_sub(1), files),
            Ok(kind)
                if !kind.is_dir()
                    && [".test.js", ".test.ts", ".test.mjs", ".test.mts"]
                        .iter()
                        .any(|end| name.ends_with(end)) =>
            {
                files.push(path);
            }
            _ => {}
        }
    }
}

/// Makes and compiles what runs each file; one that cannot be loaded has failed.
fn prepare(
    directory: &Path,
    files: &[PathBuf],
    made: &Path,
    compiled: &Path,
    total: &mut Total,
) -> anyhow::Result<Vec<File>> {
    let isolates = checker(made, compiled)?;
    let mut ready = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let name = file
            .strip_prefix(directory)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned();
        let worker = made.join(format!("test-{number}.js"));
        let mut all = match Source::modules(file, directory, &worker) {
            Ok(all) => all,
            Err(error) => {
                total.fail(&name, &format!("{error:#}"));
                continue;
            }
        };
        let first = all.first().map(|(name, _)| name.clone()).unwrap_or_default();
        let main = format!(
            "import \"edge:test\";\nimport {};\nexport {{ default }} from \"edge:test\";\n",
            serde_json::to_string(&first)?
        );
        let maps = all
            .iter()
            .filter_map(|(name, text)| Some((name.clone(), SourceMap::parse(&carried(text)?)?)))
            .collect();
        all.insert(0, (MAIN.to_owned(), main));
        all.push(("edge:test".to_owned(), RUNNER.to_owned()));
        let script = modules::pack(&all);
        let file = File { name, worker, maps };
        if let Err(error) = isolates.check(script.as_bytes()) {
            total.fail(&file.name, &mapped(&error.to_string(), &file.maps));
            continue;
        }
        std::fs::write(&file.worker, script).with_context(|| format!("{} cannot be written", file.worker.display()))?;
        ready.push(file);
    }
    Ok(ready)
}

/// Lets the daemon have the engine that is compiled already, in a directory of its own.
fn share(compiled: &Path, state: &Path) -> anyhow::Result<()> {
    let copy = |from: &Path, to: &Path| {
        std::fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))
    };
    crate::base::directory::make(state).with_context(|| format!("{} cannot be made", state.display()))?;
    crate::base::directory::make(&state.join("code"))?;
    copy(&compiled.join("worker.key"), &state.join("worker.key"))?;
    for entry in std::fs::read_dir(compiled.join("code"))? {
        let entry = entry?;
        let to = state.join("code").join(entry.file_name());
        // Code is written once and never changed; another file system cannot share it.
        if std::fs::hard_link(entry.path(), &to).is_err() {
            copy(&entry.path(), &to)?;
        }
    }
    Ok(())
}

fn configuration(test: &Test, directory: &Path, files: &[File], made: &Path, port: u16) -> String {
    let place = |name: &str| quoted(&made.join(name).to_string_lossy());
    let mut text = format!(
        "[cache]\nmemory = \"32MiB\"\ndisk = \"0B\"\n[server]\nplain = [\"127.0.0.1:{port}\"]\nworkers = 1\ndrain = \"1s\"\n[admin]\nlisten = {}\n[gate]\nstate_directory = {}\n\
         [isolate]\nstate_directory = {}\ninstances = 64\n[log]\nlevel = \"error,edge::worker=debug\"\n",
        quoted(&format!("unix:{}", made.join("admin.sock").display())),
        place("gate"),
        place("isolate"),
    );
    let origins: Vec<String> = test
        .allow
        .iter()
        .map(|address| format!("{{ address = {}, private = true }}", quoted(address)))
        .collect();
    for (number, file) in files.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[zone]]\nname = \"test-{number}\"\nhosts = [\"test-{number}.localhost\"]\n"
        );
        match &test.origin {
            Some(origin) => {
                let _ = write!(text, "[zone.origin]\nservers = [{{ address = {} }}]\n", quoted(origin));
            }
            None => text += "[zone.cache]\n",
        }
        let _ = write!(
            text,
            "[zone.worker]\nfile = {}\ncpu = {}\nwall = {}\nlog_rate = 10000\nsubrequests = 1000\norigins = [{}]\n[zone.worker.settings]\n{}[zone.worker.keyvalue]\n",
            quoted(&file.worker.to_string_lossy()),
            quoted(&test.cpu),
            quoted(&test.wall),
            origins.join(", "),
            settings(directory),
        );
    }
    text
}

/// Runs the daemon, and asks it for each file's tests.
fn serve(test: &Test, directory: &Path, files: &[File], made: &Path, total: &mut Total) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of the loopback is free")?;
    let address = listener.local_addr()?;
    let config = made.join("edge.toml");
    std::fs::write(&config, configuration(test, directory, files, made, address.port()))?;
    // The daemon's from here on.
    drop(listener);
    let run = Run {
        config,
        interface: Vec::new(),
        xdp: None,
        no_xdp: true,
        text: None,
        log_format: Some(LogFormat::Human),
    };
    std::thread::scope(|scope| {
        let daemon = scope.spawn(|| node::run(&run));
        let mut asked = Ok(());
        let began = std::time::Instant::now();
        while TcpStream::connect(address).is_err() && !daemon.is_finished() && began.elapsed() < START {
            std::thread::sleep(Duration::from_millis(10));
        }
        for (number, file) in files.iter().enumerate() {
            if daemon.is_finished() {
                break;
            }
            asked = ask(address, number, file, &test.filter, total);
            if asked.is_err() {
                break;
            }
        }
        if !daemon.is_finished() {
            // Without a drain: nothing is under way that anybody waits for.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
        }
        match daemon.join() {
            Ok(done) => done.and(asked),
            Err(_) => bail!("the daemon broke off"),
        }
    })
}

/// Runs one file's tests.
fn ask(address: SocketAddr, number: usize, file: &File, filter: &str, total: &mut Total) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).context("the daemon does not listen")?;
    let filter: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    // HTTP/1.0, so that the response ends with the connection and has no chunks.
    write!(
        stream,
        "GET /?filter={filter} HTTP/1.0\r\nHost: test-{number}.localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream.take(SAID));
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut line = status.clone();
    while !line.trim_end().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let mut under_way = None;
    let mut over = false;
    for line in reader.lines() {
        // Broken off: what was under way is told below.
        let Ok(line) = line else { break };
        let full = |name: &str| format!("{} > {name}", file.name);
        match serde_json::from_str(&line) {
            Ok(Event::Begun { name }) => under_way = Some(name),
            Ok(Event::Ok { name, ms }) => {
                under_way = None;
                total.ok = total.ok.saturating_add(1);
                print(&format!("ok      {} ({ms} ms)\n", full(&name)));
            }
            Ok(Event::Failed { name, text }) => {
                under_way = None;
                total.fail(&full(&name), &mapped(&text, &file.maps));
            }
            Ok(Event::Skipped { name }) => {
                total.skipped = total.skipped.saturating_add(1);
                print(&format!("skipped {}\n", full(&name)));
            }
            Ok(Event::Over) => over = true,
            // An error's page.
            Err(_) => {}
        }
    }
    if !over {
        let why = "it ended the worker: cpu, wall or memory was used up, or nothing was left to wait for; the log has the reason, \
                   and what follows in this file was not run";
        match under_way {
            Some(name) => total.fail(&format!("{} > {name}", file.name), why),
            None => total.fail(
                &file.name,
                &format!("its tests could not be run: {}", status.trim_end()),
            ),
        }
    }
    Ok(())
}

/// A stack trace with the places of the author's own files, without those of the engine and of
/// runner.js.
fn mapped(text: &str, maps: &HashMap<String, SourceMap>) -> String {
    let mut tidy = String::new();
    for line in text.trim_end().lines() {
        if line.starts_with("    at ") {
            if line.contains("(<null>")
                || line.ends_with("(native)")
                || line.contains("edge:test:")
                || line.contains("edge:main:")
            {
                continue;
            }
            let of_file = maps.iter().find(|(name, _)| {
                [" ", "("]
                    .iter()
                    .any(|before| line.contains(&format!("{before}{name}:")))
            });
            if let Some((_, map)) = of_file {
                tidy.push_str(&map.frame(line));
                tidy.push('\n');
                continue;
            }
        }
        tidy.push_str(line);
        tidy.push('\n');
    }
    tidy
}
