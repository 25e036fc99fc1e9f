//! Frames: what is malformed, whom it is for, tags, options, extension headers and fragments.

use edge_testbed::packet::extension::{AUTHENTICATION, DESTINATION, HOP_BY_HOP, ROUTING};
use edge_testbed::packet::flag::{ACK, FIN, PSH, RST, SYN};
use edge_testbed::packet::{Frame, quic_initial};
use edge_testbed::privilege::root;

use crate::bench::{
    ATTEMPT, BAD, BAD6, Bench, CLEAN, CLEAN6, DENIED, ESTABLISHED, FRAGMENT, HEADERS, LATER_FRAGMENT, MALFORMED,
    MARTIAN, NOT_OURS, TAG, config, from,
};

const PROVIDER_TAG: u16 = 0x88a8;

#[test]
fn malformed_attempts_are_dropped() {
    if !root() {
        return;
    }
    let udp = |data: &[u8]| from(CLEAN).udp(443, data);
    Bench::new(&config()).all(vec![
        ("SYN+FIN", from(CLEAN).tcp(443, SYN | FIN), MALFORMED),
        ("SYN+RST", from(CLEAN).tcp(443, SYN | RST), MALFORMED),
        ("data offset 0", from(CLEAN).tcp_header(443, SYN, 0, 20), MALFORMED),
        ("data offset 4", from(CLEAN).tcp_header(443, SYN, 4, 20), MALFORMED),
        (
            "data offset beyond the packet",
            from(CLEAN).tcp_header(443, SYN, 6, 20),
            MALFORMED,
        ),
        ("TCP header cut", from(CLEAN).tcp_header(443, SYN, 5, 19), MALFORMED),
        (
            "TCP header cut behind the port, IPv6",
            from(CLEAN6).tcp_header(443, SYN, 5, 4),
            MALFORMED,
        ),
        ("empty datagram", udp(&[]), MALFORMED),
        (
            "empty datagram in a padded frame",
            from(CLEAN).udp_length(443, &[0; 18], 8),
            MALFORMED,
        ),
        (
            "UDP length below its header",
            from(CLEAN).udp_length(443, &quic_initial(), 3),
            MALFORMED,
        ),
        ("long header cut in the version", udp(&[0xc0, 0, 0, 0]), MALFORMED),
    ]);
}

/// An answer would be longer than what was sent, and the stack drops such a packet anyway.
#[test]
fn lengths_must_be_true() {
    if !root() {
        return;
    }
    let initial = quic_initial();
    let short = |source| from(source).udp_length(443, &initial[..150], 1_208);
    let syn = |source| from(source).tcp_header(443, SYN, 10, 40);
    Bench::new(&config()).all(vec![
        ("UDP beyond the IP packet", short(CLEAN), MALFORMED),
        ("UDP beyond the IP packet, IPv6", short(CLEAN6), MALFORMED),
        ("UDP beyond the IP packet, tagged", short(CLEAN).tags(&[TAG]), MALFORMED),
        ("UDP and IP beyond the frame", short(CLEAN).claiming(1_050), MALFORMED),
        (
            "UDP and IP beyond the frame, IPv6",
            short(CLEAN6).claiming(1_050),
            MALFORMED,
        ),
        (
            "UDP and IP beyond the frame, behind options",
            short(CLEAN).options(8).claiming(1_050),
            MALFORMED,
        ),
        (
            "UDP longer than IP by one",
            from(CLEAN).udp(443, &initial).claiming(-1),
            MALFORMED,
        ),
        (
            "IP longer than the frame by one",
            from(CLEAN).udp(443, &initial).claiming(1),
            MALFORMED,
        ),
        (
            "a padded frame",
            from(CLEAN)
                .udp_length(443, &[&initial[..], &[0; 9]].concat(), 1_208)
                .claiming(-9),
            ATTEMPT,
        ),
        ("TCP options beyond the IP packet", syn(CLEAN).claiming(-4), MALFORMED),
        (
            "TCP options beyond the IP packet, IPv6",
            syn(CLEAN6).claiming(-4),
            MALFORMED,
        ),
        ("SYN with IP beyond the frame", syn(CLEAN).claiming(1), MALFORMED),
        ("SYN as it should be", syn(CLEAN), ATTEMPT),
    ]);
}

