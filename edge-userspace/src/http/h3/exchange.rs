//! One request stream of HTTP/3, from its first byte to the last of its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, request};
use http_body::Body as _;
use hyper::ext::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::body;
use super::code::{Broken, Code};
use super::frames::{DATA, put_front};
use super::link::{Frame, Link, Sectioned};
use super::priority::Priority;
use super::request as section;
use super::stream::{Came, Incoming, Lost};
use super::window::{self, Turn, Window};
use crate::base::ledger::{Charge, Kind};
use crate::config::Limits;
use crate::http::body::Body;
use crate::http::delivery::Delivery;
use crate::http::interim::Interims;
use crate::http::life::{LINGER, Overdue};
use crate::http::service::Service;
use crate::http::switch::Switch;

/// Bytes that are taken out of a tunnel at once.
const TUNNEL: usize = 4 << 10;
/// Content up to this length is copied behind the front of its frame: another piece costs more.
const SHORT: usize = 1 << 10;
/// Bytes of the longest front of a DATA frame, and of many, for which room is made at once.
const FRONT: usize = 9;
const FRONTS: usize = 128;

/// What the exchanges of a connection have of it.
pub(super) struct Exchange {
    pub(super) service: Arc<Service>,
    pub(super) limits: Arc<Limits>,
    pub(super) window: Arc<Window>,
    pub(super) link: Arc<Link>,
}

/// RFC 9218 section 5.
const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// How an answer is wanted: as its request says, and what came of that later.
#[derive(Debug, Default)]
struct Wanted {
    /// `None`: the client says nothing of it, and its answers share alike.
    priority: Option<Priority>,
    /// How many updates have been seen.
    updates: u64,
}

/// Why a stream comes to nothing.
enum Refused {
    /// It ends with this code.
    Code(Code),
    /// Its head is larger than `limits.header_bytes`.
    TooLarge,
    /// Nobody is there to be told.
    Gone,
}

/// Why a response did not get out whole.
enum Failed {
    /// The client takes no more, or is gone.
    Client,
    /// The content broke off: the stream must not look whole.
    Content,
}

impl Exchange {
    /// Reads the head whatever the client wants of the answer, since a broken one ends the
    /// connection.
    pub(super) async fn run(self: Arc<Self>, mut send: quinn::SendStream, receive: quinn::RecvStream) {
        let mut incoming = Incoming::new(receive, self.link.clone());
        let head = tokio::time::timeout(self.limits.header_timeout, self.head(&mut incoming)).await;
        match head.unwrap_or(Err(Refused::Code(Code::REQUEST_CANCELLED))) {
            Ok(head) => self.answer(head, &mut send, incoming).await,
            Err(refused) => {
                // Time spent on streams that come to nothing counts towards the connection's
                // resets.
                self.wasted();
                match refused {
                    Refused::Code(code) => {
                        let _ = send.reset(code.into());
                        incoming.stop(code);
                    }
                    Refused::TooLarge => {
                        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                        if let Some(frame) = self.link.response(incoming.id(), status, &HeaderMap::new()) {
                            let _ = self.write(&mut send, [frame.into_bytes()]).await;
                        }
                    }
                    Refused::Gone => {}
                }
            }
        }
        if self.service.life.finishing() || self.service.life.stormy(self.limits.resets_per_connection) {
            self.link.turn.notify_one();
        }
    }

