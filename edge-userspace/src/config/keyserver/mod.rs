//! The key server's file, checked once: its sections with their keys, and what the room `keyserver`
//! is built from.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::kind::{
    self, Address, Count, File, Flag, Kind, Level, List, Maybe, Must, Name, Span, Text, Threads, Word, words,
};
use super::mistake::{Mistakes, Place, Source};
use super::section::{self, Section, section};
use super::value::{AdminAddress, HostPattern, Time, seconds};
use super::{Log, LogFormat};

/// The commented defaults, for `edge-keyserver check --print-defaults`.
pub fn defaults() -> String {
    let mut declared = node_sections();
    declared.push(("# [[client]]", ClientText::entries()));
    declared.push(("# [[client.grant]]", GrantText::entries()));
    section::filled(include_str!("defaults.toml"), declared)
}

/// Declares the sections that there is one of each.
macro_rules! sections {
    ($($name:ident: $text:ty,)*) => {
        /// A whole file.
        #[derive(Clone, Debug, Default, Deserialize, PartialEq)]
        #[serde(default, deny_unknown_fields)]
        struct Raw {
            $($name: $text,)*
            client: Vec<Spanned<ClientText>>,
        }

        fn node_sections() -> Vec<(&'static str, Vec<section::Entry>)> {
            vec![$((concat!("[", stringify!($name), "]"), <$text>::entries()),)*]
        }

        /// What the file says in keys that a reload does not carry out.
        #[derive(Clone, Debug)]
        pub struct Fixed {
            $($name: $text,)*
        }

        impl Fixed {
            fn of(raw: &Raw) -> Self {
                Self { $($name: raw.$name.clone(),)* }
            }

            /// The keys in which `new` says something else and that take a restart, as
            /// `section.key`.
            pub fn that_differ(&self, new: &Self) -> Vec<String> {
                let mut keys = Vec::new();
                $(for key in self.$name.fixed_keys_that_differ(&new.$name) {
                    keys.push(format!("{}.{key}", stringify!($name)));
                })*
                keys
            }
        }
    };
}

sections! {
    server: ServerText,
    keys: KeysText,
    limits: LimitsText,
    process: ProcessText,
    admin: AdminText,
    log: LogText,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener.
    pub server: Server,
    /// Private keys.
    pub keys: Keys,
    /// Bounds on clients.
    pub limits: Limits,
    /// The process among others.
    pub process: Process,
    /// Where the admin endpoint listens.
    pub admin: AdminAddress,
    /// Logs.
    pub log: Log,
    /// Who may ask, by unique names.
    pub clients: Vec<Client>,
    /// What the file says in keys that a reload does not carry out.
    pub fixed: Fixed,
}

section! {
    /// The listener.
    ServerText => Server {
        /// Addresses that edges connect to: TLS 1.3 with client certificates. At least one.
        fixed listen: List<Address> = Vec::new(); like ["192.0.2.1:7443"];
        /// The authority that signs the edges' certificates (PEM).
        live client_ca: Must<File> = None; like "clients-ca.pem";
        /// Revocation lists (CRL, PEM) of that authority. Read again on SIGHUP and when they
        /// change, as the certificates here are.
        live revoked: List<File> = Vec::new();
        /// Whether a list whose next update is due is no list: nobody of its authority is let in
        /// then. false: it counts, and is told.
        live revoked_must_be_current: Flag = false;
        /// Threads that serve connections and make quick signatures; 0: one per processor. RSA has
        /// as many of its own.
        fixed workers: Threads = 0, 0 => 1_024;
        /// How long queries under way may go on after SIGTERM.
        fixed drain: Span = seconds(10);
    }
    read {
        /// The server's own certificate chain, leaf first (PEM). Edges check it.
        live certificate: Must<File> = None; like "keyserver.pem";
        /// The private key of that (PEM).
        live key: Must<File> = None; like "keyserver.key";
    }
    checked {
        /// The server's own certificate.
        certificate: Certificate,
    }
}

/// The server's own certificate: PEM files, with their places for errors of the room that loads
/// them.
pub use super::Identity as Certificate;

