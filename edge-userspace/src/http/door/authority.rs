//! Authorities (RFC 9110 section 7.2, RFC 3986 section 3.2), in one spelling each. Pure.

use std::net::Ipv6Addr;

/// What an authority names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In lower case, without a trailing dot, with the port if it is not the scheme's own: caches,
    /// origins and rules are told one name of one host.
    pub text: String,
    /// The name in it, literals without brackets.
    pub name: String,
}

impl Authority {
    /// Reads `uri-host [ ":" port ]` of a request by `https` (`secure`) or `http`. An empty port is
    /// the scheme's own (RFC 3986 section 6.2.3). No user information, no port zero, no
    /// percent-encoding, none of the characters that only some parsers take for the name's end.
    pub fn read(raw: &[u8], secure: bool) -> Option<Self> {
        let text = std::str::from_utf8(raw).ok().filter(|text| text.len() <= 253 + 1 + 6)?;
        let (name, port) = match text.strip_prefix('[') {
            Some(literal) => {
                let (literal, rest) = literal.split_once(']')?;
                let address: Ipv6Addr = literal.parse().ok()?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':')?),
                };
                (address.to_string(), port)
            }
            None => {
                let (name, port) = match text.split_once(':') {
                    Some((name, port)) => (name, Some(port)),
                    None => (text, None),
                };
                (self::name(name)?, port)
            }
        };
        let mut text = if name.contains(':') {
            format!("[{name}]")
        } else {
            name.clone()
        };
        if let Some(digits) = port.filter(|digits| !digits.is_empty()) {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            let port: u16 = plain.then(|| digits.parse().ok()).flatten().filter(|port| *port > 0)?;
            if port != if secure { 443 } else { 80 } {
                text = format!("{text}:{port}");
            }
        }
        Some(Self { text, name })
    }
}

/// A name in lower case, without the root's dot.
fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(letter)
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host read in two ways is routed by one reading and answered by the other.
    #[test]
    fn authorities() {
        let read = |text: &str, secure| Authority::read(text.as_bytes(), secure).map(|a| (a.text, a.name));
        let owned = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(read("A.Example", true), owned("a.example", "a.example"));
        assert_eq!(read("a.example.:8443", true), owned("a.example:8443", "a.example"));
        assert_eq!(read("[2001:DB8::1]:443", true), owned("[2001:db8::1]", "2001:db8::1"));
        assert_eq!(
            read("[2001:DB8::1]:443", false),
            owned("[2001:db8::1]:443", "2001:db8::1")
        );
        assert_eq!(read("192.0.2.1", true), owned("192.0.2.1", "192.0.2.1"));
        assert_eq!(read("a.example:0443", true), owned("a.example", "a.example"));
        assert_eq!(read("a.example:80", false), owned("a.example", "a.example"));
        assert_eq!(read("a.example:80", true), owned("a.example:80", "a.example"));
        assert_eq!(read("a.example:", true), owned("a.example", "a.example"));
        assert_eq!(read("a.example.:", false), owned("a.example", "a.example"));
        assert_eq!(read("[::1]:", true), owned("[::1]", "::1"));
        for wrong in [
            "",
            ".",
            ":",
            "a..b",
            "a.example..",
            "a.example::",
            "a.example:0",
            "a.example:99999",
            "a.example:+1",
            "a.example:80:80",
            "user@a.example",
            "user:pass@a.example",
            "a.example/x",
            "a.example?x",
            "a.example#x",
            "a example",
            "a.example\t",
            "a%2eexample",
            "[::1",
            "::1",
            "[::1]x",
            "[v1.x]",
            "[fe80::1%25eth0]",
            "ä.example",
            "a,b",
            "a\\b",
        ] {
            assert_eq!(read(wrong, true), None, "{wrong}");
        }
        assert_eq!(read(&"a".repeat(64), true), None);
        assert_eq!(read(&["a"; 200].join("."), true), None);
    }
}
