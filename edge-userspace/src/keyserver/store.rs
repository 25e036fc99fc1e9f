//! The directory of keys as an immutable snapshot, replaced whole when the directory changes. A
//! file that cannot be read keeps the key that was read from it before; what is gone from the
//! directory is gone from the snapshot.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::key::{Key, KeyError};
use super::wire::KeyId;
use crate::base::file;

/// The largest file that is read.
const FILE: u64 = 64 << 10;
/// How files end that say where in a token a key is.
const PKCS11: &str = "pkcs11";
/// The most files that are looked at.
const FILES: usize = 100_000;

/// The keys at one moment.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<KeyId, Arc<Key>>);

impl Keys {
    /// The key with this id.
    pub(super) fn get(&self, id: &KeyId) -> Option<&Arc<Key>> {
        self.0.get(id)
    }

    /// Those behind `cursor`, in the order of their ids.
    pub(super) fn after(&self, cursor: KeyId) -> impl Iterator<Item = &Arc<Key>> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.0.range((Excluded(cursor), Unbounded)).map(|(_, key)| key)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The snapshot that is in force.
pub(super) type Current = Arc<ArcSwap<Keys>>;

/// Why a file or the directory is of no use. The operator's fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The directory itself.
    #[error("{}: {source}; make the directory of keys, readable by the key server", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that cannot be read.
    #[error("{}: {source}; make it readable by the key server", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that others can read or write.
    #[error("{}: others may access it (mode {mode:04o}); chmod o= it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a pipe, a device.
    #[error("{}: it is no regular file; keep it out of the directory of keys", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// A file of many bytes.
    #[error("{}: it is larger than {FILE} bytes; put the key alone into it", path.display())]
    Large {
        /// Which.
        path: PathBuf,
    },
    /// What is in it.
    #[error("{}: {error}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// The same key twice; the first by name is used.
    #[error("{}: it holds the same key as {other}; remove one", path.display())]
    Twice {
        /// Which.
        path: PathBuf,
        /// The name of the key that is used.
        other: Arc<str>,
    },
}

/// What tells a file from the one that was there before, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// What is known of one file.
#[derive(Debug, Default)]
struct Entry {
    /// Its state when it was read.
    stamp: Option<Stamp>,
    /// The last good key in it.
    key: Option<Arc<Key>>,
    /// What is wrong with it, as it was told.
    fault: Option<String>,
}

/// The directory, and what was read from it. One owner looks at it from time to time.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    files: HashMap<PathBuf, Entry>,
    current: Current,
}

/// What a look at the directory found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The snapshot was replaced.
    pub(super) changed: bool,
    /// Keys that are in force now and were not.
    pub(super) added: Vec<Arc<Key>>,
    /// Keys that were in force and are no more.
    pub(super) removed: Vec<Arc<Key>>,
    /// Files whose state is new and that are of no use.
    pub(super) errors: Vec<StoreError>,
    /// Files that are of no use, those among `errors` and those told before.
    pub(super) bad: usize,
}

impl Directory {
    /// Over `path`, with nothing read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: HashMap::new(),
            current: Arc::default(),
        }
    }

    /// The snapshot that is in force, for those who use keys.
    pub(super) fn current(&self) -> Current {
        self.current.clone()
    }

    /// Reads what is new or changed, and puts a new snapshot in force if that makes a difference.
    ///
    /// # Errors
    /// The directory cannot be listed; then nothing changes.
    pub(super) fn look(&mut self) -> Result<Look, StoreError> {
        let listed = list(&self.path).map_err(|source| StoreError::Directory {
            path: self.path.clone(),
            source,
        })?;
        let mut look = Look::default();
        self.files.retain(|path, _| listed.binary_search(path).is_ok());
        let mut keys = BTreeMap::new();
        for path in listed {
            let entry = self.files.entry(path.clone()).or_default();
            let was = entry.fault.take();
            let mut error = None;
            match read(&path, entry.stamp) {
                Ok(None) => entry.fault = was.clone(),
                Ok(Some((stamp, key))) => {
                    entry.stamp = Some(stamp);
                    entry.key = Some(Arc::new(key));
                }
                Err((stamp, why)) => {
                    entry.stamp = stamp;
                    error = Some(why);
                }
            }
            if let Some(key) = &entry.key {
                match keys.entry(key.id) {
                    btree_map::Entry::Vacant(place) => {
                        place.insert(key.clone());
                    }
                    btree_map::Entry::Occupied(other) => {
                        let other = other.get().name.clone();
                        error = error.or(Some(StoreError::Twice { path, other }));
                    }
                }
            }
            if let Some(error) = error {
                let text = error.to_string();
                if was.as_ref() != Some(&text) {
                    look.errors.push(error);
                }
                entry.fault = Some(text);
            }
            look.bad += usize::from(entry.fault.is_some());
        }
        let before = self.current.load();
        let fresh = |now: &Arc<Key>| !before.0.get(&now.id).is_some_and(|old| Arc::ptr_eq(old, now));
        look.added = keys.values().filter(|key| fresh(key)).cloned().collect();
        look.removed = before
            .0
            .values()
            .filter(|key| !keys.contains_key(&key.id))
            .cloned()
            .collect();
        look.changed = !look.added.is_empty() || !look.removed.is_empty();
        drop(before);
        if look.changed {
            self.current.store(Arc::new(Keys(keys)));
        }
        Ok(look)
    }
}

/// The files of keys, in the order of their names.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)?.take(FILES) {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|ending| ending == "pem" || ending == "key" || ending == PKCS11)
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// An error, and the state of the file it was found in.
type Fault = (Option<Stamp>, StoreError);

