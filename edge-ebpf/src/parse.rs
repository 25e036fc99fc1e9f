//! What a frame is: not ours, part of an established connection, an attempt on the edge, or
//! rubbish.
//!
//! No map, no helper and no aya in here: `edge` hands it the frame's bounds and the configuration,
//! it answers by value, so that the same file builds for the host, where it can be fuzzed. Every
//! read goes through [`Frame::header`], which checks bounds once for a whole header; offsets inside
//! the header are checked when this is compiled.
//!
//! A packet that ends before its port is known passes as not ours: the host's own stack refuses it,
//! whoever it is for.

use edge_common::{
    Config, DROP_FRAGMENT, DROP_HEADERS, DROP_INITIAL_SHORT, DROP_MALFORMED, PASS_ESTABLISHED, PASS_FRAGMENT,
    PASS_NOT_OURS, Ports,
};

/// VLAN tags that are looked through: one of a provider (802.1ad) around one of a customer
/// (802.1Q).
const VLAN_TAGS: usize = 2;
/// IPv6 extension headers that are followed. RFC 8504 section 5.3 lets a node limit them; the
/// sensible orders of RFC 8200 section 4.1 have at most seven, and senders in the wild use one.
const EXTENSION_HEADERS: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;

/// Bytes of an Ethernet header and an IPv4 header without options.
const PLAIN: usize = 34;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The version that the daemon speaks, as read in host order (RFC 9000 section 15).
const QUIC_V1: u32 = 1;
/// Length field of a UDP datagram that a client's Initial packet is in, at least: 1,200 bytes and
/// the header.
const LEAST_INITIAL: u16 = 1_208;

/// The bytes of a packet, from the Ethernet header on, or from the IP header where there is none.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

/// `N` bytes of a frame that were found to be there.
#[derive(Clone, Copy)]
pub struct Header<const N: usize> {
    address: usize,
}

/// What `classify` found out.
#[derive(Clone, Copy)]
pub struct Packet {
    /// The judgement, or that it takes more to make it.
    pub class: Class,
    /// Offset of the IP header, at most 22; meaningless in packets that are not ours.
    pub network: usize,
    /// Offset of the TCP or UDP header, if it was reached.
    pub transport: usize,
    /// 4 or 6; 0 for what is neither.
    pub version: u8,
    /// IP protocol number, the last one reached.
    pub protocol: u8,
    /// Destination port in host order; 0 where none was reached.
    pub port: u16,
}

/// The judgement so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Final: a reason of `edge_common`.
    Known(u32),
    /// Starts a connection to the edge and carries no token: a TCP SYN, or QUIC of a version that
    /// we do not speak. Lists and gate decide.
    Attempt,
    /// A QUIC Initial, which may carry a token.
    Initial,
}

impl Frame {
    /// # Safety
    /// Every byte from `start` up to, not including, `end` stays readable while the frame and its
    /// headers are in use.
    #[inline(always)]
    pub const unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The `N` bytes at `offset`, if the frame is that long. `offset` must stay below 64 KiB: the
    /// verifier forgets what it knows about pointers that may be further away.
    #[inline(always)]
    pub fn header<const N: usize>(&self, offset: usize) -> Option<Header<N>> {
        let address = pinned(self.start + offset);
        if address + N > self.end {
            return None;
        }
        Some(Header { address })
    }

    /// The address of the `N` bytes at `offset`, to be written; for a frame that is the program's
    /// own to change.
    #[inline(always)]
    pub fn writable<const N: usize>(&self, offset: usize) -> Option<usize> {
        Some(self.header::<N>(offset)?.address)
    }

    /// Bytes of it.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        self.end - self.start
    }
}

impl<const N: usize> Header<N> {
    /// The byte at `AT`.
    #[inline(always)]
    pub fn byte<const AT: usize>(self) -> u8 {
        const { assert!(AT < N) };
        // SAFETY: `AT` lies within the `N` bytes that `Frame::header` found inside the frame.
        unsafe { load(self.address + AT) }
    }

    /// The two bytes at `AT`, big endian on the wire.
    #[inline(always)]
    pub fn short<const AT: usize>(self) -> u16 {
        const { assert!(AT + 2 <= N) };
        // SAFETY: as in `byte`.
        u16::from_be(unsafe { load(self.address + AT) })
    }

    /// The eight bytes at `AT` as they lie in memory: on the machines that edge runs on, their
    /// little-endian reading.
    #[inline(always)]
    pub fn long<const AT: usize>(self) -> u64 {
        const { assert!(AT + 8 <= N) };
        // SAFETY: as in `byte`.
        unsafe { load(self.address + AT) }
    }

    /// The four bytes at `AT` as they lie in memory, which is network order.
    #[inline(always)]
    pub fn word<const AT: usize>(self) -> u32 {
        const { assert!(AT + 4 <= N) };
        // SAFETY: as in `byte`.
        unsafe { load(self.address + AT) }
    }
}

