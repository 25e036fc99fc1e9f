//! The tickets in a ClientHello and what it offers, from records: whatever comes, what is found
//! lies within it, and however the bytes were cut into records, the same message is found.
#![no_main]

use edge::tls::client_hello::{Offer, Tickets, reassemble};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(message)) = reassemble(data) else { return };
    assert!(message.len() < data.len());
    let pieces: Vec<u8> = message
        .chunks(7)
        .flat_map(|piece| [&[22, 3, 1, 0, piece.len() as u8], piece].concat())
        .collect();
    assert_eq!(reassemble(&pieces).as_ref(), Ok(&Some(message.clone())));
    if let Ok(tickets) = Tickets::find(&message) {
        let inside = message.as_ptr_range();
        assert!(tickets.iter().all(|ticket| {
            let found = ticket.as_ptr_range();
            inside.start <= found.start && found.end <= inside.end
        }));
        assert!(tickets.iter().count() <= 4);
    }
    if let Ok(offer) = Offer::find(&message) {
        assert_eq!(message[4..6], offer.version.to_be_bytes());
        assert!(2 * offer.suites().count() < message.len());
        // What is taken for a zone's name is one, and stands there as it is.
        if let Some(name) = offer.server_name {
            assert!(rustls::pki_types::DnsName::try_from(name).is_ok() && name.parse::<std::net::IpAddr>().is_err());
            assert!(message.windows(name.len()).any(|part| part == name.as_bytes()));
        }
        // Both walk the same way; only pre-shared keys can be wrong for the other alone.
        assert!(Tickets::find(&message).is_ok() || message.windows(2).any(|kind| kind == [0, 41]));
    }
});
