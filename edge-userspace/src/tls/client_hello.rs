//! Finds the session tickets in a ClientHello: the identities of its pre-shared keys (TLS 1.3, RFC
//! 8446 section 4.2.11) and its session ticket (TLS 1.2, RFC 5077 section 3.2); and what a client
//! offers that rustls does not listen to. `hello` hands in the message; nothing is believed but
//! lengths.

use std::iter;
use std::net::IpAddr;

use rustls::CipherSuite;
use rustls::pki_types::DnsName;

/// Tickets that are looked at: clients offer one or two.
const MOST: usize = 4;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;

/// The bytes are no ClientHello, or lie about a length; the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed ClientHello")]
pub struct Malformed;

/// The tickets in a ClientHello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tickets<'a>([Option<&'a [u8]>; MOST]);

impl<'a> Tickets<'a> {
    /// In `message`: type, length (24 bits), body, of which the length is not looked at.
    ///
    /// # Errors
    /// It is cut short, or a length within it is wrong.
    pub fn find(message: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(message).ok_or(Malformed)
    }

    fn parse(message: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut slots = found.0.iter_mut();
        let mut extensions = Body::parse(message)?.extensions;
        while !extensions.is_empty() {
            let kind = number(&mut extensions, 2)?;
            let mut body = vector(&mut extensions, 2)?;
            match u16::try_from(kind).ok()? {
                SESSION_TICKET if !body.is_empty() => {
                    if let Some(slot) = slots.next() {
                        *slot = Some(body);
                    }
                }
                PRE_SHARED_KEY => {
                    let mut identities = vector(&mut body, 2)?;
                    while !identities.is_empty() {
                        let identity = vector(&mut identities, 2)?;
                        take(&mut identities, 4)?; // obfuscated age
                        if let Some(slot) = slots.next() {
                            *slot = Some(identity);
                        }
                    }
                    vector(&mut body, 2)?; // binders
                }
                _ => {}
            }
        }
        Some(found)
    }

    /// One after the other, as they stand there; at most four.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.into_iter().flatten()
    }
}

/// What a client offers, as far as it decides who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// The version that TLS 1.2 negotiates by, and that an encrypted premaster repeats (RFC 5246
    /// section 7.4.7.1).
    pub version: u16,
    /// It says by an extension which versions it speaks: then `version` is not looked at (RFC 8446
    /// section 4.2.1).
    pub versions: bool,
    /// The server name (RFC 6066 section 3), as it stands there: a host name. Addresses, which are
    /// no server names, are none.
    pub server_name: Option<&'a str>,
    suites: &'a [[u8; 2]],
}

impl<'a> Offer<'a> {
    /// In `message`, as in [`Tickets::find`].
    ///
    /// # Errors
    /// It is cut short, a length within it is wrong, or its server name is none.
    pub fn find(message: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(message).ok_or(Malformed)
    }

    fn parse(message: &'a [u8]) -> Option<Self> {
        let mut body = Body::parse(message)?;
        let (suites, []) = body.suites.as_chunks() else {
            return None;
        };
        let mut server_name = None;
        let mut versions = false;
        while !body.extensions.is_empty() {
            let kind = number(&mut body.extensions, 2)?;
            let content = vector(&mut body.extensions, 2)?;
            if kind == usize::from(SERVER_NAME) {
                server_name = host(content)?;
            }
            versions |= kind == usize::from(SUPPORTED_VERSIONS);
        }
        Some(Self {
            version: body.version,
            versions,
            server_name,
            suites,
        })
    }

    /// The cipher suites, the preferred first.
    pub fn suites(&self) -> impl Iterator<Item = CipherSuite> + Clone + use<'a> {
        self.suites
            .iter()
            .map(|code| CipherSuite::from(u16::from_be_bytes(*code)))
    }
}

/// The one host name in a `server_name` extension; `Some(None)` for an address.
fn host(mut extension: &[u8]) -> Option<Option<&str>> {
    let mut names = vector(&mut extension, 2)?;
    let kind = number(&mut names, 1)?;
    let name = str::from_utf8(vector(&mut names, 2)?).ok()?;
    if kind != 0 || !names.is_empty() || !extension.is_empty() {
        return None;
    }
    if name.parse::<IpAddr>().is_ok() {
        return Some(None);
    }
    DnsName::try_from(name).is_ok().then_some(Some(name))
}

/// The parts of a ClientHello (RFC 5246 section 7.4.1.2) that are looked at.
struct Body<'a> {
    version: u16,
    suites: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Body<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = message.split_first()?;
        if *kind != CLIENT_HELLO {
            return None;
        }
        take(&mut rest, 3)?; // length
        let version = u16::try_from(number(&mut rest, 2)?).ok()?;
        take(&mut rest, 32)?; // random
        vector(&mut rest, 1)?; // session id
        let suites = vector(&mut rest, 2)?;
        vector(&mut rest, 1)?; // compression methods
        let extensions = match rest {
            [] => rest,
            _ => vector(&mut rest, 2)?,
        };
        Some(Self {
            version,
            suites,
            extensions,
        })
    }
}

/// The next `n` bytes.
fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(n)?;
    *rest = left;
    Some(taken)
}

/// A number of `n` bytes, big-endian; `n` is at most 4.
fn number(rest: &mut &[u8], n: usize) -> Option<usize> {
    let bytes = take(rest, n)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// A vector with a length of `n` bytes (RFC 8446 section 3.4).
fn vector<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let length = number(rest, n)?;
    take(rest, length)
}

/// The handshake messages in a stream of plaintext records, put together. `None`: more bytes are
/// needed.
///
/// # Errors
/// A record of another type, an empty one, or one that is too long (RFC 8446 section 5.1).
pub fn reassemble(stream: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    const HANDSHAKE: u8 = 22;
    const HEAD: usize = 5;
    const RECORD: usize = 1 << 14;
    let mut message = Vec::new();
    let mut rest = stream;
    let records = iter::from_fn(|| {
        let mut head = rest.get(..HEAD)?;
        let kind = number(&mut head, 1)?;
        let length = { take(&mut head, 2).and_then(|_| number(&mut head, 2)) }?;
        if kind != usize::from(HANDSHAKE) || length == 0 || length > RECORD {
            return Some(Err(Malformed));
        }
        let (_, body) = rest.split_at_checked(HEAD)?;
        let (fragment, left) = body.split_at_checked(length)?;
        rest = left;
        Some(Ok(fragment))
    });
    for fragment in records {
        message.extend_from_slice(fragment?);
        let mut head = message.get(1..).unwrap_or_default();
        if let Some(length) = number(&mut head, 3)
            && let Some(whole) = message.get(..length + 4)
        {
            return Ok(Some(whole.to_vec()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
