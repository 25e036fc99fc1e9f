//! Reads files that an operator or somebody else names: regular ones of a bounded size. A pipe or a
//! device in their place is an error, where opening or reading it would wait for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Bytes of a file at most: authorities of the whole world and long revocation lists fit.
pub const MOST: u64 = 64 << 20;

/// Opens `path` for reading, if it is a regular file; links are followed.
///
/// # Errors
/// It is none, or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe waits for a writer, but for this flag; asked of the open file, so that it
    // cannot be another one by then.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
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
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > MOST {
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for odd in [&pipe, directory.path(), Path::new("/dev/zero")] {
            assert!(read(odd).is_err(), "{}", odd.display());
        }
        assert!(read(&directory.path().join("none")).is_err());
    }
}
