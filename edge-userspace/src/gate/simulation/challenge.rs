//! Challenges: who solves one is let in at once, who cannot waits, and who answers wrongly is told
//! so by a hash.

use super::*;
use crate::gate::metrics::Kind;
use crate::gate::work::tests::solve;

const WORK: &str = "grace = 4\n[[zone.gate.rule]]\nchallenge = { kind = \"work\", bits = 10, wait = \"30s\" }\n";

impl World {
    fn work(&self, ms: u64, address: IpAddr, tokens: &[&str], work: Option<&str>) -> Decision {
        let attempt = Attempt {
            tokens,
            work,
            ..usual(address)
        };
        self.visit(ms, 0, &attempt)
    }

    /// A challenge for `address`: the token, and its bits.
    fn challenged(&self, ms: u64, address: IpAddr) -> (String, u8) {
        match self.work(ms, address, &[], None) {
            Decision::Defer(Deferral {
                kind: Kind::Challenge,
                token: Some(token),
                work: Some(bits),
                ..
            }) => (token.text, bits),
            other => panic!("{other:?}"),
        }
    }
}

fn set(decision: Decision) -> String {
    match decision {
        Decision::Admit(admission) => match admission.token {
            Change::Set(written) => written.text,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A browser that solved its challenge would wait all the same, or one solution would let in as
/// many as share it.
#[test]
fn solved_once_and_let_in_at_once() {
    let world = world(&[WORK, WORK]);
    let (token, bits) = world.challenged(0, address(1));
    assert_eq!(bits, 10);
    let answer = solve(&token, bits);
    // In another zone it is worth nothing.
    let attempt = Attempt {
        host: "z1.example",
        work: Some(&answer),
        ..usual(address(1))
    };
    let elsewhere = world.visit(5, 1, &attempt);
    assert!(matches!(elsewhere, Decision::Defer(_)));
    // A tab's page answers for itself, whatever cookie another tab's page has left.
    let (other, _) = world.challenged(10, address(1));
    let known = set(world.work(20, address(1), &[&other], Some(&answer)));
    assert!(matches!(
        world.work(30, address(1), &[&known], Some(&answer)),
        Decision::Admit(_)
    ));
    // The solution has been used: from here it says who comes, as the token does, and to nobody
    // else anything.
    let shared = (2..100).filter(|n| {
        matches!(
            world.work(40, IpAddr::from([10, *n, 0, 1]), &[], Some(&answer)),
            Decision::Admit(_)
        )
    });
    assert!(shared.count() <= 16);
    assert!(world.changes.pending().is_empty(), "nothing is held against anybody");
}

/// Who has no script would never be let in.
#[test]
fn who_cannot_waits_instead() {
    let world = world(&[WORK]);
    let (token, _) = world.challenged(0, address(1));
    let told = world.work(15_000, address(1), &[&token], None);
    let Decision::Defer(Deferral {
        token: Some(again),
        work: Some(10),
        ..
    }) = told
    else {
        panic!("{told:?}");
    };
    assert!(matches!(
        world.work(31_000, address(1), &[&again.text], None),
        Decision::Admit(_)
    ));
}

/// A flood of wrong answers would cost more than it costs the flood, or a wrong one would pass.
#[test]
fn wrong_answers_are_strikes() {
    let world = world(&[WORK]);
    let (token, bits) = world.challenged(0, address(1));
    let wrong = (0u64..)
        .map(|n| format!("{token}.{n}"))
        .find(|answer| crate::gate::work::proof(answer).is_some_and(|proof| proof.zeros < 8))
        .unwrap();
    let short = (0u64..)
        .map(|n| format!("{token}.{n}"))
        .find(|answer| crate::gate::work::proof(answer).is_some_and(|proof| (8..bits).contains(&proof.zeros)))
        .unwrap();
    for answer in [&*wrong, &short, "junk", "", "."] {
        assert!(
            !matches!(world.work(10, address(2), &[], Some(answer)), Decision::Admit(_)),
            "{answer}"
        );
    }
    match world.work(20, address(3), &[], Some(&wrong)) {
        Decision::Block { token: None, .. } => {}
        other => panic!("{other:?}"),
    }
    for ms in 21..60 {
        world.work(ms, address(3), &[], Some(&wrong));
    }
    let fed = world.changes.pending();
    assert!(
        fed.iter().any(|change| change.key == Subject::Address(address(3))),
        "{fed:?}"
    );
    // A good token is not hidden by a stale answer.
    let known = set(world.work(70, address(1), &[], Some(&solve(&token, bits))));
    assert!(matches!(
        world.work(80, address(1), &[&known], Some(&wrong)),
        Decision::Admit(_)
    ));
}

/// One network that asks and does not solve would make the page as hard for everybody.
#[test]
fn harder_for_a_network_that_does_not_solve() {
    // So patient that nobody is struck before.
    let world = world(&[&WORK.replace("grace = 4", "grace = 10000")]);
    for n in 0..2_000u32 {
        world.work(0, IpAddr::from([192, 0, 2, n as u8]), &[], None);
    }
    let (_, theirs) = world.challenged(1, IpAddr::from([192, 0, 2, 77]));
    let (_, others) = world.challenged(1, IpAddr::from([198, 51, 100, 1]));
    assert!(theirs >= 12 && others == 10, "{theirs} {others}");
}
