//! An edge, a key server and clients in one network namespace; the keys of the zones are below the
//! key server's directory alone.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use edge_testbed::keys::Keys;
use edge_testbed::netns::Netns;
use edge_testbed::pki::{self, Authority};
use edge_testbed::privilege;
use edge_testbed::process::{self, Process};

use crate::checkout;

pub(crate) const P256: &str = "p256.example.test";
pub(crate) const RSA: &str = "rsa.example.test";
/// Its key exchange is the key server's too.
pub(crate) const EXCHANGE: &str = "exchange.example.test";
/// Its key is the edge's.
pub(crate) const LOCAL: &str = "local.example.test";
/// Its clients have certificates.
pub(crate) const CLIENTS: &str = "clients.example.test";

const LISTEN: &str = "127.0.0.1:9443";
const ADMIN: &str = "127.0.0.1:9180";
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything ends with it, the daemon first.
pub(crate) struct World {
    pub(crate) daemon: Process,
    pub(crate) keyserver: Process,
    pub(crate) keys: Keys,
    pub(crate) inside: Netns,
    directory: tempfile::TempDir,
}

impl World {
    /// Says why and answers nothing where it cannot be made.
    pub(crate) fn start() -> Option<Self> {
        if !privilege::root() {
            return None;
        }
        checkout::build();
        let inside = Netns::create("keyless").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let keys = write_files(&directory);
        let keyserver = keyserver(&inside, &directory, &keys);
        let mut command = inside.command(checkout::binaries().join("edge")).unwrap();
        command
            .args(["run", "--no-xdp", "--log-format", "json", "--config"])
            .arg(directory.path().join("edge.toml"));
        let daemon = Process::spawn(&mut command, &directory.path().join("edge.log")).unwrap();
        let mut world = Self {
            daemon,
            keyserver,
            keys,
            inside,
            directory,
        };
        let Self { daemon, .. } = &mut world;
        daemon.wait_line("serving", PATIENCE).unwrap();
        world.until("an answer", || world.curl(P256, &[]).status.success());
        Some(world)
    }

    /// After it was killed.
    pub(crate) fn restart_keyserver(&mut self) {
        self.keyserver = keyserver(&self.inside, &self.directory, &self.keys);
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(
                start.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}; the edge says:\n{}\nthe key server:\n{}",
                self.daemon.tail(),
                self.keyserver.tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn curl_command(&self, host: &str, arguments: &[&str]) -> Command {
        let mut curl = self.inside.command("curl").unwrap();
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "15", "--cacert"])
            .arg(self.file("ca.pem"))
            .args(["--resolve", &format!("{host}:443:127.0.0.1")])
            .args(arguments)
            .arg(format!("https://{host}/"));
        curl
    }

    pub(crate) fn curl(&self, host: &str, arguments: &[&str]) -> Output {
        process::output(&mut self.curl_command(host, arguments), PATIENCE).unwrap()
    }

    /// What `openssl s_client` says of a handshake and one request.
    pub(crate) fn s_client(&self, host: &str, arguments: &[&str]) -> String {
        let mut shell = self.inside.command("sh").unwrap();
        let script = r#"{ printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$0"; sleep 0.5; } |
            exec timeout 12 openssl s_client -connect 127.0.0.1:443 -servername "$0" -verify_hostname "$0" "$@" 2>&1"#;
        shell
            .args(["-c", script, host, "-CAfile"])
            .arg(self.file("ca.pem"))
            .args(arguments);
        let output = process::output(&mut shell, PATIENCE).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a Python client gets, by each version.
    pub(crate) fn python(&self, host: &str) -> String {
        let script = "
import http.client, socket, ssl, sys
host, ca = sys.argv[1:]
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    sock = context.wrap_socket(socket.create_connection(('127.0.0.1', 443), 8), server_hostname=host)
    connection = http.client.HTTPSConnection(host)
    connection.sock = sock
    connection.request('GET', '/')
    print(sock.version(), connection.getresponse().status)
";
        let mut python = self.inside.command("python3").unwrap();
        python.args(["-c", script, host]).arg(self.file("ca.pem"));
        let output = process::output(&mut python, PATIENCE).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The figure of one metric.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let mut curl = self.inside.command("curl").unwrap();
        let output = process::output(
            curl.args(["--silent", "--fail", &format!("http://{ADMIN}/metrics")]),
            PATIENCE,
        )
        .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let figure = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        figure.unwrap_or(0)
    }
}

fn keyserver(inside: &Netns, directory: &tempfile::TempDir, keys: &Keys) -> Process {
    let mut command = inside.command(checkout::binaries().join("edge-keyserver")).unwrap();
    command
        .args(["run", "--log-format", "json", "--config"])
        .arg(keys.configuration());
    let mut process = Process::spawn(&mut command, &directory.path().join("keyserver.log")).unwrap();
    let address = LISTEN.parse().unwrap();
    process
        .wait_until("listening", PATIENCE, || {
            inside.enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)))??;
            Ok(true)
        })
        .unwrap();
    process
}

fn write_files(directory: &tempfile::TempDir) -> Keys {
    let path = directory.path();
    let authority = Authority::new("Edge test CA").unwrap();
    authority.write(&path.join("ca.pem")).unwrap();
    let keys = Keys::prepare(&path.join("keyserver"), &authority, LISTEN.parse().unwrap()).unwrap();
    let mut zones = String::new();
    for host in [P256, RSA, EXCHANGE, LOCAL, CLIENTS] {
        let name = host.split('.').next().unwrap();
        let (certificate, key) = match host {
            RSA => {
                let mut openssl = Command::new("openssl");
                openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
                let key = process::output(&mut openssl, PATIENCE).unwrap().stdout;
                authority.leaf_with(&[host], &String::from_utf8(key).unwrap()).unwrap()
            }
            _ => authority.leaf(&[host]).unwrap(),
        };
        fs::write(path.join(format!("{name}.pem")), certificate).unwrap();
        let way = match host {
            LOCAL => {
                pki::write_key(&path.join("local.key"), &key).unwrap();
                "key = \"local.key\""
            }
            EXCHANGE => "key_servers = [\"keys\"]\nkey_exchange = \"remote\"",
            CLIENTS => "key_servers = [\"keys\"]\nclient_certificates = { ca = \"people.pem\" }",
            _ => "key_servers = [\"keys\"]",
        };
        if host != LOCAL {
            keys.add(name, &key).unwrap();
        }
        zones += &format!(
            "[[zone]]\nname = \"{name}\"\nhosts = [\"{host}\"]\ncertificate = \"{name}.pem\"\n{way}\n\
             [zone.origin]\ndirectory = \"www\"\n"
        );
    }
    let people = Authority::new("People CA").unwrap();
    people.write(&path.join("people.pem")).unwrap();
    people.write_leaf(path, "person", &["person.example.test"]).unwrap();
    let strangers = Authority::new("People CA").unwrap();
    strangers
        .write_leaf(path, "stranger", &["person.example.test"])
        .unwrap();
    fs::create_dir(path.join("www")).unwrap();
    fs::write(path.join("www/index.html"), "<!doctype html>\n<title>keyless</title>\n").unwrap();
    let configuration = format!(
        "[server]\nhttps = [\"127.0.0.1:443\"]\nworkers = 2\n[tls]\nkey_server_timeout = \"5s\"\n[admin]\nlisten = \"{ADMIN}\"\n[gate]\nstate_directory = \"state\"\n{}{zones}",
        keys.entry("keys", LISTEN.parse().unwrap()),
    );
    fs::write(path.join("edge.toml"), configuration).unwrap();
    keys
}
