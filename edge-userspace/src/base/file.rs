//! Reads files that an operator or somebody else names: regular ones of a bounded size. A pipe or a
//! device in their place is an error, where opening or reading it would wait for ever. And replaces
//! files of a daemon's own, so that a reader, or a crash, finds the old one or the new one, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Bytes of a file at most: authorities of the whole world and long revocation lists fit.
pub const MOST: u64 = 64 << 20;

/// Opens `path` for reading, if it is a regular file; links are followed.
///
/// # Errors
/// It is none, or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    open_as(OpenOptions::new().read(true), path)
}

/// Opens `path` as `options` say, if it is a regular file then.
///
/// # Errors
/// It is none, or cannot be opened.
pub fn open_as(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Opening a pipe waits for who is at its other end, but for this flag; asked of the open file,
    // so that it cannot be another one by then.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// The content of `path`, wiped when dropped.
///
/// # Errors
/// It is no regular file, has more than [`MOST`] bytes, or cannot be read.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read_at_most(path, MOST)
}

/// The same with another bound.
///
/// # Errors
/// As for [`read`].
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Room for all of it at once: a vector that grows leaves copies behind that nobody wipes.
    let room = usize::try_from(length).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(room as u64).read_to_end(&mut bytes)?;
    match bytes.len() < room {
        true => Ok(bytes),
        // It grows while it is read.
        false => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

/// The same of what is not a secret: nothing is wiped.
///
/// # Errors
/// As for [`read`].
pub fn plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_at_most(path, most).map(|mut bytes| std::mem::take(&mut *bytes))
}

/// The text of `path`, of at most `most` bytes, wiped when dropped.
///
/// # Errors
/// As for [`read`]; and it is not UTF-8.
pub fn text(path: &Path, most: u64) -> io::Result<Zeroizing<String>> {
    let mut bytes = read_at_most(path, most)?;
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text")
        })
}

/// A new file with this content and `mode`; what was there is gone. It is on the disk when
/// [`File::sync_all`] of what is given back says so.
///
/// # Errors
/// What was there cannot be removed, or the file not be written.
pub fn fresh(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Writes `bytes` beside `path`, for this user alone; where. They are on the disk when this
/// returns, and take the place of what is at `path` by a rename.
///
/// # Errors
/// They cannot be written.
pub fn beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    let beside = path.with_file_name(name);
    fresh(&beside, bytes, 0o600)?.sync_all()?;
    Ok(beside)
}

/// Replaces the file at `path`, or makes it, for this user alone. After a crash of the machine the
/// old one may be there again, unless the directory is [synced](sync).
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::rename(beside(path, bytes)?, path)
}

/// The file or directory is on the disk as it is when this returns.
///
/// # Errors
/// The disk.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Puts a pipe at `path`: who opens it waits for a writer.
    pub(crate) fn put_pipe(path: &Path) {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    /// Others of this machine would read a secret in the file, or what a crash left would be in the
    /// way for good.
    #[test]
    fn a_file_is_replaced_whole_and_for_its_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        let left = directory.path().join("a.key.next");
        fs::write(&left, "half").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o444)).unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!left.exists());
        assert!(replace(&directory.path().join("none/a"), b"").is_err());
    }

    /// A reload would wait for ever for whoever writes into a pipe, and the process could not be
    /// ended in good order.
    #[test]
    fn pipes_and_devices_are_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "some text").unwrap();
        assert_eq!(**read(&file).unwrap(), *b"some text");
        std::fs::write(&file, "").unwrap();
        assert!(read(&file).unwrap().is_empty());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read(&link).is_ok());
        let pipe = directory.path().join("pipe");
        put_pipe(&pipe);
        for odd in [&pipe, directory.path(), Path::new("/dev/zero")] {
            assert!(read(odd).is_err(), "{}", odd.display());
        }
        assert!(read(&directory.path().join("none")).is_err());
        assert!(text(&pipe, MOST).is_err());
        std::fs::write(&file, b"no \xff text").unwrap();
        assert!(text(&file, MOST).is_err());
        std::fs::write(&file, "text").unwrap();
        assert_eq!(text(&file, 4).unwrap().as_str(), "text");
        assert!(text(&file, 3).is_err(), "longer than it may be");
    }
}
