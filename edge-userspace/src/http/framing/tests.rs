//! The framing against tables, against itself in pieces, and against hyper's own reading of what it
//! lets pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// What became of a whole input: complete messages, and where and why it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    complete: usize,
    refused: Option<(usize, Refusal, bool)>,
}

/// Reads `input` in pieces of `size`; upgrades are declined at once. `complete` counts only with
/// pieces of one byte.
fn read(input: &[u8], size: usize) -> Reading {
    let mut framing = Framing::new(16 << 10);
    let mut reading = Reading {
        complete: 0,
        refused: None,
    };
    let mut at = 0;
    for piece in input.chunks(size) {
        let mut from = 0;
        loop {
            let busy = !framing.at_rest() && !framing.in_head() || matches!(framing.state, State::Head(_));
            match framing.feed(&piece[from..]) {
                Verdict::Pass => {}
                Verdict::Hold(held) => {
                    framing.resume();
                    from += held;
                    continue;
                }
                Verdict::Refuse {
                    at: offset,
                    why,
                    in_head,
                } => {
                    reading.refused = Some((at + from + offset, why, in_head));
                    return reading;
                }
            }
            reading.complete += usize::from(busy && framing.at_rest());
            break;
        }
        at += piece.len();
    }
    reading
}

const HEAD: &str = "POST /p HTTP/1.1\r\nHost: a\r\n";

/// A refusal that depends on how packets were cut is one that an attacker can cut around.
#[test]
fn pieces_make_no_difference() {
    let inputs = [
        format!("{HEAD}Content-Length: 5\r\n\r\nhello{HEAD}\r\n"),
        format!("\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n{HEAD}\r\n"),
        format!("{HEAD}Upgrade: x\r\nContent-Length: 2\r\n\r\nab{HEAD}\r\n\r\nGET"),
        format!("{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX"),
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n"),
        format!("{HEAD}X: a\rb\nc\r\n\r\n"),
        format!("{HEAD}\n"),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "\r\n\r\n\r\n".into(),
        "\r\r\n".into(),
    ];
    for input in inputs {
        let whole = read(input.as_bytes(), input.len());
        for size in 1..input.len() {
            assert_eq!(
                read(input.as_bytes(), size).refused,
                whole.refused,
                "{input:?} by {size}"
            );
        }
    }
}

/// The operator is told the wrong reason, or an honest request is refused.
#[test]
fn reasons() {
    let refused = |text: &str| read(text.as_bytes(), text.len()).refused.map(|(_, why, _)| why);
    let field = |field: &str| refused(&format!("{HEAD}{field}\r\n\r\n"));
    assert_eq!(
        field("Content-Length: 1\r\nContent-Length: 1"),
        Some(Refusal::ContentLength)
    );
    assert_eq!(
        field("Content-Length: 1\r\nTransfer-Encoding: chunked"),
        Some(Refusal::ContentLength)
    );
    assert_eq!(field("Transfer-Encoding: gzip"), Some(Refusal::TransferEncoding));
    assert_eq!(field("Host: b"), Some(Refusal::Host));
    assert_eq!(field("content_length: 1"), Some(Refusal::LookAlike));
    assert_eq!(field("content-length : 1"), Some(Refusal::FieldLine));
    assert_eq!(field(" x: y"), Some(Refusal::FieldLine));
    assert_eq!(field("x: y\n"), Some(Refusal::BareLineEnd));
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Some(Refusal::Host));
    assert_eq!(refused("GET /#x HTTP/1.1\r\n"), Some(Refusal::RequestLine));
    for fine in [
        "Content-Length: 007\r\nX: y",
        "Host_Name: x",
        "Content-Lengths: 1",
        "Transfer-Encoding:\tChunked \t",
        "Upgrade: x",
        "TE: trailers",
    ] {
        assert_eq!(field(fine), None, "{fine}");
    }
    assert_eq!(refused("GET / HTTP/1.0\r\n\r\n"), None);
}

