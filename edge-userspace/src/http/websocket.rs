//! WebSocket handshakes (RFC 6455 section 4): the key and its answer, for the hop whose other side
//! speaks HTTP/2 and for workers that accept or open a connection themselves ([`Inside`]).

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use tokio::io::DuplexStream;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes between a worker and who joins it to its server, each way.
const BETWEEN: usize = 16 << 10;

/// Among the extensions of a request that a worker makes: if the server agrees to a WebSocket, the
/// worker is its other side. Who agrees takes the end of the way to the worker, once.
#[derive(Clone, Debug)]
pub struct Inside(Arc<Mutex<Option<DuplexStream>>>);

impl Inside {
    /// Both ends: for the request, and the worker's.
    pub fn pair() -> (Self, DuplexStream) {
        let (one, other) = tokio::io::duplex(BETWEEN);
        (Self(Arc::new(Mutex::new(Some(one)))), other)
    }

    /// The way to the worker; `None` the second time.
    pub fn take(&self) -> Option<DuplexStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a value of `Upgrade` or `:protocol` is WebSocket's.
pub fn is_asked(protocol: &[u8]) -> bool {
    protocol.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// A `Sec-WebSocket-Key` of ours.
#[derive(Debug)]
pub struct Key(String);

impl Key {
    /// 16 random bytes; `None` when the system has none.
    pub fn random() -> Option<Self> {
        use ring::rand::SecureRandom as _;
        let mut bytes = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(base64(&bytes)))
    }

    /// As the field's value.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Whether `answer` proves that the origin has read this key.
    pub fn accepted_by(&self, answer: &[u8]) -> bool {
        accept(self.0.as_bytes()).as_bytes() == answer
    }
}

/// The `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
pub fn accept(key: &[u8]) -> HeaderValue {
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