section! {
    /// Private keys.
    KeysText => Keys {
        /// The directory of private keys: files *.pem and *.key, one key each, PKCS#8, SEC1 or
        /// PKCS#1 PEM, not accessible to others. A key's name in grants is its file's name without
        /// the ending. Files may come, go and change while the server runs.
        fixed directory: File = PathBuf::from("keys");
        /// How often the directory is looked at.
        fixed poll: Span = seconds(2), TENTH => seconds(3_600);
    }
}

const TENTH: Time = Time(Duration::from_millis(100));

section! {
    /// Bounds on what clients can make the server hold.
    LimitsText => Limits {
        /// Connections in all.
        fixed connections: Count<usize> = 1_024, 1 => 1 << 20;
        /// Connections of one client.
        fixed connections_per_client: Count<usize> = 256, 1 => 1 << 20;
        /// Queries under way on one connection: those that wait for RSA. Beyond: overload.
        fixed pending: Count<usize> = 1_024, 1 => 1 << 20;
        /// Queries that wait for RSA, of all connections. Beyond: overload.
        fixed queue: Count<usize> = 8_192, 1 => 1 << 20;
        /// Ephemeral keys kept for `kx-finish` on one connection. Beyond, the oldest goes.
        fixed ephemeral_keys: Count<usize> = 1_024, 1 => 1 << 20;
        /// How long one is kept.
        fixed ephemeral_time: Span = seconds(30), TENTH => seconds(3_600);
        /// From the accept to the end of the handshake.
        fixed handshake_timeout: Span = seconds(5), TENTH => seconds(3_600);
        /// A connection without a query.
        fixed idle_timeout: Span = seconds(600), TENTH => seconds(86_400);
        /// A client that does not take its replies.
        fixed write_timeout: Span = seconds(10), TENTH => seconds(3_600);
    }
}

words! {
    /// Whether memory is kept out of swap.
    LockMemory {
        /// If it is allowed.
        Auto = "auto",
        /// Or the server does not start.
        On = "on",
        /// No.
        Off = "off",
    }
}

section! {
    /// The process among others.
    ProcessText => Process {
        /// Keep memory out of swap: auto locks it if that is allowed, on demands it, off leaves it.
        fixed lock_memory: Word<LockMemory> = LockMemory::Auto;
        /// Refuse system calls that the server does not need.
        fixed seccomp: Flag = true;
    }
    read {
        /// The user to become after the start, a name or UID:GID; empty stays who started it. It
        /// must be able to read the keys.
        fixed user: Text = String::new();
    }
    checked {
        /// Whom to become; `None` stays who started it.
        user: Option<(User, Place)>,
    }
}

section! {
    /// The admin endpoint.
    AdminText => Admin {
        /// /metrics, /healthz, /readyz: a loopback address, or unix:/path.
        fixed listen: kind::Admin = AdminAddress::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9181));
        /// Allow an address that other hosts can reach. The endpoint has no authentication of its
        /// own.
        live remote: Flag = false;
    }
}

section! {
    /// Logs.
    LogText => Logs {
        /// auto: human lines on a terminal, JSON otherwise; human; json.
        fixed format: Word<LogFormat> = LogFormat::Auto;
        /// error, warn, info, debug, trace; or by module: "info,edge::keyserver=debug". Refusals
        /// are warnings of edge::keyserver::audit.
        live level: Level = "info".to_owned();
    }
}

