//! Round trips, every way to spoil a token, the borders of epochs and clocks, and the kernel's
//! opinion of all of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use edge_common::token::{
    CLIENT_AT, EXPIRES_AT, FAMILY_AT, FLAGS_AT, KEY_ID_AT, MAC_AT, MAGIC_AT, NOT_BEFORE_AT, SKEW,
};

use super::*;

const T: u64 = 1_700_000_000;

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn node_with(secret: &[u8], epochs: Epochs) -> Tokens {
    Tokens::new(Secret::new(secret).unwrap(), epochs, at(T))
}

fn node() -> Tokens {
    node_with(b"an example of thirty-two bytes..", Epochs::DEFAULT)
}

fn here() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

fn claims() -> Claims {
    Claims {
        client: ClientId(0x0123_4567_89ab_cdef),
        zone: zone_id("shop"),
        not_before: T as u32 + 30,
        expires: T as u32 + 600,
        carrier: Carrier::Http,
        place: T * 1_000 + 7,
        strikes: 3,
        early: 250,
    }
}

/// SplitMix64 (Steele et al. 2014): the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn address(&mut self) -> IpAddr {
        if self.below(2) == 0 {
            IpAddr::V4(Ipv4Addr::from(self.next() as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from(u128::from(self.next()) << 64 | u128::from(self.next())))
        }
    }

    fn carrier(&mut self) -> Carrier {
        [Carrier::Http, Carrier::Ticket, Carrier::Quic][self.below(3) as usize]
    }
}

/// What went in comes out, for a thousand clients.
#[test]
fn round_trip() {
    let node = node();
    let mut chance = Chance(1);
    for _ in 0..1_000 {
        let address = chance.address();
        let claims = Claims {
            client: ClientId(chance.next()),
            zone: chance.next(),
            not_before: T as u32 + chance.below(3_000) as u32,
            expires: T as u32 + 3_000 + chance.below(3_000) as u32,
            carrier: chance.carrier(),
            place: chance.next(),
            strikes: chance.next() as u8,
            early: chance.next() as u8,
        };
        let token = node.mint(at(T), address, &claims);
        assert_eq!(token.len(), LENGTH);
        assert_eq!(from_text(&to_text(&token)).unwrap().as_slice(), token);
        let opened = node.open(at(T + 3_000), address, &token).unwrap();
        assert_eq!((opened.claims, opened.maturity), (claims, Maturity::Mature));
        assert_eq!(opened.id.to_le_bytes(), token[MAC_AT..HEADER]);
        assert_eq!(
            node.open_for(at(T + 3_000), address, claims.carrier, claims.zone, &token),
            Ok(opened)
        );
    }
}

/// A client that may choose a single bit of its token could choose its own wait.
#[test]
fn every_flipped_bit_is_refused() {
    let node = node();
    for now in [T + 60, T] {
        let token = node.mint(at(T), here(), &claims());
        assert!(node.open(at(now), here(), &token).is_ok());
        for bit in 0..LENGTH * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(node.open(at(now), here(), &forged).is_err(), "bit {bit} at {now}");
        }
        for length in (0..LENGTH).chain([LENGTH + 1]) {
            let mut cut = token.clone();
            cut.resize(length, 0);
            assert_eq!(
                node.open(at(now), here(), &cut),
                Err(Refusal::NotAToken),
                "{length} bytes"
            );
        }
    }
}

/// A nonce that comes twice opens the seal, and two tokens with one id would use each other up.
#[test]
fn no_two_tokens_are_alike() {
    let node = node();
    let mut parts: [std::collections::HashSet<u64>; 3] = Default::default();
    for _ in 0..1_000 {
        let token = node.mint(at(T), here(), &claims());
        let (_, salt) = token.split_last_chunk().unwrap();
        let id = node.open(at(T), here(), &token).unwrap().id;
        let nonce = Header::read(header::to_words(token.first_chunk().unwrap())).nonce;
        for (set, part) in parts.iter_mut().zip([u64::from_le_bytes(*salt), id, nonce.into()]) {
            set.insert(part);
        }
    }
    // Of the 32-bit nonces one in 9,000 runs has a pair.
    assert!(parts[0].len() == 1_000 && parts[1].len() == 1_000 && parts[2].len() >= 998);
}

/// A header in front of another token's body would mix two waits.
#[test]
fn parts_of_two_tokens_do_not_fit() {
    let node = node();
    let (one, two) = (node.mint(at(T), here(), &claims()), node.mint(at(T), here(), &claims()));
    for cut in 1..LENGTH {
        let mixed = [&one[..cut], &two[cut..]].concat();
        if mixed != one && mixed != two {
            assert!(node.open(at(T), here(), &mixed).is_err(), "cut at {cut}");
        }
    }
}

