//! Hellos as clients send them, cut at every place and changed at every byte.

use super::*;

fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[8 - width..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn hello(extensions: &[u8]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[9; 32],
        &vector(1, &[8; 32]),
        &vector(2, &[0x13, 1]),
        &vector(1, &[0]),
        &vector(2, extensions),
    ]
    .concat();
    [&[1][..], &vector(3, &body)].concat()
}

fn keys(identities: &[&[u8]]) -> Vec<u8> {
    let identities: Vec<u8> = identities
        .iter()
        .flat_map(|identity| [&vector(2, identity)[..], &[0; 4]].concat())
        .collect();
    let binders = vector(2, &vector(1, &[7; 32]));
    extension(41, &[vector(2, &identities), binders].concat())
}

/// The ticket would not be found, and its client be reset with the abuser beside it.
#[test]
fn tickets_of_both_versions() {
    let both = [extension(0, b"name"), extension(35, b"old"), keys(&[b"one", b"two"])].concat();
    let message = hello(&both);
    let found: Vec<_> = Tickets::find(&message).unwrap().iter().collect();
    assert_eq!(found, [&b"old"[..], b"one", b"two"]);
    let empty = hello(&extension(35, b""));
    assert_eq!(Tickets::find(&empty).unwrap().iter().count(), 0, "it only asks for one");
    let many = hello(&keys(&[&b"x"[..]; 40]));
    assert_eq!(Tickets::find(&many).unwrap().iter().count(), MOST);
}

fn named(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, name)].concat()))
}

/// An old device would be asked by another zone, or served by the wrong one of two TLS stacks.
#[test]
fn offers() {
    let message = hello(&[extension(35, b"old"), named(b"Shop.example.com")].concat());
    let offer = Offer::find(&message).unwrap();
    assert_eq!((offer.version, offer.server_name), (0x0303, Some("Shop.example.com")));
    assert_eq!(
        offer.suites().collect::<Vec<_>>(),
        [CipherSuite::TLS13_AES_128_GCM_SHA256]
    );
    // No extensions at all.
    let bare = &message[..4 + 2 + 32 + 33 + 4 + 2];
    assert_eq!(Offer::find(bare).unwrap().server_name, None);
    // Addresses are no server names, but some clients send them.
    for address in [&b"192.0.2.1"[..], b"2001:db8::1"] {
        assert_eq!(Offer::find(&hello(&named(address))).unwrap().server_name, None);
    }
    let two = vector(2, &[&[0][..], &vector(2, b"a"), &[0], &vector(2, b"b")].concat());
    for bad in [
        named(b""),
        named(b"a b"),
        named(&[0xff]),
        extension(0, &two),
        extension(0, b""),
    ] {
        assert_eq!(Offer::find(&hello(&bad)), Err(Malformed), "{bad:?}");
    }
    for end in 0..message.len() {
        let cut = Offer::find(&message[..end]);
        assert_eq!(cut.is_ok(), end == bare.len(), "{end}");
    }
    // Half a suite.
    let mut odd = message.clone();
    odd[4 + 2 + 32 + 33 + 1] = 1;
    odd.remove(4 + 2 + 32 + 33 + 2);
    assert_eq!(Offer::find(&odd), Err(Malformed));
}

/// A lie about a length must be no more than a hello without tickets.
#[test]
fn every_cut_and_every_byte() {
    let message = hello(&[extension(35, b"old"), keys(&[b"one"])].concat());
    for end in 0..message.len() {
        // Once, the cut leaves a whole hello: one without extensions (RFC 5246 section 7.4.1.2).
        let whole = end == 4 + 2 + 32 + 33 + 4 + 2;
        let expected = if whole { Ok(Tickets::default()) } else { Err(Malformed) };
        assert_eq!(Tickets::find(&message[..end]), expected, "{end}");
    }
    for at in 0..message.len() {
        let mut altered = message.clone();
        altered[at] = 0xff;
        if let Ok(found) = Tickets::find(&altered) {
            assert!(found.iter().all(|ticket| ticket.len() <= message.len()));
        }
    }
}

/// A hello with a post-quantum key share spans records and segments.
#[test]
fn records_are_put_together() {
    let message = hello(&keys(&[&[7; 300]]));
    let stream: Vec<u8> = message
        .chunks(100)
        .flat_map(|piece| [&[22, 3, 1][..], &vector(2, piece)].concat())
        .collect();
    for end in 0..stream.len() {
        assert_eq!(reassemble(&stream[..end]), Ok(None), "{end}");
    }
    assert_eq!(reassemble(&stream), Ok(Some(message.clone())));
    assert_eq!(reassemble(&[&stream[..], &[23; 9]].concat()), Ok(Some(message)));
    for bad in [&[23, 3, 1, 0, 1, 0][..], &[22, 3, 1, 0, 0], &[22, 3, 1, 0x40, 1]] {
        assert_eq!(reassemble(bad), Err(Malformed));
    }
}
