//! `cargo xtask bench isolate`: zones' workers in the edge against workerd, which runs JavaScript
//! in V8 isolates, on this machine in one run.
//!
//! Both terminate TLS on the same core with the same certificate; h2load has another. What counts
//! is CPU time of the server's process per request. The edge's own JavaScript engine runs the same
//! script as workerd. [`plot`] draws the figures.

mod plot;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::pki::{Authority, Files};
use edge_testbed::process::{self, Process, free_address};
use serde_json::{Value, json};

use super::http::{cores, median};
use crate::workspace::{self, Profile};

/// The peer, from npm.
const WORKERD: &str = "workerd";
/// As `two.example` is called by `tests/workers/bench`.
const HOSTS: [&str; 5] = [
    "one.example",
    "two.example",
    "reused.example",
    "spin.example",
    "script.example",
];
/// Components that differ by one section, for what an idle zone costs.
const ZONES: usize = 5_000;

/// CPU per request and latency of zones' workers, against workerd.
///
/// Hello, a 10 KB JSON transform, and a request within a request; memory of many zones; a zone
/// beside one that spins. Writes target/bench/isolate.json and isolate.svg.
#[derive(clap::Args)]
pub(crate) struct BenchIsolate {
    /// Short windows and 50 zones instead of 5,000: a smoke test
    #[arg(long)]
    pub(super) quick: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    pub(super) no_build: bool,
    /// Take the unoptimised build: shows that the bench works, never how fast edge is
    #[arg(long)]
    pub(super) dev: bool,
    /// Another script for the edge's own JavaScript engine than the peer's; it must answer `/`,
    /// `/json` and `/sub` alike
    #[arg(long, value_name = "FILE")]
    pub(super) script: Option<PathBuf>,
}

/// What both engines of JavaScript run.
const WORKER: &str = include_str!("isolate/worker.js");

/// One server under load.
pub(super) struct Server {
    pub(super) process: Process,
    address: SocketAddr,
}

/// What one server was asked, and how fast.
#[derive(Clone, Copy)]
enum Load {
    /// Over so many connections, each as fast as its answers come.
    Closed(u32),
    /// So many requests a second in all, over [`CONNECTIONS`] that take turns.
    Paced(f64),
}

/// Connections of a comparison.
const CONNECTIONS: u32 = 8;
/// Latencies are compared at this share of what the slowest of the servers can do.
const PACE: f64 = 0.5;

/// One measured window.
struct Window {
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What the servers made of the same requests.
struct Compared {
    fresh: Window,
    reused: Window,
    script: Window,
    peer: Window,
    /// Requests a second at which latencies were measured.
    offered: f64,
}

impl Compared {
    fn each(&self, value: fn(&Window) -> f64) -> Value {
        json!({
            "rust_fresh": value(&self.fresh), "rust_reused": value(&self.reused),
            "js_fresh": value(&self.script), "workerd": value(&self.peer),
        })
    }
}

/// Where it runs, and by what.
pub(super) struct Bench<'a> {
    directory: PathBuf,
    leaf: Files,
    binary: PathBuf,
    script: PathBuf,
    options: &'a BenchIsolate,
    load_core: usize,
    server_core: usize,
}

/// Measures.
pub(crate) fn run(options: &BenchIsolate) -> Result<()> {
    let bench = Bench::prepare("isolate", options)?;
    fs::write(bench.directory.join("10k.json"), ten_kilobytes())?;
    let report = bench.report()?;
    let text = serde_json::to_string_pretty(&report)? + "\n";
    print!("{text}");
    let file = workspace::output("bench")?.join("isolate.json");
    fs::write(&file, text)?;
    let picture = file.with_extension("svg");
    fs::write(&picture, plot::svg(&report))?;
    println!("written to {} and {}", file.display(), picture.display());
    Ok(())
}

