//! What shares an HTTP/2 connection to an origin: one client's slowness, one refusal, one burst
//! must not be the others'.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edge::http::body::{Body, BodyError};
use edge::http::message::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::bed::{Bed, OriginBody, Server, full, get, post, text};

const SOON: Duration = Duration::from_secs(3);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

/// Content that is written piece by piece: each one DATA frame of its own.
fn piecewise() -> (mpsc::Sender<Bytes>, OriginBody) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, BodyError>(Frame::data(piece)), receiver))
    });
    (sender, StreamBody::new(pieces).boxed())
}

/// `/big…`: 4 MiB; else five bytes.
async fn big_or_small(request: http::Request<Incoming>) -> http::Response<OriginBody> {
    static BIG: [u8; 4 << 20] = [0; 4 << 20];
    let body = if request.uri().path().starts_with("/big") {
        full(Bytes::from_static(&BIG))
    } else {
        full("small")
    };
    http::Response::new(body)
}

/// A few sockets that do not read would take a zone down.
#[tokio::test]
async fn readers_that_stand_still_stop_nobody() {
    let server = Server::h2(1_000, |request: http::Request<Incoming>| async move {
        if request.uri().path() != "/open" {
            return big_or_small(request).await;
        }
        let (sender, body) = piecewise();
        tokio::spawn(async move {
            sender.send(Bytes::from_static(b"open")).await.unwrap();
            sender.closed().await;
        });
        http::Response::new(body)
    })
    .await;
    let bed = Bed::one(server.address, "http = \"2\"");
    let mut still: Vec<Response> = Vec::new();
    // More than 8 MiB, which all of them had together once.
    for n in 0..40 {
        let mut response = soon(bed.get(&format!("/big{n}"))).await.unwrap();
        response.body.frame().await.unwrap().unwrap();
        still.push(response);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(soon(bed.text("/small")).await, (200, "small".into()));
    assert_eq!(server.connections(), 1);
    // More of them than a connection has streams: there is another connection.
    for _ in 0..80 {
        still.push(soon(bed.get("/open")).await.unwrap());
    }
    assert_eq!(soon(bed.text("/small")).await, (200, "small".into()));
    assert_eq!(server.connections(), 2);
    // None of them has lost anything.
    let whole = soon(still.swap_remove(0).body.collect()).await.unwrap().to_bytes();
    assert!(whole.len() > 3 << 20);
}

/// A slow reader of an event stream would end the streams of all others; so would a server that
/// flushes without content.
#[tokio::test]
async fn small_and_empty_frames_end_nothing() {
    for piece in ["data: t\n\n", ""] {
        let server = Server::h2(100, move |request: http::Request<Incoming>| async move {
            let (sender, body) = piecewise();
            tokio::spawn(async move {
                if request.uri().path() == "/feed" {
                    while sender.send(Bytes::from_static(piece.as_bytes())).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                    return;
                }
                for _ in 0..10 {
                    sender.send(Bytes::from_static(b"tick")).await.unwrap();
                    for _ in 0..50 {
                        sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            http::Response::new(body)
        })
        .await;
        let bed = Bed::one(server.address, "http = \"2\"");
        let ticks = bed.get("/ticks").await.unwrap();
        let feeds = if piece.is_empty() { 0 } else { 3 };
        let mut lazy = Vec::new();
        for _ in 0..feeds {
            lazy.push(bed.get("/feed").await.unwrap());
        }
        let all = tokio::time::timeout(Duration::from_secs(10), ticks.body.collect()).await;
        let all = all.unwrap().unwrap().to_bytes();
        assert_eq!(all.len(), 10 * (4 + 50 * piece.len()), "{piece:?}");
        assert_eq!(server.connections(), 1);
    }
}

/// Reads a client's frames from its preface on; each as (kind, flags).
async fn frames(socket: &mut TcpStream, seen: &mut Vec<(u8, u8)>, until: impl Fn(&[(u8, u8)]) -> bool) -> Option<()> {
    if seen.is_empty() {
        socket.read_exact(&mut [0; 24]).await.ok()?;
    }
    while !until(seen) {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        socket.read_exact(&mut vec![0; length as usize]).await.ok()?;
        seen.push((head[3], head[4]));
    }
    Some(())
}

/// GOAWAY with last stream 0: nothing was processed.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// An origin that restarts would cost requests that nobody has looked at; the second must have all
/// of the first's content.
#[tokio::test]
async fn what_was_not_processed_is_sent_again() {
    for (refuse, more) in [false, true]
        .into_iter()
        .flat_map(|refuse| ["", "retries = 0\n[zone.origin.passive]\nfailures = 1"].map(|more| (refuse, more)))
    {
        let first = AtomicUsize::new(0);
        let server = Server::raw(move |mut socket| {
            let number = first.fetch_add(1, Ordering::SeqCst);
            async move {
                if number == 0 && !refuse {
                    socket.write_all(&SETTINGS).await.unwrap();
                    let ended = |seen: &[(u8, u8)]| seen.iter().any(|f| f.0 < 2 && f.1 & 1 == 1);
                    frames(&mut socket, &mut Vec::new(), ended).await.unwrap();
                    socket.write_all(&GOAWAY).await.unwrap();
                    // The end of the connection is not what tells.
                    tokio::time::sleep(SOON).await;
                    return;
                }
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if number == 0 {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    } else {
                        tokio::spawn(echo(request.into_body(), respond));
                    }
                }
            }
        })
        .await;
        let bed = Bed::one(server.address, &format!("http = \"2\"\n{more}"));
        let pieces = ["all ", "of ", "it"].map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let body = Body::boxed(StreamBody::new(futures_util::stream::iter(pieces)));
        let response = soon(bed.ask(post("/", body))).await.unwrap();
        assert_eq!(text(response).await, (200, "all of it".into()), "{refuse}");
        assert!(bed.fleet.status()[0].servers[0].healthy, "a refusal is no failure");
        assert_eq!(server.connections(), 2);
    }
}

async fn echo(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    let mut send = respond.send_response(http::Response::new(()), false).unwrap();
    send.send_data(all.into(), true).unwrap();
}

/// What a server has taken may have been done: with content beyond what is kept, or after an
/// answer, nothing is sent twice.
#[tokio::test]
async fn what_may_have_been_processed_is_not() {
    let server = Server::raw(|mut socket| async move {
        socket.write_all(&SETTINGS).await.unwrap();
        let ended = |seen: &[(u8, u8)]| seen.iter().any(|f| f.0 < 2 && f.1 & 1 == 1);
        let _ = frames(&mut socket, &mut Vec::new(), ended).await;
        // Stream 1 was taken.
        let mut goaway = GOAWAY;
        goaway[12] = 1;
        socket.write_all(&goaway).await.unwrap();
    })
    .await;
    let bed = Bed::one(server.address, "http = \"2\"");
    let failure = soon(bed.ask(post("/", "x"))).await.unwrap_err();
    assert_eq!(failure.attempts, 1, "{failure}");
    assert_eq!(server.connections(), 1);
}

/// A server that takes few streams at once would refuse most of what comes while its SETTINGS are
/// on their way.
#[tokio::test]
async fn no_burst_before_settings() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let server = Server::raw(move |mut socket| {
        let most = seen.clone();
        async move {
            let mut seen = Vec::new();
            let _ = tokio::time::timeout(Duration::from_millis(150), frames(&mut socket, &mut seen, |_| false)).await;
            most.fetch_max(seen.iter().filter(|f| f.0 == 1).count(), Ordering::SeqCst);
        }
    })
    .await;
    let bed = Arc::new(Bed::one(server.address, "http = \"2\"\nconnections = 1\nretries = 0"));
    let all: Vec<_> = (0..20)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move { bed.get("/").await.map(drop) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    all.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(most.load(Ordering::SeqCst), 1);

    // With SETTINGS, all go on one connection, at once.
    let server = Server::h2(100, |_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        http::Response::new(full("x"))
    })
    .await;
    let bed = Arc::new(Bed::one(server.address, "http = \"2\""));
    let all: Vec<_> = (0..50)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move { bed.text("/").await.0 })
        })
        .collect();
    for one in all {
        assert_eq!(soon(one).await.unwrap(), 200);
    }
    assert_eq!(server.connections(), 1);
}

