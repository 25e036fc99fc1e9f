//! Static RSA key exchange (RFC 5246 section 7.4.7.1): the premaster secret out of a decrypted
//! block, and the master secret from it. Whether the padding was good decides which of two secrets
//! is taken, by masks: no branch, no index, no error and no length depends on it, so that nobody
//! learns it (Bleichenbacher 1998; RFC 7457 section 2.5).

use aws_lc_rs::{hmac, tls_prf};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use super::wire::{Prf, Seed, Transcript};

/// Bytes of a premaster and of a master secret.
pub(super) const SECRET: usize = 48;
/// A secret of a handshake.
pub(super) type Secret = Zeroizing<[u8; SECRET]>;

/// The premaster in `block` if its padding is that of PKCS#1 v1.5 around 48 bytes that begin with
/// `version`; the `stand_in` otherwise. `block` is as long as the modulus, at least 256 bytes.
pub(super) fn select(block: &[u8], version: u16, stand_in: &Secret) -> Secret {
    let mut chosen: Secret = stand_in.clone();
    // The block's length is the modulus's, which everybody knows.
    let Some((padding, premaster)) = block.split_last_chunk::<SECRET>() else {
        return chosen;
    };
    let mut good = Choice::from(1);
    // 0, 2, non-zero bytes, 0: the last at one place only, for the message must have 48 bytes.
    let last = padding.len().saturating_sub(1);
    for (i, byte) in padding.iter().enumerate() {
        good &= match i {
            0 => byte.ct_eq(&0),
            1 => byte.ct_eq(&2),
            i if i == last => byte.ct_eq(&0),
            _ => !byte.ct_eq(&0),
        };
    }
    let [high, low] = version.to_be_bytes();
    let [first, second, ..] = premaster;
    good &= first.ct_eq(&high) & second.ct_eq(&low);
    for (to, from) in chosen.iter_mut().zip(premaster) {
        to.conditional_assign(from, good);
    }
    chosen
}

/// What stands in for the premaster of a block that is not sound. As a premaster it begins with
/// `version`, and it is the same whenever the same `ciphertext` comes, at every server that has the
/// key: asking twice, or two servers, tells nothing. To whoever has not the `secret`, which follows
/// from the private key alone, it is random.
pub(super) fn stand_in(secret: &[u8; 32], version: u16, ciphertext: &[u8]) -> Secret {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let [high, low] = version.to_be_bytes();
    let mut stand_in = Secret::default_zeroed();
    for (number, part) in (1_u8..).zip(stand_in.chunks_mut(32)) {
        let mut context = hmac::Context::with_key(&key);
        context.update(&[number, high, low]);
        context.update(ciphertext);
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        for (to, from) in part.iter_mut().zip(tag) {
            *to = from;
        }
        tag.zeroize();
    }
    for (to, from) in stand_in.iter_mut().zip([high, low]) {
        *to = from;
    }
    stand_in
}

/// The master secret (RFC 5246 section 8.1, RFC 7627 section 4). `None` if the library fails, which
/// no input makes it.
pub(super) fn master(premaster: &Secret, seed: &Seed) -> Option<Secret> {
    let (label, prf, first, second): (&[u8], _, &[u8], &[u8]) = match seed {
        Seed::Randoms { prf, client, server } => (b"master secret", *prf, client, server),
        Seed::Session(hash) => {
            let prf = match hash {
                Transcript::Sha256(_) => Prf::Sha256,
                Transcript::Sha384(_) => Prf::Sha384,
            };
            (b"extended master secret", prf, hash.bytes(), b"")
        }
    };
    let algorithm = match prf {
        Prf::Sha256 => &tls_prf::P_SHA256,
        Prf::Sha384 => &tls_prf::P_SHA384,
    };
    let derived = tls_prf::Secret::new(algorithm, premaster.as_slice())
        .and_then(|secret| secret.derive_with_seed_concatination(label, first, second, SECRET))
        .ok()?;
    let mut master = Secret::default_zeroed();
    master.copy_from_slice(derived.as_ref().get(..SECRET)?);
    Some(master)
}

/// `[u8; 48]` has no `Default`.
pub(super) trait Zeroed {
    /// All zeros.
    fn default_zeroed() -> Self;
}

impl Zeroed for Secret {
    fn default_zeroed() -> Self {
        Zeroizing::new([0; SECRET])
    }
}

#[cfg(test)]
mod tests {
    use ring::hmac;

    use super::*;

