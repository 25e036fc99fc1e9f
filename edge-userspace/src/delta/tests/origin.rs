//! An origin whose resources change in the ways that real ones do, and which remembers every answer
//! it gave.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;

use super::Noise;
use crate::http::body::{Body, BodyError};
use crate::http::handler::{Answer, Failure, Handler, Reason};
use crate::http::message::{Request, Response};

/// The origin.
pub(super) struct Source {
    noise: Mutex<Noise>,
    /// The parts of each resource that stay.
    bulk: Mutex<HashMap<String, Bytes>>,
    /// By the number in `x-answer`.
    given: Mutex<HashMap<u64, Bytes>>,
    next: AtomicU64,
    /// Answers so far.
    pub(super) asked: AtomicU64,
    /// Requests as they came.
    pub(super) seen: Mutex<Vec<HeaderMap>>,
    /// How long each answer takes.
    pub(super) delay: Mutex<std::time::Duration>,
    pub(super) away: std::sync::atomic::AtomicBool,
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            noise: Mutex::new(Noise(seed)),
            bulk: Mutex::default(),
            given: Mutex::default(),
            next: AtomicU64::new(1),
            asked: AtomicU64::new(0),
            seen: Mutex::default(),
            delay: Mutex::default(),
            away: false.into(),
        }
    }

    /// What it gave in the answer whose head this is; each is asked for once.
    pub(super) fn given(&self, headers: &HeaderMap) -> Option<Bytes> {
        let number = headers.get("x-answer")?.to_str().ok()?.parse().ok()?;
        self.given.lock().unwrap().get(&number).cloned()
    }

    /// Forgets all answers but the last ones.
    pub(super) fn forget_old(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.given.lock().unwrap().retain(|number, _| *number + 4_000 > next);
    }

    /// Content of the resource now.
    fn content(&self, path: &str, query: &str) -> Bytes {
        let mut noise = self.noise.lock().unwrap();
        let mut bulk = self.bulk.lock().unwrap();
        let length = query.parse().unwrap_or(3_000);
        let name = format!("{path}?{query}");
        let base = bulk.entry(name).or_insert_with(|| text(&mut noise, length));
        if path.starts_with("/asset") {
            // A new release now and then.
            if noise.one_in(6) {
                let mut new = base.to_vec();
                let at = noise.below(new.len().max(1));
                let put = text(&mut noise, 80);
                new.splice(at..at, put);
                new.truncate(length.max(100) * 2);
                *base = new.into();
            }
            return base.clone();
        }
        if path.starts_with("/image") {
            return (0..length / 8 + 1).flat_map(|_| noise.next().to_le_bytes()).collect();
        }
        // A page: fields that change on every request, in the midst of what stays.
        let half = base.len() / 2;
        let field = format!("<input value=\"{:x}\"><p>{}</p>", noise.next(), noise.below(1_000));
        [&base[..half], field.as_bytes(), &base[half..], field.as_bytes()]
            .concat()
            .into()
    }

    fn answer(&self, request: &Request) -> Result<Response, Failure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request.head.headers.clone());
            if seen.len() > 100 {
                seen.remove(0);
            }
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(Failure::new(Reason::OriginUnreachable, "away"));
        }
        let path = request.head.uri.path();
        let query = request.head.uri.query().unwrap_or_default();
        if path == "/unreachable" {
            return Err(Failure::new(Reason::OriginUnreachable, "no such origin"));
        }
        let content = self.content(path, query);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.given.lock().unwrap().insert(number, content.clone());
        let mut response = Response::new(StatusCode::OK, Body::Empty);
        let headers = &mut response.head.headers;
        headers.insert("x-answer", HeaderValue::from(number));
        let kind = match path.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("json") => "application/json",
            Some("png") => "image/png",
            _ => "text/html; charset=utf-8",
        };
        headers.insert("content-type", HeaderValue::from_static(kind));
        let control = match path {
            _ if path.starts_with("/asset") => "max-age=60",
            _ if path.starts_with("/private") => "private",
            _ if path.starts_with("/secret") => "no-store",
            _ if path.starts_with("/lasting") => "max-age=0, stale-if-error=60",
            _ => "no-cache",
        };
        headers.insert("cache-control", HeaderValue::from_static(control));
        if path.starts_with("/varies") {
            headers.insert("vary", HeaderValue::from_static("Accept-Language, Accept-Encoding"));
        }
        if path.starts_with("/login") {
            headers.insert("set-cookie", HeaderValue::from_static("id=1"));
        }
        if path.starts_with("/tagged") && request.head.headers.get("if-none-match").is_some() {
            response.head.status = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        if path.starts_with("/gone") {
            response.head.status = StatusCode::GONE;
        }
        let declared = match path {
            _ if path.starts_with("/short") => content.len() + 5,
            _ if path.starts_with("/long") => content.len().saturating_sub(5),
            _ => content.len(),
        };
        if !path.starts_with("/chunked") {
            headers.insert("content-length", HeaderValue::from(declared));
        }
        response.body = if path.starts_with("/breaks") {
            Body::boxed(Pieces::of(&content, 3, true))
        } else if path.starts_with("/short") || path.starts_with("/long") {
            // hyper finds both, and breaks off.
            Body::boxed(Pieces::of(&content, 2, true))
        } else if content.len() > 20_000 || path.starts_with("/chunked") {
            Body::boxed(Pieces::of(&content, 5, false))
        } else {
            content.into()
        };
        Ok(response)
    }
}

fn text(noise: &mut Noise, length: usize) -> Bytes {
    let mut out = Vec::with_capacity(length + 64);
    while out.len() < length {
        let n = noise.below(40);
        out.extend_from_slice(format!("<li class=\"c{n}\">{:x}</li>\n", noise.next() >> 40).as_bytes());
    }
    out.truncate(length);
    out.into()
}

impl Handler for Source {
    fn handle(&self, request: Request) -> Answer<'_> {
        Box::pin(async move {
            let delay = *self.delay.lock().unwrap();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.answer(&request)
        })
    }
}

/// Content that comes in pieces, and perhaps not to its end.
pub(super) struct Pieces {
    pieces: Vec<Bytes>,
    breaks: bool,
}

impl Pieces {
    pub(super) fn of(content: &Bytes, count: usize, breaks: bool) -> Self {
        let size = content.len().div_ceil(count).max(1);
        let mut pieces: Vec<Bytes> = content.chunks(size).map(|piece| content.slice_ref(piece)).collect();
        pieces.reverse();
        Self { pieces, breaks }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match self.pieces.pop() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if std::mem::take(&mut self.breaks) => Some(Err(BodyError::Stalled)),
            None => None,
        })
    }
}
