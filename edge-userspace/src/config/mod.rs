//! The file, checked once: `raw` is what was written, this is what the rooms are built from. Parse low, build high.

pub mod acme;
pub mod cache;
mod check;
mod checker;
pub mod client_address;
pub mod coding;
pub mod delta;
pub mod far;
pub mod fleet;
pub mod gate;
pub mod isolate;
mod keys;
#[cfg(feature = "keyserver")]
pub mod keyserver;
mod mistake;
mod raw;
pub mod reference;
pub mod requests;
pub mod rule;
mod section;
#[cfg(test)]
mod tests;
mod text;
pub mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use keys::{Clients, Key, KeyExchange, KeyServer};
pub use mistake::{Faults, Mistake, Mistakes, Place};
pub use raw::{Balance, LockdownMode, LogFormat, OriginHttp, TlsVersion, XdpMode, ZonesFail};
use section::{Bytes, Count, Deadline, Limit, Memory, Span, Unlimited, Word, section};
use value::{AdminAddress, HostPattern, OriginAddress, Size, Time};

/// The commented defaults, for `edge check --print-defaults`: a template, with the sections that are declared in place of its
/// marks.
pub fn defaults() -> String {
    let declared = [
        ("[acme]", acme::NodeText::entries()),
        ("[quic]", QuicText::entries()),
        ("[limits]", LimitsText::entries()),
        ("[delta]", delta::NodeText::entries()),
        ("[cache]", cache::NodeText::entries()),
        ("[coding]", coding::NodeText::entries()),
        ("[zone.cache]", cache::CacheText::entries()),
    ];
    let mut text = include_str!("defaults.toml").to_owned();
    for (header, entries) in declared {
        text = text.replace(&format!("#@{header}\n"), &section::printed(header, &entries));
    }
    text
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners and workers.
    pub server: Server,
    /// XDP.
    pub dataplane: Dataplane,
    /// TLS towards clients.
    pub tls: Tls,
    /// QUIC.
    pub quic: Quic,
    /// Bounds towards clients.
    pub limits: Arc<Limits>,
    /// The admin endpoint.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// What all zones with certificates by ACME share.
    pub acme: acme::Node,
    /// What all gates share.
    pub gate: gate::Node,
    /// What is held to make differences of.
    pub delta: delta::Node,
    /// Far ends, in the file's order.
    pub far_ends: Vec<delta::FarEnd>,
    /// What all caches share.
    pub cache: cache::Node,
    /// What content coding shares.
    pub coding: coding::Node,
    /// What all workers share.
    pub isolate: isolate::Node,
    /// The fleet that the node belongs to, which its zones come from; `None`: none.
    pub fleet: Option<fleet::Fleet>,
    /// Where private keys are that are not here.
    pub key_servers: Vec<KeyServer>,
    /// Tenants, in the file's order; at least one.
    pub zones: Vec<Zone>,
    /// Where the networks to deny are written.
    pub lists_place: Place,
    /// Mistakes in what single zones name: directories and secrets that are not there.
    pub faults: Faults,
    /// What works, but not as the operator will have meant it.
    pub warnings: Vec<Mistake>,
}

/// Listeners and workers.
#[derive(Clone, Debug)]
pub struct Server {
    /// TLS listeners.
    pub https: Vec<SocketAddr>,
    /// Plain listeners that redirect.
    pub http: Vec<SocketAddr>,
    /// Plain listeners that serve.
    pub plain: Vec<SocketAddr>,
    /// Who may ask on them beside this machine.
    pub plain_from: Vec<IpNet>,
    /// The port written into redirects.
    pub redirect_port: u16,
    /// The port of HTTP/3 in `Alt-Svc`; `None`: that of the listener the client came to. 0: no `Alt-Svc`.
    pub alt_svc_port: Option<u16>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Peers that speak the PROXY protocol.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Proxies that name their clients; `None`: each peer is its own client.
    pub client_address: Option<Arc<client_address::ClientAddress>>,
    /// How long draining may take.
    pub drain: Duration,
    /// HTTP/3 on the UDP ports of `https`.
    pub http3: bool,
    /// Whether a zone that cannot be prepared stops the others.
    pub zones_fail: ZonesFail,
}

impl Server {
    /// The networks of proxies that name their clients.
    pub fn trusted(&self) -> &[IpNet] {
        self.client_address.as_deref().map_or(&[], |rule| &rule.trusted)
    }

