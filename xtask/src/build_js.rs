//! `cargo xtask build-js`: the JavaScript engine of the isolates, as a WebAssembly module that the daemon's build embeds.
//!
//! QuickJS-ng's C sources come as a crate (`edge-userspace/js/source` names it) and are compiled by clang for wasm32, with our
//! glue, allocator and prelude from `edge-userspace/js`. What has been built from the same input is not built again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::Clang;
use crate::workspace;

/// The crate that carries the C sources.
const CRATE: &str = "rquickjs-sys";
const ENGINE: &[&str] = &["libregexp", "libunicode", "dtoa"];
const OURS: &[&str] = &["glue", "natives", "text", "os", "alloc"];
/// Ours, with QuickJS's main source within.
const BOTH: &str = "json";
/// Bytes of the engine's own stack; glue.c tells QuickJS of fewer, so that deep recursion is an exception.
const STACK: u32 = 256 << 10;
/// Changes when the commands below do, so that a cached object is not taken for one of theirs.
const RECIPE: &str = "1";

const FLAGS: &[&str] = &[
    "--target=wasm32-unknown-unknown",
    "-O3",
    "-DNDEBUG",
    "-mbulk-memory",
    "-msign-ext",
    "-mnontrapping-fptoint",
    "-mmutable-globals",
    "-D_GNU_SOURCE",
    // As the crate's own build does for WebAssembly: no threads, no floating-point environment.
    "-DEMSCRIPTEN=1",
    "-DFE_DOWNWARD=0",
    "-DFE_UPWARD=0",
];

/// Build the JavaScript engine that the daemon embeds.
///
/// Leaves it in target/js/engine.wasm, where the next `cargo build` finds it. Does nothing if it is up to date.
#[derive(clap::Args)]
pub(crate) struct BuildJs {}

/// Builds it.
pub(crate) fn run(_: &BuildJs) -> Result<()> {
    let clang = Clang::find().context("no clang for wasm32: run `cargo xtask setup`")?;
    let source = workspace::root().join("edge-userspace/js");
    let engine = engine_source(&source)?;
    let objects = workspace::output("js-build")?;
    let prelude = prelude(&source)?;

    let mut linked = Vec::new();
    let mut stamp = format!("{RECIPE} {clang}\n{}\n", FLAGS.join(" "));
    let upstream = stamp.clone() + &engine.display().to_string();
    let fresh = fs::read_to_string(objects.join("quickjs.stamp")).is_ok_and(|old| old.starts_with(&upstream));
    for name in ENGINE {
        let object = objects.join(format!("{name}.o"));
        if !fresh || !object.is_file() {
            let file = engine.join("quickjs").join(format!("{name}.c"));
            compile(&clang, &engine, &file, &object, &["-w"])?;
        }
        linked.push(object);
    }
    let both = source.join(format!("{BOTH}.c"));
    let upstream = upstream + &fs::read_to_string(&both)?;
    let object = objects.join(format!("{BOTH}.o"));
    if fs::read_to_string(objects.join("quickjs.stamp")).ok().as_ref() != Some(&upstream) || !object.is_file() {
        compile(&clang, &engine, &both, &object, &["-w"])?;
    }
    linked.push(object);
    stamp += &upstream;
    write(&objects.join("quickjs.stamp"), upstream.as_bytes())?;

    for name in OURS {
        stamp += &fs::read_to_string(source.join(format!("{name}.c")))?;
    }
    stamp += &fs::read_to_string(source.join("edge.h"))?;
    stamp += &prelude;
    let module = workspace::output("js")?.join("engine.wasm");
    if module.is_file() && fs::read_to_string(objects.join("engine.stamp")).is_ok_and(|old| old == stamp) {
        println!("build-js: {} is up to date", module.display());
        return Ok(());
    }
    for name in OURS {
        let object = objects.join(format!("{name}.o"));
        let warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"];
        // The allocator is what the compiler would otherwise call.
        let own: &[&str] = if *name == "alloc" { &["-fno-builtin"] } else { &[] };
        let flags: Vec<_> = warnings.iter().chain(own).copied().collect();
        compile(&clang, &engine, &source.join(format!("{name}.c")), &object, &flags)?;
        linked.push(object);
    }
    let generated = objects.join("prelude.c");
    write(&generated, prelude_in_c(&prelude).as_bytes())?;
    let object = objects.join("prelude.o");
    compile(&clang, &engine, &generated, &object, &[])?;
    linked.push(object);

    let partial = objects.join("engine.partial");
    let mut link = Command::new(&clang.linker);
    link.args([
        "--no-entry",
        "--import-memory",
        "--stack-first",
        "-O2",
        "--strip-all",
        "--export=__stack_pointer",
    ])
    .arg("-z")
    .arg(format!("stack-size={STACK}"))
    .args(&linked)
    .arg(engine.join("vendor/wasi-libc/lib/libc.a"))
    .arg(&clang.builtins)
    .arg("-o")
    .arg(&partial);
    workspace::run(&mut link).context("linking the JavaScript engine")?;
    let bytes = fs::read(&partial)?;
    // A module that has not changed keeps its date, or the daemon would be built again.
    if fs::read(&module).is_ok_and(|old| old == bytes) {
        fs::remove_file(&partial)?;
    } else {
        fs::rename(&partial, &module).with_context(|| format!("writing {}", module.display()))?;
    }
    write(&objects.join("engine.stamp"), stamp.as_bytes())?;
    println!("build-js: {} ({} KB)", module.display(), bytes.len() / 1024);
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn compile(clang: &Clang, engine: &Path, file: &Path, object: &Path, flags: &[&str]) -> Result<()> {
    let mut command = Command::new(&clang.compiler);
    command
        .args(FLAGS)
        .args(flags)
        .arg("-isystem")
        .arg(engine.join("vendor/wasi-libc/include"))
        .arg("-I")
        .arg(engine.join("quickjs"))
        .arg("-I")
        .arg(workspace::root().join("edge-userspace/js"))
        .arg("-c")
        .arg(file)
        .arg("-o")
        .arg(object);
    workspace::run(&mut command).with_context(|| format!("compiling {}", file.display()))
}

/// Where cargo has the crate, which it fetches if need be.
fn engine_source(source: &Path) -> Result<PathBuf> {
    let output = workspace::cargo_command()
        .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(source.join("source/Cargo.toml"))
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!(
            "the sources of QuickJS-ng: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == CRATE)
        .and_then(|package| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned()))
        .with_context(|| format!("{CRATE} is not among the dependencies of {}", source.display()))
}

/// The files that `order` lists, as one function of `host`.
fn prelude(source: &Path) -> Result<String> {
    let directory = source.join("prelude");
    let order = fs::read_to_string(directory.join("order"))?;
    let mut text = String::from("(host => {\"use strict\";\n");
    for name in order.lines() {
        text += &fs::read_to_string(directory.join(name)).with_context(|| format!("reading prelude/{name}"))?;
    }
    Ok(text + "})")
}

fn prelude_in_c(text: &str) -> String {
    let mut c = String::from("#include <stddef.h>\nconst char prelude[] = {");
    for byte in text.bytes() {
        // `char` is signed here.
        c += &format!("{},", byte.cast_signed());
    }
    c + &format!("0}};\nconst size_t prelude_size = {};\n", text.len())
}
