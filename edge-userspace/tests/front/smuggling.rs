//! Requests that two parsers read in two ways, over a real socket: each gets 400 and the end of the
//! connection, whole or in pieces, and nothing behind it is served.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::harness::{Edge, exchange, read};

const SOON: Duration = Duration::from_secs(3);
/// What an attacker wants served.
const PRIZE: &str = "GET /prize HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// TE.TE: each hides the coding from one of two parsers.
const CODINGS: &[&str] = &[
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding:",
    "Transfer_Encoding: chunked",
    "transfer-encoding\t: chunked",
    "Transfer-Encoding\r\n : chunked",
    "Transfer-Encoding:\r\n chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "\x0cTransfer-Encoding: chunked",
    "Transfer-Encoding: chu\u{212a}ed",
    "Transfer-Encoding\u{a0}: chunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: cow",
];

fn vectors() -> Vec<String> {
    let post =
        |fields: &str, content: &str| format!("POST /collect HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{content}");
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
    let mut all = vec![
        // CL.TE, TE.CL, and every way to have two lengths.
        post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "1\r\nZ\r\n0\r\n\r\n"),
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        post("Content-Length: 5, 5\r\n", "hello"),
        post("Content-Length: +5\r\n", "hello"),
        post("Content-Length: -0\r\n", ""),
        post("Content-Length: 0x5\r\n", "hello"),
        post("Content-Length: 5 0\r\n", "hello"),
        post("Content-Length: \r\n", ""),
        post("Content-Length: 99999999999999999999\r\n", ""),
        post("Content-Length: 18446744073709551621\r\n", "hello"),
        post("Content-Length : 5\r\n", "hello"),
        post("Content-Length\t: 5\r\n", "hello"),
        post(" Content-Length: 5\r\n", "hello"),
        post("X: y\r\n Content-Length: 5\r\n", "hello"),
        post("Content_Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent_Length: 0\r\n", "hello"),
        // Requests without a Host, or with several.
        "GET / HTTP/1.1\r\n\r\n".into(),
        get("Host: a.example\r\n"),
        get("hOST: b.example\r\n"),
        "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n Host: a.example\r\n\r\n".into(),
        // Line ends.
        "GET / HTTP/1.1\nHost: a.example\n\n".into(),
        "GET / HTTP/1.1\r\nHost: a.example\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a.example\r\n\n".into(),
        "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\rb\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n".into(),
        "GET / HTTP/1.1\rHost: a.example\r\r".to_owned() + "\r\n\r\n",
        "\n\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        // Request lines.
        "GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET /  HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET\t/\tHTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        " GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET / HTTP/1.1 \r\nHost: a.example\r\n\r\n".into(),
        "GET /a b HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET /#f HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET /\x7f HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET /\x01 HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "GET /\r\nHost: a.example\r\n\r\n".into(),
        "GET / HTTP/1.2\r\nHost: a.example\r\n\r\n".into(),
        "GET / HTTP/2.0\r\nHost: a.example\r\n\r\n".into(),
        "GET / HTTP/01.1\r\nHost: a.example\r\n\r\n".into(),
        "GET / http/1.1\r\nHost: a.example\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "G\0T / HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        "G(T / HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
        // Fields.
        get("X\r\n"),
        get(": y\r\n"),
        get("X Y: z\r\n"),
        get("X\0: z\r\n"),
        get("X: a\0b\r\n"),
        get("X: a\x0bb\r\n"),
        get("X: a\x7f\r\n"),
        get("X: y\r\n folded\r\n"),
        get("X: y\r\n\tfolded\r\n"),
        get("X(y): z\r\n"),
        get("\u{a0}Transfer-Encoding: chunked\r\n"),
        // A tunnel's first bytes.
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nContent-Length: 3\r\n\r\nabc".into(),
        "POST /collect HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        "POST /collect HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
    ];
    for coding in CODINGS {
        all.push(post(&format!("{coding}\r\n"), "0\r\n\r\n"));
        all.push(post(&format!("Content-Length: 4\r\n{coding}\r\n"), "0\r\n\r\n"));
    }
    all
}

