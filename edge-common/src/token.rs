//! The header of every wait token: what the XDP program and the daemon both read, mint and check,
//! by the same code.
//!
//! One header serves three carriers. On QUIC it starts the token of a NEW_TOKEN frame (RFC 9000
//! section 8.1.3), where XDP sees it; in TLS it stands in front of a session ticket; on HTTP in
//! front of the sealed body of a cookie. The layout, 32 bytes:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0 | magic | [`MAGIC`] |
//! | 1 | key id | epoch modulo 4: which element of the map `KEYS` |
//! | 2 | family | 4 or 6 |
//! | 3 | flags | the carrier: [`HTTP`], [`TICKET`] or [`QUIC`]; every other value is reserved |
//! | 4..8 | not before | seconds since 1970, big-endian |
//! | 8..12 | expires | seconds since 1970, big-endian |
//! | 12..16 | nonce | random; the first part of the sealed body's nonce |
//! | 16..24 | client id | little-endian, xor SipHash-1-3 over bytes 0..16: no two headers of a client have it alike |
//! | 24..32 | MAC | little-endian; SipHash-1-3 over bytes 0..24 and the client's [`Prefix`] |
//!
//! What follows differs by carrier and is the daemon's business; on QUIC the token's last 16 bytes
//! are the QUIC library's. The MAC is the kernel's filter, and the daemon's before it spends
//! anything: on HTTP and QUIC a sealed body says the same again (AES-256-GCM, with the header as
//! its associated data), and of a TLS ticket the MAC proves no more than a client's id. So fewer
//! rounds of SipHash do.
//!
//! The code works on four words, each the little-endian reading of 8 bytes, because the kernel's
//! verifier follows words where it would lose a slice. The first byte tells the kinds of tokens
//! apart, as RFC 9000 section 8.1.1 demands: [`MAGIC`], [`RETRY_MAGIC`](crate::retry::MAGIC), and
//! [`SEALED_RETRY_MAGIC`](crate::retry::SEALED_MAGIC).
//!
//! # Clocks
//! Nodes may disagree by [`SKEW`] seconds. The tolerance is applied in [`verify`] and nowhere else:
//! whoever mints writes the true times, and whoever asks passes his own clock's whole seconds,
//! rounded down. So kernel and daemon agree but for the few milliseconds by which the kernel's
//! coarse clock lags. A client that comes up to `SKEW` seconds before its time is therefore mature:
//! waits of up to `SKEW` seconds are advice, and the shortest wait that is enforced is one second
//! more.

use core::net::IpAddr;

use crate::siphash::{self, Key, Rounds};

/// First byte of a token.
pub const MAGIC: u8 = 0xA7;
/// Bytes of a header.
pub const HEADER: usize = 32;
/// Words of a header, the MAC last.
pub const WORDS: usize = HEADER / 8;
/// Seconds by which the clocks of two nodes, or of kernel and daemon, may differ.
pub const SKEW: u64 = 2;
/// Keys in the map `KEYS`.
pub const KEYS: usize = 4;

/// Flags of a token carried by an HTTP cookie or header.
pub const HTTP: u8 = 1;
/// Flags of a token in front of a TLS session ticket.
pub const TICKET: u8 = 2;
/// Flags of a token of a QUIC NEW_TOKEN frame.
pub const QUIC: u8 = 3;

/// Offset of the magic.
pub const MAGIC_AT: usize = 0;
/// Offset of the key id.
pub const KEY_ID_AT: usize = 1;
/// Offset of the address family.
pub const FAMILY_AT: usize = 2;
/// Offset of the flags.
pub const FLAGS_AT: usize = 3;
/// Offset of the time before which a client is early.
pub const NOT_BEFORE_AT: usize = 4;
/// Offset of the time from which the token is void.
pub const EXPIRES_AT: usize = 8;
/// Offset of the nonce.
pub const NONCE_AT: usize = 12;
/// Offset of the client id.
pub const CLIENT_AT: usize = 16;
/// Offset of the MAC.
pub const MAC_AT: usize = 24;

