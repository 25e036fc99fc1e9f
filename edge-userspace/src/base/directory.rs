//! Directories of a daemon's own: made for its user alone, or looked at without making them, for
//! checks that leave nothing behind.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

/// Makes `path` and what is missing above it, for this user alone (0700). One that is there stays
/// as it is.
///
/// # Errors
/// It cannot be made.
pub fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether this user can write into `path`, or make it if it is not there.
///
/// # Errors
/// What stands in the way: the nearest part of the path that exists is not a directory, or is not
/// this user's to write to.
pub fn can_be_written(path: &Path) -> io::Result<()> {
    for place in path.ancestors() {
        // An empty path is what is left of a relative one: the working directory.
        let place = if place.as_os_str().is_empty() {
            Path::new(".")
        } else {
            place
        };
        match std::fs::metadata(place) {
            Ok(meta) if meta.is_dir() => {
                return access(place, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from);
            }
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check would call a directory sound that the start cannot use, or make it.
    #[test]
    fn what_can_be_made_and_what_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(can_be_written(directory.path()).is_ok());
        assert!(can_be_written(&path("a/b/c")).is_ok());
        assert!(!path("a").exists());
        assert!(can_be_written(Path::new("not-there-yet")).is_ok());
        std::fs::write(path("file"), "").unwrap();
        for wrong in [path("file"), path("file/below")] {
            assert_eq!(can_be_written(&wrong).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        }
    }
}