/// A router, bridge or container host would cut off whom it serves.
#[test]
fn what_is_for_another_address_is_not_judged() {
    if !root() {
        return;
    }
    let to = |source: &str, other: &str| from(source).to(other.parse().unwrap());
    let mut table = Vec::new();
    for (bad, others) in [
        (
            BAD,
            &[
                "192.0.2.2",
                "203.0.113.9",
                "224.0.0.1",
                "192.0.2.255",
                "255.255.255.255",
                "127.0.0.1",
            ][..],
        ),
        (BAD6, &["2001:db8::2", "2001:db8:0:1::1", "ff02::1", "::1", "::"][..]),
    ] {
        for other in others {
            table.push(("SYN", to(bad, other).tcp(443, SYN), NOT_OURS));
            table.push(("Initial", to(bad, other).udp(443, &quic_initial()), NOT_OURS));
            table.push(("fragment", to(bad, other).fragment(0, true).tcp(443, SYN), NOT_OURS));
            table.push(("malformed", to(bad, other).tcp(443, SYN | FIN), NOT_OURS));
        }
    }
    Bench::new(&config()).all(table);
}

/// Answers and penalties would go to nobody, or to everybody on the wire.
#[test]
fn attempts_from_nowhere_are_dropped() {
    if !root() {
        return;
    }
    let mut table = Vec::new();
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.9",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "ff02::1",
        "::ffff:192.0.2.9",
    ] {
        table.push((source, from(source).tcp(443, SYN), MARTIAN));
        table.push((source, from(source).udp(443, &quic_initial()), MARTIAN));
    }
    for source in [
        "1.0.0.1",
        "223.255.255.254",
        "240.0.0.1",
        "64:ff9b::1",
        "fe80::1",
        "::2:0:1",
    ] {
        table.push((source, from(source).tcp(443, SYN), ATTEMPT));
    }
    // The kernel runs tests on the loopback interface, where these come from.
    table.push(("127.0.0.1", from("127.0.0.1").tcp(443, SYN), ATTEMPT));
    table.push(("::1", from("::1").tcp(443, SYN), ATTEMPT));
    Bench::new(&config()).all(table);
}

#[test]
fn other_traffic_passes_as_not_ours() {
    if !root() {
        return;
    }
    let arp = Frame::from(CLEAN.parse().unwrap()).tcp(443, SYN).bytes();
    let mut table = Bench::new(&config());
    table.all(vec![
        ("other TCP port, denied client", from(BAD).tcp(22, SYN), NOT_OURS),
        (
            "other UDP port, denied client",
            from(BAD).udp(53, &quic_initial()),
            NOT_OURS,
        ),
        (
            "UDP to a port that is only TCP's",
            from(BAD).udp(80, &quic_initial()),
            NOT_OURS,
        ),
        ("ICMP", from(BAD).payload(1, &[8, 0, 0, 0]), NOT_OURS),
        ("ICMPv6", from(BAD6).payload(58, &[128, 0, 0, 0]), NOT_OURS),
        ("GRE", from(BAD).payload(47, &[0; 40]), NOT_OURS),
        (
            "IPv4 in IPv6",
            from(BAD6).payload(4, &from(BAD).tcp(443, SYN).bytes()),
            NOT_OURS,
        ),
        (
            "port 443 as the source only",
            from(BAD).payload(6, &[1, 187, 0x9c, 0x40, 0, 0]),
            NOT_OURS,
        ),
        ("other port, truncated", from(BAD).tcp_header(22, SYN, 5, 4), NOT_OURS),
        (
            "three tags are more than we look through",
            from(BAD).tags(&[PROVIDER_TAG, TAG, TAG]).tcp(443, SYN),
            NOT_OURS,
        ),
    ]);
    for (name, at, byte) in [
        ("ARP ethertype in front of an IPv4 packet", 13, 0x06),
        ("IPv6 ethertype in front of an IPv4 packet", 12, 0x86),
        ("IP version 5", 14, 0x55),
        ("IPv4 header length below 5 words", 14, 0x44),
    ] {
        let mut frame = arp.clone();
        frame[at] = byte;
        assert_eq!(table.judge(&frame), NOT_OURS, "{name}");
    }
}