    /// The head, and the content's length if it says one.
    async fn head(&self, incoming: &mut Incoming) -> Result<(request::Parts, Option<u64>), Refused> {
        // A head in the making lies in its stream until it is whole, and each stream may have one.
        let mut making: Option<Charge> = None;
        let came = poll_fn(|cx| {
            let polled = incoming.poll(cx);
            if polled.is_pending() {
                let wanted = incoming.gathers().max(self.limits.header_bytes as u64);
                let fits = match &mut making {
                    Some(charge) => charge.bytes() >= wanted || charge.set(wanted),
                    None => {
                        making = self.service.holding.holder().charge(Kind::Requests, None, wanted);
                        making.is_some()
                    }
                };
                if !fits {
                    return Poll::Ready(Err(Refused::Code(Code::REQUEST_REJECTED)));
                }
            }
            polled.map_err(|lost| match lost {
                Lost::Broken(Broken::Stream(code)) => Refused::Code(code),
                Lost::Broken(Broken::Connection(_)) => Refused::Gone,
                Lost::Left(_) => Refused::Code(Code::REQUEST_CANCELLED),
            })
        })
        .await?;
        let fields = match came {
            Some(Came::Section(Sectioned::Fields(fields))) => fields,
            Some(Came::Section(Sectioned::TooLarge)) => return Err(Refused::TooLarge),
            // No frame but the head's comes first.
            Some(Came::Content(_)) | None => return Err(Refused::Code(Code::REQUEST_INCOMPLETE)),
        };
        let malformed = Refused::Code(Code::MESSAGE_ERROR);
        let Ok(head) = fields.into_head() else {
            return Err(malformed);
        };
        match section::check(&head) {
            Ok(length) => Ok((head, length)),
            Err(why) => {
                self.service.shared.metrics.refused_framing(why);
                Err(malformed)
            }
        }
    }

    async fn answer(
        &self,
        (mut head, length): (request::Parts, Option<u64>),
        send: &mut quinn::SendStream,
        incoming: Incoming,
    ) {
        let id = incoming.id();
        if section::expects_continue(&head) && !self.invite(id, send).await {
            return self.wasted();
        }
        let held = self.service.peer.is_early() && !head.method.is_safe();
        if self.service.peer.is_early() {
            self.service.shared.metrics.early(held);
        }
        let mut wanted = Wanted {
            priority: head
                .headers
                .get(PRIORITY)
                .map(|value| Priority::default().with(value.as_bytes())),
            updates: 0,
        };
        let stopped = send.stopped();
        let stopped = async {
            // `None`: the client has it all.
            if let Ok(None) = stopped.await {
                std::future::pending::<()>().await;
            }
        };
        let answer = async {
            // What must not be done twice is not done for a copy (RFC 8470 section 3): the client
            // has to be there.
            if held && self.service.peer.proven().await.is_err() {
                return self.wasted();
            }
            // What a client sends after extended CONNECT is not HTTP's.
            let (body, tunnel) = match head.extensions.get::<Protocol>() {
                None => (body::content(incoming, length), None),
                Some(_) => {
                    let (switch, near) = Switch::stream();
                    head.extensions.insert(switch);
                    (Body::Empty, Some((near, incoming)))
                }
            };
            let turn = Turn::begin(&self.window, tunnel.is_some() || !matches!(body, Body::Empty));
            let response = self.call(id, http::Request::from_parts(head, body), send).await;
            if let Some((near, incoming)) = tunnel
                && response.status().is_success()
            {
                return self.tunnel(response, near, incoming, send).await;
            }
            match self.deliver((id, &mut wanted), send, response).await {
                // What quinn still holds stays on the account until the client has acknowledged it.
                Ok(sent) if sent >= window::PIECE => self.settle(turn, send),
                Err(Failed::Content) => drop(send.reset(Code::INTERNAL_ERROR.into())),
                Ok(_) | Err(Failed::Client) => {}
            }
        };
        tokio::select! {
            biased;
            () = answer => {}
            // Dropped, the answer lets go of everything, as with a stream of HTTP/2 that is reset.
            () = stopped => {}
        }
    }

    fn wasted(&self) {
        self.service.life.begin();
        self.service.life.end(Instant::now(), true);
    }

    /// 100 Continue. Sent at once: the content's limits are checked as it comes.
    async fn invite(&self, id: u64, send: &mut quinn::SendStream) -> bool {
        let Some(frame) = self.link.response(id, StatusCode::CONTINUE, &HeaderMap::new()) else {
            return false;
        };
        self.write(send, [frame.into_bytes()]).await.is_ok()
    }

