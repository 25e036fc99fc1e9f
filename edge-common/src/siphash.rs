//! SipHash with a 64-bit result: the MAC of everything that a packet can prove to the XDP program.
//!
//! [`words`] is the kernel's form: a fixed number of whole words, no slice, no remainder, and loops
//! whose counts are known when they are compiled. [`bytes`] takes any length and gives the same
//! result for the same bytes.
//!
//! Source: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012,
//! <https://eprint.iacr.org/2012/351>. Rounds for each word, and to finish: [`Rounds::Two4`] is the
//! paper's own choice. A forger who does not know the key succeeds with probability 2^-64 an
//! attempt (section 5 of the paper). [`Rounds::One3`] is the paper's family with fewer rounds, for
//! MACs that only let a packet into user space, which checks an AEAD again: no attack on it is
//! known either, and it takes the kernel 8 rounds where the other takes 14 (4 words).

/// A key's two halves: bytes 0..8 and 8..16, each read as a little-endian word.
#[derive(Clone, Copy)]
pub struct Key(pub u64, pub u64);

impl Key {
    /// The key in `bytes`.
    pub const fn new(bytes: &[u8; 16]) -> Self {
        Self(word(bytes, 0), word(bytes, 8))
    }
}

/// How many rounds a hash takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounds {
    /// One for each word, three to finish: SipHash-1-3.
    One3,
    /// Two for each word, four to finish: SipHash-2-4.
    Two4,
}

impl Rounds {
    const fn each(self) -> u8 {
        match self {
            Self::One3 => 1,
            Self::Two4 => 2,
        }
    }

    const fn last(self) -> u8 {
        match self {
            Self::One3 => 3,
            Self::Two4 => 4,
        }
    }
}

struct State(u64, u64, u64, u64);

impl State {
    #[inline(always)]
    const fn new(key: Key) -> Self {
        // "somepseudorandomlygeneratedbytes", section 2.2 of the paper.
        Self(
            key.0 ^ 0x736f_6d65_7073_6575,
            key.1 ^ 0x646f_7261_6e64_6f6d,
            key.0 ^ 0x6c79_6765_6e65_7261,
            key.1 ^ 0x7465_6462_7974_6573,
        )
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let Self(mut a, mut b, mut c, mut d) = self;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        Self(a, b, c, d)
    }

    #[inline(always)]
    const fn rounds(mut self, count: u8) -> Self {
        let mut i = 0;
        while i < count {
            self = self.round();
            i += 1;
        }
        self
    }

    /// Takes in one little-endian word of the message.
    #[inline(always)]
    const fn absorb(mut self, word: u64, rounds: Rounds) -> Self {
        self.3 ^= word;
        self = self.rounds(rounds.each());
        self.0 ^= word;
        self
    }

    #[inline(always)]
    const fn finish(mut self, rounds: Rounds) -> u64 {
        self.2 ^= 0xff;
        let Self(a, b, c, d) = self.rounds(rounds.last());
        a ^ b ^ c ^ d
    }
}

/// The hash of `N` words, each the little-endian reading of 8 bytes; `N` and `rounds` are known
/// when the code is compiled, `N` is at most 31.
#[inline(always)]
pub const fn words<const N: usize>(rounds: Rounds, key: Key, message: [u64; N]) -> u64 {
    const { assert!(N < 32, "the length byte would wrap") };
    let mut state = State::new(key);
    let mut i = 0;
    while i < N {
        state = state.absorb(message[i], rounds);
        i += 1;
    }
    state.absorb((N as u64 * 8) << 56, rounds).finish(rounds)
}

/// The hash of any bytes; for user space and for constants.
pub const fn bytes(rounds: Rounds, key: Key, message: &[u8]) -> u64 {
    let mut state = State::new(key);
    let whole = message.len() - message.len() % 8;
    let mut i = 0;
    while i < whole {
        state = state.absorb(word(message, i), rounds);
        i += 8;
    }
    // The last word: what remains, and the length's low byte on top.
    let mut last = (message.len() as u64) << 56;
    while i < message.len() {
        last |= (message[i] as u64) << (8 * (i - whole));
        i += 1;
    }
    state.absorb(last, rounds).finish(rounds)
}