/// Reads a `T` that need not be aligned.
///
/// # Safety
/// `size_of::<T>()` bytes at `address` are readable.
#[inline(always)]
unsafe fn load<T: Copy>(address: usize) -> T {
    #[cfg(target_arch = "bpf")]
    // SAFETY: readable by contract. The pointer may be unaligned: BPF's loads, the verifier for
    // packets and the CPUs that run XDP take that, while `read_unaligned` would be compiled to
    // single bytes and shifts.
    unsafe {
        *(address as *const T)
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: readable by contract.
    unsafe {
        (address as *const T).read_unaligned()
    }
}

/// Keeps the register that is compared with the frame's end the one that is read from: LLVM may
/// otherwise check one and recompute another, about which the verifier knows nothing. A number that
/// is masked right after this is bounded for it wherever the compiler keeps it.
#[inline(always)]
pub fn pinned(mut address: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    // SAFETY: copies a register onto itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        address = core::hint::black_box(address);
    }
    address
}

/// Where in its packet a fragment belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
}

impl Packet {
    #[inline(always)]
    const fn known(reason: u32) -> Self {
        Self {
            class: Class::Known(reason),
            network: 0,
            transport: 0,
            version: 0,
            protocol: 0,
            port: 0,
        }
    }
}

/// Says what a frame is; `bare`: it begins with the IP header.
#[inline(always)]
pub fn classify(frame: &Frame, config: &Config, bare: bool) -> Packet {
    if !bare && let Some(packet) = plain(frame, config) {
        return packet;
    }
    let (ethertype, offset) = match if bare { nibble(frame) } else { ethernet(frame) } {
        Some(found) => found,
        None => return Packet::known(PASS_NOT_OURS),
    };
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, config, offset),
        ETHERTYPE_IPV6 => ipv6(frame, config, offset),
        _ => Packet::known(PASS_NOT_OURS),
    }
}

/// What is behind the Ethernet header and its tags, and where.
#[inline(always)]
fn ethernet(frame: &Frame) -> Option<(u16, usize)> {
    let mut ethertype = frame.header::<14>(0)?.short::<12>();
    let mut offset = 14;
    for _ in 0..VLAN_TAGS {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_PROVIDER_VLAN {
            break;
        }
        ethertype = frame.header::<4>(offset)?.short::<2>();
        offset += 4;
    }
    Some((ethertype, offset))
}

/// The same of a frame that begins with the IP header, whose version says what it is.
#[inline(always)]
fn nibble(frame: &Frame) -> Option<(u16, usize)> {
    Some(match frame.header::<1>(0)?.byte::<0>() >> 4 {
        4 => (ETHERTYPE_IPV4, 0),
        6 => (ETHERTYPE_IPV6, 0),
        _ => return None,
    })
}

/// What nearly every frame is, IPv4 without a tag, an option or a fragment: as [`ipv4`] would have
/// it, but read at places that are known when this is compiled. `None` for any other frame.
#[inline(always)]
fn plain(frame: &Frame, config: &Config) -> Option<Packet> {
    let header = frame.header::<PLAIN>(0)?;
    if header.short::<12>() != ETHERTYPE_IPV4 || header.byte::<14>() != 0x45 || header.short::<20>() & 0x3fff != 0 {
        return None;
    }
    let protocol = header.byte::<23>();
    let (class, port) = transport(frame, config, PLAIN, protocol, Part::Whole);
    Some(Packet {
        class,
        network: PLAIN - 20,
        transport: PLAIN,
        version: 4,
        protocol,
        port,
    })
}

/// RFC 791.
#[inline(always)]
fn ipv4(frame: &Frame, config: &Config, network: usize) -> Packet {
    let Some(header) = frame.header::<20>(network) else {
        return Packet::known(PASS_NOT_OURS);
    };
    let first = header.byte::<0>();
    let length = usize::from(first & 0xf) << 2;
    if first >> 4 != 4 || length < 20 {
        return Packet::known(PASS_NOT_OURS);
    }
    let protocol = header.byte::<9>();
    let packet = |class, port| Packet {
        class,
        network,
        transport: network + length,
        version: 4,
        protocol,
        port,
    };
    // More Fragments and the offset; Don't Fragment is no business of ours.
    let fragment = header.short::<6>() & 0x3fff;
    let part = match fragment {
        0 => Part::Whole,
        _ if fragment & 0x1fff == 0 => Part::First,
        _ => return packet(Class::Known(PASS_FRAGMENT), 0),
    };
    let (class, port) = transport(frame, config, network + length, protocol, part);
    packet(class, port)
}

