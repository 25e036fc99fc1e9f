//! Frames for the XDP program's tests and bench, byte by byte as a client's machine would send them
//! (or an attacker's). Checksums are left zero: the program does not look at them.

use std::net::IpAddr;

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Start.
    pub const SYN: u8 = 0x02;
    /// Abort.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
    /// Urgent.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// IPv6 extension header numbers.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

const EDGE_V4: [u8; 4] = [192, 0, 2, 1];
const EDGE_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An Ethernet frame with an IP packet, from some client to the edge.
#[derive(Clone, Debug)]
pub struct Frame {
    tags: Vec<u16>,
    source: IpAddr,
    /// `None`: the edge.
    to: Option<IpAddr>,
    /// By how much the IP header's length is off.
    off: i16,
    options: usize,
    fragment: u16,
    extensions: Vec<(u8, Vec<u8>)>,
    protocol: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// From this address, without a payload yet.
    pub fn from(source: IpAddr) -> Self {
        Self {
            tags: Vec::new(),
            source,
            to: None,
            off: 0,
            options: 0,
            fragment: 0x4000,
            extensions: Vec::new(),
            protocol: 59,
            payload: Vec::new(),
        }
    }

    /// To this address, of the source's version, and not to the edge's.
    #[must_use]
    pub const fn to(mut self, address: IpAddr) -> Self {
        self.to = Some(address);
        self
    }

    /// With an IP header that claims so many bytes more than there are.
    #[must_use]
    pub const fn claiming(mut self, more: i16) -> Self {
        self.off = more;
        self
    }

    /// With VLAN tags of these types, outermost first.
    #[must_use]
    pub fn tags(mut self, types: &[u16]) -> Self {
        self.tags = types.to_vec();
        self
    }

    /// With so many bytes of IPv4 options: a multiple of 4, at most 40.
    #[must_use]
    pub const fn options(mut self, bytes: usize) -> Self {
        self.options = bytes;
        self
    }

