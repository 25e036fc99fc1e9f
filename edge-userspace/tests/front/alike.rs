//! One request in the clothes of every version, and of a worker: the same head comes out of the
//! door, or the same refusal. Requests are made by a generator from what has been misread before;
//! the seed of a failure is in its message.

use std::time::Duration;

use bytes::{Buf, Bytes};
use edge::http::door::{self, Authority, Head};
use edge::http::handler::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::harness::{Edge, exchange};
use crate::http3::Client;

/// A zone with a route by path, which makes paths with two readings matter.
const ZONE: &str = "[[zone]]\nname = \"c\"\nhosts = [\"c.a.example\"]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n\
                    [zone.origin]\nservers = [{ address = \"http://127.0.0.1:1\" }]\n\
                    [[zone.route]]\npath = \"/guarded/\"\nto = \"origin\"\n";
const HOST: &str = "c.a.example";

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];
const TARGETS: [&str; 14] = [
    "/head",
    "/head?q=%2f..%5c;",
    "/head/%61/../b//c/./d",
    "/head/caf%c3%a9?a",
    "/head/%00%20%25",
    "/head/a%2fb",
    "/head/a%2Fb/..",
    "/head/..%2fguarded/x",
    "/head/x/..;/guarded/x",
    "/head/a;b=c",
    "/head/a\\b",
    "/head/a%5cb",
    "/head/a%3bb",
    "/head/..%252f",
];
const AUTHORITIES: [&str; 4] = ["c.a.example", "C.A.Example", "c.a.example:443", "c.a.example."];
const FIELDS: [(&str, &str); 22] = [
    ("accept", "text/html"),
    ("accept", "*/*"),
    ("x-mine", "1, \"2,3\""),
    ("cookie", "a=1"),
    ("cookie", "b=2; c=3"),
    ("authorization", "Basic eDp5"),
    ("te", "trailers"),
    ("expect", "100-continue"),
    ("expect", "something"),
    ("content_length", "3"),
    ("transfer_encoding", "chunked"),
    ("x_mine", "1"),
    ("x_forwarded_for", "192.0.2.6"),
    ("client-cert", ":AAAA:"),
    ("client_cert_chain", ":AAAA:"),
    ("true-client-ip", "192.0.2.6"),
    ("x-ssl-verify", "SUCCESS"),
    ("proxy", "http://192.0.2.6/"),
    ("cdn-loop", "other, edge;x=\",edge\""),
    ("range", "bytes=0-1"),
    ("proxy-authorization", "Basic eDp5"),
    ("trailer", "grpc-status"),
];
const TRAILERS: [(&str, &str); 6] = [
    ("grpc-status", "0"),
    ("x-forwarded-for", "192.0.2.6"),
    ("x-unknown", "1"),
    ("client-cert", ":AAAA:"),
    ("set-cookie", "a=b"),
    ("content-digest", "sha-256=:AAAA:"),
];

/// A request apart from how it is written.
#[derive(Clone, Debug)]
struct Abstract {
    method: Method,
    target: &'static str,
    authority: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    content: Content,
    trailers: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// The head ends the request.
    None,
    /// Something after the head does, and there is no byte between.
    Empty,
    Some(&'static str),
}

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn request(&mut self) -> Abstract {
        // A plain request with a few odd things: with many, one refusal would hide all others.
        let target = if self.below(2) == 0 {
            "/head"
        } else {
            self.one(&TARGETS)
        };
        let fields = (0..self.below(5)).map(|_| self.one(&FIELDS)).collect();
        let content = [Content::None, Content::None, Content::Empty, Content::Some("content")];
        let content = self.one(&content);
        let trailers = if content == Content::Some("content") {
            self.below(3)
        } else {
            0
        };
        Abstract {
            method: self.one(&METHODS),
            target,
            authority: self.one(&AUTHORITIES),
            fields,
            content,
            trailers: (0..trailers).map(|_| self.one(&TRAILERS)).collect(),
        }
    }
}

