//! Whole configurations: what nginx does with a request, and what the rules that are made of it do,
//! by the code of `edge check --explain`.

mod documented;
mod inside;

use std::net::IpAddr;
use std::path::Path;

use http::{HeaderMap, Method, Version};

use super::{Imported, import_text};
use crate::base::invented::Invented;
use crate::config::Config;
use crate::import::Weight;

fn imported(text: &str) -> Imported {
    import_text(Path::new("/nginx.conf"), text).unwrap()
}

/// The configuration that the text becomes, by the code of `edge check`.
#[track_caller]
fn config(imported: &Imported) -> Config {
    let parsed = Config::parse(Path::new("/edge.toml"), &imported.text);
    parsed.unwrap_or_else(|mistakes| panic!("{mistakes}\n{}", imported.text))
}

/// `location`s and the like in a server on loopback.
fn site(inner: &str) -> String {
    format!(
        "upstream app {{ server 10.0.0.1:8080; }}\nupstream api {{ server 10.0.0.2:8080; }}\n\
         server {{\nlisten 127.0.0.1:8080;\nserver_name www.example.com;\n{inner}\n}}\n"
    )
}

/// What becomes of `request`: `METHOD URL [Name: value]… [@address]`, separated by `|`.
fn explained(config: &Config, request: &str) -> String {
    let mut parts = request.split('|');
    let line = parts.next().unwrap();
    let (method, url) = line.split_once(' ').unwrap_or(("GET", line));
    let url = if url.starts_with('/') {
        format!("http://www.example.com{url}")
    } else {
        url.to_owned()
    };
    let uri: http::Uri = url.parse().unwrap();
    let mut headers = HeaderMap::new();
    let mut client: IpAddr = "192.0.2.1".parse().unwrap();
    for part in parts {
        match part.strip_prefix('@') {
            Some(address) => client = address.parse().unwrap(),
            None => {
                let (name, value) = part.split_once(": ").unwrap();
                headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
            }
        }
    }
    let request = Invented {
        method: method.parse::<Method>().unwrap(),
        secure: uri.scheme_str() == Some("https"),
        authority: uri.authority().unwrap().to_string(),
        target: uri.path_and_query().unwrap().clone(),
        headers,
        client,
        version: Version::HTTP_11,
    };
    crate::node::explain(config, &request).unwrap()
}

/// Each request of `inner` comes to all of what stands beside it; `!` in front: not to that.
#[track_caller]
fn judge(text: &str, cases: &[(&str, &[&str])]) -> Imported {
    let imported = imported(text);
    let config = config(&imported);
    for (request, expected) in cases {
        let came = explained(&config, request);
        for part in *expected {
            let (wanted, part) = match part.strip_prefix('!') {
                Some(part) => (false, part),
                None => (true, *part),
            };
            assert_eq!(
                came.contains(part),
                wanted,
                "{request}: {part}\n{came}\n{}",
                imported.text
            );
        }
    }
    imported
}

fn notes(imported: &Imported) -> String {
    imported.notes.iter().map(|note| format!("{note}\n")).collect()
}

