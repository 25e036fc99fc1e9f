//! The functions that the engine imports (edge-userspace/js/edge.h): what a script can do beyond its own memory. Everything comes from a
//! tenant: pointers are checked by `guest`, numbers are bounded, failures are codes.

use bytes::Bytes;
use http::StatusCode;
use ring::rand::SecureRandom;
use wasmtime::{Caller, Linker};

use super::address::{self, Address};
use super::code::Code;
use super::guest::{self, Guest};
use super::outside::{Ask, Told};
use super::traffic::{Event, Outcome, Traffic};
use super::{digest, fields};
use crate::http::body::Body;
use crate::isolate::error::Ended;

/// Random bytes at once; the prelude asks for no more.
const RANDOM: u32 = 65_536;
/// `respond` and `fetch`: streams of the host have numbers from here on.
const FOREIGN: i32 = 16;
/// Keys at once of a `list`.
const KEYS: usize = 1_000;

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
    linker.func_wrap(
        EDGE,
        "digest",
        |mut c: Call<'_>, algorithm: i32, at: u32, n: u32, out: u32| {
            let digest = digest::digest(algorithm, guest::bytes(&c, at, n)?);
            result(&mut c, out, digest.as_ref().map(AsRef::as_ref))
        },
    )?;
    linker.func_wrap(
        EDGE,
        "hmac",
        |mut c: Call<'_>, algorithm: i32, key: u32, key_n: u32, at: u32, n: u32, out: u32| {
            let tag = digest::mac(algorithm, guest::bytes(&c, key, key_n)?, guest::bytes(&c, at, n)?);
            result(&mut c, out, tag.as_ref().map(AsRef::as_ref))
        },
    )?;
    linker.func_wrap(
        EDGE,
        "url_parse",
        |mut c: Call<'_>, at: u32, n: u32, base: u32, base_n: u32, parts: u32| {
            let text = guest::text(&c, at, n)?;
            // No base has no address; an empty one has.
            let base = if base == 0 {
                None
            } else {
                Some(guest::text(&c, base, base_n)?)
            };
            let address = address::parse(&text, base.as_deref());
            keep(&mut c, address, parts)
        },
    )?;
    linker.func_wrap(
        EDGE,
        "url_set",
        |mut c: Call<'_>, at: u32, n: u32, which: i32, value: u32, value_n: u32, parts: u32| {
            let address = address::set(&guest::text(&c, at, n)?, which, &guest::text(&c, value, value_n)?);
            keep(&mut c, address, parts)
        },
    )?;
    linker.func_wrap(EDGE, "head", |mut c: Call<'_>, to: u32| {
        let head = std::mem::take(&mut c.data_mut().live()?.head);
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
        let chunk = Bytes::copy_from_slice(guest::bytes(&c, at, n)?);
        Ok::<_, wasmtime::Error>(number(c.data_mut().live()?.traffic.write(stream, chunk)))
    })?;
    linker.func_wrap(EDGE, "close", |mut c: Call<'_>, stream: i32, broken: i32| {
        c.data_mut().live()?.traffic.close(stream, broken != 0);
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

/// Writes a digest out; its length, or a code.
fn result(c: &mut Call<'_>, out: u32, bytes: Option<&[u8]>) -> wasmtime::Result<i32> {
    let Some(bytes) = bytes.filter(|bytes| bytes.len() <= digest::LONGEST) else {
        return Ok(Code::Malformed.number());
    };
    guest::room(c, out, bytes.len())?.0.copy_from_slice(bytes);
    Ok(i32::try_from(bytes.len()).unwrap_or(0))
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

/// Content as `respond` and `fetch` name it: 0 none, 1 these bytes, 2 a stream that the script will write, 16 and more a
/// stream of the host.
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

/// The response. Once; also how a script says that it has none (kind 4).
fn respond(mut c: Call<'_>, status: i32, head: u32, head_n: u32, at: u32, n: u32, kind: i32) -> wasmtime::Result<i32> {
    if kind == 4 {
        c.data_mut().live()?.threw = true;
        return Ok(0);
    }
    let mut fields = match fields::parse(&guest::text(&c, head, head_n)?) {
        Ok(fields) => fields,
        Err(_) => return Err(Ended::BadResponse.into()),
    };
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or(Ended::BadResponse)?;
    if kind == 1 {
        // What the worker counted may be wrong; the server counts.
        fields.remove(http::header::CONTENT_LENGTH);
    }
    let (stream, body) = match content(&mut c, kind, at, n, None)? {
        Ok(content) => content,
        Err(_) => return Err(Ended::BadResponse.into()),
    };
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.headers = fields;
    let responder = c.data_mut().live()?.responder.take().ok_or(Ended::Host)?;
    responder.send(parts, body);
    Ok(stream)
}

fn fetch(mut c: Call<'_>, head: u32, head_n: u32, at: u32, n: u32, kind: i32) -> wasmtime::Result<i32> {
    let (method, target, fields) = match fields::request(&guest::text(&c, head, head_n)?) {
        Ok(parsed) => parsed,
        Err(code) => return Ok(code.number()),
    };
    // What the script streams has a number below zero, made of the operation's.
    let upload = (-1_i32).saturating_sub(c.data_mut().live()?.traffic.upcoming());
    let held = match c.data_mut().live()?.traffic.hold(n as usize) {
        Ok(held) => held,
        Err(code) => return Ok(code.number()),
    };
    let body = match content(&mut c, kind, at, n, Some(upload))? {
        Ok((_, body)) => body,
        Err(code) => return Ok(code.number()),
    };
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    let live = c.data_mut().live()?;
    let doing = live.outside.clone().fetch(request);
    let begun = live.traffic.begin(async move {
        let _held = held;
        match doing.await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Outcome::Response(parts, body)
            }
            Err(code) => Outcome::Failed(code, None),
        }
    });
    if begun.is_err() {
        live.traffic.close(upload, true);
    }
    Ok(number(begun))
}