    const VERSION: u16 = 0x0303;

    fn block(length: usize) -> Vec<u8> {
        let mut block = vec![0xff; length - SECRET];
        block[0] = 0;
        block[1] = 2;
        block[length - SECRET - 1] = 0;
        block.extend(VERSION.to_be_bytes());
        block.extend([0x5a; SECRET - 2]);
        block
    }

    /// A padding that is taken though it is wrong, or refused though it is right, breaks handshakes
    /// or leaks the key.
    #[test]
    fn only_sound_padding_gives_the_premaster() {
        let random = Zeroizing::new([0xee; SECRET]);
        for length in [256, 384, 512] {
            let good = block(length);
            assert_eq!(select(&good, VERSION, &random)[..], good[length - SECRET..]);
            let message = length - SECRET;
            let mut wrong: Vec<(usize, u8)> =
                vec![(0, 1), (1, 1), (1, 0), (message - 1, 1), (message, 2), (message + 1, 4)];
            // A zero that ends the padding too early, anywhere.
            wrong.extend((2..message - 1).map(|at| (at, 0)));
            for (at, byte) in wrong {
                let mut bad = good.clone();
                bad[at] = byte;
                assert_eq!(select(&bad, VERSION, &random), random, "byte {at} of {length}");
            }
        }
        assert_eq!(select(&[], VERSION, &random), random);
    }

    /// A stand-in that differs from a premaster in anything tells whether the padding was good
    /// (Bleichenbacher 1998).
    #[test]
    fn stand_ins_are_like_premasters() {
        let (one, other) = ([1; 32], [2; 32]);
        let first = stand_in(&one, VERSION, &[7; 256]);
        assert_eq!(first, stand_in(&one, VERSION, &[7; 256]));
        assert_eq!(first[..2], VERSION.to_be_bytes());
        let others = [
            stand_in(&other, VERSION, &[7; 256]),
            stand_in(&one, VERSION, &[8; 256]),
            stand_in(&one, 0x0302, &[7; 256]),
        ];
        for other in &others {
            for part in [2..18, 18..34, 34..48] {
                assert_ne!(other[part.clone()], first[part]);
            }
        }
        assert_eq!(others[2][..2], [3, 2]);
    }

    /// P_hash of RFC 5246 section 5, written anew from its text on another library.
    fn prf(algorithm: hmac::Algorithm, secret: &[u8], label: &[u8], seed: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(algorithm, secret);
        let seed = [label, seed].concat();
        let mut a = hmac::sign(&key, &seed).as_ref().to_vec();
        let mut out = Vec::new();
        while out.len() < SECRET {
            out.extend(hmac::sign(&key, &[a.as_slice(), &seed].concat()).as_ref());
            a = hmac::sign(&key, &a).as_ref().to_vec();
        }
        out.truncate(SECRET);
        out
    }

    /// Another master secret than the client's ends every handshake.
    #[test]
    fn master_secrets() {
        let premaster = Zeroizing::new(std::array::from_fn(|i| i as u8));
        let (client, server) = ([1; 32], [2; 32]);
        let randoms = [client, server].concat();
        let cases: [(Seed, hmac::Algorithm, &[u8], &[u8]); 4] = [
            (
                Seed::Randoms {
                    prf: Prf::Sha256,
                    client,
                    server,
                },
                hmac::HMAC_SHA256,
                b"master secret",
                &randoms,
            ),
            (
                Seed::Randoms {
                    prf: Prf::Sha384,
                    client,
                    server,
                },
                hmac::HMAC_SHA384,
                b"master secret",
                &randoms,
            ),
            (
                Seed::Session(Transcript::Sha256([7; 32])),
                hmac::HMAC_SHA256,
                b"extended master secret",
                &[7; 32],
            ),
            (
                Seed::Session(Transcript::Sha384([7; 48])),
                hmac::HMAC_SHA384,
                b"extended master secret",
                &[7; 48],
            ),
        ];
        for (seed, algorithm, label, bytes) in cases {
            let expected = prf(algorithm, premaster.as_slice(), label, bytes);
            assert_eq!(master(&premaster, &seed).unwrap()[..], expected, "{seed:?}");
        }
        // P_SHA256's test vector that the TLS working group passed round ("Test vectors for TLS 1.2
        // PRF", 2009).
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
        let expected =
            hex("e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af");
        assert_eq!(prf(hmac::HMAC_SHA256, &secret, b"test label", &seed), expected);
    }
}
