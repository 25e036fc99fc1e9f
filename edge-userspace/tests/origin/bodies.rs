//! Content both ways: streamed, bounded, with trailers, refused early.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edge::http::body::{Body, BodyError};
use edge::http::handler::{Handler as _, Reason};
use edge::http::interim::{Interim, Interims};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bed::{Bed, Server, full, get, post, read_head, text, until};

/// So many bytes, made as they are asked for.
struct Counted {
    left: u64,
    made: Arc<AtomicU64>,
    exact: bool,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        static CHUNK: [u8; 64 << 10] = [b'x'; 64 << 10];
        let n = self.left.min(CHUNK.len() as u64);
        if n == 0 {
            return Poll::Ready(None);
        }
        self.left -= n;
        self.made.fetch_add(n, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
            &CHUNK[..usize::try_from(n).unwrap()],
        )))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact {
            SizeHint::with_exact(self.left)
        } else {
            SizeHint::default()
        }
    }
}

fn counted(n: u64, exact: bool) -> (Counted, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let body = Counted {
        left: n,
        made: made.clone(),
        exact,
    };
    (body, made)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

const BIG: u64 = 1 << 30;

/// A big body must not grow memory: 1 GiB up, 1 GiB down, through both versions.
#[tokio::test]
async fn big_bodies_in_bounded_memory() {
    async fn echo_length(request: http::Request<hyper::body::Incoming>) -> http::Response<super::bed::OriginBody> {
        let mut body = request.into_body();
        let mut n = 0;
        while let Some(frame) = body.frame().await {
            n += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
        }
        http::Response::new(counted(n, true).0.boxed())
    }
    let h1 = Server::h1(echo_length).await;
    let h2 = Server::h2(100, echo_length).await;
    for bed in [Bed::one(h1.address, ""), Bed::one(h2.address, "http = \"2\"")] {
        let before = resident();
        let body = Body::boxed(counted(BIG, false).0);
        let mut body = bed.ask(post("/", body)).await.unwrap().body;
        let (mut n, mut most) = (0, 0);
        while let Some(frame) = body.frame().await {
            n += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
            most = most.max(resident().saturating_sub(before));
        }
        assert_eq!(n, BIG);
        // Other tests of this process run at the same time.
        assert!(most < 64 << 20, "{} MiB", most >> 20);
    }
}

/// A client that does not read must stop the origin, and an origin that does not read the client.
#[tokio::test]
async fn back_pressure() {
    let (made, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let origin_made = made.clone();
    let server = Server::h1(move |_| {
        let made = origin_made.clone();
        async move {
            let body = Counted {
                left: BIG,
                made,
                exact: true,
            };
            http::Response::new(body.boxed())
        }
    })
    .await;
    let bed = Bed::one(server.address, "");
    let mut response = bed.get("/").await.unwrap();
    response.body.frame().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let n = made.load(Ordering::Relaxed);
    assert!(n < 32 << 20, "{} MiB made for a client that does not read", n >> 20);
    drop((response, seen));

    let deaf = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let bed = Bed::one(deaf.address, "");
    let (body, made) = counted(BIG, true);
    let _ = tokio::time::timeout(Duration::from_millis(300), bed.ask(post("/", Body::boxed(body)))).await;
    let n = made.load(Ordering::Relaxed);
    assert!(
        n < 32 << 20,
        "{} MiB taken from a client for an origin that does not read",
        n >> 20
    );
}

/// Trailers carry a gRPC call's outcome.
#[tokio::test]
async fn trailers_both_ways() {
    async fn echo(request: http::Request<hyper::body::Incoming>) -> http::Response<super::bed::OriginBody> {
        let sum = request
            .into_body()
            .collect()
            .await
            .unwrap()
            .trailers()
            .and_then(|t| t.get("x-sum").cloned());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", sum.unwrap_or_else(|| "missing".parse().unwrap()));
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"data"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        http::Response::builder()
            .header("trailer", "x-sum")
            .body(body.boxed())
            .unwrap()
    }
    let h1 = Server::h1(echo).await;
    let h2 = Server::h2(10, echo).await;
    for (bed, server) in [
        (Bed::one(h1.address, ""), &h1),
        (Bed::one(h2.address, "http = \"2\""), &h2),
    ] {
        for _ in 0..2 {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "42".parse().unwrap());
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"up"))),
                Ok(Frame::trailers(trailers)),
            ];
            let mut request = post("/", Body::boxed(StreamBody::new(futures_util::stream::iter(frames))));
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            let got = bed.ask(request).await.unwrap().body.collect().await.unwrap();
            assert_eq!(got.trailers().unwrap()["x-sum"], "42");
            assert_eq!(got.to_bytes(), "data");
        }
        assert_eq!(server.connections(), 1, "reused after trailers");
    }
}

/// Both directions at once, as gRPC streams do.
#[tokio::test]
async fn bidirectional_h2() {
    let server = Server::h2(10, |request: http::Request<hyper::body::Incoming>| async move {
        let body = request.into_body().map_err(BodyError::Client);
        http::Response::new(body.boxed())
    })
    .await;
    let bed = Bed::one(server.address, "http = \"2\"");
    let (sender, receiver) = futures_channel();
    let mut body = bed.ask(post("/", Body::boxed(receiver))).await.unwrap().body;
    for n in 0..3 {
        sender.send(Bytes::from(format!("{n}"))).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), n.to_string());
    }
    drop(sender);
    // The end may come as an empty frame of its own.
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

