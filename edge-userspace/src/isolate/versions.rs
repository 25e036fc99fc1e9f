//! The versions of one zone's worker on disk: a list, and each one's file as it was deployed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::artifact;
use super::error::Error;
use super::program::Kind;
use crate::base::digest::Digest;

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Version {
    /// Counts the zone's versions, from 1.
    pub number: u64,
    /// SHA-256 of the file, hexadecimal.
    pub digest: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was deployed, milliseconds since 1970.
    pub at: u64,
    /// What compiling took, milliseconds; 0 where it was compiled before.
    pub compile_ms: u64,
}

/// A zone's versions.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// The number of the active one; 0: none.
    pub active: u64,
    /// The oldest first.
    pub all: Vec<Version>,
}

impl Versions {
    /// Those in `directory`; none if it is not there.
    ///
    /// # Errors
    /// [`Error::State`]: it cannot be read or was damaged.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("versions.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(artifact::failed(&path, "cannot be read")(error)),
        };
        serde_json::from_slice(&text).map_err(|e| artifact::failed(&path, "is damaged")(e.into()))
    }

    /// Writes them, with `new` as a further file, and removes the files of versions that are not
    /// among them.
    pub(super) fn write(&self, directory: &Path, new: Option<&[u8]>) -> Result<(), Error> {
        artifact::directory(directory)?;
        if let Some(bytes) = new {
            artifact::replace(&file(directory, &Digest::of(bytes).to_string()), bytes)?;
        }
        let path = directory.join("versions.json");
        let text =
            serde_json::to_vec_pretty(self).map_err(|e| artifact::failed(&path, "cannot be written")(e.into()))?;
        artifact::replace(&path, &text)?;
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let worker = path.extension().is_some_and(|extension| extension == "worker");
            if worker && !self.all.iter().any(|version| Some(&*version.digest) == stem) {
                // What cannot be removed now is tried again with the next version.
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// The active one.
    pub(super) fn current(&self) -> Option<&Version> {
        self.find(self.active)
    }

    pub(super) fn find(&self, number: u64) -> Option<&Version> {
        self.all.iter().find(|version| version.number == number)
    }

    /// The one before the active one.
    pub(super) fn previous(&self) -> Option<&Version> {
        self.all.iter().rev().find(|version| version.number < self.active)
    }

    /// Adds a version and makes it the active one; keeps the newest `most`.
    pub(super) fn add(&mut self, mut version: Version, most: usize) -> u64 {
        let last = self.all.last().map_or(0, |version| version.number);
        version.number = last.max(self.active).saturating_add(1);
        self.active = version.number;
        self.all.push(version);
        let over = self.all.len().saturating_sub(most);
        self.all.drain(..over);
        self.active
    }
}

/// The file of a version as it was deployed.
pub(super) fn file(directory: &Path, digest: &str) -> PathBuf {
    directory.join(digest).with_extension("worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(bytes: &[u8]) -> Version {
        Version {
            number: 0,
            digest: Digest::of(bytes).to_string(),
            kind: Kind::Component,
            bytes: 1,
            at: 0,
            compile_ms: 0,
        }
    }

    /// An operator would roll back to something else, or the disk fill up.
    #[test]
    fn kept_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut versions = Versions::read(directory.path()).unwrap();
        assert_eq!(versions, Versions::default());
        for bytes in [b"a", b"b", b"c"] {
            versions.add(version(bytes), 2);
            versions.write(directory.path(), Some(bytes)).unwrap();
        }
        let read = Versions::read(directory.path()).unwrap();
        assert_eq!(read, versions);
        assert_eq!((read.active, read.previous().unwrap().number), (3, 2));
        assert!(!file(directory.path(), &version(b"a").digest).exists());
        let kept = std::fs::read(file(directory.path(), &version(b"b").digest)).unwrap();
        assert_eq!(kept, b"b");
        std::fs::write(directory.path().join("versions.json"), "{").unwrap();
        assert!(Versions::read(directory.path()).is_err());
    }
}
