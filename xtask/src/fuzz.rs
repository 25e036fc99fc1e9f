//! `cargo xtask fuzz`: every parser of bytes from elsewhere under libFuzzer, with coverage and a
//! corpus that stays.
//!
//! The targets are a package of their own, `tests/fuzz`, built with a sanitizer by the compiler
//! that is there; what a fuzzer adds to the seeds goes to target/fuzz/corpus.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edge_testbed::interrupt;
use edge_testbed::process;
use serde::Serialize;

use crate::workspace;

/// For the start, and for the last input that was slow.
const PATIENCE: Duration = Duration::from_secs(180);
/// libFuzzer's instrumentation, as cargo-fuzz switches it on.
const FLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Run every parser of bytes from elsewhere under libFuzzer.
///
/// Fails on the first finding of any target, which it names with the input that shows it. Corpora
/// stay in target/fuzz/corpus, a report is written to target/fuzz/report.json. Building the node
/// with a sanitizer for the first time takes long.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// For each target
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Only these; may be repeated
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Processes for each target
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Merge the corpora instead: keep of each input that covers the same only the shortest
    #[arg(long)]
    minimise: bool,
    /// Without address sanitizer: faster, and blind to reads outside an allocation
    #[arg(long)]
    no_sanitizer: bool,
}

/// A target, as `tests/fuzz/Cargo.toml` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    /// Whether it needs the node's libraries.
    node: bool,
}

/// How one target's time went.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    target: String,
    runs: u64,
    /// Edges of the program's control flow that were reached, by libFuzzer's count.
    coverage: u64,
    corpus: u64,
    finding: Option<PathBuf>,
}

/// Builds and runs them.
pub(crate) fn run(fuzz: &Fuzz) -> Result<()> {
    let package = workspace::root().join("tests/fuzz");
    let declared = targets(&fs::read_to_string(package.join("Cargo.toml"))?);
    let unknown: Vec<_> = fuzz
        .targets
        .iter()
        .filter(|name| declared.iter().all(|target| target.name != **name))
        .collect();
    ensure!(
        unknown.is_empty(),
        "no such target: {unknown:?}; there are {}",
        declared
            .iter()
            .map(|target| target.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    );
    let chosen: Vec<_> = declared
        .into_iter()
        .filter(|target| fuzz.targets.is_empty() || fuzz.targets.contains(&target.name))
        .collect();
    let directory = workspace::output("fuzz")?;
    build(&chosen, &directory, !fuzz.no_sanitizer)?;
    let mut outcomes = Vec::new();
    for target in &chosen {
        if interrupt::requested() {
            break;
        }
        let outcome = one(fuzz, target, &package, &directory)?;
        println!("{outcome}");
        outcomes.push(outcome);
    }
    let file = directory.join("report.json");
    fs::write(&file, serde_json::to_string_pretty(&outcomes)? + "\n")?;
    println!("written to {}", file.display());
    workspace::give_back(&directory)?;
    let found: Vec<_> = outcomes.iter().filter(|outcome| outcome.finding.is_some()).collect();
    ensure!(
        found.is_empty(),
        "findings in {} of {} targets",
        found.len(),
        outcomes.len()
    );
    Ok(())
}

/// What the manifest declares: each `[[bin]]` with its name, and whether it says `required-features
/// = ["node"]`.
fn targets(manifest: &str) -> Vec<Target> {
    let sections = manifest.split("[[bin]]").skip(1);
    let value = |section: &str, key: &str| -> Option<String> {
        let line = section.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once('=')?.1.trim().trim_matches('"').to_owned())
    };
    sections
        .filter_map(|section| {
            Some(Target {
                name: value(section, "name")?,
                node: value(section, "required-features").is_some(),
            })
        })
        .collect()
}

fn build(targets: &[Target], directory: &Path, sanitizer: bool) -> Result<()> {
    let mut command = workspace::cargo_command();
    let flags = match sanitizer {
        true => format!("{FLAGS} -Zsanitizer=address"),
        false => FLAGS.to_owned(),
    };
    command
        .env("RUSTFLAGS", flags)
        // -Z in a released compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["build", "--release", "--manifest-path", "tests/fuzz/Cargo.toml"])
        .args(["--target", TRIPLE, "--target-dir"])
        .arg(directory.join("build"));
    if !targets.iter().any(|target| target.node) {
        command.arg("--no-default-features");
    }
    for target in targets {
        command.args(["--bin", &target.name]);
    }
    workspace::run(&mut command).context("the targets were not built")
}

