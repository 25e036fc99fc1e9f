//! A socket of which a part has been read already: that part comes first.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What was read, then the socket.
pub struct Replay {
    read: Vec<u8>,
    /// Bytes of `read` that have been given out; empty once all have.
    given: usize,
    io: TcpStream,
}

impl Replay {
    /// `read` came out of `io` before.
    pub(super) fn new(read: Vec<u8>, io: TcpStream) -> Self {
        Self { read, given: 0, io }
    }

    /// The socket; what was not given out of the bytes is gone.
    pub(super) fn into_inner(self) -> TcpStream {
        self.io
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("io", &self.io).finish_non_exhaustive()
    }
}

impl AsyncRead for Replay {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.read.get(this.given..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let (now, later) = left.split_at(left.len().min(buf.remaining()));
        buf.put_slice(now);
        if later.is_empty() {
            // Connections live long; their first bytes need not.
            (this.read, this.given) = (Vec::new(), 0);
        } else {
            this.given += now.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
