//! The compiler that builds the JavaScript engine: a clang with its linker for WebAssembly and its
//! runtime library for wasm32.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::packages;
use crate::workspace;

/// Versions that are looked for, best first. The newest of them is what this repository is tested
/// with.
const VERSIONS: &[u32] = &[22, 21, 20, 19, 18, 17, 16];

/// A clang for wasm32.
#[derive(Clone, Debug)]
pub(crate) struct Clang {
    version: u32,
    /// `clang`.
    pub(crate) compiler: PathBuf,
    /// `wasm-ld`.
    pub(crate) linker: PathBuf,
    /// `libclang_rt.builtins`, for wasm32.
    pub(crate) builtins: PathBuf,
}

impl fmt::Display for Clang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clang {} ({})", self.version, self.compiler.display())
    }
}

impl Clang {
    /// What is on this machine.
    pub(crate) fn find() -> Option<Self> {
        VERSIONS.iter().find_map(|version| Self::of(*version))
    }

    fn of(version: u32) -> Option<Self> {
        let compiler = workspace::tool(&format!("clang-{version}"))?;
        let linker = workspace::tool(&format!("wasm-ld-{version}"))?;
        let output = Command::new(&compiler).arg("-print-resource-dir").output().ok()?;
        let resources = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let builtins = builtins(&resources.join("lib"))?;
        Some(Self {
            version,
            compiler,
            linker,
            builtins,
        })
    }
}

/// Named by target or by architecture, as distributions like.
fn builtins(directory: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        let name = path.file_name()?.to_string_lossy().into_owned();
        if path.is_dir() && name.contains("wasm32") || name == "wasi" {
            for library in std::fs::read_dir(&path).ok()?.flatten() {
                let file = library.file_name().to_string_lossy().into_owned();
                if file.starts_with("libclang_rt.builtins") && file.ends_with(".a") {
                    return Some(library.path());
                }
            }
        }
    }
    None
}

/// Finds one, or installs one; `None` if `check` forbids that.
pub(super) fn ensure(check: bool) -> Result<Option<Clang>> {
    if let Some(clang) = Clang::find() {
        return Ok(Some(clang));
    }
    if check {
        return Ok(None);
    }
    let names = |version: u32| {
        [
            format!("clang-{version}"),
            format!("lld-{version}"),
            format!("libclang-rt-{version}-dev-wasm32"),
        ]
    };
    if packages::available() {
        packages::refresh()?;
        let known = |version: &&u32| names(**version).iter().all(|name| packages::candidate(name).is_some());
        if let Some(version) = VERSIONS.iter().find(known) {
            let names = names(*version);
            packages::install(&names.each_ref().map(String::as_str))?;
            if let Some(clang) = Clang::find() {
                return Ok(Some(clang));
            }
        }
    }
    bail!(
        "no clang for wasm32: install {} (Debian's names), or the like, and run this again",
        names(VERSIONS.first().copied().unwrap_or(0)).join(", ")
    )
}
