//! What the data plane leaves in the BPF file system, so that it outlives the daemon:
//!
//! ```text
//! /sys/fs/bpf/edge/             the pin directory; its lock orders everybody's changes
//!   v2/CONFIG COUNTERS V4 …     the maps of layout 2 (`edge_common::LAYOUT`)
//!   links/4026531833-3-native   one per interface: network namespace, index, mode; its lock is the daemon's, for life
//! ```
//! Interface names are not in there: they may hold dots, which the BPF file system refuses, and
//! they may be given to another interface. The maps' directory has the layout's version, so that an
//! upgrade to another layout builds fresh maps beside the old ones and removes those when no
//! interface uses them any more.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, MapError, MapInfo, MapType};
use edge_common::lockdown::{Cookies, Lockdown};
use edge_common::steering::{LISTENERS, Listener, SLOTS, Steering};
use edge_common::table::{self, Bucket, Front};
use edge_common::token::{KEYS, TokenKey};
use edge_common::{BARES, COUNTERS_CAPACITY, Config, DENY_RUNTIME, Entry, LAYOUT, LOCALS, V4_BUCKETS, maps, replay};
use ipnet::IpNet;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, mount};

use super::error::Error;
use super::penalties::{Penalties, Penalty};
use super::tables::{TABLES, Tables};

/// Where distributions mount the BPF file system.
const BPF_FILE_SYSTEM: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_MAGIC: u64 = 0xcafe_4a11;
const KEYS_CAPACITY: u32 = KEYS as u32;
/// Flags of maps (linux/bpf.h).
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;
/// Suffix of a map that replaces the one of its name as soon as the program is swapped.
const REPLACEMENT: &str = "_new";

/// How long a daemon that ends may keep its claim: its threads finish what they do, and a process
/// that another thread has forked holds its files until it executes its program.
pub(super) const ENDING: Duration = Duration::from_secs(2);

/// The pin directory.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
    maps: PathBuf,
    links: PathBuf,
}

/// Holds the pin directory's lock; dropped, it lets go.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the kernel unlocks when the file is closed")] File);

/// Holds the daemon's claim; dropped, or killed, it lets go.
#[derive(Debug)]
pub(super) struct Owner(#[expect(dead_code, reason = "the kernel unlocks when the file is closed")] File);

/// What an earlier daemon left that this one goes on using.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where each map is to be opened or made.
    pub(super) paths: Vec<(&'static str, PathBuf)>,
    /// Run-time entries of tables that are replaced.
    pub(super) runtime: Vec<IpNet>,
    /// Penalties of a table that is replaced.
    pub(super) penalties: Vec<Penalty>,
    replaced: Vec<&'static str>,
}

/// What a map must be so that the program's code, which was made for it, reads it right.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    kind: MapType,
    flags: u32,
    key: u32,
    value: u32,
    entries: u32,
}

impl Shape {
    fn new(kind: MapType, key: usize, value: usize, entries: u32) -> Self {
        Self {
            kind,
            flags: 0,
            key: u32::try_from(key).unwrap_or(u32::MAX),
            value: u32::try_from(value).unwrap_or(u32::MAX),
            entries,
        }
    }

