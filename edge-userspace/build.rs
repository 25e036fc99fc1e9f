//! Puts the eBPF object into the daemon, if it has been built: `cargo xtask build-ebpf` leaves it in `target/ebpf/`.
//! Without it the daemon builds all the same, and says at start how to get it.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=EDGE_EBPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("edge.o");
    let object = match env::var_os("EDGE_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => {
            let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| manifest.join("../target"), PathBuf::from);
            let directory = target.join("ebpf");
            // Cargo takes a watched path that does not exist for one that always changes; a directory that exists
            // changes when the object appears in it.
            fs::create_dir_all(&directory)?;
            println!("cargo::rerun-if-changed={}", directory.display());
            directory.join("edge.o")
        }
    };
    if object.exists() {
        println!("cargo::rerun-if-changed={}", object.display());
        fs::copy(&object, &out)?;
    } else {
        fs::write(&out, [])?;
    }
    Ok(())
}
