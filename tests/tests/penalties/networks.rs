//! Penalties of networks, and addresses that stand for others. If this fails, whoever has a network
//! is a new client with each address of it, or a translator's clients are one.

use edge::base::penalty::Subject;
use edge::dataplane::Severity;
use edge_testbed::packet::flag::{ACK, SYN};
use edge_testbed::privilege::root;

use super::bench::{ATTEMPT, BLOCKED, Bench, ESTABLISHED, LONG, TOKEN, from, header, initial, keys, minted};

/// Whoever has a network would come from another address of it for each attempt; or who lives
/// beside it would be dropped with it.
#[test]
fn a_network_is_penalised_whole() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let network = |text: &str| Subject::Network(text.parse().unwrap());
    let key = &keys()[1];
    for (net, severity, inside, outside) in [
        (
            "192.0.2.0/24",
            Severity::Blocked,
            ["192.0.2.2", "192.0.2.254"],
            "192.0.3.1",
        ),
        (
            "2001:db8:e:300::/56",
            Severity::Blocked,
            ["2001:db8:e:300::1", "2001:db8:e:3ff::1"],
            "2001:db8:e:400::1",
        ),
        (
            "2001:db8:f::/48",
            Severity::Blocked,
            ["2001:db8:f::1", "2001:db8:f:ffff::1"],
            "2001:db8:10::1",
        ),
    ] {
        let syn = |address| bench.judge(&from(address).tcp(443, SYN).bytes());
        assert_eq!(inside.map(syn), [ATTEMPT; 2], "{net}");
        bench.penalise(network(net), severity, LONG);
        assert_eq!((inside.map(syn), syn(outside)), ([BLOCKED; 2], ATTEMPT), "{net}");
        assert_eq!(
            bench.penalties().list().iter().map(|p| p.who).collect::<Vec<_>>(),
            [network(net)]
        );
        // A token says who comes, and passes it as an address's.
        let quic = initial(&minted(header(), inside[0], key));
        assert_eq!(bench.judge(&from(inside[0]).udp(443, &quic).bytes()), TOKEN, "{net}");
        assert_eq!(bench.judge(&from(inside[0]).udp(443, &initial(&[])).bytes()), BLOCKED);
        // What is established is nobody's attempt.
        assert_eq!(bench.judge(&from(inside[1]).tcp(443, ACK).bytes()), ESTABLISHED);
        bench.penalties().remove(&[network(net)]);
        assert_eq!(inside.map(syn), [ATTEMPT; 2], "{net}");
        // Its addresses share a budget; one that is held back itself takes nothing of it.
        bench.penalise(network(net), Severity::Deferred(4), LONG);
        bench.block(inside[0]);
        let packets = inside.map(|address| from(address).tcp(443, SYN).bytes());
        assert_eq!((0..100).filter(|_| bench.passes(&packets[0])).count(), 0);
        let passed = (0..100).filter(|_| bench.passes(&packets[1])).count();
        assert!((4..=5).contains(&passed), "{net}: {passed}");
        let third = from(if net.contains(':') {
            "2001:db8:e:301::9"
        } else {
            "192.0.2.77"
        })
        .tcp(443, SYN)
        .bytes();
        if net != "2001:db8:f::/48" {
            assert!(!bench.passes(&third), "{net}: a budget of its own for another address");
        }
        bench.penalties().clear();
    }
}

/// A provider's own translator would have all its IPv4 clients be one, and one's strike shuts all
/// out.
#[test]
fn a_configured_translator_has_ipv4_clients() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let syn = |address| bench.judge(&from(address).tcp(443, SYN).bytes());
    bench.block("192.0.2.7");
    for (address, expected) in [
        ("192.0.2.7", BLOCKED),
        ("2001:db8:64::c000:207", BLOCKED),
        ("64:ff9b::c000:207", BLOCKED),
        ("2001:db8:64::c000:208", ATTEMPT),
        ("2001:db8:64::1:c000:207", ATTEMPT),
        ("2001:db8:65::c000:207", ATTEMPT),
    ] {
        assert_eq!(syn(address), expected, "{address}");
    }
}