/// A head without end must cost neither memory nor time: hyper answers 431 once it has seen the
/// limit.
#[test]
fn overlong_heads_are_not_kept() {
    let mut framing = Framing::new(8 << 10);
    for _ in 0..100 {
        assert_eq!(framing.feed(&[b'x'; 1000]), Verdict::Pass);
    }
    assert_eq!(framing.line.capacity(), 0);
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// A few messages, and whether any is odd: broken by tokens that matter rather than by random
/// bytes, which no parser disagrees about. The first so many of each list are sound.
#[rustfmt::skip]
fn input(random: &mut Random) -> (Vec<u8>, bool) {
    const STARTS: &[&str] = &[
        "GET / HTTP/1.1\r\n", "POST /p HTTP/1.1\r\n", "PUT /?x HTTP/1.1\r\n", "\r\nGET / HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET / HTTP/1.1\n", "\nGET / HTTP/1.1\r\n", "GET /\r\n",
        "GET / HTTP/1.9\r\n", "GET / HTTP/1.0\r\n", "GET /#f HTTP/1.1\r\n",
    ];
    const LINES: &[&str] = &[
        "", "X: y\r\n", "Upgrade: x\r\n", "TE: trailers\r\n",
        "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length: 5, 5\r\n", "Content-Length : 5\r\n",
        "Content-Length\r\n: 5\r\n", "Content_Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "X: \u{e9}\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "transfer-encoding:\tchunked\r\n", "Transfer-Encoding: identity\r\n",
        "X: a\x0bb\r\n", "X: \r\r\n", "X: y\n", "X\r\n", " X: y\r\n", "\u{e9}: 1\r\n", "Host: b\r\n",
    ];
    const CHUNKED: &[&str] = &[
        "5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\n\r\n", "0\r\n\r\n",
        "05\r\nhello\r\n00\r\n\r\n", "a\r\n0123456789\r\n5;\r\nhello\r\n0;x\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "5\r\nhello0\r\n\r\n", "0\r\n\n", "5;\n\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n", "0\r\nContent-Length: 1\r\n\r\n", "5\t;x\r\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n", "0\r\nX: y\n\r\n", "hello",
    ];
    let mut all = Vec::new();
    let mut odd = false;
    for _ in 0..=random.below(4) {
        // One in sixteen is odd, or oddities would be all there is.
        let mut pick = |list: &[&'static str], sound: usize| {
            let at = if random.below(16) == 0 { random.below(list.len()) } else { random.below(sound) };
            odd |= at >= sound;
            list[at]
        };
        let start = pick(STARTS, 4);
        let (field, content) = match pick(&["none", "sized", "chunked", "stray"], 3) {
            "sized" => ("Content-Length: 5\r\n", "hello"),
            "chunked" => ("Transfer-Encoding: chunked\r\n", pick(CHUNKED, 6)),
            "stray" => ("", "hello"),
            _ => ("", ""),
        };
        for line in [start, "Host: a\r\n", pick(LINES, 4), field, pick(LINES, 4), "\r\n", content] {
            all.extend(line.as_bytes());
        }
    }
    if random.below(8) == 0 {
        let at = random.below(all.len());
        all[at] = b"\r\n\0 \t:;,0aF\x80"[random.below(12)];
        odd = true;
    }
    (all, odd)
}

/// Messages that hyper takes for complete in `bytes`, upgrades declined.
async fn hyper_reads(bytes: &[u8]) -> usize {
    let complete = Arc::new(AtomicUsize::new(0));
    let counter = complete.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let counter = counter.clone();
        async move {
            if request.into_body().collect().await.is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, std::convert::Infallible>(hyper::Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true);
    let connection = builder.serve_connection(TokioIo::new(server), service);
    let talk = async {
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(connection, talk);
    complete.load(Ordering::Relaxed)
}

/// The guard and hyper see different messages in what the guard lets pass: the very thing it is
/// there to prevent.
#[tokio::test]
async fn agrees_with_hyper() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..15_000 {
        let (input, odd) = input(&mut random);
        let reading = read(&input, 1);
        let mut seen = input.clone();
        match reading.refused {
            None => passed += 1,
            Some((at, _, in_head)) => {
                refused += 1;
                seen.truncate(at);
                if in_head {
                    seen.extend(b"\0\r\n\r\n");
                }
            }
        }
        let hyper = hyper_reads(&seen).await;
        // hyper may refuse more (fields' characters), but never see more.
        assert!(
            hyper <= reading.complete,
            "hyper saw {hyper}, {reading:?}: {}",
            input.escape_ascii()
        );
        if !odd {
            assert_eq!(
                (hyper, reading.refused),
                (reading.complete, None),
                "{}",
                input.escape_ascii()
            );
        }
    }
    assert!(
        passed > 3_000 && refused > 3_000,
        "{passed} passed, {refused} refused: the generator is lopsided"
    );
}

/// Nothing panics, whatever comes.
#[test]
fn random_bytes() {
    let mut random = Random(42);
    for _ in 0..3_000 {
        let bytes: Vec<u8> = (0..random.below(300))
            .map(|_| b"\r\n :;0aGET/HTP1.\0\xff"[random.below(18)])
            .collect();
        let whole = read(&bytes, bytes.len().max(1));
        assert_eq!(read(&bytes, 1).refused, whole.refused, "{}", bytes.escape_ascii());
    }
}
