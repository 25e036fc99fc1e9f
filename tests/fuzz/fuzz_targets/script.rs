//! What a worker's script hands to the host as text: a URL and how it is changed, the head of a
//! request, a source map and a line of a stack trace. Whatever it is, the parts of a URL lie one
//! behind the other within it, fields come back as they were, and a map changes the place in a line
//! and nothing else.
#![no_main]

use edge::isolate::js::address::{self, Address};
use edge::isolate::js::fields;
use edge::isolate::js::sourcemap::{self, SourceMap};
use libfuzzer_sys::fuzz_target;

fn sound(address: &Address) {
    let length = address.href.len();
    let parts = address.parts.map(|at| usize::try_from(at).expect("an offset"));
    assert!(parts.is_sorted() && parts.iter().all(|at| *at <= length), "{address:?}");
    // What the prelude asks again with. It need not be the same: the crate normalises some paths of
    // `file:` twice.
    assert!(address::parse(&address.href, None).is_some(), "{address:?}");
}

fuzz_target!(|data: &[u8]| {
    let Some((&what, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    match what % 4 {
        0 => {
            let base = Some(second).filter(|base| !base.is_empty());
            let Some(parsed) = address::parse(first, base) else {
                return;
            };
            sound(&parsed);
            for which in 0..=10 {
                if let Some(set) = address::set(&parsed.href, which, second) {
                    sound(&set);
                }
            }
        }
        1 => {
            if let Ok((_, target, head)) = fields::request(text) {
                assert!(target.authority().is_some());
                let lines = fields::lines(&head);
                let lines = std::str::from_utf8(&lines).expect("text");
                assert_eq!(fields::parse(lines).as_ref(), Ok(&head));
                // A name or a value with a line's end in it would be another field.
                assert_eq!(lines.lines().count(), head.len());
            }
        }
        2 => {
            if let Some(map) = SourceMap::parse(second.as_bytes()) {
                let mapped = map.frame(first);
                // It becomes a line of the log.
                assert!(mapped.len() <= first.len() + 600);
            }
        }
        _ => {
            if let Some(map) = sourcemap::carried(text) {
                SourceMap::parse(&map);
            }
        }
    }
});
