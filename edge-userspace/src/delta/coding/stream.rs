//! Content coded as it passes: what has come is flushed when nothing more comes at once, so that a
//! slow page is shown as it is made. `browser` puts it around a body.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::config::coding::Encoding;
use crate::http::body::{Body, BodyError};

/// Coded in one turn: a worker has other clients too.
const TURN: usize = 64 << 10;
/// Handed on when at least so much is coded.
const PIECE: usize = 16 << 10;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Effort {
    /// While the client waits.
    Passing,
    /// Once, for many.
    Kept,
}

/// An encoder that writes into memory.
pub(in super::super) enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    pub(in super::super) fn new(encoding: Encoding, effort: Effort) -> io::Result<Self> {
        let passing = effort == Effort::Passing;
        Ok(match encoding {
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), if passing { 3 } else { 15 })?;
                // RFC 9659: no browser takes a larger window than 8 MiB.
                encoder.window_log(if passing { 21 } else { 23 })?;
                Self::Zstd(encoder)
            }
            Encoding::Br => {
                let quality = if passing { 4 } else { 9 };
                Self::Br(Box::new(brotli::CompressorWriter::new(
                    Vec::new(),
                    PIECE,
                    quality,
                    if passing { 19 } else { 22 },
                )))
            }
            Encoding::Gzip => {
                let level = flate2::Compression::new(if passing { 5 } else { 9 });
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Zstd(encoder) => encoder,
            Self::Br(encoder) => encoder,
            Self::Gzip(encoder) => encoder,
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Br(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Br(encoder) => Ok(encoder.into_inner()),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }

    /// All of `content` at once.
    pub(in super::super) fn whole(encoding: Encoding, effort: Effort, content: &[u8]) -> io::Result<Vec<u8>> {
        let mut this = Self::new(encoding, effort)?;
        if let Self::Zstd(encoder) = &mut this {
            encoder.set_pledged_src_size(Some(content.len() as u64))?;
        }
        this.writer().write_all(content)?;
        this.finish()
    }
}

/// `inner`, coded.
pub(in super::super) struct Coded {
    inner: Body,
    encoder: Option<Encoder>,
    /// Come, and not coded yet.
    input: Bytes,
    /// Coded, and not flushed yet.
    dirty: bool,
    trailers: Option<Frame<Bytes>>,
    /// Counts what goes out.
    sent: prometheus_client::metrics::counter::Counter,
}

impl Coded {
    pub(in super::super) fn new(
        inner: Body,
        encoder: Encoder,
        sent: prometheus_client::metrics::counter::Counter,
    ) -> Self {
        Self {
            inner,
            encoder: Some(encoder),
            input: Bytes::new(),
            dirty: false,
            trailers: None,
            sent,
        }
    }

    fn take(&mut self, least: usize) -> Option<Frame<Bytes>> {
        let output = self.encoder.as_mut()?.output();
        if output.is_empty() || output.len() < least {
            return None;
        }
        let piece = std::mem::take(output);
        self.sent.inc_by(piece.len() as u64);
        Some(Frame::data(piece.into()))
    }
}

impl http_body::Body for Coded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut turn = 0;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(this.trailers.take().map(Ok));
            };
            if !this.input.is_empty() {
                let part = this.input.split_to(this.input.len().min(PIECE));
                if let Err(error) = encoder.writer().write_all(&part) {
                    return Poll::Ready(Some(Err(BodyError::File(error))));
                }
                this.dirty = true;
                turn += part.len();
                if let Some(frame) = this.take(PIECE) {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if turn >= TURN {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending => {
                    if !std::mem::take(&mut this.dirty) {
                        return Poll::Pending;
                    }
                    if let Err(error) = encoder.writer().flush() {
                        return Poll::Ready(Some(Err(BodyError::File(error))));
                    }
                    return match this.take(1) {
                        Some(frame) => Poll::Ready(Some(Ok(frame))),
                        None => Poll::Pending,
                    };
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.input = data,
                    Err(trailers) => this.trailers = Some(trailers),
                },
                Poll::Ready(None) => {
                    let finished = this.encoder.take().map(Encoder::finish);
                    return Poll::Ready(match finished {
                        Some(Ok(last)) if last.is_empty() => this.trailers.take().map(Ok),
                        Some(Ok(last)) => {
                            this.sent.inc_by(last.len() as u64);
                            Some(Ok(Frame::data(last.into())))
                        }
                        Some(Err(error)) => Some(Err(BodyError::File(error))),
                        None => None,
                    });
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Zstd => out = zstd::decode_all(bytes).unwrap(),
            Encoding::Br => drop(brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out).unwrap()),
            Encoding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        }
        out
    }

    const ALL: [Encoding; 3] = [Encoding::Zstd, Encoding::Br, Encoding::Gzip];

    /// A client must get what the origin said, whatever the coding and the pieces it came in.
    #[tokio::test]
    async fn there_and_back() {
        let content: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n % 977).to_string().into_bytes())
            .collect();
        for encoding in ALL {
            let whole = Encoder::whole(encoding, Effort::Kept, &content[..100_000]).unwrap();
            assert!(whole.len() < 50_000);
            assert_eq!(decoded(encoding, &whole), &content[..100_000]);
            let encoder = Encoder::new(encoding, Effort::Passing).unwrap();
            let body = Coded::new(Bytes::from(content.clone()).into(), encoder, Default::default());
            let bytes = body.collect().await.unwrap().to_bytes();
            assert!(
                bytes.len() < content.len() / 2 && decoded(encoding, &bytes) == content,
                "{encoding:?}"
            );
            let encoder = Encoder::new(encoding, Effort::Passing).unwrap();
            let empty = Coded::new(Body::Empty, encoder, Default::default());
            assert!(decoded(encoding, &empty.collect().await.unwrap().to_bytes()).is_empty());
        }
    }

    /// The first part of a page must not wait for the last.
    #[tokio::test]
    async fn flushes() {
        for encoding in ALL {
            let (sender, mut pieces) = tokio::sync::mpsc::channel::<&'static str>(1);
            let source = futures_util::stream::poll_fn(move |cx| {
                pieces
                    .poll_recv(cx)
                    .map(|piece| piece.map(|text| Ok::<_, BodyError>(Frame::data(Bytes::from(text)))))
            });
            let encoder = Encoder::new(encoding, Effort::Passing).unwrap();
            let inner = Body::boxed(http_body_util::StreamBody::new(source));
            let mut body = Coded::new(inner, encoder, Default::default());
            sender.send("the first part").await.unwrap();
            let mut bytes = Vec::new();
            // A header of its own, then the flushed part.
            for _ in 0..2 {
                let next = tokio::time::timeout(std::time::Duration::from_millis(200), body.frame()).await;
                if let Ok(Some(Ok(frame))) = next {
                    bytes.extend_from_slice(&frame.into_data().unwrap());
                }
            }
            assert!(!bytes.is_empty(), "{encoding:?} kept it all");
            drop(sender);
            bytes.extend_from_slice(&body.collect().await.unwrap().to_bytes());
            assert_eq!(decoded(encoding, &bytes), b"the first part");
        }
    }
}
