//! The token of a QUIC Retry (RFC 9000 section 8.1.2) that the XDP program mints in lockdown,
//! without asking the daemon.
//!
//! 72 bytes, and every one is needed: the QUIC library takes a token's last 16 bytes for its own
//! nonce and hands the other 56 to be opened in place, where up to 49 bytes of its plaintext must
//! fit (address, port, a connection id of 20, time).
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0 | magic | [`MAGIC`] |
//! | 1 | key id | as in a [`token`](crate::token) |
//! | 2 | family | 4 or 6 |
//! | 3 | length of the original destination connection id | at most [`MAX_CID`] |
//! | 4..6 | client's port | big-endian |
//! | 6..8 | zero | |
//! | 8..16 | issued | seconds since 1970, big-endian |
//! | 16..32 | client's address | the whole of it; IPv4 in the first 4 bytes, then zeros |
//! | 32..56 | original destination connection id | zero padded |
//! | 56..64 | source connection id of the Retry | |
//! | 64..72 | MAC | little-endian; SipHash-2-4 over bytes 0..64 |
//!
//! The MAC covers 8 words where a [`token`](crate::token)'s covers 4, and SipHash hashes the
//! length: under one key neither can be taken for the other. It takes more rounds, too: the MAC is
//! all that proves this token. The client's destination connection id is not compared with the
//! source connection id here: after the server's answer clients send the same token with another
//! id. So a Retry token can be repeated from its own address and port for [`LIFE`] seconds; the
//! kernel limits it by its MAC.

use crate::siphash::{self, Rounds};
use crate::token::{KEYS, SKEW, TokenKey, Verdict};

/// First byte of a Retry token minted by the XDP program.
pub const MAGIC: u8 = 0xA8;
/// First byte of a Retry token that the QUIC library sealed for itself, so that the three kinds can
/// be told apart.
pub const SEALED_MAGIC: u8 = 0xA9;
/// Bytes of a token.
pub const LENGTH: usize = 72;
/// Words of a token, the MAC last.
pub const WORDS: usize = LENGTH / 8;
/// Seconds for which a token proves its address. The QUIC library must be told `LIFE + SKEW`, or it
/// refuses what the kernel let pass.
pub const LIFE: u64 = 15;
/// The longest connection id of QUIC version 1 (RFC 9000 section 17.2).
pub const MAX_CID: u8 = 20;

const _: () = {
    assert!(LENGTH.is_multiple_of(8));
    // What the QUIC library's plaintext needs: type, family, address, port, length and connection
    // id, time.
    assert!(1 + 1 + 16 + 2 + 1 + MAX_CID as usize + 8 <= LENGTH - 16);
};

/// A client's whole address: 16 bytes in network order (IPv4 first, then zeros), as two
/// little-endian words, with family and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The address.
    pub address: [u64; 2],
    /// Host order.
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
}

/// The words of a fresh token. `original` is the client's destination connection id, `length` bytes
/// of it, zero padded; `id` the source connection id of the Retry packet; all little-endian
/// readings. `now` is in seconds since 1970.
#[inline(always)]
pub const fn encode(from: Source, original: [u64; 3], length: u8, id: u64, key: &TokenKey, now: u64) -> [u64; WORDS] {
    let first = MAGIC as u64
        | (key.epoch % KEYS as u64) << 8
        | (from.family as u64) << 16
        | (length as u64) << 24
        | (from.port.swap_bytes() as u64) << 32;
    let [a, b] = from.address;
    let [c, d, e] = original;
    let issued = now.swap_bytes();
    let mac = siphash::words(Rounds::Two4, key.siphash(), [first, issued, a, b, c, d, e, id]);
    [first, issued, a, b, c, d, e, id, mac]
}

/// Judges a token that came from `from`; never [`Verdict::Early`]. `now` is in whole seconds since
/// 1970. Unlike a wait token, one that is forged or late proves a client that does not keep to the
/// protocol: its packet may be dropped.
#[inline(always)]
pub const fn verify(words: [u64; WORDS], from: Source, key: &TokenKey, now: u64) -> Verdict {
    let [first, issued, a, b, c, d, e, id, mac] = words;
    if first as u8 != MAGIC {
        return Verdict::NotAToken;
    }
    if key.valid == 0 || (first >> 8) as u8 as usize >= KEYS {
        return Verdict::UnknownKey;
    }
    if now >= issued.swap_bytes().saturating_add(LIFE + SKEW) {
        return Verdict::Expired;
    }
    let source = (first >> 16) as u8 ^ from.family;
    let port = (first >> 32) as u16 ^ from.port.swap_bytes();
    let address = (a ^ from.address[0]) | (b ^ from.address[1]);
    let difference = siphash::words(Rounds::Two4, key.siphash(), [first, issued, a, b, c, d, e, id]) ^ mac;
    if difference | address | source as u64 | port as u64 != 0 || (first >> 24) as u8 > MAX_CID {
        return Verdict::BadMac;
    }
    Verdict::Valid
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TokenKey = TokenKey {
        k0: 1,
        k1: 2,
        epoch: 5,
        valid: 1,
        reserved: 0,
    };
    const FROM: Source = Source {
        address: [0x0102_00c0, 0],
        port: 4_433,
        family: 4,
    };
    const NOW: u64 = 1_700_000_000;

    /// A client that answers a Retry in time gets in, from its own address and port only, and no
    /// bit can be changed.
    #[test]
    fn only_as_minted() {
        let words = encode(FROM, [1, 2, 3], 18, 4, &KEY, NOW);
        assert_eq!(words[0].to_le_bytes(), [0xA8, 1, 4, 18, 0x11, 0x51, 0, 0]);
        assert_eq!(words[1].to_le_bytes(), NOW.to_be_bytes());
        assert_eq!(verify(words, FROM, &KEY, NOW), Verdict::Valid);
        assert_eq!(verify(words, FROM, &KEY, NOW + LIFE + SKEW - 1), Verdict::Valid);
        assert_eq!(verify(words, FROM, &KEY, NOW + LIFE + SKEW), Verdict::Expired);
        assert_eq!(verify(words, FROM, &TokenKey::NONE, NOW), Verdict::UnknownKey);
        for other in [
            Source { port: 4_434, ..FROM },
            Source { family: 6, ..FROM },
            Source {
                address: [0x0202_00c0, 0],
                ..FROM
            },
            Source {
                address: [FROM.address[0], 1],
                ..FROM
            },
        ] {
            assert_eq!(verify(words, other, &KEY, NOW), Verdict::BadMac);
        }
        // A length beyond the protocol's must not reach whoever copies the id.
        assert_eq!(
            verify(encode(FROM, [1, 2, 3], MAX_CID + 1, 4, &KEY, NOW), FROM, &KEY, NOW),
            Verdict::BadMac
        );
        for bit in 0..LENGTH * 8 {
            let mut forged = words;
            forged[bit / 64] ^= 1 << (bit % 64);
            assert_ne!(verify(forged, FROM, &KEY, NOW), Verdict::Valid, "bit {bit}");
        }
    }
}
