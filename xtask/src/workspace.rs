//! Where things are, and how one command calls cargo or another command.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use edge_testbed::process;

/// Long enough for a full build on two slow cores.
const BUILD_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// What building needs.
pub(crate) const SETUP_BUILD: &[&str] = &["setup", "build"];
/// What the demo and the tests need.
pub(crate) const SETUP_TEST: &[&str] = &["setup", "build", "test"];
/// What linting needs.
pub(crate) const SETUP_LINT: &[&str] = &["setup", "build", "lint"];
/// What benches need.
pub(crate) const SETUP_BENCH: &[&str] = &["setup", "build", "bench"];
/// What feature `legacy-rsa` needs.
pub(crate) const SETUP_LEGACY: &[&str] = &["setup", "build", "legacy"];
/// What making a component of a script needs.
pub(crate) const SETUP_COMPONENTIZE: &[&str] = &["setup", "build", "test", "componentize"];
/// What the programs that look for mistakes in the edge need.
pub(crate) const SETUP_CONFORM: &[&str] = &["setup", "build", "conform"];
/// What running the XDP program under other kernels needs.
pub(crate) const SETUP_KERNELS: &[&str] = &["setup", "build", "kernels"];
/// The XDP program.
pub(crate) const BUILD_EBPF: &[&str] = &["build-ebpf"];
/// The JavaScript engine.
pub(crate) const BUILD_JS: &[&str] = &["build-js"];
/// The workers of tests, benches and the demo.
pub(crate) const BUILD_WORKERS: &[&str] = &["build-workers"];

/// Runs other commands of this program first, as if they had been typed.
pub(crate) fn prepare(commands: &[&[&str]]) -> Result<()> {
    for words in commands {
        let line = ["xtask"].iter().chain(words.iter());
        crate::dispatch(crate::Cli::try_parse_from(line)?)
            .with_context(|| format!("`cargo xtask {}` failed", words.join(" ")))?;
    }
    Ok(())
}

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    // At run time cargo says it too, which is right even for a checkout that was moved after the
    // build.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The directory for what commands produce themselves, such as `target/demo`.
pub(crate) fn output(name: &str) -> Result<PathBuf> {
    let path = root().join("target").join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// Under sudo: makes what root wrote below `directory` the property of who called sudo, so that
/// `cargo clean` can remove it.
pub(crate) fn give_back(directory: &Path) -> Result<()> {
    let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else {
        return Ok(());
    };
    // The link itself, never what it points to.
    std::os::unix::fs::lchown(directory, Some(user), Some(group))?;
    if directory.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(directory)? {
            give_back(&entry?.path())?;
        }
    }
    Ok(())
}

/// How a binary is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As users get it.
    Release,
    /// Faster to build.
    Dev,
}

/// Where cargo puts the binary `name`.
pub(crate) fn binary(name: &str, profile: Profile) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |directory| root().join(directory));
    target
        .join(if profile == Profile::Release {
            "release"
        } else {
            "debug"
        })
        .join(name)
}

/// Builds the daemon and the demo origin.
pub(crate) fn build_binaries(profile: Profile) -> Result<()> {
    let mut arguments = vec!["build", "--workspace", "--bins"];
    if profile == Profile::Release {
        // The daemon and what stands behind it, not this program again.
        arguments = vec![
            "build",
            "--release",
            "-p",
            "edge-userspace",
            "-p",
            "edge-testbed",
            "--bins",
        ];
    }
    cargo(&arguments)
}

/// Runs cargo in the checkout, with its output on ours.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(cargo_command().args(arguments))
}

/// Cargo, ready for arguments.
pub(crate) fn cargo_command() -> Command {
    let mut command = process::cargo();
    command.current_dir(root());
    command
}

/// Runs a command to its end; anything but success is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = process::run(command, BUILD_TIMEOUT)?;
    if !status.success() {
        bail!("`{}` failed ({status})", show(command));
    }
    Ok(())
}

/// A command as one would type it, for messages.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Finds a program in `target/tools/bin` (where `setup` puts its own) or in the search path.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(root().join("target/tools/bin"))
        .chain(std::env::split_paths(&path))
        // Debian keeps daemons where an ordinary user's search path does not look.
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Finds a program or says which command installs it.
pub(crate) fn need(name: &str, setup: &[&str]) -> Result<PathBuf> {
    tool(name).with_context(|| format!("`{name}` is missing: run `cargo xtask {}`", setup.join(" ")))
}