const _: () = {
    assert!(MAGIC_AT == 0 && KEY_ID_AT == 1 && FAMILY_AT == 2 && FLAGS_AT == 3);
    assert!(NOT_BEFORE_AT == FLAGS_AT + 1 && EXPIRES_AT == NOT_BEFORE_AT + 4 && NONCE_AT == EXPIRES_AT + 4);
    assert!(CLIENT_AT == NONCE_AT + 4 && CLIENT_AT.is_multiple_of(8));
    assert!(MAC_AT == CLIENT_AT + 8 && MAC_AT == (WORDS - 1) * 8 && HEADER == MAC_AT + 8);
    // A key id is an index of KEYS by masking.
    assert!(KEYS.is_power_of_two());
};

/// One element of the map `KEYS`. All zeros, as a fresh map has it, is no key.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenKey {
    /// First half of the SipHash key.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
    /// The epoch it belongs to; its index is the epoch modulo [`KEYS`].
    pub epoch: u64,
    /// 1 while tokens under it are accepted, else 0.
    pub valid: u32,
    /// Zero.
    pub reserved: u32,
}

impl TokenKey {
    /// No key.
    pub const NONE: Self = Self {
        k0: 0,
        k1: 0,
        epoch: 0,
        valid: 0,
        reserved: 0,
    };

    #[inline(always)]
    pub(crate) const fn siphash(&self) -> Key {
        Key(self.k0, self.k1)
    }
}

const _: () = {
    assert!(size_of::<TokenKey>() == 32);
    assert!(core::mem::offset_of!(TokenKey, epoch) == 16);
    assert!(core::mem::offset_of!(TokenKey, valid) == 24);
};

// SAFETY: `repr(C)`, only integers, no padding (the size asserted above is the sum of the fields).
#[cfg(feature = "user")]
unsafe impl aya::Pod for TokenKey {}

/// 64:ff9b::/96, where translators put IPv4 addresses (RFC 6052 section 2.1).
pub const WELL_KNOWN: Translator = Translator {
    first: u64::from_le_bytes([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0]),
    second: 0,
};
/// Translators' networks beside the well-known one that the program can be told of.
pub const TRANSLATORS: usize = 4;

/// A /96 in which translators (NAT64, SIIT) put IPv4 addresses (RFC 6052 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translator {
    /// The little-endian reading of its first eight bytes. 0: no translator.
    pub first: u64,
    /// That of the next four.
    pub second: u32,
}

impl Translator {
    /// The /96 that an address is of.
    pub const fn of(address: core::net::Ipv6Addr) -> Self {
        let bits = address.to_bits();
        Self {
            first: ((bits >> 64) as u64).swap_bytes(),
            second: (bits as u64).swap_bytes() as u32,
        }
    }

    /// The IPv4 address in an IPv6 address of this network, as a little-endian word; the address's
    /// halves are read likewise.
    #[inline(always)]
    pub const fn embedded(self, [first, second]: [u64; 2]) -> Option<u32> {
        if self.first == 0 || first != self.first || second as u32 != self.second {
            return None;
        }
        Some((second >> 32) as u32)
    }
}

/// A client address reduced to what tokens and penalties are bound to: IPv4 /32, IPv6 /64 (one
/// household). What a translator (NAT64, SIIT) has made of an IPv4 address is that address: all of
/// them share one /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    /// The prefix's bytes in network order, zero padded to 8, read as a little-endian word: what a
    /// load from the packet gives on the machines that edge runs on.
    pub word: u64,
    /// 4 or 6. Part of the identity: 1.2.3.4 and 102:304::/64 have the same word.
    pub family: u8,
}

impl Prefix {
    /// Of an IPv4 address, network order.
    #[inline(always)]
    pub const fn v4(address: [u8; 4]) -> Self {
        Self {
            word: u32::from_le_bytes(address) as u64,
            family: 4,
        }
    }

    /// Of an IPv6 address's two halves, each the little-endian reading of its eight bytes.
    #[inline(always)]
    pub const fn v6([first, second]: [u64; 2]) -> Self {
        if let Some(address) = WELL_KNOWN.embedded([first, second]) {
            return Self::v4(address.to_le_bytes());
        }
        Self { word: first, family: 6 }
    }

