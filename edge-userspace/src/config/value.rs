//! Values that TOML has no type for: durations, sizes, host patterns, origin addresses. Parsed
//! where they are read, so that an error points at the place.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

/// Declares a newtype whose TOML form is a string read by `FromStr`.
macro_rules! from_string {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A duration: a whole number and a unit, `250ms`, `10s`, `5m`, `6h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);
pub(super) use from_string;

from_string!(Time);

/// `n` seconds.
pub(super) const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no duration; write a whole number and a unit: 250ms, 10s, 5m, 6h, 7d");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            "d" => number.checked_mul(86_400_000),
            _ => None,
        };
        // A century: beyond it, adding to a clock may overflow.
        let millis = millis.filter(|m| *m <= 3_155_760_000_000).ok_or_else(wrong)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Time {
    /// As it would be written: in the largest unit that leaves no rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units
            .into_iter()
            .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None if millis == 0 => f.write_str("0s"),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// A size in bytes: a whole number and a unit, `512B`, `32KiB`, `16MiB`, `1GiB`; `0B` where it
/// means "no limit" says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);
from_string!(Size);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no size; write a whole number and a unit: 512B, 32KiB, 16MiB, 1GiB");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(1 << shift)
            .filter(|n| *n <= 1 << 50)
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    /// As it would be written: in the largest unit that leaves no rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units
            .into_iter()
            .find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift)
        {
            Some((shift, name)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A network, or one address as the network of itself. Bits after the prefix are cleared. An
/// IPv4-mapped network of IPv6 (`::ffff:192.0.2.0/120`, RFC 4291 section 2.5.5.2) is the IPv4
/// network: clients' addresses are compared in that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);
from_string!(Network);

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let network = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let wrong = || format!("\"{text}\" is not a valid network; write 192.0.2.0/24, 2001:db8::/32 or one address");
        network
            .map(|network| Self(canonical(network.trunc())))
            .ok_or_else(wrong)
    }
}

fn canonical(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) => {
            let mapped = v6.prefix_len().checked_sub(96).zip(v6.addr().to_ipv4_mapped());
            let v4 = mapped.and_then(|(length, address)| IpNet::new(address.into(), length).ok());
            v4.unwrap_or(network)
        }
        IpNet::V4(_) => network,
    }
}

/// Whether `host` is `domain`, or within it (RFC 6265bis section 5.1.3). Both in lower case.
pub fn within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A zone's host name: exact, or `*.` and a suffix, which covers exactly one more label (RFC 9525
/// section 6.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name, lower case, without a trailing dot; an address literal likewise.
    Exact(String),
    /// One label in front of this suffix, lower case, without the dot between.
    Wildcard(String),
}
from_string!(HostPattern);

impl FromStr for HostPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = lower.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Self::Exact(address.to_string()));
        }
        let (name, wildcard) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(format!(
                "\"{text}\" is no host name; write letters, digits, hyphens and dots, one \"*.\" in front at most, \
                 international names in their xn-- form"
            ));
        }
        Ok(if wildcard {
            Self::Wildcard(name.to_owned())
        } else {
            Self::Exact(name.to_owned())
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// An origin server: `http://host:port` or `https://host:port`, no path; or `unix:/path` of a
/// socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginAddress {
    /// TLS to the origin.
    pub tls: bool,
    /// Name or address literal, lower case, without brackets.
    pub host: String,
    /// Port, 80 or 443 where none is written.
    pub port: u16,
    /// The Unix socket instead of host and port; then those are `localhost` and 0.
    pub socket: Option<PathBuf>,
}
from_string!(OriginAddress);

impl FromStr for OriginAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("\"{text}\" {why}; write http://HOST:PORT or https://HOST:PORT");
        if let Some(path) = text.strip_prefix("unix:") {
            // sun_path of sockaddr_un, with its end (unix(7)).
            if !path.starts_with('/') || path.len() > 107 || path.contains('\0') {
                return Err(format!(
                    "\"{text}\" is not the path of a socket; write unix:/run/app.sock, at most 107 bytes"
                ));
            }
            return Ok(Self {
                tls: false,
                host: "localhost".to_owned(),
                port: 0,
                socket: Some(path.into()),
            });
        }
        let uri: http::Uri = text.parse().map_err(|_| wrong("is no origin address"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("has no scheme edge can speak to an origin")),
        };
        if uri.path_and_query().is_some_and(|p| p.as_str() != "/") {
            return Err(wrong("has a path, which an origin server cannot have"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("has credentials, which an origin server cannot have"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let port = match authority
            .as_str()
            .strip_prefix(authority.host())
            .and_then(|rest| rest.strip_prefix(':'))
        {
            None => Some(if tls { 443 } else { 80 }),
            Some(digits) => digits.parse().ok().filter(|port| *port > 0),
        };
        let port = port
            .filter(|_| !host.is_empty())
            .ok_or_else(|| wrong("has no host or no sound port"))?;
        Ok(Self {
            tls,
            host,
            port,
            socket: None,
        })
    }
}

impl fmt::Display for OriginAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if let Some(path) = &self.socket {
            return write!(f, "unix:{}", path.display());
        }
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Where the admin endpoint listens: `ADDRESS:PORT` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, for its owner and the group `edge`: mode 0660, or 0600 if there is no such
    /// group.
    Unix(PathBuf),
}
from_string!(AdminAddress);

impl AdminAddress {
    /// Where commands are taken if nothing is said: from whoever may write to this socket.
    pub fn commands() -> Self {
        Self::Unix(PathBuf::from("/run/edge/admin.sock"))
    }

    /// Where figures can be read by everybody on this host if nothing is said.
    pub fn reading() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9180))
    }
}

