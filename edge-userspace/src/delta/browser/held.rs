//! Dictionaries that browsers were told to keep: their content, by origin and digest, within a byte
//! bound. Shared by all workers. One that had to go is a plain response for the browser that still
//! has it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use foyer::{Cache, CacheBuilder, LruConfig};
use http_body::{Frame, SizeHint};

use super::super::codec::Dictionary;
use super::super::digest::Digest;
use crate::base::ledger::{Charge, Kind};
use crate::http::body::{Body, BodyError};
use crate::http::message::{ContentName, Exchange, Payer};

/// The longest dictionary.
pub(super) const MOST: u64 = 8 << 20;
/// Names of content whose digest is known.
const NAMES: usize = 16_384;

/// An origin's dictionary: zone, scheme and authority keep those of others apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label {
    zone: Arc<str>,
    secure: bool,
    authority: Arc<str>,
    digest: Digest,
}

/// The dictionaries.
pub(super) struct Held {
    dictionaries: Cache<Label, Dictionary>,
    /// So that what the cache holds is not digested at each request.
    digests: Cache<u128, Digest>,
}

impl Held {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let dictionaries = CacheBuilder::new(usize::try_from(bytes).unwrap_or(usize::MAX))
            .with_shards(1)
            .with_eviction_config(LruConfig::default())
            .with_weighter(|_: &Label, dictionary: &Dictionary| dictionary.content().len().saturating_add(256))
            .build();
        Arc::new(Self {
            dictionaries,
            digests: CacheBuilder::new(NAMES).with_shards(4).build(),
        })
    }

    pub(super) fn usage(&self) -> u64 {
        self.dictionaries.usage() as u64
    }

    /// The dictionary `digest` of the request's own origin.
    pub(super) fn get(&self, exchange: &Exchange, digest: Digest) -> Option<Dictionary> {
        let entry = self.dictionaries.get(&label(exchange, digest))?;
        Some(entry.value().clone())
    }

    /// Keeps `content` as a dictionary.
    pub(super) fn learn(&self, exchange: &Exchange, name: Option<ContentName>, content: Bytes) {
        let known = name.and_then(|name| self.digests.get(&name.0).map(|entry| *entry.value()));
        let digest = known.unwrap_or_else(|| Digest::of(&content));
        if let Some(name) = name {
            drop(self.digests.insert(name.0, digest));
        }
        let label = label(exchange, digest);
        let dictionary = Dictionary::with_digest(content, digest);
        if dictionary.suitable() && self.dictionaries.get(&label).is_none() {
            drop(self.dictionaries.insert(label, dictionary));
        }
    }
}

fn label(exchange: &Exchange, digest: Digest) -> Label {
    Label {
        zone: exchange.zone.name.clone(),
        secure: exchange.peer.is_secure(),
        authority: exchange.host.clone(),
        digest,
    }
}

/// Content that is remembered as it passes, and kept as a dictionary when it has ended whole.
pub(super) struct Learning {
    inner: Body,
    held: Arc<Held>,
    exchange: Exchange,
    /// `None`: too long, or there is no room for it.
    seen: Option<BytesMut>,
    /// On the client's account.
    charge: Option<Charge>,
}

impl Learning {
    pub(super) fn new(inner: Body, held: Arc<Held>, exchange: Exchange, payer: Option<&Payer>) -> Self {
        Self {
            charge: payer.map(|Payer(holder)| holder.must(Kind::Dictionaries, None, 0)),
            inner,
            held,
            exchange,
            seen: Some(BytesMut::new()),
        }
    }

    fn end(&mut self) {
        let charge = self.charge.take();
        if let Some(seen) = self.seen.take().filter(|seen| !seen.is_empty()) {
            let (held, exchange) = (self.held.clone(), self.exchange.clone());
            // Digesting takes as long as many requests.
            tokio::task::spawn_blocking(move || {
                held.learn(&exchange, None, seen.freeze());
                drop(charge);
            });
        }
    }
}

impl http_body::Body for Learning {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            None => this.end(),
            Some(Err(_)) => this.seen = None,
            Some(Ok(frame)) => {
                if let (Some(data), Some(seen)) = (frame.data_ref(), &mut this.seen) {
                    let length = seen.len().saturating_add(data.len()) as u64;
                    // A buffer that grows holds up to twice what is in it.
                    let room = |charge: &mut Charge| charge.set(length.saturating_mul(2));
                    if length > MOST || !this.charge.as_mut().is_none_or(room) {
                        (this.seen, this.charge) = (None, None);
                    } else {
                        seen.extend_from_slice(data);
                    }
                }
                // hyper does not ask again once it has what Content-Length promised.
                if this.inner.is_end_stream() {
                    this.end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