    const fn with(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    fn of(info: &MapInfo) -> Result<Self, MapError> {
        Ok(Self {
            kind: info.map_type()?,
            flags: info.map_flags(),
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
        })
    }
}

/// Every map that is pinned, as the object declares it.
fn shapes(capacity: u32, penalties: u32) -> [(&'static str, Shape); 20] {
    use MapType as Kind;
    let array = |value, entries| Shape::new(Kind::Array, 4, value, entries);
    let list = |kind, key| Shape::new(kind, key, size_of::<Entry>(), capacity).with(BPF_F_NO_PREALLOC);
    [
        (maps::CONFIG, array(size_of::<Config>(), 1)),
        (maps::COUNTERS, Shape::new(Kind::PerCpuArray, 4, 8, COUNTERS_CAPACITY)),
        (maps::V4, list(Kind::Hash, 8)),
        (maps::V4_LENGTHS, array(8, V4_BUCKETS)),
        (maps::V6_EXACT, list(Kind::Hash, 16)),
        (maps::V6_PREFIX, list(Kind::LpmTrie, 20)),
        (
            maps::LOCAL,
            Shape::new(Kind::LpmTrie, 20, 4, LOCALS).with(BPF_F_NO_PREALLOC),
        ),
        (maps::BARE, Shape::new(Kind::Hash, 4, 4, BARES)),
        (maps::ALIVE, array(8, 1)),
        (maps::COOKIES, array(size_of::<Cookies>(), 1)),
        (maps::BARRED, array(4, 1)),
        (maps::CLOCK, array(8, 1)),
        (maps::LOCKDOWN, array(size_of::<Lockdown>(), 1)),
        (maps::KEYS, array(size_of::<TokenKey>(), KEYS_CAPACITY)),
        (
            maps::PENALTIES,
            array(size_of::<Bucket>(), table::buckets(penalties)).with(BPF_F_MMAPABLE),
        ),
        (maps::PENALTY_FRONT, array(size_of::<Front>(), 1).with(BPF_F_MMAPABLE)),
        (
            maps::REPLAY,
            array(size_of::<replay::Set>(), replay::sets(penalties)).with(BPF_F_MMAPABLE),
        ),
        (maps::STEERING, array(size_of::<Steering>(), 1)),
        (
            maps::LISTENERS,
            Shape::new(Kind::Hash, size_of::<Listener>(), 4, LISTENERS),
        ),
        (maps::SOCKETS, Shape::new(Kind::ReuseportSockArray, 4, 4, SLOTS)),
    ]
}

/// A pinned link, by its file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkName {
    pub(super) namespace: u64,
    pub(super) index: u32,
    pub(super) mode: String,
}

impl LinkName {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        Some(Self {
            namespace: parts.next()?.parse().ok()?,
            index: parts.next()?.parse().ok()?,
            mode: parts.next()?.to_owned(),
        })
    }
}

