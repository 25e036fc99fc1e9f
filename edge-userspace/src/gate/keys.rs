//! The cluster's secret and the keys it gives for each epoch. `token` asks for the key of a moment,
//! `dataplane` gets the same keys for the map `KEYS`.
//!
//! Time is cut into epochs of equal length, counted from 1970. The keys of an epoch are a pure
//! function of the secret, the length and the epoch's number (HKDF-SHA256, RFC 5869), so nodes that
//! share secret and length agree without a word between them. At any moment three epochs are in
//! force: the current one, under which tokens are minted; the next, known before it is used, for
//! nodes whose clocks are ahead; and the previous, until the last token under it has expired.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_common::siphash::Key;
use edge_common::token::{KEYS, SKEW, TokenKey};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::{Zeroize as _, Zeroizing};

use crate::base::clock::UnixTime;
use crate::base::directory;
use crate::config::{Mistake, Place};

/// The least number of bytes in a secret.
const LEAST: usize = 32;
/// The most; a longer file is taken for a mistake.
const MOST: usize = 4_096;
/// Of the file that a node makes for itself.
const FILE: &str = "cluster.secret";

/// A secret that cannot be used. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or made.
    #[error("cannot use {}: {source}; name a file that edge may read, or a directory that it may write", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} has mode {mode:03o}: others may read the secret; run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a device, a pipe.
    #[error("{} is no regular file; name one that holds the secret", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Too short, too long, or nothing that chance would give.
    #[error("{} is no secret: {what}; make one by `(umask 077; openssl rand -hex 32 > {})`", path.display(), path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        what: &'static str,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes; is getrandom(2) allowed?")]
    Random,
}

impl Error {
    /// The same as a mistake at the key that names the file.
    pub fn mistake(&self, place: &Place) -> Mistake {
        let text = self.to_string();
        let (what, mend) = text.split_once("; ").unwrap_or((&text, ""));
        place.mistake(what, mend)
    }
}

