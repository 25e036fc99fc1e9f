//! What a demo holds outside its own process, and how the next one removes it after a crash.
//!
//! A lock file says whether a demo runs; a list of process ids says what it started; names of
//! namespaces and pin directories carry the owner's pid.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use edge_testbed::{netns, pins};
use rustix::process::{Pid, Signal, kill_process};

/// The right to run the one demo of this checkout; given back when dropped, or by the kernel after
/// a crash.
pub(super) struct Claim {
    _lock: File,
    processes: PathBuf,
}

impl Claim {
    /// Fails if a demo of this checkout runs; otherwise ends and removes what an earlier one left.
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .with_context(|| format!("opening the lock in {}", directory.display()))?;
        // A child that another thread is just starting holds our descriptors between fork and exec:
        // that passes.
        let mut patience = 20;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(Duration::from_millis(25));
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "a demo of this checkout already runs: use it (`. {}/env`) or end it",
                    directory.display()
                ),
                Err(TryLockError::Error(error)) => return Err(error).context("locking the demo"),
            }
        }
        let claim = Self {
            _lock: lock,
            processes: directory.join("processes"),
        };
        claim.end_processes();
        let _ = fs::remove_file(directory.join("env"));
        let namespaces = netns::sweep()?;
        let pins = pins::sweep();
        if !namespaces.is_empty() || !pins.is_empty() {
            println!(
                "removed what an earlier run left: {}",
                [namespaces, pins].concat().join(" ")
            );
        }
        Ok(claim)
    }

    /// Notes a process, so that the next demo can end it should this one crash.
    pub(super) fn record(&self, pid: u32, executable: &Path) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.processes)?;
        Ok(writeln!(file, "{pid} {}", executable.display())?)
    }

    /// Ends what is on the list and still is the program it was: the pid may long belong to
    /// somebody else.
    fn end_processes(&self) {
        let list = fs::read_to_string(&self.processes).unwrap_or_default();
        for (pid, executable) in list.lines().filter_map(|line| line.split_once(' ')) {
            let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else {
                continue;
            };
            if !is_running(pid, executable) {
                continue;
            }
            println!(
                "ending {executable} (process {}) of an earlier run",
                pid.as_raw_nonzero()
            );
            let _ = kill_process(pid, Signal::TERM);
            for _ in 0..50 {
                if !is_running(pid, executable) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            if is_running(pid, executable) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = fs::remove_file(&self.processes);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // By now every process of the list was ended by its owner.
        let _ = fs::remove_file(&self.processes);
    }
}

fn is_running(pid: Pid, executable: &str) -> bool {
    let target = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap_or_default();
    // A binary that was built again meanwhile shows as deleted.
    target.to_string_lossy().trim_end_matches(" (deleted)") == executable
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_the_recorded_program_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut ours = Command::new("/bin/sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut stranger = Command::new("/bin/sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let sleep = fs::read_link(format!("/proc/{}/exe", ours.id())).unwrap();
        {
            let claim = Claim {
                _lock: File::open("/dev/null").unwrap(),
                processes: directory.path().join("processes"),
            };
            claim.record(ours.id(), &sleep).unwrap();
            // The same pid, but another program than the one that was started under it.
            claim.record(stranger.id(), Path::new("/usr/bin/edge")).unwrap();
            // Collect it as soon as it ends: nobody does that for a child of a crashed demo but
            // init.
            let waiter = std::thread::spawn(move || ours.wait().unwrap());
            claim.end_processes();
            assert!(!waiter.join().unwrap().success());
            assert!(!directory.path().join("processes").exists());
        }
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn one_demo_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Claim::take(directory.path()).unwrap();
        let error = Claim::take(directory.path()).err().unwrap().to_string();
        assert!(error.contains("already runs"), "{error}");
        drop(first);
        Claim::take(directory.path()).unwrap();
    }
}