section! {
    /// A client, as it is written.
    ClientText => ClientKeys {
        /// In logs and metrics.
        live name: Must<Name<64>> = None; like "edge-1";
        /// Queries a second; 0: no limit.
        live rate: Count<u32> = 0;
        /// Queries at once beyond the rate; 0: one second's worth.
        live burst: Count<u32> = 0;
    }
    read {
        /// A DNS name in its certificate, or `spki`.
        live dns: Maybe<Text> = None; like "edge-1.example.net";
        /// SHA-256 of its certificate's SubjectPublicKeyInfo, 64 hexadecimal digits.
        live spki: Maybe<Text> = None; like "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    }
    tables {
        grant: Vec<Spanned<GrantText>>,
    }
}

section! {
    /// What a client may do with some keys; grants add up.
    GrantText => GrantKeys {
        /// Names of keys, their ids (64 hexadecimal digits), or "*" for all.
        live keys: Must<List<Text>> = None; like ["shop", "*"];
        /// Of sign-tls13, sign-tls12, kx-sign-tls12, kx-start, kx-finish, kx-tls13, rsa-master,
        /// rsa-premaster.
        live ops: Must<List<Text>> = None; like ["sign-tls13", "sign-tls12"];
    }
}

/// Whom to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// By name, with its primary group.
    Name(String),
    /// User and group.
    Ids(u32, u32),
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Client {
    /// In logs and metrics.
    pub name: Arc<str>,
    /// How its certificate is known.
    pub identity: Identity,
    /// Queries a second, and at once; `None`: no limit.
    pub rate: Option<(u32, u32)>,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// How a client's certificate is known; of an authority that is trusted it must be in any case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// It has this DNS name, lower case.
    Dns(String),
    /// SHA-256 of its SubjectPublicKeyInfo.
    Spki([u8; 32]),
}

/// What a client may do with some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// With which keys.
    pub keys: Vec<Selector>,
    /// The names of ops; the room `keyserver` knows them and says which it does not.
    pub ops: Vec<(String, Place)>,
}

/// A key, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All, those to come among them.
    All,
    /// The one with this name.
    Name(String),
    /// The one with this SHA-256 of its SubjectPublicKeyInfo.
    Id([u8; 32]),
}

impl Config {
    /// Reads and checks `file`. Nothing is opened but the file itself.
    ///
    /// # Errors
    /// Every mistake that was found: of the syntax the first, of the checks all.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let text = super::text::one(file, "edge-keyserver check --print-defaults > keyserver.toml")?;
        Self::parse(file, &text)
    }

    /// Checks `text`, naming `file` in errors and taking paths relative to its directory.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        let source = Source {
            file,
            text,
            included: &[],
        };
        let raw = toml::from_str::<Raw>(text).map_err(|e| Mistakes(vec![source.toml_mistake(&e)]))?;
        let mut checker = Checker::new(&source);
        let config = Self {
            server: server(&raw.server, &mut checker),
            keys: raw.keys.check(&mut checker),
            limits: raw.limits.check(&mut checker),
            process: process(&raw.process, &mut checker),
            admin: admin(&raw.admin, &mut checker),
            log: log(&raw.log, &mut checker),
            clients: clients(&raw.client, &mut checker),
            fixed: Fixed::of(&raw),
        };
        checker.end(config)
    }
}

fn server(raw: &ServerText, checker: &mut Checker<'_>) -> Server {
    let mut server = raw.check(checker);
    if server.listen.is_empty() {
        let mend = "write [server] listen = [\"192.0.2.1:7443\"]";
        checker.mistake(raw.listen.span(), "no address to listen on", mend);
    }
    let mut file = |key: &'static str, example: &'static str, raw: &Spanned<Option<PathBuf>>| {
        checker.at(key, example);
        Must::<File>::check(raw, None, checker)
    };
    let chain = file("certificate", "\"keyserver.pem\"", &raw.certificate);
    server.certificate = Certificate::of(chain, file("key", "\"keyserver.key\"", &raw.key));
    server
}

fn process(raw: &ProcessText, checker: &mut Checker<'_>) -> Process {
    let mut process = raw.check(checker);
    let text = raw.user.get_ref();
    let ids = text.split_once(':').map(|(user, group)| (user.parse(), group.parse()));
    let user = match ids {
        _ if text.is_empty() => None,
        Some((Ok(user), Ok(group))) => Some(User::Ids(user, group)),
        None if !text.contains(char::is_whitespace) => Some(User::Name(text.clone())),
        _ => {
            let what = format!("\"{text}\" is not a user");
            checker.mistake(raw.user.span(), what, "write a name, or UID:GID");
            None
        }
    };
    process.user = user.map(|user| (user, checker.place(raw.user.span())));
    process
}

fn admin(raw: &AdminText, checker: &mut Checker<'_>) -> AdminAddress {
    let admin = raw.check(checker);
    if let AdminAddress::Tcp(address) = &admin.listen
        && !address.ip().is_loopback()
        && !admin.remote
    {
        checker.mistake(
            raw.listen.span(),
            format!("{address} can be reached by other hosts, and the endpoint has no authentication"),
            "listen on 127.0.0.1 or unix:/run/edge-keyserver/admin.sock, or say remote = true",
        );
    }
    admin.listen
}