/// What the nodes of a cluster share: at least 32 bytes that nobody else knows. Whoever has it can
/// mint tokens for any client. Wiped from memory when dropped; has no `Debug`, so that no log can
/// show it.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// From bytes: what [`Secret::read`] does with a file's content. Line ends after a text are no
    /// part of it, so that a file made by an editor and one made by a program agree.
    ///
    /// # Errors
    /// What is wrong with them: fewer than 32, more than 4,096, or fewer than 8 different ones.
    pub fn new(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
        let bytes = if text { bytes.trim_ascii_end() } else { bytes };
        if bytes.len() < LEAST {
            return Err("it has fewer than 32 bytes");
        }
        if bytes.len() > MOST {
            return Err("it has more than 4096 bytes");
        }
        // 32 random bytes have about 30 different values, 64 random hexadecimal digits nearly
        // always 14 or more.
        let mut seen = [false; 256];
        for byte in bytes {
            seen[usize::from(*byte)] = true;
        }
        if seen.iter().filter(|s| **s).count() < 8 {
            return Err("it is not random");
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Reads the secret from `path`. A symbolic link is followed; the file must be closed to group
    /// and others.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        // Asked of the open file, so that it cannot be another one by then. A pipe would block
        // without O_NONBLOCK.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let mode = metadata.mode() & 0o777;
        // systemd closes the directory of a unit's credentials itself; their group bits are the
        // mask of an access list.
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory));
        let others = if credential { 0o007 } else { 0o077 };
        if mode & others != 0 {
            return Err(Error::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        // Room for all of it at once: a vector that grows leaves copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MOST + 2));
        file.take(MOST as u64 + 2).read_to_end(&mut bytes).map_err(io)?;
        Self::new(&bytes).map_err(|what| Error::Unfit {
            path: path.to_owned(),
            what,
        })
    }

    /// One that nobody else has and that ends with the process.
    ///
    /// # Errors
    /// No randomness.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; LEAST]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| Error::Random)?;
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Reads the secret of this state directory; on the first start makes both, the directory with
    /// mode 0700, the file `cluster.secret` with 0600. Of two that start at once, one makes it and
    /// both read the same.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn read_or_create(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        if !path.try_exists().unwrap_or(true) {
            let io = |source| Error::Io {
                path: directory.to_owned(),
                source,
            };
            crate::base::directory::make(directory).map_err(io)?;
            Self::create(directory, &path)?;
        }
        Self::read(&path)
    }

    /// Whether [`read_or_create`](Self::read_or_create) will read a secret, or can make one.
    /// Nothing is made.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn check(directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        if path.try_exists().unwrap_or(true) {
            return Self::read(&path).map(drop);
        }
        directory::can_be_written(directory).map_err(|source| Error::Io {
            path: directory.to_owned(),
            source,
        })
    }

    /// Writes a new secret beside `path` and links it there, complete or not at all.
    fn create(directory: &Path, path: &Path) -> Result<(), Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let random = SystemRandom::new();
        let mut bytes = Zeroizing::new([0; LEAST]);
        random.fill(bytes.as_mut()).map_err(|_| Error::Random)?;
        let mut text = Zeroizing::new(data_encoding::HEXLOWER.encode(bytes.as_ref()));
        text.push('\n');
        let mut name = [0; 8];
        random.fill(&mut name).map_err(|_| Error::Random)?;
        let beside = directory.join(format!(".{FILE}.{}", data_encoding::HEXLOWER.encode(&name)));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .map_err(io)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| match fs::hard_link(&beside, path) {
            // Another process was faster: its secret is the one.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
        let removed = fs::remove_file(&beside);
        linked
            .and(removed)
            .and_then(|()| crate::base::file::sync(directory))
            .map_err(io)
    }

    /// Eight hexadecimal digits that two nodes with the same secret share, for the log; nothing of
    /// the secret follows from them (HKDF's outputs are independent).
    pub fn fingerprint(&self) -> String {
        let bytes: Zeroizing<[u8; 4]> = expand(&self.extract(), &[b"fingerprint"]);
        data_encoding::HEXLOWER.encode(bytes.as_ref())
    }

    /// The bytes themselves, for a key that somebody else has, too.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key for another use than tokens, the same on every node with this secret. `label` tells
    /// uses apart.
    pub fn derive(&self, label: &[u8]) -> Zeroizing<[u8; 16]> {
        expand(&self.extract(), &[b"other use ", label])
    }

    /// HKDF-Extract (RFC 5869 section 2.2). `Prk` lives only while keys are derived: ring does not
    /// wipe it.
    fn extract(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"edge wait token 1").extract(&self.0)
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand (RFC 5869 section 2.3) to `N` bytes; the info is the parts one after the other, all
/// of fixed length.
#[expect(
    clippy::expect_used,
    reason = "fails only beyond 255 times 32 bytes, and every N is a constant far below"
)]
fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    prk.expand(info, Length(N))
        .and_then(|okm| okm.fill(out.as_mut()))
        .expect("a short output");
    out
}

/// The length of an epoch: 60 s to 24 h, the same on every node of a cluster.
///
/// It bounds a token's life from above, since a key is kept for one epoch after its own; and it
/// bounds how many tokens are sealed under one key, which random 96-bit nonces limit to 2^32 (NIST
/// SP 800-38D section 8.3): 49,000 a second over a whole cluster at 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    secs: u32,
}

impl Epochs {
    /// Six hours.
    pub const DEFAULT: Self = Self { secs: 6 * 3_600 };

    /// Epochs of `length`, in whole seconds; `None` out of bounds.
    pub fn new(length: Duration) -> Option<Self> {
        let secs = u32::try_from(length.as_secs()).ok()?;
        (60..=86_400).contains(&secs).then_some(Self { secs })
    }

    /// The length.
    pub fn length(self) -> Duration {
        Duration::from_secs(u64::from(self.secs))
    }

    /// A token that lives no longer than this is honoured to its end, whenever in an epoch it was
    /// minted.
    pub fn longest_life(self) -> Duration {
        Duration::from_secs(u64::from(self.secs).saturating_sub(SKEW))
    }

