//! The cache of a daemon that is killed while it works: what it serves afterwards is what the
//! origin said, byte for byte, and nothing that was purged.

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
            let mut seen = line.clone();
            let n: usize = line.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line)?;
                seen.push_str(&line);
            }
            if seen.contains(" /mirror") {
                self.mirror(&mut reader, &mut stream, seen)?;
                continue;
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

impl Origin {
    /// Says what it was asked, in a response that is for all and varies by what the query names.
    fn mirror(&self, reader: &mut impl BufRead, stream: &mut TcpStream, mut seen: String) -> std::io::Result<()> {
        let field = |name: &str| {
            let fields = seen.lines().filter_map(|line| line.split_once(':'));
            let mut values = fields
                .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim());
            values.next().map(str::to_owned)
        };
        let length = field("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let vary = seen
            .split([' ', '?'])
            .nth(2)
            .filter(|vary| !vary.starts_with("HTTP"))
            .unwrap_or("x-none")
            .to_owned();
        let ranged = field("range").is_some();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        seen.push_str(&String::from_utf8_lossy(&body));
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (status, part, text) = if ranged {
            (
                "206 Partial Content",
                format!("Content-Range: bytes 0-3/{}\r\n", seen.len()),
                "evil",
            )
        } else {
            ("200 OK", String::new(), &*seen)
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nCache-Control: max-age=600\r\nVary: {vary}\r\n{part}Content-Length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(text.as_bytes())
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

    /// What `edge cache` says to these arguments.
    fn control(&self, arguments: &[&str]) -> String {
        let mut edge = self.netns.command(checkout::binaries().join("edge")).unwrap();
        let output = run(edge.args(["cache", "--admin", ADMIN]).args(arguments));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
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

/// What one client asks must not change what another one gets (cache poisoning): whatever of a
/// request reaches the origin, and is not part of what a response is stored by, must not reach the
/// store.
#[test]
fn nobody_writes_into_others_answers() {
    let Some(world) = World::start() else { return };
    let ask = |path: &str, arguments: &[&str]| {
        let mut curl = world.netns.command("curl").unwrap();
        curl.args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--path-as-is",
            "--max-time",
            "20",
            "--cacert",
        ])
        .arg(world.directory.path().join("ca.pem"))
        .args(["--resolve", &format!("{HOST}:443:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://{HOST}{path}"));
        let output = run(&mut curl);
        assert!(output.status.success(), "{path} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let upper = format!("Host: {}", HOST.to_uppercase());
    let port = format!("Host: {HOST}:443");
    let absolute = format!("https://{HOST}/mirror/12");
    let german = ["--header", "Accept-Language: evil"];
    let evil: &[(&str, &[&str], &[&str])] = &[
        ("/mirror/1", &["--header", "X-Forwarded-Host: evil"], &[]),
        ("/mirror/2", &["--header", "X-Original-URL: /evil"], &[]),
        ("/mirror/3", &["--header", "X-HTTP-Method-Override: EVIL"], &[]),
        ("/mirror/4", &["--header", "X_Rewrite_URL: /evil"], &[]),
        ("/mirror/5", &["--header", &upper], &[]),
        ("/mirror/6", &["--header", &port], &[]),
        ("/mirror/7", &["--request", "GET", "--data", "evil"], &[]),
        ("/mirror/8", &["--header", "Authorization: Bearer evil"], &[]),
        ("/mirror/9", &["--header", "Range: bytes=0-3"], &[]),
        ("/mirror/10", &["--header", "Forwarded: host=evil"], &[]),
        ("/mirror/11?forwarded", &["--header", "Forwarded: for=evil"], &[]),
        ("/mirror/12", &["--request-target", &absolute], &[]),
        // The store would have it under German, and the origin has never seen a language.
        (
            "/mirror/13?accept-language",
            &["--header", "Connection: accept-language", german[0], german[1]],
            &german,
        ),
        (
            "/mirror/14",
            &["--header", "Connection: x-evil", "--header", "X-Evil: evil"],
            &[],
        ),
        ("/mirror/15?x-mine,*", &["--header", "X-Mine: evil"], &[]),
        ("/mirror/16/../../evil", &[], &[]),
        ("/mirror/17%2fevil", &[], &[]),
        ("/mirror/18/%0d%0aX-Evil:evil", &[], &[]),
        ("/mirror/19?evil", &[], &[]),
    ];
    for (path, attack, victim) in evil {
        ask(path, attack);
        let plain = path.split(['?', '%']).next().unwrap().split("/..").next().unwrap();
        let target = if path.contains("evil") { plain } else { path };
        let got = ask(target, victim);
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert!(got.starts_with(&line), "{path} {attack:?}: {got}");
        let fields = got.to_lowercase();
        assert!(
            fields.contains(&format!("\r\nhost: {HOST}\r\n")),
            "{path} {attack:?}: {got}"
        );
        if victim.is_empty() {
            assert!(!fields.contains("evil"), "{path} {attack:?}: {got}");
        } else {
            assert!(fields.contains("accept-language: evil"), "{path} {attack:?}: {got}");
        }
    }
    // What is asked for twice in a plain way is stored: the above was no proof that nothing is.
    world.asked();
    assert_eq!(ask("/mirror/20", &[]), ask("/mirror/20", &[]));
    assert_eq!(world.asked(), 1);
}

/// A killed daemon serves no wrong byte afterwards, remembers most of what it had, and nothing that
/// was purged.
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

/// Who fills the cache before visitors come would be told of pages that are not in it; after a soft
/// purge, also across a crash, visitors would wait, or get the old pages for good.
#[test]
fn a_cache_is_filled_and_brought_up_to_date() {
    let Some(mut world) = World::start() else { return };
    let list = world.directory.path().join("urls");
    let mut urls: String = (0..OBJECTS).map(|n| format!("https://{HOST}/{n}\n")).collect();
    urls.push_str(&format!(
        "\n# more\nhttps://{HOST}/mirror?*\nhttps://other.example.test/\n"
    ));
    fs::write(&list, urls).unwrap();
    let told = world.control(&["warm", list.to_str().unwrap(), "--rate", "1000", "--at-once", "8"]);
    assert!(
        told.ends_with(&format!("{OBJECTS} stored, 0 stored before, 2 not\n")),
        "{told}"
    );
    assert!(
        told.contains(&format!("not stored\t200\thttps://{HOST}/mirror?*\tit says Vary: *\n")),
        "{told}"
    );
    assert!(
        told.contains("not stored\t-\thttps://other.example.test/\tunknown_host"),
        "{told}"
    );
    assert_eq!(world.asked(), OBJECTS + 1);
    assert!(world.fetch().iter().enumerate().all(|(n, body)| *body == content(n, 1)));
    assert_eq!(world.asked(), 0, "visitors reach the store alone");

    world.control(&["purge", "--soft", "--zone", "site", "--tag", "tag1"]);
    // The disk is behind by what it is still writing.
    std::thread::sleep(Duration::from_millis(500));
    world.crash();
    world.origin.version.store(2, Ordering::SeqCst);
    // What the crash has lost is new already.
    let stale = world.fetch();
    let old = |n: usize| stale[n] == content(n, 1);
    assert!(
        (0..OBJECTS).all(|n| old(n) || stale[n] == content(n, 2)),
        "a wrong byte was served"
    );
    assert!(
        (0..OBJECTS).filter(|n| n % 2 == 1 && old(*n)).count() > OBJECTS / 4,
        "old ones answer"
    );
    let deadline = std::time::Instant::now() + START;
    loop {
        let fresh = world.fetch();
        let brought = (0..OBJECTS).filter(|n| n % 2 == 1).all(|n| fresh[n] == content(n, 2));
        let kept = (0..OBJECTS).filter(|n| n % 2 == 0).all(|n| fresh[n] == stale[n]);
        assert!(kept, "what was not meant is as it was");
        if brought {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still old");
        std::thread::sleep(Duration::from_millis(50));
    }
    world.asked();
    assert!(world.control(&["purge", "--zone", "site"]).contains("all of zone site"));
    world.fetch();
    assert_eq!(world.asked(), OBJECTS, "nothing of the zone is left");
}