/// A body fed by hand.
struct Fed(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

fn futures_channel() -> (tokio::sync::mpsc::UnboundedSender<Bytes>, Fed) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Fed(receiver))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What an origin says before its response is heard, by the client that asked and no other.
#[tokio::test]
async fn interim_responses_are_heard() {
    let hinting = Server::raw(|mut socket| async move {
        for _ in 0..2 {
            read_head(&mut socket).await;
            let hint =
                b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-own\r\nx-own: 1\r\n\r\n";
            socket.write_all(hint).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let page = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage";
            socket.write_all(page).await.unwrap();
        }
    })
    .await;
    let bed = Bed::one(hinting.address, "");
    let interims = Interims::default();
    let mut request = bed.request(get("/"));
    request.head.extensions.insert(interims.clone());
    let heard = std::sync::Mutex::new(Vec::new());
    let note = |interim: Interim| heard.lock().unwrap().push(interim);
    let response = interims.relay(bed.origin.handle(request), || true, note).await.unwrap();
    assert_eq!(text(response).await, (200, "page".into()));
    let heard = heard.into_inner().unwrap();
    assert_eq!(heard.len(), 1);
    let names: Vec<_> = heard[0].headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!((heard[0].status.as_u16(), &names[..]), (103, &["link", "via"][..]));
    assert_eq!(bed.text("/").await, (200, "page".into()), "one who does not listen");
}

/// 100 (Continue): the client's content is asked for when the origin asks for it, not before.
#[tokio::test]
async fn continue_is_the_origins_choice() {
    let expecting = |body: Counted| {
        let mut request = post("/", Body::boxed(body));
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        request
    };
    let willing = Server::raw(|mut socket| async move {
        assert!(read_head(&mut socket).await.contains("expect: 100-continue"));
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut five = [0; 5];
        socket.read_exact(&mut five).await.unwrap();
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
    })
    .await;
    let (body, made) = counted(5, true);
    assert_eq!(
        text(Bed::one(willing.address, "").ask(expecting(body)).await.unwrap())
            .await
            .1,
        "ok"
    );
    assert_eq!(made.load(Ordering::Relaxed), 5);

    let unwilling = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        socket
            .write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
            .await
            .unwrap();
        read_head(&mut socket).await;
    })
    .await;
    let (body, made) = counted(5, true);
    assert_eq!(
        text(Bed::one(unwilling.address, "").ask(expecting(body)).await.unwrap()).await,
        (413, "no".into())
    );
    assert_eq!(made.load(Ordering::Relaxed), 0, "refused before it was sent");

    // Answers without a 100, and then wants the content: an echo must not wait for what it is to
    // echo.
    let echo = Server::raw(|mut socket| async move {
        read_head(&mut socket).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        socket.write_all(head).await.unwrap();
        let mut five = [0; 5];
        socket.read_exact(&mut five).await.unwrap();
        socket.write_all(&five).await.unwrap();
    })
    .await;
    let (body, _) = counted(5, true);
    let echoed = tokio::time::timeout(Duration::from_secs(5), async {
        text(Bed::one(echo.address, "").ask(expecting(body)).await.unwrap()).await
    });
    assert_eq!(echoed.await.expect("stuck"), (200, "xxxxx".into()));

    // Says nothing: after a second the content is sent anyway.
    let silent = Server::h1(|request: http::Request<hyper::body::Incoming>| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        http::Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    let (body, _) = counted(5, true);
    assert_eq!(
        text(Bed::one(silent.address, "").ask(expecting(body)).await.unwrap())
            .await
            .1,
        "xxxxx"
    );
}

/// An answer while the upload goes on reaches the client, and the upload stops.
#[tokio::test]
async fn early_response() {
    async fn refuse(request: http::Request<hyper::body::Incoming>) -> http::Response<super::bed::OriginBody> {
        let mut body = request.into_body();
        body.frame().await.unwrap().unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(body);
        });
        http::Response::builder().status(413).body(full("enough")).unwrap()
    }
    let h1 = Server::h1(refuse).await;
    let h2 = Server::h2(10, refuse).await;
    for bed in [Bed::one(h1.address, ""), Bed::one(h2.address, "http = \"2\"")] {
        let (sender, receiver) = futures_channel();
        sender.send(Bytes::from_static(b"first")).unwrap();
        let response = bed.ask(post("/", Body::boxed(receiver))).await.unwrap();
        assert_eq!(text(response).await, (413, "enough".into()));
        until(|| sender.is_closed()).await;
        assert_eq!(bed.fleet.status()[0].servers[0].in_flight, 0);
    }
}

/// The client's fault is not the origin's.
#[tokio::test]
async fn broken_upload() {
    let server = Server::h1(|request: http::Request<hyper::body::Incoming>| async move {
        let _ = request.into_body().collect().await;
        http::Response::new(full("x"))
    })
    .await;
    let bed = Bed::one(server.address, "[zone.origin.passive]\nfailures = 1");
    for (error, reason) in [
        (BodyError::TooLarge, Reason::BodyTooLarge),
        (BodyError::Stalled, Reason::ClientTimeout),
    ] {
        let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(error)];
        let body = Body::boxed(StreamBody::new(futures_util::stream::iter(frames)));
        assert_eq!(bed.ask(post("/", body)).await.unwrap_err().reason, reason);
        assert!(bed.fleet.status()[0].servers[0].healthy);
    }
}
