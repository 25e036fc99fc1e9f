//! Picks the socket of a QUIC datagram among those bound to its address. `main` hands it the
//! datagram behind the network stack; the daemon keeps the maps. It judges nothing: what it cannot
//! place goes where the hash says.

use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_skb_load_bytes, programs::SkReuseportContext,
};
use edge_common::{
    cid::{self, Route},
    steering::{Listener, slot},
};

use crate::{LISTENERS, LOCKDOWN, SOCKETS, STEERING};

/// Bytes of a UDP header, with which the datagram begins here.
const UDP: u32 = 8;
/// The front of a QUIC packet that is looked at: of a long header type, version, the id's length
/// and the id.
const FRONT: usize = 6 + cid::LENGTH;
const AF_INET: u32 = 2;

/// Picks the worker that the connection id names, and if there is none, one of the present daemon's
/// by the hash of addresses and ports, so that the first packets of a connection come together.
/// `None` if it picked nothing.
#[inline(always)]
pub fn pick(context: &SkReuseportContext) -> Option<()> {
    let steering = STEERING.get(0)?;
    if steering.workers == 0 {
        return None;
    }
    let listener = listener(context);
    // SAFETY: the map is preallocated: an entry removed meanwhile may be another listener's, whose
    // sockets the kernel refuses to pick for this group.
    let listener = *unsafe { LISTENERS.get(listener) }?;
    if let Some(route) = named(context)
        && let Some(slot) = slot(listener, route)
        && SOCKETS.select_reuseport(context, slot).is_ok()
    {
        return Some(());
    }
    let present = Route {
        generation: steering.generation as u16,
        worker: (context.hash() % steering.workers) as u16,
    };
    SOCKETS.select_reuseport(context, slot(listener, present)?).ok()
}

/// Where the connection is held that the datagram's first packet names.
#[inline(always)]
fn named(context: &SkReuseportContext) -> Option<Route> {
    let mut front = [0_u8; FRONT];
    // SAFETY: the kernel checks offset and length against the datagram, and the verifier the
    // buffer.
    let loaded = unsafe { bpf_skb_load_bytes(context.as_ptr().cast(), UDP, front.as_mut_ptr().cast(), FRONT as u32) };
    if loaded != 0 {
        return None;
    }
    let [first, id @ ..] = front;
    let id = if first & 0x80 == 0 {
        let [a, b, c, d, e, f, g, h, ..] = id;
        [a, b, c, d, e, f, g, h]
    } else {
        let [_, _, _, _, length, a, b, c, d, e, f, g, h] = id;
        if length as usize != cid::LENGTH {
            return None;
        }
        [a, b, c, d, e, f, g, h]
    };
    cid::decode(LOCKDOWN.get(0)?.cid_key(), u64::from_le_bytes(id))
}

/// The address that the sockets are bound to.
#[inline(always)]
fn listener(context: &SkReuseportContext) -> Listener {
    // SAFETY: the kernel hands the program a context with a socket (Linux 5.14). Each field is read
    // by itself, as the verifier wants it.
    unsafe {
        let socket: *const bpf_sock = (*context.md).__bindgen_anon_3.sk;
        let port = (&raw const (*socket).src_port).read_volatile();
        if (&raw const (*socket).family).read_volatile() == AF_INET {
            return Listener {
                address: [(&raw const (*socket).src_ip4).read_volatile(), 0, 0, 0],
                port,
                family: 4,
            };
        }
        Listener {
            address: [
                (&raw const (*socket).src_ip6[0]).read_volatile(),
                (&raw const (*socket).src_ip6[1]).read_volatile(),
                (&raw const (*socket).src_ip6[2]).read_volatile(),
                (&raw const (*socket).src_ip6[3]).read_volatile(),
            ],
            port,
            family: 6,
        }
    }
}
