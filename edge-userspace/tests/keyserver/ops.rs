//! Each op's answer holds against another library.

use edge::keyserver::wire::{
    Answer, Ciphertext, ErrorCode, Group, KeyId, KeyInfo, KeyKind, Op, Prf, Request, Scheme, Seed, Share, Transcript,
};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;
use ring::{hmac, signature};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::bed::{ALL, Bed, Client, block_on, key, openssl, rsa};

fn verify(info: &KeyInfo, scheme: Scheme, message: &[u8], signed: &[u8]) {
    let algorithm: &dyn signature::VerificationAlgorithm = match scheme {
        Scheme::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
        Scheme::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
        Scheme::Ed25519 => &signature::ED25519,
        Scheme::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Scheme::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Scheme::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Scheme::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
        Scheme::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
        Scheme::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
    };
    let (_, spki) = SubjectPublicKeyInfo::from_der(&info.spki).unwrap();
    signature::UnparsedPublicKey::new(algorithm, spki.subject_public_key.data.as_ref())
        .verify(message, signed)
        .unwrap_or_else(|_| panic!("{scheme} does not verify"));
}

pub(crate) async fn keys(client: &mut Client) -> Vec<KeyInfo> {
    match client.ask(KeyId::NONE, Request::List).await {
        Answer::Keys { more: false, keys } => keys,
        other => panic!("{other:?}"),
    }
}

fn ring_group(group: Group) -> &'static agreement::Algorithm {
    match group {
        Group::X25519 => &agreement::X25519,
        Group::Secp256r1 => &agreement::ECDH_P256,
        Group::Secp384r1 => &agreement::ECDH_P384,
    }
}

/// A TLS client's ephemeral key.
fn ephemeral(group: Group) -> (EphemeralPrivateKey, Share) {
    let private = EphemeralPrivateKey::generate(ring_group(group), &SystemRandom::new()).unwrap();
    let public = private.compute_public_key().unwrap();
    (private, Share::new(group, public.as_ref()).unwrap())
}

fn agree(private: EphemeralPrivateKey, share: &Share) -> Vec<u8> {
    let peer = UnparsedPublicKey::new(ring_group(share.group()), share.bytes());
    agreement::agree_ephemeral(private, &peer, <[u8]>::to_vec).unwrap()
}

