//! Whether this run may load XDP programs and make network namespaces. Tests that need to ask here,
//! so that each says alike why it is skipped, and so that no CI passes by skipping.

use std::path::Path;

/// Whether the daemon of this checkout can attach its program: root, and a program that was built.
/// Otherwise says why not.
///
/// # Panics
/// As [`root`].
pub fn can_attach(checkout: &Path) -> bool {
    if !root() {
        return false;
    }
    let built = checkout.join("target/ebpf/edge.o").exists();
    if !built {
        eprintln!("SKIPPED: no XDP program, build it by `cargo xtask build-ebpf`");
    }
    built
}

/// Whether this process is root. Otherwise says so; a CI that is not fails.
///
/// # Panics
/// In a CI without root.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root (run `sudo -E cargo xtask test`)");
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
    }
    root
}