/// Browsers and gRPC clients would act on a code that is about the edge's connection, not theirs
/// (RFC 9113 section 7).
#[tokio::test]
async fn codes_of_the_origin_stay_there() {
    let server = Server::raw(|socket| async move {
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            send.send_data("part".into(), false).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                send.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
            });
        }
    })
    .await;
    let bed = Bed::one(server.address, "http = \"2\"");
    let error = match soon(bed.get("/")).await {
        Ok(response) => soon(response.body.collect()).await.unwrap_err(),
        Err(failure) => panic!("{failure}"),
    };
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = source {
        assert!(error.downcast_ref::<h2::Error>().is_none(), "{error}");
        source = error.source();
    }
}

/// A gRPC call whose client sends for long before the server says more would be cut in its middle.
#[tokio::test]
async fn a_moving_upload_keeps_the_response() {
    for http in ["1.1", "2"] {
        let answer = |request: http::Request<Incoming>| async move {
            let (sender, body) = piecewise();
            tokio::spawn(async move {
                sender.send(Bytes::from_static(b"begin ")).await.unwrap();
                let all = request.into_body().collect().await.unwrap().to_bytes();
                sender.send(all).await.unwrap();
            });
            http::Response::new(body)
        };
        let server = match http {
            "2" => Server::h2(10, answer).await,
            _ => Server::h1(answer).await,
        };
        let bed = Bed::one(server.address, &format!("http = \"{http}\"\nbody_timeout = \"300ms\""));
        let pieces = futures_util::stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (n < 10).then(|| (Ok(Frame::data(Bytes::from_static(b"."))), n + 1))
        });
        let response = soon(bed.ask(post("/", Body::boxed(StreamBody::new(pieces)))))
            .await
            .unwrap();
        assert_eq!(soon(text(response)).await.1, "begin ..........", "{http}");
    }
}