/// Has each key sign by each of its schemes, and verifies what comes back.
pub(crate) async fn every_signature(client: &mut Client, keys: &[KeyInfo]) {
    let spaces = [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0"].concat();
    let (client_random, server_random) = ([1; 32], [2; 32]);
    for key in keys {
        assert_eq!(key.ops, key.kind.ops());
        for scheme in key.kind.schemes().iter().copied() {
            for hash in [&[7; 32][..], &[8; 48]] {
                let transcript = Transcript::new(hash).unwrap();
                match client.ask(key.id(), Request::SignTls13 { scheme, transcript }).await {
                    Answer::Signature(signed) if scheme.is_tls13() => {
                        verify(key, scheme, &[&spaces, hash].concat(), &signed);
                    }
                    Answer::Error(ErrorCode::Mismatch) if !scheme.is_tls13() => {}
                    other => panic!("{scheme}: {other:?}"),
                }
            }
            let (_, share) = ephemeral(Group::Secp256r1);
            let mut params = vec![3, 0, 0x17, 65];
            params.extend(share.bytes());
            let message = [&client_random[..], &server_random, &params].concat();
            let request = Request::SignTls12 {
                scheme,
                client_random,
                server_random,
                share,
            };
            match client.ask(key.id(), request).await {
                Answer::Signature(signed) => verify(key, scheme, &message, &signed),
                other => panic!("{scheme}: {other:?}"),
            }
        }
    }
}

/// Every kind of key, in every form of file, with every scheme: what comes back is a signature over
/// what RFC 8446 section 4.4.3 and RFC 8422 section 5.4 say, and over nothing else.
#[test]
fn signatures() {
    let directory = tempfile::tempdir().unwrap();
    let text = |arguments: &[&str]| String::from_utf8(openssl(arguments, directory.path())).unwrap();
    let sec1 = text(&["ecparam", "-name", "secp384r1", "-genkey"]);
    assert!(sec1.contains("EC PRIVATE KEY"));
    let pkcs1 = text(&["genrsa", "-traditional", "3072"]);
    assert!(pkcs1.contains("RSA PRIVATE KEY"));
    let bed = Bed::start(
        &[
            ("p256.pem", &key(&PKCS_ECDSA_P256_SHA256).0),
            ("p384.key", &sec1),
            ("ed.pem", &key(&PKCS_ED25519).0),
            ("rsa.pem", &pkcs1),
            ("rsa2.pem", &rsa()),
        ],
        ALL,
    );
    block_on(async {
        let mut client = bed.connect().await;
        let keys = keys(&mut client).await;
        let kinds: Vec<KeyKind> = KeyKind::ALL.iter().copied().chain([KeyKind::Rsa]).collect();
        let mut found: Vec<KeyKind> = keys.iter().map(|key| key.kind).collect();
        found.sort();
        assert_eq!(found, kinds);
        every_signature(&mut client, &keys).await;
        assert_eq!(client.ask(KeyId::NONE, Request::Ping).await, Answer::Pong);
    });
    assert!(bed.metric("edge_keyserver_queries_total{op=\"sign-tls12\",outcome=\"done\"}") >= 14.0);
    assert!(bed.metric("edge_keyserver_keys") >= 5.0);
}

/// The edge never sees an ephemeral private key, and the client still arrives at the same secret.
#[test]
fn key_exchange() {
    let (p256, id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("p256.pem", &p256), ("rsa.pem", &rsa())], ALL);
    block_on(async {
        let mut client = bed.connect().await;
        let mut other = bed.connect().await;
        let keys = keys(&mut client).await;
        let scheme_of = |kind| {
            if kind == KeyKind::Rsa {
                Scheme::RsaPssSha256
            } else {
                Scheme::EcdsaP256Sha256
            }
        };
        for group in Group::ALL.iter().copied() {
            // In one step.
            let (private, peer) = ephemeral(group);
            match client.ask(id, Request::KxTls13 { peer }).await {
                Answer::KxDone { share, secret } => assert_eq!(agree(private, &share), secret.expose()),
                other => panic!("{other:?}"),
            }
            // Made and signed, then used; RSA keys go through the lane.
            for key in &keys {
                let scheme = scheme_of(key.kind);
                let (client_random, server_random) = ([3; 32], [4; 32]);
                let request = Request::KxSignTls12 {
                    scheme,
                    client_random,
                    server_random,
                    group,
                };
                let Answer::KxSigned {
                    handle,
                    share,
                    signature,
                } = client.ask(key.id(), request).await
                else {
                    panic!()
                };
                let mut message = [client_random, server_random].concat();
                share.write_params(&mut message);
                verify(key, scheme, &message, &signature);
                let (private, peer) = ephemeral(group);
                let finish = Request::KxFinish { handle, peer };
                // A handle is its connection's.
                let unknown = Answer::Error(ErrorCode::UnknownHandle);
                assert_eq!(other.ask(key.id(), finish.clone()).await, unknown);
                let Answer::Secret(secret) = client.ask(key.id(), finish.clone()).await else {
                    panic!()
                };
                assert_eq!(agree(private, &share), secret.expose());
                // Once.
                assert_eq!(client.ask(key.id(), finish).await, unknown);
            }
            // Made, then signed, then used.
            let Answer::KxStarted { handle, share } = client.ask(id, Request::KxStart { group }).await else {
                panic!()
            };
            let (private, peer) = ephemeral(group);
            let Answer::Secret(secret) = client.ask(id, Request::KxFinish { handle, peer }).await else {
                panic!()
            };
            assert_eq!(agree(private, &share), secret.expose());
        }
        // A point off its curve.
        let bad = Share::new(Group::Secp256r1, &[4; 65]).unwrap();
        let answer = client.ask(id, Request::KxTls13 { peer: bad }).await;
        assert_eq!(answer, Answer::Error(ErrorCode::Malformed));
    });
}

