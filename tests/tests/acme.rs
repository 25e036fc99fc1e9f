//! Certificates from pebble, the ACME server for tests that Debian has: by each challenge, from the
//! second authority where the first is away, with an account that the authority knows already, and
//! what an operator sees if an authority is not content.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process, free_address};

const START: Duration = Duration::from_secs(60);
/// An order, the look at files, and a busy machine.
const ISSUED: Duration = Duration::from_secs(120);
const PEBBLE: &str = "/usr/bin/pebble";
const RECORDS: &str = "/usr/bin/pebble-challtestsrv";
const KEY_ID: &str = "kid-1";
const MAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Everything ends with it, the daemon first.
struct World {
    daemon: Process,
    _pebble: Process,
    _records: Process,
    directory: tempfile::TempDir,
    https: SocketAddr,
    management: SocketAddr,
}

impl World {
    /// With these zones, and `[acme]` with `more` in it. `None`, with a word, if pebble is not
    /// installed.
    fn start(zones: &str, more: &str, bound: bool) -> Option<Self> {
        if !Path::new(PEBBLE).exists() || !Path::new(RECORDS).exists() {
            println!("SKIPPED: pebble is not installed: run `cargo xtask setup test`");
            return None;
        }
        checkout::build();
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let authority = Authority::new("Pebble's own CA").unwrap();
        authority.write(&at.join("ca.pem")).unwrap();
        authority.write_leaf(at, "pebble", &["localhost"]).unwrap();
        let [https, http, acme, management, dns, control, away] = [(); 7].map(|()| free_address().unwrap());
        let keys = if bound {
            format!("\"{KEY_ID}\": \"{MAC_KEY}\"")
        } else {
            String::new()
        };
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "{acme}", "managementListenAddress": "{management}",
            "certificate": "{at}/pebble.pem", "privateKey": "{at}/pebble.key", "httpPort": {}, "tlsPort": {},
            "ocspResponderURL": "", "externalAccountBindingRequired": {bound}, "externalAccountMACKeys": {{{keys}}}}}}}"#,
            http.port(),
            https.port(),
            at = at.display(),
        );
        fs::write(at.join("pebble.json"), config).unwrap();
        let mut command = Command::new(RECORDS);
        command
            .args([
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ])
            .args(["-dns01", &dns.to_string(), "-management", &control.to_string()]);
        let mut records = Process::spawn(&mut command, &at.join("records.log")).unwrap();
        records.wait_port(control, START).unwrap();
        let mut command = Command::new(PEBBLE);
        command
            .env("PEBBLE_VA_NOSLEEP", "1")
            .args(["-dnsserver", &dns.to_string(), "-config"])
            .arg(at.join("pebble.json"));
        let mut pebble = Process::spawn(&mut command, &at.join("pebble.log")).unwrap();
        pebble.wait_port(acme, START).unwrap();

        let hook = at.join("hook");
        fs::write(&hook, hook_text(control)).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(at.join("account.key"), MAC_KEY).unwrap();
        fs::create_dir_all(at.join("www")).unwrap();
        fs::write(at.join("www/index.html"), "served").unwrap();
        let first = if bound {
            String::new()
        } else {
            format!("\"https://{away}/dir\", ")
        };
        let text = format!(
            "[server]\nhttps = [\"{https}\"]\nhttp = [\"{http}\"]\nhttp3 = false\nworkers = 1\n[admin]\n\
             listen = \"unix:{at}/admin.sock\"\n[acme]\ndirectories = [{first}\"https://localhost:{port}/dir\"]\n\
             terms_agreed = true\nca = \"ca.pem\"\nstate_directory = \"acme\"\n{more}\n{zones}",
            at = at.display(),
            port = acme.port(),
        );
        fs::write(at.join("edge.toml"), text).unwrap();
        let check = Command::new(checkout::binaries().join("edge"))
            .args(["check", "--config"])
            .arg(at.join("edge.toml"))
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "a zone that waits for its certificate is sound: {}",
            String::from_utf8_lossy(&check.stderr)
        );
        let mut edge = Command::new(checkout::binaries().join("edge"));
        edge.args(["run", "--no-xdp", "--log-format", "json", "--config"])
            .arg(at.join("edge.toml"));
        let mut daemon = Process::spawn(&mut edge, &at.join("edge.log")).unwrap();
        daemon.wait_port(https, START).unwrap();
        Some(Self {
            daemon,
            _pebble: pebble,
            _records: records,
            directory,
            https,
            management,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The root that pebble signs with, new at each start.
    fn root(&self) -> PathBuf {
        let output = curl(&[
            "--cacert",
            self.path("ca.pem").to_str().unwrap(),
            "--resolve",
            &format!("localhost:{}:127.0.0.1", self.management.port()),
            &format!("https://localhost:{}/roots/0", self.management.port()),
        ]);
        let path = self.path("root.pem");
        fs::write(&path, output.unwrap()).unwrap();
        path
    }

    /// What a client that believes `root` gets from `host`.
    fn get(&self, host: &str, root: &Path) -> Result<String, String> {
        let port = self.https.port();
        curl(&[
            "--cacert",
            root.to_str().unwrap(),
            "--resolve",
            &format!("{host}:{port}:127.0.0.1"),
            &format!("https://{host}:{port}/"),
        ])
    }

    fn wait_served(&mut self, host: &str, root: &Path) {
        let end = std::time::Instant::now() + ISSUED;
        loop {
            match self.get(host, root) {
                Ok(text) => return assert_eq!(text, "served", "{host}"),
                Err(words) => assert!(
                    std::time::Instant::now() < end,
                    "{host}: {words}\n{}",
                    self.daemon.tail()
                ),
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Sets and clears records at pebble's own name server.
fn hook_text(control: SocketAddr) -> String {
    format!(
        "#!/bin/sh\nset -e\necho \"$1 $2\" >> \"$(dirname \"$0\")/hooked\"\n\
         exec curl --silent --fail --data \"{{\\\"host\\\": \\\"$2.\\\", \\\"value\\\": \\\"$3\\\"}}\" \
         http://{control}/$1-txt\n"
    )
}

fn curl(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail", "--max-time", "10"])
        .args(arguments);
    let output = process::output(&mut command, Duration::from_secs(20)).unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn zone(name: &str, hosts: &str, acme: &str) -> String {
    format!("[[zone]]\nname = \"{name}\"\nhosts = [{hosts}]\n[zone.acme]\n{acme}\n[zone.origin]\ndirectory = \"www\"\n")
}

/// Somebody who writes [zone.acme] gets certificates that clients believe, by every challenge,
/// although the first authority is away; without a restart, and again after one without a new
/// order.
#[test]
fn certificates_come_by_every_challenge() {
    let zones = [
        zone("http", "\"a.http.test\", \"b.http.test\"", "challenge = \"http-01\""),
        zone("alpn", "\"alpn.test\"", "challenge = \"tls-alpn-01\""),
        zone("dns", "\"*.dns.test\"", "challenge = \"dns-01\"\nhook = \"hook\""),
    ]
    .concat();
    let Some(mut world) = World::start(&zones, "", false) else {
        return;
    };
    let root = world.root();
    assert!(world.get("alpn.test", &root).is_err() || world.path("acme/alpn.pem").exists());
    for host in ["a.http.test", "b.http.test", "alpn.test", "any.dns.test"] {
        world.wait_served(host, &root);
    }
    for name in ["http", "alpn", "dns"] {
        let mode = fs::metadata(world.path(&format!("acme/{name}.key")))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let hooked = fs::read_to_string(world.path("hooked")).unwrap();
    assert!(hooked.contains("set _acme-challenge.dns.test"), "{hooked}");
    assert!(hooked.contains("clear _acme-challenge.dns.test"), "{hooked}");
    // A challenge that is over is nobody's any more.
    let accounts = fs::read_dir(world.path("acme"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("account-")
        })
        .count();
    assert_eq!(accounts, 1, "one for the authority that was there");
    let before = fs::read(world.path("acme/alpn.pem")).unwrap();
    world.daemon.stop(Duration::from_secs(40)).unwrap();
    let mut edge = Command::new(checkout::binaries().join("edge"));
    edge.args(["run", "--no-xdp", "--log-format", "json", "--config"])
        .arg(world.path("edge.toml"));
    let log = world.path("edge-2.log");
    world.daemon = Process::spawn(&mut edge, &log).unwrap();
    world.daemon.wait_port(world.https, START).unwrap();
    assert_eq!(
        world.get("alpn.test", &root).unwrap(),
        "served",
        "from the first moment on"
    );
    // Longer than the first round.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        fs::read(world.path("acme/alpn.pem")).unwrap(),
        before,
        "nothing was ordered anew"
    );
}

/// Authorities that know their customers (external account binding) issue to who has the key, and
/// say why not to others.
#[test]
fn accounts_are_bound_to_the_operators_own() {
    let one = zone("one", "\"one.test\"", "challenge = \"http-01\"");
    let bound = format!("external_id = \"{KEY_ID}\"\nexternal_key = \"account.key\"");
    let Some(mut world) = World::start(&one, &bound, true) else {
        return;
    };
    let root = world.root();
    world.wait_served("one.test", &root);
    drop(world);
    let Some(mut world) = World::start(&one, "", true) else {
        return;
    };
    world.daemon.wait_line("no certificate was issued", ISSUED).unwrap();
    assert!(
        world.daemon.log().contains("externalAccount"),
        "{}",
        world.daemon.tail()
    );
}

/// An operator whose hook fails finds its words in the log, and everything else of the node works.
#[test]
fn what_fails_is_told_in_the_words_of_who_failed() {
    let zones = [
        zone(
            "broken",
            "\"broken.test\"",
            "challenge = \"dns-01\"\nhook = \"no-hook\"",
        ),
        zone("sound", "\"sound.test\"", "challenge = \"tls-alpn-01\""),
    ]
    .concat();
    let Some(mut world) = World::start(&zones, "", false) else {
        return;
    };
    let root = world.root();
    world.wait_served("sound.test", &root);
    world.daemon.wait_line("no-hook", ISSUED).unwrap();
    assert!(
        world.get("broken.test", &root).is_err(),
        "its stand-in is nothing to believe"
    );
    let metrics = curl(&[
        "--unix-socket",
        world.path("admin.sock").to_str().unwrap(),
        "http://localhost/metrics",
    ])
    .unwrap();
    let failed = "edge_acme_orders_total{zone=\"broken\",outcome=\"failed\"} ";
    assert!(metrics.contains(failed), "{metrics}");
}
