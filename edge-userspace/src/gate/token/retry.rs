//! Retry tokens that the XDP program minted, opened for the QUIC library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_common::retry::{self, Source, WORDS};
use edge_common::token::Verdict;

use super::Tokens;
use crate::base::clock::UnixTime;

/// What a genuine Retry token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retried {
    /// To whom the Retry went.
    pub address: IpAddr,
    /// From which port the client had asked.
    pub port: u16,
    /// When, in seconds since 1970.
    pub issued: u64,
    id: [u8; 24],
    length: usize,
}

impl Retried {
    /// The destination connection id of the client's first Initial (RFC 9000 section 7.3); at most
    /// 20 bytes.
    pub fn original(&self) -> &[u8] {
        self.id.get(..self.length).unwrap_or_default()
    }
}

impl Tokens {
    /// Opens a token of [`edge_common::retry`]; whoever asks must compare address and port with the
    /// packet's. `None`: forged, or older than [`retry::LIFE`] seconds and some skew.
    pub fn open_retry(&self, now: UnixTime, token: &[u8; retry::LENGTH]) -> Option<Retried> {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(token.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        let [_, key, family, length, port_high, port_low, ..] = *token;
        let (a, b) = (words.get(2).copied()?, words.get(3).copied()?);
        let source = Source {
            address: [a, b],
            port: u16::from_be_bytes([port_high, port_low]),
            family,
        };
        let verdict = self.with_ring(now, |ring| {
            Some(retry::verify(words, source, &ring.named(key)?.header, now.secs()))
        })?;
        if verdict != Verdict::Valid {
            return None;
        }
        let address = token.get(16..32)?;
        Some(Retried {
            address: match family {
                4 => IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?)),
                6 => IpAddr::V6(Ipv6Addr::from(*address.first_chunk::<16>()?)),
                _ => return None,
            },
            port: source.port,
            issued: words.get(1)?.swap_bytes(),
            id: token.get(32..56)?.try_into().ok()?,
            length: usize::from(length),
        })
    }
}
