//! Groups of networks on the operator's lists (`asn:64496`, `country:DE`), made networks of by
//! database files as they are now. `lists` asks for them whenever it works out what is in force;
//! `node` looks every few seconds whether a file has changed.

use std::collections::BTreeSet;
use std::collections::hash_map::{Entry, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::Deserialize;

use super::error::Error;
use crate::config::{Group, Groups};

/// Bytes of a database at most: it is read whole, for the moment that its networks are looked for.
const LARGEST: u64 = 1 << 30;

/// What the groups come to.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    pub(super) allow: Vec<IpNet>,
    pub(super) deny: Vec<IpNet>,
    /// Of what.
    groups: Groups,
    /// The files were these.
    stamps: Vec<Stamp>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    changed: SystemTime,
    length: u64,
}

impl Compiled {
    /// Reads the databases.
    pub(super) fn read(groups: &Groups) -> Result<Self, Error> {
        if groups.is_empty() {
            return Ok(Self {
                groups: groups.clone(),
                ..Self::default()
            });
        }
        // Before they are read: what changes meanwhile is read again.
        let stamps = groups.databases.iter().map(stamp).collect::<Result<_, _>>()?;
        let wanted: BTreeSet<Group> = groups.allow.iter().chain(&groups.deny).copied().collect();
        let mut found: HashMap<Group, Vec<IpNet>> = HashMap::new();
        for path in &groups.databases {
            search(path, &wanted, &mut found)?;
        }
        for group in wanted.iter().filter(|group| !found.contains_key(group)) {
            tracing::warn!(target: "edge::dataplane", %group, "no database knows a network of this group");
        }
        let of = |list: &[Group]| {
            let networks = list.iter().filter_map(|group| found.get(group)).flatten().copied();
            IpNet::aggregate(&networks.collect())
        };
        Ok(Self {
            allow: of(&groups.allow),
            deny: of(&groups.deny),
            groups: groups.clone(),
            stamps,
        })
    }

    /// Whether these are the networks of `groups`, by the files as they are now. A file that is
    /// away for the moment (it is being replaced) has not changed.
    pub(super) fn is_current(&self, groups: &Groups) -> bool {
        if self.groups != *groups {
            return false;
        }
        let mut files = groups.databases.iter().zip(&self.stamps);
        groups.is_empty() || files.all(|(path, known)| stamp(path).is_ok_and(|now| now == *known) || !path.exists())
    }
}

fn failed(path: &Path, source: MaxMindDbError) -> Error {
    Error::Database {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn stamp(path: &PathBuf) -> Result<Stamp, Error> {
    let of = || -> io::Result<Stamp> {
        let file = fs::metadata(path)?;
        Ok(Stamp {
            changed: file.modified()?,
            length: file.len(),
        })
    };
    let stamp = of().map_err(|error| failed(path, error.into()))?;
    if stamp.length > LARGEST {
        return Err(failed(path, io::Error::other("larger than 1 GiB").into()));
    }
    Ok(stamp)
}

/// What a record says that a group goes by. Databases differ in how they write it.
#[derive(Debug, Default, Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    country: Option<Country<'a>>,
    #[serde(borrow, default)]
    country_code: Option<&'a str>,
    #[serde(default)]
    autonomous_system_number: Option<u32>,
    #[serde(borrow, default)]
    asn: Option<Number<'a>>,
}

/// `64496`, or `"AS64496"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Plain(u32),
    Written(&'a str),
}

/// `{ iso_code: "DE" }`, or `"DE"`, or a country's name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Country<'a> {
    Code(&'a str),
    Coded {
        #[serde(borrow, default)]
        iso_code: Option<&'a str>,
    },
}

impl Record<'_> {
    fn groups(&self) -> impl Iterator<Item = Group> {
        let written = match &self.country {
            Some(Country::Coded { iso_code }) => *iso_code,
            Some(Country::Code(code)) => self.country_code.or(Some(*code)),
            None => self.country_code,
        };
        let country = written.and_then(|code| <[u8; 2]>::try_from(code.as_bytes()).ok());
        let number = self.autonomous_system_number.or_else(|| match self.asn.as_ref()? {
            Number::Plain(number) => Some(*number),
            Number::Written(text) => text.trim_start_matches("AS").parse().ok(),
        });
        let country = country.map(|code| Group::Country(code.map(|letter| letter.to_ascii_uppercase())));
        country.into_iter().chain(number.map(Group::Asn))
    }
}

