//! Keys that are elsewhere: `[[key_server]]`, and what a zone says of its key and of its clients' certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::Spanned;

use super::mistake::Source;
use super::{Mistake, Place};

/// A key server, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<SocketAddr>,
    #[serde(default)]
    pub(super) server_name: Option<Spanned<String>>,
    pub(super) ca: Spanned<PathBuf>,
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
    #[serde(default)]
    pub(super) priority: u16,
}

/// Who may present a certificate, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClients {
    pub(super) ca: Spanned<PathBuf>,
    #[serde(default = "yes")]
    pub(super) required: bool,
    #[serde(default)]
    pub(super) revoked: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) revoked_must_be_current: bool,
}

/// A further certificate of a zone, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificate {
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
}

fn yes() -> bool {
    true
}

/// Where ephemeral keys are made.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum KeyExchange {
    /// Here.
    Local,
    /// At the key server: the edge never has the ephemeral private key.
    Remote,
}

/// A key server.
#[derive(Clone, Debug)]
pub struct KeyServer {
    /// Unique; a label in metrics and logs.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The name its certificate must have.
    pub server_name: ServerName<'static>,
    /// Who must have signed it.
    pub ca: (PathBuf, Place),
    /// This node's client certificate, leaf first.
    pub certificate: (PathBuf, Place),
    /// Its private key: the only one an edge without local keys has.
    pub key: (PathBuf, Place),
    /// Asked first: the lowest; in turns where equal.
    pub priority: u16,
}

/// Where a certificate's private key is.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// In a PEM file.
    File(PathBuf, Place),
    /// At key servers.
    Servers {
        /// At least one, each the name of a [`KeyServer`].
        names: Vec<String>,
        /// Where they are named.
        place: Place,
        /// Where ephemeral keys are made.
        exchange: KeyExchange,
    },
}

/// Whose certificates a zone's clients may or must present.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// PEM file of the CAs that sign them.
    pub ca: (PathBuf, Place),
    /// Without one there is no connection.
    pub required: bool,
    /// PEM files of revocation lists (RFC 5280 section 5). With one, a certificate on it, and one whose issuer has no list among them,
    /// is refused.
    pub revoked: Vec<(PathBuf, Place)>,
    /// A list whose next update is due is no list.
    pub revoked_must_be_current: bool,
}

pub(super) fn servers(raw: &[Spanned<RawServer>], source: &Source<'_>) -> (Vec<KeyServer>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let mut servers: Vec<KeyServer> = Vec::with_capacity(raw.len());
    for raw in raw.iter().map(Spanned::get_ref) {
        let name = raw.name.get_ref();
        let place = source.place(raw.name.span());
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
            mistakes.push(place.mistake(
                format!("\"{name}\" is no name of a key server"),
                "write letters, digits, `-`, `_`, `.`, at most 64",
            ));
        }
        if servers.iter().any(|server| server.name == *name) {
            mistakes.push(place.mistake(
                format!("there is a key server \"{name}\" already"),
                "give each a name of its own",
            ));
        }
        if raw.address.get_ref().port() == 0 {
            mistakes.push(
                source
                    .place(raw.address.span())
                    .mistake("port 0", "write the port the key server listens on"),
            );
        }
        let server_name = match &raw.server_name {
            Some(written) => ServerName::try_from(written.get_ref().clone()).unwrap_or_else(|_| {
                mistakes.push(source.place(written.span()).mistake(
                    format!("\"{}\" is no server name", written.get_ref()),
                    "write the name in the key server's certificate",
                ));
                ServerName::from(raw.address.get_ref().ip())
            }),
            None => ServerName::from(raw.address.get_ref().ip()),
        };
        let file = |path: &Spanned<PathBuf>| (source.path(path), source.place(path.span()));
        servers.push(KeyServer {
            name: name.clone(),
            address: *raw.address.get_ref(),
            server_name,
            ca: file(&raw.ca),
            certificate: file(&raw.certificate),
            key: file(&raw.key),
            priority: raw.priority,
        });
    }
    (servers, mistakes)
}

/// What the zone says of its key: a file, or key servers.
pub(super) fn key(
    zone: &super::raw::Zone,
    servers: &[KeyServer],
    source: &Source<'_>,
) -> Result<Option<Key>, Vec<Mistake>> {
    let exchange = zone.key_exchange.as_ref();
    match (&zone.key, &zone.key_servers) {
        (Some(_), Some(names)) => Err(vec![source.place(names.span()).mistake(
            "both `key` and `key_servers`",
            "keep `key_servers`, and move the key to the key servers",
        )]),
        (key, None) => {
            if let Some(exchange) = exchange
                && *exchange.get_ref() == KeyExchange::Remote
            {
                return Err(vec![source.place(exchange.span()).mistake(
                    "key exchange at a key server, but no key server",
                    "write `key_servers`, or leave `key_exchange` out",
                )]);
            }
            Ok(key
                .as_ref()
                .map(|key| Key::File(source.path(key), source.place(key.span()))))
        }
        (None, Some(names)) => {
            let place = source.place(names.span());
            let mut mistakes = Vec::new();
            if names.get_ref().is_empty() {
                mistakes.push(place.mistake("no key server", "name at least one, or write `key`"));
            }
            for name in names.get_ref() {
                if !servers.iter().any(|server| server.name == *name.get_ref()) {
                    let known: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
                    let mend = if known.is_empty() {
                        "write a [[key_server]] of this name".to_owned()
                    } else {
                        format!("write a [[key_server]] of this name, or one of: {}", known.join(", "))
                    };
                    mistakes.push(
                        source
                            .place(name.span())
                            .mistake(format!("there is no key server \"{}\"", name.get_ref()), mend),
                    );
                }
            }
            if !mistakes.is_empty() {
                return Err(mistakes);
            }
            Ok(Some(Key::Servers {
                names: names.get_ref().iter().map(|name| name.get_ref().clone()).collect(),
                place,
                exchange: exchange.map_or(KeyExchange::Local, |exchange| *exchange.get_ref()),
            }))
        }
    }
}