    /// As a fragment: the offset in units of 8 bytes, and whether more follow. IPv6 gets a fragment
    /// header behind the extensions added before.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = offset | if more { 0x2000 } else { 0 };
        let field = (offset << 3 | u16::from(more)).to_be_bytes();
        let [high, low] = field;
        self.extensions
            .push((extension::FRAGMENT, vec![0, high, low, 0, 0, 0, 7]));
        self
    }

    /// With an IPv6 extension header of `8 + 8 * more` bytes (`AUTHENTICATION`: `8 + 4 * more`).
    #[must_use]
    pub fn extension(mut self, kind: u8, more: u8) -> Self {
        let unit = if kind == extension::AUTHENTICATION { 4 } else { 8 };
        let mut body = vec![more];
        body.resize(7 + unit * usize::from(more), 0);
        self.extensions.push((kind, body));
        self
    }

    /// With a TCP header of 20 bytes.
    #[must_use]
    pub fn tcp(self, port: u16, flags: u8) -> Self {
        self.tcp_header(port, flags, 5, 20)
    }

    /// With a TCP header that claims `words` words and has `length` bytes.
    #[must_use]
    pub fn tcp_header(mut self, port: u16, flags: u8, words: u8, length: usize) -> Self {
        let [high, low] = port.to_be_bytes();
        let mut header = vec![
            0x9c,
            0x40,
            high,
            low,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            words << 4,
            flags,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
        ];
        header.resize(length, 0);
        self.protocol = 6;
        self.payload = header;
        self
    }

    /// With a TCP header and these options, a multiple of four bytes and 40 at most.
    #[must_use]
    pub fn tcp_options(self, port: u16, flags: u8, options: &[u8]) -> Self {
        let words = u8::try_from(5 + options.len() / 4).unwrap_or(15);
        let mut this = self.tcp_header(port, flags, words, 20);
        this.payload.extend(options);
        this
    }

    /// With a UDP datagram.
    #[must_use]
    pub fn udp(self, port: u16, data: &[u8]) -> Self {
        let length = u16::try_from(8 + data.len()).unwrap_or(u16::MAX);
        self.udp_length(port, data, length)
    }

    /// With a UDP datagram that claims `length` bytes, header included.
    #[must_use]
    pub fn udp_length(mut self, port: u16, data: &[u8], length: u16) -> Self {
        let mut datagram = vec![0x9c, 0x40];
        datagram.extend(port.to_be_bytes());
        datagram.extend(length.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(data);
        self.protocol = 17;
        self.payload = datagram;
        self
    }

    /// With any other payload.
    #[must_use]
    pub fn payload(mut self, protocol: u8, data: &[u8]) -> Self {
        self.protocol = protocol;
        self.payload = data.to_vec();
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (id, kind) in (7_u16..).zip(&self.tags) {
            frame.extend(kind.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let length = |bytes: usize| {
            let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
            bytes.saturating_add_signed(self.off).to_be_bytes()
        };
        match self.source {
            IpAddr::V4(source) => {
                let header = 20 + self.options;
                frame.extend([8, 0, 0x40 | u8::try_from(header / 4).unwrap_or(15), 0]);
                frame.extend(length(header + self.payload.len()));
                frame.extend([0, 9]);
                frame.extend(self.fragment.to_be_bytes());
                frame.extend([64, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(match self.to {
                    Some(IpAddr::V4(to)) => to.octets(),
                    _ => EDGE_V4,
                });
                // No-operation options.
                frame.resize(frame.len() + self.options, 1);
            }
            IpAddr::V6(source) => {
                let chain: usize = self.extensions.iter().map(|(_, body)| body.len() + 1).sum();
                let first = self.extensions.first().map_or(self.protocol, |(kind, _)| *kind);
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length(chain + self.payload.len()));
                frame.extend([first, 64]);
                frame.extend(source.octets());
                frame.extend(match self.to {
                    Some(IpAddr::V6(to)) => to.octets(),
                    _ => EDGE_V6,
                });
                for (position, (_, body)) in self.extensions.iter().enumerate() {
                    frame.push(
                        self.extensions
                            .get(position + 1)
                            .map_or(self.protocol, |(kind, _)| *kind),
                    );
                    frame.extend(body);
                }
            }
        }
        frame.extend(&self.payload);
        frame
    }
}

/// A QUIC datagram with a long header of this version and packet type (0 to 3), padded to the size
/// of an Initial.
pub fn quic_long(version: u32, kind: u8) -> Vec<u8> {
    let mut datagram = vec![0xc0 | kind << 4];
    datagram.extend(version.to_be_bytes());
    datagram.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
    datagram.resize(1200, 0xaa);
    datagram
}

/// A QUIC Initial of version 1.
pub fn quic_initial() -> Vec<u8> {
    quic_long(1, 0)
}

/// A QUIC Initial of this version with these connection ids and this token, its length in 1, 2, 4
/// or 8 bytes.
pub fn quic_token(version: u32, destination: &[u8], source: &[u8], token: &[u8], bytes: u8) -> Vec<u8> {
    // The types of version 2 are rotated by one (RFC 9369 section 3.2).
    let kind = u8::from(version == 0x6b33_43cf);
    let mut datagram = vec![0xc0 | kind << 4];
    datagram.extend(version.to_be_bytes());
    for id in [destination, source] {
        datagram.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
        datagram.extend(id);
    }
    let length = token.len() as u64;
    match bytes {
        1 => datagram.extend((length as u8 & 0x3f).to_be_bytes()),
        2 => datagram.extend((length as u16 & 0x3fff | 0x4000).to_be_bytes()),
        4 => datagram.extend((length as u32 & 0x3fff_ffff | 0x8000_0000).to_be_bytes()),
        _ => datagram.extend((length & (u64::MAX >> 2) | 0xc0 << 56).to_be_bytes()),
    }
    datagram.extend(token);
    datagram.resize(datagram.len().max(1200), 0xaa);
    datagram
}

/// A QUIC packet with a short header: an established connection.
pub fn quic_short() -> Vec<u8> {
    vec![0x41; 64]
}