    /// The response to `request`. What its server says before that (1xx) is sent on at once.
    async fn call(
        &self,
        id: u64,
        mut request: http::Request<Body>,
        send: &mut quinn::SendStream,
    ) -> http::Response<Delivery> {
        let interims = Interims::default();
        request.extensions_mut().insert(interims.clone());
        let mut called = pin!(self.service.call(request, None));
        loop {
            tokio::select! {
                biased;
                Ok(response) = &mut called => return response,
                interim = poll_fn(|cx| interims.poll_next(cx)) => {
                    // One that cannot be said is left out.
                    if let Some(frame) = self.link.response(id, interim.status, &interim.headers) {
                        let _ = self.write(send, [frame.into_bytes()]).await;
                    }
                }
            }
        }
    }

    /// Joins a stream whose client and whose other side, at the end of `near`, have agreed to
    /// another protocol, until both have ended or one breaks off (RFC 9114 section 4.4). The
    /// request counts as under way meanwhile.
    async fn tunnel(
        &self,
        response: http::Response<Delivery>,
        near: DuplexStream,
        mut incoming: Incoming,
        send: &mut quinn::SendStream,
    ) {
        let (mut head, _account) = response.into_parts();
        section::strip(&mut head.headers);
        let Some(frame) = self.link.response(incoming.id(), head.status, &head.headers) else {
            return;
        };
        let (mut from, mut to) = tokio::io::split(near);
        let inwards = async {
            loop {
                match poll_fn(|cx| incoming.poll(cx)).await {
                    Ok(Some(Came::Content(data))) => to.write_all(&data).await.map_err(|_| Failed::Content)?,
                    Ok(None) => return to.shutdown().await.map_err(|_| Failed::Content),
                    Ok(Some(Came::Section(_))) => {
                        self.link.close(Code::FRAME_UNEXPECTED);
                        return Err(Failed::Client);
                    }
                    Err(_) => return Err(Failed::Client),
                }
            }
        };
        let outwards = async {
            self.write(send, [frame.into_bytes()]).await?;
            let (mut fronts, mut content) = (BytesMut::new(), BytesMut::new());
            loop {
                if content.capacity() < SHORT {
                    content.reserve(TUNNEL);
                }
                let read = from.read_buf(&mut content).await;
                if read.map_err(|_| Failed::Content)? == 0 {
                    return send.finish().map_err(|_| Failed::Client);
                }
                let data = content.split().freeze();
                self.write(send, [front(&mut fronts, data.len()), data]).await?;
                self.service.holding.holder().moved();
            }
        };
        let ended = {
            let (mut inwards, mut outwards) = (pin!(inwards), pin!(outwards));
            tokio::select! {
                ended = &mut inwards => match ended {
                    Ok(()) => outwards.await,
                    failed => failed,
                },
                ended = &mut outwards => match ended {
                    // The other side may have ended altogether, which only writing to it would
                    // show.
                    Ok(()) => tokio::time::timeout(LINGER, inwards).await.unwrap_or(Ok(())),
                    failed => failed,
                },
            }
        };
        if ended.is_err() {
            let _ = send.reset(Code::CONNECT_ERROR.into());
            incoming.stop(Code::CONNECT_ERROR);
        }
    }

    /// Waits, after the request, for the last acknowledgement. A client that gives none for as
    /// long as a piece may take is gone: its connection ends, and what is held for it.
    fn settle(&self, turn: Turn, send: &quinn::SendStream) {
        let settled = send.stopped();
        let (patience, metrics) = (self.limits.write_timeout, self.service.shared.metrics.clone());
        tokio::spawn(async move {
            if tokio::time::timeout(patience, settled).await.is_err() {
                metrics.overdue(Overdue::Write.label());
                turn.close(Code::NO_ERROR.into());
            }
        });
    }

