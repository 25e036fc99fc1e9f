//! A guest's standard output and error, as lines of its zone's log.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::grant::Grant;
use super::log::Level;

/// Bytes of one write, and of a line that is not ended yet.
const WRITE: usize = 4 << 10;

/// Both streams of one instance.
#[derive(Clone)]
pub(super) struct Speech(Arc<Mutex<State>>);

struct State {
    grant: Arc<Grant>,
    /// A line that is not ended yet.
    open: Vec<u8>,
}

impl Speech {
    pub(super) fn new(grant: Arc<Grant>) -> Self {
        Self(Arc::new(Mutex::new(State {
            grant,
            open: Vec::new(),
        })))
    }

    /// The next request of a reused instance: what was left of the last one's lines is its.
    pub(super) fn renew(&self, grant: Arc<Grant>) {
        let mut state = self.state();
        state.flush();
        state.grant = grant;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: &[u8]) {
        let mut state = self.state();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = WRITE.saturating_sub(state.open.len()).min(piece.len());
            let fits = piece.get(..room).unwrap_or_default();
            state.open.extend_from_slice(fits);
            if piece.ends_with(b"\n") || state.open.len() >= WRITE {
                state.flush();
            }
        }
    }
}

impl State {
    fn flush(&mut self) {
        if !self.open.is_empty() {
            let text = String::from_utf8_lossy(&self.open).into_owned();
            self.grant.say(Level::Info, &text);
            self.open.clear();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.flush();
    }
}

impl IsTerminal for Speech {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Speech {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Speech {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE {
            return Err(StreamError::trap("a write beyond what was permitted"));
        }
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Speech {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Speech {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