/// A token is its client's alone, for the zone and by the way it was given.
#[test]
fn other_address_zone_carrier_secret() {
    let node = node();
    let token = node.mint(at(T), here(), &claims());
    let now = at(T + 60);
    for other in ["192.0.2.2", "2001:db8::1", "c000:201::", "192.0.3.1"] {
        assert_eq!(
            node.open(now, other.parse().unwrap(), &token),
            Err(Refusal::Forged),
            "{other}"
        );
    }
    assert!(node.open(now, "::ffff:192.0.2.1".parse().unwrap(), &token).is_ok());
    let six = node.mint(at(T), "2001:db8::1".parse().unwrap(), &claims());
    assert!(
        node.open(now, "2001:db8::2".parse().unwrap(), &six).is_ok(),
        "privacy addresses change within a /64"
    );
    assert_eq!(
        node.open(now, "2001:db8:0:1::1".parse().unwrap(), &six),
        Err(Refusal::Forged)
    );

    let ask = |carrier, zone| node.open_for(now, here(), carrier, zone, &token).map(|_| ());
    assert_eq!(ask(Carrier::Http, zone_id("shop")), Ok(()));
    assert_eq!(ask(Carrier::Http, zone_id("shoq")), Err(Refusal::WrongZone));
    assert_eq!(ask(Carrier::Quic, zone_id("shop")), Err(Refusal::WrongCarrier));
    let (front, _) = token.split_first_chunk().unwrap();
    assert_eq!(
        node.check(now, here(), Carrier::Quic, front),
        Err(Refusal::WrongCarrier)
    );

    let stranger = node_with(b"another example of 32 bytes.....", Epochs::DEFAULT);
    assert_eq!(stranger.open(now, here(), &token), Err(Refusal::Forged));
}

/// Clients are sent to any node: those with the same secret must agree at once and after every
/// change of epoch.
#[test]
fn nodes_agree_without_a_word() {
    let epochs = Epochs::new(Duration::from_secs(60)).unwrap();
    let secret = b"an example of thirty-two bytes..";
    let (one, two) = (node_with(secret, epochs), node_with(secret, epochs));
    for second in 0..600 {
        let now = at(T + second);
        // One rotates as it should, the other never: slower, not wrong.
        one.rotate(now);
        let claims = Claims {
            not_before: now.stamp(),
            expires: now.stamp() + epochs.longest_life().as_secs() as u32,
            ..claims()
        };
        for (minter, opener) in [(&one, &two), (&two, &one)] {
            let token = minter.mint(now, here(), &claims);
            assert_eq!(
                opener.open(now, here(), &token).unwrap().claims,
                claims,
                "the end was shortened"
            );
            // To the last second, and through the tolerance, on a node whose clock is right, ahead
            // or behind.
            let end = T + second + epochs.longest_life().as_secs();
            for skewed in [end - 1 - SKEW, end - 1, end - 1 + SKEW] {
                assert!(
                    opener.open(at(skewed), here(), &token).is_ok(),
                    "minted at {second}, opened {skewed}"
                );
            }
            assert_eq!(opener.open(at(end + SKEW), here(), &token), Err(Refusal::Expired));
        }
        // Minted by a node ahead of us, perhaps in the epoch that we have not reached.
        let token = one.mint(at(T + second + SKEW), here(), &claims);
        assert!(two.open(now, here(), &token).is_ok(), "from the future at {second}");
    }
}

/// An end that no key would see is shortened, and what is left of it is good to the last second,
/// tolerance included: a client is not turned away because its key went first.
#[test]
fn an_end_beyond_the_keys_is_shortened() {
    let epochs = Epochs::new(Duration::from_secs(60)).unwrap();
    let node = node_with(b"an example of thirty-two bytes..", epochs);
    for second in 0..60 {
        let endless = Claims {
            expires: u32::MAX,
            ..claims()
        };
        let token = node.mint(at(T + second), here(), &endless);
        let end = u64::from(node.open(at(T + second), here(), &token).unwrap().claims.expires);
        assert!(end >= T + second + epochs.longest_life().as_secs() && end <= T + second + 120);
        assert!(node.open(at(end + SKEW - 1), here(), &token).is_ok());
        for after in 0..300 {
            assert!(
                node.open(at(end + SKEW + after), here(), &token).is_err(),
                "{after} s too old"
            );
        }
    }
}

