//! The name of a version: SHA-256 of a resource's content, and how fields say it. `codec` writes it
//! into streams, both ends compare by it before they trust what was decoded.

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{Context, SHA256, digest};

/// RFC 9530 section 3.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// RFC 9842 section 2.2.
pub const AVAILABLE_DICTIONARY: HeaderName = HeaderName::from_static("available-dictionary");

/// Base64 of 32 bytes, with padding.
const TEXT: usize = 44;

/// SHA-256 of content without any coding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of `content`; about 0.6 GB/s.
    pub fn of(content: &[u8]) -> Self {
        Self::from_ring(digest(&SHA256, content))
    }

    /// Of bytes that are one already.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// What [`Digest::hex`] wrote.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// As `Available-Dictionary` says it: a byte sequence (RFC 9651 section 3.3.5).
    pub fn available_dictionary(&self) -> HeaderValue {
        self.value("")
    }

    /// As `Repr-Digest` says it (RFC 9530 section 3).
    pub fn repr_digest(&self) -> HeaderValue {
        self.value("sha-256=")
    }

    /// The version that a request's `Available-Dictionary` names; `None` without the field, when it
    /// is there twice, or when it is anything but 32 bytes.
    pub fn available(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(AVAILABLE_DICTIONARY).iter();
        match (fields.next(), fields.next()) {
            (Some(field), None) => byte_sequence(item(field.as_bytes())),
            _ => None,
        }
    }

    /// The SHA-256 of a `Repr-Digest`, whatever other algorithms it lists. As in every dictionary
    /// the last of several members with the same key counts (RFC 9651 section 3.2).
    pub fn represented(headers: &HeaderMap) -> Option<Self> {
        let mut found = None;
        for field in headers.get_all(REPR_DIGEST) {
            for member in field.as_bytes().split(|b| *b == b',') {
                if let Some(value) = member.trim_ascii().strip_prefix(b"sha-256=") {
                    found = byte_sequence(item(value));
                }
            }
        }
        found
    }

    fn value(&self, key: &str) -> HeaderValue {
        let mut text = String::with_capacity(key.len() + TEXT + 2);
        text.push_str(key);
        text.push(':');
        BASE64.encode_append(&self.0, &mut text);
        text.push(':');
        // Base64 is visible ASCII, which every field value may be.
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn from_ring(digest: ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        for (byte, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *byte = *from;
        }
        Self(bytes)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// An item without its parameters.
fn item(text: &[u8]) -> &[u8] {
    text.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

fn byte_sequence(text: &[u8]) -> Option<Digest> {
    let text = text.strip_prefix(b":")?.strip_suffix(b":")?;
    if text.len() != TEXT {
        return None;
    }
    Some(Digest(BASE64.decode(text).ok()?.try_into().ok()?))
}

/// A digest in the making, of content that streams by.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Takes in what comes next.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Of all that was taken in.
    pub fn finish(self) -> Digest {
        Digest::from_ring(self.0.finish())
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// The example of RFC 9842 section 2.2 and RFC 9530's form: another node or browser must read
    /// the same bytes.
    #[test]
    fn as_the_standards_write_it() {
        let digest = Digest::of(b"{\"hello\": \"world\"}\n");
        assert_eq!(
            digest.repr_digest(),
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
        assert_eq!(
            digest.available_dictionary(),
            ":RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
        let mut hasher = Hasher::new();
        hasher.update(b"{\"hello\":");
        hasher.update(b" \"world\"}\n");
        assert_eq!(hasher.finish(), digest);
        assert_eq!(Digest::from_hex(digest.hex().as_bytes()), Some(digest));
    }

    /// Taking a malformed field for a digest would refuse good content or accept bad.
    #[test]
    fn fields_are_read_strictly() {
        let digest = Digest::of(b"x");
        let text = digest.available_dictionary();
        let text = text.to_str().unwrap();
        assert_eq!(Digest::available(&fields(AVAILABLE_DICTIONARY, &[text])), Some(digest));
        for wrong in [
            &[][..],
            &["", ""],
            &[text, text],
            &["::"],
            &[":AAAA:"],
            &[&text[1..]],
            &[&text[..45]],
        ] {
            assert_eq!(
                Digest::available(&fields(AVAILABLE_DICTIONARY, wrong)),
                None,
                "{wrong:?}"
            );
        }
        let one = format!("sha-512=:AAAA:, sha-256={text};x=1");
        let two = format!("sha-256={text}");
        for right in [&[&*one][..], &["md5=:AAAA:", &*two], &["sha-256=:AAAA:", &*two]] {
            assert_eq!(
                Digest::represented(&fields(REPR_DIGEST, right)),
                Some(digest),
                "{right:?}"
            );
        }
        for wrong in [
            &["sha-256"][..],
            &["sha-512=:AAAA:"],
            &[&two, "sha-256=?1"],
            &[&two.to_uppercase()],
        ] {
            assert_eq!(Digest::represented(&fields(REPR_DIGEST, wrong)), None, "{wrong:?}");
        }
    }
}