/// The little-endian word at `at`; the callers keep within bounds.
const fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = 0;
    let mut i = 0;
    while i < 8 {
        word |= (bytes[at + i] as u64) << (8 * i);
        i += 1;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and message of the published vectors: bytes counting from 0.
    const COUNTING: [u8; 64] = {
        let mut bytes = [0; 64];
        let mut i = 0;
        while i < 64 {
            bytes[i] = i as u8;
            i += 1;
        }
        bytes
    };
    const KEY: Key = Key(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

    /// `vectors_sip64` of the reference implementation (github.com/veorq/SipHash, vectors.h), read
    /// as little-endian words: element `n` is the hash of the first `n` bytes. Appendix A of the
    /// paper is element 15.
    #[rustfmt::skip]
    const VECTORS: [u64; 64] = [
        0x726f_db47_dd0e_0e31, 0x74f8_39c5_93dc_67fd, 0x0d6c_8009_d9a9_4f5a, 0x8567_6696_d7fb_7e2d,
        0xcf27_94e0_2771_87b7, 0x1876_5564_cd99_a68d, 0xcbc9_466e_58fe_e3ce, 0xab02_00f5_8b01_d137,
        0x93f5_f579_9a93_2462, 0x9e00_82df_0ba9_e4b0, 0x7a5d_bbc5_94dd_b9f3, 0xf4b3_2f46_226b_ada7,
        0x751e_8fbc_860e_e5fb, 0x14ea_5627_c084_3d90, 0xf723_ca90_8e7a_f2ee, 0xa129_ca61_49be_45e5,
        0x3f2a_cc7f_57c2_9bdb, 0x699a_e9f5_2cbe_4794, 0x4bc1_b3f0_968d_d39c, 0xbb6d_c91d_a779_61bd,
        0xbed6_5cf2_1aa2_ee98, 0xd0f2_cbb0_2e3b_67c7, 0x9353_6795_e3a3_3e88, 0xa80c_038c_cd5c_cec8,
        0xb8ad_50c6_f649_af94, 0xbce1_92de_8a85_b8ea, 0x17d8_35b8_5bbb_15f3, 0x2f2e_6163_076b_cfad,
        0xde4d_aaac_a71d_c9a5, 0xa6a2_5066_8795_6571, 0xad87_a353_5c49_ef28, 0x32d8_92fa_d841_c342,
        0x7127_512f_72f2_7cce, 0xa7f3_2346_f959_78e3, 0x12e0_b01a_bb05_1238, 0x15e0_34d4_0fa1_97ae,
        0x314d_ffbe_0815_a3b4, 0x0279_90f0_2962_3981, 0xcadc_d4e5_9ef4_0c4d, 0x9abf_d876_6a33_735c,
        0x0e3e_a96b_5304_a7d0, 0xad0c_42d6_fc58_5992, 0x1873_06c8_9bc2_15a9, 0xd4a6_0abc_f379_2b95,
        0xf935_451d_e4f2_1df2, 0xa953_8f04_1975_5787, 0xdb9a_cddf_f56c_a510, 0xd06c_98cd_5c09_75eb,
        0xe612_a3cb_9ecb_a951, 0xc766_e62c_fcad_af96, 0xee64_435a_9752_fe72, 0xa192_d576_b245_165a,
        0x0a87_87bf_8ecb_74b2, 0x81b3_e73d_20b4_9b6f, 0x7fa8_220b_a3b2_ecea, 0x2457_31c1_3ca4_2499,
        0xb78d_bfaf_3a8d_83bd, 0xea1a_d565_322a_1a0b, 0x60e6_1c23_a379_5013, 0x6606_d7e4_4628_2b93,
        0x6ca4_ecb1_5c5f_91e1, 0x9f62_6da1_5c96_25f3, 0xe51b_3860_8ef2_5f57, 0x958a_324c_eb06_4572,
    ];

    /// A hash that is not SipHash is a MAC of unknown strength, and another node would refuse our
    /// tokens.
    #[test]
    fn published_vectors() {
        let mut key = [0; 16];
        key.copy_from_slice(&COUNTING[..16]);
        let key = Key::new(&key);
        assert_eq!((key.0, key.1), (KEY.0, KEY.1));
        for (n, expected) in VECTORS.iter().enumerate() {
            assert_eq!(bytes(Rounds::Two4, KEY, &COUNTING[..n]), *expected, "{n} bytes");
        }
    }

    /// The same for fewer rounds. No paper has vectors of SipHash-1-3: these are the results of
    /// Rust's standard library, whose maps hash with it, for the same key and messages of that many
    /// bytes.
    #[test]
    fn fewer_rounds_are_those_of_the_standard_library() {
        let expected: [(usize, u64); 13] = [
            (0, 0xabac_0158_050f_c4dc),
            (1, 0xc9f4_9bf3_7d57_ca93),
            (7, 0xd392_7d98_9bb1_1140),
            (8, 0x3690_9511_8d29_9a8e),
            (9, 0x25a4_8eb3_6c06_3de4),
            (15, 0xd320_d86d_2a51_9956),
            (16, 0xcc4f_dd1a_7d90_8b66),
            (23, 0x525a_0e7f_dae6_c123),
            (24, 0xf464_aeb2_6734_9c8c),
            (31, 0x2370_dd1f_8c21_d1bc),
            (32, 0x8115_7b6c_16a7_b60d),
            (40, 0xc1d2_3632_99e4_1531),
            (63, 0x9d19_9062_b7bb_b3a8),
        ];
        for (n, expected) in expected {
            assert_eq!(bytes(Rounds::One3, KEY, &COUNTING[..n]), expected, "{n} bytes");
        }
    }

    /// The kernel's form must agree with the other, or it would drop every valid token.
    #[test]
    fn whole_words_agree_with_bytes() {
        const fn message<const N: usize>() -> [u64; N] {
            let mut message = [0; N];
            let mut i = 0;
            while i < N {
                message[i] = word(&COUNTING, i * 8);
                i += 1;
            }
            message
        }
        assert_eq!(words(Rounds::Two4, KEY, message::<0>()), VECTORS[0]);
        assert_eq!(words(Rounds::Two4, KEY, message::<1>()), VECTORS[8]);
        assert_eq!(words(Rounds::Two4, KEY, message::<2>()), VECTORS[16]);
        assert_eq!(words(Rounds::Two4, KEY, message::<3>()), VECTORS[24]);
        assert_eq!(words(Rounds::Two4, KEY, message::<4>()), VECTORS[32]);
        assert_eq!(words(Rounds::Two4, KEY, message::<5>()), VECTORS[40]);
        assert_eq!(words(Rounds::Two4, KEY, message::<6>()), VECTORS[48]);
        assert_eq!(words(Rounds::Two4, KEY, message::<7>()), VECTORS[56]);
        assert_eq!(
            words(Rounds::One3, KEY, message::<4>()),
            bytes(Rounds::One3, KEY, &COUNTING[..32])
        );
        assert_eq!(
            words(Rounds::Two4, KEY, message::<8>()),
            bytes(Rounds::Two4, KEY, &COUNTING)
        );
        // Known when compiled, too.
        const NOW: u64 = words(Rounds::Two4, KEY, message::<4>());
        assert_eq!(NOW, VECTORS[32]);
    }
}