fn log(raw: &LogText, checker: &mut Checker<'_>) -> Log {
    let Logs { format, level } = raw.check(checker);
    Log {
        format,
        level,
        access_sample: None,
        access_file: None,
        access_file_bytes: 0,
        access_files: 0,
    }
}

fn clients(raw: &[Spanned<ClientText>], checker: &mut Checker<'_>) -> Vec<Client> {
    if raw.is_empty() {
        let mend = "write a [[client]] with name, dns or spki, and [[client.grant]]";
        checker.mistake(0..0, "no client: nobody could ask", mend);
    }
    let mut names = HashMap::new();
    let mut identities = HashMap::new();
    let mut clients = Vec::with_capacity(raw.len());
    for spanned in raw {
        let (text, keys) = (spanned.get_ref(), checker.table(spanned, ClientText::check));
        let line = checker.place(text.name.span()).line;
        if let Some(line) = names.insert(keys.name.clone(), line) {
            let what = format!("client \"{}\" is already on line {line}", keys.name);
            checker.mistake(text.name.span(), what, "give each client a name of its own");
        }
        let Some(identity) = identity(text, spanned.span(), checker) else {
            continue;
        };
        if let Some(line) = identities.insert(identity.clone(), line) {
            let what = format!("the client on line {line} has the same certificate");
            checker.mistake(text.name.span(), what, "merge the two, or give them names of their own");
        }
        let burst = if keys.burst == 0 { keys.rate } else { keys.burst };
        clients.push(Client {
            name: keys.name,
            identity,
            rate: (keys.rate > 0).then_some((keys.rate, burst)),
            grants: text
                .grant
                .iter()
                .map(|grant| checker.table(grant, self::grant))
                .collect(),
        });
    }
    clients
}

fn identity(raw: &ClientText, span: Range<usize>, checker: &mut Checker<'_>) -> Option<Identity> {
    match (raw.dns.get_ref(), raw.spki.get_ref()) {
        (Some(dns), None) => match dns.parse() {
            Ok(HostPattern::Exact(name)) => Some(Identity::Dns(name)),
            _ => {
                let what = format!("\"{dns}\" is not a DNS name");
                checker.mistake(raw.dns.span(), what, "write the whole name, as in the certificate");
                None
            }
        },
        (None, Some(spki)) => {
            let id = hex32(spki);
            if id.is_none() {
                let mend = "write SHA-256 of the SubjectPublicKeyInfo as 64 hexadecimal digits: openssl x509 -in CERT \
                            -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum";
                checker.mistake(raw.spki.span(), "not a SHA-256", mend);
            }
            id.map(Identity::Spki)
        }
        (None, None) => {
            checker.mistake(span, "no identity", "write dns = \"…\" or spki = \"…\"");
            None
        }
        (Some(_), Some(_)) => {
            checker.mistake(raw.spki.span(), "two identities", "write dns or spki, not both");
            None
        }
    }
}

fn grant(raw: &GrantText, checker: &mut Checker<'_>) -> Grant {
    let GrantKeys { keys, .. } = raw.check(checker);
    let written = |list: &Spanned<Option<Vec<_>>>| list.get_ref().as_ref().is_some_and(Vec::is_empty);
    if written(&raw.keys) {
        checker.mistake(raw.keys.span(), "no key", "write names of keys, or \"*\"");
    }
    if written(&raw.ops) {
        checker.mistake(raw.ops.span(), "no op", "write ops = [\"sign-tls13\", \"sign-tls12\"]");
    }
    let keys = keys.into_iter().map(|text| match hex32(&text) {
        Some(id) => Selector::Id(id),
        None if text == "*" => Selector::All,
        None => Selector::Name(text),
    });
    let ops = raw.ops.get_ref().iter().flatten();
    Grant {
        keys: keys.collect(),
        ops: ops.map(|op| (op.get_ref().clone(), checker.place(op.span()))).collect(),
    }
}

/// 32 bytes from 64 hexadecimal digits, either case.
pub fn hex32(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
