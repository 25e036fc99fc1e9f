//! `cargo xtask bench delta`: what differences save. The codec alone over pairs of real versions
//! (`tests/benches/delta.rs`), and an edge with a far end across a thin link, against nginx with
//! gzip in both their places, and against zstd alone.

mod ends;
mod plot;
mod relay;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::process;
use serde_json::{Value, json};

use super::nginx;
use crate::workspace::{self, Profile};

/// The corpus is about 70 MB, once.
const CORPUS_TIMEOUT: Duration = Duration::from_secs(900);

/// What differences save on a thin link: the codec over real versions, and end to end against nginx
/// with gzip.
///
/// The corpus is made once from packages of the public registries (`scripts/delta-corpus.py`);
/// without them a small generated one serves. The link, 20 ms and 20 Mbit/s, is a relay of this
/// program. Writes target/bench/delta.json and delta.svg.
#[derive(clap::Args)]
pub(crate) struct BenchDelta {
    /// Few requests and the generated corpus: under a minute, for a smoke test
    #[arg(long)]
    quick: bool,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build: shows that the bench works, never how fast edge is
    #[arg(long)]
    dev: bool,
    /// Leave the codec out
    #[arg(long)]
    no_codec: bool,
    /// Where configurations, logs and delta.json go, instead of target/bench
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Measures, prints, writes.
pub(crate) fn run(bench: &BenchDelta) -> Result<()> {
    let profile = if bench.dev { Profile::Dev } else { Profile::Release };
    if !bench.no_build {
        workspace::prepare(&[workspace::SETUP_BENCH])?;
        workspace::build_binaries(profile)?;
    }
    let directory = match &bench.output {
        Some(directory) => directory
            .canonicalize()
            .with_context(|| format!("looking at {}", directory.display()))?,
        None => workspace::output("bench")?,
    };
    let codec = if bench.no_codec {
        Value::Null
    } else {
        codec(bench, &directory)?
    };
    let ends = ends::measure(&directory, profile, bench.quick)?;
    let mut report = json!({
        "quick": bench.quick,
        "dev": bench.dev,
        "peer": nginx::version()?,
        "link": ends::LINK,
        "codec": codec,
    });
    if let (Some(report), Value::Object(ends)) = (report.as_object_mut(), ends) {
        report.extend(ends);
    }
    print!("{}", table(&report));
    let file = directory.join("delta.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(directory.join("delta.svg"), plot::svg(&report))?;
    println!("written to {} and delta.svg", file.display());
    workspace::give_back(&directory)
}

/// The codec's figures, from a program of its own: it needs the daemon's library, which the rest of
/// xtask should not wait for.
fn codec(bench: &BenchDelta, directory: &Path) -> Result<Value> {
    let file = directory.join("delta-codec.json");
    let mut command = workspace::cargo_command();
    let profile = if bench.dev { "dev" } else { "release" };
    command
        .args(["bench", "--quiet", "--profile", profile])
        .args(["-p", "edge-testbed", "--bench", "delta", "--", "--output"])
        .arg(&file);
    if bench.quick {
        command.arg("--quick");
    } else if let Some(corpus) = corpus(directory)? {
        command.arg("--corpus").arg(corpus);
    }
    workspace::run(&mut command)?;
    Ok(serde_json::from_slice(&fs::read(&file)?)?)
}

/// The corpus, made where it is missing; `None` where it cannot be made.
fn corpus(directory: &Path) -> Result<Option<PathBuf>> {
    let corpus = directory.join("delta-corpus");
    let complete = corpus.join(".complete");
    if !complete.is_file() {
        println!("making the corpus from the registries");
        let mut script = Command::new("python3");
        script
            .arg(workspace::root().join("scripts/delta-corpus.py"))
            .arg(&corpus);
        match process::run(&mut script, CORPUS_TIMEOUT) {
            Ok(status) if status.success() => fs::write(&complete, "")?,
            Ok(_) | Err(_) => {
                println!("the registries cannot be reached: the generated corpus serves");
                return Ok(None);
            }
        }
    }
    Ok(Some(corpus))
}

fn table(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let codec = &report["codec"];
    let mut table = String::new();
    if codec.is_object() {
        table += &format!(
            "\nCodec, {} corpus, percent of full by bytes\n{:<12}{:>6}{:>10}{:>10}{:>12}{:>12}{:>8}{:>8}\n",
            codec["corpus"].as_str().unwrap_or_default(),
            "class",
            "pairs",
            "median",
            "at once",
            "background",
            "zstd alone",
            "MB/s",
            "apply"
        );
        for (class, figures) in codec["classes"].as_object().into_iter().flatten() {
            table += &format!(
                "{class:<12}{:>6}{:>10.3}{:>10.3}{:>12.3}{:>12.2}{:>8.0}{:>8.0}\n",
                figures["pairs"],
                number(&figures["median_pct"]),
                number(&figures["bytes_pct"]),
                number(&figures["background_bytes_pct"]),
                number(&figures["zstd_alone_bytes_pct"]),
                number(&figures["encode_mb_per_s"]),
                number(&figures["apply_mb_per_s"]),
            );
        }
    }
    table += &format!(
        "\nEnd to end, {}, medians\n{:<8}{:<12}{:>10}{:>14}{:>14}\n",
        report["link"].as_str().unwrap_or_default(),
        "what",
        "by",
        "hop %",
        "first byte ms",
        "last byte ms"
    );
    for what in ends::KINDS {
        for by in ends::PEERS {
            let figures = &report["end_to_end"][what];
            table += &format!(
                "{what:<8}{by:<12}{:>10.3}{:>14.2}{:>14.2}\n",
                number(&figures["hop_pct_by"][by]),
                number(&figures["first_byte_ms"][by]),
                number(&figures["last_byte_ms"][by]),
            );
        }
    }
    table += &format!(
        "\nadded latency without the link's shape: {:.2} ms p50; CPU per MB of content: edge and far end {:.1} ms, nginx twice {:.1} ms\n",
        number(&report["added_latency_ms_p50"]),
        number(&report["cpu_ms_per_mb"]),
        number(&report["cpu_ms_per_mb_nginx_gzip"]),
    );
    table
}

/// Says what is missing before anything is started.
fn need(programs: &[&str]) -> Result<()> {
    for program in programs {
        workspace::need(program, workspace::SETUP_BENCH)?;
    }
    if fs::exists("/proc/self/stat")? {
        Ok(())
    } else {
        bail!("/proc is needed to measure CPU time")
    }
}
