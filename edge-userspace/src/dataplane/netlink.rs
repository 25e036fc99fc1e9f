//! What the kernel says of interfaces and addresses (rtnetlink(7)): which interface has a name,
//! what it is, which XDP program it has; and which addresses are this machine's. `links` and
//! `homes` ask; nothing is changed by it.
//!
//! Messages are read from bytes without a library: two kinds of them, a few attributes each. Bytes
//! that do not fit are skipped.
#![expect(unsafe_code, reason = "no library sets NETLINK_GET_STRICT_CHK")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use ipnet::IpNet;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// The table of the machine's own addresses, and the type of their routes.
const RT_TABLE_LOCAL: u8 = 255;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
/// linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
/// linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;
/// An attribute's type without the flags of nesting and byte order.
const TYPE: u16 = 0x3fff;
/// Groups of changes: links, IPv4 and IPv6 addresses.
const CHANGES: u32 = 0x1 | 0x10 | 0x100;
/// linux/if_arp.h: the devices whose packets begin with an Ethernet header.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
/// Those whose packets begin with the IP header: PPP, raw IP, tunnels in IP and IPv6, and what has
/// no header at all (TUN, WireGuard). Not GRE and SIT: the kernel hands XDP their packets with the
/// outer headers in front.
const ARPHRD_BARE: [u16; 5] = [512, 519, 768, 769, 0xfffe];
/// Bytes of one read; the kernel fills at most 32 KiB of a dump at once.
const BUFFER: usize = 64 << 10;
/// Longer answers than this are a kernel's that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an interface's packets begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Bare,
    /// Something that the program does not read; the number of linux/if_arp.h.
    Other(u16),
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number for it.
    pub(super) index: u32,
    pub(super) header: Header,
    /// Bytes of an IP packet at most.
    pub(super) mtu: u32,
    /// The ids of the XDP programs on it; one mostly.
    pub(super) programs: Vec<u32>,
}

/// A socket for questions, or for changes.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// For questions.
    pub(super) fn open() -> io::Result<Self> {
        let this = Self::socket(0)?;
        let on: libc::c_int = 1;
        // SAFETY: the option's value is the integer that the pointer is to, of the size given.
        let set = unsafe {
            libc::setsockopt(
                this.0.as_raw_fd(),
                libc::SOL_NETLINK,
                NETLINK_GET_STRICT_CHK,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        set_socket_timeout(&this.0, Timeout::Recv, Some(PATIENCE))?;
        Ok(this)
    }

    /// For changes of links and addresses; a wait ends after `tick` at the latest.
    pub(super) fn changes(tick: Duration) -> io::Result<Self> {
        let this = Self::socket(CHANGES)?;
        set_socket_timeout(&this.0, Timeout::Recv, Some(tick))?;
        Ok(this)
    }

    fn socket(groups: u32) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Waits until something has changed, or for a tick, and forgets what it was. So many changes
    /// that some were lost are a change, too.
    pub(super) fn wait(&self) {
        let mut buffer = vec![0; BUFFER];
        if recv(&self.0, &mut *buffer, RecvFlags::empty()).is_ok() {
            // Changes come in bunches.
            std::thread::sleep(Duration::from_millis(20));
            while recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT).is_ok() {}
        }
    }

    /// The interface of this name in the socket's network namespace, or of this other name of it;
    /// `None` if there is none.
    pub(super) fn link(&self, name: &str) -> io::Result<Option<Link>> {
        let mut request = vec![0; 16];
        attribute(&mut request, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        let mut found = None;
        let asked = self.ask(RTM_GETLINK, NLM_F_REQUEST, &request, |kind, body| {
            if kind == RTM_NEWLINK {
                found = link(body);
            }
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            other => other.map(|()| found),
        }
    }

    /// Every address that is this machine's, as the kernel's own table has it: single ones mostly,
    /// but whole networks can be made local, too (127.0.0.0/8 is).
    pub(super) fn locals(&self) -> io::Result<Vec<IpNet>> {
        let mut locals = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut request = vec![0; 12];
            // rtm_family, and the table and the type that are asked for.
            for (at, value) in [
                (0, u8::try_from(family).unwrap_or_default()),
                (4, RT_TABLE_LOCAL),
                (7, RTN_LOCAL),
            ] {
                if let Some(byte) = request.get_mut(at) {
                    *byte = value;
                }
            }
            self.ask(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, &request, |kind, body| {
                if kind == RTM_NEWROUTE {
                    locals.extend(local(body));
                }
            })?;
        }
        locals.sort();
        locals.dedup();
        Ok(locals)
    }

    /// Sends a question and reads its answer to the end.
    fn ask(&self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (_, taken) = recv(&self.0, &mut *buffer, RecvFlags::empty())?;
            let mut rest = buffer.get(..taken).unwrap_or_default();
            while let Some((kind, body, behind)) = next(rest) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = body.first_chunk().map_or(-libc::EIO, |code| i32::from_ne_bytes(*code));
                        return match code {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    kind => each(kind, body),
                }
                rest = behind;
            }
            if flags & NLM_F_DUMP == 0 {
                return Ok(());
            }
        }
    }
}