/// Adds the networks of wanted groups in one database.
fn search(path: &Path, wanted: &BTreeSet<Group>, found: &mut HashMap<Group, Vec<IpNet>>) -> Result<(), Error> {
    let wrong = |error| failed(path, error);
    let reader = Reader::open_readfile(path).map_err(wrong)?;
    // Many networks share a record: each is decoded once.
    let mut known: HashMap<usize, Vec<Group>> = HashMap::new();
    for network in reader.networks(WithinOptions::default()).map_err(wrong)? {
        let network = network.map_err(wrong)?;
        let Some(offset) = network.offset() else { continue };
        let groups = match known.entry(offset) {
            Entry::Occupied(groups) => groups.into_mut(),
            Entry::Vacant(place) => {
                let record: Record<'_> = network.decode().map_err(wrong)?.unwrap_or_default();
                place.insert(record.groups().filter(|group| wanted.contains(group)).collect())
            }
        };
        if groups.is_empty() {
            continue;
        }
        let of = network.network().map_err(wrong)?;
        let Ok(of) = IpNet::new(of.ip(), of.prefix()) else {
            continue;
        };
        for group in &*groups {
            found.entry(*group).or_default().push(of.trunc());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A value of a database (MaxMind DB file format 2.0, "Data section").
    enum Value {
        Text(&'static str),
        Short(u16),
        Number(u32),
        Long(u64),
        Map(Vec<(&'static str, Value)>),
    }
    use Value::{Long, Map, Number, Short, Text};

    impl Value {
        fn write(&self, to: &mut Vec<u8>) {
            let size = |count: usize| u8::try_from(count).unwrap();
            match self {
                Text(text) => {
                    assert!(text.len() < 29);
                    to.push(2 << 5 | size(text.len()));
                    to.extend(text.as_bytes());
                }
                Short(number) => {
                    to.push(5 << 5 | 2);
                    to.extend(number.to_be_bytes());
                }
                Long(number) => {
                    // Types from 8 on are written in a byte of their own.
                    to.extend([8, 9 - 7]);
                    to.extend(number.to_be_bytes());
                }
                Number(number) => {
                    to.push(6 << 5 | 4);
                    to.extend(number.to_be_bytes());
                }
                Map(entries) => {
                    to.push(7 << 5 | size(entries.len()));
                    for (key, value) in entries {
                        Text(key).write(to);
                        value.write(to);
                    }
                }
            }
        }
    }

    /// A database of these networks: a tree of 24 bits a record over 128 bits, in which IPv4 is
    /// ::/96.
    fn database(networks: &[(&str, Value)]) -> Vec<u8> {
        const NONE: usize = usize::MAX;
        let mut data = Vec::new();
        let mut nodes = vec![[NONE; 2]];
        let mut leaves = Vec::new();
        for (network, value) in networks {
            let offset = data.len();
            value.write(&mut data);
            let (bits, length) = match network.parse::<IpNet>().unwrap() {
                IpNet::V4(v4) => (u128::from(v4.network().to_bits()), 96 + v4.prefix_len()),
                IpNet::V6(v6) => (v6.network().to_bits(), v6.prefix_len()),
            };
            let side = |depth: u8| usize::from(bits >> (127 - depth) & 1 != 0);
            let mut node = 0;
            for depth in 0..length - 1 {
                if nodes[node][side(depth)] == NONE {
                    nodes.push([NONE; 2]);
                    nodes[node][side(depth)] = nodes.len() - 1;
                }
                node = nodes[node][side(depth)];
            }
            leaves.push((node, side(length - 1), offset));
        }
        let count = nodes.len();
        for node in nodes.iter_mut().flatten().filter(|record| **record == NONE) {
            *node = count;
        }
        for (node, side, offset) in leaves {
            nodes[node][side] = count + 16 + offset;
        }
        let mut file = Vec::new();
        for record in nodes.iter().flatten() {
            file.extend(&u32::try_from(*record).unwrap().to_be_bytes()[1..]);
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        Map(vec![
            ("node_count", Number(u32::try_from(count).unwrap())),
            ("record_size", Short(24)),
            ("ip_version", Short(6)),
            ("database_type", Text("Test")),
            ("binary_format_major_version", Short(2)),
            ("binary_format_minor_version", Short(0)),
            ("build_epoch", Long(1)),
            ("languages", Map(Vec::new())),
            ("description", Map(Vec::new())),
        ])
        .write(&mut file);
        // An empty array, where the map of languages stands in for one.
        let at = file.windows(10).position(|bytes| bytes == b"\x49languages").unwrap() + 10;
        file.splice(at..=at, [0, 4]);
        file
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A country that is denied would be let in, because its database writes it in another way than
    /// others do.
    #[test]
    fn groups_are_networks_however_the_database_writes_them() {
        let coded = |code| Map(vec![("country", Map(vec![("iso_code", Text(code))]))]);
        let file = database(&[
            ("192.0.2.0/25", coded("XA")),
            ("192.0.2.128/25", coded("XA")),
            ("198.51.100.0/24", coded("XB")),
            (
                "203.0.113.0/25",
                Map(vec![("country", Text("Xland")), ("country_code", Text("XA"))]),
            ),
            (
                "203.0.113.128/26",
                Map(vec![("country", Text("XB")), ("asn", Text("AS64496"))]),
            ),
            ("2001:db8::/32", Map(vec![("autonomous_system_number", Number(64_496))])),
            ("2001:db9::/32", Map(vec![("asn", Number(64_497))])),
            ("2001:dba::/32", Map(Vec::new())),
        ]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.mmdb");
        fs::write(&path, &file).unwrap();
        let mut groups = Groups {
            allow: vec![Group::Asn(64_496)],
            deny: vec![Group::Country(*b"XA"), Group::Asn(64_497), Group::Country(*b"ZZ")],
            databases: vec![path.clone()],
        };
        let compiled = Compiled::read(&groups).unwrap();
        assert_eq!(compiled.allow, nets(&["203.0.113.128/26", "2001:db8::/32"]));
        assert_eq!(
            compiled.deny,
            nets(&["192.0.2.0/24", "203.0.113.0/25", "2001:db9::/32"])
        );
        assert!(compiled.is_current(&groups));
        // Changed, and gone for the moment that it takes to replace it.
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b" ")
            .unwrap();
        assert!(!compiled.is_current(&groups));
        fs::remove_file(&path).unwrap();
        assert!(compiled.is_current(&groups));
        groups.deny.pop();
        assert!(!compiled.is_current(&groups));
        assert!(Compiled::read(&groups).is_err());
        fs::write(&path, b"no database").unwrap();
        let error = Compiled::read(&groups).unwrap_err().to_string();
        assert!(error.contains("test.mmdb"), "{error}");
        assert!(Compiled::read(&Groups::default()).unwrap().deny.is_empty());
    }
}
