//! `cargo xtask conform h3i`: requests and malformed frames by h3i, a client of quiche's authors,
//! each with what RFC 9114 or RFC 9204 asks a server to do. The client is a package of its own
//! (`tests/h3i`), so that nothing else builds BoringSSL.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process, free_address};

use crate::workspace::{self, Profile};

/// HTTP/3, by h3i: requests as they should be, and malformed ones, each with the code that the RFC
/// asks for.
///
/// Starts an edge on loopback before the demo's origin. Building the client for the first time
/// takes some minutes: it brings BoringSSL.
#[derive(clap::Args)]
pub(crate) struct H3i {
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    pub(super) no_build: bool,
}

const HOST: &str = "h3i.example.test";
const START: Duration = Duration::from_secs(30);
/// Of all cases; each that expects the connection to end waits three seconds at most.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the client, starts what it talks to, and runs it.
pub(crate) fn run(h3i: &H3i) -> Result<()> {
    let build = workspace::output("h3i")?;
    if !h3i.no_build {
        workspace::prepare(&[workspace::SETUP_CONFORM, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(Profile::Dev)?;
        let mut cargo = workspace::cargo_command();
        cargo
            .args([
                "build",
                "--locked",
                "--manifest-path",
                "tests/h3i/Cargo.toml",
                "--target-dir",
            ])
            .arg(&build);
        workspace::run(&mut cargo)?;
    }
    let directory = workspace::output("conform/h3i")?;
    let origin = free_address()?;
    let mut command = Command::new(workspace::binary("demo-origin", Profile::Dev));
    command.arg(origin.to_string());
    let mut server = Process::spawn(&mut command, &directory.join("origin.log"))?;
    server.wait_port(origin, START)?;
    let address = free_address()?;
    let _edge = edge(&directory, address, origin)?;
    let mut client = Command::new(build.join("debug/edge-h3i"));
    let output = process::output(client.arg(address.to_string()).arg(HOST), LIMIT)?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    workspace::give_back(&directory)?;
    ensure!(
        output.status.success(),
        "not every case was met {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn edge(directory: &Path, address: SocketAddr, origin: SocketAddr) -> Result<Process> {
    let authority = Authority::new("Edge h3i CA")?;
    let leaf = authority.write_leaf(directory, "leaf", &[HOST])?;
    let configuration = format!(
        r#"[server]
https = ["{address}"]
[dataplane]
xdp = "off"
[admin]
listen = "unix:{admin}"
[[zone]]
name = "h3i"
hosts = ["{HOST}"]
certificate = "{certificate}"
key = "{key}"
[zone.origin]
servers = [{{ address = "http://{origin}" }}]
"#,
        admin = directory.join("admin.sock").display(),
        certificate = leaf.certificate.display(),
        key = leaf.key.display(),
    );
    let file = directory.join("edge.toml");
    fs::write(&file, configuration)?;
    let mut command = Command::new(workspace::binary("edge", Profile::Dev));
    command
        .args(["run", "--no-xdp", "--log-format", "json", "--config"])
        .arg(&file);
    let mut edge = Process::spawn(&mut command, &directory.join("edge.log"))?;
    edge.wait_port(address, START)?;
    Ok(edge)
}
