//! What nginx decides by itself in front of an answer: who is asked (auth_request), variables that
//! others make (map, geo, split_clients, if with set), pages for errors, files, what is stored.

use super::*;

/// A login would guard nothing, or who is known be nobody to the application.
#[test]
fn who_is_asked_is_a_pool() {
    let text = site(
        "location = /oauth2/auth {
             internal; proxy_pass http://api/check; proxy_pass_request_body off; proxy_set_header Content-Length \"\";
             proxy_set_header Host $host; proxy_set_header X-Original-URI $request_uri; }
         location /oauth2/ { proxy_pass http://api; proxy_set_header Host $host; }
         location /app/ {
             auth_request /oauth2/auth; error_page 401 = @login;
             auth_request_set $user $upstream_http_x_auth_user; auth_request_set $cookie $upstream_http_set_cookie;
             proxy_set_header Host $host; proxy_set_header X-User $user; add_header Set-Cookie $cookie;
             proxy_pass http://app; }
         location /office/ { satisfy any; allow 192.0.2.0/24; deny all; auth_request /oauth2/auth; proxy_pass http://app; }
         location @login { return 302 https://id.example.com/start?rd=$scheme://$host$request_uri; }
         location / { proxy_pass http://app; }",
    );
    let imported = judge(
        &text,
        &[
            (
                "/app/x",
                &[
                    "if the pool api says so: GET /check",
                    "pool app",
                    "request: without x-user",
                ],
            ),
            ("/oauth2/auth", &["answered: 404"]),
            ("/oauth2/start", &["pool api", "!says so"]),
            ("/office/|@192.0.2.7", &["pool app", "!says so"]),
            ("/office/|@198.51.100.1", &["says so"]),
            ("/x", &["!says so", "goes to the origin"]),
        ],
    );
    for part in [
        "set = { X-Original-URI = \"${target}\" }",
        "to_origin = { X-User = \"x-auth-user\" }",
        "to_client = [\"Set-Cookie\"]",
        "login = \"https://id.example.com/start?rd=${scheme}://${host}${target}\"",
    ] {
        assert!(imported.text.contains(part), "{part}\n{}", imported.text);
    }
    assert_eq!(imported.worst(), Some(Weight::Different), "{}", notes(&imported));
    // Who is asked is not known: nobody comes in.
    let shut = judge(
        &site("location = /auth { return 200; } location / { auth_request /auth; proxy_pass http://app; }"),
        &[("/", &["answered: 403"])],
    );
    assert_eq!(shut.worst(), Some(Weight::Protection));
}

/// Requests would be refused, led elsewhere or answered by another release than nginx's.
#[test]
fn variables_that_others_make() {
    let text = format!(
        "map $http_user_agent $bad {{ default 0; ~*goodbot 0; ~*bot 1; Scraper 1; }}
         map $uri $new {{ /old /new; /older https://other.example/x; ~^/posts/(?<id>[0-9]+)$ /p/$id; }}
         map $cookie_canary $pool {{ default app; yes api; }}
         geo $office {{ default 0; 192.0.2.0/24 1; 192.0.2.66 0; }}
         split_clients $remote_addr $part {{ 10% api; * app; }}\n{}",
        site(
            "set $odd 0; if ($http_x_odd = 1) {{ set $odd 1; }} if ($request_method = TRACE) {{ set $odd 1; }}
             if ($bad) {{ return 403; }}
             if ($new) {{ return 301 $new; }}
             if ($odd) {{ return 400; }}
             location /canary/ {{ proxy_pass http://$pool; }}
             location /part/ {{ proxy_pass http://$part; }}
             location /staff/ {{ if ($office = 0) {{ return 404; }} proxy_pass http://app; }}
             location / {{ proxy_pass http://app; }}"
        )
        .replace("{{", "{")
        .replace("}}", "}")
    );
    let imported = judge(
        &text,
        &[
            ("/|User-Agent: EvilBot", &["answered: 403"]),
            ("/|User-Agent: GoodBot", &["goes to the origin"]),
            ("/|User-Agent: scraper", &["answered: 403"]),
            ("/|User-Agent: Scraper/1", &["goes to the origin"]),
            ("/old?a", &["answered: 301", "location: /new\n"]),
            ("/older", &["location: https://other.example/x\n"]),
            ("/posts/12", &["location: /p/12\n"]),
            ("/posts/x", &["goes to the origin"]),
            ("/|X-Odd: 1", &["answered: 400"]),
            ("TRACE /", &["answered: 400"]),
            ("/canary/|Cookie: canary=yes", &["pool api"]),
            ("/canary/|Cookie: canary=no", &["pool app"]),
            ("/canary/", &["pool app"]),
            ("/staff/|@192.0.2.7", &["pool app"]),
            ("/staff/|@192.0.2.66", &["answered: 404"]),
            ("/staff/|@198.51.100.1", &["answered: 404"]),
        ],
    );
    let split = "split = { by = \"client\", to = [{ origin = \"api\", percent = 10 }] }";
    assert!(imported.text.contains(split), "{}", imported.text);
    assert!(imported.worst() >= Some(Weight::Different), "{}", notes(&imported));
    // What rules cannot say is shut if it guards.
    let text = format!(
        "map $http_a$http_b $x {{ default 1; cd 0; }}\n{}",
        site("location / { if ($x) { return 403; } proxy_pass http://app; }")
    );
    let shut = judge(&text, &[("/", &["answered: 403"])]);
    assert_eq!(shut.worst(), Some(Weight::Protection), "{}", notes(&shut));
    // Variables that are made of each other have an end.
    let text = format!(
        "map $a $b {{ default $b; x $b; }}\n{}",
        site("location / { proxy_pass http://$b; }")
    );
    judge(&text, &[("/", &["answered: 502"])]);
}

/// Visitors would see the edge's phrase, or programs a page in place of what the origin says.
#[test]
fn pages_for_errors() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("404.html"), "<p>not here").unwrap();
    std::fs::write(at("50x.html"), "<p>{{later}}").unwrap();
    let text = site(&format!(
        "error_page 404 410 /404.html; error_page 500 502 503 504 /50x.html; error_page 403 https://other.example/;
         proxy_intercept_errors on;
         location = /404.html {{ internal; root {0}; }}
         location = /50x.html {{ root {0}; }}
         location /api/ {{ error_page 404 /404.html; proxy_pass http://api; }}
         location / {{ proxy_pass http://app; }}",
        directory.path().display()
    ));
    std::fs::write(at("nginx.conf"), text).unwrap();
    let imported = crate::import::nginx::import(&at("nginx.conf"), directory.path()).unwrap();
    let config = config(&imported);
    let pages = config.zones[0].error_pages.as_deref().unwrap();
    let fits = |status: u16| {
        pages
            .iter()
            .any(|page| page.fits(http::StatusCode::from_u16(status).unwrap()) && page.origin)
    };
    assert_eq!((pages.len(), fits(404), fits(410), fits(500)), (1, true, true, false));
    let told = notes(&imported);
    for part in [
        "not translated: error_page 500 502 503 504 /50x.html: ",
        "not translated: error_page 403 https://other.example/: ",
        "not translated: error_page 404 /404.html: pages are for a whole zone",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(!told.contains("internal: 404"), "{told}");
}

/// An application of one page would be answered 404 wherever it was not begun.
#[test]
fn how_files_are_served() {
    let imported = judge(
        &site(
            "root /usr; index index.htm index.html index.php; gzip_static on; autoindex on;
             location /app/ { proxy_pass http://app; }
             location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; }
             location /assets/ { expires 1d; }
             location / { try_files $uri $uri.html $uri/ /index.html?$args; }",
        ),
        &[("/app/x", &["pool app"]), ("/orders/1", &["goes to the origin"])],
    );
    let table = "[zone.files]\nindex = [\"index.htm\", \"index.html\"]\ntry = [\"${path}.html\", \"/index.html\"]\nlisting = true\n\
                 precompressed = [\"gzip\"]\n";
    assert!(imported.text.contains(table), "{}", imported.text);
    let told = notes(&imported);
    assert!(told.contains("index.php: an index is a file"), "{told}");
    assert!(
        told.contains("location /assets/ { … }: what answers where there is no file"),
        "{told}"
    );
    // Lists are shown nowhere if they are not to be seen everywhere.
    let imported = judge(
        &site("root /usr; location /pub/ { autoindex on; } location / { error_page 404 =200 /app.html; }"),
        &[],
    );
    assert!(
        imported.text.contains("[zone.files]\ntry = [\"/app.html\"]\n"),
        "{}",
        imported.text
    );
    assert!(
        notes(&imported).contains("not translated: autoindex on"),
        "{}",
        notes(&imported)
    );
}

/// One visitor would get another one's page, or an origin be asked for each.
#[test]
fn what_is_stored() {
    let text = site(
        "set $skip 0; if ($request_method = POST) { set $skip 1; } if ($http_cookie ~* \"wordpress_logged_in\") { set $skip 1; }
         proxy_cache c; proxy_cache_valid 200 302 10m; proxy_cache_valid any 1m; proxy_cache_valid 206 1m;
         proxy_cache_key \"$scheme$host$uri$arg_page$cookie_lang\"; proxy_cache_use_stale error timeout updating;
         proxy_cache_bypass $skip; proxy_no_cache $skip; proxy_cache_lock on; add_header X-Cache $upstream_cache_status;
         proxy_ignore_headers Cache-Control Expires Set-Cookie; proxy_hide_header Set-Cookie;
         location /private/ { proxy_cache off; proxy_pass http://app; }
         location /query/ { proxy_cache_bypass $arg_nocache $cookie_a$cookie_b; proxy_pass http://app; }
         location /unknown/ { proxy_cache_bypass $upstream_x; proxy_pass http://app; }
         location / { proxy_pass http://app; }",
    );
    let imported = judge(
        &text,
        &[
            ("/", &["stored as rule", "!passes the cache by"]),
            ("POST /", &["passes the cache by"]),
            ("/|Cookie: wordpress_logged_in_1=a", &["passes the cache by"]),
            ("/private/", &["passes the cache by"]),
            ("/query/?nocache=1", &["passes the cache by"]),
            ("/query/?nocache=0", &["stored as rule"]),
            ("/query/|Cookie: b=1", &["passes the cache by"]),
            ("/unknown/", &["passes the cache by"]),
        ],
    );
    for part in [
        "[zone.cache]\nheuristic_percent = 0\n",
        "ttl = { \"200\" = \"10m\", \"2xx\" = \"1m\", \"302\" = \"10m\", \"3xx\" = \"1m\", \"4xx\" = \"1m\", \"5xx\" = \"1m\" }",
        "force = true, strip_set_cookie = true",
        "stale_while_revalidate = \"1d\", stale_if_error = \"1d\"",
        "key = { query = { keep = [\"page\"] }, cookies = [\"lang\"] }",
    ] {
        assert!(imported.text.contains(part), "{part}\n{}", imported.text);
    }
    let told = notes(&imported);
    for part in [
        "206 is never stored",
        "edge says in Cache-Status",
        "not stored, because of proxy_cache_bypass",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

/// Lines would go where nobody looks for them, and crowds come in that nginx keeps out.
#[test]
fn logs_crowds_and_copies() {
    let text = "http { log_format short $remote_addr; access_log /var/log/nginx/access.log short;
         limit_conn_zone $binary_remote_addr zone=each:1m; limit_conn_zone $server_name zone=all:1m;
         upstream app { zone app 64k; server 10.0.0.1:8080; } upstream shadow { server 10.0.0.2:8080; }
         server { listen 127.0.0.1:80; server_name a.example; access_log off; limit_conn each 20; limit_conn all 500; limit_conn_status 503;
                  location /api/ { mirror /copy; limit_conn all 50; proxy_pass http://app; }
                  location = /copy { internal; proxy_pass http://shadow$request_uri; }
                  location / { access_log /var/log/nginx/other.log; proxy_pass http://app; } } }";
    let imported = judge(
        text,
        &[(
            "GET http://a.example/api/x?y",
            &["a copy goes to the pool shadow", "pool app"],
        )],
    );
    for part in [
        "[log]\naccess_file = \"/var/log/nginx/access.log\"\n",
        "connections_per_address = 20\n",
        "name = \"limit-1\"\nconcurrency = 500\n",
        "path = \"/api/\"\nconcurrency = 50\n",
    ] {
        assert!(imported.text.contains(part), "{part}\n{}", imported.text);
    }
    let told = notes(&imported);
    for part in [
        "different: access_log off: ",
        "different: access_log /var/log/nginx/other.log: one file holds",
        "different: limit_conn each 20: ",
        "not needed: zone app 64k: ",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert_eq!(imported.worst(), Some(Weight::Different), "{told}");
}
