//! The origin of the demo and of some tests: a small HTTP/1.1 server that shows what reached it.
//!
//! `demo-origin ADDRESS` serves until it is ended: `/` a page; `/inspect` method, path and headers
//! (JSON if asked for); `/bytes/N` N bytes; `/slow/MS` an answer after MS milliseconds; `/echo` the
//! request's body, streamed; `/status/CODE` that status; `/changing/N` a page of about N bytes
//! whose fields change on every request; `/prices/N` JSON with N records, three in ten of which
//! change; `/release/N` a page with release N of a script, `/release.N.js`, which may be kept for
//! ten minutes; `/healthz`.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edge_testbed::changing::Noise;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

const PAGE: &str = include_str!("demo-origin.html");
/// One chunk of `/bytes/N`.
const CHUNK: Bytes = Bytes::from_static(&[b'e'; 16 * 1024]);
/// The longest `/slow` and the largest `/bytes`: an origin in a demo is no place to hold the edge
/// hostage.
const LONGEST: u64 = 60_000;
const LARGEST: u64 = 16 << 30;
const LARGEST_PAGE: usize = 8 << 20;
const MOST_RECORDS: u64 = 10_000;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), None) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: demo-origin ADDRESS, for example demo-origin 127.0.0.1:8080");
    };
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: give connections time to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            // An error here is the client's: it went away or spoke no HTTP.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) }),
                )
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let (first, rest) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    match (first, rest) {
        ("", "") => text("text/html; charset=utf-8", PAGE),
        ("healthz", "") => text("text/plain", "ok\n"),
        ("inspect", _) => inspect(&request),
        ("echo", "") => echo(request),
        ("bytes", count) => match count.parse() {
            Ok(count) if count <= LARGEST => {
                Response::new(Repeat { left: count }.map_err(|never| match never {}).boxed())
            }
            _ => refuse(StatusCode::BAD_REQUEST, "/bytes/N wants a number up to 17179869184\n"),
        },
        ("changing", count) => match count.parse() {
            Ok(count) if count <= LARGEST_PAGE => changing("text/html; charset=utf-8", page(count)),
            _ => refuse(StatusCode::BAD_REQUEST, "/changing/N wants a number up to 8388608\n"),
        },
        ("prices", count) => match count.parse() {
            Ok(count) if count <= MOST_RECORDS => changing(
                "application/json",
                edge_testbed::changing::json(count, &mut Noise::of_now()),
            ),
            _ => refuse(StatusCode::BAD_REQUEST, "/prices/N wants a number up to 10000\n"),
        },
        ("slow", milliseconds) => match milliseconds.parse() {
            Ok(milliseconds) if milliseconds <= LONGEST => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                text("text/plain", "that took a while\n")
            }
            _ => refuse(StatusCode::BAD_REQUEST, "/slow/MS wants milliseconds up to 60000\n"),
        },
        ("status", code) => match code
            .parse::<u16>()
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok())
        {
            // 1xx are not final answers.
            Some(code) if !code.is_informational() => refuse(code, ""),
            _ => refuse(StatusCode::BAD_REQUEST, "/status/CODE wants a status from 200 to 999\n"),
        },
        ("release", release) => match release.parse() {
            Ok(release) => release_page(release),
            _ => refuse(StatusCode::BAD_REQUEST, "/release/N wants a number\n"),
        },
        (script, "") if released(script).is_some() => self::script(released(script).unwrap_or_default()),
        _ => refuse(
            StatusCode::NOT_FOUND,
            "try / /inspect /bytes/N /slow/MS /echo /status/CODE /changing/N /prices/N /release/N /healthz\n",
        ),
    }
}

/// A page of about `length` bytes; the parts that stay are made once.
fn page(length: usize) -> String {
    static BULKS: Mutex<BTreeMap<usize, Arc<str>>> = Mutex::new(BTreeMap::new());
    let bulk = {
        let mut bulks = BULKS.lock().unwrap_or_else(PoisonError::into_inner);
        if bulks.len() > 16 {
            bulks.clear();
        }
        bulks
            .entry(length)
            .or_insert_with(|| edge_testbed::changing::bulk(length).into())
            .clone()
    };
    edge_testbed::changing::page(&bulk, &mut Noise::of_now())
}

fn changing(kind: &'static str, body: String) -> Answer {
    let mut answer = text(kind, body);
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// What reached the origin: the way to see which headers the edge adds and removes.
fn inspect(request: &Request<Incoming>) -> Answer {
    let wants_json = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.as_bytes().starts_with(b"application/json"));
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
    let mut answer = if wants_json {
        let headers: Vec<_> = headers.map(|(name, value)| serde_json::json!([name, value])).collect();
        let seen = serde_json::json!({
            "method": request.method().as_str(),
            "path": request.uri().to_string(),
            "version": format!("{:?}", request.version()),
            "headers": headers,
        });
        text("application/json", format!("{seen:#}\n"))
    } else {
        let mut page = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
        for (name, value) in headers {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "{name}: {value}");
        }
        text("text/plain; charset=utf-8", page)
    };
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn echo(request: Request<Incoming>) -> Answer {
    let kind = request.headers().get(CONTENT_TYPE).cloned();
    let mut answer = Response::new(request.into_body().boxed());
    if let Some(kind) = kind {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
    answer
}

/// The release of `release.N.js`.
fn released(name: &str) -> Option<u32> {
    name.strip_prefix("release.")?.strip_suffix(".js")?.parse().ok()
}

/// A page whose title is set by its script.
fn release_page(release: u32) -> Answer {
    let html = format!("<!doctype html>\n<title>no script</title>\n<script src=\"/release.{release}.js\"></script>\n");
    text("text/html; charset=utf-8", html)
}

/// A script of about 100 KB; releases differ in a few lines, as releases do.
fn script(release: u32) -> Answer {
    let mut script = String::new();
    for n in 0..2_000_u32 {
        let changed = if n % 500 == 7 { release } else { 0 };
        // Writing to a String cannot fail.
        let _ = writeln!(
            script,
            "function part{n}() {{ return {} + {changed}; }}",
            n.wrapping_mul(2_654_435_761)
        );
    }
    let _ = writeln!(script, "document.title = 'release {release}';");
    let mut answer = text("text/javascript; charset=utf-8", script);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=600"));
    answer
}

fn text(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn refuse(status: StatusCode, why: &'static str) -> Answer {
    let mut answer = text("text/plain", why);
    *answer.status_mut() = status;
    answer
}

/// `left` bytes, made as they are taken: a large body costs the origin no memory.
struct Repeat {
    left: u64,
}

impl Body for Repeat {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK.len());
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(CHUNK.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
