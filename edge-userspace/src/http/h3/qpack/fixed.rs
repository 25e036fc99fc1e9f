//! QPACK's static table (RFC 9204 appendix A), and names of fields as decoders keep them.

use http::HeaderName;

/// The pseudo-header fields that there are (RFC 9114 section 4.3, RFC 9220).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// `:authority`.
    Authority,
    /// `:path`.
    Path,
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:protocol`.
    Protocol,
    /// `:status`.
    Status,
}

/// A field's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Begins with a colon.
    Pseudo(Pseudo),
    /// In lower case, and a token.
    Field(HeaderName),
    /// Nobody may send it; its bytes.
    Unsound(usize),
}

impl Name {
    /// What `bytes` name. A name in capitals is unsound (RFC 9114 section 4.2).
    pub fn read(bytes: &[u8]) -> Self {
        match bytes {
            b":authority" => Self::Pseudo(Pseudo::Authority),
            b":path" => Self::Pseudo(Pseudo::Path),
            b":method" => Self::Pseudo(Pseudo::Method),
            b":scheme" => Self::Pseudo(Pseudo::Scheme),
            b":protocol" => Self::Pseudo(Pseudo::Protocol),
            b":status" => Self::Pseudo(Pseudo::Status),
            _ => HeaderName::from_lowercase(bytes).map_or(Self::Unsound(bytes.len()), Self::Field),
        }
    }

    /// Bytes of it.
    pub fn length(&self) -> usize {
        match self {
            Self::Pseudo(Pseudo::Authority) => 10,
            Self::Pseudo(Pseudo::Protocol) => 9,
            Self::Pseudo(Pseudo::Method | Pseudo::Scheme | Pseudo::Status) => 7,
            Self::Pseudo(Pseudo::Path) => 5,
            Self::Field(name) => name.as_str().len(),
            Self::Unsound(length) => *length,
        }
    }
}

const fn field(name: &'static str) -> Name {
    Name::Field(HeaderName::from_static(name))
}

const fn pseudo(pseudo: Pseudo) -> Name {
    Name::Pseudo(pseudo)
}

/// The entry at `index`.
pub fn entry(index: u64) -> Option<&'static (Name, &'static str)> {
    ENTRIES.get(usize::try_from(index).ok()?)
}

/// Where `name` is in the table, with `value` if it is there with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Name and value.
    Line(u8),
    /// The name alone.
    Name(u8),
}

/// Finds a field of a response.
pub fn find(name: &str, value: &[u8]) -> Option<Found> {
    let (_, places) = NAMES
        .binary_search_by(|(known, _)| known.cmp(&name))
        .ok()
        .and_then(|at| NAMES.get(at))?;
    let line = places
        .iter()
        .find(|place| entry(u64::from(**place)).is_some_and(|(_, known)| known.as_bytes() == value));
    line.copied()
        .map(Found::Line)
        .or_else(|| places.first().copied().map(Found::Name))
}

/// Where a response's status is.
pub fn status(status: &str) -> Found {
    let places = (24..=28).chain(63..=71);
    let mut lines = places.filter(|place| entry(u64::from(*place)).is_some_and(|(_, known)| *known == status));
    lines.next().map_or(Found::Name(24), Found::Line)
}

static ENTRIES: [(Name, &str); 99] = [
    (pseudo(Pseudo::Authority), ""),
    (pseudo(Pseudo::Path), "/"),
    (field("age"), "0"),
    (field("content-disposition"), ""),
    (field("content-length"), "0"),
    (field("cookie"), ""),
    (field("date"), ""),
    (field("etag"), ""),
    (field("if-modified-since"), ""),
    (field("if-none-match"), ""),
    (field("last-modified"), ""),
    (field("link"), ""),
    (field("location"), ""),
    (field("referer"), ""),
    (field("set-cookie"), ""),
    (pseudo(Pseudo::Method), "CONNECT"),
    (pseudo(Pseudo::Method), "DELETE"),
    (pseudo(Pseudo::Method), "GET"),
    (pseudo(Pseudo::Method), "HEAD"),
    (pseudo(Pseudo::Method), "OPTIONS"),
    (pseudo(Pseudo::Method), "POST"),
    (pseudo(Pseudo::Method), "PUT"),
    (pseudo(Pseudo::Scheme), "http"),
    (pseudo(Pseudo::Scheme), "https"),
    (pseudo(Pseudo::Status), "103"),
    (pseudo(Pseudo::Status), "200"),
    (pseudo(Pseudo::Status), "304"),
    (pseudo(Pseudo::Status), "404"),
    (pseudo(Pseudo::Status), "503"),
    (field("accept"), "*/*"),
    (field("accept"), "application/dns-message"),
    (field("accept-encoding"), "gzip, deflate, br"),
    (field("accept-ranges"), "bytes"),
    (field("access-control-allow-headers"), "cache-control"),
    (field("access-control-allow-headers"), "content-type"),
    (field("access-control-allow-origin"), "*"),
    (field("cache-control"), "max-age=0"),
    (field("cache-control"), "max-age=2592000"),
    (field("cache-control"), "max-age=604800"),
    (field("cache-control"), "no-cache"),
    (field("cache-control"), "no-store"),
    (field("cache-control"), "public, max-age=31536000"),
    (field("content-encoding"), "br"),
    (field("content-encoding"), "gzip"),
    (field("content-type"), "application/dns-message"),
    (field("content-type"), "application/javascript"),
    (field("content-type"), "application/json"),
    (field("content-type"), "application/x-www-form-urlencoded"),
    (field("content-type"), "image/gif"),
    (field("content-type"), "image/jpeg"),
    (field("content-type"), "image/png"),
    (field("content-type"), "text/css"),
    (field("content-type"), "text/html; charset=utf-8"),
    (field("content-type"), "text/plain"),
    (field("content-type"), "text/plain;charset=utf-8"),
    (field("range"), "bytes=0-"),
    (field("strict-transport-security"), "max-age=31536000"),
    (
        field("strict-transport-security"),
        "max-age=31536000; includesubdomains",
    ),
    (
        field("strict-transport-security"),
        "max-age=31536000; includesubdomains; preload",
    ),
    (field("vary"), "accept-encoding"),
    (field("vary"), "origin"),
    (field("x-content-type-options"), "nosniff"),
    (field("x-xss-protection"), "1; mode=block"),
    (pseudo(Pseudo::Status), "100"),
    (pseudo(Pseudo::Status), "204"),
    (pseudo(Pseudo::Status), "206"),
    (pseudo(Pseudo::Status), "302"),
    (pseudo(Pseudo::Status), "400"),
    (pseudo(Pseudo::Status), "403"),
    (pseudo(Pseudo::Status), "421"),
    (pseudo(Pseudo::Status), "425"),
    (pseudo(Pseudo::Status), "500"),
    (field("accept-language"), ""),
    (field("access-control-allow-credentials"), "FALSE"),
    (field("access-control-allow-credentials"), "TRUE"),
    (field("access-control-allow-headers"), "*"),
    (field("access-control-allow-methods"), "get"),
    (field("access-control-allow-methods"), "get, post, options"),
    (field("access-control-allow-methods"), "options"),
    (field("access-control-expose-headers"), "content-length"),
    (field("access-control-request-headers"), "content-type"),
    (field("access-control-request-method"), "get"),
    (field("access-control-request-method"), "post"),
    (field("alt-svc"), "clear"),
    (field("authorization"), ""),
    (
        field("content-security-policy"),
        "script-src 'none'; object-src 'none'; base-uri 'none'",
    ),
    (field("early-data"), "1"),
    (field("expect-ct"), ""),
    (field("forwarded"), ""),
    (field("if-range"), ""),
    (field("origin"), ""),
    (field("purpose"), "prefetch"),
    (field("server"), ""),
    (field("timing-allow-origin"), "*"),
    (field("upgrade-insecure-requests"), "1"),
    (field("user-agent"), ""),
    (field("x-forwarded-for"), ""),
    (field("x-frame-options"), "deny"),
    (field("x-frame-options"), "sameorigin"),
];

/// The places of each name that a response may have, by name.
static NAMES: [(&str, &[u8]); 47] = [
    ("accept", &[29, 30]),
    ("accept-encoding", &[31]),
    ("accept-language", &[72]),
    ("accept-ranges", &[32]),
    ("access-control-allow-credentials", &[73, 74]),
    ("access-control-allow-headers", &[33, 34, 75]),
    ("access-control-allow-methods", &[76, 77, 78]),
    ("access-control-allow-origin", &[35]),
    ("access-control-expose-headers", &[79]),
    ("access-control-request-headers", &[80]),
    ("access-control-request-method", &[81, 82]),
    ("age", &[2]),
    ("alt-svc", &[83]),
    ("authorization", &[84]),
    ("cache-control", &[36, 37, 38, 39, 40, 41]),
    ("content-disposition", &[3]),
    ("content-encoding", &[42, 43]),
    ("content-length", &[4]),
    ("content-security-policy", &[85]),
    ("content-type", &[44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54]),
    ("cookie", &[5]),
    ("date", &[6]),
    ("early-data", &[86]),
    ("etag", &[7]),
    ("expect-ct", &[87]),
    ("forwarded", &[88]),
    ("if-modified-since", &[8]),
    ("if-none-match", &[9]),
    ("if-range", &[89]),
    ("last-modified", &[10]),
    ("link", &[11]),
    ("location", &[12]),
    ("origin", &[90]),
    ("purpose", &[91]),
    ("range", &[55]),
    ("referer", &[13]),
    ("server", &[92]),
    ("set-cookie", &[14]),
    ("strict-transport-security", &[56, 57, 58]),
    ("timing-allow-origin", &[93]),
    ("upgrade-insecure-requests", &[94]),
    ("user-agent", &[95]),
    ("vary", &[59, 60]),
    ("x-content-type-options", &[61]),
    ("x-forwarded-for", &[96]),
    ("x-frame-options", &[97, 98]),
    ("x-xss-protection", &[62]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A client would be told another field than was meant.
    #[test]
    fn what_is_found_is_there() {
        let mut places = 0;
        for (name, known) in &NAMES {
            for place in *known {
                let (entry, value) = entry(u64::from(*place)).unwrap();
                assert_eq!(*entry, Name::Field(HeaderName::from_static(name)));
                assert_eq!(find(name, value.as_bytes()), Some(Found::Line(*place)));
                places += 1;
            }
        }
        assert_eq!(places + 25, ENTRIES.len(), "all but the pseudo-header fields");
        assert_eq!(find("server", b"x"), Some(Found::Name(92)));
        assert_eq!(find("x-other", b"x"), None);
        assert_eq!(
            (status("200"), status("503"), status("201")),
            (Found::Line(25), Found::Line(28), Found::Name(24))
        );
        for (name, _) in &ENTRIES {
            let text = match name {
                Name::Field(name) => name.as_str().to_owned(),
                Name::Pseudo(pseudo) => format!(":{}", format!("{pseudo:?}").to_lowercase()),
                Name::Unsound(_) => panic!("unsound"),
            };
            assert_eq!(Name::read(text.as_bytes()), *name);
            assert_eq!(name.length(), text.len());
        }
        assert_eq!(Name::read(b"X-Upper"), Name::Unsound(7));
        assert_eq!(Name::read(b":other"), Name::Unsound(6));
    }
}
