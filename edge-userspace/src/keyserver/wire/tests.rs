//! Both directions, against bytes written by hand.

use super::*;

const ID: u64 = 0x0102_0304_0506_0708;
const KEY: KeyId = KeyId([0xaa; 32]);

fn share(group: Group) -> Share {
    let mut bytes = vec![7; group.share_bytes()];
    if group != Group::X25519 {
        bytes[0] = 4;
    }
    Share::new(group, &bytes).unwrap()
}

fn every_request() -> Vec<Request> {
    let (client, server) = ([1; 32], [2; 32]);
    let scheme = Scheme::EcdsaP256Sha256;
    let encrypted = Ciphertext::new(&[9; 512]).unwrap();
    let mut all = vec![Request::List];
    all.extend(
        [Transcript::Sha256([3; 32]), Transcript::Sha384([3; 48])].map(|transcript| Request::SignTls13 {
            scheme: Scheme::RsaPssSha512,
            transcript,
        }),
    );
    for group in Group::ALL.iter().copied() {
        let share = share(group);
        all.extend([
            Request::SignTls12 {
                scheme,
                client_random: client,
                server_random: server,
                share: share.clone(),
            },
            Request::KxSignTls12 {
                scheme,
                client_random: client,
                server_random: server,
                group,
            },
            Request::KxStart { group },
            Request::KxFinish {
                handle: 77,
                peer: share.clone(),
            },
            Request::KxTls13 { peer: share },
        ]);
    }
    for seed in [
        Seed::Randoms {
            prf: Prf::Sha256,
            client,
            server,
        },
        Seed::Randoms {
            prf: Prf::Sha384,
            client,
            server,
        },
        Seed::Session(Transcript::Sha256([5; 32])),
        Seed::Session(Transcript::Sha384([5; 48])),
    ] {
        all.push(Request::RsaMaster {
            version: 0x0303,
            seed,
            encrypted: encrypted.clone(),
        });
    }
    all.push(Request::RsaPremaster {
        version: 0x0303,
        encrypted,
    });
    all
}

fn every_answer() -> Vec<Answer> {
    let secret = Secret::new(&[6; 48]);
    let mut all = vec![
        Answer::Pong,
        Answer::Signature(vec![8; 512]),
        Answer::Secret(secret.clone()),
        Answer::Keys {
            more: false,
            keys: vec![],
        },
        Answer::Keys {
            more: true,
            keys: vec![
                KeyInfo {
                    kind: KeyKind::Rsa,
                    ops: KeyKind::Rsa.ops(),
                    spki: vec![1; MAX_SPKI]
                };
                PAGE
            ],
        },
    ];
    for group in Group::ALL.iter().copied() {
        let share = share(group);
        all.extend([
            Answer::KxSigned {
                handle: 77,
                share: share.clone(),
                signature: vec![8; 70],
            },
            Answer::KxStarted {
                handle: 77,
                share: share.clone(),
            },
            Answer::KxDone {
                share,
                secret: secret.clone(),
            },
        ]);
    }
    all.extend(ErrorCode::ALL.iter().copied().map(Answer::Error));
    all
}

/// An edge and a key server of two versions would take each other's bytes for something else.
#[test]
fn bytes_are_those_of_the_document() {
    let mut out = Vec::new();
    let request = Request::SignTls13 {
        scheme: Scheme::EcdsaP256Sha256,
        transcript: Transcript::Sha256([0x11; 32]),
    };
    Query {
        id: ID,
        key: KEY,
        request,
    }
    .encode(&mut out);
    let mut expected = vec![0, 0, 0, 75, 1, 2, 3, 4, 5, 6, 7, 8, 1];
    expected.extend([0xaa; 32]);
    expected.extend([0x04, 0x03]);
    expected.extend([0x11; 32]);
    assert_eq!(out, expected);

    out.clear();
    Query {
        id: ID,
        key: KEY,
        request: Request::KxFinish {
            handle: 5,
            peer: share(Group::X25519),
        },
    }
    .encode(&mut out);
    let mut expected = vec![0, 0, 0, 83, 1, 2, 3, 4, 5, 6, 7, 8, 5];
    expected.extend([0xaa; 32]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0x1d]);
    expected.extend([7; 32]);
    assert_eq!(out, expected);

    out.clear();
    Reply {
        id: ID,
        answer: Answer::Error(ErrorCode::Rate),
    }
    .encode(&mut out);
    assert_eq!(out, [0, 0, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 5]);

    out.clear();
    let ops = Ops::NONE.with(Op::SignTls13).with(Op::RsaPremaster);
    let keys = vec![KeyInfo {
        kind: KeyKind::Rsa,
        ops,
        spki: vec![0x30, 0],
    }];
    Reply {
        id: ID,
        answer: Answer::Keys { more: true, keys },
    }
    .encode(&mut out);
    assert_eq!(
        out,
        [0, 0, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 0x86, 1, 4, 0, 0x81, 0, 2, 0x30, 0]
    );
}

