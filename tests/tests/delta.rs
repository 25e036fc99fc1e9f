//! An edge and a far end as processes, over real sockets: what a client gets, what crosses between
//! the two, and what happens when the far end dies, comes back, or is asked by a stranger.
//!
//! If these fail, clients get wrong bytes, or whole pages cross where a few hundred bytes would do.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod checkout;

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const HOST: &str = "shop.example.test";
const RAW: &str = "raw.example.test";
const START: Duration = Duration::from_secs(30);

struct World {
    edge: Process,
    far: Process,
    _origin: Process,
    edge_address: SocketAddr,
    far_address: SocketAddr,
    directory: tempfile::TempDir,
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

fn far_end(directory: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(checkout::binaries().join("edge"));
    command.args(["far-end", "--config"]).arg(directory.join("far.toml"));
    let mut far = Process::spawn(&mut command, &directory.join("far.log")).unwrap();
    far.wait_port(address, START).unwrap();
    far
}

impl World {
    fn start() -> Self {
        checkout::build();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let authority = Authority::new("Edge test CA").unwrap();
        authority.write(&path.join("ca.pem")).unwrap();
        authority.write_leaf(path, "shop", &[HOST, RAW]).unwrap();
        let hop = Authority::new("Edge test hop CA").unwrap();
        hop.write(&path.join("hop-ca.pem")).unwrap();
        hop.write_leaf(path, "far", &["far.example.test"]).unwrap();
        hop.write_leaf(path, "near", &["near.example.test"]).unwrap();
        let (origin_address, far_address, edge_address) = (free(), free(), free());
        let to = |origin: SocketAddr| format!("[zone.origin]\nservers = [{{ address = \"http://{origin}\" }}]\n");
        let (zone, raw) = (to(origin_address), to(raw_origin()));
        let far = format!(
            "[server]\nlisten = [\"{far_address}\"]\ncertificate = \"far.pem\"\nkey = \"far.key\"\nnear_ends = \"hop-ca.pem\"\n\
             workers = 2\n[store]\ndirectory = \"store\"\n[admin]\nlisten = \"unix:{}\"\n\
             [[zone]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\n{zone}[[zone]]\nname = \"raw\"\nhosts = [\"{RAW}\"]\n{raw}",
            path.join("far.sock").display()
        );
        fs::write(path.join("far.toml"), far).unwrap();
        let edge = format!(
            "[server]\nhttps = [\"{edge_address}\"]\nworkers = 2\n[admin]\nlisten = \"unix:{}\"\n\
             [[far_end]]\nname = \"beside\"\nservers = [{{ address = \"https://{far_address}\" }}]\n\
             server_name = \"far.example.test\"\nca = \"hop-ca.pem\"\ncertificate = \"near.pem\"\nkey = \"near.key\"\n\
             [[zone]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\ncertificate = \"shop.pem\"\nkey = \"shop.key\"\n\
             delta = \"beside\"\n{zone}\
             [[zone]]\nname = \"raw\"\nhosts = [\"{RAW}\"]\ncertificate = \"shop.pem\"\nkey = \"shop.key\"\n\
             delta = \"beside\"\n{raw}",
            path.join("edge.sock").display()
        );
        fs::write(path.join("edge.toml"), edge).unwrap();

        let mut command = Command::new(checkout::binaries().join("demo-origin"));
        let mut origin = Process::spawn(command.arg(origin_address.to_string()), &path.join("origin.log")).unwrap();
        origin.wait_line("listening", START).unwrap();
        let far = far_end(path, far_address);
        let mut command = Command::new(checkout::binaries().join("edge"));
        command
            .args(["run", "--xdp", "off", "--log-format", "json", "--config"])
            .arg(path.join("edge.toml"));
        let mut edge = Process::spawn(&mut command, &path.join("edge.log")).unwrap();
        edge.wait_port(edge_address, START).unwrap();
        Self {
            edge,
            far,
            _origin: origin,
            edge_address,
            far_address,
            directory,
        }
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Output {
        self.curl_host(HOST, path, arguments)
    }

    fn curl_host(&self, host: &str, path: &str, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.directory.path().join("ca.pem"))
            .args(["--connect-to", &format!("::{}", self.edge_address)])
            .args(arguments)
            .arg(format!("https://{host}{path}"));
        process::output(&mut curl, START).unwrap()
    }

