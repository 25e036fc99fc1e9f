//! `[dataplane]`: the XDP program, and whom it drops.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv6Net};

use super::Server;
use super::checker::Checker;
use super::kind::{Count, Directory, Flag, List, Maybe, Text, Word, words};
use super::listed::{self, Groups, Listed};
use super::section::section;

words! {
    /// How to attach.
    #[derive(Default)]
    XdpMode {
        /// Native, else generic with a warning.
        Auto = "auto",
        /// In the driver, or not at all.
        Native = "native",
        /// In the stack, on any interface.
        Generic = "generic",
        /// Without XDP.
        #[default]
        Off = "off",
    }
}

section! {
    /// XDP. Ports are those of `Server`.
    DataplaneText => Dataplane {
        /// Network interfaces to attach the XDP program to. None: no XDP.
        fixed interfaces: List<Text> = Vec::new();
        /// Where maps and links are pinned, so that they outlive the daemon. On a bpf file system.
        fixed pin_directory: Directory = PathBuf::from("/sys/fs/bpf/edge");
        /// Files in the MaxMind DB format (.mmdb), by which the lists may name groups of networks:
        /// deny = ["asn:64496", "country:XX"]. A file that has changed is read again within ten
        /// seconds.
        live databases: List<Directory> = Vec::new();
        /// Denied networks at most, those added by `edge deny add` included. Changing it rebuilds
        /// the list.
        fixed deny_entries: Count<u32> = 262_144, 16 => 16 << 20;
        /// A directory for the networks that `edge deny` adds, so that they outlive a reboot. Left
        /// out: they outlive the daemon, and only if XDP runs.
        fixed state_directory: Maybe<Directory> = None; like "/var/lib/edge/dataplane";
        /// Penalties at most, of addresses and clients together, and counts of as many tokens: 48
        /// bytes of kernel memory for both, taken at once. In a full table a penalty goes that
        /// nobody has run into lately and that ends first, or the smallest count. A change keeps
        /// the penalties in force.
        fixed penalty_entries: Count<u32> = 131_072, 1_024 => 16 << 20;
        /// In a lockdown (see `[quic]`) XDP answers TCP SYNs with SYN cookies. While it lasts
        /// net.ipv4.tcp_syncookies and tcp_timestamps are 2; they are put back some seconds after,
        /// by the next daemon if this one crashes. false: SYNs are left to the kernel.
        live syn_cookies: Flag = true;
        /// One dropped packet in N of a reason is told to the daemon, which logs 10 a second of
        /// each reason at most; 0: none.
        live event_sample: Count<u32> = 1_000;
    }
    read {
        /// Networks whose attempts always pass. The daemon itself holds to them, too: without XDP,
        /// and for clients that a PROXY protocol header names.
        live allow: List<Listed> = Vec::new();
        /// Networks whose attempts are dropped, by XDP and by the daemon as above; `allow` wins.
        live deny: List<Listed> = Vec::new();
        /// auto: native, falling back to generic with a warning; if the kernel, the machine or the
        /// device refuses both, the node runs without, and log, metrics, status and /readyz say so.
        /// native and generic: that, or the node does not start; and it is not ready while an
        /// interface has lost the program. off.
        fixed xdp: Word<XdpMode> = XdpMode::Auto;
    }
    checked {
        /// Networks whose attempts always pass.
        allow: Vec<IpNet>,
        /// Networks whose attempts are dropped.
        deny: Vec<IpNet>,
        /// Groups of networks on both lists.
        groups: Groups,
        /// How to attach; `Off` without interfaces.
        mode: XdpMode,
        /// TCP ports whose attempts are judged.
        tcp_ports: Vec<u16>,
        /// UDP ports whose attempts are judged.
        udp_ports: Vec<u16>,
        /// Networks of translators, as `[server] nat64` names them.
        nat64: Vec<Ipv6Net>,
        /// Addresses that attempts are judged on: those of the listeners. A wildcard is all of the
        /// machine's of that IP version.
        addresses: Vec<IpAddr>,
    }
}

impl Dataplane {
    /// Without interfaces, listeners and lists.
    pub fn none() -> Self {
        Self {
            deny_entries: 16,
            penalty_entries: 1_024,
            syn_cookies: false,
            event_sample: 0,
            ..Self::default()
        }
    }
}

/// `[dataplane]` of a node with these listeners.
pub(super) fn dataplane(raw: &DataplaneText, server: &Server, checker: &mut Checker<'_>) -> Dataplane {
    let mut dataplane = raw.check(checker);
    dataplane.nat64.clone_from(&server.nat64);
    dataplane.interfaces.sort();
    dataplane.interfaces.dedup();
    if !dataplane.interfaces.is_empty() {
        dataplane.mode = *raw.xdp.get_ref();
    }
    let groups;
    (dataplane.allow, groups) = listed::split(raw.allow.get_ref());
    dataplane.groups.allow = groups;
    let groups;
    (dataplane.deny, groups) = listed::split(raw.deny.get_ref());
    dataplane.groups.deny = groups;
    dataplane.groups.databases.clone_from(&dataplane.databases);
    if !dataplane.groups.is_empty() && dataplane.databases.is_empty() {
        let span = match dataplane.groups.deny.is_empty() {
            true => raw.allow.span(),
            false => raw.deny.span(),
        };
        checker.mistake(
            span,
            "asn: and country: name groups that only a database knows, and there is none",
            "write databases = [\"/var/lib/GeoIP/country.mmdb\"] beside the lists",
        );
    }
    // Proxies speak for many: none of them is dropped for what one of its clients does.
    dataplane.allow.extend_from_slice(server.trusted());
    dataplane.tcp_ports = each_once(server.reachable().map(SocketAddr::port));
    dataplane.udp_ports = each_once(server.https.iter().filter(|_| server.http3).map(SocketAddr::port));
    dataplane.addresses = each_once(server.reachable().map(SocketAddr::ip));
    dataplane
}

fn each_once<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}
