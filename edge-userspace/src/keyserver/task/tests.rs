//! Static RSA: what comes out, and that nobody can tell from outside whether the padding was good.

use std::hint::black_box;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use zeroize::Zeroizing;

use super::*;
use crate::keyserver::premaster::Zeroed as _;
use crate::keyserver::wire::{KeyKind, Prf, Transcript};

const VERSION: u16 = 0x0303;
const SEED: Seed = Seed::Randoms {
    prf: Prf::Sha256,
    client: [1; 32],
    server: [2; 32],
};

static PEM: LazyLock<String> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = data_encoding::BASE64.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
});

static KEY: LazyLock<Arc<Key>> = LazyLock::new(|| {
    let key = Key::from_pem("rsa", PEM.as_bytes()).unwrap();
    assert_eq!(key.kind, KeyKind::Rsa);
    Arc::new(key)
});

/// What is inside a ClientKeyExchange.
#[derive(Clone, Copy, Debug)]
enum Inside {
    Sound,
    BlockType,
    ShortPadding,
    NoEnd,
    Version,
}

const UNSOUND: [Inside; 4] = [Inside::BlockType, Inside::ShortPadding, Inside::NoEnd, Inside::Version];

fn block(inside: Inside, premaster: &[u8; 46]) -> Vec<u8> {
    let mut block = vec![0, 2];
    block.extend([0xa5; 256 - 3 - 48]);
    block.push(0);
    block.extend(VERSION.to_be_bytes());
    block.extend(premaster);
    match inside {
        Inside::Sound => {}
        Inside::BlockType => block[1] = 1,
        Inside::ShortPadding => block[5] = 0,
        Inside::NoEnd => block[256 - 49] = 0xa5,
        Inside::Version => block[256 - 47] = 1,
    }
    block
}

fn encrypted(inside: Inside, premaster: &[u8; 46]) -> Ciphertext {
    let bytes = KEY.decryptor().unwrap().encrypt(&block(inside, premaster));
    Ciphertext::new(&bytes).unwrap()
}