    fn get(&self, path: &str) -> String {
        let output = self.curl(path, &["--fail"]);
        assert!(output.status.success(), "{path}: {output:?}\n{}", self.edge.tail());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A near end's figure: the metric's name and labels, then its value.
    fn figure(&self, name: &str) -> u64 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--unix-socket"])
            .arg(self.directory.path().join("edge.sock"))
            .arg("http://localhost/metrics");
        let output = process::output(&mut curl, START).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    fn served(&self, outcome: &str) -> u64 {
        self.figure(&format!(
            "edge_delta_requests_total{{end=\"near\",outcome=\"{outcome}\"}}"
        ))
    }
}

/// An origin that does by path what few do: answers early, gives hints, switches protocols.
fn raw_origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(stream)));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let head = head(&mut reader)?;
        let Some(path) = head.split(' ').nth(1) else {
            return Ok(());
        };
        let text = "what the origin says, at some length. ".repeat(100);
        let length = text.len();
        match path {
            "/tunnel" => {
                let accept = accept(field(&head, "sec-websocket-key").unwrap_or_default());
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes())?;
                std::io::copy(&mut reader, &mut stream)?;
                return Ok(());
            }
            // Without a look at the content; the connection ends.
            "/early" => {
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")?;
                std::thread::sleep(Duration::from_millis(200));
                return Ok(());
            }
            "/hints" => stream.write_all(
                b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
            )?,
            _ => {}
        }
        let tag = "ETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
        let answer = if field(&head, "if-none-match") == Some("\"v1\"") {
            format!("HTTP/1.1 304 Not Modified\r\n{tag}\r\n")
        } else if field(&head, "range") == Some("bytes=0-3") {
            format!(
                "HTTP/1.1 206 Partial Content\r\n{tag}Content-Range: bytes 0-3/{length}\r\nContent-Length: 4\r\n\r\n{}",
                &text[..4]
            )
        } else if head.starts_with("HEAD") {
            format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: {length}\r\n\r\n")
        } else {
            format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: {length}\r\n\r\n{text}")
        };
        stream.write_all(answer.as_bytes())?;
    }
}

