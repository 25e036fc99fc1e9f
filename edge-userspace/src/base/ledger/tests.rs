//! The accounts, with threads and addresses of tests.

use super::*;

const MIB: u64 = 1 << 20;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One client would take what all others need.
#[test]
fn one_client_has_its_bound() {
    let ledger = Ledger::new(100 * MIB, 10 * MIB);
    let (one, other) = (ledger.open(address("192.0.2.1")), ledger.open(address("192.0.2.1")));
    let first = one.charge(Kind::Responses, None, 6 * MIB).unwrap();
    assert!(
        other.charge(Kind::Uploads, None, 5 * MIB).is_none(),
        "its connections count together"
    );
    let mut second = other.charge(Kind::Uploads, None, 4 * MIB).unwrap();
    assert!(!second.set(5 * MIB) && second.bytes() == 4 * MIB);
    let neighbour = ledger.open(address("192.0.2.2"));
    assert!(neighbour.charge(Kind::Uploads, None, 10 * MIB).is_some());
    drop(first);
    assert!(second.set(10 * MIB));
    let figures = ledger.figures();
    assert_eq!((figures.kinds[Kind::Uploads as usize], figures.refused), (10 * MIB, 2));
    drop(second);
    assert_eq!(ledger.figures().kinds, [0; Kind::ALL.len()]);
}

/// Beyond half of the node, clients and zones get equal parts; up to half, one may have it all.
#[test]
fn shares() {
    let ledger = Ledger::new(100 * MIB, 1_000 * MIB);
    let holders: Vec<_> = (0..4).map(|n| ledger.open(address(&format!("192.0.2.{n}")))).collect();
    let first = holders[0].charge(Kind::Responses, None, 45 * MIB).unwrap();
    assert!(holders[0].charge(Kind::Responses, None, 10 * MIB).is_none());
    let others: Vec<_> = holders[1..3]
        .iter()
        .map(|holder| holder.charge(Kind::Responses, None, 20 * MIB).unwrap())
        .collect();
    assert!(
        holders[1].charge(Kind::Responses, None, 6 * MIB).is_none(),
        "a quarter each"
    );
    drop((first, others));

    let ledger = Ledger::new(100 * MIB, 1_000 * MIB);
    let (a, b) = (ledger.zone(&"a".into()), ledger.zone(&"b".into()));
    let holders: Vec<_> = (0..40).map(|n| ledger.open(address(&format!("192.0.2.{n}")))).collect();
    let charges: Vec<_> = holders[..30]
        .iter()
        .map(|holder| holder.charge(Kind::Requests, Some(&a), 2 * MIB).unwrap())
        .collect();
    let small = holders[38].charge(Kind::Requests, Some(&b), MIB).unwrap();
    assert!(
        holders[39].charge(Kind::Requests, Some(&a), MIB).is_none(),
        "the other zone's half"
    );
    assert!(holders[39].charge(Kind::Requests, Some(&b), MIB).is_some());
    drop((charges, small));
    assert_eq!(ledger.0.total.load(Relaxed), 0);
    assert_eq!(ledger.0.zone_count.load(Relaxed), 0);
}

/// Who is denied and cut goes on over the connection that it has; or a neighbour in its /64 is cut
/// with it.
#[test]
fn those_of_a_denied_network_are_cut() {
    let ledger = Ledger::new(100 * MIB, 10 * MIB);
    let open = |text| ledger.open(address(text));
    let (one, other, neighbour) = (open("::ffff:192.0.2.1"), open("2001:db8::7"), open("2001:db8::8"));
    let cut = |holder: &Arc<Holder>| holder.poll_cut(&mut Context::from_waker(Waker::noop()));
    let denied = [address("192.0.2.1"), address("2001:db8::7")];
    assert_eq!(ledger.cut(|client| denied.contains(&client)), 2);
    assert_eq!(
        (cut(&one), cut(&other)),
        (Poll::Ready(Cut::Denied), Poll::Ready(Cut::Denied))
    );
    assert!(cut(&neighbour).is_pending());
    assert_eq!(ledger.cut(|client| denied.contains(&client)), 0, "they know it already");
}

/// Who stands still pays, and never somebody else's connection.
#[test]
fn the_stillest_is_ended() {
    let ledger = Ledger::new(100 * MIB, 10 * MIB);
    let holders: Vec<_> = (0..3).map(|_| ledger.open(address("192.0.2.1"))).collect();
    let neighbour = ledger.open(address("192.0.2.2"));
    let _held = neighbour.charge(Kind::Responses, None, MIB).unwrap();
    let charges: Vec<_> = holders
        .iter()
        .map(|holder| holder.charge(Kind::Responses, None, 3 * MIB).unwrap())
        .collect();
    let ended = |holder: &Arc<Holder>| holder.poll_cut(&mut Context::from_waker(Waker::noop())).is_ready();
    assert!(holders[0].charge(Kind::Responses, None, 3 * MIB).is_none());
    assert!(!holders.iter().any(ended), "all have just moved");
    std::thread::sleep(STILL + LOOK_AGAIN);
    holders[0].moved();
    holders[2].moved();
    assert!(holders[0].charge(Kind::Responses, None, 3 * MIB).is_none());
    assert!(ended(&holders[1]) && !ended(&holders[0]) && !ended(&holders[2]) && !ended(&neighbour));
    assert_eq!(ledger.figures().ended, 1);
    drop((charges, holders, neighbour, _held));
    assert!(ledger.0.clients.iter().all(|shard| shard.lock().unwrap().is_empty()));
    assert_eq!(ledger.0.client_count.load(Relaxed), 0);
}

/// What is held already is charged in any case, so that the others see it.
#[test]
fn what_is_held_counts() {
    let ledger = Ledger::new(4 * MIB, 2 * MIB);
    let holder = ledger.open(address("192.0.2.1"));
    let charge = holder.must(Kind::Connections, None, 3 * MIB);
    assert!(holder.charge(Kind::Responses, None, 1).is_none());
    let mut fills = ledger.common(Kind::Fills);
    assert!(fills.set(MIB) && !fills.set(MIB + 1));
    drop(charge);
    assert!(fills.set(4 * MIB));
    assert!(holder.charge(Kind::Responses, None, 1).is_none(), "the node is full");
}

/// Sums that drift would end in a node that takes nobody in, or everything.
#[test]
fn threads() {
    let ledger = Ledger::new(1 << 40, 1 << 40);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let ledger = ledger.clone();
            scope.spawn(move || {
                let zone = ledger.zone(&"z".into());
                for n in 0..2_000 {
                    let holder = ledger.open(address(if n % 2 == 0 { "192.0.2.1" } else { "2001:db8::1" }));
                    let mut charge = holder.must(Kind::Quic, Some(&zone), n * thread);
                    charge.set(n);
                    charge.set(n / 2);
                }
            });
        }
    });
    assert_eq!(
        (ledger.0.total.load(Relaxed), ledger.0.client_count.load(Relaxed)),
        (0, 0)
    );
    assert_eq!(
        (ledger.figures().kinds, ledger.0.zone_count.load(Relaxed)),
        ([0; Kind::ALL.len()], 0)
    );
}