    /// Of any address; an IPv4-mapped one counts as IPv4.
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => {
                let [first, second] = [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64];
                Self::v6([first.swap_bytes(), second.swap_bytes()])
            }
        }
    }
}

/// What a token turned out to be, in the order in which [`verify`] asks; the first that holds. The
/// daemon's answers have more detail, the kernel counts by these.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not ours, of another carrier, or of a later layout. The same as no token.
    NotAToken = 0,
    /// Its key was retired, or never published here. The same as no token.
    UnknownKey = 1,
    /// Too old. The same as no token (RFC 9000 section 8.1.3). Said before the MAC is checked: a
    /// lie costs nobody anything.
    Expired = 2,
    /// Forged, altered, or of another address: a MAC cannot tell which.
    BadMac = 3,
    /// Genuine, and its time has not come.
    Early = 4,
    /// Genuine and mature.
    Valid = 5,
}

/// A header's fields without the MAC, unpacked. Nothing is known about their truth until [`verify`]
/// said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which key, 0 to 3.
    pub key_id: u8,
    /// 4 or 6.
    pub family: u8,
    /// The carrier.
    pub flags: u8,
    /// Seconds since 1970.
    pub not_before: u32,
    /// Seconds since 1970.
    pub expires: u32,
    /// Random.
    pub nonce: u32,
    /// The client's id; as [`Header::read`] gives it, masked: see [`client`].
    pub client: u64,
}

impl Header {
    /// The fields in a header's words, as they stand there.
    #[inline(always)]
    pub const fn read(words: [u64; WORDS]) -> Self {
        Self {
            key_id: (words[0] >> 8) as u8,
            family: (words[0] >> 16) as u8,
            flags: (words[0] >> 24) as u8,
            not_before: ((words[0] >> 32) as u32).swap_bytes(),
            expires: (words[1] as u32).swap_bytes(),
            nonce: (words[1] >> 32) as u32,
            client: words[2],
        }
    }

    const fn words(&self) -> [u64; WORDS - 1] {
        [
            MAGIC as u64
                | (self.key_id as u64) << 8
                | (self.family as u64) << 16
                | (self.flags as u64) << 24
                | (self.not_before.swap_bytes() as u64) << 32,
            self.expires.swap_bytes() as u64 | (self.nonce as u64) << 32,
            self.client,
        ]
    }

    /// The header's words with the MAC under `key` for a client at `address`. Family and key id are
    /// those of the two arguments, whatever the fields say: a header cannot be minted that its own
    /// check would refuse.
    #[inline(always)]
    pub const fn encode(mut self, address: Prefix, key: &TokenKey) -> [u64; WORDS] {
        self.family = address.family;
        self.key_id = (key.epoch % KEYS as u64) as u8;
        let [a, b, id] = self.words();
        let c = id ^ mask(a, b, key);
        [a, b, c, mac(a, b, c, address.word, key)]
    }
}

/// The client's id in a header that [`verify`] found genuine under `key`. In the clear it would be
/// the same in all headers of a client, and whoever looks on could follow it (RFC 8446 appendix
/// C.4; RFC 9000 section 8.1.3 forbids it for NEW_TOKEN).
#[inline(always)]
pub const fn client(words: [u64; WORDS], key: &TokenKey) -> u64 {
    words[2] ^ mask(words[0], words[1], key)
}

/// Random to whoever has not the key, and another one for each nonce and second. The MAC's message
/// has another length.
#[inline(always)]
const fn mask(a: u64, b: u64, key: &TokenKey) -> u64 {
    siphash::words(Rounds::One3, key.siphash(), [a, b])
}

#[inline(always)]
const fn mac(a: u64, b: u64, c: u64, prefix: u64, key: &TokenKey) -> u64 {
    siphash::words(Rounds::One3, key.siphash(), [a, b, c, prefix])
}

/// The index in `KEYS` of the key that a header with this first word names; always in bounds.
#[inline(always)]
pub const fn key_index(first: u64) -> u32 {
    (first >> 8) as u32 & (KEYS as u32 - 1)
}