impl<'a> Bench<'a> {
    /// Builds what it needs, and makes its directory anew.
    pub(super) fn prepare(name: &str, options: &'a BenchIsolate) -> Result<Self> {
        let profile = if options.dev { Profile::Dev } else { Profile::Release };
        if !options.no_build {
            workspace::prepare(&[
                workspace::SETUP_BENCH,
                workspace::BUILD_EBPF,
                workspace::BUILD_JS,
                workspace::BUILD_WORKERS,
            ])?;
            workspace::build_binaries(profile)?;
        }
        let directory = workspace::output("bench")?.join(name);
        // What a run before deployed must not be taken for this one's.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let authority = Authority::new("Edge bench CA")?;
        let leaf = authority.write_leaf(&directory, "zones", &HOSTS)?;
        let (load_core, server_core) = cores()?;
        let script = match &options.script {
            Some(script) => script.clone(),
            None => directory.join("worker.js"),
        };
        fs::write(directory.join("worker.js"), WORKER)?;
        Ok(Self {
            leaf,
            script,
            binary: workspace::binary("edge", profile),
            options,
            load_core,
            server_core,
            directory,
        })
    }
}

impl Bench<'_> {
    fn report(&self) -> Result<Value> {
        let edge = self.edge("edge", &self.zones())?;
        let peer = self.workerd(1)?;
        let hello = self.compare(&edge, &peer, "/", None)?;
        let json10k = self.compare(&edge, &peer, "/json", Some("10k.json"))?;
        let sub = self.compare(&edge, &peer, "/sub", None)?;
        // One after the other on one connection: what a request takes, not how many there are.
        let few = self.count(5_000);
        let one_by_one = Load::Closed(1);
        // A difference of medians of a few hundred would be one of chance.
        let many = few.max(2_000);
        let mut added = Vec::new();
        for _ in 0..if self.options.quick { 3 } else { 5 } {
            let plain = self.measure(&edge, "one.example", "/", None, one_by_one, many)?;
            let nested = self.measure(&edge, "one.example", "/sub", None, one_by_one, many)?;
            let more = (nested.p50_ms - plain.p50_ms) * 1e3;
            println!("/sub one.example, one client: {more:.0} us more (p50)");
            added.push(more);
        }
        let spinner = self.beside_a_spinner(&edge, few)?;
        println!("/ one.example beside a spinner: p99 {:.2} ms", spinner.p99_ms);
        drop(edge);
        drop(peer);
        let in_process = self.in_process()?;
        let zones = self.many_zones()?;
        let memory = self.thirty_scripts()?;
        Ok(json!({
            "quick": self.options.quick,
            "dev": self.options.dev,
            "cpu_us_per_req": hello.each(|window| window.cpu_us),
            "p99_ms": hello.each(|window| window.p99_ms),
            "p50_ms": hello.each(|window| window.p50_ms),
            "offered_per_s": hello.offered,
            "subrequest_added_us_p50": median(added),
            "subrequest_cpu_us": sub.fresh.cpu_us,
            "workerd_subrequest_cpu_us": sub.peer.cpu_us,
            "json10k_cpu_us": json10k.each(|window| window.cpu_us),
            "json10k_p99_ms": json10k.each(|window| window.p99_ms),
            "json10k_p50_ms": json10k.each(|window| window.p50_ms),
            "json10k_offered_per_s": json10k.offered,
            "in_process": in_process,
            "zones5000": zones,
            "rss_mb_30_js": memory,
            "spinner_neighbour_p99_ms": spinner.p99_ms,
        }))
    }

    fn count(&self, requests: u64) -> u64 {
        if self.options.quick { requests / 10 } else { requests }
    }

    /// Medians of windows that take turns. Processor time is counted while every server does as
    /// much as it can; latencies at one rate for all, which the slowest of them could serve twice
    /// over: at its limit a server shows how long the queue is that the load keeps, and nothing of
    /// its own.
    fn compare(&self, edge: &Server, peer: &Server, path: &str, post: Option<&str>) -> Result<Compared> {
        let servers = [
            (edge, "one.example"),
            (edge, "reused.example"),
            (edge, "script.example"),
            (peer, "one.example"),
        ];
        let requests = self.count(20_000);
        let rounds = if self.options.quick { 1 } else { 5 };
        let mut all = self.take_turns(servers, path, post, Load::Closed(CONNECTIONS), requests, rounds)?;
        let slowest = all.iter().map(|window| window.cpu_us).fold(1.0, f64::max);
        let offered = (PACE * 1e6 / slowest).floor();
        let seconds = if self.options.quick { 2.0 } else { 5.0 };
        let requests = ((offered * seconds) as u64).clamp(100, requests);
        let paced = self.take_turns(servers, path, post, Load::Paced(offered), requests, rounds)?;
        for (window, paced) in all.iter_mut().zip(paced) {
            window.p50_ms = paced.p50_ms;
            window.p99_ms = paced.p99_ms;
        }
        let [fresh, reused, script, peer] = all;
        Ok(Compared {
            fresh,
            reused,
            script,
            peer,
            offered,
        })
    }

    fn take_turns(
        &self,
        servers: [(&Server, &str); 4],
        path: &str,
        post: Option<&str>,
        load: Load,
        requests: u64,
        rounds: usize,
    ) -> Result<[Window; 4]> {
        let mut all: [Vec<Window>; 4] = Default::default();
        for round in 1..=rounds {
            for ((server, host), windows) in servers.iter().zip(&mut all) {
                let window = self.measure(server, host, path, post, load, requests)?;
                println!(
                    "{path} {round}/{rounds} {host}{}: {:.1} us CPU, p50 {:.2} ms, p99 {:.2} ms",
                    match load {
                        Load::Closed(_) => String::new(),
                        Load::Paced(rate) => format!(" at {rate}/s"),
                    },
                    window.cpu_us,
                    window.p50_ms,
                    window.p99_ms
                );
                windows.push(window);
            }
        }
        let [Some(fresh), Some(reused), Some(script), Some(peer)] = all.map(|windows| middle(&windows)) else {
            bail!("no window was measured");
        };
        Ok([fresh, reused, script, peer])
    }

    /// Sends `requests`; every one must be answered well.
    fn measure(
        &self,
        server: &Server,
        host: &str,
        path: &str,
        post: Option<&str>,
        load: Load,
        requests: u64,
    ) -> Result<Window> {
        let log = self.directory.join("h2load.log");
        let _ = fs::remove_file(&log);
        let connections = match load {
            Load::Closed(connections) => connections,
            Load::Paced(_) => CONNECTIONS,
        };
        let mut command = self.h2load(server, host, path, connections, requests)?;
        command.arg(format!("--log-file={}", log.display()));
        if let Load::Paced(rate) = load {
            let each = rate / f64::from(connections);
            // One connection after the other begins, so that they do not ask in one breath.
            let apart = (1e3 / rate).ceil();
            command.args([
                format!("--rps={each}"),
                "--rate=1".to_owned(),
                format!("--rate-period={apart}ms"),
            ]);
        }
        if let Some(file) = post {
            command.arg(format!("--data={}", self.directory.join(file).display()));
        }
        // Warm, and sure that it answers.
        process::output(
            &mut self.h2load(server, host, "/", connections, 100)?,
            Duration::from_secs(60),
        )?;
        let before = process::cpu_time(server.process.id())?;
        let output = process::output(&mut command, Duration::from_secs(300))?;
        let cpu = process::cpu_time(server.process.id())? - before;
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.contains(&format!("status codes: {requests} 2xx")) {
            bail!("{host}{path}: not every request was answered well:\n{text}");
        }
        let mut times = Vec::new();
        for line in fs::read_to_string(&log)?.lines() {
            let micros: f64 = line.split('\t').nth(2).context("a line of h2load's log")?.parse()?;
            times.push(micros / 1e3);
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            times
                .get((times.len() as f64 * share) as usize)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Ok(Window {
            cpu_us: cpu.as_secs_f64() * 1e6 / requests as f64,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        })
    }

    /// h2load on its core, ready to run or for more URLs.
    pub(super) fn h2load(
        &self,
        server: &Server,
        host: &str,
        path: &str,
        connections: u32,
        requests: u64,
    ) -> Result<Command> {
        let mut command = Command::new("taskset");
        command
            .args(["-c", &self.load_core.to_string()])
            .arg(workspace::need("h2load", workspace::SETUP_BENCH)?)
            .args(["--h1", "--threads=1"])
            .arg(format!("--clients={connections}"))
            .arg(format!("--requests={requests}"))
            .arg(format!("--connect-to={}", server.address))
            .arg(format!("https://{host}{path}"));
        Ok(command)
    }

    fn beside_a_spinner(&self, edge: &Server, requests: u64) -> Result<Window> {
        let mut spinning = self.h2load(edge, "spin.example", "/spin", 1, 1_000_000)?;
        let spinner = Process::spawn(&mut spinning, &self.directory.join("spinner.log"))?;
        std::thread::sleep(Duration::from_millis(500));
        let window = self.measure(edge, "one.example", "/", None, Load::Closed(1), requests);
        drop(spinner);
        window
    }

    /// The room alone, by a program of its own that runs what the edge has compiled.
    fn in_process(&self) -> Result<Value> {
        let file = self.directory.join("in-process.json");
        let mut command = Command::new("taskset");
        let cargo = workspace::cargo_command();
        command
            .args(["-c", &self.server_core.to_string()])
            .arg(cargo.get_program());
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let profile = if self.options.dev { "dev" } else { "release" };
        command
            .current_dir(workspace::root())
            .args(["bench", "--quiet", "--profile", profile])
            .args(["-p", "edge-testbed", "--bench", "isolate", "--", "--config"])
            .arg(self.directory.join("edge/edge.toml"))
            .arg("--output")
            .arg(&file);
        if self.options.quick {
            command.arg("--quick");
        }
        workspace::run(&mut command)?;
        Ok(serde_json::from_slice(&fs::read(&file)?)?)
    }

    /// What an idle zone with a worker of its own costs, and its first request.
    fn many_zones(&self) -> Result<Value> {
        let count = if self.options.quick { 50 } else { ZONES };
        let workers = self.directory.join("many");
        fs::create_dir_all(&workers)?;
        let component = fs::read(worker())?;
        let zones: Result<Vec<(String, String)>> = (0..count)
            .map(|n| {
                let file = workers.join(format!("{n}.wasm"));
                // A custom section: other bytes, other code on disk, the same behaviour.
                let name = format!("zone{n}");
                let mut bytes = component.clone();
                bytes.extend([0, u8::try_from(name.len() + 1)?, u8::try_from(name.len())?]);
                bytes.extend(name.as_bytes());
                fs::write(&file, bytes)?;
                Ok((format!("z{n}"), format!("file = \"{}\"\n", file.display())))
            })
            .collect();
        // Compiled by a first start, so that the second finds code and no compiler has touched its
        // memory.
        let zones = zones?;
        drop(self.edge("many", &zones)?);
        let one = self.edge("many", zones.get(..1).unwrap_or_default())?;
        let empty = process::resident_memory(one.process.id())?;
        drop(one);
        let full = self.edge("many", &zones)?;
        let bytes = process::resident_memory(full.process.id())?.saturating_sub(empty);
        let mut first = Vec::new();
        for n in 0..count.min(50) {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--insecure", "--output", "/dev/null", "--connect-to"])
                .arg(format!("::{}", full.address))
                .args(["--write-out", "%{time_pretransfer} %{time_starttransfer}"])
                .arg(format!("https://z{}.example/", n * count / count.min(50)));
            let output = process::output(&mut curl, Duration::from_secs(20))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let (ready, begun) = text.split_once(' ').context("curl's times")?;
            first.push((begun.parse::<f64>()? - ready.parse::<f64>()?) * 1e3);
        }
        Ok(json!({
            "zones": count,
            "bytes_per_zone": bytes / (count as u64 - 1).max(1),
            "cold_first_ms_p50": median(first),
        }))
    }

    fn thirty_scripts(&self) -> Result<Value> {
        let peer = self.workerd(30)?;
        let theirs = process::resident_memory(peer.process.id())?;
        drop(peer);
        let text = fs::read_to_string(&self.script)?;
        let zones: Result<Vec<_>> = (0..30)
            .map(|n| {
                let file = self.directory.join(format!("script{n}.js"));
                fs::write(&file, format!("{text}\n// {n}\n"))?;
                Ok((format!("z{n}"), format!("file = \"{}\"\n", file.display())))
            })
            .collect();
        // As with many zones: the first start compiles.
        let zones = zones?;
        drop(self.edge("scripts", &zones)?);
        let edge = self.edge("scripts", &zones)?;
        self.measure(&edge, "z0.example", "/", None, Load::Closed(1), 100)?;
        let ours = process::resident_memory(edge.process.id())? >> 20;
        Ok(json!({ "edge": ours, "workerd": theirs >> 20 }))
    }

    /// The zones of the comparison, each with the keys of its worker.
    pub(super) fn zones(&self) -> Vec<(String, String)> {
        let file = format!("file = \"{}\"\n", worker().display());
        let mut zones = vec![
            ("one".to_owned(), format!("{file}zones = [\"two\"]\n")),
            ("two".to_owned(), file.clone()),
            (
                "reused".to_owned(),
                format!("{file}zones = [\"two\"]\nreuse = 1000000\n"),
            ),
            ("spin".to_owned(), format!("{file}cpu = \"300s\"\nwall = \"300s\"\n")),
        ];
        zones.push((
            "script".to_owned(),
            format!("file = \"{}\"\nzones = [\"two\"]\n", self.script.display()),
        ));
        zones
    }

    /// An edge with these zones, when it serves.
    pub(super) fn edge(&self, name: &str, zones: &[(String, String)]) -> Result<Server> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory)?;
        let address = free_address()?;
        let mut text = format!(
            "[server]\nhttps = [\"{address}\"]\nworkers = 1\n[limits]\nrequests_per_connection = 0\n[log]\naccess = false\n\
             level = \"error,edge::node=info\"\n[admin]\nlisten = \"unix:{}\"\n[isolate]\nstate_directory = \"state\"\n",
            directory.join("admin.sock").display()
        );
        for (zone, keys) in zones {
            text += &format!(
                "[[zone]]\nname = \"{zone}\"\nhosts = [\"{zone}.example\"]\ncertificate = \"{}\"\nkey = \"{}\"\n[zone.worker]\n{keys}",
                self.leaf.certificate.display(),
                self.leaf.key.display(),
            );
        }
        let file = directory.join("edge.toml");
        fs::write(&file, text)?;
        let mut command = Command::new("taskset");
        command.args(["-c", &self.server_core.to_string()]).arg(&self.binary);
        command
            .args(["run", "--xdp", "off", "--log-format", "json", "--config"])
            .arg(&file);
        let mut process = Process::spawn(&mut command, &directory.join("output.log"))?;
        // Compiling thousands of workers takes its time.
        process.wait_line("\"serving\"", Duration::from_secs(3 * 3_600))?;
        Ok(Server { process, address })
    }

    fn workerd(&self, workers: usize) -> Result<Server> {
        let directory = self.directory.join("workerd");
        fs::create_dir_all(&directory)?;
        fs::copy(&self.leaf.certificate, directory.join("cert.pem"))?;
        fs::copy(&self.leaf.key, directory.join("key.pem"))?;
        fs::write(directory.join("worker.js"), WORKER)?;
        let address = free_address()?;
        let names: Vec<String> = (0..workers).map(|n| format!("w{n}")).collect();
        let services: Vec<String> = names
            .iter()
            .map(|n| format!("(name = \"{n}\", worker = .worker)"))
            .collect();
        let config = format!(
            "using Workerd = import \"/workerd/workerd.capnp\";\n\
             const config :Workerd.Config = ( services = [ {}, (name = \"two\", worker = .two) ],\n\
               sockets = [ (name = \"s\", address = \"{address}\", https = (tlsOptions = .tls), service = \"w0\") ] );\n\
             const tls :Workerd.TlsOptions = ( keypair = ( privateKey = embed \"key.pem\", certificateChain = embed \"cert.pem\" ) );\n\
             const worker :Workerd.Worker = ( modules = [ (name = \"worker.js\", esModule = embed \"worker.js\") ],\n\
               compatibilityDate = \"2025-01-01\", bindings = [ (name = \"TWO\", service = \"two\") ] );\n\
             const two :Workerd.Worker = ( modules = [ (name = \"worker.js\", esModule = embed \"worker.js\") ],\n\
               compatibilityDate = \"2025-01-01\" );\n",
            services.join(", ")
        );
        fs::write(directory.join("config.capnp"), config)?;
        let mut command = Command::new("taskset");
        command
            .args(["-c", &self.server_core.to_string()])
            .arg(peer_binary()?)
            .args(["serve", "config.capnp"])
            .current_dir(&directory);
        let mut process = Process::spawn(&mut command, &directory.join("output.log"))?;
        process.wait_port(address, Duration::from_secs(60))?;
        let server = Server { process, address };
        // Every worker is loaded at the start; a request shows that they are.
        self.measure(&server, "one.example", "/", None, Load::Closed(1), 100)?;
        Ok(server)
    }
}

