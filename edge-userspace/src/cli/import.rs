//! `edge import`: what another server's configuration becomes. The text goes to standard output or
//! a file, what was left out to standard error.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{print, wrangler};
use crate::import::{Imported, Weight, nginx};

/// Something was not translated.
const LEFT: u8 = 3;
/// Something that guarded is lost, or shut.
const UNGUARDED: u8 = 4;

/// Arguments of `edge import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Print the configuration that an nginx.conf becomes, and tell of every directive that does
    /// not come along. Exit status 0: all is translated, some of it perhaps with a difference; 3:
    /// something is left out; 4: something that guards is.
    Nginx {
        /// The main file, or one of a site.
        file: PathBuf,
        /// Write to this file, which must not be there yet.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// The directory that relative names are relative to, if it is not the file's.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Tell also of what is not needed here.
        #[arg(long)]
        all: bool,
    },
    /// Print the zone that a wrangler.toml becomes.
    Wrangler {
        /// The file.
        #[arg(default_value = "wrangler.toml")]
        file: PathBuf,
    },
}

/// Does what `edge import` says. The exit status tells whether anything was left.
///
/// # Errors
/// A file cannot be read or written, or is not what it should be.
pub(super) fn run(import: &Import) -> anyhow::Result<ExitCode> {
    match &import.from {
        From::Wrangler { file } => wrangler::import(file).map(|()| ExitCode::SUCCESS),
        From::Nginx {
            file,
            output,
            prefix,
            all,
        } => nginx(file, output.as_deref(), prefix.as_deref(), *all),
    }
}

fn nginx(file: &Path, output: Option<&Path>, prefix: Option<&Path>, all: bool) -> anyhow::Result<ExitCode> {
    let prefix = match prefix.or_else(|| file.parent()) {
        Some(prefix) if !prefix.as_os_str().is_empty() => prefix,
        _ => Path::new("."),
    };
    // Names in the configuration are to be good from wherever it is read.
    let prefix = std::fs::canonicalize(prefix).with_context(|| prefix.display().to_string())?;
    let imported = nginx::import(file, &prefix)?;
    match output {
        None => print(&imported.text),
        Some(output) => {
            let mut options = std::fs::OpenOptions::new();
            let opened = options.write(true).create_new(true).open(output);
            let mut opened = opened.with_context(|| format!("{} cannot be made", output.display()))?;
            let written = opened.write_all(imported.text.as_bytes());
            written.with_context(|| format!("{} cannot be written", output.display()))?;
        }
    }
    eprint!("{}", report(&imported, all));
    Ok(match imported.worst() {
        Some(Weight::Protection) => ExitCode::from(UNGUARDED),
        Some(Weight::Missing) => ExitCode::from(LEFT),
        Some(Weight::Different | Weight::Idle) | None => ExitCode::SUCCESS,
    })
}

/// A line for each note, and the sum.
fn report(imported: &Imported, all: bool) -> String {
    let notes = || imported.notes.iter();
    let count = |weight| notes().filter(|note| note.weight == weight).count();
    let told = notes().filter(|note| all || note.weight != Weight::Idle);
    let mut text: String = told.map(|note| format!("{note}\n")).collect();
    let idle = match (count(Weight::Idle), all) {
        (n @ 1.., false) => format!("{n} (--all shows them)"),
        (n, _) => n.to_string(),
    };
    text += &format!(
        "edge import: loss of protection {}, not translated {}, different {}, not needed {idle}\n",
        count(Weight::Protection),
        count(Weight::Missing),
        count(Weight::Different),
    );
    text
}
