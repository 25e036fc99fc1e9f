//! `cargo xtask conform h3i`: requests and malformed frames by h3i, a client of quiche's authors,
//! each with what RFC 9114 or RFC 9204 asks a server to do. The client is a package of its own
//! (`tests/h3i`), so that nothing else builds BoringSSL.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use edge_testbed::process;

use super::node;
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
    let (address, _processes) = node::before_demo_origin(HOST, &directory)?;
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
