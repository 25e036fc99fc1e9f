//! Who is on the other end of a connection, as the listener learnt it; handed with each request to
//! the right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use ipnet::{IpNet, Ipv6Net};

use super::clock::UnixTime;
use super::early::{Early, Unproven};

/// One client connection, shared by all its requests; behind a trusted proxy one client of it,
/// shared by none.
#[derive(Debug)]
pub struct Peer {
    /// The client: the socket's peer, what the PROXY protocol header named, or what a trusted
    /// proxy's field did (with port 0). IPv4-mapped addresses are unmapped.
    pub client: SocketAddr,
    /// The address the client connected to.
    pub local: SocketAddr,
    /// When the connection was accepted.
    pub accepted: Instant,
    /// What the TLS handshake settled; `None` on a plain listener.
    pub handshake: Option<Arc<Handshake>>,
    /// Where requests came before the handshake was over; `None`: none did.
    pub early: Option<Early>,
    /// The trusted proxy that the connection is of; `None`: it is the client's own.
    pub via: Option<Via>,
}

/// What a trusted proxy says of the request that it hands on (`[server] client_address`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The proxies between the client and the edge, the nearest last: that one is the connection's
    /// peer.
    pub proxies: Box<[IpAddr]>,
    /// Whether the client spoke TLS to the first of them; `None`: nobody says so.
    pub secure: Option<bool>,
}

impl Peer {
    /// Whether the client's request was encrypted on its way: to the edge, or as the trusted proxy
    /// says that it handed it on.
    pub fn is_secure(&self) -> bool {
        let said = self.via.as_ref().and_then(|via| via.secure);
        said.unwrap_or(self.handshake.is_some())
    }

    /// The scheme that the client used.
    pub fn scheme(&self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }

    /// When the connection is over, whatever it does: [`Standing::ends`].
    pub fn ends(&self) -> Option<UnixTime> {
        self.handshake.as_ref()?.standing.as_ref()?.ends()
    }

    /// Whether what the client has sent may still be a copy of what another one sent (RFC 8446
    /// section 8): its handshake is not over.
    pub fn is_early(&self) -> bool {
        self.early.as_ref().is_some_and(|early| !early.is_over())
    }

    /// Waits until it is over; at once where nothing was early.
    ///
    /// # Errors
    /// The handshake came to nothing.
    pub async fn proven(&self) -> Result<(), Unproven> {
        match &self.early {
            Some(early) => early.over().await,
            None => Ok(()),
        }
    }
}

/// The outcome of a TLS handshake, for logs, metrics and routing.
#[derive(Debug)]
pub struct Handshake {
    /// From the accept to the last handshake message.
    pub duration: Duration,
    /// Server name the client asked for, lower case, without a trailing dot.
    pub server_name: Option<Arc<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The client resumed an earlier session.
    pub resumed: bool,
    /// The client's id: that of the ticket it resumed from, or a new one that its next ticket will
    /// carry.
    pub client: u64,
    /// It came with that id in a ticket, and the handshake has shown that it is its own.
    pub known: bool,
    /// Whom the client's certificate names, where its zone asks for one.
    pub certificate: Option<Arc<Identity>>,
    /// Whether the connection would still be let in; `None`: nothing ends that.
    pub standing: Option<Arc<dyn Standing>>,
}

/// Asked before each request: a reload binds connections that exist, and a certificate may expire
/// on one.
pub trait Standing: std::fmt::Debug + Send + Sync {
    /// Whether the connection may go on. Costs next to nothing while nothing has changed.
    fn holds(&self) -> bool;

    /// When the connection is over, whatever it does: its client's certificate ends. `None`: it has
    /// shown none.
    fn ends(&self) -> Option<UnixTime> {
        None
    }
}

