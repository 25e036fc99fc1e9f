//! Certificates and their keys: what a zone says of its own and of its clients', and
//! `[[key_server]]`, where keys are that this node does not have.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::Place;
use super::checker::Checker;
use super::kind::{Address, Count, File, Maybe, Must, Name, ServerName, words};
use super::section::section;

words! {
    /// Where ephemeral keys are made.
    KeyExchange {
        /// Here.
        Local = "local",
        /// At the key server: the edge never has the ephemeral private key.
        Remote = "remote",
    }
}

section! {
    /// A key server.
    KeyServerText => KeyServer {
        /// Unique; zones name it by this, and metrics and logs.
        live name: Must<Name<64>> = None; like "keys-1";
        /// Where it listens.
        live address: Must<Address> = None; like "192.0.2.10:9443";
        /// The name in its certificate; left out: its address.
        live server_name: Maybe<ServerName> = None; like "keys-1.example.com";
        /// The authority of its certificate (PEM).
        live ca: Must<File> = None; like "keys-ca.pem";
        /// What this node shows there, leaf first (PEM).
        live certificate: Must<File> = None; like "this-edge.pem";
        /// Its private key: the only one that an edge without local keys has.
        live key: Must<File> = None; like "this-edge.key";
        /// The lowest is asked first; in turns if equal.
        live priority: Count<u16> = 0;
    }
}

impl KeyServer {
    /// The name its certificate must have.
    pub fn expected(&self) -> rustls::pki_types::ServerName<'static> {
        let address = || self.address.ip().into();
        // A name that cannot be one was told by the check.
        let name = self.server_name.clone().map(rustls::pki_types::ServerName::try_from);
        name.and_then(Result::ok).unwrap_or_else(address)
    }
}

/// A certificate: PEM files and the way to its key, with their places for errors of the room that
/// loads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// Where the chain is named.
    pub chain_place: Place,
    /// Its private key.
    pub key: Key,
    /// An OCSP response of it, in DER, which is stapled to it.
    pub ocsp: Option<(PathBuf, Place)>,
    /// An ACME client of this node writes chain and key: until it has, a stand-in is shown.
    pub issued: bool,
    /// Others that are shown to clients that do not take this one's kind of signature, in this
    /// order.
    pub more: Vec<More>,
    /// Certificates of clients; `None`: none is asked for.
    pub clients: Option<Clients>,
    /// Where it says that clients are let in that know no key exchange but RSA's; `None`: they are
    /// not.
    pub legacy_rsa: Option<Place>,
}

/// A certificate with its key beside it, that a process shows of itself to another of the
/// operator's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// Where the chain is named.
    pub chain_place: Place,
    /// Private key.
    pub key: PathBuf,
    /// Where the key is named.
    pub key_place: Place,
}

/// A further certificate of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// Where the chain is named.
    pub chain_place: Place,
    /// Its private key; `None`: the zone's key servers have it.
    pub key: Option<(PathBuf, Place)>,
    /// An OCSP response of it, in DER.
    pub ocsp: Option<(PathBuf, Place)>,
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
    /// PEM files of revocation lists (RFC 5280 section 5). With one, a certificate on it, and one
    /// whose issuer has no list among them, is refused.
    pub revoked: Vec<(PathBuf, Place)>,
    /// A list whose next update is due is no list.
    pub revoked_must_be_current: bool,
}

/// Who may present a certificate, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientsText {
    pub(super) ca: Spanned<PathBuf>,
    #[serde(default = "yes")]
    pub(super) required: bool,
    #[serde(default)]
    pub(super) revoked: Vec<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) revoked_must_be_current: bool,
}

fn yes() -> bool {
    true
}

/// A further certificate of a zone, as written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct MoreText {
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Option<Spanned<PathBuf>>,
    pub(super) ocsp: Option<Spanned<PathBuf>>,
}

impl Identity {
    /// What the files `chain` and `key` hold.
    pub(super) fn of(chain: (PathBuf, Place), key: (PathBuf, Place)) -> Self {
        Self {
            chain: chain.0,
            chain_place: chain.1,
            key: key.0,
            key_place: key.1,
        }
    }
}

/// All `[[key_server]]`.
pub(super) fn servers(raw: &[Spanned<KeyServerText>], checker: &mut Checker<'_>) -> Vec<KeyServer> {
    let mut servers: Vec<KeyServer> = Vec::with_capacity(raw.len());
    for raw in raw {
        let server = checker.table(raw, KeyServerText::check);
        if servers.iter().any(|other| other.name == server.name) {
            checker.mistake(
                raw.get_ref().name.span(),
                format!("there is a key server \"{}\" already", server.name),
                "give each a name of its own",
            );
        }
        servers.push(server);
    }
    servers
}
