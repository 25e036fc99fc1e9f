//! The functions that the engine imports (edge-userspace/js/edge.h): what a script can do beyond
//! its own memory. Everything comes from a tenant: pointers are checked by `guest`, numbers are
//! bounded, failures are codes.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use ring::rand::SecureRandom;
use tokio_tungstenite::tungstenite::protocol::Role;
use wasmtime::{Caller, Linker};

use super::address::{self, Address};
use super::code::Code;
use super::guest::{self, Guest, Live};
use super::outside::{Ask, Item, Switched, Told};
use super::pending::{self, Pending};
use super::sockets::Incoming;
use super::traffic::{Event, Outcome, Traffic};
use super::{fields, services};
use crate::http::body::Body;
use crate::http::kept::Deed;
use crate::isolate::coding::{self, Coding};
use crate::isolate::error::Ended;

/// Random bytes at once; the prelude asks for no more.
const RANDOM: u32 = 65_536;
/// `respond` and `fetch`: streams of the host have numbers from here on.
const FOREIGN: i32 = 16;
/// Keys at once of a `list`.
const KEYS: usize = 1_000;
/// Bytes of a text from which on work on it is long.
const LONG: u32 = 8 << 10;
/// Bytes of the names and options of one question to a store.
const NAMES: u32 = 64 << 10;
/// What `say` takes for why a request fails.
const REASON: i32 = 5;
/// Bytes of one write; the prelude cuts larger ones.
const CHUNK: u32 = 128 << 10;

type Call<'a> = Caller<'a, Guest>;

/// All of them, under the module `edge`.
pub(super) fn functions(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    const EDGE: &str = "edge";
    linker.func_wrap(EDGE, "now", guest::clock)?;
    linker.func_wrap(EDGE, "log", |mut c: Call<'_>, level: i32, at: u32, n: u32| {
        guest::log(&mut c, level, at, n)
    })?;
    linker.func_wrap(EDGE, "random", |mut c: Call<'_>, at: u32, n: u32| {
        let (room, _) = guest::room(&mut c, at, n.min(RANDOM) as usize)?;
        let random = ring::rand::SystemRandom::new();
        random.fill(room).map_err(|_| Ended::Internal.into())
    })?;
    linker.func_wrap_async(EDGE, "url_parse", |c: Call<'_>, (at, n, base, base_n, parts)| {
        Box::new(url_parse(c, at, n, base, base_n, parts))
    })?;
    linker.func_wrap_async(EDGE, "url_set", |c: Call<'_>, (at, n, which, value, value_n, parts)| {
        Box::new(url_set(c, at, n, which, value, value_n, parts))
    })?;
    linker.func_wrap_async(EDGE, "call", |c: Call<'_>, (what, a, b, parts, count)| {
        Box::new(services::call(c, what, a, b, parts, count))
    })?;
    linker.func_wrap(EDGE, "keep", |mut c: Call<'_>, kept: i32| {
        c.data_mut().live()?.outside.keep(kept != 0);
        Ok(())
    })?;
    linker.func_wrap(EDGE, "pass", |mut c: Call<'_>| {
        c.data_mut().live()?.outside.pass();
        Ok(())
    })?;
    linker.func_wrap(EDGE, "head", |mut c: Call<'_>, to: u32| {
        let (head, _held) = c.data_mut().live()?.head.take().ok_or(Ended::Host)?;
        guest::room(&mut c, to, head.len())?.0.copy_from_slice(&head);
        Ok(())
    })?;
    linker.func_wrap(EDGE, "take", |mut c: Call<'_>, part: u32, to: u32| {
        let slot = c.data_mut().takes.get_mut(part as usize).ok_or(Ended::Host)?;
        let bytes = std::mem::take(slot);
        guest::room(&mut c, to, bytes.len())?.0.copy_from_slice(&bytes);
        Ok(())
    })?;
    linker.func_wrap(EDGE, "respond", respond)?;
    linker.func_wrap(EDGE, "fetch", fetch)?;
    linker.func_wrap(EDGE, "read", |mut c: Call<'_>, stream: i32, whole: i32| {
        let live = c.data_mut().live()?;
        Ok::<_, wasmtime::Error>(number(live.traffic.read(stream, whole != 0)))
    })?;
    linker.func_wrap(EDGE, "write", |mut c: Call<'_>, stream: i32, at: u32, n: u32| {
        if n > CHUNK {
            return Ok(Code::TooLarge.number());
        }
        let chunk = Bytes::copy_from_slice(guest::bytes(&c, at, n)?);
        let live = c.data_mut().live()?;
        live.begin_response(stream, &chunk);
        Ok::<_, wasmtime::Error>(number(live.traffic.write(stream, chunk)))
    })?;
    linker.func_wrap(EDGE, "close", |mut c: Call<'_>, stream: i32, broken: i32| {
        let live = c.data_mut().live()?;
        live.begin_response(stream, &[]);
        live.traffic.close(stream, broken != 0);
        Ok(())
    })?;
    linker.func_wrap(EDGE, "cancel", |mut c: Call<'_>, operation: i32| {
        c.data_mut().live()?.traffic.cancel(operation);
        Ok(())
    })?;
    linker.func_wrap(EDGE, "store", store)?;
    linker.func_wrap_async(EDGE, "wait", |c: Call<'_>, (milliseconds, to): (f64, u32)| {
        Box::new(wait(c, milliseconds, to))
    })?;
    Ok(linker)
}

