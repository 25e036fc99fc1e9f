//! An edge with zones that let old devices in and one that does not, and the key server that has
//! the keys.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{self, ALL, Bed};

/// Its key is at the key server.
pub(crate) const OLD: &str = "old.example";
/// Its key is the edge's.
pub(crate) const HERE: &str = "here.example";
/// Lets in nobody who does not know a better key exchange. The default.
pub(crate) const STRICT: &str = "strict.example";
/// Bytes of `/large`.
pub(crate) const LARGE: usize = 200_000;

/// Of the handshakes' answers by the key server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Everything ends with it.
pub(crate) struct World {
    pub(crate) bed: Bed,
    pub(crate) https: SocketAddr,
    admin: SocketAddr,
    edge: Child,
}

fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn certificate(host: &str, key: &str) -> String {
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    // Found by it among the roots.
    parameters.distinguished_name.push(rcgen::DnType::CommonName, host);
    parameters.self_signed(&key).unwrap().pem()
}

impl World {
    pub(crate) fn start() -> Self {
        let keys = [OLD, HERE, STRICT].map(|host| (host, bed::rsa()));
        let at_server: Vec<(&str, &str)> = vec![("old.pem", &keys[0].1), ("strict.pem", &keys[2].1)];
        let bed = Bed::start(&at_server, ALL);
        let (https, admin) = (port(), port());
        let (client, client_key) = bed.authority.leaf("edge-1.test", 2);
        fs::write(bed.path("edge.pem"), client).unwrap();
        fs::write(bed.path("edge.key"), client_key).unwrap();
        let mut roots = String::new();
        let mut text = format!(
            "[server]\nhttps = [\"{https}\"]\nhttp3 = false\nworkers = 2\n[tls]\nkey_server_timeout = \"{}s\"\n[admin]\n\
             listen = \"{admin}\"\n[gate]\nstate_directory = \"state\"\n[[key_server]]\nname = \"keys\"\naddress = \"{}\"\n\
             server_name = \"keys.test\"\nca = \"ca.pem\"\ncertificate = \"edge.pem\"\nkey = \"edge.key\"\n",
            PATIENCE.as_secs(),
            bed.address
        );
        for (host, key) in &keys {
            let name = host.split('.').next().unwrap();
            let certificate = certificate(host, key);
            fs::write(bed.path(&format!("{host}.pem")), &certificate).unwrap();
            roots += &certificate;
            let way = match *host {
                OLD => "key_servers = [\"keys\"]\nlegacy_rsa = true",
                HERE => {
                    fs::write(bed.path("here.key"), key).unwrap();
                    fs::set_permissions(bed.path("here.key"), Permissions::from_mode(0o600)).unwrap();
                    "key = \"here.key\"\nlegacy_rsa = true"
                }
                _ => "key_servers = [\"keys\"]\ndefault = true",
            };
            text += &format!(
                "[[zone]]\nname = \"{name}\"\nhosts = [\"{host}\"]\ncertificate = \"{host}.pem\"\n{way}\n[zone.origin]\n\
                 directory = \"www\"\n"
            );
        }
        fs::write(bed.path("roots.pem"), roots).unwrap();
        fs::create_dir(bed.path("www")).unwrap();
        fs::write(
            bed.path("www/index.html"),
            "<!doctype html>\n<title>an old page</title>\n",
        )
        .unwrap();
        fs::write(bed.path("www/large"), vec![b'x'; LARGE]).unwrap();
        fs::write(bed.path("edge.toml"), text).unwrap();
        let log = fs::File::create(bed.path("edge.log")).unwrap();
        let edge = Command::new(env!("CARGO_BIN_EXE_edge"))
            .args(["run", "--no-xdp", "--log-format", "json", "--config"])
            .arg(bed.path("edge.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let world = Self {
            bed,
            https,
            admin,
            edge,
        };
        world.until("it serves", || world.log().contains("serving"));
        world.until("a connection to the key server", || {
            world.count("edge_tls_keyserver_connections{server=\"keys\"}") > 0
        });
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.bed.path(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("edge.log")).unwrap_or_default()
    }

    pub(crate) fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A metric's value; 0 where it is not there.
    pub(crate) fn count(&self, name: &str) -> u64 {
        use std::io::{Read, Write};
        let Ok(mut io) = std::net::TcpStream::connect(self.admin) else {
            return 0;
        };
        write!(
            io,
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse::<f64>().unwrap() as u64)
    }

    /// Stops the key server where it stands, every thread of it.
    pub(crate) fn wedge(&self) {
        self.bed.signal(rustix::process::Signal::STOP);
        let threads = format!("/proc/{}/task", self.bed.child.id());
        self.until("the key server stands", || {
            fs::read_dir(&threads).unwrap().flatten().all(|thread| {
                let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
                stat.rsplit_once(") ").unwrap().1.starts_with('T')
            })
        });
    }

    /// What `openssl s_client` says of a handshake and one request.
    pub(crate) fn s_client(&self, host: &str, arguments: &[&str]) -> String {
        self.s_client_for(host, host, arguments)
    }

    /// The same with a request to another host than that of the handshake.
    pub(crate) fn s_client_for(&self, host: &str, asked: &str, arguments: &[&str]) -> String {
        let script = r#"{ printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2"; } | { shift 2
            exec timeout 12 openssl s_client -ign_eof -connect "$0" "$@" 2>&1; }"#;
        let output = Command::new("sh")
            .args(["-c", script, &self.https.to_string(), host, asked])
            .args(["-servername", host, "-CAfile"])
            .arg(self.path("roots.pem"))
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What curl gets.
    pub(crate) fn curl(&self, host: &str, path: &str, arguments: &[&str]) -> Vec<u8> {
        let port = self.https.port();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "15", "--cacert"])
            .arg(self.path("roots.pem"))
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args(arguments)
            .arg(format!("https://{host}:{port}{path}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// Descriptors that the edge has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.edge.id())).unwrap().count()
    }

    /// The edge's resident memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        let pages = fs::read_to_string(format!("/proc/{}/statm", self.edge.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.edge.kill();
        let _ = self.edge.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
