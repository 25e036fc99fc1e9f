//! Where in a frame the headers of a packet are, kept in memory between the steps that judge,
//! answer and log it. By way of memory the verifier forgets which of the many ways through `parse`
//! led there, and looks at each step once instead of once for each way.

use aya_ebpf::{EbpfContext as _, bindings::xdp_md, programs::XdpContext};

use crate::{
    SCRATCH,
    parse::{Class, Frame, Packet, pinned},
};

/// Offset of the place in the scratch buffer.
const PLACE: usize = 248;
/// Mask of IP headers' offsets: an Ethernet header and two tags are 22 bytes.
const NETWORK: usize = 31;
/// Mask of TCP and UDP headers' offsets: behind eight extension headers of 2,048 bytes.
const TRANSPORT: usize = 0x7fff;
/// In place of a reason: not known yet.
const ATTEMPT: u8 = 254;
const INITIAL: u8 = 255;

/// What `parse` found out, as it is kept: eight bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kept {
    network: u8,
    version: u8,
    protocol: u8,
    class: u8,
    transport: u16,
    port: u16,
}

const _: () = assert!(size_of::<Kept>() == 8 && PLACE + 8 <= crate::retry::SCRATCH_BYTES && PLACE.is_multiple_of(8));

/// The frame that the program was called for, or what is left of it. The context's pointer is
/// pinned: the compiler may otherwise keep the address of one of its fields for the next time,
/// which the verifier does not let it read from.
#[inline(always)]
pub fn frame(context: &XdpContext) -> Frame {
    let context = pinned(context.as_ptr() as usize) as *const xdp_md;
    // SAFETY: the kernel keeps the bytes between the two pointers readable while the program runs.
    unsafe { Frame::new((*context).data as usize, (*context).data_end as usize) }
}

/// The number of the interface that it came in by.
#[inline(always)]
pub fn interface(context: &XdpContext) -> u32 {
    let context = pinned(context.as_ptr() as usize) as *const xdp_md;
    // SAFETY: the context is readable while the program runs.
    unsafe { (*context).ingress_ifindex }
}

/// Keeps what is known of the packet in hand.
#[inline(always)]
pub fn keep(packet: &Packet) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        // The verifier wants this arm.
        return;
    };
    let kept = Kept {
        network: packet.network as u8,
        version: packet.version,
        protocol: packet.protocol,
        class: match packet.class {
            Class::Known(reason) => reason as u8,
            Class::Attempt => ATTEMPT,
            Class::Initial => INITIAL,
        },
        transport: packet.transport as u16,
        port: packet.port,
    };
    // SAFETY: within the scratch buffer, which is this processor's own.
    unsafe { *(scratch as usize as *mut u8).add(PLACE).cast::<Kept>() = kept };
}

/// What was kept last on this processor.
#[inline(always)]
pub fn kept() -> Option<Packet> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: as in `keep`; volatile, so that it is read here and not carried over from there.
    let kept = unsafe {
        (scratch as usize as *const u8)
            .add(PLACE)
            .cast::<Kept>()
            .read_volatile()
    };
    Some(Packet {
        class: match kept.class {
            ATTEMPT => Class::Attempt,
            INITIAL => Class::Initial,
            reason => Class::Known(reason.into()),
        },
        network: pinned(kept.network.into()) & NETWORK,
        transport: pinned(kept.transport.into()) & TRANSPORT,
        version: kept.version,
        protocol: kept.protocol,
        port: kept.port,
    })
}
