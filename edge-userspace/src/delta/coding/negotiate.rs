//! Which coding a client takes, and which responses may be coded. Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};

use crate::config::coding::{Coding, Encoding};

/// Codings listed in a field; what follows more than that is not read.
const MOST: usize = 64;

/// A token of the registry of content codings.
pub fn token(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Zstd => "zstd",
        Encoding::Br => "br",
        Encoding::Gzip => "gzip",
    }
}

/// What `Accept-Encoding` says of codings: each with its weight in thousandths (RFC 9110 sections 12.4.2 and 12.5.3).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted(Vec<(String, u16)>);

impl Accepted {
    /// Reads the field. Without one everything would do, but who does not ask gets what everybody can read.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut list = Vec::new();
        for line in headers.get_all(header::ACCEPT_ENCODING) {
            for element in line.as_bytes().split(|b| *b == b',') {
                let Ok(element) = std::str::from_utf8(element) else {
                    continue;
                };
                let mut parts = element.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                if name.is_empty() || list.len() >= MOST {
                    continue;
                }
                let weight = parts.find_map(|parameter| {
                    let (name, value) = parameter.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
                });
                list.push((name.to_ascii_lowercase(), weight.unwrap_or(1_000)));
            }
        }
        Self(list)
    }

    /// The weight of `coding`; 0: not acceptable.
    pub fn weight(&self, coding: &str) -> u16 {
        let named = |name: &str| {
            self.0
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, weight)| *weight)
        };
        let alias = (coding == "gzip").then(|| named("x-gzip")).flatten();
        match named(coding).or(alias) {
            Some(weight) => weight,
            // A dictionary's coding is only for who names it: `*` cannot mean that the client has the dictionary.
            None if matches!(coding, "dcz" | "dcb") => 0,
            None if coding == "identity" => named("*").filter(|weight| *weight == 0).unwrap_or(1),
            None => named("*").unwrap_or(0),
        }
    }

    /// The best of `ours`: the client's weight decides, then our order. `None`: identity is as good or better.
    pub fn choose(&self, ours: &[Encoding]) -> Option<Encoding> {
        let mut best: Option<(Encoding, u16)> = None;
        for encoding in ours {
            let weight = self.weight(token(*encoding));
            if weight > best.map_or(0, |(_, weight)| weight) {
                best = Some((*encoding, weight));
            }
        }
        let (encoding, weight) = best?;
        let identity = self.0.iter().find(|(name, _)| name == "identity");
        identity.is_none_or(|(_, own)| weight >= *own).then_some(encoding)
    }
}

/// `0.5` is 500; what is no weight is 0.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let sound = matches!(whole, "0" | "1") && fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let fraction: u16 = format!("{fraction:0<3}").parse().unwrap_or(0);
    match (sound, whole) {
        (true, "1") => 1_000,
        (true, _) => fraction,
        _ => 0,
    }
}

/// Whether a response is one whose coding may be chosen: it has content that a coding can be applied to, of a kind that shrinks.
pub(in super::super) fn codable(head: &response::Parts, zone: &Coding) -> bool {
    let status = head.status;
    let content = !(status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        ));
    content
        && !head.headers.contains_key(header::CONTENT_ENCODING)
        && !head.headers.contains_key(header::CONTENT_RANGE)
        && !says(&head.headers, "no-transform")
        && shrinks(&head.headers, zone)
}

/// Whether the content's type is one that is coded.
pub(in super::super) fn shrinks(headers: &HeaderMap, zone: &Coding) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Events must not wait for a coding's buffer, not even where `text/*` is written.
    kind != "text/event-stream"
        && zone.types.iter().any(|known| match known.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => *known == kind,
        })
}

/// Whether `Cache-Control` has a directive of this name.
pub(in super::super) fn says(headers: &HeaderMap, directive: &str) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|line| {
        line.as_bytes().split(|b| *b == b',').any(|part| {
            let name = part.split(|b| *b == b'=').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(directive.as_bytes())
        })
    })
}

/// Adds names to `Vary`, each once.
pub(in super::super) fn vary(headers: &mut HeaderMap, names: &[&'static str]) {
    for name in names {
        let known = headers.get_all(header::VARY).iter().any(|line| {
            line.as_bytes()
                .split(|b| *b == b',')
                .map(<[u8]>::trim_ascii)
                .any(|known| known == b"*" || known.eq_ignore_ascii_case(name.as_bytes()))
        });
        if !known {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
    }
}

/// Marks the response as coded: other bytes under the same name. The entity tag gets weak (RFC 9110 section 8.8.3.3), and what
/// told of the old bytes goes.
pub(in super::super) fn mark(headers: &mut HeaderMap, coding: &'static str) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    for name in [
        header::CONTENT_LENGTH,
        header::ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
        HeaderName::from_static("digest"),
    ] {
        headers.remove(name);
    }
    weaken(headers);
}

/// Makes a strong entity tag weak.
pub(in super::super) fn weaken(headers: &mut HeaderMap) {
    if let Some(etag) = headers.get(header::ETAG)
        && !etag.as_bytes().starts_with(b"W/")
    {
        let weak = [b"W/", etag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            headers.insert(header::ETAG, weak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        Accepted::of(&headers)
    }

    /// A coding the client cannot read is a page it cannot show.
    #[test]
    fn choices() {
        let ours = [Encoding::Zstd, Encoding::Br, Encoding::Gzip];
        let choose = |value: &str| accepted(value).choose(&ours).map(token);
        assert_eq!(choose("gzip, deflate, br, zstd"), Some("zstd"));
        assert_eq!(choose("gzip, br;q=0.9"), Some("gzip"));
        assert_eq!(choose("br;q=0, gzip;q=0.001"), Some("gzip"));
        assert_eq!(choose("X-GZIP"), Some("gzip"));
        assert_eq!(choose("*"), Some("zstd"));
        assert_eq!(choose("*;q=0.5, zstd;q=0"), Some("br"));
        assert_eq!(choose("identity, gzip;q=0.5"), None);
        for none in [
            "",
            "identity",
            "deflate",
            "gzip;q=0",
            "*;q=0",
            "gzip;q=2",
            "gzip;q=x",
            "gzip;q=0.0001",
        ] {
            assert_eq!(choose(none), None, "{none}");
        }
        assert_eq!(Accepted::of(&HeaderMap::new()).choose(&ours), None);
        assert_eq!(accepted("*").weight("dcz"), 0);
        assert_eq!(accepted("dcz").weight("dcz"), 1_000);
    }

    /// Ranges of one coding joined to those of another make a broken file: tags of coded content are weak.
    #[test]
    fn marks() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, "\"a\"".parse().unwrap());
        headers.insert(header::CONTENT_LENGTH, 5.into());
        headers.insert(header::VARY, "Accept-Encoding, x".parse().unwrap());
        mark(&mut headers, "br");
        vary(&mut headers, &["accept-encoding", "available-dictionary"]);
        assert_eq!(headers[header::ETAG], "W/\"a\"");
        assert!(!headers.contains_key(header::CONTENT_LENGTH));
        assert_eq!(headers.get_all(header::VARY).iter().count(), 2);
        weaken(&mut headers);
        assert_eq!(headers[header::ETAG], "W/\"a\"");
    }
}