/// Content that is wrong: the request has begun, so its answer is 400 and nothing behind it is
/// served.
fn chunks() -> Vec<String> {
    [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 ;x\r\nhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "5;x\ry\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "g\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: b.example\r\n\r\n",
        "0\r\nX y: z\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: y\r\n\r\n",
    ]
    .iter()
    .map(|s| (*s).to_owned())
    .chain([
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300)),
        format!("0\r\nX: {}\r\n\r\n", "y".repeat(9_000)),
        format!("0\r\n{}\r\n", "X: y\r\n".repeat(2_000)),
    ])
    .map(|content| format!("POST /collect HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n{content}"))
    .collect()
}

/// A request of one user is taken for part of another's.
#[tokio::test]
async fn refused_whole() {
    let edge = Edge::start("");
    for vector in vectors().into_iter().chain(chunks()) {
        let (closed, answer) = exchange(&mut edge.plain().await, format!("{vector}{PRIZE}").as_bytes(), SOON).await;
        assert!(closed, "left open: {vector:?}\n{answer}");
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"),
            "{vector:?}\n{answer}"
        );
        assert!(!answer.contains("prize"), "served: {vector:?}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{vector:?}\n{answer}");
    }
}

/// The same after an honest request, whose answer must come first and whole, and in pieces.
#[tokio::test]
async fn refused_in_order_and_in_pieces() {
    let edge = Edge::start("");
    for (n, vector) in vectors().into_iter().chain(chunks()).enumerate() {
        let text = format!("GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n{vector}{PRIZE}");
        let mut stream = edge.plain().await;
        if n % 3 == 0 {
            // Small pieces: every place is a piece's end for some vector.
            for piece in text.as_bytes().chunks(1 + n % 7) {
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        } else {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        let (closed, answer) = read(&mut stream, SOON).await;
        assert!(closed, "left open: {vector:?}\n{answer}");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("target=/first"),
            "{vector:?}\n{answer}"
        );
        assert!(answer.contains(" 400 Bad Request"), "{vector:?}\n{answer}");
        assert!(!answer.contains("prize"), "served: {vector:?}\n{answer}");
    }
}

/// Honest requests that look odd must pass.
#[tokio::test]
async fn accepted() {
    let edge = Edge::start("");
    let h = "Host: a.example\r\n";
    for request in [
        format!("\r\nGET / HTTP/1.1\r\n{h}\r\n"),
        format!("GET / HTTP/1.1\r\n{h}X:\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{h}X:y\t \r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{h}X: caf\u{e9}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{h}X_Y: z\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\n{h}Host-Name: z\r\nTransfer-Encodings: z\r\nContent-Length-X: z\r\nUpgrades: 1\r\n\r\n"
        ),
        format!("POST /collect HTTP/1.1\r\n{h}content-LENGTH:\t005 \r\n\r\nhello"),
        format!(
            "POST /collect HTTP/1.1\r\n{h}transfer-ENCODING: CHUNKED\r\n\r\n005;a=\"b\"\r\nhello\r\n000\r\nX: y\r\n\r\n"
        ),
        format!("GET / HTTP/1.1\r\n{h}Content-Length: 0\r\n\r\n"),
        format!("BREW /pot HTTP/1.1\r\n{h}\r\n"),
        format!("GET /?a=[b]|c HTTP/1.1\r\n{h}\r\n"),
    ] {
        let (closed, answers) = exchange(
            &mut edge.plain().await,
            request.repeat(2).as_bytes(),
            Duration::from_millis(60),
        )
        .await;
        assert!(
            !closed && answers.matches("HTTP/1.1 200").count() == 2,
            "{request:?}\n{answers}"
        );
    }
}
