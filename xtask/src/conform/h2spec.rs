//! `cargo xtask conform h2spec`: h2spec (<https://github.com/summerwind/h2spec>), built from a
//! checkout of it by the distribution's Go and its libraries: no registry has the program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::process;

use super::node;
use crate::workspace::{self, Profile};

/// HTTP/2 framing and HPACK, by h2spec: fails unless every case is met.
///
/// Starts an edge on loopback before the demo's origin.
#[derive(clap::Args)]
pub(crate) struct H2spec {
    /// A checkout of h2spec
    suite: PathBuf,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
}

const HOST: &str = "h2spec.example.test";
/// Where a program that is built without modules finds its own package.
const PACKAGE: &str = "src/github.com/summerwind/h2spec";
/// Where Debian's packages of Go's libraries put their source.
const LIBRARIES: &str = "/usr/share/gocode";
/// Of all cases, some two seconds; and of building the program.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the suite, starts what it talks to, and runs it.
pub(crate) fn run(h2spec: &H2spec) -> Result<()> {
    ensure!(
        h2spec.suite.join("cmd/h2spec").is_dir(),
        "{} is not a checkout of h2spec",
        h2spec.suite.display()
    );
    if !h2spec.no_build {
        workspace::prepare(&[workspace::SETUP_CONFORM, workspace::BUILD_EBPF, workspace::BUILD_JS])?;
        workspace::build_binaries(Profile::Dev)?;
    }
    let directory = workspace::output("conform/h2spec")?;
    let program = build(&h2spec.suite, &directory)?;
    let (address, _processes) = node::before_demo_origin(HOST, &directory)?;
    let mut client = Command::new(program);
    client
        .args(["-t", "-k", "-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()]);
    let output = process::output(&mut client, LIMIT)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    workspace::give_back(&directory)?;
    let total = text.lines().rev().find_map(total);
    let (all, passed) = total.context("h2spec said no total")?;
    ensure!(
        output.status.success() && all > 0 && passed == all,
        "{passed} of {all} cases passed"
    );
    Ok(())
}

/// All cases and those that passed, by h2spec's last line: "146 tests, 146 passed, 0 skipped, 0
/// failed".
fn total(line: &str) -> Option<(usize, usize)> {
    let mut parts = line.split(", ");
    let all = parts.next()?.strip_suffix(" tests")?.parse().ok()?;
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    Some((all, passed))
}

/// Builds the program below `directory`, outside of the checkout.
fn build(suite: &Path, directory: &Path) -> Result<PathBuf> {
    let suite = suite.canonicalize()?;
    let package = directory.join("go").join(PACKAGE);
    if let Some(above) = package.parent() {
        std::fs::create_dir_all(above)?;
    }
    // A link of an earlier run may lead to another checkout.
    let _ = std::fs::remove_file(&package);
    std::os::unix::fs::symlink(&suite, &package)?;
    let program = directory.join("h2spec");
    let mut go = Command::new("go");
    go.current_dir(&package)
        .args(["build", "-o"])
        .arg(&program)
        .arg("./cmd/h2spec")
        .env("GO111MODULE", "off")
        .env("GOCACHE", directory.join("go/cache"))
        .env("GOPATH", format!("{}:{LIBRARIES}", directory.join("go").display()));
    workspace::run(&mut go).context("h2spec could not be built; `cargo xtask setup conform` installs Go")?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_the_last_line() {
        assert_eq!(total("146 tests, 145 passed, 1 skipped, 0 failed"), Some((146, 145)));
        assert_eq!(total("Finished in 1.0523 seconds"), None);
    }
}
