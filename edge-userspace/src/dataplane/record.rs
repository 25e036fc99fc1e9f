//! Networks denied at run time, in a file of the state directory, so that they outlive a reboot,
//! which empties the BPF file system. One line for each change, `+192.0.2.0/24` or `-192.0.2.0/24`;
//! each start writes it anew. `lists` keeps it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::error::Error;

const NAME: &str = "denied";
/// Bytes of the file at most: millions of lines.
const LONGEST: u64 = 256 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    file: File,
}

/// What an operator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Deleted,
}

impl Record {
    /// The file in `directory`, which is made if it is not there, and what it holds.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<IpNet>), Error> {
        let path = directory.join(NAME);
        let open = || -> io::Result<(File, Vec<IpNet>)> {
            crate::base::directory::make(directory)?;
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            if file.metadata()?.len() > LONGEST {
                return Err(io::Error::other("too long"));
            }
            let text = fs::read_to_string(&path)?;
            Ok((file, read(&text)))
        };
        let (file, networks) = open().map_err(failed(&path))?;
        Ok((Self { path, file }, networks))
    }

    /// Adds one line.
    pub(super) fn note(&mut self, change: Change, network: IpNet) -> Result<(), Error> {
        let line = format!("{}{network}\n", if change == Change::Added { '+' } else { '-' });
        let noted = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        noted.map_err(failed(&self.path))
    }

    /// Writes the file anew, as short as it can be; whole or not at all.
    pub(super) fn replace(&mut self, networks: impl Iterator<Item = IpNet>) -> Result<(), Error> {
        let mut text = String::new();
        for network in networks {
            text.push_str(&format!("+{network}\n"));
        }
        let replaced = || -> io::Result<File> {
            crate::base::file::replace(&self.path, text.as_bytes())?;
            OpenOptions::new().append(true).open(&self.path)
        };
        self.file = replaced().map_err(failed(&self.path))?;
        Ok(())
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State {
        path: path.clone(),
        source,
    }
}

/// What the lines come to. A line without its end (the last one, of a machine that lost its power)
/// says nothing: half of a prefix length would be another network.
fn read(text: &str) -> Vec<IpNet> {
    let mut networks = BTreeSet::new();
    for line in text.split_inclusive('\n') {
        let whole = line.strip_suffix('\n').and_then(|line| line.get(1..));
        let parsed = whole.and_then(|network| network.parse::<IpNet>().ok());
        match (line.as_bytes().first(), parsed) {
            (Some(b'+'), Some(network)) => networks.insert(network),
            (Some(b'-'), Some(network)) => networks.remove(&network),
            _ => {
                tracing::warn!(target: "edge::dataplane", line, "a line of the networks denied at run time cannot be read");
                false
            }
        };
    }
    networks.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A denied network would come back after a reboot, or one that was lifted stay out.
    #[test]
    fn the_last_change_of_a_network_counts() {
        let text = "+192.0.2.0/24\n+198.51.100.7/32\n-192.0.2.0/24\n+2001:db8::/32\nrubbish\n+203.0.113.0/2";
        let expected: Vec<IpNet> = ["198.51.100.7/32", "2001:db8::/32"].map(|n| n.parse().unwrap()).into();
        assert_eq!(read(text), expected);
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let (mut record, none) = Record::open(directory.path()).unwrap();
        assert!(none.is_empty());
        record.note(Change::Added, net("192.0.2.0/24")).unwrap();
        record.note(Change::Added, net("198.51.100.7/32")).unwrap();
        record.note(Change::Deleted, net("192.0.2.0/24")).unwrap();
        let (mut again, found) = Record::open(directory.path()).unwrap();
        assert_eq!(found, [net("198.51.100.7/32")]);
        again.replace(found.into_iter()).unwrap();
        again.note(Change::Added, net("2001:db8::/32")).unwrap();
        let text = fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert_eq!(text, "+198.51.100.7/32\n+2001:db8::/32\n");
    }
}
