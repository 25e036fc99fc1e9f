//! Lockdown: the program answers Initials that prove nothing with a Retry of its own. If this
//! fails, a spoofed flood reaches the daemon, or clients throw the answers away and nobody gets in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use edge::base::penalty::{Origin, Subject};
use edge::dataplane::{Penalty, Severity};
use edge_common::lockdown::{Lockdown, ON};
use edge_common::retry::{LENGTH, MAX_CID, SEALED_MAGIC, Source, WORDS, verify};
use edge_common::siphash::Key;
use edge_common::token::{HTTP, Header, Verdict, to_bytes};
use edge_common::{cid, token};
use edge_testbed::packet::extension::{DESTINATION, HOP_BY_HOP};
use edge_testbed::packet::flag::{ACK, SYN};
use edge_testbed::packet::{Frame, quic_long, quic_short, quic_token};
use edge_testbed::privilege::root;
use edge_testbed::test_run::verdict::TX;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::bench::{
    ATTEMPT, BAD, BLOCKED, Bench, DEFERRED, ESTABLISHED, Expect, LONG, MALFORMED, NOW, PORT, PROVIDER_TAG, REPLAYED,
    TAG, TOKEN, V1, from, header, initial, keys, minted, prefix, retried,
};

const RETRY: Expect = ("answer", "retry");
const VERSION: Expect = ("drop", "version");
const SHORT: Expect = ("drop", "initial_short");
const FOREIGN: Expect = ("drop", "id_foreign");
const ID_REPLAYED: Expect = ("drop", "id_replayed");
const IDS: Key = Key(0x1122, 0x3344);

fn locked() -> Bench {
    let bench = Bench::new();
    let lockdown = Lockdown {
        flags: ON,
        key_id: 1,
        cid: [IDS.0, IDS.1],
    };
    bench.penalties().set_lockdown(lockdown).unwrap();
    bench.dataplane.switch_lockdown(true).unwrap();
    bench
}

/// A connection id of ours.
fn id(nonce: u32, generation: u16) -> [u8; cid::LENGTH] {
    cid::encode(IDS, nonce, cid::Route { generation, worker: 1 }).to_le_bytes()
}

/// A packet with a short header to this id.
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x41][..], id, &[0x77; 40]].concat()
}

/// A Handshake packet to this id.
fn handshake(id: &[u8]) -> Vec<u8> {
    let mut packet = quic_token(V1, id, &[2; 8], &[], 1);
    packet[0] |= 0x20;
    packet
}

/// A Retry as a client reads it, after every header on the way has been checked.
struct Answer {
    source: Vec<u8>,
    token: [u8; LENGTH],
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The Internet checksum over several pieces, each of an even length but the last.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// RFC 9001 section 5.8, by ring.
fn tag(original: &[u8], packet: &[u8]) -> Vec<u8> {
    const KEY: [u8; 16] = 0xbe0c_690b_9f66_575a_1d76_6b54_e368_c84e_u128.to_be_bytes();
    const NONCE: [u8; 12] = [0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb];
    let pseudo = [&[original.len() as u8][..], original, packet].concat();
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &KEY).unwrap());
    let nonce = Nonce::assume_unique_for_key(NONCE);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(pseudo), &mut [])
        .unwrap();
    tag.as_ref().to_vec()
}

