//! The ClientHello as QUIC brings it: without records. How long it is, and which server it asks
//! for; the rest is rustls's. `session` asks, before there is a session.

use std::sync::Arc;

use quinn_proto::{TransportError, TransportErrorCode};
use rustls::AlertDescription;
use rustls::server::Acceptor;

use crate::tls::names;

/// The longest ClientHello taken; rustls takes no longer message either.
pub const LONGEST: usize = 0xffff;
/// The content of one TLS record (RFC 8446 section 5.1).
const RECORD: usize = 1 << 14;

/// A TLS alert as QUIC says it (RFC 9001 section 4.8). `reason` goes to the client.
pub(super) fn alert(alert: AlertDescription, reason: &str) -> TransportError {
    error(TransportErrorCode::crypto(u8::from(alert)), reason)
}

/// An error of QUIC's own (RFC 9000 section 20.1). `reason` goes to the client.
pub(super) fn error(code: TransportErrorCode, reason: &str) -> TransportError {
    TransportError {
        code,
        frame: None,
        reason: reason.into(),
    }
}

/// The bytes of the ClientHello that `stream` begins with; `None` while they are not all there.
///
/// # Errors
/// It is another message, or too long.
pub fn length(stream: &[u8]) -> Result<Option<usize>, TransportError> {
    match stream.first() {
        None => return Ok(None),
        // RFC 8446 section 4.
        Some(1) => {}
        Some(_) => return Err(alert(AlertDescription::UnexpectedMessage, "not a ClientHello")),
    }
    let Some(&[_, high, middle, low]) = stream.first_chunk::<4>() else {
        return Ok(None);
    };
    let body = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if body > LONGEST {
        return Err(alert(AlertDescription::DecodeError, "the ClientHello is too long"));
    }
    let length = body.saturating_add(4);
    Ok((stream.len() >= length).then_some(length))
}

/// The server name in a whole ClientHello, as the certificates are found by; `None` where there is
/// none.
///
/// # Errors
/// rustls cannot read it.
pub fn server_name(message: &[u8]) -> Result<Option<Arc<str>>, TransportError> {
    let mut records = Vec::with_capacity(message.len().saturating_add(64));
    for piece in message.chunks(RECORD) {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        records.extend([22, 3, 1]);
        records.extend(length.to_be_bytes());
        records.extend(piece);
    }
    let mut acceptor = Acceptor::default();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        if !matches!(acceptor.read_tls(&mut rest), Ok(1..)) {
            break;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Ok(hello.server_name().map(|name| names::normal(name).into()));
            }
            Err((why, mut refused)) => {
                // As a record: type, version, length, level, description.
                let mut record = Vec::new();
                let _ = refused.write_all(&mut record);
                let description = record.get(6).copied().unwrap_or_default();
                let description = match description {
                    0 => AlertDescription::DecodeError,
                    other => AlertDescription::from(other),
                };
                return Err(alert(description, &why.to_string()));
            }
        }
    }
    Err(alert(AlertDescription::DecodeError, "not a ClientHello"))
}

/// Whether a whole ClientHello offers early data (RFC 8446 section 4.2.10). One that cannot be read
/// does not.
pub fn offers_early_data(message: &[u8]) -> bool {
    extensions(message).is_some_and(|mut rest| {
        while let Some((kind, after)) = rest.split_first_chunk::<2>() {
            if u16::from_be_bytes(*kind) == EARLY_DATA {
                return true;
            }
            match counted::<2>(after) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        false
    })
}

/// RFC 8446 section 4.2.
const EARLY_DATA: u16 = 42;

/// The content of a ClientHello's extensions (RFC 8446 section 4.1.2).
fn extensions(message: &[u8]) -> Option<&[u8]> {
    // Type and length, version, random.
    let rest = message.get(4 + 2 + 32..)?;
    let (_session, rest) = counted::<1>(rest)?;
    let (_suites, rest) = counted::<2>(rest)?;
    let (_compression, rest) = counted::<1>(rest)?;
    Some(counted::<2>(rest)?.0)
}

/// A vector behind its length of so many bytes, and what follows it.
fn counted<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<N>()?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &'static str, protocols: usize) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = (0..protocols).map(|n| format!("protocol-{n}").into_bytes()).collect();
        let mut client = rustls::quic::ClientConnection::new(
            Arc::new(config),
            rustls::quic::Version::V1,
            name.try_into().unwrap(),
            vec![],
        )
        .unwrap();
        let mut message = Vec::new();
        client.write_hs(&mut message);
        message
    }

    /// The wrong certificate, or none, for a hello that comes in two packets or is longer than a
    /// record.
    #[test]
    fn the_name_is_found_once_all_is_there() {
        for protocols in [1, 2_000] {
            let message = hello("A.Example", protocols);
            for cut in [0, 1, 3, 4, message.len() - 1] {
                assert_eq!(length(&message[..cut]), Ok(None), "{cut}");
            }
            let with_more = [&message[..], b"more"].concat();
            assert_eq!(length(&with_more), Ok(Some(message.len())));
            assert_eq!(server_name(&message).unwrap().as_deref(), Some("a.example"));
        }
        assert_eq!(server_name(&hello("192.0.2.1", 1)).unwrap(), None);
    }

    /// Operators would see no early data where there is some.
    #[test]
    fn early_data_is_seen_where_it_is_offered() {
        let plain = hello("a.example", 3);
        assert!(!offers_early_data(&plain));
        let with = |extension: &[u8]| {
            // The extensions are what comes last: one more, and two lengths.
            let at = plain.len() - extensions(&plain).unwrap().len();
            let mut message = [&plain[..], extension].concat();
            let length = u16::try_from(message.len() - at).unwrap();
            message[at - 2..at].copy_from_slice(&length.to_be_bytes());
            message
        };
        assert!(offers_early_data(&with(&[0, 42, 0, 0])));
        assert!(!offers_early_data(&with(&[0, 43, 0, 2, 0, 42])));
        let whole = with(&[0, 42, 0, 0]);
        for cut in 0..whole.len() {
            assert!(!offers_early_data(&whole[..cut]), "{cut}");
        }
    }

    #[test]
    fn what_is_none_gets_its_alert() {
        let unexpected = TransportErrorCode::crypto(10);
        assert_eq!(length(&[2, 0, 0, 0]).unwrap_err().code, unexpected);
        let decode = TransportErrorCode::crypto(50);
        assert_eq!(length(&[1, 1, 0, 0]).unwrap_err().code, decode);
        assert_eq!(server_name(&[1, 0, 0, 2, 3, 3]).unwrap_err().code, decode);
        assert_eq!(server_name(&[]).unwrap_err().code, decode);
    }
}
