//! An edge and a far end as processes, over real sockets: what a client gets, what crosses between the two, and what happens when
//! the far end dies, comes back, or is asked by a stranger.
//!
//! If these fail, clients get wrong bytes, or whole pages cross where a few hundred bytes would do.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod checkout;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process};
use rustix::process::Signal;

const HOST: &str = "shop.example.test";
const START: Duration = Duration::from_secs(30);

struct World {
    edge: Process,
    far: Process,
    _origin: Process,
    edge_address: SocketAddr,
    far_address: SocketAddr,
    directory: tempfile::TempDir,
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

fn far_end(directory: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(checkout::binaries().join("edge"));
    command.args(["far-end", "--config"]).arg(directory.join("far.toml"));
    let mut far = Process::spawn(&mut command, &directory.join("far.log")).unwrap();
    far.wait_port(address, START).unwrap();
    far
}

impl World {
    fn start() -> Self {
        checkout::build();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let authority = Authority::new("Edge test CA").unwrap();
        authority.write(&path.join("ca.pem")).unwrap();
        authority.write_leaf(path, "shop", &[HOST]).unwrap();
        let hop = Authority::new("Edge test hop CA").unwrap();
        hop.write(&path.join("hop-ca.pem")).unwrap();
        hop.write_leaf(path, "far", &["far.example.test"]).unwrap();
        hop.write_leaf(path, "near", &["near.example.test"]).unwrap();
        let (origin_address, far_address, edge_address) = (free(), free(), free());
        let zone = format!("[zone.origin]\nservers = [{{ address = \"http://{origin_address}\" }}]\n");
        let far = format!(
            "[server]\nlisten = [\"{far_address}\"]\ncertificate = \"far.pem\"\nkey = \"far.key\"\nnear_ends = \"hop-ca.pem\"\n\
             workers = 2\n[store]\ndirectory = \"store\"\n[admin]\nlisten = \"unix:{}\"\n\
             [[zone]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\n{zone}",
            path.join("far.sock").display()
        );
        fs::write(path.join("far.toml"), far).unwrap();
        let edge = format!(
            "[server]\nhttps = [\"{edge_address}\"]\nworkers = 2\n[admin]\nlisten = \"unix:{}\"\n\
             [[far_end]]\nname = \"beside\"\nservers = [{{ address = \"https://{far_address}\" }}]\n\
             server_name = \"far.example.test\"\nca = \"hop-ca.pem\"\ncertificate = \"near.pem\"\nkey = \"near.key\"\n\
             [[zone]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\ncertificate = \"shop.pem\"\nkey = \"shop.key\"\n\
             delta = \"beside\"\n{zone}",
            path.join("edge.sock").display()
        );
        fs::write(path.join("edge.toml"), edge).unwrap();

        let mut command = Command::new(checkout::binaries().join("demo-origin"));
        let mut origin = Process::spawn(command.arg(origin_address.to_string()), &path.join("origin.log")).unwrap();
        origin.wait_line("listening", START).unwrap();
        let far = far_end(path, far_address);
        let mut command = Command::new(checkout::binaries().join("edge"));
        command
            .args(["run", "--xdp", "off", "--log-format", "json", "--config"])
            .arg(path.join("edge.toml"));
        let mut edge = Process::spawn(&mut command, &path.join("edge.log")).unwrap();
        edge.wait_port(edge_address, START).unwrap();
        Self {
            edge,
            far,
            _origin: origin,
            edge_address,
            far_address,
            directory,
        }
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.directory.path().join("ca.pem"))
            .args(["--connect-to", &format!("::{}", self.edge_address)])
            .args(arguments)
            .arg(format!("https://{HOST}{path}"));
        process::output(&mut curl, START).unwrap()
    }

