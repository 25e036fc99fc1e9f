//! `cargo xtask bench xdp`: nanoseconds a packet, in the kernel itself. The measuring is
//! `tests/benches/xdp`, a program of its own, because it needs the daemon's library, which the rest
//! of xtask should not wait for.

use anyhow::{Result, bail};

use crate::workspace;

/// Nanoseconds per packet of the XDP program, against xdp-filter.
///
/// By BPF_PROG_TEST_RUN, which runs a program on one packet a million times: bare DROP and PASS,
/// this edge, and Debian's xdp-filter with a denied address, taking turns. Penalised addresses are
/// also run once each, from among 200,000 (as many as xdp-filter's map takes for the comparison:
/// 10,000) and ten million, denied ones from among a million networks (a tenth of both with
/// --quick). Needs root; touches no interface of this machine. Writes target/bench/xdp.json.
#[derive(clap::Args)]
pub(crate) struct BenchXdp {
    /// Fewer repeats: under a minute, for a smoke test
    #[arg(long)]
    quick: bool,
}

/// Runs it.
pub(crate) fn run(bench: &BenchXdp) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("XDP programs can only be run as root: `sudo -E env PATH=$PATH cargo xtask bench xdp`");
    }
    workspace::prepare(&[workspace::SETUP_BENCH, workspace::BUILD_EBPF])?;
    let output = workspace::output("bench")?;
    let mut command = workspace::cargo_command();
    // The development profile builds in a fraction of the time, and what is measured is the
    // kernel's code.
    command
        .args([
            "bench",
            "--quiet",
            "--profile",
            "dev",
            "-p",
            "edge-testbed",
            "--bench",
            "xdp",
            "--",
            "--output",
        ])
        .arg(output.join("xdp.json"));
    if bench.quick {
        command.arg("--quick");
    }
    let measured = workspace::run(&mut command);
    workspace::give_back(&output)?;
    measured
}
