//! Large objects in slices, as a rule's `slice` says: asked for, and stored, in ranges of one size,
//! and answered from them, whole or in part. A range of a film then costs its slices, not the film,
//! and what is longer than `object_bytes` is stored all the same.
//!
//! The first slice says what the object is: its fields, its length, its validator. Slices are put
//! together only if they have the same strong validator (RFC 9110 section 15.3.7.3), so that nobody
//! gets the parts of two versions. Each is a resource of its own in the store, under a key that a
//! purge of the URL finds. A client holds one slice at a time, and the next is asked for when it
//! has taken that.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, response};
use http_body::{Frame, SizeHint};

use super::super::conditions::{self, Span, Verdict};
use super::super::serve;
use super::super::worth::single_date;
use super::Inner;
use super::course::{self, Course, Plan};
use super::slice::Slice;
use crate::http::body::{Body, BodyError};
use crate::http::door::Head;
use crate::http::handler::{Failure, Reason};
use crate::http::message::{ContentName, Exchange, Request, Response};
use crate::http::stored::Witness;

/// Times that an answer is begun, if the object changes meanwhile.
const STARTS: usize = 3;
/// Times that a slice is asked for which is of another version: what was stored, and a new one.
const LOOKS: usize = 2;

/// The object, as its first slice says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    length: u64,
    validator: Validator,
}

/// What all slices of one version have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Validator {
    Tag(HeaderValue),
    Date(HeaderValue),
}

impl Object {
    /// `None`: `head` is not of that slice, or has no strong validator (RFC 9110 section 8.8).
    fn of(slice: Slice, head: &response::Parts) -> Option<Self> {
        let fields = &head.headers;
        let length = slice.length(fields).filter(|_| head.status == StatusCode::OK)?;
        let tag = fields
            .get(header::ETAG)
            .filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        let validator = match tag {
            Some(tag) => Validator::Tag(tag.clone()),
            None => {
                let modified = single_date(fields, &header::LAST_MODIFIED)?;
                // Made at least a second later: it cannot have changed within that one (section
                // 8.8.2.2).
                let made = single_date(fields, &header::DATE)?;
                Validator::Date(fields.get(header::LAST_MODIFIED).filter(|_| made > modified)?.clone())
            }
        };
        Some(Self { length, validator })
    }
}

/// A request for an object in slices.
#[derive(Clone)]
struct Asked {
    inner: Arc<Inner>,
    plan: Plan,
    /// A GET without range and conditions.
    head: Head,
    exchange: Exchange,
    size: u64,
}

impl Asked {
    fn slice(&self, number: u64) -> Slice {
        Slice::new(self.size, number)
    }

    /// One slice, by the store or the origin, and the key under which it is stored.
    async fn part(&self, number: u64, witness: Option<Witness>) -> (String, Result<Response, Failure>) {
        let course = self.course(number, witness);
        (course.key.clone(), self.inner.clone().asked(course).await)
    }

    /// A later slice of `object`; `None`: the object has become another. What is stored of an older
    /// version is dropped.
    async fn later(&self, number: u64, object: &Object) -> Result<Option<Response>, Failure> {
        for _ in 0..LOOKS {
            let (key, part) = self.part(number, None).await;
            let part = part?;
            match Object::of(self.slice(number), &part.head) {
                Some(of) if of == *object => return Ok(Some(part)),
                Some(_) => drop(self.inner.shared.store.forget(&key).await),
                None => {
                    let what = "a slice without a length or a validator";
                    return Err(Failure::new(Reason::OriginMalformed, what));
                }
            }
        }
        // It is the first one that is old.
        self.inner.shared.store.forget(&self.course(0, None).key).await;
        Ok(None)
    }

    fn course(&self, number: u64, witness: Option<Witness>) -> Course {
        let request = Request {
            head: self.head.clone(),
            body: Body::Empty,
            exchange: self.exchange.clone(),
        };
        self.inner
            .course(self.plan.clone(), witness, request, Some(self.slice(number)))
    }
}

impl Inner {
    /// Answers a GET or HEAD from slices of `size` bytes. What cannot be had in slices is answered
    /// as if the rule said nothing of them: an origin that knows no ranges, or gives no strong
    /// validator.
    pub(super) async fn sliced(
        self: Arc<Self>,
        plan: Plan,
        witness: Option<Witness>,
        request: Request,
        size: u64,
    ) -> Result<Response, Failure> {
        let mut head = request.head.clone();
        serve::validation(&mut head, None);
        let asked = Asked {
            inner: self.clone(),
            plan,
            head,
            exchange: request.exchange.clone(),
            size,
        };
        for _ in 0..STARTS {
            let (_, first) = asked.part(0, witness.clone()).await;
            let first = first?;
            let Some(object) = Object::of(asked.slice(0), &first.head) else {
                let whole = first.head.status == StatusCode::OK
                    && !first.head.headers.contains_key(header::CONTENT_RANGE)
                    && request.head.method == Method::GET
                    && !course::is_partial(&request.head.headers);
                let other = !matches!(first.head.status, StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE);
                if whole || other && request.head.method == Method::GET {
                    return Ok(first);
                }
                drop(first);
                let course = self.course(asked.plan, witness, request, None);
                return self.asked(course).await;
            };
            if let Some(response) = asked.answer(&request.head, first, object).await? {
                return Ok(response);
            }
        }
        let what = "the object changed each time that its slices were read";
        Err(Failure::new(Reason::OriginMalformed, what))
    }
}

