//! `cargo xtask lint`: every check of form in one command; all run, all failures are listed at the
//! end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use edge_testbed::process;

use crate::workspace;
use crate::{build_ebpf, form, layers};

/// Check format, lints, documentation, dependencies and import arrows
#[derive(clap::Args)]
pub(crate) struct Lint {
    /// Skip `setup` and `build-ebpf`
    #[arg(long)]
    no_setup: bool,
    /// Wrap comments at 100 columns, and check nothing
    #[arg(long)]
    wrap: bool,
}

/// Without a network a fetch hangs rather than fails.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// What a check does.
type Check = fn() -> Result<()>;

/// Each check with what to do when it fails.
const CHECKS: &[(&str, Check, &str)] = &[
    (
        "format",
        || workspace::cargo(&["fmt", "--all", "--check"]),
        "cargo fmt --all",
    ),
    ("format of edge-ebpf", build_ebpf::fmt, "the same in edge-ebpf"),
    (
        "comments, functions and files",
        form::check,
        "see the mend under each; cargo xtask lint --wrap for comments",
    ),
    (
        "import arrows",
        || layers::run(&layers::Layers {}),
        "see the mend under each arrow",
    ),
    (
        "clippy",
        || {
            workspace::cargo(&[
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ])
        },
        "mend the code, or #[expect(lint, reason = \"…\")] where the lint is wrong",
    ),
    ("clippy of edge-ebpf", build_ebpf::clippy, "mend the code"),
    (
        "the lean key server",
        lean,
        "make the dependency optional, behind feature `node` of edge-userspace",
    ),
    (
        "documentation",
        documentation,
        "mend the comment; links in [`…`] must resolve",
    ),
    ("dependencies", dependencies, "deny.toml says what is allowed and why"),
];

/// Runs every check.
pub(crate) fn run(lint: &Lint) -> Result<()> {
    if lint.wrap {
        return form::wrap();
    }
    if !lint.no_setup {
        workspace::prepare(&[workspace::SETUP_LINT, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
    }
    let mut failed = Vec::new();
    for (name, check, mend) in CHECKS {
        println!("lint: {name}");
        if let Err(error) = check() {
            // Shown at once, where its output is, and again at the end.
            eprintln!("lint: {name}: {error:#}");
            failed.push(format!("  {name}: {error:#}\n    mend: {mend}"));
        }
        if edge_testbed::interrupt::requested() {
            bail!("interrupted");
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} checks failed:\n{}",
            failed.len(),
            CHECKS.len(),
            failed.join("\n")
        );
    }
    println!("lint: all {} checks passed", CHECKS.len());
    Ok(())
}

/// What must not be in the process that holds private keys: every library there is code that could
/// lose them.
const NOT_IN_KEYSERVER: &[&str] = &[
    "aya",
    "boring",
    "brotli",
    // Off unless it is asked for.
    "cryptoki",
    "foyer",
    "h2",
    "h3",
    "hyper",
    "quinn",
    "quinn-proto",
    "redb",
    "reqwest",
    "wasmtime",
    "zstd",
];

/// The key server alone builds, and from few libraries.
fn lean() -> Result<()> {
    const ALONE: &[&str] = &[
        "-p",
        "edge-userspace",
        "--no-default-features",
        "--features",
        "keyserver",
    ];
    let mut tree = workspace::cargo_command();
    tree.arg("tree")
        .args(ALONE)
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = process::output(&mut tree, FETCH_TIMEOUT)?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let found: Vec<&str> = names.filter(|name| NOT_IN_KEYSERVER.contains(name)).collect();
    if !found.is_empty() {
        bail!("edge-keyserver stands on {}", found.join(", "));
    }
    let mut check = workspace::cargo_command();
    workspace::run(
        check
            .args(["clippy", "--quiet"])
            .args(ALONE)
            .args(["--lib", "--bins", "--", "-D", "warnings"]),
    )
}

fn documentation() -> Result<()> {
    let mut command = workspace::cargo_command();
    command.env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    workspace::run(&mut command)
}

fn dependencies() -> Result<()> {
    let root = workspace::root();
    // The XDP program has a lock file of its own.
    for package in [root.join("Cargo.toml"), root.join("edge-ebpf/Cargo.toml")] {
        let mut check = deny(&package)?;
        workspace::run(check.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    }
    // The database is a git repository on GitHub; a machine that cannot reach it must not fail the
    // rest.
    let package = root.join("Cargo.toml");
    let fetched = process::output(deny(&package)?.args(["fetch", "db"]), FETCH_TIMEOUT);
    if fetched.is_ok_and(|output| output.status.success()) {
        return workspace::run(deny(&package)?.args(["check", "--hide-inclusion-graph", "advisories"]));
    }
    println!(
        "lint: dependencies: security advisories SKIPPED: their database cannot be fetched from \
         https://github.com/rustsec/advisory-db here"
    );
    Ok(())
}

/// cargo-deny on the workspace that a manifest stands for, ready for a subcommand.
fn deny(manifest: &Path) -> Result<Command> {
    let mut command = Command::new(workspace::need("cargo-deny", workspace::SETUP_LINT)?);
    command
        .arg("--manifest-path")
        .arg(manifest)
        .args(["--workspace", "--all-features", "--config"]);
    command.arg(workspace::root().join("deny.toml"));
    Ok(command)
}
