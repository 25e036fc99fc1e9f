//! Field sections of requests as they are decoded: what RFC 9114 sections 4.1.2 to 4.4 allow of
//! pseudo-header fields and others, and a head of the `http` crate's from it. Pure.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request, uri};
use hyper::ext::Protocol;

use super::qpack::decoder::{Enough, Lines};
use super::qpack::fixed::{Name, Pseudo};
use super::qpack::table::size;
use crate::http::fields;
use crate::http::framing::Refusal;
use crate::http::websocket;

/// Fields that belong to a connection of HTTP/1.
const OF_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A message that RFC 9114 section 4.1.2 calls malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The lines of one section, as far as they are sound: after an unsound one the others are only
/// counted.
#[derive(Debug)]
pub struct Fields {
    /// Bytes that the section may have, by [`size`].
    most: u64,
    size: u64,
    sound: bool,
    /// A line that is not a pseudo-header field has come, or none may come.
    regular: bool,
    pseudo: [Option<Bytes>; 5],
    fields: HeaderMap,
}

impl Fields {
    /// For a head of at most `most` bytes.
    pub fn head(most: usize) -> Self {
        Self {
            most: most as u64,
            size: 0,
            sound: true,
            regular: false,
            pseudo: [const { None }; 5],
            fields: HeaderMap::new(),
        }
    }

    /// For trailers, among which no pseudo-header fields may be (section 4.3).
    pub fn trailers(most: usize) -> Self {
        Self {
            regular: true,
            ..Self::head(most)
        }
    }

    /// The trailers that they are.
    ///
    /// # Errors
    /// A line is unsound.
    pub fn into_trailers(self) -> Result<HeaderMap, Malformed> {
        if self.sound { Ok(self.fields) } else { Err(Malformed) }
    }

    /// The head that they are: each pseudo-header field that must be there, and none that must not
    /// (sections 4.3.1, 4.4). What the fields say of framing is for [`check`].
    ///
    /// # Errors
    /// It is malformed.
    pub fn into_head(self) -> Result<request::Parts, Malformed> {
        if !self.sound {
            return Err(Malformed);
        }
        let [authority, path, method, scheme, protocol] = self.pseudo;
        let method = Method::from_bytes(&method.ok_or(Malformed)?).map_err(|_| Malformed)?;
        // Extended CONNECT has a scheme and a path (RFC 9220 section 3), any other CONNECT neither.
        let plain = method == Method::CONNECT && protocol.is_none();
        if protocol.is_some() && method != Method::CONNECT {
            return Err(Malformed);
        }
        let mut target = uri::Parts::default();
        target.authority = match (authority, self.fields.get(HOST)) {
            (Some(authority), _) => Some(Authority::from_maybe_shared(authority).map_err(|_| Malformed)?),
            (None, Some(host)) if !plain => Some(Authority::try_from(host.as_bytes()).map_err(|_| Malformed)?),
            (None, _) => return Err(Malformed),
        };
        if plain {
            if scheme.is_some() || path.is_some() {
                return Err(Malformed);
            }
        } else {
            target.scheme = match scheme.as_deref().ok_or(Malformed)? {
                b"https" => Some(Scheme::HTTPS),
                other => Some(Scheme::try_from(other).map_err(|_| Malformed)?),
            };
            // A fragment is no part of it (section 4.3.1), and would be cut off without a word.
            let whole = |path: &Bytes| !path.is_empty() && !path.contains(&b'#');
            let path = path.filter(whole).ok_or(Malformed)?;
            target.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed)?);
        }
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = method;
        head.uri = Uri::from_parts(target).map_err(|_| Malformed)?;
        head.version = Version::HTTP_3;
        head.headers = self.fields;
        // Of the protocols that there are. Another one is a CONNECT that nobody allows.
        if protocol.is_some_and(|protocol| websocket::is_asked(&protocol)) {
            head.extensions.insert(Protocol::from_static("websocket"));
        }
        Ok(head)
    }

    fn pseudo(&mut self, pseudo: Pseudo, value: Bytes) -> bool {
        let place = match pseudo {
            Pseudo::Authority => 0,
            Pseudo::Path => 1,
            Pseudo::Method => 2,
            Pseudo::Scheme => 3,
            Pseudo::Protocol => 4,
            // A response's.
            Pseudo::Status => return false,
        };
        match self.pseudo.get_mut(place) {
            // In front of all others, and once each: an origin could be shown one path and the
            // edge's rules another.
            Some(known) if !self.regular && known.is_none() => *known = Some(value),
            _ => return false,
        }
        true
    }

    fn field(&mut self, name: &HeaderName, value: Bytes) -> Result<bool, Enough> {
        self.regular = true;
        let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        // Section 10.3: a value begins and ends with what can be seen, as over HTTP/2.
        if space(value.first()) || space(value.last()) {
            return Ok(false);
        }
        let Ok(value) = HeaderValue::from_maybe_shared(value) else {
            return Ok(false);
        };
        if self.fields.is_empty() {
            self.fields.reserve(16);
        }
        self.fields.try_append(name, value).map_err(|_| Enough)?;
        Ok(true)
    }
}

impl Lines for Fields {
    fn line(&mut self, name: &Name, value: Bytes) -> Result<(), Enough> {
        self.size = self.size.saturating_add(size(name, value.len()));
        if self.size > self.most {
            return Err(Enough);
        }
        if self.sound {
            self.sound = match name {
                Name::Pseudo(pseudo) => self.pseudo(*pseudo, value),
                Name::Field(name) => self.field(name, value)?,
                Name::Unsound(_) => false,
            };
        }
        Ok(())
    }

    fn room(&self) -> usize {
        usize::try_from(self.most.saturating_sub(self.size)).unwrap_or(usize::MAX)
    }
}

