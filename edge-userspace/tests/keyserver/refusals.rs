//! Who is not let in, and what those who are let in do not get. Each leaves a line in the audit,
//! and no key in it.

use std::io;
use std::sync::Arc;

use edge::keyserver::wire::{Answer, ErrorCode, Group, KeyId, Request, Scheme, Transcript};
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;

use super::bed::{ALL, Authority, Bed, Client, REVOKED, block_on, key};

fn sign(scheme: Scheme) -> Request {
    Request::SignTls13 {
        scheme,
        transcript: Transcript::Sha256([0; 32]),
    }
}

/// Whether a client with this configuration gets an answer to a ping.
async fn served(bed: &Bed, config: ClientConfig) -> bool {
    let Ok(mut client) = bed.connect_with(config).await else {
        return false;
    };
    let mut out = Vec::new();
    client.push(&mut out, KeyId::NONE, Request::Ping);
    let sent: io::Result<()> = async {
        client.io.write_all(&out).await?;
        client.io.flush().await
    }
    .await;
    sent.is_ok() && matches!(client.reply().await, Some(reply) if reply.answer == Answer::Pong)
}

/// Who is not on the list, or no longer, or speaks something else, gets nothing.
#[test]
fn strangers() {
    let (pem, _) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("p256.pem", &pem)], ALL);
    block_on(async {
        assert!(served(&bed, bed.tls("edge-1.test", 2)).await);
        assert!(!served(&bed, bed.tls_with(None)).await, "without a certificate");
        let foreign = Authority::new().leaf("edge-1.test", 2);
        assert!(!served(&bed, bed.tls_with(Some(foreign))).await, "of another authority");
        assert!(!served(&bed, bed.tls("edge-2.test", 3)).await, "on no list");
        assert!(!served(&bed, bed.tls("edge-1.test", REVOKED)).await, "revoked");
        let mut config = bed.tls("edge-1.test", 2);
        config.alpn_protocols = vec![b"h2".to_vec()];
        assert!(!served(&bed, config).await, "another protocol");
        let mut config = bed.tls("edge-1.test", 2);
        config.alpn_protocols.clear();
        assert!(!served(&bed, config).await, "no protocol");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let old = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        assert!(!served(&bed, old).await, "TLS 1.2");
    });
    bed.wait("the audit", || {
        let log = bed.log();
        [
            "not on the access list",
            "does not ask for ALPN",
            "Revoked",
            "BadSignature",
        ]
        .iter()
        .all(|why| log.contains(why))
    });
    assert!(bed.metric("edge_keyserver_connections_closed_total{reason=\"unlisted\"}") >= 1.0);
    bed.wait("every connection's end", || {
        bed.metric("edge_keyserver_connections") == 0.0
    });
}

async fn refused(client: &mut Client, key: KeyId, request: Request) -> ErrorCode {
    match client.ask(key, request).await {
        Answer::Error(code) => code,
        other => panic!("{other:?}"),
    }
}

/// A stolen edge certificate is worth what it was granted, and every attempt at more is seen.
#[test]
fn beyond_the_grant() {
    let (shop, shop_id) = key(&PKCS_ECDSA_P256_SHA256);
    let (mail, mail_id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(
        &[("shop.pem", &shop), ("mail.pem", &mail)],
        "[[client]]\nname = \"edge-1\"\ndns = \"edge-1.test\"\nrate = 50\n[[client.grant]]\nkeys = [\"shop\"]\nops = \
         [\"sign-tls13\"]\n",
    );
    block_on(async {
        let mut client = bed.connect().await;
        let p256 = Scheme::EcdsaP256Sha256;
        assert!(matches!(client.ask(shop_id, sign(p256)).await, Answer::Signature(_)));
        // A key without a grant is answered as one that does not exist.
        assert_eq!(refused(&mut client, mail_id, sign(p256)).await, ErrorCode::UnknownKey);
        assert_eq!(
            refused(&mut client, KeyId([1; 32]), sign(p256)).await,
            ErrorCode::UnknownKey
        );
        let start = Request::KxStart { group: Group::X25519 };
        assert_eq!(refused(&mut client, shop_id, start).await, ErrorCode::NotAllowed);
        assert_eq!(
            refused(&mut client, shop_id, sign(Scheme::Ed25519)).await,
            ErrorCode::Mismatch
        );
        let mut out = Vec::new();
        for _ in 0..200 {
            client.push(&mut out, shop_id, sign(p256));
        }
        client.io.write_all(&out).await.unwrap();
        let mut rate = 0;
        for _ in 0..200 {
            rate += usize::from(client.reply().await.unwrap().answer == Answer::Error(ErrorCode::Rate));
        }
        assert!((100..200).contains(&rate), "{rate}");
    });
    for part in [
        "\"client\":\"edge-1\"",
        "\"op\":\"sign-tls13\"",
        &mail_id.to_string(),
        "no grant on this key",
        "do not cover the op",
        "the scheme is not the key's",
    ] {
        bed.wait(part, || bed.log().contains(part));
    }
    // Bounded, however many are refused.
    let log = bed.log();
    assert!(log.matches("\"refused\"").count() < 60, "{log}");
    for pem in [&shop, &mail] {
        let secret = pem.lines().nth(1).unwrap();
        assert!(!log.contains(&secret[..40]), "a private key in the log");
    }
}

/// Bytes that mean nothing are answered while they can be told apart, and end the connection where
/// they cannot.
#[test]
fn malformed_frames() {
    let (pem, id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("p256.pem", &pem)], ALL);
    let frame = |op: u8, body: &[u8]| {
        let mut out = u32::try_from(41 + body.len()).unwrap().to_be_bytes().to_vec();
        out.extend(9_u64.to_be_bytes());
        out.push(op);
        out.extend(id.0);
        out.extend(body);
        out
    };
    block_on(async {
        // The frames behind a malformed one are read.
        let mut client = bed.connect().await;
        let mut out = [frame(1, &[0; 5]), frame(77, &[])].concat();
        let ping = client.push(&mut out, KeyId::NONE, Request::Ping);
        client.io.write_all(&out).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..3 {
            let reply = client.reply().await.unwrap();
            answers.push((reply.id, reply.answer));
        }
        let error = Answer::Error;
        assert_eq!(
            answers,
            [
                (9, error(ErrorCode::Malformed)),
                (9, error(ErrorCode::UnknownOp)),
                (ping, Answer::Pong)
            ]
        );
        // Not for ever.
        client.io.write_all(&frame(1, &[0; 5]).repeat(40)).await.unwrap();
        let mut more = 0;
        while client.reply().await.is_some() {
            more += 1;
        }
        assert_eq!(more, 14);
        // Lengths out of bounds.
        for length in [0_u32, 40, 1_025, u32::MAX] {
            let mut client = bed.connect().await;
            client
                .io
                .write_all(&[&length.to_be_bytes()[..], &[0; 64]].concat())
                .await
                .unwrap();
            let reply = client.reply().await.unwrap();
            assert_eq!((reply.id, reply.answer), (0, error(ErrorCode::Malformed)));
            assert!(client.reply().await.is_none());
        }
        assert!(matches!(
            bed.connect().await.ask(id, sign(Scheme::EcdsaP256Sha256)).await,
            Answer::Signature(_)
        ));
    });
    bed.wait("their ends", || {
        bed.metric("edge_keyserver_connections_closed_total{reason=\"malformed\"}") == 5.0
    });
}
