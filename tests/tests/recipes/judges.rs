//! What must be true of a node with each recipe, by the recipe's name.

use std::fs;
use std::time::{Duration, Instant};

use super::{ANN, BOB, CYD, FILM, Node, PUBLIC};

/// Fails if what the page says is not so.
type Judge = fn(&Node);

/// Every recipe's.
pub(super) const ALL: &[(&str, Judge)] = &[
    ("canonical-host", canonical_host),
    ("path-split", path_split),
    ("single-page", single_page),
    ("single-page-with-api", single_page_with_api),
    ("downloads-list", downloads_list),
    ("moved-pages", moved_pages),
    ("api-keys", api_keys),
    ("maintenance", maintenance),
    ("error-pages", error_pages),
    ("staging-password", staging_password),
    ("jwt-api", jwt_api),
    ("jwks-by-url", jwks_by_url),
    ("rate-by-claim", rate_by_claim),
    ("forward-auth", forward_auth),
    ("cors-api", cors_api),
    ("security-fields", security_fields),
    ("networks", networks),
    ("crawlers", crawlers),
    ("canary", canary),
    ("logged-in", logged_in),
    ("cms", cms),
    ("by-device", by_device),
    ("public-behind-a-password", public_behind_a_password),
    ("login-limit", login_limit),
    ("compressed", compressed),
    ("blue-green", blue_green),
    ("canary-pool", canary_pool),
    ("sticky", sticky),
    ("sticky-cookie", sticky_cookie),
    ("standby", standby),
    ("shadow", shadow),
    ("behind-a-cdn", behind_a_cdn),
    ("ten-thousand-redirects", ten_thousand_redirects),
    ("websocket-chat", websocket_chat),
    ("grpc", grpc),
    ("grpc-web", grpc_web),
    ("large-downloads", large_downloads),
    ("worker-pages", worker_pages),
    ("hotlinks", hotlinks),
    ("health-checks", health_checks),
    ("acme-files", acme_files),
];

fn canonical_host(node: &Node) {
    let answer = node.get_at("example.test", "/a?b", &[]);
    has(&answer, &[" 301", "location: https://www.example.test/a\r\n"]);
    has(&node.get("/a", &[]), &[" 200"]);
}

fn path_split(node: &Node) {
    has(&node.get("/static/a.css", &[]), &["a { }", "content-type: text/css"]);
    has(&node.get("/api/x?y=1", &[]), &["GET /v1/x?y=1 ", "x-client: 127.0.0.1"]);
    has(&node.get("/apix", &[]), &["GET /apix "]);
}