/// Judges a header that came by `carrier` ([`HTTP`], [`TICKET`], [`QUIC`]) from a client at
/// `address`. `key` is the element of `KEYS` at [`key_index`]; `now` is in whole seconds since
/// 1970. No loop but SipHash's fixed one, no slice, no allocation. The MACs are compared as whole
/// words: the time it takes does not depend on where they differ.
#[inline(always)]
pub const fn verify(words: [u64; WORDS], carrier: u8, address: Prefix, key: &TokenKey, now: u64) -> Verdict {
    let header = Header::read(words);
    if words[0] as u8 != MAGIC || header.flags != carrier {
        return Verdict::NotAToken;
    }
    if key.valid == 0 || header.key_id as usize >= KEYS {
        return Verdict::UnknownKey;
    }
    if now >= header.expires as u64 + SKEW {
        return Verdict::Expired;
    }
    let difference = mac(words[0], words[1], words[2], address.word, key) ^ words[3];
    if difference | (header.family ^ address.family) as u64 != 0 {
        return Verdict::BadMac;
    }
    if now + SKEW < header.not_before as u64 {
        return Verdict::Early;
    }
    Verdict::Valid
}

/// A header's bytes as words.
pub const fn to_words(bytes: &[u8; HEADER]) -> [u64; WORDS] {
    let (chunks, _) = bytes.as_chunks::<8>();
    [
        u64::from_le_bytes(chunks[0]),
        u64::from_le_bytes(chunks[1]),
        u64::from_le_bytes(chunks[2]),
        u64::from_le_bytes(chunks[3]),
    ]
}

