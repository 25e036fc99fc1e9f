//! Versions that the far end can refer to, by their digests: in memory within one bound of bytes,
//! and on disk within another, so that a restart keeps them. A file's name is the digest of what
//! must be in it, so a torn or damaged one is found when it is read, and no index has to be kept in
//! step.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::codec::Dictionary;
use super::digest::Digest;
use super::lru::Lru;
use super::metrics::{Metrics, Store};

/// Versions that may wait to be written; beyond, they stay in memory alone.
const WAITING: usize = 64;

/// A version's place: the zone it belongs to, so that no tenant's content serves another, and its
/// digest.
type Key = (Arc<str>, Digest);

/// The store; shared by all workers.
#[derive(Debug)]
pub struct Versions {
    memory: Mutex<Lru<Key, Bytes>>,
    disk: Option<Disk>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Disk {
    directory: PathBuf,
    files: Arc<Mutex<Lru<Key, ()>>>,
    writer: SyncSender<(Key, Bytes)>,
}

/// What keeps a far end's store from opening; the operator's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be used for the store: {source}; make it writable for this user, or name another [store] directory"
)]
pub struct OpenError {
    /// The directory, or a file in it.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: std::io::Error,
}

/// Where versions are kept on disk, and how much.
#[derive(Clone, Debug)]
pub struct OnDisk<'a> {
    /// Made where it is missing.
    pub directory: &'a Path,
    /// Bytes of all files.
    pub bytes: usize,
}

