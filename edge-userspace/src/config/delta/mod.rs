//! The near end's part of the file: far ends, and what is held to refer to. `config::far` is the
//! far end's own file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::checker::Checker;
use super::kind::{Bytes, File, Flag, Kind, Maybe, Memory, Must, Name, ServerName, Span, Word};
use super::origin::{Balance, PassiveText, Servers};
use super::section::section;
use super::value::{Size, seconds};
use super::{Identity, OriginHttp, Place, Upstream};

section! {
    /// What all zones with a far end share.
    NodeText => Node {
        /// Bytes of the last versions of resources, of all zones with a far end: docs/delta.md.
        fixed memory: Memory = Size(64 << 20), Size(1 << 20) => Size(1 << 40);
        /// The largest resource of which a version is kept.
        fixed object_bytes: Bytes = Size(16 << 20), Size(64 << 10) => Size(128 << 20);
    }
}

section! {
    /// A far end.
    FarEndText => FarEnd {
        /// Zones name it by this.
        live name: Must<Name<60>> = None; like "paris";
        /// Hold versions that say no-store, in memory and only to make differences of.
        live keep_no_store: Flag = false;
    }
    read {
        /// Its servers, over TLS.
        live servers: Servers = Vec::new(); like [{ address = "https://far.example:8443", weight = 1 }];
        /// The authority of its certificate (PEM).
        live ca: Must<File> = None; like "far-end-ca.pem";
        /// What this node shows to it, leaf first (PEM).
        live certificate: Must<File> = None; like "near-end.pem";
        /// The private key of that.
        live key: Must<File> = None; like "near-end.key";
        /// The name in SNI and certificate. Left out: the address's host.
        live server_name: Maybe<ServerName> = None; like "far.example";
        /// How the next server is chosen: round-robin or least-loaded.
        live balance: Word<Balance> = Balance::RoundRobin;
        /// Connecting; then the zone's origin is asked instead.
        live connect_timeout: Span = seconds(1);
        /// Waiting for the response's head.
        live response_timeout: Span = seconds(60);
        /// Between two pieces of a response's content.
        live body_timeout: Span = seconds(60);
    }
    tables {
        passive: PassiveText,
    }
    checked {
        /// Where it is named.
        place: Place,
        /// Its servers, over mutual TLS and HTTP/2.
        upstream: Arc<Upstream>,
    }
}

/// All `[[far_end]]`.
pub(super) fn far_ends(raw: &[Spanned<FarEndText>], checker: &mut Checker<'_>) -> Vec<FarEnd> {
    let mut names = HashMap::new();
    let mut ends = Vec::with_capacity(raw.len());
    for raw in raw {
        let end = checker.table(raw, far_end);
        if let Some(line) = names.insert(end.name.clone(), end.place.line) {
            checker.mistake(
                raw.get_ref().name.span(),
                format!("far end \"{}\" is already on line {line}", end.name),
                "give each far end a name of its own",
            );
        }
        ends.push(end);
    }
    ends
}

fn far_end(raw: &FarEndText, checker: &mut Checker<'_>) -> FarEnd {
    let mut end = raw.check(checker);
    end.place = checker.place(raw.name.span());
    let servers = Servers::check(&raw.servers, None, checker);
    if servers.is_empty() {
        let mend = "write servers = [{ address = \"https://far.example:8443\" }]";
        checker.mistake(raw.servers.span(), "no server", mend);
    }
    for server in raw.servers.get_ref() {
        if !server.get_ref().address.tls {
            checker.mistake(
                server.span(),
                "a far end without TLS would believe anyone",
                "write https://",
            );
        }
    }
    let mut file = |key: &'static str, raw: &Spanned<Option<std::path::PathBuf>>| {
        checker.at(key, "");
        Must::<File>::check(raw, None, checker)
    };
    let ca = file("ca", &raw.ca);
    let identity = Identity::of(file("certificate", &raw.certificate), file("key", &raw.key));
    let passive = raw.passive.check(checker);
    // A far end answers so for the origins beside it as well: that counts only if the file says it
    // does.
    let written = !raw.passive.status.span().is_empty();
    end.upstream = Arc::new(Upstream {
        servers,
        balance: *raw.balance.get_ref(),
        http: OriginHttp::V2,
        server_name: Maybe::<ServerName>::check(&raw.server_name, None, checker),
        ca: Some(ca),
        identity: Some(identity),
        connect_timeout: raw.connect_timeout.get_ref().0,
        response_timeout: raw.response_timeout.get_ref().0,
        body_timeout: raw.body_timeout.get_ref().0,
        idle_timeout: Duration::from_secs(300),
        connection_requests: None,
        retry_status: Vec::new(),
        passive: passive.after(),
        cooldown: passive.cooldown,
        passive_status: if written { passive.status } else { Vec::new() },
        names_visitor: true,
        ..Upstream::default()
    });
    end
}
