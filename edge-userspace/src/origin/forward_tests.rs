//! What a client must not be able to tell an origin through us, and what it must.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::base::id::RequestId;
use crate::base::peer::Peer;

fn exchange(client: &str, host: &str) -> Exchange {
    let text = "[server]\nhttp=[\"127.0.0.1:80\"]\n[[zone]]\nname=\"z\"\nhosts=[\"z\"]\n\
                [zone.origin]\nservers=[{address=\"http://127.0.0.1:1\"}]";
    let config = crate::config::Config::parse(std::path::Path::new("t.toml"), text).unwrap();
    Exchange {
        id: RequestId::next(),
        peer: Arc::new(Peer {
            client: client.parse().unwrap(),
            local: "192.0.2.9:443".parse().unwrap(),
            accepted: Instant::now(),
            handshake: None,
            early: None,
            via: None,
        }),
        zone: crate::zones::Zones::new(&config.zones).all()[0].clone(),
        host: host.into(),
        started: Instant::now(),
    }
}

fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn values<'a>(head: &'a request::Parts, name: &str) -> Vec<&'a str> {
    head.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
}

const HTTP: Scheme = Scheme::HTTP;

fn target(host: &'static str) -> Target<'static> {
    Target {
        host: HeaderValue::from_static(host),
        scheme: &HTTP,
    }
}

/// An origin would take a stranger for the client whose certificate it names, or not learn whose
/// was verified.
#[test]
fn only_a_verified_certificate_is_told() {
    use crate::base::peer::{Handshake, Identity};
    let claimed = || {
        let fields = [
            ("client-cert", ":AA==:"),
            ("client-cert-chain", ":AA==:"),
            ("client-cert-chain", ":BB==:"),
            ("client_cert-chain", ":CC==:"),
        ];
        head("GET", "/", &fields)
    };
    let mut exchange = exchange("203.0.113.7:5", "z");
    let mut stranger = claimed();
    prepare(&mut stranger, &Meant::default(), &exchange).unwrap();
    for name in ["client-cert", "client-cert-chain", "client_cert-chain"] {
        assert!(values(&stranger, name).is_empty(), "{name}");
    }
    let peer = Peer {
        client: exchange.peer.client,
        local: exchange.peer.local,
        accepted: exchange.peer.accepted,
        handshake: Some(Arc::new(Handshake {
            duration: std::time::Duration::ZERO,
            server_name: Some("z".into()),
            version: "TLSv1.3",
            resumed: false,
            client: 1,
            known: false,
            certificate: Some(Arc::new(Identity {
                subject: "CN=client".to_owned(),
                issuer: "CN=authority".to_owned(),
                names: Vec::new(),
                spki: "00".to_owned(),
                fingerprint: "00".to_owned(),
                field: http::HeaderValue::from_static(":MIIB:"),
                chain: Some(http::HeaderValue::from_static(":MIIC:, :MIID:")),
            })),
            standing: None,
        })),
        early: None,
        via: None,
    };
    exchange.peer = Arc::new(peer);
    let mut known = claimed();
    prepare(&mut known, &Meant::default(), &exchange).unwrap();
    assert_eq!(values(&known, "client-cert"), [":MIIB:"]);
    assert_eq!(values(&known, "client-cert-chain"), [":MIIC:, :MIID:"]);
    assert!(values(&known, "client_cert-chain").is_empty());
}

/// An origin that trusts these fields would believe the client.
#[test]
fn claims_of_clients_are_replaced() {
    let mut head = head(
        "GET",
        "/",
        &[
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "10.0.0.1"),
            ("x-request-id", "mine"),
            // What CGI would read as the fields above.
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_proto", "https"),
            ("x_real_ip", "10.0.0.1"),
            ("x_mine", "stays"),
            // Named by Connection, they must not vanish after we set them either.
            ("connection", "x-forwarded-for, forwarded"),
        ],
    );
    let exchange = exchange("203.0.113.7:5", "a.example:8443");
    prepare(&mut head, &Meant::default(), &exchange).unwrap();
    assert_eq!(
        values(&head, "forwarded"),
        ["for=203.0.113.7;host=\"a.example:8443\";proto=http"]
    );
    assert_eq!(values(&head, "x-forwarded-for"), ["203.0.113.7"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&head, "x-forwarded-host"), ["a.example:8443"]);
    assert_eq!(values(&head, "x-request-id"), [exchange.id.to_string()]);
    for name in ["x_forwarded_for", "x-forwarded_proto", "x_real_ip"] {
        assert!(values(&head, name).is_empty(), "{name}");
    }
    assert_eq!(values(&head, "x_mine"), ["stays"]);
    assert_eq!(values(&head, "x-real-ip"), ["203.0.113.7"]);
    assert!(values(&head, "x-forwarded-port").is_empty());
}

