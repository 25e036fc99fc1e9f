//! `cargo xtask build-workers`: components of Rust projects, with the toolchain that `setup` found
//! for eBPF. That toolchain has the standard library's source, so that no ready target is needed;
//! elsewhere rustup's `wasm32-wasip2` does the same.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::Toolchain;
use crate::workspace;

/// The target that the source of the standard library is built for; the linker makes a component of
/// it.
const TARGET: &str = "wasm32-unknown-unknown";
/// Makes components; comes with rustc.
const LINKER: &str = "wasm-component-ld";

/// Build workers: those of this repository, or a project that `edge worker new` wrote.
///
/// Those of this repository go to target/workers, those of a project to its own target directory.
/// Does nothing if they are up to date.
#[derive(clap::Args)]
pub(crate) struct BuildWorkers {
    /// The project, with a Cargo.toml
    directory: Option<PathBuf>,
}

/// Builds them.
pub(crate) fn run(build: &BuildWorkers) -> Result<()> {
    let (source, built, output) = match &build.directory {
        Some(directory) => {
            let directory = directory
                .canonicalize()
                .with_context(|| format!("{} is not there", directory.display()))?;
            let target = directory.join("target");
            (directory, target.clone(), target)
        }
        None => (
            workspace::root().join("tests/workers"),
            workspace::output("workers-build")?,
            workspace::output("workers")?,
        ),
    };
    let toolchain = Toolchain::load()?;
    let tools = tools()?;
    let mut path = OsString::from(&tools);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = workspace::cargo_command();
    command
        .current_dir(&source)
        // Cargo is the caller's; only the compiler is another.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env("RUSTC", &toolchain.rustc)
        // -Z build-std in a released compiler, and in cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        // The linker of components asks for another one by name.
        .env("PATH", path)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", tools.join(LINKER))
        .args(["build", "--release", "--quiet", "--target", TARGET])
        .args([
            "-Z",
            "build-std=std,panic_abort",
            "-Z",
            "build-std-features=",
            "--target-dir",
        ])
        .arg(&built);
    workspace::run(&mut command).context("the workers were not built")?;
    let mut names = Vec::new();
    for entry in fs::read_dir(built.join(TARGET).join("release"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            let name = path.file_name().context("a file without a name")?.to_owned();
            // One that has not changed keeps its date.
            let to = output.join(&name);
            let bytes = fs::read(&path)?;
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))?;
            }
            names.push(name.to_string_lossy().into_owned());
        }
    }
    if names.is_empty() {
        bail!("{} has no library of type cdylib", source.display());
    }
    names.sort();
    println!("build-workers: {} in {}", names.join(", "), output.display());
    Ok(())
}

/// The directory of rustc's own linkers.
fn tools() -> Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("asking rustc where it is")?;
    let sysroot = String::from_utf8(output.stdout)?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let directory = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    if !directory.join(LINKER).is_file() {
        bail!(
            "{} is not in {}: install rustup's toolchain, which has it",
            LINKER,
            directory.display()
        );
    }
    Ok(directory)
}
