//! The toolchain that builds eBPF: a rustc that comes with the source of `core` (the target has no
//! ready one), and a bpf-linker whose LLVM reads what this rustc writes. What was found is kept in
//! `target/tools/ebpf-toolchain.json`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{cargo_install, packages};
use crate::workspace;

/// The bpf-linker that this repository is tested with.
const BPF_LINKER: &str = "0.13.0";
/// Oldest rustc that takes the sources: `rust-version` of the workspace.
const OLDEST: (u32, u32) = (1, 95);
/// LLVM versions that this bpf-linker can be built against.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// Debian's and Ubuntu's Rust: compiler, source, clippy; the first with a version that is new
/// enough is taken.
const DISTRIBUTED: &[(&str, &str, &str)] = &[
    ("rustc", "rust-src", "rust-clippy"),
    ("rustc-web", "rust-web-src", "rust-web-clippy"),
];

/// A toolchain that builds eBPF.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Its version, as it says it.
    pub(crate) version: String,
    /// The rustup toolchain that it is; `None` for the distribution's.
    pub(crate) rustup: Option<String>,
    /// The linker.
    pub(crate) linker: PathBuf,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}), {}",
            self.version,
            self.rustc.display(),
            self.linker.display()
        )
    }
}

/// A compiler, before there is a linker for it.
struct Compiler {
    rustc: PathBuf,
    version: String,
    llvm: u32,
    rustup: Option<String>,
}

impl Toolchain {
    /// What `setup` found.
    pub(crate) fn load() -> Result<Self> {
        let path = record()?;
        let mend = "run `cargo xtask setup`";
        let text = std::fs::read_to_string(&path).with_context(|| format!("no eBPF toolchain yet: {mend}"))?;
        let toolchain: Self = serde_json::from_str(&text).with_context(|| format!("{}: {mend}", path.display()))?;
        if !toolchain.usable() {
            bail!("the eBPF toolchain has changed since `setup` ({toolchain}): {mend}");
        }
        Ok(toolchain)
    }

    /// Still there, and still the same compiler.
    fn usable(&self) -> bool {
        self.linker.is_file()
            && inspect(&self.rustc, self.rustup.clone()).is_some_and(|compiler| {
                compiler.version == self.version && linker_llvm(&self.linker).is_none_or(|llvm| llvm >= compiler.llvm)
            })
    }

    /// Whether clippy can be run with it.
    pub(crate) fn has_clippy(&self) -> bool {
        self.clippy().is_some()
    }

    /// A clippy of the same compiler: `clippy-driver` beside `rustc`.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        Some(self.rustc.parent()?.join("clippy-driver")).filter(|path| path.is_file())
    }

    pub(super) fn install_clippy(&self) -> Result<()> {
        match &self.rustup {
            Some(name) => {
                workspace::run(Command::new("rustup").args(["component", "add", "clippy", "--toolchain", name]))
            }
            None => {
                let package = DISTRIBUTED
                    .iter()
                    .find(|(rustc, ..)| installed(rustc))
                    .map(|(.., clippy)| *clippy)
                    .with_context(|| format!("{} has no clippy beside it: install one", self.rustc.display()))?;
                packages::install(&[package])
            }
        }
    }
}

/// Finds a toolchain, or makes one; `None` if `check` forbids that.
pub(super) fn ensure(check: bool) -> Result<Option<Toolchain>> {
    if let Ok(toolchain) = Toolchain::load() {
        return Ok(Some(toolchain));
    }
    let compiler = match compiler() {
        Some(compiler) => compiler,
        None if check => return Ok(None),
        None => install_compiler()?,
    };
    let linker = match linker(&compiler) {
        Some(linker) => linker,
        None if check => return Ok(None),
        None => build_linker(&compiler)?,
    };
    let toolchain = Toolchain {
        rustc: compiler.rustc,
        version: compiler.version,
        rustup: compiler.rustup,
        linker,
    };
    if !check {
        let path = record()?;
        std::fs::write(&path, serde_json::to_string_pretty(&toolchain)? + "\n")
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Some(toolchain))
}

fn record() -> Result<PathBuf> {
    Ok(workspace::output("tools")?.join("ebpf-toolchain.json"))
}

/// The best compiler on this machine: rustup's toolchains as rustup lists them, then the
/// distribution's.
fn compiler() -> Option<Compiler> {
    rustup()
        .into_iter()
        .map(|name| (rustup_rustc(&name), Some(name)))
        .chain([(Some(PathBuf::from("/usr/bin/rustc")), None)])
        .find_map(|(rustc, name)| inspect(&rustc?, name))
}

