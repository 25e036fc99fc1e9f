//! Counts every verdict by reason, and sends a sample of the drops to the daemon's log.

use aya_ebpf::programs::XdpContext;
use edge_common::{Config, Event};

use crate::{COUNTERS, EVENTS, place};

/// Counts a packet on this CPU, and says how many of this reason came before it here.
#[inline(always)]
pub fn add(reason: u32) -> u64 {
    let Some(counter) = COUNTERS.get_ptr_mut(reason) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own, and XDP programs of one CPU do not interrupt each
    // other.
    unsafe {
        let before = *counter;
        *counter = before + 1;
        before
    }
}

/// Whether this drop is one of those that are logged: one in `event_sample` of a reason, the first
/// one included.
#[inline(always)]
pub const fn sampled(config: &Config, counted: u64) -> bool {
    let one_in = config.event_sample as u64;
    one_in != 0 && counted.is_multiple_of(one_in)
}

/// Sends a drop to the daemon. Apart from the rest, so that packets that are not sampled (nearly
/// all) do not carry along what only the sample needs. A full ring loses events, never packets.
#[inline(never)]
pub fn sample(context: &XdpContext, reason: u32) {
    let Some(packet) = place::kept() else {
        return;
    };
    let frame = place::frame(context);
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
    let interface = place::interface(context);
    let Some(mut record) = EVENTS.reserve::<Event>(0) else {
        return;
    };
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
