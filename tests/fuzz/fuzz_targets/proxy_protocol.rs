//! PROXY protocol headers: whatever a peer sends in front of TLS ends in a header or a refusal, and
//! what is accepted says the same when it is written the other way. `cd tests/fuzz && cargo
//! +nightly fuzz run proxy_protocol`.
#![no_main]

use std::net::IpAddr;

use edge::tls::proxy_protocol::{Header, v1, v2, v2_length};
use libfuzzer_sys::fuzz_target;

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// In the binary form, over IPv6.
fn again(header: &Header) -> Header {
    let mut fixed = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let mut body = Vec::new();
    match header {
        Header::Local => fixed.extend([0x20, 0]),
        Header::Proxied { client, local } => {
            fixed.extend([0x21, 0x21]);
            body.extend(octets(client.ip()));
            body.extend(octets(local.ip()));
            body.extend(client.port().to_be_bytes());
            body.extend(local.port().to_be_bytes());
        }
    }
    fixed.extend((body.len() as u16).to_be_bytes());
    v2(&fixed, &body).expect("well-formed")
}

fuzz_target!(|input: &[u8]| {
    if let Ok(header) = v1(input) {
        assert!(input.starts_with(b"PROXY ") && input.ends_with(b"\r\n") && input.len() <= 107);
        assert_eq!(again(&header), header);
        if let Header::Proxied { client, local } = header
            && input.starts_with(b"PROXY TCP4 ")
        {
            // An IPv4 line has one spelling only.
            let line = format!(
                "PROXY TCP4 {} {} {} {}\r\n",
                client.ip(),
                local.ip(),
                client.port(),
                local.port()
            );
            assert_eq!(line.as_bytes(), input);
        }
    }
    let (fixed, body) = input.split_at(input.len().min(16));
    if let Ok(length) = v2_length(fixed) {
        // The bound that a connection's buffer relies on.
        assert!(length <= 536 - 16);
        if let Some(body) = body.get(..length)
            && let Ok(header) = v2(fixed, body)
        {
            assert_eq!(again(&header), header);
        }
    }
    if let Ok(header) = v2(fixed, body) {
        assert_eq!(v2_length(fixed), Ok(body.len()));
        assert_eq!(again(&header), header);
    }
});