/// Bytes come in any pieces: a frame is not there until it is there whole, and what follows it is
/// left alone.
#[test]
fn every_frame_comes_back_from_any_pieces() {
    let mut stream = Vec::new();
    for (n, request) in every_request().into_iter().enumerate() {
        let query = Query {
            id: n as u64 + 1,
            key: KEY,
            request,
        };
        let mut out = Vec::new();
        query.encode(&mut out);
        for cut in 0..out.len() {
            assert_eq!(Query::decode(&out[..cut]), Ok(None));
        }
        let used = out.len();
        assert!(used <= LENGTH + MAX_QUERY);
        out.extend([0xff; 9]);
        assert_eq!(
            Query::decode(&out),
            Ok(Some(Decoded {
                used,
                id: query.id,
                content: Ok(query)
            }))
        );
        stream.extend(&out[..used]);
    }
    let mut rest = stream.as_slice();
    let mut seen = 0;
    while let Some(decoded) = Query::decode(rest).unwrap() {
        rest = &rest[decoded.used..];
        seen += 1;
        assert_eq!(decoded.content.unwrap().id, seen);
    }
    assert_eq!((rest.len(), seen), (0, every_request().len() as u64));

    for answer in every_answer() {
        let reply = Reply { id: ID, answer };
        let mut out = Vec::new();
        reply.encode(&mut out);
        for cut in (0..out.len()).step_by(1 + out.len() / 500) {
            assert_eq!(Reply::decode(&out[..cut]), Ok(None));
        }
        let used = out.len();
        assert!(used <= LENGTH + MAX_REPLY, "{used}");
        assert_eq!(
            Reply::decode(&out),
            Ok(Some(Decoded {
                used,
                id: ID,
                content: Ok(reply)
            }))
        );
    }
}

/// A frame that announces too much must not make the other side wait for it, or keep memory for it.
#[test]
fn lengths_out_of_bounds_end_the_connection() {
    let head = |length: u32| [length.to_be_bytes().as_slice(), &[0; 8]].concat();
    for length in [0, 40, 1_025, u32::MAX] {
        assert!(Query::decode(&head(length)).is_err(), "{length}");
    }
    for length in [0, 8, 65_537, u32::MAX] {
        assert!(Reply::decode(&head(length)).is_err(), "{length}");
    }
    assert_eq!(Query::decode(&head(41)), Ok(None));
    assert_eq!(Reply::decode(&head(65_536)), Ok(None));
}

fn query(op: u8, body: &[u8]) -> Result<Query, Malformed> {
    let key = if op == 10 { [0; 32] } else { KEY.0 };
    let mut out = u32::try_from(41 + body.len()).unwrap().to_be_bytes().to_vec();
    out.extend(ID.to_be_bytes());
    out.push(op);
    out.extend(key);
    out.extend(body);
    let decoded = Query::decode(&out).unwrap().unwrap();
    assert_eq!((decoded.id, decoded.used), (ID, out.len()));
    decoded.content
}

