//! One request in many clothes, at the door.

use super::*;
use crate::base::peer::Handshake;

fn zones(more: &str) -> Arc<Zones> {
    let text = format!(
        "[server]\nhttp=[\"127.0.0.1:80\"]\n[[zone]]\nname=\"z\"\nhosts=[\"a.example\"]\ndefault = true\n\
         [zone.origin]\nservers=[{{address=\"http://127.0.0.1:1\"}}]\n{more}"
    );
    let config = crate::config::Config::parse(std::path::Path::new("t.toml"), &text).unwrap();
    Arc::new(Zones::new(&config.zones))
}

fn peer(secure: bool) -> Peer {
    Peer {
        client: "192.0.2.7:5".parse().unwrap(),
        local: "192.0.2.1:443".parse().unwrap(),
        accepted: std::time::Instant::now(),
        handshake: secure.then(|| {
            Arc::new(Handshake {
                duration: std::time::Duration::ZERO,
                server_name: Some("a.example".into()),
                version: "TLSv1.3",
                resumed: false,
                client: 0,
                known: false,
                certificate: None,
                standing: None,
            })
        }),
        early: None,
        via: None,
    }
}

/// What comes of a request with `fields`, from a client over TLS.
fn enter(version: Version, target: &str, fields: &[(&str, &str)], zones: &Arc<Zones>) -> Result<(Head, Host), Failure> {
    let mut request = http::Request::builder().version(version).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    client(parts, 100, &peer(true), zones, &mut Recent::default())
}

fn reason(result: Result<(Head, Host), Failure>) -> Reason {
    result.map(|(head, _)| head).unwrap_err().reason
}

/// One host under several names would be stored, limited and told to the origin as several; and
/// what the origin makes of an odd spelling would be stored for those who write it plainly.
#[test]
fn one_name_for_one_host() {
    let zones = zones("");
    for (secure, written, read) in [
        (true, "A.Example:443", "a.example"),
        (true, "a.example.:80", "a.example:80"),
        (false, "a.example:80", "a.example"),
        (false, "a.example:443", "a.example:443"),
    ] {
        let request = http::Request::builder().uri("/x").header(HOST, written);
        let parts = request.body(()).unwrap().into_parts().0;
        let (head, host) = client(parts, 100, &peer(secure), &zones, &mut Recent::default()).unwrap();
        assert_eq!(&*host.authority, read, "{written}");
        assert_eq!(head.headers[HOST], read, "{written}");
    }
}

/// A front that believes one of the two names, and we the other, send a request to different
/// tenants; one that is refused for a spelling is a client's that did nothing wrong.
#[test]
fn two_names_are_one_host_or_none() {
    let zones = zones("");
    for (authority, host) in [
        ("a.example", "a.example:443"),
        ("a.example:443", "A.example."),
        ("A.EXAMPLE", "a.example"),
    ] {
        let uri = format!("https://{authority}/x");
        let (head, named) = enter(Version::HTTP_2, &uri, &[("host", host)], &zones).unwrap();
        assert_eq!(
            (&*named.authority, &head.headers[HOST]),
            ("a.example", &HeaderValue::from_static("a.example"))
        );
    }
    for host in ["b.example", "a.example:80", "", "a.example/", "u@a.example"] {
        for version in [Version::HTTP_2, Version::HTTP_3] {
            let result = enter(version, "https://a.example/x", &[("host", host)], &zones);
            assert_eq!(reason(result), Reason::Malformed, "{host}");
        }
    }
    // An absolute target of HTTP/1.1 is the host.
    let (head, host) = enter(
        Version::HTTP_11,
        "https://a.example/x",
        &[("host", "b.example")],
        &zones,
    )
    .unwrap();
    assert_eq!(
        (&*host.authority, &head.headers[HOST]),
        ("a.example", &HeaderValue::from_static("a.example"))
    );
    for host in ["u@a.example", "a.example/", "b b"] {
        let result = enter(Version::HTTP_11, "https://a.example/x", &[("host", host)], &zones);
        assert_eq!(reason(result), Reason::Malformed, "{host}");
    }
    let twice = [("host", "a.example"), ("host", "a.example")];
    assert_eq!(reason(enter(Version::HTTP_11, "/", &twice, &zones)), Reason::Malformed);
    let user = enter(
        Version::HTTP_11,
        "https://u:p@a.example/x",
        &[("host", "a.example")],
        &zones,
    );
    assert_eq!(reason(user), Reason::Malformed);
}

