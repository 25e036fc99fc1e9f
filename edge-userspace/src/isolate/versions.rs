//! The versions of one zone's worker on disk: a list, and each one's file as it was deployed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::artifact;
use super::error::Error;
use super::kind::Kind;
use crate::base::digest::Digest;

/// Characters of a preview's label.
const LABEL: usize = 12;

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
    /// The number of the one on trial, and the percent of the clients that get it.
    #[serde(default)]
    pub rollout: Option<(u64, u8)>,
    /// The numbers of those that answer under hosts of their own.
    #[serde(default)]
    pub previews: Vec<u64>,
    /// The last one that was taken back by itself.
    #[serde(default)]
    pub returned: Option<Returned>,
}

/// Whom a version is deployed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// All clients.
    All,
    /// Some, on trial: 1 to 99 percent.
    Percent(u8),
    /// Those who ask under a host of its own.
    Preview,
}

impl Version {
    /// The label of its preview's host: nobody knows it who does not know the file.
    pub(super) fn label(&self) -> &str {
        self.digest.get(..LABEL).unwrap_or(&self.digest)
    }
}

/// A version that failed too often while it was on trial.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Returned {
    /// Its number.
    pub version: u64,
    /// Its requests.
    pub requests: u64,
    /// Of them failed.
    pub failures: u64,
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

    /// Adds a version for `aim`; keeps the newest `most`, and those that answer all clients or
    /// some.
    pub(super) fn add(&mut self, mut version: Version, most: usize, aim: Aim) -> u64 {
        let last = self.all.last().map_or(0, |version| version.number);
        let number = last.max(self.active).saturating_add(1);
        version.number = number;
        self.all.push(version);
        match aim {
            Aim::All => (self.active, self.rollout) = (number, None),
            Aim::Percent(percent) => self.rollout = Some((number, percent)),
            Aim::Preview => self.previews.push(number),
        }
        let mut over = self.all.len().saturating_sub(most);
        let stays = [self.active, number, self.rollout.map_or(0, |(number, _)| number)];
        self.all.retain(|version| {
            let goes = over > 0 && !stays.contains(&version.number);
            over = over.saturating_sub(usize::from(goes));
            !goes
        });
        let all = &self.all;
        self.previews
            .retain(|number| all.iter().any(|version| version.number == *number));
        number
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
            versions.add(version(bytes), 2, Aim::All);
            versions.write(directory.path(), Some(bytes)).unwrap();
        }
        let read = Versions::read(directory.path()).unwrap();
        assert_eq!(read, versions);
        assert_eq!((read.active, read.previous().unwrap().number), (3, 2));
        assert!(!file(directory.path(), &version(b"a").digest).exists());
        let kept = std::fs::read(file(directory.path(), &version(b"b").digest)).unwrap();
        assert_eq!(kept, b"b");
        // Those on trial come and go, and the one that answers stays.
        for bytes in [b"d", b"e", b"f"] {
            let number = versions.add(version(bytes), 2, Aim::Percent(10));
            assert_eq!((versions.active, versions.rollout), (3, Some((number, 10))));
            versions.write(directory.path(), Some(bytes)).unwrap();
        }
        assert_eq!(versions.all.iter().map(|v| v.number).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(Versions::read(directory.path()).unwrap(), versions);
        versions.add(version(b"p"), 2, Aim::Preview);
        assert_eq!((versions.active, versions.previews.as_slice()), (3, &[7][..]));
        versions.add(version(b"g"), 2, Aim::All);
        assert_eq!((versions.active, versions.rollout), (8, None));
        std::fs::write(directory.path().join("versions.json"), "{").unwrap();
        assert!(Versions::read(directory.path()).is_err());
    }
}
