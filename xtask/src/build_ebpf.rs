//! `cargo xtask build-ebpf`: the XDP program, as an object that the daemon's build embeds.
//!
//! `edge-ebpf` is apart from the workspace: its target has no ready `core`, and its linker reads
//! LLVM bitcode. The toolchain is the one that `setup` found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::Toolchain;
use crate::workspace;

/// The target: BPF, little endian, as all machines that run XDP in earnest are.
const TARGET: &str = "bpfel-unknown-none";

/// Build the XDP program that the daemon embeds.
///
/// Leaves it in target/ebpf/edge.o, where the next `cargo build` finds it. Does nothing if it is up
/// to date.
#[derive(clap::Args)]
pub(crate) struct BuildEbpf {
    /// Log every dropped packet from inside the kernel: to find faults, never for production
    #[arg(long)]
    debug_log: bool,
}

/// Builds it.
pub(crate) fn run(build: &BuildEbpf) -> Result<()> {
    let mut command = cargo(&Toolchain::load()?)?;
    command.args(["build", "--release", "--quiet"]);
    target(&mut command)?;
    if build.debug_log {
        command.args(["--features", "log"]);
    }
    workspace::run(&mut command).context("the XDP program was not built")?;
    let built = directory()?.join(TARGET).join("release/edge");
    let object = workspace::output("ebpf")?.join("edge.o");
    let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    // An object that has not changed keeps its date, or the daemon would be built again.
    if fs::read(&object).is_ok_and(|old| old == bytes) {
        println!("build-ebpf: {} is up to date", object.display());
    } else {
        let partial = object.with_extension("partial");
        fs::write(&partial, &bytes).with_context(|| format!("writing {}", partial.display()))?;
        fs::rename(&partial, &object).with_context(|| format!("writing {}", object.display()))?;
        println!("build-ebpf: {} ({} KB)", object.display(), bytes.len() / 1024);
    }
    Ok(())
}

/// Checks its format.
pub(crate) fn fmt() -> Result<()> {
    let mut command = workspace::cargo_command();
    workspace::run(command.current_dir(source()).args(["fmt", "--check"]))
}

/// Lints it: every warning is an error.
pub(crate) fn clippy() -> Result<()> {
    let toolchain = Toolchain::load()?;
    let driver = toolchain
        .clippy()
        .context("no clippy for the eBPF toolchain: run `cargo xtask setup lint`")?;
    let mut command = cargo(&toolchain)?;
    // What `cargo clippy` does, spelt out: that command belongs to one toolchain, and the compiler
    // may be of another.
    command
        .env("RUSTC_WORKSPACE_WRAPPER", driver)
        .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    command.args(["check", "--release", "--quiet"]);
    workspace::run(target(&mut command)?)
}

fn source() -> PathBuf {
    workspace::root().join("edge-ebpf")
}

/// Apart from target/ebpf: what is in there is watched by the daemon's build.
fn directory() -> Result<PathBuf> {
    workspace::output("ebpf-build")
}

fn cargo(toolchain: &Toolchain) -> Result<Command> {
    let mut command = workspace::cargo_command();
    let linker = toolchain
        .linker
        .to_str()
        .context("the path of this checkout is not UTF-8")?;
    let flags = [
        format!("linker={linker}"),
        // Line numbers in the verifier's log, and types for bpftool.
        "debuginfo=2".into(),
        "link-arg=--btf".into(),
        // The instructions of Linux 5.1 (ALU32 and 32-bit jumps).
        "target-cpu=v3".into(),
    ];
    let flags: Vec<_> = flags.iter().flat_map(|flag| ["-C", flag.as_str()]).collect();
    command
        .current_dir(source())
        // Cargo is the caller's; only the compiler is another.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env("RUSTC", &toolchain.rustc)
        // -Z build-std in a released compiler, and in cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(command)
}

fn target(command: &mut Command) -> Result<&mut Command> {
    let directory: &Path = &directory()?;
    Ok(command
        .args(["--locked", "-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(directory))
}
