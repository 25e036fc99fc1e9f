//! `cargo xtask run`: the demo, or the daemon on real interfaces; becomes root where it must.
//!
//! Building is done as the user who asked; only what touches the network runs as root.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::demo;
use crate::workspace::{self, Profile};

/// Run the demo, or with arguments after `--` the daemon.
///
/// Without arguments: two network namespaces, a local CA, an origin and the edge between them;
/// prints commands to try and `ready`, and removes everything on Ctrl-C. With arguments, for
/// example `cargo xtask run -- --interface eth0 --config edge.toml`: builds the daemon and becomes
/// `edge run` with them.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Build without optimisation: quicker to start, slower to serve
    #[arg(long)]
    dev: bool,
    /// Use what was built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// The demo of a fleet: two nodes and their engine, on loopback, without root
    #[arg(long, conflicts_with = "daemon")]
    fleet: bool,
    /// How the demo attaches its XDP program
    #[arg(long, value_name = "MODE", default_value = "native", value_parser = ["native", "generic", "off", "auto"])]
    xdp: String,
    /// Arguments of `edge run`
    #[arg(last = true)]
    daemon: Vec<OsString>,
}

/// Builds, becomes root, runs.
pub(crate) fn run(run: &Run) -> Result<()> {
    let profile = if run.dev { Profile::Dev } else { Profile::Release };
    if !run.no_build {
        // The demo's clients are what tests use too.
        let setup = if run.daemon.is_empty() {
            workspace::SETUP_TEST
        } else {
            workspace::SETUP_BUILD
        };
        workspace::prepare(&[setup, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        if run.daemon.is_empty() && !run.fleet {
            workspace::prepare(&[workspace::BUILD_WORKERS])?;
        }
        workspace::build_binaries(profile)?;
    }
    for binary in ["edge", "edge-keyserver", "demo-origin"] {
        let path = workspace::binary(binary, profile);
        if !path.exists() {
            bail!("{} is missing: leave --no-build out", path.display());
        }
    }
    if run.fleet {
        return demo::fleet::run(profile);
    }
    if !rustix::process::geteuid().is_root() {
        return become_root(run);
    }
    if run.daemon.is_empty() {
        return demo::run(profile, &run.xdp);
    }
    let error = Command::new(workspace::binary("edge", profile))
        .arg("run")
        .args(&run.daemon)
        .exec();
    Err(error).context("starting edge")
}

/// Replaces this process by itself under sudo; returns only if that fails.
fn become_root(run: &Run) -> Result<()> {
    let Some(sudo) = workspace::tool("sudo") else {
        bail!(
            "this needs root (network namespaces, XDP, port 443) and there is no sudo: run it as root, or give \
             target/release/edge the capabilities of scripts/edge.service"
        );
    };
    println!("asking sudo for root: network namespaces, XDP and port 443 need it");
    let mut command = Command::new(sudo);
    // sudo empties the environment; these say where the binaries are.
    for name in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            let mut pair = OsString::from(name);
            pair.push("=");
            pair.push(value);
            command.arg(pair);
        }
    }
    command
        .arg(std::env::current_exe()?)
        .args(["run", "--no-build", "--xdp", &run.xdp]);
    if run.dev {
        command.arg("--dev");
    }
    let error = command.arg("--").args(&run.daemon).exec();
    Err(error).context("starting sudo")
}
