//! The checkout that a test belongs to, and its binaries.

use std::path::{Path, PathBuf};
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

/// Brings the binaries of all packages up to date: the test runner alone does not build those of
/// others.
pub(crate) fn build() {
    let mut build = process::cargo();
    build
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(root());
    assert!(process::run(&mut build, BUILD).unwrap().success());
}