/// A valid request would be refused, or one that only we understand be let in.
#[test]
fn targets_come_to_path_and_query() {
    let zones = zones("");
    for (version, written, read) in [
        (Version::HTTP_11, "https://a.example?x=1", "/?x=1"),
        (Version::HTTP_11, "https://a.example", "/"),
        (Version::HTTP_11, "https://a.example/p?q", "/p?q"),
        (Version::HTTP_10, "http://a.example?x", "/?x"),
        (Version::HTTP_2, "https://a.example/p", "/p"),
        (Version::HTTP_11, "/p", "/p"),
    ] {
        let (head, _) = enter(version, written, &[("host", "a.example")], &zones).unwrap();
        assert_eq!(head.uri.to_string(), read, "{written}");
    }
    for written in ["ftp://a.example/", "*"] {
        let result = enter(Version::HTTP_11, written, &[("host", "a.example")], &zones);
        assert_eq!(reason(result), Reason::Malformed, "{written}");
    }
    let bare = enter(Version::HTTP_2, "https://a.example?x=1", &[], &zones);
    assert_eq!(reason(bare), Reason::Malformed, ":path that is not one");
}

/// A client could take out what the edge adds, or have the edge and the origin disagree about what
/// was sent.
#[test]
fn nothing_of_the_connection_passes() {
    let zones = zones("");
    let fields = [
        ("host", "a.example"),
        ("connection", "upgrade, edge-delta, if-none-match, close"),
        ("edge-delta", "1"),
        ("if-none-match", "\"1\""),
        ("upgrade", "websocket"),
        ("te", "gzip, trailers"),
        ("expect", "100-Continue, 100-continue"),
        ("keep-alive", "5"),
        ("accept", "a"),
    ];
    let (head, _) = enter(Version::HTTP_11, "/", &fields, &zones).unwrap();
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "host"]);
    let meant = head.meant();
    assert!(meant.trailers && meant.waits && meant.upgrade.as_ref().unwrap() == "websocket");
    // Nobody's: not named in Connection, or of a version that has none.
    let unnamed = [("host", "a.example"), ("upgrade", "websocket"), ("te", "trailersx")];
    let (head, _) = enter(Version::HTTP_11, "/", &unnamed, &zones).unwrap();
    assert!(!head.upgrades() && !head.meant().trailers && head.headers.len() == 1);
    let (head, _) = enter(Version::HTTP_10, "/", &fields, &zones).unwrap();
    assert!(!head.upgrades() && !head.meant().waits && !head.headers.contains_key(EXPECT));
    let other = [("host", "a.example"), ("expect", "200-ok")];
    assert_eq!(reason(enter(Version::HTTP_2, "/", &other, &zones)), Reason::Expectation);
    assert!(enter(Version::HTTP_10, "/", &other, &zones).is_ok());
}

/// Origins that take `_` for `-`, merge fields, or believe what a client says of itself would be
/// told by it who it is.
#[test]
fn what_could_be_taken_for_another_field() {
    let plain = zones("");
    let open = zones("[zone.requests]\nunderscores = true\nclaims = [\"x-mine\"]\n");
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
        for name in ["content_length", "transfer_encoding"] {
            for zones in [&plain, &open] {
                let result = enter(version, "/", &[("host", "a.example"), (name, "3")], zones);
                assert_eq!(reason(result), Reason::Malformed, "{name}");
            }
        }
        let fields = [
            ("host", "a.example"),
            ("proxy", "http://192.0.2.6/"),
            ("client-cert", ":AA==:"),
            ("client_cert_chain", ":AA==:"),
            ("x-client-ip", "192.0.2.6"),
            ("x_mine", "1"),
            ("some_thing", "1"),
            ("accept", "a"),
        ];
        let names = |zones| {
            let (head, _) = enter(version, "/", &fields, zones).unwrap();
            let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&plain), ["accept", "host"]);
        assert_eq!(names(&open), ["accept", "host", "some_thing", "x-client-ip"]);
    }
}

