//! The lockdown of TCP: what the program needs to answer SYNs with cookies that our listeners
//! accept, and the system's settings for that. `node` says when.
//!
//! `net.ipv4.tcp_syncookies` must be 2, or the kernel gives no cookie while its own queue is not
//! full, and behind XDP that never fills. `net.ipv4.tcp_timestamps` is best 2: without the random
//! offset the program can write into a timestamp what the kernel will read from its echo, so that
//! window scale, SACK and ECN are kept. Both belong to the network namespace, and running sockets
//! take them at once. What they were is noted in a pinned map before they are changed, so that
//! whoever comes next can put them back: this daemon, the next one after a crash, or `edge detach`.
//! The map is gone after a reboot, and so are the changes.
#![expect(unsafe_code, reason = "no library reads TCP_INFO")]

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use edge_common::lockdown::{self, COOKIES_NOTED, COOKIES_ON, COOKIES_OPTIONS};
use edge_common::maps;

use super::error::Error;

/// Where the settings are, of the network namespace of whoever opens them.
const SETTINGS: &str = "/proc/sys/net/ipv4";
const SYNCOOKIES: &str = "tcp_syncookies";
const TIMESTAMPS: &str = "tcp_timestamps";
/// For SYNs of any rate, and timestamps without an offset.
const WANTED: u16 = 2;
/// Bytes of headers: IPv4 and TCP, IPv6 and TCP.
const HEADERS: [u32; 2] = [40, 60];
/// Where `struct tcp_info` (linux/tcp.h) has the window scales, the received one in the upper half,
/// and the first window's end.
const SCALES_AT: usize = 6;
const WINDOW_AT: usize = 64;

/// The map `COOKIES`.
pub struct Cookies(Mutex<Array<MapData, lockdown::Cookies>>);

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}

/// What a lockdown of TCP gives clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All that an ordinary handshake does.
    Options,
    /// The maximum segment size alone: `net.ipv4.tcp_timestamps` cannot be 2.
    Plain,
}

impl Cookies {
    /// That of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Self::of(ebpf.take_map(maps::COOKIES).ok_or(Error::Missing("map COOKIES"))?)
    }

    /// That pinned in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let data = MapData::from_pin(directory.join(maps::COOKIES)).map_err(Error::map(maps::COOKIES))?;
        Self::of(Map::from_map_data(data).map_err(Error::map(maps::COOKIES))?)
    }

    fn of(map: Map) -> Result<Self, Error> {
        Ok(Self(Mutex::new(map.try_into().map_err(Error::map(maps::COOKIES))?)))
    }

    /// Has the program answer SYNs: notes the settings, changes them, looks whether they are
    /// changed, and only then tells it. On interfaces of `mtu` at least.
    ///
    /// # Errors
    /// [`Error::Setting`] if `tcp_syncookies` cannot be made 2: nothing is answered then.
    /// [`Error::Map`].
    pub fn raise(&self, mtu: u32) -> Result<Offer, Error> {
        let mut map = self.map();
        let mut told = map.get(&0, 0).map_err(Error::map(maps::COOKIES))?;
        if told.flags & COOKIES_NOTED == 0 {
            let before = [read(SYNCOOKIES)?, read(TIMESTAMPS)?];
            told = lockdown::Cookies {
                flags: COOKIES_NOTED,
                before,
                ..lockdown::Cookies::NONE
            };
            map.set(0, told, 0).map_err(Error::map(maps::COOKIES))?;
        }
        change(SYNCOOKIES, WANTED)?;
        // Who has turned timestamps off wants none.
        let [_, stamps] = told.before;
        let stamped = stamps != 0 && change(TIMESTAMPS, WANTED).is_ok();
        let window = measure();
        let [mss4, mss6] = HEADERS.map(|headers| u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX));
        told.flags = COOKIES_NOTED | COOKIES_ON;
        (told.mss4, told.mss6) = (mss4.max(536), mss6.max(1_220));
        let offer = match window {
            Ok(window) if stamped => {
                told.flags |= COOKIES_OPTIONS;
                (told.scale, told.window) = (window.scale.into(), window.first);
                Offer::Options
            }
            Ok(window) => {
                told.window = window.first;
                Offer::Plain
            }
            Err(error) => {
                tracing::warn!(
                    target: "edge::dataplane",
                    %error,
                    "the window of our listeners cannot be measured: SYN cookies come without window scale and SACK"
                );
                told.window = 0x7fff;
                Offer::Plain
            }
        };
        map.set(0, told, 0).map_err(Error::map(maps::COOKIES))?;
        Ok(offer)
    }

    /// Has the program leave SYNs to the kernel. The settings stay as they are for answers that are
    /// still on their way: [`restore`](Self::restore) some seconds later.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn lower(&self) -> Result<(), Error> {
        let mut map = self.map();
        let mut told = map.get(&0, 0).map_err(Error::map(maps::COOKIES))?;
        if told.flags & COOKIES_ON != 0 {
            told.flags &= !(COOKIES_ON | COOKIES_OPTIONS);
            map.set(0, told, 0).map_err(Error::map(maps::COOKIES))?;
        }
        Ok(())
    }

    /// Puts the settings back to what was noted, by whatever daemon; does nothing if nothing was,
    /// or while SYNs are answered.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::Map`]: the note stays then.
    pub fn restore(&self) -> Result<(), Error> {
        let mut map = self.map();
        let told = map.get(&0, 0).map_err(Error::map(maps::COOKIES))?;
        if told.flags & COOKIES_NOTED == 0 || told.flags & COOKIES_ON != 0 {
            return Ok(());
        }
        let [syncookies, timestamps] = told.before;
        change(TIMESTAMPS, timestamps)?;
        change(SYNCOOKIES, syncookies)?;
        map.set(0, lockdown::Cookies::NONE, 0)
            .map_err(Error::map(maps::COOKIES))
    }

    /// Whether SYNs are answered, by whatever daemon's word.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn is_on(&self) -> Result<bool, Error> {
        Ok(self.map().get(&0, 0).map_err(Error::map(maps::COOKIES))?.flags & COOKIES_ON != 0)
    }

    fn map(&self) -> MutexGuard<'_, Array<MapData, lockdown::Cookies>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(name: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Setting {
        name,
        path: Path::new(SETTINGS).join(name),
        source,
    }
}

