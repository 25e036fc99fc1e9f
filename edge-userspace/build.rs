//! Puts what other compilers made into the daemon, if it has been built: the eBPF object, which
//! `cargo xtask build-ebpf` leaves in `target/ebpf/`, and the JavaScript engine, which `cargo xtask
//! build-js` leaves in `target/js/`. Without them the daemon builds all the same, and says how to
//! get them.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    embed("EDGE_EBPF_OBJECT", "ebpf", "edge.o")?;
    embed("EDGE_JS_ENGINE", "js", "engine.wasm")
}

/// Copies `target/<directory>/<name>`, or what the variable names, to where the sources include it;
/// empty if there is none.
fn embed(variable: &str, directory: &str, name: &str) -> io::Result<()> {
    println!("cargo::rerun-if-env-changed={variable}");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join(name);
    let built = match env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| manifest.join("../target"), PathBuf::from);
            let directory = target.join(directory);
            // Cargo takes a watched path that does not exist for one that always changes; a
            // directory that exists changes when the file appears in it.
            fs::create_dir_all(&directory)?;
            println!("cargo::rerun-if-changed={}", directory.display());
            directory.join(name)
        }
    };
    if built.exists() {
        println!("cargo::rerun-if-changed={}", built.display());
        fs::copy(&built, &out)?;
    } else {
        fs::write(&out, [])?;
    }
    Ok(())
}
