//! Crawlers that do not sign: known by the name of their address, if that name leads back to the
//! address (forward-confirmed reverse DNS). Whoever has a network can give its addresses any name;
//! only who has the domain can have a name of it lead to them.
//!
//! Asked only of requests whose `User-Agent` says that they are of such a crawler. What is found is
//! remembered in a table of fixed size; a request waits for it for [`PATIENCE`] at most and is
//! judged as anybody's then, while the question goes on for [`DEADLINE`] on a thread of its own. A
//! network has few questions, and a node few at once.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::bucket::{Buckets, Rate, Take, Taken};
use super::clock::{Clock, nanos};
use super::prefixes;
use super::table::{Table, Worth};
use crate::base::dns::{Kind, reversed};
use crate::base::name_servers::NameServers;
use crate::base::peer::client_prefix;
use crate::config::value::within;

/// How long a request waits for what its address is.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long a question is asked.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long it is remembered that an address is a crawler's, that it is not, and that nobody said.
const IS: Duration = Duration::from_secs(3_600);
const IS_NOT: Duration = Duration::from_secs(600);
const UNKNOWN: Duration = Duration::from_secs(30);
/// Addresses that are remembered: 40 bytes each.
const REMEMBERED: usize = 8_192;
/// Questions at once.
const ASKED: usize = 64;
/// Questions about the addresses of a network (IPv6 /48, IPv4 /24): at once, and per second.
const OF_NETWORK: u32 = 64;
const OF_NETWORK_RATE: u32 = 4;
/// Names of an address that are looked at.
const NAMES: usize = 4;

/// A crawler that is known by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    /// A part of its `User-Agent`, in lower case.
    pub(super) agent: String,
    /// Domains that its hosts are in, in lower case.
    pub(super) domains: Arc<[String]>,
}

impl Named {
    /// Whether a host is in one of the domains.
    fn has(&self, host: &str) -> bool {
        self.domains.iter().any(|domain| within(host, domain))
    }
}

/// What is known of addresses.
pub(super) struct Reverse {
    servers: NameServers,
    known: Arc<Table<u64, Known>>,
    asked: Arc<Mutex<HashMap<u64, watch::Receiver<Option<bool>>>>>,
    /// Of the thread that asks; `None`: it could not be started.
    thread: OnceLock<Option<Handle>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    is: bool,
    until: Duration,
    owners: [u32; 2],
}

impl Worth for Known {
    const KEEPS: bool = false;

    /// A crawler that is known goes last.
    fn worth(&self, now: Duration) -> u64 {
        let left = nanos(self.until.saturating_sub(now));
        if self.is { left } else { left.min(1) }
    }

    fn owners(&self) -> [u32; 2] {
        self.owners
    }
}

impl Reverse {
    /// Asks these servers; without any, those of the system.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        Self {
            servers: NameServers::new(servers),
            known: Arc::new(Table::new(REMEMBERED)),
            asked: Arc::default(),
            thread: OnceLock::new(),
        }
    }

    /// Whether `address` is one of `crawler`'s, as far as is known within [`PATIENCE`].
    pub(super) async fn is_of(&self, (buckets, clock): (&Buckets, &Clock), address: IpAddr, crawler: &Named) -> bool {
        let address = address.to_canonical();
        let now = clock.now().mono;
        let key = self.known.hash((address, &*crawler.domains));
        if let Some(known) = self.known.find(key).filter(|known| known.until > now) {
            return known.is;
        }
        let Some(mut answer) = self.ask((buckets, clock), key, address, crawler) else {
            return false;
        };
        let answered = timeout(PATIENCE, answer.wait_for(Option::is_some)).await;
        matches!(answered, Ok(Ok(is)) if *is == Some(true))
    }

    /// The answer to come; `None` if too much is asked already.
    fn ask(
        &self,
        (buckets, clock): (&Buckets, &Clock),
        key: u64,
        address: IpAddr,
        crawler: &Named,
    ) -> Option<watch::Receiver<Option<bool>>> {
        let prefix = client_prefix(address);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = asked.get(&key) {
            return Some(answer.clone());
        }
        let rate = Rate::new(OF_NETWORK_RATE, Duration::from_secs(1), OF_NETWORK);
        let site = Take::client(buckets.key((prefixes::site(prefix), "names")), rate);
        if asked.len() >= ASKED || matches!(buckets.ask(clock.now().mono, site), Taken::No { .. }) {
            return None;
        }
        let thread = self.thread.get_or_init(|| {
            thread()
                .inspect_err(
                    |error| tracing::warn!(target: "edge::gate", %error, "crawlers are not known by their names"),
                )
                .ok()
        });
        let thread = thread.as_ref()?;
        let (tell, answer) = watch::channel(None);
        asked.insert(key, answer.clone());
        let (known, pending) = (self.known.clone(), self.asked.clone());
        let (servers, crawler, clock) = (self.servers.clone(), crawler.clone(), clock.clone());
        thread.spawn(async move {
            let found = timeout(DEADLINE, confirmed(&servers, address, &crawler)).await;
            let (is, lasts) = match found {
                Ok(Ok(true)) => (true, IS),
                Ok(Ok(false)) => (false, IS_NOT),
                Ok(Err(_)) | Err(_) => (false, UNKNOWN),
            };
            let now = clock.now().mono;
            let fresh = Known {
                is,
                until: now + lasts,
                owners: prefixes::owners(prefix),
            };
            known.update(key, now, || fresh, |old| *old = fresh);
            pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            // Whoever asked may have gone.
            let _ = tell.send(Some(is));
        });
        Some(answer)
    }
}

