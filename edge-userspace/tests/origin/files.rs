//! A directory as origin.

use std::os::unix::fs::symlink;

use edge::http::body::Body;
use edge::http::handler::Reason;
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
