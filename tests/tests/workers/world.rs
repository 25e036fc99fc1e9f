//! A daemon in a network namespace of its own, without XDP: a zone in front of its origin, one that
//! greets, a hostile one with a mirror of itself, and its victim.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use edge_testbed::netns::Netns;
use edge_testbed::pki::Authority;
use edge_testbed::privilege;
use edge_testbed::process::{self, Process};

use crate::checkout;

const ADMIN: &str = "127.0.0.1:9180";
/// MiB that all guests may hold.
pub(crate) const GUESTS: u64 = 384;
const START: Duration = Duration::from_secs(60);
/// As they are called in `[[zone]]` and, with `.example`, in URLs.
const ZONES: [&str; 7] = ["front", "greeter", "attacks", "mirror", "victim", "reused", "links"];

/// Everything ends with it, the daemon first.
pub(crate) struct World {
    pub(crate) daemon: Process,
    netns: Netns,
    directory: tempfile::TempDir,
}

/// A response.
pub(crate) struct Answer {
    /// 0 where there was none.
    pub(crate) status: u16,
    pub(crate) body: String,
    /// curl's words, where the response broke off.
    pub(crate) trouble: String,
    pub(crate) head: String,
}

/// A worker that `cargo xtask build-workers` built.
pub(crate) fn worker(name: &str) -> PathBuf {
    let path = checkout::root()
        .join("target/workers")
        .join(name)
        .with_extension("wasm");
    assert!(
        path.is_file(),
        "{} is missing: `cargo xtask build-workers`",
        path.display()
    );
    path
}

impl World {
    /// Says why and answers nothing where it cannot be made.
    pub(crate) fn start() -> Option<Self> {
        if !privilege::root() {
            return None;
        }
        checkout::build();
        let netns = Netns::create("workers").unwrap();
        let directory = tempfile::tempdir().unwrap();
        write_files(directory.path());
        let daemon = spawn(&netns, directory.path());
        let mut world = Self {
            daemon,
            netns,
            directory,
        };
        world.wait();
        Some(world)
    }

    fn wait(&mut self) {
        self.daemon.wait_line("\"serving\"", START).unwrap();
    }

    /// Ends the daemon, lets `between` do something, and starts it again with the same files.
    pub(crate) fn restart(&mut self, between: impl FnOnce(&Path)) {
        self.daemon.stop(Duration::from_secs(20)).unwrap();
        between(self.directory.path());
        self.daemon = spawn(&self.netns, self.directory.path());
        self.wait();
    }

    /// Where it runs.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// curl in the namespace, ready for a URL of a zone.
    pub(crate) fn curl(&self) -> Command {
        let mut curl = self.netns.command("curl").unwrap();
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--connect-to",
            "::127.0.0.1:443",
        ]);
        curl.arg("--cacert").arg(self.path("ca.pem"));
        curl
    }

    /// One request.
    pub(crate) fn get(&self, zone: &str, path: &str) -> Answer {
        self.ask(zone, path, &[])
    }

    /// One request, with further arguments for curl.
    pub(crate) fn ask(&self, zone: &str, path: &str, arguments: &[&str]) -> Answer {
        let mut curl = self.curl();
        curl.args(["--http1.1", "--globoff", "--dump-header"])
            .arg(self.path("head"));
        curl.args(["--write-out", "\n%{http_code}"]).args(arguments);
        curl.arg(format!("https://{zone}.example{path}"));
        let output = run(&mut curl);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        Answer {
            status: status.parse().unwrap(),
            body: body.to_owned(),
            trouble: String::from_utf8_lossy(&output.stderr).into_owned(),
            head: fs::read_to_string(self.path("head")).unwrap_or_default(),
        }
    }

    /// `edge worker --admin … ARGUMENTS`.
    pub(crate) fn control(&self, arguments: &[&str]) -> Result<String, String> {
        let mut edge = self.netns.command(checkout::binaries().join("edge")).unwrap();
        let output = run(edge.args(["worker", "--admin", ADMIN]).args(arguments));
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    /// Bytes of the daemon's memory that are not elsewhere.
    pub(crate) fn resident(&self) -> u64 {
        process::resident_memory(self.daemon.id()).unwrap()
    }

    /// Deploys one of the workers of this repository.
    pub(crate) fn deploy(&self, zone: &str, name: &str) {
        self.control(&["deploy", zone, worker(name).to_str().unwrap()]).unwrap();
    }

    /// One figure of the daemon; 0 where there is none yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut curl = self.netns.command("curl").unwrap();
        let output = run(curl.args(["--silent", "--fail", &format!("http://{ADMIN}/metrics")]));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// How many requests of a zone's worker ended for a reason.
    pub(crate) fn failures(&self, zone: &str, reason: &str) -> f64 {
        self.metric(&format!(
            "edge_isolate_failures_total{{zone=\"{zone}\",reason=\"{reason}\"}}"
        ))
    }
}