fn run(encrypted: &Ciphertext, seed: Option<Seed>) -> Vec<u8> {
    let task = Task::Decrypt {
        version: VERSION,
        encrypted: encrypted.clone(),
        seed,
    };
    match task.run(&KEY).unwrap() {
        Answer::Secret(secret) => secret.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A client that did everything right must get its handshake.
#[test]
fn sound_premasters_come_out() {
    let premaster = [9; 46];
    let whole = [VERSION.to_be_bytes().as_slice(), &premaster].concat();
    let encrypted = encrypted(Inside::Sound, &premaster);
    assert_eq!(run(&encrypted, None), whole);
    let mut secret = premaster::Secret::default_zeroed();
    secret.copy_from_slice(&whole);
    assert_eq!(
        run(&encrypted, Some(SEED)),
        premaster::master(&secret, &SEED).unwrap().to_vec()
    );
}

/// Handshakes of other people's: what OpenSSL's client and server agreed on is what comes out here.
#[test]
fn handshakes_of_openssl() {
    let key = Arc::new(Key::from_pem("vectors", include_bytes!("vectors.pem")).unwrap());
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let array = |text: &str| <[u8; 32]>::try_from(hex(text)).unwrap();
    let lines: Vec<Vec<&str>> = include_str!("vectors.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
        .collect();
    let (handshakes, rest) = lines.as_chunks::<3>();
    assert_eq!((handshakes.len(), rest.len()), (6, 0));
    for [seed, encrypted, master] in handshakes {
        let seed = match seed[..] {
            [prf, "randoms", client, server] => Seed::Randoms {
                prf: Prf::from_name(prf).unwrap(),
                client: array(client),
                server: array(server),
            },
            [_, "session", hash] => Seed::Session(Transcript::new(&hex(hash)).unwrap()),
            _ => panic!("{seed:?}"),
        };
        let ask = |version, seed| {
            let task = Task::Decrypt {
                version,
                encrypted: Ciphertext::new(&hex(encrypted[1])).unwrap(),
                seed,
            };
            match task.run(&key).unwrap() {
                Answer::Secret(secret) => secret.expose().to_vec(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask(VERSION, Some(seed)), hex(master[1]), "{seed:?}");
        assert_ne!(ask(0x0302, Some(seed)), hex(master[1]), "{seed:?}");
        assert_eq!(ask(VERSION, None)[..2], VERSION.to_be_bytes());
    }
}

/// Whoever could tell these apart decrypts recorded sessions by asking (Bleichenbacher): no error,
/// and an answer that is as good as a sound premaster's, the same when it is asked for again, here
/// or at another server with the key.
#[test]
fn unsound_premasters_come_out_like_sound_ones() {
    let again = Arc::new(Key::from_pem("again", PEM.as_bytes()).unwrap());
    let mut seen = std::collections::HashSet::new();
    let mut ask = |encrypted: &Ciphertext, what: &str| {
        let first = run(encrypted, None);
        assert_eq!((first.len(), &first[..2]), (48, &VERSION.to_be_bytes()[..]), "{what}");
        assert_eq!(first, run(encrypted, None), "{what}");
        assert_eq!(run(encrypted, Some(SEED)), run(encrypted, Some(SEED)), "{what}");
        match decrypt(&again, VERSION, encrypted, None) {
            Ok(Answer::Secret(secret)) => assert_eq!(secret.expose(), first, "{what}"),
            other => panic!("{other:?}"),
        }
        assert!(seen.insert(first), "{what}: two have the same");
    };
    for inside in UNSOUND {
        let encrypted = encrypted(inside, &[9; 46]);
        ask(&encrypted, &format!("{inside:?}"));
        assert_ne!(run(&encrypted, None)[2..], [9; 46], "{inside:?}");
    }
    // Numbers that the private operation does not take: they are their sender's own doing.
    for bytes in [[0; 256], [0xff; 256]] {
        ask(&Ciphertext::new(&bytes).unwrap(), "no number below the modulus");
    }
    // Of another modulus's length: everybody sees that.
    let other = Ciphertext::new(&[1; 384]).unwrap();
    assert_eq!(decrypt(&KEY, VERSION, &other, None), Err(ErrorCode::Malformed));
}

/// Welch's t of two samples, each without its slowest tenth (interrupts, other processes).
fn welch(mut samples: [Vec<f64>; 2]) -> f64 {
    let [a, b] = samples.each_mut().map(|sample| {
        sample.sort_by(f64::total_cmp);
        sample.truncate(sample.len() * 9 / 10);
        let n = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / n;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

/// Times `f` on `n` inputs of each class in an order that nobody can predict, and compares the
/// classes.
fn compare<T>(n: usize, inputs: [&[T]; 2], mut f: impl FnMut(&T)) -> f64 {
    let mut order = 0x9e37_79b9_7f4a_7c15_u64;
    let mut samples = [Vec::with_capacity(n), Vec::with_capacity(n)];
    while samples.iter().any(|sample| sample.len() < n) {
        // xorshift64 (Marsaglia 2003).
        order ^= order << 13;
        order ^= order >> 7;
        order ^= order << 17;
        let class = usize::from(order & 1 == 1);
        let input = &inputs[class][(order >> 8) as usize % inputs[class].len()];
        let start = Instant::now();
        f(black_box(input));
        samples[class].push(start.elapsed().as_nanos() as f64);
    }
    welch(samples)
}

/// A machine that is busy makes a difference now and then; a leak makes one always.
fn differs(mut t: impl FnMut() -> f64) -> bool {
    let seen: Vec<f64> = (0..4).map(|_| t().abs()).take_while(|t| *t > 6.0).collect();
    seen.len() == 4
}

/// The time of an answer must not tell whether the padding was good. The second half proves that
/// this would be seen: the same measurement finds the early exit of a version that a careless hand
/// would write.
#[test]
fn time_tells_nothing() {
    // As many of each class: more of one would miss the processor's caches more often.
    let blocks = |inside: &[Inside]| -> Vec<Vec<u8>> {
        let inside = inside.iter().cycle();
        (0..64)
            .zip(inside)
            .map(|(n, inside)| block(*inside, &[n; 46]))
            .collect()
    };
    let (sound, unsound) = (blocks(&[Inside::Sound]), blocks(&UNSOUND));
    let random: premaster::Secret = Zeroizing::new([0xee; 48]);

    // From the decrypted block on, where the difference is known.
    let finished = |block: &Vec<u8>| {
        let premaster = premaster::select(block, VERSION, &random);
        black_box(finish(premaster, Some(&SEED)).unwrap());
    };
    assert!(!differs(|| compare(20_000, [&sound, &unsound], finished)));

    // The whole, decryption included.
    let send = |blocks: &[Vec<u8>]| -> Vec<Ciphertext> {
        let decryptor = KEY.decryptor().unwrap();
        let sent = blocks.iter().map(|block| decryptor.encrypt(block));
        sent.map(|bytes| Ciphertext::new(&bytes).unwrap()).collect()
    };
    let (good, bad) = (send(&sound), send(&unsound));
    assert!(!differs(|| compare(800, [&good, &bad], |sent| {
        black_box(run(sent, Some(SEED)));
    })));

    let careless = |block: &Vec<u8>| {
        let premaster = block.split_last_chunk::<48>().unwrap().1;
        let end = block.iter().skip(2).position(|byte| *byte == 0);
        if block[1] != 2 || end != Some(256 - 49 - 2) || premaster[..2] != VERSION.to_be_bytes() {
            black_box(finish(random.clone(), Some(&SEED)).unwrap());
            return;
        }
        black_box(finish(Zeroizing::new(*premaster), Some(&SEED)).unwrap());
    };
    assert!(differs(|| compare(20_000, [&sound, &unsound], careless)));
}
