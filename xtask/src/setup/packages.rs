//! Packages of Debian and Ubuntu. Elsewhere, and where nobody may install, the commands to type are
//! the error.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Whether packages come by apt here.
pub(super) fn available() -> bool {
    workspace::tool("apt-get").is_some() && workspace::tool("apt-cache").is_some()
}

/// The version that apt would install; `None` if it knows no such package.
pub(super) fn candidate(package: &str) -> Option<String> {
    let output = Command::new("apt-cache")
        .args(["policy", package])
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Installs a package that one can do without, and says whether it is there now.
pub(super) fn install_optional(package: &str) -> bool {
    available() && refresh().is_ok() && candidate(package).is_some() && install(&[package]).is_ok()
}

/// Gets the lists of packages, once a run: those that came with the machine's image may name what
/// the archive no longer has, and lack what it has since. Where the archive cannot be reached,
/// those that are there must do.
pub(super) fn refresh() -> Result<()> {
    static REFRESHED: AtomicBool = AtomicBool::new(false);
    if REFRESHED.swap(true, Relaxed) {
        return Ok(());
    }
    let updated = apt(&["update"]);
    let lists = Path::new("/var/lib/apt/lists");
    let there = std::fs::read_dir(lists).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    });
    if there {
        return Ok(());
    }
    updated
}

/// Installs packages.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if !available() {
        bail!(
            "missing on this machine: {}; install them (these are Debian's package names) and run this again",
            packages.join(", ")
        );
    }
    refresh()?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    println!("setup: installing {}", packages.join(" "));
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("env")
    } else if let Some(sudo) = workspace::tool("sudo") {
        let mut command = Command::new(sudo);
        command.arg("env");
        command
    } else {
        bail!(
            "not root, and no sudo: run `apt-get {}` as root, then this again",
            arguments.join(" ")
        );
    };
    // RUNLEVEL=1: services in these packages (nginx) must not start on their own.
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        "-o",
        "Dpkg::Use-Pty=0",
        "-q",
    ]);
    workspace::run(command.args(arguments)).context("the package manager failed")
}
