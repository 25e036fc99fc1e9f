//! Signed tokens and documents of keys: whatever bytes come, reading them ends, nothing made up
//! passes, and what passes names no algorithm that its key is not for. `cd tests/fuzz && cargo
//! +nightly fuzz run jwt`.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use edge::base::clock::UnixTime;
use edge::config::rule::jwt::{Algorithm, Jwt, Key, KeyFile, Source, keys};
use edge::rules::jwt::check;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use ring::hmac;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
/// The key `[0; 32]`.
const KEYS: &[u8] = br#"{"keys":[{"kty":"oct","kid":"a","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;

static JWT: LazyLock<Jwt> = LazyLock::new(|| Jwt {
    source: Source::File(KeyFile::new("jwks.json".into(), Vec::new())),
    issuer: None,
    audience: Vec::new(),
    leeway: Duration::ZERO,
    header: AUTHORIZATION,
    cookie: Some("token".into()),
    claims: Vec::new(),
    forward: false,
    challenges: ["Bearer"; 2].map(HeaderValue::from_static),
});

static HELD: LazyLock<Vec<Key>> = LazyLock::new(|| keys(KEYS).expect("sound"));

/// Base64url without padding.
fn url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for letter in 0..=three.len() {
            text.push(char::from(LETTERS[(number >> (18 - 6 * letter) & 63) as usize]));
        }
    }
    text
}

fuzz_target!(|input: &[u8]| {
    // As a document of keys.
    for key in keys(input).unwrap_or_default() {
        assert!(
            !(key.takes(Algorithm::HS256) && key.takes(Algorithm::RS256)),
            "two kinds"
        );
    }

    // As a token, in the field and in the cookie.
    for (name, front) in [("authorization", "Bearer "), ("cookie", "token=")] {
        if let Ok(value) = HeaderValue::from_bytes(&[front.as_bytes(), input].concat()) {
            let headers = HeaderMap::from_iter([(name.parse().expect("sound"), value)]);
            assert!(check(&JWT, &HELD, &headers, NOW).is_err(), "made up");
        }
    }

    // As header and payload of a token that is signed, parted by a zero.
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (header, payload) = input.split_at(at);
    let payload = payload.get(1..).unwrap_or_default();
    let signed = format!("{}.{}", url(header), url(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), signed.as_bytes());
    let token = format!("Bearer {signed}.{}", url(tag.as_ref()));
    let Ok(value) = HeaderValue::try_from(token) else {
        return;
    };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    if let Ok(claims) = check(&JWT, &HELD, &headers, NOW) {
        assert!(claims.text("exp").is_some(), "no end");
        assert!(claims.texts().len() <= payload.len());
    }
});
