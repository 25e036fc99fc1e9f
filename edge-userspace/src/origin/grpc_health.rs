//! The messages of gRPC's health checking protocol (`grpc.health.v1`), by hand: one field each way.
//! `watch` asks. Pure.

use bytes::{BufMut, Bytes, BytesMut};

/// The method that is called.
pub const PATH: &str = "/grpc.health.v1.Health/Check";

/// `ServingStatus.SERVING`
const SERVING: u64 = 1;

/// `HealthCheckRequest { service }`, as the content of a call: not compressed, its length, the
/// message.
pub fn asked(service: &str) -> Bytes {
    let mut message = BytesMut::with_capacity(service.len() + 8);
    if !service.is_empty() {
        // Field 1, with a length.
        message.put_u8(0x0a);
        let mut left = service.len();
        while left >= 0x80 {
            message.put_u8(u8::try_from(left & 0x7f).unwrap_or(0) | 0x80);
            left >>= 7;
        }
        message.put_u8(u8::try_from(left).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut content = BytesMut::with_capacity(message.len() + 5);
    content.put_u8(0);
    content.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    content.put(message);
    content.freeze()
}

/// Whether the service serves, by the content of an answer; `None`: it is not a
/// `HealthCheckResponse`.
pub fn serving(content: &[u8]) -> Option<bool> {
    let (head, message) = content.split_first_chunk::<5>()?;
    let [0, length @ ..] = head else { return None };
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if message.len() != length {
        return None;
    }
    // A field that is left out has the value 0, which is UNKNOWN.
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let (tag, after) = varint(rest)?;
        rest = match tag & 7 {
            0 => {
                let (value, after) = varint(after)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                after
            }
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(status == SERVING)
}

/// A number of base 128, at most ten bytes, and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(at).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server would be asked about nothing, or one that says that it does not serve be taken for
    /// one that does.
    #[test]
    fn messages_as_protobuf_has_them() {
        assert_eq!(&asked("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&asked("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = asked(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        for (content, said) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(true)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(false)),
            (&[0, 0, 0, 0, 0], Some(false)),
            // Fields that a later version may add.
            (&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 1], Some(true)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 0], Some(true)),
            // Compressed, cut short, too long, without an end.
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8], None),
            (&[0, 0, 0, 0, 2, 8, 1, 0], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0, 0, 3, 0x12, 9, 1], None),
            (&[0, 0, 0, 0, 1, 0x0b], None),
            (&[0, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving(content), said, "{content:?}");
        }
        assert_eq!(varint(&[0xff; 11]), None);
    }
}