impl Versions {
    /// Holds `memory` bytes, and what is said on `disk`, whose files of before are taken up.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(memory: usize, disk: Option<OnDisk<'_>>, metrics: Metrics) -> Result<Self, OpenError> {
        Ok(Self {
            memory: Mutex::new(Lru::new(memory)),
            disk: disk.map(|disk| Disk::open(&disk, metrics.clone())).transpose()?,
            metrics,
        })
    }

    /// Keeps `version` of `zone`; on disk too unless it is `private`.
    pub(super) fn put(&self, zone: &Arc<str>, version: &Dictionary, private: bool) {
        let key = (zone.clone(), version.digest());
        if lock(&self.memory).get(&key).is_some() {
            return;
        }
        // A copy: what comes from a connection is often a piece of a much larger buffer, which it
        // would keep alive.
        let content = Bytes::copy_from_slice(version.content());
        {
            let mut memory = lock(&self.memory);
            let weight = content.len();
            memory.put(key.clone(), content.clone(), weight);
            let (bytes, entries) = memory.fill();
            self.metrics.holds(Store::Versions, bytes, entries);
        }
        if let Some(disk) = self.disk.as_ref().filter(|_| !private) {
            // A queue that is full means a disk that is slow: the version lives in memory alone
            // then.
            let _ = disk.writer.try_send((key, content));
        }
    }

    /// The version of `zone` that is in memory.
    pub(super) fn at_hand(&self, zone: &Arc<str>, digest: Digest) -> Option<Dictionary> {
        let content = lock(&self.memory).get(&(zone.clone(), digest))?;
        Some(Dictionary::with_digest(content, digest))
    }

    /// Whether [`Versions::read`] may find it.
    pub(super) fn on_disk(&self, zone: &Arc<str>, digest: Digest) -> bool {
        self.disk
            .as_ref()
            .is_some_and(|disk| lock(&disk.files).get(&(zone.clone(), digest)).is_some())
    }

    /// Reads a version from disk and checks it; blocks. A file that is not what its name says is
    /// removed.
    pub(super) fn read(&self, zone: &Arc<str>, digest: Digest) -> Option<Dictionary> {
        let disk = self.disk.as_ref()?;
        let path = disk.path(zone, digest);
        let content = fs::read(&path).ok();
        match content.map(Dictionary::new) {
            Some(version) if version.digest() == digest => {
                self.put(zone, &version, true);
                Some(version)
            }
            other => {
                if other.is_some() {
                    tracing::warn!(target: "edge::delta", file = %path.display(), "a stored version is damaged; removed");
                }
                lock(&disk.files).remove(&(zone.clone(), digest));
                // It may be gone already.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }
}

impl Disk {
    fn open(disk: &OnDisk<'_>, metrics: Metrics) -> Result<Self, OpenError> {
        let directory = disk.directory.to_owned();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError { path, source }
        };
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let mut found = Vec::new();
        for zone in fs::read_dir(&directory).map_err(failed(&directory))?.flatten() {
            let Some(name) = zone.file_name().to_str().map(Arc::<str>::from) else {
                continue;
            };
            for file in fs::read_dir(zone.path()).into_iter().flatten().flatten() {
                let digest = Digest::from_hex(file.file_name().as_encoded_bytes());
                let (Some(digest), Ok(about)) = (digest, file.metadata()) else {
                    // What a writer that was killed left behind.
                    let _ = fs::remove_file(file.path());
                    continue;
                };
                let length = usize::try_from(about.len()).unwrap_or(usize::MAX);
                let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((modified, (name.clone(), digest), length));
            }
        }
        found.sort_by_key(|(modified, _, _)| *modified);
        let mut files = Lru::new(disk.bytes);
        for (_, key, length) in found {
            let mut gone = files.put(key.clone(), (), length);
            if length > disk.bytes {
                gone.push((key, ()));
            }
            for ((zone, digest), ()) in gone {
                let _ = fs::remove_file(path(&directory, &zone, digest));
            }
        }
        let (bytes, entries) = files.fill();
        metrics.holds(Store::Disk, bytes, entries);
        let files = Arc::new(Mutex::new(files));
        let (writer, queue) = sync_channel(WAITING);
        let theirs = (directory.clone(), files.clone());
        std::thread::Builder::new()
            .name("versions".to_owned())
            .spawn(move || write(&queue, &theirs.0, &theirs.1, &metrics))
            .map_err(failed(&directory))?;
        // Written once, so that a directory that cannot be written is found now.
        let probe = directory.join(".probe");
        fs::write(&probe, b"").map_err(failed(&probe))?;
        fs::remove_file(&probe).map_err(failed(&probe))?;
        Ok(Self {
            directory,
            files,
            writer,
        })
    }

    fn path(&self, zone: &str, digest: Digest) -> PathBuf {
        path(&self.directory, zone, digest)
    }
}

/// Zone names are letters, digits, `-`, `_` and `.`; the prefix keeps one of dots alone from
/// meaning another directory.
fn path(directory: &Path, zone: &str, digest: Digest) -> PathBuf {
    directory.join(zone_directory(zone)).join(digest.hex())
}

fn zone_directory(zone: &str) -> &str {
    match zone {
        "." | ".." => "dots",
        name => name,
    }
}

/// The writer's thread: ends with the store.
fn write(queue: &Receiver<(Key, Bytes)>, directory: &Path, files: &Mutex<Lru<Key, ()>>, metrics: &Metrics) {
    while let Ok(((zone, digest), content)) = queue.recv() {
        if lock(files).get(&(zone.clone(), digest)).is_some() {
            continue;
        }
        if let Err(error) = write_one(directory, &zone, digest, &content) {
            tracing::warn!(target: "edge::delta", %error, "a version could not be stored");
            continue;
        }
        let (gone, fill) = {
            let mut files = lock(files);
            let gone = files.put((zone, digest), (), content.len());
            (gone, files.fill())
        };
        for ((zone, digest), ()) in gone {
            let _ = fs::remove_file(path(directory, &zone, digest));
        }
        metrics.holds(Store::Disk, fill.0, fill.1);
    }
}

/// Under another name first: a file with a digest for a name is whole, but for what a crash of the
/// machine does to it.
fn write_one(directory: &Path, zone: &str, digest: Digest, content: &[u8]) -> std::io::Result<()> {
    let whole = path(directory, zone, digest);
    let part = whole.with_extension("part");
    if let Some(parent) = whole.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::create(&part)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(&part, &whole)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;
    use std::time::{Duration, Instant};

    fn open(directory: &Path, bytes: usize) -> Versions {
        let metrics = Metrics::far(&mut Registry::default());
        Versions::open(1 << 20, Some(OnDisk { directory, bytes }), metrics).unwrap()
    }

    fn wait(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not written");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A restart would otherwise cost every resource once whole; a damaged file must not become a
    /// wrong byte; one zone's content must not serve another; what is private never reaches the
    /// disk.
    #[test]
    fn survives_restart_and_damage() {
        let directory = tempfile::tempdir().unwrap();
        let zone: Arc<str> = "a".into();
        let version = |n: usize| Dictionary::new(format!("version {n} ").repeat(100));
        let (kept, hidden, hurt) = (version(1), version(2), version(3));
        {
            let store = open(directory.path(), 1 << 20);
            store.put(&zone, &kept, false);
            store.put(&zone, &hurt, false);
            store.put(&zone, &hidden, true);
            assert!(store.at_hand(&zone, hidden.digest()).is_some());
            assert!(store.at_hand(&"b".into(), kept.digest()).is_none());
            wait(|| store.on_disk(&zone, kept.digest()) && store.on_disk(&zone, hurt.digest()));
        }
        fs::write(directory.path().join("a").join("left.part"), b"half").unwrap();
        fs::write(directory.path().join("a").join(hurt.digest().hex()), b"other").unwrap();
        let store = open(directory.path(), 1 << 20);
        assert!(!directory.path().join("a").join("left.part").exists());
        assert!(store.at_hand(&zone, kept.digest()).is_none());
        let found = store.read(&zone, kept.digest()).unwrap();
        assert_eq!(found.content(), kept.content());
        assert!(store.at_hand(&zone, kept.digest()).is_some());
        assert!(store.read(&zone, hurt.digest()).is_none());
        assert!(!store.on_disk(&zone, hurt.digest()));
        assert!(!store.on_disk(&zone, hidden.digest()));
        assert!(!store.on_disk(&"b".into(), kept.digest()));
    }

    /// The disk is bounded too, after a restart with a smaller bound as well.
    #[test]
    fn bounded_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let zone: Arc<str> = "a".into();
        let files = || fs::read_dir(directory.path().join("a")).unwrap().count();
        {
            let store = open(directory.path(), 20_000);
            for n in 0..40 {
                let version = Dictionary::new(vec![n; 1_000]);
                store.put(&zone, &version, false);
                wait(|| store.on_disk(&zone, version.digest()));
            }
            wait(|| files() <= 16);
        }
        drop(open(directory.path(), 5_000));
        assert!((1..=4).contains(&files()), "{}", files());
    }
}
