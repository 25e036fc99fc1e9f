//! The PROXY protocol, v1 and v2 (haproxy's `proxy-protocol.txt`), strictly and without reading
//! past the header. The core takes bytes; `read` feeds it from a socket. Trusting a header from the
//! wrong peer lets a client choose its address, so `front` calls this only for the peers the
//! operator named.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest v1 line, CRLF included (section 2.1).
const V1_LONGEST: usize = 107;
/// Longest v2 header taken, type-length-values included: the 536 bytes every IPv4 host must take in
/// one piece.
const V2_LONGEST: usize = 536;
const V2_FIXED: usize = 16;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The client behind the proxy, and the address it connected to.
    Proxied {
        /// The client.
        client: SocketAddr,
        /// Where it connected to.
        local: SocketAddr,
    },
    /// The proxy speaks for itself (a health check), or does not know: the socket's own addresses
    /// count.
    Local,
}

/// Why a header was refused. The proxy's fault, or the operator's, who named a peer that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version's beginning.
    #[error("no PROXY protocol header")]
    Absent,
    /// Begins as one, goes on as none.
    #[error("a PROXY protocol header against the specification")]
    Syntax,
    /// Longer than the bound.
    #[error("a PROXY protocol header beyond the bound")]
    TooLong,
}

/// Reads one header and not a byte more. The caller bounds the time.
///
/// # Errors
/// The socket's, or `InvalidData` around a [`Malformed`].
pub async fn read(stream: &mut TcpStream) -> io::Result<Header> {
    let invalid = |why: Malformed| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut buffer = [0u8; V2_LONGEST];
    // Both versions' shortest headers are longer than v2's signature.
    let (signature, _) = buffer.split_at_mut(SIGNATURE.len());
    stream.read_exact(signature).await?;
    if signature == SIGNATURE {
        let (fixed, rest) = buffer.split_at_mut(V2_FIXED);
        stream
            .read_exact(fixed.get_mut(SIGNATURE.len()..).unwrap_or_default())
            .await?;
        let length = v2_length(fixed).map_err(invalid)?;
        let body = rest.get_mut(..length).ok_or_else(|| invalid(Malformed::TooLong))?;
        stream.read_exact(body).await?;
        return v2(fixed, body).map_err(invalid);
    }
    if !signature.starts_with(b"PROXY ") {
        return Err(invalid(Malformed::Absent));
    }
    let mut have = SIGNATURE.len();
    loop {
        let (done, free) = buffer.split_at_mut(have);
        let free = free.get_mut(..V1_LONGEST.saturating_sub(have)).unwrap_or_default();
        if free.is_empty() {
            return Err(invalid(Malformed::TooLong));
        }
        // Looked at first: what follows the line belongs to TLS.
        let seen = stream.peek(free).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let seen = free.get(..seen).unwrap_or_default();
        let end = memchr::memchr(b'\n', seen).map(|at| at + 1);
        let take = end.unwrap_or(seen.len());
        debug_assert!(done.len() + take <= V1_LONGEST);
        stream.read_exact(free.get_mut(..take).unwrap_or_default()).await?;
        have += take;
        if end.is_some() {
            return v1(buffer.get(..have).unwrap_or_default()).map_err(invalid);
        }
    }
}

/// A whole v1 line, CRLF included (section 2.1).
///
/// # Errors
/// Anything but the exact grammar.
pub fn v1(line: &[u8]) -> Result<Header, Malformed> {
    if line.len() > V1_LONGEST {
        return Err(Malformed::TooLong);
    }
    let text = line
        .strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Malformed::Syntax)?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return Err(Malformed::Absent);
    }
    let family = words.next().ok_or(Malformed::Syntax)?;
    if family == "UNKNOWN" {
        // The rest of the line is to be ignored.
        return Ok(Header::Local);
    }
    let mut word = || words.next().ok_or(Malformed::Syntax);
    let (client, local) = (word()?, word()?);
    let (client_port, local_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Malformed::Syntax);
    }
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        match family {
            "TCP4" => Ipv4Addr::from_str(text).map(IpAddr::V4).map_err(|_| Malformed::Syntax),
            "TCP6" => Ipv6Addr::from_str(text).map(IpAddr::V6).map_err(|_| Malformed::Syntax),
            _ => Err(Malformed::Syntax),
        }
    };
    Ok(proxied(address(client)?, client_port, address(local)?, local_port))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten().ok_or(Malformed::Syntax)
}

fn proxied(client: IpAddr, client_port: u16, local: IpAddr, local_port: u16) -> Header {
    Header::Proxied {
        client: SocketAddr::new(client.to_canonical(), client_port),
        local: SocketAddr::new(local.to_canonical(), local_port),
    }
}

