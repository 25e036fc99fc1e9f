//! `[zone.origin]`: where a zone's responses come from; and `[[origin]]`: servers that zones and
//! rules share by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::certificate::Identity;
use super::checker::Checker;
use super::gate::SameSite;
use super::kind::{
    Address, Count, Deadline, Directory, Failures, File, Flag, Inline, Kind, List, Maybe, Name, ServerName, Span,
    Statuses, Text, Unbounded, Unlimited, Word, unbounded, words,
};
use super::pool::{HashKey, KEYS};
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
        /// The one that the request's key belongs to.
        Hash = "hash",
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

words! {
    /// How names of fields are written to servers of HTTP/1.1.
    HeaderCase {
        /// In small letters.
        Lower = "lower",
        /// Each word with a capital.
        Title = "title",
    }
}

section! {
    /// Servers spoken to by HTTP.
    OriginText => Upstream {
        /// How the next server is chosen: round-robin, least-loaded, or hash: requests with the
        /// same
        /// `hash` go to the same server as long as it may be asked and has no more than 1.25 times
        /// its share.
        live balance: Word<Balance> = Balance::RoundRobin;
        /// With balance = "hash": what requests are placed by: client, path, header:NAME or
        /// cookie:NAME. Left out: client.
        live hash: Maybe<Placing> = None; like "cookie:session";
        /// How long a server that is new, or back, takes to get its whole share; 0s: none.
        live slow_start: Span = seconds(0), seconds(0) => seconds(86_400);
        /// Begin each connection with a PROXY protocol header (version 2) that names the client. It
        /// then serves one request.
        live proxy_protocol: Flag = false;
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
        /// Name servers that are asked for the servers' names; addresses are used as long as an
        /// answer says then. Left out: the system's resolver, every 10s.
        live resolver: List<Address> = Vec::new(); like ["10.0.0.53:53"];
        /// Pass WebSocket and other upgrades through.
        live upgrades: Flag = true;
        /// An upgraded connection without a byte either way ends. Left out: after `body_timeout`.
        live tunnel_timeout: Maybe<Span> = None; like "1h";
        /// An upgraded connection ends after this time, whatever it carries; 0s: no limit.
        live tunnel_age: Deadline = seconds(0);
        /// Upgraded connections at once; requests for more get 503. 0: no limit.
        live tunnels: Unlimited<usize> = 0;
        /// Names of fields towards servers of HTTP/1.1: "lower", or "title" (Content-Type) for old
        /// ones that know no other.
        live header_case: Word<HeaderCase> = HeaderCase::Lower;
        /// Make gRPC-Web of browsers gRPC for the servers. Needs http = "2" or "auto".
        live grpc_web: Flag = false;
    }
    read {
        /// Servers (http://, https://, or unix: and a socket's path), each with a weight (default
        /// 1) and a priority (default 0): those of a greater one are asked while none of a lesser
        /// one may be; `srv = true`: a service's servers, by the DNS. Or `directory`, or `pool`.
        live servers: Servers = Vec::new(); like [{ address = "http://127.0.0.1:8080", weight = 1, priority = 0 }];
        /// Instead of servers: static files.
        live directory: Maybe<Directory> = None; like "www";
        /// Instead of servers: those of the `[[origin]]` of this name.
        live pool: Maybe<Text> = None; like "shared";
        /// A cookie that leads a client back to the server that it met, as long as nothing speaks
        /// against that one. It is sealed, names no server, and is not sent on to servers; an
        /// answer that sets it is marked private. `max_age`: how long browsers keep it; left out:
        /// until they end.
        live sticky: Inline<Option<StickyText>> = None; like { cookie = "server", same_site = "lax", max_age = "1d" };
        /// A server whose answers begin `factor` times as late as the median of the other servers',
        /// and after `least` (100ms), is out for `cooldown` of `passive`: docs/origins.md.
        live slow: Inline<Option<SlowText>> = None; like { factor = 4, least = "100ms" };
        /// Of `[[origin]]` alone: what zones and rules call it.
        live name: Maybe<Name<64>> = None; like "shared";
        /// What the edge shows of itself to https servers that ask for a certificate (PEM), leaf
        /// first.
        live certificate: Maybe<File> = None; like "edge.pem";
        /// The private key of that.
        live key: Maybe<File> = None; like "edge.key";
    }
    tables {
        passive: PassiveText,
        health: Option<HealthText>,
    }
    checked {
        /// Its name, if zones and rules share it.
        pool: Option<Arc<str>>,
        /// At least one.
        servers: Vec<OriginServer>,
        /// The cookie that leads a client back to its server; `None`: none does.
        sticky: Option<Sticky>,
        /// What the edge shows of itself, if it is asked for.
        identity: Option<Identity>,
        /// Failures in a row that take a server out, and for how long; `None`: never.
        passive: Option<(u32, Duration)>,
        /// Statuses that count as failures.
        passive_status: Vec<u16>,
        /// How long a server is out that has failed, or is slow.
        cooldown: Duration,
        /// When a server is slow; `None`: never.
        slow: Option<Slow>,
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
        /// Instead of `path`: ask by gRPC (grpc.health.v1) whether this service serves; "": the
        /// whole server. Needs http = "2" or "auto".
        live grpc: Maybe<Text> = None; like "shop.Cart";
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

/// When a server is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Times the median of the other servers' means.
    pub factor: u32,
    /// Answers that begin sooner are not slow.
    pub least: Duration,
}

/// The same as it is written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowText {
    factor: Spanned<u32>,
    #[serde(default)]
    least: Option<Time>,
}

