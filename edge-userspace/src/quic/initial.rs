//! The cleartext front of QUIC Initial packets (RFC 9000 section 17.2.2): who asks, and with which token. Pure; `tap` hands in
//! datagrams as they come.

use crate::base::varint::varint;

/// The longest connection id of QUIC version 1.
pub const MAX_CID: usize = 20;
/// Below this a datagram with an Initial packet of a client is not to be taken (RFC 9000 section 14.1).
pub const LEAST: usize = 1200;

/// A connection id of at most [`MAX_CID`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cid {
    bytes: [u8; MAX_CID],
    length: u8,
}

impl Cid {
    /// `None` for more than [`MAX_CID`] bytes.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_CID];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self {
            bytes,
            length: u8::try_from(id.len()).ok()?,
        })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What the front of a datagram says when it begins with an Initial packet of QUIC version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initial<'a> {
    /// Destination connection id: chosen by the client, or by us after a Retry and after our first answer.
    pub destination: Cid,
    /// Source connection id.
    pub source: Cid,
    /// Token; empty where there is none.
    pub token: &'a [u8],
}

impl<'a> Initial<'a> {
    /// Reads the front of `datagram`; `None` if it is anything else, or too short for a client's Initial. The fixed bit is not
    /// looked at: clients may grease it (RFC 9287).
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() < LEAST {
            return None;
        }
        let (&[first, ref version @ ..], rest) = datagram.split_first_chunk::<5>()?;
        // A long header, of type Initial.
        if first & 0xb0 != 0x80 || version != &[0, 0, 0, 1] {
            return None;
        }
        let (destination, rest) = cid(rest)?;
        let (source, rest) = cid(rest)?;
        let (length, rest) = varint(rest)?;
        let token = rest.get(..usize::try_from(length).ok()?)?;
        Some(Self {
            destination,
            source,
            token,
        })
    }
}

fn cid(from: &[u8]) -> Option<(Cid, &[u8])> {
    let (&length, rest) = from.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(length))?;
    Some((Cid::new(id)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(front: &[u8]) -> Vec<u8> {
        let mut datagram = front.to_vec();
        datagram.resize(LEAST, 0);
        datagram
    }

    #[test]
    fn reads_ids_and_token() {
        let front = [0xc3, 0, 0, 0, 1, 3, 7, 8, 9, 2, 5, 6, 0x40, 4, 0xa7, 1, 2, 3];
        let whole = datagram(&front);
        let initial = Initial::read(&whole).unwrap();
        assert_eq!(initial.destination.as_bytes(), [7, 8, 9]);
        assert_eq!(initial.source.as_bytes(), [5, 6]);
        assert_eq!(initial.token, [0xa7, 1, 2, 3]);
        // A greased fixed bit.
        let mut greased = whole.clone();
        greased[0] = 0x83;
        assert!(Initial::read(&greased).is_some());
    }

    /// What is read as an Initial and is none would take memory of the connections that are.
    #[test]
    fn refuses_everything_else() {
        let front = [0xc3, 0, 0, 0, 1, 0, 0, 0];
        assert!(Initial::read(&datagram(&front)).is_some());
        for (at, value) in [(0, 0x43), (0, 0xe3), (4, 2), (5, 21), (6, 21)] {
            let mut other = datagram(&front);
            other[at] = value;
            assert!(Initial::read(&other).is_none(), "byte {at}");
        }
        let mut long = datagram(&front);
        long[7..11].copy_from_slice(&[0x80, 0, 0x10, 0]);
        assert!(Initial::read(&long).is_none(), "a token beyond the datagram");
        assert!(Initial::read(&datagram(&front)[..LEAST - 1]).is_none());
        assert!(Initial::read(&[]).is_none());
    }
}