/// Takes the answer to `question` apart, as strictly as any client would.
fn read(question: &[u8], answer: &[u8], tags: usize, client: IpAddr, original: &[u8], client_id: &[u8]) -> Answer {
    assert!(answer.len() < question.len(), "amplified");
    assert_eq!(answer[..6], question[6..12], "Ethernet destination");
    assert_eq!(answer[6..12], question[..6], "Ethernet source");
    let network = 14 + 4 * tags;
    assert_eq!(answer[12..network], question[12..network], "tags and type");
    let packet = &answer[network..];
    let (ours, theirs, udp) = match client {
        IpAddr::V4(client) => {
            assert_eq!(packet[0], 0x45);
            assert_eq!(usize::from(u16_at(packet, 2)), packet.len());
            assert_eq!(u16_at(packet, 6), 0x4000);
            assert_eq!(packet[9], 17);
            assert_eq!(checksum(&[&packet[..20]]), 0, "IPv4 header checksum");
            assert_eq!(packet[16..20], client.octets());
            (&packet[12..16], &packet[16..20], &packet[20..])
        }
        IpAddr::V6(client) => {
            assert_eq!(packet[0] >> 4, 6);
            assert_eq!(usize::from(u16_at(packet, 4)) + 40, packet.len());
            assert_eq!(packet[6], 17);
            assert_eq!(packet[24..40], client.octets());
            (&packet[8..24], &packet[24..40], &packet[40..])
        }
    };
    assert_eq!((u16_at(udp, 0), u16_at(udp, 2)), (443, PORT));
    assert_eq!(usize::from(u16_at(udp, 4)), udp.len());
    let pseudo = [&[0, 17][..], &u16_at(udp, 4).to_be_bytes()].concat();
    assert_eq!(checksum(&[ours, theirs, &pseudo, udp]), 0, "UDP checksum");
    let (retry, found) = udp[8..].split_at(udp.len() - 8 - 16);
    assert_eq!(found, tag(original, retry), "integrity tag");
    assert_eq!(retry[0] & 0xf0, 0xf0);
    assert_eq!(retry[1..5], V1.to_be_bytes());
    assert_eq!(usize::from(retry[5]), client_id.len());
    let rest = retry[6..].strip_prefix(client_id).unwrap();
    assert_eq!(rest[0], 8);
    Answer {
        source: rest[1..9].to_vec(),
        token: rest[9..].try_into().unwrap(),
    }
}

fn words(token: &[u8; LENGTH]) -> [u64; WORDS] {
    let mut words = token
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    std::array::from_fn(|_| words.next().unwrap())
}