fn worker() -> PathBuf {
    workspace::root().join("target/workers/bench.wasm")
}

/// workerd's own binary, by npm into target/workerd.
fn peer_binary() -> Result<PathBuf> {
    let directory = workspace::output("workerd")?;
    let modules = directory.join("node_modules");
    let find = |modules: &Path| {
        let scoped = fs::read_dir(modules.join("@cloudflare")).ok()?;
        let mut binaries = scoped.flatten().map(|entry| entry.path().join("bin").join(WORKERD));
        binaries.find(|path| path.is_file())
    };
    if let Some(binary) = find(&modules) {
        return Ok(binary);
    }
    let npm = workspace::need("npm", workspace::SETUP_BENCH)?;
    let mut install = Command::new(npm);
    install
        .args(["install", "--no-fund", "--no-audit", WORKERD])
        .current_dir(&directory);
    workspace::run(&mut install)?;
    find(&modules).context("npm installed no workerd for this machine")
}

fn middle(windows: &[Window]) -> Option<Window> {
    if windows.is_empty() {
        return None;
    }
    let of = |value: fn(&Window) -> f64| median(windows.iter().map(value).collect());
    Some(Window {
        cpu_us: of(|window| window.cpu_us),
        p50_ms: of(|window| window.p50_ms),
        p99_ms: of(|window| window.p99_ms),
    })
}

/// A list of items, about 10 KB of JSON.
fn ten_kilobytes() -> String {
    let items: Vec<Value> = (0..124)
        .map(|n| {
            json!({
                "id": n,
                "name": format!("item number {}", (n * 7919) % 124),
                "price": f64::from(n) * 1.25,
                "tags": ["a", "b", "c"],
                "stock": n * 3,
            })
        })
        .collect();
    json!({ "items": items }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transform would be of another size than the figure's name says.
    #[test]
    fn the_json_is_of_ten_kilobytes() {
        let length = ten_kilobytes().len();
        assert!((9_000..11_000).contains(&length), "{length}");
    }
}
