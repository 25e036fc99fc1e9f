//! The `edge-keyserver` command line: arguments only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::run;
use super::wire::KeyId;
use crate::config::LogFormat;
use crate::config::keyserver;

/// Holds private keys, and does for edges what TLS handshakes need of them.
#[derive(Debug, Parser)]
#[command(name = "edge-keyserver", version, arg_required_else_help = true)]
struct KeyServer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM (drains) or SIGINT; SIGHUP reads clients, certificates and keys again.
    Run(Run),
    /// Check a configuration and its keys without starting.
    Check(Check),
    /// List the keys of a configuration's directory: name, kind, id.
    List(File),
}

#[derive(Debug, Args)]
struct File {
    /// The configuration file.
    #[arg(long, short, default_value = "/etc/edge-keyserver/keyserver.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    file: File,
    /// How log lines look instead of what the file says.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Lines for eyes.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    file: File,
    /// Print every key with its default and what it means, and stop.
    #[arg(long)]
    print_defaults: bool,
}

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    KeyServer::command()
}

/// Reads the arguments and does what they say. Exit status 0: done; 1: failed, with the reason on
/// standard error; 2: the arguments were wrong.
pub fn main() -> ExitCode {
    let done = match KeyServer::parse().command {
        Command::Run(arguments) => {
            let format = arguments.log_format.map(|format| match format {
                Format::Human => LogFormat::Human,
                Format::Json => LogFormat::Json,
            });
            run::run(&arguments.file.config, format)
        }
        Command::Check(arguments) => check(&arguments),
        Command::List(file) => list(&file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-keyserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away is no failure.
#[expect(clippy::let_underscore_must_use, reason = "nobody is left to tell")]
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn check(arguments: &Check) -> anyhow::Result<()> {
    if arguments.print_defaults {
        print(&keyserver::defaults());
        return Ok(());
    }
    let file = &arguments.file.config;
    let (config, directory, look) = run::check(file)?;
    let errors: Vec<String> = look.errors.iter().map(ToString::to_string).collect();
    anyhow::ensure!(errors.is_empty(), errors.join("\n"));
    let (clients, keys) = (config.clients.len(), directory.current().load().len());
    print(&format!("{}: {clients} clients, {keys} keys, sound\n", file.display()));
    Ok(())
}

fn list(file: &File) -> anyhow::Result<()> {
    let (_, directory, look) = run::check(&file.config)?;
    for error in &look.errors {
        eprintln!("warning: {error}");
    }
    for key in directory.current().load().after(KeyId::NONE) {
        print(&format!("{}\t{}\t{}\n", key.name, key.kind, key.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contradiction between arguments would panic at the first use.
    #[test]
    fn arguments_are_sound() {
        command().debug_assert();
        assert!(KeyServer::try_parse_from(["edge-keyserver", "run", "--config", "a", "--log-format", "json"]).is_ok());
        assert!(KeyServer::try_parse_from(["edge-keyserver", "run", "--log-format", "xml"]).is_err());
    }
}
