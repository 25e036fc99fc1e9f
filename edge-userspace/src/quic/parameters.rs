//! Encoded transport parameters (RFC 9000 section 18): the one that has to be known before quinn
//! has a connection.

use quinn_proto::ConnectionId;

use super::initial::MAX_CID;
use crate::base::varint::varint;

/// RFC 9000 section 18.2.
const INITIAL_SOURCE_CONNECTION_ID: u64 = 0x0f;

/// The connection id that the sender of `encoded` uses in its handshake.
pub(super) fn source(mut encoded: &[u8]) -> Option<ConnectionId> {
    while !encoded.is_empty() {
        let (id, rest) = varint(encoded)?;
        let (length, rest) = varint(rest)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if id == INITIAL_SOURCE_CONNECTION_ID {
            return (value.len() <= MAX_CID).then(|| ConnectionId::new(value));
        }
        encoded = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handshake that was signed for another id is refused by every client.
    #[test]
    fn the_source_is_found_wherever_it_stands() {
        let before = [0x04, 0x04, 0x80, 0, 1, 0];
        let ours = [0x0f, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        let grease = [0x40, 0x7b, 0x0f, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
        let expected = Some(ConnectionId::new(&[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(source(&[&before[..], &ours, &grease].concat()), expected);
        assert_eq!(source(&[&grease[..], &ours].concat()), expected);
        assert_eq!(source(&before), None);
        assert_eq!(source(&ours[..5]), None);
        assert_eq!(source(&[0x0f, 21, 0]), None);
    }
}