#[test]
fn tags_options_and_extension_headers_hide_nothing() {
    if !root() {
        return;
    }
    let chain = |count| (0..count).fold(from(BAD6), |frame, _| frame.extension(DESTINATION, 1));
    Bench::new(&config()).all(vec![
        ("802.1Q", from(BAD).tags(&[TAG]).tcp(443, SYN), DENIED),
        (
            "802.1ad and 802.1Q",
            from(BAD).tags(&[PROVIDER_TAG, TAG]).tcp(443, SYN),
            DENIED,
        ),
        (
            "802.1Q twice, IPv6",
            from(BAD6).tags(&[TAG, TAG]).udp(443, &quic_initial()),
            DENIED,
        ),
        ("802.1ad alone", from(BAD6).tags(&[PROVIDER_TAG]).tcp(443, SYN), DENIED),
        ("one IPv4 option", from(BAD).options(4).tcp(443, SYN), DENIED),
        (
            "40 bytes of IPv4 options",
            from(BAD).options(40).udp(443, &quic_initial()),
            DENIED,
        ),
        (
            "40 bytes of IPv4 options, established",
            from(BAD).options(40).tcp(443, ACK),
            ESTABLISHED,
        ),
        ("hop-by-hop", from(BAD6).extension(HOP_BY_HOP, 0).tcp(443, SYN), DENIED),
        ("routing", from(BAD6).extension(ROUTING, 2).tcp(443, SYN), DENIED),
        (
            "destination options of 2,048 bytes",
            from(BAD6).extension(DESTINATION, 255).tcp(443, SYN),
            DENIED,
        ),
        (
            "authentication",
            from(BAD6).extension(AUTHENTICATION, 4).tcp(443, SYN),
            DENIED,
        ),
        (
            "one of each",
            from(BAD6)
                .extension(HOP_BY_HOP, 0)
                .extension(DESTINATION, 3)
                .extension(ROUTING, 1)
                .extension(AUTHENTICATION, 4)
                .extension(DESTINATION, 0)
                .udp(443, &quic_initial()),
            DENIED,
        ),
        ("eight headers", chain(8).tcp(443, SYN), DENIED),
        ("eight headers, established", chain(8).tcp(443, ACK), ESTABLISHED),
        ("nine headers", chain(9).tcp(443, SYN), HEADERS),
        (
            "nine headers, clean client",
            (0..9)
                .fold(from(CLEAN6), |f, _| f.extension(HOP_BY_HOP, 0))
                .tcp(443, SYN),
            HEADERS,
        ),
    ]);
}

#[test]
fn fragments_that_start_a_connection_never_come_together() {
    if !root() {
        return;
    }
    Bench::new(&config()).all(vec![
        ("first", from(CLEAN).fragment(0, true).tcp(443, SYN), FRAGMENT),
        (
            "first, established",
            from(CLEAN).fragment(0, true).tcp(443, ACK),
            ESTABLISHED,
        ),
        (
            "first, too short to show its flags",
            from(CLEAN).fragment(0, true).tcp_header(443, ACK, 5, 13),
            FRAGMENT,
        ),
        (
            "first, just long enough",
            from(CLEAN).fragment(0, true).tcp_header(443, ACK, 5, 14),
            ESTABLISHED,
        ),
        (
            "first, just long enough, SYN",
            from(CLEAN).fragment(0, true).tcp_header(443, SYN, 5, 14),
            FRAGMENT,
        ),
        (
            "first, UDP",
            from(CLEAN).fragment(0, true).udp(443, &quic_initial()),
            FRAGMENT,
        ),
        (
            "first, as short as it gets",
            from(CLEAN).fragment(0, true).tcp_header(443, SYN, 5, 8),
            FRAGMENT,
        ),
        (
            "first, other port",
            from(BAD).fragment(0, true).udp(53, &[0; 32]),
            NOT_OURS,
        ),
        (
            "first, other protocol",
            from(BAD).fragment(0, true).payload(1, &[8; 32]),
            NOT_OURS,
        ),
        (
            "first, cut before the port",
            from(CLEAN).fragment(0, true).tcp_header(443, SYN, 5, 3),
            HEADERS,
        ),
        ("middle", from(CLEAN).fragment(1, true).tcp(443, SYN), LATER_FRAGMENT),
        ("last", from(CLEAN).fragment(185, false).tcp(443, SYN), LATER_FRAGMENT),
        ("don't fragment is no fragment", from(CLEAN).tcp(443, SYN), ATTEMPT),
    ]);
}