/// A value that slips through here would reach the code that signs.
#[test]
fn unsound_fields_are_refused() {
    let value = |name| Err(Malformed::Value(name));
    assert_eq!(query(0, &[]), Err(Malformed::UnknownOp(0)));
    assert_eq!(query(11, &[]), Err(Malformed::UnknownOp(11)));
    assert_eq!(query(10, &[0]), Err(Malformed::Trailing));
    // SHA-1 and unknown schemes; hashes of no suite.
    assert_eq!(query(1, &[&[2, 1][..], &[0; 32]].concat()), value("scheme"));
    assert_eq!(query(1, &[&[4, 3][..], &[0; 31]].concat()), value("transcript"));
    assert_eq!(query(1, &[&[4, 3][..], &[0; 64]].concat()), value("transcript"));
    assert_eq!(query(1, &[4]), Err(Malformed::Truncated));
    // A compressed point, a point of another group's length, a group nobody should use.
    let sign = |share: &[u8]| query(2, &[&[4, 3][..], &[0; 64], share].concat());
    assert_eq!(sign(&[&[0, 0x17, 2][..], &[7; 64]].concat()), value("share"));
    assert_eq!(sign(&[&[0, 0x17, 4][..], &[7; 32]].concat()), Err(Malformed::Truncated));
    assert_eq!(sign(&[&[0, 0x1d][..], &[7; 33]].concat()), Err(Malformed::Trailing));
    assert_eq!(sign(&[&[0, 0x19, 4][..], &[7; 132]].concat()), value("group"));
    // Ciphertexts of moduli that are too small or too large.
    let master = |n: usize| query(8, &[&[3, 3][..], &vec![1; n]].concat());
    assert!(master(256).is_ok() && master(512).is_ok());
    assert_eq!(master(255), value("encrypted"));
    assert_eq!(master(513), value("encrypted"));
    assert_eq!(query(7, &[3, 3, 2, 1]), value("form"));
    assert_eq!(query(7, &[3, 3, 0, 3]), value("prf"));

    // An id of 0 means the connection.
    let mut out = Vec::new();
    Query {
        id: 0,
        key: KEY,
        request: Request::List,
    }
    .encode(&mut out);
    assert_eq!(Query::decode(&out).unwrap().unwrap().content, value("id"));
}

/// The edge takes apart what its TLS library wants signed; what is no handshake must not be asked
/// for, or the signature would be over something else.
#[test]
fn signed_structures_come_apart_and_together() {
    for transcript in [Transcript::Sha256([3; 32]), Transcript::Sha384([4; 48])] {
        let message = tls13(&transcript);
        assert_eq!(&message[..64], [0x20; 64]);
        assert_eq!(&message[64..98], b"TLS 1.3, server CertificateVerify\0");
        assert_eq!(split_tls13(&message), Some(transcript));
        assert_eq!(split_tls13(&message[1..]), None);
    }
    let client = [&[0x20; 64][..], b"TLS 1.3, client CertificateVerify\0", &[0; 32]].concat();
    assert_eq!(split_tls13(&client), None);

    for group in Group::ALL.iter().copied() {
        let share = share(group);
        let message = tls12(&[1; 32], &[2; 32], &share);
        let length = u8::try_from(group.share_bytes()).unwrap();
        assert_eq!(message[64..68], [3, 0, group.code().to_be_bytes()[1], length]);
        assert_eq!(split_tls12(&message), Some(([1; 32], [2; 32], share)));
        assert_eq!(split_tls12(&message[..message.len() - 1]), None);
        assert_eq!(split_tls12(&[&message[..], &[0]].concat()), None);
    }
    // explicit_prime and its kin.
    let mut message = tls12(&[1; 32], &[2; 32], &share(Group::X25519));
    message[64] = 1;
    assert_eq!(split_tls12(&message), None);
}

/// Secrets in logs are secrets lost.
#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", Answer::Secret(Secret::new(&[0xab; 48])));
    assert_eq!(shown, "Secret(Secret)");
}

/// An operator who grants an op by its name must get this op.
#[test]
fn names_and_codes() {
    for op in Op::ALL.iter().copied() {
        assert_eq!(
            (Op::from_code(op.code()), Op::from_name(op.name())),
            (Some(op), Some(op))
        );
    }
    let all = KeyKind::Rsa.ops();
    assert_eq!(Ops::from_bits(0xffff), all);
    assert!(!all.contains(Op::List) && !KeyKind::EcdsaP256.ops().contains(Op::RsaMaster));
    assert_eq!(all.iter().count(), 8);
}
