//! Handshakes whose private keys exist only in the key server's process, by the clients that people
//! use. If this fails, a zone with keys elsewhere is unreachable for some of them, or its keys are
//! not where the operator thinks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../checkout/mod.rs"]
mod checkout;
mod quic;
#[expect(dead_code, reason = "this test uses a part of it")]
#[path = "../browser/webdriver.rs"]
mod webdriver;
mod world;

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use webdriver::Browser;
use world::{CLIENTS, EXCHANGE, LOCAL, P256, RSA, World};

const TLS13: &[&str] = &["--tlsv1.3"];
const TLS12: &[&str] = &["--tls-max", "1.2"];

/// `openssl s_client` has shaken hands, and trusts whom it met.
fn assert_met(said: &str, version: &str) {
    assert!(
        said.contains(&format!("New, {version}, Cipher is ")) && said.contains("Verify return code: 0 (ok)"),
        "{said}"
    );
}

/// Every TLS client the system has, over both versions, to keys of both kinds.
#[test]
fn clients_of_every_kind_get_in() {
    let Some(world) = World::start() else { return };
    for host in [P256, RSA, EXCHANGE, LOCAL] {
        for version in [TLS13, TLS12] {
            let answer = world.curl(host, version);
            assert!(answer.status.success(), "{host} {version:?}: {answer:?}");
        }
        assert_met(&world.s_client(host, &["-tls1_3"]), "TLSv1.3");
        assert_met(&world.s_client(host, &["-tls1_2"]), "TLSv1.2");
        // Its first share is for a group that the edge has not: a HelloRetryRequest.
        let said = world.s_client(host, &["-tls1_3", "-groups", "P-521:X25519", "-msg"]);
        assert_met(&said, "TLSv1.3");
        assert_eq!(said.matches("ClientHello").count(), 2, "{host}: {said}");
        let said = world.python(host);
        assert_eq!(said, "TLSv1.2 200\nTLSv1.3 200\n", "{host}");
    }
    assert!(world.count("edge_tls_keyserver_requests_total{server=\"keys\",outcome=\"ok\"}") > 20);
    // A hello of many segments, dribbled: more protocols offered than anybody speaks.
    let long = (0..200)
        .map(|n| format!("protocol-number-{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let said = world.s_client(P256, &["-tls1_3", "-alpn", &format!("{long},http/1.1")]);
    assert_met(&said, "TLSv1.3");
}

/// The browser that most people have; it comes with the post-quantum hybrid, and gets it. An older
/// one gets in as well.
#[test]
fn a_browser_gets_in() {
    let Some(world) = World::start() else { return };
    for (arguments, version, group) in [
        (&["--disable-quic"][..], "TLSv1.3", "x25519mlkem768"),
        (&["--disable-quic", "--ssl-version-max=tls1.2"], "TLSv1.2", "x25519"),
    ] {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let Some(browser) = Browser::start_with(&world.inside, &world.file(""), &arguments, &[P256], "127.0.0.1")
        else {
            return;
        };
        browser.open(&format!("https://{P256}/"));
        assert_eq!(browser.title(), "keyless");
        let full = format!("edge_tls_handshakes_total{{version=\"{version}\",resumed=\"false\"}}");
        assert!(world.count(&full) > 0, "{version}");
        assert!(world.count(&format!("edge_tls_key_exchanges_total{{group=\"{group}\"}}")) > 0);
    }
}

/// An outage of the key server is told to newcomers in time, and not noticed by those who come
/// back.
#[test]
fn an_outage() {
    let Some(mut world) = World::start() else { return };
    let session = world.file("session.pem");
    let session = session.to_str().unwrap();
    world.s_client(P256, &["-tls1_3", "-sess_out", session, "-ign_eof"]);
    world.keyserver.kill().unwrap();
    let start = Instant::now();
    let said = world.s_client(P256, &["-tls1_3"]);
    assert!(said.contains("alert internal error"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    let said = world.s_client(P256, &["-tls1_3", "-sess_in", session]);
    assert!(said.contains("Reused, TLSv1.3"), "{said}");
    assert!(
        world.curl(LOCAL, &[]).status.success(),
        "keys that are here know nothing of it"
    );

    // Handshakes that are under way when it comes back are served.
    let waiting: Vec<_> = (0..5)
        .map(|_| world.curl_command(P256, &[]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    world.restart_keyserver();
    for mut client in waiting {
        assert!(client.wait().unwrap().success());
    }
}

/// An edge that is not trusted any more gets nothing, from the moment its entry is gone.
#[test]
fn a_revoked_edge() {
    let Some(world) = World::start() else { return };
    assert!(world.curl(P256, &[]).status.success());
    world.keys.let_in("another-edge.example.test").unwrap();
    world.keyserver.signal(Signal::HUP).unwrap();
    world.until("refused", || !world.curl(P256, &[]).status.success());
    let said = world.s_client(P256, &["-tls1_2"]);
    assert!(said.contains("alert internal error"), "{said}");
    world.keys.let_in(edge_testbed::keys::EDGE).unwrap();
    world.keyserver.signal(Signal::HUP).unwrap();
    world.until("trusted again", || world.curl(P256, &[]).status.success());
}

/// A zone's key moves to the key server by a reload, and a key that no server has is told at once.
#[test]
fn a_key_moves_by_a_reload() {
    let Some(world) = World::start() else { return };
    assert!(world.curl(LOCAL, &[]).status.success());
    let before = world.count("edge_tls_keyserver_requests_total{server=\"keys\",outcome=\"ok\"}");
    let text = std::fs::read_to_string(world.file("edge.toml")).unwrap();
    let moved = text.replace("key = \"local.key\"", "key_servers = [\"keys\"]");
    assert_ne!(text, moved);
    std::fs::write(world.file("edge.toml"), &moved).unwrap();
    world.daemon.signal(Signal::HUP).unwrap();
    world.until("the missing key is told", || {
        world
            .daemon
            .log()
            .contains("no key server of the zone has its certificate's key")
    });
    world
        .keys
        .add("local", &std::fs::read_to_string(world.file("local.key")).unwrap())
        .unwrap();
    std::fs::remove_file(world.file("local.key")).unwrap();
    world.until("served by the key server", || world.curl(LOCAL, &[]).status.success());
    assert!(world.count("edge_tls_keyserver_requests_total{server=\"keys\",outcome=\"ok\"}") > before);
    std::fs::write(world.file("edge.toml"), moved.replace("[\"keys\"]", "[\"kyes\"]")).unwrap();
    world.daemon.signal(Signal::HUP).unwrap();
    world.until("the mistake is told", || {
        world.daemon.log().contains("there is no key server \\\"kyes\\\"")
    });
    assert!(world.curl(P256, &[]).status.success(), "the old configuration goes on");
}

/// A zone for known clients only: whoever has no certificate, or one of somebody else, stays
/// outside.
#[test]
fn clients_with_certificates() {
    let Some(world) = World::start() else { return };
    let (certificate, key) = (world.file("person.pem"), world.file("person.key"));
    let person = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let (certificate, key) = (world.file("stranger.pem"), world.file("stranger.key"));
    let stranger = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    for version in [TLS13, TLS12] {
        let ask = |shown: &[&str]| world.curl(CLIENTS, &[shown, version].concat()).status.success();
        assert!(ask(&person), "{version:?}");
        assert!(!ask(&[]), "{version:?}: without");
        assert!(!ask(&stranger), "{version:?}: of another CA");
    }
    world.until("the log names the person", || {
        world
            .daemon
            .log()
            .contains("\"client_subject\":\"CN=person.example.test\"")
    });
}

/// HTTP/3 to keys of every kind; an outage ends handshakes by an alert, and is not noticed by who
/// comes back.
#[test]
fn over_quic() {
    let Some(mut world) = World::start() else { return };
    quic::run(async {
        for host in [P256, RSA, EXCHANGE, LOCAL] {
            let (_, status) = quic::Client::new(&world, None).get(host).await.unwrap();
            assert_eq!(status, 200, "{host}");
        }
        let back = quic::Client::new(&world, None);
        back.get(P256).await.unwrap();
        assert_eq!(world.count("edge_quic_handshakes_total{resumed=\"true\"}"), 0);
        world.keyserver.kill().unwrap();
        let start = Instant::now();
        // internal_error (RFC 9001 section 4.8).
        assert_eq!(quic::Client::new(&world, None).refused(P256).await, 0x150);
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert_eq!(
            world.count("edge_quic_handshake_failures_total{reason=\"key_server\"}"),
            1
        );
        let (_, status) = back.get(P256).await.unwrap();
        assert_eq!(status, 200, "who comes back needs no key server");
        assert_eq!(world.count("edge_quic_handshakes_total{resumed=\"true\"}"), 1);
        world.restart_keyserver();
        quic::Client::new(&world, None).get(P256).await.unwrap();
    });
}

/// Whoever is let in for a certificate over TCP alone would walk in over QUIC.
#[test]
fn clients_with_certificates_over_quic() {
    let Some(world) = World::start() else { return };
    quic::run(async {
        let (_, status) = quic::Client::new(&world, Some("person")).get(CLIENTS).await.unwrap();
        assert_eq!(status, 200);
        // certificate_required; decrypt_error, for a certificate by another CA of the same name.
        assert_eq!(quic::Client::new(&world, None).refused(CLIENTS).await, 0x174);
        assert_eq!(
            quic::Client::new(&world, Some("stranger")).refused(CLIENTS).await,
            0x133
        );
        // A session with a zone that asks for none opens no door here.
        let visitor = quic::Client::new(&world, None);
        visitor.get(P256).await.unwrap();
        assert_eq!(visitor.refused(CLIENTS).await, 0x174);
    });
    world.until("the log names the person", || {
        world
            .daemon
            .log()
            .contains("\"client_subject\":\"CN=person.example.test\"")
    });
}