/// A request would be answered by another location than nginx's.
#[test]
fn locations_are_chosen_as_nginx_does() {
    let text = site(
        "location / { return 200 root; }
         location = / { return 200 exact; }
         location /docs/ { return 200 docs; }
         location /docs/new/ { return 200 new; }
         location ^~ /images/ { return 200 images; }
         location /images/raw/ { return 200 raw; }
         location ~* \\.(gif|jpg)$ { return 200 pictures; }
         location ~ ^/docs/v[0-9]+/ { return 200 versions; }
         location /nested/ { return 200 never;
             location /nested/deep/ { return 200 deep; }
             location ~ \\.txt$ { return 200 texts; } }
         location /star*/ { return 200 star; }",
    );
    let text = text.replace("return 200 never;", "");
    let answers = [
        ("/", "exact"),
        ("/x", "root"),
        ("/docs/a", "docs"),
        ("/docs", "root"),
        ("/docs/new/a", "new"),
        ("/docs/v1/a", "versions"),
        ("/docs/a.GIF", "pictures"),
        ("/images/a.gif", "images"),
        ("/images/raw/a.gif", "pictures"),
        ("/images/raw/a", "raw"),
        ("/x.jpg", "pictures"),
        ("/nested/deep/a", "deep"),
        ("/nested/a.txt", "texts"),
        ("/a.txt", "root"),
        ("/star*/a", "star"),
        ("/starx/a", "root"),
        ("/%64ocs/x/../a", "docs"),
    ];
    let imported = imported(&text);
    let config = config(&imported);
    for (path, answer) in answers {
        let rules = explained(&config, path);
        let name = rules
            .lines()
            .find_map(|line| line.strip_suffix(": fits"))
            .unwrap_or_default();
        let name = name.trim().trim_start_matches("rule ");
        let at = imported.text.find(&format!("name = \"{name}\"\n")).unwrap();
        let said = imported.text[at..]
            .split("text = \"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_eq!(said, answer, "{path}\n{rules}\n{}", imported.text);
    }
}

/// The origin would be asked for another path.
#[test]
fn paths_that_origins_get() {
    let text = site(
        "location /keep/ { proxy_pass http://app; }
         location /v1/ { proxy_pass http://app/v2/; }
         location /bare/ { proxy_pass http://app/; }
         location /nest { proxy_pass http://app/n; }
         location = /one { proxy_pass http://app/other; }
         location ~ ^/user/([0-9]+)$ { proxy_pass http://api/u/$1$is_args$args; }
         location ~ ^/drop/(.*)$ { proxy_pass http://api/$1; }
         location /all/ { proxy_pass http://api$request_uri; }
         location /set/ { set $where http://api; proxy_pass $where; }
         location / { proxy_pass http://app/front/; }",
    );
    judge(
        &text,
        &[
            ("/keep/a?b", &["goes to the pool app", "!target"]),
            ("/v1/a?b=c", &["target: /v2/a?b=c\n", "goes to the pool app"]),
            ("/v1/", &["target: /v2/\n"]),
            ("/bare/a", &["target: /a\n"]),
            ("/nest/a", &["target: /n/a\n"]),
            ("/nestx", &["target: /nx\n"]),
            ("/one?x", &["target: /other?x\n"]),
            ("/user/12?a=b", &["target: /u/12?a=b\n", "pool api"]),
            ("/drop/x?a=b", &["target: /x\n"]),
            ("/all/x?a=b", &["!target", "pool api"]),
            ("/set/x", &["!target", "pool api"]),
            ("/a", &["target: /front/a\n", "goes to the origin"]),
        ],
    );
}

/// Old addresses would lead elsewhere, or nowhere.
#[test]
fn what_rewrites() {
    let text = site(
        "rewrite ^/old/(.*)$ /new/$1 permanent;
         rewrite ^/away/(\\d+)$ https://other.example/$1? redirect;
         rewrite ^/item/(\\w+)$ /api/item?id=$1 last;
         if ($host = example.com) { return 301 https://www.example.com$request_uri; }
         if ($request_method !~ ^(GET|HEAD|POST)$) { return 405; }
         location /api/ { deny 192.0.2.66; proxy_pass http://api/v1/; proxy_set_header Host $host; }
         location /download/ { rewrite ^/download/(.*)/media/(.*)$ /files/$1/$2 break; proxy_pass http://app; }
         location /wrap/ { rewrite ^(.*)$ /x$1 break; proxy_pass http://app; }
         location /loop/ { rewrite ^/loop/(.*)$ /api/$1 last; return 404; }
         location /go/ { return 302 /there$is_args$args; }
         location /temp/ { return https://example.org/; }
         location /moved { return 301 https://example.org$request_uri; }
         location /text { default_type text/html; return 200 '<b>$host</b>'; add_header X-A 1 always; }
         location / { proxy_pass http://app; }",
    );
    let imported = judge(
        &text.replace("server_name www.example.com", "server_name www.example.com example.com"),
        &[
            ("/old/a?b", &["answered: 301", "location: /new/a?b\n"]),
            ("/away/12?b", &["answered: 302", "location: https://other.example/12\n"]),
            ("/item/ab?c=d", &["target: /v1/item?id=ab&c=d\n", "pool api"]),
            ("GET /item/ab|@192.0.2.66", &["answered: 403"]),
            (
                "GET http://example.com/a?b",
                &["answered: 301", "location: https://www.example.com/a?b\n"],
            ),
            ("DELETE /a", &["answered: 405"]),
            ("GET /a", &["goes to the origin"]),
            ("/api/x", &["target: /v1/x\n"]),
            ("GET /api/x|@192.0.2.66", &["answered: 403"]),
            ("/download/a/media/b", &["target: /files/a/b\n", "pool app"]),
            ("/download/a", &["!target", "pool app"]),
            ("/wrap/a", &["target: /x/wrap/a\n"]),
            ("/loop/a", &["target: /v1/a\n", "pool api"]),
            ("/go/?a=b", &["answered: 302", "location: /there?a=b\n"]),
            ("/temp/", &["answered: 302", "location: https://example.org/\n"]),
            (
                "/moved/a?b",
                &["answered: 301", "location: https://example.org/moved/a?b\n"],
            ),
            ("/text", &["answered: 200", "content-type: text/html\n", "x-a: 1"]),
        ],
    );
    assert_eq!(imported.worst(), Some(Weight::Different), "{}", notes(&imported));
}

/// Somebody would come in who was kept out by nginx.
#[test]
fn what_guards_stays() {
    let text = site(
        "location /office/ { allow 192.0.2.0/24; deny all; proxy_pass http://app; }
         location /bad/ { deny 192.0.2.1; proxy_pass http://app; }
         location /none/ { deny all; proxy_pass http://app; }
         location /inside/ { internal; proxy_pass http://app; }
         location /sso/ { auth_request /check; proxy_pass http://app; }
         location /read/ { limit_except GET { deny all; } proxy_pass http://app; }
         location /write/ { limit_except GET POST { allow 192.0.2.0/24; deny all; } proxy_pass http://app; }
         location /token/ { if ($http_x_token != s3cret) { return 403; } proxy_pass http://app; }
         location /odd/ { if ($geoip_country = XX) { return 403; } proxy_pass http://app; }
         location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; }
         location ^~ /deep/ { allow 192.0.2.1; deny all; proxy_pass http://app; }
         location /deep/er/ { proxy_pass http://api; }
         location / { root /srv/www; }",
    );
    let imported = imported(&text);
    let text = imported.text.replace("/srv/www", "/");
    let config = Config::parse(Path::new("/edge.toml"), &text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    for (request, expected) in [
        ("GET /office/|@192.0.2.7", "pool app"),
        ("GET /office/|@198.51.100.1", "answered: 403"),
        ("GET /office/|@2001:db8::1", "answered: 403"),
        ("GET /bad/", "answered: 403"),
        ("GET /bad/|@192.0.2.2", "pool app"),
        ("GET /none/", "answered: 403"),
        ("GET /inside/", "answered: 404"),
        ("GET /sso/", "answered: 403"),
        ("GET /read/", "pool app"),
        ("HEAD /read/", "pool app"),
        ("POST /read/", "answered: 403"),
        ("POST /write/", "pool app"),
        ("DELETE /write/|@198.51.100.1", "answered: 403"),
        ("DELETE /write/|@192.0.2.9", "pool app"),
        ("GET /token/", "answered: 403"),
        ("GET /token/|X-Token: s3cret", "pool app"),
        ("GET /token/|X-Token: s3crets", "answered: 403"),
        ("GET /odd/", "answered: 403"),
        ("GET /x.php", "answered: 501"),
        ("GET /deep/x.php", "pool app"),
        ("GET /deep/|@192.0.2.2", "answered: 403"),
        ("GET /deep/er/x", "pool api"),
        ("GET /deep/er/x.php", "answered: 501"),
        ("GET /x.html", "goes to the origin"),
    ] {
        let came = explained(&config, request);
        assert!(came.contains(expected), "{request}: {expected}\n{came}\n{text}");
    }
    let told = notes(&imported);
    for line in ["auth_request /check", "if ($geoip_country"] {
        assert!(told.contains(&format!("LOSS OF PROTECTION: {line}")), "{line}: {told}");
    }
    assert!(told.contains("not translated: fastcgi_pass"), "{told}");
    assert!(
        imported
            .text
            .contains("# /nginx.conf:10: LOSS OF PROTECTION: auth_request"),
        "{}",
        imported.text
    );
    assert_eq!(imported.worst(), Some(Weight::Protection));
}

/// Passwords would not be asked for, or those of a file that edge cannot read be taken as none.
#[test]
fn passwords() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(
        at("good"),
        "ann:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\n",
    )
    .unwrap();
    std::fs::write(at("weak"), "ann:$apr1$x$y\n").unwrap();
    let text = site(
        "auth_basic \"Staff only\"; auth_basic_user_file good;
         location /open/ { auth_basic off; proxy_pass http://app; }
         location /weak/ { auth_basic_user_file weak; proxy_pass http://app; }
         location /any/ { satisfy any; allow 192.0.2.1; deny all; proxy_pass http://app; }
         location / { proxy_pass http://app; }",
    );
    std::fs::write(at("nginx.conf"), text).unwrap();
    let imported = super::import(&at("nginx.conf"), directory.path()).unwrap();
    let config = config(&imported);
    let ann = "|Authorization: Basic YW5uOnNlY3JldA==";
    for (request, expected) in [
        ("GET /".to_owned(), "answered: 401"),
        (format!("GET /{ann}"), "goes to the origin"),
        ("GET /open/".to_owned(), "pool app"),
        (format!("GET /weak/{ann}"), "answered: 403"),
        ("GET /any/".to_owned(), "pool app"),
        ("GET /any/|@192.0.2.2".to_owned(), "answered: 401"),
        (format!("GET /any/{ann}|@192.0.2.2"), "pool app"),
    ] {
        let came = explained(&config, &request);
        assert!(
            came.contains(expected),
            "{request}: {expected}\n{came}\n{}",
            imported.text
        );
    }
    assert!(
        notes(&imported).contains("LOSS OF PROTECTION: auth_basic_user_file weak"),
        "{}",
        notes(&imported)
    );
}

/// Fields would be missing, or come from a block whose fields the inner one replaces.
#[test]
fn fields_are_inherited_whole_or_not_at_all() {
    let text = site(
        "add_header X-Outer 1 always; add_header X-More 2;
         proxy_set_header Host $host; proxy_set_header X-Zone shop; proxy_set_header Accept-Encoding \"\";
         location /own/ { add_header X-Inner 3; proxy_set_header X-Own $http_x_in; proxy_pass http://app; }
         location /twice/ { add_header Link a; add_header Link b; proxy_pass http://app; }
         location /age/ { expires 1h; proxy_hide_header X-Powered-By; proxy_pass http://app; }
         location /no/ { deny all; }
         location / { proxy_pass http://app; }",
    );
    let imported = judge(
        &text,
        &[
            (
                "/",
                &[
                    "one more x-outer: 1",
                    "one more x-more: 2",
                    "request: x-zone: shop",
                    "request: without accept-encoding",
                    "!x-inner",
                ],
            ),
            (
                "/own/|X-In: z",
                &["one more x-inner: 3", "!x-outer", "request: x-own: z", "!x-zone"],
            ),
            ("/twice/", &["one more link: a", "one more link: b", "!x-outer"]),
            (
                "/age/",
                &[
                    "response: cache-control: max-age=3600",
                    "response: without x-powered-by",
                    "one more x-outer: 1",
                ],
            ),
            ("/no/", &["answered: 403", "one more x-outer: 1", "!x-more"]),
        ],
    );
    // Two ways to ask the same servers: with the client's Host, and with their own.
    assert_eq!(imported.text.matches("[[origin]]").count(), 2, "{}", imported.text);
}

/// Servers would be asked otherwise than nginx does.
#[test]
fn upstreams_become_pools() {
    let text = "upstream all { least_conn; server 10.0.0.1 weight=3 max_fails=2 fail_timeout=30s; server b.internal:81 backup; server 10.0.0.9:80 down;
                keepalive 32; keepalive_timeout 90s; }
         upstream sticky { hash $cookie_sid consistent; server unix:/run/a.sock; server 10.0.0.2:80; }
         upstream unused { server 10.0.0.3; }
         server { listen 127.0.0.1:80; server_name a.example; client_max_body_size 10m; proxy_read_timeout 2m; proxy_connect_timeout 5s;
                  location /s/ { proxy_pass http://sticky; proxy_next_upstream error http_503; }
                  location /ws/ { proxy_pass http://all; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                                  proxy_set_header Connection upgrade; }
                  location /grpc/ { grpc_pass grpc://10.0.0.4:50051; }
                  location / { proxy_pass http://all; } }";
    let imported = imported(text);
    let config = config(&imported);
    let [zone] = config.zones.as_slice() else { panic!() };
    assert_eq!(zone.body_bytes, Some(10 << 20));
    let pool = |name: &str| {
        zone.pools
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, pool)| pool.clone())
            .unwrap()
    };
    let crate::config::Origin::Servers(all) = &zone.origin else {
        panic!()
    };
    assert_eq!(all.balance, crate::config::Balance::LeastLoaded);
    let servers: Vec<_> = all
        .servers
        .iter()
        .map(|s| (s.address.to_string(), s.weight, s.priority))
        .collect();
    assert_eq!(
        servers,
        [
            ("http://10.0.0.1:80".to_owned(), 3, 0),
            ("http://b.internal:81".to_owned(), 1, 1)
        ]
    );
    assert_eq!((all.idle_connections, all.idle_timeout.as_secs()), (32, 90));
    assert_eq!(all.passive, Some((2, std::time::Duration::from_secs(30))));
    assert_eq!(
        (all.response_timeout.as_secs(), all.connect_timeout.as_secs()),
        (120, 5)
    );
    assert!(all.retry_status.is_empty() && !all.upgrades && !all.preserve_host);
    let sticky = pool("sticky");
    assert_eq!(sticky.balance, crate::config::Balance::Hash);
    assert_eq!(
        (sticky.retry_status.as_slice(), sticky.servers[0].address.to_string()),
        (&[503][..], "unix:/run/a.sock".to_owned())
    );
    assert!(pool("all").upgrades);
    assert_eq!(pool("10.0.0.4-50051").http, crate::config::OriginHttp::V2);
    let mut keys = imported.text.lines().filter(|line| !line.starts_with('#'));
    assert!(!keys.any(|line| line.contains("10.0.0.3") || line.contains("10.0.0.9")));
}

/// Hosts would be served by another server, or with and without TLS alike.
#[test]
fn hosts_find_their_server() {
    let text = "http { ssl_certificate c.pem; ssl_certificate_key c.key;
         server { listen 80 default_server; return 301 https://$host$request_uri; }
         server { listen 443 ssl http2; listen [::]:443 ssl; server_name a.example www.a.example; location / { return 200 a; } }
         server { listen 443 ssl; server_name .b.example; ssl_protocols TLSv1.3; ssl_certificate b.pem; ssl_certificate_key b.key;
                  location / { return 200 b; } } }";
    let imported = imported(text);
    let file = &imported.text;
    for part in [
        "https = [\"0.0.0.0:443\", \"[::]:443\"]",
        "http3 = false",
        "http = [\"0.0.0.0:80\"]",
        "hosts = [\"a.example\", \"www.a.example\"]\ndefault = true\ncertificate = \"/c.pem\"",
        "hosts = [\"b.example\", \"*.b.example\"]\ncertificate = \"/b.pem\"\nkey = \"/b.key\"\nmin_version = \"1.3\"",
        "body_bytes = \"1MiB\"",
    ] {
        assert!(file.contains(part), "{part}\n{file}");
    }
    assert!(!file.contains("plain ="), "{file}");
    config(&imported);

    // What is not only a redirect is served without TLS, as nginx does, and kept apart.
    let text = "server { listen 80; server_name a.example; location /plain { return 200 p; } location / { return 301 https://a.example$request_uri; } }
         server { listen 443 ssl; server_name a.example; ssl_certificate c.pem; ssl_certificate_key c.key; location / { return 200 t; } }
         server { listen 80; server_name only.example; location / { return 200 o; } }";
    let imported = judge(
        text,
        &[
            ("GET http://a.example/plain", &["answered: 200"]),
            (
                "GET http://a.example/x?y",
                &["answered: 301", "location: https://a.example/x?y"],
            ),
            ("GET https://a.example/plain", &["answered: 200"]),
            ("GET http://only.example/", &["answered: 200"]),
        ],
    );
    for part in [
        "plain = [\"0.0.0.0:80\"]",
        "plain_from = [\"0.0.0.0/0\", \"::/0\"]",
        "secure = false",
        "secure = true",
    ] {
        assert!(imported.text.contains(part), "{part}\n{}", imported.text);
    }
}

/// A directive would vanish without a word.
#[test]
fn every_directive_is_translated_or_told() {
    let text = "user www; worker_processes 4; frobnicate on;\nevents { worker_connections 1; }\nstream { server { listen 1; } }\n\
         http { include none*.conf; map $a $b { x y; } sendfile on; unknown_thing { deep 1; }\n\
         server { listen 127.0.0.1:1; server_name ~^x a.example; error_page 404 /404.html;\n\
         location / { proxy_pass http://127.0.0.1:2; sub_filter a b; limit_conn z 1; proxy_set_header X-Real-IP $http_a; }\n\
         location ~ (?!x) { deny all; } } }";
    let imported = imported(text);
    let told = notes(&imported);
    for part in [
        ":1: not needed: user www: ",
        ":1: not translated: frobnicate on: nothing is known of it",
        ":3: not translated: stream { … }: ",
        ":4: not translated: map $a $b { … }: ",
        ":4: not translated: unknown_thing { … }: ",
        ":5: not translated: server_name ~^x a.example: ",
        ":5: not translated: error_page 404 /404.html: ",
        ":6: not translated: sub_filter a b: ",
        ":6: LOSS OF PROTECTION: limit_conn z 1: ",
        ":6: not translated: proxy_set_header X-Real-IP",
        ":7: LOSS OF PROTECTION: location ~ (?!x) { … }: ",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    // What is not translated stands in the text, too.
    for note in imported.notes.iter().filter(|note| note.weight < Weight::Idle) {
        assert!(
            imported.text.contains(&format!("# {note}\n")),
            "{note}\n{}",
            imported.text
        );
    }
    config(&imported);
}

/// Rates, sizes, coding, trusted proxies and caches would be others.
#[test]
fn limits_and_the_rest() {
    let text =
        "limit_req_zone $binary_remote_addr zone=one:10m rate=10r/s; limit_req_zone $http_x_key zone=two:1m rate=30r/m;
         gzip on; gzip_types text/css application/json; gzip_min_length 1k;
         set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For; real_ip_recursive on; keepalive_timeout 30s;
         proxy_cache_path /var/cache/nginx keys_zone=c:1m;
         server { listen 127.0.0.1:80; server_name a.example; limit_req zone=one burst=20 nodelay;
                  location /login { limit_req zone=two; proxy_pass http://127.0.0.1:1; }
                  location /static/ { proxy_cache c; proxy_pass http://127.0.0.1:1; }
                  location / { proxy_pass http://127.0.0.1:1; } }";
    let imported = judge(
        text,
        &[
            ("GET http://a.example/static/x", &["!passes the cache by"]),
            ("GET http://a.example/login", &["passes the cache by"]),
            ("GET http://a.example/x", &["passes the cache by"]),
            (
                "GET http://a.example/x|X-Forwarded-For: 1.2.3.4|@10.1.1.1",
                &["client 1.2.3.4"],
            ),
        ],
    );
    for part in [
        "rate = { requests = 10, per = \"1s\", burst = 21, key = \"address\" }",
        "path = \"/login\"\nrate = { requests = 30, per = \"1m\", burst = 1, key = \"header:x-key\" }",
        "encodings = [\"gzip\"]\nmin_bytes = \"1KiB\"\ntypes = [\"text/html\", \"text/css\", \"application/json\"]",
        "client_address = { from = \"X-Forwarded-For\", trusted = [\"10.0.0.0/8\"] }",
        "idle_timeout = \"30s\"",
    ] {
        assert!(imported.text.contains(part), "{part}\n{}", imported.text);
    }
    // A key that tells clients apart: nothing is stored, since edge would mix them up.
    let imported = judge(
        "server { listen 127.0.0.1:80; server_name a.example; location / { proxy_cache c; proxy_cache_key $uri$remote_addr; proxy_pass http://127.0.0.1:1; } }",
        &[("GET http://a.example/", &["passes the cache by"])],
    );
    assert_eq!(imported.worst(), Some(Weight::Missing), "{}", notes(&imported));
}

/// Files would be looked for elsewhere, or those of a program be sent as they are.
#[test]
fn files() {
    let text = site(
        "root /tmp; index index.html;
         location /app/ { proxy_pass http://app; }
         location ~* \\.(css|jpe?g)$ { root /usr; expires max; }
         location /static/ { alias /usr/share/; }
         location /usr/ { alias /usr/; }
         location / { try_files $uri $uri/ =404; }",
    );
    let imported = judge(
        &text,
        &[
            ("/app/x", &["pool app"]),
            ("/x.css", &["goes to files", "max-age=315360000"]),
            ("/x.jpg", &["goes to files"]),
            ("/static/a", &["target: /share/a\n", "goes to files"]),
            ("/share/a", &["answered: 404"]),
            ("/usr/a", &["!target"]),
            ("/x", &["goes to the origin"]),
        ],
    );
    assert!(
        imported.text.contains("[zone.origin]\ndirectory = \"/tmp\""),
        "{}",
        imported.text
    );
}

/// A file that somebody hands in would end the command in a panic, or come out as something that is
/// not read as text: the fuzz target `nginx` looks for such files, here are some thousand of them.
#[test]
fn broken_files_are_refused_or_translated() {
    const SIGNS: &[u8] = b"{};\"'\\$ \n#=~@*";
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/nginx");
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(corpus).unwrap() {
        seeds.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    assert!(seeds.len() >= 4);
    let words: Vec<Vec<u8>> = seeds
        .iter()
        .flat_map(|seed| seed.split(|b| *b == b' '))
        .map(<[u8]>::to_vec)
        .collect();
    // A generator by Marsaglia (xorshift), so that each run looks at the same files.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (most.max(1) as u64)).unwrap()
    };
    for round in 0..3_000 {
        let mut text = seeds[round % seeds.len()].clone();
        for _ in 0..=next(4) {
            let at = next(text.len());
            match next(4) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, SIGNS[next(SIGNS.len())]),
                2 => drop(text.splice(at..at, words[next(words.len())].clone())),
                _ => {
                    let end = (at + next(20)).min(text.len());
                    text.drain(at..end);
                }
            }
            if text.is_empty() {
                text.push(b';');
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        match import_text(Path::new("/nginx.conf"), &text) {
            Err(error) => assert!(error.line > 0, "{error}\n{text}"),
            Ok(imported) => {
                let read = imported.text.parse::<toml::Table>();
                assert!(read.is_ok(), "{read:?}\n{text}\n{}", imported.text);
                if let Err(mistakes) = Config::parse(Path::new("/edge.toml"), &imported.text) {
                    let told = mistakes.to_string();
                    assert!(
                        !told.contains("unknown") && !told.contains("missing field"),
                        "{told}\n{text}"
                    );
                }
            }
        }
    }
}
