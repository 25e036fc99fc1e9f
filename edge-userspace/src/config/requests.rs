//! `[zone.requests]`: what of a request goes on to the zone's worker and origin, and what of
//! trailers to anybody. Read as it is used.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// `[zone.requests]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// Fields with `_` in their names go on.
    pub underscores: bool,
    /// Paths that servers read in two ways go on although the zone has routes or rules by path.
    pub ambiguous_paths: bool,
    /// Fields in which a client could claim an address or a certificate: they do not go on.
    pub claims: FieldNames,
    /// Trailers that go on, of requests and of responses.
    pub trailers: FieldNames,
    /// Those who ask are near ends, which have done all this, and say what they know of clients.
    #[serde(skip)]
    pub of_near_ends: bool,
}

impl Default for Requests {
    fn default() -> Self {
        let claims = [
            "True-Client-IP",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "CF-Connecting-IP*",
            "Fastly-Client-IP",
            "X-Original-Forwarded-For",
            "X-Original-Host",
            "X-Client-Cert*",
            "X-SSL-*",
            "SSL-Client-*",
        ];
        let trailers = [
            "grpc-*",
            "Server-Timing",
            "ETag",
            "Digest",
            "Content-Digest",
            "Repr-Digest",
            "Content-MD5",
            "Signature",
            "Signature-Input",
            "X-Amz-Checksum-*",
            "X-Amz-Trailer-Signature",
        ];
        Self {
            underscores: false,
            ambiguous_paths: false,
            claims: FieldNames::of(&claims),
            trailers: FieldNames::of(&trailers),
            of_near_ends: false,
        }
    }
}

impl Requests {
    /// Whether the field `name` of a request, in lower case, does not go on: it claims what only
    /// the edge can know (RFC 9440 section 4), may be taken for another field, or makes CGI
    /// programs send what they ask for elsewhere (CVE-2016-5385).
    pub fn drops(&self, name: &str) -> bool {
        name == "proxy"
            || !self.underscores && name.contains('_')
            || !self.of_near_ends && (is_certificate(name) || self.claims.has(name))
    }

    /// Between a near and a far end: nothing is taken out but what is of a connection.
    pub fn of_near_ends() -> Self {
        Self {
            underscores: true,
            ambiguous_paths: true,
            claims: FieldNames::default(),
            of_near_ends: true,
            ..Self::default()
        }
    }
}

/// The fields of RFC 9440, however they are spelt.
fn is_certificate(name: &str) -> bool {
    let begins = b"client-cert"
        .iter()
        .zip(name.bytes())
        .all(|(known, byte)| *known == byte || *known == b'-' && byte == b'_');
    begins && matches!(name.len(), 11 | 17) && matches!(name.get(11..), Some("" | "-chain" | "_chain"))
}

/// Names of fields, each with `*` at its end for all that begin alike. `_` in a field's name is
/// taken for `-`, as CGI and its successors do (RFC 3875 section 4.1.18).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldNames {
    /// Lower case; whether more may follow.
    names: Vec<(Box<str>, bool)>,
    /// A bit for each letter that a name begins with: most fields are none of the list by their
    /// first letter.
    first: u128,
}

impl FieldNames {
    fn of(names: &[&str]) -> Self {
        // Written here, and read by a test.
        names.iter().filter_map(|name| Self::one(name)).collect()
    }

    fn one(text: &str) -> Option<(Box<str>, bool)> {
        let (name, more) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name.as_str().replace('_', "-").into(), more))
    }

    /// Whether the field `name`, in lower case, is one of these.
    pub fn has(&self, name: &str) -> bool {
        let Some(first) = name.bytes().next().filter(u8::is_ascii) else {
            return false;
        };
        self.first & (1 << first) != 0
            && self.names.iter().any(|(known, more)| {
                (known.len() == name.len() || *more && known.len() < name.len())
                    && known
                        .bytes()
                        .zip(name.bytes())
                        .all(|(k, n)| k == n || k == b'-' && n == b'_')
            })
    }
}

impl FromIterator<(Box<str>, bool)> for FieldNames {
    fn from_iter<I: IntoIterator<Item = (Box<str>, bool)>>(names: I) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        let letters = names
            .iter()
            .filter_map(|(name, _)| name.bytes().next().filter(u8::is_ascii));
        let first = letters.fold(0, |bits, letter| bits | 1 << letter);
        Self { names, first }
    }
}

impl<'de> Deserialize<'de> for FieldNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let name = |text: &String| {
            let wrong = || {
                D::Error::custom(format!(
                    "\"{text}\" is not a field's name; write \"X-Client-IP\" or \"X-SSL-*\""
                ))
            };
            Self::one(text).ok_or_else(wrong)
        };
        texts.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client could show the origin a certificate that it does not have.
    #[test]
    fn what_is_taken_out_always() {
        let requests = toml::from_str::<Requests>("claims = []\nunderscores = true").unwrap();
        for name in [
            "client-cert",
            "client_cert",
            "client-cert-chain",
            "client_cert_chain",
            "client_cert-chain",
            "proxy",
        ] {
            assert!(requests.drops(name), "{name}");
        }
        for name in ["client-certs", "client-cert-chain2", "proxy-x", "a_b", "x-client-ip"] {
            assert!(!requests.drops(name), "{name}");
        }
        assert!(Requests::default().drops("a_b") && Requests::default().drops("x_client_ip"));
        assert!(!Requests::of_near_ends().drops("client-cert") && Requests::of_near_ends().drops("proxy"));
    }

    /// A client could say who it is, by a spelling that the list has not; or an innocent field
    /// would be lost.
    #[test]
    fn names_and_their_spellings() {
        let read = |text: &str| toml::from_str::<Requests>(text);
        let list = read("claims = [\"X-Client-IP\", \"x-ssl-*\", \"CF-Connecting-IP\"]")
            .unwrap()
            .claims;
        for name in [
            "x-client-ip",
            "x_client_ip",
            "x-client_ip",
            "x-ssl-verify",
            "x_ssl_s_dn",
            "cf-connecting-ip",
        ] {
            assert!(list.has(name), "{name}");
        }
        for name in ["x-client-ip2", "x-client-i", "x-ss", "accept", "x.client.ip", ""] {
            assert!(!list.has(name), "{name}");
        }
        assert!(
            read("claims = [\"a b\"]")
                .unwrap_err()
                .to_string()
                .contains("\"a b\" is not a field's name")
        );
        assert!(read("claims = [\"*\"]").is_err());
        assert_eq!(read("").unwrap(), Requests::default());
        assert!(Requests::default().trailers.has("grpc-status") && !Requests::default().trailers.has("x-sum"));
        assert_eq!(
            (
                Requests::default().claims.names.len(),
                Requests::default().trailers.names.len()
            ),
            (10, 11)
        );
    }
}
