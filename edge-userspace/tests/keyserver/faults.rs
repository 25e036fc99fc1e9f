//! Floods, slow and half-closed clients: the others are served, nothing is lost, memory comes back.

use std::time::{Duration, Instant};

use edge::keyserver::wire::{Answer, ErrorCode, KeyId, Request, Scheme, Transcript};
use rcgen::PKCS_ECDSA_P256_SHA256;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bed::{ALL, Bed, Client, block_on, key, rsa};

fn sign(scheme: Scheme) -> Request {
    Request::SignTls13 {
        scheme,
        transcript: Transcript::Sha256([0; 32]),
    }
}

async fn rsa_key(client: &mut Client, p256: KeyId) -> KeyId {
    match client.ask(KeyId::NONE, Request::List).await {
        Answer::Keys { keys, .. } => keys
            .iter()
            .map(edge::keyserver::wire::KeyInfo::id)
            .find(|id| *id != p256)
            .unwrap(),
        other => panic!("{other:?}"),
    }
}

/// RSA takes twenty times as long as ECDSA: a client that floods with it must not stop the
/// handshakes of the others, and what it cannot get it is told at once.
#[test]
fn rsa_does_not_starve_ecdsa() {
    let (pem, p256) = key(&PKCS_ECDSA_P256_SHA256);
    let limits = "[limits]\npending = 500\nqueue = 600\n";
    let bed = Bed::start(&[("p256.pem", &pem), ("rsa.pem", &rsa())], &format!("{limits}{ALL}"));
    block_on(async {
        let mut flood = bed.connect().await;
        let mut second = bed.connect().await;
        let mut quick = bed.connect().await;
        let rsa = rsa_key(&mut quick, p256).await;
        for client in [&mut flood, &mut second] {
            let mut out = Vec::new();
            for _ in 0..2_000 {
                client.push(&mut out, rsa, sign(Scheme::RsaPssSha256));
            }
            client.io.write_all(&out).await.unwrap();
            client.io.flush().await.unwrap();
        }
        // While hundreds wait for RSA.
        let mut times = Vec::new();
        for _ in 0..30 {
            let start = Instant::now();
            let answer = quick.ask(p256, sign(Scheme::EcdsaP256Sha256)).await;
            assert!(matches!(answer, Answer::Signature(_)), "{answer:?}");
            times.push(start.elapsed());
        }
        times.sort();
        assert!(times[15] < Duration::from_millis(60), "{times:?}");
        for client in [&mut flood, &mut second] {
            let (mut done, mut overload) = (0, 0);
            for _ in 0..2_000 {
                match client.reply().await.unwrap().answer {
                    Answer::Signature(_) => done += 1,
                    Answer::Error(ErrorCode::Overload) => overload += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert!(done >= 50 && overload >= 500, "{done} {overload}");
        }
    });
    assert!(bed.metric("edge_keyserver_queries_total{op=\"sign-tls13\",outcome=\"overload\"}") >= 1_000.0);
}

/// A client that sends its last query and closes its side still gets its answers.
#[test]
fn half_closed() {
    let (pem, p256) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("p256.pem", &pem), ("rsa.pem", &rsa())], ALL);
    block_on(async {
        let mut client = bed.connect().await;
        let rsa = rsa_key(&mut client, p256).await;
        let mut out = Vec::new();
        for n in 0..200 {
            let (key, scheme) = [(p256, Scheme::EcdsaP256Sha256), (rsa, Scheme::RsaPssSha512)][n % 2];
            client.push(&mut out, key, sign(scheme));
        }
        client.io.write_all(&out).await.unwrap();
        client.io.shutdown().await.unwrap();
        let mut answers = 0;
        while let Some(reply) = client.reply().await {
            assert!(matches!(reply.answer, Answer::Signature(_)), "{reply:?}");
            answers += 1;
        }
        assert_eq!(answers, 200);
    });
}

/// Clients that take no replies, say nothing, never finish a handshake, or come in crowds: bounded
/// in number, time and memory.
#[test]
fn slow_silent_and_many() {
    let (pem, p256) = key(&PKCS_ECDSA_P256_SHA256);
    let limits = "[limits]\nconnections = 60\nconnections_per_client = 40\nhandshake_timeout = \"500ms\"\nidle_timeout = \
                  \"1500ms\"\nwrite_timeout = \"500ms\"\n";
    // Sixty more, so that a page of `list` is long.
    let more: Vec<(String, String)> = (0..60)
        .map(|n| (format!("{n}.pem"), key(&PKCS_ECDSA_P256_SHA256).0))
        .collect();
    let mut keys: Vec<(&str, &str)> = more.iter().map(|(name, pem)| (name.as_str(), pem.as_str())).collect();
    keys.push(("p256.pem", &pem));
    let bed = Bed::start(&keys, &format!("{limits}{ALL}"));
    let before = bed.resident();
    block_on(async {
        // Silent sockets, more than there are places for.
        let mut silent = Vec::new();
        for _ in 0..80 {
            silent.push(TcpStream::connect(bed.address).await.unwrap());
        }
        // They are more than there are places for, and take none: whoever shows a certificate gets
        // in.
        drop(bed.connect().await);
        bed.wait("handshakes to end", || {
            bed.metric("edge_keyserver_connections_closed_total{reason=\"handshake\"}") >= 40.0
        });
        assert!(bed.metric("edge_keyserver_connections_closed_total{reason=\"crowded\"}") >= 10.0);
        drop(silent);

        // Thirty clients that ask and ask, and read nothing.
        let mut slow = Vec::new();
        for _ in 0..30 {
            let mut client = bed.connect().await;
            let mut out = Vec::new();
            for _ in 0..1_000 {
                client.push(&mut out, KeyId::NONE, Request::List);
            }
            slow.push(tokio::spawn(async move {
                // Until the server does not take them any more, and then nothing.
                let _ = tokio::time::timeout(Duration::from_secs(2), client.io.write_all(&out)).await;
                client
            }));
        }
        let mut honest = bed.connect().await;
        for _ in 0..20 {
            let answer = honest.ask(p256, sign(Scheme::EcdsaP256Sha256)).await;
            assert!(matches!(answer, Answer::Signature(_)), "{answer:?}");
        }
        let mut cut = Vec::new();
        for task in slow {
            cut.push(task.await.unwrap());
        }
        bed.wait("slow clients to be cut", || {
            bed.metric("edge_keyserver_connections_closed_total{reason=\"slow\"}") == 30.0
        });
        drop(cut);
        // And one that is only idle.
        bed.wait("the idle one to be cut", || {
            bed.metric("edge_keyserver_connections") == 0.0
        });
        assert!(honest.reply().await.is_none());
    });
    let after = bed.resident();
    assert!(after < before + 24.0, "{before} MiB before, {after} after");
}
