//! A directory as origin.

use std::os::unix::fs::symlink;
use std::path::Path;

use edge::http::body::Body;
use edge::http::handler::Reason;
use edge::http::message::Response;
use http_body_util::BodyExt;

use super::bed::{Bed, get, text};

fn site() -> (tempfile::TempDir, Bed) {
    let directory = tempfile::tempdir().unwrap();
    let www = directory.path().join("www");
    std::fs::create_dir_all(www.join("sub")).unwrap();
    std::fs::create_dir_all(www.join(".well-known")).unwrap();
    std::fs::create_dir_all(www.join("bare")).unwrap();
    for (name, content) in [
        ("index.html", "home"),
        ("sub/index.html", "sub"),
        ("a b.txt", "space"),
        (".secret", "no"),
        (".well-known/acme", "token"),
        ("empty.css", ""),
        ("../outside", "no"),
    ] {
        std::fs::write(www.join(name), content).unwrap();
    }
    let big: Vec<u8> = (0..1_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    std::fs::write(www.join("big.bin"), big).unwrap();
    symlink("../outside", www.join("escape")).unwrap();
    symlink("/etc/passwd", www.join("absolute")).unwrap();
    symlink("index.html", www.join("inside")).unwrap();
    let bed = Bed::new(&format!("directory = \"{}\"", www.display()));
    (directory, bed)
}

/// What is there, with its type.
#[tokio::test]
async fn found() {
    let (_directory, bed) = site();
    for (path, content, kind) in [
        ("/", "home", "text/html; charset=utf-8"),
        ("/index.html?x=1", "home", "text/html; charset=utf-8"),
        ("//sub//", "sub", "text/html; charset=utf-8"),
        ("/a%20b.txt", "space", "text/plain; charset=utf-8"),
        ("/.well-known/acme", "token", "application/octet-stream"),
        ("/empty.css", "", "text/css; charset=utf-8"),
        ("/inside", "home", "application/octet-stream"),
    ] {
        let response = bed.get(path).await.unwrap();
        assert_eq!(response.head.headers["content-type"], kind, "{path}");
        assert_eq!(response.head.headers["content-length"], content.len().to_string());
        assert_eq!(text(response).await, (200, content.into()), "{path}");
    }
}

/// Anything else would be a way out of the directory, or shows what is meant to be hidden.
#[tokio::test]
async fn nothing() {
    let (_directory, bed) = site();
    for path in [
        "/../outside",
        "/%2e%2e/outside",
        "/sub/..%2f..%2foutside",
        "/sub%2findex.html",
        "/escape",
        "/absolute",
        "/.secret",
        "/sub/./index.html",
        "/index.html/",
        "/index.html%00",
        "/%zz",
        "/%",
        "/%ff",
        "/bare/",
        "/bare",
        "/missing",
    ] {
        assert_eq!(bed.get(path).await.unwrap_err().reason, Reason::NotFound, "{path}");
    }
    let long = format!("/{}", "a".repeat(5_000));
    assert_eq!(bed.get(&long).await.unwrap_err().reason, Reason::NotFound);
}

#[tokio::test]
async fn methods_and_redirects() {
    let (_directory, bed) = site();
    let ask = |method: &str| {
        http::Request::builder()
            .method(method)
            .uri("/")
            .body(Body::Empty)
            .unwrap()
    };
    let response = bed.ask(ask("POST")).await.unwrap();
    assert_eq!(
        (response.head.status.as_u16(), &response.head.headers["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
    let response = bed.ask(ask("HEAD")).await.unwrap();
    assert_eq!(response.head.headers["content-length"], "4");
    assert_eq!(text(response).await, (200, String::new()));
    for (path, location) in [("/sub?q=1", "/sub/?q=1"), ("//sub", "/sub/")] {
        let response = bed.get(path).await.unwrap();
        assert_eq!(response.head.status, 308);
        assert_eq!(response.head.headers["location"], location, "never another host");
    }
}

/// A resumed download, and one that is not needed.
#[tokio::test]
async fn ranges_and_conditions() {
    let (directory, bed) = site();
    let whole = bed.get("/big.bin").await.unwrap();
    let etag = whole.head.headers["etag"].clone();
    let content = whole.body.collect().await.unwrap().to_bytes();
    assert_eq!(content.len(), 1_000_000);
    for (range, from, end) in [
        ("bytes=100000-299999", 100_000, 300_000),
        ("bytes=-1", 999_999, 1_000_000),
    ] {
        let mut request = get("/big.bin");
        request.headers_mut().insert("range", range.parse().unwrap());
        request.headers_mut().insert("if-range", etag.clone());
        let response = bed.ask(request).await.unwrap();
        assert_eq!(response.head.status, 206);
        let told = format!("bytes {from}-{}/1000000", end - 1);
        assert_eq!(response.head.headers["content-range"], told);
        assert_eq!(response.body.collect().await.unwrap().to_bytes(), content[from..end]);
    }
    let mut request = get("/");
    request.headers_mut().insert("range", "bytes=4-".parse().unwrap());
    let response = bed.ask(request).await.unwrap();
    assert_eq!(
        (response.head.status.as_u16(), &response.head.headers["content-range"]),
        (416, &"bytes */4".parse().unwrap())
    );
    let mut request = get("/big.bin");
    request.headers_mut().insert("if-none-match", etag);
    assert_eq!(text(bed.ask(request).await.unwrap()).await, (304, String::new()));

    // A file that shrinks under us must not end as if it were whole.
    let mut body = bed.get("/big.bin").await.unwrap().body;
    body.frame().await.unwrap().unwrap();
    std::fs::write(directory.path().join("www/big.bin"), "short").unwrap();
    assert!(body.collect().await.is_err());
}

/// A bed with a directory, made by `fill`, and `[zone.files]`.
fn served(files: &str, fill: impl FnOnce(&Path)) -> (tempfile::TempDir, Bed) {
    let directory = tempfile::tempdir().unwrap();
    let www = directory.path().join("www");
    std::fs::create_dir(&www).unwrap();
    fill(&www);
    let bed = Bed::new(&format!("directory = \"{}\"\n[zone.files]\n{files}", www.display()));
    (directory, bed)
}

fn write(www: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = www.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// An application of one page would be 404 at each of its addresses, or a hidden file be shown.
#[tokio::test]
async fn what_answers_where_there_is_nothing() {
    let files = "index = [\"home.htm\", \"index.html\"]\ntry = [\"${path}.html\", \"${path}/main.html\", \"/app/index.html\"]\n\
                 cache_control = [{ path = \"/app/\", value = \"no-cache\" }, { path = \"*.css\", value = \"max-age=9\" }]";
    let (_directory, bed) = served(files, |www| {
        write(
            www,
            &[
                ("app/index.html", "app"),
                ("about.html", "about"),
                ("team/main.html", "team"),
                ("docs/home.htm", "docs"),
                ("docs/index.html", "other"),
                ("a.css", "css"),
                (".env", "secret"),
                ("empty/.keep", ""),
            ],
        );
    });
    for (path, content, cache) in [
        ("/", "app", Some("no-cache")),
        ("/orders/5?x=1", "app", Some("no-cache")),
        ("/app/", "app", Some("no-cache")),
        ("/about", "about", None),
        ("/about/", "about", None),
        ("/team", "team", None),
        ("/docs/", "docs", None),
        ("/a.css", "css", Some("max-age=9")),
        ("/empty/", "app", Some("no-cache")),
        ("/a.css/x", "app", Some("no-cache")),
        ("/missing.css", "app", Some("no-cache")),
    ] {
        let response = bed.get(path).await.unwrap();
        let said = response
            .head
            .headers
            .get("cache-control")
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said.as_deref(), cache, "{path}");
        assert_eq!(text(response).await, (200, content.to_owned()), "{path}");
    }
    for path in ["/.env", "/docs/../.env", "/%2eenv", "/.env.html", "/%ff", "/x%00"] {
        assert_eq!(bed.get(path).await.unwrap_err().reason, Reason::NotFound, "{path}");
    }
    let response = bed.get("/docs?q").await.unwrap();
    assert_eq!(response.head.headers["location"], "/docs/?q");
}

/// A link would lead out of the directory, or what was put within it by absolute links (as builds
/// and package managers do) not be found.
#[tokio::test]
async fn links_lead_where_they_may() {
    let (directory, bed) = served("listing = true", |www| {
        write(
            www,
            &[
                ("shared/a.css", "css"),
                ("real/index.html", "page"),
                ("../outside/secret", "no"),
            ],
        );
        let link = |to: &Path, from: &str| symlink(to, www.join(from)).unwrap();
        link(&www.join("shared/a.css"), "absolute.css");
        link(&www.join("real"), "folder");
        link(Path::new("../www/shared/a.css"), "around.css");
        link(&www.join("absolute.css"), "twice.css");
        link(&www.join("../outside/secret"), "out");
        link(&www.join("../outside"), "outside");
        link(&www.join("../www-other"), "sibling");
        link(www, "self");
        link(Path::new("loop"), "loop");
        link(Path::new("/proc/self/root/etc/passwd"), "magic");
        link(Path::new("/dev/zero"), "device");
        // A directory whose name begins as ours does.
        write(www, &[("../www-other/index.html", "no")]);
    });
    for (path, content) in [
        ("/absolute.css", "css"),
        ("/around.css", "css"),
        ("/twice.css", "css"),
        ("/folder/", "page"),
        ("/folder/index.html", "page"),
    ] {
        assert_eq!(bed.text(path).await, (200, content.to_owned()), "{path}");
    }
    assert_eq!(bed.get("/folder").await.unwrap().head.headers["location"], "/folder/");
    for path in [
        "/out",
        "/outside/secret",
        "/outside/",
        "/sibling/index.html",
        "/sibling/",
        "/loop",
        "/magic",
        "/device",
    ] {
        assert_eq!(bed.get(path).await.unwrap_err().reason, Reason::NotFound, "{path}");
    }
    let (_, page) = bed.text("/").await;
    for shown in ["./absolute.css", "./folder/", "./shared/", "./twice.css"] {
        assert!(page.contains(&format!("href=\"{shown}\"")), "{shown} in {page}");
    }
    for other in ["./out\"", "./outside", "./sibling", "./loop", "./magic", "./device"] {
        assert!(!page.contains(other), "{other} in {page}");
    }
    // What a link leads to may change while it is served.
    let link = directory.path().join("www/absolute.css");
    std::fs::remove_file(&link).unwrap();
    symlink(directory.path().join("outside/secret"), &link).unwrap();
    assert_eq!(bed.get("/absolute.css").await.unwrap_err().reason, Reason::NotFound);
}

/// A directory that nobody meant to show, or a page that runs what a file is called.
#[tokio::test]
async fn lists() {
    let fill = |www: &Path| {
        write(
            www,
            &[
                ("bare/a b.txt", "12345"),
                ("bare/.git/config", "no"),
                ("index.html", "home"),
            ],
        )
    };
    let (_directory, bed) = served("", fill);
    for path in ["/bare", "/bare/"] {
        assert_eq!(bed.get(path).await.unwrap_err().reason, Reason::NotFound, "{path}");
    }
    let (_directory, bed) = served("listing = true", fill);
    assert_eq!(bed.text("/").await, (200, "home".to_owned()), "an index goes before");
    assert_eq!(bed.get("/bare?x").await.unwrap().head.headers["location"], "/bare/?x");
    let response = bed.get("//bare//").await.unwrap();
    let headers = &response.head.headers;
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    let (_, page) = text(response).await;
    assert_eq!(page.len(), length);
    assert!(page.contains("<h1>/bare/</h1>") && page.contains("href=\"../\"") && page.contains("./a%20b.txt"));
    assert!(!page.contains(".git"), "{page}");
    assert_eq!(bed.get("/bare/.git/").await.unwrap_err().reason, Reason::NotFound);
    let mut head = get("/bare/");
    *head.method_mut() = http::Method::HEAD;
    let response = bed.ask(head).await.unwrap();
    assert_eq!(response.head.headers["content-length"], length.to_string());
    assert_eq!(text(response).await, (200, String::new()));
}

/// Files, some of them with forms that are coded already.
fn forms() -> (tempfile::TempDir, Bed) {
    served("precompressed = [\"br\", \"gzip\", \"zstd\"]", |www| {
        write(
            www,
            &[
                ("a.js", "plain text of some length"),
                ("a.js.gz", "gzip form"),
                ("a.js.br", "br form"),
                ("b.js", "plain b"),
                ("c.js.gz", "gzip alone"),
                ("d.js", "plain d"),
                ("d.js.br/x", "a directory"),
            ],
        );
    })
}

async fn ask(bed: &Bed, path: &str, fields: &[(&'static str, &str)]) -> Response {
    let mut request = get(path);
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    bed.ask(request).await.unwrap()
}

/// A client would get bytes that it cannot read, parts of two forms joined to one broken file, or
/// an old form of a new file.
#[tokio::test]
async fn forms_of_a_file() {
    let (_directory, bed) = forms();
    let ask = async |path: &str, fields: &[(&'static str, &str)]| ask(&bed, path, fields).await;
    let mut tags = std::collections::HashSet::new();
    for (accepts, coding, content) in [
        ("", None, "plain text of some length"),
        ("identity", None, "plain text of some length"),
        ("deflate, zstd", None, "plain text of some length"),
        ("gzip", Some("gzip"), "gzip form"),
        ("gzip, br", Some("br"), "br form"),
        ("gzip, br;q=0.5", Some("gzip"), "gzip form"),
        ("br;q=0, *", Some("gzip"), "gzip form"),
        ("zstd, br;q=0.1", Some("br"), "br form"),
    ] {
        let response = ask("/a.js", &[("accept-encoding", accepts)]).await;
        let headers = response.head.headers.clone();
        assert_eq!(
            headers.get("content-encoding").map(|c| c.to_str().unwrap()),
            coding,
            "{accepts}"
        );
        assert_eq!(headers["content-type"], "text/javascript; charset=utf-8");
        assert_eq!(headers["vary"], "accept-encoding");
        assert_eq!(headers["content-length"], content.len().to_string());
        tags.insert(headers["etag"].to_str().unwrap().to_owned());
        assert_eq!(text(response).await, (200, content.to_owned()), "{accepts}");
    }
    assert_eq!(tags.len(), 3, "a tag for each form: {tags:?}");
    assert!(tags.iter().all(|tag| tag.starts_with('"')), "strong ones");
    let etag = async |accepts: &str| ask("/a.js", &[("accept-encoding", accepts)]).await.head.headers["etag"].clone();
    let (gzip, br) = (etag("gzip").await, etag("br").await);
    // A range is of the form that is sent, and of no other one.
    let ranged = |tag: &http::HeaderValue, accepts: &'static str| {
        vec![
            ("range", "bytes=5-8".to_owned()),
            ("if-range", tag.to_str().unwrap().to_owned()),
            ("accept-encoding", accepts.to_owned()),
        ]
    };
    for (tag, accepts, status, content) in [
        (&gzip, "gzip", 206, "form"),
        (&gzip, "br", 200, "br form"),
        (&gzip, "identity", 200, "plain text of some length"),
    ] {
        let fields = ranged(tag, accepts);
        let fields: Vec<(&'static str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let response = ask("/a.js", &fields).await;
        if status == 206 {
            assert_eq!(response.head.headers["content-range"], "bytes 5-8/9");
            assert_eq!(response.head.headers["content-encoding"], "gzip");
        }
        assert_eq!(text(response).await, (status, content.to_owned()), "{accepts}");
    }
    let not_modified = async |tag: &http::HeaderValue, accepts: &str| {
        let fields = [("if-none-match", tag.to_str().unwrap()), ("accept-encoding", accepts)];
        let response = ask("/a.js", &fields).await;
        assert_eq!(response.head.headers["vary"], "accept-encoding");
        response.head.status.as_u16()
    };
    assert_eq!(
        (not_modified(&br, "br").await, not_modified(&br, "gzip").await),
        (304, 200)
    );
}

/// A form would be sent for another file than it was made of.
#[tokio::test]
async fn what_has_no_form_is_sent_as_it_is() {
    let (directory, bed) = forms();
    let ask = async |path: &str, fields: &[(&'static str, &str)]| ask(&bed, path, fields).await;
    // A form without its file is none.
    let all = [("accept-encoding", "gzip, br, zstd")];
    assert_eq!(text(ask("/b.js", &all).await).await, (200, "plain b".to_owned()));
    assert_eq!(text(ask("/d.js", &all).await).await, (200, "plain d".to_owned()));
    assert_eq!(bed.get("/c.js").await.unwrap_err().reason, Reason::NotFound);
    let itself = ask("/c.js.gz", &all).await;
    assert!(!itself.head.headers.contains_key("content-encoding"));
    assert_eq!(itself.head.headers["content-type"], "application/gzip");
    // The file is newer than its forms.
    let file = std::fs::File::options()
        .write(true)
        .open(directory.path().join("www/a.js"))
        .unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
        .unwrap();
    assert_eq!(
        text(ask("/a.js", &all).await).await,
        (200, "plain text of some length".to_owned())
    );
}
