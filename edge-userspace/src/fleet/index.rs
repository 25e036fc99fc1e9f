//! A manifest's index: the files that a node's configuration is made of, the nodes and who may
//! speak for the fleet. A blob like any other, found by the digest in the head; its text is JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::key::{Public, Recipient};
use super::{Digest, is_name};

/// Bytes of an index at most: some 150 a file.
pub const MOST: u64 = 32 << 20;
/// Files at most.
pub const MOST_FILES: usize = 65_536;
/// Nodes at most.
pub const MOST_NODES: usize = 16_384;
/// Bytes of one file at most.
pub const MOST_FILE: u64 = 256 << 20;
/// Bytes of a path at most.
const MOST_PATH: usize = 512;
/// Sets of nodes that secrets are sealed to, at most.
const MOST_VAULTS: usize = 64;

/// What a manifest holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// In the order of their paths.
    pub files: Vec<File>,
    /// For each set of nodes that secrets are sealed to, the vault's key for each of them, base64.
    pub vaults: Vec<BTreeMap<String, String>>,
    /// The nodes of the fleet.
    pub nodes: Vec<Member>,
    /// Keys whose orders go beyond what nodes may say.
    pub operators: Vec<Public>,
    /// The nodes that put it into force; the others only fetch it. Empty: all.
    pub only: Vec<String>,
    /// The blob with nodes and operators, of an index that was read.
    pub roster: Option<Named>,
}

/// An index's own blob: it is fetched at every deployment, so that nodes and operators, which
/// seldom change and are many, are in another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    files: Vec<File>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vaults: Vec<BTreeMap<String, String>>,
    roster: Named,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    only: Vec<String>,
}

/// The blob with nodes and operators.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Roster {
    nodes: Vec<Member>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    operators: Vec<Public>,
}

/// A blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// An index as bytes.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its own blob.
    pub index: Vec<u8>,
    /// The blob that it names.
    pub roster: Vec<u8>,
}

impl Named {
    fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Digest::of(bytes),
            length: bytes.len() as u64,
        }
    }
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Relative, with `/` between its parts.
    pub path: String,
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub length: u64,
    /// It is sealed in this vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<usize>,
}

/// Whether a node counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It serves: purges wait for it.
    #[default]
    InService,
    /// It is not waited for.
    Cordoned,
    /// It is not waited for, and says that it is not ready.
    Drained,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Checks what it says.
    pub key: Public,
    /// Secrets are sealed to it.
    pub seal: Recipient,
    /// Whether it counts.
    #[serde(default)]
    pub state: Standing,
}

/// Why an index is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// It is not an index.
    #[error("the index cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A path that could reach beyond the release.
    #[error("the index names a file \"{0}\", which is not a plain relative path")]
    Path(String),
    /// Two that cannot both be.
    #[error("the index names \"{0}\" twice")]
    Twice(String),
    /// A name that is none.
    #[error("\"{0}\" is not a node's name: 1 to 64 of a-z, 0-9 and -")]
    Name(String),
    /// More than a node holds.
    #[error("the index has too many {0}")]
    TooMany(&'static str),
    /// A vault that there is not.
    #[error("the file \"{0}\" is sealed in a vault that the index does not have")]
    Vault(String),
}

impl Index {
    /// Reads and checks one; `outline` was read before, and named `roster`.
    ///
    /// # Errors
    /// As [`Unsound`] says.
    pub fn parse(outline: Outline, roster: &[u8]) -> Result<Self, Unsound> {
        if roster.len() as u64 > MOST {
            return Err(Unsound::TooMany("bytes"));
        }
        let Roster { nodes, operators } = serde_json::from_slice(roster)?;
        let index = Self {
            files: outline.files,
            vaults: outline.vaults,
            nodes,
            operators,
            only: outline.only,
            roster: Some(outline.roster),
        };
        index.check()?;
        Ok(index)
    }