    fn get(&self, path: &str) -> String {
        let output = self.curl(path, &["--fail"]);
        assert!(output.status.success(), "{path}: {output:?}\n{}", self.edge.tail());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A near end's figure: the metric's name and labels, then its value.
    fn figure(&self, name: &str) -> u64 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--unix-socket"])
            .arg(self.directory.path().join("edge.sock"))
            .arg("http://localhost/metrics");
        let output = process::output(&mut curl, START).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    fn served(&self, outcome: &str) -> u64 {
        self.figure(&format!(
            "edge_delta_requests_total{{end=\"near\",outcome=\"{outcome}\"}}"
        ))
    }
}

#[test]
fn differences_over_sockets() {
    let mut world = World::start();

    // Pages that change on every request: whole once, then what changed.
    let first = world.get("/changing/100000");
    for _ in 0..20 {
        let page = world.get("/changing/100000");
        assert!(page != first && page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    }
    assert_eq!((world.served("zstd"), world.served("dcz")), (1, 20));
    let hop = world.figure("edge_delta_hop_bytes_total{end=\"near\",encoding=\"dcz\"}");
    let content = world.figure("edge_delta_content_bytes_total{end=\"near\",encoding=\"dcz\"}");
    assert!(content > 2_000_000 && hop * 100 < content, "{hop} bytes for {content}");
    let bytes = world.get("/bytes/3000000");
    assert!(bytes.len() == 3_000_000 && bytes.bytes().all(|b| b == b'e'));

    // The origin sees the client and the edge's question, and nothing of the hop.
    let seen = world.get("/inspect").to_lowercase();
    assert!(
        seen.contains("x-forwarded-for: 127.0.0.1") && seen.contains("x-forwarded-proto: https"),
        "{seen}"
    );
    assert!(seen.contains(&format!("host: {HOST}")) && !seen.contains("edge-delta") && !seen.contains("dictionary"));

    // What is no resource's content goes through as it is.
    let posted = world.curl("/echo", &["--data", "some content", "--http1.1"]);
    assert_eq!(posted.stdout, b"some content");
    let head = world.curl("/healthz", &["--head"]);
    assert!(
        String::from_utf8_lossy(&head.stdout).starts_with("HTTP/2 200"),
        "{head:?}"
    );
    let gone = world.curl("/status/410", &["--write-out", "%{http_code}"]);
    assert_eq!(gone.stdout, b"410");

    // A stranger, with no certificate or another authority's, is not spoken to.
    let strange = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--insecure", "--max-time", "10", "--http2-prior-knowledge"])
            .args(arguments)
            .current_dir(world.directory.path())
            .arg(format!("https://{}/", world.far_address));
        process::output(&mut curl, START).unwrap()
    };
    assert!(!strange(&[]).status.success());
    assert!(!strange(&["--cert", "shop.pem", "--key", "shop.key"]).status.success());
    assert!(strange(&["--cert", "near.pem", "--key", "near.key"]).status.success());

    // The far end is killed: the origin answers, uploads included.
    world.far.kill().unwrap();
    for _ in 0..3 {
        assert!(world.get("/changing/100000").ends_with("</html>\n"));
    }
    assert_eq!(world.curl("/echo", &["--data", "again"]).stdout, b"again");
    assert!(world.served("direct") >= 3);

    // It comes back with what it had on disk: no page has to cross whole.
    world.far = far_end(world.directory.path(), world.far_address);
    std::thread::sleep(Duration::from_millis(1_100));
    let (whole, changed) = (world.served("zstd"), world.served("dcz"));
    for _ in 0..3 {
        world.get("/changing/100000");
    }
    assert_eq!((world.served("zstd"), world.served("dcz")), (whole, changed + 3));

    // A reload finds a far end that is nowhere named any more, and the zone goes on without.
    let file = world.directory.path().join("edge.toml");
    let text = fs::read_to_string(&file).unwrap().replace("delta = \"beside\"\n", "");
    fs::write(&file, text).unwrap();
    world.edge.signal(Signal::HUP).unwrap();
    world.edge.wait_line("reloaded", START).unwrap();
    assert!(world.get("/changing/100000").ends_with("</html>\n"));
    assert_eq!(world.served("dcz"), changed + 3);
    assert_eq!(world.edge.stop(START).unwrap().code(), Some(0));
    assert_eq!(world.far.stop(START).unwrap().code(), Some(0));
}