/// Names are the store's, then what the action takes, between zeroes.
fn store(mut c: Call<'_>, action: i32, names: u32, names_n: u32, at: u32, n: u32) -> wasmtime::Result<i32> {
    let names = guest::text(&c, names, names_n)?.into_owned();
    let mut names = names.split('\0').map(str::to_owned);
    let (Some(name), Some(key)) = (names.next(), names.next()) else {
        return Ok(Code::Malformed.number());
    };
    let held = match c.data_mut().live()?.traffic.hold(n as usize) {
        Ok(held) => held,
        Err(code) => return Ok(code.number()),
    };
    let ask = match action {
        0 => Ask::Get(key),
        1 => Ask::Put(key, Bytes::copy_from_slice(guest::bytes(&c, at, n)?)),
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
    let mut traffic = std::mem::replace(&mut c.data_mut().live()?.traffic, Traffic::new(0));
    let event = traffic.wait(milliseconds).await;
    c.data_mut().live()?.traffic = traffic;
    let (id, mut outcome) = match event {
        Event::Ended(id, outcome) => (id, outcome),
        Event::Time => return Ok(1),
        Event::Nothing => return Ok(2),
    };
    let live = c.data_mut().live()?;
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
        Outcome::Told(Told::Value(value)) => (i32::from(value.is_some()), None, value, -1),
        Outcome::Told(Told::Keys(keys, cursor)) => {
            let json = serde_json::json!({ "keys": keys, "cursor": cursor });
            (0, None, Some(Bytes::from(json.to_string())), -1)
        }
        Outcome::Response(parts, body) => {
            let head = Bytes::from(fields::lines(&parts.headers));
            let status = i32::from(parts.status.as_u16());
            match guest::at_hand(body) {
                (bytes, None) => (status, Some(head), bytes, -1),
                (_, Some(body)) => match live.traffic.open(body) {
                    Ok(stream) => (status, Some(head), None, stream),
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
