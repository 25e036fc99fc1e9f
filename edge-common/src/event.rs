//! A sampled drop, on its way to the daemon's log.

/// One record of the ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Why it was dropped (`DROP_…`).
    pub reason: u32,
    /// Index of the interface it came in by.
    pub interface: u32,
    /// Source address in network order; an IPv4 address fills the first 4 bytes, the rest is 0.
    pub source: [u8; 16],
    /// Destination port in host order; 0 where the packet shows none.
    pub port: u16,
    /// IP protocol number: 6 TCP, 17 UDP; where no transport header was reached, the last header
    /// seen.
    pub protocol: u8,
    /// IP version: 4 or 6.
    pub version: u8,
}

const _: () = {
    assert!(size_of::<Event>() == 28 && align_of::<Event>() == 4);
    assert!(core::mem::offset_of!(Event, source) == 8);
    assert!(core::mem::offset_of!(Event, port) == 24);
};

impl Event {
    /// Reads a record as the ring buffer gives it; `None` if the size is another's.
    pub fn from_bytes(record: &[u8]) -> Option<Self> {
        let record: &[u8; 28] = record.try_into().ok()?;
        let [r0, r1, r2, r3, i0, i1, i2, i3, source @ .., p0, p1, protocol, version] = *record;
        Some(Self {
            reason: u32::from_ne_bytes([r0, r1, r2, r3]),
            interface: u32::from_ne_bytes([i0, i1, i2, i3]),
            source,
            port: u16::from_ne_bytes([p0, p1]),
            protocol,
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_size_is_refused() {
        assert_eq!(Event::from_bytes(&[0; 27]), None);
        assert_eq!(Event::from_bytes(&[0; 32]), None);
        let mut record = [0; 28];
        record[0..4].copy_from_slice(&33_u32.to_ne_bytes());
        record[8] = 192;
        record[24..26].copy_from_slice(&443_u16.to_ne_bytes());
        record[27] = 4;
        let event = Event::from_bytes(&record).unwrap();
        assert_eq!(
            (event.reason, event.source[0], event.port, event.version),
            (33, 192, 443, 4)
        );
    }
}
