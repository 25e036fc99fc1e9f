//! Watches the files of certificates and keys, so that whoever renews them (an ACME client, a
//! person) need not tell the daemon. By looking: files are replaced by renames, behind symbolic
//! links, and on mounts that send no events.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Node;
use crate::base::shutdown::Phase;
use crate::config::{Config, Key, Zone};

/// Between two looks. A change is acted on at the second look that finds the same, so that a
/// certificate and its key, which are written one after the other, are read together.
const EVERY: Duration = Duration::from_secs(3);
/// Looks between two warnings of certificates that soon expire: half a day.
const WARNED_EVERY: u32 = 14_400;

/// What tells one content of a file from the next, without reading it: device, inode, length, and
/// the time of its last change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The files that are watched, as they were when last read.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    read: BTreeMap<PathBuf, Stamp>,
    /// At the last look.
    last: BTreeMap<PathBuf, Stamp>,
}

/// The files with certificates and keys that `config` names.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(config.zones.iter().flat_map(of));
    for server in &config.key_servers {
        files.extend([&server.ca.0, &server.certificate.0, &server.key.0].map(Clone::clone));
    }
    files
}

/// Those that one zone names.
pub(super) fn of(zone: &Zone) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(certificate) = &zone.certificate {
        files.push(certificate.chain.clone());
        if let Key::File(path, _) = &certificate.key {
            files.push(path.clone());
        }
        files.extend(certificate.clients.iter().map(|clients| clients.ca.0.clone()));
    }
    files
}

impl Watched {
    /// Watches `files`, which have just been read.
    pub(super) fn watch(&self, files: Vec<PathBuf>) {
        let read: BTreeMap<_, _> = files.into_iter().map(|file| (file.clone(), stamp(&file))).collect();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last.clone_from(&read);
        seen.read = read;
    }

    /// The files that have changed since they were read, and not since the last look; they count as
    /// read.
    fn changed(&self) -> Vec<PathBuf> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeMap<PathBuf, Stamp> = seen.read.keys().map(|file| (file.clone(), stamp(file))).collect();
        let still = now == seen.last;
        seen.last.clone_from(&now);
        if !still {
            return Vec::new();
        }
        let changed = now.iter().filter(|(file, stamp)| seen.read.get(*file) != Some(stamp));
        let changed = changed.map(|(file, _)| file.clone()).collect();
        seen.read = now;
        changed
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// Looks until the node drains.
pub(super) async fn tend(node: Arc<Node>) {
    let mut shutdown = node.shutdown.clone();
    let drain = shutdown.reached(Phase::Draining);
    tokio::pin!(drain);
    let mut tick = tokio::time::interval(EVERY);
    let mut looks = 0_u32;
    loop {
        tokio::select! {
            () = &mut drain => return,
            _ = tick.tick() => {}
        }
        let changed = node.watched.changed();
        if !changed.is_empty() {
            let out = |file: &PathBuf| node.of_zone_out(file);
            if changed.iter().any(out) {
                // What it lacked has come, perhaps: everything else of the zone has to be prepared,
                // too.
                node.reload();
            } else {
                node.renew();
            }
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(WARNED_EVERY) {
            for warning in node
                .front
                .certificates()
                .snapshot()
                .aging(&node.state.load().config.zones)
            {
                tracing::warn!(target: "edge::tls", "{warning}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A renewal is never noticed, or half of one is read.
    #[test]
    fn a_change_is_told_once_when_it_has_settled() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one.pem"), directory.path().join("two.pem"));
        std::fs::write(&one, "1").unwrap();
        let watched = Watched::default();
        watched.watch(vec![one.clone(), two.clone()]);
        assert!(watched.changed().is_empty());
        let renew = |file: &PathBuf, text: &str| {
            let beside = directory.path().join("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(&beside, file).unwrap();
        };
        renew(&one, "2");
        assert!(watched.changed().is_empty(), "the other file may be about to follow");
        renew(&two, "new");
        assert!(watched.changed().is_empty());
        assert_eq!(watched.changed(), [one.clone(), two.clone()]);
        assert!(watched.changed().is_empty(), "told once");
        std::fs::remove_file(&two).unwrap();
        assert!(watched.changed().is_empty());
        assert_eq!(watched.changed(), [two]);
    }
}