    /// As bytes; the same index is always written alike.
    ///
    /// # Errors
    /// It is not sound.
    pub fn write(&mut self) -> Result<Text, Unsound> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.check()?;
        let roster = Roster {
            nodes: self.nodes.clone(),
            operators: self.operators.clone(),
        };
        let roster = serde_json::to_vec(&roster)?;
        let outline = Outline {
            files: self.files.clone(),
            vaults: self.vaults.clone(),
            roster: Named::of(&roster),
            only: self.only.clone(),
        };
        let index = serde_json::to_vec(&outline)?;
        Ok(Text { index, roster })
    }

    fn check(&self) -> Result<(), Unsound> {
        for (many, most, what) in [
            (self.files.len(), MOST_FILES, "files"),
            (self.nodes.len(), MOST_NODES, "nodes"),
            (self.only.len(), MOST_NODES, "nodes"),
            (self.vaults.len(), MOST_VAULTS, "vaults"),
            (self.operators.len(), 64, "operators"),
        ] {
            if many > most {
                return Err(Unsound::TooMany(what));
            }
        }
        let mut paths = BTreeSet::new();
        for file in &self.files {
            let path = &file.path;
            if !is_path(path) {
                return Err(Unsound::Path(path.clone()));
            }
            if file.length > MOST_FILE {
                return Err(Unsound::TooMany("bytes in one file"));
            }
            if file.vault.is_some_and(|vault| vault >= self.vaults.len()) {
                return Err(Unsound::Vault(path.clone()));
            }
            if !paths.insert(path.as_str()) {
                return Err(Unsound::Twice(path.clone()));
            }
        }
        for path in &paths {
            // A file cannot be a directory, too.
            let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            if let Some(twice) = above.into_iter().find(|above| paths.contains(above)) {
                return Err(Unsound::Twice(twice.to_owned()));
            }
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            if !is_name(&node.name) {
                return Err(Unsound::Name(node.name.clone()));
            }
            if !names.insert(&node.name) || !keys.insert(node.key) {
                return Err(Unsound::Twice(node.name.clone()));
            }
        }
        Ok(())
    }

    /// The node of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Names of the nodes that are waited for.
    pub fn in_service(&self) -> impl Iterator<Item = &str> {
        let serving = self.nodes.iter().filter(|node| node.state == Standing::InService);
        serving.map(|node| node.name.as_str())
    }

    /// Whether `node` puts it into force.
    pub fn is_for(&self, node: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == node)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.length))
    }
}

impl Outline {
    /// Reads an index's own blob.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unsound> {
        if bytes.len() as u64 > MOST {
            return Err(Unsound::TooMany("bytes"));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The blob that [`Index::parse`] wants, too.
    pub const fn roster(&self) -> Named {
        self.roster
    }
}

/// Whether a path stays below the directory that it is relative to, on every file system: plain
/// parts, none hidden.
fn is_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 255
            && (!part.starts_with('.') || part == ".well-known")
            && !part.chars().any(|c| c.is_control() || c == '\\')
    };
    path.len() <= MOST_PATH && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::key::Identity;

    fn file(path: &str) -> File {
        File {
            path: path.to_owned(),
            digest: Digest::of(b"x"),
            length: 1,
            vault: None,
        }
    }

    /// A manifest would write outside its directory, or half of it would be missing.
    #[test]
    fn paths_stay_below_and_are_unambiguous() {
        let read = |paths: &[&str]| {
            let files = paths.iter().map(|path| file(path)).collect();
            let mut index = Index {
                files,
                ..Index::default()
            };
            index
                .write()
                .and_then(|text| Index::parse(Outline::parse(&text.index).unwrap(), &text.roster))
        };
        assert!(read(&["edge.toml", "www/a/b", "www/ä", "www/.well-known/x"]).is_ok());
        let long = "a/".repeat(300) + "a";
        for wrong in [
            "",
            "/",
            "/etc/passwd",
            "../x",
            "a/../x",
            "a//b",
            "a/",
            ".ssh",
            "a/.",
            "a\nb",
            "a\0b",
            "a\\..\\b",
            &long,
        ] {
            assert!(matches!(read(&[wrong]), Err(Unsound::Path(_))), "{wrong:?}");
        }
        assert!(matches!(read(&["a", "b", "a"]), Err(Unsound::Twice(_))));
        assert!(matches!(read(&["a/b/c", "a/b"]), Err(Unsound::Twice(_))));
        let mut index = Index {
            files: vec![file("a")],
            ..Index::default()
        };
        index.files[0].vault = Some(0);
        assert!(matches!(index.write(), Err(Unsound::Vault(_))));
    }

    /// A node would be known by two keys, or one key be two nodes: each counts once when a purge is
    /// proven.
    #[test]
    fn a_node_is_one_name_and_one_key() {
        let key = Identity::generate().unwrap();
        let node = |name: &str, key: &Identity| Member {
            name: name.to_owned(),
            key: key.signer.public(),
            seal: key.recipient(),
            state: Standing::InService,
        };
        let other = Identity::generate().unwrap();
        let of = |nodes: Vec<Member>| {
            Index {
                nodes,
                ..Index::default()
            }
            .write()
        };
        assert!(of(vec![node("a", &key), node("b", &other)]).is_ok());
        assert!(of(vec![node("a", &key), node("b", &key)]).is_err());
        assert!(of(vec![node("a", &key), node("a", &other)]).is_err());
        assert!(of(vec![node("A b", &key)]).is_err());
        let text = of(vec![node("a", &key)]).unwrap();
        let more = String::from_utf8(text.roster)
            .unwrap()
            .replace("\"nodes\"", "\"noodles\":1,\"nodes\"");
        let outline = Outline::parse(&text.index).unwrap();
        assert!(Index::parse(outline, more.as_bytes()).is_err());
    }
}