/// The bytes that follow a v2 header's fixed part (section 2.2).
///
/// # Errors
/// Not v2, or beyond the bound.
pub fn v2_length(fixed: &[u8]) -> Result<usize, Malformed> {
    let Some((SIGNATURE, &[_, _, high, low])) = fixed.split_first_chunk() else {
        return Err(Malformed::Absent);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_LONGEST - V2_FIXED {
        return Err(Malformed::TooLong);
    }
    Ok(length)
}

/// A v2 header from its fixed 16 bytes and the rest.
///
/// # Errors
/// Another version, an unknown command, a family other than TCP over IP, addresses cut short.
pub fn v2(fixed: &[u8], body: &[u8]) -> Result<Header, Malformed> {
    if v2_length(fixed)? != body.len() {
        return Err(Malformed::Syntax);
    }
    let Some((_, &[command, family, _, _])) = fixed.split_first_chunk::<12>() else {
        return Err(Malformed::Syntax);
    };
    match (command, family) {
        // LOCAL: addresses are to be ignored.
        (0x20, _) => Ok(Header::Local),
        (0x21, 0x11) => {
            let (addresses, values) = body.split_first_chunk::<12>().ok_or(Malformed::Syntax)?;
            values_sound(values)?;
            let [a, b, c, d, e, f, g, h, p, q, r, s] = *addresses;
            Ok(proxied(
                Ipv4Addr::new(a, b, c, d).into(),
                u16::from_be_bytes([p, q]),
                Ipv4Addr::new(e, f, g, h).into(),
                u16::from_be_bytes([r, s]),
            ))
        }
        (0x21, 0x21) => {
            let (client, rest) = body.split_first_chunk::<16>().ok_or(Malformed::Syntax)?;
            let (local, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Syntax)?;
            let (&[p, q, r, s], values) = rest.split_first_chunk::<4>().ok_or(Malformed::Syntax)?;
            values_sound(values)?;
            Ok(proxied(
                Ipv6Addr::from(*client).into(),
                u16::from_be_bytes([p, q]),
                Ipv6Addr::from(*local).into(),
                u16::from_be_bytes([r, s]),
            ))
        }
        // UNSPEC: the real connection counts.
        (0x21, 0x00) => Ok(Header::Local),
        _ => Err(Malformed::Syntax),
    }
}

/// Type-length-values are skipped, but must fill their space exactly (section 2.2.5+).
fn values_sound(mut values: &[u8]) -> Result<(), Malformed> {
    while let Some((&[_, high, low], rest)) = values.split_first_chunk::<3>() {
        values = rest
            .get(usize::from(u16::from_be_bytes([high, low]))..)
            .ok_or(Malformed::Syntax)?;
    }
    if values.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header read loosely lets a client pass for another.
    #[test]
    fn v1_lines() {
        let header = v1(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n").unwrap();
        let Header::Proxied { client, local } = header else {
            panic!()
        };
        assert_eq!(client, "192.0.2.1:56324".parse().unwrap());
        assert_eq!(local, "198.51.100.7:443".parse().unwrap());
        assert!(matches!(
            v1(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
            Ok(Header::Proxied { .. })
        ));
        assert_eq!(v1(b"PROXY UNKNOWN whatever\r\n"), Ok(Header::Local));
        for wrong in [
            &b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n"[..],
            b"PROXY TCP4 192.0.2.1  198.51.100.7 56324 443\r\n",
            b"PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 +1 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 443 \r\n",
            b"PROXY TCP4 2001:db8::1 198.51.100.7 1 443\r\n",
            b"PROXY TCP5 192.0.2.1 198.51.100.7 1 443\r\n",
            b"PROXY\r\n",
            b"\r\n",
            b"",
        ] {
            assert!(v1(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }

    fn v2_bytes(command: u8, family: u8, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut fixed = SIGNATURE.to_vec();
        fixed.extend([command, family]);
        fixed.extend((body.len() as u16).to_be_bytes());
        (fixed, body.to_vec())
    }

    /// As above, for the binary form: every length an attacker can name is bounded.
    #[test]
    fn v2_headers() {
        let four = [192, 0, 2, 1, 198, 51, 100, 7, 0x10, 0, 1, 0xbb];
        let (fixed, body) = v2_bytes(0x21, 0x11, &four);
        assert_eq!(v2(&fixed, &body), v1(b"PROXY TCP4 192.0.2.1 198.51.100.7 4096 443\r\n"));
        let with_value = [&four[..], &[4, 0, 2, 9, 9]].concat();
        let (fixed, body) = v2_bytes(0x21, 0x11, &with_value);
        assert!(v2(&fixed, &body).is_ok());
        let (fixed, body) = v2_bytes(0x21, 0x11, &[&four[..], &[4, 0, 3, 9, 9]].concat());
        assert_eq!(
            v2(&fixed, &body),
            Err(Malformed::Syntax),
            "a value longer than its space"
        );
        let (fixed, body) = v2_bytes(0x20, 0, &[1, 2, 3]);
        assert_eq!(v2(&fixed, &body), Ok(Header::Local));
        let mut mapped = [0u8; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        let (fixed, body) = v2_bytes(0x21, 0x21, &mapped);
        let Ok(Header::Proxied { client, .. }) = v2(&fixed, &body) else {
            panic!()
        };
        assert_eq!(
            client.ip(),
            "192.0.2.1".parse::<IpAddr>().unwrap(),
            "mapped addresses are unmapped"
        );
        for (command, family, length) in [
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x22, 0x11, 12),
            (0x11, 0x11, 12),
            (0x21, 0x31, 216),
        ] {
            let (fixed, body) = v2_bytes(command, family, &vec![0; length]);
            assert!(v2(&fixed, &body).is_err(), "{command:x} {family:x} {length}");
        }
        let (fixed, _) = v2_bytes(0x21, 0x11, &[0; 521]);
        assert_eq!(v2_length(&fixed), Err(Malformed::TooLong));
    }
}
