//! `cargo xtask bench soak`: a million requests to good and bad workers; the edge's memory must
//! stand at the end where it stood after the first tenth.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use edge_testbed::process;
use serde_json::json;

use super::isolate::{Bench, BenchIsolate, Server};
use crate::workspace;

/// What one client asks, over and over: one request in four comes to a bad end.
const MIX: [(&str, &str); 16] = [
    ("one", "/"),
    ("two", "/"),
    ("reused", "/"),
    ("attacks", "/panic"),
    ("one", "/sub"),
    ("two", "/"),
    ("reused", "/sub"),
    ("attacks", "/handles"),
    ("one", "/"),
    ("two", "/"),
    ("reused", "/"),
    ("attacks", "/none"),
    ("one", "/"),
    ("two", "/"),
    ("reused", "/"),
    ("attacks", "/fields"),
];
/// By so much may memory have grown.
const GROWTH: f64 = 0.05;

/// A million requests to good and bad workers, and the memory they leave behind.
///
/// Fails where the edge has grown by more than 5 % since the first tenth. Writes
/// target/bench/soak.json.
#[derive(clap::Args)]
pub(crate) struct BenchSoak {
    /// Requests in all
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Use the binaries that were built before, without `setup` and building
    #[arg(long)]
    no_build: bool,
    /// Take the unoptimised build
    #[arg(long)]
    dev: bool,
}

/// Soaks.
pub(crate) fn run(options: &BenchSoak) -> Result<()> {
    let like = BenchIsolate {
        quick: false,
        no_build: options.no_build,
        dev: options.dev,
        script: None,
    };
    let bench = Bench::prepare("soak", &like)?;
    let attacks = workspace::root().join("target/workers/attacks.wasm");
    let mut zones = bench.zones();
    zones.push((
        "attacks".to_owned(),
        format!("file = \"{}\"\nlog_rate = 1\n", attacks.display()),
    ));
    let edge = bench.edge("soak", &zones)?;
    let tenth = (options.requests / 10).max(16);
    let mut memory = Vec::new();
    for part in 1..=10 {
        load(&bench, &edge, tenth)?;
        // What the last requests held is given back within a sweep's time.
        std::thread::sleep(Duration::from_secs(2));
        let resident = process::resident_memory(edge.process.id())?;
        println!("soak {part}/10: {} KiB", resident >> 10);
        memory.push(resident);
    }
    let (Some(first), Some(last)) = (memory.first(), memory.last()) else {
        bail!("nothing was measured");
    };
    let growth = *last as f64 / *first as f64 - 1.0;
    let report = json!({ "requests": tenth * 10, "resident_bytes": memory, "growth": growth, "dev": options.dev });
    let file = workspace::output("bench")?.join("soak.json");
    fs::write(&file, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("grown by {:.1} %; written to {}", growth * 100.0, file.display());
    if growth > GROWTH {
        bail!("the edge grew by more than {:.0} %", GROWTH * 100.0);
    }
    Ok(())
}

fn load(bench: &Bench<'_>, edge: &Server, requests: u64) -> Result<()> {
    let mut command = bench.h2load(edge, "one.example", "/", 8, requests)?;
    for (zone, path) in MIX {
        command.arg(format!("https://{zone}.example{path}"));
    }
    let output = process::output(&mut command, Duration::from_secs(2 * 3_600))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains(&format!("{requests} done")) || !text.contains(" 0 errored, 0 timeout") {
        bail!("not every request was answered:\n{text}");
    }
    Ok(())
}
