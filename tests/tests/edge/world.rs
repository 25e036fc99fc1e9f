//! A client and an edge, each in its own network namespace, and the daemon between a veth pair and
//! a zone of files.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use edge::config;
use edge::dataplane::Dataplane;
use edge_testbed::netns::{End, Netns, veth};
use edge_testbed::pins::Pins;
use edge_testbed::pki::Authority;
use edge_testbed::privilege;
use edge_testbed::process::{self, Process};

use crate::checkout;

pub(crate) const HOST: &str = "site.example.test";
/// Its gate admits twenty requests a minute of a client, one at a time, unless a test wants
/// another.
pub(crate) const LIMITED: &str = "limited.example.test";
pub(crate) const EDGE: [&str; 2] = ["10.77.0.1", "fd77::1"];
pub(crate) const CLIENT: [&str; 2] = ["10.77.0.2", "fd77::2"];
const TWENTY_A_MINUTE: &str = r#"grace = 3
strike_base = "60s"
[[zone.gate.rule]]
rate = { requests = 20, per = "1m", burst = 1 }"#;
const ADMIN: &str = "127.0.0.1:9180";
/// Who is asked for the names of addresses, in the edge's namespace; nobody, unless a test is
/// there.
pub(crate) const RESOLVER: &str = "127.0.0.1:5399";
const START: Duration = Duration::from_secs(30);
/// Three SYNs of a client in vain: the first, and repeats after one and three seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Everything ends with it, the daemon first.
pub(crate) struct World {
    pub(crate) daemon: Process,
    _receiver: Dataplane,
    _pins: Pins,
    pub(crate) client: Netns,
    pub(crate) edge: Netns,
    directory: tempfile::TempDir,
}

impl World {
    /// Says why and answers nothing where it cannot be made.
    pub(crate) fn start() -> Option<Self> {
        Self::gated(TWENTY_A_MINUTE)
    }

    /// The same with another gate in front of the limited zone: the keys of `[zone.gate]`, then its
    /// rules.
    pub(crate) fn gated(gate: &str) -> Option<Self> {
        Self::configured(gate, "")
    }