fn read(name: &'static str) -> Result<u16, Error> {
    let text = fs::read_to_string(Path::new(SETTINGS).join(name)).map_err(failed(name))?;
    let number = text.trim().parse();
    number.map_err(|_| failed(name)(io::Error::other("not a number")))
}

/// Makes a setting this, if it is not, and looks whether it is.
fn change(name: &'static str, value: u16) -> Result<(), Error> {
    if read(name)? == value {
        return Ok(());
    }
    fs::write(Path::new(SETTINGS).join(name), value.to_string()).map_err(failed(name))?;
    match read(name)? == value {
        true => Ok(()),
        false => Err(failed(name)(io::Error::other("it stays as it is"))),
    }
}

/// What the kernel works out for a connection of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    scale: u8,
    /// Bytes, as far as a header can tell without the scale.
    first: u16,
}

/// Asks the kernel, by a connection over loopback to a listener like ours: the scale depends on
/// settings and on its version.
fn measure() -> io::Result<Window> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let _client = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(1))?;
    let (accepted, _) = listener.accept()?;
    let mut info = [0_u8; WINDOW_AT + 4];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the buffer, and says how many.
    let got = unsafe {
        libc::getsockopt(
            accepted.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    let scales = info.get(SCALES_AT).copied().unwrap_or_default();
    let window = info
        .get(WINDOW_AT..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    Ok(Window {
        scale: scales >> 4,
        first: u16::try_from(window).unwrap_or(u16::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another scale than the kernel's makes uploads crawl.
    #[test]
    fn the_window_of_this_machine_is_measured() {
        let window = measure().unwrap();
        assert!(window.scale <= 14 && window.first > 4_096, "{window:?}");
        let most: u64 = fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem")
            .unwrap()
            .split_whitespace()
            .next_back()
            .unwrap()
            .parse()
            .unwrap();
        // A window that cannot reach the largest buffer, or is scaled beyond all need.
        assert!(u64::from(u16::MAX) << window.scale >= most / 4, "{window:?} for {most}");
    }
}
