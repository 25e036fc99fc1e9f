//! The origin: `/data/SEED/LENGTH`, not to be stored; `/kept/SEED/LENGTH`, fresh for two seconds;
//! `/changing/SEED/LENGTH`, another version every half second, named in a field; `/echo`, the
//! request's content; an upgrade to `soak`, which sends back what comes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use edge_testbed::words::Words;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::content;

/// Names the version of changing content.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("soak-version");
/// The protocol of upgrades.
pub(crate) const PROTOCOL: &str = "soak";

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Serves at `listen=`.
pub(crate) async fn run(words: &Words) -> Result<()> {
    let listener = TcpListener::bind(words.get::<SocketAddr>("listen")?).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            // An error here is the edge's to tell.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(|request| async { Ok::<_, Infallible>(answer(request)) }),
                )
                .with_upgrades()
                .await;
        });
    }
}

fn answer(mut request: Request<Incoming>) -> Answer {
    if request.headers().get(UPGRADE).is_some_and(|value| value == PROTOCOL) {
        tokio::spawn(async move {
            if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
        });
        let mut answer = made(StatusCode::SWITCHING_PROTOCOLS, Vec::new());
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        return answer;
    }
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u64>().ok());
    match (parts.first().copied(), number(1), number(2)) {
        (Some("echo"), None, None) => Response::new(request.into_body().boxed()),
        (Some(kind @ ("data" | "kept" | "changing")), Some(seed), Some(length)) => numbered(kind, seed, length),
        _ => made(StatusCode::NOT_FOUND, b"no such content\n".to_vec()),
    }
}

fn numbered(kind: &str, seed: u64, length: u64) -> Answer {
    let length = usize::try_from(length).unwrap_or(content::LONGEST);
    let (version, control) = match kind {
        "changing" => (now_version(), "no-cache"),
        "kept" => (0, "public, max-age=2"),
        _ => (0, "no-store"),
    };
    let mut answer = made(StatusCode::OK, content::version(seed, length, version));
    let fields = answer.headers_mut();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(control));
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if kind == "changing" {
        fields.insert(VERSION, HeaderValue::from(version));
    }
    answer
}

fn now_version() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0) / content::VERSION_MS
}

fn made(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}
