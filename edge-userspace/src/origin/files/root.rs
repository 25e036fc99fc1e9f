//! A directory whose files are served. The kernel resolves paths beneath it (openat2(2)), so that
//! neither `..` nor a symbolic link leads out. A link that the kernel does not follow there because
//! it is absolute, or takes a way outside, is followed if its end is within the directory all the
//! same; what is opened in the end is opened beneath the directory, too.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// The directory, open for looking things up.
pub(super) struct Root(OwnedFd);

/// What is under a name.
pub(super) enum Entry {
    File(Regular),
    Directory(OwnedFd),
    Nothing,
}

/// A regular file, open for reading.
pub(super) struct Regular {
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

impl Root {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or not a directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// What is under `name`, which is relative; an empty one is the directory itself.
    ///
    /// # Errors
    /// The system cannot say. That something may not be seen, or leads out, is no error: nothing is
    /// there.
    pub(super) fn find(&self, name: &str) -> io::Result<Entry> {
        let name = if name.is_empty() { "." } else { name };
        let opened = match self.beneath(name, ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::XDEV) => match self.around(name) {
                Some(within) => self.beneath(within, ResolveFlags::NO_SYMLINKS),
                None => return Ok(Entry::Nothing),
            },
            opened => opened,
        };
        let file = match opened {
            Ok(file) => file,
            Err(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::XDEV
                | Errno::LOOP
                | Errno::ACCESS
                | Errno::NAMETOOLONG
                | Errno::INVAL
                | Errno::NXIO,
            ) => return Ok(Entry::Nothing),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Entry::File(Regular {
                size: size(&stat),
                modified: modified(&stat),
                file: File::from(file),
            }),
            FileType::Directory => Entry::Directory(file),
            _ => Entry::Nothing,
        })
    }

    fn beneath(&self, name: impl rustix::path::Arg, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        rustix::fs::openat2(&self.0, name, flags, Mode::empty(), how | ResolveFlags::BENEATH)
    }

    /// Where the links of `name` lead, relative to the directory, if that is within it. Nothing is
    /// opened on the way: a descriptor of this kind (`O_PATH`) names a file, and does not wake a
    /// device or wait for a pipe.
    fn around(&self, name: &str) -> Option<PathBuf> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let how = ResolveFlags::NO_MAGICLINKS;
        let end = rustix::fs::openat2(&self.0, name, flags, Mode::empty(), how).ok()?;
        let within = path_of(&end)?.strip_prefix(path_of(&self.0)?).ok()?.to_owned();
        (!within.as_os_str().is_empty()).then_some(within)
    }
}

/// The path of an open file, by the kernel's word.
fn path_of(file: &OwnedFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Its length in bytes.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// When its content was changed last.
pub(super) fn modified(stat: &Stat) -> SystemTime {
    UNIX_EPOCH
        + Duration::new(
            u64::try_from(stat.st_mtime).unwrap_or(0),
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0).min(999_999_999),
        )
}
