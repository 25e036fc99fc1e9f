//! What a rate rule counts by: `key = "header:X-Api-Key"`, or several parts that make one key
//! together.

use http::HeaderName;

/// Parts of one key at most.
pub(super) const MOST: usize = 4;
/// Segments of a path that can be named.
const SEGMENTS: usize = 32;
/// Bytes of a name.
const LONGEST: usize = 128;

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client: by its token, or by its address.
    Client,
    /// The address: IPv4 /32, IPv6 /64.
    Address,
    /// The network around the address: IPv4 /24, IPv6 /48.
    Network,
    /// The value of this field.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(String),
    /// The value of this claim, by whoever has verified it.
    Claim(String),
    /// This segment of the path, from 1 on.
    Segment(usize),
}

impl std::str::FromStr for KeyPart {
    type Err = &'static str;

    /// The error is what to write instead.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named =
            |name: &str| !name.is_empty() && name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_graphic());
        match text.split_once(':') {
            None => match text {
                "client" => Ok(Self::Client),
                "address" => Ok(Self::Address),
                "network" => Ok(Self::Network),
                _ => Err(
                    "write \"client\", \"address\", \"network\", \"header:NAME\", \"cookie:NAME\", \"claim:NAME\" or \"segment:N\"",
                ),
            },
            Some(("header", name)) => {
                let name = name
                    .parse()
                    .map_err(|_| "write a field's name, like \"header:X-Api-Key\"")?;
                Ok(Self::Header(name))
            }
            Some(("cookie", name)) if named(name) && !name.contains(['=', ';', ',']) => {
                Ok(Self::Cookie(name.to_owned()))
            }
            Some(("cookie", _)) => Err("write a cookie's name, like \"cookie:session\""),
            Some(("claim", name)) if named(name) => Ok(Self::Claim(name.to_owned())),
            Some(("claim", _)) => Err("write a claim's name, like \"claim:sub\""),
            Some(("segment", n)) => match n.parse() {
                Ok(n) if (1..=SEGMENTS).contains(&n) => Ok(Self::Segment(n)),
                _ => Err("write \"segment:1\" for the first segment of the path, up to 32"),
            },
            Some(_) => Err("write \"header:NAME\", \"cookie:NAME\", \"claim:NAME\" or \"segment:N\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule would count by something else than what is written.
    #[test]
    fn parts() {
        for (text, part) in [
            ("client", KeyPart::Client),
            ("address", KeyPart::Address),
            ("network", KeyPart::Network),
            (
                "header:X-Api-Key",
                KeyPart::Header(HeaderName::from_static("x-api-key")),
            ),
            ("cookie:sid", KeyPart::Cookie("sid".to_owned())),
            ("claim:realm.sub", KeyPart::Claim("realm.sub".to_owned())),
            ("segment:2", KeyPart::Segment(2)),
        ] {
            assert_eq!(text.parse(), Ok(part));
        }
        for text in [
            "",
            "clients",
            "header:",
            "header:a b",
            "cookie:",
            "cookie:a=b",
            "claim:",
            "segment:0",
            "segment:33",
            "host:x",
        ] {
            assert!(text.parse::<KeyPart>().is_err(), "{text}");
        }
    }
}
