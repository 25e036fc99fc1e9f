//! What there is to know of static RSA (RFC 5246 section 7.4.7.1) without a library that speaks it:
//! which clients have no other key exchange, which `hello` asks before any cryptography, and the
//! form of an encrypted premaster, which `legacy` needs.

use rustls::{CipherSuite, SignatureAlgorithm, SupportedCipherSuite};

/// The suites of static RSA that are spoken, the preferred first: those with AES, authenticated
/// encryption before CBC.
pub(super) const SUITES: [CipherSuite; 4] = [
    CipherSuite::TLS_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA,
    CipherSuite::TLS_RSA_WITH_AES_256_CBC_SHA,
];

/// The same by BoringSSL's names.
pub(super) const NAMES: &str = "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA";

/// Bytes of a premaster secret.
pub(super) const PREMASTER: usize = 48;

/// Whether a client that offers `offered` to a zone with an RSA key shares a static-RSA suite with
/// us and nothing better: none of `ours`, the suites of rustls. A suite that neither side of this
/// house speaks (of RC4, DHE, ECDHE with CBC) does not count, so that whoever rustls can serve,
/// rustls serves.
pub(super) fn only(offered: impl Iterator<Item = CipherSuite> + Clone, ours: &[SupportedCipherSuite]) -> bool {
    let better = |suite: CipherSuite| {
        ours.iter()
            .any(|one| one.suite() == suite && one.usable_for_signature_algorithm(SignatureAlgorithm::RSA))
    };
    offered.clone().any(|suite| SUITES.contains(&suite)) && !offered.clone().any(better)
}

/// Fills `block` as PKCS#1 v1.5 would have it (RFC 8017 section 7.2.1): 0, 2, at least eight bytes
/// that are not 0, 0, the premaster. Gives the block's length; `None` if there is no room.
pub(super) fn wrap(premaster: &[u8], block: &mut [u8]) -> Option<usize> {
    let length = block.len();
    let (padding, message) = block.split_at_mut_checked(length.checked_sub(premaster.len())?)?;
    let [first, second, filler @ .., last] = padding else {
        return None;
    };
    if filler.len() < 8 {
        return None;
    }
    (*first, *second, *last) = (0, 2, 0);
    filler.fill(0xff);
    message.copy_from_slice(premaster);
    Some(length)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::ALL_CIPHER_SUITES;

    use super::*;

    fn judged(codes: &[u16]) -> bool {
        only(codes.iter().map(|code| CipherSuite::from(*code)), ALL_CIPHER_SUITES)
    }

    /// A modern client that got static RSA would lose forward secrecy for nothing.
    #[test]
    fn whoever_can_do_better_does() {
        for better in ALL_CIPHER_SUITES {
            let code = u16::from(better.suite());
            let rsa = better.usable_for_signature_algorithm(SignatureAlgorithm::RSA);
            // An ECDSA suite is of no use with an RSA key.
            assert_eq!(judged(&[0x009c, code]), !rsa, "{better:?}");
            assert_eq!(judged(&[code, 0x009c]), !rsa, "{better:?}");
            assert!(!judged(&[code]));
        }
    }

    /// What old devices offer, with their signalling values, GREASE and suites that nobody speaks
    /// any more.
    #[test]
    fn old_devices_are_known() {
        for code in [0x009c, 0x009d, 0x002f, 0x0035] {
            assert!(judged(&[code, 0x00ff]), "{code:04x}");
        }
        assert!(judged(&[0x0a0a, 0xc013, 0x0033, 0x000a, 0x0005, 0x002f, 0x5600]));
        // 3DES, RC4, CBC with SHA-256: there is nothing in common.
        for code in [0x000a, 0x0005, 0x003c, 0x00ff] {
            assert!(!judged(&[code]), "{code:04x}");
        }
        assert!(!judged(&[]));
    }

    /// Suites that are chosen by, but not spoken or in another order, would be refused by one of
    /// the two.
    #[test]
    fn names_are_the_suites() {
        let names: Vec<String> = SUITES
            .iter()
            .filter_map(|suite| Some(suite.as_str()?.strip_prefix("TLS_RSA_WITH_")?.replace("AES_", "AES")))
            .map(|name| name.replace("_CBC", "").replace('_', "-"))
            .collect();
        assert_eq!(names.join(":"), NAMES);
    }

    /// A block that BoringSSL does not take for sound gets a random premaster: no old device would
    /// get in.
    #[test]
    fn the_padding_is_sound() {
        let secret = [7; PREMASTER];
        for length in [256, 384, 512, PREMASTER + 11] {
            let mut block = vec![1; length];
            assert_eq!(wrap(&secret, &mut block), Some(length));
            assert_eq!(block[..2], [0, 2]);
            let end = length - PREMASTER - 1;
            assert!(block[2..end].iter().all(|byte| *byte != 0));
            assert_eq!((block[end], &block[end + 1..]), (0, &secret[..]));
        }
        for length in [0, PREMASTER, PREMASTER + 10] {
            assert_eq!(wrap(&secret, &mut vec![0; length]), None);
        }
    }
}