    /// Listeners that other machines reach: all but plain ones of loopback.
    pub fn reachable(&self) -> impl Iterator<Item = &SocketAddr> {
        let plain = self.plain.iter().filter(|address| !address.ip().is_loopback());
        self.https.iter().chain(&self.http).chain(plain)
    }
}

/// XDP. Ports are those of `Server`.
#[derive(Clone, Debug)]
pub struct Dataplane {
    /// Interface names, each once.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: XdpMode,
    /// Where maps and links are pinned.
    pub pin_directory: PathBuf,
    /// TCP ports whose attempts are judged.
    pub tcp_ports: Vec<u16>,
    /// UDP ports whose attempts are judged.
    pub udp_ports: Vec<u16>,
    /// Addresses that attempts are judged on: those of the listeners. A wildcard is all of the machine's of that IP version.
    pub addresses: Vec<IpAddr>,
    /// Networks that always pass.
    pub allow: Vec<IpNet>,
    /// Networks that are dropped.
    pub deny: Vec<IpNet>,
    /// Capacity of the deny list.
    pub deny_entries: u32,
    /// Where networks denied at run time outlive a reboot.
    pub state_directory: Option<PathBuf>,
    /// Penalties that the kernel holds at most: addresses, and as many clients.
    pub penalty_entries: u32,
    /// In lockdown SYNs are answered with SYN cookies, which takes changes of the system's settings.
    pub syn_cookies: bool,
    /// One in so many drops is logged; 0 none.
    pub event_sample: u32,
}

impl Dataplane {
    /// Without interfaces, listeners and lists.
    pub fn none() -> Self {
        Self {
            interfaces: Vec::new(),
            mode: XdpMode::Off,
            pin_directory: PathBuf::from("/sys/fs/bpf/edge"),
            tcp_ports: Vec::new(),
            udp_ports: Vec::new(),
            addresses: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            deny_entries: 16,
            state_directory: None,
            penalty_entries: 1024,
            syn_cookies: false,
            event_sample: 0,
        }
    }
}

/// TLS towards clients.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// How long a session ticket is good for, if the tokens' keys are kept so long.
    pub ticket_rotation: Duration,
    /// A session ticket is good at other addresses than the one it was given to.
    pub ticket_roaming: bool,
    /// From the accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// At a far end: the authority of the certificates that near ends must show; HTTP/2 alone is spoken then.
    pub near_ends: Option<(PathBuf, Place)>,
    /// All that one handshake asks of key servers.
    pub key_server_timeout: Duration,
    /// Handshakes that may wait for key servers.
    pub waiting: usize,
    /// Those of one IPv4 address or IPv6 /64.
    pub waiting_per_address: usize,
}

section! {
    /// When attempts that prove nothing get a Retry: see `quic::lockdown`.
    QuicText => Quic {
        /// Lockdown: QUIC attempts that prove nothing are answered with a Retry, by XDP if it runs, and TCP SYNs by XDP with a
        /// SYN cookie. auto: by the rate of such attempts of both; on; off. `edge lockdown` changes it on a running node. See
        /// docs/xdp.md.
        live lockdown: Word<LockdownMode> = LockdownMode::Auto;
        /// It starts above this many per second.
        live lockdown_above: Count<u32> = 2_000, 1 => 10_000_000;
        /// It ends after the rate stayed under this many per second for `lockdown_hold`.
        live lockdown_below: Count<u32> = 500, 1 => 10_000_000;
        /// How long that must have been so.
        live lockdown_hold: Span = seconds(30);
    }
}

