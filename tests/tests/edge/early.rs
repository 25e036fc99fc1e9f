//! 0-RTT end to end: a client of quinn's and h3's, a way on which its handshake can be held up, and
//! an origin that writes down what it is asked. If this fails, an order is placed twice by somebody
//! who only listened, or early data saves nobody a turn.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process, free_address};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::{Method, Request};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::checkout;
use crate::http3::{PATIENCE, run};

const EARLY: &str = "early.example.test";
const GATED: &str = "gated.example.test";
const PLAIN: &str = "plain.example.test";
/// What the way takes, so that a first flight has left before its answer is there.
const WAY: Duration = Duration::from_millis(150);
/// Long enough for what is not held to arrive.
const SETTLED: Duration = Duration::from_millis(700);

/// What an origin was asked: method, path, and whether the edge said that it might be a copy.
type Asked = Arc<Mutex<Vec<(String, bool)>>>;

/// Answers 200, but 425 to what is early below `/late`.
fn origin() -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let book = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, book) = (stream.unwrap(), book.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(request)) = lines.next() {
                    let mut early = false;
                    for field in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                        early |= field.eq_ignore_ascii_case("early-data: 1");
                    }
                    let what = request.trim_end_matches(" HTTP/1.1").to_owned();
                    let status = match early && what.contains("/late") {
                        true => "425 Too Early",
                        false => "200 OK",
                    };
                    book.lock().unwrap().push((what, early));
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nyes");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

/// Between a client and the edge: keeps what the client sends, and can hold up the end of its
/// handshake.
#[derive(Clone)]
struct Way {
    address: SocketAddr,
    held: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Way {
    fn to(edge: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(edge).unwrap();
        let way = Self {
            address: near.local_addr().unwrap(),
            held: Arc::default(),
            sent: Arc::default(),
        };
        let client = Arc::new(Mutex::new(None));
        let (this, seen, out, back) = (
            way.clone(),
            client.clone(),
            far.try_clone().unwrap(),
            near.try_clone().unwrap(),
        );
        near.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        std::thread::spawn(move || {
            let mut waiting = VecDeque::new();
            let mut buffer = [0; 2048];
            loop {
                if !this.held.load(SeqCst) {
                    while let Some(datagram) = waiting.pop_front() {
                        let _ = out.send(&datagram as &Vec<u8>);
                    }
                }
                let Ok((length, from)) = near.recv_from(&mut buffer) else {
                    continue;
                };
                *seen.lock().unwrap() = Some(from);
                let datagram = buffer[..length].to_vec();
                this.sent.lock().unwrap().push(datagram.clone());
                if this.held.load(SeqCst) && proves(&datagram) {
                    waiting.push_back(datagram);
                } else {
                    let _ = out.send(&datagram);
                }
            }
        });
        // In order: what comes before the keys for it is dropped, and the edge sends nothing of
        // that kind again while the handshake is held up (RFC 9002 section 6.2.1).
        let (on_its_way, arriving) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                let Ok(length) = far.recv(&mut buffer) else { continue };
                let _ = on_its_way.send((Instant::now() + WAY, buffer[..length].to_vec()));
            }
        });
        std::thread::spawn(move || {
            for (due, datagram) in arriving {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if let Some(to) = *client.lock().unwrap() {
                    let _ = back.send_to(&datagram, to);
                }
            }
        });
        way
    }
}

/// Whether a client's datagram has anything that only somebody can send who has the edge's answer:
/// Handshake or 1-RTT packets (RFC 9000 section 17).
fn proves(mut datagram: &[u8]) -> bool {
    while let Some(first) = datagram.first() {
        let kind = first >> 4 & 3;
        if first & 0x80 == 0 || kind >= 2 {
            return true;
        }
        let mut at = 5;
        for _ in 0..2 {
            at += 1 + usize::from(datagram[at]);
        }
        let mut rest = &datagram[at..];
        for _ in 0..if kind == 0 { 2 } else { 1 } {
            // The token's length and, behind it, the packet's.
            let (length, after) = varint(rest);
            rest = &after[length..];
        }
        datagram = rest;
    }
    false
}

fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let (number, rest) = bytes.split_at(1 << (bytes[0] >> 6));
    let value = number.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
    (value & ((1 << (8 * number.len() - 2)) - 1), rest)
}