/// What came out: the head and the content as the handler saw them, or the status of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Seen(String),
    Refused(u16),
}

/// A head as the rooms behind the door are told it, whatever version it came in. Lengths are the
/// content's, which is told apart.
pub(crate) fn describe(head: &Head) -> String {
    let apart = [http::header::HOST, http::header::CONTENT_LENGTH];
    let mut lines: Vec<_> = head.headers.iter().filter(|(name, _)| !apart.contains(name)).collect();
    lines.sort_by_key(|(name, _)| name.as_str());
    let lines: Vec<_> = lines
        .into_iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let meant = head.meant();
    format!(
        "{} {} trailers={} waits={} upgrade={:?}\n{}",
        head.method,
        head.uri,
        meant.trailers,
        meant.waits,
        meant.upgrade,
        lines.concat()
    )
}

impl Abstract {
    fn fields(&self) -> HeaderMap {
        let fields = self.fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn trailers(&self) -> HeaderMap {
        let fields = self.trailers.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn builder(&self) -> Request<()> {
        let uri = format!("https://{}{}", self.authority, self.target);
        let mut request = Request::builder().method(&self.method).uri(uri).body(()).unwrap();
        *request.headers_mut() = self.fields();
        request
    }

    async fn by_http1(&self, edge: &Edge) -> Outcome {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.authority
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("Connection: close, te\r\n");
        match self.content {
            Content::None => text.push_str("\r\n"),
            Content::Empty => text.push_str("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            Content::Some(content) => {
                text.push_str(&format!(
                    "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{content}\r\n0\r\n",
                    content.len()
                ));
                for (name, value) in &self.trailers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("\r\n");
            }
        }
        let mut stream = edge.tls(HOST, &["http/1.1"]).await;
        let (_, said) = exchange(&mut stream, text.as_bytes(), Duration::from_secs(5)).await;
        let said = said.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        let (head, content) = said.split_once("\r\n\r\n").expect("an answer");
        outcome(head[9..12].parse().unwrap(), content.to_owned())
    }

    async fn by_http2(&self, edge: &Edge) -> Outcome {
        let stream = edge.tls(HOST, &["h2"]).await;
        let executor = hyper_util::rt::TokioExecutor::new();
        let made = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await;
        let (mut sender, connection) = made.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let frames: Vec<Result<Frame<Bytes>, std::convert::Infallible>> = match self.content {
            Content::None => vec![],
            Content::Empty => vec![Ok(Frame::data(Bytes::new()))],
            Content::Some(content) => {
                let mut frames = vec![Ok(Frame::data(Bytes::from_static(content.as_bytes())))];
                if !self.trailers.is_empty() {
                    frames.push(Ok(Frame::trailers(self.trailers())));
                }
                frames
            }
        };
        let request = self.builder();
        let response = if self.content == Content::None {
            let body = http_body_util::Empty::<Bytes>::new();
            sender.send_request(request.map(|()| body.boxed_unsync())).await
        } else {
            let body = StreamBody::new(futures_util::stream::iter(frames));
            sender.send_request(request.map(|()| body.boxed_unsync())).await
        };
        let (head, body) = response.unwrap().into_parts();
        let content = body.collect().await.unwrap().to_bytes();
        outcome(head.status.as_u16(), String::from_utf8_lossy(&content).into_owned())
    }

    async fn by_http3(&self, client: &mut Client) -> Outcome {
        let mut stream = client.requests.send_request(self.builder()).await.unwrap();
        match self.content {
            Content::None => {}
            // A refusal may come before any of it.
            Content::Empty => drop(stream.send_data(Bytes::new()).await),
            Content::Some(content) => {
                let _ = stream.send_data(Bytes::from_static(content.as_bytes())).await;
                if !self.trailers.is_empty() {
                    let _ = stream.send_trailers(self.trailers()).await;
                }
            }
        }
        let _ = stream.finish().await;
        let mut status = 100;
        while status == 100 {
            status = stream.recv_response().await.unwrap().status().as_u16();
        }
        let mut content = Vec::new();
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            content.extend(data.copy_to_bytes(data.remaining()));
        }
        outcome(status, String::from_utf8(content).unwrap())
    }

    /// The head alone: a worker's content is another room's.
    fn by_a_worker(&self, edge: &Edge) -> Result<String, Reason> {
        let (parts, ()) = self.builder().into_parts();
        let authority = Authority::read(self.authority.as_bytes(), true).unwrap();
        let zone = edge.zones.load().find(HOST).unwrap().clone();
        let head = door::guest(parts, &authority, &zone, true, false).map_err(|failure| failure.reason)?;
        assert_eq!(head.version, Version::HTTP_11);
        Ok(describe(&head))
    }
}

fn outcome(status: u16, content: String) -> Outcome {
    match status {
        200 => Outcome::Seen(content),
        status => Outcome::Refused(status),
    }
}

/// A rule that holds for one version and not for the next is a way around it.
#[tokio::test]
async fn every_version_and_a_worker_come_to_the_same() {
    let edge = Edge::start(ZONE);
    let mut h3 = Client::to(&edge, HOST).await;
    let (mut seen, mut refused) = (0, 0);
    for seed in 1..=150_u64 {
        let request = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).request();
        let first = request.by_http1(&edge).await;
        assert_eq!(request.by_http2(&edge).await, first, "HTTP/2, seed {seed}: {request:?}");
        assert_eq!(
            request.by_http3(&mut h3).await,
            first,
            "HTTP/3, seed {seed}: {request:?}"
        );
        match (request.by_a_worker(&edge), &first) {
            (Ok(head), Outcome::Seen(text)) => {
                // A worker cannot wait for a 100.
                let text = text.replace("waits=true", "waits=false");
                assert!(
                    text.starts_with(&head),
                    "a worker, seed {seed}: {request:?}: {head} {text}"
                );
                seen += 1;
            }
            // What a worker expects is nobody's.
            (_, Outcome::Refused(417)) => refused += 1,
            (Err(reason), Outcome::Refused(status)) => {
                assert_eq!(reason.status().as_u16(), *status, "a worker, seed {seed}: {request:?}");
                refused += 1;
            }
            (worker, client) => panic!("a worker, seed {seed}: {request:?}: {worker:?}, a client {client:?}"),
        }
    }
    // The generator makes both.
    assert!(seen > 30 && refused > 30, "{seen} {refused}");
}