impl Pins {
    fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            maps: root.join(format!("v{LAYOUT}")),
            links: root.join("links"),
        }
    }

    /// Makes the directories, and mounts the BPF file system first where nobody did.
    pub(super) fn prepare(root: &Path) -> Result<Self, Error> {
        let pins = Self::at(root);
        if root.starts_with(BPF_FILE_SYSTEM) && !on_bpf(Path::new(BPF_FILE_SYSTEM)) {
            mount(
                "bpf",
                BPF_FILE_SYSTEM,
                "bpf",
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                None,
            )
            .map_err(|errno| Error::pin(BPF_FILE_SYSTEM)(errno.into()))?;
            tracing::info!(path = BPF_FILE_SYSTEM, "mounted the BPF file system");
            if fs::read_link("/proc/self/ns/mnt").ok() != fs::read_link("/proc/1/ns/mnt").ok() {
                tracing::warn!(
                    "this process has a mount namespace of its own: what is pinned vanishes with it, and XDP with that; \
                     mount the BPF file system on the host and share it (enter network namespaces by `nsenter --net`, \
                     not by `ip netns exec`)"
                );
            }
        }
        let parent = root.ancestors().find(|path| path.exists()).unwrap_or(root);
        if !on_bpf(parent) {
            return Err(Error::NotBpfFileSystem { path: root.to_owned() });
        }
        for directory in [&pins.root, &pins.maps, &pins.links] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(Error::pin(directory))?;
        }
        Ok(pins)
    }

    /// The directories of a data plane that is already there.
    pub(super) fn existing(root: &Path) -> Result<Self, Error> {
        let pins = Self::at(root);
        match fs::metadata(pins.maps.join(maps::CONFIG)) {
            Ok(_) => Ok(pins),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotPinned { path: root.to_owned() }),
            Err(error) => Err(Error::pin(root)(error)),
        }
    }

    /// Directory of the maps.
    pub(super) fn maps(&self) -> &Path {
        &self.maps
    }

    /// Waits for the lock of the pin directory.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let file = File::open(&self.root).map_err(Error::pin(&self.root))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| Error::pin(&self.root)(errno.into()))?;
        Ok(Lock(file))
    }

    /// Device and number of the links' directory.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        fs::metadata(&self.links).map(|directory| (directory.dev(), directory.ino()))
    }

    /// Claims the directory for this daemon. Whoever has it is given `patience` to let go.
    pub(super) fn own(&self, patience: Duration) -> Result<Owner, Error> {
        let file = File::open(&self.links).map_err(Error::pin(&self.links))?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Owner(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < patience => {
                    std::thread::sleep(patience / 100);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Error::Owned {
                        path: self.root.clone(),
                    });
                }
                Err(errno) => return Err(Error::pin(&self.links)(errno.into())),
            }
        }
    }

    /// Decides map by map whether the pinned one can be used on. One of another size or shape
    /// (another capacity, a development build) is replaced; run-time entries of lists and penalties
    /// move.
    pub(super) fn salvage(&self, capacity: u32, penalties: u32) -> Result<Kept, Error> {
        let shapes = shapes(capacity, penalties);
        let mut kept = Kept {
            paths: Vec::new(),
            runtime: Vec::new(),
            penalties: Vec::new(),
            replaced: Vec::new(),
        };
        for (name, shape) in shapes {
            let path = self.maps.join(name);
            let replacement = self.maps.join(format!("{name}{REPLACEMENT}"));
            remove(&replacement)?;
            let usable = match MapData::from_pin(&path).and_then(|map| map.info()) {
                Ok(info) => Shape::of(&info).is_ok_and(|pinned| pinned == shape),
                Err(_) if !path.exists() => true,
                Err(error) => return Err(Error::map(name)(error)),
            };
            if usable {
                kept.paths.push((name, path));
            } else {
                tracing::info!(map = name, "the pinned map is of another kind or size: replacing it");
                kept.paths.push((name, replacement));
                kept.replaced.push(name);
            }
        }
        // The bits of the one stand for what is in the other.
        let halves = [maps::PENALTIES, maps::PENALTY_FRONT];
        if kept.replaced.iter().any(|name| halves.contains(name)) {
            match Penalties::open(&self.root) {
                Ok(penalties) => kept.penalties = penalties.list(),
                Err(error) => tracing::warn!(%error, "penalties are lost: the old table cannot be read"),
            }
            self.replace(&mut kept, &halves)?;
        }
        if kept.replaced.iter().any(|name| TABLES.contains(name)) {
            match Tables::open(&self.maps).and_then(|tables| tables.entries()) {
                Ok(entries) => {
                    let runtime = entries.iter().filter(|(_, entry)| entry.origin & DENY_RUNTIME != 0);
                    kept.runtime.extend(runtime.map(|(network, _)| *network));
                }
                Err(error) => {
                    tracing::warn!(%error, "entries denied at run time are lost: the old lists cannot be read")
                }
            }
        }
        Ok(kept)
    }

    /// Has these maps made anew, if they are not yet.
    fn replace(&self, kept: &mut Kept, names: &[&'static str]) -> Result<(), Error> {
        for name in names.iter().filter(|name| self.maps.join(name).exists()) {
            if kept.replaced.contains(name) {
                continue;
            }
            let replacement = self.maps.join(format!("{name}{REPLACEMENT}"));
            remove(&replacement)?;
            kept.paths.retain(|(kept, _)| kept != name);
            kept.paths.push((name, replacement));
            kept.replaced.push(name);
        }
        Ok(())
    }

    /// After the swap: replacements take their names, and maps of other layouts and names, which
    /// nothing uses any more, go.
    pub(super) fn settle(&self, kept: &Kept) -> Result<(), Error> {
        for name in &kept.replaced {
            let path = self.maps.join(name);
            fs::rename(self.maps.join(format!("{name}{REPLACEMENT}")), &path).map_err(Error::pin(&path))?;
        }
        for name in listing(&self.maps)? {
            if !kept.paths.iter().any(|(kept, _)| *kept == name) {
                tracing::info!(map = name, "removing a map of an earlier version");
                remove(&self.maps.join(name))?;
            }
        }
        for (path, directory) in self.layouts()? {
            if directory && path != self.maps {
                tracing::info!(path = %path.display(), "removing the maps of another version");
                remove_directory(&path)?;
            }
        }
        Ok(())
    }

    fn layouts(&self) -> Result<Vec<(PathBuf, bool)>, Error> {
        Ok(listing(&self.root)?
            .into_iter()
            .filter(|name| {
                name.strip_prefix('v')
                    .is_some_and(|version| version.parse::<u32>().is_ok())
            })
            .map(|name| self.root.join(name))
            .map(|path| {
                let directory = path.is_dir();
                (path, directory)
            })
            .collect())
    }

    /// Every pinned link.
    pub(super) fn link_names(&self) -> Result<Vec<(LinkName, PathBuf)>, Error> {
        let names = listing(&self.links)?;
        Ok(names
            .into_iter()
            .filter_map(|name| Some((LinkName::parse(&name)?, self.links.join(name))))
            .collect())
    }

    /// Where the link of an interface is pinned.
    pub(super) fn link(&self, index: u32, mode: &str) -> Result<PathBuf, Error> {
        Ok(self.links.join(format!("{}-{index}-{mode}", namespace()?)))
    }
}

