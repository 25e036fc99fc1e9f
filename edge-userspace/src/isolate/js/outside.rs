//! What a script's request may use of the rest of the node. The room implements it by a request's
//! grant; tests by less.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::code::Code;
use crate::http::body::Body;
use crate::http::kept::Deed;

/// A future of the host's, that lives as long as the request.
pub(super) type Doing<T> = Pin<Box<dyn Future<Output = Result<T, Code>> + Send>>;

/// How grave a line of the log is: `console.debug`, `log`, `warn`, `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// `console.debug`, `console.trace`.
    Debug,
    /// `console.log`, `console.info`.
    Info,
    /// `console.warn`.
    Warn,
    /// `console.error`.
    Error,
    /// Errors that reached nobody: why the request fails. Not counted among the lines that it may
    /// write.
    Reason,
}

/// One side of a connection that became a WebSocket's.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Among the extensions of a response with status 101: the script's side of the connection, once.
#[derive(Clone)]
pub(super) struct Switched(Arc<Mutex<Option<Box<dyn Wire>>>>);

impl Switched {
    pub(super) fn new(wire: Box<dyn Wire>) -> Self {
        Self(Arc::new(Mutex::new(Some(wire))))
    }

    pub(super) fn take(&self) -> Option<Box<dyn Wire>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a script asks of a zone's store. Names are as the script gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The value of a key, and what was stored about it.
    Get(String),
    /// A new value for a key.
    Put(String, Item),
    /// No value for a key any more.
    Delete(String),
    /// Keys with a prefix, in order, behind a cursor, so many at most.
    List(String, Option<String>, usize),
}

/// A value as a store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// The value.
    pub(super) value: Bytes,
    /// When it ends, milliseconds since 1970; 0: never.
    pub(super) until: u64,
    /// What the script stored about it, JSON; empty: nothing.
    pub(super) about: String,
}

/// What a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Of a get: what was there.
    Value(Option<Item>),
    /// Of a put or a delete.
    Done,
    /// Of a list: keys, each with its end and what is stored about it, and where to go on if there
    /// are more.
    Keys(Vec<(String, u64, String)>, Option<String>),
}

/// The node, as one request sees it.
pub(super) trait Outside: Send + Sync + 'static {
    /// Writes into the log, with the zone and the request.
    fn say(&self, level: Level, text: &str);

    /// The run has work that goes on whoever leaves, or has it no longer.
    fn keep(&self, kept: bool);

    /// A failure from here on is answered by the zone's origin.
    fn pass(&self);

    /// The zone's settings and secrets, by name, and the names of its stores: `env`.
    fn environment(&self) -> Environment;

    /// Sends a request with an absolute target. The response streams.
    fn fetch(self: Arc<Self>, request: http::Request<Body>) -> Doing<http::Response<Body>>;

    /// A file among the worker's own. The response streams.
    fn asset(self: Arc<Self>, request: http::Request<Body>) -> Doing<http::Response<Body>>;

    /// Does what the script wants of its cache `cache`: `request` is the one that it names, with
    /// the content of the response that is to be kept. `None`: nothing is kept, or nothing was.
    fn kept(
        self: Arc<Self>,
        cache: String,
        deed: Deed,
        request: http::Request<Body>,
    ) -> Doing<Option<http::Response<Body>>>;

    /// Grants the client's wish for a WebSocket; `head` becomes the response that tells it. `None`:
    /// it had none.
    fn accept(&self, head: &mut http::response::Parts) -> Option<Doing<Box<dyn Wire>>>;

    /// Something came or went on a socket of the script.
    fn moved(&self);

    /// Returns when nobody waits for the response any more: whether the client has gone before it
    /// had all of it.
    fn left(self: Arc<Self>) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// What is known of the request beside its message: JSON.
    fn facts(&self) -> Vec<u8>;

    /// Asks a store.
    fn store(self: Arc<Self>, name: &str, ask: Ask) -> Doing<Told>;
}

/// What becomes `env`.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Environment {
    /// Settings and secrets.
    pub(super) values: std::collections::BTreeMap<String, String>,
    /// Names of stores.
    pub(super) stores: Vec<String>,
    /// The name of the worker's files, if it has some.
    pub(super) assets: Option<String>,
}

impl Environment {
    /// As the engine takes it; nothing if there is nothing.
    pub(super) fn json(&self) -> Vec<u8> {
        if self.values.is_empty() && self.stores.is_empty() && self.assets.is_none() {
            return Vec::new();
        }
        serde_json::to_vec(self).unwrap_or_default()
    }
}