fn number(result: Result<i32, Code>) -> i32 {
    result.unwrap_or_else(Code::number)
}

/// Parses a URL. A long one takes long: others have their turn after it.
async fn url_parse(mut c: Call<'_>, at: u32, n: u32, base: u32, base_n: u32, parts: u32) -> wasmtime::Result<i32> {
    let address = {
        let text = guest::text(&c, at, n)?;
        // No base has no address; an empty one has.
        let base = if base == 0 {
            None
        } else {
            Some(guest::text(&c, base, base_n)?)
        };
        address::parse(&text, base.as_deref())
    };
    let length = keep(&mut c, address, parts)?;
    rest_after(&mut c, n.saturating_add(base_n)).await?;
    Ok(length)
}

async fn url_set(
    mut c: Call<'_>,
    at: u32,
    n: u32,
    which: i32,
    value: u32,
    value_n: u32,
    parts: u32,
) -> wasmtime::Result<i32> {
    let address = address::set(&guest::text(&c, at, n)?, which, &guest::text(&c, value, value_n)?);
    let length = keep(&mut c, address, parts)?;
    rest_after(&mut c, n.saturating_add(value_n)).await?;
    Ok(length)
}

/// Lets others have their turn after work on so many bytes, if that was long.
async fn rest_after(c: &mut Call<'_>, bytes: u32) -> wasmtime::Result<()> {
    if bytes < LONG {
        return Ok(());
    }
    let meter = c.data().base.meter.clone();
    meter.breathe().await
}

/// Keeps an address until it is taken; its length.
fn keep(c: &mut Call<'_>, address: Option<Address>, parts: u32) -> wasmtime::Result<i32> {
    let Some(Address { href, parts: offsets }) = address else {
        return Ok(Code::Malformed.number());
    };
    let (room, guest) = guest::room(c, parts, address::PARTS.saturating_mul(4))?;
    for (to, offset) in room.chunks_exact_mut(4).zip(offsets) {
        to.copy_from_slice(&offset.to_le_bytes());
    }
    let length = i32::try_from(href.len()).unwrap_or(0);
    if let Some(slot) = guest.takes.first_mut() {
        *slot = Bytes::from(href);
    }
    Ok(length)
}

/// Content that `fetch` is given if it is to ask for one of the worker's own files: none.
const ASSET: i32 = 3;

/// Content as `respond` and `fetch` name it: 0 none, 1 these bytes, 2 a stream that the script will
/// write, 16 and more a stream of the host.
fn content(
    c: &mut Call<'_>,
    kind: i32,
    at: u32,
    n: u32,
    stream: Option<i32>,
) -> wasmtime::Result<Result<(i32, Body), Code>> {
    Ok(match kind {
        0 => Ok((0, Body::Empty)),
        1 => Ok((0, Bytes::copy_from_slice(guest::bytes(c, at, n)?).into())),
        2 => c.data_mut().live()?.traffic.writable(stream),
        kind => match kind.checked_sub(FOREIGN).filter(|id| *id >= 0) {
            Some(id) => c.data_mut().live()?.traffic.take(id).map(|body| (0, body)),
            None => Err(Code::Malformed),
        },
    })
}