fn single_page(node: &Node) {
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

fn single_page_with_api(node: &Node) {
    has(&node.get("/orders/5", &[]), &[" 200", "the application"]);
    has(&node.get("/api/orders", &[]), &["GET /api/orders ", "x-server: first"]);
}

fn downloads_list(node: &Node) {
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

fn moved_pages(node: &Node) {
    has(&node.get("/old?a=b", &[]), &[" 301", "location: /new?a=b"]);
    has(
        &node.get("/gone", &["--http1.1"]),
        &[" 302", "location: https://other.example.test/"],
    );
    has(&node.get("/2024/05/a-b", &[]), &[" 308", "location: /posts/2024/a-b"]);
    has(&node.get("/older", &[]), &[" 200"]);
}

fn api_keys(node: &Node) {
    let ask = |version: &str, key: &str| node.get("/api/x", &[version, "--header", &format!("X-Api-Key: {key}")]);
    for version in ["--http1.1", "--http2", "--http1.1"] {
        has(&ask(version, "one"), &[" 200"]);
    }
    has(&ask("--http2", "one"), &[" 429", "retry-after: "]);
    has(&ask("--http2", "two"), &[" 200"]);
    has(&node.get("/x", &["--header", "X-Api-Key: one"]), &[" 200"]);
}

fn maintenance(node: &Node) {
    has(
        &node.get("/x", &[]),
        &[
            " 503",
            "retry-after: 600",
            "cache-control: no-store",
            "text/html",
            "Back soon.",
        ],
    );
}

fn error_pages(node: &Node) {
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

fn staging_password(node: &Node) {
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

fn jwt_api(node: &Node) {
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

fn jwks_by_url(node: &Node) {
    let ask = |token: &str| node.get("/api/x", &["-H", &format!("Authorization: Bearer {token}")]);
    has(&node.get("/api/x", &[]), &[" 401"]);
    has(&ask(CYD), &[" 200", "x-user: cyd"]);
    has(&ask(ANN), &[" 401", "invalid_token"]);
    let (signed, _) = CYD.rsplit_once('.').unwrap();
    has(&ask(&format!("{signed}.AAAA")), &[" 401"]);
    has(&node.get("/", &[]), &[" 200"]);
}

fn rate_by_claim(node: &Node) {
    let ask =
        |version: &str, token: &str| node.get("/api/x", &[version, "-H", &format!("Authorization: Bearer {token}")]);
    for version in ["--http1.1", "--http2", "--http1.1"] {
        has(&ask(version, ANN), &[" 200"]);
    }
    has(&ask("--http2", ANN), &[" 429", "retry-after: "]);
    has(&ask("--http2", BOB), &[" 200"]);
    // Who makes one up uses nobody's up.
    let (head, _) = BOB.rsplit_once('.').unwrap();
    has(&ask("--http2", &format!("{head}.AAAA")), &[" 401"]);
}

fn forward_auth(node: &Node) {
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

fn cors_api(node: &Node) {
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

fn security_fields(node: &Node) {
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

fn networks(node: &Node) {
    for path in ["/admin", "/admin/x", "//admin", "/%61dmin", "/x/../admin"] {
        has(&node.get(path, &[]), &[" 403"]);
    }
    has(&node.get("/", &[]), &[" 200"]);
}

fn crawlers(node: &Node) {
    has(&node.get("/robots.txt", &[]), &["Disallow: /private/", "text/plain"]);
    has(&node.get("/", &["--user-agent", "MyScraper/1"]), &[" 403"]);
    has(&node.get("/", &[]), &[" 200"]);
}

fn canary(node: &Node) {
    has(&node.get("/", &["--cookie", "a=b; canary=1"]), &["x-release: next"]);
    lacks(&node.get("/", &["--cookie", "canary=0"]), &["x-release"]);
}

fn logged_in(node: &Node) {
    has(&node.get("/c", &[]), &["fwd=uri-miss"]);
    has(&node.get("/c", &[]), &["; hit"]);
    lacks(&node.get("/c", &["--cookie", "session=1"]), &["cache-status"]);
}

fn cms(node: &Node) {
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

fn by_device(node: &Node) {
    let ask = |agent: &str| node.get("/p", &["--user-agent", agent]);
    for (agent, device) in [("Mobile/1", "phone"), ("Desk/1", "desktop")] {
        has(&ask(agent), &["fwd=uri-miss", &format!("x-device: {device}")]);
    }
    for (agent, device) in [("other Mobile", "phone"), ("Desk/2", "desktop")] {
        has(&ask(agent), &["; hit", &format!("x-device: {device}")]);
    }
}

fn public_behind_a_password(node: &Node) {
    has(
        &node.get("/downloads/a", &["--user", "ann:secret"]),
        &["fwd=uri-miss", "stored"],
    );
    has(&node.get("/downloads/a", &["--user", "ann:secret"]), &[" 200", "; hit"]);
    // What is stored is given to nobody who has no password.
    has(&node.get("/downloads/a", &[]), &[" 401"]);
}

fn login_limit(node: &Node) {
    let answers: Vec<String> = (0..8).map(|_| node.get("/login", &["--data", "a=b"])).collect();
    has(&answers[0], &[" 200"]);
    assert!(answers.iter().any(|answer| answer.contains(" 429")), "{answers:?}");
    has(&node.get("/", &[]), &[" 200"]);
}

fn compressed(node: &Node) {
    has(
        &node.get("/", &["-H", "Accept-Encoding: gzip", "--output", "-"]),
        &["content-encoding: gzip"],
    );
    lacks(&node.get("/", &[]), &["content-encoding"]);
}

fn blue_green(node: &Node) {
    let field = |n: u32| format!("Cookie: visitor={n}");
    let one = |n: u32| node.get("/", &["-H", &field(n)]).contains("x-server: next");
    let next = (0..40).filter(|n| one(*n)).count();
    assert!((2..=20).contains(&next), "{next} of 40");
    assert!((0..5).all(|n| one(n) == one(n)), "a visitor stays with its release");
    lacks(&node.get("/", &[]), &["x-server: next"]);
}

fn canary_pool(node: &Node) {
    has(&node.get("/", &["--cookie", "canary=1"]), &["x-server: next"]);
    has(&node.get("/", &[]), &["x-server: first"]);
}

fn sticky(node: &Node) {
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

fn sticky_cookie(node: &Node) {
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

fn standby(node: &Node) {
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

fn shadow(node: &Node) {
    has(&node.get("/copied", &[]), &["x-server: first"]);
    let seen = || node.get("/seen", &[]).contains("/copied");
    assert!((0..50).any(|_| seen()), "the copy came");
}

fn behind_a_cdn(node: &Node) {
    let ask = |path: &str, client: &str| node.get(path, &["-H", &format!("X-Forwarded-For: 6.6.6.6, {client}")]);
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

fn ten_thousand_redirects(node: &Node) {
    for n in [0, 4_711, 9_999] {
        let answer = node.get(&format!("/old/{n}?a=b"), &[]);
        has(&answer, &[" 301", &format!("location: /new/{n}?a=b\r\n")]);
    }
    has(&node.get("/old/10000", &[]), &[" 200"]);
}

fn websocket_chat(node: &Node) {
    let upgrade = [
        "--http1.1",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
        "-H",
        "Sec-WebSocket-Version: 13",
        "-H",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    has(
        &node.get("/chat/room", &upgrade),
        &[" 101", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "hello"],
    );
    // Nowhere else.
    has(&node.get("/", &upgrade), &[" 200"]);
    has(&node.get("/chat/room", &[]), &[" 200"]);
}

/// The file with a message, for curl.
fn message(node: &Node) -> String {
    format!("@{}", node.path().join("message").display())
}

/// A server of the pool says `word` of its health in time; `meanwhile` is done until then.
fn until_listed(node: &Node, word: &str, meanwhile: impl Fn()) {
    let until = Instant::now() + Duration::from_secs(30);
    while !node.origin(&["list"]).contains(&format!("\t{word}\t")) {
        assert!(Instant::now() < until, "{}", node.origin(&["list"]));
        meanwhile();
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn grpc(node: &Node) {
    let message = message(node);
    let kind = "Content-Type: application/grpc";
    let call = ["--http2", "--data-binary", &message, "-H", "TE: trailers", "-H", kind];
    has(
        &node.get("/shop.Cart/Get", &call),
        &[" 200", "application/grpc", "abc", "grpc-status: 0"],
    );
    // Nothing but trailers, which are the head then.
    has(&node.get("/shop.Cart/None", &call), &[" 200", "grpc-status: 12"]);
    until_listed(node, "healthy", || ());
}

fn grpc_web(node: &Node) {
    let message = message(node);
    let from = ["-H", "Origin: https://app.example.test"];
    let call = ["--data-binary", &message, "-H", "Content-Type: application/grpc-web"];
    let answer = node.get("/shop.Cart/Get", &[&from[..], &call].concat());
    has(
        &answer,
        &[
            " 200",
            "content-type: application/grpc-web\r\n",
            "access-control-allow-origin: https://app.example.test",
            "grpc-status, grpc-message",
            "abc",
            "grpc-status: 0\r\n",
        ],
    );
    let preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST"];
    let allowed = node.get("/shop.Cart/Get", &[&from[..], &preflight].concat());
    has(&allowed, &[" 204", "access-control-allow-methods: post"]);
}

fn large_downloads(node: &Node) {
    let at = |from: u64| format!("{from:09}\n");
    // In the third of three slices, and over the edge of the first.
    let part = node.get("/downloads/film", &["--range", "2500000-2500019"]);
    let range = format!("content-range: bytes 2500000-2500019/{FILM}");
    let lines = format!("\r\n\r\n{}{}", at(2_500_000), at(2_500_010));
    has(&part, &[" 206", "fwd=uri-miss", &range, &lines]);
    let edge = node.get("/downloads/film?u=1", &["--range", "1048570-1048589"]);
    has(&edge, &[" 206", "; hit", &at(1_048_570), &at(1_048_580)]);
    let whole = node.get("/downloads/film", &[]);
    has(&whole, &[" 200", "; hit", &format!("content-length: {FILM}")]);
    let (_, content) = whole.split_once("\r\n\r\n").unwrap();
    let expected: String = (0..FILM / 10).map(|n| at(n * 10)).collect();
    assert!(content == expected, "{} bytes", content.len());
    // The origin has been asked for each slice once.
    has(&node.get("/film-asked", &[]), &["\r\n\r\n3 "]);
}

fn worker_pages(node: &Node) {
    let ask = |fields: &[&str]| node.get("/a", fields);
    let content = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let first = ask(&[]);
    has(&first, &[" 200", "fwd=uri-miss", "stored", " /a page "]);
    let second = ask(&[]);
    has(&second, &[" 200", "; hit"]);
    assert_eq!(content(&first), content(&second), "the worker did not run");
    has(
        &ask(&["-H", "Accept-Encoding: gzip"]),
        &["; hit", "content-encoding: gzip"],
    );
    assert_ne!(content(&node.get("/a?b", &[])), content(&first));
    has(&node.get("/a", &["--data", "x=y"]), &[" 200", "fwd=method"]);
    has(&ask(&[]), &["fwd=uri-miss"]);
}

fn hotlinks(node: &Node) {
    let ask = |referer: &str| node.get("/images/a.png", &["--referer", referer]);
    has(&ask("https://other.example/page"), &[" 403"]);
    for own in ["https://www.example.test/page", "https://example.test/"] {
        has(&ask(own), &[" 200"]);
    }
    has(&ask("https://www.example.test.evil.example/"), &[" 403"]);
    has(&node.get("/images/a.png", &[]), &[" 200"]);
    has(&node.get("/", &["--referer", "https://other.example/"]), &[" 200"]);
}

fn health_checks(node: &Node) {
    // Who asks does not notice that one is gone.
    let asked = || has(&node.get("/", &[]), &[" 200", "x-server: first"]);
    until_listed(node, "unhealthy", asked);
    asked();
}

fn acme_files(node: &Node) {
    has(
        &node.get("/.well-known/acme-challenge/token", &[]),
        &["key authorization"],
    );
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