/// RFC 7239 section 4: an IPv6 address is bracketed and quoted.
#[test]
fn forwarded_of_ipv6() {
    let mut head = head("GET", "/", &[]);
    prepare(&mut head, &Meant::default(), &exchange("[2001:db8::7]:5", "")).unwrap();
    assert_eq!(values(&head, "forwarded"), ["for=\"[2001:db8::7]\";proto=http"]);
    assert_eq!(values(&head, "x-forwarded-for"), ["2001:db8::7"]);
}

/// What the client means for the origin besides, an origin must be told in the fields of our
/// connection with it.
#[test]
fn what_is_meant_is_said_again() {
    let meant = Meant {
        trailers: true,
        waits: true,
        upgrade: None,
    };
    let mut head = head("POST", "/", &[]);
    prepare(&mut head, &meant, &exchange("192.0.2.1:1", "z")).unwrap();
    assert_eq!(
        (values(&head, "te"), values(&head, "expect")),
        (vec!["trailers"], vec!["100-continue"])
    );
}

/// A loop between two edges would use up both.
#[test]
fn loops_end() {
    let exchange = exchange("192.0.2.1:1", "z");
    let mut looping = head(
        "GET",
        "/",
        &[
            ("cdn-loop", "other, edge"),
            ("cdn-loop", "edge; v=1,edgex"),
            ("via", "1.1 a"),
        ],
    );
    prepare(&mut looping, &Meant::default(), &exchange).unwrap();
    assert_eq!(values(&looping, "cdn-loop").last(), Some(&"edge"));
    assert_eq!(values(&looping, "via"), ["1.1 a", "1.1 edge"]);
    prepare(&mut looping, &Meant::default(), &exchange).unwrap();
    assert!(prepare(&mut looping, &Meant::default(), &exchange).is_err());
}

/// A company's API would learn the address of every visitor of a page that asks it.
#[test]
fn third_parties_learn_what_the_worker_tells_them() {
    let mut exchange = exchange("192.0.2.1:1", "z");
    let mut zone = (*exchange.zone).clone();
    let crate::config::Origin::Servers(upstream) = &zone.origin else {
        panic!()
    };
    let mut stranger = (**upstream).clone();
    stranger.names_visitor = false;
    zone.origin = crate::config::Origin::Servers(Arc::new(stranger));
    exchange.zone = Arc::new(zone);
    let mut head = head("GET", "/", &[("x-forwarded-for", "203.0.113.9"), ("cookie", "a=1")]);
    prepare(&mut head, &Meant::default(), &exchange).unwrap();
    assert_eq!(
        values(&head, "x-forwarded-for"),
        ["203.0.113.9"],
        "as the worker wrote it"
    );
    for name in [
        "forwarded",
        "x-request-id",
        "via",
        "x-forwarded-host",
        "x-forwarded-proto",
    ] {
        assert!(values(&head, name).is_empty(), "{name}");
    }
    assert_eq!(values(&head, "cdn-loop"), ["edge"], "loops are still found");
}