/// What comes of an encrypted premaster secret, in every form of the answer.
pub(crate) async fn premasters(client: &mut Client, key: KeyId, encrypted: &Ciphertext, premaster: &[u8]) {
    let request = Request::RsaPremaster {
        version: 0x0303,
        encrypted: encrypted.clone(),
    };
    match client.ask(key, request).await {
        Answer::Secret(secret) => assert_eq!(secret.expose(), premaster),
        other => panic!("{other:?}"),
    }
    let (random, other) = ([5; 32], [6; 32]);
    let seeds: [(Seed, &[u8], &[u8]); 2] = [
        (
            Seed::Randoms {
                prf: Prf::Sha256,
                client: random,
                server: other,
            },
            b"master secret",
            &[random, other].concat(),
        ),
        (
            Seed::Session(Transcript::Sha256([7; 32])),
            b"extended master secret",
            &[7; 32],
        ),
    ];
    for (seed, label, bytes) in seeds {
        // RFC 5246 section 5: two turns of P_SHA256 make 48 bytes.
        let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, premaster);
        let sign = |parts: &[&[u8]]| hmac::sign(&hmac_key, &parts.concat()).as_ref().to_vec();
        let first = sign(&[label, bytes]);
        let second = sign(&[&first]);
        let expected = [sign(&[&first, label, bytes]), sign(&[&second, label, bytes])].concat();
        let request = |version| Request::RsaMaster {
            version,
            seed,
            encrypted: encrypted.clone(),
        };
        match client.ask(key, request(0x0303)).await {
            Answer::Secret(secret) => assert_eq!(secret.expose(), &expected[..48]),
            other => panic!("{other:?}"),
        }
        // A premaster of another version is not taken, and nobody is told.
        match client.ask(key, request(0x0302)).await {
            Answer::Secret(secret) => assert_ne!(secret.expose(), &expected[..48]),
            other => panic!("{other:?}"),
        }
    }
}

/// Old devices: the master secret that a client derives by itself is the one that the key server
/// gives.
#[test]
fn static_rsa() {
    let bed = Bed::start(&[("rsa.pem", &rsa())], ALL);
    let premaster: Vec<u8> = [0x03, 0x03].into_iter().chain(1..47).collect();
    std::fs::write(bed.path("premaster"), &premaster).unwrap();
    let arguments = ["pkeyutl", "-encrypt", "-inkey", "keys/rsa.pem", "-in", "premaster"];
    let encrypted = Ciphertext::new(&openssl(&arguments, bed.path("").as_path())).unwrap();
    block_on(async {
        let mut client = bed.connect().await;
        let key = keys(&mut client).await[0].id();
        premasters(&mut client, key, &encrypted, &premaster).await;
        let short = Ciphertext::new(&[1; 300]).unwrap();
        let request = Request::RsaPremaster {
            version: 0x0303,
            encrypted: short,
        };
        assert_eq!(client.ask(key, request).await, Answer::Error(ErrorCode::Malformed));
    });
}

/// An edge that asks for its keys gets all of them, page by page, and none of another's.
#[test]
fn pages_of_keys() {
    let made: Vec<(String, String, KeyId)> = (0..130)
        .map(|n| {
            let (pem, id) = key(&PKCS_ED25519);
            (format!("{}{n}.pem", if n < 125 { "ours" } else { "theirs" }), pem, id)
        })
        .collect();
    let files: Vec<(&str, &str)> = made
        .iter()
        .map(|(name, pem, _)| (name.as_str(), pem.as_str()))
        .collect();
    let names: Vec<String> = (0..125).map(|n| format!("\"ours{n}\"")).collect();
    let grant = format!(
        "[[client]]\nname = \"edge-1\"\ndns = \"edge-1.test\"\n[[client.grant]]\nkeys = [{}]\nops = [\"sign-tls13\"]\n",
        names.join(", ")
    );
    let bed = Bed::start(&files, &grant);
    block_on(async {
        let mut client = bed.connect().await;
        let (mut cursor, mut seen, mut pages) = (KeyId::NONE, Vec::new(), 0);
        loop {
            let Answer::Keys { more, keys } = client.ask(cursor, Request::List).await else {
                panic!()
            };
            pages += 1;
            cursor = keys.last().unwrap().id();
            assert!(
                keys.iter()
                    .all(|key| key.ops.iter().collect::<Vec<_>>() == [Op::SignTls13])
            );
            seen.extend(keys.iter().map(KeyInfo::id));
            if !more {
                break;
            }
        }
        let mut expected: Vec<KeyId> = made.iter().take(125).map(|(_, _, id)| *id).collect();
        expected.sort();
        assert_eq!((seen, pages), (expected, 3));
    });
}
