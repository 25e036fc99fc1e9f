//! The load generator of `cargo xtask bench keyless`: asks a key server for TLS 1.3 signatures over
//! a few connections, as many under way on each as it is told, and prints what it got as one JSON
//! object.
//!
//! With `pid=` it reads the server's processor time before and after (proc_pid_stat(5)), so that
//! the figure that counts, signatures for each CPU-second of the server, comes from the same
//! seconds. Without `key=` it takes the first ECDSA P-256 key that the server lists.

mod arguments;
mod connection;

use std::time::Instant;

use anyhow::{Context, Result};
use arguments::Arguments;

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let tls = connection::tls(arguments)?;
    let mut connections = Vec::new();
    for _ in 0..arguments.connections {
        connections.push(connection::Connection::open(arguments, tls.clone()).await?);
    }
    let (key, scheme) = match connections.first_mut() {
        Some(first) => first.key(arguments.key).await?,
        None => anyhow::bail!("no connection"),
    };
    let cpu = || arguments.pid.map(processor_seconds).transpose();
    // A second for caches and buffers on both sides.
    let mut measured = None;
    for seconds in [1.0_f64.min(arguments.seconds), arguments.seconds] {
        let before = cpu()?;
        let start = Instant::now();
        let until = start + std::time::Duration::from_secs_f64(seconds);
        let mut tasks = tokio::task::JoinSet::new();
        for connection in connections.drain(..) {
            tasks.spawn(connection.load(key, scheme, arguments.pending, until));
        }
        let mut tally = connection::Tally::default();
        while let Some(done) = tasks.join_next().await {
            let (connection, part) = done??;
            connections.push(connection);
            tally.add(part);
        }
        let elapsed = start.elapsed().as_secs_f64();
        let spent = before.zip(cpu()?).map(|(before, after)| after - before);
        measured = Some((tally, elapsed, spent));
    }
    let (mut tally, elapsed, spent) = measured.context("nothing was measured")?;
    let per_cpu = spent
        .filter(|spent| *spent > 0.0)
        .map(|spent| tally.signed as f64 / spent);
    let report = serde_json::json!({
        "signed": tally.signed,
        "errors": tally.errors,
        "seconds": elapsed,
        "sign_per_s": tally.signed as f64 / elapsed,
        "server_cpu_s": spent,
        "sign_per_cpu_s": per_cpu,
        "connections": arguments.connections,
        "pending": arguments.pending,
        "latency_us_p50": tally.latency(0.5),
        "latency_us_p99": tally.latency(0.99),
    });
    println!("{report}");
    Ok(())
}

/// User and system seconds of a process.
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    // Fields are counted behind the name in parentheses.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("a stat line")?
        .1
        .split_ascii_whitespace()
        .collect();
    let ticks = |i: usize| -> Result<f64> { Ok(fields.get(i).context("a stat line")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
}
