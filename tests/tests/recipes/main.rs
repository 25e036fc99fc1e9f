//! Each set-up of docs/recipes.md on a node of its own, with curl for a client: if this fails,
//! somebody who copied a recipe has something else than the page says.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../checkout/mod.rs"]
mod checkout;
mod grpc;
mod judges;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edge_testbed::pki::Authority;
use edge_testbed::process::{self, Process, free_address};

const HOSTS: [&str; 2] = ["www.example.test", "example.test"];
/// A key for tests, and tokens that it has signed: of ann and bob, until the year 5138.
const JWKS: &str = r#"{"keys":[{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;
const ANN: &str = concat!(
    "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUudGVzdCIsInN1YiI6ImFubiIsInNjb3BlI",
    "jpbInJlYWQiLCJ3cml0ZSJdLCJleHAiOjk5OTk5OTk5OTk5fQ.6_vRqmaqepKpgUaRLtAWqo2Qmwv2894-5SDD67kC",
    "6tE",
);
const BOB: &str = concat!(
    "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUudGVzdCIsInN1YiI6ImJvYiIsInNjb3BlI",
    "jpbInJlYWQiXSwiZXhwIjo5OTk5OTk5OTk5OX0.62M5nzxeBgwgQfjxLJDQ_4W0n6-laaekrjDZlKHa5yM",
);
/// A public key, and a token of cyd's that its owner has signed.
const PUBLIC: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}"#;
const CYD: &str = concat!(
    "eyJhbGciOiJFZERTQSIsImtpZCI6Im9uZSJ9.eyJzdWIiOiJjeWQiLCJleHAiOjk5OTk5OTk5OTk5fQ.3hfIDw8z0u",
    "muy6mwdLFDuHvSFuF-JKudET56IEyMfJpTo73T_rlwe_xnXxU2VY9rL30UZ_2K7KA1nctKY-vcCA",
);
/// A worker whose every answer is another one.
const PAGES: &str = "export default { fetch(request) { return new Response(\
                     `${crypto.randomUUID()} ${new URL(request.url).pathname} ${'page '.repeat(200)}`, \
                     { headers: { 'content-type': 'text/plain', 'cache-control': 'max-age=60' } }); } };";
const START: Duration = Duration::from_secs(30);

/// An origin that answers with the head it was sent, as text that compresses well, and its own name
/// in a field.
fn origin(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(stream, name)));
        }
    });
    address
}

fn serve(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((_, n)) = line.to_ascii_lowercase().split_once("content-length:") {
                length = n.trim().parse().unwrap_or(0);
            }
            head.push_str(&line);
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            // The key of RFC 6455 section 1.3, a text, and the end.
            let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x01\x05hello";
            return stream.write_all(switched.as_bytes());
        }
        if head.contains(" /seen ") {
            head = SHADOWED.lock().unwrap().join("");
        } else if name == "shadow" {
            SHADOWED.lock().unwrap().push(head.clone());
        }
        if head.starts_with("GET /downloads/film ") {
            stream.write_all(&film(&head))?;
            continue;
        }
        if head.starts_with("GET /film-asked ") {
            head = format!("{} ", FILM_ASKED.load(Ordering::SeqCst));
        }
        let (status, extra) = match head.split(' ').nth(1) {
            // No answer at all.
            Some("/broken") => return Ok(()),
            Some("/missing") => ("404 Not Found", "ETag: \"a\"\r\nX-Kept: yes\r\n"),
            Some("/failing") => ("500 Oops", ""),
            _ => ("200 OK", ""),
        };
        if name == "login" {
            stream.write_all(login(&head.to_ascii_lowercase()).as_bytes())?;
            continue;
        }
        head.push_str(&"padding ".repeat(200));
        let fields = match head.starts_with("GET /session ") {
            true => "Content-Type: text/plain\r\nCache-Control: no-store\r\nSet-Cookie: id=1",
            false => "Content-Type: text/plain\r\nCache-Control: max-age=60\r\nX-Powered-By: tests",
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{fields}\r\n{extra}X-Server: {name}\r\nContent-Length: {}\r\n\r\n{head}",
            head.len()
        )?;
    }
}

/// Bytes of a large file, in which each line of ten says where it is.
const FILM: u64 = 2_600_000;
/// Ranges of it that were asked for.
static FILM_ASKED: AtomicUsize = AtomicUsize::new(0);