/// RFC 8200.
#[inline(always)]
fn ipv6(frame: &Frame, config: &Config, network: usize) -> Packet {
    let Some(header) = frame.header::<40>(network) else {
        return Packet::known(PASS_NOT_OURS);
    };
    if header.byte::<0>() >> 4 != 6 {
        return Packet::known(PASS_NOT_OURS);
    }
    let mut protocol = header.byte::<6>();
    let mut offset = network + 40;
    let mut part = Part::Whole;
    let packet = |class, protocol, transport, port| Packet {
        class,
        network,
        transport,
        version: 6,
        protocol,
        port,
    };
    let mut headers = 0;
    while matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    ) {
        if headers == EXTENSION_HEADERS {
            return packet(Class::Known(DROP_HEADERS), protocol, 0, 0);
        }
        headers += 1;
        let Some(extension) = frame.header::<8>(offset) else {
            return packet(Class::Known(cut_short(part)), protocol, 0, 0);
        };
        offset += match protocol {
            FRAGMENT => {
                // Offset in the upper 13 bits, More Fragments in the lowest. Neither: an atomic
                // fragment, which is a whole packet (RFC 6946).
                let fragment = extension.short::<2>() & 0xfff9;
                if fragment & 0xfff8 != 0 {
                    return packet(Class::Known(PASS_FRAGMENT), protocol, 0, 0);
                }
                if fragment != 0 {
                    part = Part::First;
                }
                8
            }
            // In units of 4 bytes, less 2 (RFC 4302 section 2.2).
            AUTHENTICATION => (usize::from(extension.byte::<1>()) << 2) + 8,
            _ => (usize::from(extension.byte::<1>()) << 3) + 8,
        };
        protocol = extension.byte::<0>();
    }
    let (class, port) = transport(frame, config, offset, protocol, part);
    packet(class, protocol, offset, port)
}

/// A packet that ends before its port: the stack refuses it when it is whole. But a first fragment
/// must show its port (RFC 7112), or the one behind it could bring a port that nobody has looked
/// at.
#[inline(always)]
const fn cut_short(part: Part) -> u32 {
    match part {
        Part::Whole => PASS_NOT_OURS,
        Part::First => DROP_HEADERS,
    }
}

#[inline(always)]
fn transport(frame: &Frame, config: &Config, offset: usize, protocol: u8, part: Part) -> (Class, u16) {
    match protocol {
        TCP => towards(frame, &config.tcp_ports, offset, part, tcp),
        UDP => towards(frame, &config.udp_ports, offset, part, quic),
        _ => (Class::Known(PASS_NOT_OURS), 0),
    }
}

/// Looks closer at what is for one of our ports.
#[inline(always)]
fn towards(
    frame: &Frame,
    ports: &Ports,
    offset: usize,
    part: Part,
    closer: impl FnOnce(&Frame, usize, Part) -> Class,
) -> (Class, u16) {
    let Some(header) = frame.header::<4>(offset) else {
        return (Class::Known(cut_short(part)), 0);
    };
    let port = header.short::<2>();
    if !ports.contains(port) {
        return (Class::Known(PASS_NOT_OURS), port);
    }
    (closer(frame, offset, part), port)
}

/// RFC 9293. Only what starts a connection is looked at closely: the rest passes, whatever it is,
/// and the stack knows its connections. Routers fragment what lacks Don't Fragment, so a first
/// fragment passes if it shows that it starts none; one too short to show its flags is how filters
/// are walked around (RFC 1858 section 3).
#[inline(always)]
fn tcp(frame: &Frame, offset: usize, part: Part) -> Class {
    if part == Part::First {
        return match frame.header::<14>(offset) {
            Some(header) if header.byte::<13>() & (SYN | ACK) != SYN => Class::Known(PASS_ESTABLISHED),
            _ => Class::Known(DROP_FRAGMENT),
        };
    }
    let Some(header) = frame.header::<20>(offset) else {
        return Class::Known(DROP_MALFORMED);
    };
    let flags = header.byte::<13>();
    if flags & (SYN | ACK) != SYN {
        return Class::Known(PASS_ESTABLISHED);
    }
    let length = usize::from(header.byte::<12>() >> 4) << 2;
    if length < 20 || flags & (FIN | RST) != 0 || header.address + length > frame.end {
        return Class::Known(DROP_MALFORMED);
    }
    Class::Attempt
}

/// RFC 768, RFC 9000 section 17, RFC 8999. The fixed bit is not looked at: clients grease it (RFC
/// 9287).
#[inline(always)]
fn quic(frame: &Frame, offset: usize, part: Part) -> Class {
    if part == Part::First {
        return Class::Known(DROP_FRAGMENT);
    }
    let Some(header) = frame.header::<9>(offset) else {
        return Class::Known(DROP_MALFORMED);
    };
    // The length counts the header of 8 bytes; a datagram without a byte of QUIC is from no client.
    if header.short::<4>() < 9 {
        return Class::Known(DROP_MALFORMED);
    }
    let first = header.byte::<8>();
    if first & 0x80 == 0 {
        return Class::Known(PASS_ESTABLISHED);
    }
    let Some(header) = frame.header::<13>(offset) else {
        return Class::Known(DROP_MALFORMED);
    };
    let kind = first >> 4 & 3;
    match u32::from_be(header.word::<9>()) {
        QUIC_V1 if kind != 0 => Class::Known(PASS_ESTABLISHED),
        // RFC 9000 section 14.1.
        QUIC_V1 if header.short::<4>() < LEAST_INITIAL => Class::Known(DROP_INITIAL_SHORT),
        QUIC_V1 => Class::Initial,
        // A version that we do not speak has no connection here: what the type bits mean is its own
        // affair.
        _ => Class::Attempt,
    }
}