    /// The same with more lines in front of the zones.
    pub(crate) fn configured(gate: &str, more: &str) -> Option<Self> {
        if !privilege::can_attach(&checkout::root()) {
            return None;
        }
        checkout::build();
        let client = Netns::create("client").unwrap();
        let edge = Netns::create("edge").unwrap();
        let addresses = |plain: [&str; 2]| [format!("{}/24", plain[0]), format!("{}/64", plain[1])];
        let (left, right) = (addresses(CLIENT), addresses(EDGE));
        veth(
            &End {
                netns: &client,
                interface: "client0",
                addresses: &[&left[0], &left[1]],
            },
            &End {
                netns: &edge,
                interface: "edge0",
                addresses: &[&right[0], &right[1]],
            },
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let pins = Pins::prepare("test").unwrap();
        let receiver = receiver(&client, &pins.path().join("client"));
        write_files(directory.path(), pins.path(), gate, more);
        let daemon = spawn(&edge, directory.path());
        let mut world = Self {
            daemon,
            _receiver: receiver,
            _pins: pins,
            client,
            edge,
            directory,
        };
        world.wait_ready(EDGE[0]);
        Some(world)
    }

    /// Starts the daemon again with the same files, after it ended.
    pub(crate) fn restart(&mut self) {
        assert!(self.daemon.ended().unwrap().is_some(), "it still runs");
        self.daemon = spawn(&self.edge, self.directory.path());
    }

    /// Has the daemon drain, and starts its successor beside it; gives the one that drains.
    pub(crate) fn succeed(&mut self) -> Process {
        self.daemon.signal(rustix::process::Signal::TERM).unwrap();
        let successor = spawn_with_log(&self.edge, self.directory.path(), "log of the successor");
        std::mem::replace(&mut self.daemon, successor)
    }

    /// Waits until the zone answers at that address of the edge.
    pub(crate) fn wait_ready(&mut self, address: &str) {
        let Self {
            daemon,
            client,
            directory,
            ..
        } = self;
        daemon
            .wait_until("answer", START, || {
                Ok(run(&mut curl(client, directory.path(), address, HOST)).status.success())
            })
            .unwrap();
    }

    /// One request of a client with a connection of its own.
    pub(crate) fn get(&self, address: &str) -> Output {
        run(&mut curl(&self.client, self.directory.path(), address, HOST))
    }

    /// One request of a client to the limited zone, on a connection of its own, with its cookies in
    /// `jar`; the answer's head, or nothing where no connection came about.
    pub(crate) fn ask_limited(&self, jar: &Path) -> Option<String> {
        self.ask_limited_at(EDGE[0], jar)
    }

    /// The same by one of the edge's addresses.
    pub(crate) fn ask_limited_at(&self, address: &str, jar: &Path) -> Option<String> {
        let mut curl = curl(&self.client, self.directory.path(), address, LIMITED);
        curl.args(["--no-fail", "--http1.1", "--include", "--cookie-jar"])
            .arg(jar)
            .arg("--cookie")
            .arg(jar);
        let output = run(&mut curl);
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The head of the answer to one request with more `arguments` for curl, on a connection of its
    /// own.
    pub(crate) fn ask_limited_with(&self, arguments: &[&str]) -> String {
        let mut curl = curl(&self.client, self.directory.path(), EDGE[0], LIMITED);
        let output = run(curl.args(["--no-fail", "--include"]).args(arguments));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a scraper gets.
    pub(crate) fn metrics(&self) -> String {
        let mut curl = self.edge.command("curl").unwrap();
        let output = run(curl.args(["--silent", "--fail", &format!("http://{ADMIN}/metrics")]));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A file that ends with this world.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Tries to connect from the client's namespace.
    pub(crate) fn connect(&self, address: &str, port: u16) -> io::Result<TcpStream> {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        self.client
            .enter(|| TcpStream::connect_timeout(&address, PATIENCE))
            .unwrap()
    }

    /// `edge COMMAND --admin … ARGUMENTS` in the edge's namespace; gives what it printed.
    pub(crate) fn control(&self, command: &str, arguments: &[&str]) -> String {
        let mut edge = self.edge.command(checkout::binaries().join("edge")).unwrap();
        let output = run(edge.args([command, "--admin", ADMIN]).args(arguments));
        assert!(output.status.success(), "{command} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// One end of a veth pair takes what the other end's program answers (XDP_TX) only if it has a
/// program, too. This one knows no port, and passes everything.
fn receiver(client: &Netns, pins: &Path) -> Dataplane {
    let config = config::Dataplane {
        interfaces: vec!["client0".to_owned()],
        mode: config::XdpMode::Native,
        pin_directory: pins.to_owned(),
        tcp_ports: Vec::new(),
        udp_ports: Vec::new(),
        addresses: Vec::new(),
        allow: Vec::new(),
        deny: Vec::new(),
        deny_entries: 16,
        state_directory: None,
        syn_cookies: true,
        databases: Vec::new(),
        groups: config::Groups::default(),
        nat64: Vec::new(),
        penalty_entries: 1_024,
        event_sample: 0,
    };
    client.enter(|| Dataplane::start(&config)).unwrap().unwrap()
}

fn spawn(edge: &Netns, directory: &Path) -> Process {
    spawn_with_log(edge, directory, "log")
}

fn spawn_with_log(edge: &Netns, directory: &Path, log: &str) -> Process {
    let mut command = edge.command(checkout::binaries().join("edge")).unwrap();
    command
        .args(["run", "--log-format", "json", "--config"])
        .arg(directory.join("edge.toml"));
    Process::spawn(&mut command, &directory.join(log)).unwrap()
}

fn curl(client: &Netns, directory: &Path, address: &str, host: &str) -> Command {
    let mut curl = client.command("curl").unwrap();
    let address = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "4", "--cacert"])
        .arg(directory.join("ca.pem"));
    curl.args(["--resolve", &format!("{host}:443:{address}")])
        .arg(format!("https://{host}/"));
    curl
}

fn run(command: &mut Command) -> Output {
    process::output(command, Duration::from_secs(30)).unwrap()
}

fn write_files(directory: &Path, pins: &Path, gate: &str, more: &str) {
    let authority = Authority::new("Edge test CA").unwrap();
    authority.write(&directory.join("ca.pem")).unwrap();
    authority.write_leaf(directory, "site", &[HOST, LIMITED]).unwrap();
    fs::create_dir(directory.join("www")).unwrap();
    fs::write(directory.join("www/index.html"), "the page\n").unwrap();
    let configuration = format!(
        r#"[server]
https = ["0.0.0.0:443", "[::]:443"]
http = ["0.0.0.0:80", "[::]:80"]
[dataplane]
interfaces = ["edge0"]
xdp = "native"
pin_directory = "{pins}"
event_sample = 1
[admin]
listen = "{ADMIN}"
{more}
[[zone]]
name = "site"
hosts = ["{HOST}"]
certificate = "site.pem"
key = "site.key"
[zone.origin]
directory = "www"
[[zone]]
name = "limited"
hosts = ["{LIMITED}"]
certificate = "site.pem"
key = "site.key"
[zone.origin]
directory = "www"
[zone.gate]
{gate}
[gate]
state_directory = "state"
resolvers = ["{RESOLVER}"]
"#,
        pins = pins.display(),
    );
    fs::write(directory.join("edge.toml"), configuration).unwrap();
}