/// The daemon's group, which nobody else has.
pub(crate) const GROUP: u32 = 65_534;

fn spawn(netns: &Netns, directory: &Path) -> Process {
    let mut command = netns.command(checkout::binaries().join("edge")).unwrap();
    command.gid(GROUP);
    command.args(["run", "--xdp", "off", "--log-format", "json", "--config"]);
    Process::spawn(command.arg(directory.join("edge.toml")), &directory.join("log")).unwrap()
}

pub(crate) fn run(command: &mut Command) -> Output {
    process::output(command, Duration::from_secs(60)).unwrap()
}

fn write_files(directory: &Path) {
    let authority = Authority::new("Edge test CA").unwrap();
    authority.write(&directory.join("ca.pem")).unwrap();
    let hosts = ZONES.map(|zone| format!("{zone}.example"));
    let mut hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    hosts.push("*.links.example");
    authority.write_leaf(directory, "zones", &hosts).unwrap();
    fs::create_dir(directory.join("www")).unwrap();
    fs::write(directory.join("www/index.html"), "the page\n").unwrap();
    fs::write(directory.join("api.key"), "swordfish\n").unwrap();
    let file = worker("attacks");
    let file = file.display();
    let mut text = format!(
        "[server]\nhttps = [\"127.0.0.1:443\"]\nworkers = 2\n[admin]\nlisten = \"{ADMIN}\"\n\
         [isolate]\nstate_directory = \"state\"\ninstances = 200\nmemory = \"{GUESTS}MiB\"\n"
    );
    for zone in ZONES {
        let more = match zone {
            "front" => "zones = [\"greeter\"]\n[zone.origin]\ndirectory = \"www\"\n".to_owned(),
            "links" => "previews = \"*.links.example\"\nsecrets = { link_key = \"api.key\" }\n[zone.origin]\ndirectory = \"www\"\n".to_owned(),
            "greeter" => "settings = { greeting = \"good day\" }\n[zone.worker.keyvalue]\n".to_owned(),
            "attacks" => format!(
                "file = \"{file}\"\nwall = \"4s\"\ncpu = \"250ms\"\nmemory = \"32MiB\"\nzones = [\"mirror\"]\nresponse_bytes = \"1MiB\"\nsubrequests = 30\n\
                 origins = [{{ address = \"http://localhost:9180\" }}, {{ address = \"http://127.0.0.1:9180\" }}]\n\
                 concurrency = 20\n"
            ),
            "mirror" => format!("file = \"{file}\"\ncpu = \"500ms\"\nzones = [\"attacks\"]\n"),
            "victim" => format!(
                "file = \"{file}\"\ncpu = \"2s\"\nsettings = {{ plan = \"gold\" }}\nsecrets = {{ api = \"api.key\" }}\n\
                 [zone.worker.keyvalue]\nbytes = \"20KiB\"\n"
            ),
            _ => format!("file = \"{file}\"\nreuse = 3\n"),
        };
        let hosts = if zone == "links" { ", \"*.links.example\"" } else { "" };
        text += &format!(
            "[[zone]]\nname = \"{zone}\"\nhosts = [\"{zone}.example\"{hosts}]\ncertificate = \"zones.pem\"\nkey = \"zones.key\"\n\
             [zone.worker]\n{more}"
        );
    }
    fs::write(directory.join("edge.toml"), text).unwrap();
}