/// The gate tells an early client how long it still has to wait.
#[test]
fn maturity_and_its_tolerance() {
    let node = node();
    let token = node.mint(at(T), here(), &claims());
    let maturity = |now| node.open(now, here(), &token).map(|opened| opened.maturity);
    let early = |wait| {
        Ok(Maturity::Early {
            wait: Duration::from_millis(wait),
        })
    };
    assert_eq!(maturity(at(T)), early(30_000));
    assert_eq!(maturity(UnixTime::from_millis(T * 1_000 + 500)), early(29_500));
    assert_eq!(
        maturity(UnixTime::from_millis((T + 30 - SKEW) * 1_000 - 1)),
        early(SKEW * 1_000 + 1)
    );
    assert_eq!(maturity(at(T + 30 - SKEW)), Ok(Maturity::Mature));
    assert_eq!(maturity(at(T + 600 + SKEW - 1)), Ok(Maturity::Mature));
    assert_eq!(maturity(at(T + 600 + SKEW)), Err(Refusal::Expired));
}

/// The kernel's keys change exactly when the epoch does, and serve for what the daemon mints.
#[test]
fn rotation_feeds_the_kernel() {
    let node = node();
    let length = Epochs::DEFAULT.length().as_secs();
    let border = (T / length + 1) * length;
    assert!(node.rotate(at(border - 1)).is_none());
    let before = node.kernel_keys();
    let after = node.rotate(at(border)).unwrap();
    assert!(node.rotate(at(border)).is_none());
    for (old, new) in before.0.iter().zip(&after.0) {
        assert!(
            old.valid == 0 || new.valid == 0 || old == new,
            "a key in force was replaced"
        );
    }
    assert!(after.0 == node.kernel_keys().0);
    // A clock that is set back takes the keys back, too: a pure function of the time.
    assert!(node.rotate(at(border - 1)).unwrap().0 == before.0);
}

/// The layout's table, read from bytes, by the byte form of SipHash: a second opinion.
fn model(front: &[u8; HEADER], carrier: Carrier, address: IpAddr, keys: &KernelKeys, now: u64) -> Verdict {
    let u32_at = |at: usize| u64::from(u32::from_be_bytes(front[at..at + 4].try_into().unwrap()));
    let (family, prefix) = match address.to_canonical() {
        IpAddr::V4(v4) => (4, [&v4.octets()[..], &[0; 4]].concat()),
        IpAddr::V6(v6) => (6, v6.octets()[..8].to_vec()),
    };
    if front[MAGIC_AT] != 0xA7 || front[FLAGS_AT] != carrier.flags() {
        return Verdict::NotAToken;
    }
    let Some(key) = keys.0.get(usize::from(front[KEY_ID_AT])).filter(|key| key.valid == 1) else {
        return Verdict::UnknownKey;
    };
    if now >= u32_at(EXPIRES_AT) + 2 {
        return Verdict::Expired;
    }
    let mac = siphash::bytes(Rounds::One3, Key(key.k0, key.k1), &[&front[..MAC_AT], &prefix].concat());
    if front[FAMILY_AT] != family || front[MAC_AT..] != mac.to_le_bytes() {
        Verdict::BadMac
    } else if now + 2 < u32_at(NOT_BEFORE_AT) {
        Verdict::Early
    } else {
        Verdict::Valid
    }
}

/// What the kernel passes and the daemon refuses is a connection for nothing; what the kernel drops
/// and the daemon would take is a client lost. Kernel's call, daemon's call and the model agree on
/// 100,000 headers: random, minted, mutated.
#[test]
fn kernel_and_daemon_agree() {
    let node = node();
    let keys = node.kernel_keys();
    let mut chance = Chance(2);
    let mut seen = std::collections::HashMap::new();
    for _ in 0..100_000 {
        let address = chance.address();
        let not_before = T as u32 + chance.below(20) as u32;
        let expires = T as u32 + 10 + chance.below(20) as u32;
        let minted = chance.carrier();
        let mut front = node.header(at(T), address, minted, ClientId(chance.next()), not_before, expires);
        match chance.below(8) {
            0 => front = std::array::from_fn(|_| chance.next() as u8),
            1..=3 => {
                for _ in 0..=chance.below(3) {
                    front[chance.below(HEADER as u64) as usize] ^= 1 << chance.below(8);
                }
            }
            // A later or wrong key id, nothing else.
            4 => front[KEY_ID_AT] = chance.below(6) as u8,
            _ => {}
        }
        let carrier = if chance.below(8) == 0 { chance.carrier() } else { minted };
        let asked = match chance.below(8) {
            0 => chance.address(),
            _ => address,
        };
        let now = T + chance.below(34);

        let words = header::to_words(&front);
        let key = &keys.0[header::key_index(words[0]) as usize];
        let kernel = header::verify(words, carrier.flags(), Prefix::of(asked), key, now);
        assert_eq!(
            kernel,
            model(&front, carrier, asked, &keys, now),
            "{front:x?} {carrier:?} {asked} {now}"
        );
        let daemon = match node.check(at(now), asked, carrier, &front) {
            Ok(Checked {
                maturity: Maturity::Mature,
                ..
            }) => Verdict::Valid,
            Ok(_) => Verdict::Early,
            Err(Refusal::Forged) => Verdict::BadMac,
            Err(Refusal::Expired) => Verdict::Expired,
            Err(Refusal::UnknownKey) => Verdict::UnknownKey,
            Err(Refusal::NotAToken | Refusal::WrongCarrier | Refusal::WrongZone) => Verdict::NotAToken,
        };
        assert_eq!(kernel, daemon);
        *seen.entry(kernel as u32).or_insert(0) += 1;
    }
    // Each verdict was put to the question often.
    assert!(seen.len() == 6 && seen.values().all(|n| *n > 500), "{seen:?}");
}

