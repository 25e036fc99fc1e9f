//! `cargo xtask build-js`: the JavaScript engine of the isolates, as a WebAssembly module that the
//! daemon's build embeds.
//!
//! QuickJS-ng's C sources come as a crate (`edge-userspace/js/source` names it) and are compiled by
//! clang for wasm32, with our glue, allocator and prelude from `edge-userspace/js`. What has been
//! built from the same input is not built again.

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
/// Bytes of the engine's own stack; glue.c tells QuickJS of fewer, so that deep recursion is an
/// exception.
const STACK: u32 = 256 << 10;
/// Units beside the prelude: the global that each makes, and the directory of its source.
const UNITS: &[(&str, &str)] = &[("HTMLRewriter", "rewriter")];
/// Changes when the commands below do, so that a cached object is not taken for one of theirs.
const RECIPE: &str = "3";
/// Functions of QuickJS that call themselves as deep as their input is, and what one call takes of
/// WebAssembly's own stack, with all that it calls on its way to the next, bytes. json.c counts
/// them.
const DEEP: &[(&str, u32)] = &[
    ("js_parse_assign_expr2", 2_560),
    ("js_parse_unary", 1_024),
    ("js_parse_postfix_expr", 1_024),
    ("js_parse_statement_or_decl", 1_024),
    ("js_parse_destructuring_element", 1_024),
    ("json_parse_value", 512),
    ("JS_OrdinaryIsInstanceOf", 512),
    ("js_proxy_isArray", 256),
    ("JS_FlattenIntoArray", 512),
];

/// What else is changed in QuickJS's main source: reactions of promises keep the context that they
/// were made in (AsyncLocalStorage), which json.c holds. What there was, what there is in its
/// place, and how often.
const EDITS: &[(&str, &str, usize)] = &[
    (
        "    JSValue handler;\n} JSPromiseReactionData;",
        "    JSValue handler, context;\n} JSPromiseReactionData;",
        1,
    ),
    (
        "    JS_FreeValueRT(rt, rd->handler);\n",
        "    JS_FreeValueRT(rt, rd->handler);\n    JS_FreeValueRT(rt, rd->context);\n",
        1,
    ),
    (
        "JS_MarkValue(rt, rd->handler, mark_func);",
        "JS_MarkValue(rt, rd->handler, mark_func);\n            JS_MarkValue(rt, rd->context, mark_func);",
        1,
    ),
    (
        "rd->handler = js_dup(handler);",
        "rd->handler = js_dup(handler);\n        rd->context = js_dup(js_context);",
        1,
    ),
    (
        "    JSPromiseReactionData *rd;\n    JSValueConst args[5];",
        "    JSPromiseReactionData *rd;\n    JSValueConst args[6];",
        1,
    ),
    (
        "        JSValueConst args[5];\n        call_promise_rejection_tracker",
        "        JSValueConst args[6];\n        call_promise_rejection_tracker",
        1,
    ),
    (
        "        JS_EnqueueJob(ctx, promise_reaction_job, 5, args);",
        "        args[5] = rd->context;\n        JS_EnqueueJob(ctx, promise_reaction_job, 6, args);",
        2,
    ),
    (
        "static JSValue promise_reaction_job(JSContext *ctx, int argc,\n                                    JSValueConst *argv)\n{\n",
        "static JSValue promise_reaction_within(JSContext *ctx, int argc, JSValueConst *argv);\nstatic JSValue promise_reaction_job(JSContext *ctx, int argc, JSValueConst *argv)\n{\n    JSValue before = js_context;\n    js_context = js_dup(argv[5]);\n    JSValue value = promise_reaction_within(ctx, argc, argv);\n    JS_FreeValue(ctx, js_context);\n    js_context = before;\n    return value;\n}\nstatic JSValue promise_reaction_within(JSContext *ctx, int argc, JSValueConst *argv)\n{\n",
        1,
    ),
];