/// The first message of these bytes: its type, its content, and what is behind it.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(aligned(length)..).unwrap_or_default()))
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(aligned(to.len()), 0);
}

/// The attributes in these bytes, with their types.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind & TYPE, value))
    })
}

fn word(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// `struct ifinfomsg` and what follows.
fn link(body: &[u8]) -> Option<Link> {
    let kind = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
    let index = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    let mut link = Link {
        index,
        header: match kind {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Header::Ethernet,
            kind if ARPHRD_BARE.contains(&kind) => Header::Bare,
            kind => Header::Other(kind),
        },
        mtu: 0,
        programs: Vec::new(),
    };
    for (kind, value) in attributes(body.get(16..)?) {
        if kind == IFLA_MTU {
            link.mtu = word(value);
        }
        if kind == IFLA_XDP {
            let ids = attributes(value).filter_map(|(kind, value)| match kind {
                IFLA_XDP_PROG_ID | IFLA_XDP_DRV_PROG_ID | IFLA_XDP_SKB_PROG_ID => Some(word(value)),
                _ => None,
            });
            link.programs.extend(ids.filter(|id| *id != 0));
        }
    }
    link.programs.sort_unstable();
    link.programs.dedup();
    Some(link)
}

/// `struct rtmsg` and what follows: the network, if it is a local one. Kernels that do not filter
/// dump other routes, too.
fn local(body: &[u8]) -> Option<IpNet> {
    let [family, length, _, _, table, _, _, kind, ..] = *body else {
        return None;
    };
    if table != RT_TABLE_LOCAL || kind != RTN_LOCAL {
        return None;
    }
    let (_, value) = attributes(body.get(12..)?).find(|(kind, _)| *kind == RTA_DST)?;
    let address: IpAddr = if i32::from(family) == libc::AF_INET {
        Ipv4Addr::from(*value.first_chunk::<4>()?).into()
    } else {
        Ipv6Addr::from(*value.first_chunk::<16>()?).into()
    };
    IpNet::new(address, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's answers of this machine: whatever it is, it has a loopback interface and its
    /// addresses.
    #[test]
    fn the_loopback_interface_and_its_addresses_are_found() {
        let netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.header), (1, Header::Ethernet));
        assert_eq!(netlink.link("no-such-link0").unwrap(), None);
        let locals = netlink.locals().unwrap();
        assert!(locals.contains(&"127.0.0.0/8".parse().unwrap()), "{locals:?}");
    }

    /// A message cut short anywhere must neither panic nor be read beyond its end.
    #[test]
    fn what_is_cut_short_is_skipped() {
        let mut body = vec![0, 0, 0xfe, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        attribute(&mut body, IFLA_MTU, &1_420_u32.to_ne_bytes());
        let mut xdp = Vec::new();
        attribute(&mut xdp, IFLA_XDP_PROG_ID, &9_u32.to_ne_bytes());
        attribute(&mut xdp, IFLA_XDP_SKB_PROG_ID, &9_u32.to_ne_bytes());
        attribute(&mut body, IFLA_XDP | 0x8000, &xdp);
        let expected = Link {
            index: 7,
            header: Header::Bare,
            mtu: 1_420,
            programs: vec![9],
        };
        assert_eq!(link(&body), Some(expected));
        for length in 0..body.len() {
            let _ = link(&body[..length]);
        }
        let mut route = vec![2, 32, 0, 0, RT_TABLE_LOCAL, 0, 0, RTN_LOCAL, 0, 0, 0, 0];
        attribute(&mut route, RTA_DST, &[192, 0, 2, 1]);
        assert_eq!(local(&route), Some("192.0.2.1/32".parse().unwrap()));
        for length in 0..route.len() {
            assert_eq!(local(&route[..length]), None);
        }
        route[7] = 3;
        assert_eq!(local(&route), None, "a broadcast address is nobody's");
        assert_eq!(next(&[0; 15]), None);
        assert_eq!(next(&[0xff; 32]), None);
    }
}
