//! gRPC-Web of browsers as gRPC for servers (PROTOCOL-WEB.md of grpc/grpc): another media type, the
//! trailers as a last frame of the content, and base64 around all of it in its `-text` form.
//! `Origin` asks before and after `exchange`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use data_encoding::BASE64;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, response};
use http_body::{Frame, SizeHint};

use crate::http::body::{Body, BodyError};
use crate::http::message::Request;

const GRPC: &str = "application/grpc";
const WEB: &str = "application/grpc-web";
const TEXT: &str = "application/grpc-web-text";

/// Marks the frame that holds the trailers.
const TRAILERS: u8 = 0x80;

/// A call of gRPC-Web under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The answer is in base64.
    text: bool,
}

/// What stands after `kind` in a media type, `+proto` or nothing, without parameters.
fn suffix<'a>(value: &'a HeaderValue, kind: &str) -> Option<&'a str> {
    let value = value.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    let rest = essence.get(..kind.len()).filter(|head| head.eq_ignore_ascii_case(kind));
    let rest = rest.and_then(|_| essence.get(kind.len()..))?;
    (rest.is_empty() || rest.starts_with('+')).then_some(rest)
}

impl Call {
    /// Makes a request of gRPC-Web one of gRPC; `None`: it is not one, and stays as it is.
    pub(super) fn take(request: &mut Request) -> Option<Self> {
        if request.head.method != Method::POST {
            return None;
        }
        let kind = request.head.headers.get(CONTENT_TYPE)?;
        let (coded, rest) = match suffix(kind, TEXT) {
            Some(rest) => (true, rest),
            None => (false, suffix(kind, WEB)?),
        };
        let kind = HeaderValue::try_from(format!("{GRPC}{rest}")).ok()?;
        let accepts = |accept: &HeaderValue| {
            accept
                .as_bytes()
                .windows(TEXT.len())
                .any(|part| part == TEXT.as_bytes())
        };
        let text = coded || request.head.headers.get(ACCEPT).is_some_and(accepts);
        request.head.headers.insert(CONTENT_TYPE, kind);
        request.head.headers.remove(ACCEPT);
        // gRPC servers refuse who does not say so.
        request.head.take_trailers();
        if coded {
            request.head.headers.remove(CONTENT_LENGTH);
            let body = std::mem::take(&mut request.body);
            request.body = Body::boxed(Decoded {
                body,
                rest: BytesMut::new(),
            });
        }
        Some(Self { text })
    }

    /// Makes an answer of gRPC one of gRPC-Web. One that is not gRPC stays as it is: clients go by
    /// its status then.
    pub(super) fn answer(self, head: &mut response::Parts, body: Body) -> Body {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| suffix(kind, GRPC));
        let Some(rest) = kind else { return body };
        let kind = format!("{}{rest}", if self.text { TEXT } else { WEB });
        if let Ok(kind) = HeaderValue::try_from(kind) {
            head.headers.insert(CONTENT_TYPE, kind);
        }
        head.headers.remove(CONTENT_LENGTH);
        Body::boxed(Encoded { body, text: self.text })
    }
}

/// Content in base64, decoded as it comes. It may be several pieces, each with its own padding.
struct Decoded {
    body: Body,
    /// Less than a group of four.
    rest: BytesMut,
}

impl Decoded {
    fn decode(&mut self, data: &[u8]) -> Result<Bytes, BodyError> {
        self.rest.extend_from_slice(data);
        let whole = self.rest.len() - self.rest.len() % 4;
        let coded = self.rest.split_to(whole);
        let mut plain = BytesMut::with_capacity(whole / 4 * 3);
        // A group with padding ends a piece.
        for piece in coded.chunk_by(|a, b| *a != b'=' || *b == b'=') {
            let decoded = BASE64.decode(piece);
            plain.put_slice(&decoded.map_err(|_| BodyError::Framing("content of gRPC-Web that is not base64"))?);
        }
        Ok(plain.freeze())
    }
}

