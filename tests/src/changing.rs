//! Pages as applications make them: most of it stays, and fields in its midst change on every
//! request.
//!
//! The demo's origin serves them, and `cargo xtask bench delta` measures with them.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// A generator of repeatable noise (splitmix64).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The same seed gives the same noise.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one for each run and call.
    pub fn of_now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(1))
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`, which is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// So many hexadecimal digits.
    fn hex(&mut self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            // Writing to a String cannot fail.
            let _ = write!(text, "{:016x}", self.draw());
        }
        text.truncate(digits);
        text
    }
}

/// A vocabulary, and words of it: text that compresses about as well as prose does.
fn words(noise: &mut Noise, length: usize) -> String {
    let syllables = [
        "ba", "cor", "den", "el", "fi", "gra", "hu", "in", "jo", "ka", "lo", "men", "no", "or", "pre", "qui", "ra",
        "si", "ter", "un", "ver", "wo",
    ];
    let mut pick = |n: u64| usize::try_from(noise.below(n)).unwrap_or(0);
    let vocabulary: Vec<String> = (0..1_500)
        .map(|_| {
            let count = 1 + pick(3);
            (0..count).map(|_| syllables[pick(syllables.len() as u64)]).collect()
        })
        .collect();
    let mut text = String::with_capacity(length + 128);
    while text.len() < length {
        text.push_str("<p class=\"lead\">");
        for _ in 0..8 + pick(40) {
            // Some words are frequent, as in any language.
            let most = 1 + pick(vocabulary.len() as u64);
            text.push_str(&vocabulary[pick(most as u64)]);
            text.push(' ');
        }
        text.push_str("</p>\n");
    }
    text
}

/// A page's part that stays, of about `length` bytes; the same for the same length.
pub fn bulk(length: usize) -> String {
    words(&mut Noise::new(length as u64), length)
}

/// A page around `bulk`: tokens, a time, prices and stocks as `noise` has them.
pub fn page(bulk: &str, noise: &mut Noise) -> String {
    let half = (bulk.len() / 2..bulk.len())
        .find(|&at| bulk.is_char_boundary(at))
        .unwrap_or(0);
    let (above, below) = bulk.split_at(half);
    let mut page = format!(
        "<!doctype html><html><head><title>A page</title><meta name=\"csrf-token\" content=\"{}\">\
         <meta name=\"request-id\" content=\"{}\"><script nonce=\"{}\">window.state={{\"at\":{},\"cart\":{}}}</script>\
         </head><body>\n{above}<ul>\n",
        noise.hex(64),
        noise.hex(32),
        noise.hex(24),
        1_790_000_000_000_u64 + noise.below(9_999_999_999),
        noise.below(10)
    );
    for item in 0..12 {
        let _ = writeln!(
            page,
            "<li class=\"card\" data-id=\"{}\"><a href=\"/p/{}\">Item {item}</a><span class=\"price\">{}.{:02}</span>\
             <span class=\"stock\">{} left</span></li>",
            10_000 + item,
            10_000 + item,
            5 + noise.below(995),
            noise.below(100),
            noise.below(500)
        );
    }
    let _ = write!(
        page,
        "</ul>\n{below}<footer>Rendered in {} ms</footer></body></html>\n",
        20 + noise.below(380)
    );
    page
}

/// An answer of an interface: `records` of which three in ten have changed since the one before.
pub fn json(records: u64, noise: &mut Noise) -> String {
    let mut steady = Noise::new(records);
    let mut out = format!("{{\"request\":\"{}\",\"items\":[", noise.hex(32));
    for id in 0..records {
        let separator = if id == 0 { "" } else { "," };
        let (sku, mut price, mut stock) = (steady.hex(8), steady.below(100_000), steady.below(500));
        let description = steady.hex(60);
        if noise.below(10) < 3 {
            (price, stock) = (noise.below(100_000), noise.below(500));
        }
        let _ = write!(
            out,
            "{separator}{{\"id\":{id},\"sku\":\"{sku}\",\"description\":\"{description}\",\"price\":{}.{:02},\"stock\":{stock}}}",
            price / 100,
            price % 100
        );
    }
    out.push_str("]}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the bench would measure pages that change much more, or not at all.
    #[test]
    fn little_changes_and_something_does() {
        let bulk = bulk(100_000);
        let mut noise = Noise::new(1);
        let (one, two) = (page(&bulk, &mut noise), page(&bulk, &mut noise));
        assert_ne!(one, two);
        assert!((100_000..103_000).contains(&one.len()), "{}", one.len());
        let same = one.lines().filter(|line| two.contains(line)).count();
        assert!(same * 10 > one.lines().count() * 9);
        let (one, two) = (json(200, &mut noise), json(200, &mut noise));
        assert!(one != two && one.starts_with('{') && one.ends_with("]}\n"));
    }
}
