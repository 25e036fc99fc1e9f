//! The process among others: what they may see of its memory, and how many descriptors it has.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::config::Limits;

/// No core dumps: private keys, session keys and the cluster's secret are in memory. Without
/// workers, no other process of the same user may look into it either (ptrace(2), /proc/PID/mem);
/// with them that is [`close`]d later, for wasmtime first opens its own page map, which is root's
/// alone in a process that is closed. Gives a warning for what was refused.
pub(super) fn seal(workers: bool) -> Option<std::io::Error> {
    // Read once and kept, for the metrics: /proc/self/auxv is root's when the process is not
    // dumpable.
    let _ = (rustix::param::page_size(), rustix::param::clock_ticks_per_second());
    // Where dumps are piped to a program, the limit does not hold: then they have none of the
    // memory.
    let filtered = std::fs::write("/proc/self/coredump_filter", "0");
    let limited = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    let closed = match workers {
        true => Ok(()),
        false => close(),
    };
    let refused = limited.map_err(std::io::Error::from).and(closed).err();
    refused.or(filtered.err().filter(|_| workers))
}

/// From now on no other process of the same user may look into this one's memory, and what is in
/// /proc of it is root's.
///
/// # Errors
/// The kernel refused.
pub(super) fn close() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Into::into)
}

/// Raises the descriptor limit to what the configured connections need, as far as allowed.
pub(super) fn prepare(limits: &Limits) {
    let wanted = limits.descriptors();
    let now = getrlimit(Resource::Nofile);
    let current = now.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return;
    }
    let most = now.maximum.unwrap_or(u64::MAX);
    let mut granted = wanted.min(most);
    // With CAP_SYS_RESOURCE the hard limit moves too; without, the attempt fails and the hard limit
    // is the end.
    if setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum: Some(most.max(wanted)),
        },
    )
    .is_ok()
    {
        granted = wanted;
    } else if setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(granted),
            maximum: now.maximum,
        },
    )
    .is_err()
    {
        granted = current;
    }
    if granted < wanted {
        tracing::warn!(
            granted,
            wanted,
            "the descriptor limit is too low for limits.connections; raise LimitNOFILE, or lower limits.connections"
        );
    }
}