/// The shape that QUIC gives a token: header, what the library seals, its 16-byte nonce; the same
/// keys, another body.
#[test]
fn the_header_carries_a_body_of_another_protocol() {
    let node = node();
    let library_nonce: [u8; 16] = random();
    let (salt, _) = library_nonce.split_first_chunk().unwrap();
    let front = node.header(at(T), here(), Carrier::Quic, ClientId(5), T as u32, T as u32 + 600);
    let mut body = b"plaintext of the library".to_vec();
    node.seal(at(T), &front, *salt, &mut body);
    assert_eq!(
        node.check(at(T), here(), Carrier::Quic, &front).unwrap().header.client,
        5
    );
    assert_eq!(
        node.unseal(at(T), &front, *salt, &mut body.clone()),
        Some(&b"plaintext of the library"[..])
    );
    let mut other = front;
    other[CLIENT_AT] ^= 1;
    assert_eq!(node.unseal(at(T), &other, *salt, &mut body.clone()), None);
    assert_eq!(node.unseal(at(T), &front, [0; SALT], &mut body), None);
}

/// A token of a later release, met after a downgrade, is none rather than one with other fields.
#[test]
fn a_later_layout_is_no_token() {
    let node = node();
    let mint = |layout| {
        let front = node.header(at(T), here(), Carrier::Http, ClientId(5), T as u32, T as u32 + 600);
        let mut sealed = [[layout].as_slice(), &[0; BODY - 1]].concat();
        node.seal(at(T), &front, [7; SALT], &mut sealed);
        [&front[..], &sealed, &[7; SALT]].concat()
    };
    assert!(node.open(at(T), here(), &mint(LAYOUT)).is_ok());
    assert_eq!(node.open(at(T), here(), &mint(LAYOUT + 1)), Err(Refusal::NotAToken));
}

/// Two texts of one token would pass a replay check by text, and whoever is strict elsewhere would
/// not see ours.
#[test]
fn text_is_canonical() {
    let token = node().mint(at(T), here(), &claims());
    let text = to_text(&token);
    assert_eq!(text.len(), TEXT);
    assert!(
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    );
    for i in 0..TEXT {
        for odd in ["=", "+", "/", " ", "\n", "%", "\0", "é"] {
            let mut changed = text.clone();
            changed.replace_range(i..=i, odd);
            assert_eq!(from_text(&changed), None, "{odd:?} at {i}");
        }
    }
    for wrong in [
        "",
        &text[1..],
        &format!("{text}="),
        &format!("{text}A"),
        &format!(" {text}"),
        &text.repeat(1_000),
    ] {
        assert_eq!(from_text(wrong), None);
    }
}

/// Zone numbers are in clients' hands and on other nodes: they are pinned.
#[test]
fn zone_ids_do_not_change() {
    assert_eq!(zone_id("shop"), 0xa158_df14_089c_549a);
    assert_ne!(zone_id("shop"), zone_id("Shop"));
}

/// What anybody sends ends in a refusal, never in a panic.
#[test]
fn garbage() {
    let node = node();
    let mut chance = Chance(3);
    for _ in 0..20_000 {
        let length = chance.below(120) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| chance.next() as u8).collect();
        if let Some([magic, key_id, family, flags]) = bytes.first_chunk_mut() {
            (*magic, *key_id, *family, *flags) = (0xA7, chance.below(5) as u8, 4, chance.below(5) as u8);
        }
        assert!(node.open(at(T), here(), &bytes).is_err());
        assert!(from_text(&String::from_utf8_lossy(&bytes)).is_none() || bytes.len() == TEXT);
    }
}

/// Nothing that a log prints of a token's maker shows a key.
#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", node()), "Tokens { epochs: Epochs { secs: 21600 }, .. }");
}
