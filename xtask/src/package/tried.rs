//! The package in a clean Debian: installed, asked what it is, started with the configuration that
//! it brings, asked for a page, and removed. No compiler, no checkout, nothing of this machine's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::netns::Netns;
use edge_testbed::process::{self, Process};

use crate::workspace;

const RELEASE: &str = "bookworm";
const TIME: Duration = Duration::from_secs(900);
const START: Duration = Duration::from_secs(60);

/// Installs `deb` in a root made at `root`, and runs it.
pub(super) fn run(deb: &Path, root: &Path) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a root of its own needs root: `sudo -E env PATH=$PATH cargo xtask package --try`"
    );
    let base = workspace::output("package-base")?;
    if !base.join("etc/debian_version").exists() {
        let debootstrap = workspace::need("debootstrap", &["setup", "package"])?;
        let _ = fs::remove_dir_all(&base);
        let mut command = Command::new(debootstrap);
        command
            .args(["--variant=minbase", "--include=ca-certificates", RELEASE])
            .arg(&base);
        workspace::run(&mut command).context("no clean Debian could be made")?;
    }
    workspace::run(Command::new("cp").arg("--archive").arg(&base).arg(root))?;
    let result = installed(deb, root);
    let removed = fs::remove_dir_all(root).context("removing the root");
    result.and(removed)
}

fn installed(deb: &Path, root: &Path) -> Result<()> {
    fs::copy(deb, root.join("edge.deb"))?;
    say(root, &["dpkg", "--install", "/edge.deb"])?;
    println!("{}", say(root, &["edge", "version"])?.trim());
    for program in ["cargo", "rustc", "cc", "clang"] {
        ensure!(
            say(root, &["sh", "-c", &format!("command -v {program}")]).is_err(),
            "the clean root has {program}"
        );
    }
    let owner = say(
        root,
        &["stat", "--format=%U:%G %a", "/etc/edge", "/etc/edge-keyserver/keys"],
    )?;
    ensure!(
        owner.contains("root:edge 750") && owner.contains("root:edge-keyserver 750"),
        "{owner}"
    );
    // The configuration as it comes is sound, and serves its page; without an authority to ask, by
    // its stand-in.
    say(root, &["edge", "check"])?;
    let network = Netns::create("package")?;
    network.ip(&["link", "set", "lo", "up"])?;
    let mut command = network.command("chroot")?;
    command
        .arg(root)
        .args(["/usr/bin/edge", "run", "--no-xdp", "--log-format", "json"]);
    let mut edge = Process::spawn(&mut command, &root.join("edge.log"))?;
    edge.wait_line("\"serving\"", START)?;
    let mut curl = network.command(workspace::need("curl", workspace::SETUP_TEST)?)?;
    curl.args(["--silent", "--show-error", "--fail", "--insecure", "--max-time", "10"])
        .args(["--resolve", "www.example.com:443:127.0.0.1", "https://www.example.com/"]);
    let output = process::output(&mut curl, START)?;
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        page.contains("edge serves this page"),
        "{page}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let status = edge.stop(START)?;
    ensure!(status.success(), "the daemon ended with {status}:\n{}", edge.tail());
    say(root, &["dpkg", "--purge", "edge"])?;
    ensure!(!root.join("usr/bin/edge").exists(), "the daemon is left behind");
    println!("installed, checked, run, asked and removed in a clean Debian {RELEASE}");
    Ok(())
}

/// Runs a command in the root; what it says.
fn say(root: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = process::output(&mut command, TIME)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}: {text}{}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