const FLAGS: &[&str] = &[
    "--target=wasm32-unknown-unknown",
    "-O3",
    "-DNDEBUG",
    "-mbulk-memory",
    "-msimd128",
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
/// Leaves it in target/js/engine.wasm, where the next `cargo build` finds it. Does nothing if it is
/// up to date.
#[derive(clap::Args)]
pub(crate) struct BuildJs {}

/// Builds it.
pub(crate) fn run(_: &BuildJs) -> Result<()> {
    let clang = Clang::find().context("no clang for wasm32: run `cargo xtask setup`")?;
    let source = workspace::root().join("edge-userspace/js");
    let engine = engine_source(&source)?;
    let objects = workspace::output("js-build")?;
    let prelude = function_of(&source.join("prelude"), "host")?;
    let units = UNITS
        .iter()
        .map(|(name, directory)| Ok((*name, function_of(&source.join(directory), "from")?)))
        .collect::<Result<Vec<_>>>()?;

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
    let counted = counted(&fs::read_to_string(engine.join("quickjs/quickjs.c"))?)?;
    write(&objects.join("counted/quickjs.c"), counted.as_bytes())?;
    let object = objects.join(format!("{BOTH}.o"));
    if fs::read_to_string(objects.join("quickjs.stamp")).ok().as_ref() != Some(&upstream) || !object.is_file() {
        let own = objects.join("counted").display().to_string();
        compile(&clang, &engine, &both, &object, &["-w", "-I", &own])?;
    }
    linked.push(object);
    stamp += &upstream;
    write(&objects.join("quickjs.stamp"), upstream.as_bytes())?;

    for name in OURS {
        stamp += &fs::read_to_string(source.join(format!("{name}.c")))?;
    }
    stamp += &fs::read_to_string(source.join("edge.h"))?;
    let generated = sources_in_c(&prelude, &units);
    stamp += &generated;
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
    let prelude = objects.join("prelude.c");
    write(&prelude, generated.as_bytes())?;
    let object = objects.join("prelude.o");
    compile(&clang, &engine, &prelude, &object, &[])?;
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

/// QuickJS's main source with [`EDITS`], and the depth of [`DEEP`] functions counted: each is
/// renamed, and one of its name in front counts and calls it.
fn counted(source: &str) -> Result<String> {
    let mut text = source.to_owned();
    for (from, to, times) in EDITS {
        let found = text.matches(from).count();
        if found != *times {
            bail!("quickjs.c has {found} times what is to be changed {times} times: {from}");
        }
        text = text.replace(from, to);
    }
    for (name, bytes) in DEEP {
        text = wrapped(&text, name, *bytes).with_context(|| format!("quickjs.c has no function {name} as expected"))?;
    }
    Ok(text)
}

fn wrapped(text: &str, name: &str, bytes: u32) -> Option<String> {
    let call = format!("{name}(");
    let definition = text.match_indices(&call).find_map(|(at, _)| {
        let line = text.get(..at)?.rfind('\n')?.checked_add(1)?;
        let kind = text.get(line..at)?;
        let body = text.get(at..)?.find(")\n{\n")?.checked_add(at)?;
        let parameters = text.get(at.checked_add(call.len())?..body)?;
        (kind.starts_with("static ") && !parameters.contains([';', '{', '('])).then_some((line, kind, parameters, body))
    });
    let (line, kind, parameters, body) = definition?;
    let names: Vec<&str> = parameters
        .split(',')
        .filter_map(|parameter| parameter.trim().rsplit([' ', '*']).next())
        .collect();
    let context = if names.first() == Some(&"s") { "s->ctx" } else { "ctx" };
    let result = kind.replace("__exception", "");
    let result = result.trim_start_matches("static").trim();
    let failed = if result == "JSValue" {
        format!("return JS_ThrowStackOverflow({context});")
    } else {
        format!("{{ JS_ThrowStackOverflow({context}); return -1; }}")
    };
    let inner = format!("static {result} {name}_counted({parameters})");
    let names = names.join(", ");
    let wrapper = format!(
        "{inner};\n{kind}{call}{parameters})\n{{\n    if (!js_deeper({bytes})) {failed}\n    {result} value = \
         {name}_counted({names});\n    js_shallower({bytes});\n    return value;\n}}\n{inner}"
    );
    let rest = text.get(body.checked_add(1)?..)?;
    Some(format!("{}{wrapper}{rest}", text.get(..line)?))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
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

/// The files that `order` of a directory lists, as one function with one parameter.
fn function_of(directory: &Path, parameter: &str) -> Result<String> {
    let order = fs::read_to_string(directory.join("order"))?;
    let mut text = format!("({parameter} => {{\"use strict\";\n");
    for name in order.lines() {
        let file = directory.join(name);
        text += &fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    }
    Ok(text + "})")
}

/// The prelude and the units as constants that edge.h declares.
fn sources_in_c(prelude: &str, units: &[(&str, String)]) -> String {
    let bytes = |name: &str, text: &str| {
        // `char` is signed here.
        let values: String = text.bytes().map(|byte| format!("{},", byte.cast_signed())).collect();
        format!("const char {name}[] = {{{values}0}};\n")
    };
    let mut c = String::from("#include \"edge.h\"\n") + &bytes("prelude", prelude);
    c += &format!("const size_t prelude_size = {};\n", prelude.len());
    let mut table = String::new();
    for (number, (name, text)) in units.iter().enumerate() {
        c += &format!("static {}", bytes(&format!("unit_{number}"), text));
        table += &format!("{{\"{name}\", unit_{number}, {}}},", text.len());
    }
    c + &format!(
        "const struct unit units[] = {{{table}}};\nconst size_t units_count = {};\n",
        units.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deep JSON would end a worker that catches errors.
    #[test]
    fn functions_that_call_themselves_are_counted() {
        let source = "static int f(S *s, int a);\nint x = f(0, 1);\nstatic __exception int f(S *s,\n   int a)\n{\n  return f(s, a - 1);\n}\n";
        let text = wrapped(source, "f", 7).unwrap();
        assert!(text.contains("static int f_counted(S *s,\n   int a);\nstatic __exception int f(S *s,\n   int a)\n{\n    if (!js_deeper(7)) { JS_ThrowStackOverflow(s->ctx); return -1; }"), "{text}");
        assert!(text.contains("int value = f_counted(s, a);"), "{text}");
        assert!(
            text.ends_with("static int f_counted(S *s,\n   int a)\n{\n  return f(s, a - 1);\n}\n"),
            "{text}"
        );
        assert!(wrapped(source, "g", 7).is_none());
    }
}