impl Asked {
    /// The answer to `client`, of which `first` is the first slice; `None`: the object has become
    /// another meanwhile.
    async fn answer(&self, client: &Head, mut first: Response, object: Object) -> Result<Option<Response>, Failure> {
        let fields = &mut first.head.headers;
        fields.remove(header::CONTENT_RANGE);
        fields.remove(header::CONTENT_LENGTH);
        first.head.extensions.remove::<ContentName>();
        let whole = Span {
            from: 0,
            to: object.length,
        };
        let verdict = conditions::judge(&client.method, &client.headers, StatusCode::OK, fields, object.length);
        let (status, span) = match verdict {
            Verdict::NotModified => (StatusCode::NOT_MODIFIED, None),
            Verdict::Failed => (StatusCode::PRECONDITION_FAILED, None),
            Verdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
            Verdict::Parts(spans) => match *spans {
                [span] => (StatusCode::PARTIAL_CONTENT, Some(span)),
                // Who wants several ranges may get the whole (RFC 9110 section 14.2).
                _ => (StatusCode::OK, Some(whole)),
            },
            Verdict::Whole => (StatusCode::OK, Some(whole)),
        };
        first.head.status = status;
        let range = match (status, span) {
            (StatusCode::PARTIAL_CONTENT, Some(span)) => Some(serve::content_range(span, object.length)),
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => Some(format!("bytes */{}", object.length)),
            _ => None,
        };
        let Some(span) = span else {
            serve::without_content(fields);
            set_range(fields, range);
            first.body = Body::Empty;
            return Ok(Some(first));
        };
        set_range(fields, range);
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(span.to - span.from));
        let begin = std::mem::take(&mut first.body);
        if client.method == Method::HEAD {
            return Ok(Some(first));
        }
        let number = span.from / self.size.max(1);
        let body = match number {
            0 => begin,
            // Asked for before the head is sent: a version that has gone is then no broken answer.
            _ => match self.later(number, &object).await? {
                Some(part) => part.body,
                None => return Ok(None),
            },
        };
        first.body = Body::boxed(Content {
            asked: self.clone(),
            object,
            at: span.from,
            to: span.to,
            state: State::Reading {
                body,
                skip: span.from - self.slice(number).from(),
            },
        });
        Ok(Some(first))
    }
}

fn set_range(fields: &mut HeaderMap, range: Option<String>) {
    if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
        fields.insert(header::CONTENT_RANGE, range);
    }
}

type Coming = Pin<Box<dyn Future<Output = Result<Option<Response>, Failure>> + Send>>;

/// Bytes `at` to `to` of an object, slice by slice.
struct Content {
    asked: Asked,
    object: Object,
    at: u64,
    to: u64,
    state: State,
}

enum State {
    /// A slice's content, of which `skip` bytes are before `at`.
    Reading {
        body: Body,
        skip: u64,
    },
    Waiting(Coming),
}

impl Content {
    /// Where the slice ends that `at` is in, or what is wanted of it.
    fn end(&self) -> u64 {
        self.asked.slice(self.at / self.asked.size.max(1)).to().min(self.to)
    }

    /// What of `data` is wanted.
    fn cut(&mut self, mut data: Bytes, end: u64) -> Bytes {
        if let State::Reading { skip, .. } = &mut self.state {
            let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(data.len());
            *skip -= skipped as u64;
            data = data.split_off(skipped);
        }
        data.truncate(usize::try_from(end - self.at).unwrap_or(usize::MAX));
        self.at += data.len() as u64;
        data
    }

    /// Asks for the slice that `at` begins.
    fn ask(&mut self) {
        let (asked, object) = (self.asked.clone(), self.object.clone());
        let number = self.at / self.asked.size.max(1);
        self.state = State::Waiting(Box::pin(async move { asked.later(number, &object).await }));
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.at >= this.to {
                return Poll::Ready(None);
            }
            match &mut this.state {
                State::Waiting(coming) => match ready!(coming.as_mut().poll(cx)) {
                    Ok(Some(part)) => {
                        this.state = State::Reading {
                            body: part.body,
                            skip: 0,
                        }
                    }
                    Ok(None) => return Poll::Ready(Some(Err(BodyError::Sliced("the object has changed")))),
                    Err(_) => return Poll::Ready(Some(Err(BodyError::Sliced("one could not be had")))),
                },
                State::Reading { body, .. } => {
                    let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                        Some(frame) => frame?,
                        None => return Poll::Ready(Some(Err(BodyError::Sliced("one is too short")))),
                    };
                    // Trailers are of a slice, and not of the object.
                    let Ok(data) = frame.into_data() else { continue };
                    let end = this.end();
                    let data = this.cut(data, end);
                    if this.at >= end && this.at < this.to {
                        this.ask();
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.to
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.to.saturating_sub(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::tests::headers;
    use super::*;

    /// Parts of two versions would be taken for one.
    #[test]
    fn what_is_one_version() {
        let object = |fields: &[(&'static str, &str)]| {
            let (mut head, ()) = http::Response::new(()).into_parts();
            head.headers = headers(&[&[("content-range", "bytes 0-9/25")], fields].concat());
            Object::of(Slice::new(10, 0), &head)
        };
        let (then, later) = ("Sun, 09 Sep 2001 01:46:39 GMT", "Sun, 09 Sep 2001 01:46:40 GMT");
        let tagged = object(&[("etag", "\"a\""), ("last-modified", then), ("date", then)]);
        assert!(tagged.is_some() && tagged == object(&[("etag", "\"a\"")]) && tagged != object(&[("etag", "\"b\"")]));
        let dated = object(&[("etag", "W/\"a\""), ("last-modified", then), ("date", later)]);
        assert!(dated.is_some() && dated != tagged);
        for weak in [
            &[][..],
            &[("etag", "W/\"a\"")],
            &[("last-modified", then), ("date", then)],
            &[("last-modified", then)],
        ] {
            assert_eq!(object(weak), None, "{weak:?}");
        }
    }
}
