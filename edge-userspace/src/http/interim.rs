//! Interim responses (1xx, RFC 9110 section 15.2) on their way from an origin to the client that
//! waits for the final one: above all 103 (Early Hints, RFC 8297), by which a browser fetches what
//! a page needs while the page is being made.
//!
//! `origin` hands them over, in the origin's connection; whoever serves the client's stream
//! [relays](Interims::relay) them. 100 (Continue) and 101 (Switching Protocols) are the edge's own
//! on each side and never pass here.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::{self, HeaderMap};
use http::{StatusCode, Version};

use super::fields;

/// Interim responses that one request may be answered with before its final one. A page has one or
/// two; 102 (Processing) may be said again and again.
const MOST: usize = 16;
/// Bytes of field lines that wait for a client which does not take them. What comes beyond is left
/// out: none of it has to arrive.
const BYTES: usize = 16 << 10;

/// The interim responses of one request. Among its extensions: where `origin` puts them; without
/// it they are left out.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    heads: VecDeque<Interim>,
    /// All that were put here.
    put: usize,
    /// Of those that wait.
    bytes: usize,
    relay: Option<Waker>,
}

/// One interim response: it has no content.
#[derive(Debug)]
pub struct Interim {
    /// 102, 103 or another of 1xx but 100 and 101.
    pub status: StatusCode,
    /// Without what belongs to the origin's connection.
    pub headers: HeaderMap,
}

impl Interims {
    /// Puts one of the origin's here, without what belongs to its connection, and the edge's `via`
    /// added.
    pub fn put(&self, status: StatusCode, headers: &HeaderMap, via: header::HeaderValue) {
        if !status.is_informational() || status.as_u16() < 102 || self.waiting().put >= MOST {
            return;
        }
        let mut headers = headers.clone();
        fields::strip_hop_by_hop(&mut headers);
        // Of a message that has content, or of another listener (RFC 7838 section 2.1); and a
        // cookie is what the final response says it is.
        for name in [
            header::CONTENT_LENGTH,
            header::TRAILER,
            header::ALT_SVC,
            header::SET_COOKIE,
        ] {
            headers.remove(name);
        }
        headers.append(header::VIA, via);
        let interim = Interim { status, headers };
        let bytes = interim.bytes();
        let mut waiting = self.waiting();
        if waiting.bytes.saturating_add(bytes) > BYTES {
            return;
        }
        waiting.put += 1;
        waiting.bytes += bytes;
        waiting.heads.push_back(interim);
        let relay = waiting.relay.take();
        drop(waiting);
        if let Some(relay) = relay {
            relay.wake();
        }
    }

    /// The oldest that waits; the task is woken when one comes.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Interim> {
        let mut waiting = self.waiting();
        match waiting.heads.pop_front() {
            Some(interim) => {
                waiting.bytes = waiting.bytes.saturating_sub(interim.bytes());
                Poll::Ready(interim)
            }
            None => {
                waiting.relay = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits for the `answer`, and hands what comes before it to `tell`, whenever the client is
    /// `able` to take one: a message must not be put into another one.
    pub async fn relay<F: Future>(
        &self,
        answer: F,
        able: impl Fn() -> bool,
        mut tell: impl FnMut(Interim),
    ) -> F::Output {
        let mut answer = pin!(answer);
        std::future::poll_fn(|cx| {
            // First what came first: the final response ends the row.
            while able() {
                match self.poll_next(cx) {
                    Poll::Ready(interim) => tell(interim),
                    Poll::Pending => break,
                }
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interim {
    /// Of its field lines.
    fn bytes(&self) -> usize {
        let line = |(name, value): (&header::HeaderName, &header::HeaderValue)| name.as_str().len() + value.len() + 4;
        self.headers.iter().map(line).sum()
    }

    /// As HTTP/1.1 writes it (RFC 9112 section 4).
    pub(super) fn http1(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(64 + self.bytes());
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(self.status.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
        head.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Whether a client of `version` may be told: HTTP/1.0 knows none (RFC 9110 section 15.2).
pub(super) fn known_to(version: Version) -> bool {
    !matches!(version, Version::HTTP_09 | Version::HTTP_10)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn via() -> header::HeaderValue {
        header::HeaderValue::from_static("1.1 edge")
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    header::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    /// What an origin could say to the edge by them stays with the edge.
    #[tokio::test]
    async fn what_belongs_to_the_connection_stays_there() {
        let interims = Interims::default();
        interims.put(StatusCode::CONTINUE, &HeaderMap::new(), via());
        interims.put(StatusCode::SWITCHING_PROTOCOLS, &HeaderMap::new(), via());
        interims.put(StatusCode::OK, &HeaderMap::new(), via());
        let said = fields(&[
            ("link", "</a.css>; rel=preload; as=style"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("alt-svc", "h3=\":1\""),
            ("set-cookie", "a=b"),
        ]);
        interims.put(StatusCode::EARLY_HINTS, &said, via());
        let told = RefCell::new(Vec::new());
        interims
            .relay(
                async { tokio::task::yield_now().await },
                || true,
                |interim| told.borrow_mut().push(interim.http1()),
            )
            .await;
        let told = told.into_inner();
        assert_eq!(
            told.iter()
                .map(|head| String::from_utf8_lossy(head))
                .collect::<Vec<_>>(),
            ["HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload; as=style\r\nvia: 1.1 edge\r\n\r\n"]
        );
    }

    /// An origin that says 103 for ever costs nothing but what it sends.
    #[tokio::test]
    async fn what_waits_is_bounded() {
        let interims = Interims::default();
        let long = header::HeaderValue::try_from("x".repeat(5_000)).unwrap();
        for _ in 0..1_000 {
            let fields = HeaderMap::from_iter([(header::LINK, long.clone())]);
            interims.put(StatusCode::EARLY_HINTS, &fields, via());
        }
        assert_eq!(interims.waiting().heads.len(), BYTES / 5_000);
        let told = Cell::new(0);
        let count = |_| told.set(told.get() + 1);
        interims.relay(async {}, || true, count).await;
        for _ in 0..1_000 {
            interims.put(StatusCode::PROCESSING, &HeaderMap::new(), via());
        }
        interims.relay(async {}, || true, count).await;
        assert_eq!(told.get(), MOST);
    }

    /// Nothing is told while another message is under way to the client.
    #[tokio::test]
    async fn a_message_is_not_put_into_another() {
        let interims = Interims::default();
        interims.put(StatusCode::EARLY_HINTS, &HeaderMap::new(), via());
        let (able, told) = (Cell::new(false), Cell::new(0));
        let answer = async {
            tokio::task::yield_now().await;
            assert_eq!(told.get(), 0);
            able.set(true);
            tokio::task::yield_now().await;
        };
        interims
            .relay(answer, || able.get(), |_| told.set(told.get() + 1))
            .await;
        assert_eq!(told.get(), 1);
    }
}
