//! The operator's lists on their way into the kernel. A reload has checked that they have room; if
//! the kernel refuses a write all the same, it is tried again, at once and then each second, until
//! what the file says is in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Node;
use crate::base::shutdown::Phase;
use crate::config;
use crate::dataplane::{self, Lists};

/// Tries at once.
const TRIES: u32 = 3;
/// Seconds between two looks at the databases.
const LOOKED_EVERY: u32 = 10;

/// What is still to be written.
#[derive(Debug, Default)]
pub(super) struct KernelLists(Mutex<Option<config::Dataplane>>);

impl KernelLists {
    /// Writes the lists, now or later.
    pub(super) fn install(&self, listed: &Lists, lists: &config::Dataplane) {
        self.write(lists, |lists| listed.reload(lists));
    }

    fn write(&self, lists: &config::Dataplane, apply: impl Fn(&config::Dataplane) -> Result<(), dataplane::Error>) {
        let mut waiting = self.waiting();
        let mut written = Ok(());
        for _ in 0..TRIES {
            written = apply(lists);
            if written.is_ok() {
                break;
            }
        }
        match written {
            Ok(()) => {
                if waiting.take().is_some() {
                    tracing::info!(target: "edge::dataplane", "the kernel's lists are what the file says");
                }
            }
            Err(error) => {
                if waiting.is_none() {
                    tracing::error!(
                        target: "edge::dataplane",
                        %error,
                        "the kernel does not take the lists of the file; it is tried again each second"
                    );
                }
                *waiting = Some(lists.clone());
            }
        }
    }

    /// Whether lists wait to be written.
    pub(super) fn are_behind(&self) -> bool {
        self.waiting().is_some()
    }

    fn waiting(&self) -> MutexGuard<'_, Option<config::Dataplane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries again what the kernel did not take, and reads again databases that have changed, until the
/// node drains.
pub(super) async fn tend(node: Arc<Node>) {
    let mut shutdown = node.shutdown.clone();
    let drain = shutdown.reached(Phase::Draining);
    tokio::pin!(drain);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0_u32;
    loop {
        tokio::select! {
            () = &mut drain => return,
            _ = second.tick() => {}
        }
        count = count.wrapping_add(1);
        let mut wanted = node.lists.waiting().clone();
        if wanted.is_none() && count.is_multiple_of(LOOKED_EVERY) {
            let state = node.state.load();
            wanted = Some(state.config.dataplane.clone()).filter(|lists| node.listed.are_stale(lists));
        }
        if let Some(lists) = wanted {
            let node = node.clone();
            // Not here: a database is read whole, and a country is many networks.
            let installed = tokio::task::spawn_blocking(move || node.lists.install(&node.listed, &lists));
            // It does not panic.
            let _ = installed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;

    /// A network that the file denies would be let in for good, because the kernel was short of
    /// memory for a moment.
    #[test]
    fn what_the_kernel_refuses_is_tried_again() {
        let text = "[server]\nhttp = [\"127.0.0.1:80\"]\n[[zone]]\nname = \"a\"\nhosts = [\"a\"]\n[zone.origin]\n\
                    servers = [{ address = \"http://127.0.0.1:1\" }]\n";
        let file = config::Config::parse(Path::new("edge.toml"), text).unwrap().dataplane;
        let lists = KernelLists::default();
        let calls = Cell::new(0);
        let fails = |times: u32| {
            let calls = &calls;
            move |_: &config::Dataplane| {
                calls.set(calls.get() + 1);
                if calls.get() > times {
                    Ok(())
                } else {
                    Err(dataplane::Error::Off)
                }
            }
        };
        lists.write(&file, fails(2));
        assert_eq!((calls.get(), lists.are_behind()), (3, false));
        calls.set(0);
        lists.write(&file, fails(100));
        assert_eq!((calls.get(), lists.are_behind()), (3, true));
        calls.set(0);
        lists.write(&file, fails(0));
        assert_eq!((calls.get(), lists.are_behind()), (1, false));
    }
}