/// Long-lived connections would never follow a change of the origin's name, and no load balancer in
/// front of it could move them.
#[tokio::test]
async fn connections_serve_for_a_time() {
    for http in ["1.1", "2"] {
        let answer = |_| async { http::Response::new(full("x")) };
        let server = match http {
            "2" => Server::h2(10, answer).await,
            _ => Server::h1(answer).await,
        };
        let bed = Bed::one(server.address, &format!("http = \"{http}\"\nconnection_requests = 2"));
        for _ in 0..6 {
            assert_eq!(bed.text("/").await.0, 200);
        }
        assert_eq!(server.connections(), 3, "{http}");
        let bed = Bed::one(
            server.address,
            &format!("http = \"{http}\"\nconnection_age = \"100ms\""),
        );
        for _ in 0..10 {
            assert_eq!(bed.text("/").await.0, 200);
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        assert!(
            (5..=13).contains(&server.connections()),
            "{http}: {}",
            server.connections()
        );
    }
}

/// A response under way must not be cut when its connection takes no more.
#[tokio::test]
async fn a_worn_connection_ends_what_it_began() {
    let server = Server::h2(10, big_or_small).await;
    let bed = Bed::one(server.address, "http = \"2\"\nconnection_requests = 1");
    let big = soon(bed.ask(get("/big"))).await.unwrap();
    assert_eq!(soon(bed.text("/small")).await.1, "small");
    assert_eq!(server.connections(), 2);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(soon(big.body.collect()).await.unwrap().to_bytes().len(), 4 << 20);
}
