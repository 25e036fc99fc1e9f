//! The file's raw form, key by key, with the defaults of each. `defaults.toml` says what the keys mean; a test holds the
//! two together. Checked into the rooms' own configurations by `check`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::value::{AdminAddress, HostPattern, Network, OriginAddress, Size, Time};

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    /// Read before by `text`.
    pub(super) include: Vec<Spanned<String>>,
    pub(super) server: Server,
    pub(super) dataplane: Dataplane,
    pub(super) tls: Tls,
    pub(super) acme: super::acme::NodeText,
    pub(super) quic: super::QuicText,
    pub(super) limits: super::LimitsText,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) gate: super::gate::raw::Node,
    pub(super) delta: super::delta::NodeText,
    pub(super) far_end: Vec<Spanned<super::delta::FarEndText>>,
    pub(super) cache: super::cache::NodeText,
    pub(super) coding: super::coding::NodeText,
    pub(super) isolate: super::isolate::raw::Node,
    pub(super) fleet: Option<Spanned<super::fleet::Raw>>,
    pub(super) key_server: Vec<Spanned<super::keys::RawServer>>,
    pub(super) zone: Vec<Spanned<Zone>>,
}

/// Declares a section of scalars with its defaults in one place.
macro_rules! scalars {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, PartialEq)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name { $(pub(super) $key: $type,)* }
        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}
#[cfg(feature = "keyserver")]
pub(super) use scalars;

const fn seconds(n: u64) -> Time {
    Time(Duration::from_secs(n))
}

scalars! {
    /// Listeners and workers.
    Server {
        https: Spanned<Vec<SocketAddr>> = Spanned::new(0..0, Vec::new()),
        http: Spanned<Vec<SocketAddr>> = Spanned::new(0..0, Vec::new()),
        plain: Spanned<Vec<SocketAddr>> = Spanned::new(0..0, Vec::new()),
        http3: bool = true,
        redirect_port: Option<u16> = None,
        alt_svc_port: Option<u16> = None,
        workers: Spanned<usize> = Spanned::new(0..0, 0),
        plain_from: Vec<Network> = Vec::new(),
        proxy_protocol_from: Vec<Network> = Vec::new(),
        client_address: Option<super::client_address::RawClientAddress> = None,
        drain: Time = seconds(30),
        zones_fail: ZonesFail = ZonesFail::Alone,
    }
}

/// Whether a zone that cannot be prepared stops the others.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ZonesFail {
    /// The others are served; it keeps what served it before, or is refused.
    Alone,
    /// Nothing starts, and no reload is taken.
    Together,
}

scalars! {
    /// XDP.
    Dataplane {
        interfaces: Vec<String> = Vec::new(),
        xdp: XdpMode = XdpMode::Auto,
        pin_directory: PathBuf = PathBuf::from("/sys/fs/bpf/edge"),
        allow: Vec<Network> = Vec::new(),
        deny: Spanned<Vec<Network>> = Spanned::new(0..0, Vec::new()),
        deny_entries: Spanned<u32> = Spanned::new(0..0, 262_144),
        state_directory: Option<Spanned<PathBuf>> = None,
        penalty_entries: Spanned<u32> = Spanned::new(0..0, 131_072),
        syn_cookies: bool = true,
        event_sample: u32 = 1_000,
    }
}

/// How to attach.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native, else generic with a warning.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack, on any interface.
    Generic,
    /// Without XDP.
    Off,
}

scalars! {
    /// TLS towards clients.
    Tls {
        min_version: TlsVersion = TlsVersion::V1_2,
        ticket_rotation: Spanned<Time> = Spanned::new(0..0, seconds(6 * 3600)),
        ticket_roaming: bool = false,
        handshake_timeout: Time = seconds(10),
        key_server_timeout: Spanned<Time> = Spanned::new(0..0, seconds(3)),
        handshakes_waiting: Spanned<usize> = Spanned::new(0..0, 16_384),
        handshakes_waiting_per_address: Spanned<usize> = Spanned::new(0..0, 512),
    }
}

/// The oldest version spoken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

