//! The cache of a daemon that is killed while it works: what it serves afterwards is what the origin said, byte for byte, and
//! nothing that was purged.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edge_testbed::netns::Netns;
use edge_testbed::pki::Authority;
use edge_testbed::privilege;
use edge_testbed::process::{self, Process};

const HOST: &str = "site.example.test";
const ORIGIN: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9180";
const START: Duration = Duration::from_secs(30);
const OBJECTS: usize = 60;

/// What the origin says under `/N` in its version `version`: recognisable at every place.
fn content(n: usize, version: usize) -> Vec<u8> {
    let line = format!("object {n} version {version} ");
    line.bytes().cycle().take(20_000 + n * 1_000).collect()
}

struct Origin {
    version: AtomicUsize,
    asked: AtomicUsize,
}

impl Origin {
    fn start(netns: &Netns) -> Arc<Self> {
        let this = Arc::new(Self {
            version: AtomicUsize::new(1),
            asked: AtomicUsize::new(0),
        });
        let listener = netns.enter(|| TcpListener::bind(ORIGIN)).unwrap().unwrap();
        let origin = this.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let origin = origin.clone();
                std::thread::spawn(move || drop(origin.serve(stream)));
            }
        });
        this
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let n: usize = line.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line)?;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let body = content(n, self.version.load(Ordering::SeqCst));
            let head = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nCache-Tag: tag{}\r\nContent-Length: {}\r\n\r\n",
                n % 2,
                body.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
        }
    }
}

fn run(command: &mut Command) -> Output {
    process::output(command, Duration::from_secs(60)).unwrap()
}

struct World {
    daemon: Process,
    origin: Arc<Origin>,
    netns: Netns,
    directory: tempfile::TempDir,
}

impl World {
    fn start() -> Option<Self> {
        if !privilege::can_attach(&checkout::root()) {
            return None;
        }
        checkout::build();
        let netns = Netns::create("cache").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("Edge test CA").unwrap();
        authority.write(&directory.path().join("ca.pem")).unwrap();
        authority.write_leaf(directory.path(), "site", &[HOST]).unwrap();
        fs::write(
            directory.path().join("edge.toml"),
            format!(
                r#"[server]
https = ["127.0.0.1:443"]
workers = 2
[admin]
listen = "{ADMIN}"
[cache]
directory = "cache"
disk = "256MiB"
[[zone]]
name = "site"
hosts = ["{HOST}"]
certificate = "site.pem"
key = "site.key"
[zone.cache]
object_bytes = "1MiB"
[zone.origin]
servers = [{{ address = "http://{ORIGIN}" }}]
"#
            ),
        )
        .unwrap();
        let origin = Origin::start(&netns);
        let daemon = spawn(&netns, directory.path());
        let mut world = Self {
            daemon,
            origin,
            netns,
            directory,
        };
        world.wait_ready();
        Some(world)
    }

    fn wait_ready(&mut self) {
        let Self { daemon, netns, .. } = self;
        daemon
            .wait_until("be ready", START, || {
                let mut curl = netns.command("curl")?;
                Ok(
                    run(curl.args(["--silent", "--fail", &format!("http://{ADMIN}/readyz")]))
                        .status
                        .success(),
                )
            })
            .unwrap();
    }

    fn crash(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon = spawn(&self.netns, self.directory.path());
        self.wait_ready();
    }

    /// Fetches all objects; what came, in order.
    fn fetch(&self) -> Vec<Vec<u8>> {
        let out = self.directory.path().join("out");
        fs::create_dir_all(&out).unwrap();
        let mut curl = self.netns.command("curl").unwrap();
        curl.args(["--silent", "--show-error", "--fail", "--http1.1", "--cacert"])
            .arg(self.directory.path().join("ca.pem"))
            .args(["--resolve", &format!("{HOST}:443:127.0.0.1"), "--output"])
            .arg(out.join("#1"))
            .arg(format!("https://{HOST}/[0-{}]", OBJECTS - 1));
        let output = run(&mut curl);
        assert!(output.status.success(), "{output:?}");
        (0..OBJECTS)
            .map(|n| fs::read(out.join(n.to_string())).unwrap())
            .collect()
    }

    fn control(&self, arguments: &[&str]) {
        let mut edge = self.netns.command(checkout::binaries().join("edge")).unwrap();
        let output = run(edge.args(["cache", "--admin", ADMIN]).args(arguments));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn asked(&self) -> usize {
        self.origin.asked.swap(0, Ordering::SeqCst)
    }
}

fn spawn(netns: &Netns, directory: &Path) -> Process {
    let mut command = netns.command(checkout::binaries().join("edge")).unwrap();
    command
        .args(["run", "--no-xdp", "--log-format", "json", "--config"])
        .arg(directory.join("edge.toml"));
    Process::spawn(&mut command, &directory.join("log")).unwrap()
}

/// A killed daemon serves no wrong byte afterwards, remembers most of what it had, and nothing that was purged.
#[test]
fn a_killed_daemon_serves_no_wrong_byte() {
    let Some(mut world) = World::start() else { return };
    let first = world.fetch();
    assert!((0..OBJECTS).all(|n| first[n] == content(n, 1)));
    assert_eq!(world.asked(), OBJECTS);
    world.fetch();
    assert_eq!(world.asked(), 0, "the second time nothing reaches the origin");

    // The disk is behind by what it is still writing.
    std::thread::sleep(Duration::from_millis(500));
    world.crash();
    world.origin.version.store(2, Ordering::SeqCst);
    let after = world.fetch();
    let kept = (0..OBJECTS).filter(|n| after[*n] == content(*n, 1)).count();
    let fresh = (0..OBJECTS).filter(|n| after[*n] == content(*n, 2)).count();
    assert_eq!(kept + fresh, OBJECTS, "a wrong byte was served");
    assert!(kept > OBJECTS / 2, "only {kept} of {OBJECTS} outlasted the crash");
    assert_eq!(world.asked(), fresh);

    world.control(&["purge", "--zone", "site", "--tag", "tag1"]);
    world.control(&["purge", &format!("https://{HOST}/0")]);
    world.crash();
    let purged = world.fetch();
    for (n, body) in purged.iter().enumerate() {
        let newer = *body == content(n, 2);
        assert!(newer || *body == content(n, 1), "a wrong byte in {n}");
        assert!(newer || (n != 0 && n % 2 == 0), "{n} was purged and came back");
    }
    world.control(&["purge", "--prefix", &format!("https://{HOST}/")]);
    assert!(world.fetch().iter().enumerate().all(|(n, body)| *body == content(n, 2)));
}
