//! Handshakes, names, tickets, PROXY headers and what is no TLS at all.

use std::time::Duration;

use edge::tls::certificates;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Edge, certificate, config, exchange, response};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const SOON: Duration = Duration::from_secs(2);

/// A client gets the wrong certificate, or one where there is none for it.
#[tokio::test]
async fn certificate_by_name() {
    let edge = Edge::start("");
    for (name, host) in [
        ("a.example", "a.example"),
        ("x.a.example", "x.a.example"),
        ("B.example", "b.example"),
    ] {
        let mut stream = edge.tls(name, &["http/1.1"]).await;
        stream
            .write_all(format!("GET /p?q HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let answer = response(&mut stream).await;
        assert!(answer.contains(&format!("host={host}")), "{answer}");
        assert!(answer.contains("target=/p?q tls=TLSv1.3"), "{answer}");
    }
    // No name (an address), and an unknown one: the default zone's certificate, which covers
    // neither.
    for name in ["127.0.0.1", "other.example"] {
        let error = edge.tls_with(name, edge.client(&[])).await.unwrap_err().to_string();
        assert!(
            error.contains("NotValidForName") || error.contains("not valid for name"),
            "{error}"
        );
    }
}

/// Without a default zone an unknown name has no certificate; the client is told which of its words
/// was wrong.
#[tokio::test]
async fn unrecognized_name() {
    let edge = Edge::start("");
    let mut config = config(edge.directory.path(), "");
    config.zones[1].default = false;
    edge.front
        .reload(
            config.serving(),
            certificates::load(&config.zones, &config.key_servers, None).unwrap(),
        )
        .unwrap();
    let error = edge
        .tls_with("other.example", edge.client(&[]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    edge.counts("edge_tls_handshake_failures_total{reason=\"no_certificate\"} 1")
        .await;
}

/// Old clients are shut out, or versions the operator forbade are spoken.
#[tokio::test]
async fn versions_and_protocols() {
    let edge = Edge::start("");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let old = |edge: &Edge| {
        rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(edge.roots.clone())
            .with_no_client_auth()
    };
    let mut stream = edge.tls_with("a.example", old(&edge)).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert!(response(&mut stream).await.contains("tls=TLSv1.2"));
    let error = edge
        .tls_with("a.example", edge.client(&["spdy/3"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");

    let edge = Edge::start("[tls]\nmin_version = \"1.3\"\n");
    let error = edge.tls_with("a.example", old(&edge)).await.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
}

/// Every returning client pays, and costs, a full handshake.
#[tokio::test]
async fn resumption() {
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let edge = Edge::start("");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(edge.roots.clone())
            .with_no_client_auth();
        for resumed in [false, true, true] {
            let mut stream = edge.tls_with("a.example", client.clone()).await.unwrap();
            stream.write_all(GET).await.unwrap();
            let answer = response(&mut stream).await;
            assert!(answer.contains(&format!("resumed={resumed}")), "{answer}");
            // Reloading keeps the ticket keys.
            let config = config(edge.directory.path(), &edge.extra);
            edge.front
                .reload(
                    config.serving(),
                    certificates::load(&config.zones, &config.key_servers, None).unwrap(),
                )
                .unwrap();
        }
        edge.counts("resumed=\"true\"} 2").await;
    }
}

/// A client that comes to another node of a fleet would be somebody new there, and shake hands in
/// full.
#[tokio::test]
async fn resumption_at_another_node() {
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let nodes = [Edge::start(""), Edge::start("")];
        let mut roots = nodes[0].roots.clone();
        roots.extend(nodes[1].roots.roots.iter().cloned());
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let visit = async |node: &Edge| {
            let mut stream = node.tls_with("a.example", client.clone()).await.unwrap();
            stream
                .write_all(b"GET /id HTTP/1.1\r\nHost: a.example\r\n\r\n")
                .await
                .unwrap();
            let answer = response(&mut stream).await;
            let said = answer.rsplit_once("\r\n\r\n").unwrap().1;
            let (id, known) = said.split_once(' ').unwrap();
            (id.to_owned(), known == "true")
        };
        // Each has keys of its own.
        let (first, known) = visit(&nodes[0]).await;
        assert!(!known);
        let (second, known) = visit(&nodes[1]).await;
        assert!(!known && second != first);
        let share = |node: &Edge| {
            let hour = Duration::from_secs(3_600);
            let key = edge::tls::sealing::Common {
                name: *b"test",
                secret: std::sync::Arc::new(zeroize::Zeroizing::new([7; 32])),
                seals: hour,
                opens: hour,
            };
            node.front.sealing().share([key], std::time::Instant::now());
        };
        nodes.iter().for_each(share);
        let (mine, _) = visit(&nodes[1]).await;
        for node in [0, 1, 0] {
            assert_eq!(visit(&nodes[node]).await, (mine.clone(), true));
        }
        // What a node that the fleet left alone has sealed is its own.
        nodes[0].front.sealing().share([], std::time::Instant::now());
        let (alone, known) = visit(&nodes[0]).await;
        assert!(!known && alone != mine);
        assert_eq!(visit(&nodes[0]).await, (alone, true));
    }
}

/// A renewed certificate is not served until a restart, or a reload drops connections.
#[tokio::test]
async fn reload_swaps_certificates() {
    let mut edge = Edge::start("");
    let mut before = edge.tls("a.example", &[]).await;
    let renewed = certificate(edge.directory.path(), "a", &["a.example"]);
    let config = config(edge.directory.path(), "");
    edge.front
        .reload(
            config.serving(),
            certificates::load(&config.zones, &config.key_servers, None).unwrap(),
        )
        .unwrap();
    edge.roots = rustls::RootCertStore::empty();
    edge.roots.add(renewed).unwrap();
    edge.tls("a.example", &[]).await;
    before.write_all(GET).await.unwrap();
    assert!(response(&mut before).await.starts_with("HTTP/1.1 200"));
}

/// An operator cannot tell which file is wrong, and how to mend it.
#[tokio::test]
async fn mistakes_in_files() {
    let edge = Edge::start("");
    let directory = edge.directory.path();
    let config = config(directory, "");
    let complaint = || {
        certificates::load(&config.zones, &config.key_servers, None)
            .unwrap_err()
            .to_string()
    };
    let key = std::fs::read(directory.join("a.key")).unwrap();
    let chain = std::fs::read(directory.join("a.pem")).unwrap();

    std::fs::copy(directory.join("b.key"), directory.join("a.key")).unwrap();
    assert!(
        complaint().contains("zone.key: ") && complaint().contains("is not the key of"),
        "{}",
        complaint()
    );
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(directory.join("a.key"), encrypted).unwrap();
    assert!(complaint().contains("is encrypted; decrypt it"), "{}", complaint());
    std::fs::write(directory.join("a.key"), "secret").unwrap();
    assert!(
        complaint().contains("has no \"-----BEGIN PRIVATE KEY"),
        "{}",
        complaint()
    );
    assert!(!complaint().contains("secret"));
    std::fs::write(
        directory.join("a.key"),
        "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    assert!(
        complaint().contains("line 1 is damaged") && !complaint().contains("secret"),
        "{}",
        complaint()
    );
    std::fs::write(directory.join("a.key"), &key).unwrap();
    std::fs::write(directory.join("a.pem"), "").unwrap();
    assert!(
        complaint().contains("has no \"-----BEGIN CERTIFICATE"),
        "{}",
        complaint()
    );
    std::fs::remove_file(directory.join("a.pem")).unwrap();
    assert!(complaint().contains("zone.certificate: ") && complaint().contains("name a file that is there"));
    std::fs::write(directory.join("a.pem"), &chain).unwrap();

    use std::os::unix::fs::PermissionsExt;
    for (file, mode) in [("a.key", 0o644), ("b.key", 0o600)] {
        std::fs::set_permissions(directory.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let pair = rcgen::KeyPair::from_pem(std::str::from_utf8(&key).unwrap()).unwrap();
    std::fs::write(directory.join("a.pem"), params.self_signed(&pair).unwrap().pem()).unwrap();
    let warnings: Vec<String> = certificates::load(&config.zones, &config.key_servers, None)
        .unwrap()
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("readable by everyone; chmod 600"), "{warnings:?}");
    assert!(warnings[1].contains("expired"), "{warnings:?}");
    assert!(warnings[2].contains("does not cover *.a.example"), "{warnings:?}");
}

/// Someone who typed http:// sees nothing but a reset.
#[tokio::test]
async fn plain_http_on_a_tls_port() {
    let edge = Edge::start("");
    let mut stream = TcpStream::connect(edge.https).await.unwrap();
    let (closed, answer) = exchange(&mut stream, GET, SOON).await;
    assert!(
        closed && answer.starts_with("HTTP/1.1 400") && answer.ends_with("https://.\n"),
        "{answer}"
    );
    drop(stream);
    let mut stream = TcpStream::connect(edge.https).await.unwrap();
    let (closed, answer) = exchange(&mut stream, b"\0garbage", SOON).await;
    // A fatal alert, unexpected_message (RFC 8446 sections 5 and 6.2).
    assert!(
        closed && answer.starts_with("\x15\x03") && answer.ends_with("\x02\n"),
        "{answer:?}"
    );
    drop(stream);
    edge.counts("edge_tls_handshake_failures_total{reason=\"not_tls\"} 2")
        .await;
}

/// A client that never shakes hands keeps a place for ever.
#[tokio::test]
async fn handshake_timeout() {
    let edge = Edge::start("[tls]\nhandshake_timeout = \"200ms\"\n");
    let mut silent = TcpStream::connect(edge.https).await.unwrap();
    let mut slow = TcpStream::connect(edge.https).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut byte = [0];
    let both = async { (silent.read(&mut byte).await, slow.read(&mut [0]).await) };
    let (a, b) = tokio::time::timeout(SOON, both).await.unwrap();
    assert!(!matches!(a, Ok(1..)) && !matches!(b, Ok(1..)));
    edge.counts("{reason=\"timeout\"} 2").await;
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb";

/// Behind a load balancer every client has the balancer's address; or anyone can choose theirs.
#[tokio::test]
async fn proxy_headers() {
    let edge = Edge::start("[server]\nproxy_protocol_from = [\"127.0.0.0/8\"]\n");
    for header in [V1, V2] {
        let mut stream = edge.plain().await;
        // In two pieces, with the request close behind.
        stream.write_all(&header[..13]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        stream.write_all(&[&header[13..], GET].concat()).await.unwrap();
        let answer = response(&mut stream).await;
        assert!(answer.contains("client=192.0.2.7"), "{answer}");
        // And through TLS.
        let mut stream = TcpStream::connect(edge.https).await.unwrap();
        stream.write_all(header).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(edge.client(&[])));
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(GET).await.unwrap();
        assert!(response(&mut stream).await.contains("client=192.0.2.7"));
    }
    let mut stream = edge.plain().await;
    let (closed, answer) = exchange(&mut stream, GET, SOON).await;
    assert!(closed && answer.is_empty(), "demanded: {answer}");

    let edge = Edge::start("[server]\nproxy_protocol_from = [\"192.0.2.0/24\"]\n");
    let mut stream = edge.plain().await;
    let (closed, answer) = exchange(&mut stream, &[V1, GET].concat(), SOON).await;
    assert!(
        closed && answer.starts_with("HTTP/1.1 400"),
        "refused from others: {answer}"
    );
}

/// A scanner's bytes must cost a log line at most.
#[tokio::test]
async fn garbage_on_every_port() {
    let edge = Edge::start("[tls]\nhandshake_timeout = \"300ms\"\n[limits]\nheader_timeout = \"300ms\"\n");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut clients = Vec::new();
    for round in 0..150 {
        let mut bytes: Vec<u8> = (0..random() % 600).map(|_| random() as u8).collect();
        let address = match round % 3 {
            0 => {
                // Something like a ClientHello.
                bytes.splice(0..0, [0x16, 3, 1, 0, (random() % 255) as u8, 1, 0, 0, 0x20]);
                edge.https
            }
            1 => {
                bytes.splice(0..0, *b"GET / HTTP/1.1\r\nHost: a.example\r\n");
                edge.plain
            }
            _ => edge.http,
        };
        clients.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            exchange(&mut stream, &bytes, Duration::from_secs(3)).await.0
        }));
    }
    for client in clients {
        assert!(client.await.unwrap(), "closed in the end");
    }
    let mut stream = edge.tls("a.example", &[]).await;
    stream.write_all(GET).await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 200"), "and serves on");
    assert_eq!(edge.front.connections(), 1);
}