/// A message's head, without the empty line.
fn head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    loop {
        let begin = head.len();
        if reader.read_line(&mut head)? == 0 || &head[begin..] == "\r\n" {
            return Ok(head);
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// RFC 6455 section 4.2.2.
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for three in digest.as_ref().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = digits[(bits >> (18 - 6 * place) & 63) as usize];
            base64.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    base64
}

/// What is no plain content still works over the hop: WebSockets, interim answers, answers before
/// the request has ended, conditions, parts, HEAD.
#[test]
fn what_is_no_plain_content() {
    let world = World::start();

    // A WebSocket, of a client that speaks HTTP/1.1, over the hop's HTTP/2, to an origin of
    // HTTP/1.1.
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(world.directory.path().join("ca.pem")).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), RAW.try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(world.edge_address).unwrap();
    socket.set_read_timeout(Some(START)).unwrap();
    let mut client = BufReader::new(rustls::StreamOwned::new(session, socket));
    let ask = format!(
        "GET /tunnel HTTP/1.1\r\nHost: {RAW}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    client.get_mut().write_all(ask.as_bytes()).unwrap();
    let answer = head(&mut client).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(
        field(&answer, "sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    for said in ["there and back", "and once more"] {
        client.get_mut().write_all(said.as_bytes()).unwrap();
        let mut heard = vec![0; said.len()];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, said.as_bytes());
    }

    let ask = |path: &str, arguments: &[&str]| {
        let output = world.curl_host(
            RAW,
            path,
            &[
                &["--write-out", "%{stderr}%{http_code} %header{content-length}"],
                arguments,
            ]
            .concat(),
        );
        assert!(output.status.success(), "{path}: {output:?}");
        (
            String::from_utf8(output.stderr).unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    // Interim answers are not taken for the answer.
    let (status, whole) = ask("/hints", &[]);
    assert!(
        status == format!("200 {}", whole.len()) && whole.starts_with("what the origin says"),
        "{status}"
    );
    assert_eq!(ask("/hints", &[]).1, whole);
    assert_eq!((world.served("zstd"), world.served("same")), (1, 1));
    // An upload that is refused before it has been read.
    fs::write(world.directory.path().join("upload"), vec![b'u'; 8 << 20]).unwrap();
    let upload = format!("@{}", world.directory.path().join("upload").display());
    let early = ask(
        "/early",
        &["--http1.1", "--header", "Expect:", "--data-binary", &upload],
    );
    assert_eq!(early, ("403 3".to_owned(), "no\n".to_owned()));
    assert_eq!(ask("/x", &["--header", "If-None-Match: \"v1\""]).0, "304 ");
    assert_eq!(ask("/x", &["--range", "0-3"]), ("206 4".to_owned(), "what".to_owned()));
    assert_eq!(ask("/x", &["--head"]).0, format!("200 {}", whole.len()));
}

#[test]
fn differences_over_sockets() {
    let mut world = World::start();

    // Pages that change on every request: whole once, then what changed.
    let first = world.get("/changing/100000");
    for _ in 0..20 {
        let page = world.get("/changing/100000");
        assert!(page != first && page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    }
    assert_eq!((world.served("zstd"), world.served("dcz")), (1, 20));
    let hop = world.figure("edge_delta_hop_bytes_total{end=\"near\",encoding=\"dcz\"}");
    let content = world.figure("edge_delta_content_bytes_total{end=\"near\",encoding=\"dcz\"}");
    assert!(content > 2_000_000 && hop * 100 < content, "{hop} bytes for {content}");
    let bytes = world.get("/bytes/3000000");
    assert!(bytes.len() == 3_000_000 && bytes.bytes().all(|b| b == b'e'));

    // The origin sees the client and the edge's question, and nothing of the hop.
    let seen = world.get("/inspect").to_lowercase();
    assert!(
        seen.contains("x-forwarded-for: 127.0.0.1") && seen.contains("x-forwarded-proto: https"),
        "{seen}"
    );
    assert!(seen.contains(&format!("host: {HOST}")) && !seen.contains("edge-delta") && !seen.contains("dictionary"));

    // What is no resource's content goes through as it is.
    let posted = world.curl("/echo", &["--data", "some content", "--http1.1"]);
    assert_eq!(posted.stdout, b"some content");
    let head = world.curl("/healthz", &["--head"]);
    assert!(
        String::from_utf8_lossy(&head.stdout).starts_with("HTTP/2 200"),
        "{head:?}"
    );
    let gone = world.curl("/status/410", &["--write-out", "%{http_code}"]);
    assert_eq!(gone.stdout, b"410");

    // A stranger, with no certificate or another authority's, is not spoken to.
    let strange = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--insecure", "--max-time", "10", "--http2-prior-knowledge"])
            .args(arguments)
            .current_dir(world.directory.path())
            .arg(format!("https://{}/", world.far_address));
        process::output(&mut curl, START).unwrap()
    };
    assert!(!strange(&[]).status.success());
    assert!(!strange(&["--cert", "shop.pem", "--key", "shop.key"]).status.success());
    assert!(strange(&["--cert", "near.pem", "--key", "near.key"]).status.success());

    // The far end is killed: the origin answers, uploads included.
    world.far.kill().unwrap();
    for _ in 0..3 {
        assert!(world.get("/changing/100000").ends_with("</html>\n"));
    }
    assert_eq!(world.curl("/echo", &["--data", "again"]).stdout, b"again");
    assert!(world.served("direct") >= 3);

    // It comes back with what it had on disk: no page has to cross whole.
    world.far = far_end(world.directory.path(), world.far_address);
    std::thread::sleep(Duration::from_millis(1_100));
    let (whole, changed) = (world.served("zstd"), world.served("dcz"));
    for _ in 0..3 {
        world.get("/changing/100000");
    }
    assert_eq!((world.served("zstd"), world.served("dcz")), (whole, changed + 3));

    // A reload finds a far end that is nowhere named any more, and the zone goes on without.
    let file = world.directory.path().join("edge.toml");
    let text = fs::read_to_string(&file).unwrap().replace("delta = \"beside\"\n", "");
    fs::write(&file, text).unwrap();
    world.edge.signal(Signal::HUP).unwrap();
    world.edge.wait_line("reloaded", START).unwrap();
    assert!(world.get("/changing/100000").ends_with("</html>\n"));
    assert_eq!(world.served("dcz"), changed + 3);
    assert_eq!(world.edge.stop(START).unwrap().code(), Some(0));
    assert_eq!(world.far.stop(START).unwrap().code(), Some(0));
}