struct World {
    _daemon: Process,
    admin: SocketAddr,
    edge: SocketAddr,
    asked: Asked,
    directory: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        checkout::build();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let authority = Authority::new("Edge test CA").unwrap();
        authority.write(&file("ca.pem")).unwrap();
        authority
            .write_leaf(directory.path(), "site", &[EARLY, GATED, PLAIN])
            .unwrap();
        let (origin, asked) = origin();
        let (edge, admin) = (free_address().unwrap(), free_address().unwrap());
        let zone = |host: &str, more: &str, gate: &str| {
            format!(
                "[[zone]]\nname = \"{host}\"\nhosts = [\"{host}\"]\ncertificate = \"site.pem\"\nkey = \"site.key\"\n{more}\n\
                 [zone.origin]\nservers = [{{ address = \"http://{origin}\" }}]\n{gate}\n"
            )
        };
        let rule = "[zone.gate]\n[[zone.gate.rule]]\nrate = { requests = 100, per = \"1s\", burst = 100 }";
        let zones =
            zone(EARLY, "early_data = true", "") + &zone(GATED, "early_data = true", rule) + &zone(PLAIN, "", "");
        let text = format!(
            "[server]\nhttps = [\"{edge}\"]\nworkers = 1\n[dataplane]\nxdp = \"off\"\n[admin]\nlisten = \"{admin}\"\n\
             [gate]\nstate_directory = \"state\"\n{zones}"
        );
        fs::write(file("edge.toml"), text).unwrap();
        let daemon = daemon(directory.path(), edge);
        Self {
            _daemon: daemon,
            admin,
            edge,
            asked,
            directory,
        }
    }

    /// A client's sessions and trust.
    fn identity(&self) -> quinn::ClientConfig {
        let ca = fs::read(self.directory.path().join("ca.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        tls.enable_early_data = true;
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    fn metric(&self, beginning: &str) -> u64 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", &format!("http://{}/metrics", self.admin)]);
        let output = process::output(&mut curl, Duration::from_secs(10)).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(beginning));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }

    fn asked(&self) -> Vec<(String, bool)> {
        self.asked.lock().unwrap().clone()
    }

    /// What the origin is asked, once it is so much.
    async fn asked_by(&self, count: usize) -> Vec<(String, bool)> {
        let start = Instant::now();
        while self.asked().len() < count {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.asked());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.asked()
    }
}

fn daemon(directory: &Path, edge: SocketAddr) -> Process {
    let mut command = Command::new(checkout::binaries().join("edge"));
    command
        .args(["run", "--no-xdp", "--log-format", "json", "--config"])
        .arg(directory.join("edge.toml"));
    let mut daemon = Process::spawn(&mut command, &directory.join("log")).unwrap();
    daemon.wait_port(edge, Duration::from_secs(30)).unwrap();
    daemon
}

type Requests = SendRequest<OpenStreams, Bytes>;

/// One request; its answer may be long in coming.
fn ask(requests: &Requests, method: Method, host: &str, path: &str) -> tokio::task::JoinHandle<(u16, Vec<u8>)> {
    let mut requests = requests.clone();
    let request = Request::builder().method(method).uri(format!("https://{host}{path}"));
    let request = request.body(()).unwrap();
    tokio::spawn(async move {
        let mut stream = requests.send_request(request).await.unwrap();
        stream.finish().await.unwrap();
        let status = stream.recv_response().await.unwrap().status().as_u16();
        let mut content = Vec::new();
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            content.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        (status, content)
    })
}

async fn speak(connection: &quinn::Connection) -> Requests {
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone()))
        .await
        .unwrap();
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    requests
}

/// A first connection, for the tickets.
async fn visit(endpoint: &quinn::Endpoint, identity: &quinn::ClientConfig, way: &Way, host: &str) {
    let connecting = endpoint.connect_with(identity.clone(), way.address, host).unwrap();
    let connection = connecting.await.unwrap();
    let requests = speak(&connection).await;
    assert_eq!(ask(&requests, Method::GET, host, "/first").await.unwrap().0, 200);
    tokio::time::sleep(SETTLED).await;
    connection.close(0_u32.into(), b"");
    tokio::time::sleep(SETTLED).await;
}

async fn early(
    endpoint: &quinn::Endpoint,
    identity: &quinn::ClientConfig,
    way: &Way,
    host: &str,
) -> (quinn::Connection, quinn::ZeroRttAccepted, Requests) {
    let connecting = endpoint.connect_with(identity.clone(), way.address, host).unwrap();
    let Ok((connection, accepted)) = connecting.into_0rtt() else {
        panic!("no ticket for early data");
    };
    let requests = speak(&connection).await;
    (connection, accepted, requests)
}

fn entry(what: &str, early: bool) -> (String, bool) {
    (what.to_owned(), early)
}

