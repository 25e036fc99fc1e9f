//! The checkout that a test belongs to, and its binaries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edge_testbed::process;

/// Building where nothing is built yet.
const BUILD: Duration = Duration::from_secs(20 * 60);

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where cargo puts the binaries of this build.
pub(crate) fn binaries() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_demo-origin"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Brings the binaries of all packages up to date: the test runner alone does not build those of others.
pub(crate) fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(root());
    // What the test runner set for this test would make build scripts of libraries run again, and all that stands on them.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name.as_ref());
        }
    }
    assert!(process::run(&mut build, BUILD).unwrap().success());
}
