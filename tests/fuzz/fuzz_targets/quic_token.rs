//! QUIC tokens as the daemon opens them: whatever comes, no token opens that was not minted, and
//! quinn gets content of its own kind.
#![no_main]

use std::sync::{Arc, LazyLock};

use edge::base::clock::UnixTime;
use edge::gate::keys::{Epochs, Secret};
use edge::gate::token::{ClientId, Tokens};
use edge::quic::token::TokenKey;
use libfuzzer_sys::fuzz_target;
use quinn_proto::crypto::HandshakeTokenKey;

/// Bytes of quinn's nonce, at the end of a token.
const NONCE: usize = 16;

static KEY: LazyLock<Arc<TokenKey>> = LazyLock::new(|| {
    let secret = Secret::new(b"an example of thirty-two bytes..").unwrap();
    let tokens = Arc::new(Tokens::new(secret, Epochs::DEFAULT, UnixTime::now()));
    TokenKey::of(tokens, ClientId(7))
});

fuzz_target!(|data: &[u8]| {
    // As a token of somebody.
    if let Some(at) = data.len().checked_sub(NONCE) {
        let (body, nonce) = data.split_at(at);
        let mut body = body.to_vec();
        assert!(
            KEY.aead_from_hkdf(nonce).open(&mut body, &[]).is_err(),
            "a token that nobody minted"
        );
    }
    // As quinn's content of a token of ours, one byte of which is changed: the first of the input
    // says which.
    let Some((&at, content)) = data.split_first() else {
        return;
    };
    let nonce = [5; NONCE];
    let mut token = content.to_vec();
    if KEY.aead_from_hkdf(&nonce).seal(&mut token, &[]).is_err() {
        return;
    }
    let mut same = token.clone();
    let opened = KEY
        .aead_from_hkdf(&nonce)
        .open(&mut same, &[])
        .map(|content| content.to_vec());
    assert_eq!(opened.as_deref().ok(), Some(content));
    let at = usize::from(at) % token.len();
    token[at] ^= 1;
    assert!(KEY.aead_from_hkdf(&nonce).open(&mut token, &[]).is_err(), "byte {at}");
});
