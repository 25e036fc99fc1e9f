//! Packet in, verdict and reason out: the XDP program on fixtures, by `BPF_PROG_TEST_RUN`. Needs
//! root (CAP_BPF and CAP_SYS_ADMIN); attaches and pins nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod frames;

use std::net::IpAddr;

use edge_testbed::packet::flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
use edge_testbed::packet::{quic_initial, quic_long, quic_short};
use edge_testbed::privilege::root;

use bench::{ALLOWED, ATTEMPT, BAD, BAD6, Bench, CLEAN, CLEAN6, DENIED, ESTABLISHED, NOT_OURS, TAG, config, from};

/// Older verifiers look at more, and refuse what takes more than a million; and each start takes as
/// long as this does.
#[test]
fn the_verifier_has_little_to_look_at() {
    if !root() {
        return;
    }
    let bench = Bench::new(&config());
    let Some(count) = bench.dataplane.verified().unwrap() else {
        println!("SKIPPED: this kernel does not tell");
        return;
    };
    println!("verified instructions: {count}");
    assert!(count < 400_000, "{count}");
}

#[test]
fn attempts_are_judged_by_the_lists_with_allow_before_deny() {
    if !root() {
        return;
    }
    let syn = |source| from(source).tcp(443, SYN);
    let initial = |source| from(source).udp(443, &quic_initial());
    Bench::new(&config()).all(vec![
        ("on no list", syn(CLEAN), ATTEMPT),
        ("on no list, IPv6", syn(CLEAN6), ATTEMPT),
        ("on no list, QUIC", initial(CLEAN), ATTEMPT),
        ("on no list, QUIC, IPv6", initial(CLEAN6), ATTEMPT),
        ("address", syn(BAD), DENIED),
        ("address, IPv6", syn(BAD6), DENIED),
        ("address, QUIC", initial(BAD), DENIED),
        ("address, QUIC, IPv6", initial(BAD6), DENIED),
        ("address, other edge port", from(BAD).tcp(80, SYN), DENIED),
        ("neighbour of a denied address", syn("192.0.2.67"), ATTEMPT),
        ("neighbour of a denied address, IPv6", syn("2001:db8:bad::67"), ATTEMPT),
        ("network, first address", syn("198.51.100.0"), DENIED),
        ("network, last address", syn("198.51.100.255"), DENIED),
        ("beside the network", syn("198.51.101.0"), ATTEMPT),
        ("network shorter than the filter's buckets", syn("10.200.3.4"), DENIED),
        ("beside it", syn("11.0.0.1"), ATTEMPT),
        ("network, IPv6", syn("2001:db8:d:b::1"), DENIED),
        (
            "network shorter than the filter's buckets, IPv6",
            syn("2002:1:2:3::4"),
            DENIED,
        ),
        ("beside it, IPv6", syn("2003::1"), ATTEMPT),
        ("allowed address in a denied network", syn("198.51.100.250"), ALLOWED),
        ("allowed network in a denied network", syn("203.0.113.129"), ALLOWED),
        ("allowed address in another", syn("203.0.113.9"), ALLOWED),
        ("denied address in an allowed network", syn("203.0.113.200"), ALLOWED),
        ("outside the allowed part", syn("203.0.113.1"), DENIED),
        (
            "denied address in an allowed network, IPv6",
            syn("2001:db8:d:a::1"),
            ALLOWED,
        ),
        ("allowed network, QUIC", initial("203.0.113.129"), ALLOWED),
    ]);
}