/// A client's certificate, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its subject: `C=…, O=…, CN=…`.
    pub subject: String,
    /// Its issuer, alike.
    pub issuer: String,
    /// Its alternative names with their kinds in front: `DNS:`, `URI:`, `email:` or `IP:`.
    pub names: Vec<String>,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), in lower-case hexadecimal.
    pub spki: String,
    /// SHA-256 of the certificate, in lower-case hexadecimal.
    pub fingerprint: String,
    /// The certificate as `Client-Cert` has it (RFC 9440 section 2.2): base64 between colons.
    pub field: HeaderValue,
    /// The certificates above it as `Client-Cert-Chain` has them (section 2.3); `None`: it brought
    /// none.
    pub chain: Option<HeaderValue>,
}

/// 64:ff9b::/96, where translators put IPv4 addresses (RFC 6052 section 2.1).
const TRANSLATED: u128 = 0x64_ff9b << 96;
/// And where those do that the configuration names: of the process, as its clock is, because every
/// room reduces addresses, and tokens and the kernel's program must do it alike.
static TRANSLATORS: OnceLock<Box<[Ipv6Net]>> = OnceLock::new();

/// Has clients of these networks (/96) be the IPv4 addresses that they have, from now on. Once in a
/// process, before the first client; later calls change nothing.
pub fn translators(networks: &[Ipv6Net]) {
    // A second start of a node in one process is a test's.
    let _ = TRANSLATORS.set(networks.into());
}

/// The IPv4 address of a client that came through a translator, else the address itself.
pub fn untranslated(address: IpAddr) -> IpAddr {
    reduced(address, TRANSLATORS.get().map_or(&[], |networks| networks))
}

fn reduced(address: IpAddr, translators: &[Ipv6Net]) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else {
        return address.to_canonical();
    };
    let [.., a, b, c, d] = v6.octets();
    let embedded = v6.to_bits() >> 32 == TRANSLATED >> 32 || translators.iter().any(|network| network.contains(&v6));
    if embedded {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(v6)
    }
}

/// Reduces an address to what limits and penalties are counted by: IPv4 /32, IPv6 /64 (a /64 is one
/// household). An IPv4 address that came through a translator (NAT64, SIIT) is itself: all of them
/// share one /64. The kernel reduces likewise (`edge_common::token::Prefix`).
pub fn client_prefix(address: IpAddr) -> IpAddr {
    match untranslated(address) {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }
}

/// The networks around a client that one customer has: IPv6 /56 and /48, IPv4 /24. What is counted
/// by [`client_prefix`] is bounded by these, too.
pub fn networks(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let prefix = client_prefix(address);
    let lengths: &'static [u8] = if prefix.is_ipv4() { &[24] } else { &[56, 48] };
    // No length is beyond its version's bits.
    let network = move |length: &u8| IpNet::new(prefix, *length).map_or_else(|_| prefix.into(), |net| net.trunc());
    lengths.iter().map(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise one household could count as 2^64 clients, or an IPv4 client as two.
    #[test]
    fn prefixes() {
        let same = |a: &str, b: &str| {
            let prefix = |s: &str| client_prefix(s.parse::<IpAddr>().unwrap());
            prefix(a) == prefix(b)
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1:2"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.2", "192.0.2.1"));
        assert!(same("64:ff9b::192.0.2.1", "192.0.2.1"));
        assert!(!same("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"));
        assert!(same("64:ff9b:1::192.0.2.1", "64:ff9b:1::192.0.2.2"));
    }

    /// All IPv4 clients of a provider's translator would be one client: one's strike everybody's.
    #[test]
    fn configured_translators() {
        let networks = ["2001:db8:64::/96", "2001:db8:65:0:1::/96"].map(|n| n.parse().unwrap());
        for (text, wanted) in [
            ("2001:db8:64::192.0.2.1", "192.0.2.1"),
            ("2001:db8:65:0:1::192.0.2.2", "192.0.2.2"),
            ("64:ff9b::192.0.2.3", "192.0.2.3"),
            ("::ffff:192.0.2.4", "192.0.2.4"),
            ("2001:db8:64::1:c000:201", "2001:db8:64::1:c000:201"),
            ("2001:db8:65::192.0.2.1", "2001:db8:65::192.0.2.1"),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(reduced(address, &networks), wanted.parse::<IpAddr>().unwrap(), "{text}");
        }
    }
}
