//! What stands in the lists of `[dataplane]`: networks, and groups of networks that database files
//! know (`asn:64496`, `country:DE`).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::checker::Checker;
use super::kind::{Kind, Unbounded};
use super::value::{Network, from_string};
use ipnet::IpNet;
use toml::Spanned;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Itself.
    Network(IpNet),
    /// All networks of a group.
    Group(Group),
}

/// Networks by whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Those that an autonomous system announces (RFC 6793).
    Asn(u32),
    /// Those of a country (ISO 3166-1, two letters, upper case).
    Country([u8; 2]),
}

/// The groups of both lists, and the files that know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// On the allow list.
    pub allow: Vec<Group>,
    /// On the deny list.
    pub deny: Vec<Group>,
    /// In the format of MaxMind, which others use, too (`.mmdb`).
    pub databases: Vec<PathBuf>,
}

impl Groups {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

impl Kind for Listed {
    type Written = Self;
    type Checked = Self;
    type Bound = Unbounded;

    fn text(written: &Self) -> String {
        format!("\"{written}\"")
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(written: &Spanned<Self>, _: Option<(Unbounded, Unbounded)>, _: &mut Checker<'_>) -> Self {
        *written.get_ref()
    }
}

/// The networks and the groups of a list.
pub(super) fn split(list: &[Spanned<Listed>]) -> (Vec<IpNet>, Vec<Group>) {
    let (mut networks, mut groups) = (Vec::new(), Vec::new());
    for entry in list {
        match entry.get_ref() {
            Listed::Network(network) => networks.push(*network),
            Listed::Group(group) => groups.push(*group),
        }
    }
    (networks, groups)
}

impl FromStr for Listed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((kind, name)) = text.split_once(':').filter(|(kind, _)| {
            // An IPv6 address has colons, too.
            kind.eq_ignore_ascii_case("asn") || kind.eq_ignore_ascii_case("country")
        }) else {
            let network = text.parse::<Network>();
            return network
                .map(|network| Self::Network(network.0))
                .map_err(|error| format!("{error}, or asn:64496 or country:DE with [dataplane] databases"));
        };
        let group = if kind.eq_ignore_ascii_case("asn") {
            name.parse().ok().map(Group::Asn)
        } else {
            match name.as_bytes() {
                [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                    Some(Group::Country([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
                }
                _ => None,
            }
        };
        group
            .map(Self::Group)
            .ok_or_else(|| format!("\"{text}\" is not a valid group; write asn:64496, or country: and two letters"))
    }
}

from_string!(Listed);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Group(group) => group.fmt(f),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asn(number) => write!(f, "asn:{number}"),
            Self::Country([a, b]) => write!(f, "country:{}{}", char::from(*a), char::from(*b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A typing error that names nothing would deny nobody, without a word.
    #[test]
    fn entries_are_networks_or_groups() {
        let read = |text: &str| text.parse::<Listed>();
        assert_eq!(read("asn:64496"), Ok(Listed::Group(Group::Asn(64_496))));
        assert_eq!(read("country:de"), Ok(Listed::Group(Group::Country(*b"DE"))));
        for network in ["192.0.2.0/24", "2001:db8::/32", "a::1"] {
            assert!(matches!(read(network), Ok(Listed::Network(_))), "{network}");
        }
        assert_eq!(read("::ffff:192.0.2.1"), read("192.0.2.1"));
        for wrong in [
            "asn:",
            "asn:AS1",
            "asn:4294967296",
            "country:",
            "country:DEU",
            "country:1A",
            "everybody",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Group::Country(*b"DE").to_string(), "country:DE");
        assert_eq!(Group::Asn(7).to_string(), "asn:7");
    }
}
