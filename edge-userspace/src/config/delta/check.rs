//! From the raw form of `[delta]` and `[[far_end]]` to the checked one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::{FarEnd, Node, raw};
use crate::config::mistake::{Mistake, Source};
use crate::config::value::Size;
use crate::config::{Identity, OriginHttp, OriginServer, Upstream};

struct Checker<'a> {
    source: &'a Source<'a>,
    mistakes: Vec<Mistake>,
}

/// `[delta]`, and what is wrong with it.
pub(in crate::config) fn node(raw: &raw::Node, source: &Source<'_>) -> (Node, Vec<Mistake>) {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    let node = Node {
        memory: usize::try_from(checker.size(&raw.memory, 1 << 20, 1 << 40, "1MiB to 1024GiB")).unwrap_or(usize::MAX),
        object_bytes: checker.size(&raw.object_bytes, 64 << 10, 128 << 20, "64KiB to 128MiB"),
    };
    (node, checker.mistakes)
}

/// All `[[far_end]]`, and what is wrong with them.
pub(in crate::config) fn far_ends(raw: &[Spanned<raw::FarEnd>], source: &Source<'_>) -> (Vec<FarEnd>, Vec<Mistake>) {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    let mut names = HashMap::new();
    let ends = raw
        .iter()
        .map(|end| checker.far_end(end.get_ref(), &mut names))
        .collect();
    (ends, checker.mistakes)
}

impl Checker<'_> {
    fn mistake(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(self.source.place(span).mistake(what, mend));
    }

    fn size(&mut self, value: &Spanned<Size>, least: u64, most: u64, mend: &str) -> u64 {
        let size = value.get_ref().0;
        if !(least..=most).contains(&size) {
            self.mistake(value.span(), "out of bounds", format!("write {mend}"));
        }
        size
    }

    fn far_end(&mut self, raw: &raw::FarEnd, names: &mut HashMap<String, usize>) -> FarEnd {
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