#[test]
fn established_connections_pass_even_from_denied_clients() {
    if !root() {
        return;
    }
    let tcp = |flags| from(BAD).tcp(443, flags);
    let udp = |data: &[u8]| from(BAD).udp(443, data);
    Bench::new(&config()).all(vec![
        ("ACK", tcp(ACK), ESTABLISHED),
        (
            "SYN+ACK, as the answer to our own connection",
            tcp(SYN | ACK),
            ESTABLISHED,
        ),
        ("data", tcp(PSH | ACK), ESTABLISHED),
        ("FIN+ACK", tcp(FIN | ACK), ESTABLISHED),
        ("RST", tcp(RST), ESTABLISHED),
        ("no flags", tcp(0), ESTABLISHED),
        ("all flags", tcp(0xff), ESTABLISHED),
        ("IPv6", from(BAD6).tcp(443, ACK), ESTABLISHED),
        (
            "odd header length without SYN is the stack's to refuse",
            from(BAD).tcp_header(443, ACK, 0, 20),
            ESTABLISHED,
        ),
        ("QUIC short header", udp(&quic_short()), ESTABLISHED),
        ("QUIC short header, fixed bit greased", udp(&[0x01; 40]), ESTABLISHED),
        ("QUIC 0-RTT", udp(&quic_long(1, 1)), ESTABLISHED),
        ("QUIC Handshake", udp(&quic_long(1, 2)), ESTABLISHED),
        ("QUIC Retry", udp(&quic_long(1, 3)), ESTABLISHED),
        (
            "QUIC short header, IPv6",
            from(BAD6).udp(443, &quic_short()),
            ESTABLISHED,
        ),
        ("one byte of QUIC", udp(&[0x40]), ESTABLISHED),
    ]);
}

#[test]
fn only_what_starts_a_connection_is_an_attempt() {
    if !root() {
        return;
    }
    let tcp = |flags| from(CLEAN).tcp(443, flags);
    let udp = |data: &[u8]| from(CLEAN).udp(443, data);
    let mut greased = quic_initial();
    greased[0] &= !0x40;
    Bench::new(&config()).all(vec![
        ("SYN", tcp(SYN), ATTEMPT),
        ("SYN with ECN", tcp(SYN | ECE | CWR), ATTEMPT),
        ("SYN with PSH and URG", tcp(SYN | PSH | URG), ATTEMPT),
        ("SYN with options", from(CLEAN).tcp_header(443, SYN, 10, 40), ATTEMPT),
        (
            "SYN with data (Fast Open)",
            from(CLEAN).tcp_header(443, SYN, 8, 200),
            ATTEMPT,
        ),
        ("Initial, fixed bit greased", udp(&greased), ATTEMPT),
        (
            "version 2, which is not spoken",
            udp(&quic_long(0x6b33_43cf, 1)),
            ATTEMPT,
        ),
        ("unknown version", udp(&quic_long(0xff00_001d, 2)), ATTEMPT),
        ("version to be negotiated", udp(&quic_long(0x1a2a_3a4a, 3)), ATTEMPT),
        ("version negotiation", udp(&quic_long(0, 0)), ATTEMPT),
    ]);
}

#[test]
fn run_time_entries_live_beside_those_of_the_file() {
    if !root() {
        return;
    }
    use edge::dataplane::{Added, Error};
    let mut file = config();
    let mut bench = Bench::new(&file);
    let syn = |source| from(source).tcp(443, SYN).bytes();
    let net = |text: &str| text.parse().unwrap();
    let add = |bench: &Bench, text| bench.dataplane.lists().add(net(text)).unwrap();

    assert_eq!(add(&bench, "100.64.0.1/32"), Added::Denied);
    assert_eq!(add(&bench, "100.64.0.1/32"), Added::Already);
    assert_eq!(add(&bench, "100.65.0.0/16"), Added::Denied);
    assert_eq!(add(&bench, "2001:db8:c::/64"), Added::Denied);
    assert_eq!(add(&bench, "203.0.113.130/32"), Added::Allowed);
    assert_eq!(add(&bench, "203.0.113.192/26"), Added::Allowed);
    assert_eq!(bench.judge(&syn("100.64.0.1")), DENIED);
    assert_eq!(bench.judge(&syn("100.65.200.1")), DENIED);
    assert_eq!(bench.judge(&syn("2001:db8:c::77")), DENIED);
    assert_eq!(bench.judge(&syn("203.0.113.130")), ALLOWED);
    assert_eq!(bench.judge(&syn("203.0.113.193")), ALLOWED);

    // A reload changes the file's entries, not these.
    file.deny.retain(|network| *network != net("192.0.2.66/32"));
    file.deny.push(net("100.64.0.1/32"));
    file.allow.retain(|network| *network != net("203.0.113.128/25"));
    file.tcp_ports = vec![8443];
    bench.dataplane.apply(&file).unwrap();
    let syn = |source| from(source).tcp(8443, SYN).bytes();
    assert_eq!(bench.judge(&from(BAD).tcp(443, SYN).bytes()), NOT_OURS);
    assert_eq!(bench.judge(&syn(BAD)), ATTEMPT);
    assert_eq!(bench.judge(&syn("100.65.200.1")), DENIED);
    assert_eq!(bench.judge(&syn("203.0.113.130")), DENIED);

    let delete = |text| bench.dataplane.lists().delete(net(text));
    delete("100.65.0.0/16").unwrap();
    delete("100.64.0.1/32").unwrap();
    assert!(matches!(delete("100.64.0.1/32"), Err(Error::Configured(_))));
    assert!(matches!(delete("100.65.0.0/16"), Err(Error::NotDenied(_))));
    assert!(
        matches!(delete("203.0.113.9/32"), Err(Error::NotDenied(_))),
        "allow entries are not deny's to delete"
    );
    let listed = bench.dataplane.lists().list();
    let entry = listed
        .iter()
        .find(|denied| denied.network == net("100.64.0.1/32"))
        .unwrap();
    assert!(entry.configured && !entry.runtime && !entry.allowed);
    assert_eq!(bench.judge(&syn("100.65.200.1")), ATTEMPT);
    assert_eq!(bench.judge(&syn("100.64.0.1")), DENIED);
}