impl Default for AdminAddress {
    fn default() -> Self {
        Self::commands()
    }
}

impl FromStr for AdminAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.starts_with('/') {
                return Ok(Self::Unix(path.into()));
            }
        } else if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        Err(format!(
            "\"{text}\" is no admin address; write 127.0.0.1:9180 or unix:/run/edge/admin.sock"
        ))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong unit read as another would make a limit a thousand times too long.
    #[test]
    fn durations_and_sizes() {
        assert_eq!("250ms".parse::<Time>().unwrap().0, Duration::from_millis(250));
        assert_eq!("6h".parse::<Time>().unwrap().0, Duration::from_secs(21_600));
        assert_eq!("32KiB".parse::<Size>().unwrap().0, 32_768);
        for wrong in [
            "",
            "s",
            "10",
            "-1s",
            "1.5s",
            "10 s",
            "99999999999999999999s",
            "9999999999h",
            "1w",
        ] {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
        for wrong in ["", "B", "10", "1KB", "1k", "-1B", "99999999999TiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    /// A network read too widely would deny strangers; a single address must do.
    #[test]
    fn networks() {
        let read = |text: &str| text.parse::<Network>().map(|n| n.0.to_string());
        assert_eq!(read("192.0.2.9").as_deref(), Ok("192.0.2.9/32"));
        assert_eq!(read("192.0.2.9/24").as_deref(), Ok("192.0.2.0/24"));
        assert_eq!(read("2001:db8::1").as_deref(), Ok("2001:db8::1/128"));
        // Clients of IPv4 would pass a list that names them in the other form.
        assert_eq!(read("::ffff:192.0.2.9").as_deref(), Ok("192.0.2.9/32"));
        assert_eq!(read("::FFFF:C000:200/120").as_deref(), Ok("192.0.2.0/24"));
        assert_eq!(read("::ffff:127.0.0.0/104").as_deref(), Ok("127.0.0.0/8"));
        assert_eq!(read("::ffff:0:0/96").as_deref(), Ok("0.0.0.0/0"));
        assert_eq!(read("::ffff:0:0/95").as_deref(), Ok("::fffe:0:0/95"));
        assert_eq!(read("::192.0.2.9").as_deref(), Ok("::c000:209/128"));
        for wrong in ["", "192.0.2", "192.0.2.0/33", "a.example", "192.0.2.0/", "/24"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// A pattern read too widely would hand one zone's traffic to another.
    #[test]
    fn hosts() {
        assert_eq!("A.Example.".parse(), Ok(HostPattern::Exact("a.example".into())));
        assert_eq!("*.a.example".parse(), Ok(HostPattern::Wildcard("a.example".into())));
        assert_eq!("[2001:DB8::1]".parse(), Ok(HostPattern::Exact("2001:db8::1".into())));
        for wrong in [
            "",
            "*",
            "*.",
            "a.*.b",
            "*.*.b",
            "a b",
            "a..b",
            "-a.b",
            "a/b",
            "a:80",
            "ä.example",
        ] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }

    /// Requests sent to a place the operator did not mean.
    #[test]
    fn origins() {
        let parsed: OriginAddress = "https://[2001:db8::1]:8443".parse().unwrap();
        assert_eq!(
            (parsed.tls, parsed.host.as_str(), parsed.port),
            (true, "2001:db8::1", 8443)
        );
        assert_eq!(parsed.to_string(), "https://[2001:db8::1]:8443");
        assert_eq!("http://o.example".parse::<OriginAddress>().unwrap().port, 80);
        for wrong in [
            "",
            "o.example",
            "ftp://o",
            "http://",
            "http://o/x",
            "http://u:p@o",
            "http://o:0",
            "http://o:99999",
        ] {
            assert!(wrong.parse::<OriginAddress>().is_err(), "{wrong}");
        }
    }
}
