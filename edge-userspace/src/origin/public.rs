//! Addresses of the public Internet, told from those that only this host or its network reaches.

use std::net::IpAddr;

/// Whether `address` is one of the public Internet, by the registries of special purpose addresses
/// (RFC 6890, RFC 8190), those that carry an IPv4 address judged by it as well.
pub(super) fn public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            let carried = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                public(IpAddr::from([a, b, c, d]))
            };
            // Only 2000::/3 is handed out, and 64:ff9b::/96 stands for IPv4 (RFC 6052).
            if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
                return carried(g, h);
            }
            if a == 0x2002 {
                return carried(b, c);
            }
            a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && !(a == 0x3fff && b < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker would reach what only this host's network may.
    #[test]
    fn what_is_public() {
        for (text, is) in [
            ("8.8.8.8", true),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("192.0.2.1", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
            ("2606:4700::1111", true),
        ] {
            assert_eq!(public(text.parse().unwrap()), is, "{text}");
        }
    }
}
