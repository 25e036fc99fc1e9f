//! `cargo xtask man`: the daemon's man page and shell completions.
//!
//! An example of edge-userspace writes them, so that this program need not link the daemon.

use anyhow::Result;

use crate::workspace;

/// Write the man page and shell completions of `edge` to target/man
#[derive(clap::Args)]
pub(crate) struct Man {}

/// Builds and runs the generator.
pub(crate) fn run(_: &Man) -> Result<()> {
    let directory = workspace::output("man")?;
    let mut command = workspace::cargo_command();
    command
        .args(["run", "--quiet", "-p", "edge-userspace", "--example", "man", "--"])
        .arg(&directory);
    workspace::run(&mut command)?;
    println!("written to {}", directory.display());
    Ok(())
}
