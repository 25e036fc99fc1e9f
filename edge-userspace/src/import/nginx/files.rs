//! The files of an nginx configuration, and what `include` means there: relative to the main file's
//! directory, with `*` and `?` in any part, sorted, names that begin with a dot left out (glob(3)).
//! Asked by `syntax`; every count has a bound.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::base::file;

/// Bytes of one file. With [`FILES`] of them, what is read at most is `BYTES` all the same.
pub(super) const BYTES: u64 = 16 << 20;
/// Files in all.
pub(super) const FILES: usize = 1_000;
/// Names in all that are compared with patterns.
const NAMES: usize = 100_000;

/// Where files come from.
pub(super) trait Files {
    /// The content, at most `most` bytes.
    ///
    /// # Errors
    /// It cannot be read, or is longer.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;

    /// The files that `pattern` names, sorted; the one itself if it has no wildcard.
    ///
    /// # Errors
    /// A directory cannot be read, has too many names, or the pattern is of a kind that is not
    /// known.
    fn named(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// This machine's.
pub(super) struct Disk;

/// None: what is included is not there.
pub(super) struct Nowhere;

impl Files for Nowhere {
    fn read(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn named(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

impl Files for Disk {
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        file::plain(path, most)
    }

    fn named(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let text = pattern.to_string_lossy();
        if !is_wild(&text) {
            return Ok(vec![pattern.to_owned()]);
        }
        if text.contains('[') {
            return Err(io::Error::other("`[…]` in a pattern is not known here"));
        }
        let (mut found, mut seen) = (vec![PathBuf::new()], 0);
        for part in pattern.components() {
            let name = part.as_os_str().to_string_lossy();
            if !matches!(part, Component::Normal(_)) || !is_wild(&name) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let mut next = Vec::new();
            for directory in found.iter().filter(|path| path.is_dir()) {
                for entry in fs::read_dir(directory)? {
                    seen += 1;
                    if seen > NAMES {
                        return Err(io::Error::other(format!("more than {NAMES} names to compare")));
                    }
                    let entry = entry?.file_name();
                    let text = entry.to_string_lossy();
                    if fits(&name, &text) && !text.starts_with('.') {
                        next.push(directory.join(&entry));
                    }
                }
            }
            found = next;
        }
        found.retain(|path| path.exists());
        found.sort();
        Ok(found)
    }
}

/// Whether a name has characters that stand for others.
pub(super) fn is_wild(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Whether `name` is one of `pattern`: `?` for one character, `*` for any. Linear but for the last
/// `*`, to which it goes back.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut back) = (0, 0, None);
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, n + 1));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == c => (p, n) = (p + 1, n + 1),
            _ => match back {
                Some((after, from)) => {
                    (p, n) = (after, from);
                    back = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sites would be missing from what is imported, or others be in it.
    #[test]
    fn patterns_name_what_nginx_reads() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "a.conf.bak", "x/1.conf", "y/2.conf"] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let named = |pattern: &str| -> Vec<String> {
            let found = Disk.named(&directory.path().join(pattern)).unwrap();
            let rest = |path: PathBuf| path.strip_prefix(directory.path()).unwrap().display().to_string();
            found.into_iter().map(rest).collect()
        };
        assert_eq!(named("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(named("?.conf"), ["a.conf", "b.conf"]);
        assert_eq!(named("*/*.conf"), ["x/1.conf", "y/2.conf"]);
        assert_eq!(named("none*"), Vec::<String>::new());
        assert_eq!(named("none"), ["none"]);
        assert!(Disk.named(Path::new("/tmp/[ab]*")).is_err());
        assert!(Disk.read(&directory.path().join("a.conf"), 3).is_err());
        assert!(Disk.read(directory.path(), 3).is_err());
        assert_eq!(Disk.read(&directory.path().join("a.conf"), 6).unwrap(), b"a.conf");
    }

    /// A file that fits would be left out, or comparing take longer than anybody waits.
    #[test]
    fn wildcards() {
        for (pattern, name, hit) in [
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("?", "", false),
            ("a?", "ab", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(fits(pattern, name), hit, "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(200), &"a".repeat(199)));
    }
}
