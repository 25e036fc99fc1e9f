//! `[zone.origin]`: where a zone's responses come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::certificate::Identity;
use super::checker::Checker;
use super::kind::{
    Count, Deadline, Directory, Failures, File, Flag, Kind, Maybe, ServerName, Span, Statuses, Text, Unbounded,
    Unlimited, Word, words,
};
use super::section::section;
use super::value::{OriginAddress, Time, seconds};

/// Where a zone's responses come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Origin {
    /// Servers spoken to by HTTP.
    Servers(Arc<Upstream>),
    /// Files below this directory.
    Directory(PathBuf),
    /// Nowhere: the zone's worker, its routes or its rules answer alone.
    #[default]
    None,
}

words! {
    /// How the next server is chosen.
    Balance {
        /// In turn, by weight.
        RoundRobin = "round-robin",
        /// The one with the fewest requests under way for its weight.
        LeastLoaded = "least-loaded",
    }
}

words! {
    /// The version spoken to the origin.
    OriginHttp {
        /// HTTP/1.1.
        V1 = "1.1",
        /// HTTP/2, by prior knowledge without TLS.
        V2 = "2",
        /// By ALPN with TLS, HTTP/1.1 without.
        Auto = "auto",
    }
}

section! {
    /// Servers spoken to by HTTP.
    OriginText => Upstream {
        /// How the next server is chosen: round-robin or least-loaded.
        live balance: Word<Balance> = Balance::RoundRobin;
        /// HTTP towards the origin: "1.1", "2" (by prior knowledge without TLS), "auto" (by ALPN).
        live http: Word<OriginHttp> = OriginHttp::V1;
        /// Send the client's Host; otherwise the server's own name.
        live preserve_host: Flag = true;
        /// With https servers: the name in SNI and certificate. Left out: the address's host.
        live server_name: Maybe<ServerName> = None; like "origin.example.com";
        /// With https servers: the roots to trust instead of the system's (PEM).
        live ca: Maybe<File> = None; like "origin-ca.pem";
        /// Connecting, TLS included.
        live connect_timeout: Span = seconds(5);
        /// Waiting for the response's head.
        live response_timeout: Span = seconds(60);
        /// Between two pieces of a response's content.
        live body_timeout: Span = seconds(60);
        /// How long an idle connection is kept.
        live idle_timeout: Span = seconds(30);
        /// Idle connections per server and thread.
        live idle_connections: Count<usize> = 64;
        /// Connections per server and thread; requests beyond wait, then get 503.
        live connections: Count<usize> = 1_024, 1 => 1 << 20;
        /// A connection takes no new requests after this time (give or take a tenth); 0s: no limit.
        live connection_age: Deadline = seconds(3_600);
        /// A connection takes this many requests; 0: no limit.
        live connection_requests: Unlimited<usize> = 10_000;
        /// Further attempts, at another server if there is one, for requests that may be repeated
        /// (RFC 9110 section 9.2.2).
        live retries: Count<u8> = 1, 0 => 10;
        /// Statuses of a server that make such an attempt at another one.
        live retry_status: Failures = vec![502, 503, 504];
        /// Attempts again of what a server may have seen, in percent of all requests (and ten a
        /// second in any case): servers that are down for their load must not get more of it.
        live retry_budget: Count<u8> = 20, 0 => 100;
        /// Pass WebSocket and other upgrades through.
        live upgrades: Flag = true;
    }
    read {
        /// Servers, each with a weight (default 1). Or `directory`.
        live servers: Servers = Vec::new(); like [{ address = "http://127.0.0.1:8080", weight = 1 }];
        /// Instead of servers: static files.
        live directory: Maybe<Directory> = None; like "www";
    }
    tables {
        passive: PassiveText,
        health: Option<HealthText>,
    }
    checked {
        /// At least one.
        servers: Vec<OriginServer>,
        /// What the edge shows of itself, if it is asked for.
        identity: Option<Identity>,
        /// Failures in a row that take a server out, and for how long; `None`: never.
        passive: Option<(u32, Duration)>,
        /// Statuses that count as failures.
        passive_status: Vec<u16>,
        /// Asking a server for its health.
        health: Option<Health>,
        /// Connect to no address that is private, loopback, link-local or otherwise not of the
        /// public Internet.
        public_only: bool,
        /// It is told of the visitor: `Forwarded`, `X-Forwarded-*`, `X-Request-Id`, `Via`.
        names_visitor: bool,
    }
}