/// Finds framing in a head that HTTP/3 must not have (RFC 9114 section 4.2), or what its
/// `Content-Length` says.
///
/// # Errors
/// What is wrong; the stream ends with H3_MESSAGE_ERROR.
pub fn check(head: &request::Parts) -> Result<Option<u64>, Refusal> {
    let fields = &head.headers;
    if OF_CONNECTION.iter().any(|name| fields.contains_key(name)) {
        return Err(Refusal::TransferEncoding);
    }
    if fields.get_all(TE).iter().any(|te| te.as_bytes() != b"trailers") {
        return Err(Refusal::TransferEncoding);
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(one), None) => Some(fields::number(one.as_bytes()).ok_or(Refusal::ContentLength)?),
        (Some(_), Some(_)) => return Err(Refusal::ContentLength),
    };
    Ok(length)
}

/// Whether the client waits for 100 before it sends content.
pub(super) fn expects_continue(head: &request::Parts) -> bool {
    head.headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Takes away what a response of HTTP/1 may carry and one of HTTP/3 must not.
pub(super) fn strip(fields: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)], mut fields: Fields) -> Fields {
        for (name, value) in lines {
            let value = Bytes::copy_from_slice(value.as_bytes());
            fields.line(&Name::read(name.as_bytes()), value).unwrap();
        }
        fields
    }

    fn head(lines: &[(&str, &str)]) -> Result<request::Parts, Malformed> {
        read(lines, Fields::head(1 << 10)).into_head()
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/b?c"),
    ];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [&GET[..], more].concat()
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        GET.into_iter().filter(|(known, _)| *known != name).collect()
    }

    /// An origin could be shown one path and the edge's rules another.
    #[test]
    fn pseudo_headers_come_once_and_first() {
        let sound = head(&with(&[("x-y", "1")])).unwrap();
        assert_eq!((sound.method, sound.version), (Method::GET, Version::HTTP_3));
        assert_eq!(sound.uri.to_string(), "https://a.example/b?c");
        assert_eq!(sound.headers["x-y"], "1");
        let host = [&without(":authority")[..], &[("host", "a.example")]].concat();
        assert_eq!(head(&host).unwrap().uri.host(), Some("a.example"));
        let connect = [(":method", "CONNECT"), (":authority", "a.example:443")];
        assert_eq!(head(&connect).unwrap().uri.to_string(), "a.example:443");
        let extended = [&[(":method", "CONNECT"), (":protocol", "websocket")][..], &GET[1..]].concat();
        let extended = head(&extended).unwrap();
        assert_eq!(extended.uri.to_string(), "https://a.example/b?c");
        assert!(
            extended
                .extensions
                .get::<Protocol>()
                .is_some_and(|protocol| protocol.as_str() == "websocket")
        );
        let options = [&without(":path")[1..], &[(":method", "OPTIONS"), (":path", "*")]].concat();
        assert_eq!(head(&options).unwrap().uri.path(), "*");
        for malformed in [
            with(&[(":path", "/b")]),
            with(&[(":method", "GET")]),
            with(&[(":status", "200")]),
            with(&[(":colour", "red")]),
            with(&[(":protocol", "websocket")]),
            [&[("x-y", "1")][..], &GET[..]].concat(),
            without(":method"),
            without(":scheme"),
            without(":authority"),
            without(":path"),
            [&without(":path")[..], &[(":path", "")]].concat(),
            [&without(":path")[..], &[(":path", "/a b")]].concat(),
            [&without(":path")[..], &[(":path", "/a#b")]].concat(),
            [&without(":authority")[..], &[(":authority", "")]].concat(),
            [&without(":method")[..], &[(":method", "G T")]].concat(),
            [&connect[..], &[(":path", "/")]].concat(),
            with(&[("X-Upper", "1")]),
            with(&[("x y", "1")]),
            with(&[("x-y", "a\nb: c")]),
            with(&[("x-y", " a")]),
            with(&[("x-y", "a\t")]),
            with(&[("", "a")]),
        ] {
            assert_eq!(head(&malformed).map(drop), Err(Malformed), "{malformed:?}");
        }
        let trailers = |lines: &[(&str, &str)]| read(lines, Fields::trailers(1 << 10)).into_trailers();
        assert_eq!(trailers(&[("x-sum", "1")]).unwrap().len(), 1);
        assert_eq!(trailers(&GET), Err(Malformed));
    }

    /// A few bytes that refer to a table could stand for many.
    #[test]
    fn sections_have_a_size() {
        let mut fields = Fields::head(100);
        let line = |fields: &mut Fields, value| fields.line(&Name::read(b"x-y"), Bytes::from_static(value));
        assert_eq!(line(&mut fields, b"12345"), Ok(()));
        assert_eq!(fields.room(), 60);
        assert_eq!(line(&mut fields, &[b'1'; 25]), Ok(()));
        assert_eq!(fields.room(), 0);
        assert_eq!(line(&mut fields, b""), Err(Enough));
    }

    /// An origin that reads them otherwise than we do could be made to see another request.
    #[test]
    fn framing_of_another_version_is_refused() {
        for fields in [
            &[("transfer-encoding", "chunked")][..],
            &[("connection", "close")],
            &[("upgrade", "websocket")],
            &[("keep-alive", "1")],
            &[("te", "gzip")],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
        ] {
            assert!(check(&head(&with(fields)).unwrap()).is_err(), "{fields:?}");
        }
        let sound = with(&[("te", "trailers"), ("content-length", "5")]);
        assert_eq!(check(&head(&sound).unwrap()), Ok(Some(5)));
        assert_eq!(check(&head(&GET).unwrap()), Ok(None));
    }
}