    /// The epoch of a moment.
    pub fn at(self, now: UnixTime) -> u64 {
        now.secs() / u64::from(self.secs)
    }

    /// The last end a token under `epoch`'s key may carry: the key is kept until the tolerance
    /// after it is over, so that a token is good to its end on every node.
    pub fn last_expiry(self, epoch: u64) -> UnixTime {
        let retired = epoch.saturating_add(2).saturating_mul(u64::from(self.secs));
        UnixTime::from_secs(retired.saturating_sub(SKEW))
    }
}

/// The keys of one epoch.
pub(super) struct EpochKey {
    /// For the header, as the kernel has it.
    pub(super) header: TokenKey,
    /// For the body.
    pub(super) body: LessSafeKey,
}

impl EpochKey {
    #[expect(
        clippy::expect_used,
        reason = "fails only for a key of another length than AES_256_GCM's own"
    )]
    fn derive(prk: &Prk, epochs: Epochs, epoch: u64) -> Self {
        let (length, number) = (epochs.secs.to_be_bytes(), epoch.to_be_bytes());
        let siphash: Zeroizing<[u8; 16]> = expand(prk, &[b"siphash-2-4", &length, &number]);
        let sealing: Zeroizing<[u8; 32]> = expand(prk, &[b"aes-256-gcm", &length, &number]);
        let Key(k0, k1) = Key::new(&siphash);
        Self {
            header: TokenKey {
                k0,
                k1,
                epoch,
                valid: 1,
                reserved: 0,
            },
            body: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, sealing.as_ref()).expect("32 bytes")),
        }
    }
}

impl Drop for EpochKey {
    /// The header's key is wiped; the expanded AES key is ring's, which does not wipe it.
    fn drop(&mut self) {
        self.header.k0.zeroize();
        self.header.k1.zeroize();
    }
}

/// The keys in force at one moment: previous, current and next epoch.
pub struct KeyRing {
    epoch: u64,
    keys: [Option<EpochKey>; KEYS],
}

