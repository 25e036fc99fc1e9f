//! `[server] client_address`: proxies that name their clients, and the field by which they do. Who
//! is believed, and how far along a chain of proxies, is decided here; `http::client` reads the
//! field.

use std::num::NonZeroU8;

use http::HeaderName;
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::value::Network;

/// As it is written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientAddressText {
    from: Spanned<String>,
    trusted: Spanned<Vec<Network>>,
    #[serde(default)]
    depth: Option<Spanned<u8>>,
    #[serde(default = "x_forwarded_proto")]
    scheme: Spanned<String>,
}

fn x_forwarded_proto() -> Spanned<String> {
    Spanned::new(0..0, "X-Forwarded-Proto".to_owned())
}

/// Who names clients, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The field that names the client: `Forwarded` (RFC 7239), or one with a list of addresses,
    /// the nearest last.
    pub from: HeaderName,
    /// Peers that are believed, and proxies further away that are passed over on the way to the
    /// client.
    pub trusted: Vec<IpNet>,
    /// The client is that many addresses from the end of the list; `None`: the first one from there
    /// that is not trusted.
    pub depth: Option<NonZeroU8>,
    /// The field that says by which scheme the client came; `None`: none is believed.
    pub scheme: Option<HeaderName>,
}

impl ClientAddress {
    /// Whether the field is `Forwarded`, which has a syntax of its own.
    pub fn is_forwarded(&self) -> bool {
        self.from == http::header::FORWARDED
    }

    /// Whether `address` is a proxy's that is believed.
    pub fn trusts(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// Fields that cannot name a client, since they are of a connection, or the client's to write by
/// the protocol.
const NO_NAMES: [&str; 8] = [
    "host",
    "cookie",
    "connection",
    "authorization",
    "via",
    "user-agent",
    "referer",
    "origin",
];

pub(super) fn check(raw: &ClientAddressText, checker: &mut Checker<'_>) -> Option<ClientAddress> {
    let from = field(&raw.from, checker)?;
    let scheme = match raw.scheme.get_ref().is_empty() {
        true => None,
        false => Some(field(&raw.scheme, checker)?),
    };
    if raw.trusted.get_ref().is_empty() {
        checker.mistake(
            raw.trusted.span(),
            "nobody is trusted, so that the field names nobody",
            "write the networks of the proxies in front: trusted = [\"10.0.0.0/8\"]",
        );
        return None;
    }
    let trusted: Vec<_> = raw.trusted.get_ref().iter().map(|network| network.0).collect();
    if raw.depth.is_none()
        && let Some(all) = trusted.iter().find(|network| network.prefix_len() == 0)
    {
        checker.mistake(
            raw.trusted.span(),
            format!("{all} is everybody: any client could name another one's address"),
            "write the networks of the proxies alone",
        );
        return None;
    }
    let depth = match &raw.depth {
        None => None,
        Some(depth) => match NonZeroU8::new(*depth.get_ref()).filter(|depth| depth.get() <= 16) {
            Some(depth) => Some(depth),
            None => {
                checker.mistake(
                    depth.span(),
                    format!("{} is out of bounds", depth.get_ref()),
                    "write 1 (what the peer says of its own client) to 16, or leave `depth` out",
                );
                return None;
            }
        },
    };
    Some(ClientAddress {
        from,
        trusted,
        depth,
        scheme,
    })
}

fn field(name: &Spanned<String>, checker: &mut Checker<'_>) -> Option<HeaderName> {
    let parsed = HeaderName::from_bytes(name.get_ref().as_bytes()).ok();
    let known = parsed.filter(|name| !NO_NAMES.contains(&name.as_str()));
    if known.is_none() {
        checker.mistake(
            name.span(),
            format!("\"{}\" is not a field that a proxy can say this in", name.get_ref()),
            "write the field that your proxy sets: \"X-Forwarded-For\", \"Forwarded\", \"CF-Connecting-IP\", …; for the scheme \
             \"X-Forwarded-Proto\", or \"\" for none",
        );
    }
    known
}
