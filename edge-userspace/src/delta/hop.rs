//! What near and far end say to each other beside RFC 9842: one field, `Edge-Delta`, in requests
//! and answers. Pure. Neither end lets it through from or to others: a client that wrote it, or an
//! origin that did, would speak in an end's place.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::digest::{AVAILABLE_DICTIONARY, Digest, REPR_DIGEST};
use crate::http::fields;
use crate::http::handler::Reason;

/// The hop's own field.
const EDGE_DELTA: HeaderName = HeaderName::from_static("edge-delta");
/// Where the far end puts the origin's own `Repr-Digest`.
const ORIGINS_DIGEST: HeaderName = HeaderName::from_static("edge-origin-repr-digest");

/// A near end's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The version it has.
    pub(super) version: Option<Digest>,
    /// It may keep what says `no-store`, in memory and only to refer to.
    pub(super) no_store: bool,
}

/// A far end's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Content, in a coding of the hop.
    Content(Content),
    /// The origin gave no answer that can be passed on.
    Failed(Reason),
}

/// Content as the hop carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) coding: Coding,
    /// Bytes, once the coding is undone.
    pub(super) length: u64,
    /// Of these bytes.
    pub(super) digest: Digest,
    /// The far end keeps this version; a request may name it.
    pub(super) keep: bool,
}

/// How content is coded on the hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Coding {
    /// Not at all: the version that was named is the current one.
    Same,
    /// What changed since the version that was named.
    Dcz,
    /// Whole, compressed.
    Zstd,
    /// Whole, as it is.
    Identity,
}

impl Coding {
    /// The label in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Dcz => "dcz",
            Self::Zstd => "zstd",
            Self::Identity => "identity",
        }
    }
}

/// Codings that the near end asks for on the hop, in place of what the client takes.
pub(super) const CODINGS: [&str; 2] = ["dcz", "zstd"];

/// Takes what is the hop's out of a message of somebody else.
pub(super) fn strip(headers: &mut HeaderMap) {
    headers.remove(EDGE_DELTA);
    headers.remove(ORIGINS_DIGEST);
}

impl Ask {
    /// Writes it into a request, in place of what the client accepts.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        strip(headers);
        let accepts = match &self.version {
            Some(version) => {
                headers.insert(AVAILABLE_DICTIONARY, version.available_dictionary());
                "dcz, zstd"
            }
            None => {
                headers.remove(AVAILABLE_DICTIONARY);
                "zstd"
            }
        };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepts));
        let ask = if self.no_store { "1;no-store" } else { "1" };
        headers.insert(EDGE_DELTA, HeaderValue::from_static(ask));
    }

    /// Takes it out of a request, which then asks an origin for content as it is. `None`: not a
    /// near end's question, and nothing but the hop's own fields is changed.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let ask = headers.remove(EDGE_DELTA);
        headers.remove(ORIGINS_DIGEST);
        let no_store = match ask.as_ref()?.as_bytes() {
            b"1" => false,
            b"1;no-store" => true,
            _ => return None,
        };
        let version = Digest::available(headers);
        headers.remove(AVAILABLE_DICTIONARY);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Some(Self { version, no_store })
    }
}

impl Content {
    /// Writes it into the head of an answer, whose other fields are the origin's.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        strip(headers);
        let keep = if self.keep { ";keep" } else { "" };
        let text = format!("{};length={}{keep}", self.coding.label(), self.length);
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)) {
            headers.insert(EDGE_DELTA, value);
        }
        headers.remove(header::CONTENT_LENGTH);
        if let Some(value) = headers.remove(REPR_DIGEST) {
            headers.insert(ORIGINS_DIGEST, value);
        }
        headers.insert(REPR_DIGEST, self.digest.repr_digest());
        match self.coding {
            Coding::Dcz => drop(headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("dcz"))),
            Coding::Zstd => drop(headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"))),
            Coding::Same | Coding::Identity => {}
        }
    }
}

/// Marks an answer of the far end's own, for `reason`.
pub(super) fn failed(headers: &mut HeaderMap, reason: Reason) {
    let text = match reason {
        Reason::OriginTimeout => "failed;origin_timeout",
        Reason::OriginMalformed => "failed;origin_malformed",
        Reason::Overload => "failed;overload",
        _ => "failed;origin_unreachable",
    };
    headers.insert(EDGE_DELTA, HeaderValue::from_static(text));
}

