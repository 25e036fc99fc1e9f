//! Packet in, verdict and reason out: the XDP program on fixtures, by `BPF_PROG_TEST_RUN`. Needs root (CAP_BPF and
//! CAP_SYS_ADMIN); attaches and pins nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use edge::config::{self, XdpMode};
use edge::dataplane::Dataplane;
use edge_testbed::packet::extension::{AUTHENTICATION, DESTINATION, HOP_BY_HOP, ROUTING};
use edge_testbed::packet::flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
use edge_testbed::packet::{Frame, quic_initial, quic_long, quic_short};
use edge_testbed::privilege::root;
use edge_testbed::test_run::{Program, verdict};

const PROVIDER_TAG: u16 = 0x88a8;
const TAG: u16 = 0x8100;

/// What the test expects: the label pair of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Pass(&'static str),
    Drop(&'static str),
}
use Expect::{Drop, Pass};

const NOT_OURS: Expect = Pass("not_ours");
const ESTABLISHED: Expect = Pass("established");
const ATTEMPT: Expect = Pass("attempt");
const ALLOWED: Expect = Pass("allowed");
const LATER_FRAGMENT: Expect = Pass("fragment");
const DENIED: Expect = Drop("denied");
const FRAGMENT: Expect = Drop("fragment");
const MALFORMED: Expect = Drop("malformed");
const HEADERS: Expect = Drop("headers");
const MARTIAN: Expect = Drop("martian");

fn config() -> config::Dataplane {
    let nets = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    config::Dataplane {
        interfaces: Vec::new(),
        mode: XdpMode::Auto,
        pin_directory: PathBuf::from("/sys/fs/bpf/edge-verdicts"),
        tcp_ports: vec![80, 443],
        udp_ports: vec![443],
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        allow: nets(&[
            "203.0.113.128/25",
            "203.0.113.9/32",
            "2001:db8:d:a::/64",
            "198.51.100.250/32",
        ]),
        deny: nets(&[
            "198.51.100.0/24",
            "203.0.113.0/24",
            "203.0.113.200/32",
            "192.0.2.66/32",
            "10.0.0.0/8",
            "2001:db8:d::/48",
            "2001:db8:bad::66/128",
            "2001:db8:d:a::1/128",
            "2002::/16",
        ]),
        deny_entries: 1000,
        state_directory: None,
        syn_cookies: true,
        penalty_entries: 1024,
        event_sample: 0,
    }
}

struct Bench {
    dataplane: Dataplane,
    program: Program,
    before: BTreeMap<(&'static str, &'static str), u64>,
}

impl Bench {
    fn new(config: &config::Dataplane) -> Self {
        let dataplane = Dataplane::unattached(config).unwrap();
        let program = Program::by_id(dataplane.program_id().unwrap()).unwrap();
        let mut bench = Self {
            dataplane,
            program,
            before: BTreeMap::new(),
        };
        bench.before = bench.counters();
        bench
    }

    fn counters(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let counts = self.dataplane.counters().unwrap();
        counts
            .into_iter()
            .map(|count| ((count.verdict.name(), count.name), count.packets))
            .collect()
    }

    /// Runs one packet, and reads its reason off the counters: exactly one must have moved, by one, and it must belong
    /// to the verdict.
    fn judge(&mut self, packet: &[u8]) -> Expect {
        let verdict = self.program.run(packet, 1).unwrap().verdict;
        let after = self.counters();
        let moved: Vec<_> = after
            .iter()
            .filter(|(key, count)| self.before.get(*key) != Some(*count))
            .collect();
        let [((name, reason), count)] = moved[..] else {
            panic!("counters moved: {moved:?}")
        };
        assert_eq!(*count, self.before[&(*name, *reason)] + 1);
        let found = match (verdict, *name) {
            (verdict::PASS, "pass") => Pass(reason),
            (verdict::DROP, "drop") => Drop(reason),
            other => panic!("verdict and counter differ: {other:?} {reason}"),
        };
        self.before = after;
        found
    }

    fn all(&mut self, table: Vec<(&str, Frame, Expect)>) {
        let mut wrong = Vec::new();
        for (name, frame, expected) in table {
            let found = self.judge(&frame.bytes());
            if found != expected {
                wrong.push(format!("{name}: expected {expected:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

fn from(source: &str) -> Frame {
    Frame::from(source.parse::<IpAddr>().unwrap())
}

/// A client on no list, and one on the deny list, of either IP version.
const CLEAN: &str = "100.64.0.1";
const CLEAN6: &str = "2001:db8:c::1";
const BAD: &str = "192.0.2.66";
const BAD6: &str = "2001:db8:bad::66";

/// Older verifiers look at more, and refuse what takes more than a million; and each start takes as long as this does.
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
            "first, established, IPv6",
            from(CLEAN6).fragment(0, true).tcp(443, ACK | PSH),
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

/// Whatever the length, the program gives a verdict and counts it, and never lets a denied client's attempt through.
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

/// A cheap stand-in for the fuzzer: every single-byte change of real packets gets one counted verdict.
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
