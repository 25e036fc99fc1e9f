//! The tickets in a ClientHello, from records: whatever comes, what is found lies within it, and however the bytes were cut
//! into records, the same message is found.
#![no_main]

use edge::tls::client_hello::{Tickets, reassemble};
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
});