impl super::section::Words for LockdownMode {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// Whether attempts that prove nothing get a Retry.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockdownMode {
    /// By their rate.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

scalars! {
    /// The admin endpoint.
    Admin {
        listen: Option<Spanned<AdminAddress>> = None,
        read: Option<Spanned<SocketAddr>> = None,
        remote: bool = false,
    }
}

scalars! {
    /// Logs.
    Log {
        format: LogFormat = LogFormat::Auto,
        level: Spanned<String> = Spanned::new(0..0, "info".to_owned()),
        access: bool = true,
        access_sample: Spanned<u32> = Spanned::new(0..0, 1),
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For eyes.
    Human,
    /// One object a line.
    Json,
}

/// A tenant.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Zone {
    pub(super) name: Spanned<String>,
    pub(super) hosts: Spanned<Vec<Spanned<HostPattern>>>,
    #[serde(default)]
    pub(super) default: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) certificate: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) key: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) key_servers: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(super) key_exchange: Option<Spanned<super::keys::KeyExchange>>,
    #[serde(default)]
    pub(super) acme: Option<Spanned<super::acme::ZoneText>>,
    #[serde(default)]
    pub(super) more_certificates: Vec<super::keys::RawCertificate>,
    #[serde(default)]
    pub(super) client_certificates: Option<super::keys::RawClients>,
    #[serde(default)]
    pub(super) legacy_rsa: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) early_data: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) min_version: Option<TlsVersion>,
    #[serde(default)]
    pub(super) body_bytes: Option<Size>,
    #[serde(default)]
    pub(super) body_timeout: Option<Time>,
    #[serde(default)]
    pub(super) request_timeout: Option<Time>,
    #[serde(default)]
    pub(super) requests: super::requests::Requests,
    #[serde(default)]
    pub(super) gate: Option<super::gate::raw::Gate>,
    #[serde(default)]
    pub(super) delta: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) cache: Option<super::cache::CacheText>,
    #[serde(default)]
    pub(super) coding: Option<super::coding::CodingText>,
    #[serde(default)]
    pub(super) dictionary: Vec<Spanned<super::coding::DictionaryText>>,
    #[serde(default)]
    pub(super) worker: Option<super::isolate::raw::Worker>,
    #[serde(default)]
    pub(super) route: Vec<Spanned<super::isolate::raw::Route>>,
    #[serde(default)]
    pub(super) rule: Vec<Spanned<super::rule::file::RawRule>>,
    #[serde(default)]
    pub(super) origin: Option<Spanned<Origin>>,
}

scalars! {
    /// Where a zone's responses come from.
    Origin {
        servers: Spanned<Vec<Spanned<OriginServer>>> = Spanned::new(0..0, Vec::new()),
        directory: Option<Spanned<PathBuf>> = None,
        balance: Balance = Balance::RoundRobin,
        http: OriginHttp = OriginHttp::V1,
        preserve_host: bool = true,
        server_name: Option<Spanned<String>> = None,
        ca: Option<Spanned<PathBuf>> = None,
        connect_timeout: Time = seconds(5),
        response_timeout: Time = seconds(60),
        body_timeout: Time = seconds(60),
        idle_timeout: Time = seconds(30),
        idle_connections: usize = 64,
        connections: Spanned<usize> = Spanned::new(0..0, 1_024),
        connection_age: Time = seconds(3_600),
        connection_requests: usize = 10_000,
        retries: Spanned<u8> = Spanned::new(0..0, 1),
        retry_status: Spanned<Vec<u16>> = Spanned::new(0..0, vec![502, 503, 504]),
        retry_budget: Spanned<u8> = Spanned::new(0..0, 20),
        upgrades: bool = true,
        passive: Passive = Passive::default(),
        health: Option<Health> = None,
    }
}

/// One origin server.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginServer {
    pub(super) address: OriginAddress,
    #[serde(default = "one")]
    pub(super) weight: u16,
}

fn one() -> u16 {
    1
}

/// How the next server is chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest requests under way for its weight.
    LeastLoaded,
}

/// The version spoken to the origin.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum OriginHttp {
    /// HTTP/1.1.
    #[serde(rename = "1.1")]
    V1,
    /// HTTP/2, by prior knowledge without TLS.
    #[serde(rename = "2")]
    V2,
    /// By ALPN with TLS, HTTP/1.1 without.
    #[serde(rename = "auto")]
    Auto,
}

scalars! {
    /// Learning a server's health from the requests it fails.
    Passive {
        failures: Spanned<u32> = Spanned::new(0..0, 5),
        cooldown: Time = seconds(10),
        status: Spanned<Vec<u16>> = Spanned::new(0..0, vec![502, 503, 504]),
    }
}

scalars! {
    /// Asking a server for its health.
    Health {
        path: Spanned<String> = Spanned::new(0..0, "/".to_owned()),
        host: Option<String> = None,
        interval: Spanned<Time> = Spanned::new(0..0, seconds(5)),
        timeout: Time = seconds(2),
        status: Spanned<Vec<u16>> = Spanned::new(0..0, vec![200, 204]),
        healthy: Spanned<u32> = Spanned::new(0..0, 2),
        unhealthy: Spanned<u32> = Spanned::new(0..0, 3),
    }
}
