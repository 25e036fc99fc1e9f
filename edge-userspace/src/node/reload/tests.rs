//! A reload is taken whole or not at all, whatever part of it fails; and one zone's fault stays
//! that zone's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::{Node, Running};
use crate::admin::access::NodeLogs;
use crate::base::shutdown::{self, Phase, Trigger};
use crate::node::Run;

/// A node on free ports of 127.0.0.1, whose file, certificates and directories lie in a directory
/// of its own.
struct World {
    directory: tempfile::TempDir,
    port: u16,
    running: Option<Running>,
    trigger: Trigger,
}

/// What a file says, part by part, so that single parts can be changed or spoilt.
#[derive(Clone, Debug)]
struct Parts {
    server: String,
    /// Of zone `a`.
    gate: String,
    origin: String,
    certificate: String,
    /// Of zone `w`.
    worker: String,
    more: String,
}

impl Parts {
    fn sound() -> Self {
        Self {
            server: "drain = \"1s\"\n".to_owned(),
            gate: "[[zone.gate.rule]]\nname = \"r\"\npath = \"/old/\"\nmanual = { wait = \"5s\" }\n".to_owned(),
            origin: "[zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n".to_owned(),
            certificate: "certificate = \"a.pem\"\nkey = \"a.key\"\n".to_owned(),
            worker: "[zone.worker]\n[zone.worker.keyvalue]\nbytes = \"1MiB\"\n".to_owned(),
            more: String::new(),
        }
    }

    fn text(&self, directory: &Path, port: u16) -> String {
        let Self {
            server,
            gate,
            origin,
            certificate,
            worker,
            more,
        } = self;
        let directory = directory.display();
        format!(
            "[server]\nhttps = [\"127.0.0.1:{port}\"]\nworkers = 1\n{server}[admin]\nlisten = \"unix:{directory}/admin\"\n\
             [gate]\nstate_directory = \"{directory}/gate\"\n[isolate]\nstate_directory = \"{directory}/isolate\"\n\
             instances = 16\n\
             [[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\n{certificate}{origin}{gate}\
             [[zone]]\nname = \"w\"\nhosts = [\"w.example\"]\ncertificate = \"w.pem\"\nkey = \"w.key\"\n{worker}{more}"
        )
    }
}

fn zone(name: &str) -> String {
    format!(
        "[[zone]]\nname = \"{name}\"\nhosts = [\"{name}.example\"]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n\
         [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
    )
}