fn one(fuzz: &Fuzz, target: &Target, package: &Path, directory: &Path) -> Result<Outcome> {
    let name = &target.name;
    let corpus = directory.join("corpus").join(name);
    fs::create_dir_all(&corpus)?;
    let seeds = package.join("corpus").join(name);
    ensure!(
        seeds.is_dir(),
        "{} is missing: a target begins with seeds",
        seeds.display()
    );
    let artifacts = directory.join("findings");
    fs::create_dir_all(&artifacts)?;
    let before = findings(&artifacts, name)?;
    let mut command = Command::new(directory.join("build").join(TRIPLE).join("release").join(name));
    if fuzz.minimise {
        let merged = directory.join("corpus").join(format!("{name}.merged"));
        let _ = fs::remove_dir_all(&merged);
        fs::create_dir_all(&merged)?;
        command.arg("-merge=1").args([&merged, &corpus, &seeds]);
        workspace::run(&mut command)?;
        fs::remove_dir_all(&corpus)?;
        fs::rename(&merged, &corpus)?;
        let count = fs::read_dir(&corpus)?.count() as u64;
        return Ok(Outcome {
            target: name.clone(),
            runs: 0,
            coverage: 0,
            corpus: count,
            finding: None,
        });
    }
    let seconds = fuzz.minutes * 60;
    command
        .arg(&corpus)
        .arg(&seeds)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=4096"])
        .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
    if fuzz.jobs > 1 {
        command.arg(format!("-fork={}", fuzz.jobs));
    }
    let output = process::output(&mut command, Duration::from_secs(seconds) + PATIENCE)?;
    let text = String::from_utf8_lossy(&output.stderr);
    fs::write(directory.join(format!("{name}.log")), text.as_bytes())?;
    let finding = findings(&artifacts, name)?
        .into_iter()
        .find(|file| !before.contains(file));
    let told = progress(&text);
    if !output.status.success() && finding.is_none() {
        bail!(
            "{name} ended with {} and left no input:\n{}",
            output.status,
            text.lines().rev().take(20).collect::<Vec<_>>().join("\n")
        );
    }
    ensure!(
        told.is_some() || finding.is_some(),
        "{name} did not say what it covered"
    );
    let (runs, coverage, corpus) = told.unwrap_or_default();
    Ok(Outcome {
        target: name.clone(),
        runs,
        coverage,
        corpus,
        finding,
    })
}

/// The inputs that a target left because they show a mistake.
fn findings(artifacts: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(artifacts)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let kinds = ["crash-", "leak-", "timeout-", "oom-"];
        if kind.is_some_and(|kind| kinds.iter().any(|known| kind.starts_with(known))) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Runs, coverage and corpus by the last of libFuzzer's lines that has them: `#123 DONE cov: 45 ft:
/// 67 corp: 8/90b …`.
fn progress(text: &str) -> Option<(u64, u64, u64)> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains(" cov: ") && line.starts_with('#'))?;
    let after = |label: &str| -> Option<&str> { line.split(label).nth(1)?.split_whitespace().next() };
    let runs = line.trim_start_matches('#').split([':', '\t', ' ']).next()?;
    let corpus = after(" corp: ")?.split('/').next()?;
    Some((runs.parse().ok()?, after(" cov: ")?.parse().ok()?, corpus.parse().ok()?))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            runs,
            coverage,
            corpus,
            finding,
        } = self;
        write!(
            f,
            "{target:<18} {runs:>11} runs, {coverage:>6} edges, {corpus:>5} inputs, "
        )?;
        match finding {
            None => f.write_str("no finding"),
            Some(path) => write!(f, "FINDING {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parser without a fuzz target in this list, or a target without seeds, is never fuzzed.
    #[test]
    fn every_target_of_the_package_is_run() {
        let package = workspace::root().join("tests/fuzz");
        let declared = targets(&fs::read_to_string(package.join("Cargo.toml")).unwrap());
        let mut names: Vec<String> = declared.iter().map(|target| target.name.clone()).collect();
        names.sort();
        let mut files: Vec<String> = fs::read_dir(package.join("fuzz_targets"))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        assert_eq!(names, files);
        for name in &names {
            let seeds = fs::read_dir(package.join("corpus").join(name)).map(Iterator::count);
            assert!(seeds.is_ok_and(|count| count > 0), "{name} has no seeds");
        }
        assert!(declared.iter().any(|target| !target.node && target.name == "packet"));
    }

    #[test]
    fn the_last_word_of_libfuzzer_is_read() {
        let text = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 11 corp: 1/1b\n\
             #1048576\tpulse  cov: 60 ft: 70 corp: 9/100b lim: 4096\n#1062304\tDONE   cov: 61 ft: 71 corp: 10/120b lim: 4\n\
             Done 1062304 runs in 61 second(s)\nstat::number_of_executed_units: 1062304\n";
        assert_eq!(progress(text), Some((1_062_304, 61, 10)));
        let forked = "#5000: cov: 33 ft: 40 corp: 7 exec/s 100 oom/timeout/crash: 0/0/0 time: 3s job: 1\n";
        assert_eq!(progress(forked), Some((5_000, 33, 7)));
        assert_eq!(progress("nothing\n"), None);
    }
}
