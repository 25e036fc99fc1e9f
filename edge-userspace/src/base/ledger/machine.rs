//! How much memory this machine, or the control group that the process runs in, gives to it. Read
//! at start and reload.

use std::path::{Path, PathBuf};

/// Of the machine's memory or of the control group's limit, whichever is less; bytes. `None`:
/// neither can be read.
pub fn memory() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = directory(&groups).and_then(|path| limit(Path::new("/sys/fs/cgroup"), &path));
    machine.into_iter().chain(group).min()
}

/// `MemTotal`, which is in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The process's place in the one hierarchy of cgroup v2: the line `0::/path`.
fn directory(groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// The least `memory.max` of the group and those above it.
fn limit(root: &Path, group: &Path) -> Option<u64> {
    let of = |group: &Path| -> Option<u64> {
        let text = std::fs::read_to_string(root.join(group).join("memory.max")).ok()?;
        text.trim().parse().ok()
    };
    group.ancestors().filter_map(of).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node in a container would take what the host has, and be killed.
    #[test]
    fn the_least_counts() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("nothing"), None);
        assert_eq!(directory("1:name=x:/a\n0::/b/c\n"), Some(PathBuf::from("b/c")));
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("b/c");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(root.path(), Path::new("b/c")), None);
        std::fs::write(root.path().join("b/memory.max"), "1000\n").unwrap();
        assert_eq!(limit(root.path(), Path::new("b/c")), Some(1_000));
        std::fs::write(group.join("memory.max"), "2000\n").unwrap();
        assert_eq!(limit(root.path(), Path::new("b/c")), Some(1_000));
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