fn slow(raw: &SlowText, checker: &mut Checker<'_>) -> Slow {
    let factor = *raw.factor.get_ref();
    if !(2..=1_000).contains(&factor) {
        let what = format!("{factor} times as late as the others is not slow, or never is any");
        checker.mistake(raw.factor.span(), what, "write 2 to 1000");
    }
    Slow {
        factor,
        least: raw.least.map_or(Duration::from_millis(100), |time| time.0),
    }
}

/// A cookie that leads a client back to its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Its name.
    pub cookie: Arc<str>,
    /// With which requests of other sites it is sent.
    pub same_site: SameSite,
    /// How long browsers keep it; `None`: until they end.
    pub max_age: Option<Duration>,
}

/// The same as it is written.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct StickyText {
    cookie: Spanned<String>,
    #[serde(default)]
    same_site: SameSite,
    #[serde(default)]
    max_age: Option<Time>,
}

/// What the gate's own cookies begin with.
const RESERVED: [&str; 2] = ["__Host-edge-", "__Secure-edge-"];

fn sticky(raw: &StickyText, checker: &mut Checker<'_>) -> Sticky {
    let name = raw.cookie.get_ref();
    // A cookie's name is a token (RFC 6265 section 4.1.1), as a field's is.
    let token = http::HeaderName::from_bytes(name.as_bytes()).is_ok() && name.len() <= 64;
    if !token || RESERVED.iter().any(|own| name.starts_with(own)) {
        let what = format!("\"{}\" is not a name for this cookie", name.escape_debug());
        let mend = "write letters, digits, `-` and `_`, at most 64, and not one of the gate's, __Host-edge-…";
        checker.mistake(raw.cookie.span(), what, mend);
    }
    Sticky {
        cookie: name.as_str().into(),
        same_site: raw.same_site,
        max_age: raw.max_age.map(|time| time.0),
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
    /// Servers of a greater one are asked only while none of a lesser one may be.
    #[serde(default)]
    pub priority: u8,
    /// The host is a service (`_http._tcp.example.com`), whose servers and ports are in the DNS
    /// (RFC 2782).
    #[serde(default)]
    pub srv: bool,
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
            let OriginServer {
                address, weight, srv, ..
            } = spanned.get_ref();
            if *srv && (address.socket.is_some() || address.host.parse::<std::net::IpAddr>().is_ok()) {
                let mend = "write a service such as http://_http._tcp.example.com";
                checker.mistake(spanned.span(), "`srv` of an address", mend);
            }
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

unbounded! {
    /// What servers are chosen by.
    Placing: String => HashKey, |text| format!("{text:?}"), |written, checker| {
        match written.get_ref().parse() {
            Ok(key) if key != HashKey::Random => key,
            _ => {
                let what = format!("\"{}\" is not something that servers can be chosen by", written.get_ref());
                checker.mistake(written.span(), what, KEYS);
                HashKey::Client
            }
        }
    }
}

/// `[[origin]]`, by name.
pub(super) type Pools = BTreeMap<Arc<str>, Arc<Upstream>>;

/// The mend for a pool that is not there.
pub(super) fn known_pools(pools: &Pools) -> String {
    if pools.is_empty() {
        return "write an [[origin]] with this name".to_owned();
    }
    let known: Vec<_> = pools.keys().map(|name| format!("\"{name}\"")).collect();
    format!("write {}, or an [[origin]] with this name", known.join(", "))
}

/// All `[[origin]]`.
pub(super) fn pools(raw: &[Spanned<OriginText>], checker: &mut Checker<'_>) -> Pools {
    let mut pools = Pools::new();
    for spanned in raw {
        let text = spanned.get_ref();
        let Some(name) = Maybe::<Name<64>>::check(&text.name, None, checker) else {
            checker.mistake(spanned.span(), "a pool without a name", "write name = \"…\"");
            continue;
        };
        for (span, key) in [
            (
                text.directory.get_ref().is_some().then(|| text.directory.span()),
                "directory",
            ),
            (text.pool.get_ref().is_some().then(|| text.pool.span()), "pool"),
        ] {
            if let Some(span) = span {
                let mend = "write `servers`; `directory` and `pool` are of [zone.origin]";
                checker.mistake(span, format!("`{key}` in a pool"), mend);
            }
        }
        let pool = Upstream {
            pool: Some(name.clone()),
            ..upstream(spanned, checker)
        };
        if pools.insert(name.clone(), Arc::new(pool)).is_some() {
            let what = format!("there is a pool \"{name}\" already");
            checker.mistake(text.name.span(), what, "give each [[origin]] a name of its own");
        }
    }
    pools
}

/// `[zone.origin]` of this zone.
pub(super) fn origin(
    zone: &Arc<str>,
    spanned: &Spanned<OriginText>,
    pools: &Pools,
    checker: &mut Checker<'_>,
) -> Origin {
    let raw = spanned.get_ref();
    if let Some(name) = raw.pool.get_ref() {
        return pool(raw, name, pools, checker);
    }
    if raw.name.get_ref().is_some() {
        let what = "`name` is of pools, and this is the zone's own origin";
        let mend = "leave it out; a pool with a name is an [[origin]] of its own";
        checker.mistake(raw.name.span(), what, mend);
    }
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
    Origin::Servers(Arc::new(upstream(spanned, checker)))
}

/// The pool that `[zone.origin] pool` names.
fn pool(raw: &OriginText, name: &str, pools: &Pools, checker: &mut Checker<'_>) -> Origin {
    let alone = OriginText {
        pool: raw.pool.clone(),
        ..OriginText::default()
    };
    if *raw != alone {
        let mend = "write the other keys into the [[origin]] of that name";
        checker.mistake(raw.pool.span(), "`pool` beside other keys", mend);
    }
    if let Some(pool) = pools.get(name) {
        return Origin::Servers(pool.clone());
    }
    checker.mistake(
        raw.pool.span(),
        format!("no pool is called \"{name}\""),
        known_pools(pools),
    );
    Origin::None
}

/// The servers, and how they are asked.
fn upstream(spanned: &Spanned<OriginText>, checker: &mut Checker<'_>) -> Upstream {
    let raw = spanned.get_ref();
    if raw.servers.get_ref().is_empty() {
        checker.mistake(
            spanned.span(),
            "neither `servers` nor `directory` nor `pool`",
            "write servers = [{ address = \"http://127.0.0.1:8080\" }]",
        );
    }
    let mut upstream = raw.check(checker);
    upstream.servers = Servers::check(&raw.servers, None, checker);
    upstream.identity = identity(raw, checker);
    upstream.names_visitor = true;
    let passive = raw.passive.check(checker);
    upstream.passive = passive.after();
    upstream.cooldown = passive.cooldown;
    upstream.passive_status = passive.status;
    upstream.slow = raw.slow.get_ref().as_ref().map(|raw| slow(raw, checker));
    upstream.health = raw.health.as_ref().map(|text| health(text, upstream.http, checker));
    if upstream.grpc_web && upstream.http == OriginHttp::V1 {
        let mend = "write http = \"2\" (without TLS) or \"auto\"";
        checker.mistake(raw.grpc_web.span(), "gRPC is spoken over HTTP/2 alone", mend);
    }
    placing(&mut upstream, raw, checker);
    upstream.sticky = raw.sticky.get_ref().as_ref().map(|raw| sticky(raw, checker));
    if upstream.proxy_protocol {
        if upstream.http != OriginHttp::V1 {
            checker.mistake(
                raw.proxy_protocol.span(),
                "a PROXY protocol header names one client, and HTTP/2 connections carry the requests of many",
                "leave `http` at \"1.1\"",
            );
        }
        upstream.connection_requests = Some(1);
    }
    upstream
}

/// Servers of one group that requests are hashed to: its table has at least 65 places for each.
const HASHED: usize = 1_000;

/// What requests are placed by, if they are.
fn placing(upstream: &mut Upstream, raw: &OriginText, checker: &mut Checker<'_>) {
    let hashes = upstream.balance == Balance::Hash;
    if !hashes && upstream.hash.is_some() {
        let mend = "write balance = \"hash\"";
        checker.mistake(raw.hash.span(), "`hash` without `balance`", mend);
    }
    if hashes && upstream.hash.is_none() {
        upstream.hash = Some(HashKey::Client);
    }
    if hashes && upstream.servers.len() > HASHED {
        let what = format!("{} servers to hash to", upstream.servers.len());
        checker.mistake(raw.balance.span(), what, format!("write at most {HASHED}"));
    }
}

/// What the edge shows of itself to servers that ask.
fn identity(raw: &OriginText, checker: &mut Checker<'_>) -> Option<Identity> {
    let chain = Maybe::<File>::check(&raw.certificate, None, checker);
    let key = Maybe::<File>::check(&raw.key, None, checker);
    let lonely = match (chain, key) {
        (Some(chain), Some(key)) => return Some(Identity::of(chain, key)),
        (None, None) => return None,
        (Some(_), None) => raw.certificate.span(),
        (None, Some(_)) => raw.key.span(),
    };
    let what = "a certificate needs its key, and a key its certificate";
    checker.mistake(lonely, what, "write both");
    None
}

fn health(raw: &HealthText, http: OriginHttp, checker: &mut Checker<'_>) -> Health {
    let health = raw.check(checker);
    if health.grpc.as_ref().is_some_and(|service| service.len() > 256) {
        checker.mistake(
            raw.grpc.span(),
            "too long for the name of a service",
            "write at most 256 bytes",
        );
    }
    if health.grpc.is_some() && http == OriginHttp::V1 {
        let mend = "write http = \"2\" (without TLS) or \"auto\" into the origin";
        checker.mistake(raw.grpc.span(), "gRPC is spoken over HTTP/2 alone", mend);
    }
    if !health.path.starts_with('/') || health.path.parse::<http::uri::PathAndQuery>().is_err() {
        let what = format!("\"{}\" is not a path", health.path);
        checker.mistake(raw.path.span(), what, "write one that starts with /");
    }
    health
}