section! {
    /// Learning a server's health from the requests it fails.
    PassiveText => Passive {
        /// This many failures in a row take a server out for `cooldown`; 0: never.
        live failures: Count<u32> = 5, 0 => 1_000_000;
        /// How long it is out.
        live cooldown: Span = seconds(10);
        /// Statuses that count as failures, beside connections that fail and answers that never
        /// come.
        live status: Failures = vec![502, 503, 504];
    }
}

impl Passive {
    /// Failures in a row that take a server out, and for how long; `None`: never.
    pub(super) fn after(&self) -> Option<(u32, Duration)> {
        (self.failures > 0).then_some((self.failures, self.cooldown))
    }
}

section! {
    /// Active health checks.
    HealthText => Health {
        /// Path and query that are asked for.
        live path: Text = "/".to_owned();
        /// The host that is asked for, instead of the server's own name.
        live host: Maybe<Text> = None; like "health.example.com";
        /// Between two checks.
        live interval: Span = seconds(5), Time(Duration::from_millis(100)) => seconds(7 * 86_400);
        /// Of one check.
        live timeout: Span = seconds(2);
        /// Statuses that count as healthy.
        live status: Statuses = vec![200, 204];
        /// Good answers in a row that bring a server back.
        live healthy: Count<u32> = 2, 1 => 1_000;
        /// Bad ones in a row that take it out.
        live unhealthy: Count<u32> = 3, 1 => 1_000;
    }
}

/// One origin server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginServer {
    /// Scheme, host and port.
    pub address: OriginAddress,
    /// Share of the requests, at least 1.
    #[serde(default = "one")]
    pub weight: u16,
}

fn one() -> u16 {
    1
}

/// Servers, each with a weight.
pub(super) struct Servers;

impl Kind for Servers {
    type Written = Vec<Spanned<OriginServer>>;
    type Checked = Vec<OriginServer>;
    type Bound = Unbounded;
    const REQUIRED: bool = true;

    fn text(_: &Self::Written) -> String {
        String::new()
    }

    fn bound(bound: &Unbounded) -> String {
        match *bound {}
    }

    fn check(
        written: &Spanned<Self::Written>,
        _: Option<(Unbounded, Unbounded)>,
        checker: &mut Checker<'_>,
    ) -> Vec<OriginServer> {
        for spanned in written.get_ref() {
            let OriginServer { address, weight } = spanned.get_ref();
            if *weight == 0 {
                checker.mistake(spanned.span(), "weight 0", "write 1 or more, or remove the server");
            }
            if address.tls && rustls::pki_types::ServerName::try_from(address.host.as_str()).is_err() {
                let mend = "write a host name or an address";
                checker.mistake(spanned.span(), "TLS cannot verify this host", mend);
            }
        }
        written
            .get_ref()
            .iter()
            .map(|server| server.get_ref().clone())
            .collect()
    }
}

/// `[zone.origin]` of this zone.
pub(super) fn origin(zone: &Arc<str>, spanned: &Spanned<OriginText>, checker: &mut Checker<'_>) -> Origin {
    let raw = spanned.get_ref();
    if let Some(path) = Maybe::<Directory>::check(&raw.directory, None, checker) {
        if !raw.servers.get_ref().is_empty() {
            checker.mistake(raw.directory.span(), "both `directory` and `servers`", "keep one");
        }
        if !path.is_dir() {
            let what = format!("{} is not a directory", path.display());
            let place = checker.place(raw.directory.span());
            checker
                .faults
                .zone(zone, place.mistake(what, "make it, or name another"));
        }
        return Origin::Directory(path);
    }
    if raw.servers.get_ref().is_empty() {
        checker.mistake(
            spanned.span(),
            "neither `servers` nor `directory`",
            "write servers = [{ address = \"http://127.0.0.1:8080\" }]",
        );
    }
    let mut upstream = raw.check(checker);
    upstream.servers = Servers::check(&raw.servers, None, checker);
    upstream.names_visitor = true;
    let passive = raw.passive.check(checker);
    upstream.passive = passive.after();
    upstream.passive_status = passive.status;
    upstream.health = raw.health.as_ref().map(|raw| health(raw, checker));
    Origin::Servers(Arc::new(upstream))
}

fn health(raw: &HealthText, checker: &mut Checker<'_>) -> Health {
    let health = raw.check(checker);
    if !health.path.starts_with('/') || health.path.parse::<http::uri::PathAndQuery>().is_err() {
        let what = format!("\"{}\" is not a path", health.path);
        checker.mistake(raw.path.span(), what, "write one that starts with /");
    }
    health
}