/// A wrapping of frames, its name, and how many VLAN tags it has.
type Wrap = (&'static str, usize, fn(Frame) -> Frame);

/// xorshift64, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Any client, in any wrapping, must be able to use the answer: headers, checksums, tag, ids, and a
/// token that then passes.
#[test]
fn every_initial_gets_a_retry_that_a_client_accepts() {
    if !root() {
        return;
    }
    let bench = locked();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let wraps: [Wrap; 6] = [
        ("plain", 0, |frame| frame),
        ("tagged", 1, |frame| frame.tags(&[TAG])),
        ("tagged twice", 2, |frame| frame.tags(&[PROVIDER_TAG, TAG])),
        ("options", 0, |frame| frame.options(40)),
        ("extension headers", 0, |frame| {
            frame.extension(HOP_BY_HOP, 0).extension(DESTINATION, 3)
        }),
        ("all", 2, |frame| {
            frame.tags(&[PROVIDER_TAG, TAG]).options(24).extension(DESTINATION, 1)
        }),
    ];
    for round in 0..3_000 {
        let (name, tags, wrap) = wraps[round % wraps.len()];
        let address = if random.next() & 1 == 0 {
            IpAddr::V4(Ipv4Addr::from_bits(random.next() as u32 & 0x3fff_ffff | 0x0100_0000))
        } else {
            // Of 2000::/3: others are no clients' (multicast, loopback).
            IpAddr::V6(Ipv6Addr::from_bits(
                (u128::from(random.next()) << 64 | u128::from(random.next())) >> 3 | 1 << 125,
            ))
        };
        let original = random.bytes(8 + random.0 as usize % 13);
        let client_id_length = random.next() as usize % 21;
        let client_id = random.bytes(client_id_length);
        let data = quic_token(V1, &original, &client_id, &[], [1, 2, 4, 8][round % 4]);
        let question = wrap(Frame::from(address).udp(443, &data)).bytes();
        bench.freeze();
        let (verdict, answer) = bench.program.rewritten(&question).unwrap();
        assert_eq!(verdict, TX, "round {round}: {name} from {address}");
        let Answer { source, token } = read(&question, &answer, tags, address, &original, &client_id);
        let octets = match address {
            IpAddr::V4(v4) => [&v4.octets()[..], &[0; 12]].concat(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let half = |at: usize| u64::from_le_bytes(octets[at..at + 8].try_into().unwrap());
        let whom = Source {
            address: [half(0), half(8)],
            port: PORT,
            family: if address.is_ipv4() { 4 } else { 6 },
        };
        assert_eq!(verify(words(&token), whom, &keys()[1], NOW.into()), Verdict::Valid);
        assert_eq!(usize::from(token[3]), original.len());
        assert_eq!(token[32..32 + original.len()], original);
        assert_eq!(token[56..64], source);
        assert!(original.len() <= usize::from(MAX_CID));
        // What the client sends next: the token, to the id that the Retry came from.
        let next = quic_token(V1, &source, &client_id, &token, 2);
        assert_eq!(
            bench.judge(&wrap(Frame::from(address).udp(443, &next)).bytes()),
            ATTEMPT
        );
    }
}

#[test]
fn what_proves_something_passes_and_what_cannot_be_answered_is_dropped() {
    if !root() {
        return;
    }
    let bench = locked();
    let here = "192.0.2.7";
    let there = "2001:db8:c::7";
    let quic = |address, token: &[u8]| from(address).udp(443, &initial(token));
    let good = |address| quic(address, &minted(header(), address, &keys()[1]));
    let expired = Header {
        expires: NOW - 10,
        ..header()
    };
    let other = Header {
        flags: HTTP,
        ..header()
    };
    let sealed = |address| {
        let header = Header { nonce: 99, ..header() };
        let front = to_bytes(header.encode(prefix(address), &keys()[1]));
        quic(address, &[&[SEALED_MAGIC][..], &front, &[0x55; 50]].concat())
    };
    let under_way = |nonce| from(here).udp(443, &quic_token(V1, &id(nonce, 1), &[2; 8], &[], 1));
    let mut padded_less = initial(&[]);
    padded_less.truncate(1199);
    bench.all(vec![
        ("nothing", quic(here, &[]), RETRY),
        ("nothing, IPv6", quic(there, &[]), RETRY),
        ("token of ours", good(here), TOKEN),
        ("token of ours, IPv6", good(there), TOKEN),
        (
            "token of another's",
            quic(here, &minted(header(), there, &keys()[1])),
            RETRY,
        ),
        ("expired", quic(here, &minted(expired, here, &keys()[1])), RETRY),
        (
            "of another carrier",
            quic(here, &minted(other, here, &keys()[1])),
            RETRY,
        ),
        ("anything", quic(here, &[0x42; 70]), RETRY),
        ("Retry token", quic(here, &retried(here, PORT, NOW.into())), ATTEMPT),
        (
            "stale Retry token",
            quic(here, &retried(here, PORT, u64::from(NOW) - 60)),
            BAD,
        ),
        ("the daemon's Retry token", sealed(here), ATTEMPT),
        ("the daemon's Retry token, IPv6", sealed(there), ATTEMPT),
        ("handshake under way", under_way(1), ATTEMPT),
        ("version 2", from(here).udp(443, &quic_long(0x6b33_43cf, 1)), VERSION),
        ("a draft", from(here).udp(443, &quic_long(0xff00_001d, 0)), VERSION),
        ("0-RTT", from(here).udp(443, &quic_long(V1, 1)), ESTABLISHED),
        ("too short", from(here).udp(443, &padded_less), SHORT),
        (
            "an id no client begins with",
            from(here).udp(443, &quic_token(V1, &[1; 7], &[], &[], 1)),
            MALFORMED,
        ),
        ("SYN", from(here).tcp(443, SYN), ATTEMPT),
        ("another port", from(here).udp(53, &initial(&[])), ("pass", "not_ours")),
    ]);
    bench.penalties().set_lockdown(Lockdown::NONE).unwrap();
    bench.all(vec![
        ("off", quic(here, &[]), ATTEMPT),
        ("off, a draft", from(here).udp(443, &quic_long(0xff00_001d, 0)), ATTEMPT),
        ("off, too short", from(here).udp(443, &padded_less), SHORT),
    ]);
}

/// Connections would be cut by a flood that is not theirs; or a flood of what belongs to none would
/// reach the daemon.
#[test]
fn a_connection_goes_on_if_it_is_ours() {
    if !root() {
        return;
    }
    let bench = locked();
    let here = "192.0.2.7";
    let there = "2001:db8:c::7";
    bench.all(vec![
        ("connection of nobody's", from(here).udp(443, &quic_short()), FOREIGN),
        (
            "connection of nobody's, cut short",
            from(here).udp(443, &[0x41; 8]),
            FOREIGN,
        ),
        (
            "connection of ours",
            from(here).udp(443, &short(&id(5, 1))),
            ESTABLISHED,
        ),
        (
            "connection of ours, IPv6",
            from(there).udp(443, &short(&id(5, 1))),
            ESTABLISHED,
        ),
        (
            "handshake of nobody's",
            from(here).udp(443, &handshake(&[9; 8])),
            FOREIGN,
        ),
        (
            "handshake with an id of another length",
            from(here).udp(443, &handshake(&[9; 9])),
            FOREIGN,
        ),
        (
            "handshake of ours",
            from(here).udp(443, &handshake(&id(5, 1))),
            ESTABLISHED,
        ),
        (
            "a Retry, which servers send",
            from(here).udp(443, &quic_long(V1, 3)),
            FOREIGN,
        ),
        ("TCP goes on", from(here).tcp(443, ACK), ESTABLISHED),
    ]);
    bench.penalties().set_lockdown(Lockdown::NONE).unwrap();
    let nobodys = from(here).udp(443, &quic_short());
    bench.all(vec![("off, connection of nobody's", nobodys, ESTABLISHED)]);
}

/// One id, which a single handshake gives, would open the lockdown for a flood, in its own form or
/// with another route in it; and ids of a daemon that is gone for as long as the key lives.
#[test]
fn an_id_passes_as_often_as_a_handshake_needs_it() {
    if !root() {
        return;
    }
    let bench = locked();
    let begun = Instant::now();
    let mut passed = 0;
    for n in 0..600_u64 {
        let source = Ipv4Addr::from_bits(0x6440_0000 + u32::try_from(n).unwrap()).to_string();
        // Bits 32 to 48 are the route, masked.
        let forged = (u64::from_le_bytes(id(7, 1)) ^ (n % 64) << 32).to_le_bytes();
        let question = from(&source)
            .udp(443, &quic_token(V1, &forged, &[2; 8], &[], 1))
            .bytes();
        let found = bench.judge(&question);
        assert!(matches!(found, ATTEMPT | ID_REPLAYED), "{found:?}");
        passed += u64::from(found == ATTEMPT);
    }
    let due = edge_common::replay::BURST + begun.elapsed().as_secs() + 1;
    assert!((edge_common::replay::BURST..=due).contains(&passed), "{passed}");
    let other = |generation| {
        let id = id(8, generation);
        let initial = from("192.0.2.9").udp(443, &quic_token(V1, &id, &[2; 8], &[], 1));
        let short = from("192.0.2.9").udp(443, &short(&id));
        (bench.judge(&initial.bytes()), bench.judge(&short.bytes()))
    };
    assert_eq!(other(1), (ATTEMPT, ESTABLISHED), "another client's handshake");
    bench.penalties().set_alive(1 << 1 | 1 << 2).unwrap();
    assert_eq!(other(2), (ATTEMPT, ESTABLISHED));
    assert_eq!(other(3), (RETRY, FOREIGN), "a daemon that is gone");
}

/// Whom an operator has blocked would go on by the token of an earlier visit.
#[test]
fn an_operators_word_holds_for_bearers_of_tokens() {
    if !root() {
        return;
    }
    for bench in [Bench::new(), locked()] {
        let here = "192.0.2.7";
        let who = Subject::Address(here.parse().unwrap());
        let of = |origin, severity, remaining| Penalty {
            who,
            origin,
            severity,
            remaining,
            probation: Duration::ZERO,
        };
        let good = from(here)
            .udp(443, &initial(&minted(header(), here, &keys()[1])))
            .bytes();
        let write = |penalty| bench.penalties().write(&[penalty]).unwrap();
        write(of(Origin::Gate, Severity::Blocked, LONG));
        assert_eq!(bench.judge(&good), TOKEN, "the gate's: neighbours do not pay");
        write(of(Origin::Operator, Severity::Blocked, LONG));
        assert_eq!(bench.judge(&good), BLOCKED);
        let retry = from(here).udp(443, &initial(&retried(here, PORT, NOW.into()))).bytes();
        assert_eq!(bench.judge(&retry), BLOCKED);
        write(of(Origin::Operator, Severity::Deferred(0), LONG));
        assert_eq!(bench.judge(&good), DEFERRED);
        write(of(Origin::Operator, Severity::Blocked, Duration::ZERO));
        // The program's clock is the tick's, which lags behind.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(bench.judge(&good), TOKEN, "it is over");
        let listed = of(Origin::Operator, Severity::Blocked, LONG);
        write(listed);
        let found = bench.penalties().list();
        assert_eq!((found[0].origin, found[0].severity), (listed.origin, listed.severity));
        bench.penalties().remove(&[who]);
        assert_eq!(bench.judge(&good), TOKEN);
    }
}

/// Strikes, vouches and holds would each give a deferred address its whole budget anew.
#[test]
fn a_penalty_that_is_written_again_keeps_what_is_used_up() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let who = Subject::Address("192.0.2.7".parse().unwrap());
    let syn = from("192.0.2.7").tcp(443, SYN).bytes();
    let begun = Instant::now();
    let mut passed = 0;
    for _ in 0..20 {
        bench.penalise(who, Severity::Deferred(4), LONG);
        passed += (0..20).filter(|_| bench.passes(&syn)).count() as u64;
    }
    let due = 4 + 4 * (begun.elapsed().as_secs() + 1);
    assert!((4..=due).contains(&passed), "{passed}, due {due}");
}

/// A penalised address must not get new tokens for the asking, nor lose its budget to packets that
/// are only answered.
#[test]
fn penalties_hold_in_lockdown() {
    if !root() {
        return;
    }
    let bench = locked();
    let here = "192.0.2.7";
    let who = Subject::Address(here.parse().unwrap());
    let question = from(here).udp(443, &initial(&[])).bytes();
    bench.penalise(who, Severity::Blocked, LONG);
    assert_eq!(bench.judge(&question), BLOCKED);
    bench.penalise(who, Severity::Deferred(0), LONG);
    assert_eq!(bench.judge(&question), DEFERRED);
    bench.penalise(who, Severity::Deferred(1), LONG);
    for _ in 0..20 {
        assert_eq!(bench.judge(&question), RETRY);
    }
    let retry = retried(here, PORT, NOW.into());
    assert_eq!(
        bench.judge(&from(here).udp(443, &initial(&retry)).bytes()),
        ("pass", "budgeted")
    );
    assert!(token::HEADER < retry.len());
}

/// A Retry token is good for one handshake, not for a flood of copies.
#[test]
fn copies_of_a_retry_token_are_held_to_a_rate() {
    if !root() {
        return;
    }
    let bench = locked();
    let here = "192.0.2.7";
    let copy = from(here).udp(443, &initial(&retried(here, PORT, NOW.into()))).bytes();
    let begun = Instant::now();
    let passed = (0..1_000).filter(|_| bench.judge(&copy) != REPLAYED).count() as u64;
    assert!(
        passed <= edge_common::replay::BURST + begun.elapsed().as_secs() + 1,
        "{passed}"
    );
}
