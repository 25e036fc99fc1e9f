//! Queries to the key server: whatever an edge sends ends in queries or refusals within the bounds,
//! what is read encodes to the same bytes, and bytes in pieces read as bytes at once. `cd
//! tests/fuzz && cargo +nightly fuzz run keyless_request`.
#![no_main]

use edge::keyserver::wire::{LENGTH, MAX_QUERY, Query, Request, split_tls12, tls12};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // What a TLS library wants signed comes apart in one way only.
    if let Some((client, server, share)) = split_tls12(input) {
        assert_eq!(tls12(&client, &server, &share), input);
    }
    let mut rest = input;
    loop {
        match Query::decode(rest) {
            Err(broken) => {
                assert!(broken.length < broken.least || broken.length > broken.most);
                break;
            }
            Ok(None) => {
                assert!(rest.len() < LENGTH + MAX_QUERY, "a whole frame was not seen");
                break;
            }
            Ok(Some(decoded)) => {
                let frame = &rest[..decoded.used];
                assert_eq!(Query::decode(&frame[..frame.len() - 1]), Ok(None));
                if let Ok(query) = &decoded.content {
                    assert_ne!(query.id, 0);
                    assert_eq!(query.id, decoded.id);
                    let mut again = Vec::new();
                    query.encode(&mut again);
                    assert_eq!(again, frame);
                    if let Request::SignTls12 {
                        client_random,
                        server_random,
                        share,
                        ..
                    } = &query.request
                    {
                        let message = tls12(client_random, server_random, share);
                        assert_eq!(
                            split_tls12(&message),
                            Some((*client_random, *server_random, share.clone()))
                        );
                    }
                }
                rest = &rest[decoded.used..];
            }
        }
    }
});
