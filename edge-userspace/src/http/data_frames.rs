//! HTTP/2 DATA frames on their way from a socket to the h2 crate: small ones of one stream that
//! came together are joined, and empty ones left out. Where a DATA frame begins means nothing (RFC
//! 9113 section 6.1), but the h2 crate keeps an entry for each that nobody has read yet, and ends
//! the whole connection when there are too many of them, or after 100 empty ones. An honest peer
//! that writes one frame for each message would lose the streams of all others to one reader that
//! is slow. `guard` has it for clients, `origin` for servers. Flow control is not touched: what is
//! joined counts as before, and what is left out counts as nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};

/// The client's preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// The header of a frame (RFC 9113 section 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// END_STREAM and PADDED: frames with either are passed as they are.
const MEANING: u8 = 0x1 | 0x8;
/// Only frames shorter than this cost the h2 crate more than they hold.
const SMALL: usize = 256;
/// No frame is made longer than every receiver takes (SETTINGS_MAX_FRAME_SIZE is at least this).
const MOST: usize = 16_384;
/// Empty frames that are left out at once, and one more for each pause: some milliseconds of work,
/// and a hundredth of a processor. What comes beyond is a flood (CVE-2019-9518), and left to the h2
/// crate, which ends the connection.
const EMPTY_BURST: u32 = 100_000;
const EMPTY_PAUSE: Duration = Duration::from_micros(100);
/// Less room than this in a reader's buffer, and bytes are read aside, because they may have to be
/// kept.
const TIGHT: usize = 64;

/// One direction of a connection.
#[derive(Debug)]
pub struct DataFrames {
    /// Bytes that pass as they are: of the preface, or of a frame's payload.
    left: usize,
    /// The beginning of a frame's header that has come without its end.
    head: [u8; HEAD],
    kept: usize,
    /// The newest stream that the peer has opened; `None`: it opens none. An empty frame of another
    /// stream is an error.
    newest: Option<u32>,
    /// Bytes that are done with, for a reader that had no room for them.
    spill: Vec<u8>,
    given: usize,
    empty: Empty,
}

/// How many empty frames may still be left out.
#[derive(Debug)]
struct Empty {
    left: u32,
    since: Option<Instant>,
}