impl std::fmt::Debug for Reverse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reverse")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// A thread that asks, as long as the process lives.
fn thread() -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("gate-names".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// Whether a name of `address` is in a domain of the crawler's, and leads to `address`.
async fn confirmed(servers: &NameServers, address: IpAddr, crawler: &Named) -> io::Result<bool> {
    let names = servers.ask(&reversed(address), Kind::Ptr).await?.names;
    let kind = if address.is_ipv4() { Kind::A } else { Kind::Aaaa };
    for name in names.into_iter().filter(|name| crawler.has(name)).take(NAMES) {
        if servers.ask(&name, kind).await?.addresses.contains(&address) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::base::dns::tests::{labels, respond};

    /// A DNS server: `bot.example` has 192.0.2.1, whose name is right; 192.0.2.2 says that it is of
    /// the bot, and is not; 192.0.2.3 has a name of another domain; 192.0.2.9 has no answer. Counts
    /// questions.
    async fn server(truncates: bool) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let stream = tokio::net::TcpListener::bind(at).await.unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = asked.clone();
        let answer = move |message: &[u8]| {
            let mut name = String::new();
            let mut at = 12;
            while message[at] != 0 {
                let end = at + 1 + usize::from(message[at]);
                name.push_str(std::str::from_utf8(&message[at + 1..end]).unwrap());
                name.push('.');
                at = end;
            }
            seen.lock().unwrap().push(name.clone());
            let ptr = |to: &str| respond(message, &[("", 12, 60, labels(to))], 0);
            match name.as_str() {
                "1.2.0.192.in-addr.arpa." => Some(ptr("c1.bot.example")),
                "2.2.0.192.in-addr.arpa." => Some(ptr("c2.bot.example")),
                "3.2.0.192.in-addr.arpa." => Some(ptr("c1.evilbot.example")),
                "c1.bot.example." | "c2.bot.example." => Some(respond(message, &[("", 1, 60, vec![192, 0, 2, 1])], 0)),
                "9.2.0.192.in-addr.arpa." => None,
                _ => Some(respond(message, &[], 3)),
            }
        };
        let by_stream = answer.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let Some(mut said) = answer(&buffer[..length]) else {
                    continue;
                };
                // A forger is faster, and does not know the id.
                let mut forged = respond(&buffer[..length], &[("", 12, 60, labels("c1.bot.example"))], 0);
                forged[0] ^= 1;
                socket.send_to(&forged, from).await.unwrap();
                if truncates {
                    said[2] |= 2;
                }
                socket.send_to(&said, from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = stream.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut message = vec![0; length.into()];
                stream.read_exact(&mut message).await.unwrap();
                if let Some(said) = by_stream(&message) {
                    stream.write_u16(said.len() as u16).await.unwrap();
                    stream.write_all(&said).await.unwrap();
                }
            }
        });
        (at, asked)
    }

    fn bot() -> Named {
        Named {
            name: "bot".into(),
            agent: "bot".to_owned(),
            domains: ["bot.example".to_owned()].into(),
        }
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// Whoever gives its addresses a crawler's names would be let in as one, or the crawler not.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_name_counts_if_it_leads_back() {
        for truncates in [false, true] {
            let (at, asked) = server(truncates).await;
            let reverse = Reverse::new(&[at]);
            let (buckets, clock) = (Buckets::new(1_024, 0), Clock::new());
            let is = async |n| reverse.is_of((&buckets, &clock), address(n), &bot()).await;
            // A loaded machine may take longer than a request's patience: then the next one knows.
            let settled = async |n: u8| {
                for _ in 0..200 {
                    let found = is(n).await;
                    let key = reverse.known.hash((address(n), &*bot().domains));
                    if let Some(known) = reverse.known.find(key) {
                        return found || known.is;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                panic!("no answer");
            };
            assert!(settled(1).await);
            assert!(!settled(2).await, "its name leads to another address");
            assert!(!settled(3).await, "a name that only ends alike");
            assert!(!settled(4).await, "it has no name");
            let before = asked.lock().unwrap().len();
            assert!(is(1).await && !is(2).await);
            assert_eq!(asked.lock().unwrap().len(), before, "what is known is not asked again");
        }
    }

    /// A server that does not answer would hold up requests, and a flood of addresses would be a
    /// flood of questions.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn patience_and_questions_are_bounded() {
        let (at, _) = server(false).await;
        let reverse = Reverse::new(&[at]);
        let (buckets, clock) = (Buckets::new(1_024, 0), Clock::new());
        let start = std::time::Instant::now();
        assert!(!reverse.is_of((&buckets, &clock), address(9), &bot()).await);
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < DEADLINE);
        // Other requests of that address wait for the same question.
        assert_eq!(reverse.asked.lock().unwrap().len(), 1);
        let network = |n: u16| IpAddr::from([198, (n >> 8) as u8, n as u8, 9]);
        let asked = |n, address| reverse.ask((&buckets, &clock), n, address, &bot()).is_some();
        let of_one = (0..200)
            .filter(|n| asked(*n, IpAddr::from([203, 0, 113, *n as u8])))
            .count();
        assert!(of_one <= ASKED, "{of_one}");
        let many = (1_000..2_000).filter(|n| asked(*n, network(*n as u16))).count();
        assert!(of_one + many < ASKED + 50, "{of_one} {many}");
    }
}