/// The status of a call whose message has a length would be lost: trailers come after it, in
/// whatever version it came.
#[tokio::test]
async fn trailers_after_a_length() {
    let edge = Edge::start("");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("7"));
    let call = || {
        let uri = "https://a.example/echo";
        let request = Request::post(uri).header("content-type", "application/grpc");
        request.header("te", "trailers").header("content-length", "3")
    };
    // HTTP/2.
    let io = TokioIo::new(edge.tls("a.example", &["h2"]).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for content in ["abc", ""] {
        let told = std::future::ready(Some(Ok::<_, std::convert::Infallible>(trailers.clone())));
        let body = http_body_util::Full::new(Bytes::from_static(content.as_bytes())).with_trailers(told);
        let mut request = call().body(body).unwrap();
        request.headers_mut().insert("content-length", content.len().into());
        let response = sender.send_request(request).await.unwrap();
        let came = response.into_body().collect().await.unwrap();
        assert_eq!(came.trailers(), Some(&trailers), "{content:?}");
        assert_eq!(came.to_bytes(), content);
    }
    // HTTP/3.
    let mut client = Client::to(&edge, "a.example").await;
    let mut stream = client.requests.send_request(call().body(()).unwrap()).await.unwrap();
    stream.send_data(Bytes::from_static(b"abc")).await.unwrap();
    stream.send_trailers(trailers.clone()).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let mut content = Vec::new();
    while let Some(mut piece) = stream.recv_data().await.unwrap() {
        content.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    assert_eq!(content, b"abc");
    assert_eq!(stream.recv_trailers().await.unwrap(), Some(trailers));
}
