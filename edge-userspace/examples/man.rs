//! Writes the man pages and shell completions of `edge` into a directory: `cargo xtask man` runs it.

use std::path::PathBuf;

use anyhow::Context;
use clap_complete::Shell;

fn main() -> anyhow::Result<()> {
    let directory: PathBuf = std::env::args_os().nth(1).context("usage: man DIRECTORY")?.into();
    let command = edge::cli::command();
    clap_mangen::generate_to(command.clone(), &directory)
        .with_context(|| format!("writing man pages to {}", directory.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "edge", &directory)
            .with_context(|| format!("writing {shell} completions to {}", directory.display()))?;
    }
    Ok(())
}
