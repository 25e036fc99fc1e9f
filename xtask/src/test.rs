//! `cargo xtask test`: prepares the machine, builds everything, runs every test with the plain test
//! runner.

use std::fs;
use std::num::NonZero;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};

use crate::kernels;
use crate::workspace::{self, Profile};

/// Run every test: unit, XDP, network namespaces, the demo.
///
/// Tests that need root make network namespaces or load XDP programs; without root they say SKIPPED
/// and why.
#[derive(clap::Args)]
pub(crate) struct Test {
    /// Skip `setup`, `build-ebpf` and `build-workers`
    #[arg(long)]
    no_setup: bool,
    /// Only the randomised fault test of delta responses, with so many requests
    #[arg(long, value_name = "N", conflicts_with = "arguments")]
    faults: Option<u32>,
    /// Only the tests of feature `legacy-rsa`, which the other runs leave out
    #[arg(long, conflicts_with_all = ["faults", "arguments"])]
    legacy_rsa: bool,
    /// Only the key server's tests with keys in a token (SoftHSM), in the lean build with that
    /// feature
    #[arg(long, conflicts_with_all = ["arguments", "faults", "legacy_rsa"])]
    pkcs11: bool,
    /// Only the test of a worker that componentize-js made; installs it from npm
    #[arg(long, conflicts_with_all = ["arguments", "faults", "legacy_rsa", "pkcs11"])]
    componentize_js: bool,
    /// Run the tests N times, whatever the first runs say; a test that depends on time fails in one
    /// of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Beside a load that takes all processors
    #[arg(long)]
    beside_load: bool,
    /// Only the XDP program's tests, under other kernels in qemu: Debian's, and those in KERNELS
    /// (images or directories, by colons)
    #[arg(long, conflicts_with_all = ["arguments", "faults", "legacy_rsa", "pkcs11", "componentize_js"])]
    kernels: bool,
    /// Arguments for `cargo test`, for example `-p edge-userspace` or `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the tests; the last thing on the terminal is the runner's own summary.
pub(crate) fn run(test: &Test) -> Result<()> {
    if let Some(count) = test.faults {
        let mut command = workspace::cargo_command();
        command
            .args([
                "test",
                "-p",
                "edge-userspace",
                "--lib",
                "delta::tests::faults",
                "--",
                "--nocapture",
            ])
            .env("EDGE_FAULT_RESPONSES", count.to_string());
        return workspace::run(&mut command);
    }
    if test.kernels {
        return kernels::run(!test.no_setup);
    }
    if test.legacy_rsa {
        return legacy_rsa(test);
    }
    if test.componentize_js {
        return componentize_js(test);
    }
    if !test.no_setup {
        workspace::prepare(&[
            workspace::SETUP_TEST,
            workspace::BUILD_EBPF,
            workspace::BUILD_JS,
            workspace::BUILD_WORKERS,
        ])?;
    }
    if test.pkcs11 {
        let mut command = workspace::cargo_command();
        command
            .args(["test", "-p", "edge-userspace", "--no-default-features"])
            .args([
                "--features",
                "keyserver,pkcs11",
                "--lib",
                "--test",
                "keyserver",
                "pkcs11",
            ]);
        return workspace::run(&mut command);
    }
    // Tests start the daemon, the demo origin and this program, which `cargo test` alone would not
    // all build.
    workspace::build_binaries(Profile::Dev)?;
    if !rustix::process::geteuid().is_root() {
        println!("not root: tests of XDP, network namespaces and the demo will be SKIPPED");
    }
    let mut command = workspace::cargo_command();
    // Each test file runs by itself, one after the other; inside a file tests have namespaces of
    // their own.
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(&test.arguments);
    if test.beside_load || test.repeat > 1 {
        // Built before: a compiler is a load of its own, and not the one that was asked for.
        let mut build = workspace::cargo_command();
        build
            .args(["test", "--workspace", "--no-run"])
            .args(cargo_arguments(test));
        workspace::run(&mut build)?;
    }
    let _load = test.beside_load.then(Load::start);
    repeated(&mut command, test.repeat)
}

/// The arguments for cargo itself: those in front of `--`.
fn cargo_arguments(test: &Test) -> impl Iterator<Item = &String> {
    test.arguments.iter().take_while(|argument| *argument != "--")
}

/// Runs `command` so many times.
///
/// # Errors
/// Which of the runs failed.
fn repeated(command: &mut Command, times: u32) -> Result<()> {
    if times == 1 {
        return workspace::run(command);
    }
    let mut failed = Vec::new();
    for turn in 1..=times {
        println!("run {turn} of {times}");
        if let Err(error) = workspace::run(command) {
            println!("run {turn} of {times}: {error:#}");
            failed.push(turn);
        }
    }
    ensure!(failed.is_empty(), "{} of {times} runs failed: {failed:?}", failed.len());
    println!("{times} runs, no failure");
    Ok(())
}

/// One thread for each processor that does nothing but take it, as long as this lives.
struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let spin = |ends: Arc<AtomicBool>| {
            move || {
                while !ends.load(Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..count).map(|_| thread::spawn(spin(ends.clone()))).collect();
        Self { ends, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It does nothing that could fail.
            let _ = thread.join();
        }
    }
}

/// The one test file that needs BoringSSL. Asked of the whole workspace, so that all else is built
/// as the other tests have it.
fn legacy_rsa(test: &Test) -> Result<()> {
    if !test.no_setup {
        workspace::prepare(&[workspace::SETUP_LEGACY, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
    }
    workspace::cargo(&[
        "test",
        "--workspace",
        "--features",
        "edge-userspace/legacy-rsa",
        "--test",
        "legacy",
    ])
}

/// A project of `edge worker new`, built as its readme says, and the one test that deploys it.
fn componentize_js(test: &Test) -> Result<()> {
    if !test.no_setup {
        workspace::prepare(&[
            workspace::SETUP_COMPONENTIZE,
            workspace::BUILD_EBPF,
            workspace::BUILD_JS,
            workspace::BUILD_WORKERS,
        ])?;
    }
    workspace::build_binaries(Profile::Dev)?;
    let project = workspace::output("componentize")?.join("platform");
    // `edge worker new` writes over nothing.
    let _ = fs::remove_dir_all(&project);
    let mut new = Command::new(workspace::binary("edge", Profile::Dev));
    new.args(["worker", "new", "--lang", "js", "--engine", "componentize"]);
    workspace::run(new.arg(&project))?;
    let script = workspace::root().join("tests/workers/scripts/platform.js");
    fs::copy(&script, project.join("worker.js")).with_context(|| format!("copying {}", script.display()))?;
    let npm = workspace::need("npm", workspace::SETUP_COMPONENTIZE)?;
    for words in [&["install", "--no-fund", "--no-audit"][..], &["run", "build"]] {
        workspace::run(Command::new(&npm).args(words).current_dir(&project))?;
    }
    workspace::cargo(&[
        "test",
        "--workspace",
        "--test",
        "workers",
        "componentized",
        "--",
        "--ignored",
    ])
}
