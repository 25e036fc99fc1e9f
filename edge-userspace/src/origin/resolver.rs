//! The addresses of origin servers by name servers: those of a name, or those of a service's
//! servers (SRV), with the time that the answer holds. `names` asks, if the file names `resolver`
//! or a server with `srv`; otherwise it asks the system's resolver, which tells no time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::base::dns::{Answer, Kind};
use crate::base::name_servers::NameServers;

/// The shortest and the longest time that an answer holds.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(3_600);
/// Servers of one service.
const SERVERS: usize = 32;
/// Addresses of one answer, each as often as its weight says.
const ADDRESSES: usize = 64;

/// Name servers that are asked for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolver(NameServers);

/// Addresses, and how long they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) holds: Duration,
}

impl Resolver {
    /// These, or the system's if there are none.
    pub(super) fn new(named: &[SocketAddr]) -> Self {
        Self(NameServers::new(named))
    }

    /// The addresses of `host`, with `port`; none if nobody knows any.
    pub(super) async fn host(&self, host: &str, port: u16) -> Found {
        let (v4, v6) = tokio::join!(self.0.ask(host, Kind::A), self.0.ask(host, Kind::Aaaa));
        // A family that the name has no addresses of says nothing of how long the others hold.
        let known = [v4, v6]
            .into_iter()
            .flatten()
            .filter(|answer| !answer.addresses.is_empty());
        let mut found = Found {
            holds: MOST,
            ..Found::default()
        };
        for answer in known {
            found.holds = found.holds.min(held(&answer));
            let addresses = answer.addresses.into_iter();
            found
                .addresses
                .extend(addresses.map(|address| SocketAddr::new(address, port)));
        }
        reachable(&mut found.addresses);
        found
    }

    /// The addresses of the servers of the service `name`: of those with the least priority that
    /// have any, each as often as its weight says.
    pub(super) async fn service(&self, name: &str) -> Found {
        let Ok(answer) = self.0.ask(name, Kind::Srv).await else {
            return Found::default();
        };
        let mut holds = held(&answer);
        let mut services = answer.services;
        services.retain(|service| service.port > 0);
        services.truncate(SERVERS);
        services.sort_by_key(|service| service.priority);
        for together in services.chunk_by(|a, b| a.priority == b.priority) {
            let mut shares = Vec::new();
            for service in together {
                let found = self.host(&service.target, service.port).await;
                if !found.addresses.is_empty() {
                    holds = holds.min(found.holds);
                    shares.push((service.weight, found.addresses));
                }
            }
            if !shares.is_empty() {
                return Found {
                    addresses: weighted(&shares),
                    holds,
                };
            }
        }
        Found::default()
    }
}

fn held(answer: &Answer) -> Duration {
    answer.ttl.unwrap_or(LEAST).clamp(LEAST, MOST)
}

/// Leaves out addresses that no route leads to, unless all are such: a machine without IPv6 would
/// try those first.
fn reachable(addresses: &mut Vec<SocketAddr>) {
    let routed = |address: &SocketAddr| {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting a datagram's socket asks for the route, and sends nothing.
        std::net::UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect(address).is_ok())
    };
    if addresses.iter().any(routed) {
        addresses.retain(routed);
    }
}

/// The addresses in turns: each as often as its server's weight says, in the least numbers that do.
fn weighted(shares: &[(u16, Vec<SocketAddr>)]) -> Vec<SocketAddr> {
    let greatest = shares.iter().map(|(weight, _)| *weight).max().unwrap_or(0).max(1);
    let all: usize = shares.iter().map(|(_, addresses)| addresses.len()).sum();
    let most = (ADDRESSES / all.max(1)).clamp(1, 8);
    let times = |weight: u16| (usize::from(weight) * most).div_ceil(usize::from(greatest)).max(1);
    let least = shares.iter().map(|(weight, _)| times(*weight)).min().unwrap_or(1);
    let mut turns = Vec::new();
    for turn in 0..most.div_ceil(least) {
        for (weight, addresses) in shares {
            if turn < times(*weight).div_ceil(least) {
                turns.extend(addresses);
            }
        }
    }
    turns.truncate(ADDRESSES);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::dns::tests::{labels, respond};
    use crate::base::name_servers::tests::server;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn said(question: &[u8]) -> Vec<u8> {
        let kind = question[question.len() - 14];
        let asked = |name: &str| question[12..].starts_with(&labels(name));
        let service = |priority: u8, weight: u8, port: u16, target: &str| {
            let head = [&[0, priority, 0, weight][..], &port.to_be_bytes()].concat();
            ("", 33, 30, [head, labels(target)].concat())
        };
        let records = match kind {
            1 if asked("one.test") => vec![("", 1, 7, vec![127, 0, 0, 1])],
            1 if asked("two.test") => vec![("", 1, 60, vec![127, 0, 0, 2])],
            1 if asked("big.test") => (0..60).map(|n| ("", 1, 9, vec![127, 0, 1, n])).collect(),
            33 => vec![
                service(20, 1, 1, "one.test"),
                service(10, 1, 8_080, "one.test"),
                service(10, 3, 8_081, "two.test"),
                service(10, 3, 8_082, "none.test"),
            ],
            _ => vec![],
        };
        respond(question, &records, 0)
    }

    /// Requests would go to servers that are gone, all to one of several, or nowhere.
    #[tokio::test]
    async fn hosts_and_services() {
        let resolver = Resolver::new(&[server(0, said).await]);
        let seconds = Duration::from_secs;
        let one = resolver.host("one.test", 80).await;
        assert_eq!((one.addresses, one.holds), (vec![at("127.0.0.1:80")], seconds(7)));
        assert_eq!(resolver.host("none.test", 80).await.addresses, []);
        let big = resolver.host("big.test", 80).await;
        assert_eq!((big.addresses.len(), big.holds), (60, seconds(9)), "by TCP");
        let service = resolver.service("_http._tcp.test").await;
        let [a, b] = ["127.0.0.1:8080", "127.0.0.2:8081"].map(at);
        let count = |of| service.addresses.iter().filter(|address| **address == of).count();
        assert_eq!(
            (count(b), count(a) * 3, count(a) + count(b)),
            (count(a) * 3, count(b), service.addresses.len())
        );
        assert_eq!(service.holds, seconds(7), "the least of all");
    }

    /// A server without a weight would get nothing, or one have more than its share.
    #[test]
    fn shares_of_addresses() {
        let turns = weighted(&[(0, vec![at("127.0.0.1:1")]), (0, vec![at("127.0.0.2:1")])]);
        assert_eq!(turns, [at("127.0.0.1:1"), at("127.0.0.2:1")]);
        let many = (0..100).map(|n| at(&format!("127.0.0.{n}:1"))).collect();
        assert_eq!(weighted(&[(1, many)]).len(), ADDRESSES);
    }
}