/// The response. Once; also how a script says that it has none, or that what it said is not all of
/// it (kind 4), or that it is a WebSocket (kind 5).
fn respond(mut c: Call<'_>, status: i32, head: u32, head_n: u32, at: u32, n: u32, kind: i32) -> wasmtime::Result<i32> {
    if kind == 4 {
        let live = c.data_mut().live()?;
        live.threw = true;
        live.pending = None;
        if let Some(responder) = live.responder.take() {
            responder.fail(Ended::Exception);
        }
        return Ok(0);
    }
    let fields = match fields::parse(&guest::text(&c, head, head_n)?) {
        Ok(fields) => fields,
        Err(words) => {
            c.data_mut().say(REASON, &words);
            return Err(Ended::BadResponse.into());
        }
    };
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status.ok_or(Ended::BadResponse)?;
    parts.headers = fields;
    let bad = |_: Code| wasmtime::Error::from(Ended::BadResponse);
    if kind == 5 {
        return accept(&mut c, parts);
    }
    if let Some(id) = kind.checked_sub(FOREIGN).filter(|id| *id >= 0) {
        let live = c.data_mut().live()?;
        let (body, codings) = live.traffic.take_as_it_came(id).map_err(bad)?;
        // It goes on as it came, if the response says so; else its content does, as the script
        // would have read it.
        let said = coding::codings(&parts.headers);
        let body = if codings.is_empty() || said.as_ref() == Some(&codings) {
            body
        } else {
            coding::decoded(body, &codings)
        };
        let responder = live.responder.take().ok_or(Ended::Host)?;
        responder.send(parts, body);
        return Ok(0);
    }
    let (stream, body) = content(&mut c, kind, at, n, None)?.map_err(bad)?;
    let live = c.data_mut().live()?;
    let responder = live.responder.take().ok_or(Ended::Host)?;
    let doubtful = live.doubtful(&parts.headers);
    match (doubtful, &body) {
        (None, _) | (_, Body::Empty) => responder.send(parts, body),
        (Some(coding), Body::Full(bytes)) => {
            if !coding.begins(bytes) {
                pending::uncoded(&mut parts.headers);
            }
            responder.send(parts, body);
        }
        // The first piece decides.
        (Some(coding), _) => {
            live.pending = Some(Pending {
                stream,
                coding,
                parts,
                body,
                responder,
            })
        }
    }
    Ok(stream)
}

/// The response that makes the script the other side of its client's WebSocket; the socket's
/// number.
fn accept(c: &mut Call<'_>, mut parts: http::response::Parts) -> wasmtime::Result<i32> {
    let live = c.data_mut().live()?;
    let Some(opening) = live.outside.accept(&mut parts) else {
        c.data_mut()
            .say(REASON, "the response is a WebSocket, and the client asked for none");
        return Err(Ended::BadResponse.into());
    };
    let socket = match live.traffic.socket(opening, Role::Server) {
        Ok(socket) => socket,
        Err(code) => return Ok(code.number()),
    };
    let responder = live.responder.take().ok_or(Ended::Host)?;
    responder.send(parts, Body::Empty);
    Ok(socket)
}

impl Live {
    /// The coding that a response with `headers` says its content has, if content of that coding
    /// was decoded for this script: then the field may have been copied with the rest.
    fn doubtful(&self, headers: &HeaderMap) -> Option<Coding> {
        let last = coding::codings(headers)?.pop()?;
        self.decoded.contains(&last).then_some(last)
    }

    /// Begins the response that waits for the first piece of `stream`.
    fn begin_response(&mut self, stream: i32, first: &[u8]) {
        if let Some(pending) = self.pending.take_if(|pending| pending.stream == stream) {
            pending.begin(first);
        }
    }
}