/// A header's words as bytes.
pub const fn to_bytes(words: [u64; WORDS]) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let mut i = 0;
    while i < HEADER {
        bytes[i] = (words[i / 8] >> (8 * (i % 8))) as u8;
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: TokenKey = TokenKey {
        k0: 0x0706_0504_0302_0100,
        k1: 0x0f0e_0d0c_0b0a_0908,
        epoch: 6,
        valid: 1,
        reserved: 0,
    };
    const HERE: Prefix = Prefix::v4([192, 0, 2, 1]);
    const HEADER_OF_TEST: Header = Header {
        key_id: 2,
        family: 4,
        flags: QUIC,
        not_before: 0x0102_0304,
        expires: 0x0506_0708,
        nonce: 0x1122_3344,
        client: 0xfedc_ba98_7654_3210,
    };
    const NOW: u64 = 0x0102_0304;

    /// The layout is on the wire and in clients' hands: every byte stays where the table above
    /// says.
    #[test]
    fn bytes_are_where_the_table_says() {
        let words = HEADER_OF_TEST.encode(HERE, &KEY);
        let bytes = to_bytes(words);
        assert_eq!(
            bytes[..CLIENT_AT],
            [0xA7, 2, 4, 3, 1, 2, 3, 4, 5, 6, 7, 8, 0x44, 0x33, 0x22, 0x11]
        );
        let mask = siphash::bytes(Rounds::One3, Key(KEY.k0, KEY.k1), &bytes[..CLIENT_AT]);
        assert_eq!(bytes[CLIENT_AT..MAC_AT], (HEADER_OF_TEST.client ^ mask).to_le_bytes());
        let mut message = [0; 32];
        message[..MAC_AT].copy_from_slice(&bytes[..MAC_AT]);
        message[MAC_AT..].copy_from_slice(&[192, 0, 2, 1, 0, 0, 0, 0]);
        assert_eq!(
            bytes[MAC_AT..],
            siphash::bytes(Rounds::One3, Key(KEY.k0, KEY.k1), &message).to_le_bytes()
        );
        assert_eq!(to_words(&bytes), words);
        let masked = Header::read(words);
        assert_eq!(client(words, &KEY), HEADER_OF_TEST.client);
        assert_eq!(
            Header {
                client: HEADER_OF_TEST.client,
                ..masked
            },
            HEADER_OF_TEST
        );
        assert_eq!(key_index(words[0]), 2);
    }

    /// Each reason to refuse, alone.
    #[test]
    fn verdicts() {
        let words = HEADER_OF_TEST.encode(HERE, &KEY);
        let judge = |words, now| verify(words, QUIC, HERE, &KEY, now);
        assert_eq!(judge(words, NOW), Verdict::Valid);
        assert_eq!(judge([0; 4], NOW), Verdict::NotAToken);
        assert_eq!(verify(words, HTTP, HERE, &KEY, NOW), Verdict::NotAToken);
        assert_eq!(verify(words, QUIC, HERE, &TokenKey::NONE, NOW), Verdict::UnknownKey);
        assert_eq!(
            judge([words[0] | 4 << 8, words[1], words[2], words[3]], NOW),
            Verdict::UnknownKey
        );
        assert_eq!(
            judge([words[0], words[1], words[2], words[3] ^ 1], NOW),
            Verdict::BadMac
        );
        for other in [
            Prefix::v4([192, 0, 2, 2]),
            Prefix {
                word: HERE.word,
                family: 6,
            },
        ] {
            assert_eq!(verify(words, QUIC, other, &KEY, NOW), Verdict::BadMac);
        }
    }

    /// Two nodes may be `SKEW` apart, and not a second more.
    #[test]
    fn the_skew_on_both_sides() {
        let words = HEADER_OF_TEST.encode(HERE, &KEY);
        let judge = |now| verify(words, QUIC, HERE, &KEY, now);
        let expires = u64::from(HEADER_OF_TEST.expires);
        assert_eq!(judge(NOW - SKEW - 1), Verdict::Early);
        assert_eq!(judge(NOW - SKEW), Verdict::Valid);
        assert_eq!(judge(expires + SKEW - 1), Verdict::Valid);
        assert_eq!(judge(expires + SKEW), Verdict::Expired);
        // Times at the end of their range neither wrap nor panic.
        let last = Header {
            not_before: u32::MAX,
            expires: u32::MAX,
            ..HEADER_OF_TEST
        }
        .encode(HERE, &KEY);
        assert_eq!(judge(0), Verdict::Early);
        assert_eq!(verify(last, QUIC, HERE, &KEY, u64::from(u32::MAX)), Verdict::Valid);
        assert_eq!(verify(last, QUIC, HERE, &KEY, u64::MAX - SKEW), Verdict::Expired);
    }

    /// Who looks on could tell the clients behind one address apart, and follow each.
    #[test]
    fn headers_of_one_client_have_nothing_in_common() {
        let of = |nonce, client| {
            Header {
                nonce,
                client,
                ..HEADER_OF_TEST
            }
            .encode(HERE, &KEY)
        };
        let (one, again, other) = (of(1, 7), of(2, 7), of(3, 8));
        assert!(one[2] != again[2] && one[2] != 7 && one[2] != other[2]);
        assert_ne!(one[2] ^ again[2], of(1, 8)[2] ^ again[2]);
        assert_eq!((client(one, &KEY), client(again, &KEY), client(other, &KEY)), (7, 7, 8));
    }

    /// Every bit of a header counts.
    #[test]
    fn no_bit_can_be_flipped() {
        let words = HEADER_OF_TEST.encode(HERE, &KEY);
        for bit in 0..HEADER * 8 {
            let mut forged = words;
            forged[bit / 64] ^= 1 << (bit % 64);
            assert_ne!(verify(forged, QUIC, HERE, &KEY, NOW), Verdict::Valid, "bit {bit}");
            assert_ne!(verify(forged, QUIC, HERE, &KEY, NOW), Verdict::Early, "bit {bit}");
        }
    }

    /// Neighbours in a /64 are one client, and a mapped address is the IPv4 address it holds.
    #[test]
    fn prefixes() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), HERE);
        assert_eq!(of("192.0.2.1"), HERE);
        assert_eq!(HERE.word, 0x0102_00c0);
        assert_eq!(of("1.2.3.4").word, of("102:304::").word);
        assert_ne!(of("1.2.3.4"), of("102:304::"));
        // Behind a translator every IPv4 client would be one, and pay for all.
        assert_eq!(of("64:ff9b::192.0.2.1"), HERE);
        assert_ne!(of("64:ff9b::192.0.2.2"), HERE);
        for other in [
            "64:ff9b:1::192.0.2.1",
            "64:ff9b:0:0:0:1:c000:201",
            "64:ff9b::1:c000:201",
        ] {
            assert_eq!(of(other).family, 6, "{other}");
        }
    }
}
