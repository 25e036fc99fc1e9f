//! An operator's challenge: who is handed to it comes back with its answer and is let in, and
//! nobody by another one's.

use super::*;
use crate::gate::external::tests::{KEY, answer};
use crate::gate::metrics::Kind;

/// A zone with the rule, and the directory that its key is in.
fn asking() -> (World, tempfile::TempDir) {
    asking_and("")
}

/// The same with more rules.
fn asking_and(more: &str) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("challenge.key");
    crate::base::file::fresh(&path, KEY, 0o600).unwrap();
    let rule = format!(
        "grace = 4\n[[zone.gate.rule]]\npath = \"/shop/\"\nchallenge = {{ kind = \"external\", url = \"https://ask.example/\", key = {path:?} }}\n{more}"
    );
    (world(&[&rule, &rule]), directory)
}

impl World {
    fn shop(&self, ms: u64, zone: usize, address: IpAddr, target: &str, tokens: &[&str]) -> Decision {
        let path = target.split('?').next().unwrap();
        let attempt = Attempt {
            target,
            path: &path::Path::of(path),
            tokens,
            ..usual(address)
        };
        self.visit(ms, zone, &attempt)
    }

    /// The token, and the address that its bearer is handed to.
    fn handed(&self, ms: u64, address: IpAddr, target: &str, tokens: &[&str]) -> (String, String) {
        match self.shop(ms, 0, address, target, tokens) {
            Decision::Defer(Deferral {
                kind: Kind::Challenge,
                token: Some(token),
                handed: Some(url),
                ..
            }) => (token.text, url.into()),
            other => panic!("{other:?}"),
        }
    }
}

fn seconds(ms: u64) -> u64 {
    START + ms / 1_000
}

/// A visitor that has answered would be asked again, or led elsewhere than where it wanted to go;
/// or an answer would let in others, or the same one twice.
#[test]
fn who_has_answered_is_let_in() {
    let (world, _directory) = asking();
    assert!(
        matches!(world.shop(0, 0, address(1), "/", &[]), Decision::Admit(_)),
        "another path"
    );
    let (token, url) = world.handed(0, address(1), "/shop/cart?item=7", &[]);
    let back = answer(&url, seconds(3_000) + 60);
    // Somebody else with that answer: without a token, with its own, in another zone.
    let (other, _) = world.handed(2_000, address(2), "/shop/", &[]);
    for (zone, home, tokens) in [
        (0, address(3), &[][..]),
        (0, address(2), &[&*other]),
        (1, address(1), &[&*token]),
    ] {
        let got = world.shop(3_000, zone, home, &back, tokens);
        assert!(!matches!(got, Decision::Lead { .. } | Decision::Admit(_)), "{got:?}");
    }
    let Decision::Lead {
        to,
        token: Change::Set(known),
    } = world.shop(3_000, 0, address(1), &back, &[&token])
    else {
        panic!("the answer is not taken");
    };
    assert_eq!(to, "/shop/cart?item=7");
    assert!(matches!(
        world.shop(3_100, 0, address(1), &to, &[&known.text]),
        Decision::Admit(_)
    ));
    // Back by the browser's history, it is led on and gets nothing new; nobody else is.
    assert!(matches!(
        world.shop(4_000, 0, address(1), &back, &[&known.text]),
        Decision::Lead {
            token: Change::Keep,
            ..
        }
    ));
    let shared = (0..100u8).filter(|n| {
        !matches!(
            world.shop(5_000, 0, IpAddr::from([10, *n, 0, 1]), &back, &[&token]),
            Decision::Defer(_) | Decision::Block { .. }
        )
    });
    assert!(shared.count() <= 16, "as any token, in few networks");
    assert!(world.changes.pending().is_empty(), "nothing is held against anybody");
}

/// Time alone would let in who has not answered; or who thinks about it for long would be shut out.
#[test]
fn waiting_is_no_answer() {
    let (world, _directory) = asking();
    let (mut token, mut url) = world.handed(0, address(1), "/shop/", &[]);
    let first = answer(&url, seconds(0) + 60);
    for minutes in 1..10 {
        (token, url) = world.handed(minutes * 60_000, address(1), "/shop/", &[&token]);
    }
    // The answer to the last question counts, and not one to a question before.
    let stale = world.shop(560_000, 0, address(1), &first, &[&token]);
    assert!(matches!(stale, Decision::Defer(_)), "{stale:?}");
    let back = answer(&url, seconds(560_000) + 60);
    assert!(matches!(
        world.shop(560_000, 0, address(1), &back, &[&token]),
        Decision::Lead { .. }
    ));
    // Who reloads and reloads, and keeps the question, is early.
    let (token, _) = world.handed(600_000, address(9), "/shop/", &[]);
    let got: Vec<_> = (1..10)
        .map(|n| world.shop(600_000 + n, 0, address(9), "/shop/", &[&token]))
        .collect();
    assert!(
        matches!(got[0], Decision::Defer(Deferral { handed: Some(_), .. })),
        "{:?}",
        got[0]
    );
    assert!(got.iter().any(|got| matches!(got, Decision::Block { .. })));
}

/// Whom a limit tells to wait after its answer would be asked again.
#[test]
fn an_answer_is_kept_when_a_limit_says_no() {
    let (world, _directory) =
        asking_and("[[zone.gate.rule]]\nrate = { requests = 1, per = \"10s\", burst = 1, key = \"address\" }\n");
    let answered = |ms| {
        let (token, url) = world.handed(ms, address(1), "/shop/", &[]);
        (answer(&url, seconds(ms) + 60), token)
    };
    let (first, second) = (answered(0), answered(10));
    assert!(matches!(
        world.shop(3_000, 0, address(1), &first.0, &[&first.1]),
        Decision::Lead { .. }
    ));
    let told = world.shop(3_010, 0, address(1), &second.0, &[&second.1]);
    let Decision::Defer(Deferral {
        kind: Kind::Rate,
        token: Some(token),
        wait,
        handed: None,
        ..
    }) = told
    else {
        panic!("{told:?}");
    };
    let later = 3_010 + u64::try_from(wait.as_millis()).unwrap() + 1;
    assert!(matches!(
        world.shop(later, 0, address(1), "/shop/", &[&token.text]),
        Decision::Admit(_)
    ));
}
