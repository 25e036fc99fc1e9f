//! A log file: appended to, begun anew when somebody has renamed or removed it (logrotate) and, if
//! so wanted, when it has become too long; then the old ones are numbered, the youngest `.1`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file;

/// How often it is looked whether the file is still there.
const LOOK: Duration = Duration::from_secs(1);

/// A log file that is written.
#[derive(Debug)]
pub struct Rolling {
    path: PathBuf,
    /// Bytes of the file at most, but for what is written at once; 0: no bound.
    most: u64,
    /// Old files kept, beside the one that is written.
    keep: u32,
    file: File,
    length: u64,
    looked: Instant,
    /// The last write broke off, perhaps within a line.
    broken: bool,
}

impl Rolling {
    /// Opens `path`, or makes it (mode 0640).
    ///
    /// # Errors
    /// It cannot be opened for writing, or is no regular file.
    pub fn open(path: &Path, most: u64, keep: u32) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            most,
            keep,
            length: file.metadata()?.len(),
            file,
            looked: Instant::now(),
            broken: false,
        })
    }

    /// Begins the file anew if another one, or none, has its name now.
    fn look(&mut self) -> io::Result<()> {
        self.looked = Instant::now();
        let own = self.file.metadata()?;
        let same = fs::metadata(&self.path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
        if !same {
            self.file = open(&self.path)?;
        }
        // Somebody may have shortened it in its place, too.
        self.length = self.file.metadata()?.len();
        Ok(())
    }

    /// Numbers the old ones, and begins anew.
    fn roll(&mut self) -> io::Result<()> {
        for number in (1..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match self.keep {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, self.numbered(1))?,
        }
        self.look()
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> io::Result<File> {
    file::open_as(OpenOptions::new().append(true).create(true).mode(0o640), path)
}

impl Write for Rolling {
    /// Writes all of `lines`, which are whole, or fails.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.looked.elapsed() >= LOOK {
            self.look()?;
        }
        let after = self.length.saturating_add(lines.len() as u64);
        if self.most > 0 && self.length > 0 && after > self.most {
            self.roll()?;
        }
        if self.broken {
            self.file.write_all(b"\n")?;
        }
        self.broken = true;
        self.file.write_all(lines)?;
        self.broken = false;
        self.length = self.length.saturating_add(lines.len() as u64);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolling(most: u64, keep: u32) -> (tempfile::TempDir, PathBuf, Rolling) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let rolling = Rolling::open(&path, most, keep).unwrap();
        (directory, path, rolling)
    }

    fn read(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    /// The disk fills, or lines are lost where one file ends and the next begins.
    #[test]
    fn as_many_files_as_are_kept() {
        for keep in [0, 1, 3] {
            let (_directory, path, mut log) = rolling(20, keep);
            for n in 0..10 {
                log.write_all(format!("line {n}\n").as_bytes()).unwrap();
            }
            assert_eq!(read(&path).unwrap(), "line 8\nline 9\n");
            for number in 1..=keep {
                let (first, second) = (8 - 2 * number, 9 - 2 * number);
                let told = read(&log.numbered(number)).unwrap();
                assert_eq!(told, format!("line {first}\nline {second}\n"));
            }
            assert!(read(&log.numbered(keep + 1)).is_none());
        }
        // One that is longer than a file may be has a file of its own.
        let (_directory, path, mut log) = rolling(20, 2);
        let long = "x".repeat(50) + "\n";
        for text in ["short\n", &long, "short\n"] {
            log.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(read(&log.numbered(1)).unwrap(), long);
        assert_eq!(read(&path).unwrap(), "short\n");
    }

    /// After logrotate everything would go into the old file, or nowhere.
    #[test]
    fn a_file_that_was_moved_is_begun_anew() {
        let (directory, path, mut log) = rolling(0, 5);
        log.write_all(b"one\n").unwrap();
        let moved = directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        log.looked = Instant::now().checked_sub(LOOK).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(read(&moved).unwrap(), "one\n");
        assert_eq!(read(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640 & !umask());
        // And one that was there is gone on with.
        drop(log);
        let mut log = Rolling::open(&path, 0, 5).unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(read(&path).unwrap(), "two\nthree\n");
    }

    fn umask() -> u32 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
        u32::from_str_radix(line.trim(), 8).unwrap()
    }

    /// A start would hang, or write into a directory's place.
    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Rolling::open(directory.path(), 0, 1).is_err());
        let pipe = directory.path().join("pipe");
        crate::base::file::tests::put_pipe(&pipe);
        assert!(Rolling::open(&pipe, 0, 1).is_err());
        assert!(Rolling::open(&directory.path().join("none/access.log"), 0, 1).is_err());
    }
}