impl Told {
    /// Takes it out of an answer's head, which is then the origin's again but for `Content-Length`.
    /// `Ok(None)`: not a far end's answer to a question, but the origin's as it was.
    ///
    /// # Errors
    /// The fields contradict each other: nothing of the answer can be used.
    pub(super) fn take(headers: &mut HeaderMap) -> Result<Option<Self>, Nonsense> {
        let Some(told) = headers.remove(EDGE_DELTA) else {
            headers.remove(ORIGINS_DIGEST);
            return Ok(None);
        };
        let mut words = told.as_bytes().split(|b| *b == b';');
        let coding = match words.next() {
            Some(b"same") => Coding::Same,
            Some(b"dcz") => Coding::Dcz,
            Some(b"zstd") => Coding::Zstd,
            Some(b"identity") => Coding::Identity,
            Some(b"failed") => {
                return Ok(Some(Self::Failed(match words.next() {
                    Some(b"origin_timeout") => Reason::OriginTimeout,
                    Some(b"origin_malformed") => Reason::OriginMalformed,
                    Some(b"overload") => Reason::Overload,
                    _ => Reason::OriginUnreachable,
                })));
            }
            _ => return Err(Nonsense),
        };
        let mut length = None;
        let mut keep = false;
        for word in words {
            match word.strip_prefix(b"length=") {
                Some(digits) => length = fields::number(digits),
                None => keep |= word == b"keep",
            }
        }
        let digest = Digest::represented(headers).ok_or(Nonsense)?;
        let coded = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let fits = match coding {
            Coding::Dcz => coded == Some(b"dcz"),
            Coding::Zstd => coded == Some(b"zstd"),
            Coding::Same | Coding::Identity => coded.is_none(),
        };
        if !fits {
            return Err(Nonsense);
        }
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(REPR_DIGEST);
        if let Some(value) = headers.remove(ORIGINS_DIGEST) {
            headers.insert(REPR_DIGEST, value);
        }
        Ok(Some(Self::Content(Content {
            coding,
            length: length.ok_or(Nonsense)?,
            digest,
            keep,
        })))
    }
}

/// The far end's: an answer that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the far end's answer contradicts itself")]
pub(super) struct Nonsense;

#[cfg(test)]
mod tests {
    use super::*;

    /// What one end writes the other reads, and the origin's own fields come out as they went in.
    #[test]
    fn there_and_back() {
        let digest = Digest::of(b"x");
        for version in [None, Some(digest)] {
            for no_store in [false, true] {
                let mut headers = HeaderMap::new();
                headers.insert(AVAILABLE_DICTIONARY, HeaderValue::from_static("the client's"));
                let ask = Ask { version, no_store };
                ask.write(&mut headers);
                assert_eq!(Ask::take(&mut headers), Some(ask));
                assert_eq!(headers.len(), 1);
                assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
            }
        }
        for coding in [Coding::Same, Coding::Dcz, Coding::Zstd, Coding::Identity] {
            let content = Content {
                coding,
                length: 7,
                digest,
                keep: coding == Coding::Dcz,
            };
            let mut headers = HeaderMap::new();
            headers.insert(header::ETAG, HeaderValue::from_static("\"1\""));
            headers.insert(REPR_DIGEST, HeaderValue::from_static("sha-512=:AA==:"));
            let before = headers.clone();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
            content.write(&mut headers);
            assert_eq!(Told::take(&mut headers), Ok(Some(Told::Content(content))));
            assert_eq!(headers, before);
        }
        let mut headers = HeaderMap::new();
        failed(&mut headers, Reason::OriginTimeout);
        assert_eq!(Told::take(&mut headers), Ok(Some(Told::Failed(Reason::OriginTimeout))));
    }

    /// An answer whose fields contradict each other is refused, not guessed at.
    #[test]
    fn nonsense() {
        let digest = Digest::of(b"x");
        let take = |told: &str, coded: Option<&str>, digested: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(EDGE_DELTA, HeaderValue::from_str(told).unwrap());
            if let Some(coded) = coded {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(coded).unwrap());
            }
            if digested {
                headers.insert(REPR_DIGEST, digest.repr_digest());
            }
            Told::take(&mut headers)
        };
        assert!(take("dcz;length=1", Some("dcz"), true).is_ok());
        for (told, coded, digested) in [
            ("dcz;length=1", Some("dcz"), false),
            ("dcz;length=1", None, true),
            ("dcz;length=1", Some("gzip"), true),
            ("dcz", Some("dcz"), true),
            ("dcz;length=-1", Some("dcz"), true),
            ("identity;length=99999999999999999999999", None, true),
            ("identity;length=1", Some("gzip"), true),
            ("what;length=1", None, true),
        ] {
            assert_eq!(take(told, coded, digested), Err(Nonsense), "{told}");
        }
    }
}
