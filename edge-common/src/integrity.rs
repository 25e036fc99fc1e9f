//! The integrity tag of a QUIC version 1 Retry packet (RFC 9001 section 5.8) without AES at run
//! time.
//!
//! The tag is AES-128-GCM's over an empty plaintext, with the Retry pseudo-packet as associated
//! data, under a key and a nonce that the RFC publishes. So both things that AES is for are
//! constants: the hash key H and the encrypted first counter block (NIST SP 800-38D sections 6.4
//! and 7.1). What is left is GHASH, here by a table of H's multiples, one for each value of a byte,
//! and one of what a shifted out byte is reduced to (method of section 4.1 of D. McGrew and J.
//! Viega, "The Galois/Counter Mode of Operation"). There is no secret, so the tables' timing tells
//! nothing.

/// A block of 16 bytes as two words, the first byte the most significant.
pub type Block = [u64; 2];

/// AES-128 of the zero block under the key be0c690b9f66575a1d766b54e368c84e.
const H: Block = [0x7295_6a45_4ffa_ff54, 0x85a1_3a12_44d0_1d47];
/// AES-128 of the nonce 461599d35d632bf2239825bb and the counter 1 under the same key.
const FIRST: Block = [0x555e_4b74_9355_6eea, 0xaf75_d35b_d7fb_a5d8];
/// The polynomial x^128 + x^7 + x^2 + x + 1, reflected.
const REDUCTION: u64 = 0xe1 << 56;

/// Multiplies by x.
const fn shifted([high, low]: Block) -> Block {
    let carry = low & 1;
    [
        (high >> 1) ^ (if carry == 1 { REDUCTION } else { 0 }),
        (high << 63) | (low >> 1),
    ]
}

/// H times each byte as a polynomial, the most significant bit the lowest power.
static MULTIPLES: [Block; 256] = {
    let mut table = [[0; 2]; 256];
    let mut power = H;
    let mut bit = 128;
    while bit > 0 {
        table[bit] = power;
        power = shifted(power);
        bit /= 2;
    }
    let mut byte = 1_usize;
    while byte < 256 {
        // The lowest bit that is set, and the rest, which came before.
        let low = byte & byte.wrapping_neg();
        let rest = byte ^ low;
        table[byte] = [table[low][0] ^ table[rest][0], table[low][1] ^ table[rest][1]];
        byte += 1;
    }
    table
};

/// What a byte that is shifted out at the end adds at the front.
static REDUCED: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut block = [0, byte as u64];
        let mut bits = 0;
        while bits < 8 {
            block = shifted(block);
            bits += 1;
        }
        table[byte] = (block[0] >> 48) as u16;
        byte += 1;
    }
    table
};

/// `hash` with one more `block` taken in.
#[inline(always)]
pub fn absorb(hash: Block, block: Block) -> Block {
    let [high, low] = [hash[0] ^ block[0], hash[1] ^ block[1]];
    let mut product = [0_u64; 2];
    let mut at = 0;
    // Horner's rule from the last byte to the first.
    while at < 16 {
        let byte = if at < 8 {
            low >> (8 * at)
        } else {
            high >> (8 * (at - 8))
        } as u8;
        let [front, back] = product;
        let multiple = &MULTIPLES[byte as usize];
        product = [
            (front >> 8) ^ ((REDUCED[back as u8 as usize] as u64) << 48) ^ multiple[0],
            (front << 56 | back >> 8) ^ multiple[1],
        ];
        at += 1;
    }
    product
}

/// The tag of a pseudo-packet of `length` bytes (section 5.8), whose blocks, zero padded, gave
/// `hash`.
#[inline(always)]
pub fn tag(hash: Block, length: u64) -> Block {
    let [high, low] = absorb(hash, [length * 8, 0]);
    [high ^ FIRST[0], low ^ FIRST[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pseudo: &[u8]) -> [u8; 16] {
        let mut hash = [0; 2];
        for chunk in pseudo.chunks(16) {
            let mut block = [0; 16];
            block[..chunk.len()].copy_from_slice(chunk);
            let words = u128::from_be_bytes(block);
            hash = absorb(hash, [(words >> 64) as u64, words as u64]);
        }
        let [high, low] = tag(hash, pseudo.len() as u64);
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// A Retry with another tag is thrown away, and nobody gets in. RFC 9001 appendix A.4: the
    /// packet ff000000010008 f067a5502a4262b5 746f6b656e, its tag at the end, and the original
    /// destination connection id 8394c8f03e515708.
    #[test]
    fn the_published_example() {
        let pseudo = [
            0x08, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0xff, 0, 0, 0, 1, 0, 0x08, 0xf0, 0x67, 0xa5, 0x50,
            0x2a, 0x42, 0x62, 0xb5, 0x74, 0x6f, 0x6b, 0x65, 0x6e,
        ];
        let expected = 0x04a2_65ba_2eff_4d82_9058_fb3f_0f24_96ba_u128;
        assert_eq!(of(&pseudo), expected.to_be_bytes());
    }
}
