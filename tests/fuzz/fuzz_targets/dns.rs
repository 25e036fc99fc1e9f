//! Answers of name servers: whatever comes is names, addresses and services within bounds, or no
//! answer. `cd
//! tests/fuzz && cargo +nightly fuzz run dns`.
#![no_main]

use edge::base::dns::{Kind, Question};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for (kind, name) in [
        (Kind::Ptr, "1.2.0.192.in-addr.arpa"),
        (Kind::A, "c1.bot.example"),
        (Kind::Aaaa, "c1.bot.example"),
        (Kind::Srv, "_http._tcp.example"),
    ] {
        let question = Question {
            id: 7,
            name: name.to_owned(),
            kind,
        };
        let Ok(answer) = question.answer(input) else { continue };
        assert!(answer.names.len() + answer.addresses.len() + answer.services.len() <= 64);
        assert!(answer.names.is_empty() || kind == Kind::Ptr);
        assert!(answer.services.is_empty() || kind == Kind::Srv);
        assert!(answer.ttl.is_some() || answer.names.len() + answer.addresses.len() + answer.services.len() == 0);
        assert!(answer.addresses.iter().all(|a| a.is_ipv4() == (kind == Kind::A)));
        for name in answer.names.iter().chain(answer.services.iter().map(|service| &service.target)) {
            // A host's name, as it may be asked for in turn.
            let host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_/.".contains(&byte);
            assert!(!name.is_empty() && name.len() <= 253 && name.bytes().all(host), "{name:?}");
            assert!(Question { id: 7, name: name.clone(), kind }.message().is_some());
        }
    }
});