/// The answer to a request for a range of it.
fn film(head: &str) -> Vec<u8> {
    FILM_ASKED.fetch_add(1, Ordering::SeqCst);
    let head = head.to_ascii_lowercase();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let Some((from, last)) = range.and_then(|range| range.split_once('-')) else {
        return b"HTTP/1.1 500 No range\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    let (from, last): (u64, u64) = (from.parse().unwrap(), last.parse().unwrap());
    let last = last.min(FILM - 1);
    let content: String = (from / 10..=last / 10).map(|n| format!("{:09}\n", n * 10)).collect();
    let content = &content[(from % 10) as usize..][..(last - from + 1) as usize];
    let fields = "ETag: \"v1\"\r\nContent-Type: video/mp4";
    let length = content.len();
    format!(
        "HTTP/1.1 206 Partial\r\n{fields}\r\nContent-Range: bytes {from}-{last}/{FILM}\r\n\
         Content-Length: {length}\r\n\r\n{content}"
    )
    .into_bytes()
}

/// What a login says of the request that it is asked about, and its keys; `head` is in lower case.
fn login(head: &str) -> String {
    if head.starts_with("get /jwks.json ") {
        return format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{PUBLIC}", PUBLIC.len());
    }
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    let session = field("cookie");
    let (status, fields) = match session.as_str() {
        "session=ann" if field("x-forwarded-method") == "delete" => ("403 Forbidden", "X-Why: read only".to_owned()),
        "session=ann" => (
            "204 No Content",
            "Remote-User: ann\r\nSet-Cookie: session=ann".to_owned(),
        ),
        "session=broken" => ("500 Oops", String::new()),
        _ => {
            let to = format!("https://{}{}", field("x-forwarded-host"), field("x-forwarded-uri"));
            ("302 Found", format!("Location: https://login.example.test/?to={to}"))
        }
    };
    let fields = if fields.is_empty() { fields } else { fields + "\r\n" };
    let length = if status.starts_with("204") {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    format!("HTTP/1.1 {status}\r\n{fields}{length}\r\n")
}

/// What came to the origin that is sent copies.
static SHADOWED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Origins, by the addresses that stand for them on the page.
struct Origins([(&'static str, SocketAddr); 5]);

impl Origins {
    fn start() -> Self {
        Self([
            ("127.0.0.1:8080", origin("first")),
            ("127.0.0.1:8081", origin("next")),
            ("127.0.0.1:8082", origin("shadow")),
            ("127.0.0.1:8083", origin("login")),
            ("127.0.0.1:8084", grpc::start()),
        ])
    }

    fn written(&self, recipe: &str) -> String {
        let written = |text: String, (page, address): &(&str, SocketAddr)| text.replace(page, &address.to_string());
        self.0.iter().fold(recipe.to_owned(), written)
    }
}

/// The recipes of the page, by name.
fn recipes() -> BTreeMap<String, String> {
    let page = fs::read_to_string(checkout::root().join("docs/recipes.md")).unwrap();
    let blocks = page
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap());
    blocks
        .map(|block| {
            let name = block.lines().next().unwrap().strip_prefix("# recipe: ").unwrap();
            (name.to_owned(), block.to_owned())
        })
        .collect()
}

/// The keys of a recipe's `[server]`, and what is of the zone.
fn of_server(recipe: &str) -> (String, String) {
    let Some((before, rest)) = recipe.split_once("[server]\n") else {
        return (String::new(), recipe.to_owned());
    };
    let (keys, after) = rest.split_at(rest.find("\n[").map_or(rest.len(), |at| at + 1));
    (keys.to_owned(), format!("{before}{after}"))
}

struct Node {
    _daemon: Process,
    directory: tempfile::TempDir,
    https: SocketAddr,
    admin: SocketAddr,
    /// What the page calls 127.0.0.1:8080, and 8081.
    servers: [SocketAddr; 2],
}

impl Node {
    fn start(recipe: &str, authority: &Authority, origins: &Origins) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        authority.write(&at.join("ca.pem")).unwrap();
        authority.write_leaf(at, "site", &HOSTS).unwrap();
        fs::create_dir_all(at.join("www/.well-known/acme-challenge")).unwrap();
        fs::create_dir_all(at.join("www/static")).unwrap();
        fs::write(at.join("www/static/a.css"), "a { }").unwrap();
        fs::create_dir_all(at.join("www/assets")).unwrap();
        fs::create_dir_all(at.join("www/pub/<old>")).unwrap();
        fs::write(at.join("www/index.html"), "<p>The application.").unwrap();
        fs::write(at.join("www/assets/app.js"), "run()").unwrap();
        fs::write(at.join("www/assets/app.js.gz"), "as if it were gzip").unwrap();
        fs::write(at.join("www/pub/a b.txt"), "text").unwrap();
        fs::write(at.join("www/.well-known/acme-challenge/token"), "key authorization").unwrap();
        fs::write(
            at.join("moved.txt"),
            "/old /new\n/gone https://other.example.test/ 302\n",
        )
        .unwrap();
        let old: String = (0..10_000).map(|n| format!("/old/{n} /new/{n}\n")).collect();
        fs::write(at.join("old-addresses.txt"), old).unwrap();
        // A message of three bytes, as gRPC frames it.
        fs::write(at.join("message"), b"\0\0\0\0\x03abc").unwrap();
        fs::write(at.join("pages.js"), PAGES).unwrap();
        fs::write(at.join("jwks.json"), JWKS).unwrap();
        fs::write(at.join("down.html"), "<p>Back soon.").unwrap();
        fs::write(at.join("sorry.html"), "<p>{{status}} at {{host}}: sorry.").unwrap();
        // The password is `secret`.
        let hash = "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA";
        fs::write(at.join("htpasswd"), format!("ann:{hash}\n")).unwrap();
        let (https, admin) = (free_address().unwrap(), free_address().unwrap());
        let (server, recipe) = of_server(&origins.written(recipe));
        let origin = match recipe.contains("[zone.origin]") {
            true => String::new(),
            false => origins.written("[zone.origin]\nservers = [{ address = \"http://127.0.0.1:8080\" }]\n"),
        };
        let text = format!(
            "[server]\nhttps = [\"{https}\"]\nhttp3 = false\nworkers = 1\n{server}[admin]\nlisten = \"{admin}\"\n[[zone]]\n\
             name = \"site\"\nhosts = [\"www.example.test\", \"example.test\"]\ncertificate = \"site.pem\"\n\
             key = \"site.key\"\n{recipe}{origin}"
        );
        fs::write(at.join("edge.toml"), text).unwrap();
        let mut edge = Command::new(checkout::binaries().join("edge"));
        edge.args(["run", "--no-xdp", "--config"]).arg(at.join("edge.toml"));
        let mut daemon = Process::spawn(&mut edge, &at.join("edge.log")).unwrap();
        daemon.wait_port(https, START).unwrap();
        Self {
            _daemon: daemon,
            directory,
            https,
            admin,
            servers: [origins.0[0].1, origins.0[1].1],
        }
    }

    /// What curl gets for `path` of the first host, head and content.
    fn get(&self, path: &str, arguments: &[&str]) -> String {
        self.get_at(HOSTS[0], path, arguments)
    }

    fn get_at(&self, host: &str, path: &str, arguments: &[&str]) -> String {
        let port = self.https.port();
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--include",
            "--path-as-is",
            "--max-time",
            "20",
            "--cacert",
        ])
        .arg(self.path().join("ca.pem"))
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://{host}:{port}{path}"));
        let output = process::output(&mut curl, Duration::from_secs(30)).unwrap();
        assert!(output.status.success(), "{path}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `edge origin` says to these arguments.
    fn origin(&self, arguments: &[&str]) -> String {
        let mut edge = Command::new(checkout::binaries().join("edge"));
        edge.args(["origin", "--admin", &self.admin.to_string()])
            .args(arguments);
        let output = process::output(&mut edge, Duration::from_secs(30)).unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

#[test]
fn every_recipe_does_what_the_page_says() {
    checkout::build();
    let (authority, origins) = (Authority::new("Edge test CA").unwrap(), Origins::start());
    let recipes = recipes();
    assert!(recipes.len() >= 40);
    // A few at once: most of a node's start is waiting.
    let left = Mutex::new(recipes.iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, recipe)) = left.lock().unwrap().next() else {
                        return;
                    };
                    let judge = judges::ALL.iter().find(|(known, _)| known == name);
                    let (_, judge) = judge.unwrap_or_else(|| panic!("no test of the recipe {name}"));
                    judge(&Node::start(recipe, &authority, &origins));
                }
            });
        }
    });
}
