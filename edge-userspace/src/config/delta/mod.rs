//! The near end's part of the file: far ends, and what is held to refer to. `config::far` is the far end's own file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::raw::{Balance, OriginServer as ServerText, Passive};
use super::section::{Bytes, Memory, section};
use super::value::{Size, Time};
use super::{Identity, OriginHttp, OriginServer, Place, Upstream};

section! {
    /// What all zones with a far end share.
    NodeText => Node {
        /// Bytes of the last versions of resources, of all zones with a far end: docs/delta.md.
        fixed memory: Memory = Size(64 << 20), Size(1 << 20) => Size(1 << 40);
        /// The largest resource of which a version is kept.
        fixed object_bytes: Bytes = Size(16 << 20), Size(64 << 10) => Size(128 << 20);
    }
}

const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

/// A far end.
#[derive(Clone, Debug, PartialEq)]
pub struct FarEnd {
    /// Zones name it by this.
    pub name: Arc<str>,
    /// Where it is named.
    pub place: Place,
    /// Its servers, over mutual TLS and HTTP/2.
    pub upstream: Arc<Upstream>,
    /// Versions that say `no-store` may be held in memory, only to refer to.
    pub keep_no_store: bool,
}

/// `[[far_end]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FarEndText {
    name: Spanned<String>,
    servers: Spanned<Vec<Spanned<ServerText>>>,
    ca: Spanned<PathBuf>,
    certificate: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
    #[serde(default)]
    server_name: Option<Spanned<String>>,
    #[serde(default = "round_robin")]
    balance: Balance,
    #[serde(default = "second")]
    connect_timeout: Time,
    #[serde(default = "minute")]
    response_timeout: Time,
    #[serde(default = "minute")]
    body_timeout: Time,
    #[serde(default)]
    passive: Passive,
    #[serde(default)]
    keep_no_store: bool,
}

fn round_robin() -> Balance {
    Balance::RoundRobin
}

fn second() -> Time {
    seconds(1)
}

fn minute() -> Time {
    seconds(60)
}

/// All `[[far_end]]`.
pub(super) fn far_ends(raw: &[Spanned<FarEndText>], checker: &mut Checker<'_>) -> Vec<FarEnd> {
    let mut names = HashMap::new();
    raw.iter()
        .map(|end| checker.far_end(end.get_ref(), &mut names))
        .collect()
}

impl Checker<'_> {
    fn far_end(&mut self, raw: &FarEndText, names: &mut HashMap<String, usize>) -> FarEnd {
        let name = raw.name.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 60 || !name.bytes().all(sound) {
            self.mistake(
                raw.name.span(),
                format!("\"{name}\" is no name"),
                "write letters, digits, `-`, `_`, `.`, at most 60",
            );
        }
        if let Some(line) = names.insert(name.clone(), self.source.place(raw.name.span()).line) {
            self.mistake(
                raw.name.span(),
                format!("far end \"{name}\" is already on line {line}"),
                "give each far end a name of its own",
            );
        }
        if raw.servers.get_ref().is_empty() {
            self.mistake(
                raw.servers.span(),
                "no server",
                "write servers = [{ address = \"https://far.example:8443\" }]",
            );
        }
        let mut servers = Vec::new();
        for server in raw.servers.get_ref() {
            let (address, weight) = (server.get_ref().address.clone(), server.get_ref().weight);
            if !address.tls {
                self.mistake(
                    server.span(),
                    "a far end without TLS would believe anyone",
                    "write https://",
                );
            }
            if weight == 0 {
                self.mistake(server.span(), "weight 0", "write 1 or more, or remove the server");
            }
            servers.push(OriginServer { address, weight });
        }
        if let Some(name) = &raw.server_name
            && rustls::pki_types::ServerName::try_from(name.get_ref().as_str()).is_err()
        {
            let what = format!("\"{}\" is no server name", name.get_ref());
            self.mistake(name.span(), what, "write a host name or an address");
        }
        let failures = *raw.passive.failures.get_ref();
        // A far end answers so for the origins behind it as well: that counts only if the file says it does.
        let status = &raw.passive.status;
        let passive_status = if status.span().is_empty() {
            Vec::new()
        } else {
            status.get_ref().clone()
        };
        FarEnd {
            name: name.as_str().into(),
            place: self.source.place(raw.name.span()),
            keep_no_store: raw.keep_no_store,
            upstream: Arc::new(Upstream {
                servers,
                balance: raw.balance,
                http: OriginHttp::V2,
                preserve_host: true,
                server_name: raw.server_name.as_ref().map(|name| name.get_ref().clone()),
                ca: Some((self.source.path(&raw.ca), self.source.place(raw.ca.span()))),
                identity: Some(Identity {
                    chain: self.source.path(&raw.certificate),
                    chain_place: self.source.place(raw.certificate.span()),
                    key: self.source.path(&raw.key),
                    key_place: self.source.place(raw.key.span()),
                }),
                connect_timeout: raw.connect_timeout.0,
                response_timeout: raw.response_timeout.0,
                body_timeout: raw.body_timeout.0,
                idle_timeout: Duration::from_secs(300),
                idle_connections: 64,
                connections: 1_024,
                connection_age: Some(Duration::from_secs(3_600)),
                connection_requests: None,
                retries: 1,
                retry_status: Vec::new(),
                retry_budget: 20,
                public_only: false,
                names_visitor: true,
                upgrades: true,
                passive: (failures > 0).then_some((failures, raw.passive.cooldown.0)),
                passive_status,
                health: None,
            }),
        }
    }
}