/// A file's key, unless the file is as it was.
fn read(path: &Path, before: Option<Stamp>) -> Result<Option<(Stamp, Key)>, Fault> {
    let unreadable = |source| {
        let path = path.to_owned();
        (None, StoreError::Read { path, source })
    };
    // Not opened while it is as it was: a look costs one system call for each key.
    let meta = fs::metadata(path).map_err(unreadable)?;
    if before == Some(Stamp::of(&meta)) {
        return Ok(None);
    }
    if !meta.is_file() {
        return Err((Some(Stamp::of(&meta)), StoreError::NotAFile { path: path.to_owned() }));
    }
    let mut file = file::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    let stamp = Stamp::of(&meta);
    let path_owned = || path.to_owned();
    if meta.mode() & 0o006 != 0 {
        let mode = meta.mode() & 0o7777;
        return Err((
            Some(stamp),
            StoreError::Open {
                path: path_owned(),
                mode,
            },
        ));
    }
    if meta.len() > FILE {
        return Err((Some(stamp), StoreError::Large { path: path_owned() }));
    }
    // Never grown, so that no part stays behind in freed memory.
    let mut text = Zeroizing::new(vec![0; usize::try_from(FILE).unwrap_or(0)]);
    let mut length = 0;
    while let Some(room) = text.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = text.get(..length).unwrap_or_default();
    let token = path.extension().is_some_and(|ending| ending == PKCS11);
    let key = if token {
        Key::in_token(&name, text, path.parent().unwrap_or(Path::new("")))
    } else {
        Key::from_pem(&name, text)
    };
    match key {
        Ok(key) => Ok(Some((stamp, key))),
        Err(error) => Err((
            // What may pass is tried again without the file's change.
            Some(stamp).filter(|_| !error.passes()),
            StoreError::Key {
                path: path_owned(),
                error,
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

    use super::*;

    fn write(path: &Path, text: &str) {
        // As operators are told to: aside, then moved into place.
        let aside = path.with_extension("new");
        fs::write(&aside, text).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&aside, path).unwrap();
    }

    fn key() -> (String, KeyId) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        (key.serialize_pem(), KeyId::of_spki(&key.subject_public_key_info()))
    }

    /// Keys come, change and go without a restart; a bad file never takes a good key away.
    #[test]
    fn a_life_of_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut watched = Directory::new(directory.path().to_owned());
        let current = watched.current();
        let ids = || current.load().after(KeyId::NONE).map(|key| key.id).collect::<Vec<_>>();
        assert!(!watched.look().unwrap().changed);

        let (first, first_id) = key();
        write(&at("shop.pem"), &first);
        write(&at("readme.txt"), "no key");
        let look = watched.look().unwrap();
        assert!(look.changed && look.errors.is_empty() && look.bad == 0, "{look:?}");
        assert_eq!((look.added.len(), ids()), (1, vec![first_id]));
        assert_eq!(&*current.load().get(&first_id).unwrap().name, "shop");
        assert!(!watched.look().unwrap().changed);

        // Damaged: told once, and the old key stays.
        write(
            &at("shop.pem"),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        );
        let look = watched.look().unwrap();
        assert_eq!((look.changed, look.errors.len(), look.bad), (false, 1, 1));
        let look = watched.look().unwrap();
        assert_eq!((look.errors.len(), look.bad, ids()), (0, 1, vec![first_id]));

        // Replaced.
        let (second, second_id) = key();
        write(&at("shop.pem"), &second);
        let look = watched.look().unwrap();
        assert_eq!((look.added.len(), look.removed.len(), look.bad), (1, 1, 0));
        assert_eq!(ids(), [second_id]);

        // The same key under another name is one key.
        write(&at("twin.key"), &second);
        let look = watched.look().unwrap();
        assert_eq!((look.changed, look.bad), (false, 1));
        assert!(
            look.errors[0].to_string().contains("same key as shop"),
            "{:?}",
            look.errors
        );
        assert_eq!(watched.look().unwrap().errors.len(), 0);

        // No file: nobody waits for whoever writes into the pipe, and it is told once.
        crate::base::file::tests::put_pipe(&at("pipe.pem"));
        fs::create_dir(at("directory.pem")).unwrap();
        let look = watched.look().unwrap();
        assert!(
            look.errors
                .iter()
                .all(|error| matches!(error, StoreError::NotAFile { .. })),
            "{:?}",
            look.errors
        );
        assert_eq!((look.errors.len(), look.bad, ids()), (2, 3, vec![second_id]));
        assert_eq!(watched.look().unwrap().errors.len(), 0);
        fs::remove_file(at("pipe.pem")).unwrap();
        fs::remove_dir(at("directory.pem")).unwrap();

        // Accessible to others.
        fs::remove_file(at("twin.key")).unwrap();
        write(&at("open.pem"), &first);
        fs::set_permissions(at("open.pem"), fs::Permissions::from_mode(0o604)).unwrap();
        let look = watched.look().unwrap();
        assert!(look.errors[0].to_string().contains("0604"), "{:?}", look.errors);
        fs::set_permissions(at("open.pem"), fs::Permissions::from_mode(0o640)).unwrap();
        let look = watched.look().unwrap();
        assert_eq!((look.added.len(), look.bad), (1, 0));

        fs::remove_file(at("shop.pem")).unwrap();
        fs::remove_file(at("open.pem")).unwrap();
        assert_eq!(watched.look().unwrap().removed.len(), 2);
        assert!(current.load().is_empty());
        fs::remove_dir_all(directory.path()).unwrap();
        let error = watched.look().unwrap_err().to_string();
        assert!(error.contains("make the directory"), "{error}");
    }
}
