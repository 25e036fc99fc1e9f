//! `[server]`: where clients come in, and how the process starts, reloads and ends.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use toml::Spanned;

use super::checker::Checker;
use super::client_address::{self, ClientAddress, ClientAddressText};
use super::kind::{Address, Count, Flag, Inline, List, Maybe, Net, Span, Threads, Word, words};
use super::section::section;
use super::value::{Network, seconds};

/// Networks of translators at most: as many as the kernel's program has room for.
pub const TRANSLATORS: usize = 4;

words! {
    /// Whether a zone that cannot be prepared stops the others.
    ZonesFail {
        /// The others are served; it keeps what served it before, or is refused.
        Alone = "alone",
        /// Nothing starts, and no reload is taken.
        Together = "together",
    }
}

section! {
    /// Listeners and threads.
    ServerText => Server {
        /// Addresses that speak TLS (HTTP/1.1 and HTTP/2 by ALPN). At least one here or in `http`.
        fixed https: List<Address> = Vec::new();
        /// HTTP/3 (QUIC) on the same addresses and UDP ports as `https`, announced by Alt-Svc.
        fixed http3: Flag = true;
        /// Plain addresses: every request is redirected to https.
        fixed http: List<Address> = Vec::new();
        /// Plain addresses on which the zones are served without TLS: on 127.0.0.1 and `[::1]` to
        /// try things; on others for a balancer in front that speaks TLS to clients.
        fixed plain: List<Address> = Vec::new();
        /// Peers that may ask on plain addresses, beside this machine; without any, only loopback
        /// may be listened on.
        live plain_from: List<Net> = Vec::new();
        /// The port of HTTP/3 that Alt-Svc names: the one that clients reach, if ports are mapped
        /// on their way. Left out: `redirect_port` if that is written, else the listener's. 0: no
        /// Alt-Svc.
        live alt_svc_port: Maybe<Count<u16>> = None; like 443;
        /// Threads that serve; 0: one per processor.
        fixed workers: Threads = 0, 0 => 1_024;
        /// Peers whose connections begin with a PROXY protocol header, v1 or v2 (a load balancer in
        /// front). From these the header is demanded; from all others it is refused.
        live proxy_protocol_from: List<Net> = Vec::new();
        /// How long requests under way may go on after SIGTERM.
        live drain: Span = seconds(30);
        /// A zone that cannot be prepared (a key, a worker or a directory that is not there):
        /// alone, the others are served, and it keeps what served it before or is refused;
        /// together, nothing starts and no reload is taken. `edge check` fails either way.
        live zones_fail: Word<ZonesFail> = ZonesFail::Alone;
    }
    read {
        /// Proxies in front that speak HTTP and name their clients in a field: gate, limits, logs,
        /// lists and rules go by the client's address, and the kernel lets the proxies pass. See
        /// docs/proxies.md. `depth`: instead of the first address from the end that is not trusted,
        /// the N-th. `scheme`: the field that says whether the client came by https; "": none.
        live client_address: Inline<Option<ClientAddressText>> = None;
            like { from = "X-Forwarded-For", trusted = ["10.0.0.0/8"], depth = 1, scheme = "X-Forwarded-Proto" };
        /// Networks (/96) into which translators in front put IPv4 clients (NAT64, SIIT; RFC 6052),
        /// beside 64:ff9b::/96: such a client is counted, limited and penalised as the IPv4 address
        /// that it has. The same on all nodes of a cluster.
        fixed nat64: List<Net> = Vec::new(); like ["2001:db8:64::/96"];
        /// The port written into the redirects of `http`. Left out: 443.
        live redirect_port: Maybe<Count<u16>> = None; like 443;
    }
    checked {
        /// Proxies that name their clients; `None`: each peer is its own client.
        client_address: Option<Arc<ClientAddress>>,
        /// The port written into redirects.
        redirect_port: u16,
        /// Networks of translators.
        nat64: Vec<Ipv6Net>,
    }
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

/// `[server]`.
pub(super) fn server(raw: &ServerText, checker: &mut Checker<'_>) -> Server {
    let mut server = raw.check(checker);
    let written = *raw.redirect_port.get_ref();
    server.redirect_port = written.unwrap_or(443);
    // Who says where clients are sent to says which port they reach.
    server.alt_svc_port = server.alt_svc_port.or(written);
    let rule = raw.client_address.get_ref().as_ref();
    server.client_address = rule.and_then(|raw| client_address::check(raw, checker)).map(Arc::new);
    server.nat64 = nat64(raw.nat64.get_ref(), checker);
    let lists = [&raw.https, &raw.http, &raw.plain];
    if lists.iter().all(|list| list.get_ref().is_empty()) {
        checker.mistake(
            raw.https.span(),
            "no listener",
            "write [server] https = [\"0.0.0.0:443\", \"[::]:443\"]",
        );
    }
    let reached = |address: &&toml::Spanned<std::net::SocketAddr>| !address.get_ref().ip().is_loopback();
    if let (Some(address), true) = (raw.plain.get_ref().iter().find(reached), server.plain_from.is_empty()) {
        checker.mistake(
            address.span(),
            format!(
                "other hosts can reach {}, and what is served there is not encrypted",
                address.get_ref()
            ),
            "write an address of loopback, a TLS address in `https`, or who may ask there: plain_from = [\"10.0.0.0/8\"], the networks \
             of the balancer in front",
        );
    }
    let mut seen = HashSet::new();
    for address in lists.into_iter().flat_map(|list| list.get_ref()) {
        if !seen.insert(*address.get_ref()) {
            checker.mistake(
                address.span(),
                format!("{} is listed twice", address.get_ref()),
                "remove one",
            );
        }
    }
    server
}

/// Networks of translators: each a /96 of IPv6, and no more than the kernel's program has room for.
fn nat64(raw: &[Spanned<Network>], checker: &mut Checker<'_>) -> Vec<Ipv6Net> {
    let mut networks = Vec::new();
    for written in raw {
        match written.get_ref().0 {
            IpNet::V6(network) if network.prefix_len() == 96 => networks.push(network.trunc()),
            other => {
                let mend = "write the /96 of the translator, like \"2001:db8:64::/96\"";
                checker.mistake(written.span(), format!("{other} is not a /96 of IPv6"), mend);
            }
        }
    }
    if let (Some(first), true) = (raw.first(), networks.len() > TRANSLATORS) {
        let what = format!("{} networks of translators", networks.len());
        checker.mistake(first.span(), what, format!("write at most {TRANSLATORS}"));
        networks.truncate(TRANSLATORS);
    }
    networks
}