#[test]
fn nor_do_those_of_ipv6() {
    if !root() {
        return;
    }
    Bench::new(&config()).all(vec![
        (
            "first, established, IPv6",
            from(CLEAN6).fragment(0, true).tcp(443, ACK | PSH),
            ESTABLISHED,
        ),
        ("first, IPv6", from(CLEAN6).fragment(0, true).tcp(443, SYN), FRAGMENT),
        (
            "first, IPv6, other port",
            from(CLEAN6).fragment(0, true).tcp(22, SYN),
            NOT_OURS,
        ),
        (
            "later, IPv6",
            from(CLEAN6).fragment(3, true).tcp(443, SYN),
            LATER_FRAGMENT,
        ),
        (
            "last, IPv6",
            from(CLEAN6).fragment(3, false).tcp(443, SYN),
            LATER_FRAGMENT,
        ),
        (
            "atomic, IPv6 (RFC 6946): a whole packet",
            from(CLEAN6).fragment(0, false).tcp(443, SYN),
            ATTEMPT,
        ),
        (
            "atomic, IPv6, denied",
            from(BAD6).fragment(0, false).tcp(443, SYN),
            DENIED,
        ),
        (
            "first, IPv6, headers on both sides",
            from(CLEAN6)
                .extension(HOP_BY_HOP, 0)
                .fragment(0, true)
                .extension(DESTINATION, 1)
                .tcp(443, SYN),
            FRAGMENT,
        ),
        (
            "first, IPv6, without its port (RFC 7112)",
            from(CLEAN6).fragment(0, true).payload(DESTINATION, &[6, 0]),
            HEADERS,
        ),
        (
            "first, IPv6, cut in the port",
            from(CLEAN6).fragment(0, true).tcp_header(443, SYN, 5, 3),
            HEADERS,
        ),
    ]);
}

/// Whatever the length, the program gives a verdict and counts it, and never lets a denied client's
/// attempt through.
#[test]
fn a_packet_cut_anywhere_gets_a_counted_verdict() {
    if !root() {
        return;
    }
    let mut bench = Bench::new(&config());
    for frame in [
        from(BAD)
            .tags(&[PROVIDER_TAG, TAG])
            .options(8)
            .tcp_header(443, SYN, 6, 24),
        from(BAD).options(40).udp_length(443, &quic_initial()[..40], 1_208),
        from(BAD6)
            .extension(HOP_BY_HOP, 1)
            .extension(AUTHENTICATION, 4)
            .fragment(0, false)
            .tcp(443, SYN),
        from(BAD6)
            .tags(&[TAG])
            .extension(ROUTING, 2)
            .udp_length(443, &quic_initial()[..40], 1_208),
        from(CLEAN6).fragment(0, true).tcp(443, SYN),
    ] {
        let bytes = frame.bytes();
        for length in 14..=bytes.len() {
            let found = bench.judge(&bytes[..length]);
            assert!(
                matches!(found, NOT_OURS | MALFORMED | DENIED | HEADERS | FRAGMENT),
                "{length} of {} bytes of {frame:?}: {found:?}",
                bytes.len()
            );
        }
    }
}

/// A cheap stand-in for the fuzzer: every single-byte change of real packets gets one counted
/// verdict.
#[test]
fn a_packet_changed_anywhere_gets_a_counted_verdict() {
    if !root() {
        return;
    }
    let mut bench = Bench::new(&config());
    for frame in [
        from(CLEAN).tags(&[TAG]).tcp(443, SYN),
        from(CLEAN6)
            .extension(HOP_BY_HOP, 0)
            .fragment(0, true)
            .udp(443, &quic_initial()[..20]),
    ] {
        let bytes = frame.bytes();
        for position in 0..bytes.len() {
            for value in [0, 1, 4, 6, 17, 43, 44, 51, 60, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[position] = value;
                let _ = bench.judge(&changed);
            }
        }
    }
}
