//! The PROXY protocol towards origins, version 2 (HAProxy's proxy-protocol.txt, section 2.2): whom
//! a connection is for. Written by `connect` before TLS and HTTP.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; the connection is the proxy's own (a health check), or a client's.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// Address families, over a stream.
const UNSPECIFIED: u8 = 0;
const INET: u8 = 0x11;
const INET6: u8 = 0x21;

/// The header of a connection for a client, and the address that it came to; or for the edge
/// itself.
pub(super) fn header(of: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some((client, local)) = of else {
        header.extend([LOCAL, UNSPECIFIED, 0, 0]);
        return header;
    };
    match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(local)) => {
            header.extend([PROXY, INET, 0, 12]);
            header.extend(client.octets());
            header.extend(local.octets());
        }
        (client, local) => {
            header.extend([PROXY, INET6, 0, 36]);
            for ip in [client, local] {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                header.extend(ip.octets());
            }
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(local.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server would take the edge for every client, or refuse the connection.
    #[test]
    fn as_the_specification_has_it() {
        let signature = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
        let of = |client: &str, local: &str| header(Some((client.parse().unwrap(), local.parse().unwrap())));
        let v4 = of("203.0.113.9:4711", "192.0.2.1:443");
        assert_eq!(v4[..12], signature);
        assert_eq!(
            v4[12..],
            [0x21, 0x11, 0, 12, 203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb]
        );
        let mixed = of("[2001:db8::9]:1", "192.0.2.1:443");
        assert_eq!((mixed.len(), &mixed[12..16]), (16 + 36, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(mixed[32..48], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(header(None)[12..], [0x20, 0, 0, 0]);
    }
}