fn fetch(mut c: Call<'_>, head: u32, head_n: u32, at: u32, n: u32, kind: i32) -> wasmtime::Result<i32> {
    let asked = {
        let text = guest::text(&c, head, head_n)?;
        // An empty line, which no field is, and what is wanted of a cache.
        match text.split_once("\n\n") {
            Some((request, wanted)) => fields::request(&format!("{request}\n"))
                .and_then(|request| Ok((request, Some(fields::wanted(wanted)?)))),
            None => fields::request(&text).map(|request| (request, None)),
        }
    };
    let ((method, target, fields), wanted) = match asked {
        Ok(asked) => asked,
        Err((code, words)) => {
            if !words.is_empty() {
                c.data_mut().say(REASON, &words);
            }
            return Ok(code.number());
        }
    };
    // What the script streams has a number below zero, made of the operation's.
    let upload = (-1_i32).saturating_sub(c.data_mut().live()?.traffic.upcoming());
    let held = match c.data_mut().live()?.traffic.hold(n.saturating_add(head_n) as usize) {
        Ok(held) => held,
        Err(code) => return Ok(code.number()),
    };
    let asset = kind == ASSET;
    let kind = if asset { 0 } else { kind };
    let body = match content(&mut c, kind, at, n, Some(upload))? {
        Ok((_, body)) => body,
        Err(code) => return Ok(code.number()),
    };
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    let live = c.data_mut().live()?;
    let outside = live.outside.clone();
    let begun = match wanted {
        Some((cache, mut deed)) => {
            let doubtful = match &deed {
                Deed::Keep(_, fields) => live.doubtful(fields),
                _ => None,
            };
            live.traffic.begin(async move {
                let _held = held;
                if let (Deed::Keep(_, fields), Some(coding)) = (&mut deed, doubtful) {
                    truly(fields, request.body_mut(), coding).await;
                }
                let finds = matches!(deed, Deed::Find);
                match outside.kept(cache, deed, request).await {
                    Ok(Some(response)) if finds => response_of(response),
                    Ok(done) => Outcome::Told(Told::Value(done.map(|_| Item::default()))),
                    Err(code) => Outcome::Failed(code, None),
                }
            })
        }
        None => {
            let doing = match asset {
                true => outside.asset(request),
                false => outside.fetch(request),
            };
            live.traffic.begin(async move {
                let _held = held;
                match doing.await {
                    Ok(response) => response_of(response),
                    Err(code) => Outcome::Failed(code, None),
                }
            })
        }
    };
    if begun.is_err() {
        live.traffic.close(upload, true);
    }
    Ok(number(begun))
}

fn response_of(response: http::Response<Body>) -> Outcome {
    let (parts, body) = response.into_parts();
    Outcome::Response(parts, body)
}

/// Takes from `fields` what they say of a coding if the content does not begin as it would: the
/// script read it decoded, and copied the fields.
async fn truly(fields: &mut HeaderMap, body: &mut Body, coding: Coding) {
    let mut first = Bytes::new();
    // Trailers are not kept, and an error comes again.
    while first.is_empty()
        && let Some(Ok(frame)) = body.frame().await
    {
        first = frame.into_data().unwrap_or_default();
    }
    if !coding.begins(&first) {
        pending::uncoded(fields);
    }
    let rest = BodyStream::new(std::mem::take(body));
    let first = stream::iter((!first.is_empty()).then(|| Ok(Frame::data(first))));
    *body = Body::boxed(StreamBody::new(first.chain(rest)));
}

/// Names are the store's, then what the action takes, between zeroes.
fn store(mut c: Call<'_>, action: i32, names: u32, names_n: u32, at: u32, n: u32) -> wasmtime::Result<i32> {
    if names_n > NAMES {
        return Ok(Code::TooLarge.number());
    }
    let names = guest::text(&c, names, names_n)?.into_owned();
    let mut names = names.split('\0').map(str::to_owned);
    let (Some(name), Some(key)) = (names.next(), names.next()) else {
        return Ok(Code::Malformed.number());
    };
    let held = match c.data_mut().live()?.traffic.hold(n.saturating_add(names_n) as usize) {
        Ok(held) => held,
        Err(code) => return Ok(code.number()),
    };
    let ask = match action {
        0 => Ask::Get(key),
        1 => {
            let until = names.next().and_then(|until| until.parse().ok()).unwrap_or(0);
            let about = names.next().unwrap_or_default();
            let value = Bytes::copy_from_slice(guest::bytes(&c, at, n)?);
            Ask::Put(key, Item { value, until, about })
        }
        2 => Ask::Delete(key),
        3 => {
            let cursor = names.next().filter(|cursor| !cursor.is_empty());
            let most = names.next().and_then(|most| most.parse().ok()).unwrap_or(KEYS);
            Ask::List(key, cursor, most.clamp(1, KEYS))
        }
        _ => return Ok(Code::Malformed.number()),
    };
    let live = c.data_mut().live()?;
    let doing = live.outside.clone().store(&name, ask);
    Ok(number(live.traffic.begin(async move {
        let _held = held;
        match doing.await {
            Ok(told) => Outcome::Told(told),
            Err(code) => Outcome::Failed(code, None),
        }
    })))
}

