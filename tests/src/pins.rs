//! Directories below the BPF file system for an edge under test to pin its program in, removed when
//! dropped.
//!
//! Removing the pins also detaches the program. Names carry the owner's pid, as those of namespaces
//! do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const BPFFS: &str = "/sys/fs/bpf";
/// statfs(2): BPF_FS_MAGIC.
const BPF_FS_MAGIC: i128 = 0xcafe_4a11;
/// Only these are swept: an operator may well pin under `edge-something-7`.
const LABELS: [&str; 3] = ["bench", "demo", "test"];

/// A name for a pin directory that is this process's own. The edge makes the directory.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
}

impl Pins {
    /// Mounts the BPF file system if it is not there (in containers, usually). `label` is `bench`,
    /// `demo` or `test`.
    pub fn prepare(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        anyhow::ensure!(
            LABELS.contains(&label),
            "the label of pins is one of {LABELS:?}, or no sweep would find them"
        );
        let magic = rustix::fs::statfs(BPFFS)
            .with_context(|| format!("looking at {BPFFS}"))?
            .f_type;
        if i128::from(magic) != BPF_FS_MAGIC {
            rustix::mount::mount("bpf", BPFFS, "bpf", rustix::mount::MountFlags::empty(), None)
                .with_context(|| format!("mounting the BPF file system: try `mount -t bpf bpf {BPFFS}`"))?;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            path: Path::new(BPFFS).join(format!("edge-{label}-{}-{count}", std::process::id())),
        })
    }

    /// What `dataplane.pin_directory` of the edge must be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.path.exists()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the pins of owners that no longer run, and returns what was removed.
pub fn sweep() -> Vec<String> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(BPFFS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = owner(&name) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() && fs::remove_dir_all(entry.path()).is_ok() {
            removed.push(entry.path().display().to_string());
        }
    }
    removed
}

fn owner(name: &str) -> Option<u32> {
    let (label, rest) = name.strip_prefix("edge-")?.split_once('-')?;
    let (pid, count) = rest.split_once('-')?;
    let _count: u32 = count.parse().ok()?;
    if LABELS.contains(&label) {
        pid.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pins_of_tests_have_an_owner() {
        // A wrong answer here would take the XDP program off somebody's interface.
        assert_eq!(owner("edge-demo-4711-0"), Some(4711));
        assert_eq!(owner("edge-test-4711-3"), Some(4711));
        for name in [
            "edge",
            "edge-demo",
            "edge-demo-4711",
            "edge-eth-4711-0",
            "edge-test-x-0",
            "demo-4711-0",
        ] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn pins_of_the_dead_go_and_ours_stay() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root for {BPFFS}");
            return;
        }
        let ours = Pins::prepare("test").unwrap();
        fs::create_dir_all(ours.path().join("maps")).unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let pid = gone.id();
        gone.wait().unwrap();
        let theirs = Path::new(BPFFS).join(format!("edge-test-{pid}-0"));
        fs::create_dir_all(theirs.join("maps")).unwrap();
        assert!(sweep().contains(&theirs.display().to_string()));
        assert!(!theirs.exists() && ours.path().exists());
        let path = ours.path().to_owned();
        drop(ours);
        assert!(!path.exists());
    }
}
