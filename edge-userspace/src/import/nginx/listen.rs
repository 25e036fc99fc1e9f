//! Servers: what they listen on, which names they have, and which of them nginx chooses for a host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::context::{Context, Levels};
use super::syntax::Directive;
use crate::config::value::HostPattern;
use crate::import::Weight;

/// By TLS or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Tls,
}

/// An address that a server listens on.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    pub(super) quic: bool,
    pub(super) default: bool,
    pub(super) proxy_protocol: bool,
}

/// A `server`.
pub(super) struct Server<'t> {
    pub(super) directive: &'t Directive,
    pub(super) levels: Levels<'t>,
    pub(super) listeners: Vec<Listener>,
    /// As zones have them.
    pub(super) names: Vec<HostPattern>,
}

impl<'t> Server<'t> {
    /// Reads names and addresses of a `server` within `http`.
    pub(super) fn of(cx: &mut Context<'t>, directive: &'t Directive, http: &Levels<'t>) -> Self {
        cx.take(directive);
        let levels = http.within(directive.inner());
        let named = |name: &'static str| directive.inner().iter().filter(move |inner| inner.name == name);
        let tls = named("ssl").any(|ssl| ssl.argument(0) == "on");
        for flag in named("ssl").chain(named("http2")).chain(named("http3")) {
            cx.take(flag);
        }
        let mut listeners: Vec<Listener> = Vec::new();
        for listen in named("listen") {
            match listener(cx, listen, tls) {
                Ok(found) => listeners.extend(found),
                Err(why) => cx.tell(listen, Weight::Missing, why),
            }
        }
        if named("listen").next().is_none() {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
            let transport = if tls { Transport::Tls } else { Transport::Plain };
            listeners.push(Listener {
                address,
                transport,
                quic: false,
                default: false,
                proxy_protocol: false,
            });
        }
        let mut names = Vec::new();
        for directive in named("server_name") {
            self::names(cx, directive, &mut names);
        }
        Self {
            directive,
            levels,
            listeners,
            names,
        }
    }

    pub(super) fn speaks(&self, transport: Transport) -> bool {
        self.listeners.iter().any(|listener| listener.transport == transport)
    }
}

fn listener(cx: &mut Context<'_>, listen: &Directive, ssl: bool) -> Result<Vec<Listener>, String> {
    let text = listen.argument(0);
    let address = address(text).ok_or("an address of a socket file, or a name: write the address into [server]")?;
    let mut listener = Listener {
        address,
        transport: if ssl { Transport::Tls } else { Transport::Plain },
        quic: false,
        default: false,
        proxy_protocol: false,
    };
    for word in listen.arguments.iter().skip(1) {
        match word.as_str() {
            "ssl" => listener.transport = Transport::Tls,
            "quic" | "http3" => {
                listener.transport = Transport::Tls;
                listener.quic = true;
            }
            "default_server" | "default" => listener.default = true,
            "proxy_protocol" => listener.proxy_protocol = true,
            // HTTP/2 is always spoken; the rest is of sockets.
            _ => {}
        }
    }
    cx.take(listen);
    let both = listen.arguments.iter().any(|word| word == "ipv6only=off");
    let mut listeners = vec![listener.clone()];
    if both && address.ip() == Ipv6Addr::UNSPECIFIED {
        listener.address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        listeners.push(listener);
    }
    Ok(listeners)
}

fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    if let Ok(port) = text.parse::<u16>() {
        return Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::from((ip, 80)));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, "80"));
    let ip = match host {
        "*" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => return None,
    };
    Some(SocketAddr::from((ip, port.parse().ok()?)))
}

fn names(cx: &mut Context<'_>, directive: &Directive, into: &mut Vec<HostPattern>) {
    cx.take(directive);
    for word in &directive.arguments {
        // Names that no client can ask for: the server is for hosts that no other one has.
        if matches!(word.as_str(), "" | "_" | "__" | "-" | "--" | "!@#" | "*") || word == "$hostname" {
            continue;
        }
        if word.starts_with('~') {
            cx.tell(
                directive,
                Weight::Missing,
                format!("{word}: hosts are names, or *.suffix; this server is not found by the expression"),
            );
            continue;
        }
        if word.ends_with(".*") {
            cx.tell(
                directive,
                Weight::Missing,
                format!("{word}: write out the names that end in other ways"),
            );
            continue;
        }
        let (dotted, rest) = match word.strip_prefix('.') {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let both = [rest.to_owned(), format!("*.{rest}")];
        for name in both.iter().take(if dotted { 2 } else { 1 }) {
            match name.parse::<HostPattern>() {
                Ok(host) => {
                    if matches!(host, HostPattern::Wildcard(_)) {
                        let why = "`*` stands for one label, in nginx for any number of them";
                        cx.tell(directive, Weight::Different, format!("{name}: {why}"));
                    }
                    if !into.contains(&host) {
                        into.push(host);
                    }
                }
                Err(why) => cx.tell(directive, Weight::Missing, why),
            }
        }
    }
}

/// The server that nginx has answer for `host`: by its name, by the longest `*.suffix`, or the
/// default one.
pub(super) fn find(servers: &[Server<'_>], transport: Transport, host: &HostPattern) -> Option<usize> {
    let speaks = || (0..).zip(servers).filter(|(_, server)| server.speaks(transport));
    if let Some((at, _)) = speaks().find(|(_, server)| server.names.contains(host)) {
        return Some(at);
    }
    let name = match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
    };
    let longest = speaks()
        .filter_map(|(at, server)| {
            let fits = |pattern: &HostPattern| match pattern {
                HostPattern::Wildcard(suffix) => name
                    .strip_suffix(suffix.as_str())
                    .is_some_and(|front| front.ends_with('.'))
                    .then_some(suffix.len()),
                HostPattern::Exact(_) => None,
            };
            Some((server.names.iter().filter_map(fits).max()?, at))
        })
        .max_by_key(|(length, at)| (*length, std::cmp::Reverse(*at)));
    longest.map(|(_, at)| at).or_else(|| default(servers, transport))
}

/// The server for hosts that no other one has.
pub(super) fn default(servers: &[Server<'_>], transport: Transport) -> Option<usize> {
    let of = |server: &&Server<'_>| server.speaks(transport);
    let marked = |server: &Server<'_>| {
        let marked = |listener: &Listener| listener.default && listener.transport == transport;
        server.listeners.iter().any(marked)
    };
    let first = servers.iter().position(|server| of(&server) && marked(server));
    first.or_else(|| servers.iter().position(|server| of(&server)))
}

#[cfg(test)]
mod tests {
    /// The node would listen elsewhere than nginx did.
    #[test]
    fn addresses() {
        for (text, address) in [
            ("80", "0.0.0.0:80"),
            ("*:8080", "0.0.0.0:8080"),
            ("[::]:443", "[::]:443"),
            ("[::1]", "[::1]:80"),
            ("192.0.2.1", "192.0.2.1:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("127.0.0.1:8443", "127.0.0.1:8443"),
        ] {
            assert_eq!(super::address(text), Some(address.parse().unwrap()), "{text}");
        }
        for text in ["unix:/run/x", "example.com:80", "", "99999", "*:x"] {
            assert_eq!(super::address(text), None, "{text}");
        }
    }
}
