//! What TLS signs, built from its parts, and taken apart again. The key server only ever signs what
//! these functions build, so that whoever steals an edge's certificate can have handshakes signed,
//! and nothing else. The edge takes apart what its TLS library wants signed.

use super::value::{Random, Share, Transcript};

/// What stands in front of the transcript's hash: 64 spaces, the context string, a zero (RFC 8446
/// section 4.4.3).
const TLS13_PREFIX: &[u8; 98] =
    b"                                                                TLS 1.3, server CertificateVerify\0";

/// What a server's CertificateVerify signs (RFC 8446 section 4.4.3).
pub fn tls13(transcript: &Transcript) -> Vec<u8> {
    [TLS13_PREFIX.as_slice(), transcript.bytes()].concat()
}

/// The transcript's hash in what a server's CertificateVerify signs; `None` if it is something
/// else.
pub fn split_tls13(message: &[u8]) -> Option<Transcript> {
    Transcript::new(message.strip_prefix(TLS13_PREFIX)?)
}

/// What a ServerKeyExchange signs: both randoms, then ServerECDHParams (RFC 8422 section 5.4).
pub fn tls12(client_random: &Random, server_random: &Random, share: &Share) -> Vec<u8> {
    let mut message = Vec::with_capacity(64 + 4 + 97);
    message.extend(client_random);
    message.extend(server_random);
    share.write_params(&mut message);
    message
}

/// The parts of what a ServerKeyExchange signs: client random, server random, share; `None` if it
/// is something else.
pub fn split_tls12(message: &[u8]) -> Option<(Random, Random, Share)> {
    let (client_random, rest) = message.split_first_chunk()?;
    let (server_random, params) = rest.split_first_chunk()?;
    Some((*client_random, *server_random, Share::from_params(params)?))
}
