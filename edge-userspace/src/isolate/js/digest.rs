//! Digests and HMAC for the engine, by ring.

use ring::{digest, hmac};

/// The longest result, bytes.
pub(super) const LONGEST: usize = 64;

/// SHA-1 (1), SHA-256 (2), SHA-384 (3) or SHA-512 (4) of `bytes`.
pub(super) fn digest(algorithm: i32, bytes: &[u8]) -> Option<digest::Digest> {
    let algorithm = match algorithm {
        1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        2 => &digest::SHA256,
        3 => &digest::SHA384,
        4 => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, bytes))
}

/// HMAC of `bytes` with the same numbers of algorithms.
pub(super) fn mac(algorithm: i32, key: &[u8], bytes: &[u8]) -> Option<hmac::Tag> {
    let algorithm = match algorithm {
        1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        2 => hmac::HMAC_SHA256,
        3 => hmac::HMAC_SHA384,
        4 => hmac::HMAC_SHA512,
        _ => return None,
    };
    Some(hmac::sign(&hmac::Key::new(algorithm, key), bytes))
}
