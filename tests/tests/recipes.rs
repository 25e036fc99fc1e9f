//! Each set-up of docs/recipes.md on a node of its own, with curl for a client: if this fails,
//! somebody who copied a recipe has something else than the page says.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "checkout/mod.rs"]
mod checkout;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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
        if head.contains(" /seen ") {
            head = SHADOWED.lock().unwrap().join("");
        } else if name == "shadow" {
            SHADOWED.lock().unwrap().push(head.clone());
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
struct Origins([(&'static str, SocketAddr); 4]);

impl Origins {
    fn start() -> Self {
        Self([
            ("127.0.0.1:8080", origin("first")),
            ("127.0.0.1:8081", origin("next")),
            ("127.0.0.1:8082", origin("shadow")),
            ("127.0.0.1:8083", origin("login")),
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

/// Each of `parts` is in `text`.
#[track_caller]
fn has(text: &str, parts: &[&str]) {
    let lower = text.to_ascii_lowercase();
    for part in parts {
        assert!(lower.contains(&part.to_ascii_lowercase()), "no {part} in: {text}");
    }
}

/// None of `parts` is in `text`.
#[track_caller]
fn lacks(text: &str, parts: &[&str]) {
    let lower = text.to_ascii_lowercase();
    for part in parts {
        assert!(!lower.contains(&part.to_ascii_lowercase()), "{part} in: {text}");
    }
}

/// What must be true of a node with the recipe `name`; `false` for a recipe that nobody has thought
/// of.
fn judge(name: &str, node: &Node) -> bool {
    match name {
        "canonical-host" => {
            let answer = node.get_at("example.test", "/a?b", &[]);
            has(&answer, &[" 301", "location: https://www.example.test/a\r\n"]);
            has(&node.get("/a", &[]), &[" 200"]);
        }
        "path-split" => {
            has(&node.get("/static/a.css", &[]), &["a { }", "content-type: text/css"]);
            has(&node.get("/api/x?y=1", &[]), &["GET /v1/x?y=1 ", "x-client: 127.0.0.1"]);
            has(&node.get("/apix", &[]), &["GET /apix "]);
        }
        "single-page" => {
            let page = ["the application", "cache-control: no-cache", "text/html"];
            has(&node.get("/", &[]), &page);
            has(&node.get("/orders/5?x", &[]), &page);
            let script = ["content-type: text/javascript", "immutable", "vary: accept-encoding"];
            has(&node.get("/assets/app.js", &[]), &script);
            has(&node.get("/assets/app.js", &[]), &["run()"]);
            let coded = node.get("/assets/app.js", &["-H", "Accept-Encoding: gzip, br"]);
            has(&coded, &script);
            has(&coded, &["content-encoding: gzip", "as if it were gzip"]);
        }
        "single-page-with-api" => {
            has(&node.get("/orders/5", &[]), &[" 200", "the application"]);
            has(&node.get("/api/orders", &[]), &["GET /api/orders ", "x-server: first"]);
        }
        "downloads-list" => {
            has(&node.get("/pub", &[]), &["GET /pub "]);
            let list = node.get("/pub/", &[]);
            has(&list, &["href=\"./a%20b.txt\"", "&lt;old&gt;/", "default-src 'none'"]);
            lacks(&list, &["<old>"]);
            has(
                &node.get("/pub/%3Cold%3E?q", &[]),
                &[" 308", "location: /pub/%3cold%3e/?q"],
            );
            has(&node.get("/pub/a%20b.txt", &[]), &[" 200", "text"]);
        }
        "moved-pages" => {
            has(&node.get("/old?a=b", &[]), &[" 301", "location: /new?a=b"]);
            has(
                &node.get("/gone", &["--http1.1"]),
                &[" 302", "location: https://other.example.test/"],
            );
            has(&node.get("/2024/05/a-b", &[]), &[" 308", "location: /posts/2024/a-b"]);
            has(&node.get("/older", &[]), &[" 200"]);
        }
        "api-keys" => {
            let ask =
                |version: &str, key: &str| node.get("/api/x", &[version, "--header", &format!("X-Api-Key: {key}")]);
            for version in ["--http1.1", "--http2", "--http1.1"] {
                has(&ask(version, "one"), &[" 200"]);
            }
            has(&ask("--http2", "one"), &[" 429", "retry-after: "]);
            has(&ask("--http2", "two"), &[" 200"]);
            has(&node.get("/x", &["--header", "X-Api-Key: one"]), &[" 200"]);
        }
        "maintenance" => has(
            &node.get("/x", &[]),
            &[
                " 503",
                "retry-after: 600",
                "cache-control: no-store",
                "text/html",
                "Back soon.",
            ],
        ),
        "error-pages" => {
            for version in ["--http1.1", "--http2"] {
                let missing = node.get("/missing", &[version]);
                has(
                    &missing,
                    &[
                        " 404",
                        "text/html",
                        "<p>404 at www.example.test",
                        ": sorry.",
                        "x-kept: yes",
                    ],
                );
                lacks(&missing, &["etag", "padding"]);
                let broken = node.get("/broken", &[version]);
                has(
                    &broken,
                    &[" 502", "<p>502 at ", "x-request-id: ", "cache-control: no-store"],
                );
            }
            has(
                &node.get("/failing", &["--head"]),
                &[" 500", "content-length: ", "text/html"],
            );
            let json = ["-H", "Accept: application/json"];
            let broken = node.get("/broken", &json);
            has(
                &broken,
                &[
                    " 502",
                    "{\"error\": \"Bad Gateway\", \"request\": \"",
                    "application/json",
                ],
            );
            // A program gets what the origin says to it.
            has(&node.get("/missing", &json), &[" 404", "etag", "padding"]);
            has(&node.get("/", &[]), &[" 200", "padding"]);
        }
        "staging-password" => {
            has(
                &node.get("/", &[]),
                &[" 401", "www-authenticate: Basic realm=\"staging\""],
            );
            has(&node.get("/", &["--user", "ann:wrong"]), &[" 401"]);
            has(&node.get("/", &["--user", "bob:secret"]), &[" 401"]);
            let answer = node.get("/", &["--user", "ann:secret"]);
            has(&answer, &[" 200", "x-user: ann", "x-robots-tag: noindex"]);
            lacks(&answer, &["authorization:"]);
        }
        "jwt-api" => {
            let ask = |token: &str| node.get("/api/x", &["-H", &format!("Authorization: Bearer {token}")]);
            has(&node.get("/api/x", &[]), &[" 401", "www-authenticate: Bearer"]);
            has(&ask("a.b.c"), &[" 401", "invalid_token"]);
            let answer = ask(ANN);
            has(&answer, &[" 200", "x-user: ann"]);
            lacks(&answer, &["authorization:"]);
            has(&ask(BOB), &[" 200", "x-user: bob"]);
            has(&node.get("/", &[]), &[" 200"]);
            // The keys are changed, and nobody is told.
            fs::write(node.path().join("jwks.new"), PUBLIC).unwrap();
            fs::rename(node.path().join("jwks.new"), node.path().join("jwks.json")).unwrap();
            let until = Instant::now() + Duration::from_secs(60);
            while !ask(ANN).contains(" 401") {
                assert!(Instant::now() < until, "the file was not read again");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        "jwks-by-url" => {
            let ask = |token: &str| node.get("/api/x", &["-H", &format!("Authorization: Bearer {token}")]);
            has(&node.get("/api/x", &[]), &[" 401"]);
            has(&ask(CYD), &[" 200", "x-user: cyd"]);
            has(&ask(ANN), &[" 401", "invalid_token"]);
            let (signed, _) = CYD.rsplit_once('.').unwrap();
            has(&ask(&format!("{signed}.AAAA")), &[" 401"]);
            has(&node.get("/", &[]), &[" 200"]);
        }
        "rate-by-claim" => {
            let ask = |version: &str, token: &str| {
                node.get("/api/x", &[version, "-H", &format!("Authorization: Bearer {token}")])
            };
            for version in ["--http1.1", "--http2", "--http1.1"] {
                has(&ask(version, ANN), &[" 200"]);
            }
            has(&ask("--http2", ANN), &[" 429", "retry-after: "]);
            has(&ask("--http2", BOB), &[" 200"]);
            // Who makes one up uses nobody's up.
            let (head, _) = BOB.rsplit_once('.').unwrap();
            has(&ask("--http2", &format!("{head}.AAAA")), &[" 401"]);
        }
        "forward-auth" => {
            let ask = |path: &str, session: &str, more: &[&str]| {
                let cookie = format!("session={session}");
                node.get(
                    path,
                    &[&["--cookie", &cookie, "-H", "Remote-User: root"], more].concat(),
                )
            };
            let away = node.get("/app/x?y=1", &[]);
            has(
                &away,
                &[
                    " 302",
                    "location: https://login.example.test/?to=https://www.example.test",
                ],
            );
            has(&away, &["/app/x?y=1\r\n", "cache-control: no-store"]);
            lacks(&away, &["x-server:"]);
            for version in ["--http1.1", "--http2"] {
                let answer = ask("/app/x", "ann", &[version, "--data", "a=b"]);
                has(
                    &answer,
                    &[" 200", "POST /app/x ", "remote-user: ann", "set-cookie: session=ann"],
                );
                lacks(&answer, &["root"]);
            }
            has(&ask("/app/x", "ann", &["-X", "DELETE"]), &[" 403", "x-why: read only"]);
            let broken = ask("/app/x", "broken", &[]);
            has(&broken, &[" 503"]);
            lacks(&broken, &["x-server:"]);
            let open = ask("/", "broken", &[]);
            has(&open, &[" 200"]);
            lacks(&open, &["root"]);
        }
        "cors-api" => {
            let app = "Origin: https://app.example.test";
            let ask = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT", "-H", app];
            let told = "access-control-allow-origin: https://app.example.test";
            has(
                &node.get("/api/x", &ask),
                &[" 204", told, "access-control-allow-credentials: true", "put"],
            );
            has(&node.get("/api/x", &["-H", app]), &[" 200", told, "vary: origin"]);
            let evil = node.get("/api/x", &["-H", "Origin: https://evil.example.test"]);
            lacks(&evil, &["access-control-allow-origin"]);
        }
        "security-fields" => {
            let answer = node.get("/", &[]);
            has(
                &answer,
                &[
                    "strict-transport-security: max-age=31536000",
                    "x-content-type-options: nosniff",
                ],
            );
            has(
                &answer,
                &["content-security-policy: default-src 'self'", "referrer-policy:"],
            );
            lacks(&answer, &["x-powered-by"]);
        }
        "networks" => {
            for path in ["/admin", "/admin/x", "//admin", "/%61dmin", "/x/../admin"] {
                has(&node.get(path, &[]), &[" 403"]);
            }
            has(&node.get("/", &[]), &[" 200"]);
        }
        "crawlers" => {
            has(&node.get("/robots.txt", &[]), &["Disallow: /private/", "text/plain"]);
            has(&node.get("/", &["--user-agent", "MyScraper/1"]), &[" 403"]);
            has(&node.get("/", &[]), &[" 200"]);
        }
        "canary" => {
            has(&node.get("/", &["--cookie", "a=b; canary=1"]), &["x-release: next"]);
            lacks(&node.get("/", &["--cookie", "canary=0"]), &["x-release"]);
        }
        "logged-in" => {
            has(&node.get("/c", &[]), &["fwd=uri-miss"]);
            has(&node.get("/c", &[]), &["; hit"]);
            lacks(&node.get("/c", &["--cookie", "session=1"]), &["cache-status"]);
        }
        "cms" => {
            let visitor = ["--cookie", "_ga=1"];
            has(
                &node.get("/post?utm_source=x&b=2&a=1", &visitor),
                &["fwd=uri-miss", "stored", "get /post?a=1&b=2 "],
            );
            for same in ["/post?a=1&b=2", "/post?b=2&fbclid=evil&a=1"] {
                let answer = node.get(same, &[]);
                has(&answer, &["; hit", "get /post?a=1&b=2 "]);
                lacks(&answer, &["evil"]);
            }
            for person in ["wordpress_logged_in_0a1b=ann", "a=b; comment_author_1=ann"] {
                lacks(&node.get("/post?a=1&b=2", &["--cookie", person]), &["cache-status"]);
            }
            lacks(&node.get("/wp-admin/x", &[]), &["cache-status"]);
            // The origin says no-store, and sets a cookie.
            for expected in ["fwd=uri-miss", "; hit"] {
                let answer = node.get("/session", &[]);
                has(&answer, &[expected, "cache-control: no-store"]);
                lacks(&answer, &["set-cookie"]);
            }
        }
        "by-device" => {
            let ask = |agent: &str| node.get("/p", &["--user-agent", agent]);
            for (agent, device) in [("Mobile/1", "phone"), ("Desk/1", "desk")] {
                has(&ask(agent), &["fwd=uri-miss", &format!("x-device: {device}")]);
            }
            for (agent, device) in [("other mobile", "phone"), ("Desk/2", "desk")] {
                has(&ask(agent), &["; hit", &format!("x-device: {device}")]);
            }
        }
        "public-behind-a-password" => {
            has(
                &node.get("/downloads/a", &["--user", "ann:secret"]),
                &["fwd=uri-miss", "stored"],
            );
            has(&node.get("/downloads/a", &["--user", "ann:secret"]), &[" 200", "; hit"]);
            // What is stored is given to nobody who has no password.
            has(&node.get("/downloads/a", &[]), &[" 401"]);
        }
        "login-limit" => {
            let answers: Vec<String> = (0..8).map(|_| node.get("/login", &["--data", "a=b"])).collect();
            has(&answers[0], &[" 200"]);
            assert!(answers.iter().any(|answer| answer.contains(" 429")), "{answers:?}");
            has(&node.get("/", &[]), &[" 200"]);
        }
        "compressed" => {
            has(
                &node.get("/", &["-H", "Accept-Encoding: gzip", "--output", "-"]),
                &["content-encoding: gzip"],
            );
            lacks(&node.get("/", &[]), &["content-encoding"]);
        }
        "blue-green" => {
            let field = |n: u32| format!("Cookie: visitor={n}");
            let one = |n: u32| node.get("/", &["-H", &field(n)]).contains("x-server: next");
            let next = (0..40).filter(|n| one(*n)).count();
            assert!((2..=20).contains(&next), "{next} of 40");
            assert!((0..5).all(|n| one(n) == one(n)), "a visitor stays with its release");
            lacks(&node.get("/", &[]), &["x-server: next"]);
        }
        "canary-pool" => {
            has(&node.get("/", &["--cookie", "canary=1"]), &["x-server: next"]);
            has(&node.get("/", &[]), &["x-server: first"]);
        }
        "sticky" => {
            let ask = |n: u32| {
                let answer = node.get("/", &["--cookie", &format!("session={n}")]);
                answer.contains("x-server: next")
            };
            let all: Vec<bool> = (0..12).map(ask).collect();
            assert!(
                all.contains(&true) && all.contains(&false),
                "both have sessions: {all:?}"
            );
            assert_eq!(all, (0..12).map(ask).collect::<Vec<_>>(), "each stays with its server");
        }
        "sticky-cookie" => {
            let server = |answer: &str| answer.contains("x-server: next");
            let cookie = |answer: &str| {
                let set = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "))?;
                let attributes = "; Path=/; Secure; HttpOnly; SameSite=Lax";
                Some(set.strip_suffix(attributes).unwrap().to_owned())
            };
            // Not stored: the next one is asked for, too.
            let first = node.get("/c", &["--http2"]);
            let second = node.get("/c", &["--http1.1"]);
            has(&second, &["fwd=uri-miss", "cache-control: private, max-age=60"]);
            assert_ne!(server(&first), server(&second), "each takes its turn");
            for (path, answer) in [("/first", &first), ("/second", &second)] {
                let cookie = cookie(answer).unwrap();
                lacks(&cookie, &["127.0.0.1", "http"]);
                for n in 0..4 {
                    let cookies = format!("a=b; {cookie}; c=d");
                    let again = node.get(&format!("{path}/{n}"), &["--cookie", &cookies]);
                    assert_eq!(server(&again), server(answer), "{again}");
                    has(&again, &["\r\ncookie: a=b; c=d\r\n"]);
                    lacks(&again, &["set-cookie", "server="]);
                }
            }
            // Stored from one who is led already; who gets it is led nowhere.
            let cookie = cookie(&first).unwrap();
            has(&node.get("/d", &["--cookie", &cookie]), &["fwd=uri-miss", "; stored"]);
            let hit = node.get("/d", &[]);
            has(&hit, &["; hit"]);
            lacks(&hit, &["set-cookie"]);
            let forged = node.get("/e", &["--cookie", "server=AAAA"]);
            has(&forged, &[" 200", "set-cookie: server="]);
            // Its server goes away for a while.
            let gone = if server(&first) { "next" } else { "first" };
            let address = node.servers[usize::from(server(&first))];
            node.origin(&["drain", &format!("http://{address}")]);
            let moved = node.get("/f", &["--cookie", &cookie]);
            has(&moved, &[" 200", "set-cookie: server="]);
            lacks(&moved, &[&format!("x-server: {gone}")]);
        }
        "standby" => {
            let server = format!("http://{}", node.servers[0]);
            for _ in 0..3 {
                has(&node.get("/", &[]), &["x-server: first"]);
            }
            node.origin(&["drain", &server]);
            has(&node.origin(&["list"]), &[&format!("{server}\tdrained"), "\thealthy\t"]);
            for _ in 0..3 {
                has(&node.get("/", &[]), &["x-server: next"]);
            }
            node.origin(&["weight", &server, "3"]);
            has(&node.origin(&["list"]), &[&format!("{server}\thealthy\tweight 3")]);
            node.origin(&["restore", &server]);
            has(&node.get("/", &[]), &["x-server: first"]);
        }
        "shadow" => {
            has(&node.get("/copied", &[]), &["x-server: first"]);
            let seen = || node.get("/seen", &[]).contains("/copied");
            assert!((0..50).any(|_| seen()), "the copy came");
        }
        "behind-a-cdn" => {
            let ask =
                |path: &str, client: &str| node.get(path, &["-H", &format!("X-Forwarded-For: 6.6.6.6, {client}")]);
            has(&ask("/admin", "198.51.100.1"), &[" 403"]);
            let answer = ask("/admin", "203.0.113.9");
            has(
                &answer,
                &[
                    " 200",
                    "x-forwarded-for: 203.0.113.9, 127.0.0.1",
                    "forwarded: for=203.0.113.9;",
                ],
            );
            lacks(&answer, &["6.6.6.6"]);
            let one: Vec<String> = (0..4).map(|_| ask("/login", "198.51.100.1")).collect();
            assert!(one.iter().any(|answer| answer.contains(" 429")), "{one:?}");
            // Another client of the same proxy has its own share.
            has(&ask("/login", "198.51.100.2"), &[" 200"]);
        }
        "acme-files" => has(
            &node.get("/.well-known/acme-challenge/token", &[]),
            &["key authorization"],
        ),
        _ => return false,
    }
    true
}

#[test]
fn every_recipe_does_what_the_page_says() {
    checkout::build();
    let (authority, origins) = (Authority::new("Edge test CA").unwrap(), Origins::start());
    let recipes = recipes();
    assert!(recipes.len() >= 20);
    // A few at once: most of a node's start is waiting.
    let left = Mutex::new(recipes.iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, recipe)) = left.lock().unwrap().next() else {
                        return;
                    };
                    let node = Node::start(recipe, &authority, &origins);
                    assert!(judge(name, &node), "no test of the recipe {name}");
                }
            });
        }
    });
}
