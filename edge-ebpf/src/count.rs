//! Counts every verdict by reason, and sends a sample of the drops to the daemon's log.

use aya_ebpf::programs::XdpContext;
use edge_common::{Config, Event};

use crate::{
    COUNTERS, EVENTS,
    parse::{Frame, Packet},
};

/// Counts a packet on this CPU, and says how many of this reason came before it here.
#[inline(always)]
pub fn add(reason: u32) -> u64 {
    let Some(counter) = COUNTERS.get_ptr_mut(reason) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own, and XDP programs of one CPU do not interrupt each other.
    unsafe {
        let before = *counter;
        *counter = before + 1;
        before
    }
}

/// Sends one in `event_sample` drops of a reason, the first one included. A full ring loses events, never packets.
#[inline(always)]
pub fn sample(context: &XdpContext, frame: &Frame, packet: &Packet, config: &Config, reason: u32, counted: u64) {
    let one_in = u64::from(config.event_sample);
    if one_in == 0 || counted % one_in != 0 {
        return;
    }
    let interface = context.ingress_ifindex() as u32;
    let Some(mut record) = EVENTS.reserve::<Event>(0) else {
        return;
    };
    let mut source = [0; 4];
    if packet.version == 4 {
        if let Some(header) = frame.header::<20>(packet.network) {
            source[0] = header.word::<12>();
        }
    } else if let Some(header) = frame.header::<40>(packet.network) {
        source = [
            header.word::<8>(),
            header.word::<12>(),
            header.word::<16>(),
            header.word::<20>(),
        ];
    }
    // SAFETY: sixteen bytes either way, and any bits are a valid `[u8; 16]`.
    let source = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(source) };
    record.write(Event {
        reason,
        interface,
        source,
        port: packet.port,
        protocol: packet.protocol,
        version: packet.version,
    });
    record.submit(0);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        context,
        "drop reason {} port {} protocol {}",
        reason,
        packet.port,
        packet.protocol
    );
}
