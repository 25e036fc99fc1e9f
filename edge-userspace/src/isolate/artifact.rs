//! Compiled code on disk: found by the content it was compiled from and by what this engine can
//! run, and guarded by a MAC with a key that only this node has. Running changed code would be
//! running an attacker's.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::error::Error;
use super::kind::Kind;
use crate::base::digest::Digest;

/// What the MAC is over begins with this, so that no other use of the key makes one.
const CONTEXT: &[u8] = b"edge compiled worker 1\0";
const MAC: usize = 32;

/// The directory of compiled code.
pub(super) struct Artifacts {
    directory: PathBuf,
    key: hmac::Key,
    fingerprint: [u8; 32],
}

/// Compiled code whose MAC is right. What is mapped is the file that was checked, whatever its name
/// leads to by now.
pub(super) struct Sound(File);

impl Sound {
    /// A name for the open file itself.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// All of it.
    pub(super) fn bytes(&self) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.path())
    }
}

/// Makes `path` if need be, for this user alone.
pub(super) fn directory(path: &Path) -> Result<(), Error> {
    crate::base::directory::make(path).map_err(failed(path, "cannot be made"))
}

/// Writes `bytes` so that a reader, or a crash, finds the old file or the new one, whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    crate::base::file::replace(path, bytes).map_err(failed(path, "cannot be written"))
}

pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::State {
        path: path.to_owned(),
        what,
        source,
    }
}

impl Artifacts {
    /// In `state`, for an engine of this `fingerprint`. Makes the node's key at the first start.
    ///
    /// # Errors
    /// [`Error::State`].
    pub(super) fn open(state: &Path, fingerprint: [u8; 32]) -> Result<Self, Error> {
        let this = state.join("code");
        directory(&this)?;
        let key = key(&state.join("worker.key"))?;
        Ok(Self {
            directory: this,
            key: hmac::Key::new(hmac::HMAC_SHA256, &*key),
            fingerprint,
        })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let engine = self.fingerprint.get(..8).unwrap_or_default();
        self.directory
            .join(format!("{digest}-{}.cwasm", HEXLOWER.encode(engine)))
    }

    fn context(&self, digest: Digest, kind: Kind) -> hmac::Context {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(CONTEXT);
        mac.update(&[match kind {
            Kind::Component => 1,
            Kind::Script => 2,
        }]);
        mac.update(&self.fingerprint);
        mac.update(digest.as_bytes());
        mac
    }

    /// Keeps `code`, compiled from what has this `digest`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub(super) fn write(&self, digest: Digest, kind: Kind, code: &[u8]) -> Result<(), Error> {
        let path = self.path(digest);
        let mut mac = self.context(digest, kind);
        mac.update(code);
        replace(&path.with_extension("mac"), mac.sign().as_ref())?;
        replace(&path, code)
    }

    /// The code compiled from what has this `digest`; `None` if there is none for this engine.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::State`].
    pub(super) fn read(&self, digest: Digest, kind: Kind) -> Result<Option<Sound>, Error> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "cannot be read")(error)),
        };
        let Ok(tag) = std::fs::read(path.with_extension("mac")) else {
            return Err(Error::Tampered(path));
        };
        let mut mac = self.context(digest, kind);
        let mut piece = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut piece).map_err(failed(&path, "cannot be read"))?;
            match piece.get(..read) {
                None | Some([]) => break,
                Some(bytes) => mac.update(bytes),
            }
        }
        let signed = mac.sign();
        let equal = signed.as_ref().iter().zip(&tag).fold(0, |all, (a, b)| all | (a ^ b));
        if tag.len() != MAC || equal != 0 {
            return Err(Error::Tampered(path));
        }
        file.rewind().map_err(failed(&path, "cannot be read"))?;
        Ok(Some(Sound(file)))
    }

    /// Removes all code but that of `wanted`, and all that this engine cannot run.
    pub(super) fn prune(&self, wanted: &std::collections::HashSet<String>) {
        let engine = HEXLOWER.encode(self.fingerprint.get(..8).unwrap_or_default());
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let keep = stem
                .and_then(|stem| stem.split_once('-'))
                .is_some_and(|(digest, of)| of == engine && wanted.contains(digest));
            if !keep {
                // What cannot be removed now is tried again with the next deployment.
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// The node's key, made where there is none.
fn key(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => {
            SystemRandom::new()
                .fill(&mut *key)
                .map_err(|_| failed(path, "no random data for it")(std::io::Error::other("getrandom")))?;
            file.write_all(&*key)
                .and_then(|()| file.sync_all())
                .map_err(failed(path, "cannot be written"))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut file = File::open(path).map_err(failed(path, "cannot be read"))?;
            file.read_exact(&mut *key)
                .map_err(failed(path, "is too short; remove it and all code beside it"))?;
        }
        Err(error) => return Err(failed(path, "cannot be made")(error)),
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever can write a file of the cache would run machine code in the daemon.
    #[test]
    fn changed_code_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let open = |fingerprint| Artifacts::open(state.path(), fingerprint).unwrap();
        let artifacts = open([1; 32]);
        let digest = Digest::of(b"worker");
        assert!(artifacts.read(digest, Kind::Component).unwrap().is_none());
        artifacts.write(digest, Kind::Component, b"machine code").unwrap();
        let sound = open([1; 32]).read(digest, Kind::Component).unwrap().unwrap();
        assert_eq!(std::fs::read(sound.path()).unwrap(), b"machine code");
        assert!(
            open([2; 32]).read(digest, Kind::Component).unwrap().is_none(),
            "another engine"
        );

        let path = artifacts.path(digest);
        let tampered = |result: Result<Option<Sound>, Error>| matches!(result, Err(Error::Tampered(_)));
        assert!(tampered(artifacts.read(digest, Kind::Script)), "another kind of code");
        let other = Digest::of(b"other");
        for extension in ["cwasm", "mac"] {
            std::fs::copy(
                path.with_extension(extension),
                artifacts.path(other).with_extension(extension),
            )
            .unwrap();
        }
        assert!(
            tampered(artifacts.read(other, Kind::Component)),
            "another worker's code"
        );
        std::fs::write(&path, b"machine c0de").unwrap();
        assert!(tampered(artifacts.read(digest, Kind::Component)));
        std::fs::write(&path, b"machine code").unwrap();
        assert!(artifacts.read(digest, Kind::Component).unwrap().is_some());
        std::fs::write(path.with_extension("mac"), b"").unwrap();
        assert!(tampered(artifacts.read(digest, Kind::Component)));
        std::fs::remove_file(path.with_extension("mac")).unwrap();
        assert!(tampered(artifacts.read(digest, Kind::Component)));
    }
}
