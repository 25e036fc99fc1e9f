//! The program on one interface: attaches it, or puts it into the link that an earlier daemon
//! pinned. `links` says when.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};

use super::error::{Error, os_error};
use super::netlink::{Header, Link};
use super::pins::{self, Pins};
use crate::config;

/// The kernel detaches some time after the last handle on a link is gone; until then the interface
/// counts as taken.
const DETACHED_WITHIN: Duration = Duration::from_secs(3);

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel spends memory on the packet.
    Native,
    /// At the entrance of the network stack: on any interface, at several times the cost.
    Generic,
}

impl Mode {
    /// Its name in configuration, metrics and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flag(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// An interface that the program judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As configured.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// How the program is attached.
    pub mode: Mode,
    /// The kernel's id of the program.
    pub program_id: u32,
    /// Hash of the program's code: equal for equal objects.
    pub program_tag: u64,
    /// The link was there before this daemon.
    pub taken_over: bool,
    /// Bytes of an IP packet at most, when it was attached.
    pub mtu: u32,
}

/// Attaches to the interface of this name, whose packets the program can read.
pub(super) fn interface(
    program: &mut Xdp,
    name: &str,
    link: &Link,
    mode: config::XdpMode,
    pins: &Pins,
) -> Result<Interface, Error> {
    if let Header::Other(kind) = link.header {
        return Err(Error::Header {
            interface: name.to_owned(),
            kind,
        });
    }
    let info = program.info().map_err(Error::program)?;
    let (mode, taken_over) = one(program, name, link.index, mode, pins)?;
    tracing::info!(interface = name, mode = mode.name(), taken_over, "XDP attached");
    Ok(Interface {
        name: name.to_owned(),
        index: link.index,
        mode,
        program_id: info.id(),
        program_tag: info.tag(),
        taken_over,
        mtu: link.mtu,
    })
}

/// Lets go of the links of this network namespace that are none of `used`, and of other
/// namespaces'.
pub(super) fn release(used: &[Interface], pins: &Pins) -> Result<(), Error> {
    let namespace = pins::namespace()?;
    for (link, path) in pins.link_names()? {
        let used = link.namespace == namespace
            && used
                .iter()
                .any(|interface| interface.index == link.index && interface.mode.name() == link.mode);
        if !used {
            tracing::info!(
                index = link.index,
                mode = link.mode,
                "XDP detached: no longer configured, or gone"
            );
            pins::remove(&path)?;
        }
    }
    Ok(())
}

/// Attaches to one interface; says how, and whether the link was there before.
fn one(program: &mut Xdp, name: &str, index: u32, mode: config::XdpMode, pins: &Pins) -> Result<(Mode, bool), Error> {
    let modes: &[Mode] = match mode {
        config::XdpMode::Off => return Err(Error::Off),
        config::XdpMode::Native => &[Mode::Native],
        config::XdpMode::Generic => &[Mode::Generic],
        config::XdpMode::Auto => &[Mode::Native, Mode::Generic],
    };
    for mode in modes {
        if swap(program, index, *mode, pins)? {
            return Ok((*mode, true));
        }
    }
    // One interface runs native or generic programs, not both: a link of the mode not wanted must
    // go first, and nothing judges until the next one is there.
    let mut patience = Duration::ZERO;
    for mode in [Mode::Native, Mode::Generic] {
        let path = pins.link(index, mode.name())?;
        if path.exists() {
            pins::remove(&path)?;
            patience = DETACHED_WITHIN;
        }
    }
    let deadline = Instant::now() + patience;
    let mut refused = None;
    for mode in modes {
        let attached = loop {
            match attach(program, name, index, *mode, pins) {
                Err(Error::Occupied { .. }) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                other => break other,
            }
        };
        match attached {
            Ok(()) => return Ok((*mode, false)),
            Err(Error::Attach { cause, .. }) if *mode == Mode::Native && modes.len() > 1 => {
                tracing::warn!(
                    interface = name,
                    error = cause,
                    "no native XDP here: falling back to generic mode, which costs several times as much a packet"
                );
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or(Error::Off))
}

/// Puts the program into a pinned link, in one step for the packets. False if there is none, or it
/// hangs on an interface that is gone.
fn swap(program: &mut Xdp, index: u32, mode: Mode, pins: &Pins) -> Result<bool, Error> {
    let path = pins.link(index, mode.name())?;
    if !path.exists() {
        return Ok(false);
    }
    let swapped = PinnedLink::from_pin(&path)
        .map_err(|error| (os_error(&error), error.to_string()))
        .and_then(|pinned| XdpLink::try_from(FdLink::from(pinned)).map_err(|error| (None, error.to_string())))
        .and_then(|link| {
            program
                .attach_to_link(link)
                .map_err(|error| (os_error(&error), error.to_string()))
        });
    match swapped {
        Ok(id) => {
            // The pin holds the link; this handle on it may close.
            drop(program.take_link(id).map_err(Error::program)?);
            Ok(true)
        }
        Err((Some(code @ (libc::EPERM | libc::EACCES)), _)) => Err(Error::Permission {
            attempt: "replace the attached XDP program",
            source: std::io::Error::from_raw_os_error(code).into(),
        }),
        Err((_, error)) => {
            // ENOLINK: the interface was removed under the link. Anything else cannot be taken over
            // either.
            tracing::info!(path = %path.display(), error, "a pinned link cannot be taken over: attaching anew");
            pins::remove(&path)?;
            Ok(false)
        }
    }
}

fn attach(program: &mut Xdp, name: &str, index: u32, mode: Mode, pins: &Pins) -> Result<(), Error> {
    let id = program
        .attach_to_if_index(index, mode.flag())
        .map_err(|error| refused(name, mode, error))?;
    let link = program.take_link(id).map_err(Error::program)?;
    let link = FdLink::try_from(link).map_err(|_| Error::KernelTooOld)?;
    let path = pins.link(index, mode.name())?;
    link.pin(&path).map_err(|error| {
        let code = os_error(&error).unwrap_or(libc::EIO);
        Error::pin(&path)(std::io::Error::from_raw_os_error(code))
    })?;
    Ok(())
}

/// The kernel's own words, which lie at the bottom.
fn cause(error: &ProgramError) -> String {
    match code(error) {
        Some(libc::ERANGE) => {
            "packets of this MTU take several buffers, and the driver or the program takes one".to_owned()
        }
        Some(code) => std::io::Error::from_raw_os_error(code).to_string(),
        None => error.to_string(),
    }
}

fn code(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::XdpError(aya::programs::xdp::XdpError::NetlinkError(error)) => error.raw_os_error(),
        other => os_error(other),
    }
}

fn refused(name: &str, mode: Mode, source: ProgramError) -> Error {
    match code(&source) {
        Some(libc::EPERM | libc::EACCES) => Error::Permission {
            attempt: "attach an XDP program",
            source: source.into(),
        },
        Some(libc::EBUSY | libc::EEXIST) => Error::Occupied {
            interface: name.to_owned(),
        },
        _ => Error::Attach {
            interface: name.to_owned(),
            mode: mode.name(),
            cause: cause(&source),
            source: source.into(),
            hint: match mode {
                Mode::Native => "; `--xdp auto` falls back to generic mode (or lower the interface's MTU)",
                Mode::Generic => "; `--xdp off` runs without",
            },
        },
    }
}

/// Interface names. From /proc, because /sys may show the interfaces of another network namespace.
pub(super) fn existing() -> String {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names: Vec<_> = table
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    names.join(", ")
}
