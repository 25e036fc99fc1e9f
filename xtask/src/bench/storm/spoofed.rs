//! The flood that no gate can tell from clients: SYNs whose sources are nobody's. Three ways to
//! stand it take turns: edge's SYN cookies in XDP, the kernel's own (edge without XDP,
//! `net.ipv4.tcp_syncookies` as the system has it), and nftables' synproxy in front of that.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use edge_testbed::netns::Netns;
use edge_testbed::process;
use serde::Serialize;

use super::target::Kind;
use super::world::{self, Counts, GOOD_RATE, Plan};
use crate::workspace;

/// Who stands it, in the order of the table.
pub(super) const KINDS: [Kind; 3] = [Kind::Edge, Kind::Kernel, Kind::Synproxy];
/// Before the flood is measured it lasts this long: a lockdown begins by its rate.
const BEGUN: f64 = 1.0;

/// How one of them stood it.
#[derive(Serialize)]
pub(super) struct Turn {
    #[serde(skip)]
    kind: Kind,
    /// SYNs that the load sent, and those that got past the ring of the server's interface, a
    /// second.
    sent_per_s: f64,
    received_per_s: f64,
    /// CPU beyond the quiet window's, by SYNs received.
    pub(super) cpu_s_per_million: f64,
    quiet: Counts,
    pub(super) flooded: Counts,
    pub(super) goodput_kept: f64,
}

impl fmt::Display for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:<16} {:>9.0} spoofed SYNs/s sent, {:>9.0} received, CPU {:.2} s per million, good clients kept {:.3}, p99 {:.1} and {:.1} ms",
            self.kind.name(),
            self.sent_per_s,
            self.received_per_s,
            self.cpu_s_per_million,
            self.goodput_kept,
            self.quiet.p99_ms,
            self.flooded.p99_ms,
        )
    }
}

/// Measures one of them.
pub(super) fn turn(plan: &Plan, kind: Kind) -> Result<Turn> {
    let mut world = world::World::make(plan, kind)?;
    // Answers have a way, and go to nobody.
    world
        .ends
        .inside
        .ip(&["route", "add", "198.18.0.0/15", "via", "10.77.0.2"])?;
    if kind == Kind::Synproxy {
        synproxy(plan, &world.ends.inside)?;
    }
    world.window(&["good"], 1.0)?;
    let quiet = world.window(&["good"], plan.seconds)?;
    ensure!(
        quiet.goodput() > 0.9 * GOOD_RATE,
        "{}: only {:.1} of {GOOD_RATE} requests per second are answered before any flood:\n{}",
        kind.name(),
        quiet.goodput(),
        world.server.process.tail()
    );
    world.window(&["spoofed"], BEGUN)?;
    let received = world.ends.received()?;
    let flooded = world.window(&["good", "spoofed"], plan.seconds)?;
    let received = world.ends.received()?.saturating_sub(received);
    world.stop();
    Ok(Turn {
        kind,
        sent_per_s: flooded.flood.attempts as f64 / flooded.flood.seconds,
        received_per_s: received as f64 / flooded.flood.seconds,
        cpu_s_per_million: (flooded.cpu() - quiet.cpu()).max(0.0) / received.max(1) as f64 * 1e6,
        goodput_kept: flooded.goodput() / quiet.goodput(),
        quiet: quiet.good,
        flooded: flooded.good,
    })
}

/// nftables' example (`man nft`, synproxy), for a listener that takes these options.
fn synproxy(plan: &Plan, netns: &Netns) -> Result<()> {
    let rules = "table ip storm {
    chain raw { type filter hook prerouting priority raw; tcp dport 443 tcp flags & (fin|syn|rst|ack) == syn notrack; }
    chain input {
        type filter hook input priority 0;
        tcp dport 443 ct state invalid,untracked synproxy mss 1460 wscale 10 timestamp sack-perm
        ct state invalid drop
    }
}
";
    let file = plan.directory.join("synproxy.nft");
    fs::write(&file, rules)?;
    let nft = workspace::need("nft", workspace::SETUP_BENCH)?;
    let mut load = netns.command(nft)?;
    let output = process::output(load.arg("-f").arg(&file), Duration::from_secs(10))?;
    ensure!(
        output.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