impl Penalties {
    /// The penalties pinned under `pin_directory`, whether or not a daemon runs.
    ///
    /// # Errors
    /// [`Error::NotPinned`] if none are.
    pub fn open(pin_directory: &Path) -> Result<Self, Error> {
        let pins = Pins::existing(pin_directory)?;
        Self::build(|name| {
            let data = MapData::from_pin(pins.maps().join(name)).map_err(Error::map(name))?;
            Map::from_map_data(data).map_err(Error::map(name))
        })
    }
}

/// Number of this thread's network namespace. Its interfaces' indices mean nothing in another.
pub(super) fn namespace() -> Result<u64, Error> {
    let path = "/proc/thread-self/ns/net";
    fs::metadata(path).map(|file| file.ino()).map_err(Error::pin(path))
}

/// Removes everything that any edge daemon pinned under `root`: XDP ends on every interface at
/// once, lists and counters are forgotten. Whatever a killed daemon left half done goes too;
/// nothing there is no error. Says whether there was anything. `force`: under a running daemon,
/// too, which then says that it is open.
///
/// # Errors
/// [`Error::InUse`] without `force` while a daemon runs; [`Error::Permission`], [`Error::Pin`].
pub fn detach(root: &Path, force: bool) -> Result<bool, Error> {
    let pins = Pins::at(root);
    if !root.exists() {
        return Ok(false);
    }
    if !on_bpf(root) {
        return Err(Error::NotBpfFileSystem { path: root.to_owned() });
    }
    let _lock = pins.lock()?;
    let _owner = match pins.own(Duration::ZERO) {
        Ok(owner) => Some(owner),
        Err(Error::Owned { .. }) if force => None,
        // Half of what a daemon makes: nobody can own it.
        Err(Error::Pin { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(Error::Owned { path }) => return Err(Error::InUse { path }),
        Err(error) => return Err(error),
    };
    // The system's settings, if a lockdown of TCP has changed them.
    if let Ok(cookies) = super::cookies::Cookies::open(&pins.maps) {
        cookies.lower()?;
        if let Err(error) = cookies.restore() {
            tracing::warn!(%error, "a setting of the system stays as a lockdown has left it");
        }
    }
    // Links first: while one is attached, its program keeps every map alive anyway.
    remove_directory(&pins.links)?;
    for (path, directory) in pins.layouts()? {
        if directory {
            remove_directory(&path)?;
        }
    }
    match fs::remove_dir(root) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // Something that is not ours lives there, or the operator mounted the file system right
        // here.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(true)
        }
        Err(error) => Err(Error::pin(root)(error)),
    }
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::pin(path)(error)),
    }
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    for name in listing(path)? {
        remove(&path.join(name))?;
    }
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::pin(path)(error)),
    }
}

/// Names in a directory; none if there is no directory.
fn listing(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::pin(path)(error)),
    };
    entries
        .map(|entry| {
            entry
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .map_err(|e| Error::pin(path)(e))
        })
        .collect()
}

fn on_bpf(path: &Path) -> bool {
    // The field's type differs between architectures; the magic fits all of them.
    statfs(path).is_ok_and(|status| u64::try_from(status.f_type).is_ok_and(|kind| kind & 0xffff_ffff == BPF_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_known_by_its_file_name() {
        let name = LinkName::parse("4026531833-3-native").unwrap();
        assert_eq!(
            (name.namespace, name.index, name.mode.as_str()),
            (4_026_531_833, 3, "native")
        );
        for strange in ["", "eth0", "1-2", "x-1-native", "1-x-native"] {
            assert_eq!(LinkName::parse(strange), None, "{strange}");
        }
    }
}
