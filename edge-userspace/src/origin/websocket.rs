//! The key and its answer in a WebSocket handshake (RFC 6455 section 4), for the hop whose other side speaks HTTP/2.

use http::HeaderValue;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A `Sec-WebSocket-Key` of ours.
#[derive(Debug)]
pub(super) struct Key(String);

impl Key {
    /// 16 random bytes; `None` when the system has none.
    pub(super) fn random() -> Option<Self> {
        use ring::rand::SecureRandom as _;
        let mut bytes = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(base64(&bytes)))
    }

    /// As the field's value.
    pub(super) fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Whether `answer` proves that the origin has read this key.
    pub(super) fn accepted_by(&self, answer: &[u8]) -> bool {
        accept(self.0.as_bytes()).as_bytes() == answer
    }
}

/// The `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
pub(super) fn accept(key: &[u8]) -> HeaderValue {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    HeaderValue::from_str(&base64(context.finish().as_ref())).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 63;
            text.push(if at > chunk.len() {
                '='
            } else {
                char::from(ALPHABET[six as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3: a wrong one refuses every WebSocket.
    #[test]
    fn the_rfcs_example() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(
            ["", "f", "fo", "foo"].map(|s| base64(s.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v"]
        );
        assert_eq!(Key::random().unwrap().0.len(), 24);
    }
}
