//! A node's manifests on its disk: blobs by digest, and releases, which are directories of files
//! with the head beside them. What is in force is what the link `current` names; it changes by a
//! rename, so that a crash leaves the one or the other. Everything is synced before it is named.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::Digest;
use super::head::{Head, Refused, Trust, Trusted};
use super::index::{Index, Outline, Unsound};
use super::key::Identity;
use super::seal::Vault;
use crate::base::{directory, file};

/// The link to the release in force, in the fleet's directory.
pub const CURRENT: &str = "current";
/// The files of a release, below it.
pub const TREE: &str = "tree";

/// Files of a release that are synced one by one; of more, the whole file system is.
const FEW: usize = 64;

/// What a node has in force.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its head.
    pub head: Trusted,
    /// What it names.
    pub index: Arc<Index>,
}

/// A manifest could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("{0}: {1}")]
    Disk(PathBuf, #[source] io::Error),
    /// A blob is not what its name says.
    #[error("a blob is not what its digest says")]
    Digest,
    /// A blob is not there.
    #[error("the blob {0} is missing")]
    Missing(Digest),
    /// The head.
    #[error("the manifest is {0}")]
    Head(#[from] Refused),
    /// The index.
    #[error(transparent)]
    Index(#[from] Unsound),
    /// It would take more than the node gives.
    #[error("the manifest has {0} bytes, and [fleet] most allows {1}")]
    TooLarge(u64, u64),
}

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    trust: Trust,
    node: String,
    identity: Arc<Identity>,
    /// Bytes of a release's files at most.
    most: u64,
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Disk(path.clone(), error)
}

/// Makes a directory that is nobody else's to read.
fn make(path: &Path) -> Result<(), Error> {
    directory::make(path).map_err(at(path))
}

fn sync(path: &Path) -> Result<(), Error> {
    file::sync(path).map_err(at(path))
}

impl Store {
    /// Opens the directory, making it if it is not there, and gives what is in force.
    ///
    /// # Errors
    /// The disk. What is in force and cannot be believed is no error: it is as if there were
    /// nothing.
    pub fn open(
        directory: &Path,
        trust: Trust,
        node: &str,
        identity: Arc<Identity>,
        most: u64,
    ) -> Result<(Self, Option<Held>), Error> {
        let this = Self {
            directory: directory.to_owned(),
            trust,
            node: node.to_owned(),
            identity,
            most,
        };
        for part in ["blobs", "releases"] {
            make(&this.directory.join(part))?;
        }
        let held = match this.current() {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(target: "edge::fleet", %error, "the manifest on the disk cannot be used; it is fetched anew");
                None
            }
        };
        Ok((this, held))
    }

    /// What this store trusts.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    fn current(&self) -> Result<Option<Held>, Error> {
        let path = self.directory.join(CURRENT).join("head");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        let head = Head::parse(&bytes)?.check(&self.trust)?;
        let index = self.index(&head)?;
        Ok(Some(Held {
            head,
            index: Arc::new(index),
        }))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.to_string())
    }

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// The blob, which is what its digest says.
    ///
    /// # Errors
    /// It is not here, or damaged; then it is removed, so that it is fetched anew.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(*digest),
            _ => at(&path)(error),
        })?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        fs::remove_file(&path).map_err(at(&path))?;
        Err(Error::Digest)
    }

    /// Keeps a blob. It is on the disk when a release was built with it.
    ///
    /// # Errors
    /// It is not what `digest` says, or the disk.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        if Digest::of(bytes) != *digest {
            return Err(Error::Digest);
        }
        let path = self.blob_path(digest);
        let beside = path.with_extension("new");
        file::fresh(&beside, bytes, 0o400)
            .and_then(|_| fs::rename(&beside, &path))
            .map_err(at(&path))
    }

    /// The index that `head` names.
    ///
    /// # Errors
    /// It is not here, or not sound.
    pub fn index(&self, head: &Trusted) -> Result<Index, Error> {
        let outline = Outline::parse(&self.blob(&head.said().index)?)?;
        let roster = self.blob(&outline.roster().digest)?;
        let index = Index::parse(outline, &roster)?;
        match index.bytes() {
            bytes if bytes > self.most => Err(Error::TooLarge(bytes, self.most)),
            _ => Ok(index),
        }
    }

    /// The directory of a release's files, in force or not.
    pub fn tree(&self, head: &Trusted) -> PathBuf {
        self.release(head).join(TREE)
    }

    fn release(&self, head: &Trusted) -> PathBuf {
        self.directory.join("releases").join(head.said().counter.to_string())
    }

    /// Builds a release's directory from blobs that are all here, and returns the path of its
    /// files. Secrets that are not sealed to this node are left out: the zones that name them are
    /// not for it.
    ///
    /// # Errors
    /// A blob is missing or damaged, or the disk.
    pub fn build(&self, head: &Trusted, index: &Index) -> Result<PathBuf, Error> {
        let release = self.release(head);
        let beside = release.with_extension("new");
        for old in [&beside, &release] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(old)(error)),
                _ => {}
            }
        }
        let tree = beside.join(TREE);
        make(&tree)?;
        let vaults: Vec<Option<Vault>> = index.vaults.iter().map(|vault| self.vault(vault)).collect();
        let mut made = BTreeSet::from([tree.clone()]);
        for file in &index.files {
            let path = tree.join(&file.path);
            if let Some(parent) = path.parent().filter(|parent| !made.contains(*parent)) {
                make(parent)?;
                let between = parent.ancestors().take_while(|above| above.starts_with(&tree));
                made.extend(between.map(Path::to_owned));
            }
            match file.vault {
                None => {
                    // Read once more, so that what was damaged on the disk is not put into force.
                    self.blob(&file.digest)?;
                    fs::hard_link(self.blob_path(&file.digest), &path).map_err(at(&path))?;
                }
                Some(number) => {
                    let sealed = self.blob(&file.digest)?;
                    let vault = vaults.get(number).and_then(Option::as_ref);
                    let plain = vault.and_then(|vault| vault.open(&self.trust.fleet, &file.path, &sealed).ok());
                    let plain: Option<Zeroizing<Vec<u8>>> = plain;
                    if let Some(plain) = plain {
                        file::fresh(&path, &plain, 0o400).map_err(at(&path))?;
                    }
                }
            }
        }
        let path = beside.join("head");
        file::fresh(&path, &head.write(), 0o400).map_err(at(&path))?;
        if index.files.len() <= FEW {
            let roster = index.roster.iter().map(|roster| roster.digest);
            let blobs: Vec<Digest> = roster.chain([head.said().index]).collect();
            self.sync_each(&beside, &made, &blobs)?;
            fs::rename(&beside, &release).map_err(at(&release))?;
            sync(&self.directory.join("releases"))?;
        } else {
            fs::rename(&beside, &release).map_err(at(&release))?;
            self.sync_all()?;
        }
        Ok(release.join(TREE))
    }

    /// A release of few files, and the blobs that it is made of, are on the disk when this returns.
    fn sync_each(&self, release: &Path, directories: &BTreeSet<PathBuf>, blobs: &[Digest]) -> Result<(), Error> {
        for directory in directories {
            for entry in fs::read_dir(directory).map_err(at(directory))? {
                let path = entry.map_err(at(directory))?.path();
                sync(&path)?;
            }
            sync(directory)?;
        }
        sync(&release.join("head"))?;
        sync(release)?;
        for blob in blobs {
            sync(&self.blob_path(blob))?;
        }
        sync(&self.directory.join("blobs"))
    }

    /// All that was written is on the disk when this returns: one call for thousands of files.
    fn sync_all(&self) -> Result<(), Error> {
        let directory = File::open(&self.directory).map_err(at(&self.directory))?;
        rustix::fs::syncfs(&directory).map_err(|error| at(&self.directory)(error.into()))
    }

    fn vault(&self, keys: &std::collections::BTreeMap<String, String>) -> Option<Vault> {
        let wrapped = BASE64.decode(keys.get(&self.node)?.as_bytes()).ok()?;
        Vault::unwrap(&self.trust.fleet, &wrapped, &self.identity).ok()
    }

    /// Makes the release of `head`, which was built, the one in force at the next start.
    ///
    /// # Errors
    /// The disk.
    pub fn commit(&self, head: &Trusted) -> Result<(), Error> {
        let link = self.directory.join(CURRENT);
        let beside = self.directory.join("current.new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&beside)(error)),
            _ => {}
        }
        let target = Path::new("releases").join(head.said().counter.to_string());
        std::os::unix::fs::symlink(target, &beside).map_err(at(&beside))?;
        fs::rename(&beside, &link).map_err(at(&link))?;
        sync(&self.directory)
    }

    /// Removes releases and blobs that none of `keep` needs.
    ///
    /// # Errors
    /// The disk.
    pub fn tidy(&self, keep: &[&Held]) -> Result<(), Error> {
        let counters: Vec<String> = keep.iter().map(|held| held.head.said().counter.to_string()).collect();
        let mut needed: std::collections::HashSet<String> = keep
            .iter()
            .flat_map(|held| held.index.files.iter().map(|file| file.digest.to_string()))
            .collect();
        needed.extend(keep.iter().map(|held| held.head.said().index.to_string()));
        let rosters = keep.iter().filter_map(|held| held.index.roster.as_ref());
        needed.extend(rosters.map(|roster| roster.digest.to_string()));
        let unneeded = |part: &str, needed: &dyn Fn(&str) -> bool| -> Result<Vec<PathBuf>, Error> {
            let directory = self.directory.join(part);
            let entries = fs::read_dir(&directory).map_err(at(&directory))?;
            let names = entries.filter_map(Result::ok).map(|entry| entry.path());
            let gone = names.filter(|path| !path.file_name().and_then(|name| name.to_str()).is_some_and(needed));
            Ok(gone.collect())
        };
        for path in unneeded("releases", &|name| counters.iter().any(|counter| counter == name))? {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
        for path in unneeded("blobs", &|name| needed.contains(name))? {
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::clock::UnixTime;
    use crate::fleet::head::Said;
    use crate::fleet::index::{File as Named, Member, Standing};
    use crate::fleet::key::Signer;

    fn head(signer: &Signer, counter: u64, index: &[u8]) -> Trusted {
        let mut head = Head::new(Said {
            fleet: "shop".to_owned(),
            counter,
            time: UnixTime::from_secs(1),
            index: Digest::of(index),
            length: index.len() as u64,
        });
        head.sign(signer);
        head.check(&trust(signer)).unwrap()
    }

    fn trust(signer: &Signer) -> Trust {
        Trust {
            fleet: "shop".to_owned(),
            keys: vec![signer.public()],
            threshold: 1,
        }
    }

    fn open(directory: &Path, signer: &Signer, identity: &Arc<Identity>) -> (Store, Option<Held>) {
        Store::open(directory, trust(signer), "a", identity.clone(), 1 << 20).unwrap()
    }

    /// A node would start with half a manifest, one that nobody signed, or with keys that are not
    /// for it.
    #[test]
    fn a_release_is_whole_and_comes_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (signer, identity) = (Signer::generate().unwrap(), Arc::new(Identity::generate().unwrap()));
        let other = Identity::generate().unwrap();
        let (store, held) = open(directory.path(), &signer, &identity);
        assert!(held.is_none());
        let (ours, theirs) = (Vault::new().unwrap(), Vault::new().unwrap());
        let wrap = |vault: &Vault, name: &str, to| {
            let key = BASE64.encode(&vault.wrap("shop", &to).unwrap());
            std::collections::BTreeMap::from([(name.to_owned(), key)])
        };
        let blobs = [
            ("edge.toml", b"text".to_vec(), None),
            (
                "keys/a.pem",
                ours.seal("shop", "keys/a.pem", b"secret a").unwrap(),
                Some(0),
            ),
            (
                "keys/b.pem",
                theirs.seal("shop", "keys/b.pem", b"secret b").unwrap(),
                Some(1),
            ),
        ];
        let mut index = Index {
            files: Vec::new(),
            vaults: vec![
                wrap(&ours, "a", identity.recipient()),
                wrap(&theirs, "b", other.recipient()),
            ],
            nodes: vec![Member {
                name: "a".to_owned(),
                key: identity.signer.public(),
                seal: identity.recipient(),
                state: Standing::InService,
            }],
            ..Index::default()
        };
        for (path, bytes, vault) in &blobs {
            let digest = Digest::of(bytes);
            store.put(&digest, bytes).unwrap();
            index.files.push(Named {
                path: (*path).to_owned(),
                digest,
                length: bytes.len() as u64,
                vault: *vault,
            });
        }
        let crate::fleet::index::Text { index: text, roster } = index.write().unwrap();
        for blob in [&text, &roster] {
            store.put(&Digest::of(blob), blob).unwrap();
        }
        let first = head(&signer, 3, &text);
        let tree = store.build(&first, &index).unwrap();
        assert_eq!(fs::read(tree.join("edge.toml")).unwrap(), b"text");
        assert_eq!(fs::read(tree.join("keys/a.pem")).unwrap(), b"secret a");
        assert!(!tree.join("keys/b.pem").exists());
        let (_, held) = open(directory.path(), &signer, &identity);
        assert!(held.is_none(), "what was not committed is not in force");
        store.commit(&first).unwrap();
        let (store, held) = open(directory.path(), &signer, &identity);
        let held = held.unwrap();
        assert_eq!(held.head, first);
        store.tidy(&[&held]).unwrap();
        assert!(store.has(&index.files[0].digest) && tree.exists());

        // Another key is trusted now: what the old one signed is not in force any more.
        let stranger = Signer::generate().unwrap();
        assert!(open(directory.path(), &stranger, &identity).1.is_none());
        // A blob that the disk changed is seen, and fetched anew.
        let digest = index.files[0].digest;
        let path = store.blob_path(&digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(matches!(
            store.build(&head(&signer, 4, &text), &index),
            Err(Error::Digest)
        ));
        assert!(!store.has(&digest));
        assert!(matches!(store.put(&digest, b"other"), Err(Error::Digest)));
        store.tidy(&[]).unwrap();
        assert!(!tree.exists() && !store.has(&held.head.said().index));
    }
}
