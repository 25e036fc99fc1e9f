//! What can go wrong between the daemon and the kernel, and who can mend it. Mostly the operator:
//! each message says how.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use ipnet::IpNet;

/// Errors of the data plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's choice.
    #[error("XDP is off in this configuration: there is no data plane to start")]
    Off,
    /// The build's.
    #[error("this build has no eBPF object: run `cargo xtask build-ebpf` and build again, or start with `--xdp off`")]
    NoObject,
    /// The build's.
    #[error("the eBPF object of this build is broken (`cargo xtask build-ebpf` builds it anew): {0}")]
    Object(#[source] Box<EbpfError>),
    /// The build's.
    #[error("the eBPF object of this build has no {0}: build it anew with `cargo xtask build-ebpf`")]
    Missing(&'static str),
    /// The operator's.
    #[error(
        "no permission to {attempt}: {}; run it as root, give it AmbientCapabilities= in its systemd unit, or start with \
         `--xdp off`",
        super::capabilities::missing()
    )]
    Permission {
        /// What was refused.
        attempt: &'static str,
        /// The kernel's words.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The kernel refused the program: ours to mend, unless the kernel is too old.
    #[error("the kernel does not take the XDP program (it needs Linux 5.15 or later; README names those tested): {0}")]
    Program(#[source] Box<ProgramError>),
    /// The kernel refused a map.
    #[error("map {name}: {source}")]
    Map {
        /// Which.
        name: &'static str,
        /// The kernel's words.
        #[source]
        source: Box<MapError>,
    },
    /// The operator's: a database of networks.
    #[error("the database {} cannot be read: {source}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<maxminddb::MaxMindDbError>,
    },
    /// The kernel did not let a map be written through memory.
    #[error("map {map} as memory: {source}")]
    Memory {
        /// Which.
        map: &'static str,
        /// The kernel's words.
        #[source]
        source: std::io::Error,
    },
    /// The operator's.
    #[error("there is no network interface `{name}`; there are: {existing}")]
    UnknownInterface {
        /// As configured.
        name: String,
        /// Names in this network namespace.
        existing: String,
    },
    /// The operator's.
    #[error(
        "`{interface}` carries an XDP program that is not ours; remove it (`ip link set dev {interface} xdp off`, or \
         `xdp-loader unload {interface} --all`), or leave this interface out"
    )]
    Occupied {
        /// Its name.
        interface: String,
    },
    /// The driver's.
    #[error("cannot attach to `{interface}` in {mode} mode: {cause}{hint}")]
    Attach {
        /// Its name.
        interface: String,
        /// As tried last.
        mode: &'static str,
        /// The kernel's reason.
        cause: String,
        /// The kernel's words.
        #[source]
        source: Box<ProgramError>,
        /// What else could be tried.
        hint: &'static str,
    },
    /// The device's.
    #[error(
        "`{interface}` is of a kind (ARPHRD {kind}) whose packets the program cannot read; leave this interface out"
    )]
    Header {
        /// Its name.
        interface: String,
        /// The number of linux/if_arp.h.
        kind: u16,
    },
    /// The kernel's.
    #[error("interfaces and addresses cannot be asked for (rtnetlink): {0}")]
    Netlink(#[source] io::Error),
    /// The operator's.
    #[error(
        "{path}: networks denied at run time cannot be kept there: {source}; mend it or write another `state_directory`"
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The operator's.
    #[error(
        "net.ipv4.{name} cannot be made what SYN cookies need: {source}; write `net.ipv4.{name} = 2` into /etc/sysctl.d, or let the \
         daemon write {path}"
    )]
    Setting {
        /// Of the system.
        name: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The operator's.
    #[error("pinning needs links of the kind that Linux 5.9 brought, and this kernel has none")]
    KernelTooOld,
    /// The operator's.
    #[error("{path} is not on a BPF file system: `mount -t bpf bpf {path}`, or set `pin_directory` below /sys/fs/bpf")]
    NotBpfFileSystem {
        /// The pin directory.
        path: PathBuf,
    },
    /// The operator's.
    #[error("another edge daemon holds {path}: stop it, or give this one a `pin_directory` of its own")]
    Owned {
        /// The pin directory.
        path: PathBuf,
    },
    /// The operator's.
    #[error(
        "an edge daemon runs with {path}: stop it first, or write `edge detach --force`, after which it runs without XDP"
    )]
    InUse {
        /// The pin directory.
        path: PathBuf,
    },
    /// The operator's, mostly.
    #[error("{path}: {source}")]
    Pin {
        /// File or directory.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The operator's.
    #[error(
        "nothing is pinned under {path}: no edge daemon with XDP has run since the machine started, or it was detached"
    )]
    NotPinned {
        /// The pin directory.
        path: PathBuf,
    },
    /// The operator's.
    #[error("{entries} {kind}, but there is room for {capacity}: raise `deny_entries` and restart")]
    ListFull {
        /// Which of the four tables.
        kind: &'static str,
        /// What was asked for.
        entries: usize,
        /// What the table holds.
        capacity: u32,
    },
    /// The operator's.
    #[error("more than 8 addresses with HTTP/3, or more than 256 workers")]
    TooManyToSteer,
    /// The operator's.
    #[error("{0} is not on the deny list")]
    NotDenied(IpNet),
    /// The operator's.
    #[error("{0} is denied by the configuration file, not at run time: take it out of `deny` there and reload")]
    Configured(IpNet),
}

