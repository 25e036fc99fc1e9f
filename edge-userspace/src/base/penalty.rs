//! The words of penalties: who, how hard, and whose word it is. The gate decides in them, the data
//! plane writes them into the kernel, and operators read and give them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Who is penalised. As text an address (`192.0.2.1`, `2001:db8::`; of IPv6 the /64 counts), a
/// network (`192.0.2.0/24`, `2001:db8:1::/48`, or a /56), or a client by the id in its tokens
/// (`client:` and 16 hexadecimal digits).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// A validated address: all of an IPv4 address, the /64 of an IPv6 one
    /// ([`client_prefix`](super::peer::client_prefix)). A spoofed one here locks out its owner.
    Address(IpAddr),
    /// A network of which several addresses were penalised: IPv4 /24, IPv6 /56 or /48.
    Network(IpNet),
    /// A client that its token proves.
    Client(u64),
}

/// How hard; the harder is the greater.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A budget of connections per second passes, for those who share the address.
    Deferred,
    /// Nothing passes.
    Blocked,
}

impl Level {
    /// As operators write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Blocked => "blocked",
        }
    }
}

/// Whose word a penalty is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The gate's: tokens pass an address's.
    Gate,
    /// An operator's: nobody passes it.
    Operator,
    /// None: a client was told to wait, and nothing is held against it.
    Hold,
}

impl FromStr for Subject {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let client = text.strip_prefix("client:").filter(|digits| digits.len() == 16);
        match client.map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(id)) => Ok(Self::Client(id)),
            _ => match (text.trim_end_matches("/64").parse(), text.parse::<IpNet>()) {
                (Ok(address), _) => Ok(Self::Address(address)),
                (Err(_), Ok(net))
                    if matches!((net.addr().is_ipv4(), net.prefix_len()), (true, 24) | (false, 48 | 56)) =>
                {
                    Ok(Self::Network(net.trunc()))
                }
                _ => Err(format!(
                    "\"{text}\" is not an address, a /24, /48 or /56, or a client id; write 192.0.2.1, 2001:db8::, 2001:db8:1::/48, or client: \
                     and 16 hexadecimal digits"
                )),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Client(id) => write!(f, "client:{id:016x}"),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator would lift another penalty than the one that is listed.
    #[test]
    fn a_subject_is_read_as_it_is_written() {
        for text in [
            "192.0.2.1",
            "2001:db8::",
            "192.0.2.0/24",
            "2001:db8:1::/48",
            "client:00000000000000ab",
        ] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        assert_eq!("2001:db8::/64".parse(), "2001:db8::".parse::<Subject>());
        for text in ["", "client:ab", "client:00000000000000zz", "192.0.2.0/16", "nobody"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    /// A word that is listed could not be given back.
    #[test]
    fn levels_have_one_spelling() {
        for level in [Level::Deferred, Level::Blocked] {
            assert_eq!(serde_json::to_value(level).unwrap(), level.word());
        }
    }
}
