//! What a fleet's engine sends, hostile or not: heads, indexes, events, receipts, parts of blobs,
//! and NATS itself. Whatever comes ends in a refusal or in what can be written again; nothing is
//! believed that was not signed. `cd tests/fuzz && cargo +nightly fuzz run fleet`.
#![no_main]

use std::sync::LazyLock;

use bytes::BytesMut;
use edge::fleet::carrier::{PART, unpack};
use edge::fleet::event;
use edge::fleet::head::{Head, Trust};
use edge::fleet::index::{Index, Member, Outline, Standing};
use edge::fleet::key::{Identity, Signer};
use edge::fleet::nats::codec;
use edge::fleet::receipt::Receipt;
use edge::fleet::signed::{self, Kind};
use libfuzzer_sys::fuzz_target;

static FLEET: LazyLock<(Trust, Index)> = LazyLock::new(|| {
    let (deploy, node) = (
        Signer::generate().expect("random"),
        Identity::generate().expect("random"),
    );
    let trust = Trust {
        fleet: "shop".to_owned(),
        keys: vec![deploy.public()],
        threshold: 1,
    };
    let index = Index {
        nodes: vec![Member {
            name: "a".to_owned(),
            key: node.signer.public(),
            seal: node.recipient(),
            state: Standing::InService,
        }],
        operators: vec![deploy.public()],
        ..Index::default()
    };
    (trust, index)
});

fuzz_target!(|input: &[u8]| {
    let (trust, index) = &*FLEET;
    let Some((which, input)) = input.split_first() else {
        return;
    };
    match which % 5 {
        0 => {
            if let Ok(head) = Head::parse(input) {
                assert_eq!(head.write(), input, "there is one way to write a head");
                assert!(head.check(trust).is_err(), "nobody signed it");
            }
        }
        1 => {
            let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
            let (outline, roster) = input.split_at(at);
            let outline = Outline::parse(outline);
            let roster = roster.get(1..).unwrap_or_default();
            if let Ok(mut index) = outline.and_then(|outline| Index::parse(outline, roster)) {
                let text = index.write().expect("what was read is sound");
                let outline = Outline::parse(&text.index).expect("what was written is sound");
                assert_eq!(
                    Index::parse(outline, &text.roster).expect("and all of it").files,
                    index.files
                );
                for file in &index.files {
                    assert!(!file.path.starts_with('/') && file.path.split('/').all(|part| part != ".."));
                }
            }
        }
        2 => {
            assert!(event::open("shop", index, input).is_err(), "nobody signed it");
            assert!(Receipt::open("shop", index, "a", input).is_none());
            for kind in [Kind::Event, Kind::Receipt, Kind::Order, Kind::Tail] {
                assert!(signed::parse(kind, input).is_none() || input.len() <= signed::MOST);
            }
        }
        3 => {
            if let Some(part) = unpack(input) {
                assert!(part.len() <= PART);
            }
        }
        _ => {
            let mut whole = BytesMut::from(input);
            let mut ops = Vec::new();
            let ended = loop {
                match codec::next(&mut whole) {
                    Ok(Some(op)) => ops.push(op),
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            // Cut anywhere, the same operations come.
            let (first, second) = input.split_at(input.len() / 2);
            let mut pieces = BytesMut::from(first);
            let mut again = Vec::new();
            for more in [second, &[][..]] {
                while let Ok(Some(op)) = codec::next(&mut pieces) {
                    again.push(op);
                }
                pieces.extend_from_slice(more);
            }
            assert!(!ended || ops == again, "the same, however it is cut");
        }
    }
});
