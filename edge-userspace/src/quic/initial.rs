//! The cleartext front of QUIC Initial packets (RFC 9000 section 17.2.2): who asks, and with which
//! token. Pure; `tap` hands in datagrams as they come.

use crate::base::varint::varint;

/// The longest connection id of QUIC version 1.
pub const MAX_CID: usize = 20;
/// Below this a datagram with an Initial packet of a client is not to be taken (RFC 9000 section
/// 14.1).
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
    /// Destination connection id: chosen by the client, or by us after a Retry and after our first
    /// answer.
    pub destination: Cid,
    /// Source connection id.
    pub source: Cid,
    /// Token; empty where there is none.
    pub token: &'a [u8],
}

impl<'a> Initial<'a> {
    /// Reads the front of `datagram`; `None` if it is anything else, or too short for a client's
    /// Initial. The fixed bit is not looked at: clients may grease it (RFC 9287).
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

/// The source connection id of the packet with a long header that `datagram` begins with (RFC 9000
/// section 17.2); `None` for one with a short header, or an id longer than [`MAX_CID`].
pub fn long_source(datagram: &[u8]) -> Option<Cid> {
    let (&[first, ..], rest) = datagram.split_first_chunk::<5>()?;
    if first & 0x80 == 0 {
        return None;
    }
    let (_destination, rest) = cid(rest)?;
    Some(cid(rest)?.0)
}

/// What is the same in the long headers of all versions (RFC 8999 section 5.1): ids have up to 255
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant<'a> {
    /// Version; 0 is Version Negotiation.
    pub version: u32,
    /// Destination connection id.
    pub destination: &'a [u8],
    /// Source connection id.
    pub source: &'a [u8],
}

impl<'a> Invariant<'a> {
    /// Reads the front of `datagram`; `None` for a short header, or a datagram that ends too early.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let (&[first, ref version @ ..], rest) = datagram.split_first_chunk::<5>()?;
        if first & 0x80 == 0 {
            return None;
        }
        let counted = |from: &'a [u8]| {
            let (&length, rest) = from.split_first()?;
            rest.split_at_checked(usize::from(length))
        };
        let (destination, rest) = counted(rest)?;
        let (source, _) = counted(rest)?;
        Some(Self {
            version: u32::from_be_bytes(*version),
            destination,
            source,
        })
    }

    /// The Version Negotiation packet that answers it (RFC 9000 section 17.2.1), where that is not
    /// quinn's matter: an id is longer than those of the version that is spoken, which quinn does
    /// not read. `datagram` is as long as the one that it is read from: short ones get no answer
    /// (section 6.1). `random` is in its first byte. Never longer than the datagram.
    pub fn negotiate(&self, datagram: usize, random: u8) -> Option<Vec<u8>> {
        let long = self.destination.len() > MAX_CID || self.source.len() > MAX_CID;
        if datagram < LEAST || self.version <= 1 || !long {
            return None;
        }
        let mut answer = vec![0xc0 | random, 0, 0, 0, 0];
        for id in [self.source, self.destination] {
            answer.push(u8::try_from(id.len()).ok()?);
            answer.extend(id);
        }
        // A reserved version, so that clients do not grow stiff (RFC 9000 section 6.3), and the one
        // spoken.
        let reserved: u32 = if self.version == 0x0a1a_2a3a {
            0x0a1a_2a4a
        } else {
            0x0a1a_2a3a
        };
        answer.extend(reserved.to_be_bytes());
        answer.extend(1_u32.to_be_bytes());
        Some(answer)
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

    /// A client of another version would wait for an answer that never comes.
    #[test]
    fn versions_are_negotiated_with_ids_of_any_length() {
        for (ours, theirs) in [(21, 0), (0, 21), (255, 255), (8, 200)] {
            let mut front = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, ours];
            front.extend(vec![7; usize::from(ours)]);
            front.push(theirs);
            front.extend(vec![9; usize::from(theirs)]);
            let whole = datagram(&front);
            let read = Invariant::read(&whole).unwrap();
            let answer = read.negotiate(whole.len(), 0x3f).unwrap();
            assert_eq!(answer[..5], [0xff, 0, 0, 0, 0]);
            let ids = [&[theirs][..], &vec![9; theirs.into()], &[ours], &vec![7; ours.into()]].concat();
            assert_eq!(answer[5..], [&ids[..], &[0x0a, 0x1a, 0x2a, 0x3a, 0, 0, 0, 1]].concat());
            assert!(answer.len() < LEAST);
            // What is shorter than an Initial, or is no attempt, gets none.
            assert_eq!(read.negotiate(LEAST - 1, 0), None);
            for version in [0, 1] {
                assert_eq!(Invariant { version, ..read }.negotiate(LEAST, 0), None);
            }
            for cut in 0..front.len() {
                assert_eq!(Invariant::read(&front[..cut]), None, "{cut}");
            }
        }
        // Those that quinn can read are quinn's.
        let whole = datagram(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 2, 1, 2, 0]);
        assert_eq!(Invariant::read(&whole).unwrap().negotiate(LEAST, 0), None);
    }

    /// Which connection a packet of ours is of.
    #[test]
    fn the_source_of_long_headers_is_read() {
        let packet = [0xe3, 0, 0, 0, 1, 1, 5, 2, 8, 9, 0];
        assert_eq!(long_source(&packet).unwrap().as_bytes(), [8, 9]);
        assert_eq!(long_source(&packet[..9]), None);
        assert_eq!(long_source(&[0x63; 40]), None);
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