impl Error {
    /// Whether kernel, machine or build refuse XDP, which a node can do without; and not the
    /// operator, another daemon, or a mistake in the file.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::NoObject
            | Self::Object(_)
            | Self::Missing(_)
            | Self::Permission { .. }
            | Self::Program(_)
            | Self::Map { .. }
            | Self::Memory { .. }
            | Self::Occupied { .. }
            | Self::Attach { .. }
            | Self::Header { .. }
            | Self::KernelTooOld
            | Self::NotBpfFileSystem { .. }
            | Self::Netlink(_)
            | Self::Pin { .. } => true,
            Self::Off
            | Self::Database { .. }
            | Self::UnknownInterface { .. }
            | Self::Owned { .. }
            | Self::InUse { .. }
            | Self::NotPinned { .. }
            | Self::ListFull { .. }
            | Self::State { .. }
            | Self::Setting { .. }
            | Self::TooManyToSteer
            | Self::NotDenied(_)
            | Self::Configured(_) => false,
        }
    }

    pub(super) fn map(name: &'static str) -> impl Fn(MapError) -> Self {
        move |source| {
            if denied(&source) {
                Self::Permission {
                    attempt: "use BPF maps",
                    source: source.into(),
                }
            } else {
                Self::Map {
                    name,
                    source: source.into(),
                }
            }
        }
    }

    pub(super) fn program(source: ProgramError) -> Self {
        if denied(&source) {
            Self::Permission {
                attempt: "load an XDP program",
                source: source.into(),
            }
        } else {
            Self::Program(source.into())
        }
    }

    pub(super) fn object(source: EbpfError) -> Self {
        if denied(&source) {
            Self::Permission {
                attempt: "load an XDP program",
                source: source.into(),
            }
        } else {
            Self::Object(source.into())
        }
    }

    pub(super) fn pin(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| {
            if source.kind() == io::ErrorKind::PermissionDenied {
                Self::Permission {
                    attempt: "use the BPF file system",
                    source: source.into(),
                }
            } else {
                Self::Pin { path, source }
            }
        }
    }
}

/// The system's error number at the bottom of an error of aya's.
pub(super) fn os_error(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        next = error.source();
    }
    None
}

fn denied(error: &(dyn StdError + 'static)) -> bool {
    matches!(os_error(error), Some(libc::EPERM | libc::EACCES)) && !verifier_rejected(error)
}

/// The verifier says EACCES too when it finds fault with a program; then there is a log.
fn verifier_rejected(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<ProgramError>(),
        Some(ProgramError::LoadError { io_error, .. }) if io_error.raw_os_error() == Some(libc::EACCES)
    )
}
