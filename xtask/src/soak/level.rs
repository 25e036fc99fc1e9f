//! What the daemon holds while nobody asks anything.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edge_testbed::process;
use serde::Serialize;

use super::world::World;

/// A look at the daemon.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Level {
    resident_mb: f64,
    descriptors: usize,
    threads: usize,
    /// Bytes held for clients, by the daemon's own account.
    held: f64,
    /// Handshakes that wait for key servers.
    waiting: f64,
    /// Penalties in the kernel's maps.
    penalties: f64,
}

/// By how much each may have grown.
pub(super) struct Limit {
    resident_share: f64,
    resident_mb: f64,
    descriptors: usize,
    threads: usize,
}

impl Limit {
    /// Allocators keep some of what a crowd took, and pools of connections to origins some
    /// descriptors.
    pub(super) const STANDARD: Self = Self {
        resident_share: 0.15,
        resident_mb: 16.0,
        descriptors: 32,
        threads: 8,
    };

    /// What of `after` is beyond `before`, in words.
    pub(super) fn beyond(&self, before: &Level, after: &Level) -> Vec<String> {
        let most = before.resident_mb * (1.0 + self.resident_share) + self.resident_mb;
        let mut beyond = Vec::new();
        if after.resident_mb > most {
            beyond.push(format!("memory {:.0} MB, at most {most:.0}", after.resident_mb));
        }
        for (what, had, has, more) in [
            ("descriptors", before.descriptors, after.descriptors, self.descriptors),
            ("threads", before.threads, after.threads, self.threads),
        ] {
            if has > had + more {
                beyond.push(format!("{what} {has}, at most {}", had + more));
            }
        }
        // Nobody is there: nothing may be held for anybody.
        for (what, had, has) in [
            ("held for clients", before.held, after.held),
            ("handshakes waiting", before.waiting, after.waiting),
            ("penalties in the kernel", before.penalties, after.penalties),
        ] {
            if has > had {
                beyond.push(format!("{what} {has}, before {had}"));
            }
        }
        beyond
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MB, {} descriptors, {} threads, {} B held for clients, {} handshakes waiting, {} penalties",
            self.resident_mb, self.descriptors, self.threads, self.held, self.waiting, self.penalties
        )
    }
}

/// The level, as soon as it is not beyond `before`, or after `patience` whatever it is then.
pub(super) fn settled(world: &World, before: Option<&Level>, patience: Duration) -> Result<Level> {
    let start = Instant::now();
    // Idle connections to origins end, stacks and freed memory are given back.
    std::thread::sleep(Duration::from_secs(12));
    loop {
        let level = look(world)?;
        let empty = level.held == 0.0 && level.waiting == 0.0 && level.penalties == 0.0;
        let back = before.map_or(empty, |before| Limit::STANDARD.beyond(before, &level).is_empty());
        if back || start.elapsed() > patience {
            return Ok(level);
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn look(world: &World) -> Result<Level> {
    let pid = world.edge_id();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    let metrics = world.metrics()?;
    Ok(Level {
        resident_mb: process::resident_memory(pid)? as f64 / 1e6,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: threads.context("no Threads in /proc/PID/status")?.trim().parse()?,
        held: sum(&metrics, "edge_memory_bytes"),
        waiting: sum(&metrics, "edge_tls_handshakes_waiting"),
        penalties: sum(&metrics, "edge_dataplane_penalties"),
    })
}

/// The sum of a family over its labels; 0 of a family that has no value yet.
pub(super) fn sum(metrics: &str, family: &str) -> f64 {
    let value = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(family)?;
        let rest = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest,
        };
        rest.strip_prefix(' ')?.split(' ').next()?.parse().ok()
    };
    metrics.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: Level = Level {
        resident_mb: 100.0,
        descriptors: 50,
        threads: 10,
        held: 0.0,
        waiting: 0.0,
        penalties: 0.0,
    };

    /// A leak that is not told is why one soaks.
    #[test]
    fn what_does_not_come_back_is_told() {
        let beyond = |level: &Level| Limit::STANDARD.beyond(&LEVEL, level).len();
        assert_eq!(beyond(&LEVEL), 0);
        let more = Level {
            resident_mb: 140.0,
            descriptors: 90,
            threads: 30,
            held: 1.0,
            waiting: 2.0,
            penalties: 3.0,
        };
        assert_eq!(beyond(&more), 6);
    }

    #[test]
    fn families_are_summed_by_their_whole_name() {
        let text = "edge_a{kind=\"x\"} 3\nedge_a{kind=\"y z\"} 4.5\nedge_a_total 9\nedge_b 2\n";
        assert_eq!(
            (sum(text, "edge_a"), sum(text, "edge_b"), sum(text, "edge_c")),
            (7.5, 2.0, 0.0)
        );
    }
}