    /// Hands the response over, piece by piece, at the client's pace; nothing of its content is
    /// copied. How many bytes of content it had.
    async fn deliver(
        &self,
        (id, wanted): (u64, &mut Wanted),
        send: &mut quinn::SendStream,
        response: http::Response<Delivery>,
    ) -> Result<usize, Failed> {
        let (mut head, mut body) = response.into_parts();
        self.rank(id, wanted, &head.headers, send);
        section::strip(&mut head.headers);
        // Content that is there by now leaves with it.
        let mut unsent = Some(
            self.link
                .response(id, head.status, &head.headers)
                .ok_or(Failed::Content)?,
        );
        drop(head);
        let (mut fronts, mut sent) = (BytesMut::new(), 0_usize);
        loop {
            let next = poll_fn(|cx| {
                if body.is_end_stream() {
                    return Poll::Ready(Some(None));
                }
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Pending if unsent.is_some() => Poll::Ready(None),
                    polled => polled.map(Some),
                }
            });
            let piece = match next.await {
                Some(Some(piece)) => piece.map_err(|_| Failed::Content)?,
                ended => {
                    if let Some(head) = unsent.take() {
                        self.write(send, [head.into_bytes()]).await?;
                    }
                    match ended {
                        None => continue,
                        Some(_) => break,
                    }
                }
            };
            match piece.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if data.len() >= window::PIECE {
                        self.window.follow();
                        self.rank_anew(id, wanted, send);
                    }
                    sent = sent.saturating_add(data.len());
                    match unsent.take() {
                        Some(head) => self.first(send, head, data).await?,
                        None => self.write(send, [front(&mut fronts, data.len()), data]).await?,
                    }
                    self.service.holding.holder().moved();
                }
                Err(piece) => {
                    let trailers = piece.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                    let trailers = self.link.trailers(id, &trailers).ok_or(Failed::Content)?.into_bytes();
                    match unsent.take() {
                        Some(head) => self.write(send, [head.into_bytes(), trailers]).await?,
                        None => self.write(send, [trailers]).await?,
                    }
                    break;
                }
            }
        }
        send.finish().map_err(|_| Failed::Client)?;
        Ok(sent)
    }

    /// Has quinn send the answer on stream `id` in its turn; an origin may add to what the client
    /// says (RFC 9218 section 8).
    fn rank(&self, id: u64, wanted: &mut Wanted, fields: &HeaderMap, send: &quinn::SendStream) {
        wanted.updates = self.link.updates();
        let told = if wanted.updates > 0 {
            self.link.priority(id)
        } else {
            None
        };
        let asked = told.or(wanted.priority);
        let priority = match fields.get(PRIORITY) {
            None => asked,
            Some(origin) => Some(asked.unwrap_or_default().with(origin.as_bytes())),
        };
        if let Some(priority) = priority {
            // Fails only for a stream that has ended.
            let _ = send.set_priority(priority.level(id));
        }
    }

    /// The same, if the client has said something new meanwhile.
    fn rank_anew(&self, id: u64, wanted: &mut Wanted, send: &quinn::SendStream) {
        let updates = self.link.updates();
        if std::mem::replace(&mut wanted.updates, updates) != updates
            && let Some(priority) = self.link.priority(id)
        {
            let _ = send.set_priority(priority.level(id));
        }
    }

    /// The head, and content behind it.
    async fn first(&self, send: &mut quinn::SendStream, mut head: Frame, data: Bytes) -> Result<(), Failed> {
        put_front(&mut head.bytes, DATA, data.len());
        if data.len() <= SHORT {
            head.bytes.extend_from_slice(&data);
            return self.write(send, [head.into_bytes()]).await;
        }
        self.write(send, [head.into_bytes(), data]).await
    }

    /// Waits for the client, but not for longer than a piece may take. quinn takes more as what was
    /// sent before is acknowledged ([`Window`]), so that this is the time without acknowledgements.
    async fn write<const N: usize>(&self, send: &mut quinn::SendStream, mut pieces: [Bytes; N]) -> Result<(), Failed> {
        let mut left = &mut pieces[..];
        while !left.is_empty() {
            match tokio::time::timeout(self.limits.write_timeout, send.write_chunks(left)).await {
                Ok(Ok(written)) => left = std::mem::take(&mut left).get_mut(written.chunks..).unwrap_or_default(),
                Ok(Err(_)) => return Err(Failed::Client),
                Err(_) => return Err(Failed::Content),
            }
        }
        Ok(())
    }
}

/// The front of a DATA frame of `length` bytes.
fn front(room: &mut BytesMut, length: usize) -> Bytes {
    if room.capacity() < FRONT {
        room.reserve(FRONTS);
    }
    put_front(room, DATA, length);
    room.split().freeze()
}