impl http_body::Body for Decoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None if self.rest.is_empty() => return Poll::Ready(None),
                None => {
                    self.rest.clear();
                    let error = BodyError::Framing("content of gRPC-Web that ends within a group of base64");
                    return Poll::Ready(Some(Err(error)));
                }
                Some(frame) => frame,
            };
            let plain = match frame.map(Frame::into_data) {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                Ok(Ok(data)) => self.decode(&data),
            };
            match plain {
                Ok(plain) if plain.is_empty() => {}
                plain => return Poll::Ready(Some(plain.map(Frame::data))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Content with its trailers as a last frame.
struct Encoded {
    body: Body,
    text: bool,
}

impl Encoded {
    fn coded(&self, data: Bytes) -> Bytes {
        match self.text {
            // Each piece with its own padding, so that a message is whole when it comes.
            true => Bytes::from(BASE64.encode(&data)),
            false => data,
        }
    }
}

/// The frame that holds `trailers`: a mark, its length, and a line for each.
fn last(trailers: &HeaderMap) -> Bytes {
    let mut lines = BytesMut::new();
    for (name, value) in trailers {
        lines.put_slice(name.as_str().as_bytes());
        lines.put_slice(b": ");
        lines.put_slice(value.as_bytes());
        lines.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(lines.len() + 5);
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(lines.len()).unwrap_or(u32::MAX));
    frame.put(lines);
    frame.freeze()
}

impl http_body::Body for Encoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let data = match frame?.into_data() {
                Ok(data) => data,
                Err(frame) => last(&frame.into_trailers().unwrap_or_default()),
            };
            Ok(Frame::data(self.coded(data)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn of(pieces: &[&'static [u8]], trailers: Option<&[(&'static str, &'static str)]>) -> Body {
        let mut frames: Vec<Result<Frame<Bytes>, BodyError>> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece))))
            .collect();
        if let Some(trailers) = trailers {
            let mut map = HeaderMap::new();
            for (name, value) in trailers {
                map.append(*name, HeaderValue::from_static(value));
            }
            frames.push(Ok(Frame::trailers(map)));
        }
        Body::boxed(StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn all(body: Body) -> Result<(Vec<u8>, bool), BodyError> {
        let collected = body.collect().await?;
        let trailers = collected.trailers().is_some();
        Ok((collected.to_bytes().to_vec(), trailers))
    }

    /// A browser would wait for the status of its call for ever, or read another message.
    #[tokio::test]
    async fn trailers_become_the_last_frame() {
        let trailers = [("grpc-status", "0"), ("grpc-message", "ok")];
        let wanted = b"\0\0\0\0\x03abc\x80\0\0\0\x22grpc-status: 0\r\ngrpc-message: ok\r\n";
        for (sent, text, kind) in [
            ("application/grpc", false, "application/grpc-web"),
            ("application/grpc+proto; x=y", true, "application/grpc-web-text+proto"),
        ] {
            let (mut head, ()) = http::Response::builder()
                .header(CONTENT_TYPE, sent)
                .header(CONTENT_LENGTH, "8")
                .body(())
                .unwrap()
                .into_parts();
            let body = Call { text }.answer(&mut head, of(&[b"\0\0\0\0\x03", b"abc"], Some(&trailers)));
            assert_eq!(head.headers[CONTENT_TYPE], kind);
            assert!(!head.headers.contains_key(CONTENT_LENGTH));
            let (content, trailers) = all(body).await.unwrap();
            assert!(!trailers, "no browser sees them");
            let content = match text {
                false => content,
                true => {
                    all(Body::boxed(Decoded {
                        body: Bytes::from(content).into(),
                        rest: BytesMut::new(),
                    }))
                    .await
                    .unwrap()
                    .0
                }
            };
            assert_eq!(content, wanted);
        }
        // What is not gRPC stays as it is.
        let (mut head, ()) = http::Response::builder()
            .header(CONTENT_TYPE, "text/html")
            .body(())
            .unwrap()
            .into_parts();
        let body = Call { text: true }.answer(&mut head, of(&[b"<p>"], None));
        assert_eq!(
            (all(body).await.unwrap().0, &head.headers[CONTENT_TYPE]),
            (b"<p>".to_vec(), &HeaderValue::from_static("text/html"))
        );
    }

    /// A call would be cut, or wrong bytes reach the server.
    #[tokio::test]
    async fn base64_in_pieces() {
        let decoded = async |pieces: &[&'static [u8]]| {
            all(Body::boxed(Decoded {
                body: of(pieces, None),
                rest: BytesMut::new(),
            }))
            .await
        };
        let sound: [(&[&'static [u8]], &[u8]); 5] = [
            (&[b"YWJj"], b"abc"),
            (&[b"Y", b"WJ", b"jZ", b"A=="], b"abcd"),
            (&[b"YQ==", b"YmM="], b"abc"),
            (&[b"YQ==YmM=YQ=="], b"abca"),
            (&[], b""),
        ];
        for (pieces, plain) in sound {
            assert_eq!(decoded(pieces).await.unwrap().0, plain, "{pieces:?}");
        }
        let wrong: [&[&'static [u8]]; 5] = [&[b"YWJ"], &[b"YW!j"], &[b"Y===", b"YWJj"], &[b"=YWJ"], &[b"YQ=a"]];
        for pieces in wrong {
            assert!(decoded(pieces).await.is_err(), "{pieces:?}");
        }
    }

    /// Another request would be changed, or a call go on as it is.
    #[test]
    fn media_types() {
        let value = HeaderValue::from_static;
        assert_eq!(suffix(&value("application/grpc-web+proto"), WEB), Some("+proto"));
        assert_eq!(suffix(&value("Application/gRPC-Web; charset=x"), WEB), Some(""));
        assert_eq!(suffix(&value("application/grpc-web-text"), WEB), None);
        assert_eq!(suffix(&value("application/grpc-web"), GRPC), None);
        assert_eq!(suffix(&value("application/grpc"), GRPC), Some(""));
        assert_eq!(suffix(&value("text/plain"), WEB), None);
    }
}
