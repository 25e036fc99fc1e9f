//! Devices that know no key exchange but RSA's (feature `legacy-rsa`): the real edge and the real
//! key server, by OpenSSL and by a client made by hand that sends what OpenSSL would not. If this
//! fails, old devices stay outside, modern clients lose forward secrecy, or somebody learns from
//! the edge how a premaster was padded.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

#[expect(dead_code, reason = "these tests use a part of it")]
#[path = "../keyserver/bed.rs"]
mod bed;
mod device;
mod faults;
mod padding;
mod world;

use world::{HERE, OLD, STRICT, World};

const SUITES: [&str; 4] = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"];

/// The key is at the key server alone, or in a file: an old device gets its page by every suite,
/// over HTTP/1.1.
#[test]
fn old_devices_get_in() {
    let world = World::start();
    for host in [OLD, HERE] {
        for suite in SUITES {
            let said = world.s_client(host, &["-tls1_2", "-cipher", suite, "-alpn", "h2,http/1.1"]);
            for part in [
                &format!("Cipher    : {suite}\n"),
                "Protocol  : TLSv1.2\n",
                "ALPN protocol: http/1.1\n",
                "Verify return code: 0 (ok)",
                "Extended master secret: yes",
                "HTTP/1.1 200 ",
                "an old page",
            ] {
                assert!(said.contains(part), "{host} {suite}: no {part} in:\n{said}");
            }
            assert!(!said.contains("TLS session ticket:"), "{said}");
        }
    }
    world.until("eight are counted", || {
        world.count("edge_tls_key_exchanges_total{group=\"rsa\"}") == 8
    });
    assert_eq!(
        world.count("edge_tls_handshakes_total{version=\"TLSv1.2\",resumed=\"false\"}"),
        8
    );
    assert!(world.count("edge_tls_keyserver_requests_total{server=\"keys\",outcome=\"ok\"}") >= 4);
    world.until("lines of the access log", || {
        world.log().matches("\"tls\":\"TLSv1.2\"").count() == 8
    });
    // There is no session to come back to.
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", SUITES[0]]);
    assert!(said.contains("Session-ID: \n"), "{said}");
}

/// The server's order counts, and the record layer carries more than one record each way.
#[test]
fn the_best_of_what_is_offered() {
    let world = World::start();
    let offered = "AES256-SHA:AES128-SHA:AES256-GCM-SHA384:AES128-GCM-SHA256";
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", offered]);
    assert!(said.contains("Cipher    : AES128-GCM-SHA256\n"), "{said}");
    for suite in SUITES {
        let page = world.curl(OLD, "/large", &["--tls-max", "1.2", "--ciphers", suite]);
        assert_eq!(page.len(), world::LARGE, "{suite}");
        assert!(page.iter().all(|byte| *byte == b'x'));
    }
    // A client from before ALPN, and one that wants what is not to be had with these suites.
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", SUITES[0]]);
    assert!(
        said.contains("No ALPN negotiated") && said.contains("HTTP/1.1 200 "),
        "{said}"
    );
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", SUITES[0], "-alpn", "h2"]);
    assert!(said.contains("alert no application protocol"), "{said}");
}

/// A client that can do better must not lose forward secrecy because its zone lets others in.
#[test]
fn modern_clients_are_served_as_ever() {
    let world = World::start();
    for host in [OLD, HERE] {
        let said = world.s_client(host, &[]);
        assert!(said.contains("New, TLSv1.3, Cipher is "), "{said}");
        // Whatever it likes best.
        let both = "AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
        let said = world.s_client(host, &["-tls1_2", "-cipher", both]);
        assert!(said.contains("Cipher    : ECDHE-RSA-AES128-GCM-SHA256\n"), "{said}");
        let said = world.s_client(host, &["-tls1_3", "-cipher", SUITES[0], "-alpn", "h2"]);
        assert!(said.contains("ALPN protocol: h2"), "{said}");
    }
    assert_eq!(world.count("edge_tls_key_exchanges_total{group=\"rsa\"}"), 0);
}

/// A zone that has not asked for it must not give it; nobody gets a version below 1.2.
#[test]
fn who_stays_outside() {
    let world = World::start();
    for suite in SUITES {
        let said = world.s_client(STRICT, &["-tls1_2", "-cipher", suite]);
        assert!(said.contains("alert handshake failure"), "{said}");
    }
    // The name decides as ever: an unknown one has the default zone, which is strict.
    let said = world.s_client("unknown.example", &["-tls1_2", "-cipher", SUITES[0]]);
    assert!(said.contains("alert handshake failure"), "{said}");
    for version in ["-tls1_1", "-tls1"] {
        let said = world.s_client(OLD, &[version, "-cipher", "AES128-SHA:@SECLEVEL=0"]);
        assert!(said.contains("alert protocol version"), "{said}");
    }
    // A suite of static RSA that is too old.
    let said = world.s_client(OLD, &["-tls1_2", "-cipher", "AES128-SHA256"]);
    assert!(said.contains("alert handshake failure"), "{said}");
    // One zone's connection is not another's: 421.
    let said = world.s_client_for(OLD, STRICT, &["-tls1_2", "-cipher", SUITES[0]]);
    assert!(said.contains("HTTP/1.1 421 "), "{said}");
    world.until("those refused are counted", || {
        world.count("edge_tls_handshake_failures_total{reason=\"alert\"}") == 8
    });
}
