//! Wait tokens: whatever bytes and text a client sends, opening them ends in a refusal, and
//! changing a genuine token in any way makes it one. `cd tests/fuzz && cargo +nightly fuzz run
//! token`.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use edge::base::clock::UnixTime;
use edge::gate::keys::{Epochs, Secret};
use edge::gate::token::{Carrier, Claims, ClientId, Tokens, from_text, to_text, zone_id};
use libfuzzer_sys::fuzz_target;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

static TOKENS: LazyLock<(Tokens, Vec<u8>)> = LazyLock::new(|| {
    let secret = Secret::new(b"thirty-two bytes nobody will find").expect("fit");
    let tokens = Tokens::new(secret, Epochs::DEFAULT, NOW);
    let claims = Claims {
        client: ClientId(1),
        zone: zone_id("zone"),
        not_before: NOW.stamp(),
        expires: NOW.stamp() + 600,
        carrier: Carrier::Http,
        place: 0,
        strikes: 0,
        early: 0,
    };
    let token = tokens.mint(NOW, HERE, &claims);
    assert!(tokens.open(NOW, HERE, &token).is_ok());
    (tokens, token)
});

fuzz_target!(|input: &[u8]| {
    let (tokens, genuine) = &*TOKENS;

    // As bytes.
    assert!(tokens.open(NOW, HERE, input).is_err(), "made up");

    // As text: what is accepted has no other text.
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(token) = from_text(text)
    {
        assert_eq!(to_text(&token), text);
        assert!(tokens.open(NOW, HERE, &token).is_err(), "made up as text");
    }

    // As a change of a genuine token: the input's bytes are XORed over it, from the front.
    let mut changed = genuine.clone();
    for (byte, change) in changed.iter_mut().zip(input) {
        *byte ^= change;
    }
    assert_eq!(tokens.open(NOW, HERE, &changed).is_ok(), changed == *genuine, "altered");

    // As bytes with a genuine header, so that the body's part is reached.
    let mut body = genuine.clone();
    for (byte, new) in body.iter_mut().skip(32).zip(input) {
        *byte = *new;
    }
    assert_eq!(tokens.open(NOW, HERE, &body).is_ok(), body == *genuine, "another body");
});
