//! Replies of the key server: whatever it sends ends in replies or refusals within the bounds, and
//! what is read says the same when it is written again. `cd tests/fuzz && cargo +nightly fuzz run
//! keyless_response`.
#![no_main]

use edge::keyserver::wire::{Answer, LENGTH, MAX_REPLY, MAX_SPKI, PAGE, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    loop {
        match Reply::decode(rest) {
            Err(broken) => {
                assert!(broken.length < broken.least || broken.length > broken.most);
                break;
            }
            Ok(None) => {
                assert!(rest.len() < LENGTH + MAX_REPLY, "a whole frame was not seen");
                break;
            }
            Ok(Some(decoded)) => {
                if let Ok(reply) = &decoded.content {
                    assert_eq!(reply.id, decoded.id);
                    match &reply.answer {
                        Answer::Signature(bytes) => assert!((1..=512).contains(&bytes.len())),
                        Answer::Secret(secret) => assert!((1..=64).contains(&secret.expose().len())),
                        Answer::Keys { keys, .. } => {
                            assert!(keys.len() <= PAGE && keys.iter().all(|key| key.spki.len() <= MAX_SPKI));
                        }
                        _ => {}
                    }
                    // Not the same bytes: grants of ops that are not known here are left out.
                    let mut again = Vec::new();
                    reply.encode(&mut again);
                    assert_eq!(again.len(), decoded.used);
                    let second = Reply::decode(&again).expect("framed").expect("whole");
                    assert_eq!(second.content.as_ref(), Ok(reply));
                }
                rest = &rest[decoded.used..];
            }
        }
    }
});