fn free_port() -> u16 {
    loop {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl World {
    fn new() -> Self {
        let (trigger, _) = shutdown::channel();
        let this = Self {
            directory: tempfile::tempdir().unwrap(),
            port: free_port(),
            running: None,
            trigger,
        };
        for name in ["a", "w", "b", "c"] {
            this.certificate(name);
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn certificate(&self, name: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        std::fs::write(
            self.path(&format!("{name}.pem")),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn write(&self, parts: &Parts) {
        std::fs::write(self.path("edge.toml"), parts.text(self.directory.path(), self.port)).unwrap();
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let run = Run {
            config: self.path("edge.toml"),
            interface: Vec::new(),
            xdp: None,
            no_xdp: true,
            text: None,
            log_format: None,
        };
        let (trigger, shutdown) = shutdown::channel();
        let config = run.configuration()?;
        let logs = NodeLogs::detached(&config.log);
        self.running = Some(Node::start(&run, config, logs, shutdown, None)?);
        self.trigger = trigger;
        Ok(())
    }

    fn node(&self) -> &Arc<Node> {
        &self.running.as_ref().unwrap().node
    }

    async fn stop(&mut self) {
        self.trigger.advance(Phase::Stopped);
        let running = self.running.take().unwrap();
        running.threads.join().await;
    }

    /// All that is in force, by identity where a value is swapped whole.
    fn in_force(&self) -> String {
        let node = self.node();
        let gates = node.gates.as_ref().unwrap();
        let gate = |name| gates.gate.zone(name).map(|zone| Arc::as_ptr(&zone) as usize);
        let isolates = node.isolates.as_ref().unwrap();
        let names: Vec<_> = isolates
            .status()
            .into_iter()
            .map(|status| (status.zone, status.digest))
            .collect();
        format!(
            "{:?}",
            (
                Arc::as_ptr(&node.front.certificates().snapshot()) as usize,
                Arc::as_ptr(&node.front.key_servers()) as usize,
                Arc::as_ptr(&node.front.server_config()) as usize,
                Arc::as_ptr(&node.zones.load_full()) as usize,
                Arc::as_ptr(&node.state.load_full()) as usize,
                gate("a"),
                isolates.tenant("w").map(|tenant| tenant.stored_bytes_at_most()),
                names,
                serde_json::to_string(&node.fleet.status()).unwrap(),
                node.http.settings_id(),
            )
        )
    }

    fn certificate_of(&self, host: &str) -> Option<Vec<u8>> {
        let snapshot = self.node().front.certificates().snapshot();
        snapshot.find(Some(host)).map(|entry| entry.first.key.cert[0].to_vec())
    }

    fn is_out(&self, zone: &str) -> Option<bool> {
        let zones = self.node().zones.load();
        zones
            .all()
            .iter()
            .find(|known| *known.name == *zone)
            .map(|zone| zone.out)
    }
}

/// Numbers that repeat with the seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Changes one part so that it still can be prepared.
fn change(parts: &mut Parts, which: usize, n: usize) {
    match which {
        0 => parts.gate = parts.gate.replace("/old/", &format!("/new{n}/")),
        1 => parts.origin = parts.origin.replace(":1\"", &format!(":{}\"", n + 2)),
        2 => parts.worker = parts.worker.replace("1MiB", &format!("{}MiB", n + 2)),
        3 => parts.server = format!("drain = \"1s\"\nredirect_port = {}\n", n + 1000),
        4 => parts.more = zone("b"),
        _ => parts.certificate = parts.certificate.replace("a.", "c."),
    }
}

/// Ways to spoil a part.
const FAULTS: usize = 20;

/// Spoils one part; returns what the mistake must say.
fn spoil(world: &World, parts: &mut Parts, which: usize) -> &'static str {
    let write = |name: &str, text: &str| std::fs::write(world.path(name), text).unwrap();
    match which {
        0 => {
            parts.worker = parts.worker.replace("worker]\n[", "worker]\nfile = \"gone.wasm\"\n[");
            "gone.wasm"
        }
        1 => {
            write("core.wasm", "\0asm\u{1}\0\0\0");
            parts.worker = parts.worker.replace("worker]\n[", "worker]\nfile = \"core.wasm\"\n[");
            "core module"
        }
        2 => {
            parts.gate = format!("[zone.gate]\npage = \"gone.html\"\n{}", parts.gate);
            "gone.html"
        }
        3 => {
            write("page.html", "{{unknown}}");
            parts.gate = format!("[zone.gate]\npage = \"page.html\"\n{}", parts.gate);
            "page.html"
        }
        4 => {
            parts.certificate = "certificate = \"gone.pem\"\nkey = \"a.key\"\n".to_owned();
            "gone.pem"
        }
        5 => {
            parts.certificate = "certificate = \"a.pem\"\nkey = \"b.key\"\n".to_owned();
            "is not the key of"
        }
        6 => {
            parts
                .certificate
                .push_str("client_certificates = { ca = \"gone-ca.pem\" }\n");
            "gone-ca.pem"
        }
        7 => {
            let tls = "servers = [{ address = \"https://127.0.0.1:1\" }]\nca = \"gone-root.pem\"\n";
            parts.origin = format!("[zone.origin]\n{tls}");
            "gone-root.pem"
        }
        8 => {
            parts.origin = "[zone.origin]\ndirectory = \"gone\"\n".to_owned();
            "is not a directory"
        }
        9 => {
            parts.worker = parts
                .worker
                .replace("worker]\n[", "worker]\nsecrets = { k = \"gone.secret\" }\n[");
            "gone.secret"
        }
        10 => {
            parts
                .more
                .push_str("[[key_server]]\nname = \"k\"\naddress = \"127.0.0.1:1\"\nca = \"gone-k.pem\"\n");
            parts.more.push_str("certificate = \"a.pem\"\nkey = \"a.key\"\n");
            "gone-k.pem"
        }
        11 => {
            parts.server.push_str("drain = \"soon\"\n");
            "edge.toml"
        }
        12 => {
            let certificate = "certificate = \"b.pem\"\nkey = \"b.key\"\n";
            parts.more.push_str(&format!(
                "[[zone]]\nname = \"b2\"\nhosts = [\"a.example\"]\n{certificate}[zone.worker]\n"
            ));
            "is already a host of zone"
        }
        13 => {
            let crawler = "[[zone.gate.crawler]]\nname = \"bot\"\nkeys = \"gone.json\"\n";
            parts.gate = format!("[zone.gate]\n{crawler}{}", parts.gate);
            "gone.json"
        }
        14..=16 => {
            name_pipe(world, parts, which - 14);
            "no regular file"
        }
        17 => {
            let rule = "[[zone.rule]]\nname = \"moved\"\nredirects = { file = \"gone.txt\" }\n";
            parts.gate.push_str(rule);
            "gone.txt"
        }
        18 => {
            let challenge = "challenge = { kind = \"external\", url = \"https://ask.example/\", key = \"gone.key\" }";
            parts.gate = format!("[zone.gate]\n[[zone.gate.rule]]\n{challenge}\n{}", parts.gate);
            "gone.key"
        }
        _ => {
            let chain = std::fs::read_to_string(world.path("a.pem")).unwrap();
            write("glued.pem", &format!("{}{chain}", chain.trim_end()));
            parts.certificate = "certificate = \"glued.pem\"\nkey = \"a.key\"\n".to_owned();
            "would be left out"
        }
    }
}

/// Names a pipe in place of one of three files.
fn name_pipe(world: &World, parts: &mut Parts, which: usize) {
    let pipe = world.path("pipe");
    if !pipe.exists() {
        crate::base::file::tests::put_pipe(&pipe);
    }
    let worker = match which {
        0 => return parts.gate = format!("[zone.gate]\npage = \"pipe\"\n{}", parts.gate),
        1 => "file = \"pipe\"",
        _ => "secrets = { k = \"pipe\" }",
    };
    parts.worker = parts.worker.replace("worker]\n[", &format!("worker]\n{worker}\n["));
}

/// Half of a refused reload would be in force: an error in one zone changes who another zone lets
/// in, and what a restart then does is not what the node did.
#[tokio::test]
async fn a_refused_reload_changes_nothing() {
    let mut world = World::new();
    world.write(&Parts::sound());
    world.start().unwrap();
    let seed = std::process::id().into();
    let mut dice = Dice(seed);
    for round in 0..FAULTS * 3 {
        let before = world.in_force();
        let mut parts = Parts::sound();
        for _ in 0..=dice.roll(4) {
            change(&mut parts, dice.roll(6), dice.roll(900));
        }
        let fault = round % FAULTS;
        let words = spoil(&world, &mut parts, fault);
        world.write(&parts);
        let refused = world
            .node()
            .overrides
            .configuration()
            .and_then(|new| world.node().prepare(new).map(drop));
        let refused = refused
            .expect_err(&format!("fault {fault} was taken, seed {seed}: {parts:?}"))
            .to_string();
        assert!(
            refused.contains(words) && refused.contains("edge.toml:"),
            "{words}: {refused}"
        );
        world.node().reload();
        assert_eq!(world.in_force(), before, "fault {fault}, seed {seed}: {parts:?}");

        let mut sound = Parts::sound();
        change(&mut sound, dice.roll(6), dice.roll(900));
        world.write(&sound);
        world.node().reload();
        assert_ne!(world.in_force(), before, "a sound one is taken, seed {seed}: {sound:?}");
    }
    world.stop().await;
}

/// A reload that is taken must be taken by every room.
#[tokio::test]
async fn a_reload_reaches_every_room() {
    let mut world = World::new();
    world.write(&Parts::sound());
    world.start().unwrap();
    let mut parts = Parts::sound();
    for which in 0..6 {
        change(&mut parts, which, 7);
    }
    world.write(&parts);
    let (gate, old) = (
        world.node().gates.as_ref().unwrap().gate.clone(),
        world.certificate_of("a.example"),
    );
    assert!(old.is_some() && gate.zone("b").is_err());
    world.node().reload();
    assert_ne!(world.certificate_of("a.example"), old);
    assert!(world.certificate_of("b.example").is_some());
    assert_eq!(world.is_out("b"), Some(false));
    let isolates = world.node().isolates.as_ref().unwrap();
    assert_eq!(isolates.tenant("w").unwrap().stored_bytes_at_most(), Some(9 << 20));
    let servers: Vec<_> = world
        .node()
        .fleet
        .status()
        .into_iter()
        .flat_map(|zone| zone.servers)
        .collect();
    assert!(
        servers.iter().any(|server| server.address == "http://127.0.0.1:9"),
        "{servers:?}"
    );
    world.stop().await;
}

/// One tenant's missing key would keep all others from being served after a restart, and the node
/// from every reload.
#[tokio::test]
async fn a_zone_that_cannot_be_prepared_stands_alone() {
    let mut world = World::new();
    let mut parts = Parts::sound();
    parts.more = zone("b");
    world.write(&parts);
    world.start().unwrap();
    let kept = world.certificate_of("b.example");
    std::fs::rename(world.path("b.key"), world.path("b.away")).unwrap();
    parts.more.push_str(&zone("c"));
    world.write(&parts);
    world.node().reload();
    assert!(
        kept.is_some() && world.certificate_of("b.example") == kept,
        "it is served as before"
    );
    assert_eq!((world.is_out("b"), world.is_out("c")), (Some(false), Some(false)));
    let notes = world.node().state.load().notes();
    assert!(
        notes.len() == 1 && notes[0].contains("b.key") && notes[0].contains("as before"),
        "{notes:?}"
    );
    world.stop().await;

    // At a start nothing served it before: its handshakes are refused, also where another
    // certificate would cover the name.
    world.port = free_port();
    world.write(&parts);
    let checked = crate::node::check(crate::config::Config::read(&world.path("edge.toml")).unwrap());
    assert!(
        checked.is_err_and(|error| error.to_string().contains("b.key")),
        "a check fails all the same"
    );
    parts.more = format!("{}{}", zone("b"), zone("c").replace("hosts", "default = true\nhosts"));
    world.write(&parts);
    world.start().unwrap();
    assert_eq!((world.is_out("b"), world.is_out("c")), (Some(true), Some(false)));
    assert_eq!(world.certificate_of("b.example"), None);
    assert!(world.certificate_of("nobody.example").is_some(), "the default zone's");

    // A new zone that cannot be prepared stands aside, too; and one that can be again is served.
    std::fs::rename(world.path("b.away"), world.path("b.key")).unwrap();
    parts.more.push_str(&zone("d"));
    world.write(&parts);
    world.node().reload();
    assert_eq!((world.is_out("b"), world.is_out("d")), (Some(false), Some(true)));
    assert!(world.certificate_of("b.example").is_some());

    parts.server.push_str("zones_fail = \"together\"\n");
    world.write(&parts);
    let before = world.in_force();
    world.node().reload();
    assert_eq!(world.in_force(), before, "together: nothing is taken");
    world.stop().await;
}

/// A renewed certificate is served without a reload; one that is broken is not, and the others are
/// renewed all the same.
#[tokio::test]
async fn certificates_are_renewed_without_a_reload() {
    let mut world = World::new();
    world.write(&Parts::sound());
    world.start().unwrap();
    let (a, w) = (world.certificate_of("a.example"), world.certificate_of("w.example"));
    world.certificate("a");
    std::fs::write(world.path("w.pem"), "half of a").unwrap();
    let node = world.node();
    node.renew(node.changes.clone().try_lock_owned().unwrap());
    assert!(world.certificate_of("a.example").is_some_and(|new| Some(new) != a));
    assert_eq!(world.certificate_of("w.example"), w);
    world.stop().await;
}

/// Clients would be told of ports that are closed, or not of those that are open; and XDP would
/// judge the wrong ones.
#[tokio::test]
async fn what_is_open_is_asked_of_the_sockets() {
    let mut world = World::new();
    let mut parts = Parts::sound();
    world.write(&parts);
    world.start().unwrap();
    let node = world.node();
    let (open, port) = (vec![world.port], world.port);
    let status = || crate::admin::Control::status(&**node);
    let udp = |parts: &Parts, port| {
        std::fs::write(world.path("edge.toml"), parts.text(world.directory.path(), port)).unwrap();
        let prepared = node.prepare(node.overrides.configuration().unwrap()).unwrap();
        let dataplane = prepared.gathered.state.config.dataplane.clone();
        let advertised = node.open.advertised(&prepared.gathered.state.config.server);
        node.install(prepared);
        (dataplane.tcp_ports, dataplane.udp_ports, advertised)
    };
    for _ in 0..2 {
        assert_eq!(udp(&parts, free_port()), (open.clone(), open.clone(), open.clone()));
        assert_eq!(status()["listeners"]["https"][0], format!("127.0.0.1:{port}"));
    }
    parts.server.push_str("http3 = false\n");
    assert_eq!(
        udp(&parts, port),
        (open.clone(), open.clone(), Vec::new()),
        "open still, and not told of any more"
    );
    world.stop().await;
    world.port = free_port();
    world.write(&parts);
    world.start().unwrap();
    let parts = Parts::sound();
    world.write(&parts);
    let prepared = world
        .node()
        .prepare(world.node().overrides.configuration().unwrap())
        .unwrap();
    let config = &prepared.gathered.state.config;
    assert_eq!(config.dataplane.udp_ports, Vec::<u16>::new());
    assert_eq!(world.node().open.advertised(&config.server), Vec::<u16>::new());
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.stop().await;
}

/// An operator finds a figure on a dashboard, and nowhere what it means.
#[tokio::test]
async fn every_metric_is_in_the_reference() {
    let mut world = World::new();
    let mut parts = Parts::sound();
    parts.worker.push_str("[zone.cache]\n");
    world.write(&parts);
    world.start().unwrap();
    // Families without a value yet are left out of the text; the registry itself knows them.
    let registry = format!("{:?}", world.running.as_ref().unwrap().registry);
    let reference = include_str!("../../../../docs/metrics.md");
    let mut count = 0;
    // A registry tells its prefix before its metrics, and these before its parts.
    for part in registry.split("Registry { prefix: ").skip(1) {
        let prefix = part
            .strip_prefix("Some(Prefix(\"")
            .and_then(|rest| rest.split('"').next());
        for described in part.split("Descriptor { name: \"").skip(1) {
            let name = described.split('"').next().unwrap();
            let name = prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}_{name}"));
            assert!(
                reference.contains(&format!("| `{name}")),
                "docs/metrics.md does not tell of {name}"
            );
            count += 1;
        }
    }
    assert!(count > 60, "only {count} metrics were found");
    world.stop().await;
}

/// A panel of a dashboard, or an alert, would stay empty for ever: it asks for a metric that there
/// is not.
#[test]
fn dashboards_ask_for_metrics_that_there_are() {
    let reference = include_str!("../../../../docs/metrics.md");
    let mut left = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts"))];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let is_monitoring = path
            .extension()
            .is_some_and(|kind| kind == "json" || kind == "yml" || kind == "yaml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for name in asked(&text).filter(|_| is_monitoring) {
            assert!(
                reference.contains(&format!("`{name}")),
                "{} asks for {name}, which docs/metrics.md does not know",
                path.display()
            );
        }
    }
    // A recorded rule has colons in its name, and is no metric.
    let query = "zone:edge_x:ratio + sum(rate(edge_a_b_total[5m])) / edge_c_seconds_bucket{x=\"edge\"}";
    assert_eq!(asked(query).collect::<Vec<_>>(), ["edge_a_b", "edge_c_seconds"]);
}

/// The metrics that a query names, without what the text format adds to their names.
fn asked(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':'));
    let names = words.filter(|word| word.starts_with("edge_") && word.len() > "edge_".len());
    names.map(|name| {
        let added = ["_total", "_bucket", "_sum", "_count"];
        added.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    })
}