#[test]
fn a_full_list_is_refused_and_keeps_what_it_has() {
    if !root() {
        return;
    }
    use edge::dataplane::Error;
    let mut file = config();
    file.deny_entries = 4;
    file.allow.clear();
    file.deny = vec!["192.0.2.66/32".parse().unwrap()];
    let mut bench = Bench::new(&file);
    let before = file.clone();
    for last in 1..=4 {
        file.deny.push(format!("192.0.2.{last}/32").parse().unwrap());
    }
    assert!(matches!(
        bench.dataplane.apply(&file),
        Err(Error::ListFull {
            entries: 5,
            capacity: 4,
            ..
        })
    ));
    bench.dataplane.apply(&before).unwrap();
    for last in 1..=3 {
        bench
            .dataplane
            .lists()
            .add(format!("192.0.2.{last}/32").parse().unwrap())
            .unwrap();
    }
    let error = bench
        .dataplane
        .lists()
        .add("192.0.2.4/32".parse().unwrap())
        .unwrap_err();
    assert!(matches!(error, Error::ListFull { .. }), "{error}");
    assert_eq!(bench.judge(&from(BAD).tcp(443, SYN).bytes()), DENIED);
}

#[test]
fn one_in_so_many_drops_is_sampled() {
    if !root() {
        return;
    }
    let mut file = config();
    file.event_sample = 10;
    let mut bench = Bench::new(&file);
    let mut events = bench.dataplane.events().unwrap();
    assert!(bench.dataplane.events().is_none(), "there is one reader");
    let frame = from(BAD6).tags(&[TAG]).tcp(443, SYN).bytes();
    bench.program.run(&frame, 100).unwrap();
    let sampled = events.drain();
    // The runs may have moved from one CPU to another, each of which counts on its own.
    assert!((10..=20).contains(&sampled.len()), "{}", sampled.len());
    let event = sampled[0];
    let source: IpAddr = BAD6.parse().unwrap();
    assert_eq!(IpAddr::from(event.source), source);
    assert_eq!((event.port, event.protocol, event.version), (443, 6, 6));
    assert_eq!(event.reason, edge_common::DROP_DENIED);

    file.event_sample = 0;
    bench.dataplane.apply(&file).unwrap();
    bench.program.run(&frame, 100).unwrap();
    assert!(events.drain().is_empty());
    bench.before = bench.counters();
    assert_eq!(bench.judge(&frame), DENIED);
}

#[test]
fn metrics_carry_the_kernels_counts() {
    if !root() {
        return;
    }
    let mut bench = Bench::new(&config());
    assert_eq!(bench.judge(&from(BAD).tcp(443, SYN).bytes()), DENIED);
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(bench.dataplane.metrics()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "edge_dataplane_packets_total{verdict=\"drop\",reason=\"denied\"} 1\n",
        "edge_dataplane_packets_total{verdict=\"pass\",reason=\"not_ours\"} 0\n",
        "edge_dataplane_deny_entries 9\n",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}
