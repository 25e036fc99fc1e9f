//! Files that somebody else replaces: whether they are others than those that were read. By
//! looking: files are replaced by renames, behind symbolic links, and on mounts that send no
//! events. The node and the key server look from time to time.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What tells one content of a file from the next, without reading it: device, inode, length, and
/// the time of its last change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// How files were before they were read. Taken after, a change between reading and looking would
/// never be seen: [`Watched::watch`] takes nothing else.
#[derive(Debug, Default)]
pub struct Sight(BTreeMap<PathBuf, Stamp>);

impl Sight {
    /// Looks at `files`, which are read next.
    pub fn before_reading(files: Vec<PathBuf>) -> Self {
        Self(files.into_iter().map(|file| (file.clone(), stamp(&file))).collect())
    }
}

/// The files that are watched, as they were when last read.
#[derive(Debug, Default)]
pub struct Watched(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    read: BTreeMap<PathBuf, Stamp>,
    /// At the last look.
    last: BTreeMap<PathBuf, Stamp>,
}

impl Watched {
    /// Watches the files of `sight`, which have been read since, in place of those before.
    pub fn watch(&self, Sight(read): Sight) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last.clone_from(&read);
        seen.read = read;
    }

    /// The files that have changed since they were read, and not since the last look, so that a
    /// certificate and its key, which are written one after the other, are read together; they
    /// count as read.
    pub fn changed(&self) -> Vec<PathBuf> {
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
        watched.watch(Sight::before_reading(vec![one.clone(), two.clone()]));
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

    /// What is written while a reload reads would be lost until the next change.
    #[test]
    fn a_change_beside_the_reading_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("one.pem");
        std::fs::write(&file, "1").unwrap();
        let watched = Watched::default();
        let sight = Sight::before_reading(vec![file.clone()]);
        std::fs::write(&file, "longer").unwrap();
        watched.watch(sight);
        assert!(watched.changed().is_empty(), "it may not have settled");
        assert_eq!(watched.changed(), [file]);
    }
}
