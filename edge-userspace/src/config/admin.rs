//! `[admin]` and `[log]`: what operators reach and read.

use std::net::SocketAddr;

use super::checker::Checker;
use super::kind::{self, Bytes, Count, File, Flag, Level, Maybe, Word, words};
use super::section::section;
use super::value::{AdminAddress, Size};

section! {
    /// The admin endpoint.
    AdminText => Admin {
        /// Allow an address that other hosts can reach. The endpoint has no authentication of its
        /// own.
        live remote: Flag = false;
    }
    read {
        /// Control commands, and all that can be read: a Unix socket, for root and group edge, or
        /// an address. Whoever reaches an address, every user of this host for one, can command the
        /// node.
        fixed listen: Maybe<kind::Admin> = None; like "unix:/run/edge/admin.sock";
        /// /metrics, /healthz, /readyz, /status, and no commands: an address. If `listen` is
        /// written: nowhere, unless this is, too.
        fixed read: Maybe<kind::Address> = None; like "127.0.0.1:9180";
    }
    checked {
        /// Where it listens for commands, and for those who read.
        listen: AdminAddress,
        /// Where it answers those who read, and takes no commands; `None`: nowhere else.
        read: Option<SocketAddr>,
    }
}

/// `[admin]`.
pub(super) fn admin(raw: &AdminText, checker: &mut Checker<'_>) -> Admin {
    let mut admin = raw.check(checker);
    let listen = raw.listen.get_ref();
    let tcp = match listen {
        Some(AdminAddress::Tcp(address)) => Some((*address, raw.listen.span())),
        _ => None,
    };
    let read = raw.read.get_ref().map(|read| (read, raw.read.span()));
    for (address, span) in tcp.iter().chain(&read) {
        if !address.ip().is_loopback() && !admin.remote {
            checker.mistake(
                span.clone(),
                format!("{address} can be reached by other hosts, and the endpoint has no authentication"),
                "listen on 127.0.0.1 or unix:/run/edge/admin.sock, or say remote = true",
            );
        }
    }
    if let (Some((tcp, _)), Some((read, span))) = (&tcp, &read)
        && tcp == read
    {
        checker.mistake(
            span.clone(),
            format!("{read} is already where commands are taken"),
            "leave it out: those who read get an answer there, too",
        );
    }
    // Who names a place for commands has said where to read, too.
    let by_default = listen.is_none().then(AdminAddress::reading);
    admin.listen = listen.clone().unwrap_or_default();
    admin.read = read.map(|(read, _)| read).or(by_default);
    admin
}

words! {
    /// How log lines look.
    LogFormat {
        /// Human on a terminal, JSON otherwise.
        Auto = "auto",
        /// For eyes.
        Human = "human",
        /// One object a line.
        Json = "json",
    }
}

section! {
    /// Logs.
    LogText => Log {
        /// auto: human on a terminal, JSON otherwise; human; json.
        fixed format: Word<LogFormat> = LogFormat::Auto;
        /// error, warn, info, debug, trace, or per room: "info,edge::origin=debug".
        live level: Level = "info".to_owned();
        /// Where access lines go instead of standard error; a relative path begins at this file's
        /// directory. Once it is renamed or removed, a new one is begun within a second.
        fixed access_file: Maybe<File> = None; like "/var/log/edge/access.log";
        /// A file that would be longer is renamed: `.1` is added to its name, and the numbers of
        /// the old ones grow by one. 0B: no bound.
        fixed access_file_bytes: Bytes = Size(0), Size(0) => Size(1 << 40);
        /// Renamed files that are kept.
        fixed access_files: Count<u32> = 5, 0 => 1_000;
    }
    read {
        /// One line per request.
        live access: Flag = true;
        /// One line per this many requests.
        live access_sample: Count<u32> = 1, 1 => u32::MAX;
    }
    checked {
        /// One access line per this many requests; `None`: no access log.
        access_sample: Option<u32>,
    }
}

/// `[log]`.
pub(super) fn log(raw: &LogText, checker: &mut Checker<'_>) -> Log {
    let mut log = raw.check(checker);
    let sample = checker.number(&raw.access_sample, 1, u32::MAX);
    log.access_sample = raw.access.get_ref().then_some(sample);
    log
}
