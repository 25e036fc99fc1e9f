//! `cargo xtask man`: the daemon's manual and shell completions as files for a package.
//!
//! The daemon prints them itself, so that this program need not link it.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use edge_testbed::process;

use crate::workspace::{self, Profile};

/// Write the manual and shell completions of `edge` to target/man
#[derive(clap::Args)]
pub(crate) struct Man {}

/// Each file with the arguments of `edge` that print it; names are those that the shells look for.
const FILES: &[(&str, &[&str])] = &[
    ("edge.1", &["generate", "man"]),
    ("edge.bash", &["generate", "completions", "bash"]),
    ("_edge", &["generate", "completions", "zsh"]),
    ("edge.fish", &["generate", "completions", "fish"]),
];

/// Builds the daemon and asks it.
pub(crate) fn run(_: &Man) -> Result<()> {
    workspace::build_binaries(Profile::Dev)?;
    let directory = workspace::output("man")?;
    for (name, arguments) in FILES {
        let mut edge = std::process::Command::new(workspace::binary("edge", Profile::Dev));
        let output = process::output(edge.args(*arguments), Duration::from_secs(30))?;
        if !output.status.success() {
            bail!(
                "`{}`: {}",
                workspace::show(&edge),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        fs::write(directory.join(name), output.stdout)?;
    }
    println!("written to {}", directory.display());
    Ok(())
}
