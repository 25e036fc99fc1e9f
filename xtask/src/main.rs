//! Every command of this repository: `cargo xtask --help`.
//!
//! Only the arguments are here; each command is a module, and what it needs from another it asks
//! for by name through [`workspace::prepare`].
#![deny(unsafe_code)]

mod bench;
mod build_ebpf;
mod build_js;
mod build_workers;
mod conform;
mod demo;
mod docs;
mod form;
mod fuzz;
mod kernels;
mod layers;
mod lint;
mod man;
mod package;
mod run;
mod setup;
mod soak;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what is missing on this machine
    Setup(setup::Setup),
    /// Build the XDP program that the daemon embeds
    BuildEbpf(build_ebpf::BuildEbpf),
    /// Build the JavaScript engine that the daemon embeds
    BuildJs(build_js::BuildJs),
    /// Build the workers of tests, benches and the demo, or a project of your own
    BuildWorkers(build_workers::BuildWorkers),
    /// Run the demo, or with arguments after `--` the daemon
    Run(run::Run),
    /// Run every test
    Test(test::Test),
    /// Check format, lints, documentation, dependencies and import arrows
    Lint(lint::Lint),
    /// Check that imports in edge-userspace point left
    Layers(layers::Layers),
    /// Measure against a peer on this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run a program that looks for mistakes in servers against the edge
    Conform(conform::Conform),
    /// Load everything while its surroundings fail, and check every byte
    Soak(soak::Soak),
    /// Run every parser of bytes from elsewhere under libFuzzer
    Fuzz(fuzz::Fuzz),
    /// Build the documentation as a site
    Docs(docs::Docs),
    /// Build what users install
    Package(package::Package),
    /// Write the man page and shell completions of `edge` to target/man
    Man(man::Man),
}

fn main() -> ExitCode {
    edge_testbed::interrupt::install();
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Not returned from here: anyhow would add a backtrace where the environment asks for one
        // of panics.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Setup(setup) => setup::run(&setup),
        Command::BuildEbpf(build) => build_ebpf::run(&build),
        Command::BuildJs(build) => build_js::run(&build),
        Command::BuildWorkers(build) => build_workers::run(&build),
        Command::Run(run) => run::run(&run),
        Command::Test(test) => test::run(&test),
        Command::Lint(lint) => lint::run(&lint),
        Command::Layers(layers) => layers::run(&layers),
        Command::Bench(bench) => bench::run(&bench),
        Command::Conform(conform) => conform::run(&conform),
        Command::Fuzz(fuzz) => fuzz::run(&fuzz),
        Command::Package(package) => package::run(&package),
        Command::Docs(docs) => docs::run(&docs),
        Command::Soak(soak) => soak::run(&soak),
        Command::Man(man) => man::run(&man),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_that_others_call_by_name_parse() {
        use workspace::{
            BUILD_EBPF, BUILD_JS, BUILD_WORKERS, SETUP_BENCH, SETUP_BUILD, SETUP_CONFORM, SETUP_KERNELS, SETUP_LEGACY,
            SETUP_LINT, SETUP_TEST,
        };
        Cli::command().debug_assert();
        for words in [
            BUILD_EBPF,
            BUILD_JS,
            BUILD_WORKERS,
            SETUP_BENCH,
            SETUP_BUILD,
            SETUP_LEGACY,
            SETUP_CONFORM,
            SETUP_KERNELS,
            SETUP_LINT,
            SETUP_TEST,
        ] {
            let line = ["xtask"].iter().chain(words.iter());
            assert!(Cli::try_parse_from(line).is_ok(), "{words:?}");
        }
    }
}
