//! Clients of a penalised address, at their ClientHello.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge::base::penalty::Subject;
use edge::gate::penalty::{Company, Strike};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Edge, response};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn penalise(edge: &Edge, subject: Subject) {
    let now = edge.gate.clock().now().mono;
    let until = now + Duration::from_secs(60);
    let strike = Strike {
        strikes: 5,
        until,
        probation: Duration::ZERO,
    };
    edge.gate
        .book()
        .penalise(now, 1, (subject, HERE), (strike, Company::default()), true);
}

/// The client's id as the edge sees it, and whether it brought it.
async fn ask(edge: &Edge, config: &ClientConfig) -> std::io::Result<(u64, bool)> {
    let mut stream = edge.tls_with("a.example", config.clone()).await?;
    stream.write_all(b"GET /id HTTP/1.1\r\nhost: a.example\r\n\r\n").await?;
    let answer = response(&mut stream).await;
    let (id, known) = answer.rsplit('\n').next().unwrap().split_once(' ').unwrap();
    Ok((id.parse().unwrap(), known == "true"))
}

fn is_reset(result: std::io::Result<(u64, bool)>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// A neighbour with a session ticket would be locked out with the abuser at its address; or an
/// abuser could go on costing handshakes, by the tickets of its own.
#[tokio::test]
async fn resumed_clients_pass_and_others_are_reset() {
    let edge = Edge::start("");
    let (alice, mallory) = (edge.client(&["http/1.1"]), edge.client(&["http/1.1"]));
    let tls12 = {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(edge.roots.clone())
            .with_no_client_auth()
    };
    let (id, known) = ask(&edge, &alice).await.unwrap();
    let (bad, _) = ask(&edge, &mallory).await.unwrap();
    let (old, _) = ask(&edge, &tls12).await.unwrap();
    assert!(!known && id != bad);
    assert_eq!(ask(&edge, &alice).await.unwrap(), (id, true));

    penalise(&edge, Subject::Address(HERE));
    penalise(&edge, Subject::Client(bad));
    for _ in 0..3 {
        assert_eq!(ask(&edge, &alice).await.unwrap(), (id, true));
        assert_eq!(ask(&edge, &tls12).await.unwrap(), (old, true));
    }
    assert!(is_reset(ask(&edge, &mallory).await));
    edge.counts("edge_tls_handshake_failures_total{reason=\"client_penalty\"} 1")
        .await;
    // Newcomers keep a share: five at once.
    let mut passed = 0;
    for _ in 0..15 {
        let newcomer = edge.client(&["http/1.1"]);
        match ask(&edge, &newcomer).await {
            Ok((_, known)) => passed += u32::from(!known),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!((5..=9).contains(&passed), "{passed}");
    assert!(edge.metrics().contains("reason=\"no_ticket\""), "{}", edge.metrics());
    assert_eq!(ask(&edge, &alice).await.unwrap(), (id, true));
    edge.drain().await;
}

/// Each refused attempt would cost a signature and a key exchange. A recorded ClientHello is sent,
/// so that the client's own cryptography is not measured.
#[tokio::test]
async fn what_is_reset_costs_no_cryptography() {
    let edge = Edge::start("");
    let config = Arc::new(edge.client(&["http/1.1"]));
    let mut client = ClientConnection::new(config, ServerName::try_from("a.example").unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    // How many were answered, and how long all took.
    let storm = async || {
        let (start, mut answered) = (Instant::now(), 0);
        for _ in 0..300 {
            let mut stream = TcpStream::connect(edge.https).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            answered += u32::from(stream.read_u8().await.is_ok());
        }
        (answered, start.elapsed())
    };
    let (all, with) = storm().await;
    penalise(&edge, Subject::Address(HERE));
    let (few, without) = storm().await;
    println!("300 hellos answered in {with:?}, reset in {without:?} ({few} newcomers let through)");
    assert_eq!(all, 300);
    assert!(few <= 10, "{few}");
    assert!(without * 3 < with * 2, "{without:?} of {with:?}");
    edge.drain().await;
}