/// 0: an operation ended, and `to` says how; 1: the time is over; 2: there is nothing to wait for.
async fn wait(mut c: Call<'_>, milliseconds: f64, to: u32) -> wasmtime::Result<i32> {
    let live = c.data_mut().live()?;
    live.traffic.owed = live.responder.is_some();
    let mut traffic = std::mem::replace(&mut live.traffic, Traffic::new(0));
    let event = traffic.wait(milliseconds).await;
    c.data_mut().live()?.traffic = traffic;
    let (id, mut outcome) = match event {
        Event::Ended(id, outcome) => (id, outcome),
        Event::Time => return Ok(1),
        Event::Nothing => return Ok(2),
    };
    let live = c.data_mut().live()?;
    if live.traffic.has_sockets() {
        live.outside.moved();
    }
    live.traffic.settle(&mut outcome);
    // Status, head, content, stream.
    let (status, head, body, stream) = match outcome {
        Outcome::Failed(code, _) => (code.number(), None, None, -1),
        Outcome::Written | Outcome::Told(Told::Done) => (0, None, None, -1),
        Outcome::Chunk(_, chunk) => (0, None, chunk.map(|(chunk, _)| chunk), -1),
        Outcome::Whole(_, all, held) => {
            // Taken in a moment.
            drop(held);
            (0, None, Some(all), -1)
        }
        Outcome::Left(gone) => (i32::from(gone), None, None, -1),
        Outcome::Message(_, _, Incoming::Text(text)) => (1, None, Some(text), -1),
        Outcome::Message(_, _, Incoming::Binary(bytes)) => (2, None, Some(bytes), -1),
        Outcome::Message(_, _, Incoming::Closed(code, reason, clean)) => {
            let head = format!("{code}\n{}\n{reason}", u8::from(clean));
            (3, Some(Bytes::from(head)), None, -1)
        }
        Outcome::Told(Told::Value(None)) => (0, None, None, -1),
        Outcome::Told(Told::Value(Some(item))) => {
            let about = (!item.about.is_empty()).then(|| Bytes::from(item.about));
            (1, about, Some(item.value), -1)
        }
        Outcome::Told(Told::Keys(keys, cursor)) => {
            let json = serde_json::json!({ "keys": keys, "cursor": cursor });
            (0, None, Some(Bytes::from(json.to_string())), -1)
        }
        Outcome::Response(parts, _) if parts.extensions.get::<Switched>().is_some() => {
            let wire = parts.extensions.get::<Switched>().and_then(Switched::take);
            let opening = Box::pin(async move { wire.ok_or(Code::Broken) });
            match live.traffic.socket(opening, Role::Client) {
                Ok(socket) => (101, Some(Bytes::from(fields::lines(&parts.headers))), None, socket),
                Err(code) => (code.number(), None, None, -1),
            }
        }
        Outcome::Response(parts, body) => {
            let head = Bytes::from(fields::lines(&parts.headers));
            let status = i32::from(parts.status.as_u16());
            let codings = coding::codings(&parts.headers).unwrap_or_default();
            let at_hand = match codings.is_empty() || http_body::Body::is_end_stream(&body) {
                true => guest::at_hand(body),
                false => (None, Some(body)),
            };
            match at_hand {
                (bytes, None) => (status, Some(head), bytes, -1),
                (_, Some(body)) => match live.traffic.open_coded(body, codings.clone()) {
                    Ok(stream) => {
                        live.decoded.extend(codings);
                        (status, Some(head), None, stream)
                    }
                    Err(code) => (code.number(), None, None, -1),
                },
            }
        }
    };
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(-1, |b| i32::try_from(b.len()).unwrap_or(-1));
    let result = [id, status, length(&head), length(&body), stream];
    let (room, guest) = guest::room(&mut c, to, 20)?;
    for (to, value) in room.chunks_exact_mut(4).zip(result) {
        to.copy_from_slice(&value.to_le_bytes());
    }
    let [_, head_slot, body_slot] = &mut guest.takes;
    *head_slot = head.unwrap_or_default();
    *body_slot = body.unwrap_or_default();
    Ok(0)
}
