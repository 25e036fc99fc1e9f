//! What can be reached: the ports that the node wants, and the servers that it asks.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use http::Method;

use super::Finding;
use crate::admin::client;
use crate::config::value::AdminAddress;
use crate::config::{Config, Origin};

/// For one connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the ports are free, or the running node's.
pub(super) fn ports(config: &Config, admin: &AdminAddress) -> Vec<Finding> {
    let running = client::ask(admin, Method::GET, "/status", String::new()).ok();
    let mut findings = vec![match &running {
        Some(_) => Finding::sound("node", format!("runs, and answers at {admin}")),
        None => Finding::sound("node", format!("does not run here, or not with the endpoint {admin}")),
    }];
    let server = &config.server;
    let tcp = server.https.iter().chain(&server.http).chain(&server.plain);
    let mut wanted: Vec<(&str, SocketAddr)> = tcp.map(|address| ("TCP", *address)).collect();
    if server.http3 {
        wanted.extend(server.https.iter().map(|address| ("UDP", *address)));
    }
    for (protocol, address) in wanted {
        let bound = match protocol {
            "TCP" => TcpListener::bind(address).map(drop),
            _ => UdpSocket::bind(address).map(drop),
        };
        findings.push(port(&format!("{protocol} {address}"), bound, running.is_some()));
    }
    findings
}

fn port(about: &str, bound: io::Result<()>, running: bool) -> Finding {
    match bound {
        Ok(()) => Finding::sound(about, "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
            Finding::sound(about, "the running node's")
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::failure(
            about,
            "another process has it",
            "`ss -lntup` says which; stop it, or write another port",
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Finding::failure(
            about,
            "no address of this machine",
            "write one that `ip address` shows, or 0.0.0.0 or [::]",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::warning(
            about,
            "not this user's to take",
            "run this as root to know; the unit gives the daemon CAP_NET_BIND_SERVICE",
        ),
        Err(error) => Finding::warning(about, error.to_string(), "see the system's message"),
    }
}

/// Whether key servers, far ends and origins take connections.
pub(super) fn servers(config: &Config) -> Vec<Finding> {
    let mut wanted: Vec<(String, String, u16, bool)> = Vec::new();
    for server in &config.key_servers {
        let (host, port) = (server.address.ip().to_string(), server.address.port());
        wanted.push((format!("key server {}", server.name), host, port, true));
    }
    let ends = config
        .far_ends
        .iter()
        .map(|end| (format!("far end {}", end.name), &end.upstream));
    let origins = config.zones.iter().filter_map(|zone| match &zone.origin {
        Origin::Servers(upstream) => Some((format!("origin of zone {}", zone.name), upstream)),
        _ => None,
    });
    for (about, upstream) in ends.chain(origins) {
        for server in &upstream.servers {
            let address = &server.address;
            wanted.push((about.clone(), address.host.clone(), address.port, false));
        }
    }
    let look = |(about, host, port, needed): (String, String, u16, bool)| {
        let about = format!("{about}, {host}:{port}");
        server(&about, connect(&host, port), needed)
    };
    wanted.into_iter().map(look).collect()
}

fn connect(host: &str, port: u16) -> io::Result<()> {
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn server(about: &str, reached: io::Result<()>, needed: bool) -> Finding {
    match reached {
        Ok(()) => Finding::sound(about, "takes connections"),
        // Without it there is no handshake at all; an origin may be started later.
        Err(error) if needed => Finding::failure(about, error.to_string(), "start it, or look at the way there"),
        Err(error) => Finding::warning(about, error.to_string(), "start it, or look at the way there"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::*;

    /// A port that is taken by somebody else is found before the start finds it; the running node's
    /// own is no fault.
    #[test]
    fn ports_and_their_owners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = || TcpListener::bind(address).map(drop);
        assert_eq!(port("x", taken(), false).weight, Weight::Failure);
        assert_eq!(port("x", taken(), true).weight, Weight::Sound);
        assert_eq!(
            server("x", connect("127.0.0.1", address.port()), true).weight,
            Weight::Sound
        );
        drop(listener);
        assert_eq!(port("x", taken(), false).weight, Weight::Sound);
        assert_eq!(
            server("x", connect("127.0.0.1", address.port()), true).weight,
            Weight::Failure
        );
        assert_eq!(
            server("x", connect("127.0.0.1", address.port()), false).weight,
            Weight::Warning
        );
    }
}