/// Safe requests are answered at once and say what they are; all others wait for the client to show
/// that it is there, and so does what the origin does not want so early. What somebody sends again
/// is not served.
#[test]
fn safe_requests_come_early_and_once() {
    let world = World::start();
    run(async {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let (identity, way) = (world.identity(), Way::to(world.edge));
        visit(&endpoint, &identity, &way, EARLY).await;
        assert_eq!(world.asked(), [entry("GET /first", false)]);
        way.sent.lock().unwrap().clear();
        way.held.store(true, SeqCst);

        let (connection, accepted, requests) = early(&endpoint, &identity, &way, EARLY).await;
        let page = ask(&requests, Method::GET, EARLY, "/page");
        assert_eq!(world.asked_by(2).await[1], entry("GET /page", true));
        // The answer comes while the handshake is held up.
        let answer = tokio::time::timeout(PATIENCE, page).await.unwrap().unwrap();
        assert_eq!(answer, (200, b"yes".to_vec()));
        connection.close(0_u32.into(), b"");
        drop(accepted);
        way.held.store(false, SeqCst);
        tokio::time::sleep(SETTLED).await;

        // Another visit, with more to ask.
        visit(&endpoint, &identity, &way, EARLY).await;
        world.asked.lock().unwrap().clear();
        way.sent.lock().unwrap().clear();
        way.held.store(true, SeqCst);
        let (connection, accepted, requests) = early(&endpoint, &identity, &way, EARLY).await;
        let order = ask(&requests, Method::POST, EARLY, "/order");
        let late = ask(&requests, Method::GET, EARLY, "/late");
        tokio::time::sleep(SETTLED).await;
        assert_eq!(world.asked(), [entry("GET /late", true)], "the handshake is held up");
        assert!(!order.is_finished() && !late.is_finished());
        way.held.store(false, SeqCst);
        assert!(
            tokio::time::timeout(PATIENCE, accepted).await.unwrap(),
            "early data was not taken"
        );
        assert_eq!(order.await.unwrap().0, 200);
        assert_eq!(late.await.unwrap().0, 200);
        let mut asked = world.asked();
        asked.sort();
        let expected = [
            entry("GET /late", false),
            entry("GET /late", true),
            entry("POST /order", false),
        ];
        assert_eq!(asked, expected);
        assert_eq!(world.metric("edge_quic_early_data_total{outcome=\"accepted\"} "), 2);
        assert_eq!(world.metric("edge_http_early_requests_total{outcome=\"served\"} "), 2);
        assert_eq!(world.metric("edge_http_early_requests_total{outcome=\"held\"} "), 1);
        connection.close(0_u32.into(), b"");
        tokio::time::sleep(SETTLED).await;

        // All that the client has sent, by somebody who has seen it.
        let attempts = world.metric("edge_quic_incoming_total ");
        let copy = UdpSocket::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        // For a while, packets with its connection id go to what is left of the connection.
        while world.metric("edge_quic_incoming_total ") == attempts {
            assert!(start.elapsed() < PATIENCE, "no copy came");
            for datagram in way.sent.lock().unwrap().iter() {
                copy.send_to(datagram, world.edge).unwrap();
            }
            tokio::time::sleep(SETTLED).await;
        }
        assert_eq!(world.metric("edge_quic_early_data_total{outcome=\"accepted\"} "), 2);
        assert_eq!(
            world.asked().len(),
            expected.len(),
            "a copy was served: {:?}",
            world.asked()
        );
    });
}

/// A gate counts clients that are there, and zones that have not asked for it take no early data.
#[test]
fn gates_wait_and_other_zones_refuse() {
    let world = World::start();
    run(async {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let (identity, way) = (world.identity(), Way::to(world.edge));
        visit(&endpoint, &identity, &way, GATED).await;
        world.asked.lock().unwrap().clear();
        way.held.store(true, SeqCst);
        let (connection, accepted, requests) = early(&endpoint, &identity, &way, GATED).await;
        let page = ask(&requests, Method::GET, GATED, "/page");
        tokio::time::sleep(SETTLED).await;
        assert!(world.asked().is_empty(), "behind the gate before it knew the client");
        way.held.store(false, SeqCst);
        assert!(tokio::time::timeout(PATIENCE, accepted).await.unwrap());
        assert_eq!(page.await.unwrap().0, 200);
        assert_eq!(world.asked(), [entry("GET /page", false)]);
        connection.close(0_u32.into(), b"");

        visit(&endpoint, &identity, &way, PLAIN).await;
        let connecting = endpoint.connect_with(identity.clone(), way.address, PLAIN).unwrap();
        let Err(connecting) = connecting.into_0rtt() else {
            panic!("a ticket for early data");
        };
        let connection = connecting.await.unwrap();
        let requests = speak(&connection).await;
        assert_eq!(ask(&requests, Method::GET, PLAIN, "/again").await.unwrap().0, 200);
    });
}
