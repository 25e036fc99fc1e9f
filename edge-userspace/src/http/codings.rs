//! Content codings that a request accepts (`Accept-Encoding`, RFC 9110 section 12.5.3). `delta`
//! chooses a coding by it and checks what comes over the hop, `cache` tells variants apart by it
//! and checks what origins answer, `origin` chooses among the forms of a file. Pure.

use http::header::{self, HeaderMap};

use crate::config::coding::Encoding;

/// Codings of one field that are read; the rest is ignored.
const MOST: usize = 64;
/// Codings that a variant may be told apart by, in the order of [`Accepted::normal`]. A response in
/// another coding that varies by `Accept-Encoding` has no normal form.
const KNOWN: [&str; 8] = ["br", "compress", "dcb", "dcz", "deflate", "gzip", "identity", "zstd"];

/// What one request says of codings: each with its weight in thousandths (RFC 9110 section 12.4.2).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    listed: Vec<(String, u16)>,
    /// The request has the field.
    said: bool,
}

impl Accepted {
    /// Reads the field, of several lines too.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut this = Self::default();
        for line in headers.get_all(header::ACCEPT_ENCODING) {
            this.said = true;
            for element in line.as_bytes().split(|b| *b == b',') {
                let Ok(element) = std::str::from_utf8(element) else {
                    continue;
                };
                let mut parts = element.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default();
                if name.is_empty() || this.listed.len() >= MOST {
                    continue;
                }
                let weight = parts.find_map(|parameter| {
                    let (name, value) = parameter.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
                });
                let name = plain(&name.to_ascii_lowercase()).to_owned();
                this.listed.push((name, weight.unwrap_or(1_000)));
            }
        }
        this
    }

    /// The weight that the field gives to `coding` by its own name; `None`: it is not listed.
    pub fn listed(&self, coding: &str) -> Option<u16> {
        let mut all = self.listed.iter();
        all.find(|(known, _)| known == coding).map(|(_, weight)| *weight)
    }

    /// The weight of `coding`; 0: not acceptable. Without the field nothing but identity is, for
    /// who does not ask gets what everybody can read.
    pub fn weight(&self, coding: &str) -> u16 {
        match self.listed(coding) {
            Some(weight) => weight,
            // A dictionary's coding is only for who names it: `*` cannot mean that the client has
            // the dictionary.
            None if matches!(coding, "dcz" | "dcb") => 0,
            None if coding == "identity" => self.listed("*").filter(|weight| *weight == 0).unwrap_or(1),
            None => self.listed("*").unwrap_or(0),
        }
    }

    /// The best of `ours`: the client's weight decides, then our order. `None`: identity is as good
    /// or better.
    pub fn choose(&self, ours: &[Encoding]) -> Option<Encoding> {
        let mut best: Option<(Encoding, u16)> = None;
        for encoding in ours {
            let weight = self.weight(token(*encoding));
            if weight > best.map_or(0, |(_, weight)| weight) {
                best = Some((*encoding, weight));
            }
        }
        let (encoding, weight) = best?;
        let identity = self.listed("identity");
        identity.is_none_or(|own| weight >= own).then_some(encoding)
    }

    /// Whether the request takes a response with `fields`, as its `Content-Encoding` says. Without
    /// the field any coding is acceptable (RFC 9110 section 12.5.3), but none that needs a
    /// dictionary.
    pub fn admits(&self, fields: &HeaderMap) -> bool {
        codings(fields).all(|coding| match coding.as_str() {
            "identity" => true,
            "dcz" | "dcb" => self.weight(&coding) > 0,
            _ => !self.said || self.weight(&coding) > 0,
        })
    }

    /// The field in the form that tells variants apart: the known codings it accepts, whatever
    /// their spelling, order and weights. `None`: there is no field.
    pub fn normal(&self) -> Option<Vec<u8>> {
        let accepted: Vec<&str> = KNOWN.into_iter().filter(|coding| self.weight(coding) > 0).collect();
        self.said.then(|| accepted.join(",").into_bytes())
    }
}

/// A token of the registry of content codings.
pub fn token(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Zstd => "zstd",
        Encoding::Br => "br",
        Encoding::Gzip => "gzip",
    }
}

/// The codings of a response, in lower case, in the order in which they were applied.
pub fn codings(fields: &HeaderMap) -> impl Iterator<Item = String> {
    fields.get_all(header::CONTENT_ENCODING).iter().flat_map(|line| {
        line.as_bytes()
            .split(|b| *b == b',')
            .map(|name| plain(&String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase()).to_owned())
            .filter(|name| !name.is_empty())
    })
}

/// Whether all codings of a response are ones that [`Accepted::normal`] tells apart.
pub fn known(fields: &HeaderMap) -> bool {
    codings(fields).all(|coding| KNOWN.contains(&coding.as_str()))
}

/// RFC 9110 sections 8.4.1.1 and 8.4.1.3: two names of one coding.
fn plain(name: &str) -> &str {
    match name {
        "x-gzip" => "gzip",
        "x-compress" => "compress",
        other => other,
    }
}

/// `0.5` is 500; what is not a weight is 0.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        Accepted::of(&headers)
    }

    fn coded(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, value.parse().unwrap());
        headers
    }

    /// One spelling for each variant: otherwise browsers' orders and weights use up the variants of
    /// a URL.
    #[test]
    fn normal_forms() {
        let normal = |value: &str| String::from_utf8(accepted(value).normal().unwrap()).unwrap();
        for same in [
            "gzip, br",
            "br,gzip",
            "BR;q=0.5 , x-gzip",
            "gzip, br, made-up-1",
            "gzip,br,zstd;q=0",
        ] {
            assert_eq!(normal(same), "br,gzip,identity", "{same}");
        }
        assert_eq!(normal(""), "identity");
        assert_eq!(normal("gzip, identity;q=0"), "gzip");
        assert_eq!(normal("gzip, *;q=0"), "gzip");
        assert_eq!(normal("*"), "br,compress,deflate,gzip,identity,zstd");
        assert_eq!(Accepted::default().normal(), None);
    }

    /// A coding that a client did not list is a page that it cannot read.
    #[test]
    fn admits_what_is_listed() {
        assert!(accepted("gzip").admits(&coded("x-gzip")));
        assert!(accepted("gzip, br").admits(&coded("gzip, br")));
        assert!(!accepted("gzip").admits(&coded("gzip, br")));
        assert!(!accepted("gzip, deflate, br").admits(&coded("zstd")));
        assert!(!accepted("*").admits(&coded("dcz")));
        assert!(!accepted("gzip;q=0, *").admits(&coded("gzip")));
        assert!(accepted("identity").admits(&HeaderMap::new()));
        assert!(Accepted::default().admits(&coded("br")));
        assert!(!Accepted::default().admits(&coded("dcb")));
        assert!(known(&coded("gzip")) && !known(&coded("exi")));
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
}
