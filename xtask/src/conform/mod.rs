//! `cargo xtask conform`: programs that look for mistakes in servers of a protocol, run against the
//! edge.
//!
//! Each starts an edge of its own in a namespace, prints what was found and fails if any of it is a
//! fault of ours. They are not tests: they take minutes, and install programs that nothing else
//! needs.

mod cache_tests;
mod h2spec;
mod h3i;
mod node;
mod testssl;
mod wpt;

use std::fmt::Write;
use std::fs;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::workspace;

/// Run programs that look for mistakes in servers against the edge
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Conform {
    /// All of them, one after the other; a table at the end, written to target/conform/table.md
    #[arg(long)]
    all: bool,
    /// With --all: use the binaries that were built before
    #[arg(long, requires = "all")]
    no_build: bool,
    /// With --all: take the unoptimised build
    #[arg(long, requires = "all")]
    dev: bool,
    #[command(subcommand)]
    program: Option<Program>,
}

/// One of them.
#[derive(clap::Subcommand)]
enum Program {
    /// The cache, by cache-tests from a checkout
    CacheTests(cache_tests::CacheTests),
    /// HTTP/2 framing and HPACK, by h2spec from a checkout
    H2spec(h2spec::H2spec),
    /// HTTP/3, by h3i: requests as they should be, and malformed ones, each with the code that the
    /// RFC asks for
    H3i(h3i::H3i),
    /// TLS, by testssl.sh: zones with local keys, with keys at the key server, and the key server
    /// itself
    Testssl(testssl::Testssl),
    /// JavaScript of workers, by the web-platform-tests of a checkout
    Wpt(wpt::Wpt),
}

/// Suites of others that are not run, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "h2spec, cache-tests, web-platform-tests",
        "of a checkout that no registry has: `cargo xtask conform h2spec DIR`, `cache-tests DIR`, `wpt DIR`",
    ),
    (
        "tlsfuzzer",
        "neither in Debian nor on PyPI; handshake messages are rustls's, whose own suite is BoGo",
    ),
];

/// A row of the table.
struct Row {
    name: &'static str,
    what: &'static str,
    result: Result<()>,
    seconds: u64,
}

/// Runs one or all.
pub(crate) fn run(conform: &Conform) -> Result<()> {
    match (&conform.program, conform.all) {
        (Some(Program::CacheTests(cache_tests)), _) => cache_tests::run(cache_tests),
        (Some(Program::H2spec(h2spec)), _) => h2spec::run(h2spec),
        (Some(Program::H3i(h3i)), _) => h3i::run(h3i),
        (Some(Program::Testssl(testssl)), _) => testssl::run(testssl),
        (Some(Program::Wpt(wpt)), _) => wpt::run(wpt),
        (None, true) => all(conform),
        (None, false) => bail!("say which program, or --all: `cargo xtask conform --help`"),
    }
}

fn all(conform: &Conform) -> Result<()> {
    type Suite<'a> = (&'static str, &'static str, &'a dyn Fn() -> Result<()>);
    let suites: [Suite<'_>; 3] = [
        ("h3i", "malformed and sound HTTP/3 by quiche's client", &|| {
            h3i::run(&h3i::H3i {
                no_build: conform.no_build,
            })
        }),
        ("testssl.sh", "TLS of zones and of the key server", &|| {
            testssl::run(&testssl::Testssl {
                no_build: conform.no_build,
                dev: conform.dev,
                only: None,
            })
        }),
        ("smuggling", "requests that two servers could read in two ways", &|| {
            workspace::cargo(&["test", "-p", "edge-userspace", "--test", "front", "smuggling"])
        }),
    ];
    let mut rows = Vec::new();
    for (name, what, suite) in suites {
        println!("== {name}: {what}");
        let start = Instant::now();
        let result = suite();
        if let Err(error) = &result {
            eprintln!("{name}: {error:#}");
        }
        rows.push(Row {
            name,
            what,
            result,
            seconds: start.elapsed().as_secs(),
        });
    }
    let table = table(&rows);
    let file = workspace::output("conform")?.join("table.md");
    fs::write(&file, &table)?;
    print!("\n{table}");
    println!("written to {}", file.display());
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.result.is_err())
        .map(|row| row.name)
        .collect();
    ensure!(failed.is_empty(), "not met: {}", failed.join(", "));
    Ok(())
}

/// In Markdown: what was run and how it went, what is explained and why, what was left out and why.
fn table(rows: &[Row]) -> String {
    let mut text = "| suite | looks at | result | seconds |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let result = match &row.result {
            Ok(()) => "met".to_owned(),
            Err(error) => format!("NOT MET: {error:#}").replace(['\n', '|'], " "),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {result} | {} |", row.name, row.what, row.seconds);
    }
    text += "\n| deviation | reason |\n|---|---|\n";
    for (id, reason) in testssl::EXPLAINED {
        let _ = writeln!(text, "| testssl.sh `{id}` | {reason} |");
    }
    for (id, reason) in cache_tests::EXPLAINED {
        let _ = writeln!(text, "| cache-tests `{id}` | {reason} |");
    }
    for (suite, reason) in LEFT_OUT {
        let _ = writeln!(text, "| {suite}, not run | {reason} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A suite that failed and stands in the table as met would be believed.
    #[test]
    fn the_table_tells_what_failed_and_every_reason() {
        let row = |name, result| Row {
            name,
            what: "x",
            result,
            seconds: 1,
        };
        let rows = [row("a", Ok(())), row("b", Err(anyhow::anyhow!("two | of\nthree")))];
        let text = table(&rows);
        assert!(text.contains("| a | x | met | 1 |"));
        assert!(text.contains("| b | x | NOT MET: two   of three | 1 |"));
        assert!(
            testssl::EXPLAINED
                .iter()
                .all(|(id, why)| text.contains(id) && text.contains(why))
        );
        assert!(LEFT_OUT.iter().all(|(suite, _)| text.contains(suite)));
    }
}