/// Users with many cookies would get 431 by HTTP/2, and half of their cookies be read.
#[test]
fn crumbs_are_joined_before_they_are_counted() {
    let zones = zones("");
    let crumbs: Vec<_> = (0..180).map(|n| format!("c{n}=1")).collect();
    let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", crumb.as_str())).collect();
    let (head, _) = enter(Version::HTTP_2, "https://a.example/", &fields, &zones).unwrap();
    assert_eq!(head.headers["cookie"], crumbs.join("; "));
    let many: Vec<_> = (0..101).map(|n| format!("x-{n}")).collect();
    let fields: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(
        reason(enter(Version::HTTP_2, "https://a.example/", &fields, &zones)),
        Reason::HeadTooLarge
    );
}

/// A folder that a rule or a worker guards is walked around at origins that read the path
/// otherwise.
#[test]
fn paths_with_two_readings() {
    let route = "[[zone.route]]\npath = \"/a/\"\nto = \"origin\"\n";
    let rule = "[[zone.gate.rule]]\npath = \"/a/\"\nmanual = { wait = \"5s\" }\n";
    let other = "[[zone.gate.rule]]\nmethods = [\"POST\"]\nmanual = { wait = \"5s\" }\n";
    let told = "[zone.requests]\nambiguous_paths = true\n";
    for (more, strict) in [
        (route.to_owned(), true),
        (rule.to_owned(), true),
        (other.to_owned(), false),
        (String::new(), false),
        (format!("{told}{route}"), false),
    ] {
        let zones = zones(&more);
        for path in ["/x/..%2fa/", "/a%5Cb", "/x/..;/a/b"] {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let result = enter(version, path, &[("host", "a.example")], &zones);
                assert_eq!(result.is_err(), strict, "{path} {more}");
            }
        }
        assert!(
            enter(
                Version::HTTP_11,
                "/%61/../a//b?c=%2f;\\",
                &[("host", "a.example")],
                &zones
            )
            .is_ok()
        );
    }
}

/// A worker could do to another zone what no client can.
#[test]
fn workers_pass_the_same_door() {
    let zones = zones("[[zone.route]]\npath = \"/a/\"\nto = \"origin\"\n");
    let zone = &zones.all()[0];
    let ask = |uri: &str, fields: &[(&str, &str)], routed| {
        let mut request = http::Request::builder().version(Version::HTTP_2).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let authority = Authority::read(parts.uri.authority().unwrap().as_str().as_bytes(), true).unwrap();
        guest(parts, &authority, zone, routed, false)
    };
    let fields = [
        ("connection", "accept-language, upgrade"),
        ("accept-language", "fr"),
        ("upgrade", "websocket"),
        ("expect", "anything"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("host", "other.example"),
        ("proxy", "x"),
        ("x_y", "1"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    let head = ask("https://A.example:443?x", &fields, true).unwrap();
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cookie", "host"]);
    assert_eq!(
        (&head.headers[HOST], head.uri.to_string().as_str()),
        (&HeaderValue::from_static("a.example"), "/?x")
    );
    assert!(head.meant().trailers && !head.upgrades() && !head.meant().waits);
    assert!(ask("https://a.example/", &[("content_length", "3")], false).is_err());
    assert!(ask("https://a.example/x/..%2fa", &[], true).is_err());
    assert!(
        ask("https://a.example/x/..%2fa", &[], false).is_ok(),
        "its own origin's"
    );
    let (mut trace, ()) = http::Request::get("https://a.example/").body(()).unwrap().into_parts();
    trace.method = Method::TRACE;
    let authority = Authority::read(b"a.example", true).unwrap();
    assert!(guest(trace, &authority, zone, true, false).is_err());
}