section! {
    /// Bounds on what clients can make the edge hold.
    LimitsText => Limits {
        /// Client connections in all.
        live connections: Count<usize> = 65_536, 1 => 16 << 20;
        /// Client connections of one IPv4 address or IPv6 /64.
        live connections_per_address: Count<usize> = 1_024, 1 => 16 << 20;
        /// Memory that is held for clients (connections, heads, content on its way, QUIC's send buffers, …), in all: docs/limits.md. 0B:
        /// half of what the machine or its control group has; then it is what that comes to. Beyond half of it, no client and no
        /// zone gets more than its equal part.
        live memory: Bytes = Size(0);
        /// The same for one IPv4 address or IPv6 /64, at most `memory`; 0B: no bound of its own.
        live memory_per_address: Bytes = Size(128 << 20);
        /// Bytes of a message head. Beyond: 431.
        live header_bytes: Memory = Size(32 << 10), Size(8 << 10) => Size(1 << 20);
        /// Fields of a message head. Beyond: 431.
        live header_count: Count<usize> = 100, 8 => 4_096;
        /// Bytes of a request's content; 0B: no limit. Beyond: 413. A zone may set its own.
        live body_bytes: Limit = Size(0);
        /// Reading a head, from its first byte to its last.
        live header_timeout: Span = seconds(10);
        /// Between two pieces of a request's content, while no piece of the response moves either. A zone may set its own.
        live body_timeout: Span = seconds(30);
        /// Between two pieces of a response that a client takes.
        live write_timeout: Span = seconds(60);
        /// A whole request, from its head to the last byte of the response; 0s: no limit. A zone may set its own.
        live request_timeout: Deadline = seconds(0);
        /// A connection without a request.
        live idle_timeout: Span = seconds(75);
        /// Requests on one connection before it is ended in good order; 0: no limit.
        live requests_per_connection: Unlimited = 10_000;
        /// HTTP/2 and HTTP/3: streams at once.
        live streams_per_connection: Count<u32> = 128, 1 => 65_536;
        /// HTTP/2: streams reset early before the connection is ended (CVE-2023-44487).
        live resets_per_connection: Count<usize> = 100, 1 => 65_536;
    }
}

const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

/// The admin endpoint.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens for commands, and for those who read.
    pub listen: AdminAddress,
    /// Where it answers those who read, and takes no commands; `None`: nowhere else.
    pub read: Option<SocketAddr>,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A `tracing_subscriber::EnvFilter` directive list, checked.
    pub level: String,
    /// One access line per so many requests; `None`: no access log.
    pub access_sample: Option<u32>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Unique name; letters, digits, `-`, `_`, `.`; at most 64.
    pub name: Arc<str>,
    /// Where it is named.
    pub place: Place,
    /// What the file says of it, to tell whether a reload changes that.
    pub written: Written,
    /// Its hosts, none of another zone's.
    pub hosts: Vec<HostPattern>,
    /// Serves clients that name no host of any zone.
    pub default: bool,
    /// Its certificate, where there are TLS listeners.
    pub certificate: Option<Certificate>,
    /// How it is ordered by ACME; `None`: it is not.
    pub acme: Option<acme::Acme>,
    /// Safe requests over HTTP/3 are served before the handshake is over.
    pub early_data: bool,
    /// The oldest version of TLS spoken; `None`: as `Tls` says.
    pub min_version: Option<TlsVersion>,
    /// Bytes of a request's content; `None`: no limit.
    pub body_bytes: Option<u64>,
    /// Between two pieces of a request's content.
    pub body_timeout: Duration,
    /// A whole request; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// What of a request goes on.
    pub requests: Arc<requests::Requests>,
    /// Who is let in; `None`: everybody.
    pub gate: Option<Arc<gate::Gate>>,
    /// The name of the far end that answers by differences; `None`: none does.
    pub delta: Option<Arc<str>>,
    /// What is stored of its responses; `None`: nothing.
    pub cache: Option<Arc<cache::Cache>>,
    /// How its responses are coded for clients; `None`: as they come.
    pub coding: Option<Arc<coding::Coding>>,
    /// Code that answers; `None`: none.
    pub worker: Option<Arc<isolate::Worker>>,
    /// Which requests go where; what matches none goes to the origin.
    pub routes: Vec<isolate::Route>,
    /// What is done with its requests before they are routed; `None`: nothing.
    pub rules: Option<Arc<rule::Rules>>,
    /// Where its responses come from.
    pub origin: Origin,
}

/// A zone as the file has it. Equal to another if they say the same, wherever they stand and whatever the files they name hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written(Option<Arc<raw::Zone>>);

/// A certificate: PEM files and the way to its key, with their places for errors of the room that loads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// Chain, leaf first.
    pub chain: PathBuf,
    /// Where the chain is named.
    pub chain_place: Place,
    /// Its private key.
    pub key: Key,
    /// An ACME client of this node writes chain and key: until it has, a stand-in is shown.
    pub issued: bool,
    /// Others that are shown to clients that do not take this one's kind of signature, in this order.
    pub more: Vec<Identity>,
    /// Certificates of clients; `None`: none is asked for.
    pub clients: Option<Clients>,
    /// Where it says that clients are let in that know no key exchange but RSA's; `None`: they are not.
    pub legacy_rsa: Option<Place>,
}