impl KeyRing {
    /// The keys at `now`. Costs some twenty hashes: once an epoch, not once a request.
    pub fn derive(secret: &Secret, epochs: Epochs, now: UnixTime) -> Self {
        let prk = secret.extract();
        let epoch = epochs.at(now);
        let mut keys = [const { None }; KEYS];
        for epoch in epoch.saturating_sub(1)..=epoch.saturating_add(1) {
            if let Some(slot) = keys.get_mut(slot(epoch)) {
                *slot = Some(EpochKey::derive(&prk, epochs, epoch));
            }
        }
        Self { epoch, keys }
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The key that tokens are minted under.
    pub(super) fn current(&self) -> Option<&EpochKey> {
        self.keys.get(slot(self.epoch))?.as_ref()
    }

    /// The key that a header's key id names.
    pub(super) fn named(&self, id: u8) -> Option<&EpochKey> {
        self.keys.get(usize::from(id))?.as_ref()
    }

    /// What the kernel gets.
    pub fn kernel(&self) -> KernelKeys {
        KernelKeys(std::array::from_fn(|i| {
            self.keys
                .get(i)
                .and_then(Option::as_ref)
                .map_or(TokenKey::NONE, |key| key.header)
        }))
    }
}

/// The elements of the map `KEYS`, by key id. Write all four: the one without a key retires an old
/// one. An element changes only while its key is in no token's use, so a packet judged between two
/// writes is judged rightly.
pub struct KernelKeys(pub [TokenKey; KEYS]);

fn slot(epoch: u64) -> usize {
    usize::try_from(epoch % KEYS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn secret() -> Secret {
        Secret::new(b"an example of thirty-two bytes..").unwrap()
    }

    /// Another derivation in a later release would cut a cluster in two while it is upgraded. The
    /// values are from Python's hmac: PRK = HMAC(salt, secret), T(1) = HMAC(PRK, info | 01), info =
    /// label | length | epoch.
    #[test]
    fn derivation_is_pinned() {
        let ring = KeyRing::derive(&secret(), Epochs::DEFAULT, UnixTime::from_secs(21_600 * 80_000));
        let key = ring.current().unwrap().header;
        assert_eq!((key.epoch, key.valid), (80_000, 1));
        assert_eq!((key.k0, key.k1), PINNED);
        assert_eq!(secret().fingerprint(), PINNED_FINGERPRINT);
    }
    const PINNED: (u64, u64) = (0x9ee4_f02d_30e8_0625, 0xe6b4_4571_c1a0_70ad);
    const PINNED_FINGERPRINT: &str = "a803f29b";

    /// A token must outlive the change of an epoch, and a node whose clock is ahead must be
    /// understood.
    #[test]
    fn three_epochs_in_force() {
        let epochs = Epochs::new(Duration::from_secs(60)).unwrap();
        let at = |secs| KeyRing::derive(&secret(), epochs, UnixTime::from_secs(secs)).kernel().0;
        let (before, after) = (at(6_059), at(6_060));
        let epochs_of = |keys: &[TokenKey; 4]| keys.map(|k| if k.valid == 1 { k.epoch } else { 0 });
        assert_eq!(epochs_of(&before), [100, 101, 0, 99]);
        assert_eq!(epochs_of(&after), [100, 101, 102, 0]);
        for slot in [0, 1] {
            assert!(before[slot] == after[slot], "a key changed while it was in force");
        }
        assert!(before[0].k0 != before[1].k0 && before[0].k1 != before[1].k1);
        // At the beginning of time there is no previous epoch, and nothing wraps.
        assert_eq!(epochs_of(&at(0)).iter().filter(|e| **e != 0).count(), 1);
        assert_eq!(
            KeyRing::derive(&secret(), epochs, UnixTime::from_millis(u64::MAX)).epoch(),
            u64::MAX / 60_000
        );
    }

    /// Nodes told different lengths must not take each other's keys for their own.
    #[test]
    fn secret_and_length_both_count() {
        let now = UnixTime::from_secs(1_700_000_000);
        let key = |secret: &Secret, secs| {
            let epochs = Epochs::new(Duration::from_secs(secs)).unwrap();
            KeyRing::derive(secret, epochs, now).current().unwrap().header.k0
        };
        let other = Secret::new(b"an example of thirty-two bytes,.").unwrap();
        let keys = [key(&secret(), 60), key(&secret(), 61), key(&other, 60), key(&other, 61)];
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), 4);
        assert!(Epochs::new(Duration::from_secs(59)).is_none() && Epochs::new(Duration::from_secs(86_401)).is_none());
    }

    /// A secret that others can read lets them past every gate of the cluster.
    #[test]
    fn exposed_files_are_refused_with_the_mend() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "an example of thirty-two bytes..\n").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Secret::read(&path).err().unwrap();
            assert!(matches!(error, Error::Exposed { .. }), "{mode:o}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(
            Secret::read(&path).unwrap().fingerprint() == secret().fingerprint(),
            "the line end counted"
        );
        assert!(matches!(Secret::read(directory.path()), Err(Error::NotAFile { .. })));
        assert!(matches!(
            Secret::read(&directory.path().join("none")),
            Err(Error::Io { .. })
        ));
    }

    /// A typo must not become the key of a cluster, and the error must not quote it.
    #[test]
    fn unfit_secrets_are_refused() {
        for bytes in [&b"short"[..], &[7; 64], &[0; 5_000], b"", &b"hunter2 \n".repeat(3)] {
            let what = Secret::new(bytes).err().unwrap();
            assert!(!what.contains("hunter2"));
        }
        assert!(Secret::new(&[b'\n'; 64]).is_err());
    }

    /// Two workers that start at once must end up with one secret, closed to others.
    #[test]
    fn first_start() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b");
        let prints: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Secret::read_or_create(&state).unwrap().fingerprint()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
        assert_eq!(Secret::read_or_create(&state).unwrap().fingerprint(), prints[0]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "files were left behind");
    }
}