fn rustup() -> Vec<String> {
    let output = Command::new("rustup").args(["toolchain", "list", "--quiet"]).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn rustup_rustc(name: &str) -> Option<PathBuf> {
    let output = Command::new("rustup")
        .args(["which", "rustc", "--toolchain", name])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A compiler that is new enough and has the source of `core`.
fn inspect(rustc: &Path, rustup: Option<String>) -> Option<Compiler> {
    let ask = |argument: &[&str]| {
        let output = Command::new(rustc).args(argument).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let verbose = ask(&["-vV"])?;
    let release = verbose.lines().find_map(|line| line.strip_prefix("release: "))?;
    let llvm = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    if (numbers.next()?, numbers.next()?) < OLDEST {
        return None;
    }
    let source = Path::new(&ask(&["--print", "sysroot"])?).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    source.is_file().then_some(())?;
    Some(Compiler {
        rustc: rustc.to_owned(),
        version: verbose.lines().next()?.to_owned(),
        llvm: llvm.split('.').next()?.parse().ok()?,
        rustup,
    })
}

fn install_compiler() -> Result<Compiler> {
    if packages::available() {
        packages::refresh()?;
        let enough = |package: &str| {
            packages::candidate(package).is_some_and(|version| {
                let mut numbers = version.split(['.', '+', '-', '~']).map_while(|part| part.parse().ok());
                matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= OLDEST)
            })
        };
        if let Some((rustc, source, _)) = DISTRIBUTED
            .iter()
            .find(|(rustc, source, _)| enough(rustc) && enough(source))
        {
            packages::install(&[rustc, source])?;
            return inspect(Path::new("/usr/bin/rustc"), None)
                .context("the distribution's rustc was installed, but has no source of `core`");
        }
    }
    if let Some(name) = rustup().into_iter().find(|name| rustup_rustc(name).is_some()) {
        println!("setup: adding rust-src to {name}");
        workspace::run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", &name]))?;
        if let Some(compiler) = compiler() {
            return Ok(compiler);
        }
    }
    let (major, minor) = OLDEST;
    bail!(
        "no rustc {major}.{minor} or later with the source of `core`: `rustup toolchain install nightly --component \
         rust-src`, then this again"
    )
}

/// A bpf-linker that reads what the compiler writes: ours, or the user's own if it says which LLVM
/// it has.
fn linker(compiler: &Compiler) -> Option<PathBuf> {
    workspace::tool("bpf-linker").filter(|path| linker_llvm(path).is_some_and(|llvm| llvm >= compiler.llvm))
}

/// The LLVM that a bpf-linker is linked to; `None` if it was linked statically and does not tell.
fn linker_llvm(linker: &Path) -> Option<u32> {
    let output = Command::new("ldd").arg(linker).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = text.lines().find_map(|line| line.trim().strip_prefix("libLLVM"))?;
    // libLLVM.so.22.1, libLLVM-19.so.1
    name.trim_start_matches(['.', '-', 's', 'o'])
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn build_linker(compiler: &Compiler) -> Result<PathBuf> {
    if !LLVM.contains(&compiler.llvm) {
        bail!(
            "{} has LLVM {}, for which bpf-linker {BPF_LINKER} cannot be built (it takes {} to {})",
            compiler.version,
            compiler.llvm,
            LLVM.start(),
            LLVM.end()
        );
    }
    let (llvm, prefix) = llvm(compiler.llvm)?;
    println!(
        "setup: building bpf-linker {BPF_LINKER} with LLVM {llvm} ({})",
        prefix.display()
    );
    let feature = format!("llvm-{llvm}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(prefix.join("bin")).chain(std::env::split_paths(&path)))?;
    cargo_install(
        "bpf-linker",
        &["--version", BPF_LINKER, "--no-default-features", "--features", &feature],
        &[("LLVM_PREFIX", prefix.as_os_str()), ("PATH", &path)],
    )?;
    linker(compiler).context("bpf-linker was built, but not with the LLVM it should have")
}

/// The development files of an LLVM that is as new as the compiler's: its version and where it is.
fn llvm(oldest: u32) -> Result<(u32, PathBuf)> {
    let found = || {
        (oldest..=*LLVM.end()).find_map(|version| {
            [
                format!("/usr/lib/llvm-{version}"),
                format!("/usr/lib/llvm{version}"),
                format!("/usr/lib64/llvm{version}"),
            ]
            .iter()
            .map(PathBuf::from)
            .chain(std::env::var_os("LLVM_PREFIX").map(PathBuf::from))
            .find(|prefix| {
                let config = Command::new(prefix.join("bin/llvm-config")).arg("--version").output();
                config.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).starts_with(&format!("{version}.")))
            })
            .map(|prefix| (version, prefix))
        })
    };
    if packages::available() {
        packages::refresh()?;
        // Development files of LLVM need those of the libraries that it was built with, and
        // packages forget to say so.
        let version =
            (oldest..=*LLVM.end()).find(|version| packages::candidate(&format!("llvm-{version}-dev")).is_some());
        if let Some(version) = version {
            let names = [format!("llvm-{version}-dev"), format!("libpolly-{version}-dev")];
            let mut wanted: Vec<_> = names.iter().map(String::as_str).collect();
            wanted.extend(["libzstd-dev", "zlib1g-dev"]);
            wanted.retain(|package| packages::candidate(package).is_some() && !installed(package));
            if !wanted.is_empty() {
                packages::install(&wanted)?;
            }
        }
    }
    found().with_context(|| {
        format!("no development files of LLVM {oldest} or later: install them, or set LLVM_PREFIX to where they are")
    })
}

/// Whether the package is on this machine.
fn installed(package: &str) -> bool {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output();
    output.is_ok_and(|output| output.stdout == b"installed")
}