/// Framing that differs from the content is request smuggling.
#[test]
fn framing_is_ours() {
    let cases = [
        ("GET", Length::None, [None, None]),
        ("POST", Length::None, [Some("0"), None]),
        ("POST", Length::Exact(7), [Some("7"), None]),
        ("GET", Length::Streamed, [None, Some("chunked")]),
    ];
    for (method, length, [cl, te]) in cases {
        let mut head = head(method, "/x?y", &[("content-length", "99"), ("te", "trailers")]);
        for_h1(&mut head, &target("a.example"), length);
        assert_eq!(
            head.headers.get("content-length").map(|v| v.to_str().unwrap()),
            cl,
            "{method} {length:?}"
        );
        assert_eq!(
            head.headers.get("transfer-encoding").map(|v| v.to_str().unwrap()),
            te,
            "{method} {length:?}"
        );
        for_h2(&mut head, &target("a.example"), length);
        assert_eq!(head.uri, "http://a.example/x?y");
        assert!(!head.headers.contains_key("transfer-encoding") && !head.headers.contains_key("connection"));
        for_h1(&mut head, &target("a.example"), length);
        assert_eq!(
            (head.uri.to_string().as_str(), head.version),
            ("/x?y", Version::HTTP_11)
        );
        assert_eq!(values(&head, "host"), ["a.example"]);
    }
}

/// The origin routes by it.
#[test]
fn host_is_the_routed_one() {
    let own = HeaderValue::from_static("own:8080");
    let with = |fields: &[(&str, &str)], routed: &str, preserve| {
        let head = head("GET", "/", fields);
        host(&head.headers, &exchange("192.0.2.1:1", routed), &own, preserve)
    };
    // In the letters that it was routed and cached by: what an origin makes of others would be
    // stored for all.
    assert_eq!(with(&[("host", "A.example")], "a.example", true), "a.example");
    assert_eq!(with(&[("host", "other")], "a.example", true), "a.example");
    assert_eq!(with(&[], "", true), "own:8080");
    assert_eq!(with(&[("host", "a.example")], "a.example", false), "own:8080");
}

/// An origin would take a balancer for the visitor, or believe what the visitor wrote into the
/// field.
#[test]
fn proxies_are_named_after_the_client() {
    use crate::base::peer::Via;
    let mut exchange = exchange("[2001:db8::9]:0", "z");
    let peer = &*exchange.peer;
    exchange.peer = Arc::new(Peer {
        client: peer.client,
        local: peer.local,
        accepted: peer.accepted,
        handshake: None,
        early: None,
        via: Some(Via {
            proxies: ["10.0.0.2", "fd00::1"].map(|ip| ip.parse().unwrap()).into(),
            secure: Some(true),
        }),
    });
    let mut head = head(
        "GET",
        "/",
        &[
            ("x-forwarded-for", "6.6.6.6, 2001:db8::9, 10.0.0.2"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "http"),
        ],
    );
    prepare(&mut head, &Meant::default(), &exchange).unwrap();
    assert_eq!(values(&head, "x-forwarded-for"), ["2001:db8::9, 10.0.0.2, fd00::1"]);
    assert_eq!(values(&head, "x-real-ip"), ["2001:db8::9"]);
    assert_eq!(
        values(&head, "forwarded"),
        ["for=\"[2001:db8::9]\";host=\"z\";proto=https, for=10.0.0.2, for=\"[fd00::1]\""]
    );
    assert_eq!(values(&head, "x-forwarded-host"), ["z"]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&head, "x-request-id")[0].len(), exchange.id.hex().len());
}

/// Who is asked whether a request may pass would judge another one than it is; or a client could
/// say which.
#[test]
fn a_request_that_is_asked_about_is_named() {
    let claims = [
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-prefix", "/x"),
    ];
    let mut asking = head("GET", "/verify", &claims);
    asking.extensions.insert(About {
        method: Method::DELETE,
        target: PathAndQuery::from_static("/admin?a=b"),
    });
    let exchange = exchange("192.0.2.1:1", "z");
    prepare(&mut asking, &Meant::default(), &exchange).unwrap();
    assert_eq!(values(&asking, "x-forwarded-method"), ["DELETE"]);
    assert_eq!(values(&asking, "x-forwarded-uri"), ["/admin?a=b"]);
    assert_eq!(values(&asking, "x-forwarded-host"), ["z"]);
    assert_eq!(values(&asking, "x-forwarded-prefix"), [""; 0]);
    let mut other = head("GET", "/", &claims);
    prepare(&mut other, &Meant::default(), &exchange).unwrap();
    assert_eq!(values(&other, "x-forwarded-uri"), [""; 0]);
    assert_eq!(values(&other, "x-forwarded-method"), [""; 0]);
}