/// A certificate with its key beside it, that a process shows of itself to another of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Where a zone's responses come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Servers spoken to by HTTP.
    Servers(Arc<Upstream>),
    /// Files below this directory.
    Directory(PathBuf),
    /// Nowhere: the zone's worker answers alone.
    None,
}

/// Servers spoken to by HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// At least one.
    pub servers: Vec<OriginServer>,
    /// How the next is chosen.
    pub balance: Balance,
    /// The version spoken.
    pub http: OriginHttp,
    /// Send the client's Host.
    pub preserve_host: bool,
    /// Name in SNI and certificate instead of the address's host.
    pub server_name: Option<String>,
    /// Roots to trust instead of the system's.
    pub ca: Option<(PathBuf, Place)>,
    /// What the edge shows of itself, where it is asked for.
    pub identity: Option<Identity>,
    /// Connecting, TLS included.
    pub connect_timeout: Duration,
    /// Waiting for the response's head.
    pub response_timeout: Duration,
    /// Between two pieces of a response's content.
    pub body_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Idle connections per server and worker.
    pub idle_connections: usize,
    /// Connections per server and worker, at least 1.
    pub connections: usize,
    /// How long a connection takes new requests; `None`: for ever.
    pub connection_age: Option<Duration>,
    /// How many requests it takes; `None`: any number.
    pub connection_requests: Option<usize>,
    /// Further attempts for requests that may be repeated.
    pub retries: u8,
    /// Statuses that are asked for again elsewhere.
    pub retry_status: Vec<u16>,
    /// Retries of requests that a server may have seen, in percent of all requests.
    pub retry_budget: u8,
    /// Pass upgrades through.
    pub upgrades: bool,
    /// Failures in a row that take a server out, and for how long; `None`: never.
    pub passive: Option<(u32, Duration)>,
    /// Statuses that count as failures.
    pub passive_status: Vec<u16>,
    /// Asking a server for its health.
    pub health: Option<Health>,
    /// Connect to no address that is private, loopback, link-local or otherwise not of the public Internet.
    pub public_only: bool,
    /// It is told of the visitor: `Forwarded`, `X-Forwarded-*`, `X-Request-Id`, `Via`.
    pub names_visitor: bool,
}

/// One origin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginServer {
    /// Scheme, host and port.
    pub address: OriginAddress,
    /// Share of the requests, at least 1.
    pub weight: u16,
}

/// Active health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path and query, in origin form.
    pub path: String,
    /// Host instead of the server's own name.
    pub host: Option<String>,
    /// Between two checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Statuses that count as healthy.
    pub status: Vec<u16>,
    /// Good answers in a row that bring a server back.
    pub healthy: u32,
    /// Bad ones in a row that take it out.
    pub unhealthy: u32,
}

impl Config {
    /// Reads and checks `file` and what it includes. Of what they name, directories are looked for and workers' secrets read; certificates are loaded by the room `tls`.
    ///
    /// # Errors
    /// Every mistake that was found: of the syntax the first, of the checks all.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        Self::read_with(file, fleet::Release::Current)
    }

    /// The same with another manifest of the node's fleet than the one in force; of a node without a fleet it is the same.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_with(file: &Path, release: fleet::Release<'_>) -> Result<Self, Mistakes> {
        let own = text::all(file, "edge check --print-defaults > edge.toml")?;
        let text::Text { text, included } = fleet::join(file, own, release)?;
        Self::checked(&mistake::Source {
            file,
            text: &text,
            included: &included,
        })
    }

    /// Checks `text`, naming `file` in errors and taking paths relative to its directory. Nothing is included.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        Self::checked(&mistake::Source {
            file,
            text,
            included: &[],
        })
    }

    fn checked(source: &mistake::Source<'_>) -> Result<Self, Mistakes> {
        let raw = toml::from_str::<raw::Raw>(source.text).map_err(|e| Mistakes(vec![source.toml_mistake(&e)]))?;
        check::check(raw, source)
    }
}