impl Empty {
    fn allow(&mut self) -> bool {
        if self.left == 0 {
            let now = Instant::now();
            let since = *self.since.get_or_insert(now);
            let pauses = now.duration_since(since).as_micros() / EMPTY_PAUSE.as_micros();
            if pauses > 0 {
                self.left = u32::try_from(pauses).unwrap_or(EMPTY_BURST).min(EMPTY_BURST);
                self.since = Some(now);
            }
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// The last DATA frame that others may be joined to: where its header is, whose it is, and its
/// length.
struct Run {
    at: usize,
    stream: [u8; 4],
    length: usize,
}

impl DataFrames {
    /// What a client sends: a preface, then frames.
    pub fn from_client() -> Self {
        Self::after(PREFACE, Some(0))
    }

    /// What a server sends: frames.
    pub fn from_server() -> Self {
        Self::after(0, None)
    }

    fn after(left: usize, newest: Option<u32>) -> Self {
        Self {
            left,
            head: [0; HEAD],
            kept: 0,
            newest,
            spill: Vec::new(),
            given: 0,
            empty: Empty {
                left: EMPTY_BURST,
                since: None,
            },
        }
    }

    /// Reads from `io` into `buf`. As with every reader, nothing new in `buf` is the end.
    ///
    /// # Errors
    /// Those of `io`.
    pub fn poll_read(
        &mut self,
        mut io: Pin<&mut (impl AsyncRead + ?Sized)>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.given < self.spill.len() {
                let rest = self.spill.get(self.given..).unwrap_or_default();
                let now = rest.get(..rest.len().min(buf.remaining())).unwrap_or_default();
                buf.put_slice(now);
                self.given += now.len();
                return Poll::Ready(Ok(()));
            }
            if buf.remaining() < TIGHT {
                let mut aside = [0; 8 * TIGHT];
                let mut aside = ReadBuf::new(&mut aside);
                let ended = ready!(self.fill(io.as_mut(), cx, &mut aside))?;
                self.spill.clear();
                self.spill.extend_from_slice(aside.filled());
                self.given = 0;
                if ended && self.spill.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let before = buf.filled().len();
            let ended = ready!(self.fill(io.as_mut(), cx, buf))?;
            // All that came may have been left out or kept: that is not the end.
            if ended || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads once, into a buffer with room for a header and more. True: `io` has ended.
    fn fill(
        &mut self,
        io: Pin<&mut (impl AsyncRead + ?Sized)>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        buf.put_slice(self.kept());
        let from = buf.filled().len();
        let read = io.poll_read(cx, buf);
        if !matches!(read, Poll::Ready(Ok(()))) {
            buf.set_filled(before);
            return read.map_ok(|()| true);
        }
        if buf.filled().len() == from {
            // The end; half a header is the reader's to complain of.
            self.kept = 0;
            return Poll::Ready(Ok(true));
        }
        let length = self.join(buf.filled_mut().get_mut(before..).unwrap_or_default());
        buf.set_filled(before + length);
        Poll::Ready(Ok(false))
    }

    /// The beginning of a frame's header, which `join` left out as its end had not come.
    pub fn kept(&self) -> &[u8] {
        self.head.get(..self.kept).unwrap_or_default()
    }

    /// Joins and leaves out within `bytes`, which are what was kept and what has come since. The
    /// length of what remains.
    pub fn join(&mut self, bytes: &mut [u8]) -> usize {
        self.kept = 0;
        let (mut read, mut write) = (0, 0);
        let mut run: Option<Run> = None;
        while read < bytes.len() {
            if self.left > 0 {
                let now = self.left.min(bytes.len() - read);
                if read != write {
                    bytes.copy_within(read..read + now, write);
                }
                read += now;
                write += now;
                self.left -= now;
                continue;
            }
            let Some(head) = bytes.get(read..).and_then(<[u8]>::first_chunk::<HEAD>).copied() else {
                let rest = bytes.get(read..).unwrap_or_default();
                if let Some(kept) = self.head.get_mut(..rest.len()) {
                    kept.copy_from_slice(rest);
                    self.kept = rest.len();
                }
                break;
            };
            let [a, b, c, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let plain = kind == DATA && flags & MEANING == 0;
            let number = u32::from_be_bytes(stream) & 0x7fff_ffff;
            if kind == HEADERS {
                self.newest = self.newest.map(|newest| newest.max(number));
            }
            let known = number != 0 && self.newest.is_none_or(|newest| number <= newest);
            if plain && known && length == 0 && self.empty.allow() {
                read += HEAD;
                continue;
            }
            let whole = bytes.len() - read - HEAD >= length;
            if let Some(run) = run
                .as_mut()
                .filter(|run| plain && whole && length < SMALL && run.stream == stream && run.length + length <= MOST)
            {
                run.length += length;
                let joined = u32::try_from(run.length).unwrap_or_default().to_be_bytes();
                if let (Some(at), Some(joined)) = (bytes.get_mut(run.at..run.at + 3), joined.get(1..)) {
                    at.copy_from_slice(joined);
                }
                read += HEAD;
                self.left = length;
                continue;
            }
            run = (plain && length > 0 && length < MOST).then_some(Run {
                at: write,
                stream,
                length,
            });
            if read != write {
                bytes.copy_within(read..read + HEAD, write);
            }
            read += HEAD;
            write += HEAD;
            self.left = length;
        }
        write
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::AsyncReadExt;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Frames as (kind, flags, stream, payload).
    fn parse(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            frames.push((head[3], head[4], stream, rest[..length].to_vec()));
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty());
        frames
    }

    /// Gives its pieces, one a read, then ends or waits for ever.
    struct Script {
        pieces: VecDeque<Vec<u8>>,
        ends: bool,
    }

    impl AsyncRead for Script {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.pieces.pop_front() else {
                return if self.ends { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    struct Filtered(DataFrames, Script);

    impl Filtered {
        fn new(frames: DataFrames, bytes: &[u8], pieces: usize, ends: bool) -> Self {
            let pieces = bytes.chunks(pieces).map(<[u8]>::to_vec).collect();
            Self(frames, Script { pieces, ends })
        }
    }

    impl AsyncRead for Filtered {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            this.0.poll_read(Pin::new(&mut this.1), cx, buf)
        }
    }

    /// What comes out of `bytes` that come in `pieces`, read by `room` bytes at a time.
    async fn through(frames: DataFrames, bytes: &[u8], pieces: usize, room: usize) -> Vec<u8> {
        let mut filtered = Filtered::new(frames, bytes, pieces, true);
        let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
        loop {
            match filtered.read(&mut buffer).await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Content would be lost, torn, or given to another stream; or what ends a stream would not.
    #[tokio::test]
    async fn content_is_the_same_however_it_comes() {
        let mut bytes = frame(4, 0, 0, &[0; 6]);
        for n in 0..200_u8 {
            bytes.extend(frame(0, 0, 1 + 2 * u32::from(n / 40), &[n; 9]));
            bytes.extend(frame(0, 0, 1, b""));
            if n % 50 == 0 {
                bytes.extend(frame(0, 0x8, 3, &[2, n, 0, 0]));
                bytes.extend(frame(1, 4, 9, &[n; 300]));
            }
        }
        bytes.extend(frame(0, 0, 1, &[7; 20_000]));
        bytes.extend(frame(0, 1, 1, b""));
        let content = |frames: &[(u8, u8, u32, Vec<u8>)]| {
            let mut by_stream = std::collections::BTreeMap::<u32, Vec<u8>>::new();
            for (_, _, stream, payload) in frames.iter().filter(|f| f.0 == 0 && f.1 & 8 == 0) {
                by_stream.entry(*stream).or_default().extend(payload);
            }
            by_stream
        };
        let sent = parse(&bytes);
        for (pieces, room) in [
            (1, 16_384),
            (7, 3),
            (100, 64),
            (1_000, 1_000),
            (1 << 20, 16_384),
            (1 << 20, 1),
        ] {
            let out = through(DataFrames::from_server(), &bytes, pieces, room).await;
            let seen = parse(&out);
            assert_eq!(content(&seen), content(&sent), "{pieces} {room}");
            let others = |frames: &[(u8, u8, u32, Vec<u8>)]| -> Vec<_> {
                frames.iter().filter(|f| f.0 != 0 || f.1 != 0).cloned().collect()
            };
            assert_eq!(others(&seen), others(&sent), "{pieces} {room}");
            assert!(
                !seen.iter().any(|f| f.0 == 0 && f.1 == 0 && f.3.is_empty()),
                "{pieces} {room}"
            );
            assert!(seen.iter().all(|f| f.3.len() <= 20_000));
        }
        let few = parse(&through(DataFrames::from_server(), &bytes, 1 << 20, 16_384).await);
        assert!(few.len() < 30, "{}", few.len());
    }

    /// What is an error would pass unnoticed (RFC 9113 sections 5.1 and 6.1).
    #[tokio::test]
    async fn empty_frames_of_no_stream_pass() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(1, 4, 1, b"x"));
        for stream in [0, 1, 3] {
            bytes.extend(frame(0, 0, stream, b""));
        }
        let out = through(DataFrames::from_client(), &bytes, 1_000, 1_000).await;
        let streams: Vec<_> = parse(&out[PREFACE..]).iter().map(|f| (f.0, f.2)).collect();
        assert_eq!(streams, [(1, 1), (0, 0), (0, 3)]);
    }

    /// The preface of a client must not be taken for frames.
    #[tokio::test]
    async fn the_preface_passes() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, b""));
        bytes.extend(frame(0, 0, 1, b"a"));
        bytes.extend(frame(0, 0, 1, b"b"));
        let out = through(DataFrames::from_client(), &bytes, 5, 64).await;
        assert!(out.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04"));
    }

    /// A message would wait for the next one, which may never come whole.
    #[tokio::test]
    async fn nothing_waits_for_what_has_not_come() {
        let first = frame(0, 0, 1, b"now");
        let next = frame(0, 0, 1, b"later");
        let mut filtered = Filtered::new(
            DataFrames::from_server(),
            &[&first[..], &next[..11]].concat(),
            1 << 20,
            false,
        );
        let mut buffer = [0; 1_000];
        let n = filtered.read(&mut buffer).await.unwrap();
        assert_eq!(buffer[..first.len()], first);
        assert_eq!(buffer[first.len()..n], next[..11]);
    }

    /// A flood of empty frames would cost time for ever, with nobody to end it.
    #[tokio::test]
    async fn a_flood_of_empty_frames_is_passed_on() {
        let bytes = frame(0, 0, 1, b"").repeat(200_000);
        let out = through(DataFrames::from_server(), &bytes, 1 << 20, 16_384).await;
        let passed = parse(&out).len();
        assert!((50_000..=100_000).contains(&passed), "{passed}");
    }
}
