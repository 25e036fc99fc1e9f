//! SipHash-2-4 with a 64-bit result: the MAC of everything that a packet can prove to the XDP program.
//!
//! [`words`] is the kernel's form: a fixed number of whole words, no slice, no remainder, and one loop at most, whose count
//! is known when it is compiled. [`bytes`] takes any length and gives the same result for the same bytes.
//!
//! Source: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012,
//! <https://eprint.iacr.org/2012/351>. Two rounds a word, four to finish. A forger who does not know the key succeeds with
//! probability 2^-64 an attempt (section 5 of the paper): enough to let a packet into user space, which checks again.

/// A key's two halves: bytes 0..8 and 8..16, each read as a little-endian word.
#[derive(Clone, Copy)]
pub struct Key(pub u64, pub u64);

impl Key {
    /// The key in `bytes`.
    pub const fn new(bytes: &[u8; 16]) -> Self {
        Self(word(bytes, 0), word(bytes, 8))
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

    /// Takes in one little-endian word of the message.
    #[inline(always)]
    const fn absorb(mut self, word: u64) -> Self {
        self.3 ^= word;
        self = self.round().round();
        self.0 ^= word;
        self
    }

    #[inline(always)]
    const fn finish(mut self) -> u64 {
        self.2 ^= 0xff;
        let Self(a, b, c, d) = self.round().round().round().round();
        a ^ b ^ c ^ d
    }
}

/// The hash of `N` words, each the little-endian reading of 8 bytes; `N` is known when the code is compiled, at most 31.
#[inline(always)]
pub const fn words<const N: usize>(key: Key, message: [u64; N]) -> u64 {
    const { assert!(N < 32, "the length byte would wrap") };
    let mut state = State::new(key);
    let mut i = 0;
    while i < N {
        state = state.absorb(message[i]);
        i += 1;
    }
    state.absorb((N as u64 * 8) << 56).finish()
}

/// The hash of any bytes; for user space and for constants.
pub const fn bytes(key: Key, message: &[u8]) -> u64 {
    let mut state = State::new(key);
    let whole = message.len() - message.len() % 8;
    let mut i = 0;
    while i < whole {
        state = state.absorb(word(message, i));
        i += 8;
    }
    // The last word: what remains, and the length's low byte on top.
    let mut last = (message.len() as u64) << 56;
    while i < message.len() {
        last |= (message[i] as u64) << (8 * (i - whole));
        i += 1;
    }
    state.absorb(last).finish()
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

    /// `vectors_sip64` of the reference implementation (github.com/veorq/SipHash, vectors.h), read as little-endian words:
    /// element `n` is the hash of the first `n` bytes. Appendix A of the paper is element 15.
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

    /// A hash that is not SipHash is a MAC of unknown strength, and another node would refuse our tokens.
    #[test]
    fn published_vectors() {
        let mut key = [0; 16];
        key.copy_from_slice(&COUNTING[..16]);
        let key = Key::new(&key);
        assert_eq!((key.0, key.1), (KEY.0, KEY.1));
        for (n, expected) in VECTORS.iter().enumerate() {
            assert_eq!(bytes(KEY, &COUNTING[..n]), *expected, "{n} bytes");
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
        assert_eq!(words(KEY, message::<0>()), VECTORS[0]);
        assert_eq!(words(KEY, message::<1>()), VECTORS[8]);
        assert_eq!(words(KEY, message::<2>()), VECTORS[16]);
        assert_eq!(words(KEY, message::<3>()), VECTORS[24]);
        assert_eq!(words(KEY, message::<4>()), VECTORS[32]);
        assert_eq!(words(KEY, message::<5>()), VECTORS[40]);
        assert_eq!(words(KEY, message::<6>()), VECTORS[48]);
        assert_eq!(words(KEY, message::<7>()), VECTORS[56]);
        assert_eq!(words(KEY, message::<8>()), bytes(KEY, &COUNTING));
        // Known when compiled, too.
        const NOW: u64 = words(KEY, message::<4>());
        assert_eq!(NOW, VECTORS[32]);
    }
}
