//! A response on its way from the origin into the store, and to the clients who read it meanwhile.
//! A task of the worker that asked the origin drives it at the origin's pace, within bounds
//! (`object_bytes`, and the room of all fills); readers follow at their own. `handler` starts it.
//!
//! Content that turns out longer than the bound is not stored: what is left of it goes to the first
//! reader, streamed at that one's pace. Others can only have joined when the length was known to
//! fit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

use super::store::Room;
use crate::http::body::{Body, BodyError};

/// A piece shorter than this is copied: as a part of the buffer that it was read into, it would
/// keep all of that.
const SMALL: usize = 4 << 10;
/// What each piece takes beside its bytes, about.
const PIECE: u64 = 96;

/// What the driver and the readers share.
#[derive(Default)]
pub(super) struct Fill(Mutex<State>);

#[derive(Default)]
struct State {
    chunks: Vec<Bytes>,
    length: u64,
    end: Option<End>,
    /// By reader.
    wakers: HashMap<u64, Waker>,
    readers: u64,
    /// Held until the last reader is gone.
    room: Option<Room>,
}

enum End {
    Whole,
    Broken,
    /// Not to be stored: the rest, for the first reader.
    Rest(Option<Body>),
}

/// How a fill ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All of it.
    Whole(Bytes),
    /// It broke off, or its length was not what was announced.
    Broken,
    /// Longer than the limit.
    TooLarge,
    /// No room.
    NoRoom,
}

impl Fill {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Reads `body` to its end. `announced`: `Content-Length`. `most`: the longest content stored.
    /// `room` is held until the outcome is dealt with.
    pub(super) async fn drive(&self, mut body: Body, announced: Option<u64>, most: u64, room: &mut Room) -> Outcome {
        let (mut length, mut pieces) = (0_u64, 0_u64);
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    // Trailers are not kept (a cache may discard them: RFC 9110 section 6.5.1).
                    let Ok(data) = frame.into_data() else { continue };
                    if data.is_empty() {
                        continue;
                    }
                    let data = if data.len() < SMALL {
                        Bytes::copy_from_slice(&data)
                    } else {
                        data
                    };
                    length = length.saturating_add(data.len() as u64);
                    pieces = pieces.saturating_add(PIECE);
                    let fits = length <= most && announced.is_none_or(|n| length <= n);
                    let stored = fits && room.grow(length.saturating_add(pieces));
                    self.change(|state| {
                        state.length = length;
                        state.chunks.push(data);
                    });
                    if !stored {
                        // The chunk just pushed is the readers'; what follows is the first reader's
                        // alone.
                        self.change(|state| state.end = Some(End::Rest(Some(body))));
                        return if length > most {
                            Outcome::TooLarge
                        } else {
                            Outcome::NoRoom
                        };
                    }
                }
                Some(Err(_)) => {
                    self.change(|state| state.end = Some(End::Broken));
                    return Outcome::Broken;
                }
                None if announced.is_some_and(|n| n != length) => {
                    self.change(|state| state.end = Some(End::Broken));
                    return Outcome::Broken;
                }
                None => {
                    let whole = self.whole();
                    self.change(|state| state.end = Some(End::Whole));
                    return Outcome::Whole(whole);
                }
            }
        }
    }

    /// Keeps `room` for as long as somebody reads.
    pub(super) fn hold(&self, room: Room) {
        self.change(|state| state.room = Some(room));
    }

    /// One piece of memory of exactly the content's size: the chunks may be parts of larger
    /// buffers.
    fn whole(&self) -> Bytes {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whole = BytesMut::with_capacity(usize::try_from(state.length).unwrap_or(0));
        for chunk in &state.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.freeze()
    }
}

/// A client's view: the bytes from `from` up to `to`.
pub(super) struct Reader {
    fill: Arc<Fill>,
    /// Among the fill's readers.
    number: u64,
    /// Takes the rest of what is not stored.
    first: bool,
    next: usize,
    /// Before these bytes the view has not begun.
    skip: u64,
    /// Bytes still to give; `None`: to the end.
    left: Option<u64>,
    rest: Option<Body>,
    done: bool,
}

impl Reader {
    /// A view of the whole content; `length` where it is known.
    pub(super) fn new(fill: Arc<Fill>, first: bool, length: Option<u64>) -> Self {
        let number;
        {
            let mut state = fill.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.readers = state.readers.wrapping_add(1);
            number = state.readers;
        }
        Self {
            fill,
            number,
            first,
            next: 0,
            skip: 0,
            left: length,
            rest: None,
            done: length == Some(0),
        }
    }

    /// A view of a part.
    pub(super) fn part(fill: Arc<Fill>, first: bool, from: u64, length: u64) -> Self {
        let mut this = Self::new(fill, first, Some(length));
        this.skip = from;
        this
    }

    /// The part of `chunk` that is in view.
    fn view(&mut self, mut chunk: Bytes) -> Bytes {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        self.skip = self.skip.saturating_sub(skipped as u64);
        let mut seen = chunk.split_off(skipped);
        if let Some(left) = &mut self.left {
            seen.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left = left.saturating_sub(seen.len() as u64);
            self.done = *left == 0;
        }
        seen
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.done {
                return Poll::Ready(None);
            }
            if let Some(rest) = &mut self.rest {
                let frame = std::task::ready!(Pin::new(rest).poll_frame(cx));
                return Poll::Ready(match frame {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => Some(Ok(Frame::data(self.view(data)))),
                        Err(frame) => Some(Ok(frame)),
                    },
                    other => other,
                });
            }
            let chunk = {
                let mut state = self.fill.0.lock().unwrap_or_else(PoisonError::into_inner);
                match state.chunks.get(self.next) {
                    Some(chunk) => chunk.clone(),
                    None => match &mut state.end {
                        None => {
                            match state.wakers.entry(self.number) {
                                Entry::Occupied(mut known) => known.get_mut().clone_from(cx.waker()),
                                Entry::Vacant(place) => drop(place.insert(cx.waker().clone())),
                            }
                            return Poll::Pending;
                        }
                        Some(End::Whole) => {
                            drop(state);
                            self.done = true;
                            continue;
                        }
                        Some(End::Rest(rest)) if self.first && rest.is_some() => {
                            self.rest = rest.take();
                            // The chunks are read; nobody else needs them.
                            state.chunks = Vec::new();
                            continue;
                        }
                        Some(End::Rest(_) | End::Broken) => {
                            self.done = true;
                            return Poll::Ready(Some(Err(BodyError::Shared)));
                        }
                    },
                }
            };
            self.next += 1;
            let seen = self.view(chunk);
            if !seen.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(seen))));
            }
        }
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.fill.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.wakers.remove(&self.number);
        // A rest that the first reader will not take must not hold the origin's connection.
        let rest = match &mut state.end {
            Some(End::Rest(rest)) if self.first => rest.take(),
            _ => None,
        };
        drop(state);
        drop(rest);
    }
}

#[cfg(test)]
mod tests;
